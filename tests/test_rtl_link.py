"""Receiver, sender and recorder: the streams of the chip, with pauses on every side."""

from __future__ import annotations

import random
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from streams import get, no_pauses, pauses, pulse, put, simulate, stays_while_stalled, wait

from pymodel.link import LAST, split
from rtl.config import ChipConfig
from rtl.link import Receiver, Sender, Stage
from rtl.recorder import Recorder
from rtl.registers import Status

DEPTH = 16
Words = list[int]


def crc(words: Words) -> int:
    return zlib.crc32(b"".join(word.to_bytes(4, "little") for word in words))


def frame(kind: str, payload: Words, tag: int = 0) -> Words:
    """A frame, good or broken in one way; its last word carries the mark."""
    header = 0x02 << 24 | tag << 16 | len(payload)
    if kind == "wrong length":
        header ^= 1
    words = [header, 0x0300_0000 | tag, *payload]
    if kind == "two words":
        words = words[:1]
    ends = [crc(words) ^ (1 << (tag % 32) if kind == "bad CRC" else 0)]
    if kind == "one word":
        words, ends = [], [header]
    return [*words, ends[0] | LAST]


def expected(stream: Words, depth: int) -> list[tuple[int, Words]]:
    """What the golden model makes of the stream: status, and the words that are kept."""
    frames, rest = split(np.array(stream, np.uint64), depth)
    assert not len(rest)
    found = []
    for start, stop, status in zip(frames.start, frames.stop, frames.status, strict=True):
        if status in (Status.OK, Status.BAD_OPCODE):  # opcodes are the executor's affair
            found.append((Status.OK, frames.words[start : stop - 1].tolist()))
        else:
            found.append((int(status), [(int(frames.words[start]) & 0xFFFF0000) | int(status)]))
    return found


async def take_frame(context: Any, dut: Receiver, pause: int) -> tuple[int, Words]:
    """Wait for a frame, read its words out of the ring, and give them back."""
    while not context.get(dut.available):
        await context.tick()
    await wait(context, pause)
    start, words, count, error = context.get(dut.start), [], 1, False
    while len(words) < count:
        context.set(dut.fetch, (start + len(words)) % dut.depth)
        await context.tick()
        record = context.get(dut.record)
        if not words:
            error = bool(record.error)
            count = 1 if error else (record.data & 0xFFFF) + 2
        words.append(record.data)
    context.set(dut.release, count)
    await context.tick()
    context.set(dut.release, 0)
    return (words[0] & 0xFFFF if error else int(Status.OK)), words


def receives(
    frames: list[Words], slow_in: Iterator[int], slow_out: Iterator[int], depth: int = DEPTH, crc_bytes: int = 4
) -> None:
    """Send frames and check that what is kept is what the golden model keeps, in the same order."""
    dut = Receiver(depth, crc_bytes)
    stream = [word for words in frames for word in words]
    kept: list[tuple[int, Words]] = []

    async def source(context: Any) -> None:
        for word in stream:
            await put(context, dut.rx, {"data": word & 0xFFFFFFFF, "last": word >> 32}, next(slow_in))

    async def reader(context: Any) -> None:
        kept.extend([await take_frame(context, dut, next(slow_out)) for _ in frames])
        await wait(context, 3)
        assert not context.get(dut.available)

    simulate(dut, source, reader, cycles=5000)
    assert kept == expected(stream, depth)


KINDS = ["good", "good", "bad CRC", "wrong length", "two words", "one word"]


@settings(max_examples=5)
@given(
    drawn=st.lists(st.tuples(st.sampled_from(KINDS), st.integers(0, DEPTH + 3)), min_size=4, max_size=8),
    seed=st.integers(0, 1 << 16),
    often=st.sampled_from([0.0, 0.2, 0.8]),
    crc_bytes=st.sampled_from([1, 4]),
)
def test_frames_are_kept_or_answered_in_order(
    drawn: list[tuple[str, int]], seed: int, often: float, crc_bytes: int
) -> None:
    draw = random.Random(seed)
    frames = [
        frame(kind, [draw.getrandbits(32) for _ in range(length)], tag) for tag, (kind, length) in enumerate(drawn)
    ]
    receives(frames, pauses(seed, often), pauses(seed + 1, often, 40), crc_bytes=crc_bytes)


@pytest.mark.parametrize("crc_bytes", [1, 4])
@pytest.mark.parametrize("length", [DEPTH - 3, DEPTH - 2, DEPTH - 1, DEPTH, 3 * DEPTH])
def test_a_frame_as_long_as_the_ring_fits_and_a_longer_one_is_refused(length: int, crc_bytes: int) -> None:
    good = frame("good", [1, 2, 3], 7)
    frames = [good, frame("good", list(range(length)), 1), good]
    receives(frames, no_pauses(), no_pauses(), crc_bytes=crc_bytes)


@pytest.mark.parametrize("crc_bytes", [1, 4])
@pytest.mark.parametrize("kind", KINDS[1:])
def test_a_bad_frame_leaves_the_frames_around_it_alone(kind: str, crc_bytes: int) -> None:
    good = [frame("good", [5 * tag, 6], tag) for tag in range(6)]
    frames = [*good[:3], frame(kind, [9, 9, 9], 9), frame(kind, [], 10), *good[3:]]
    receives(frames, no_pauses(), pauses(1, 0.9, 30), crc_bytes=crc_bytes)


