"""The chip's end of the serial link (docs/serial.md): two streams of words over lines that lose and damage bytes.

Everything is a byte wide, and a packet is the unit of all bookkeeping. The rings have slots of 64 bytes, 16 words, one
for each packet. The last slot holds no packet but the lengths of those in the others. So a memory of 512 bytes keeps
seven packets, and a packet under way needs no more than a place in its slot.
"""

from __future__ import annotations

from enum import IntFlag

from amaranth.hdl import Cat, Const, Module, Mux, ResetInserter, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out, connect, flipped
from amaranth.utils import exact_log2

from rtl.cobs import BYTE, CobsDecoder, CobsEncoder
from rtl.link import WORD
from rtl.uart import MIN_DIVISOR, UartReceiver, UartTransmitter

MAGIC = 0x53504B55
VERSION = 1
PACKET_WORDS = 16
RING_BYTES = (256, 512, 1024, 2048)


class Flag(IntFlag):
    """Bits of a packet's first byte."""

    DATA = 1
    LAST = 2
    RESEND = 4
    HELLO = 8
    BUSY = 16


FLAGS = data.StructLayout({"data": 1, "last": 1, "resend": 1, "hello": 1})
"""The flags that a host gives."""

LENGTH = data.StructLayout({"last_word": 4, "last": 1})
"""What is kept of a packet besides its words: index of the last one, and whether it is marked."""

_POLYNOMIAL = 0xEDB88320
_RESIDUE = 0xDEBB20E3  # left in the register by any bytes and their CRC


def window(ring_bytes: int) -> int:
    """Packets of 16 words that a ring keeps."""
    return ring_bytes // (4 * PACKET_WORDS) - 1


def _slot_bits(ring_bytes: int) -> int:
    if ring_bytes not in RING_BYTES:
        raise ValueError(f"ring_bytes = {ring_bytes}: must be one of {', '.join(map(str, RING_BYTES))}")
    return exact_log2(ring_bytes) - 6


def _following(slot: Value, slots: int) -> Value:
    return Mux(slot == slots - 1, 0, slot + 1)


def _payload_place(slot: Value, offset: Value) -> Value:
    return Cat(offset[:6], slot)


def _length_place(slot: Value) -> Value:
    return Cat(slot, Const(0, 6 - len(slot)), Const(-1, len(slot)))


def _hello_place(index: Value, slot_bits: int) -> Value:
    """The host's number is kept behind the lengths, in places 0 to 3; the four after it take the CRC of its packet."""
    return Cat(index[:3], Const(0b100, 3), Const(-1, slot_bits))


