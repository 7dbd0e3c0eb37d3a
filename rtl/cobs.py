"""Packets as bytes other than 0, with a 0 behind each (Consistent Overhead Byte Stuffing, Cheshire and Baker 1999).

The encoding of a packet is a chain of codes, each the distance to the next one; they stand where the packet has its
zeros, before its first byte and behind its last. Packets here are short enough that a code never has bit 7 set.
"""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

MAX_BODY = 126
"""Longest packet in bytes: with a code before it and a 0 behind it must fit into half of the encoder's memory."""

BYTE = data.StructLayout({"data": 8, "last": 1})


class CobsDecoder(wiring.Component):
    """Bytes of packets out of encoded bytes, in the same cycle.

    `begun` is high within a packet, from the cycle after its first code to that of its 0. `end` is high in the cycle of
    the 0 that ends a packet, and `bad` with it if that came in the middle of the encoding, if a code was above 127, or
    if `broken`, the news of a byte that got lost, was high since the last 0. Zeros with nothing between them are no
    packets.
    """

    def __init__(self) -> None:
        super().__init__(
            {
                "encoded": In(stream.Signature(8, always_ready=True)),
                "broken": In(1),
                "body": Out(stream.Signature(8, always_ready=True)),
                "begun": Out(1),
                "end": Out(1),
                "bad": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        byte = self.encoded.payload
        distance = Signal(7, reset_less=True)  # to the next code
        spoilt = Signal()
        is_code = Signal()
        m.d.comb += [
            is_code.eq(~self.begun | (distance == 1)),
            self.body.payload.eq(Mux(is_code, 0, byte)),
            self.bad.eq(~is_code | spoilt),
        ]
        with m.If(self.encoded.valid):
            with m.If(byte == 0):
                m.d.comb += self.end.eq(self.begun | spoilt)
                m.d.sync += [self.begun.eq(0), spoilt.eq(0)]
            with m.Else():
                m.d.comb += self.body.valid.eq(self.begun)
                m.d.sync += [self.begun.eq(1), distance.eq(Mux(is_code, byte, distance - 1))]
                with m.If(is_code & byte[7]):
                    m.d.sync += spoilt.eq(1)
        with m.If(self.broken):
            m.d.sync += spoilt.eq(1)
        return m


class CobsEncoder(wiring.Component):
    """Encoded bytes, each packet's 0 included, of packets of 1 to 126 bytes.

    A code is known when the next zero of the packet is, so packets are put together in a memory of 2 x 128 bytes: one
    half is written while the other one is sent. The bytes of a packet, the last one with its mark, are all taken at
    once when `body.ready` is high for the first; `clear` forgets what was not yet a whole packet.
    """

    def __init__(self) -> None:
        super().__init__(
            {
                "body": In(stream.Signature(BYTE)),
                "clear": In(1),
                "encoded": Out(stream.Signature(8)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.memory = memory = Memory(shape=8, depth=256, init=[])
        read, write = memory.read_port(), memory.write_port()
        half = Signal()
        last, end = Signal(7), Signal(7)  # place of the last byte of the packet so far, and the one after it
        code_place = Signal(7)
        run, code = Signal(7), Signal(7)  # bytes since the last code, and what the code is if a zero comes
        patch, close = Signal(), Signal()  # the two cycles after the last byte
        waiting = Signal()  # a whole packet, to be sent when the one before it is
        take, is_zero = Signal(), Signal()
        byte = self.body.payload.data
        m.d.comb += [
            end.eq(last + 1),
            code.eq(run + 1),
            self.body.ready.eq(~(waiting | patch | close)),
            take.eq(self.body.valid & self.body.ready),
            is_zero.eq(patch | (byte == 0) & ~close),
            write.en.eq(take | patch | close),
            write.addr.eq(Cat(Mux(is_zero, code_place, end), half)),
            write.data.eq(Mux(is_zero, code, Mux(close, 0, byte))),
        ]
        m.d.sync += [patch.eq(take & self.body.payload.last), close.eq(patch)]
        with m.If(take):
            m.d.sync += [last.eq(end), run.eq(code)]
            with m.If(is_zero):
                m.d.sync += [code_place.eq(end), run.eq(0)]
        with m.If(close | self.clear):
            m.d.sync += [last.eq(0), run.eq(0), code_place.eq(0)]
        with m.If(self.clear):
            m.d.sync += [patch.eq(0), close.eq(0)]

        place, sent_half = Signal(7), Signal()
        m.d.comb += [read.addr.eq(Cat(place, sent_half)), self.encoded.payload.eq(read.data)]
        with m.FSM():
            with m.State("IDLE"):
                with m.If(waiting):
                    m.d.sync += waiting.eq(0)
                    m.next = "READ"
            with m.State("READ"):
                m.next = "SEND"
            with m.State("SEND"):
                m.d.comb += self.encoded.valid.eq(1)
                with m.If(self.encoded.ready):
                    m.d.sync += place.eq(place + 1)
                    m.next = "READ"
                    with m.If(read.data == 0):
                        m.d.sync += [place.eq(0), sent_half.eq(~sent_half)]
                        m.next = "IDLE"
        with m.If(close & ~self.clear):
            m.d.sync += [half.eq(~half), waiting.eq(1)]
        return m
