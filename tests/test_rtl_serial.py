"""The chip's end of the serial link, with a small host of its own: packets by `zlib` and `cobs`, noise on the line."""

from __future__ import annotations

import random
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import pytest
from cobs import cobs
from streams import get, no_pauses, pauses, pulse, put, simulate, wait

from rtl.serial import PacketBridge, SerialBridge

DATA, LAST, RESEND, HELLO, BUSY = 1, 2, 4, 8, 16
MARK = 1 << 32
CLOCK = 24_000_000
Words = list[int]


class Packet(NamedTuple):
    flags: int
    sequence: int = 0
    next: int = 0
    drained: int = 0
    words: tuple[int, ...] = ()

    def body(self) -> bytes:
        head = bytes([self.flags, self.sequence % 256, self.next % 256, self.drained % 256])
        head += b"".join((word & 0xFFFFFFFF).to_bytes(4, "little") for word in self.words)
        return head + zlib.crc32(head).to_bytes(4, "little")

    def line(self) -> bytes:
        return cobs.encode(self.body()) + b"\0"


def read(encoded: bytes) -> Packet | None:
    """The packet of an encoding without its 0; None if it is damaged."""
    try:
        body = cobs.decode(encoded)
    except cobs.DecodeError:
        return None
    if len(body) not in range(8, 73, 4) or zlib.crc32(body[:-4]) != int.from_bytes(body[-4:], "little"):
        return None
    words = [int.from_bytes(body[place : place + 4], "little") for place in range(4, len(body) - 4, 4)]
    if body[0] & LAST:
        words[-1] |= MARK
    return Packet(*body[:4], tuple(words))


def data(words: tuple[int, ...], sequence: int, next: int = 0, flags: int = 0) -> Packet:
    return Packet(DATA | flags | (LAST if words[-1] & MARK else 0), sequence, next, 0, words)


def hello(number: int) -> Packet:
    return Packet(HELLO, 0, 0, 0, (number,))


def frames(seed: int, number: int, longest: int = 40) -> list[Words]:
    """Runs of words of which the last one has the mark; many of their bytes are zero."""
    draw = random.Random(seed)
    found = []
    for _ in range(number):
        words = [draw.getrandbits(32) & draw.choice([0, 0xFF, 0xFF00FF00, 0xFFFFFFFF]) for _ in range(longest)]
        words = words[: draw.choice([1, 2, 15, 16, 17, 32, draw.randint(1, longest)])]
        found.append([*words[:-1], words[-1] | MARK])
    return found


def packets(words: list[Words]) -> list[tuple[int, ...]]:
    return [tuple(frame[place : place + 16]) for frame in words for place in range(0, len(frame), 16)]


def noise(seed: int, often: float) -> Callable[[int], list[int]]:
    """What becomes of a byte on the line: it may be lost, doubled or damaged."""
    draw = random.Random(seed)

    def pass_on(byte: int) -> list[int]:
        if draw.random() >= often:
            return [byte]
        return draw.choice([[], [byte, byte], [byte ^ 1 << draw.randrange(8)], [draw.randrange(256)], [0]])

    return pass_on


