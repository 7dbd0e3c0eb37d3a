"""Byte stuffing against the package `cobs`."""

from __future__ import annotations

import random
from typing import Any

import pytest
from cobs import cobs
from streams import get, pauses, pulse, put, simulate, stays_while_stalled, wait

from rtl.cobs import MAX_BODY, CobsDecoder, CobsEncoder


def bodies(seed: int, number: int, longest: int) -> list[bytes]:
    """Packets with many, few and no zeros."""
    draw = random.Random(seed)
    found = [bytes(1), b"\x01", bytes(longest), bytes(range(1, longest + 1)), bytes(3) + b"\xff" + bytes(2)]
    for _ in range(number):
        zeros = draw.choice([0.0, 0.02, 0.3, 0.9])
        length = draw.randint(1, longest)
        found.append(bytes(0 if draw.random() < zeros else draw.randint(1, 255) for _ in range(length)))
    return found


def decode(items: list[int | None]) -> list[tuple[bytes, bool]]:
    """What the decoder makes of bytes, None for a broken one: packets, each with whether it is bad."""
    dut = CobsDecoder()
    found: list[tuple[bytes, bool]] = []

    async def bench(context: Any) -> None:
        body = bytearray()
        for item in items:
            if item is None:
                await pulse(context, dut.broken)
                continue
            context.set(dut.encoded.payload, item)
            context.set(dut.encoded.valid, 1)
            if context.get(dut.body.valid):
                body.append(context.get(dut.body.payload))
            if context.get(dut.end):
                found.append((bytes(body), bool(context.get(dut.bad))))
                body.clear()
            if item == 0:
                body.clear()
            await context.tick()
            context.set(dut.encoded.valid, 0)

    simulate(dut, bench)
    return found


def test_packets_are_decoded_and_zeros_between_them_are_nothing() -> None:
    packets = bodies(1, 40, MAX_BODY)
    line: list[int | None] = []
    for index, body in enumerate(packets):
        line += [*cobs.encode(body), *bytes(1 + index % 3)]
    assert decode(line) == [(body, False) for body in packets]


@pytest.mark.parametrize("damage", ["cut", "code above 127", "broken", "only broken"])
def test_a_bad_encoding_is_told_and_the_next_packet_is_good(damage: str) -> None:
    body, good = b"\x05\x06\x00\x07\x08\x09", b"\x01\x02\x00"
    encoded: list[int | None] = list(cobs.encode(body))
    if damage == "cut":
        encoded.pop()
    elif damage == "code above 127":
        encoded = list(cobs.encode(bytes(range(1, 129))))
    elif damage == "broken":
        encoded.insert(4, None)
    else:
        encoded = [None]
    found = decode([*encoded, 0, *cobs.encode(good), 0])
    assert len(found) == 2
    assert found[0][1]
    assert found[1] == (good, False)


@pytest.mark.parametrize("often", [0.0, 0.5])
def test_packets_are_encoded_while_the_one_before_is_sent(often: float) -> None:
    dut = CobsEncoder()
    packets = bodies(2, 25, MAX_BODY)
    line = bytearray()

    async def source(context: Any) -> None:
        wait_for = pauses(1, often, 40)
        for index, body in enumerate(packets):
            if index % 4 == 2:  # a packet that is given up
                for byte in body[:-1]:
                    await put(context, dut.body, {"data": byte, "last": 0})
                await pulse(context, dut.clear)
            for place, byte in enumerate(body):
                await put(context, dut.body, {"data": byte, "last": place == len(body) - 1}, next(wait_for))

    async def sink(context: Any) -> None:
        wait_for = pauses(2, often)
        while line.count(0) < len(packets):
            line.append(await get(context, dut.encoded, next(wait_for)))
        await wait(context, 5)
        assert not context.get(dut.encoded.valid)

    async def watch(context: Any) -> None:
        await stays_while_stalled(context, dut.encoded, lambda: line.count(0) == len(packets))

    simulate(dut, source, sink, watch, cycles=20_000)
    assert bytes(line) == b"".join(cobs.encode(body) + b"\0" for body in packets)


@pytest.mark.parametrize("when", range(4))
def test_a_packet_given_up_in_any_cycle_leaves_the_next_one_whole(when: int) -> None:
    """`clear` comes with or after the last byte: the packet is then sent or forgotten, but never torn."""
    dut = CobsEncoder()
    line = bytearray()

    async def source(context: Any) -> None:
        await put(context, dut.body, {"data": 7, "last": 0})
        context.set(dut.body.payload, {"data": 0, "last": 1})
        context.set(dut.body.valid, 1)
        for cycle in range(5):
            context.set(dut.clear, cycle == when)
            await context.tick()
            context.set(dut.body.valid, 0)
        await put(context, dut.body, {"data": 9, "last": 1})

    async def sink(context: Any) -> None:
        while not line.endswith(cobs.encode(b"\x09") + b"\0"):
            line.append(await get(context, dut.encoded))

    simulate(dut, source, sink, cycles=200)
    first = cobs.encode(b"\x07\x00") + b"\0"
    assert bytes(line) in (cobs.encode(b"\x09") + b"\0", first + cobs.encode(b"\x09") + b"\0")
    assert (len(line) > 3) == (when > 2)
