"""cocotb tests of the drivers themselves, on the stand-in core (``standin.sv``); run by ``test_harness.py``."""

from __future__ import annotations

import random
from typing import Any

import cocotb

from rtl.registers import LAST
from testbench.axis import AxisBench, frames_of
from testbench.cosim import parameters
from testbench.streams import Bench, Pauses


def _words(count: int, seed: int) -> list[int]:
    """Frames of random length; the last word ends one."""
    draw = random.Random(seed)
    words = [draw.getrandbits(32) & 0x7FFF_FFFF | (LAST if draw.random() < 0.2 else 0) for _ in range(count)]
    words[-1] |= LAST
    return words


def _answers(words: list[int]) -> list[int]:
    return [word ^ 0xFFFF_FFFF for word in words]


def _pauses() -> Pauses:
    values = parameters()
    return Pauses(rx=values["rx"], tx=values["tx"], seed=values["seed"])


@cocotb.test()
async def echo(dut: Any) -> None:
    """Several exchanges with pauses on both sides."""
    bench = await Bench.start(dut, _pauses())
    for seed in range(3):
        words = _words(100, seed)
        assert await bench.exchange(words) == _answers(words)
    assert await bench.exchange([]) == []
    bench.check_empty()


@cocotb.test()
async def axis(dut: Any) -> None:
    """The same through cocotbext-axi."""
    bench = await AxisBench.start(dut, _pauses())
    words = _words(200, 7)
    assert await bench.exchange(frames_of(words)) == frames_of(_answers(words))
    await bench.check_empty()


@cocotb.test()
async def failing(dut: Any) -> None:
    """Fails if asked to, to see that a failure is reported."""
    assert not parameters().get("fail"), "asked to fail"
