"""Carries out frames: reads and writes memories and registers, runs samples, answers (docs/link.md)."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from rtl.config import ChipConfig
from rtl.link import HEADER, RECORD, WORD
from rtl.plane import BitPlane
from rtl.registers import ANSWER, REGION_SHIFT, Opcode, Region, Status, regions


class Executor(wiring.Component):
    """Takes frames out of the receive buffer, one after the other, and answers each.

    All addresses of a frame are checked before anything is written. `offset` and `data` go to every memory, `write`
    and `read` have one member for each region; a word at `offset` is in `read` in the next cycle. While `own` is high
    the host has the memories' read ports. `probe` asks the register file about one offset.

    For a sample, `start` is pulsed when the intensities are loaded; events are shown in `event` while `event_left`
    and taken with `event_take`. The answer is made of `raster` until `done` (with `cut` if the sample ends early,
    and events may be left), then of `results`. `cycles` counts from
    the first loaded word to `done`, without those in which `held` says that the link was waited for. `learn` tells
    that the sample is to be learned; its class is `label`.
    """

    def __init__(self, cfg: ChipConfig) -> None:
        self.cfg = cfg
        self.regions = regions(cfg)
        members = {region.name: 1 for region in self.regions}
        super().__init__(
            {
                "available": In(1),
                "frame": In(range(cfg.link_depth)),
                "fetch": Out(range(cfg.link_depth)),
                "record": In(RECORD),
                "release": Out(range(cfg.link_depth + 1)),
                "answer": Out(stream.Signature(WORD)),
                "busy": Out(1),
                "own": Out(1),
                "offset": Out(REGION_SHIFT),
                "data": Out(32),
                "write": Out(data.StructLayout(members)),
                "read": In(data.StructLayout(dict.fromkeys(members, 32))),
                "probe": Out(8),
                "known": In(1),
                "readonly": In(1),
                "events": In(1),
                "pixel_write": Out(1),
                "pixel_index": Out(range(max(cfg.pixel_words, 2))),
                "start": Out(1),
                "seed": Out(32),
                "done": In(1),
                "cut": In(1),
                "held": In(1),
                "event": Out(32),
                "event_left": Out(1),
                "event_take": In(1),
                "bad_events": In(1),
                "input_spike": In(1),
                "raster": In(stream.Signature(32)),
                "raster_empty": In(1),
                "cycles": Out(32),
                "input_spikes": Out(32),
                "results_start": Out(1),
                "results": In(stream.Signature(WORD)),
            }
            | ({"learn": Out(1), "label": Out(range(max(cfg.n_out, 2)))} if cfg.learning else {})
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        cfg = self.cfg

        header = Signal(HEADER)
        address = Signal(32)
        status = Signal(Status)
        cursor = Signal.like(self.fetch)
        payload = Signal.like(self.fetch)
        size = Signal.like(self.release)
        deepest = max(info.depth for info in self.regions.values())
        left = Signal(range(max(1 << 16, deepest + 1)))
        word = self.record.data
        opcode, length = header.opcode, header.length

        # The buffer's word at `fetch` is in `word` one cycle later; without a new request the same one stays.
        m.d.comb += [self.fetch.eq(cursor), payload.eq(self.frame + 2)]
        m.d.sync += cursor.eq(self.fetch)
        following = (cursor + 1)[: len(cursor)]

        # ---- are these addresses there, and may they be used? -----------------------------------------------------
        count, checked = Signal(32), Signal(32)
        writing = opcode != Opcode.READ

        def look_up(target: Value, name: str) -> tuple[Signal, Signal, Signal]:
            """Whether there is a region of this address, whether it may be used so, and its depth."""
            exists, allowed = Signal(name=f"{name}_exists"), Signal(name=f"{name}_allowed")
            depth = Signal(range(deepest + 1), name=f"{name}_depth")
            with m.Switch(target[REGION_SHIFT:]):
                for info in self.regions.values():
                    with m.Case(info.region):
                        m.d.comb += [
                            exists.eq(1),
                            allowed.eq(Mux(writing, int(info.writable), int(info.readable))),
                            depth.eq(info.depth),
                        ]
            return exists, allowed, depth

        # `count` words from the frame's address on. Past a region's end there is less than nothing left.
        verdict = Signal(Status)
        exists, allowed, depth = look_up(address, "range")
        with m.If(~exists | (count > depth - address[:REGION_SHIFT])):
            m.d.comb += verdict.eq(Status.BAD_ADDRESS)
        with m.Elif(~allowed):
            m.d.comb += verdict.eq(Status.DENIED)

        # A single word, in a cycle of its own.
        verdict_one = Signal(Status)
        exists, allowed, depth = look_up(checked, "single")
        register = checked[REGION_SHIFT:] == Region.REGISTERS
        m.d.comb += self.probe.eq(checked)
        with m.If(~exists | (checked[:REGION_SHIFT] >= depth) | (register & ~self.known)):
            m.d.comb += verdict_one.eq(Status.BAD_ADDRESS)
        with m.Elif(~allowed | (register & self.readonly)):
            m.d.comb += verdict_one.eq(Status.DENIED)

        # ---- memories -----------------------------------------------------------------------------------------------
        store = Signal()
        # Only offsets that exist ever count.
        place = Signal(data.StructLayout({"offset": len(depth), "region": 32 - REGION_SHIFT}))
        whole_place = Cat(place.offset, Const(0, REGION_SHIFT - len(depth)), place.region)

        def put(address: Value) -> list[Any]:
            return [place.offset.eq(address), place.region.eq(address[REGION_SHIFT:])]

        m.d.comb += [self.offset.eq(place.offset), self.data.eq(word)]
        shown = Signal(32)
        with m.Switch(place.region):
            for info in self.regions.values():
                with m.Case(info.region):
                    m.d.comb += [self.write[info.region.name].eq(store), shown.eq(self.read[info.region.name])]

        def send(value: Value, *, last: Value | int = 0) -> Value:
            """Offer one word of the answer; the result is true in the cycle that takes it."""
            m.d.comb += [
                self.answer.valid.eq(1),
                self.answer.payload.data.eq(value),
                self.answer.payload.last.eq(last),
            ]
            return self.answer.ready

        if cfg.binary_weights:
            m.submodules.plane = plane = BitPlane(cfg)
            m.d.comb += [plane.row.eq(address), plane.word.eq(word), plane.left.eq(left)]

        answer_header = Cat(status, Signal(16 - len(status), name="zero"), header.tag, opcode | ANSWER)

        # The next event is in a register and the one after it read already: whether it is taken is known late.
        event = Signal(32)
        bad_events = Signal()
        spikes = Signal(31)
        m.d.comb += [
            self.seed.eq(address),
            self.event.eq(event),
            self.event_left.eq(left != 0),
            self.pixel_index.eq(place.offset),
            self.input_spikes.eq(Cat(spikes, bad_events)),
        ]

        if cfg.learning:
            m.d.comb += self.learn.eq(opcode == Opcode.LEARN)

        with m.FSM() as fsm:
            with m.State("IDLE"):
                m.d.comb += self.fetch.eq(self.frame)
                with m.If(self.available):
                    m.next = "HEADER"

            with m.State("HEADER"):
                m.d.comb += self.fetch.eq(self.frame + 1)
                m.d.sync += [header.eq(word), status.eq(Status.OK), size.eq(word[:16] + 2)]
                m.next = "ADDRESS"
                with m.If(self.record.error):
                    m.d.sync += [status.eq(word[: len(status)]), size.eq(1)]
                    m.next = "ANSWER"

            with m.State("ADDRESS"):
                m.d.comb += self.fetch.eq(payload)
                m.d.sync += [address.eq(word), left.eq(length)]
                m.next = "DECIDE"

            with m.State("DECIDE"):
                m.d.comb += count.eq(length)
                m.d.sync += put(address)
                m.next = "ANSWER"
                with m.Switch(opcode):
                    with m.Case(Opcode.READ):
                        m.d.comb += count.eq(word)
                        m.d.sync += left.eq(word)
                        with m.If(length != 1):
                            m.d.sync += status.eq(Status.BAD_LENGTH)
                        with m.Elif(verdict != Status.OK):
                            m.d.sync += status.eq(verdict)
                        with m.Else():
                            m.next = "READ"
                    with m.Case(Opcode.WRITE):
                        with m.If(verdict != Status.OK):
                            m.d.sync += status.eq(verdict)
                        with m.Elif(length != 0):
                            m.next = "WRITE"
                            with m.If(address[REGION_SHIFT:] == Region.REGISTERS):
                                m.next = "CHECK"
                    with m.Case(Opcode.SCATTER):
                        with m.If(length[0]):
                            m.d.sync += status.eq(Status.BAD_LENGTH)
                        with m.Elif(length != 0):
                            m.next = "CHECK"
                    if cfg.binary_weights:
                        with m.Case(Opcode.PLANE):
                            m.d.comb += plane.start.eq(1)
                            m.next = "PLANE"
                    with m.Case(Opcode.RUN):
                        m.d.sync += [place.offset.eq(0), spikes.eq(0), self.cycles.eq(0)]
                        with m.If(~self.events & (length != cfg.pixel_words)):
                            m.d.sync += status.eq(Status.BAD_LENGTH)
                        with m.Else():
                            m.next = "RUN"
                    if cfg.learning:
                        with m.Case(Opcode.LEARN):
                            m.d.comb += self.fetch.eq(following)
                            m.d.sync += [place.offset.eq(0), spikes.eq(0), self.cycles.eq(0)]
                            m.d.sync += [left.eq(length - 1), self.label.eq(word)]
                            with m.If((length == 0) | (~self.events & (length != cfg.pixel_words + 1))):
                                m.d.sync += status.eq(Status.BAD_LENGTH)
                            with m.Elif(word >= cfg.n_out):
                                m.d.sync += status.eq(Status.BAD_LABEL)
                            with m.Else():
                                m.next = "RUN"
                    with m.Default():
                        m.d.sync += status.eq(Status.BAD_OPCODE)

            # Every address of the frame, one a cycle; for SCATTER they are every second word.
            with m.State("CHECK"):
                scatter = opcode == Opcode.SCATTER
                m.d.comb += [
                    checked.eq(Mux(scatter, word, whole_place)),
                    self.fetch.eq(cursor + 2),
                ]
                m.d.sync += [place.offset.eq(place.offset + 1), left.eq(left - Mux(scatter, 2, 1))]
                # What is fetched does not wait for the verdict: that would be the longest path of the chip.
                checked_all = left == Mux(scatter, 2, 1)
                with m.If(checked_all):
                    m.d.comb += self.fetch.eq(payload)
                with m.If(verdict_one != Status.OK):
                    m.d.sync += status.eq(verdict_one)
                    m.next = "ANSWER"
                with m.Elif(checked_all):
                    m.d.sync += [left.eq(length), *put(address)]
                    m.next = "WRITE"
                    with m.If(scatter):
                        m.next = "PLACE"

            with m.State("PLACE"):
                m.d.comb += self.fetch.eq(following)
                m.d.sync += [*put(word), left.eq(left - 1)]
                m.next = "WRITE"

            with m.State("WRITE"):
                m.d.comb += [self.own.eq(1), store.eq(1), self.fetch.eq(following)]
                m.d.sync += [place.offset.eq(place.offset + 1), left.eq(left - 1)]
                with m.If(left == 1):
                    m.next = "ANSWER"
                with m.Elif(opcode == Opcode.SCATTER):
                    m.next = "PLACE"

            if cfg.binary_weights:
                with m.State("PLANE"):
                    m.next = "ROWS"
                    with m.If(~plane.fits):
                        m.d.sync += status.eq(Status.BAD_ADDRESS)
                        m.next = "ANSWER"
                with m.State("ROWS"):
                    m.d.comb += [
                        plane.run.eq(1),
                        self.own.eq(1),
                        self.offset.eq(plane.offset),
                        self.data.eq(plane.data),
                        self.write[Region.WEIGHTS.name].eq(plane.write),
                    ]
                    with m.If(plane.take):
                        m.d.comb += self.fetch.eq(following)
                        m.d.sync += left.eq(left - 1)
                    with m.If(plane.done):
                        m.next = "ANSWER"

            with m.State("READ"), m.If(send(answer_header, last=left == 0)):
                m.next = "READ_WORD"
                with m.If(left == 0):
                    m.next = "RELEASE"
            with m.State("READ_WORD"):
                m.d.comb += self.own.eq(1)
                m.next = "READ_SEND"
            with m.State("READ_SEND"):
                m.d.comb += self.own.eq(1)
                with m.If(send(shown, last=left == 1)):
                    m.d.sync += [place.offset.eq(place.offset + 1), left.eq(left - 1)]
                    m.next = "READ_WORD"
                    with m.If(left == 1):
                        m.next = "RELEASE"

            with m.State("RUN"), m.If(send(answer_header)):
                m.next = "LOAD"
                with m.If(self.events):
                    m.next = "START"
            with m.State("LOAD"):
                m.d.comb += [self.pixel_write.eq(1), self.fetch.eq(following)]
                m.d.sync += [place.offset.eq(place.offset + 1), left.eq(left - 1), self.cycles.eq(self.cycles + 1)]
                with m.If(left == 1):
                    m.next = "START"
            with m.State("START"):
                m.d.comb += [self.start.eq(1), self.fetch.eq(following)]
                m.d.sync += [self.cycles.eq(self.cycles + 1), event.eq(word)]
                m.next = "RUNNING"
            with m.State("RUNNING"):
                with m.If(self.event_take):
                    m.d.comb += self.fetch.eq(following)
                    m.d.sync += [left.eq(left - 1), event.eq(word)]
                m.d.sync += [
                    self.cycles.eq(self.cycles + ~self.held),
                    spikes.eq(spikes + self.input_spike),
                ]
                with m.If(self.done):
                    m.d.sync += bad_events.eq(self.bad_events | ((left != 0) & ~self.cut))
                    m.next = "DRAIN"
            with m.State("DRAIN"), m.If(self.raster_empty):
                m.d.comb += self.results_start.eq(1)
                m.next = "RESULTS"
            with m.State("RESULTS"):
                m.d.comb += [
                    self.answer.valid.eq(self.results.valid),
                    self.answer.payload.eq(self.results.payload),
                    self.results.ready.eq(self.answer.ready),
                ]
                with m.If(self.results.valid & self.results.payload.last & self.answer.ready):
                    m.next = "RELEASE"

            with m.State("ANSWER"), m.If(send(answer_header, last=1)):
                m.next = "RELEASE"
            with m.State("RELEASE"):
                m.d.comb += self.release.eq(size)
                m.next = "IDLE"

        with m.If(fsm.ongoing("RUNNING") | fsm.ongoing("DRAIN")):
            m.d.comb += [
                self.answer.valid.eq(self.raster.valid),
                self.answer.payload.data.eq(self.raster.payload),
                self.raster.ready.eq(self.answer.ready),
            ]
        m.d.comb += self.busy.eq(self.available | ~fsm.ongoing("IDLE"))
        return m
