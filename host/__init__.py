"""The host's side: chips behind any backend, networks, input events and simulated dies.

>>> from rtl.config import ChipConfig
>>> from host import Chip, Network
>>> with Chip(ChipConfig(layers=(4, 2))) as chip:
...     chip.load(Network(weights=[[[90, 0], [90, 0], [0, 90], [0, 90]]]))
...     out = chip.run([[255, 255, 0, 0]], steps=20)
>>> bool(out.counts[-1][0, 0] > out.counts[-1][0, 1])
True
"""

from typing import TYPE_CHECKING, Any

from host.chip import Chip, Encoded, Output, Stats
from host.die import Die
from host.events import Events, latency
from host.network import Network

if TYPE_CHECKING:
    from host.nir_io import export_nir, import_nir

__all__ = ["Chip", "Die", "Encoded", "Events", "Network", "Output", "Stats", "export_nir", "import_nir", "latency"]


def __getattr__(name: str) -> Any:
    """The functions of NIR, when they are first asked for: their package takes as long to import as all the rest."""
    if name in ("export_nir", "import_nir"):
        from host import nir_io

        return getattr(nir_io, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
