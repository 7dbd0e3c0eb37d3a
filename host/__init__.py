"""The host's side: chips behind any backend, networks, input events and simulated dies.

>>> from rtl.config import ChipConfig
>>> from host import Chip, Network
>>> with Chip(ChipConfig(layers=(4, 2))) as chip:
...     chip.load(Network(weights=[[[90, 0], [90, 0], [0, 90], [0, 90]]]))
...     out = chip.run([[255, 255, 0, 0]], steps=20)
>>> bool(out.counts[-1][0, 0] > out.counts[-1][0, 1])
True
"""

from host.chip import Chip, Output, Stats
from host.die import Die
from host.events import Events, latency
from host.network import Network

__all__ = ["Chip", "Die", "Events", "Network", "Output", "Stats", "latency"]
