"""Winner-take-all and the many lists of a chip that learns; the learner itself is checked by lockstep."""

from __future__ import annotations

import math
import random
from typing import Any

import pytest
from amaranth.hdl import unsigned
from amaranth.lib import data
from streams import simulate

from rtl.config import ChipConfig
from rtl.registers import Noise
from rtl.spikes import SpikeList
from rtl.winner import Winner


def noise(kind: int, shift: int, draw16: int) -> int:
    """What docs/chip.md says, once more."""
    r8 = draw16 >> 8
    gumbel = round(-256 * math.log(-math.log((r8 + 0.5) / 256)))
    n = {Noise.NONE: 0, Noise.FLAT: (r8 - 128) * 4, Noise.GUMBEL: gumbel}.get(kind, 0)
    return (n << shift) >> 8


@pytest.mark.parametrize(
    ("outputs", "lanes", "state_bits", "neuron_lanes"),
    [
        (1, 4, 8, 4),
        (3, 4, 24, 4),
        (10, 16, 12, 16),
        (17, 8, 32, 8),
        (130, 64, 20, 64),
        (128, 128, 9, 128),
        (17, 8, 16, 1),
        (13, 16, 16, 4),
    ],
)
def test_the_winner_has_the_largest_noisy_membrane_and_the_lowest_index(
    outputs: int, lanes: int, state_bits: int, neuron_lanes: int
) -> None:
    cfg = ChipConfig(
        (5, outputs),
        lanes=lanes,
        state_bits=state_bits,
        learning=True,
        die_tables=False,
        neuron_lanes=neuron_lanes,
    )
    dut, draw = Winner(cfg), random.Random(outputs)
    groups, width = cfg.words[0] * cfg.neuron_groups, neuron_lanes
    top = cfg.state_range[1]

    async def bench(context: Any) -> None:
        for _ in range(40):
            kind, shift = draw.choice(list(Noise)), draw.choice((0, 3, 7, 15))
            spread = draw.choice((0, 2, 300, top))
            potentials = [min(top, max(-top - 1, draw.randint(-spread - 1, spread))) for _ in range(outputs)]
            chances = [draw.getrandbits(16) for _ in range(groups * width)]
            context.set(dut.noise_kind, kind)
            context.set(dut.noise_shift, shift)
            for group in range(groups + 1):
                # The draws come a cycle before the membranes of their group.
                context.set(dut.draw, group < groups)
                context.set(dut.draws, chances[group * width :][:width] if group < groups else [0] * width)
                context.set(dut.take, group > 0)
                if group > 0:
                    here = potentials[(group - 1) * width : group * width]
                    context.set(dut.take_group, group - 1)
                    context.set(dut.potentials, here + [top] * (width - len(here)))
                    context.set(dut.exists, (1 << len(here)) - 1)
                await context.tick()
            context.set(dut.take, 0)
            await context.tick().repeat(4)
            scores = [value + noise(kind, shift, chances[index]) for index, value in enumerate(potentials)]
            found = context.get(dut.word) * lanes + context.get(dut.lane)
            assert found == scores.index(max(scores))

    simulate(dut, bench)


@pytest.mark.parametrize("lists", [2, 3, 5])
def test_many_lists_keep_apart_until_all_are_cleared(lists: int) -> None:
    layout = data.StructLayout({"index": unsigned(4), "mask": unsigned(8)})
    dut, draw = SpikeList(6, layout, lists), random.Random(lists)
    kept: list[list[tuple[int, int]]] = [[] for _ in range(lists)]

    async def bench(context: Any) -> None:
        for _ in range(200):
            which = draw.randrange(lists)
            action = draw.choice(("push", "push", "push", "clear", "read", "read", "clear_all"))
            context.set(dut.which, which)
            if action == "push" and len(kept[which]) < 6:
                item = draw.getrandbits(4), draw.getrandbits(8)
                context.set(dut.item, {"index": item[0], "mask": item[1]})
                kept[which].append(item)
                context.set(dut.push, 1)
            elif action == "clear":
                kept[which].clear()
                context.set(dut.clear, 1)
            elif action == "clear_all" and draw.random() < 0.2:
                for entries in kept:
                    entries.clear()
                context.set(dut.clear_all, 1)
            context.set(dut.read_which, which)
            index = draw.randrange(max(1, len(kept[which])))
            context.set(dut.read_index, index)
            await context.tick()
            for name in ("push", "clear", "clear_all"):
                context.set(getattr(dut, name), 0)
            assert context.get(dut.length) == len(kept[which])
            if action == "read" and kept[which]:
                item = context.get(dut.read_item)
                assert (item["index"], item["mask"]) == kept[which][index]

    simulate(dut, bench)
