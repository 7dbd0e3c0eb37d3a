"""cocotb tests of the chip against the golden model; run by ``test_lockstep.py``."""

from __future__ import annotations

from typing import Any

import cocotb
import numpy as np
from cocotb.triggers import RisingEdge

from pymodel.chip import GoldenChip
from rtl.registers import LAST
from testbench.axis import AxisBench, frames_of
from testbench.cosim import config, parameters
from testbench.lockstep import (
    TracedGradient,
    TracedWord,
    compare,
    compare_gradients,
    compare_trace,
    traced_gradient,
    traced_word,
)
from testbench.programs import Program, random_program
from testbench.streams import Bench, Pauses


def _program() -> Program:
    values = parameters()
    sizes = {name: values[name] for name in ("chapters", "samples", "max_steps")}
    # The second test finds the memories as the first one left them.
    return random_program(config(), values["seed"], **sizes, everything=True)


def _pauses() -> Pauses:
    values = parameters()
    return Pauses(rx=values["rx"], tx=values["tx"], seed=values["seed"])


@cocotb.test()
async def step_by_step(dut: Any) -> None:
    """Every answer word and, through the trace port, every neuron in every step, with pauses on both streams."""
    cfg, program = config(), _program()
    seen: list[TracedWord] = []
    gradients: list[TracedGradient] = []

    async def watch() -> None:
        edge = RisingEdge(dut.clk)
        while True:
            await edge
            if dut.chip.trace_valid.value:
                seen.append(traced_word(cfg, int(dut.chip.trace.value)))
            if cfg.learning and dut.chip.gradient_valid.value:
                gradients.append(traced_gradient(cfg, int(dut.chip.gradient.value)))

    bench = await Bench.start(dut, _pauses())
    cocotb.start_soon(watch())
    chip = await bench.exchange([int(word) for word in program.words])
    bench.check_empty()
    model, traces = GoldenChip(cfg).trace(program.words)
    totals = compare(program, np.array(chip, np.uint64), model)
    assert compare_trace(cfg, seen, traces) == totals.steps
    if cfg.learning:
        assert compare_gradients(cfg, gradients, traces) > 0
    dut._log.info(f"step by step: {totals}")


@cocotb.test()
async def third_party_streams(dut: Any) -> None:
    """The same frames through cocotbext-axi's source and sink."""
    program = _program()
    bench = await AxisBench.start(dut, _pauses())
    answers = await bench.exchange(frames_of([int(word) for word in program.words]))
    await bench.check_empty()
    chip = [word | (LAST if place == len(answer) - 1 else 0) for answer in answers for place, word in enumerate(answer)]
    totals = compare(program, np.array(chip, np.uint64), GoldenChip(config()).exchange(program.words))
    dut._log.info(f"third-party streams: {totals}")
