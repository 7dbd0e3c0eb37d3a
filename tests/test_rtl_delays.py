"""Spikes under way: the ring of pending sums, the jitter of delays, and what a chip with delays may not combine."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
from amaranth.hdl import signed
from amaranth.lib import data
from streams import simulate

from rtl.config import ChipConfig, ConfigError
from rtl.delays import Jitter, Pending

CFG = ChipConfig((5, 6, 3), lanes=4, delay_slots=5)
RING = 1 << CFG.delay_bits


def pending() -> Pending:
    return Pending(CFG, data.ArrayLayout(signed(8), CFG.lanes), data.ArrayLayout(signed(12), CFG.lanes))


def test_arrivals_are_collected_once_in_their_slot_whatever_the_order_of_commands() -> None:
    dut, draw = pending(), random.Random("pending")
    sums = np.zeros((RING, CFG.neuron_depth, CFG.lanes), int)

    async def bench(context: Any) -> None:
        collected = None
        weights = [0] * CFG.lanes
        for _ in range(3_000):
            context.set(dut.weights, weights)
            command, target, now = draw.choice("eeec."), draw.randrange(CFG.neuron_depth), draw.randrange(RING)
            slots = [draw.randrange(RING) for _ in range(CFG.lanes)]
            context.set(dut.event, command == "e")
            context.set(dut.collect, command == "c")
            context.set(dut.target, target)
            context.set(dut.now, now)
            context.set(dut.slots, slots)
            if collected is not None:
                assert [context.get(dut.sums[lane]) for lane in range(CFG.lanes)] == collected
            collected, weights = None, [draw.randint(-128, 127) for _ in range(CFG.lanes)]
            if command == "e":
                for lane, slot in enumerate(slots):
                    sums[slot, target, lane] += weights[lane]
                    # Stay within the width that a chip would choose.
                    if abs(sums[slot, target, lane]) > 2047:
                        sums[slot, target, lane] -= weights[lane]
                        weights[lane] = 0
            if command == "c":
                collected = sums[now, target].tolist()
                sums[now, target] = 0
            await context.tick()

    simulate(dut, bench)


def test_clearing_takes_a_cycle_for_each_slot_of_each_word_and_leaves_nothing() -> None:
    dut = pending()

    async def bench(context: Any) -> None:
        for _ in range(2):
            context.set(dut.weights, [3] * CFG.lanes)
            context.set(dut.event, 1)
            for slot in range(RING):
                for target in range(CFG.neuron_depth):
                    context.set(dut.target, target)
                    context.set(dut.slots, [slot] * CFG.lanes)
                    await context.tick()
            context.set(dut.event, 0)
            await context.tick()
            context.set(dut.clear, 1)
            cycles = 1
            while not context.get(dut.cleared):
                await context.tick()
                cycles += 1
            assert cycles == RING * CFG.neuron_depth
            await context.tick()
            context.set(dut.clear, 0)
            context.set(dut.collect, 1)
            for slot in range(RING):
                for target in range(CFG.neuron_depth):
                    context.set(dut.now, slot)
                    context.set(dut.target, target)
                    await context.tick()
                    assert [context.get(dut.sums[lane]) for lane in range(CFG.lanes)] == [0] * CFG.lanes
            context.set(dut.collect, 0)

    simulate(dut, bench)


def test_jitter_moves_every_lane_by_its_own_draw_and_stays_in_the_ring() -> None:
    dut, draw = Jitter(CFG), random.Random("jitter")
    cases = [
        (
            [draw.randrange(RING) for _ in range(CFG.lanes)],
            [draw.choice((0, 0xFFFF, draw.getrandbits(16))) for _ in range(CFG.lanes)],
            draw.choice((0, 1, 14, 60, 255)),
        )
        for _ in range(400)
    ]
    outcomes = set()

    async def bench(context: Any) -> None:
        context.set(dut.enable, 1)
        for delays, draws, amplitude in cases:
            context.set(dut.delays, delays)
            context.set(dut.draws, draws)
            context.set(dut.amplitude, amplitude)
            await context.tick()
            await context.tick()
            for lane in range(CFG.lanes):
                centred = sum(draws[lane] >> shift & 15 for shift in (0, 4, 8, 12)) - 30
                late = delays[lane] + (centred * amplitude + 128 >> 8)
                assert context.get(dut.moved[lane]) == min(max(late, 0), RING - 1)
                outcomes.add("early" if late < 0 else "late" if late >= RING else "inside")

    simulate(dut, bench)
    assert outcomes == {"early", "inside", "late"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"delay_slots": 1}, r"delay_slots = 1: must be 0 .* or an integer from 2 to 1024"),
        ({"delay_slots": 1025}, "delay_slots = 1025"),
        ({"delay_slots": True}, "delay_slots = True"),
        ({"delay_slots": 8, "learning": True}, "delay_slots = 8: must be 0 with learning"),
        ({"axonal_delays": True}, "axonal_delays = True: must be False without delay_slots"),
        ({"axonal_delays": 1}, "axonal_delays = 1: must be True or False"),
    ],
)
def test_delays_that_cannot_be_built_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        ChipConfig((4, 3), lanes=4, **options)
