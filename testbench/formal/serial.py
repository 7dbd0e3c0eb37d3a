"""The serial side: bits to bytes and back, packets, and the rings that keep them."""

from __future__ import annotations

from functools import partial

from amaranth.hdl import Cat, Const, Module, Mux, Signal

from rtl.link import WORD, Stage
from rtl.uart import UartReceiver, UartTransmitter
from testbench.formal.bench import Bench, Inside
from testbench.formal.solve import Group, Mutant, Proof
from testbench.formal.streams import steady

STOP = 9
"""Number of the stop bit: the start bit is 0, the bits of the byte are 1 to 8."""

# ---- a byte from the line -------------------------------------------------------------------------------------------


def edges(divisor: int, percent: int) -> tuple[list[int], list[int]]:
    """First and last clock cycle, from the one that sees the start bit, that can be the first to see bit n.

    The sender's bits are up to `percent` too short or too long, and its edges come at any time between two cycles.
    """
    shortest = [bit * divisor * (100 - percent) // 100 for bit in range(STOP + 2)]
    longest = [-(bit * divisor * -100 // (100 - percent)) for bit in range(STOP + 2)]
    return shortest, longest


def uart_receiver(
    t: Bench, divisor: int, percent: int, block: type[UartReceiver] = UartReceiver, inner: bool = True
) -> None:
    """A sender that is too fast or too slow by up to `percent`, and pauses or not, is understood."""
    m, dut = t.m, block(divisor)
    inside = Inside(dut)
    m.submodules.dut = inside.fragment
    t.drive(dut.rx)
    first, last = edges(divisor, percent)
    middle = divisor // 2

    # The sender, as the line shows it two cycles later. Its stop bit lasts until it begins anew.
    line = t.past(t.past(dut.rx, init=1), init=1)
    following, byte = t.free(1, "following"), Signal(8)
    bit, time = Signal(range(STOP + 1), init=STOP), Signal(range(first[STOP + 1] + 1), init=first[STOP + 1])
    may, must, begins = Signal(), Signal(), Signal()
    for number in range(STOP):
        with m.If(bit == number):
            m.d.comb += [may.eq(time + 1 >= first[number + 1]), must.eq(time + 1 >= last[number + 1])]
    with m.If(bit == STOP):
        m.d.comb += [may.eq(time + 1 >= first[STOP + 1]), begins.eq(following)]
    t.assume(~following | may)
    t.assume(following | ~must)
    t.assume(line == Cat(0, byte, 1).bit_select(bit, 1))
    m.d.sync += [
        bit.eq(Mux(begins, 0, bit + following)),
        time.eq(Mux(begins, 0, Mux(time == first[STOP + 1], time, time + 1))),
    ]
    with m.If(begins):
        m.d.sync += byte.eq(t.free(8, "next_byte"))

    owed = Signal()
    with m.If(dut.bytes.valid):
        m.d.sync += owed.eq(0)
    with m.If(begins):
        m.d.sync += owed.eq(1)
    t.claim(~dut.bytes.valid | (owed & (bit == STOP) & (dut.bytes.payload == byte)))
    t.claim(~owed | ~begins | dut.bytes.valid)
    t.claim(~owed | (time <= STOP * divisor + middle))
    t.claim(~dut.error)
    t.reach(dut.bytes.valid & (byte == 0xA5))
    if not inner:
        return

    # For the induction: where the receiver is.
    at, timer, bits = inside.ongoing, inside["timer"], inside["bits"]
    t.claim(inside.part("synchronizer")["line"] == line)
    t.claim(inside.part("synchronizer")["stage0"] == t.past(dut.rx, init=1))
    t.claim(at("IDLE", "START", "DATA", "STOP"))
    t.claim(owed == (time <= STOP * divisor + middle))
    t.claim(bit <= STOP)
    t.claim(time <= first[STOP + 1])
    for number in range(STOP + 1):
        t.claim((bit != number) | (time >= first[number]))
        t.claim((bit != number) | (number == STOP) | (time < last[number + 1]))
    t.claim(at("IDLE") == ((time == 0) | (time > STOP * divisor + middle)))
    t.claim(at("START") == ((time > 0) & (time <= middle)))
    t.claim(~at("START") | (timer == middle - time))
    for number in range(STOP):
        begin = number * divisor + middle
        during = (time > begin) & (time <= begin + divisor)
        t.claim(~during | at("DATA" if number < 8 else "STOP"))
        t.claim(~during | (timer == begin + divisor - time))
        t.claim(~during | (bits == Cat(Const(0x80 >> number, 8 - number), byte[:number])))


class LateSample(int):
    """A divisor of which the half is three quarters."""

    def __floordiv__(self, other: int) -> int:
        return int(self) * 3 // (2 * other)


class EarlySample(int):
    """A divisor of which the half is a quarter."""

    def __floordiv__(self, other: int) -> int:
        return int(self) // (2 * other)


class Late(UartReceiver):
    """Samples a quarter of a bit too late."""

    def __init__(self, divisor: int) -> None:
        super().__init__(LateSample(divisor))


class Early(UartReceiver):
    """Samples a quarter of a bit too early."""

    def __init__(self, divisor: int) -> None:
        super().__init__(EarlySample(divisor))


def uart_receiver_noise(t: Bench, divisor: int, block: type[UartReceiver] = UartReceiver, inner: bool = True) -> None:
    """Whatever the line does."""
    m, dut = t.m, block(divisor)
    inside = Inside(dut)
    m.submodules.dut = inside.fragment
    t.drive(dut.rx)
    line = t.past(t.past(dut.rx, init=1), init=1)
    longest = STOP * divisor + divisor // 2
    told = dut.bytes.valid | dut.error

    # Cycles since the last byte or error, after an error those since the line was high.
    quiet, missing = Signal(range(longest + 1), init=longest), Signal()
    m.d.sync += quiet.eq(Mux(quiet == longest, quiet, quiet + 1))
    with m.If(line):
        m.d.sync += missing.eq(0)
    with m.If(dut.error):
        m.d.sync += missing.eq(1)
    with m.If(told | missing & ~line):
        m.d.sync += quiet.eq(0)
    t.claim(~told | (quiet == longest))
    t.claim(~dut.bytes.valid | line)
    t.claim(~dut.error | ~line)
    t.claim(~(dut.bytes.valid & dut.error))
    t.reach(dut.error & (dut.bytes.payload == 0x5A))
    if not inner:
        return

    # For the induction.
    at, timer, bits = inside.ongoing, inside["timer"], inside["bits"]
    t.claim(inside.part("synchronizer")["line"] == line)
    t.claim(inside.part("synchronizer")["stage0"] == t.past(dut.rx, init=1))
    t.claim(at())
    t.claim(at("BROKEN") == missing)
    t.claim(quiet <= longest)
    t.claim((timer < divisor) & (~at("START") | (timer < divisor // 2)))
    t.claim(~at("START") | (quiet >= divisor // 2 - timer))
    t.claim(~at("STOP") | (quiet >= longest - timer))
    for number in range(8):
        marked = bits[: 8 - number] == 0x80 >> number
        t.claim(~(at("DATA") & marked) | (quiet >= divisor // 2 + (number + 1) * divisor - timer))
    t.claim(~at("DATA") | bits.bool())


class Trusting(UartReceiver):
    """Takes a byte without a stop bit."""

    def elaborate(self, platform: object) -> Module:
        m = super().elaborate(platform)
        with m.If(self.error):
            m.d.comb += self.bytes.valid.eq(1)
        return m


# ---- a byte to the line ---------------------------------------------------------------------------------------------


def uart_transmitter(
    t: Bench, divisor: int, block: type[UartTransmitter] = UartTransmitter, inner: bool = True
) -> None:
    """A byte that was taken is on the line from the next cycle on, a bit for `divisor` cycles."""
    m, dut = t.m, block(divisor)
    inside = Inside(dut)
    m.submodules.dut = inside.fragment
    t.drive(dut.bytes.valid, dut.bytes.payload)
    take = dut.bytes.valid & dut.bytes.ready
    sending, bit, time, byte = Signal(), Signal(range(STOP + 1)), Signal(range(divisor)), Signal(8)
    bit_over, over = time == divisor - 1, Signal()
    m.d.comb += over.eq((bit == STOP) & bit_over)
    with m.If(sending):
        m.d.sync += [time.eq(Mux(bit_over, 0, time + 1)), bit.eq(bit + bit_over), sending.eq(~over)]
    with m.If(take):
        m.d.sync += [sending.eq(1), bit.eq(0), time.eq(0), byte.eq(dut.bytes.payload)]
    level = Cat(0, byte, 1).bit_select(bit, 1)
    t.claim(dut.tx == (~sending | level))
    t.claim(dut.bytes.ready == (~sending | over))
    if divisor == 4:
        t.reach(take & (byte == 0x5A) & over)
    if not inner:
        return

    # For the induction.
    bits, timer = inside["bits"], inside["timer"]
    t.claim(~sending | ((bit <= STOP) & (time < divisor)))
    t.claim(bits == Mux(sending, Cat(0, byte, 1) >> bit, 1))
    t.claim(timer == Mux(sending, divisor - 1 - time, 0))


class Slow(UartTransmitter):
    """A bit lasts one clock cycle more."""

    def __init__(self, divisor: int) -> None:
        super().__init__(divisor + 1)


# ---- a register in a stream -----------------------------------------------------------------------------------------


def stage(t: Bench, block: type[Stage] = Stage) -> None:
    """What was taken and not yet handed on is one word at most, and it is the one that is offered."""
    m, dut = t.m, block()
    m.submodules.dut = Inside(dut).fragment
    t.drive(dut.words.valid, dut.words.payload, dut.tx.ready)
    taken, given = dut.words.valid & dut.words.ready, dut.tx.valid & dut.tx.ready
    level, word = Signal(2), Signal(WORD)
    m.d.sync += level.eq(level + taken - given)
    with m.If(taken):
        m.d.sync += word.eq(dut.words.payload)
    t.claim(level <= 1)
    t.claim(dut.tx.valid == (level != 0))
    t.claim(dut.busy == (level != 0))
    t.claim(~dut.tx.valid | (dut.tx.payload == word))
    t.claim(steady(t, dut.tx))
    t.claim(dut.words.ready == ((level == 0) | dut.tx.ready))
    t.reach(taken & given)


class Overrun(Stage):
    """Takes a word while it holds one."""

    def elaborate(self, platform: object) -> Module:
        m = super().elaborate(platform)
        m.d.comb += self.words.ready.eq(1)
        return m


GROUP = Group(
    "Serial link",
    "What a sender's line looks like is written into the bench: each of its edges lies anywhere within the tolerance, "
    "and anywhere between two clock cycles.",
    (
        *(
            Proof(
                f"uart-receiver-{divisor}",
                f"`UartReceiver`, {divisor} cycles a bit: each byte of a sender whose bits are up to {percent} % too "
                "short or too long, with any pauses, comes once, before the next one begins or the middle of the "
                "stop bit is over, and nothing else does",
                partial(uart_receiver, divisor=divisor, percent=percent),
                reached=0 if divisor == 12 else 10 * divisor + 4,
                mutants={
                    f"it samples a quarter of a bit too {name}": Mutant(
                        partial(uart_receiver, divisor=divisor, percent=percent, block=block, inner=False), steps
                    )
                    for name, block, on, steps in (("late", Late, 4, 42), ("early", Early, 5, 49))
                    if divisor == on
                },
            )
            for divisor, percent in ((4, 2), (5, 3), (12, 3))
        ),
        *(
            Proof(
                f"uart-receiver-noise-{divisor}",
                f"`UartReceiver`, {divisor} cycles a bit, whatever the line does: a byte comes only with a stop bit, "
                "an error only without, and 9.5 bits or more lie before each, since the last one, and since the line "
                "was high after an error",
                partial(uart_receiver_noise, divisor=divisor),
                reached=44 if divisor == 4 else 0,
                mutants={
                    "it takes a byte without a stop bit": Mutant(
                        partial(uart_receiver_noise, divisor=4, block=Trusting, inner=False), 44
                    )
                }
                if divisor == 4
                else {},
            )
            for divisor in (4, 12)
        ),
        *(
            Proof(
                f"uart-transmitter-{divisor}",
                f"`UartTransmitter`, {divisor} cycles a bit: each byte taken is sent as start bit, 8 bits, lowest "
                f"first, and stop bit, each for {divisor} cycles; otherwise the line is high and a byte is taken at "
                "once, also in the last cycle of a stop bit",
                partial(uart_transmitter, divisor=divisor),
                reached=44 if divisor == 4 else 0,
                mutants={
                    "a bit lasts one clock cycle more": Mutant(
                        partial(uart_transmitter, divisor=divisor, block=Slow, inner=False), 2 * divisor
                    )
                },
            )
            for divisor in (4, 12)
        ),
        Proof(
            "stage",
            "`Stage`: every word once, in order, a cycle after it was taken at the earliest; it takes one whenever it "
            "holds none or is rid of it, and `busy` is true",
            stage,
            reached=4,
            mutants={"a word is taken while one is held": Mutant(partial(stage, block=Overrun), 5)},
        ),
    ),
)
