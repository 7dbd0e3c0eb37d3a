"""The serial side: bits to bytes and back, packets, and the rings that keep them."""

from __future__ import annotations

import zlib
from functools import partial
from typing import Any
from unittest.mock import patch

from amaranth.hdl import Cat, Const, Elaboratable, Module, Mux, Signal, Value
from amaranth.lib import data, wiring
from amaranth.lib.memory import ReadPort, WritePort
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from rtl import cobs, serial
from rtl.cobs import CobsEncoder
from rtl.link import WORD, Stage
from rtl.packets import EMPTY_BODY, HEADER_BYTES, LONGEST_BODY, PACKET_WORDS
from rtl.serial import FLAGS, LENGTH, Inbox, Outbox, PacketReceiver, window
from rtl.uart import UartReceiver, UartTransmitter
from testbench.formal.bench import Bench, Inside, WatchedMemory
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


# ---- the rings ------------------------------------------------------------------------------------------------------


class SlotMemory(Elaboratable):
    """Stands for the ring of an inbox or outbox: exact for one byte of one slot, and for that slot's length.

    Both can be any, so what is proved of them holds for all. The rest reads anything, and so does a place that is
    written in the same cycle.
    """

    def __init__(self, t: Bench, *, shape: int, depth: int, init: Any) -> None:
        self.t = t
        self.slots = window(depth)
        self.slot, self.offset = t.constant(range(self.slots), "slot"), t.constant(6, "offset")
        width = exact_log2(depth)
        self.places = (Cat(self.offset, self.slot), Cat(self.slot, Const(0, 12 - width), Const(-1, width - 6)))
        self.byte, self.length = Signal(8), Signal(8)
        self._read = ReadPort.Signature(addr_width=width, shape=shape).create()
        self._write = WritePort.Signature(addr_width=width, shape=shape).create()

    def read_port(self) -> Any:
        return self._read

    def write_port(self) -> Any:
        return self._write

    def elaborate(self, platform: object) -> Module:
        m = Module()
        read, write = self._read, self._write
        m.d.sync += read.data.eq(self.t.free(8, "elsewhere"))
        for place, cell in zip(self.places, (self.byte, self.length), strict=True):
            with m.If(write.en & (write.addr == place)):
                m.d.sync += cell.eq(write.data)
            with m.Elif(read.en & (read.addr == place)):
                m.d.sync += read.data.eq(cell)
        return m


def around(slot: Any, slots: int) -> Value:
    """The slot of this number, which can be that of the round before or after."""
    return Mux(slot < 0, slot + slots, Mux(slot >= slots, slot - slots, slot))


def nameless(inside: Inside, domain: str, width: int) -> list[Signal]:
    """The signals of this width that the block drives and has no names for, in the order of their assignments."""
    found = {
        id(signal): signal
        for statement in inside.fragment.statements[domain]
        for signal in statement._lhs_signals()
        if signal.name == "$signal" and len(signal) == width
    }
    return list(found.values())


def with_ring(t: Bench, dut: Inbox | Outbox) -> tuple[Inside, SlotMemory]:
    """Put the block into the bench, with a memory that the solver can think of."""
    rings: list[SlotMemory] = []

    def memory(**arguments: Any) -> SlotMemory:
        rings.append(SlotMemory(t, **arguments))
        return rings[-1]

    with patch.object(serial, "Memory", memory):
        inside = Inside(dut)
    t.m.submodules.dut = inside.fragment
    (ring,) = rings
    return inside, ring