def test_the_receiver_waits_only_when_its_ring_is_full() -> None:
    dut = Receiver(DEPTH)

    async def bench(context: Any) -> None:
        for tag in range(3):  # five words each without CRC, so 15 of 16 are taken
            for word in frame("good", [tag] * 3, tag):
                assert context.get(dut.rx.ready)
                await put(context, dut.rx, {"data": word & 0xFFFFFFFF, "last": word >> 32})
        await put(context, dut.rx, {"data": 0x0200_0000, "last": 0})
        assert not context.get(dut.rx.ready)
        await take_frame(context, dut, 0)
        assert context.get(dut.rx.ready)

    simulate(dut, bench, cycles=500)


@pytest.mark.parametrize("crc_bytes", [1, 4])
@pytest.mark.parametrize("often", [0.0, 0.5])
def test_the_sender_adds_the_crc_to_every_answer(often: float, crc_bytes: int) -> None:
    dut = Sender(crc_bytes)
    draw = random.Random(4)
    answers = [[draw.getrandbits(32) for _ in range(length)] for length in (1, 2, 1, 9, 5)]
    got: Words = []
    total = sum(len(words) + 1 for words in answers)

    async def source(context: Any) -> None:
        wait_for = pauses(1, often)
        for words in answers:
            for index, word in enumerate(words):
                await put(context, dut.words, {"data": word, "last": index == len(words) - 1}, next(wait_for))

    async def sink(context: Any) -> None:
        wait_for = pauses(2, often)
        for _ in range(total):
            word = await get(context, dut.tx, next(wait_for))
            got.append(word.data | word.last << 32)

    async def watch(context: Any) -> None:
        await stays_while_stalled(context, dut.tx, lambda: len(got) == total)

    simulate(dut, source, sink, watch, cycles=2000)
    assert got == [word for words in answers for word in [*words, crc(words) | LAST]]


# ---- rasters --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lanes", [4, 32, 64, 128])
@pytest.mark.parametrize("record", [1, 2, 3])
@pytest.mark.parametrize("often", [0.0, 0.9])
def test_masks_leave_in_order_while_the_link_stalls(lanes: int, record: int, often: float) -> None:
    dut = Recorder(ChipConfig((4, 4), lanes=lanes))
    draw = random.Random(lanes + record)
    chunks, under_way = -(-lanes // 32), 8
    masks = [(draw.getrandbits(lanes), draw.getrandbits(lanes)) for _ in range(96 // chunks)]
    words = [
        mask >> 32 * chunk & 0xFFFFFFFF
        for pair in masks
        for kind, mask in enumerate(pair)
        if record >> kind & 1
        for chunk in range(chunks)
    ]
    got: Words = []
    held = 0

    async def updates(context: Any) -> None:
        """Announces a mask as the walker does: no faster than it can be sent, and not long after `full`."""
        nonlocal held
        context.set(dut.record, record)
        context.set(dut.spikes, 0)
        await context.tick()
        for spikes, gates in masks:
            for _ in range(under_way):
                if context.get(dut.full):
                    await context.tick()
            while context.get(dut.full):
                held += 1
                await context.tick()
            context.set(dut.spikes, spikes)
            context.set(dut.gates, gates)
            await pulse(context, dut.take)
            context.set(dut.spikes, draw.getrandbits(lanes))
            await wait(context, context.get(dut.min_pass) - 1)

    async def sink(context: Any) -> None:
        wait_for = pauses(3, often, 8)
        for _ in words:
            got.append(await get(context, dut.output, next(wait_for)))
        await wait(context, 2)
        assert context.get(dut.empty)

    simulate(dut, updates, sink, cycles=5000)
    assert got == words
    assert (held > 0) == (often > 0)


def test_nothing_is_recorded_unless_asked_for() -> None:
    dut = Recorder(ChipConfig((4, 4)))

    async def bench(context: Any) -> None:
        context.set(dut.spikes, 0xFF)
        context.set(dut.take, 1)
        for _ in range(5):
            await context.tick()
            assert context.get(dut.empty)
            assert not context.get(dut.output.valid)
        assert context.get(dut.min_pass) == 0

    simulate(dut, bench, cycles=100)


# ---- register in a stream -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("often", [0.0, 0.5])
def test_a_register_in_a_stream_keeps_words_order_and_pace(often: float) -> None:
    dut, draw = Stage(), random.Random(3)
    words = [{"data": draw.getrandbits(32), "last": draw.getrandbits(1)} for _ in range(60)]
    got: list[Any] = []

    async def source(context: Any) -> None:
        wait_for = pauses(1, often) if often else no_pauses()
        for word in words:
            await put(context, dut.words, word, next(wait_for))

    async def sink(context: Any) -> None:
        wait_for = pauses(2, often) if often else no_pauses()
        while len(got) < len(words):
            got.append(await get(context, dut.tx, next(wait_for)))
        assert not context.get(dut.busy)

    async def watch(context: Any) -> None:
        await stays_while_stalled(context, dut.tx, lambda: len(got) == len(words))

    simulate(dut, source, sink, watch, cycles=2000 if often else len(words) + 3)
    assert [{"data": word.data, "last": word.last} for word in got] == words
