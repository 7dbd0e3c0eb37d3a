"""The slow end of the benches (:mod:`testbench.bench`): a cocotb test as usually written, awaiting every clock edge."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import cocotb
import numpy as np
from cocotb.clock import Clock
from cocotb.triggers import RisingEdge

from testbench.cosim import parameters


@cocotb.test()
async def every_edge(dut: Any) -> None:
    """Send all words, take all answers, count clock cycles."""
    values = parameters()
    words = np.load(values["words"]).tolist()
    dut.rst.value = 1
    dut.rx__valid.value = 0
    dut.tx__ready.value = 1
    Clock(dut.clk, 10, "ns").start()
    edge = RisingEdge(dut.clk)
    for _ in range(4):
        await edge
    dut.rst.value = 0
    await edge

    start = time.perf_counter()
    position = cycles = quiet = 0
    offered = False
    while quiet < 3:
        if not offered and position < len(words):
            dut.rx__payload.value = words[position]
            dut.rx__valid.value = 1
            offered = True
        await edge
        cycles += 1
        if offered and dut.rx__ready.value:
            position += 1
            offered = False
            if position == len(words):
                dut.rx__valid.value = 0
        idle = position == len(words) and not dut.busy.value and not dut.tx__valid.value
        quiet = quiet + 1 if idle else 0
    seconds = time.perf_counter() - start
    Path(values["report"]).write_text(json.dumps({"seconds": seconds, "cycles": cycles}), encoding="utf-8")
