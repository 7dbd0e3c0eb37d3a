"""Frames: each is answered once, takes effect as a whole or not at all, and ends."""

from __future__ import annotations

from functools import partial

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value

from rtl.config import ChipConfig
from rtl.executor import Executor
from rtl.link import HEADER, RECORD
from rtl.registers import ANSWER, REGION_SHIFT, Opcode, Region, Status
from testbench.formal.bench import Bench, Inside
from testbench.formal.solve import Group, Mutant, Proof
from testbench.formal.streams import steady

CHIP = ChipConfig((9, 5, 3), lanes=4, learning=True)


class Frame:
    """An executor with the one frame it works on, of which header, address and one payload word are looked at.

    The other payload words are anything, and another thing whenever they are read. `number` is the payload word's.
    """

    def __init__(self, t: Bench, cfg: ChipConfig, block: type[Executor]) -> None:
        m = t.m
        self.t, self.dut = t, block(cfg)
        dut = self.dut
        self.inside = Inside(dut)
        m.submodules.dut = self.inside.fragment
        self.released = Signal()
        m.d.comb += self.released.eq(dut.release != 0)
        self.start = t.held(len(dut.frame), "start", self.released)
        self.error = t.held(1, "error", self.released)
        self.header = t.held(HEADER, "header", self.released)
        self.address = t.held(32, "address", self.released)
        self.payload = t.held(32, "payload", self.released)
        self.number = t.held(16, "number", self.released)
        self.length = self.header.length
        available = t.free(1, "available")
        t.assume(~t.past(dut.available & ~self.released) | available)
        t.assume(self.error | (self.length <= cfg.max_payload))
        bad = (self.length == Status.BAD_CRC) | (self.length == Status.BAD_LENGTH)
        t.assume(~self.error | bad)
        self.fetched = fetched = t.past(dut.fetch)
        ring = cfg.link_depth - 1
        m.d.comb += [
            dut.available.eq(available),
            dut.frame.eq(self.start),
            dut.record.eq(t.free(RECORD, "other_record")),
        ]
        self.payload_place = (self.start + 2 + self.number) & ring
        with m.If(fetched == self.start):
            m.d.comb += [dut.record.data.eq(self.header), dut.record.error.eq(self.error)]
        with m.Elif(fetched == ((self.start + 1) & ring)):
            m.d.comb += dut.record.data.eq(self.address)
        with m.Elif(fetched == self.payload_place):
            m.d.comb += dut.record.data.eq(self.payload)
        t.assume(self.number < cfg.max_payload)

        # What is around the executor: registers are known or not, each always the same.
        self.register = t.constant(len(dut.probe), "register")
        self.register_known, self.register_readonly = t.constant(1, "is_known"), t.constant(1, "is_readonly")
        t.drive(dut.known, dut.readonly, dut.read, dut.done, dut.cut, dut.held, dut.bad_events, dut.input_spike)
        t.drive(dut.event_take, dut.answer.ready, dut.raster.valid, dut.raster.payload, dut.raster_empty)
        t.drive(dut.results.valid, dut.results.payload)
        m.d.comb += dut.events.eq(t.held(1, "events", self.released))
        t.assume(
            (dut.probe != self.register)
            | ((dut.known == self.register_known) & (dut.readonly == self.register_readonly))
        )
        t.assume(~(dut.raster_empty & dut.raster.valid))
        for offered in (dut.raster, dut.results):
            t.assume(steady(t, offered))

        # How far the answer is.
        self.sent = dut.answer.valid & dut.answer.ready
        self.begun = Signal()
        self.ended = Signal()
        self.words_sent = Signal(32)
        with m.If(self.sent):
            m.d.sync += [
                self.begun.eq(1),
                self.ended.eq(dut.answer.payload.last),
                self.words_sent.eq(self.words_sent + 1),
            ]
        with m.If(self.released):
            m.d.sync += [self.begun.eq(0), self.ended.eq(0), self.words_sent.eq(0)]
        self.writing = Value.cast(dut.write).any()
        self.written = Signal(17)
        with m.If(self.inside.ongoing("WRITE")):
            m.d.sync += self.written.eq(self.written + 1)
        with m.If(self.released):
            m.d.sync += self.written.eq(0)


