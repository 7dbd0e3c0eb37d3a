"""Arithmetic, random numbers, die and CRC of the hardware, each against the golden model."""

from __future__ import annotations

import random
import zlib
from typing import Any

import numpy as np
import pytest
from amaranth.hdl import Module, signed, unsigned
from hypothesis import given, settings
from hypothesis import strategies as st
from streams import evaluate, pulse, simulate

from pymodel import arith as golden
from pymodel import die as golden_die
from pymodel.random import advance, draw16, seed_banks
from rtl.arith import decay, least, magnitude, saturate, sign_extend
from rtl.crc import Crc32
from rtl.die import DieGlobals, Distorter
from rtl.random import RandomBank, Seeder
from rtl.registers import (
    DIE_GLOBAL_SPACE,
    DIE_JITTER_OFFSET,
    DIE_NOISE_OFFSET,
    DIE_THRESHOLD_NOISE_OFFSET,
    DIE_UNLIMITED,
    TRANSFER_CLASSES,
)

few = settings(max_examples=4)


def limits(bits: int) -> list[int]:
    """Signed numbers around everything that can go wrong at a width."""
    top = 1 << (bits - 1)
    return [-top, -top + 1, -1, 0, 1, top - 2, top - 1]


def signed_lists(bits: int) -> st.SearchStrategy[list[int]]:
    top = 1 << (bits - 1)
    return st.lists(st.integers(-top, top - 1), min_size=20, max_size=40).map(lambda values: values + limits(bits))


# ---- arithmetic -----------------------------------------------------------------------------------------------------


@few
@given(data=st.data(), wide=st.integers(2, 50), bits=st.integers(2, 32))
def test_saturation_clips_to_the_signed_range(data: Any, wide: int, bits: int) -> None:
    edge = 1 << (bits - 1)
    around = [value for value in (edge, edge - 1, -edge, -edge - 1) if -(1 << (wide - 1)) <= value < 1 << (wide - 1)]
    values = data.draw(signed_lists(wide)) + around
    found = evaluate(lambda m, value: saturate(m, value, bits), [signed(wide)], [(value,) for value in values])
    assert found == [golden.sat(value, -edge, edge - 1) for value in values]


@few
@given(data=st.data(), bits=st.sampled_from([8, 16, 24, 32]))
def test_decay_rounds_halves_up_for_every_factor(data: Any, bits: int) -> None:
    states = data.draw(signed_lists(bits))
    factors = [0, 1, 2047, 2048, 2049, 4095, 4096, 8191, *data.draw(st.lists(st.integers(0, 8191), max_size=5))]
    rows = [(state, factor) for state in states for factor in factors]
    found = evaluate(lambda m, state, factor: state - decay(state, factor), [signed(bits), unsigned(13)], rows)
    assert found == [golden.decay(state, factor) for state, factor in rows]


def test_magnitude_of_the_smallest_number_does_not_wrap() -> None:
    values = list(range(-128, 128))
    assert evaluate(magnitude, [signed(8)], [(value,) for value in values]) == [abs(value) for value in values]


def test_least_of_three_and_sign_extension() -> None:
    draw = random.Random(1)
    rows = [(draw.randrange(256), draw.randrange(4096), draw.randrange(64)) for _ in range(200)]
    assert evaluate(least, [8, 12, 6], rows) == [min(row) for row in rows]
    found = evaluate(lambda m, value: sign_extend(value, 16), [signed(5)], [(value,) for value in range(-16, 16)])
    assert found == [value & 0xFFFF for value in range(-16, 16)]


