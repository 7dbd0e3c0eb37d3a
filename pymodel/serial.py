"""The chip's end of the serial link (``docs/serial.md``), byte for byte but without time: bytes in, bytes out."""

from __future__ import annotations

import zlib
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice, pairwise
from typing import Protocol

import numpy as np
from cobs import cobs
from numpy.typing import NDArray

from pymodel.chip import GoldenChip
from pymodel.die import neutral_globals
from rtl.config import ChipConfig
from rtl.packets import EMPTY_BODY, HEADER_BYTES, LONGEST_BODY, PACKET_WORDS, SERIAL_MAGIC, SERIAL_VERSION, Flag
from rtl.registers import LAST, REGION_SHIFT, Opcode, Region, registers


class Carrier(Protocol):
    """Whatever carries out frames: a :class:`GoldenChip`, a simulated chip."""

    def exchange(self, words: NDArray[np.uint64]) -> NDArray[np.uint64]:
        """Take the words of whole frames, return those of their answers."""
        ...


@dataclass(frozen=True)
class Packet:
    """The body of a packet but for its CRC; `payload`: words of four bytes, lowest first."""

    flags: Flag
    sequence: int = 0
    next: int = 0
    drained: int = 0
    payload: bytes = b""

    def encode(self) -> bytes:
        """What is sent: the body with its CRC in COBS, and the byte 0 that ends it."""
        header = bytes((self.flags, self.sequence & 0xFF, self.next & 0xFF, self.drained & 0xFF))
        body = header + self.payload
        return cobs.encode(body + zlib.crc32(body).to_bytes(4, "little")) + b"\0"

    @classmethod
    def decode(cls, encoded: bytes) -> Packet | None:
        """Inverse of :meth:`encode`, for what was received before a byte 0; ``None`` if it is no good packet."""
        try:
            body = cobs.decode(encoded)
        except cobs.DecodeError:
            return None
        if not EMPTY_BODY <= len(body) <= LONGEST_BODY or len(body) % 4:
            return None
        if zlib.crc32(body[:-4]) != int.from_bytes(body[-4:], "little"):
            return None
        return cls(Flag(body[0]), body[1], body[2], body[3], body[HEADER_BYTES:-4])


def packets(words: NDArray[np.uint64]) -> Iterator[tuple[Flag, bytes]]:
    """Flags and payloads that carry link `words`: cut after each `last` word and where a packet is full."""
    marks = words >> np.uint64(32) != 0
    raw = words.astype("<u4").tobytes()
    ends = (np.flatnonzero(marks) + 1).tolist()
    for start, end in pairwise(sorted({0, *ends, len(words)})):
        for a in range(start, end, PACKET_WORDS):
            b = min(a + PACKET_WORDS, end)
            yield Flag.DATA | (Flag.LAST if marks[b - 1] else Flag(0)), raw[4 * a : 4 * b]


def _frame(opcode: Opcode, address: int, payload: list[int]) -> NDArray[np.uint64]:
    words = np.array([opcode << 24 | len(payload), address, *payload, LAST], np.uint64)
    words[-1] |= np.uint64(zlib.crc32(words[:-1].astype("<u4").tobytes()))
    return words


