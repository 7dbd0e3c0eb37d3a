"""Frames in and out: CRC check with commit or roll-back, and CRC generation (docs/link.md)."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from rtl.crc import WORD_BYTES, Crc32
from rtl.registers import Status

WORD = data.StructLayout({"data": 32, "last": 1})
"""One transfer on the link."""

RECORD = data.StructLayout({"data": 32, "error": 1})
"""One word of the receive buffer; `error` marks a header whose low half is a status instead of a length."""

HEADER = data.StructLayout({"length": 16, "tag": 8, "opcode": 8})
"""First word of a frame; in answers the length is a status."""


class Receiver(wiring.Component):
    """Checks frames and keeps the good ones, header, address and payload, in a ring of `depth` words.

    Words of a frame are written ahead and committed when its CRC was right. Of a bad frame only one record stays: the
    header with `error` set and the status in place of the length, so that answers keep the order of the frames.
    `available` says that a committed frame starts at `start`; the reader gives `fetch` and has that word in `record`
    in the next cycle, and hands `release` words back when it has done with the frame.

    Words are accepted whenever the CRC takes them, `crc_bytes` of each in a cycle, unless the ring is full of frames
    that wait. A frame that alone would not fit is dropped and answered.
    """

    def __init__(self, depth: int, crc_bytes: int = WORD_BYTES) -> None:
        self.depth, self.crc_bytes = depth, crc_bytes
        super().__init__(
            {
                "rx": In(stream.Signature(WORD)),
                "available": Out(1),
                "start": Out(range(depth)),
                "fetch": In(range(depth)),
                "record": Out(RECORD),
                "release": In(range(depth + 1)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        depth = self.depth
        m.submodules.ring = ring = Memory(shape=RECORD, depth=depth, init=[])
        m.submodules.crc = crc = Crc32(self.crc_bytes)
        read, write = ring.read_port(), ring.write_port()

        # Pointers have one bit more than addresses, so that a full ring is not an empty one.
        pointer = range(2 * depth)
        written, committed, released = (Signal(pointer, name=name) for name in ("written", "committed", "released"))
        header = Signal(HEADER)
        dropping = Signal()
        modulus = 2 * depth - 1
        length = (written - committed) & modulus
        whole_ring = length == depth
        full = ((written - released) & modulus) == depth

        word = self.rx.payload
        room, take = Signal(), Signal()
        m.d.comb += [
            room.eq(~full | whole_ring | dropping),
            self.rx.ready.eq(room & (crc.ready | word.last)),
            take.eq(self.rx.valid & self.rx.ready),
            self.available.eq(committed != released),
            self.start.eq(released[:-1]),
            read.addr.eq(self.fetch),
            self.record.eq(read.data),
            crc.data.eq(word.data),
            crc.valid.eq(self.rx.valid & room & ~word.last),
            crc.clear.eq(take & word.last),
            write.addr.eq(written[:-1]),
            write.data.data.eq(word.data),
        ]
        m.d.sync += released.eq(released + self.release)

        shown = Signal(HEADER)
        m.d.comb += shown.eq(Mux(length == 0, word.data, header))
        status = Signal(Status)
        with m.If(dropping | (length < 2) | (header.length != length - 2)):
            m.d.comb += status.eq(Status.BAD_LENGTH)
        with m.Elif(crc.crc != word.data):
            m.d.comb += status.eq(Status.BAD_CRC)

        with m.If(take):
            with m.If(~word.last):
                with m.If(length == 0):
                    m.d.sync += header.eq(word.data)
                with m.If(whole_ring):
                    m.d.sync += dropping.eq(1)
                with m.Elif(~dropping):
                    m.d.comb += write.en.eq(1)
                    m.d.sync += written.eq(written + 1)
            with m.Else():
                m.d.sync += dropping.eq(0)
                with m.If(status == Status.OK):
                    m.d.sync += committed.eq(written)
                with m.Else():
                    m.d.comb += [
                        write.addr.eq(committed[:-1]),
                        write.data.data.eq(Cat(status, Signal(16 - len(status), name="zero"), shown.tag, shown.opcode)),
                        write.data.error.eq(1),
                        write.en.eq(1),
                    ]
                    m.d.sync += [written.eq(committed + 1), committed.eq(committed + 1)]
        return m


class Stage(wiring.Component):
    """A register in a stream: a word a cycle, one cycle late. `busy` while it holds a word."""

    def __init__(self) -> None:
        super().__init__({"words": In(stream.Signature(WORD)), "tx": Out(stream.Signature(WORD)), "busy": Out(1)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        held, payload = Signal(), Signal(WORD, reset_less=True)
        m.d.comb += [
            self.tx.valid.eq(held),
            self.tx.payload.eq(payload),
            self.busy.eq(held),
            self.words.ready.eq(~held | self.tx.ready),
        ]
        with m.If(self.words.ready):
            m.d.sync += [held.eq(self.words.valid), payload.eq(self.words.payload)]
        return m


class Sender(wiring.Component):
    """Passes the words of an answer on and adds the CRC after the one marked `last`.

    The CRC takes `crc_bytes` of a word in a cycle.
    """

    def __init__(self, crc_bytes: int = WORD_BYTES) -> None:
        self.crc_bytes = crc_bytes
        super().__init__(
            {
                "words": In(stream.Signature(WORD)),
                "tx": Out(stream.Signature(WORD)),
                "busy": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.crc = crc = Crc32(self.crc_bytes)
        closing = Signal()
        m.d.comb += [self.busy.eq(closing), crc.data.eq(self.words.payload.data)]
        with m.If(closing):
            m.d.comb += [
                self.tx.valid.eq(1),
                self.tx.payload.data.eq(crc.crc),
                self.tx.payload.last.eq(1),
                crc.clear.eq(self.tx.ready),
            ]
            with m.If(self.tx.ready):
                m.d.sync += closing.eq(0)
        with m.Else():
            m.d.comb += [
                self.tx.valid.eq(self.words.valid & crc.ready),
                self.tx.payload.data.eq(self.words.payload.data),
                self.words.ready.eq(self.tx.ready & crc.ready),
                crc.valid.eq(self.words.valid & (self.tx.ready | ~crc.ready)),
            ]
            with m.If(self.words.valid & self.words.ready & self.words.payload.last):
                m.d.sync += closing.eq(1)
        return m
