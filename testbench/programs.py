"""Random programs for the chip: everything a host could send, drawn from a seed.

A program sets every memory and register, at times to the limits of their widths, runs samples in all encodings and with
all recordings, reads memories back, and slips in frames that must be refused. The chip's answers and the golden
model's must be equal word for word, clock cycles included.
"""

from __future__ import annotations

import random
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from rtl.config import ChipConfig
from rtl.registers import (
    DIE_GLOBAL_SPACE,
    DIE_JITTER_OFFSET,
    DIE_NOISE_OFFSET,
    DIE_THRESHOLD_NOISE_OFFSET,
    LAST,
    LAYER_OFFSET,
    LAYER_STRIDE,
    REGION_SHIFT,
    Encoding,
    Opcode,
    Region,
    layer_registers,
    regions,
)


def random_config(draw: random.Random, *, trace: bool = False, learning: bool = False) -> ChipConfig:
    """A small chip; sizes just below, at and above multiples of the lanes are as likely as others."""
    lanes = draw.choice((4, 4, 8, 8, 16, 32))

    def size() -> int:
        near = draw.choice((1, 2, 3)) * lanes + draw.choice((-1, 0, 1))
        return max(1, min(40, draw.choice((near, draw.randint(1, 24)))))

    binary = not learning and draw.random() < 0.25
    slots = 0 if learning or binary else draw.choice((0, 0, 2, 3, 8, 13, 50))
    if binary:
        lanes = draw.choice((4, 8, 32, 64, 64, 128))
    die_tables = draw.random() < 0.6
    layers = tuple(size() for _ in range(draw.choice((2, 3, 3, 3, 4, 5))))
    neuron_lanes = 0 if die_tables or trace else draw.choice((0, 1, 2, 4, lanes))
    return ChipConfig(
        layers=layers,
        lanes=lanes,
        weight_bits=1 if binary else draw.choice((8, 8, 9, 10, 12, 16) if learning else (2, 4, 6, 8, 8, 10, 12, 16)),
        state_bits=draw.choice((8, 12, 16, 20, 24, 24, 32)),
        die_tables=die_tables,
        trace=trace,
        learning=learning,
        delay_slots=slots,
        axonal_delays=slots > 0 and draw.random() < 0.3,
        binary_weights=binary,
        neuron_lanes=neuron_lanes,
        bernoulli=draw.random() < 0.8,
        receive_words=draw.choice((0, 0, 64)),
    )


def frame(opcode: int, address: int, payload: Sequence[int] = (), tag: int = 0) -> list[int]:
    """Words of one frame, the last one marked."""
    words = [opcode << 24 | tag << 16 | len(payload), address, *payload]
    crc = zlib.crc32(b"".join((word & 0xFFFF_FFFF).to_bytes(4, "little") for word in words))
    return [*(word & 0xFFFF_FFFF for word in words), crc | LAST]


def at(region: Region, offset: int = 0) -> int:
    """Address of a word in a region."""
    return int(region) << REGION_SHIFT | offset


@dataclass
class Program:
    """Frames in the order of sending; of each sample its steps, whether it may end before them and lacks potentials."""

    cfg: ChipConfig
    seed: int
    frames: list[list[int]] = field(default_factory=list)
    steps: list[int] = field(default_factory=list)
    early: list[bool] = field(default_factory=list)
    brief: list[bool] = field(default_factory=list)

    @property
    def words(self) -> NDArray[np.uint64]:
        """All frames as one stream."""
        return np.array([word for frame in self.frames for word in frame], np.uint64)


def random_program(
    cfg: ChipConfig, seed: int, *, chapters: int, samples: int, max_steps: int, everything: bool = False
) -> Program:
    """`chapters` times new memories and registers, each followed by `samples` samples of up to `max_steps` steps.

    On a chip that learns, three of four chapters do, most of them with the constants of a network that can. Some
    chapters leave the die as it is; with `everything` the first one does not, for chips that were used before: a reset
    does not touch memories.
    """
    draw = random.Random(f"{cfg.to_json()} {seed}")
    program = Program(cfg, seed)
    for chapter in range(chapters):
        steps, encoding = draw.randint(1, max_steps), draw.choice((0, 1, 2, 2, 3, 0))
        record, early, brief = draw.choice((0, 0, 0, 1, 2, 3, 4, 7)), draw.random() < 0.5, draw.random() < 0.3
        extreme = draw.random() < 0.3
        learn = cfg.learning and draw.random() < 0.75
        program.frames += _memories(cfg, draw, extreme, die=draw.random() < 0.8 or (everything and not chapter))
        program.frames += _registers(cfg, draw, [steps, encoding, record], [early, brief], extreme)
        if learn:
            program.frames += _learnable(cfg, draw)
        for _ in range(samples):
            if draw.random() < 0.2:
                program.frames.append(_refused(cfg, draw))
            learned = learn and draw.random() < 0.9
            program.frames.append(_sample(cfg, draw, steps, encoding, learned))
            program.steps.append(steps)
            program.early.append(early and record & 3 == 0 and not learned)
            program.brief.append(brief)
            if draw.random() < 0.3:
                program.frames.append(_change(cfg, draw))
        program.frames += _read_back(cfg, draw)
        if learn:
            program.frames += _read_weights(cfg)
    return program