@dataclass
class Host:
    """A host as small as the page allows: goes back to the first packet that was not taken, asks when nothing comes."""

    payloads: list[tuple[int, ...]]
    window: int
    patience: int = 200
    acked: int = 0
    drained: int = 0
    sent: int = 0
    expected: int = 0
    got: Words = field(default_factory=list)
    flags: set[int] = field(default_factory=set)
    heard: int = 0
    _partial: bytearray = field(default_factory=bytearray)
    _answer: bool = False
    _ask: bool = False
    _asked: int = -1
    _went_back: int = -1

    def hear(self, byte: int) -> None:
        if byte:
            self._partial.append(byte)
            return
        encoded, self._partial = bytes(self._partial), bytearray()
        packet = read(encoded) if encoded else None
        if packet is None or packet.flags & HELLO:
            return
        self.heard += 1
        self.flags.add(packet.flags)
        self.acked += (packet.next - self.acked) % 256
        self.drained += (packet.drained - self.drained) % 256
        assert self.drained <= self.acked <= len(self.payloads), "acknowledged what was not sent"
        self.sent = max(self.sent, self.acked)
        if packet.flags & RESEND and self._went_back != self.acked:
            self.sent = self._went_back = self.acked
        if packet.flags & DATA:
            ahead = (packet.sequence - self.expected) % 256
            self._answer = True
            if ahead == 0:
                self.got += packet.words
                self.expected += 1
            elif ahead < 128 and self._asked != self.expected:
                self._ask, self._asked = True, self.expected

    def speak(self, waited: bool) -> Packet | None:
        flags = RESEND if self._ask or waited else 0
        if waited:
            self.sent, self._went_back = self.acked, -1
        if self.sent < min(len(self.payloads), self.drained + self.window):
            packet = data(self.payloads[self.sent], self.sent, self.expected, flags)
            self.sent += 1
        elif flags or self._answer:
            packet = Packet(flags, 0, self.expected)
        else:
            return None
        self._ask = self._answer = False
        return packet


async def rest(context: Any, cycles: int) -> None:
    """As `wait`, but costs the simulator nothing."""
    await context.delay((cycles - 0.5) * 1e-6)
    await context.tick()


async def send(context: Any, dut: PacketBridge, line: bytes) -> None:
    for byte in line:
        await put(context, dut.received, byte)


async def hear(context: Any, dut: PacketBridge) -> Packet:
    """Wait for the chip's next packet, which has to be good."""
    encoded = bytearray()
    while byte := await get(context, dut.to_send):
        encoded.append(byte)
    packet = read(bytes(encoded))
    assert packet is not None, f"the chip sent a damaged packet: {encoded.hex()}"
    return packet


async def open_session(context: Any, dut: PacketBridge, number: int = 0xC0FFEE) -> Packet:
    await send(context, dut, b"\0" + hello(number).line())
    while not (packet := await hear(context, dut)).flags & HELLO:
        pass
    return packet


