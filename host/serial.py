"""A chip at a serial port: the host's end of the link of ``docs/serial.md``.

The line may lose, double and damage bytes; the words that go in and out here are complete, in order and nothing twice.
All timers are here: whoever waits too long asks, and the answer tells a lost packet from a chip that is busy.
"""

from __future__ import annotations

import errno
import math
import secrets
import time
import zlib
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import serial
from cobs import cobs
from numpy.typing import NDArray
from serial.tools import list_ports

from host.errors import BackendError, LinkLost
from rtl.config import ChipConfig
from rtl.packets import EMPTY_BODY, HEADER_BYTES, LONGEST_BODY, PACKET_WORDS, SERIAL_MAGIC, SERIAL_VERSION, Flag
from rtl.registers import LAST

BAUD_RATES = (1_000_000, 3_000_000, 2_000_000, 921_600, 500_000, 460_800, 230_400, 115_200)
"""Tried in this order if none is given."""

PROBE_SECONDS = 0.4
"""How long an answer to HELLO is waited for at each of them."""

HELLO_SECONDS = 0.1
"""After which HELLO is sent again."""

TICK_SECONDS = 0.01
"""Longest wait for a byte; the grain of all timers."""

SHORTEST_WAIT = 0.03
LONGEST_WAIT = 0.5
"""Seconds after which the host asks what became of what it sent; adapters keep bytes back for up to 16 ms."""

BITS_PER_BYTE = 10

NO_FLAGS = Flag(0)


@dataclass
class Traffic:
    """Counts since the port was opened."""

    packets_sent: int = 0
    packets_repeated: int = 0
    """Of those sent."""
    packets_received: int = 0
    packets_damaged: int = 0
    polls: int = 0
    bytes_sent: int = 0
    bytes_received: int = 0


@dataclass(frozen=True)
class Packet:
    """The body of a packet without its CRC."""

    flags: Flag
    sequence: int
    next: int
    drained: int
    payload: bytes


def encode(flags: Flag, sequence: int, following: int, payload: bytes = b"") -> bytes:
    """A packet from the host as it is sent, with the byte 0 that ends it; `following`: its field `next`."""
    body = bytes((flags, sequence & 0xFF, following & 0xFF, 0)) + payload
    return cobs.encode(body + zlib.crc32(body).to_bytes(4, "little")) + b"\0"


def decode(encoded: bytes) -> Packet | None:
    """The packet in the bytes before a byte 0; ``None`` if they are damaged."""
    try:
        body = cobs.decode(encoded)
    except cobs.DecodeError:
        return None
    if not EMPTY_BODY <= len(body) <= LONGEST_BODY or len(body) % 4:
        return None
    if zlib.crc32(body[:-4]) != int.from_bytes(body[-4:], "little"):
        return None
    return Packet(Flag(body[0]), body[1], body[2], body[3], body[HEADER_BYTES:-4])


class _Outbox:
    """Link words cut into packets, which are numbered from `first` on and made when they are sent."""

    def __init__(self, words: NDArray[np.uint64], first: int, longest: int) -> None:
        lasts = (np.flatnonzero(words >> np.uint64(32)) + 1).tolist()
        self.answers_due = len(lasts)
        self._raw = words.astype("<u4").tobytes()
        self._lasts = frozenset(lasts)
        frames = pairwise(sorted({0, *lasts, len(words)}))
        self._starts = [start for a, b in frames for start in range(a, b, longest)]
        self._first, self.end = first, first + len(self._starts)
        self._starts.append(len(words))

    def __getitem__(self, index: int) -> tuple[Flag, bytes]:
        start, stop = self._starts[index - self._first : index - self._first + 2]
        return Flag.DATA | (Flag.LAST if stop in self._lasts else NO_FLAGS), self._raw[4 * start : 4 * stop]


class _Line:
    """Bytes through an open port."""

    def __init__(self, port: Any, traffic: Traffic) -> None:
        self.port, self.traffic = port, traffic
        self.free_at = 0.0
        """When the last byte written so far has left, as far as the baud rate tells."""

    def write(self, data: bytes) -> None:
        """Send bytes."""
        self.port.write(data)
        self.traffic.bytes_sent += len(data)
        self.free_at = max(time.monotonic(), self.free_at) + len(data) * BITS_PER_BYTE / self.port.baudrate

    def read(self) -> bytes:
        """What has come; waits for it for a tick at most."""
        data: bytes = self.port.read(1)
        if data:
            data += self.port.read(self.port.in_waiting)
            self.traffic.bytes_received += len(data)
        return data


