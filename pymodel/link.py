"""Frames: splitting the received stream, CRC, and the shape of answers (``docs/link.md``)."""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rtl.registers import ANSWER, LAST, Opcode, Status

_IS_OPCODE = np.isin(np.arange(256), [int(code) for code in Opcode])


def crc_of(words: NDArray[np.uint32], starts: NDArray[np.int64], stops: NDArray[np.int64]) -> NDArray[np.uint32]:
    """CRC-32 of the slices ``words[start:stop]`` of a contiguous array, each word as four bytes, lowest first."""
    view = words.astype("<u4", copy=False).view(np.uint8).data
    crc32 = zlib.crc32
    pairs = zip((starts * 4).tolist(), (stops * 4).tolist(), strict=True)
    return np.fromiter((crc32(view[a:b]) for a, b in pairs), np.uint32, len(starts))


@dataclass
class Frames:
    """The complete frames of a stream, each a slice ``words[start:stop]`` that ends with its CRC."""

    words: NDArray[np.uint32]
    start: NDArray[np.int64]
    stop: NDArray[np.int64]
    opcode: NDArray[np.int64]
    tag: NDArray[np.int64]
    address: NDArray[np.int64]
    status: NDArray[np.int64]
    """First of the checks of length, CRC and opcode that fails, else OK."""


def split(stream: NDArray[np.uint64], link_depth: int) -> tuple[Frames, NDArray[np.uint64]]:
    """Frames of `stream` and the words after the last complete one."""
    ends = np.flatnonzero(stream & np.uint64(LAST)) + 1
    used = int(ends[-1]) if len(ends) else 0
    words = stream[:used].astype(np.uint32)
    stop = ends.astype(np.int64)
    start = np.concatenate(([0], stop[:-1])).astype(np.int64) if len(stop) else stop
    header = words[start].astype(np.int64)
    size = stop - start
    status = np.full(len(stop), Status.OK, np.int64)
    opcode = header >> 24
    status[~_IS_OPCODE[opcode]] = Status.BAD_OPCODE
    complete = (size >= 3) & (size - 3 == header & 0xFFFF) & (size - 1 <= link_depth)
    whole = np.flatnonzero(complete)
    wrong = crc_of(words, start[whole], stop[whole] - 1) != words[stop[whole] - 1]
    status[whole[wrong]] = Status.BAD_CRC
    status[~complete] = Status.BAD_LENGTH
    address = words[np.minimum(start + 1, len(words) - 1)].astype(np.int64) if len(words) else start
    return Frames(words, start, stop, opcode, (header >> 16) & 0xFF, address, status), stream[used:]


def answers(
    opcode: NDArray[np.int64], tag: NDArray[np.int64], status: NDArray[np.int64], payload: NDArray[np.uint32]
) -> NDArray[np.uint64]:
    """Answers of equal length, one per row of `payload`, as one stream of link words."""
    n, length = payload.shape
    block = np.empty((n, length + 2), np.uint32)
    block[:, 0] = ((opcode | ANSWER) << 24) | (tag << 16) | status
    block[:, 1:-1] = payload
    starts = np.arange(n, dtype=np.int64) * (length + 2)
    block[:, -1] = crc_of(block.reshape(-1), starts, starts + length + 1)
    stream = block.astype(np.uint64)
    stream[:, -1] |= np.uint64(LAST)
    return stream.reshape(-1)
