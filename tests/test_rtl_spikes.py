"""Encoder, spike lists, walker and sequencer: from a sample to the addresses of its weights, and what that costs."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from amaranth.hdl import Module
from streams import no_pauses, pauses, pulse, simulate

from pymodel.encoder import RATE_START, encode_bernoulli, encode_rate, take_events
from pymodel.random import seed_banks
from pymodel.sequencer import C_ENC, C_EVENTS
from rtl.config import ChipConfig
from rtl.encoder import Encoder
from rtl.registers import Encoding
from rtl.sequencer import Sequencer
from rtl.spikes import SpikeList, Walker, entry

EDGES = [
    ChipConfig((1, 1), lanes=4),  # one input, one layer, one word
    ChipConfig((8, 8, 4), lanes=4),  # whole words only
    ChipConfig((13, 5, 9, 2), lanes=4),
    ChipConfig((200, 2), lanes=128),
]


DELAYED = [
    ChipConfig((13, 5, 9, 2), lanes=4, delay_slots=3),
    ChipConfig((8, 8, 4), lanes=4, delay_slots=3, axonal_delays=True),
]


def list_of(cfg: ChipConfig, sources: list[int]) -> list[tuple[int, int]]:
    """Entries of a spike list: words with spikes, ascending, as (index, mask)."""
    masks: dict[int, int] = {}
    for source in sources:
        index, lane = divmod(source, cfg.lanes)
        masks[index] = masks.get(index, 0) | 1 << lane
    return sorted(masks.items())


# ---- encoder --------------------------------------------------------------------------------------------------------


class EncoderBench:
    """Runs an encoder step by step, with `hold` now and then."""

    def __init__(self, cfg: ChipConfig, encoding: int, holds: Iterator[int]) -> None:
        self.cfg, self.encoding, self.holds = cfg, encoding, holds
        self.dut = Encoder(cfg)
        self.unread: list[int] = []

    async def load(self, context: Any, pixels: list[int], seed: int) -> None:
        for index in range(self.cfg.pixel_words):
            context.set(self.dut.pixel_index, index)
            context.set(self.dut.pixel_data, int.from_bytes(bytes(pixels[4 * index : 4 * index + 4]), "little"))
            await pulse(context, self.dut.pixel_write)
        bank = np.zeros(self.cfg.lanes // 2, np.int64)
        seed_banks(seed, bank, np.zeros(0, np.int64))
        for state in reversed(bank.tolist()):
            context.set(self.dut.seed, state)
            await pulse(context, self.dut.seed_shift)

    async def step(self, context: Any, step: int) -> tuple[list[tuple[int, int]], int]:
        """Entries pushed in one step, and the clock cycles it took, those on hold not counted."""
        dut, pushed, cycles = self.dut, [], 0
        context.set(dut.encoding, self.encoding)
        context.set(dut.step, step)
        context.set(dut.first_step, step == 0)
        context.set(dut.start, 1)
        hold = 0
        while True:
            if context.get(dut.busy):
                hold = hold - 1 if hold > 0 else next(self.holds)
            context.set(dut.hold, hold > 0)
            context.set(dut.event_left, bool(self.unread))
            context.set(dut.event, self.unread[0] if self.unread else 0xDEADBEEF)
            cycles += hold == 0
            if context.get(dut.push):
                item = context.get(dut.item)
                pushed.append((item.index, item.mask))
            if context.get(dut.clear) or pushed:
                assert context.get(dut.which) == step % 2
            taken = context.get(dut.event_take)
            await context.tick()
            if taken:
                self.unread.pop(0)
            context.set(dut.start, 0)
            if not context.get(dut.busy):
                return pushed, cycles + 1  # the sequencer looks once more


@pytest.mark.parametrize("cfg", EDGES, ids=lambda cfg: str(cfg.layers))
@pytest.mark.parametrize("encoding", [Encoding.RATE, Encoding.BERNOULLI])
@pytest.mark.parametrize("often", [0.0, 0.4])
def test_intensities_become_the_golden_spikes(cfg: ChipConfig, encoding: Encoding, often: float) -> None:
    draw = random.Random(cfg.n_in)
    bench_of = EncoderBench(cfg, encoding, pauses(1, often))

    async def bench(context: Any) -> None:
        for sample in range(2):
            pixels = [draw.choice([0, 1, 128, 255, draw.randrange(256)]) for _ in range(cfg.n_in)]
            padding = [255] * (-cfg.n_in % 4)  # bytes that belong to no input
            seed = draw.getrandbits(32)
            await bench_of.load(context, pixels + padding, seed)
            bank, active = np.zeros(cfg.lanes // 2, np.int64), np.zeros(cfg.n_in + 1, np.int64)
            seed_banks(seed, bank, np.zeros(0, np.int64))
            accumulator, everybody = np.full(cfg.n_in, RATE_START), np.arange(cfg.n_in)
            values = np.array(pixels)
            for step in range(5 + sample):
                if encoding == Encoding.RATE:
                    n = encode_rate(values, everybody, cfg.n_in, accumulator, active)
                else:
                    n = encode_bernoulli(values, cfg.lanes, bank, active)
                pushed, cycles = await bench_of.step(context, step)
                assert pushed == list_of(cfg, active[:n].tolist())
                assert cycles == cfg.in_words + C_ENC

    simulate(bench_of.dut, bench, cycles=3000)


EVENTS = {
    "ascending": [(0, 0), (0, 1), (0, 7), (1, 7), (3, 0), (3, 3), (3, 4), (3, 5)],
    "none": [],
    "same event twice": [(0, 3), (1, 2), (1, 2), (2, 0)],
    "input before": [(0, 3), (0, 2)],
    "input in a word before": [(0, 5), (0, 2)],
    "input in a word before, a step later": [(0, 5), (1, 2), (1, 6)],
    "time before": [(2, 3), (1, 4)],
    "no such input": [(0, 1), (1, 8), (2, 0)],
    "first one bad": [(0, 9)],
    "too late": [(1, 1), (9, 0)],
}


@pytest.mark.parametrize("name", EVENTS)
@pytest.mark.parametrize("often", [0.0, 0.5])
def test_events_are_read_until_one_breaks_a_rule(name: str, often: float) -> None:
    cfg = ChipConfig((8, 4), lanes=4)
    words = np.array([time << 16 | source for time, source in EVENTS[name]], np.uint32)
    bench_of = EncoderBench(cfg, Encoding.EVENTS, pauses(2, often))

    async def bench(context: Any) -> None:
        for _ in range(2):  # a bad sample does not spoil the next one
            cursor, active = np.array([0, -1, 0]), np.zeros(9, np.int64)
            bench_of.unread = words.tolist()
            for step in range(5):
                n = take_events(words, 0, len(words), step, cfg.n_in, cursor, active)
                pushed, cycles = await bench_of.step(context, step)
                assert pushed == list_of(cfg, active[:n].tolist())
                assert cycles == n + C_EVENTS
            assert len(bench_of.unread) == len(words) - cursor[0]
            assert context.get(bench_of.dut.bad_events) == cursor[2]

    simulate(bench_of.dut, bench, cycles=3000)


# ---- lists ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("depth", [1, 3, 8])
def test_two_lists_are_filled_and_read_independently(depth: int) -> None:
    cfg = ChipConfig((4 * depth, 4), lanes=4)
    dut = SpikeList(depth, entry(cfg))
    draw = random.Random(depth)
    model: list[list[tuple[int, int]]] = [[], []]

    async def bench(context: Any) -> None:
        for _ in range(60):
            which = draw.randrange(2)
            context.set(dut.which, which)
            if draw.random() < 0.2 or len(model[which]) == depth:
                model[which] = []
                await pulse(context, dut.clear)
            else:
                item = (draw.randrange(depth), draw.getrandbits(4))
                model[which].append(item)
                context.set(dut.item, {"index": item[0], "mask": item[1]})
                await pulse(context, dut.push)
            read = draw.randrange(2)
            context.set(dut.read_which, read)
            assert context.get(dut.length) == len(model[read])
            for index, item in enumerate(model[read]):
                context.set(dut.read_index, index)
                await context.tick()
                found = context.get(dut.read_item)
                assert (found.index, found.mask) == item

    simulate(dut, bench, cycles=3000)


def walk(cfg: ChipConfig, layer: int, sources: list[int], min_pass: int, holds: Iterator[int]) -> list[dict[str, int]]:
    """Commands of one walk over a list of sources; checks when the first one comes and that none is lost."""
    m = Module()
    longest = max((cfg.in_words, *cfg.words))
    m.submodules.list = spikes = SpikeList(longest, entry(cfg))
    m.submodules.walker = dut = Walker(cfg)
    m.d.comb += [spikes.read_index.eq(dut.index), dut.item.eq(spikes.read_item), dut.length.eq(spikes.length)]
    commands: list[dict[str, int]] = []
    counted = 0

    async def bench(context: Any) -> None:
        nonlocal counted
        for index, mask in list_of(cfg, sources):
            context.set(spikes.item, {"index": index, "mask": mask})
            await pulse(context, spikes.push)
        context.set(dut.layer, layer)
        context.set(dut.min_pass, min_pass)
        await pulse(context, dut.start)
        context.set(dut.layer, 0)  # it was latched
        hold = held = 0
        for cycle in range(10_000):
            hold = hold - 1 if hold > 0 else next(holds)
            context.set(dut.hold, hold > 0)
            counted += context.get(dut.spikes)
            if context.get(dut.go):
                names = ("valid", "last", "word", "address", *(("source",) if cfg.axonal_delays else ()))
                commands.append({name: context.get(getattr(dut, name)) for name in names})
                commands[-1]["cycle"] = cycle - held
            elif cycle > 2 and not context.get(dut.walking):
                break
            held += hold > 0 and bool(context.get(dut.walking))
            await context.tick()

    simulate(m, bench, cycles=12_000)
    assert counted == len(sources)
    assert [command.pop("cycle") for command in commands] == list(range(2, 2 + len(commands)))  # one a cycle
    return commands


@pytest.mark.parametrize("cfg", [*EDGES, *DELAYED], ids=lambda cfg: f"{cfg.layers}, {cfg.delay_slots}")
@pytest.mark.parametrize("often", [0.0, 0.4])
def test_walker_names_the_weights_of_every_source_for_every_word(cfg: ChipConfig, often: float) -> None:
    draw = random.Random(7)
    for layer, (n_pre, _) in enumerate(cfg.shapes):
        for share in (0.0, 0.3, 1.0):
            sources = [source for source in range(n_pre) if draw.random() < share]
            min_pass = draw.choice([0, 1, 2, 8])
            commands = walk(cfg, layer, sources, min_pass, pauses(3, often) if often else no_pauses())
            # With delays, what arrives is collected after the spikes.
            least = len(sources) + 1 if cfg.delay_slots else max(len(sources), 1)
            words, passes = cfg.words[layer], max(least, min_pass)
            assert len(commands) == words * passes
            for word in range(words):
                turn = commands[word * passes : (word + 1) * passes]
                assert [command["last"] for command in turn] == [0] * (passes - 1) + [1]
                assert {command["word"] for command in turn} == {word}
                addresses = [command["address"] for command in turn if command["valid"]]
                assert addresses == [cfg.weight_base[layer] + source * words + word for source in sources]
                if cfg.delay_slots:
                    assert not turn[-1]["valid"]
                if cfg.axonal_delays:
                    found = [command["source"] for command in turn if command["valid"]]
                    assert found == [cfg.source_base[layer] + source for source in sources]


# ---- sequencer ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sizes", [(4, 4), (4, 4, 4), (4, 4, 4, 4)])
@pytest.mark.parametrize("stochastic", [False, True])
@pytest.mark.parametrize(("steps", "enough"), [(0, 9), (1, 9), (6, 9), (6, 0), (6, 3), (6, 5)])
@pytest.mark.parametrize("slots", [0, 5])
def test_a_step_takes_as_long_as_its_layers_or_the_next_encoding(
    sizes: tuple[int, ...], stochastic: bool, steps: int, enough: int, slots: int
) -> None:
    """All outputs have fired in step `enough`, which then is the last."""
    cfg = ChipConfig(sizes, delay_slots=slots)
    dut = Sequencer(cfg)
    draw = random.Random(f"{steps} {enough}")
    total, n_layers = max(steps, 1), len(sizes) - 1
    encodings = [draw.randint(2, 12) for _ in range(total)]
    layers = [[draw.randint(2, 9) for _ in range(n_layers)] for _ in range(total)]
    seeding, clearing = 7, 11 if slots else 0
    walked: list[tuple[int, int]] = []
    encoded: list[int] = []
    cycles = 0

    async def bench(context: Any) -> None:
        """Plays seeder, encoder and layers; an encoding of e cycles is seen as finished in the e-th."""
        nonlocal cycles
        seed = encode = layer = clear = 0
        context.set(dut.steps, steps)
        context.set(dut.stochastic, stochastic)
        context.set(dut.start, 1)
        while True:
            context.set(dut.seeded, seed == 1)
            context.set(dut.encoding, encode > 1)
            context.set(dut.layer_done, layer == 1)
            context.set(dut.enough, bool(walked) and walked[-1] == (enough, n_layers - 1))
            if slots:
                clear = clear + 1 if context.get(dut.clear) else 0
                context.set(dut.cleared, clear == clearing)
            seed, encode, layer = max(seed - 1, 0), max(encode - 1, 0), max(layer - 1, 0)
            if context.get(dut.seed):
                seed = seeding
            if context.get(dut.encode):
                encoded.append(context.get(dut.encode_step))
                encode = encodings[encoded[-1]] - 1
            if context.get(dut.walk):
                walked.append((context.get(dut.step), context.get(dut.layer)))
                layer = layers[walked[-1][0]][walked[-1][1]] - 1
            done, cut = context.get(dut.done), context.get(dut.cut)
            await context.tick()
            cycles += 1
            context.set(dut.start, 0)
            if done:
                assert cut == (enough < total - 1)
                return

    simulate(dut, bench, cycles=2000)
    ran = min(total, enough + 1)
    assert walked == [(step, layer) for step in range(ran) for layer in range(n_layers)]
    assert encoded == list(range(min(total, ran + 1)))
    work = [sum(times) for times in layers[:ran]]
    waits = [max(a, b) for a, b in zip(work, [*encodings[1:], 0], strict=False)]
    assert cycles == (seeding if stochastic else 0) + clearing + encodings[0] + sum(waits)