def inbox(t: Bench, ring_bytes: int, block: type[Inbox] = Inbox, inner: bool = True) -> None:
    """Bytes of packets come at any time, and after each packet it is accepted or not."""
    m, dut = t.m, block(ring_bytes)
    inside, ring = with_ring(t, dut)
    slots, slot, watched = ring.slots, ring.slot, ring.offset
    t.drive(dut.valid, dut.byte, dut.accept, dut.length, dut.wait, dut.hold, dut.number_index, dut.words.ready)

    # Packets: any bytes, any number of them; only those of a right length are accepted.
    begins, offset, too_long = t.free(1, "begins"), Signal(7, init=-4 % 128), Signal()
    m.d.comb += [
        dut.inverse.eq(~dut.byte),
        dut.offset.eq(offset),
        dut.hello.eq(t.held(1, "hello", dut.valid & (offset == -4 % 128))),
    ]
    t.assume(~dut.accept | begins)
    t.assume(~(dut.valid & begins))
    whole = (offset == Cat(Const(0, 2), dut.length.last_word + 2)) & ~too_long
    t.assume(~dut.accept | (whole & ~dut.hello))
    with m.If(dut.valid):
        m.d.sync += [offset.eq(offset + 1), too_long.eq(too_long | (offset == 68))]
    with m.If(begins):
        m.d.sync += [offset.eq(-4), too_long.eq(0)]

    # What is to be kept: the packet that is expected, if there was room when its words came.
    level, expected, drained = Signal(range(slots + 1)), Signal(8), Signal(8)
    in_order, is_gap, ahead = Signal(), Signal(), Signal(8)
    m.d.comb += ahead.eq(dut.byte - expected)
    with m.If(dut.valid & (offset == -3 % 128)):
        m.d.sync += [in_order.eq(ahead == 0), is_gap.eq((ahead > 0) & (ahead < 128))]
    with m.If(dut.valid & ~offset[6] & (level == slots)):
        m.d.sync += in_order.eq(0)
    kept = dut.accept & in_order
    taken = dut.words.valid & dut.words.ready
    m.d.sync += [level.eq(level + kept - dut.moved), expected.eq(expected + kept), drained.eq(drained + dut.moved)]
    t.claim((dut.expected == expected) & (dut.drained == drained))
    t.claim(~dut.accept | (dut.gap == is_gap))
    t.claim(~dut.words.valid | (level != 0))
    t.claim(~dut.moved | taken)
    t.claim(steady(t, dut.words))

    # The packet in one slot, and one of its bytes.
    fill, drain, word = Signal(range(slots)), Signal(range(slots)), Signal(4)
    newest, byte, length = Signal(8), Signal(8), Signal(LENGTH)
    with m.If(dut.valid & (offset == watched)):
        m.d.sync += newest.eq(dut.byte)
    with m.If(kept):
        m.d.sync += fill.eq(around(fill + 1, slots))
        with m.If(fill == slot):
            m.d.sync += [byte.eq(newest), length.eq(dut.length)]
    with m.If(taken):
        m.d.sync += word.eq(word + 1)
    with m.If(dut.moved):
        m.d.sync += [drain.eq(around(drain + 1, slots)), word.eq(0)]
    ends = word == length.last_word
    with m.If((drain == slot) & dut.words.valid):
        t.claim(word <= length.last_word)
        t.claim(dut.words.payload.last == (length.last & ends))
        t.claim((word != watched[2:]) | (dut.words.payload.data.word_select(watched[:2], 8) == byte))
        t.claim(dut.moved == (dut.words.ready & ends))

    # No word waits for ever, and none of a packet that came during `wait` has been taken at its end.
    waited, old = Signal(4), Signal(range(slots + 1))
    waiting = (level != 0) & ~dut.words.valid & ~dut.hold & ~dut.wait
    m.d.sync += waited.eq(Mux(waiting, waited + 1, 0))
    t.claim(waited <= 9)
    before = Mux(t.past(dut.wait), old, level)
    m.d.sync += old.eq(before - dut.moved)
    t.claim(~(dut.wait & dut.moved) | (before != 0))
    if ring_bytes == 256:
        t.reach(dut.moved & dut.words.payload.last & (slot == 0) & (watched == 2) & (byte == 0xA5))
    if not inner:
        return

    # For the induction.
    at, place, end = inside.ongoing, inside["place"], inside["end"]
    (first,), (is_next,) = nameless(inside, "sync", len(end)), nameless(inside, "sync", 1)
    distance = around(slot - drain, slots)
    occupied = distance < level
    t.claim(at())
    t.claim((level <= slots) & (fill < slots) & (drain < slots))
    t.claim(fill == around(drain + level, slots))
    t.claim((first == drain) & (end == fill))
    t.claim(inside["full"] == (level == slots))
    t.claim((is_next == in_order) & (dut.gap == is_gap))
    payload = ~too_long & (offset <= 68)
    t.claim(payload | too_long | (offset >= -4 % 128))
    t.claim(~payload | ~in_order | (offset == 0) | (level != slots))
    t.claim(word == place[2:])
    t.claim(~at("GIVE") | (place[:2] == 3))
    t.claim((level != 0) | at("IDLE"))
    t.claim(~at("IDLE") | (place == 0))
    with m.If((fill == slot) & in_order & payload & (offset > watched) & ~dut.hello):
        t.claim(ring.byte == newest)
    with m.If(occupied):
        t.claim(ring.length[:5] == Value.cast(length))
        t.claim((watched[2:] > length.last_word) | (ring.byte == byte))
    read, data = inside["word"], dut.number
    with m.If((drain == slot) & ~at("IDLE")):
        begun = ~at("READ") | (place != 0)
        t.claim(begun | (data[:5] == Value.cast(length)))
        t.claim(~begun | ((Value.cast(inside["length"]) == Value.cast(length)) & (place[2:] <= length.last_word)))
        t.claim(~(at("TAKE") & (place == watched)) | (data == byte))
        got, there = Mux(at("GIVE"), 4, place[:2]), place[2:] == watched[2:]
        for number in range(4):
            for count in range(number + 1, 5):
                here = there & (watched[:2] == number) & (got == count)
                t.claim(~here | (read.word_select(4 - count + number, 8) == byte))
    position = Mux(at("IDLE"), 0, Mux(at("READ"), 1, 2) + 2 * place[:2])
    t.claim(at("GIVE") | (waited <= position))
    t.claim(~t.past(dut.wait) | at("IDLE") | (old != 0))


