"""Arty A7-35T: Artix-7, 100 MHz, UART by its FTDI chip. Vivado makes the bitstream from our files."""

from __future__ import annotations

from functools import partial
from typing import Any

from amaranth_boards.arty_a7 import ArtyA7_35Platform

from rtl.boards import BoardInfo
from rtl.boards._clocks import Series7Pll

OSCILLATOR_HZ = 100_000_000


def _platform() -> Any:
    return ArtyA7_35Platform(toolchain="Vivado")


BOARDS = (
    BoardInfo(
        name="arty-a7-35",
        title="Arty A7-35T",
        family="series7",
        device="xc7a35ti",
        package="csg324",
        logic_cells=20_800,
        block_rams=100,
        multipliers=90,
        oscillator_hz=OSCILLATOR_HZ,
        clock_hz=50_000_000,
        platform=_platform,
        leds=(0, 1, 2),
        clock=partial(Series7Pll, OSCILLATOR_HZ),
        loaders=("openFPGALoader -b arty_a7_35t {file}",),
        options={"layers": (784, 128, 10), "lanes": 16, "neuron_lanes": 2, "state_bits": 20, "die_tables": False},
    ),
)