class GoldenSerial:
    """Model of the bridge between a UART and the two streams of a chip, and the chip behind it.

    Packets that come together have one answer in common. All that a chip does takes no time, except that it waits while
    its answers are more than `store` packets that the host has not acknowledged.

    Parameters
    ----------
    cfg
        The chip.
    chip
        What is behind the bridge. Default: a :class:`GoldenChip`.
    window, store
        Packets from the host and to the host that there is room for.
    clock_hz
        Frequency that the greeting tells.
    """

    def __init__(
        self,
        cfg: ChipConfig,
        chip: Carrier | None = None,
        *,
        window: int = 16,
        store: int = 16,
        clock_hz: int = 12_000_000,
    ) -> None:
        self.cfg = cfg
        self.chip: Carrier = GoldenChip(cfg) if chip is None else chip
        self.window, self.store, self.clock_hz = window, store, clock_hz
        self._encoded = b""
        self._forget()

    def receive(self, data: bytes, stalled: bool = False) -> bytes:
        """Take bytes from the host's side of the line and return what the chip sends then.

        `stalled`: the chip is in the middle of a frame, as if that took long; it takes no words and finishes nothing.
        """
        *encoded, rest = (self._encoded + data).split(b"\0")
        self._encoded = rest[: LONGEST_BODY + 2]  # longer is no packet, however it goes on
        greetings = [self._take(packet) for packet in map(Packet.decode, encoded) if packet is not None]
        if not stalled:
            self._work()
        return b"".join(greetings) + self._speak()

    def _forget(self) -> None:
        """Empty both directions and count from 0."""
        self._expected = self._drained = self._first = self._sent = self._told = 0
        """Packets taken from the host and by the chip; number of the first packet stored, how many of those stored
        have been sent since the host last asked to begin again, and at all."""
        self._received: deque[Packet] = deque()
        self._frame: list[NDArray[np.uint64]] = []
        """Words that the chip has of a frame that is not complete."""
        self._waiting: deque[tuple[Flag, bytes]] = deque()
        """Packets of answers that the chip could not give away yet."""
        self._stored: deque[tuple[Flag, bytes]] = deque()
        self._owes = self._missing = False
        self._drained_told = 0

    # ---- from the host -----------------------------------------------------------------------------------------

    def _take(self, packet: Packet) -> bytes:
        """Take one good packet; returns a greeting, or nothing."""
        if packet.flags & Flag.HELLO:
            return self._greet(packet)
        if packet.flags & Flag.DATA and not packet.payload:
            return b""
        self._owes = True
        acknowledged = (packet.next - self._first) & 0xFF
        if acknowledged <= self._told:
            for _ in range(acknowledged):
                self._stored.popleft()
            self._first += acknowledged
            self._told -= acknowledged
            self._sent = max(self._sent - acknowledged, 0)
        if packet.flags & Flag.RESEND:
            self._sent = 0
        if packet.flags & Flag.DATA:
            ahead = (packet.sequence - self._expected) & 0xFF
            if ahead == 0 and len(self._received) < self.window:
                self._expected += 1
                self._received.append(packet)
            elif 0 < ahead < 128:
                self._missing = True
        return b""

    def _greet(self, packet: Packet) -> bytes:
        if len(packet.payload) != 4:
            return b""
        self._forget()
        # Registers as after power-up, by frames: the chip itself is never given a frame that is not complete.
        pairs = [
            word & 0xFFFFFFFF
            for register in registers(self.cfg)
            if not register.readonly
            for word in (register.offset, register.reset)
        ]
        words = _frame(Opcode.SCATTER, 0, pairs)
        if self.cfg.die_tables:
            words = np.append(
                words, _frame(Opcode.WRITE, Region.DIE_GLOBAL << REGION_SHIFT, neutral_globals().tolist())
            )
        self.chip.exchange(words)
        sizes = SERIAL_VERSION | self.window << 8 | PACKET_WORDS << 16
        greeting = np.array([SERIAL_MAGIC, sizes, self.clock_hz], "<u4").tobytes()
        return Packet(Flag.HELLO, payload=packet.payload + greeting).encode()

    # ---- the chip ----------------------------------------------------------------------------------------------

    def _work(self) -> None:
        """Let the chip take what was received, as long as there is room for its answers."""
        while True:
            while self._waiting and len(self._stored) < self.store:
                self._stored.append(self._waiting.popleft())
            if self._waiting or not self._received:
                return
            # All at once, which is faster than frame by frame.
            for packet in self._received:
                words = np.frombuffer(packet.payload, "<u4").astype(np.uint64)
                if packet.flags & Flag.LAST:
                    words[-1] |= np.uint64(LAST)
                self._frame.append(words)
            self._drained += len(self._received)
            self._received.clear()
            words = np.concatenate(self._frame)
            ends = np.flatnonzero(words >> np.uint64(32))
            if len(ends):
                whole, rest = np.split(words, [ends[-1] + 1])
                self._frame = [rest]
                self._waiting.extend(packets(self.chip.exchange(whole)))

    # ---- to the host -------------------------------------------------------------------------------------------

    def _speak(self) -> bytes:
        """Packets that are due."""
        state = Flag.BUSY if self._received or self._waiting else Flag(0)
        due = [*islice(self._stored, self._sent, None)]
        if not due and (self._owes or self._drained != self._drained_told):
            due = [(Flag(0), b"")]
        sent = b""
        for index, (flags, payload) in enumerate(due, self._first + self._sent):
            if self._missing:
                flags |= Flag.RESEND
                self._missing = False
            sent += Packet(flags | state, index, self._expected, self._drained, payload).encode()
        self._sent = len(self._stored)
        self._told = max(self._told, self._sent)
        self._owes, self._drained_told = False, self._drained
        return sent