class CountsAll(Inbox):
    """Counts a packet that it did not keep."""

    def elaborate(self, platform: object) -> Module:
        m = super().elaborate(platform)
        with m.If(self.accept):
            m.d.sync += self.expected.eq(self.expected + 1)
        return m


class TakesBack(Inbox):
    """Takes an offered word back."""

    def elaborate(self, platform: object) -> Module:
        m = super().elaborate(platform)
        refused = Signal()
        m.d.sync += refused.eq(self.words.valid & ~self.words.ready)
        with m.If(refused):
            m.d.comb += self.words.valid.eq(0)
        return m


def outbox(t: Bench, ring_bytes: int, block: type[Outbox] = Outbox, inner: bool = True) -> None:
    """Words come at any time; the host acknowledges what was sent, and asks for it again, at any time."""
    m, dut = t.m, block(ring_bytes)
    inside, ring = with_ring(t, dut)
    slots, slot, watched = ring.slots, ring.slot, ring.offset
    _, step, _ = nameless(inside, "comb", 1)
    t.drive(dut.words.valid, dut.words.payload, dut.inverse, dut.next_valid, dut.ack, dut.rewind, dut.hold, dut.sent)
    t.drive(dut.fetch, dut.place)
    t.assume(steady(t, dut.words))

    # Packets from the first that is kept on: all that are closed, those once sent, and those now acknowledged.
    base, kept, once, due = (Signal(8), *(Signal(range(slots + 1)) for _ in range(3)))
    current = Signal(8)
    m.d.comb += current.eq(dut.sequence - base)

    # What comes with a broken packet is any, but no `ack` follows; a good one acknowledges at most what was sent.
    ahead, fresh, honest = Signal(8), Signal(), Signal(init=1)
    m.d.comb += ahead.eq(~dut.inverse - base)
    t.assume(~dut.next_valid | ~dut.ack)
    t.assume(~dut.ack | t.past(dut.ack) | (fresh & honest))
    with m.If(dut.ack):
        m.d.sync += fresh.eq(0)
    with m.If(dut.next_valid):
        m.d.sync += [fresh.eq(1), honest.eq((ahead <= once) | (ahead >= 128)), due.eq(Mux(ahead <= once, ahead, 0))]

    # A sender: it begins when all is settled, and sends the packet there is.
    has_words = Signal()
    with m.If(~dut.hold):
        m.d.sync += has_words.eq(dut.available)
    t.assume(~dut.hold | t.past(dut.hold) | t.past(dut.settled))
    t.assume(~dut.hold | ~t.past(dut.sent))
    t.assume(~dut.sent | (dut.hold & has_words))

    # Words of the packet that is being filled; a whole one waits for a slot.
    fill, word, pending = Signal(range(slots)), Signal(4), Signal()
    byte, length = Signal(8), Signal(LENGTH)
    taken = dut.words.valid & dut.words.ready
    closed = pending & (kept < slots - 1)
    with m.If(taken):
        m.d.sync += [word.eq(word + 1), pending.eq(dut.words.payload.last | (word == PACKET_WORDS - 1))]
        with m.If(fill == slot):
            m.d.sync += [length.last_word.eq(word), length.last.eq(dut.words.payload.last)]
            with m.If(word == watched[2:]):
                m.d.sync += byte.eq(dut.words.payload.data.word_select(watched[:2], 8))
    with m.If(closed):
        m.d.sync += [word.eq(0), pending.eq(0), fill.eq(around(fill + 1, slots))]
    m.d.sync += [kept.eq(kept + closed - step), base.eq(base + step)]
    m.d.sync += once.eq(once + (dut.sent & (current == once)) - step)
    with m.If(step):
        m.d.sync += due.eq(due - 1)

    # Only what is acknowledged is given up, and that at once, but for the packet that is just being sent.
    free_to = ~dut.hold | (current != 0)
    t.claim(step == (dut.ack & (due != 0) & free_to))
    # Words wait only for a slot.
    waited = Signal(4)
    m.d.sync += waited.eq(Mux(dut.words.valid & ~dut.words.ready & ~pending, waited + 1, 0))
    t.claim(waited <= 7)
    t.claim(~(pending & taken))

    # What is to be sent next: one of the packets that are kept, and after a rewind the first.
    asked = Signal()
    m.d.sync += asked.eq(dut.rewind | asked & ~dut.settled)
    t.claim(dut.available == (current < kept))
    t.claim(current <= kept)
    t.claim(~(asked & dut.settled) | (current == 0))
    t.claim(~t.past(dut.hold & ~dut.sent) | (dut.sequence == t.past(dut.sequence)))
    t.claim(~t.past(dut.sent) | (dut.sequence == (t.past(dut.sequence) + 1)[:8]))
    t.claim(~(dut.hold & has_words) | dut.available)

    # The packet in one slot, its length and one of its bytes.
    start = around(fill - kept, slots)
    distance = around(slot - start, slots)
    is_kept = distance < kept
    here = is_kept & (current == distance)
    t.claim(~t.past(here & ~dut.fetch) | (dut.byte[:5] == t.past(Value.cast(length))))
    asks = here & dut.fetch & (dut.place == watched) & (watched[2:] <= length.last_word)
    t.claim(~t.past(asks) | (dut.byte == t.past(byte)))
    if ring_bytes == 256:
        t.reach(step & (slot == 0) & (watched == 0))
    if not inner:
        return

    # For the induction.
    at, end, first = inside.ongoing, inside["end"], inside["first"]
    (place,), (rewinding,) = nameless(inside, "sync", 6), nameless(inside, "sync", 1)
    t.claim((kept < slots) & (fill < slots) & (once <= kept) & (due <= once))
    t.claim((end == fill) & (first == start) & (inside["current"] == around(start + current, slots)))
    t.claim(inside["first_sequence"] == base)
    t.claim(~honest | (inside["acknowledged"] == due))
    t.claim(~t.past(dut.ack) | honest)
    t.claim(at("CLOSE") == pending)
    t.claim(at())
    t.claim(~rewinding | asked)
    t.claim(~asked | rewinding | ((current == 0) & ~dut.hold))
    t.claim((current <= once) & (~has_words | ~dut.hold | (current < kept)))
    t.claim(pending | (place[2:] == word))
    t.claim(~pending | ((place[:2] == 3) & (place[2:] == (word - 1)[:4])))
    t.claim(pending | ~(inside["chosen"] | (place[:2] != 0)) | dut.words.valid)
    t.claim(~pending | ~inside["chosen"])
    choice = inside.part("choice")["chosen"]
    t.claim(~inside["chosen"] | (choice == dut.words.payload.data.word_select(place[:2], 8)))
    t.claim(pending | (waited <= 2 * place[:2] + inside["chosen"]))
    with m.If(fill == slot):
        with m.If(pending):
            t.claim(Value.cast(length) == Cat(place[2:], inside["last"]))
        here_word = (word == watched[2:]) & ~pending
        for number in range(4):
            got = here_word & (watched[:2] == number) & (place[:2] > number)
            t.claim(~got | (ring.byte == dut.words.payload.data.word_select(number, 8)))
        t.claim(~(pending | (word > watched[2:])) | (watched[2:] > place[2:]) | (ring.byte == byte))
    with m.If(is_kept):
        t.claim(ring.length[:5] == Value.cast(length))
        t.claim((watched[2:] > length.last_word) | (ring.byte == byte))


