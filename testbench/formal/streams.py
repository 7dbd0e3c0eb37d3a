"""Streams: no word is lost, none comes twice, the order stays, and what is offered stays until it is taken."""

from __future__ import annotations

from functools import partial
from typing import Any
from unittest.mock import patch

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib import fifo, wiring
from amaranth.lib.wiring import In, Out

from rtl import link
from rtl.config import ChipConfig
from rtl.link import HEADER, RECORD, Receiver, Sender
from rtl.neuron import NeuronUpdate
from rtl.recorder import Recorder
from rtl.registers import RECORD_GATE, RECORD_RASTER, Status
from rtl.synapses import Synapses
from testbench.formal.bench import Bench, Inside, WatchedMemory
from testbench.formal.solve import Group, Mutant, Proof


def steady(t: Bench, offered: Any) -> Value:
    """Whether a stream keeps its promise: what is offered and not taken is offered again."""
    stalled = t.past(offered.valid & ~offered.ready)
    payload = Value.cast(offered.payload)
    return ~stalled | (offered.valid & (payload == t.past(payload)))


# ---- frames in ------------------------------------------------------------------------------------------------------


class FreeCrc(wiring.Component):
    """Stands for :class:`rtl.crc.Crc32` of either size: whoever puts it in drives `crc` and `ready`."""

    def __init__(self) -> None:
        super().__init__({"clear": In(1), "valid": In(1), "ready": Out(1), "data": In(32), "crc": Out(32)})

    def elaborate(self, platform: object) -> Module:
        return Module()


def receiver(t: Bench, depth: int, block: type[Receiver] = Receiver) -> None:
    """The ring holds what good frames say and one record for each bad one, whatever the CRC's value."""
    m, dut, crc = t.m, block(depth), FreeCrc()
    rings: list[WatchedMemory] = []

    def memory(**arguments: Any) -> WatchedMemory:
        rings.append(WatchedMemory(t, **arguments))
        return rings[-1]

    with patch.object(link, "Crc32", lambda size: crc), patch.object(link, "Memory", memory):
        inside = Inside(dut)
    m.submodules.dut = inside.fragment
    (ring,) = rings
    t.drive(dut.rx.valid, dut.rx.payload, dut.fetch, dut.release, crc.crc, crc.ready)
    take, word = dut.rx.valid & dut.rx.ready, dut.rx.payload

    # What a frame leaves in the ring, from its words alone.
    count = Signal(range(depth + 2))
    header, shown, status = Signal(HEADER), Signal(HEADER), Signal(Status)
    ends, size = Signal(), Signal.like(dut.release)
    m.d.comb += [
        shown.eq(Mux(count == 0, word.data, header)),
        ends.eq(take & word.last),
        size.eq(Mux(status == Status.OK, count, 1)),
    ]
    with m.If((count > depth) | (count < 2) | (header.length != count - 2)):
        m.d.comb += status.eq(Status.BAD_LENGTH)
    with m.Elif(word.data != crc.crc):
        m.d.comb += status.eq(Status.BAD_CRC)
    with m.If(take):
        m.d.sync += count.eq(Mux(word.last, 0, Mux(count == depth + 1, count, count + 1)))
        with m.If(count == 0):
            m.d.sync += header.eq(word.data)
    t.claim((crc.valid & crc.ready) == (take & ~word.last))
    t.claim(~t.past(crc.valid & ~crc.ready) | ~steady(t, dut.rx) | crc.valid)
    t.claim(crc.clear == ends)
    t.claim(crc.data == word.data)

    # A reader may give back any words that frames left, in order, whenever it likes.
    level = Signal(range(depth + 1))
    t.assume(dut.release <= level)
    m.d.sync += level.eq(level + Mux(ends, size, 0) - dut.release)
    t.claim(dut.available == (level != 0))
    # The sender of frames waits only for the CRC or while there is a frame to be read.
    t.claim(dut.rx.ready | dut.available | ~crc.ready)

    # The word at one place of the ring: there from the end of its frame until it is given back.
    place = ring.place
    distance, offset = Signal(range(depth)), Signal(range(depth))
    kept, expected = Signal(32), Signal(RECORD)
    m.d.comb += [distance.eq(place - dut.start), offset.eq(distance - level)]
    there = distance < level
    with m.If(take & ~word.last & (count == offset)):
        m.d.sync += kept.eq(word.data)
    with m.If(ends & ~there & (offset < size)):
        with m.If(status == Status.OK):
            m.d.sync += [expected.data.eq(kept), expected.error.eq(0)]
        with m.Else():
            m.d.sync += [expected.data.eq(shown), expected.data[:16].eq(status), expected.error.eq(1)]
    t.claim(~t.past(there & (dut.fetch == place)) | (dut.record == t.past(expected)))
    t.reach(there & ~expected.error & (offset == 0))
    t.reach(there & expected.error)
    if depth == 4:
        t.reach(~dut.rx.ready & crc.ready)

    # For the induction: what the block's registers have to do with this.
    mask = 2 * depth - 1
    written, committed, released = inside["written"], inside["committed"], inside["released"]
    ahead = Mux(count > depth, depth, count)
    t.claim(((committed - released) & mask) == level)
    t.claim(((written - committed) & mask) == ahead)
    t.claim(level + ahead <= depth)
    t.claim(count <= depth + 1)
    t.claim(inside["dropping"] == (count > depth))
    t.claim((count == 0) | (inside["header"] == Value.cast(header)))
    t.claim(~there | (ring.cell == expected))
    t.claim(there | (count <= offset) | ((ring.cell.data == kept) & ~ring.cell.error))


