"""Clock generators: the chip's clock from the oscillator of a board, directly or through the PLL of its family.

All of them have the frequency that they reach as `hz`, raise :class:`rtl.boards.BoardError` for one out of reach, and
add the domain ``sync`` and what drives it to the module of the top.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from amaranth.hdl import C, ClockDomain, ClockSignal, Instance, Module, ResetSignal, Signal
from amaranth.lib import io
from amaranth.lib.cdc import ResetSynchronizer

from rtl.boards import BoardError


def _nearest(wanted: int, settings: Iterable[tuple[float, tuple[int, ...]]], low: float, high: float) -> Any:
    """Frequency and dividers that come nearest to `wanted`; smaller dividers decide ties."""
    if not low <= wanted <= high:
        raise BoardError(
            f"clock of {wanted / 1e6:g} MHz: the PLL of this board makes {low / 1e6:g} to {high / 1e6:g} MHz"
        )
    return min(settings, key=lambda setting: (abs(setting[0] - wanted), setting[1]))


class Oscillator:
    """The clock domain that the platform itself makes from the oscillator."""

    def __init__(self, oscillator_hz: int) -> None:
        self.hz = oscillator_hz

    def add(self, m: Module, platform: Any) -> None:
        """Nothing: the platform adds a domain that is missing."""


class Ice40Pll:
    """``SB_PLL40_PAD`` on the pin of the oscillator (10 to 17 MHz), in its simple mode.

    Block RAMs read as zero for some microseconds after configuration, hence the reset of 15 us, like that of Amaranth's
    platform where there is no PLL.
    """

    def __init__(self, oscillator_hz: int, wanted_hz: int) -> None:
        settings = (
            (vco / 2**divq, (divf, divq))
            for divf in range(128)
            if 533e6 <= (vco := oscillator_hz * (divf + 1)) <= 1066e6
            for divq in range(1, 7)
        )
        hz, (self.divf, self.divq) = _nearest(wanted_hz, settings, 16e6, 275e6)
        self.hz = round(hz)

    def add(self, m: Module, platform: Any) -> None:
        clock, locked = Signal(name="clock"), Signal(name="locked")
        m.submodules.pll = Instance(
            "SB_PLL40_PAD",
            p_FEEDBACK_PATH="SIMPLE",
            p_DIVR=C(0, 4),
            p_DIVF=C(self.divf, 7),
            p_DIVQ=C(self.divq, 3),
            p_FILTER_RANGE=C(1, 3),  # for 10 to 17 MHz at the phase detector
            io_PACKAGEPIN=platform.request(platform.default_clk, dir="-").io,
            i_RESETB=C(1),
            i_BYPASS=C(0),
            o_PLLOUTGLOBAL=clock,
            o_LOCK=locked,
        )
        platform.add_clock_constraint(clock, self.hz)
        last = round(15e-6 * self.hz)
        count, ready = Signal(range(last + 1), name="count"), Signal(name="ready")
        m.domains.waiting = ClockDomain(reset_less=True)
        m.domains.sync = ClockDomain()
        m.d.comb += [ClockSignal("waiting").eq(clock), ClockSignal("sync").eq(clock), ResetSignal("sync").eq(~ready)]
        with m.If(locked & ~ready):
            m.d.waiting += [count.eq(count + 1), ready.eq(count == last)]


class Ecp5Pll:
    """``EHXPLLL`` with its first output, which is also its feedback."""

    def __init__(self, oscillator_hz: int, wanted_hz: int) -> None:
        settings = (
            (hz, (reference, feedback))
            for reference in range(1, int(oscillator_hz / 3.125e6) + 1)
            for feedback in range(1, 81)
            if 10e6 <= (hz := oscillator_hz * feedback / reference) <= 400e6
        )
        hz, (self.reference, self.feedback) = _nearest(wanted_hz, settings, 10e6, 400e6)
        self.hz = round(hz)
        self.output = int(600e6 // hz) or 1  # the oscillator inside runs at this many times the output: 400 to 800 MHz
        self.oscillator_hz = oscillator_hz

    def add(self, m: Module, platform: Any) -> None:
        clock, locked = Signal(name="clock"), Signal(name="locked")
        m.submodules.oscillator = oscillator = io.Buffer("i", platform.request(platform.default_clk, dir="-"))
        m.submodules.pll = Instance(
            "EHXPLLL",
            a_FREQUENCY_PIN_CLKI=f"{self.oscillator_hz / 1e6:g}",
            a_FREQUENCY_PIN_CLKOP=f"{self.hz / 1e6:g}",
            a_ICP_CURRENT="12",
            a_LPF_RESISTOR="8",
            a_MFG_ENABLE_FILTEROPAMP="1",
            a_MFG_GMCREF_SEL="2",
            p_CLKI_DIV=self.reference,
            p_CLKFB_DIV=self.feedback,
            p_CLKOP_DIV=self.output,
            p_CLKOP_CPHASE=self.output // 2,
            p_CLKOP_ENABLE="ENABLED",
            p_FEEDBK_PATH="CLKOP",
            i_CLKI=oscillator.i,
            i_CLKFB=clock,
            i_RST=C(0),
            i_STDBY=C(0),
            i_PHASESEL0=C(0),
            i_PHASESEL1=C(0),
            i_PHASEDIR=C(1),
            i_PHASESTEP=C(1),
            i_PHASELOADREG=C(1),
            i_PLLWAKESYNC=C(0),
            i_ENCLKOP=C(0),
            o_CLKOP=clock,
            o_LOCK=locked,
        )
        platform.add_clock_constraint(clock, self.hz)
        m.domains.sync = ClockDomain()
        m.d.comb += ClockSignal("sync").eq(clock)
        m.submodules.reset = ResetSynchronizer(~locked)


class Series7Pll:
    """``PLLE2_BASE`` and a global buffer; a board's reset button resets the chip as a whole."""

    def __init__(self, oscillator_hz: int, wanted_hz: int) -> None:
        settings = (
            (oscillator_hz * factor / divider, (factor, divider))
            for factor in range(2, 65)
            if 800e6 <= oscillator_hz * factor <= 1600e6
            for divider in range(1, 129)
        )
        hz, (self.factor, self.divider) = _nearest(wanted_hz, settings, 6.25e6, 400e6)
        self.hz = round(hz)
        self.oscillator_hz = oscillator_hz

    def add(self, m: Module, platform: Any) -> None:
        made, feedback, locked = Signal(name="made"), Signal(name="feedback"), Signal(name="locked")
        m.submodules.oscillator = oscillator = io.Buffer("i", platform.request(platform.default_clk, dir="-"))
        m.submodules.button = button = io.Buffer("i", platform.request(platform.default_rst, dir="-"))
        m.submodules.pll = Instance(
            "PLLE2_BASE",
            p_CLKIN1_PERIOD=1e9 / self.oscillator_hz,
            p_DIVCLK_DIVIDE=1,
            p_CLKFBOUT_MULT=self.factor,
            p_CLKOUT0_DIVIDE=self.divider,
            i_CLKIN1=oscillator.i,
            i_CLKFBIN=feedback,
            i_RST=C(0),
            i_PWRDWN=C(0),
            o_CLKFBOUT=feedback,
            o_CLKOUT0=made,
            o_LOCKED=locked,
        )
        m.domains.sync = ClockDomain()
        m.submodules.buffer = Instance("BUFG", i_I=made, o_O=ClockSignal("sync"))
        m.submodules.reset = ResetSynchronizer(~locked | button.i)