class Eager(Outbox):
    """Offers the packet that is being filled."""

    def elaborate(self, platform: object) -> Module:
        m = super().elaborate(platform)
        with m.If(self.words.valid & self.words.ready):
            m.d.comb += self.available.eq(1)
        return m


class Greedy(Outbox):
    """Takes a word before its bytes are written."""

    def elaborate(self, platform: object) -> Module:
        m = super().elaborate(platform)
        m.d.comb += self.words.ready.eq(1)
        return m


# ---- packets --------------------------------------------------------------------------------------------------------


class FreeByteCrc(wiring.Component):
    """Stands for :class:`rtl.serial.ByteCrc`, whatever it answers and when: whoever puts it in drives its outputs."""

    def __init__(self) -> None:
        inputs = {"clear": In(1), "start": In(1), "data": In(8), "shift_out": In(1)}
        super().__init__(inputs | {"busy": Out(1), "done": Out(1), "byte": Out(8), "inverse": Out(8), "crc": Out(32)})

    def elaborate(self, platform: object) -> Module:
        return Module()


def packet_receiver(t: Bench, block: type[PacketReceiver] = PacketReceiver) -> None:
    """A packet is good if its bytes were whole, of a right number, and their CRC was right; otherwise damaged."""
    m, dut, crc = t.m, block(), FreeByteCrc()
    with patch.object(serial, "ByteCrc", lambda: crc):
        inside = Inside(dut)
    m.submodules.dut = inside.fragment
    t.drive(dut.bytes.valid, dut.bytes.payload, dut.broken, crc.busy, crc.done, crc.byte, crc.inverse, crc.crc)
    byte, taken = dut.bytes.payload, dut.bytes.valid & dut.bytes.ready

    # The encoding as docs/serial.md has it: a code is the distance to the next one, which the 0 at the end stands for.
    begun, spoilt, distance = Signal(), Signal(), Signal(7)
    code = ~begun | (distance == 1)
    ends = taken & (byte == 0) & (begun | spoilt)
    with m.If(taken):
        m.d.sync += begun.eq(byte != 0)
        with m.If(byte == 0):
            m.d.sync += spoilt.eq(0)
        with m.Else():
            m.d.sync += distance.eq(Mux(code, byte, distance - 1))
            with m.If(code & byte[7]):
                m.d.sync += spoilt.eq(1)
    with m.If(dut.broken):
        m.d.sync += spoilt.eq(1)

    # Bytes of the body, up to one too many.
    count, first = Signal(range(LONGEST_BODY + 2)), Signal(8)
    with m.If(crc.done & (count == 0)):
        m.d.sync += first.eq(crc.byte)
    with m.If(~begun):
        m.d.sync += count.eq(0)
    with m.Elif(crc.done & (count != LONGEST_BODY + 1)):
        m.d.sync += count.eq(count + 1)
    flags = data.View(FLAGS, first[: FLAGS.size])
    payload = count - EMPTY_BODY
    right = (count >= EMPTY_BODY) & (count <= LONGEST_BODY) & (count[:2] == 0)
    right &= Mux(flags.hello, payload == 4, ~flags.data | (payload != 0))
    good = ends & begun & code & ~spoilt & right & (crc.crc == zlib.crc32(bytes(4)))
    t.claim(dut.good == t.past(good))
    t.claim(dut.damaged == t.past(ends & ~good))
    t.claim(~good | (Value.cast(dut.flags) == Value.cast(flags)))
    t.claim(~good | (payload == 0) | (dut.length.last_word == (payload >> 2) - 1))

    # For the induction.
    decoder = inside.part("decoder")
    t.claim((decoder["begun"] == begun) & (decoder["spoilt"] == spoilt))
    t.claim(~begun | (decoder["distance"] == distance))
    t.claim(count <= LONGEST_BODY + 1)
    t.claim(~begun | (count == LONGEST_BODY + 1) | (dut.offset == (count - HEADER_BYTES)[:7]))
    t.claim(~begun | (inside["too_long"] == (count == LONGEST_BODY + 1)))
    t.claim((count == 0) | (count == LONGEST_BODY + 1) | (Value.cast(dut.flags) == Value.cast(flags)))