class AlwaysReady(Receiver):
    """Takes words although the ring is full."""

    def elaborate(self, platform: object) -> Module:
        m = super().elaborate(platform)
        m.d.comb += self.rx.ready.eq(1)
        return m


# ---- frames out -----------------------------------------------------------------------------------------------------


def sender(t: Bench, block: type[Sender] = Sender) -> None:
    """Every word once, when the CRC takes it, and after each marked one the CRC of the words since the last one."""
    m, dut, crc = t.m, block(), FreeCrc()
    with patch.object(link, "Crc32", lambda size: crc):
        m.submodules.dut = Inside(dut).fragment
    t.drive(dut.words.valid, dut.words.payload, dut.tx.ready, crc.crc, crc.ready)
    t.assume(steady(t, dut.words))
    t.assume(~t.past(crc.ready & ~crc.valid) | crc.ready)
    t.assume(t.past(crc.valid | crc.clear, init=1) | (crc.crc == t.past(crc.crc)))
    given, sent = dut.words.valid & dut.words.ready, dut.tx.valid & dut.tx.ready
    closing = Signal()
    with m.If(given & dut.words.payload.last):
        m.d.sync += closing.eq(1)
    with m.If(sent & closing):
        m.d.sync += closing.eq(0)
    t.claim((crc.valid & crc.ready) == given)
    t.claim(~t.past(crc.valid & ~crc.ready) | (crc.data == t.past(crc.data)))
    t.claim(~crc.valid | (crc.data == dut.words.payload.data))
    t.claim(crc.clear == (sent & closing))
    t.claim(steady(t, dut.tx))
    t.claim(dut.tx.payload.last == closing)
    t.claim(given == (sent & ~closing))
    t.claim(~sent | (dut.tx.payload.data == Mux(closing, crc.crc, dut.words.payload.data)))
    # It adds no wait of its own.
    t.claim(dut.tx.valid == ((dut.words.valid & crc.ready) | closing))
    t.claim(dut.busy == closing)
    t.reach(sent & closing)


class WithoutWaiting(Sender):
    """Ends the CRC word whether it was taken or not."""

    def elaborate(self, platform: object) -> Module:
        m = super().elaborate(platform)
        waited = Signal()
        m.d.sync += waited.eq(self.busy & ~self.tx.ready)
        with m.If(waited):
            m.d.comb += self.tx.valid.eq(0)
        return m


# ---- rasters --------------------------------------------------------------------------------------------------------

FLIGHT = 24
"""Cycles after `full` in which the recorder is still given words; more than any chip's pipeline is long."""

RECORDED = ChipConfig((4, 4), lanes=64, learning=True)


