"""iCEBreaker: iCE40UP5K, 12 MHz, UART by the second channel of its FTDI chip."""

from __future__ import annotations

from typing import Any

from amaranth_boards.icebreaker import ICEBreakerPlatform

from rtl.boards import BoardInfo
from rtl.boards._clocks import Ice40Pll, Oscillator

OSCILLATOR_HZ = 12_000_000


def _platform() -> Any:
    platform = ICEBreakerPlatform()
    platform.add_resources(platform.break_off_pmod)
    return platform


def _clock(hz: int) -> Any:
    return Oscillator(OSCILLATOR_HZ) if hz == OSCILLATOR_HZ else Ice40Pll(OSCILLATOR_HZ, hz)


BOARDS = (
    BoardInfo(
        name="icebreaker",
        title="iCEBreaker",
        family="ice40",
        device="iCE40UP5K",
        package="SG48",
        logic_cells=5280,
        block_rams=30,
        single_port_rams=4,
        multipliers=8,
        oscillator_hz=OSCILLATOR_HZ,
        clock_hz=OSCILLATOR_HZ,
        platform=_platform,
        leds=(1, 3, 0),  # green and red beside the FPGA; the one between sits on the part that breaks off
        clock=_clock,
        loaders=("iceprog {file}", "openFPGALoader -b ice40_generic {file}"),
        options={
            "layers": (784, 128, 10),
            "lanes": 4,
            "neuron_lanes": 1,
            "state_bits": 16,
            "die_tables": False,
            "bernoulli": False,
        },
        shortest_frames=256,  # words of which a block RAM holds 16 bits
    ),
)