def claim_states(t: Bench, frame: Frame) -> None:
    """What the executor's registers have to do with the frame: without this no induction."""
    inside, dut = frame.inside, frame.dut
    header, address, left, size, status = (inside[name] for name in ("header", "address", "left", "size", "status"))
    at = inside.ongoing
    known = ~at("IDLE", "HEADER")
    length, opcode = frame.length, frame.header.opcode
    scatter = opcode == Opcode.SCATTER
    t.claim(at())
    t.claim(at("IDLE") | dut.available)
    t.claim(~known | ((header == Value.cast(frame.header)) & (size == Mux(frame.error, 1, length + 2))))
    t.claim(~known | at("ADDRESS") | frame.error | (address == frame.address))
    t.claim(~known | ~frame.error | at("ANSWER", "RELEASE"))
    t.claim(~known | (status == Mux(frame.error, length, Status.OK)) | ~frame.error & at("ANSWER", "RELEASE"))
    t.claim(~at("DECIDE") | (left == length))
    # Where in the frame it reads.
    cursor = inside["cursor"]
    read = (cursor - frame.start)[: len(cursor)]
    t.claim(cursor == frame.fetched)
    for state, wanted in (
        ("HEADER", 0),
        ("ADDRESS", 1),
        ("DECIDE", 2),
        ("CHECK", 2 + length - left),
        ("PLACE", 2 + 2 * frame.written),
        ("WRITE", 2 + Mux(scatter, 2 * frame.written + 1, frame.written)),
    ):
        skipped = ~scatter if state == "CHECK" else 0
        t.claim(~at(state) | skipped | (read == wanted))
    t.claim(~at("CHECK", "PLACE", "WRITE", "LOAD") | (left != 0))
    t.claim(~at("CHECK", "PLACE", "WRITE") | (left <= length))
    t.claim(~at("CHECK", "PLACE", "WRITE") | Mux(scatter, ~length[0], opcode == Opcode.WRITE))
    t.claim(~at("CHECK") | Mux(scatter, ~left[0], frame.address[REGION_SHIFT:] == Region.REGISTERS))
    t.claim(~at("PLACE") | (scatter & ~left[0]))
    t.claim(~at("WRITE") | ~scatter | left[0])
    t.claim(~at("READ_WORD", "READ_SEND") | (left != 0))
    t.claim(~at("READ", "READ_WORD", "READ_SEND") | (opcode == Opcode.READ))
    t.claim(~at("RUN", "LOAD", "START", "RUNNING", "DRAIN", "RESULTS") | opcode.matches(Opcode.RUN, Opcode.LEARN))
    t.claim(~at("RUN") | dut.events | (left == CHIP.pixel_words))
    t.claim(at("RELEASE") == frame.ended)
    t.claim(~frame.ended | frame.begun)
    t.claim(
        ~at("IDLE", "HEADER", "ADDRESS", "DECIDE", "CHECK", "PLACE", "WRITE", "READ", "RUN", "ANSWER") | ~frame.begun
    )
    t.claim(~at("READ_WORD", "READ_SEND", "LOAD", "START", "RUNNING", "DRAIN", "RESULTS") | frame.begun)
    # What was written by now.
    rest = Mux(scatter, (left + 1) >> 1, left)
    whole = Mux(scatter, length >> 1, length)
    t.claim(~at("PLACE", "WRITE") | (frame.written + rest == whole))
    t.claim(at("PLACE", "WRITE", "ANSWER", "RELEASE") | (frame.written == 0))
    t.claim(~at("ANSWER", "RELEASE") | (frame.written == 0) | ((status == Status.OK) & (frame.written == whole)))
    writes = opcode.matches(Opcode.WRITE, Opcode.SCATTER)
    t.claim(~at("ANSWER", "RELEASE") | (status != Status.OK) | ~writes | (frame.written == whole))
    t.claim(~at("ANSWER") | (status != Status.OK) | writes)
    t.claim(writes | (frame.written == 0))