class ByteCrc(wiring.Component):
    """CRC-32 as of ``zlib.crc32``, a bit in a cycle.

    A byte given with `start` is in `byte` in the next cycle, when `first` is high; the register covers it when `busy`
    is low again, eight cycles later. With `shift_out` at `start` the register moves on by 8 bits without taking the byte in.
    """

    def __init__(self) -> None:
        super().__init__(
            {
                "clear": In(1),
                "start": In(1),
                "data": In(8),
                "shift_out": In(1),
                "first": Out(1),
                "busy": Out(1),
                "byte": Out(8),
                "register": Out(32, init=0xFFFFFFFF),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        count = Signal(4)  # 8 to 15 while busy
        feedback, shifting_out = Signal(), Signal(reset_less=True)
        m.d.comb += [
            self.busy.eq(count[3]),
            self.first.eq(count == 8),
            feedback.eq((self.register[0] ^ self.byte[0]) & ~shifting_out),
        ]
        with m.If(self.busy):
            m.d.sync += [
                count.eq(count + 1),
                self.byte.eq(self.byte[1:]),
                self.register.eq(self.register[1:] ^ (feedback.replicate(32) & _POLYNOMIAL)),
            ]
        with m.If(self.start):
            m.d.sync += [count.eq(8), self.byte.eq(self.data), shifting_out.eq(self.shift_out)]
        with m.If(self.clear):
            m.d.sync += [count.eq(0), self.register.eq(0xFFFFFFFF)]
        return m


class PacketReceiver(wiring.Component):
    """Bytes from the host, checked packets out.

    The bytes of a packet appear in `byte` with `valid`, at `offset` (header -4 to -1, payload from 0 on, modulo 128);
    what they were is known when all are there: `good` or `damaged` is high for a cycle after its 0. `flags`, `next`
    and `length` are then those of the packet, and `flags` and `offset` keep as long as there is no next header.
    A byte is taken in every tenth cycle, at most.
    """

    def __init__(self) -> None:
        super().__init__(
            {
                "bytes": In(stream.Signature(8)),
                "broken": In(1),
                "valid": Out(1),
                "byte": Out(8),
                "offset": Out(7, init=-4 % 128),
                "flags": Out(FLAGS),
                "next": Out(8),
                "length": Out(LENGTH),
                "good": Out(1),
                "damaged": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.decoder = decoder = CobsDecoder()
        m.submodules.crc = crc = ByteCrc()
        ended = Signal()
        too_long = Signal()
        offset, flags = self.offset, self.flags
        m.d.comb += [
            ended.eq(self.good | self.damaged),
            self.bytes.ready.eq(~(crc.busy | ended)),
            decoder.encoded.valid.eq(self.bytes.valid & self.bytes.ready),
            decoder.encoded.payload.eq(self.bytes.payload),
            decoder.broken.eq(self.broken),
            crc.data.eq(decoder.body.payload),
            crc.start.eq(decoder.body.valid),
            crc.clear.eq(ended),
            self.valid.eq(crc.first),
            self.byte.eq(crc.byte),
        ]

        with m.If(crc.first):
            m.d.sync += offset.eq(offset + 1)
            with m.If(offset == 4 * PACKET_WORDS + 4):
                m.d.sync += too_long.eq(1)
            with m.If(offset == -4 % 128):
                m.d.sync += flags.eq(crc.byte)
            with m.If(offset == -2 % 128):
                m.d.sync += self.next.eq(crc.byte)

        # The offset is now that of the body's end, four bytes of CRC behind the payload.
        quads = offset[2:]
        whole, fits, intact = Signal(), Signal(), Signal()
        m.d.comb += [
            self.length.last_word.eq(quads - 2),
            self.length.last.eq(flags.last),
            whole.eq((offset[:2] == 0) & (quads != 0) & (quads != 31) & ~too_long),
            fits.eq(Mux(flags.hello, quads == 2, ~flags.data | (quads != 1))),
            intact.eq((crc.register == _RESIDUE) & ~decoder.bad),
        ]
        m.d.sync += [
            self.good.eq(decoder.end & whole & fits & intact),
            self.damaged.eq(decoder.end & ~(whole & fits & intact)),
        ]
        with m.If(ended):
            m.d.sync += [offset.eq(-4 % 128), too_long.eq(0)]
        return m


class Inbox(wiring.Component):
    """Words from the host: takes the packets that are in order, and hands on their words.

    The bytes come as from a `PacketReceiver`; `accept` keeps the packet if it is the one `expected` and there was room
    from its first byte on, `gap` then says that an earlier one is missing instead. `drained` counts the packets whose
    words have been taken, `moved` tells that it does. `hello` writes payload where no packet is, and `number` reads its
    byte `number_index` a cycle later, as long as `hold` keeps words back.
    """

    def __init__(self, ring_bytes: int) -> None:
        self.ring_bytes = ring_bytes
        self.slot_bits = _slot_bits(ring_bytes)
        super().__init__(
            {
                "valid": In(1),
                "byte": In(8),
                "offset": In(7),
                "hello": In(1),
                "accept": In(1),
                "length": In(LENGTH),
                "gap": Out(1),
                "expected": Out(8),
                "drained": Out(8),
                "moved": Out(1),
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
        ahead, in_order, kept = Signal(8), Signal(), Signal()
        m.d.comb += [
            ahead.eq(self.byte - self.expected),
            kept.eq(self.accept & in_order),
            write.data.eq(self.byte),
            write.addr.eq(_payload_place(end, self.offset)),
        ]
        with m.If(self.valid & (self.offset == -3 % 128)):
            m.d.sync += [in_order.eq(ahead == 0), self.gap.eq((ahead != 0) & ~ahead[7])]
        with m.If(self.valid & ~self.offset[6]):
            m.d.comb += write.en.eq(self.hello | ~full)
            with m.If(full):
                m.d.sync += in_order.eq(0)
        with m.If(self.hello):
            m.d.comb += write.addr.eq(_hello_place(self.offset, self.slot_bits))
        with m.If(kept):
            m.d.comb += [write.en.eq(1), write.addr.eq(_length_place(end)), write.data.eq(self.length)]
            m.d.sync += [end.eq(_following(end, packets)), self.expected.eq(self.expected + 1)]

        # ---- out --------------------------------------------------------------------------------------------------
        length = Signal(LENGTH)
        place = Signal(6)
        word = Signal(32)
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
                with m.Elif((first != end) | full):
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

    As long as `ack` is high all packets before `next` are acknowledged; `rewind` begins again with the first one that
    is not. The packet to be sent next has the number `sequence`. If it is `available` and all is `settled`, `byte` is
    its length in the next cycle, and byte `place` of its payload in the cycle after `fetch`. As long as `hold` is high
    it stays that packet, until `sent` says that the next one is.
    """

    def __init__(self, ring_bytes: int) -> None:
        self.ring_bytes = ring_bytes
        self.slot_bits = _slot_bits(ring_bytes)
        super().__init__(
            {
                "words": In(stream.Signature(WORD)),
                "ack": In(1),
                "next": In(8),
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
        m.d.comb += [
            write.addr.eq(_payload_place(end, place)),
            write.data.eq(self.words.payload.data.word_select(place[:2], 8)),
        ]
        with m.FSM():
            with m.State("FILL"):
                m.d.comb += write.en.eq(self.words.valid)
                with m.If(self.words.valid):
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
                    write.data.eq(Cat(place[2:], last)),
                ]
                with m.If(_following(end, packets) != first):
                    m.d.sync += [end.eq(_following(end, packets)), place.eq(0)]
                    m.next = "FILL"

        # ---- acknowledged, and sent again ---------------------------------------------------------------------------
        first_sequence = Signal(8)
        ahead = Signal(8)
        behind, step, rewinding = Signal(), Signal(), Signal()
        m.d.comb += [
            ahead.eq(self.next - first_sequence),
            # A `next` of the past acknowledges nothing, and there is nothing to acknowledge past the end.
            behind.eq(self.ack & (ahead != 0) & ~ahead[7] & (first != end)),
            step.eq(behind & ((first != current) | ~self.hold)),
            self.settled.eq(~(behind | rewinding)),
            self.available.eq(current != end),
        ]
        with m.If(step):
            m.d.sync += [first.eq(_following(first, packets)), first_sequence.eq(first_sequence + 1)]
        with m.If(self.sent | step & (first == current)):
            m.d.sync += [current.eq(_following(current, packets)), self.sequence.eq(self.sequence + 1)]
        with m.Elif(rewinding & ~behind & ~self.hold):
            m.d.sync += [current.eq(first), self.sequence.eq(first_sequence), rewinding.eq(0)]
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

    `hold` is high while it works on one. `reported` is high in the cycle in which the flags are read and `greeted` or
    `sent` when the packet is complete. `payload` and `number` are read as `Outbox` and `Inbox` say.
    """

    def __init__(self, clock_hz: int, ring_bytes: int) -> None:
        self.greeting = [MAGIC, VERSION | window(ring_bytes) << 8 | PACKET_WORDS << 16, clock_hz]
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
        length = Signal(LENGTH, reset_less=True)
        has_words = Signal(reset_less=True)
        place = Signal(6, reset_less=True)
        done = Signal()
        greeting = Const(sum(word << 32 * (1 + index) for index, word in enumerate(self.greeting)), 128)
        constant, greeting_byte = Signal(8), Signal(8)
        m.d.comb += [
            self.hold.eq(1),
            self.place.eq(place),
            self.body.payload.data.eq(crc.byte),
            constant.eq(greeting.word_select(place[:4], 8)),
            greeting_byte.eq(Mux(place[2:4] == 0, self.number, constant)),
            self.sent.eq(done & has_words),
            self.greeted.eq(done & self.greet),
        ]
        with m.FSM():
            with m.State("IDLE"):
                m.d.comb += [self.hold.eq(0), crc.clear.eq(1)]
                m.d.sync += [place.eq(-4), has_words.eq(self.available & ~self.greet)]
                with m.If(self.settled & self.body.ready & (self.greet | self.available | self.answer)):
                    m.next = "LENGTH"
            with m.State("LENGTH"):
                m.d.sync += length.eq(self.payload)
                with m.If(self.greet):
                    m.d.sync += length.last_word.eq(3)
                m.next = "HEADER"
            with m.State("HEADER"):
                m.d.comb += [
                    crc.start.eq(~crc.busy),
                    crc.data.eq(
                        Cat(
                            Cat(has_words, has_words & length.last, self.resend, self.greet, self.busy, Const(0, 3)),
                            self.sequence,
                            self.expected,
                            self.drained,
                        ).word_select(place[:2], 8)
                    ),
                    self.reported.eq(crc.start & (place[:2] == 0)),
                ]
                with m.If(crc.first & (place[:2] == 3)):
                    m.next = "CHECK"
                    with m.If(self.greet | has_words):
                        m.next = "PAYLOAD"
            with m.State("PAYLOAD"):
                m.d.comb += [
                    crc.start.eq(~crc.busy),
                    crc.data.eq(Mux(self.greet, greeting_byte, self.payload)),
                    self.fetch.eq(1),
                ]
                with m.If(crc.first & (place == Cat(Const(3, 2), length.last_word))):
                    m.next = "CHECK"
            with m.State("CHECK"):
                m.d.comb += [
                    crc.start.eq(~crc.busy),
                    crc.data.eq(~crc.register[:8]),
                    crc.shift_out.eq(1),
                    self.body.payload.last.eq(place[:2] == 3),
                ]
                with m.If(crc.first & (place[:2] == 3)):
                    m.d.comb += done.eq(1)
                    m.next = "IDLE"
        with m.If(crc.first):
            m.d.comb += self.body.valid.eq(1)
            m.d.sync += place.eq(place + 1)
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
            inbox.offset.eq(receiver.offset),
            inbox.hello.eq(receiver.flags.hello),
            inbox.accept.eq(good & receiver.flags.data),
            inbox.length.eq(receiver.length),
            inbox.hold.eq(greet),
            inbox.number_index.eq(sender.place[:2]),
            outbox.words.valid.eq(self.from_chip.valid & ~self.chip_reset),
            outbox.words.payload.eq(self.from_chip.payload),
            self.from_chip.ready.eq(outbox.words.ready),
            outbox.ack.eq(ack),
            outbox.next.eq(receiver.next),
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
        If a whole number of clock cycles, at least 4, is not a bit's time within 2 %, or as `PacketBridge`.
    """

    def __init__(self, clock_hz: int, baud: int, ring_bytes: int = 512) -> None:
        if baud < 1:
            raise ValueError(f"baud = {baud}: must be positive")
        self.divisor = max(round(clock_hz / baud), MIN_DIVISOR)
        if abs(clock_hz - self.divisor * baud) > 0.02 * clock_hz:
            raise ValueError(
                f"baud = {baud}: a bit must last a whole number of clock cycles, at least {MIN_DIVISOR}, within 2 %; "
                f"with clock_hz = {clock_hz} the nearest is {clock_hz / self.divisor:.0f}"
            )
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