def recorder(t: Bench, block: type[Recorder] = Recorder) -> None:
    """Masks leave as words of 32 lanes, all and in order, if the walker holds in time."""
    m, cfg = t.m, RECORDED
    assert all(
        Synapses.latency(ChipConfig((4, 4), die_tables=tables)) + NeuronUpdate.STAGES < FLIGHT
        for tables in (False, True)
    )
    memories: list[WatchedMemory] = []

    def memory(**arguments: Any) -> WatchedMemory:
        memories.append(WatchedMemory(t, **arguments))
        return memories[-1]

    dut = block(cfg)
    with patch.object(fifo, "Memory", memory):
        inside = Inside(dut)
    m.submodules.dut = inside.fragment
    (storage,), queue = memories, inside.part("fifo")
    t.drive(dut.take, dut.take_gradient, dut.spikes, dut.gates, dut.positive, dut.negative, dut.output.ready)
    m.d.comb += dut.record.eq(t.constant(len(dut.record), "record"))
    taken = dut.output.valid & dut.output.ready

    # The words of what is taken; the next masks come when these are nearly through, and not long after `full`.
    raster, gate = dut.record[RECORD_RASTER], dut.record[RECORD_GATE]
    both = Cat(dut.spikes, dut.gates)
    words, size = Signal(4 * 32), Signal(3)
    with m.If(dut.take):
        m.d.comb += size.eq(2 * (raster.bool() + gate))
        m.d.comb += words.eq(Mux(raster, both, dut.gates))
    with m.Elif(dut.take_gradient):
        m.d.comb += [size.eq(4), words.eq(Cat(dut.positive, dut.negative))]
    t.claim(dut.min_pass == 2 * (raster.bool() + gate))
    busy, late = Signal(3), Signal(range(FLIGHT + 1))
    m.d.sync += [
        busy.eq(Mux(size != 0, size, Mux(busy != 0, busy - 1, 0))),
        late.eq(Mux(~dut.full, 0, Mux(late == FLIGHT, late, late + 1))),
    ]
    t.assume(~(dut.take & dut.take_gradient))
    t.assume((busy <= 1) & (late < FLIGHT) | ~(dut.take | dut.take_gradient))

    # One word: how many are to leave before it.
    left, produced, consumed = inside["left"], queue["produce"], queue["consume"]
    depth = dut.DEPTH - 1

    def wrapped(place: Value) -> Value:
        return Mux(place < depth, place, place - depth)

    most = dut.DEPTH + 4
    level, ahead = Signal(range(most + 1)), Signal(range(most + 1))
    index, watch, watching, expected = t.constant(range(4), "index"), t.free(1, "watch"), Signal(), Signal(32)
    m.d.sync += level.eq(level + size - taken)
    with m.If(watching & taken):
        m.d.sync += ahead.eq(ahead - 1)
        with m.If(ahead == 0):
            m.d.sync += watching.eq(0)
    # The word of all those that will lie in one place of the queue's memory.
    place = wrapped(produced + left + index)
    with m.If(~watching & watch & (index < size) & (place == storage.place)):
        m.d.sync += [watching.eq(1), ahead.eq(level - taken + index), expected.eq(words.word_select(index, 32))]
    t.claim(~(watching & (ahead == 0) & dut.output.valid) | (dut.output.payload == expected))
    t.claim(~dut.output.valid | (level != 0))
    t.claim(dut.empty == (level == 0))
    t.claim(steady(t, dut.output))
    # Nothing waits for ever.
    waited = Signal(2)
    m.d.sync += waited.eq(Mux((level != 0) & ~dut.output.valid, waited + 1, 0))
    t.claim(waited <= 2)
    t.reach(watching & (ahead == 0))

    # For the induction: what is still to be written, and where the word is.
    inner, shown = queue["inner_level"], queue["r_rdy"]
    t.claim((left == 0) | queue["w_rdy"])
    t.claim((left == busy) & (left <= 4))
    t.claim(level == left + inner + shown)
    t.claim((inner <= depth) & (produced < depth) & (consumed < depth))
    t.claim((consumed + inner == produced) | (consumed + inner == produced + depth))
    t.claim((waited == 0) | (inner != 0) | shown)
    t.claim((waited < 2) | shown)
    t.claim(late <= FLIGHT)
    t.claim(inner + shown + Mux(late == FLIGHT, left, 4) <= dut.DEPTH - dut.RESERVE + 5 + late)
    t.claim(~watching | (ahead < level))
    behind = Signal(range(dut.DEPTH + 1))
    m.d.comb += behind.eq(ahead - shown)
    with m.If(watching & (ahead < shown)):
        t.claim(storage.exact[0] & (dut.output.payload == expected))
    with m.Elif(watching):
        t.claim(wrapped(consumed + behind) == storage.place)
        with m.If(behind < inner):
            t.claim(storage.cell == expected)
        with m.Else():
            t.claim(inside["words"].word_select((behind - inner)[:2], 32) == expected)


class HalfSteady(Recorder):
    """Takes an offered word back."""

    def elaborate(self, platform: object) -> Module:
        m = super().elaborate(platform)
        refused = Signal()
        m.d.sync += refused.eq(self.output.valid & ~self.output.ready)
        with m.If(refused):
            m.d.comb += self.output.valid.eq(0)
        return m


GROUP = Group(
    "Streams",
    "No word is lost, none comes twice, the order stays, what is offered stays until it is taken. Of a memory, the "
    "word at one "
    "place is looked at, which can be any; elsewhere it reads anything. Inverting a CRC is not for a solver: its "
    "value is free, and "
    "what it is computed of is a claim instead. The recorder is proved with its real queue of 64 words and masks of "
    "64 lanes; "
    f"its walker may go on for {FLIGHT} cycles after `full`, which is more than any chip does.",
    (
        Proof(
            "sender",
            "`Sender`: every word passes once, without a wait of its own; after a marked one comes the CRC of the "
            "words since the last, marked",
            sender,
            steps=1,
            reached=5,
            mutants={"the CRC word is taken back": Mutant(partial(sender, block=WithoutWaiting), 6)},
        ),
        Proof(
            "receiver-4",
            "`Receiver`, ring of 4 words: good frames are in it whole and in order, bad ones as one record with the "
            "right status, "
            "none is seen before its end, words wait only for the CRC or while there is a frame to read",
            partial(receiver, depth=4),
            steps=1,
            reached=9,
            mutants={"words are taken when the ring is full": Mutant(partial(receiver, depth=4, block=AlwaysReady), 8)},
        ),
        Proof(
            "receiver-1024",
            "`Receiver` with the ring of a small chip, 1024 words: the same",
            partial(receiver, depth=1024),
            steps=1,
        ),
        Proof(
            "recorder",
            "`Recorder`: all words of all masks leave in order, none is lost after `full`, `empty` is true, none "
            "waits for ever",
            recorder,
            steps=1,
            reached=6,
            mutants={"an offered word is taken back": Mutant(partial(recorder, block=HalfSteady), 7)},
        ),
    ),
)