class _Session:
    """Both directions since a greeting. Packets are counted from there on, without the modulus."""

    def __init__(self, line: _Line, window: int, packet_words: int, timeout: float, round_trip: float) -> None:
        self.line, self.window, self.packet_words, self.timeout = line, window, packet_words, timeout
        self.round_trip, self._deviation = round_trip, round_trip / 2
        self._rest = b""
        self._acked = self._drained = self._expected = 0
        """Packets that the chip has, that it has used up, that the host has."""
        self._owes = self._asks = False
        """An acknowledgement is due; RESEND goes with the next packet."""

    def carry(self, words: NDArray[np.uint64]) -> NDArray[np.uint64]:
        """Send `words`; return all answers, when all packets are acknowledged and each frame has its answer."""
        first = self._acked
        self._outbox = outbox = _Outbox(words, first, self.packet_words)
        self._inbox: list[bytes] = []
        self._ends: list[int] = []
        """Words of the inbox up to the end of each answer."""
        self._words = 0
        self._next = self._top = first
        """The packet to send next, and the first that was never sent."""
        self._timed, self._timed_at = -1, 0.0
        """A packet whose acknowledgement is timed, and when it was sent."""
        self._probing = False
        """A poll is under way: the answer to it says what is lost."""
        self._gone_back, self._missed = (-1, 0.0), (-1, 0.0)
        """The packet last sent again and last asked for, and until when what comes may be older than that."""
        self._strange = False
        """What comes does not fit what was sent."""
        self._wait = self._patience()
        self._heard = self._alive = time.monotonic()
        """When the chip last said anything, and when it last got on or was busy."""
        self._deadline = self._alive + self._wait
        while self._acked < outbox.end or len(self._ends) < outbox.answers_due:
            self._send()
            for packet in self._receive():
                self._take(packet)
            if time.monotonic() > self._deadline:
                self._poll()
        answers = np.frombuffer(b"".join(self._inbox), "<u4").astype(np.uint64)
        answers[np.array(self._ends, np.int64) - 1] |= np.uint64(LAST)
        return answers

    # ---- to the chip -------------------------------------------------------------------------------------------

    def _send(self) -> None:
        """Send what there is room for, or an acknowledgement that is due."""
        limit = min(self._outbox.end, self._drained + self.window)
        if self._next >= limit and not (self._owes or self._asks):
            return
        burst = []
        for index in range(self._next, limit):
            flags, payload = self._outbox[index]
            burst.append(encode(flags | self._request(), index, self._expected, payload))
        traffic = self.line.traffic
        traffic.packets_repeated += max(min(self._top, limit) - self._next, 0)
        if limit > self._top and self._timed < 0:
            self._timed, self._timed_at = self._top, time.monotonic()
        self._next, self._top = max(self._next, limit), max(self._top, limit)
        self._write(burst or [encode(self._request(), self._next, self._expected)])

    def _poll(self) -> None:
        """Ask what became of everything, having waited too long."""
        now = time.monotonic()
        if now - self._alive > self.timeout:
            raise LinkLost(self._complaint(now))
        self._probing = self._asks = True
        self._timed = -1
        self._wait = min(2 * self._wait, LONGEST_WAIT, max(self.timeout / 4, SHORTEST_WAIT))
        self.line.traffic.polls += 1
        self._write([encode(self._request(), self._next, self._expected)])

    def _write(self, burst: list[bytes]) -> None:
        self._owes = False
        self.line.write(b"".join(burst))
        self.line.traffic.packets_sent += len(burst)
        self._deadline = max(time.monotonic(), self.line.free_at) + self._wait

    def _request(self) -> Flag:
        asks, self._asks = self._asks, False
        return Flag.RESEND if asks else NO_FLAGS

    # ---- from the chip -----------------------------------------------------------------------------------------

    def _receive(self) -> list[Packet]:
        """Good packets that have come."""
        data = self.line.read()
        if not data:
            return []
        *encoded, self._rest = (self._rest + data).split(b"\0")
        self._rest = self._rest[: LONGEST_BODY + 2]  # longer is no packet, however it goes on
        whole = [packet for packet in map(decode, filter(None, encoded)) if packet is not None]
        self.line.traffic.packets_received += len(whole)
        self.line.traffic.packets_damaged += sum(map(bool, encoded)) - len(whole)
        return whole

    def _take(self, packet: Packet) -> None:
        if packet.flags & Flag.HELLO:  # HELLO was sent again although an answer was on its way
            return
        now = time.monotonic()
        self._heard = now
        acked = self._acked + (packet.next - self._acked & 0xFF)
        drained = self._drained + (packet.drained - self._drained & 0xFF)
        self._strange = max(acked, drained) > self._top
        if self._strange:
            return
        # The chip may look at its counts one after the other, and what it has used up it has received.
        acked = max(acked, drained)
        advances = acked > self._acked or drained > self._drained
        self._acked, self._drained = acked, drained
        self._next = max(self._next, acked)
        if 0 <= self._timed < acked:
            self._measured(now - self._timed_at)
            self._timed = -1
        if acked < self._next and (
            self._probing or (packet.flags & Flag.RESEND and self._is_news(self._gone_back, acked))
        ):
            self._next, self._timed = acked, -1
            self._gone_back = (acked, self._stale_until())
        self._probing = False
        if packet.flags & Flag.DATA and packet.payload:
            advances |= self._keep(packet)
        if advances:
            self._wait = self._patience()
        if advances or packet.flags & Flag.BUSY:
            self._alive = now
        self._deadline = max(now, self.line.free_at) + self._wait

    def _keep(self, packet: Packet) -> bool:
        """Take words of answers, if they are the next ones; else see to it that these are sent again."""
        self._owes = True
        ahead = packet.sequence - self._expected & 0xFF
        if ahead == 0:
            self._expected += 1
            self._inbox.append(packet.payload)
            self._words += len(packet.payload) // 4
            if packet.flags & Flag.LAST:
                self._ends.append(self._words)
            return True
        if ahead < 128 and self._is_news(self._missed, self._expected):
            self._asks = True
            self._missed = (self._expected, self._stale_until())
        return False

    # ---- time --------------------------------------------------------------------------------------------------

    def _measured(self, seconds: float) -> None:
        self._deviation += (abs(seconds - self.round_trip) - self._deviation) / 4
        self.round_trip += (seconds - self.round_trip) / 8

    def _patience(self) -> float:
        return min(max(self.round_trip + 4 * self._deviation, SHORTEST_WAIT), LONGEST_WAIT)

    def _stale_until(self) -> float:
        return max(time.monotonic(), self.line.free_at) + self.round_trip

    @staticmethod
    def _is_news(handled: tuple[int, float], packet: int) -> bool:
        """Whether word that `packet` is missing can be about another loss than the one that was seen to."""
        return packet != handled[0] or time.monotonic() > handled[1]

    def _complaint(self, now: float) -> str:
        due = self._outbox.answers_due - len(self._ends)
        what = f"with {due} frames unanswered" if due else "with words on the way"
        if now - self._heard > self.timeout:
            return f"was silent for {now - self._heard:.1f} s {what}"
        if self._strange:
            return f"is answered as if the chip had been reset, {what}"
        return f"got no further for {now - self._alive:.1f} s {what}, and the chip says that it has nothing to do"


