"""ULX3S: ECP5 of two sizes, 25 MHz, UART by its FTDI chip."""

from __future__ import annotations

from functools import partial
from typing import Any

from amaranth_boards.ulx3s import ULX3S_25F_Platform, ULX3S_85F_Platform

from rtl.boards import BoardInfo
from rtl.boards._clocks import Ecp5Pll, Oscillator

OSCILLATOR_HZ = 25_000_000


def _clock(hz: int) -> Any:
    return Oscillator(OSCILLATOR_HZ) if hz == OSCILLATOR_HZ else Ecp5Pll(OSCILLATOR_HZ, hz)


_board = partial(
    BoardInfo,
    family="ecp5",
    package="CABGA381",
    oscillator_hz=OSCILLATOR_HZ,
    clock_hz=50_000_000,
    leds=(0, 1, 2),
    clock=_clock,
    loaders=("openFPGALoader -b ulx3s {file}", "fujprog {file}"),
    options={"layers": (784, 128, 10), "lanes": 16, "neuron_lanes": 2, "state_bits": 20, "die_tables": False},
)

BOARDS = (
    _board(
        name="ulx3s-85f",
        title="ULX3S, 85F",
        device="LFE5U-85F",
        logic_cells=83_640,
        block_rams=208,
        multipliers=156,
        platform=ULX3S_85F_Platform,
    ),
    _board(
        name="ulx3s-25f",
        title="ULX3S, 25F",
        device="LFE5U-25F",
        logic_cells=24_288,
        block_rams=56,
        multipliers=28,
        platform=ULX3S_25F_Platform,
    ),
)
