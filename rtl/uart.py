"""A serial port: 8 data bits, no parity, 1 stop bit, the lowest bit first."""

from __future__ import annotations

from amaranth.hdl import Cat, Const, Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.cdc import FFSynchronizer
from amaranth.lib.wiring import In, Out

MIN_DIVISOR = 4


def _check(divisor: int) -> None:
    if divisor < MIN_DIVISOR:
        raise ValueError(f"divisor = {divisor}: must be at least {MIN_DIVISOR} clock cycles per bit")


def bit_cycles(clock_hz: int, baud: int) -> int:
    """Clock cycles of a bit.

    Raises
    ------
    ValueError
        If `baud` is not positive, or no whole number of them, at least 4, is a bit's time within 2 %.
    """
    if baud < 1:
        raise ValueError(f"baud = {baud}: must be at least 1")
    cycles = max(round(clock_hz / baud), MIN_DIVISOR)
    if abs(clock_hz - cycles * baud) > 0.02 * clock_hz:
        raise ValueError(
            f"baud = {baud}: a bit must last a whole number of clock cycles, at least {MIN_DIVISOR}, within 2 %; "
            f"at {clock_hz / 1e6:g} MHz the nearest rate is {clock_hz / cycles:.0f}"
        )
    return cycles


class UartReceiver(wiring.Component):
    """Bytes from a line on which a bit lasts `divisor` clock cycles.

    Each bit is sampled once, in its middle, counted from the edge of the start bit; a start bit that is over by its
    middle was a glitch. Senders may be 3 % too fast or too slow (2 % with a divisor of 4, which sees the edge too late
    by up to a quarter of a bit). `error` is high for a cycle instead of `bytes.valid` when the stop bit is missing; the
    next start bit is then looked for after the line was high.

    Raises
    ------
    ValueError
        If `divisor` is below 4.
    """

    def __init__(self, divisor: int) -> None:
        _check(divisor)
        self.divisor = divisor
        super().__init__({"rx": In(1, init=1), "bytes": Out(stream.Signature(8, always_ready=True)), "error": Out(1)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        line = Signal(init=1)
        m.submodules.synchronizer = FFSynchronizer(self.rx, line, init=1)
        timer = Signal(range(self.divisor))
        sample = Signal()
        bits = Signal(8)
        m.d.comb += [sample.eq(timer == 0), self.bytes.payload.eq(bits)]
        m.d.sync += timer.eq(timer - 1)
        with m.If(sample):
            m.d.sync += timer.eq(self.divisor - 1)

        with m.FSM():
            with m.State("IDLE"):
                m.d.sync += timer.eq(self.divisor // 2 - 1)
                with m.If(~line):
                    m.next = "START"
            with m.State("START"):
                m.d.sync += bits.eq(0x80)  # the 1 arrives at the low end together with the last bit
                with m.If(sample):
                    m.next = "DATA"
                    with m.If(line):
                        m.next = "IDLE"
            with m.State("DATA"):
                with m.If(sample):
                    m.d.sync += bits.eq(Cat(bits[1:], line))
                    with m.If(bits[0]):
                        m.next = "STOP"
            with m.State("STOP"):
                with m.If(sample):
                    m.d.comb += [self.bytes.valid.eq(line), self.error.eq(~line)]
                    m.next = "IDLE"
                    with m.If(~line):
                        m.next = "BROKEN"
            with m.State("BROKEN"):
                with m.If(line):
                    m.next = "IDLE"
        return m


class UartTransmitter(wiring.Component):
    """Sends bytes, each bit for `divisor` clock cycles.

    Raises
    ------
    ValueError
        If `divisor` is below 4.
    """

    def __init__(self, divisor: int) -> None:
        _check(divisor)
        self.divisor = divisor
        super().__init__({"bytes": In(stream.Signature(8)), "tx": Out(1, init=1)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        timer = Signal(range(self.divisor))
        bits = Signal(10, init=1)  # the stop bit, a 1, is the last one that is left
        bit_over = Signal()
        m.d.comb += [
            self.tx.eq(bits[0]),
            bit_over.eq(timer == 0),
            self.bytes.ready.eq(bit_over & ~bits[1:].any()),
        ]
        with m.If(~bit_over):
            m.d.sync += timer.eq(timer - 1)
        with m.Elif(bits[1:].any()):
            m.d.sync += [timer.eq(self.divisor - 1), bits.eq(bits[1:])]
        with m.Elif(self.bytes.valid):
            m.d.sync += [timer.eq(self.divisor - 1), bits.eq(Cat(Const(0, 1), self.bytes.payload, Const(1, 1)))]
        return m
