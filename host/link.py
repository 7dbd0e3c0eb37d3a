"""Frames of ``docs/link.md`` on the host's side: building requests and taking answers apart, many at a time."""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from host.errors import ChipError, LinkError
from rtl.registers import ANSWER, LAST, REGION_SHIFT, Opcode, Region, Status

STATUS_TEXT = {
    Status.OK: "done",
    Status.BAD_CRC: "the frame's CRC was wrong",
    Status.BAD_LENGTH: "the frame's length does not fit its header, its opcode or the receive buffer",
    Status.BAD_OPCODE: "there is no such opcode",
    Status.BAD_ADDRESS: "there is no such region or row, or the range goes past its end",
    Status.DENIED: "the region cannot be read, or the register or region cannot be written",
    Status.BAD_LABEL: "the label is no output neuron",
}


def crc_of(words: NDArray[np.uint32], starts: NDArray[np.int64], stops: NDArray[np.int64]) -> NDArray[np.uint32]:
    """CRC-32 of the slices ``words[start:stop]`` of a contiguous array, each word as four bytes, lowest first."""
    view = words.astype("<u4", copy=False).view(np.uint8).data
    crc32 = zlib.crc32
    pairs = zip((starts * 4).tolist(), (stops * 4).tolist(), strict=True)
    return np.fromiter((crc32(view[a:b]) for a, b in pairs), np.uint32, len(starts))


def frames(
    opcode: Opcode,
    addresses: NDArray[np.uint32],
    payload: NDArray[np.uint32],
    lengths: NDArray[np.int64],
    first_tag: int = 0,
    labels: NDArray[np.uint32] | None = None,
) -> NDArray[np.uint64]:
    """Frames with one opcode as link words.

    Parameters
    ----------
    addresses
        uint32 ``(n,)``: address or, for RUN and LEARN, seed of each frame.
    payload
        uint32: the payloads one after the other, without labels.
    lengths
        int64 ``(n,)``: payload words of each frame, without labels.
    first_tag
        Tag of the first frame; the others count on, modulo 256.
    labels
        uint32 ``(n,)``: for LEARN, what precedes the payload of each frame.
    """
    n = len(addresses)
    head = 2 if labels is None else 3
    starts = np.zeros(n, np.int64)
    np.cumsum(lengths[:-1] + head + 1, out=starts[1:])
    words = np.empty(len(payload) + (head + 1) * n, np.uint32)
    ends = starts + lengths + head
    tags = (first_tag + np.arange(n)) & 0xFF
    words[starts] = int(opcode) << 24 | tags << 16 | lengths + head - 2
    words[starts + 1] = addresses
    if labels is not None:
        words[starts + 2] = labels
    if n and (lengths == lengths[0]).all():
        words.reshape(n, -1)[:, head:-1] = payload.reshape(n, -1)
    else:
        body = np.ones(len(words), bool)
        body[starts[:, None] + np.arange(head)] = body[ends] = False
        words[body] = payload
    words[ends] = crc_of(words, starts, ends)
    stream = words.astype(np.uint64)
    stream[ends] |= np.uint64(LAST)
    return stream


def frame(opcode: Opcode, address: int, payload: NDArray[np.uint32], tag: int = 0) -> NDArray[np.uint64]:
    """One frame as link words."""
    return frames(opcode, np.array([address], np.uint32), payload, np.array([len(payload)], np.int64), tag)


@dataclass(frozen=True)
class Request:
    """Frames sent together, and what their answers must look like."""

    words: NDArray[np.uint64]
    opcode: Opcode
    addresses: NDArray[np.uint32]
    answer_length: int
    """Payload words of each answer."""
    first_tag: int = 0


def describe(opcode: int, address: int) -> str:
    """Opcode and address in words."""
    name = Opcode(opcode).name if opcode in list(Opcode) else f"opcode 0x{opcode:02X}"
    if opcode in (Opcode.RUN, Opcode.LEARN):
        return f"{name} (seed 0x{address:08X})"
    if opcode == Opcode.PLANE:
        return f"{name} from row {address} on"
    region, offset = address >> REGION_SHIFT, address & ((1 << REGION_SHIFT) - 1)
    where = Region(region).name if region in list(Region) else f"region 0x{region:02X}"
    return f"{name} at {where} + 0x{offset:X}"


def take(stream: NDArray[np.uint64], request: Request, at: int) -> tuple[NDArray[np.uint32], int]:
    """Payloads of the answers to `request`, which start at word `at` of `stream`.

    Returns
    -------
    uint32 ``(n, answer_length)`` and the position after the last answer.

    Raises
    ------
    ChipError
        If an answer's status is not OK.
    LinkError
        If the words are not the answers expected.
    """
    n, length = len(request.addresses), request.answer_length + 2
    end = at + n * length
    block = stream[at:end]
    shaped = len(block) == n * length
    if shaped:
        table = block.reshape(n, length)
        marks = (table >> np.uint64(32)).astype(bool)
        shaped = bool(marks[:, -1].all()) and not marks[:, :-1].any()
    if not shaped:
        _explain(stream[at:], request)
    words = table.astype(np.uint32)
    starts = np.arange(n, dtype=np.int64) * length
    if not np.array_equal(crc_of(words.reshape(-1), starts, starts + length - 1), words[:, -1]):
        raise LinkError("an answer of the chip has a wrong CRC")
    tags = (request.first_tag + np.arange(n)) & 0xFF
    expected = (int(request.opcode) | ANSWER) << 24 | tags << 16
    wrong = np.flatnonzero(words[:, 0] != expected)
    if len(wrong):
        _refuse(int(words[wrong[0], 0]), int(expected[wrong[0]]), request, int(wrong[0]))
    return words[:, 1:-1], end


def _explain(stream: NDArray[np.uint64], request: Request) -> None:
    """Raise the error for answers of unexpected lengths: a refusal is shorter than the answer hoped for."""
    ends = np.flatnonzero(stream >> np.uint64(32)) + 1
    start = 0
    for index, end in enumerate(ends[: len(request.addresses)].tolist()):
        header = int(stream[start]) & 0xFFFFFFFF
        expected = (int(request.opcode) | ANSWER) << 24 | ((request.first_tag + index) & 0xFF) << 16
        if header != expected:
            words = stream[start:end].astype(np.uint32)
            if zlib.crc32(words[:-1].astype("<u4").tobytes()) != int(words[-1]):
                raise LinkError("an answer of the chip has a wrong CRC")
            _refuse(header, expected, request, index)
        start = end
    raise LinkError(
        f"the chip sent {len(ends)} answers in {len(stream)} words to {len(request.addresses)} frames "
        f"{request.opcode.name}, expected {request.answer_length + 2} words each"
    )


def _refuse(header: int, expected: int, request: Request, index: int) -> None:
    if header >> 16 != expected >> 16:
        raise LinkError(f"the chip answered with header 0x{header:08X} where 0x{expected:08X} was due")
    status = header & 0xFFFF
    name = Status(status).name if status in list(Status) else f"status {status}"
    text = STATUS_TEXT.get(Status(status), "") if status in list(Status) else "unknown to this host"
    what = describe(int(request.opcode), int(request.addresses[index]))
    raise ChipError(f"the chip refused {what} with {name}: {text}")