class SerialBackend:
    """The chip `cfg` at the serial port `device`, such as ``/dev/ttyUSB0`` or ``COM3``; a context manager.

    Parameters
    ----------
    baud
        Baud rate. Default: the first of :data:`BAUD_RATES` at which a chip answers.
    timeout
        Seconds after which a chip that says nothing at all, or that it has nothing to do although it should, counts as
        lost. One that says that it is busy is waited for without end.

    Attributes
    ----------
    baud, clock_hz
        Baud rate found, and frequency of the chip's clock.
    traffic
        :class:`Traffic`.

    Raises
    ------
    BackendError
        For options that are not allowed, a port that cannot be opened, and one where no chip answers.
    """

    died = (LinkLost,)
    """What :meth:`exchange` raises when ``restart()`` may help."""

    keeps_memories = True
    """A session finds the chip's memories as the one before left them."""

    def __init__(self, cfg: ChipConfig, device: str, *, baud: int | None = None, timeout: float = 5.0) -> None:
        if baud is not None and (isinstance(baud, bool) or not isinstance(baud, int) or baud < 1):
            raise BackendError(f"baud = {baud!r}: must be an integer from 1 on, or None to try the usual rates")
        if isinstance(timeout, bool) or not isinstance(timeout, (int, float)) or not 0 < timeout < math.inf:
            raise BackendError(f"timeout = {timeout!r}: must be a number of seconds above 0")
        self.cfg, self.device, self.timeout = cfg, device, float(timeout)
        self.traffic = Traffic()
        self._line: _Line | None = None
        self._session: _Session | None = None
        self._connect(BAUD_RATES if baud is None else (baud,))

    # ---- interface ---------------------------------------------------------------------------------------------

    @property
    def round_trip(self) -> float:
        """Seconds from a packet to its acknowledgement, smoothed; the way of those before it on the line included."""
        return math.nan if self._session is None else self._session.round_trip

    def exchange(self, words: NDArray[np.uint64]) -> NDArray[np.uint64]:
        """Send `words` (bit 32: ``last``) and return the answers to all frames that they complete.

        Raises
        ------
        LinkLost
            If the line falls silent or the port vanishes, and from then on; also after an exception (Ctrl-C) in the
            middle of an exchange. Frames under way have been carried out, in part or not at all. :meth:`restart` begins
            anew; what was written before is then to be written again.
        """
        session, self._session = self._session, None  # back when all has gone well
        if session is None:
            raise LinkLost(f"the serial link to {self.device} was broken off before: call restart()")
        try:
            answers = session.carry(np.ascontiguousarray(words, np.uint64).reshape(-1))
        except LinkLost as error:
            raise LinkLost(f"the serial link to {self.device} {error}") from None
        except OSError as error:  # pyserial's errors are OSErrors
            raise LinkLost(f"the serial port {self.device} failed: {error}") from error
        self._session = session
        return answers

    def restart(self) -> None:
        """Open the port again and begin anew: the chip's registers are as after power-up, its memories as they are.

        A frame that was under way may have been carried out in part: whoever begins anew writes everything again.

        Raises
        ------
        LinkLost
            If that does not work within `timeout`.
        """
        end = time.monotonic() + self.timeout
        while True:
            self.close()
            try:
                self._connect((self.baud,))
                return
            except BackendError as error:
                if time.monotonic() > end:
                    raise LinkLost(f"the serial link did not come back within {self.timeout:g} s: {error}") from error
                time.sleep(TICK_SECONDS)

    def close(self) -> None:
        """Give the port back. May be called again."""
        line, self._line, self._session = self._line, None, None
        if line is not None:
            with suppress(OSError):
                line.port.close()

    def __enter__(self) -> SerialBackend:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # ---- beginning ---------------------------------------------------------------------------------------------

    def _connect(self, rates: Sequence[int]) -> None:
        """Open the port and find the chip at one of these baud rates."""
        self._line = line = _Line(_open(self.device, self.timeout), self.traffic)
        heard = {}
        try:
            for baud in rates:
                try:
                    line.port.baudrate = baud
                except (OSError, ValueError):  # no rate of this adapter
                    continue
                line.port.reset_input_buffer()
                heard[baud], begun = self._greet(line)
                if begun:
                    self.baud = baud
                    return
            raise BackendError(_nobody(self.device, rates, heard))
        except OSError as error:
            self.close()
            raise BackendError(f"the serial port {self.device} failed: {error}") from error
        except BaseException:
            self.close()
            raise

    def _greet(self, line: _Line) -> tuple[bytes, bool]:
        """Say HELLO for a while; returns what was heard, and whether it begins a session."""
        number = secrets.token_bytes(4)
        hello = b"\0" + encode(Flag.HELLO, 0, 0, number)
        heard, now = b"", time.monotonic()
        again, end = now, now + PROBE_SECONDS
        while now < end:
            if now >= again:
                sent_at, again = now, now + HELLO_SECONDS
                line.write(hello)
            heard += line.read()
            now = time.monotonic()
            for packet in map(decode, heard.split(b"\0")[:-1]):
                if packet is not None and packet.flags & Flag.HELLO and packet.payload[:4] == number:
                    self._begin(line, packet.payload[4:], now - sent_at)
                    return heard, True
        return heard, False

    def _begin(self, line: _Line, greeting: bytes, round_trip: float) -> None:
        """Begin a session by the rules of a greeting."""
        if not greeting:
            raise BackendError(f"the serial port {self.device} gives back what is sent: no chip is connected to it")
        magic, sizes, clock_hz = (int.from_bytes(greeting[at : at + 4], "little") for at in (0, 4, 8))
        if magic != SERIAL_MAGIC:
            raise BackendError(
                f"what is at the serial port {self.device} greets with 0x{magic:08X} instead of 0x{SERIAL_MAGIC:08X}: "
                "it is no spikeloop chip"
            )
        version, window, packet_words = sizes & 0xFF, sizes >> 8 & 0xFF, sizes >> 16 & 0xFF
        if version != SERIAL_VERSION:
            raise BackendError(
                f"the chip at {self.device} speaks version {version} of the serial link: this host knows version "
                f"{SERIAL_VERSION} only"
            )
        if not 1 <= window <= 127 or not 1 <= packet_words <= PACKET_WORDS:
            raise BackendError(
                f"the chip at {self.device} greets with a window of {window} packets of {packet_words} words: must be "
                f"1 to 127 packets of 1 to {PACKET_WORDS} words"
            )
        self.clock_hz = clock_hz
        self._session = _Session(line, window, packet_words, self.timeout, round_trip)


