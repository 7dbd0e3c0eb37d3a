"""The boards: one module each, found by being in this folder, and what the tools have to know of them.

A module of a board defines ``BOARDS``, a tuple of :class:`BoardInfo`; modules that begin with ``_`` are none.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

from rtl.config import ChipConfig, ConfigError


class BoardError(ConfigError):
    """A board that does not exist, or a clock that it cannot have; the message says what is allowed."""


@dataclass(frozen=True)
class BoardInfo:
    """A board: its device and what that has, its clock, its line, and the chip that it gets unless asked otherwise."""

    name: str
    """As on the command line: lower-case letters, digits and dashes."""
    title: str
    family: str
    """``ice40``, ``ecp5`` or ``series7``."""
    device: str
    package: str
    logic_cells: int
    """Cells of a LUT with four inputs and a flip-flop; of six inputs in `series7`."""
    block_rams: int
    """4 Kbit each in `ice40`, 18 Kbit in `ecp5` and `series7`."""
    multipliers: int
    oscillator_hz: int
    clock_hz: int
    """Frequency that the chip gets unless asked for another one."""
    platform: Callable[[], Any]
    """Makes Amaranth's platform; its resources are the pin table."""
    leds: tuple[int, int, int]
    """Numbers of the ``led`` resources that show alive, working and damaged."""
    clock: Callable[[int], Any]
    """From a wanted frequency in Hz the clock generator, one of `rtl.boards._clocks`."""
    loaders: tuple[str, ...]
    """Commands that load the bitstream, ``{file}`` for it."""
    single_port_rams: int = 0
    """Of 256 Kbit, 16 bits wide; they hold the weights."""
    baud: int = 1_000_000
    options: Mapping[str, Any] = field(default_factory=dict)
    """Fields of :class:`rtl.config.ChipConfig` that differ from its own defaults, `layers` among them."""
    shortest_frames: int = 0
    """If not 0, the receive buffer is as short as a frame of intensities allows, but has at least so many words."""

    def config(self, **wanted: Any) -> ChipConfig:
        """The board's own chip with some fields changed; those that are `None` stay as they are."""
        fields = {**self.options, **{name: value for name, value in wanted.items() if value is not None}}
        cfg = ChipConfig(**fields)
        if self.shortest_frames and "receive_words" not in fields:
            cfg = replace(cfg, receive_words=max(self.shortest_frames, cfg.shortest_buffer))
        return cfg


@cache
def registry() -> dict[str, BoardInfo]:
    """All boards by name, in the order of their modules' names."""
    modules = (
        importlib.import_module(f"{__name__}.{found.name}")
        for found in pkgutil.iter_modules(__path__)
        if not found.name.startswith("_")
    )
    return {board.name: board for module in modules for board in module.BOARDS}


def find(name: str) -> BoardInfo:
    """The board of this name; raises :class:`BoardError` with the names that there are."""
    try:
        return registry()[name]
    except KeyError:
        raise BoardError(f"board {name!r}: must be one of {', '.join(registry())}") from None
