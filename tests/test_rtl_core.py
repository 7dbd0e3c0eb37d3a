"""Memories, registers and read-out of the hardware against the golden memories and the register map."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
from amaranth.hdl import Module, signed
from amaranth.lib.memory import Memory
from streams import get, no_pauses, pauses, pulse, simulate

from pymodel.synapses import Synapses as GoldenSynapses
from rtl.config import ChipConfig
from rtl.control import Control
from rtl.die import DIE_NEUTRAL_SYNAPSE, SYNAPSE
from rtl.memory import Bank
from rtl.neuron import READOUT
from rtl.registers import LAYER_STRIDE, REGISTER_SPACE, Region, regions, registers
from rtl.results import Results
from rtl.synapses import Synapses

EDGES = [
    ChipConfig((1, 1), lanes=4, die_tables=False),
    ChipConfig((200, 2), lanes=8, die_tables=False),
    ChipConfig((3, 8, 4), lanes=4, weight_bits=16, state_bits=32, die_tables=False),
    ChipConfig((5, 9, 1, 6), lanes=4, weight_bits=3, state_bits=8, die_tables=False),
]
NARROW = [
    ChipConfig((3, 8, 13, 4), lanes=8, die_tables=False, neuron_lanes=1),
    ChipConfig((3, 1, 10), lanes=16, die_tables=False, neuron_lanes=4),
]
"""Fewer neurons in a cycle than synapses."""
WIDE = ChipConfig((2, 130), lanes=128, weight_bits=2, die_tables=False)


def name(cfg: ChipConfig) -> str:
    return f"{'-'.join(map(str, cfg.layers))}/{cfg.lanes}"


async def write(context: Any, dut: Any, offset: int, word: int, strobe: str = "") -> None:
    context.set(dut.host.own, 1)
    context.set(dut.host.offset, offset)
    context.set(dut.host.data, word)
    await pulse(context, getattr(dut, strobe) if strobe else dut.host.write)
    context.set(dut.host.own, 0)


async def read(context: Any, dut: Any, offset: int) -> int:
    context.set(dut.host.own, 1)
    context.set(dut.host.offset, offset)
    await context.tick()
    word = context.get(dut.host.read)
    context.set(dut.host.own, 0)
    return word


# ---- memories -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cfg", [*EDGES[:1], *EDGES[2:], WIDE], ids=name)
def test_weights_have_a_bulk_view_a_single_view_and_a_lane_wide_view(cfg: ChipConfig) -> None:
    dut = Bank(cfg.weight_depth, cfg.lanes, signed(cfg.weight_bits), per_word=cfg.weights_per_link_word, single=True)
    model = GoldenSynapses(cfg)  # without die and shift the effective weights are the weights
    depth = {region: info.depth for region, info in regions(cfg).items()}
    draw = random.Random(cfg.lanes)

    async def bench(context: Any) -> None:
        for _ in range(60):
            region = draw.choice([Region.WEIGHT, Region.WEIGHTS])
            offset, word = draw.randrange(depth[region]), draw.getrandbits(32)
            await write(context, dut, offset, word, "single_write" if region == Region.WEIGHT else "")
            model.write(region, np.array([offset]), np.array([word]))
        for offset in draw.sample(range(depth[Region.WEIGHTS]), min(20, depth[Region.WEIGHTS])):
            assert await read(context, dut, offset) == model.read(Region.WEIGHTS, offset, 1)[0]
        for address in draw.sample(range(cfg.weight_depth), min(20, cfg.weight_depth)):
            context.set(dut.address, address)
            await pulse(context, dut.enable)
            row = context.get(dut.data)
            assert [row[lane] for lane in range(cfg.lanes)] == model.effective.reshape(-1, cfg.lanes)[address].tolist()
            assert context.get(dut.host.read) == 0  # nobody asked on that side

    simulate(dut, bench)


@pytest.mark.parametrize("bits", [8, 24, 32])
def test_signed_elements_are_read_with_their_sign(bits: int) -> None:
    cfg = ChipConfig((3, 5, 2), lanes=4, state_bits=bits, die_tables=False)
    dut = Bank(cfg.neuron_depth, cfg.lanes, signed(bits))
    model = GoldenSynapses(cfg)
    draw = random.Random(bits)

    async def bench(context: Any) -> None:
        for offset in range(cfg.neuron_depth * cfg.lanes):
            word = draw.getrandbits(32)
            await write(context, dut, offset, word)
            model.write(Region.THRESHOLD, np.array([offset]), np.array([word]))
        for offset in range(cfg.neuron_depth * cfg.lanes):
            assert await read(context, dut, offset) == model.read(Region.THRESHOLD, offset, 1)[0]

    simulate(dut, bench)


def test_tables_start_with_their_neutral_words() -> None:
    dut = Bank(3, 4, SYNAPSE, init=DIE_NEUTRAL_SYNAPSE)

    async def bench(context: Any) -> None:
        for address in range(3):
            context.set(dut.address, address)
            await pulse(context, dut.enable)
            for lane in range(4):
                found = context.get(dut.data[lane])
                assert (found.positive, found.negative, found.transfer) == (256, 256, 0)

    simulate(dut, bench)


# ---- accumulators ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cfg", [EDGES[3], ChipConfig((6, 5), lanes=4)], ids=["ideal", "die"])
def test_sums_are_exact_and_start_afresh_after_the_last_weight(cfg: ChipConfig) -> None:
    dut = Synapses(cfg)
    draw = random.Random(6)
    low, high = cfg.weight_range
    latency = Synapses.latency(cfg)

    async def bench(context: Any) -> None:
        weights = [[draw.choice([low, high, draw.randint(low, high)]) for _ in range(cfg.lanes)] for _ in range(6)]
        for address, row in enumerate(weights):
            for lane, weight in enumerate(row):
                await write(context, dut, address * cfg.lanes + lane, weight & 0xFFFF, "single_write")
        commands = []  # go, valid, last, address
        due: dict[int, list[int]] = {}
        total = [0] * cfg.lanes
        for _ in range(80):
            go, valid, last, address = (
                draw.random() < 0.8,
                draw.random() < 0.8,
                draw.random() < 0.2,
                draw.randrange(6),
            )
            commands.append((go, go and valid, go and last, address))
            if go and valid:
                total = [a + b for a, b in zip(total, weights[address], strict=True)]
            if go and last:
                due[len(commands) - 1 + latency] = total
                total = [0] * cfg.lanes
        for cycle in range(len(commands) + latency):
            assert context.get(dut.done) == (cycle in due)
            if cycle in due:
                sums = context.get(dut.sums)
                assert [sums[lane] for lane in range(cfg.lanes)] == due[cycle]
            go, valid, last, address = commands[cycle] if cycle < len(commands) else (0, 0, 0, 0)
            context.set(dut.go, go)
            context.set(dut.valid, valid)
            context.set(dut.last, last)
            context.set(dut.address, address)
            await context.tick()

    # Neutral curves of the die come from another block.
    m = Module()
    m.submodules.dut = dut
    if cfg.die_tables:
        for index in range(len(dut.curves)):
            m.d.comb += [dut.curves[index].offset.eq(-1), dut.curves[index].cap.eq(-1)]
    simulate(m, bench)


# ---- registers ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cfg", EDGES, ids=name)
def test_registers_keep_their_bits_and_constants_stay(cfg: ChipConfig) -> None:
    dut = Control(cfg)
    draw = random.Random(8)
    known = {register.offset: register for register in registers(cfg)}
    values = {offset: register.constant or register.reset for offset, register in known.items()}

    async def same(context: Any) -> None:
        for offset in [*known, *draw.sample(range(REGISTER_SPACE), 20)]:
            assert await read(context, dut, offset) == values.get(offset, 0) & 0xFFFFFFFF

    async def bench(context: Any) -> None:
        for offset in range(REGISTER_SPACE):
            context.set(dut.probe, offset)
            assert context.get(dut.known) == (offset in known)
            assert context.get(dut.readonly) == (offset in known and known[offset].readonly)
        await same(context)
        for offset in draw.sample(range(REGISTER_SPACE), REGISTER_SPACE):
            word = draw.getrandbits(32)
            await write(context, dut, offset, word)
            if offset in known and not known[offset].readonly:
                low, _ = known[offset].limits
                values[offset] = ((word & ((1 << known[offset].bits) - 1)) ^ -low) + low
        await same(context)

        found = {register.name: values[register.offset] for register in registers(cfg)}
        assert context.get(dut.steps) == found["STEPS"]
        assert context.get(dut.encoding) == found["ENCODING"]
        assert context.get(dut.record) == found["RECORD"]
        for layer in range(len(cfg.neuron_layers)):
            context.set(dut.layer, layer)
            shown = context.get(dut.constants)
            mode = found[f"L{layer}_MODE"]
            expected = {
                "decay_syn": found[f"L{layer}_DECAY_SYN"],
                "decay_mem": found[f"L{layer}_DECAY_MEM"],
                "shift": found[f"L{layer}_SHIFT"],
                "reset": mode & 3,
                "fire_once": mode >> 2 & 1,
                "gate_at_threshold": mode >> 3,
                "amount": found[f"L{layer}_RESET_AMOUNT"],
                "refractory": found[f"L{layer}_REFRACTORY"],
                "centre": found[f"L{layer}_GATE_CENTRE"],
                "window": found[f"L{layer}_GATE_WINDOW"],
            }
            assert {key: shown[key] for key in expected} == expected

    simulate(dut, bench)
    assert LAYER_STRIDE >= 8


# ---- results --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "cfg", [*EDGES, ChipConfig((1, 130), lanes=64), ChipConfig((4, 4, 12), lanes=4), *NARROW], ids=name
)
@pytest.mark.parametrize(("often", "brief"), [(0.0, False), (0.5, False), (0.5, True)])
def test_results_name_every_neuron_and_no_padding(cfg: ChipConfig, often: float, brief: bool) -> None:
    m = Module()
    m.submodules.dut = dut = Results(cfg)
    draw = random.Random(9)
    bits = dut.potential_bits
    width, groups = cfg.neuron_width, cfg.neuron_groups
    bases = [base * groups for base in cfg.neuron_base]
    readouts = [
        [{"count": draw.getrandbits(16), "first": draw.getrandbits(16)} for _ in range(width)]
        for _ in range(cfg.neuron_depth * groups)
    ]
    top = 1 << (bits - 1)
    potentials = [
        [draw.choice([-top, top - 1, -1, draw.randrange(-top, top)]) for _ in range(width)]
        for _ in range(cfg.words[-1] * groups)
    ]
    from amaranth.lib import data

    m.submodules.counts = counts = Memory(shape=data.ArrayLayout(READOUT, width), depth=len(readouts), init=readouts)
    m.submodules.sums = sums = Memory(
        shape=data.ArrayLayout(signed(bits), width), depth=len(potentials), init=potentials
    )
    count_port, sum_port = counts.read_port(), sums.read_port()
    m.d.comb += [
        count_port.addr.eq(dut.address),
        sum_port.addr.eq(dut.address - bases[-1]),
        dut.readout.eq(count_port.data),
        dut.potentials.eq(sum_port.data),
    ]
    cycles, spikes = draw.getrandbits(32), draw.getrandbits(32)
    expected = [cycles, spikes]
    for base, size in zip(bases, cfg.neuron_layers, strict=True):
        for neuron in range(size):
            found = readouts[base + neuron // width][neuron % width]
            expected.append(found["first"] << 16 | found["count"])
    for neuron in range(0 if brief else cfg.n_out):
        value = potentials[neuron // width][neuron % width]
        expected += [value & 0xFFFFFFFF, value >> 32 & 0xFFFFFFFF]

    async def bench(context: Any) -> None:
        context.set(dut.cycles, cycles)
        context.set(dut.input_spikes, spikes)
        context.set(dut.brief, brief)
        for _ in range(2):
            wait_for = pauses(10, often) if often else no_pauses()
            assert not context.get(dut.reading)
            await pulse(context, dut.start)
            words = [await get(context, dut.words, next(wait_for)) for _ in expected]
            assert [word.data for word in words] == expected
            assert [word.last for word in words] == [0] * (len(expected) - 1) + [1]

    simulate(m, bench)