def exchange(
    to_chip: list[Words],
    from_chip: list[Words],
    *,
    often: float = 0.0,
    seed: int = 0,
    slow_in: Iterator[int] | None = None,
    slow_out: Iterator[int] | None = None,
    ring_bytes: int = 512,
    busy: bool = False,
    cycles: int = 200_000,
) -> Host:
    """Both streams to their ends, over a line with noise, and a check that they are complete and nothing else."""
    dut = PacketBridge(CLOCK, ring_bytes)
    down, up = noise(seed, often), noise(seed + 1, often)
    slow_in, slow_out = slow_in or no_pauses(), slow_out or no_pauses()
    host = Host(packets(to_chip), ring_bytes // 65)
    taken: Words = []
    to_take, to_give = [[word for frame in stream for word in frame] for stream in (to_chip, from_chip)]
    ready = finished = False

    async def speaker(context: Any) -> None:
        nonlocal ready, finished
        greeting = await open_session(context, dut)
        assert greeting.words[2] >> 8 & 0xFF == host.window
        ready = True
        silence, heard = 0, 0
        while not (taken == to_take and host.got == to_give and host.drained == len(host.payloads)):
            assert len(taken) <= len(to_take)
            assert len(host.got) <= len(to_give)
            silence = 0 if host.heard > heard else silence + 1
            heard = host.heard
            packet = host.speak(silence > host.patience)
            if packet is None:
                await rest(context, 20)
                continue
            silence = 0
            await send(context, dut, bytes(byte for sent in packet.line() for byte in down(sent)))
        finished = True

    async def listener(context: Any) -> None:
        while not ready:
            await rest(context, 20)
        while not finished:
            if not context.get(dut.to_send.valid):
                await rest(context, 5)
                continue
            for heard in up(await get(context, dut.to_send)):
                host.hear(heard)
            await rest(context, 8)

    async def source(context: Any) -> None:
        while not ready:
            await rest(context, 20)
        context.set(dut.chip_busy, busy)
        for word in to_give:
            await put(context, dut.from_chip, {"data": word & 0xFFFFFFFF, "last": word >> 32}, next(slow_out))

    async def sink(context: Any) -> None:
        while len(taken) < len(to_take):
            word = await get(context, dut.to_chip, next(slow_in))
            taken.append(word.data | word.last << 32)

    simulate(dut, speaker, listener, source, sink, cycles=cycles)
    assert taken == to_take
    assert host.got == to_give
    return host


@pytest.mark.parametrize("ring_bytes", [256, 2048])
def test_both_streams_arrive_over_a_good_line_and_nothing_is_sent_again(ring_bytes: int) -> None:
    host = exchange(frames(1, 5), frames(2, 5), ring_bytes=ring_bytes)
    assert not any(flags & (RESEND | BUSY) for flags in host.flags)


@pytest.mark.parametrize("seed", range(2))
def test_both_streams_arrive_exactly_once_over_a_bad_line(seed: int) -> None:
    slow = pauses(1, 0.3, 60), pauses(2, 0.3, 60)
    host = exchange(
        frames(3 + seed, 4, 20),
        frames(4 + seed, 4, 20),
        often=0.012,
        seed=seed,
        slow_in=slow[0],
        slow_out=slow[1],
        busy=True,
    )
    assert all(flags & BUSY for flags in host.flags)


@pytest.mark.slow
def test_both_streams_arrive_when_most_long_packets_are_damaged() -> None:
    exchange(frames(8, 8, 20), frames(9, 8, 20), often=0.02, seed=9, cycles=1_000_000)


def single(count: int) -> list[Words]:
    return [[index * 0x01010101 | MARK] for index in range(count)]


@pytest.mark.slow
def test_sequence_numbers_wrap_in_both_directions() -> None:
    """More than 256 packets, of one word each."""
    exchange(single(300), single(300), often=0.002, seed=5, cycles=1_000_000)


async def answers(context: Any, dut: PacketBridge, patience: int = 1600) -> list[Packet]:
    """What the chip says until it says nothing more for some time."""
    found: list[Packet] = []
    encoded = bytearray()
    quiet = 0
    while quiet < patience:
        if not context.get(dut.to_send.valid):
            await rest(context, 20)
            quiet += 20
            continue
        quiet = 0
        byte = await get(context, dut.to_send)
        if byte:
            encoded.append(byte)
            continue
        packet = read(bytes(encoded))
        assert packet is not None, f"the chip sent a damaged packet: {encoded.hex()}"
        found.append(packet)
        encoded.clear()
    return found


def run(*benches: Callable[[Any, PacketBridge], Any], ring_bytes: int = 512) -> None:
    """Benches on a bridge; words to the chip are left alone."""
    dut = PacketBridge(CLOCK, ring_bytes)

    def bound(bench: Callable[[Any, PacketBridge], Any]) -> Callable[[Any], Any]:
        async def started(context: Any) -> None:
            await bench(context, dut)

        return started

    simulate(dut, *(bound(bench) for bench in benches), cycles=100_000)


def long(first: int, count: int = 16) -> tuple[int, ...]:
    return tuple(range(first, first + count))


async def take(context: Any, dut: PacketBridge, count: int) -> Words:
    found = []
    for _ in range(count):
        word = await get(context, dut.to_chip)
        found.append(word.data | word.last << 32)
    return found


@pytest.mark.parametrize("ring_bytes", [256, 512, 1024, 2048])
def test_a_greeting_has_the_number_of_its_hello_and_what_a_host_must_know(ring_bytes: int) -> None:
    async def bench(context: Any, dut: PacketBridge) -> None:
        for number in (0, 0x12345678, 0xFFFFFFFF):
            greeting = await open_session(context, dut, number)
            facts = 1 | ring_bytes // 65 << 8 | 16 << 16
            assert greeting == Packet(HELLO, 0, 0, 0, (number, 0x53504B55, facts, CLOCK))
        assert await answers(context, dut) == []

    run(bench, ring_bytes=ring_bytes)


def test_every_good_packet_is_answered_and_bad_ones_are_not() -> None:
    good = data((5, 6 | MARK), 0)
    bodies = [
        good.body()[:-1] + bytes([good.body()[-1] ^ 1]),  # CRC
        good.body()[:9],  # length
        b"",
        bytes(100),
        Packet(0, 0, 0, 0, tuple(range(17))).body(),  # a word too many, but all else is right
        Packet(DATA).body(),  # words are promised
        Packet(HELLO).body(),
        Packet(HELLO, 0, 0, 0, (1, 2)).body(),
    ]
    bad = [cobs.encode(body) for body in bodies]
    bad.append(cobs.encode(good.body())[:-1])  # ends too early

    async def bench(context: Any, dut: PacketBridge) -> None:
        await open_session(context, dut)
        for line in bad:
            await send(context, dut, line + b"\0")
        assert await answers(context, dut) == []
        await send(context, dut, b"\0\0" + Packet(0).line())
        assert await answers(context, dut) == [Packet(0)]
        await send(context, dut, good.line())
        assert (await answers(context, dut))[-1] == Packet(0, 0, 1, 0)
        assert await take(context, dut, 2) == [5, 6 | MARK]
        assert await answers(context, dut) == [Packet(0, 0, 1, 1)]
        await send(context, dut, good.line())  # again: answered, not taken
        assert await answers(context, dut) == [Packet(0, 0, 1, 1)]
        assert not context.get(dut.to_chip.valid)

    async def count(context: Any, dut: PacketBridge) -> None:
        heard = damaged = 0
        while heard + damaged < 4 + len(bad):
            _, _, good, bad_one = await context.tick().sample(dut.heard, dut.damaged)
            heard, damaged = heard + good, damaged + bad_one
        assert (heard, damaged) == (4, len(bad))

    run(bench, count)


def test_a_broken_byte_drops_the_packet_around_it_and_only_that() -> None:
    async def bench(context: Any, dut: PacketBridge) -> None:
        await open_session(context, dut)
        line = data((5 | MARK,), 0).line()
        for place in (0, 5, len(line) - 1):
            await send(context, dut, line[:place])
            await pulse(context, dut.broken)
            await send(context, dut, line[place:])
        assert await answers(context, dut) == []
        await send(context, dut, line)
        assert await take(context, dut, 1) == [5 | MARK]

    run(bench)


def test_a_missing_packet_is_asked_for_and_what_came_after_it_is_dropped() -> None:
    async def bench(context: Any, dut: PacketBridge) -> None:
        await open_session(context, dut)
        await send(context, dut, data((10,), 0).line() + data((12,), 2).line())
        assert (await answers(context, dut))[-1] == Packet(RESEND, 0, 1, 0)
        await send(context, dut, Packet(0).line())
        assert await answers(context, dut) == [Packet(0, 0, 1, 0)]  # said once
        await send(context, dut, data((99,), 129).line() + data((98,), 0).line())  # 128 ahead, and the past
        assert all(packet == Packet(0, 0, 1, 0) for packet in await answers(context, dut))
        await send(context, dut, data((11 | MARK,), 1).line() + data((12,), 2).line())
        assert (await answers(context, dut))[-1].next == 3
        assert await take(context, dut, 3) == [10, 11 | MARK, 12]

    run(bench)


def test_packets_past_the_window_are_dropped_and_harm_nothing() -> None:
    window = 7

    async def bench(context: Any, dut: PacketBridge) -> None:
        await open_session(context, dut)
        for index in range(window + 2):
            await send(context, dut, data(long(100 * index), index).line())
        # The chip has taken no word, so all of the window is still in the ring.
        last = (await answers(context, dut))[-1]
        assert (last.next, last.drained) == (window, 0)
        half = data(long(700), window).line()
        await send(context, dut, half[:30])
        assert await take(context, dut, 16) == list(long(0))  # room comes in the middle of the packet: too late
        await send(context, dut, half[30:])
        last = (await answers(context, dut))[-1]
        assert (last.next, last.drained) == (window, 1)
        await send(context, dut, half)
        expected = [word for index in range(1, window + 1) for word in long(100 * index)]
        assert await take(context, dut, len(expected)) == expected
        assert (await answers(context, dut))[-1] == Packet(0, 0, window + 1, window + 1)

    run(bench)


def test_a_full_ring_makes_the_chip_wait_and_everything_is_kept_until_it_is_acknowledged() -> None:
    words = list(range(12 * 16))
    given = 0

    async def chip(context: Any, dut: PacketBridge) -> None:
        nonlocal given
        while not context.get(dut.chip_reset):
            await context.tick()
        while context.get(dut.chip_reset):
            await context.tick()
        for word in words:
            await put(context, dut.from_chip, {"data": word, "last": 0})
            given += 1

    async def host(context: Any, dut: PacketBridge) -> None:
        await open_session(context, dut)
        found = await answers(context, dut)
        stopped = given
        assert [packet.words for packet in found] == [long(16 * index) for index in range(len(found))]
        assert len(found) == 6
        assert given == 7 * 16
        for _ in range(2):  # acknowledging nothing, and asking
            await send(context, dut, Packet(RESEND, 0, 2).line())
            again = await answers(context, dut)
            assert [packet.sequence for packet in again if packet.flags & DATA][:4] == [2, 3, 4, 5]
        assert given == stopped + 32
        await send(context, dut, Packet(RESEND, 0, 0).line())  # a `next` of the past acknowledges nothing
        again = [packet for packet in await answers(context, dut) if packet.flags & DATA]
        assert [packet.sequence for packet in again] == [2, 3, 4, 5, 6, 7]
        await send(context, dut, Packet(0, 0, 8).line())
        again = [packet for packet in await answers(context, dut) if packet.flags & DATA]
        assert [packet.words for packet in again] == [long(16 * index) for index in range(8, 12)]
        assert given == len(words)
        await send(context, dut, Packet(RESEND, 0, 12).line())  # nothing is left
        assert await answers(context, dut) == [Packet(0, 12)]

    run(host, chip)


def test_an_acknowledgement_that_comes_while_packets_are_sent_again_is_not_lost() -> None:
    """The host asks, gets what it wanted meanwhile, and says so in the middle of the repetition."""

    async def host(context: Any, dut: PacketBridge) -> None:
        await open_session(context, dut)
        for word in range(6):
            await put(context, dut.from_chip, {"data": word, "last": 1})
        assert len(await answers(context, dut)) == 6
        for pause in (0, 150, 250, 400):
            await send(context, dut, Packet(RESEND, 0, 0).line())
            await wait(context, pause)
        await send(context, dut, Packet(0, 0, 5).line())
        found = [packet for packet in await answers(context, dut) if packet.flags & DATA]
        assert all(packet.words == (packet.sequence | MARK,) for packet in found)
        assert found[-1].sequence == 5
        await put(context, dut.from_chip, {"data": 6, "last": 1})
        assert await answers(context, dut) == [Packet(DATA | LAST, 6, 0, 0, (6 | MARK,))]

    run(host)


@pytest.mark.parametrize("when", [0, 37, 200, 430, 777, 1200])
def test_hello_in_the_middle_of_things_begins_anew(when: int) -> None:
    """Whatever is under way in both directions, after the greeting there is nothing of it."""
    quiet = False

    async def chip(context: Any, dut: PacketBridge) -> None:
        word = 0
        while not quiet:
            context.set(dut.from_chip.valid, 1)
            context.set(dut.from_chip.payload, {"data": 0xDEAD0000 | word, "last": word % 5 == 4})
            _, _, reset, ready = await context.tick().sample(dut.chip_reset, dut.from_chip.ready)
            assert not (reset and ready), "a word was taken from a chip in reset"
            word += ready
            if reset:
                break
        context.set(dut.from_chip.valid, 0)

    async def watch(context: Any, dut: PacketBridge) -> None:
        cycles = 0
        while not quiet:
            _, _, reset, valid = await context.tick().sample(dut.chip_reset, dut.to_chip.valid)
            assert not (reset and valid), "a word was given to a chip in reset"
            cycles += reset
        assert cycles >= 2

    async def host(context: Any, dut: PacketBridge) -> None:
        nonlocal quiet
        old = b"".join(data((0xBAD, 0xBAD), index).line() for index in range(3))
        await send(context, dut, old)
        await rest(context, when + 1)
        await send(context, dut, data((0xBAD, 0xBAD), 3).line()[: when % 13] + b"\0" + hello(77).line())
        while (packet := await hear(context, dut)).flags & HELLO == 0:
            pass
        assert packet[1:] == (0, 0, 0, packet.words)
        assert packet.words[0] == 77
        quiet = True
        await send(context, dut, data((1, 2 | MARK), 0).line())
        assert await take(context, dut, 2) == [1, 2 | MARK]
        await put(context, dut.from_chip, {"data": 3, "last": 1})
        found = await answers(context, dut)
        assert Packet(DATA | LAST, 0, 1, 1, (3 | MARK,)) in [packet._replace(next=1, drained=1) for packet in found]
        assert (found[-1].next, found[-1].drained) == (1, 1)

    run(host, chip, watch)


# ---- with the serial port --------------------------------------------------------------------------------------------


def test_bits_in_and_bits_out() -> None:
    divisor = 4
    dut = SerialBridge(CLOCK, CLOCK // divisor)
    found: list[Packet | None] = []

    async def speak(context: Any) -> None:
        for byte in b"\0" + hello(9).line() + data((0x55AA00FF | MARK,), 0).line():
            for bit in (0, *(byte >> place & 1 for place in range(8)), 1):
                context.set(dut.rx, bit)
                await wait(context, divisor)

    async def listen(context: Any) -> None:
        encoded = bytearray()
        while len(found) < 2:
            while context.get(dut.tx):
                await context.tick()
            await wait(context, divisor // 2)
            byte = 0
            for place in range(8):
                await wait(context, divisor)
                byte |= context.get(dut.tx) << place
            await wait(context, divisor)
            assert context.get(dut.tx) == 1
            if byte:
                encoded.append(byte)
            else:
                found.append(read(bytes(encoded)))
                encoded.clear()

    async def sink(context: Any) -> None:
        word = await get(context, dut.to_chip)
        assert (word.data, word.last) == (0x55AA00FF, 1)

    simulate(dut, speak, listen, sink, cycles=20_000)
    facts = (9, 0x53504B55, 1 | 7 << 8 | 16 << 16, CLOCK)
    assert found[0] == Packet(HELLO, 0, 0, 0, facts)
    assert found[1] is not None
    assert found[1].next == 1


def test_settings_that_cannot_work_are_refused() -> None:
    with pytest.raises(ValueError, match="baud = 7000000: a bit must last a whole number of clock cycles, at least 4"):
        SerialBridge(24_000_000, 7_000_000)
    with pytest.raises(ValueError, match="baud = 5200000"):
        SerialBridge(24_000_000, 5_200_000)
    with pytest.raises(ValueError, match="baud = 0"):
        SerialBridge(24_000_000, 0)
    with pytest.raises(ValueError, match="ring_bytes = 4096: must be one of 256, 512, 1024, 2048"):
        PacketBridge(24_000_000, 4096)
    with pytest.raises(ValueError, match="clock_hz = 0"):
        PacketBridge(0)
    assert SerialBridge(12_000_000, 115_200).divisor == 104