# ---- ports --------------------------------------------------------------------------------------------------------


def parse(name: str) -> tuple[str, dict[str, Any]]:
    """Device and options of a backend ``serial:DEVICE`` or ``serial:DEVICE@BAUD``.

    Raises
    ------
    BackendError
        For a name without a device.
    """
    device, at, baud = name.removeprefix("serial").removeprefix(":").rpartition("@")
    if not at or not baud.isdecimal():
        device, baud = device + at + baud, ""
    if not device:
        raise BackendError(f"backend = {name!r}: must name a serial port, for example serial:/dev/ttyUSB0; {_ports()}")
    return device, {"baud": int(baud)} if baud else {}


def _ports() -> str:
    """The ports that exist, as a clause."""
    found = sorted(port.device for port in list_ports.comports())
    return f"there are {', '.join(found)}" if found else "there is none at present"


def _open(device: str, timeout: float) -> Any:
    """The port, for this process alone."""
    try:
        port = serial.Serial(device, BAUD_RATES[-1], timeout=TICK_SECONDS, write_timeout=timeout, exclusive=True)
    except ValueError as error:
        raise BackendError(f"the serial port {device} cannot be used: {error}") from error
    except OSError as error:
        raise BackendError(_refusal(device, error)) from error
    # Adapters of FTDI keep bytes back for 16 ms otherwise; others do not know the wish.
    with suppress(OSError, ValueError, AttributeError, NotImplementedError):
        port.set_low_latency_mode(True)
    return port


