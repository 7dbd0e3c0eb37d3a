"""Nobody looks at a word that was written while it was read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from pymodel.chip import GoldenChip
from rtl.config import ChipConfig
from testbench.collisions import garbled
from testbench.lockstep import Totals, compare
from testbench.programs import random_program
from testbench.simulator import Simulator

PLAIN = ChipConfig((12, 10, 5), lanes=4, state_bits=16, die_tables=False, neuron_lanes=1)
DELAYS = ChipConfig((9, 8, 5), lanes=4, delay_slots=8)
CONFIGURATIONS = {
    "grouped": PLAIN,
    "learning": replace(PLAIN, layers=(11, 9, 7), learning=True),
    "learning, die tables": ChipConfig((9, 12, 20, 6), lanes=8, learning=True),
    "delays": DELAYS,
    "axonal delays": replace(DELAYS, axonal_delays=True, die_tables=False),
    "binary": ChipConfig((20, 16, 5), lanes=16, state_bits=12, neuron_lanes=16, binary_weights=True),
}


def lockstep(cfg: ChipConfig, verilog: str) -> Totals:
    totals, model = Totals(), GoldenChip(cfg)
    with Simulator(cfg, verilog=verilog) as chip:
        for seed in range(3):
            program = random_program(cfg, seed, chapters=4, samples=8, max_steps=30, everything=seed == 0)
            totals += compare(program, chip.exchange(program.words), model.exchange(program.words))
    totals.configurations = 1
    return totals


FAST = ("grouped", "learning, die tables")


@pytest.mark.parametrize(
    "name", [name if name in FAST else pytest.param(name, marks=pytest.mark.slow) for name in CONFIGURATIONS]
)
def test_a_word_that_is_written_while_it_is_read_does_not_matter(name: str, show: Callable[[str], None]) -> None:
    cfg = CONFIGURATIONS[name]
    totals = lockstep(cfg, garbled(cfg))
    show(f"garbled collisions, {name}: {totals}")
    assert totals.spikes > 500


def test_it_would_be_noticed() -> None:
    with pytest.raises(AssertionError):
        lockstep(DELAYS, garbled(DELAYS, deaf=True))
