"""The chip's end of the serial link (docs/serial.md): two streams of words over lines that lose and damage bytes.

Everything is a byte wide, and a packet is the unit of all bookkeeping. The rings have slots of 64 bytes, 16 words, one
for each packet. The last slot holds no packet but the lengths of those in the others. So a memory of 512 bytes keeps
seven packets, and a packet under way needs no more than a place in its slot.
"""

from __future__ import annotations

import zlib

from amaranth.hdl import Cat, Const, Module, Mux, ResetInserter, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out, connect, flipped
from amaranth.utils import exact_log2

from rtl.cobs import BYTE, CobsDecoder, CobsEncoder
from rtl.link import WORD
from rtl.packets import HEADER_BYTES, LONGEST_BODY, PACKET_WORDS, SERIAL_MAGIC, SERIAL_VERSION
from rtl.uart import UartReceiver, UartTransmitter, bit_cycles

RING_BYTES = (256, 512, 1024, 2048)


FLAGS = data.StructLayout({"data": 1, "last": 1, "resend": 1, "hello": 1})
"""The flags that a host gives."""

LENGTH = data.StructLayout({"last_word": 4, "last": 1})
"""What is kept of a packet besides its words: index of the last one, and whether it is marked."""

_POLYNOMIAL = 0xEDB88320
_RESIDUE = zlib.crc32(bytes(4))  # CRC of any bytes with their CRC behind them: here of none, whose CRC is 0


def window(ring_bytes: int) -> int:
    """Packets of 16 words that a ring keeps."""
    return ring_bytes // (4 * PACKET_WORDS) - 1


def _slot_bits(ring_bytes: int) -> int:
    if ring_bytes not in RING_BYTES:
        raise ValueError(f"ring_bytes = {ring_bytes}: must be one of {', '.join(map(str, RING_BYTES))}")
    return exact_log2(ring_bytes) - 6


def _following(slot: Value, slots: int) -> Value:
    return Mux(slot == slots - 1, 0, slot + 1)


def _before(slot: Value, slots: int) -> Value:
    return Mux(slot == 0, slots - 1, slot - 1)


def _payload_place(slot: Value, offset: Value) -> Value:
    return Cat(offset[:6], slot)


def _length_place(slot: Value) -> Value:
    return Cat(slot, Const(0, 6 - len(slot)), Const(-1, len(slot)))


def _hello_place(index: Value, slot_bits: int) -> Value:
    """The host's number is kept behind the lengths, in places 0 to 3; the four after it take the CRC of its packet."""
    return Cat(index[:3], Const(0b100, 3), Const(-1, slot_bits))