def _refusal(device: str, error: OSError) -> str:
    """Why a port could not be opened."""
    if error.errno in (errno.ENOENT, errno.ENODEV, errno.ENXIO) or isinstance(error.__context__, FileNotFoundError):
        return f"there is no serial port {device}: {_ports()}"
    if error.errno in (errno.EACCES, errno.EPERM):
        return f"no permission for the serial port {device}{_group(device)}"
    if error.errno in (errno.EAGAIN, errno.EBUSY):
        return f"the serial port {device} is in use by another program"
    return f"{device} cannot be used as a serial port: {error}"


def _group(device: str) -> str:
    """Whom the port belongs to, as far as the system tells."""
    with suppress(OSError, KeyError, NotImplementedError):
        group = Path(device).group()
        return (
            f": it belongs to the group {group}, become a member of it (sudo usermod -aG {group} $USER) and log in anew"
        )
    return ""


def _nobody(device: str, rates: Sequence[int], heard: dict[int, bytes]) -> str:
    """What was heard where no chip answered."""
    tried = " ".join(str(rate) for rate in heard)
    if not heard:
        return f"the serial port {device} knows none of the baud rates {' '.join(map(str, rates))}"
    baud, most = max(heard.items(), key=lambda item: len(item[1]))
    if not most:
        return (
            f"nothing answers at the serial port {device} (baud rates tried: {tried}): is the board powered, does it "
            "carry the bitstream of a chip, is this its port?"
        )
    return (
        f"something else than a spikeloop chip answers at the serial port {device} (baud rates tried: {tried}): "
        f"{len(most)} bytes came at {baud} baud, the first are {most[:8].hex(' ')}"
    )
