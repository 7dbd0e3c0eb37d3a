"""Drivers and monitors of the chip's two word streams for ordinary cocotb tests, with random pauses on both.

A test on the variant ``pins`` (:mod:`testbench.cosim`) reads as a transaction::

    @cocotb.test()
    async def echo(dut):
        bench = await Bench.start(dut, pauses=Pauses(rx=0.3, tx=0.5, seed=1))
        assert await bench.exchange(words) == answers
        bench.check_empty()

Words are integers; bit 32 is the ``last`` mark, as everywhere on the host side. What is read after ``RisingEdge`` is
what the chip saw at that edge, what is written takes effect after it: cocotb's convention, which all coroutines here
keep to.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import cocotb
from cocotb.clock import Clock
from cocotb.handle import Immediate
from cocotb.triggers import Event, RisingEdge

PERIOD_NS = 10


@dataclass(frozen=True)
class Pauses:
    """Probability of a pause in each clock cycle: of valid on ``rx``, of ready on ``tx``."""

    rx: float = 0.0
    tx: float = 0.0
    seed: int = 0

    def generator(self, side: str) -> Iterator[bool]:
        """Endless pauses of one side; short and long ones mixed, since a steady rate rarely fills or empties a FIFO."""
        rate = {"rx": self.rx, "tx": self.tx}[side]
        if not 0.0 <= rate < 1.0:
            raise ValueError(f"Pauses.{side} = {rate!r}: must be at least 0 and below 1")
        draw = random.Random(f"{side}{self.seed}")
        while True:
            here = min(0.95, max(0.0, rate * draw.choice((0.0, 0.5, 1.5, 2.0)))) if rate else 0.0
            for _ in range(draw.randint(1, 40)):
                yield draw.random() < here


class Driver:
    """Offers the queued words on ``rx``; an offered word stays until it is taken, as the stream rules want."""

    def __init__(self, dut: Any, pauses: Iterator[bool]) -> None:
        self._dut = dut
        self._pauses = pauses
        self.queue: deque[int] = deque()
        self._wake = Event()
        self._sent = 0
        dut.rx_tvalid.value = 0
        cocotb.start_soon(self._run())

    def put(self, words: Iterable[int]) -> None:
        """Queue words to send."""
        self.queue.extend(words)
        self._wake.set()

    async def _run(self) -> None:
        dut = self._dut
        edge = RisingEdge(dut.clk)
        while True:
            while not self.queue:
                self._wake.clear()
                await self._wake.wait()
                await edge
            while next(self._pauses):
                await edge
            word = self.queue[0]
            dut.rx_tdata.value = word & 0xFFFF_FFFF
            dut.rx_tlast.value = word >> 32 & 1
            dut.rx_tvalid.value = 1
            await edge
            while not dut.rx_tready.value:
                await edge
            self.queue.popleft()
            dut.rx_tvalid.value = 0


class Monitor:
    """Takes the words of ``tx`` and checks that an offered word stays the same until it is taken."""

    def __init__(self, dut: Any, pauses: Iterator[bool]) -> None:
        self._dut = dut
        self._pauses = pauses
        self.words: list[int] = []
        dut.tx_tready.value = 0
        cocotb.start_soon(self._run())

    async def _run(self) -> None:
        dut = self._dut
        edge = RisingEdge(dut.clk)
        stalled: int | None = None
        while True:
            ready = not next(self._pauses)
            dut.tx_tready.value = ready
            await edge
            word = int(dut.tx_tdata.value) | int(dut.tx_tlast.value) << 32 if dut.tx_tvalid.value else None
            if stalled is not None and word != stalled:
                raise AssertionError(
                    f"tx offered {stalled:#x} while stalled and then "
                    + ("nothing" if word is None else f"{word:#x}")
                    + ": a word must stay until it is taken"
                )
            stalled = None if ready else word
            if ready and word is not None:
                self.words.append(word)


class Bench:
    """Clock, reset, driver and monitor of one test; made by :meth:`start`."""

    def __init__(self, dut: Any, driver: Driver, monitor: Monitor) -> None:
        self.dut = dut
        self.driver = driver
        self.monitor = monitor

    @classmethod
    async def start(cls, dut: Any, pauses: Pauses | None = None) -> Bench:
        """Start the clock, reset the chip and attach both streams."""
        await start_clock_and_reset(dut)
        pauses = pauses or Pauses()
        return cls(dut, Driver(dut, pauses.generator("rx")), Monitor(dut, pauses.generator("tx")))

    async def exchange(self, words: Sequence[int], timeout_cycles: int = 1_000_000) -> list[int]:
        """Send words, wait until the chip is idle, return what it sent since the last exchange.

        Raises
        ------
        AssertionError
            If the chip is not idle after ``timeout_cycles`` clock cycles.
        """
        self.driver.put(words)
        edge = RisingEdge(self.dut.clk)
        quiet = 0
        for _ in range(timeout_cycles):
            await edge
            idle = not (self.driver.queue or int(self.dut.busy.value) or int(self.dut.tx_tvalid.value))
            quiet = quiet + 1 if idle else 0
            if quiet == 3:
                answers = self.monitor.words[:]
                self.monitor.words.clear()
                return answers
        raise AssertionError(
            f"the chip is not idle after {timeout_cycles:,} clock cycles: {len(self.driver.queue)} words were not "
            f"taken, busy = {self.dut.busy.value}, {len(self.monitor.words)} words were sent"
        )

    def check_empty(self) -> None:
        """No word waits on either side."""
        assert not self.driver.queue, f"{len(self.driver.queue)} words were not taken"
        assert not self.monitor.words, f"{len(self.monitor.words)} words were not expected"
        assert not int(self.dut.busy.value), "the chip is busy"


async def exchange(dut: Any, words: Sequence[int], pauses: Pauses | None = None) -> list[int]:
    """Reset the chip, send words with random pauses, return the answers; for tests of a single exchange."""
    bench = await Bench.start(dut, pauses)
    answers = await bench.exchange(words)
    bench.check_empty()
    return answers


async def start_clock_and_reset(dut: Any) -> None:
    """Clock of 100 MHz and four clock cycles of reset, with idle inputs."""
    for pin in (dut.rx_tvalid, dut.rx_tdata, dut.rx_tlast, dut.tx_tready):
        pin.value = 0
    dut.rst.set(Immediate(1))
    Clock(dut.clk, PERIOD_NS, "ns").start()
    for _ in range(4):
        await RisingEdge(dut.clk)
    dut.rst.value = 0
    await RisingEdge(dut.clk)