class HearsNothingOfLoss(PacketReceiver):
    """Takes a packet of which a byte was lost."""

    def elaborate(self, platform: object) -> Module:
        m = super().elaborate(platform)
        m.d.comb += m.submodules.decoder.broken.eq(0)
        return m


def cobs_encoder(t: Bench, block: type[CobsEncoder] = CobsEncoder) -> None:
    """What is offered stays until it is taken, and a packet that is whole is left alone until its 0 was taken."""
    m, dut = t.m, block()
    memories: list[WatchedMemory] = []

    def memory(**arguments: Any) -> WatchedMemory:
        memories.append(WatchedMemory(t, **arguments))
        return memories[-1]

    with patch.object(cobs, "Memory", memory):
        inside = Inside(dut)
    m.submodules.dut = inside.fragment
    (ring,) = memories
    t.drive(dut.body.valid, dut.body.payload, dut.clear, dut.encoded.ready)
    sending, waiting, half = inside.ongoing("READ", "SEND"), inside["waiting"], inside["half"]
    closing, sent_half = inside["close"], inside["sent_half"]
    (patching,) = nameless(inside, "sync", 1)
    writes = ring.written & (ring.place[7] == Mux(sending, sent_half, ~half))
    t.claim(~writes | (~sending & ~waiting))
    stalled = t.past(dut.encoded.valid & ~dut.encoded.ready)
    t.claim(~stalled | dut.encoded.valid)
    t.claim(~stalled | ~ring.exact[0] | (dut.encoded.payload == t.past(dut.encoded.payload)))
    t.claim(~stalled | (ring.exact[0] == t.past(ring.exact[0])))
    t.reach(sending & waiting)

    # For the induction: the other half is filled, unless that has been done.
    t.claim(inside.ongoing())
    t.claim((half == sent_half) ^ (sending ^ waiting))
    t.claim(~waiting | ~(patching | closing))
    t.claim(~(patching & closing))
    t.claim(~dut.encoded.valid | (ring.exact[0] == ring.watched))
    t.claim(~dut.encoded.valid | ~ring.exact[0] | (dut.encoded.payload == ring.cell))


