"""Small helpers that let tests of hardware blocks read as transactions, in Amaranth's own simulator.

A test is a few coroutines: one that puts, one that gets, each with its own pauses. It ends when all have returned.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Iterable, Iterator
from typing import Any

from amaranth.hdl import Elaboratable, Module, Signal, Value
from amaranth.sim import Simulator

Bench = Callable[[Any], Awaitable[None]]

MAX_CYCLES = 200_000
"""A simulation that is still running then hangs."""


def simulate(dut: Elaboratable, *benches: Bench, cycles: int = MAX_CYCLES) -> None:
    """Run coroutines on a block until all of them have returned; fail if they do not within `cycles`."""

    async def limit(context: Any) -> None:
        for _ in range(cycles):
            await context.tick()
        raise AssertionError(f"a coroutine still waits after {cycles} clock cycles")

    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(limit, background=True)
    for bench in benches:
        simulator.add_testbench(bench)
    simulator.run()


def evaluate(build: Callable[..., Value], shapes: list[Any], rows: Iterable[tuple[int, ...]]) -> list[int]:
    """Values of a combinational expression: ``build(module, *signals)`` for every row of signal values."""
    m = Module()
    inputs = [Signal(shape, name=f"input{index}") for index, shape in enumerate(shapes)]
    value = build(m, *inputs)
    result = Signal(value.shape(), name="result")
    m.d.comb += result.eq(value)
    found: list[int] = []

    async def bench(context: Any) -> None:
        for row in rows:
            for signal, number in zip(inputs, row, strict=True):
                context.set(signal, number)
            found.append(context.get(result))

    simulator = Simulator(m)
    simulator.add_testbench(bench)
    simulator.run()
    return found


def pauses(seed: int, often: float = 0.4, longest: int = 6) -> Iterator[int]:
    """Endless clock cycles to wait before a transfer: mostly none."""
    draw = random.Random(seed)
    while True:
        yield draw.randint(1, longest) if draw.random() < often else 0


def no_pauses() -> Iterator[int]:
    """Every transfer as early as it can be."""
    while True:
        yield 0


async def put(context: Any, stream: Any, payload: Any, pause: int = 0) -> None:
    """Wait, then offer one payload until it is taken."""
    await wait(context, pause)
    context.set(stream.payload, payload)
    context.set(stream.valid, 1)
    await context.tick().until(stream.ready)
    context.set(stream.valid, 0)


async def get(context: Any, stream: Any, pause: int = 0) -> Any:
    """Wait, then take one payload."""
    await wait(context, pause)
    context.set(stream.ready, 1)
    (payload,) = await context.tick().sample(stream.payload).until(stream.valid)
    context.set(stream.ready, 0)
    return payload


async def wait(context: Any, cycles: int) -> None:
    """Let some clock cycles pass."""
    for _ in range(cycles):
        await context.tick()


async def pulse(context: Any, signal: Any, **values: Any) -> None:
    """Set a signal for one clock cycle."""
    context.set(signal, 1)
    await context.tick()
    context.set(signal, 0)


async def stays_while_stalled(context: Any, stream: Any, done: Callable[[], bool]) -> None:
    """Check the rule of streams: what is offered stays the same until it is taken."""
    offered: Any = None
    while not done():
        valid, ready, payload = (
            context.get(stream.valid),
            context.get(stream.ready),
            context.get(Value.cast(stream.payload)),
        )
        _, _, valid, ready, payload = await context.tick().sample(
            stream.valid, stream.ready, Value.cast(stream.payload)
        )
        if offered is not None:
            assert valid, "a word was withdrawn before it was taken"
            assert payload == offered, "a word changed while it waited"
        offered = payload if valid and not ready else None
