"""Studies that repeat published claims on the simulated chip: ``spikeloop reproduce SYSTEM``.

Each study is a module with ``run(*, quick, jobs, backend, out, console)``; it writes tables as Markdown, JSON and
PNG into ``runs/reproduce-<system>/`` and prints them.
"""

from __future__ import annotations

import importlib
from types import ModuleType

from host.errors import UserError

STUDIES: dict[str, str] = {
    "mh": "host.reproduce.mh",
    "ssnn-bp": "host.reproduce.ssnn_bp",
    "delgrad": "host.reproduce.delgrad",
    "bisnn": "host.reproduce.bisnn",
}
"""Module of each study by the name of its system."""


def study(system: str) -> ModuleType:
    """The module of the study called `system`; raises :class:`UserError` for an unknown one."""
    if system not in STUDIES:
        raise UserError(f"Unknown system {system!r}; allowed are {', '.join(STUDIES)}.")
    return importlib.import_module(STUDIES[system])
