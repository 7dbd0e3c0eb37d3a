"""The memory that the parent shares with the simulator process: a header, then input words, then output words.

The region is a file without a name (``memfd`` on Linux, an unlinked temporary file elsewhere) whose descriptor the
child inherits: whatever kills either process, nothing is left behind. ``simulator.cpp`` maps the same region and
holds the same table of fields.

A burst is asked for by writing its number to ``COMMAND`` and is over when ``ANSWER`` holds that number. Each side
first looks at the memory for some microseconds and then waits on the socket; it says so in ``ASLEEP`` or
``PARENT_WAITS``, so that the other side sends a message. Back-to-back commands therefore need no system call.
"""

from __future__ import annotations

import mmap
import os
import tempfile
from contextlib import suppress
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

HEADER_WORDS = 512
"""64-bit words of the header; one page, so that the words behind it are aligned."""


class Field(IntEnum):
    """Index of each 64-bit field of the header."""

    # Written by the parent.
    IN_COUNT = 0
    """Input words of this burst."""
    MORE = 1
    """1 if further input follows: the burst then ends as soon as its input is used up."""
    IN_OFFSET = 2
    OUT_OFFSET = 3
    """Where input and output words begin, in 64-bit words from the start of the region."""
    OUT_CAPACITY = 4
    """Room for output words."""
    WATCHDOG = 5
    """Clock cycles without a word moving after which the chip counts as stuck; 0: never."""
    SPIN = 6
    """Nanoseconds for which the simulator looks for the next command before it waits on the socket."""
    COMMAND = 7
    """Number of the burst that is wanted; written last."""
    PARENT_WAITS = 8
    """1 if the parent waits on the socket and wants a message when the burst is over."""

    # Written by the simulator.
    IN_USED = 16
    OUT_COUNT = 17
    """Words taken from the input and stored to the output in this burst."""
    REASON = 18
    """Why the burst ended (:class:`Reason`)."""
    CYCLES = 19
    """Clock cycles since reset; updated while the clock runs."""
    ANSWER = 20
    """Number of the last burst that is over; written last."""
    ASLEEP = 21
    """1 if the simulator waits on the socket and wants a message when there is a command."""


class Reason(IntEnum):
    """State of a burst."""

    IDLE = 0
    WORKING = 1
    FINISHED = 2
    INPUT_WANTED = 3
    OUTPUT_FULL = 4
    STUCK = 5


class Region:
    """Shared region with room for ``words`` input words and as many output words."""

    def __init__(self, words: int, watchdog: int, spin_ns: int) -> None:
        self.capacity = words
        size = 8 * (HEADER_WORDS + 2 * words)
        self.fileno = _nameless_file()
        try:
            os.ftruncate(self.fileno, size)
            self._memory = mmap.mmap(self.fileno, size)
        except BaseException:
            os.close(self.fileno)
            raise
        self.header = memoryview(self._memory)[: 8 * HEADER_WORDS].cast("Q")
        self.header[Field.IN_OFFSET] = HEADER_WORDS
        self.header[Field.OUT_OFFSET] = HEADER_WORDS + words
        self.header[Field.OUT_CAPACITY] = words
        self.header[Field.WATCHDOG] = watchdog
        self.header[Field.SPIN] = spin_ns
        view = np.frombuffer(self._memory, dtype=np.uint64)
        self.input: NDArray[np.uint64] = view[HEADER_WORDS : HEADER_WORDS + words]
        self.output: NDArray[np.uint64] = view[HEADER_WORDS + words :]

    @property
    def cycles(self) -> int:
        """Clock cycles since reset; moves while the simulator works."""
        return self.header[Field.CYCLES]

    def close(self) -> None:
        """Give the memory back. Arrays sliced from :attr:`input` or :attr:`output` must not be used afterwards."""
        if self._memory.closed:
            return
        self.input = self.output = np.empty(0, dtype=np.uint64)
        self.header.release()
        os.close(self.fileno)
        with suppress(BufferError):  # somebody holds a slice still: the memory goes when the slice goes
            self._memory.close()


def _nameless_file() -> int:
    if hasattr(os, "memfd_create"):
        return os.memfd_create("spikeloop")
    with tempfile.TemporaryFile(prefix="spikeloop-") as file:
        return os.dup(file.fileno())