class Impatient(CobsEncoder):
    """Begins a third packet although one waits."""

    def elaborate(self, platform: object) -> Module:
        m = super().elaborate(platform)
        m.d.comb += self.body.ready.eq(1)
        return m


GROUP = Group(
    "Serial link",
    "What a sender's line looks like is written into the bench: each of its edges lies anywhere within the tolerance, "
    "and anywhere between two clock cycles. Of a ring, one byte of one slot and this slot's length are looked at, "
    "which can be any; elsewhere it reads anything. Packets for the inbox have any bytes and are accepted or not, but "
    "none of a wrong length is: that is the part of `PacketReceiver`. What is proved is one session; a HELLO begins "
    "anew.",
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
        Proof(
            "cobs-encoder",
            "`CobsEncoder`: what is offered stays until it is taken; the bytes of a whole packet are not written again "
            "before its last one, the 0, was taken",
            cobs_encoder,
            reached=8,
            mutants={"a packet is begun while one waits": Mutant(partial(cobs_encoder, block=Impatient), 8)},
        ),
        Proof(
            "packet-receiver",
            "`PacketReceiver` with its decoder: a packet is good exactly if its encoding is right to the end, no byte "
            "of it was lost, its length is one that its flags allow, and the CRC is right; it is damaged otherwise",
            packet_receiver,
            mutants={"a lost byte does not matter": Mutant(partial(packet_receiver, block=HearsNothingOfLoss), 14)},
        ),
        *(
            Proof(
                f"inbox-{ring_bytes}",
                f"`Inbox`, ring of {ring_bytes} bytes: of the packets that were accepted, those whose number is the "
                "expected one and that came while there was room leave whole, once and in order, the mark on the last "
                "word; nothing of others does; none is overwritten before its last word was taken; what is offered "
                "stays; `expected`, `drained`, `moved` and `gap` are true; `wait` and `hold` apart, no word waits for "
                "more than 9 cycles",
                partial(inbox, ring_bytes=ring_bytes),
                reached=26 if ring_bytes == 256 else 0,
                mutants={
                    "a packet that is not kept is counted": Mutant(
                        partial(inbox, ring_bytes=256, block=CountsAll, inner=False), 15
                    ),
                    "an offered word is taken back": Mutant(
                        partial(inbox, ring_bytes=256, block=TakesBack, inner=False), 26
                    ),
                }
                if ring_bytes == 256
                else {},
            )
            for ring_bytes in (256, 512)
        ),
        *(
            Proof(
                f"outbox-{ring_bytes}",
                f"`Outbox`, ring of {ring_bytes} bytes: the packet `sequence` is one that the chip gave and the host "
                "has not acknowledged, and what is read of it, length, mark and bytes, is what the chip gave, however "
                "often it is sent; after `rewind` the first of these is sent next; nothing is given up but what is "
                "acknowledged; words wait for more than 7 cycles only while all slots are in use",
                partial(outbox, ring_bytes=ring_bytes),
                reached=15 if ring_bytes == 256 else 0,
                mutants={
                    "a packet is offered before it is whole": Mutant(
                        partial(outbox, ring_bytes=256, block=Eager, inner=False), 9
                    ),
                    "a word is taken before its bytes are written": Mutant(
                        partial(outbox, ring_bytes=256, block=Greedy, inner=False), 12
                    ),
                }
                if ring_bytes == 256
                else {},
            )
            for ring_bytes in (256, 512)
        ),
    ),
)