def answers(t: Bench, block: type[Executor] = Executor) -> None:
    """One answer for each frame, with its opcode and tag; a frame takes effect as a whole or not at all."""
    frame = Frame(t, CHIP, block)
    dut, opcode = frame.dut, frame.header.opcode
    first = frame.sent & ~frame.begun
    data = dut.answer.payload.data
    fine = data[:16] == Status.OK
    t.claim(~dut.answer.valid | (dut.available & ~frame.ended))
    t.claim(~first | (data[16:] == Cat(frame.header.tag, opcode | ANSWER)))
    t.claim(~(first & frame.error) | ((data[:16] == frame.length) & dut.answer.payload.last))
    t.claim(~first | dut.answer.payload.last | fine)
    t.claim(~frame.released | (frame.ended & (dut.release == Mux(frame.error, 1, frame.length + 2))))
    # Nothing is done for a frame whose CRC or length is wrong, and nothing that its opcode does not ask for.
    started = dut.pixel_write | dut.start | dut.results_start
    t.claim(~(frame.writing | started) | (dut.available & ~frame.error))
    t.claim(~frame.writing | frame.inside.ongoing("WRITE"))
    t.claim(~frame.writing | (opcode.matches(Opcode.WRITE, Opcode.SCATTER) & ~frame.begun))
    t.claim(~started | (opcode.matches(Opcode.RUN, Opcode.LEARN) & frame.begun))
    wanted = Mux(opcode == Opcode.WRITE, frame.length, Mux(opcode == Opcode.SCATTER, frame.length >> 1, 0))
    t.claim(~first | (frame.written == Mux(fine, wanted, 0)))
    claim_states(t, frame)
    t.reach(frame.released & frame.error)
    t.reach(frame.released & (frame.written == 2))


def ends(t: Bench, block: type[Executor] = Executor) -> None:
    """Whenever the executor does not wait for others, a number gets smaller that is 0 when it is idle."""
    frame = Frame(t, CHIP, block)
    dut, at = frame.dut, frame.inside.ongoing
    claim_states(t, frame)
    left = frame.inside["left"]
    order = [
        ("IDLE",), ("RELEASE",), ("ANSWER",), ("RESULTS",), ("DRAIN",), ("RUNNING",), ("START",), ("LOAD",), ("RUN",),
        ("READ_WORD", "READ_SEND"), ("READ",), ("PLACE", "WRITE"), ("CHECK",), ("DECIDE",), ("ADDRESS",), ("HEADER",),
    ]  # fmt: skip
    phase = Signal(range(len(order)))
    for number, states in enumerate(order):
        with t.m.If(at(*states)):
            t.m.d.comb += phase.eq(number)
    counted = at("READ_WORD", "READ_SEND", "PLACE", "WRITE", "CHECK", "LOAD")
    rank = Signal(1 + len(left) + len(phase))
    t.m.d.comb += rank.eq(Cat(at("READ_WORD"), Mux(counted, left, 0), phase))
    waits = (
        (dut.answer.valid & ~dut.answer.ready)
        | (at("RUNNING") & ~dut.done)
        | (at("DRAIN") & ~dut.raster_empty)
        | (at("RESULTS") & ~(dut.results.valid & dut.results.payload.last))
    )
    idle = at("IDLE")
    t.claim(~t.past(~(idle | waits)) | (rank < t.past(rank)))
    t.claim(~t.past(idle & dut.available) | ~idle)
    t.reach(frame.released)


