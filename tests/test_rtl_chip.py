"""The whole chip in Amaranth's own simulator against the golden model, at the edges of what can be configured.

Lockstep on the compiled chip (testbench/test_lockstep.py) runs a million steps; this needs no compiler and shows that
Amaranth and Verilator agree about the hardware.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from streams import get, pauses, put, simulate, stays_while_stalled

from pymodel import GoldenChip
from rtl.chip import Chip
from rtl.config import ChipConfig
from testbench.programs import random_program

EDGES = [
    ChipConfig((1, 1), lanes=4),  # one of everything
    ChipConfig((8, 8), lanes=8, die_tables=False),  # one layer of exactly one word
    ChipConfig((9, 4, 8), lanes=4, weight_bits=16, state_bits=32),  # whole words, widest numbers
    ChipConfig((5, 7, 3, 6), lanes=4, weight_bits=2, state_bits=8),  # narrowest numbers
    ChipConfig((5, 7, 3), lanes=4, delay_slots=3),
    ChipConfig((6, 4, 5), lanes=4, delay_slots=9, axonal_delays=True, die_tables=False),
    ChipConfig((6, 5, 9), lanes=4, binary_weights=True),
    ChipConfig((6, 5, 9), lanes=4, die_tables=False, neuron_lanes=1, bernoulli=False, receive_words=16),
    ChipConfig((6, 5, 3), lanes=8, die_tables=False, neuron_lanes=4, delay_slots=4),
]


@pytest.mark.parametrize("cfg", EDGES, ids=lambda cfg: f"{cfg.layers}, {cfg.weight_bits}, {cfg.delay_slots}")
def test_random_frames_are_answered_as_by_the_golden_model(cfg: ChipConfig) -> None:
    words = random_program(cfg, 5, chapters=2, samples=2, max_steps=5).words
    expected = GoldenChip(cfg).exchange(words).tolist()
    dut = Chip(cfg)
    got: list[int] = []

    async def source(context: Any) -> None:
        slow = pauses(1, 0.1)
        for word in words.tolist():
            await put(context, dut.rx, {"data": word & 0xFFFFFFFF, "last": word >> 32}, next(slow))

    async def sink(context: Any) -> None:
        slow = pauses(2, 0.2)
        for _ in expected:
            word = await get(context, dut.tx, next(slow))
            got.append(word.data | word.last << 32)

    async def watch(context: Any) -> None:
        await stays_while_stalled(context, dut.tx, lambda: len(got) == len(expected))

    simulate(dut, source, sink, watch)
    assert np.array_equal(got, expected)