# ---- random numbers -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("lanes", "banks"), [(4, 1), (4, 2), (16, 2), (128, 1)])
def test_seeded_banks_draw_what_the_golden_banks_draw(lanes: int, banks: int) -> None:
    m = Module()
    m.submodules.seeder = seeder = Seeder(lanes // 2, banks)
    hardware = [RandomBank(lanes) for _ in range(banks)]
    m.submodules += hardware
    for index, bank in enumerate(hardware):
        m.d.comb += [bank.shift.eq(seeder.shift[index]), bank.seed.eq(seeder.word)]
    draw = random.Random(lanes + banks)

    async def bench(context: Any) -> None:
        for seed in (0, 0xFFFFFFFF, draw.getrandbits(32))[: 3 if lanes < 100 else 1]:
            context.set(seeder.seed, seed)
            await pulse(context, seeder.start)
            context.set(seeder.seed, 0)  # it was latched
            cycles = 1
            while not context.get(seeder.done):
                await context.tick()
                cycles += 1
            await context.tick()
            assert cycles == 4 + banks * lanes // 2
            models = [np.zeros(lanes // 2, np.int64) for _ in range(banks)]
            seed_banks(seed, models[0], models[1] if banks == 2 else np.zeros(0, np.int64))
            for _ in range(5):
                for bank, model in zip(hardware, models, strict=True):
                    values = context.get(bank.values)
                    assert [values[lane] for lane in range(lanes)] == [draw16(model, lane) for lane in range(lanes)]
                    moves = draw.random() < 0.6
                    context.set(bank.advance, moves)
                    if moves:
                        advance(model)
                await context.tick()
            for bank in hardware:
                context.set(bank.advance, 0)

    simulate(m, bench)


# ---- die ------------------------------------------------------------------------------------------------------------


def random_globals(draw: np.random.Generator) -> np.ndarray:
    table = golden_die.neutral_globals()
    for line in range(1, TRANSFER_CLASSES):  # class 0 stays neutral
        table[4 * line : 4 * line + 3] = (
            draw.choice([0, 100, 256, 511]),
            draw.integers(0, 4000),
            draw.integers(0, 1 << 20),
        )
    return table


@pytest.mark.parametrize(("lanes", "bits"), [(4, 16), (4, 8), (4, 2), (16, 4)])
def test_distorter_gives_the_golden_weights_two_cycles_later(lanes: int, bits: int) -> None:
    dut = Distorter(lanes, bits)
    draw = np.random.default_rng(bits)
    table = random_globals(draw)
    top, words = 1 << (bits - 1), 24 if lanes < 8 else 4
    weights = draw.integers(-top, top, (words, lanes))
    weights[0], weights[1, : lanes // 2] = -top, top - 1
    gains = draw.integers(0, 1 << 28, (words, lanes))
    gains[0] = 0x1FFF | 0x2000 << 14  # the largest and the smallest gain: products saturate
    gains[1] = 0  # stuck at zero
    gains[2] = golden_die.NEUTRAL_SYNAPSE
    entries = gains | draw.integers(0, TRANSFER_CLASSES, (words, lanes)) << 28
    entries[0] &= (1 << 28) - 1

    async def bench(context: Any) -> None:
        for line in range(TRANSFER_CLASSES):
            slope, offset, cap = table[4 * line : 4 * line + 3].tolist()
            context.set(dut.curves[line], {"slope": slope, "offset": offset, "cap": cap})
        for shift in (0, 3, 15):
            context.set(dut.shift, shift)
            expected = golden_die.distort(weights, entries, np.int64(shift), table).tolist()
            for cycle in range(words + Distorter.LATENCY):  # a new word in every cycle
                context.set(dut.enable, cycle < words)
                if cycle < words:
                    for lane in range(lanes):
                        context.set(dut.weights[lane], int(weights[cycle, lane]))
                        context.set(dut.tables[lane].as_value(), int(entries[cycle, lane]))
                if cycle >= Distorter.LATENCY:
                    effective = context.get(dut.effective)
                    assert [effective[lane] for lane in range(lanes)] == expected[cycle - Distorter.LATENCY]
                await context.tick()

    simulate(dut, bench)


def test_neutral_tables_leave_every_weight_as_it_is() -> None:
    weights = np.arange(-128, 128)
    same = golden_die.distort(
        weights, np.full(256, golden_die.NEUTRAL_SYNAPSE), np.int64(5), golden_die.neutral_globals()
    )
    assert same.tolist() == (weights << 5).tolist()


def test_die_globals_are_neutral_until_written_and_keep_the_golden_bits() -> None:
    dut = DieGlobals(delays=True, synapses=True)
    draw = random.Random(3)
    model, masks = golden_die.neutral_globals(), golden_die.global_masks(delays=True)

    async def bench(context: Any) -> None:
        def same() -> None:
            for line in range(TRANSFER_CLASSES):
                curve = context.get(dut.curves[line])
                assert [curve.slope, curve.offset, curve.cap] == model[4 * line : 4 * line + 3].tolist()
            assert context.get(dut.amplitude) == model[DIE_NOISE_OFFSET]
            assert context.get(dut.threshold_amplitude) == model[DIE_THRESHOLD_NOISE_OFFSET]
            assert context.get(dut.jitter_amplitude) == model[DIE_JITTER_OFFSET]

        assert model[1] == DIE_UNLIMITED
        same()
        for offset in draw.sample(range(DIE_GLOBAL_SPACE), DIE_GLOBAL_SPACE):
            word = draw.getrandbits(32)
            context.set(dut.host.offset, offset)
            context.set(dut.host.data, word)
            await pulse(context, dut.host.write)
            model[offset] = word & masks[offset]
            same()

    simulate(dut, bench)


# ---- CRC ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 2, 4])
def test_crc_is_that_of_zlib_whatever_the_pauses(size: int) -> None:
    dut = Crc32(size)
    draw = random.Random(5)
    frames = [[], [0], [0xFFFFFFFF] * 2, *([draw.getrandbits(32) for _ in range(length)] for length in (1, 3, 9))]

    async def bench(context: Any) -> None:
        for frame in frames:
            for word in frame:
                for part in range(4 // size):
                    while draw.random() < 0.3:
                        if part == 0:
                            context.set(dut.data, draw.getrandbits(32))  # nobody says that it is valid
                        await context.tick()
                    context.set(dut.data, word)
                    assert context.get(dut.ready) == (part == 4 // size - 1)
                    await pulse(context, dut.valid)
            assert context.get(dut.crc) == zlib.crc32(b"".join(word.to_bytes(4, "little") for word in frame))
            context.set(dut.valid, draw.random() < 0.5)  # `clear` wins
            await pulse(context, dut.clear)
            context.set(dut.valid, 0)

    simulate(dut, bench)


def test_a_crc_takes_1_2_or_4_bytes_in_a_cycle() -> None:
    with pytest.raises(ValueError, match="size = 3: must be 1, 2 or 4"):
        Crc32(3)
