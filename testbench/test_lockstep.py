"""The chip against the golden model: word by word, cycle by cycle, and through the trace port step by step."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest

from pymodel.chip import GoldenChip
from rtl.config import ChipConfig
from testbench import cosim
from testbench.lockstep import Totals, compare
from testbench.programs import random_config, random_program
from testbench.simulator import Simulator

SMALL = ChipConfig(layers=(11, 9, 5), lanes=4, trace=True)
DEEP = ChipConfig(layers=(9, 12, 8, 7, 3), lanes=8, weight_bits=10, state_bits=16, die_tables=False, trace=True)
WIDE = ChipConfig(layers=(70, 33, 40), lanes=32, weight_bits=6, state_bits=20)
FLAT = ChipConfig(layers=(20, 3), lanes=4, weight_bits=16, state_bits=32)
DELAYS = ChipConfig(layers=(11, 9, 6, 5), lanes=4, delay_slots=13, trace=True)
AXONAL = ChipConfig(layers=(40, 35, 20), lanes=16, die_tables=False, delay_slots=50, axonal_delays=True)
BINARY = ChipConfig(layers=(9, 10, 7, 5), lanes=4, trace=True, binary_weights=True)
BINARY_WIDE = ChipConfig(layers=(70, 100, 33), lanes=64, state_bits=20, binary_weights=True)
LEARNING = ChipConfig(layers=(11, 9, 6, 7), lanes=4, trace=True, learning=True)
LEARNING_WIDE = ChipConfig(layers=(40, 35, 20), lanes=16, weight_bits=10, die_tables=False, learning=True)
NARROW = ChipConfig(
    layers=(30, 21, 20),
    lanes=4,
    state_bits=16,
    die_tables=False,
    learning=True,
    neuron_lanes=1,
    bernoulli=False,
    receive_words=64,
)


def lockstep(cfg: ChipConfig, seeds: range, *, chapters: int, samples: int, max_steps: int) -> Totals:
    """Programs of some seeds on the fast simulator and the model, each from the state that the last one left."""
    totals, model = Totals(), GoldenChip(cfg)
    with Simulator(cfg) as simulator:
        for seed in seeds:
            program = random_program(cfg, seed, chapters=chapters, samples=samples, max_steps=max_steps)
            totals += compare(program, simulator.exchange(program.words), model.exchange(program.words))
    totals.configurations = 1
    return totals


@pytest.mark.parametrize(
    "cfg", [SMALL, DEEP, LEARNING, DELAYS, BINARY], ids=["die", "deep", "learning", "delays", "binary"]
)
def test_every_neuron_is_equal_in_every_step_under_random_pauses(cfg: ChipConfig, show: Callable[[str], None]) -> None:
    log = cosim.run(
        "testbench.cocotb_lockstep",
        cfg,
        parameters={"seed": 1, "chapters": 6, "samples": 3, "max_steps": 12, "rx": 0.3, "tx": 0.3},
    )
    for line in log.splitlines():
        if "all equal" in line:
            show(line.split("cocotb.spikeloop_pins")[-1].strip())
    assert log.count("all equal") == 2


@pytest.mark.parametrize(
    "cfg",
    [SMALL, WIDE, FLAT, LEARNING_WIDE, NARROW, DELAYS, AXONAL, BINARY_WIDE],
    ids=["die", "wide", "flat", "learning", "narrow", "delays", "axonal", "binary"],
)
def test_answers_and_cycles_are_equal_on_the_fast_simulator(cfg: ChipConfig, show: Callable[[str], None]) -> None:
    totals = lockstep(cfg, range(4), chapters=12, samples=6, max_steps=60)
    show(str(totals))
    assert totals.steps > 2_000
    assert totals.spikes > 1_000
    if cfg.learning:
        assert totals.learned > 100
        assert totals.gradient_events > 1_000


@pytest.mark.slow
def test_a_million_steps_over_thirty_random_configurations_are_equal(show: Callable[[str], None]) -> None:
    draw = random.Random("thirty")
    configurations = [random_config(draw) for _ in range(32)]
    run = partial(lockstep, seeds=range(10), chapters=10, samples=8, max_steps=120)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        totals = sum(pool.map(run, configurations), Totals())
    show(str(totals))
    assert totals.configurations >= 30
    assert totals.steps >= 1_000_000


@pytest.mark.slow
def test_twenty_thousand_learned_samples_over_twelve_random_configurations_are_equal(
    show: Callable[[str], None],
) -> None:
    draw = random.Random("twelve")
    configurations = [random_config(draw, learning=True) for _ in range(12)]
    run = partial(lockstep, seeds=range(8), chapters=8, samples=50, max_steps=12)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        totals = sum(pool.map(run, configurations), Totals())
    show(str(totals))
    assert totals.configurations >= 10
    assert totals.learned >= 20_000