def writes(t: Bench, block: type[Executor] = Executor) -> None:
    """Every written word is that of the frame, at the place that it says, which exists and may be written."""
    frame = Frame(t, CHIP, block)
    dut, opcode, length = frame.dut, frame.header.opcode, frame.length
    at, left, placed = frame.inside.ongoing, frame.inside["left"], frame.inside["place"]
    offset_bits = len(placed) - (32 - REGION_SHIFT)
    place = Cat(placed[:offset_bits], Const(0, REGION_SHIFT - offset_bits), placed[offset_bits:])
    claim_states(t, frame)
    scatter = opcode == Opcode.SCATTER
    strobes = Value.cast(dut.write)

    def fits(address: Value, count: Value | int, name: str) -> Signal:
        """Whether `count` words from an address on exist and may be written; of registers this one is looked at."""
        good = Signal(name=name)
        offset = address[:REGION_SHIFT]
        with t.m.Switch(address[REGION_SHIFT:]):
            for info in dut.regions.values():
                with t.m.Case(info.region):
                    t.m.d.comb += good.eq((offset + count <= info.depth) & int(info.writable))
        return good

    # The address of the word that is written: WRITE counts on from the frame's, SCATTER names it in the payload.
    target, told = Signal(32), Signal()
    t.m.d.comb += [
        target.eq(Mux(scatter, frame.payload, frame.address + frame.written)),
        told.eq(~scatter | (frame.number == 2 * frame.written)),
    ]
    to_register = target[REGION_SHIFT:] == Region.REGISTERS
    usable = frame.register_known & ~frame.register_readonly
    here = at("WRITE") & told
    t.claim(~here | fits(target, 1, "target_fits"))
    t.claim(~here | ~to_register | (target[:REGION_SHIFT] != frame.register) | usable)
    t.claim(~here | (strobes != 0))
    t.claim((strobes & (strobes - 1)) == 0)
    for info in dut.regions.values():
        t.claim(~(here & dut.write[info.region.name]) | (target[REGION_SHIFT:] == info.region))
    t.claim(~here | (dut.offset == target[:REGION_SHIFT]))
    number = Mux(scatter, 2 * frame.written + 1, frame.written)
    t.claim(~at("WRITE") | (frame.number != number) | (dut.data == frame.payload))

    # For the induction: what was checked before.
    done = Mux(at("CHECK"), length - left, length)
    pair_checked = scatter & ~frame.number[0] & (frame.number < done)
    pair_usable = (frame.payload[REGION_SHIFT:] != Region.REGISTERS) | (frame.payload[:REGION_SHIFT] != frame.register)
    writing = at("CHECK", "PLACE", "WRITE")
    t.claim(~writing | ~pair_checked | (fits(frame.payload, 1, "pair_fits") & (pair_usable | usable)))
    t.claim(~writing | scatter | fits(frame.address, length, "range_fits"))
    first = frame.address[:REGION_SHIFT]
    in_range = (frame.register >= first) & (frame.register < first + done)
    registers = ~scatter & (frame.address[REGION_SHIFT:] == Region.REGISTERS)
    t.claim(~writing | ~registers | ~in_range | usable)
    t.claim(~at("WRITE") | scatter | (place == frame.address + frame.written))
    t.claim(~at("WRITE") | ~scatter | ~told | (place == frame.payload))
    t.claim(~at("CHECK") | scatter | (registers & (place == frame.address + length - left)))
    t.reach(here & to_register)


def ranges(t: Bench, frame: Frame, address: Value, count: Value, *, writing: bool) -> Signal:
    """What docs/link.md answers for `count` words from `address` on, the access to single registers left out."""
    verdict = Signal(Status)
    t.m.d.comb += verdict.eq(Status.BAD_ADDRESS)
    with t.m.Switch(address[REGION_SHIFT:]):
        for info in frame.dut.regions.values():
            with t.m.Case(info.region):
                allowed = info.writable if writing else info.readable
                with t.m.If(address[:REGION_SHIFT] + count <= info.depth):
                    t.m.d.comb += verdict.eq(Status.OK if allowed else Status.DENIED)
    return verdict


