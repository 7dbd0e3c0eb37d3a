"""A pseudo terminal with something behind it: the golden chip behind a bad line, or whatever a test needs."""

from __future__ import annotations

import os
import select
import termios
import threading
import tty
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np

Answer = Callable[[bytes], bytes]


class Noise:
    """Each byte is, with probability `rate`, changed, lost or doubled; reproducible by `seed`."""

    def __init__(self, rate: float, seed: int) -> None:
        self.rate, self._rng = rate, np.random.default_rng(seed)

    def __call__(self, data: bytes) -> bytes:
        hits = np.flatnonzero(self._rng.random(len(data)) < self.rate)
        damaged, at = b"", 0
        for hit in hits.tolist():
            damaged += data[at:hit]
            at = hit + 1
            match int(self._rng.integers(3)):
                case 0:
                    damaged += bytes([data[hit] ^ int(self._rng.integers(1, 256))])
                case 1:
                    damaged += data[hit : hit + 1] * 2
        return damaged + data[at:]


class Peer(threading.Thread):
    """Answers what comes through a pseudo terminal whose other end is the port `device`."""

    def __init__(self, answer: Answer, baud: int | None = None) -> None:
        super().__init__(daemon=True)
        self.answer, self.baud = answer, baud
        self._ours, self._theirs = os.openpty()
        tty.setraw(self._theirs)
        self.device = os.ttyname(self._theirs)
        self._stop_read, self._stop_write = os.pipe()
        self.failure: BaseException | None = None

    def run(self) -> None:
        try:
            while True:
                ready, _, _ = select.select([self._ours, self._stop_read], [], [])
                if self._stop_read in ready:
                    return
                data = os.read(self._ours, 4096)
                if self.baud is not None and termios.tcgetattr(self._ours)[5] != getattr(termios, f"B{self.baud}"):
                    data = bytes(byte ^ 0x55 for byte in data)
                answer = self.answer(data)
                while answer:
                    answer = answer[os.write(self._ours, answer) :]
        except BaseException as failure:
            self.failure = failure
            os.close(self._ours)

    def stop(self) -> None:
        os.write(self._stop_write, b"x")
        self.join(10)
        assert not self.is_alive()

    def unplug(self) -> None:
        """Take the port away."""
        self.stop()
        os.close(self._ours)
        os.close(self._theirs)


@contextmanager
def peer(answer: Answer, baud: int | None = None) -> Iterator[Peer]:
    """The device of a port at which `answer` is called with what was sent to it, and returns what to send back."""
    thread = Peer(answer, baud)
    thread.start()
    try:
        yield thread
    finally:
        if thread.is_alive():
            thread.unplug()
        if thread.failure is not None:
            raise thread.failure
