"""The slow end of the benches: a cocotb test as it is usually written, which awaits every clock edge. See :mod:`testbench.bench`."""

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
        # Read before the values of this edge are in: what the chip saw at it.
        if offered and dut.rx__ready.value:
            position += 1
            offered = False
        idle = position == len(words) and not dut.busy.value and not dut.tx__valid.value
        quiet = quiet + 1 if idle else 0
        if not offered:
            offered = position < len(words)
            dut.rx__valid.value = offered
            if offered:
                dut.rx__payload.value = words[position]
        await edge
        cycles += 1
    seconds = time.perf_counter() - start
    Path(values["report"]).write_text(json.dumps({"seconds": seconds, "cycles": cycles}), encoding="utf-8")