def statuses(t: Bench, block: type[Executor] = Executor) -> None:
    """The status is the first thing wrong with the frame, in the order of docs/link.md."""
    m, frame = t.m, Frame(t, CHIP, block)
    dut, opcode, length = frame.dut, frame.header.opcode, frame.length
    expected, fixed = Signal(Status), Signal()
    m.d.comb += fixed.eq(1)
    with m.Switch(opcode):
        with m.Case(Opcode.READ):
            m.d.comb += fixed.eq(frame.number == 0)
            with m.If(length != 1):
                m.d.comb += [expected.eq(Status.BAD_LENGTH), fixed.eq(1)]
            with m.Else():
                m.d.comb += expected.eq(ranges(t, frame, frame.address, frame.payload, writing=False))
        with m.Case(Opcode.WRITE):
            m.d.comb += expected.eq(ranges(t, frame, frame.address, length, writing=True))
            # Single registers may be refused besides.
            m.d.comb += fixed.eq((frame.address[REGION_SHIFT:] != Region.REGISTERS) | (expected != Status.OK))
        with m.Case(Opcode.SCATTER):
            # Of an even number the addresses decide, which the proof of the writes is about.
            m.d.comb += [expected.eq(Mux(length[0], Status.BAD_LENGTH, Status.OK)), fixed.eq(length[0] | (length == 0))]
        with m.Case(Opcode.RUN):
            m.d.comb += expected.eq(Mux(dut.events | (length == CHIP.pixel_words), Status.OK, Status.BAD_LENGTH))
        with m.Case(Opcode.LEARN):
            m.d.comb += fixed.eq(frame.number == 0)
            with m.If(Mux(dut.events, length == 0, length != CHIP.pixel_words + 1)):
                m.d.comb += [expected.eq(Status.BAD_LENGTH), fixed.eq(1)]
            with m.Elif(frame.payload >= CHIP.n_out):
                m.d.comb += expected.eq(Status.BAD_LABEL)
        with m.Default():
            m.d.comb += expected.eq(Status.BAD_OPCODE)
    sent = frame.sent & ~frame.begun & ~frame.error & fixed
    t.claim(~sent | (dut.answer.payload.data[:16] == expected))
    t.reach(sent & (expected == Status.DENIED))

    # For the induction: a verdict stays what it was.
    claim_states(t, frame)
    at, status = frame.inside.ongoing, frame.inside["status"]
    decided = ~at("IDLE", "HEADER", "ADDRESS", "DECIDE") & ~frame.error
    working = ~at("ANSWER", "RELEASE")
    t.claim(~decided | ~fixed | (Mux(working, 0, status) == expected) | frame.begun)


