"""The chip's streams as a third party sees them: source and sink of ``cocotbext-axi`` on the variant ``pins``.

An independent implementation of AXI4-Stream drives the same frames, so that a misunderstanding in
:mod:`testbench.streams` and in the chip cannot cancel out. Frames are lists of 32-bit words without the ``last``
mark, which the bus carries itself.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from cocotb.triggers import RisingEdge, with_timeout
from cocotbext.axi import AxiStreamBus, AxiStreamFrame, AxiStreamSink, AxiStreamSource

from testbench.streams import PERIOD_NS, Pauses, start_clock_and_reset


class AxisBench:
    """``cocotbext-axi`` on both streams; made by :meth:`start`."""

    def __init__(self, dut: Any, pauses: Pauses) -> None:
        for name in ("rx", "tx"):
            logging.getLogger(f"cocotb.{dut._name}.{name}").setLevel(logging.WARNING)  # it logs every frame
        self.dut = dut
        # One "byte" per word: data of the frames are words then.
        self.source = AxiStreamSource(AxiStreamBus.from_prefix(dut, "rx"), dut.clk, dut.rst, byte_size=32)
        self.sink = AxiStreamSink(AxiStreamBus.from_prefix(dut, "tx"), dut.clk, dut.rst, byte_size=32)
        self.source.set_pause_generator(pauses.generator("rx"))
        self.sink.set_pause_generator(pauses.generator("tx"))

    @classmethod
    async def start(cls, dut: Any, pauses: Pauses | None = None) -> AxisBench:
        """Start the clock, reset the chip and attach source and sink."""
        await start_clock_and_reset(dut)
        return cls(dut, pauses or Pauses())

    async def exchange(self, frames: Sequence[Sequence[int]], timeout_cycles: int = 1_000_000) -> list[list[int]]:
        """Send frames and return one answer frame for each."""
        for frame in frames:
            await self.source.send(AxiStreamFrame(list(frame)))
        answers = []
        for _ in frames:
            answer = await with_timeout(self.sink.recv(), timeout_cycles * PERIOD_NS, "ns")
            answers.append([int(word) for word in answer.tdata])
        return answers

    async def check_empty(self) -> None:
        """No frame waits on either side."""
        for _ in range(8):
            await RisingEdge(self.dut.clk)
        assert self.source.empty(), "frames were not taken"
        assert self.sink.empty(), "frames were not expected"
        assert not int(self.dut.busy.value), "the chip is busy"


def frames_of(words: Sequence[int]) -> list[list[int]]:
    """Split words with ``last`` marks (bit 32) into frames."""
    frames: list[list[int]] = [[]]
    for word in words:
        frames[-1].append(word & 0xFFFF_FFFF)
        if word >> 32 & 1:
            frames.append([])
    assert not frames[-1], "the last word has no `last` mark"
    return frames[:-1]
