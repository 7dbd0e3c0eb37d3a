"""Rows of the bit plane, from payload words without padding to words of region WEIGHTS."""

from __future__ import annotations

import random
from typing import Any

import pytest
from streams import simulate

from rtl.config import ChipConfig, ConfigError
from rtl.plane import BitPlane
from rtl.registers import Region, regions
from rtl.synapses import Synapses, accumulator_shape


def binary(*layers: int, lanes: int, **options: Any) -> ChipConfig:
    return ChipConfig(layers, lanes=lanes, binary_weights=True, **options)


CHIPS = [
    binary(5, 1, lanes=4),  # 32 rows in a word
    binary(7, 10, 3, lanes=8),
    binary(4, 33, 40, 5, lanes=16),  # rows over word boundaries
    binary(3, 64, 100, lanes=64),
    binary(6, 130, 2, lanes=128),
]


def rows_of(cfg: ChipConfig) -> list[tuple[int, int]]:
    """First word in region WEIGHTS and size of every row of the plane."""
    groups = cfg.lanes // cfg.weights_per_link_word
    return [
        ((base + source * words) * groups, size)
        for base, words, (height, size) in zip(cfg.weight_base, cfg.words, cfg.shapes, strict=True)
        for source in range(height)
    ]


def unpacked(cfg: ChipConfig, row: int, payload: list[int]) -> dict[int, int]:
    """What the payload's complete rows write."""
    bits = [word >> place & 1 for word in payload for place in range(32)]
    written, per_word = {}, cfg.weights_per_link_word
    for offset, size in rows_of(cfg)[row:]:
        if len(bits) < size:
            break
        mine, bits = bits[:size], bits[size:]
        for group in range(0, size, per_word):
            part = mine[group : group + per_word]
            written[offset + group // per_word] = sum(bit << lane for lane, bit in enumerate(part))
    return written


def longest(cfg: ChipConfig, row: int) -> int:
    """Payload words that still have a bit of the plane."""
    return -(-sum(size for _, size in rows_of(cfg)[row:]) // 32)


@pytest.mark.parametrize("cfg", CHIPS, ids=lambda cfg: "-".join(map(str, cfg.layers)))
def test_complete_rows_are_written_in_a_cycle_for_each_word_of_either_side(cfg: ChipConfig) -> None:
    dut, draw = BitPlane(cfg), random.Random(str(cfg.layers))

    async def bench(context: Any) -> None:
        for _ in range(40):
            row = draw.randrange(cfg.n_sources)
            payload = [draw.getrandbits(32) for _ in range(draw.choice((longest(cfg, row), draw.randint(0, 9))))]
            del payload[longest(cfg, row) :]
            expected, written = unpacked(cfg, row, payload), {}
            context.set(dut.row, row)
            context.set(dut.left, len(payload))
            context.set(dut.start, 1)
            await context.tick()
            context.set(dut.start, 0)
            assert context.get(dut.fits)
            taken = cycles = 0
            context.set(dut.run, 1)
            while True:
                context.set(dut.word, payload[taken] if taken < len(payload) else draw.getrandbits(32))
                context.set(dut.left, len(payload) - taken)
                if context.get(dut.done):
                    break
                if context.get(dut.write):
                    assert context.get(dut.offset) not in written
                    written[context.get(dut.offset)] = context.get(dut.data)
                taken += context.get(dut.take)
                cycles += 1
                await context.tick()
            await context.tick()
            context.set(dut.run, 0)
            assert written == expected
            assert cycles == len(written) + taken

    simulate(dut, bench)


@pytest.mark.parametrize("cfg", CHIPS, ids=lambda cfg: "-".join(map(str, cfg.layers)))
def test_rows_that_are_not_there_and_words_past_the_end_do_not_fit(cfg: ChipConfig) -> None:
    dut = BitPlane(cfg)
    found, expected = [], []

    async def bench(context: Any) -> None:
        for row in [*range(cfg.n_sources + 2), 1 << 20, (1 << 32) - 1]:
            most = longest(cfg, row) if row < cfg.n_sources else -1
            for words in {0, 1, max(most - 1, 0), max(most, 0), most + 1, 60_000}:
                context.set(dut.row, row)
                context.set(dut.left, words)
                context.set(dut.start, 1)
                await context.tick()
                context.set(dut.start, 0)
                found.append(bool(context.get(dut.fits)))
                expected.append(row < cfg.n_sources and words <= most)

    simulate(dut, bench)
    assert found == expected


def test_binary_chips_have_no_hardware_for_wide_weights() -> None:
    cfg = binary(784, 256, lanes=64)
    assert (cfg.weight_bits, cfg.weights_per_link_word, cfg.weight_range) == (1, 32, (-1, 1))
    assert accumulator_shape(cfg).elem_shape.width == 11  # -784 ... 784
    assert Synapses.latency(cfg) == Synapses.latency(binary(784, 256, lanes=64, die_tables=False))
    assert {Region.DIE_SYNAPSE, Region.DIE_BIAS}.isdisjoint(regions(cfg))
    assert Region.DIE_NEURON in regions(cfg)
    assert ChipConfig.from_json(cfg.to_json()) == cfg


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"weight_bits": 4}, "ChipConfig.weight_bits = 4: must be 1 or left out with binary_weights"),
        ({"learning": True}, "binary_weights = True: must be False with learning"),
        ({"delay_slots": 5}, "binary_weights = True: must be False with delay_slots"),
        ({"binary_weights": 1}, "binary_weights = 1: must be True or False"),
        ({"binary_weights": False, "weight_bits": 1}, "weight_bits = 1: must be an integer from 2 to 16"),
    ],
)
def test_what_a_binary_chip_cannot_have_is_refused(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        ChipConfig(**{"layers": (4, 3), "binary_weights": True} | options)