def reads(t: Bench, block: type[Executor] = Executor) -> None:
    """The answer to READ is as many words as were asked for, those from the address on; answers are steady streams."""
    m, frame = t.m, Frame(t, CHIP, block)
    dut, left, placed = frame.dut, frame.inside["left"], frame.inside["place"]
    at = frame.inside.ongoing
    read = (frame.header.opcode == Opcode.READ) & frame.begun & ~frame.ended & ~frame.error
    number = frame.words_sent - 1
    asked = (frame.number == 0) & (frame.length == 1)
    same = t.past(dut.own & (dut.answer.valid & ~dut.answer.ready))
    t.assume(~same | (Value.cast(dut.read) == t.past(Value.cast(dut.read))))
    t.claim(steady(t, dut.answer))
    with m.If(read & dut.answer.valid):
        t.claim(dut.own & (dut.offset == (frame.address + number)[:REGION_SHIFT]))
        t.claim(~asked | (dut.answer.payload.last == (number + 1 == frame.payload)))
        with m.Switch(frame.address[REGION_SHIFT:]):
            for info in dut.regions.values():
                with m.Case(info.region):
                    t.claim(dut.answer.payload.data == dut.read[info.region.name])
            with m.Default():
                t.claim(0)
    t.reach(read & dut.answer.valid & (number == 1))

    # For the induction.
    claim_states(t, frame)
    reading = at("READ_WORD", "READ_SEND")
    offset_bits = len(placed) - (32 - REGION_SHIFT)
    region, offset = frame.address[REGION_SHIFT:], frame.address[:REGION_SHIFT]
    deepest = max(info.depth for info in dut.regions.values())
    t.claim(frame.begun | (frame.words_sent == 0))
    t.claim(~reading | (frame.words_sent != 0))
    t.claim(~reading | (placed[offset_bits:] == region))
    t.claim(~reading | (placed[:offset_bits] == offset + number))
    t.claim(~reading | (offset + number + left <= deepest))
    t.claim(~at("READ") | ((placed == Cat(offset[:offset_bits], region)) & (offset + left <= deepest)))
    t.claim(~(reading | at("READ")) | ~asked | (left + Mux(reading, number, 0) == frame.payload))
    exists = Signal()
    for info in dut.regions.values():
        with m.If(region == info.region):
            m.d.comb += exists.eq(1)
    t.claim(~(reading | at("READ")) | exists)


class Forgetful(Executor):
    """Writes for a frame whose CRC was wrong."""

    def elaborate(self, platform: object) -> Module:
        m = super().elaborate(platform)
        with m.If(self.available & self.record.error):
            m.d.comb += Value.cast(self.write).eq(1)
        return m


class Tagless(Executor):
    """Forgets the tag."""

    def elaborate(self, platform: object) -> Module:
        m = super().elaborate(platform)
        m.d.comb += self.answer.payload.data[16:24].eq(0)
        return m


class NextDoor(Executor):
    """Writes one word further than it was told."""

    def elaborate(self, platform: object) -> Module:
        m = super().elaborate(platform)
        with m.If(self.own):
            m.d.comb += self.offset.eq(1)
        return m


GROUP = Group(
    "Frames",
    f"`Executor` of a chip {CHIP.layers} with learning, the ring as in the proofs of `Receiver`: a frame is there "
    f"whole with "
    "the length that its header says, or as a record that says what is wrong with it. One frame at a time is looked "
    "at, which can be "
    "any: header, address and one payload word, the others are anything, and another thing whenever they are read. "
    "Registers, "
    "memories, sample and rasters answer anything, at any time.",
    (
        Proof(
            "executor-answers",
            "every frame has one answer, in order, with its opcode and tag; what is released is the frame; without a "
            "good CRC nothing is "
            "written or started; a frame is carried out as a whole or its status is not OK",
            answers,
            steps=1,
            reached=10,
            mutants={
                "a frame with a bad CRC writes": Mutant(partial(answers, block=Forgetful), 6),
                "answers lose their tag": Mutant(partial(answers, block=Tagless), 6),
            },
        ),
        Proof(
            "executor-ends",
            "it never hangs: in every cycle in which it does not wait for others a number gets smaller that is 0 when "
            "it is idle",
            ends,
            steps=1,
            reached=8,
        ),
        Proof(
            "executor-writes",
            "every word of WRITE and SCATTER is written once, to the place that the frame names, which exists, may be "
            "written and was "
            "checked before the first write",
            writes,
            steps=1,
            reached=10,
            mutants={"words are written to the wrong place": Mutant(partial(writes, block=NextDoor), 9)},
        ),
        Proof(
            "executor-statuses",
            "the status is that of the first thing wrong, in the order of docs/link.md (single registers and the "
            "pairs of SCATTER: the "
            "proof of the writes)",
            statuses,
            steps=1,
            reached=6,
        ),
        Proof(
            "executor-reads",
            "the answer to READ is as many words as were asked for, from the address on; what is offered stays until "
            "it is taken",
            reads,
            steps=1,
            reached=9,
        ),
    ),
)