class ByteCrc(wiring.Component):
    """CRC-32 as of ``zlib.crc32``, a bit in a cycle.

    `crc` covers the byte given with `start` when `done` is high for a cycle, nine cycles later, and `busy` is low
    again; `byte` is then that byte and `inverse` its complement. With `shift_out` instead of a byte, `byte` becomes the
    lowest one of `crc`, and the next one takes its place.
    """

    def __init__(self) -> None:
        super().__init__(
            {
                "clear": In(1),
                "start": In(1),
                "data": In(8),
                "shift_out": In(1),
                "busy": Out(1),
                "done": Out(1),
                "byte": Out(8),
                "inverse": Out(8),
                "crc": Out(32),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        inverse = Signal(8, reset_less=True)
        count = Signal(3)
        feedback = Signal()
        m.d.comb += [
            self.inverse.eq(inverse),
            self.byte.eq(~inverse),
            feedback.eq((self.crc[0] ^ inverse[0]) & ~self.shift_out),
        ]
        m.d.sync += self.done.eq(self.busy & (count == 7))
        with m.If(self.busy):
            m.d.sync += [
                count.eq(count + 1),
                self.busy.eq(count != 7),
                inverse.eq(Cat(inverse[1:], Mux(self.shift_out, ~self.crc[0], inverse[0]))),
                self.crc.eq(Cat(self.crc[1:], 1) ^ (feedback.replicate(32) & _POLYNOMIAL)),
            ]
        with m.Elif(self.start):
            m.d.sync += self.busy.eq(1)
            with m.If(~self.shift_out):
                m.d.sync += inverse.eq(~self.data)
        with m.If(self.clear):
            m.d.sync += [self.busy.eq(0), self.done.eq(0), count.eq(0), self.crc.eq(0)]
        return m


class _Choice(wiring.Component):
    """One of four bytes, of inputs that were the same in the cycle before.

    With a register in the middle a bit takes two tables of four inputs, without it three.
    """

    def __init__(self) -> None:
        super().__init__({"select": In(2), "bytes": In(32), "chosen": Out(8)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        low = self.select[0].replicate(8)
        first, second, third, fourth = (self.bytes.word_select(index, 8) for index in range(4))
        half = Signal(8, reset_less=True)
        m.d.sync += half.eq(Mux(self.select[1], low, Mux(self.select[0], second, first)))
        m.d.comb += self.chosen.eq(Mux(self.select[1], half & fourth | ~half & third, half))
        return m


class PacketReceiver(wiring.Component):
    """Bytes from the host, checked packets out.

    The bytes of a packet appear in `byte` with `valid`, at `offset` (header -4 to -1, payload from 0 on, modulo 128);
    what they were is known when all are there: `good` or `damaged` is high for a cycle after its 0, and `flags` and
    `length` are those of the packet. A byte is taken in every tenth cycle, at most.
    """

    def __init__(self) -> None:
        super().__init__(
            {
                "bytes": In(stream.Signature(8)),
                "broken": In(1),
                "valid": Out(1),
                "byte": Out(8),
                "inverse": Out(8),
                "offset": Out(7),
                "flags": Out(FLAGS),
                "length": Out(LENGTH),
                "good": Out(1),
                "damaged": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.decoder = decoder = CobsDecoder()
        m.submodules.crc = crc = ByteCrc()
        too_long = Signal(reset_less=True)
        offset, flags = self.offset, self.flags
        m.d.comb += [
            self.bytes.ready.eq(~(crc.busy | crc.done)),
            decoder.encoded.valid.eq(self.bytes.valid & self.bytes.ready),
            decoder.encoded.payload.eq(self.bytes.payload),
            decoder.broken.eq(self.broken),
            crc.data.eq(decoder.body.payload),
            crc.start.eq(decoder.body.valid),
            crc.clear.eq(~decoder.begun),
            self.valid.eq(crc.done),
            self.byte.eq(crc.byte),
            self.inverse.eq(crc.inverse),
        ]

        with m.If(crc.done):
            m.d.sync += offset.eq(offset + 1)
            with m.If(offset == LONGEST_BODY - HEADER_BYTES):
                m.d.sync += too_long.eq(1)
            with m.If(offset == -HEADER_BYTES % 128):
                m.d.sync += flags.eq(crc.byte)
        with m.If(~decoder.begun):
            m.d.sync += [offset.eq(-HEADER_BYTES), too_long.eq(0)]

        # The offset is now that of the body's end, four bytes of CRC behind the payload.
        quads = offset[2:]
        whole, fits, intact = Signal(), Signal(), Signal()
        m.d.comb += [
            self.length.last_word.eq(quads - 2),
            self.length.last.eq(flags.last),
            whole.eq((offset[:2] == 0) & (quads != 0) & (quads != -1 % 32) & ~too_long),
            fits.eq(Mux(flags.hello, quads == 2, ~flags.data | (quads != 1))),
            intact.eq((crc.crc == _RESIDUE) & ~decoder.bad),
        ]
        m.d.sync += [
            self.good.eq(decoder.end & whole & fits & intact),
            self.damaged.eq(decoder.end & ~(whole & fits & intact)),
        ]
        return m


class Inbox(wiring.Component):
    """Words from the host: takes the packets that are in order, and hands on their words.

    The bytes come as from a `PacketReceiver`; `accept` keeps the packet if it is the one `expected` and there was room
    from its first byte on, `gap` then says that an earlier one is missing instead. `drained` counts the packets whose
    words have been taken, `moved` tells that it does. `hello` writes payload where no packet is, and `number` reads its
    byte `number_index` a cycle later, as long as `hold` keeps words back. During `wait` no packet's words are begun, so
    that a `drained` that is read at the end of it does not count packets that an `expected` read before did not.
    """

    def __init__(self, ring_bytes: int) -> None:
        self.ring_bytes = ring_bytes
        self.slot_bits = _slot_bits(ring_bytes)
        super().__init__(
            {
                "valid": In(1),
                "byte": In(8),
                "inverse": In(8),
                "offset": In(7),
                "hello": In(1),
                "accept": In(1),
                "length": In(LENGTH),
                "gap": Out(1),
                "expected": Out(8),
                "drained": Out(8),
                "moved": Out(1),
                "wait": In(1),
                "hold": In(1),
                "number_index": In(3),
                "number": Out(8),
                "words": Out(stream.Signature(WORD)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.ring = ring = Memory(shape=8, depth=self.ring_bytes, init=[])
        read, write = ring.read_port(), ring.write_port()
        packets = window(self.ring_bytes)
        first, end = Signal(range(packets)), Signal(range(packets))  # slots of the packets that are kept
        full = Signal()

        # ---- in ---------------------------------------------------------------------------------------------------
        not_ahead, in_order, kept = Signal(8), Signal(), Signal()
        m.d.comb += [
            not_ahead.eq(self.expected + self.inverse),  # of byte - expected, all bits inverted
            kept.eq(self.accept & in_order),
            write.data.eq(self.byte),
            write.addr.eq(_payload_place(end, self.offset)),
        ]
        with m.If(self.valid & (self.offset == -3 % 128)):
            m.d.sync += [in_order.eq(not_ahead.all()), self.gap.eq(not_ahead[7] & ~not_ahead.all())]
        with m.If(self.valid & ~self.offset[6]):
            m.d.comb += write.en.eq(self.hello | ~full)
            with m.If(full):
                m.d.sync += in_order.eq(0)
        with m.If(self.hello):
            m.d.comb += write.addr.eq(_hello_place(self.offset, self.slot_bits))
        with m.If(kept):
            m.d.comb += [write.en.eq(1), write.addr.eq(_length_place(end)), write.data[:5].eq(self.length)]
            m.d.sync += [end.eq(_following(end, packets)), self.expected.eq(self.expected + 1)]

        # ---- out --------------------------------------------------------------------------------------------------
        length = Signal(LENGTH, reset_less=True)
        place = Signal(6)
        word = Signal(32, reset_less=True)
        m.d.comb += [
            read.addr.eq(_payload_place(first, place)),
            self.number.eq(read.data),
            self.words.payload.data.eq(word),
            self.words.payload.last.eq(length.last & (place[2:] == length.last_word)),
        ]
        with m.FSM():
            with m.State("IDLE"):
                m.d.comb += read.addr.eq(_length_place(first))
                with m.If(self.hold):
                    m.d.comb += read.addr.eq(_hello_place(self.number_index, self.slot_bits))
                with m.Elif(((first != end) | full) & ~self.wait):
                    m.next = "READ"
            with m.State("READ"):
                with m.If(place == 0):
                    m.d.sync += length.eq(read.data)
                m.next = "TAKE"
            with m.State("TAKE"):
                m.d.sync += [word.eq(Cat(word[8:], read.data)), place.eq(place + 1)]
                m.next = "READ"
                with m.If(place[:2] == 3):
                    m.d.sync += place.eq(place)
                    m.next = "GIVE"
            with m.State("GIVE"):
                m.d.comb += self.words.valid.eq(1)
                with m.If(self.words.ready):
                    m.d.sync += place.eq(place + 1)
                    m.next = "READ"
                    with m.If(place[2:] == length.last_word):
                        m.d.comb += self.moved.eq(1)
                        m.d.sync += [
                            place.eq(0),
                            first.eq(_following(first, packets)),
                            self.drained.eq(self.drained + 1),
                        ]
                        m.next = "IDLE"

        with m.If(self.moved):
            m.d.sync += full.eq(0)
        with m.Elif(kept & (_following(end, packets) == first)):
            m.d.sync += full.eq(1)
        return m


class Outbox(wiring.Component):
    """Words for the host, kept packet by packet until the host has acknowledged them.

    `next_valid` shows the inverted `next` of a packet from the host. When `ack` becomes high after that all packets
    before `next` are acknowledged, as long as it stays high; it is low with `next_valid`. `rewind` begins again with
    the first packet that is not acknowledged. The packet to be sent next has the number `sequence`. If it is
    `available` and all is `settled`, `byte` is its length in the next cycle, and byte `place` of its payload in the
    cycle after `fetch`. As long as `hold` is high it stays that packet, until `sent` says that the next one is.
    """

    def __init__(self, ring_bytes: int) -> None:
        self.ring_bytes = ring_bytes
        self.slot_bits = _slot_bits(ring_bytes)
        super().__init__(
            {
                "words": In(stream.Signature(WORD)),
                "inverse": In(8),
                "next_valid": In(1),
                "ack": In(1),
                "rewind": In(1),
                "hold": In(1),
                "settled": Out(1),
                "available": Out(1),
                "sequence": Out(8),
                "sent": In(1),
                "fetch": In(1),
                "place": In(6),
                "byte": Out(8),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.ring = ring = Memory(shape=8, depth=self.ring_bytes, init=[])
        read, write = ring.read_port(), ring.write_port()
        packets = window(self.ring_bytes)
        # Slots of the first packet that is kept, of the one to be sent next, and of the one that is being filled. That
        # one is never the first, or else a full ring could not be told from an empty one.
        first, current, end = (Signal(range(packets), name=name) for name in ("first", "current", "end"))

        # ---- in ---------------------------------------------------------------------------------------------------
        place, last = Signal(6), Signal(reset_less=True)
        choice = _Choice()
        m.submodules.choice = choice
        chosen = Signal()
        m.d.comb += [
            choice.select.eq(place[:2]),
            choice.bytes.eq(self.words.payload.data),
            write.addr.eq(_payload_place(end, place)),
            write.data.eq(choice.chosen),
        ]
        m.d.sync += chosen.eq(0)
        closing = Cat(place[2:], last)
        with m.FSM():
            with m.State("FILL"):
                m.d.sync += chosen.eq(self.words.valid & ~chosen)
                with m.If(chosen):
                    m.d.comb += write.en.eq(1)
                    m.d.sync += place.eq(place + 1)
                    with m.If(place[:2] == 3):
                        m.d.comb += self.words.ready.eq(1)
                        m.d.sync += last.eq(self.words.payload.last)
                        with m.If(self.words.payload.last | (place[2:] == PACKET_WORDS - 1)):
                            m.d.sync += place.eq(place)
                            m.next = "CLOSE"
            with m.State("CLOSE"):
                m.d.comb += [
                    write.en.eq(1),
                    write.addr.eq(_length_place(end)),
                    write.data[: len(closing)].eq(closing),
                ]
                with m.If(_following(end, packets) != first):
                    m.d.sync += [end.eq(_following(end, packets)), place.eq(0)]
                    m.next = "FILL"

        # ---- acknowledged, and sent again ---------------------------------------------------------------------------
        first_sequence = Signal(8)
        not_ahead = Signal(8)
        acknowledged = Signal(range(packets))  # number of packets from the first one on
        behind, step, rewinding, back = Signal(), Signal(), Signal(), Signal()
        m.d.comb += [
            not_ahead.eq(first_sequence + self.inverse),  # of next - first_sequence, all bits inverted
            behind.eq(self.ack & (acknowledged != 0) & (first != end)),
            step.eq(behind & ((first != current) | ~self.hold)),
            back.eq(rewinding & ~behind & ~self.hold & (current != first)),
            self.settled.eq(~(behind | rewinding)),
            self.available.eq(current != end),
        ]
        with m.If(self.next_valid):
            # A `next` of the past, or further ahead than the counter reaches, acknowledges nothing.
            m.d.sync += acknowledged.eq(Mux(not_ahead[len(acknowledged) :].all(), ~not_ahead, 0))
        with m.If(step):
            m.d.sync += [
                acknowledged.eq(acknowledged - 1),
                first.eq(_following(first, packets)),
                first_sequence.eq(first_sequence + 1),
            ]
        with m.If(back):
            m.d.sync += current.eq(_before(current, packets))
        with m.If(self.sent | step & (first == current)):
            m.d.sync += current.eq(_following(current, packets))
        with m.If(back | self.sent | step & (first == current)):
            m.d.sync += self.sequence.eq(self.sequence + Cat(1, back.replicate(7)))
        with m.If(rewinding & ~self.hold & (current == first)):
            m.d.sync += rewinding.eq(0)
        with m.If(self.rewind):
            m.d.sync += rewinding.eq(1)

        # ---- out --------------------------------------------------------------------------------------------------
        m.d.comb += [
            read.addr.eq(Mux(self.fetch, _payload_place(current, self.place), _length_place(current))),
            self.byte.eq(read.data),
        ]
        return m


class PacketSender(wiring.Component):
    """Puts packets together, one at a time: a greeting if `greet`, words if there are any, an empty one to `answer`.

    `hold` is high while it works on one, `heading` while on its header. `reported` is high in the cycle in which the
    flags are read and `greeted` or `sent` when the packet is complete. `payload` and `number` are read as `Outbox` and
    `Inbox` say.
    """

    def __init__(self, clock_hz: int, ring_bytes: int) -> None:
        self.greeting = [SERIAL_MAGIC, SERIAL_VERSION | window(ring_bytes) << 8 | PACKET_WORDS << 16, clock_hz]
        super().__init__(
            {
                "greet": In(1),
                "available": In(1),
                "answer": In(1),
                "settled": In(1),
                "resend": In(1),
                "busy": In(1),
                "sequence": In(8),
                "expected": In(8),
                "drained": In(8),
                "fetch": Out(1),
                "heading": Out(1),
                "place": Out(6),
                "payload": In(8),
                "number": In(8),
                "hold": Out(1),
                "reported": Out(1),
                "greeted": Out(1),
                "sent": Out(1),
                "body": Out(stream.Signature(BYTE)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.crc = crc = ByteCrc()
        begin, starting, header, payload, check = (
            Signal(name=name) for name in ("begin", "starting", "header", "payload", "check")
        )
        length = Signal(LENGTH, reset_less=True)
        has_words = Signal(reset_less=True)
        place = Signal(6, reset_less=True)
        done, quad_done = Signal(), Signal()
        m.d.comb += [
            self.hold.eq(starting | header | payload | check),
            begin.eq(~self.hold & self.settled & self.body.ready & (self.greet | self.available | self.answer)),
            quad_done.eq(crc.done & (place[:2] == 3)),
            done.eq(check & quad_done),
            self.place.eq(place),
            self.fetch.eq(payload),
            self.heading.eq(header),
            self.sent.eq(done & has_words),
            self.greeted.eq(done & self.greet),
            self.body.valid.eq(crc.done),
            self.body.payload.data.eq(crc.byte),
            self.body.payload.last.eq(check & (place[:2] == 3)),
        ]
        m.d.sync += starting.eq(begin)
        with m.If(crc.done):
            m.d.sync += place.eq(place + 1)
        with m.If(~self.hold):
            m.d.sync += [place.eq(-HEADER_BYTES), has_words.eq(self.available & ~self.greet)]
        with m.If(starting):
            m.d.sync += [header.eq(1), length.eq(self.payload)]
            with m.If(self.greet):
                m.d.sync += length.last_word.eq(3)
        with m.If(header & quad_done):
            m.d.sync += [header.eq(0), payload.eq(self.greet | has_words), check.eq(~(self.greet | has_words))]
        with m.If(payload & quad_done & (place[2:] == length.last_word)):
            m.d.sync += [payload.eq(0), check.eq(1)]
        with m.If(done):
            m.d.sync += check.eq(0)

        # The byte at `place` goes through three registers, of which those for other bytes are zero, and a table of four
        # inputs before each.
        waited = Signal(4, reset_less=True)
        first_two, of_header, constant, of_greeting, byte = (
            Signal(8, name=name, reset_less=True)
            for name in ("first_two", "of_header", "constant", "of_greeting", "byte")
        )
        flags = Signal(8)
        greeting = Const(sum(word << 32 * (1 + index) for index, word in enumerate(self.greeting)), 128)
        m.d.comb += [
            flags.eq(Cat(has_words, has_words & length.last, self.resend, self.greet, self.busy)),
            constant.eq(greeting.word_select(place[:4], 8)),
            self.reported.eq(header & (place[:2] == 0) & waited[0] & ~waited[1]),
            crc.clear.eq(~self.hold),
            crc.shift_out.eq(check),
            crc.data.eq(byte),
            crc.start.eq(waited[3] & ~(crc.busy | crc.done)),
        ]
        m.d.sync += [
            waited.eq(Cat(1, waited)),
            first_two.eq(Mux(place[1], place[0].replicate(8), Mux(place[0], self.sequence, flags))),
            of_header.eq(Mux(place[1], first_two & self.drained | ~first_two & self.expected, first_two)),
            of_greeting.eq(Mux(place[2:4] == 0, self.number, constant)),
            byte.eq(of_header | of_greeting | self.payload & (payload & has_words).replicate(8)),
        ]
        with m.If(crc.done | ~(header | payload | check)):
            m.d.sync += waited.eq(0)
        with m.If(~header):
            m.d.sync += of_header.eq(0)
        with m.If(~(payload & self.greet)):
            m.d.sync += of_greeting.eq(0)
        return m


class PacketBridge(wiring.Component):
    """Both streams of the chip over bytes: docs/serial.md without the serial port.

    `received` takes a byte in every tenth cycle at most and never waits longer. `broken` says that bytes were lost
    between the last one and the next. `clock_hz` is only told to the host, and so is what `ring_bytes` (256, 512, 1024
    or 2048, for each direction) makes the window. The chip is to be reset synchronously when `chip_reset` is high; no
    word is given to it then or taken from it. `heard` and `damaged` are high for a cycle for every packet from the
    host, good or dropped because it was damaged.

    Raises
    ------
    ValueError
        If `ring_bytes` is not one of these, or `clock_hz` not a positive 32-bit number.
    """

    def __init__(self, clock_hz: int, ring_bytes: int = 512) -> None:
        if not 0 < clock_hz < 1 << 32:
            raise ValueError(f"clock_hz = {clock_hz}: must be from 1 to {(1 << 32) - 1}")
        _slot_bits(ring_bytes)
        self.clock_hz, self.ring_bytes = clock_hz, ring_bytes
        super().__init__(
            {
                "received": In(stream.Signature(8)),
                "broken": In(1),
                "to_send": Out(stream.Signature(8)),
                "to_chip": Out(stream.Signature(WORD)),
                "from_chip": In(stream.Signature(WORD)),
                "chip_busy": In(1),
                "chip_reset": Out(1),
                "heard": Out(1),
                "damaged": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        session = Signal()  # begins anew
        receiver, inbox, outbox = PacketReceiver(), Inbox(self.ring_bytes), Outbox(self.ring_bytes)
        sender, encoder = PacketSender(self.clock_hz, self.ring_bytes), CobsEncoder()
        m.submodules.receiver = receiver
        m.submodules.inbox = ResetInserter(session)(inbox)
        m.submodules.outbox = ResetInserter(session)(outbox)
        m.submodules.sender = ResetInserter(session)(sender)
        m.submodules.encoder = encoder
        connect(m, flipped(self.received), receiver.bytes)
        connect(m, sender.body, encoder.body)
        connect(m, encoder.encoded, flipped(self.to_send))
        connect(m, inbox.words, flipped(self.to_chip))

        hello, good, resetting = Signal(), Signal(), Signal(2)
        m.d.comb += [
            hello.eq(receiver.good & receiver.flags.hello),
            good.eq(receiver.good & ~receiver.flags.hello),
            self.heard.eq(receiver.good),
            self.damaged.eq(receiver.damaged),
            self.chip_reset.eq(resetting != 0),
            session.eq(hello | self.chip_reset),
        ]
        m.d.sync += resetting.eq(Cat(hello, resetting))

        # A `next` is good from the end of its packet until the header of another one comes.
        answer, resend, greet, ack = Signal(), Signal(), Signal(), Signal()
        with m.If(sender.reported):
            m.d.sync += [answer.eq(0), resend.eq(0)]
        with m.If(good | inbox.moved):
            m.d.sync += answer.eq(1)
        with m.If(inbox.accept & inbox.gap):
            m.d.sync += resend.eq(1)
        with m.If(sender.greeted):
            m.d.sync += greet.eq(0)
        with m.If(receiver.valid & receiver.offset[6]):
            m.d.sync += ack.eq(0)
        with m.If(good):
            m.d.sync += ack.eq(1)
        with m.If(session):
            m.d.sync += [answer.eq(0), resend.eq(0), greet.eq(1), ack.eq(0)]

        m.d.comb += [
            receiver.broken.eq(self.broken),
            inbox.valid.eq(receiver.valid),
            inbox.byte.eq(receiver.byte),
            inbox.inverse.eq(receiver.inverse),
            inbox.offset.eq(receiver.offset),
            inbox.hello.eq(receiver.flags.hello),
            inbox.accept.eq(good & receiver.flags.data),
            inbox.length.eq(receiver.length),
            inbox.wait.eq(sender.heading),
            inbox.hold.eq(greet),
            inbox.number_index.eq(sender.place[:2]),
            outbox.words.valid.eq(self.from_chip.valid & ~self.chip_reset),
            outbox.words.payload.eq(self.from_chip.payload),
            self.from_chip.ready.eq(outbox.words.ready),
            outbox.ack.eq(ack),
            outbox.inverse.eq(receiver.inverse),
            outbox.next_valid.eq(receiver.valid & (receiver.offset == -2 % 128)),
            outbox.rewind.eq(good & receiver.flags.resend),
            outbox.hold.eq(sender.hold),
            outbox.sent.eq(sender.sent),
            outbox.fetch.eq(sender.fetch),
            outbox.place.eq(sender.place),
            sender.greet.eq(greet),
            sender.available.eq(outbox.available),
            sender.answer.eq(answer),
            sender.settled.eq(outbox.settled),
            sender.resend.eq(resend),
            sender.busy.eq(self.chip_busy),
            sender.sequence.eq(outbox.sequence),
            sender.expected.eq(inbox.expected),
            sender.drained.eq(inbox.drained),
            sender.payload.eq(outbox.byte),
            sender.number.eq(inbox.number),
            encoder.clear.eq(session),
        ]
        return m


class SerialBridge(wiring.Component):
    """The chip's end of a serial port of `baud` bits per second: docs/serial.md.

    The ports besides `rx` and `tx` are those of `PacketBridge`.

    Raises
    ------
    ValueError
        As :func:`rtl.uart.bit_cycles` and `PacketBridge`.
    """

    def __init__(self, clock_hz: int, baud: int, ring_bytes: int = 512) -> None:
        self.divisor = bit_cycles(clock_hz, baud)
        self.bridge = PacketBridge(clock_hz, ring_bytes)
        super().__init__(
            {
                "rx": In(1, init=1),
                "tx": Out(1, init=1),
                "to_chip": Out(stream.Signature(WORD)),
                "from_chip": In(stream.Signature(WORD)),
                "chip_busy": In(1),
                "chip_reset": Out(1),
                "heard": Out(1),
                "damaged": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.bridge = bridge = self.bridge
        m.submodules.receiver = receiver = UartReceiver(self.divisor)
        m.submodules.transmitter = transmitter = UartTransmitter(self.divisor)
        connect(m, bridge.to_send, transmitter.bytes)
        connect(m, bridge.to_chip, flipped(self.to_chip))
        connect(m, flipped(self.from_chip), bridge.from_chip)
        m.d.comb += [
            receiver.rx.eq(self.rx),
            self.tx.eq(transmitter.tx),
            bridge.received.valid.eq(receiver.bytes.valid),
            bridge.received.payload.eq(receiver.bytes.payload),
            bridge.broken.eq(receiver.error),
            bridge.chip_busy.eq(self.chip_busy),
            self.chip_reset.eq(bridge.chip_reset),
            self.heard.eq(bridge.heard),
            self.damaged.eq(bridge.damaged),
        ]
        return m
