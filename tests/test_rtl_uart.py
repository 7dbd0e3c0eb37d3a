"""Bits of a serial line: senders with a clock of their own, glitches, and stop bits that are missing."""

from __future__ import annotations

import random
from typing import Any

import pytest
from streams import no_pauses, pauses, put, simulate

from rtl.uart import UartReceiver, UartTransmitter

Levels = list[tuple[int, float]]
"""Levels of a line, each with its time in bits."""


def levels(byte: int, stop: int = 1) -> Levels:
    return [(0, 1), *((byte >> bit & 1, 1) for bit in range(8)), (stop, 1)]


def receives(divisor: int, line: Levels, speed: float, phase: float = 0.0) -> list[int | None]:
    """The bytes that the receiver makes of a line, and None for each error."""
    dut = UartReceiver(divisor)
    found: list[int | None] = []
    over = False

    async def drive(context: Any) -> None:
        nonlocal over
        now, end = 0, 4 + phase
        for level, bits in [*line, (1, 3)]:
            while now < end:
                await context.tick()
                now += 1
            context.set(dut.rx, level)
            end += bits * divisor / speed
        over = True

    async def watch(context: Any) -> None:
        quiet = 0
        while quiet < 20 * divisor:
            _, _, valid, byte, error = await context.tick().sample(dut.bytes.valid, dut.bytes.payload, dut.error)
            assert not (valid and error)
            if valid:
                found.append(byte)
            if error:
                found.append(None)
            quiet += over

    simulate(dut, drive, watch)
    return found


@pytest.mark.parametrize("divisor", [4, 5, 8, 13, 26])
def test_a_byte_is_received_from_senders_with_other_clocks(divisor: int) -> None:
    off = 0.02 if divisor == 4 else 0.03
    draw = random.Random(divisor)
    for speed in (1 - off, 1.0, 1 + off):
        data = [0x00, 0xFF, 0x55, 0x80, 0x7F, *(draw.randrange(256) for _ in range(15))]
        line: Levels = []
        for byte in data:
            line += levels(byte)
            if draw.random() < 0.5:  # the others follow without a pause
                line.append((1, draw.uniform(0.1, 3)))
        assert receives(divisor, line, speed, draw.random()) == data


@pytest.mark.parametrize("divisor", [4, 8, 13])
def test_a_start_bit_that_is_over_too_early_is_no_byte(divisor: int) -> None:
    glitch: Levels = [(0, 0.26), (1, 1)]
    assert receives(divisor, [*glitch, *levels(0x35), *glitch, *levels(0xA0)], 1.0) == [0x35, 0xA0]


@pytest.mark.parametrize("divisor", [4, 8, 13])
def test_a_missing_stop_bit_is_an_error_and_the_next_byte_is_awaited_on_a_high_line(divisor: int) -> None:
    line = [*levels(0x12), *levels(0x34, stop=0), (0, 30), (1, 1), *levels(0x56)]
    assert receives(divisor, line, 1.0) == [0x12, None, 0x56]


@pytest.mark.parametrize("divisor", [4, 7, 8, 208])
@pytest.mark.parametrize("often", [0.0, 0.5])
def test_bytes_are_sent_bit_by_bit_and_without_a_pause_if_there_are_more(divisor: int, often: float) -> None:
    dut = UartTransmitter(divisor)
    draw = random.Random(divisor)
    data = [0x00, 0xFF, *(draw.randrange(256) for _ in range(2 if divisor > 100 else 12))]
    line: list[int] = []

    async def source(context: Any) -> None:
        wait_for = pauses(3, often, 3 * divisor) if often else no_pauses()
        for byte in data:
            await put(context, dut.bytes, byte, next(wait_for))

    async def watch(context: Any) -> None:
        quiet = 0
        while quiet < 12 * divisor:
            _, _, level = await context.tick().sample(dut.tx)
            line.append(level)
            quiet = quiet + 1 if level else 0

    simulate(dut, source, watch)
    found, place = [], 0
    while 0 in line[place:]:
        start = line.index(0, place)
        assert often or not found or start == place, "a pause between two bytes"
        bits = [line[start + bit * divisor : start + (bit + 1) * divisor] for bit in range(10)]
        assert all(len(set(bit)) == 1 and len(bit) == divisor for bit in bits)
        assert bits[0][0] == 0
        assert bits[9][0] == 1
        found.append(sum(bits[1 + bit][0] << bit for bit in range(8)))
        place = start + 10 * divisor
    assert found == data


def test_a_divisor_below_four_is_refused() -> None:
    for block in (UartReceiver, UartTransmitter):
        with pytest.raises(ValueError, match="divisor = 3: must be at least 4"):
            block(3)
