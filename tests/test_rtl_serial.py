"""The chip's end of the serial link, with a small host of its own: packets by `zlib` and `cobs`, noise on the line."""

from __future__ import annotations

import random
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import pytest
from cobs import cobs
from streams import get, no_pauses, pauses, put, simulate

from rtl.serial import PacketBridge

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


@pytest.mark.parametrize("ring_bytes", [256, 512, 2048])
def test_both_streams_arrive_over_a_good_line_and_nothing_is_sent_again(ring_bytes: int) -> None:
    host = exchange(frames(1, 6), frames(2, 6), ring_bytes=ring_bytes)
    assert not any(flags & (RESEND | BUSY) for flags in host.flags)


@pytest.mark.parametrize("seed", range(4))
def test_both_streams_arrive_exactly_once_over_a_bad_line(seed: int) -> None:
    host = exchange(
        frames(3 + seed, 6),
        frames(4 + seed, 6),
        often=0.01,
        seed=seed,
        slow_in=pauses(1, 0.3, 60),
        slow_out=pauses(2, 0.3, 60),
        busy=True,
    )
    assert all(flags & BUSY for flags in host.flags)