def _write(draw: random.Random, region: Region, values: Sequence[int], depth: int) -> Iterator[list[int]]:
    at_once = min(depth, draw.choice((64, 300)))
    for start in range(0, len(values), at_once):
        yield frame(Opcode.WRITE, at(region, start), values[start : start + at_once], draw.getrandbits(8))


def _memories(cfg: ChipConfig, draw: random.Random, extreme: bool, die: bool) -> Iterator[list[int]]:
    """New contents of every memory; padding lanes are filled too, they must not matter."""
    table, deep = regions(cfg), cfg.max_payload
    top, state_top = cfg.weight_range[1], cfg.state_range[1]

    def fill(region: Region, value: object) -> Iterator[list[int]]:
        values = [value() for _ in range(table[region].depth)]  # type: ignore[operator]
        return _write(draw, region, values, deep)

    yield from fill(Region.WEIGHTS, lambda: draw.getrandbits(32))
    if draw.random() < 0.7:
        spread = draw.choice((1, top // 2 + 1, top))
        yield from fill(Region.WEIGHT, lambda: draw.randint(-spread, spread))
    if cfg.binary_weights and draw.random() < 0.7:
        for _ in range(draw.randint(1, 4)):
            yield _plane(cfg, draw)
    drive = top * draw.randint(1, 6) << draw.randint(0, 4)
    limit = state_top if extreme else min(state_top, drive)
    yield from fill(Region.THRESHOLD, lambda: draw.randint(-limit // 8, limit))
    if cfg.delay_slots:
        longest = draw.choice((0, 1, (1 << cfg.delay_bits) - 1))
        yield from fill(Region.DELAYS, lambda: _packed(cfg, draw, longest))
    bias = (1 << 15) - 1 if extreme else min((1 << 15) - 1, top // 2 + 1)
    yield from fill(Region.BIAS, lambda: draw.randint(-bias, bias))
    if cfg.die_tables and die:
        gain = (1 << 13) - 1 if extreme else 700

        def synapse() -> int:
            low, high = draw.randint(-gain // 4, gain), draw.randint(-gain // 4, gain)
            if draw.random() < 0.1:
                low = high = 0  # stuck
            return low & 0x3FFF | (high & 0x3FFF) << 14 | draw.randrange(8) << 28

        if cfg.distorts_synapses:
            yield from fill(Region.DIE_SYNAPSE, synapse)
            yield from fill(Region.DIE_BIAS, synapse)
        ratio = 0xFFFF if extreme else 3000
        yield from fill(
            Region.DIE_NEURON, lambda: draw.randint(-ratio // 8, ratio // 2) & 0xFFFF | draw.randint(0, ratio) << 16
        )
        values = [draw.choice((draw.getrandbits(20), draw.randint(0, 16 * top + 16))) for _ in range(DIE_GLOBAL_SPACE)]
        values[DIE_NOISE_OFFSET] = draw.choice((0, 0, 1, draw.randint(0, 400), 0xFFFF if extreme else 7))
        values[DIE_THRESHOLD_NOISE_OFFSET] = draw.choice((0, 0, 71, draw.getrandbits(10)))
        values[DIE_JITTER_OFFSET] = draw.choice((0, 0, 14, draw.getrandbits(8)))
        yield frame(Opcode.WRITE, at(Region.DIE_GLOBAL), values)


def _plane(cfg: ChipConfig, draw: random.Random) -> list[int]:
    """Rows of the bit plane, from anywhere on; at times to the end of the plane and past it."""
    row = draw.choice((0, draw.randrange(cfg.n_sources), cfg.n_sources - 1, cfg.n_sources))
    rows = [size for height, size in cfg.shapes for _ in range(height)]
    whole = -(-sum(rows[row:]) // 32)
    words = min(draw.choice((whole, whole, draw.randint(0, whole + 1))), cfg.max_payload)
    return frame(Opcode.PLANE, row, [draw.getrandbits(32) for _ in range(words)], draw.getrandbits(8))


def _packed(cfg: ChipConfig, draw: random.Random, longest: int) -> int:
    """A word of region DELAYS."""
    delays = (draw.randint(0, longest) for _ in range(cfg.delays_per_link_word))
    return sum(delay << cfg.delay_bits * index for index, delay in enumerate(delays))


def _registers(
    cfg: ChipConfig, draw: random.Random, sample: list[int], answer: list[bool], extreme: bool
) -> Iterator[list[int]]:
    yield frame(Opcode.WRITE, at(Region.REGISTERS, 0x40), sample)
    yield frame(Opcode.WRITE, at(Region.REGISTERS, 0x44), answer)
    for layer in range(len(cfg.neuron_layers)):
        state_top = cfg.state_range[1]
        values = [
            draw.choice((0, 1, 629, 1024, 2048, 4095, 4096, draw.randint(0, 4096))),
            draw.choice((0, 1, 256, 390, 4095, 4096, draw.randint(0, 4096))),
            draw.randint(0, 15 if extreme else 4),
            draw.getrandbits(6),
            draw.randint(-state_top // 8, state_top if extreme else state_top // 4),
            draw.choice((0, 0, 1, 2, 7, 255)),
            draw.randint(-state_top // 2, state_top // 2),
            draw.randint(0, 2 * state_top + 1),
        ]
        if cfg.learning:
            values += [
                draw.randint(0, 20),
                draw.getrandbits(6),
                draw.randint(0, 20),
                draw.choice((0, 1 << 16, (1 << 17) - 1, draw.getrandbits(16))),
                draw.choice((0, 0, 1, 2, 7)),
            ]
        assert len(values) == len(layer_registers(cfg, layer))
        yield frame(Opcode.WRITE, at(Region.REGISTERS, LAYER_OFFSET + layer * LAYER_STRIDE), values)


def _learnable(cfg: ChipConfig, draw: random.Random) -> Iterator[list[int]]:
    """Constants with which a network learns: stochastic hidden layers, open gates, a winner-take-all layer."""
    enable = draw.choice(((1 << 7) - 1, draw.getrandbits(7)))
    yield frame(Opcode.WRITE, at(Region.REGISTERS, 0x43), [enable])
    if draw.random() < 0.15:
        return
    bits = cfg.weight_bits
    neurons = cfg.neuron_depth * cfg.lanes
    offset = draw.choice((0, 0, 1 << bits - 2))
    yield from _write(draw, Region.THRESHOLD, [draw.randint(-offset, offset) for _ in range(neurons)], cfg.max_payload)
    yield from _write(draw, Region.BIAS, [draw.randint(0, 1 << bits - 2) for _ in range(neurons)], cfg.max_payload)
    for layer in range(len(cfg.neuron_layers)):
        last = layer == len(cfg.neuron_layers) - 1
        fire_bits = min(draw.randint(bits - 2, bits + 2), cfg.state_bits - 1)
        fire = draw.choice((2, 2, 2, 2, 1)) if last else draw.choice((1, 1, 1, 0))
        values = [
            draw.choice((4096, 4096, 2048)),
            draw.choice((4096, 4096, 3000)),
            draw.choice((0, 0, 1)),
            draw.choice((0, 0, draw.getrandbits(4))) | fire << 4,
            0,
            draw.choice((0, 0, 0, 3)),
            1 << fire_bits - 1,
            draw.choice((1, 2, 3)) << fire_bits - 1,
            fire_bits,
            draw.choice((0, 1, 1, 2)) << 4 | draw.randint(2, bits),
            draw.randint(max(0, bits - 6), bits),
            draw.choice((1 << 16, 1 << 16, 1 << 15, draw.getrandbits(16))),
            draw.choice((0, 0, 0, 2)),
        ]
        yield frame(Opcode.WRITE, at(Region.REGISTERS, LAYER_OFFSET + layer * LAYER_STRIDE), values)


def _sample(cfg: ChipConfig, draw: random.Random, steps: int, encoding: int, learn: bool = False) -> list[int]:
    seed, tag = draw.getrandbits(32), draw.getrandbits(8)
    opcode, label = (Opcode.LEARN, [draw.randrange(cfg.n_out)]) if learn else (Opcode.RUN, [])
    if encoding < Encoding.EVENTS:
        busy = draw.choice((0.0, 0.2, 0.5, 1.0))
        payload = []
        for _ in range(cfg.pixel_words):
            pixels = (draw.choice((255, 128, draw.getrandbits(8))) if draw.random() < busy else 0 for _ in range(4))
            payload.append(sum(pixel << 8 * index for index, pixel in enumerate(pixels)))
        return frame(opcode, seed, [*label, *payload], tag)
    count = draw.randint(0, min(steps * cfg.n_in, 300))
    events = sorted({draw.randrange(steps) << 16 | draw.randrange(cfg.n_in) for _ in range(count)})
    if events and draw.random() < 0.15:  # a rule of the events broken
        broken = draw.choice(("order", "input", "late"))
        place = draw.randrange(len(events))
        if broken == "order":
            events.insert(place, events[-1])
        elif broken == "input":
            events[place] |= 0x8000
        else:
            events.append(steps << 16 | draw.randrange(cfg.n_in))
    return frame(opcode, seed, [*label, *events][: cfg.max_payload], tag)


def _change(cfg: ChipConfig, draw: random.Random) -> list[int]:
    """A few elements scattered over the memories."""
    choice = [info for info in regions(cfg).values() if info.writable and info.region != Region.REGISTERS]
    pairs = []
    for _ in range(draw.randint(0, 6)):
        info = draw.choice(choice)
        limit = min(info.bits, 12)
        value = draw.randint(0, (1 << limit) - 1) if info.region != Region.DIE_GLOBAL else draw.getrandbits(20)
        offset = draw.randrange(info.depth)
        if info.region == Region.DIE_GLOBAL and offset >= DIE_NOISE_OFFSET:
            value = 0
        pairs += [at(info.region, offset), value]
    return frame(Opcode.SCATTER, draw.getrandbits(32), pairs, draw.getrandbits(8))


def _read_back(cfg: ChipConfig, draw: random.Random) -> Iterator[list[int]]:
    for info in regions(cfg).values():
        start = draw.randrange(info.depth)
        count = draw.randint(0, min(40, info.depth - start))
        yield frame(Opcode.READ, at(info.region, start), [count], draw.getrandbits(8))


def _read_weights(cfg: ChipConfig) -> Iterator[list[int]]:
    depth = regions(cfg)[Region.WEIGHTS].depth
    for start in range(0, depth, 1000):
        yield frame(Opcode.READ, at(Region.WEIGHTS, start), [min(1000, depth - start)])


def _refused(cfg: ChipConfig, draw: random.Random) -> list[int]:
    """A frame that must change nothing: damaged, of the wrong length, or for an address that is not there."""
    table = regions(cfg)
    info = draw.choice(list(table.values()))
    good = frame(Opcode.WRITE, at(info.region), [draw.getrandbits(32)] * min(3, info.depth))
    kind = draw.randrange(11 if cfg.learning else 9)
    if kind == 0:
        place = draw.randrange(len(good))
        good[place] ^= 1 << draw.randrange(32)
        return good
    if kind == 1:
        cut = draw.randint(1, len(good) - 1)
        return [*good[: cut - 1], good[cut - 1] | LAST]
    if kind == 2:
        return [*good[:-1], *(draw.getrandbits(32) for _ in range(draw.randint(1, 5))), good[-1]]
    if kind == 3:
        return frame(
            draw.choice((0, 5 if cfg.binary_weights else 4, 0x12 if cfg.learning else 0x11, 0x7F, 0x81)),
            draw.getrandbits(32),
            [1],
        )
    if kind == 4:
        return frame(Opcode.WRITE, at(info.region, info.depth - 1), [0, 0])
    if kind == 5:
        return frame(Opcode.SCATTER, 0, [at(Region.THRESHOLD), 1, at(info.region, info.depth), 2])
    if kind == 6:
        return frame(Opcode.SCATTER, 0, [at(Region.THRESHOLD), 1, at(Region.REGISTERS, draw.choice((0, 7, 0x3F)))])
    if kind == 7:
        return frame(Opcode.READ, at(info.region, info.depth), [1])
    if kind == 9:
        return frame(Opcode.LEARN, draw.getrandbits(32), [])
    if kind == 10:
        label = draw.choice((cfg.n_out, cfg.n_out + 1, 1 << 31, 0xFFFF_FFFF))
        return frame(Opcode.LEARN, draw.getrandbits(32), [label, *[0] * draw.choice((0, cfg.pixel_words))])
    return frame(Opcode.WRITE, draw.choice((0x05, 0x20, 0xFF)) << REGION_SHIFT, [0])
