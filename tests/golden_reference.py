"""The chip once more, as slow and plain as possible: Python integers and loops, written from docs/chip.md,
docs/link.md and docs/cycles.md alone. Shares nothing with the golden model but the configuration and the names of
registers. Also random networks, payloads and frames to feed both.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from rtl.config import ChipConfig
from rtl.registers import (
    DIE_JITTER_OFFSET,
    DIE_NOISE_OFFSET,
    DIE_THRESHOLD_NOISE_OFFSET,
    DIE_UNLIMITED,
    Opcode,
    Region,
    Status,
    regions,
    registers,
)

if TYPE_CHECKING:
    from pymodel import GoldenChip

M32 = 0xFFFFFFFF


def crc(words: Iterable[int]) -> int:
    return zlib.crc32(b"".join(word.to_bytes(4, "little") for word in words))


def make_frame(opcode: int, address: int, payload: Iterable[int], tag: int = 0, length: int | None = None) -> list[int]:
    """Words of a frame, the last one marked."""
    payload = list(payload)
    words = [opcode << 24 | tag << 16 | (len(payload) if length is None else length), address, *payload]
    return [*words, crc(words) | 1 << 32]


def split_answers(stream: Iterable[int]) -> list[list[int]]:
    """Answers without their CRC, which is checked."""
    result: list[list[int]] = []
    words: list[int] = []
    for word in stream:
        words.append(int(word) & M32)
        if int(word) >> 32:
            assert words[-1] == crc(words[:-1])
            result.append(words[:-1])
            words = []
    assert not words
    return result


def exchange(chip: GoldenChip, *frames: list[int]) -> list[list[int]]:
    """Answers of a golden chip to frames."""
    stream = np.array([word for frame in frames for word in frame], np.uint64)
    return split_answers(chip.exchange(stream).tolist())


def write(cfg: ChipConfig, **values: int) -> list[list[int]]:
    """Frames that write registers by name."""
    offsets = {register.name: register.offset for register in registers(cfg)}
    return [make_frame(Opcode.WRITE, offsets[name], [value & M32]) for name, value in values.items()]


def readable(cfg: ChipConfig) -> list[list[int]]:
    """Frames that read everything there is."""
    return [make_frame(Opcode.READ, r << 24, [info.depth]) for r, info in regions(cfg).items() if info.readable]


def signed(value: int, bits: int) -> int:
    value &= (1 << bits) - 1
    return value - (1 << bits) if value >> (bits - 1) else value


def clip(value: int, low: int, high: int) -> int:
    return low if value < low else high if value > high else value


def program(cfg: ChipConfig, rng: np.random.Generator) -> list[list[int]]:
    """Frames that fill a chip with a random network, random dies and random modes that keep the neurons busy."""
    frames = []

    def write(region: Region, values: np.ndarray) -> None:
        for begin in range(0, len(values), cfg.max_payload):
            words = (values[begin : begin + cfg.max_payload] & 0xFFFFFFFF).tolist()
            frames.append(make_frame(Opcode.WRITE, region << 24 | begin, words))

    half = 1 << (cfg.state_bits - 1)
    for region, info in regions(cfg).items():
        if region == Region.THRESHOLD:
            write(region, rng.integers(-half // 50, half // rng.choice([2, 20, 200]), info.depth))
        elif region == Region.BIAS:
            write(region, rng.integers(-20, 20, info.depth) * rng.choice([0, 1, 1000]))
        elif region == Region.DIE_SYNAPSE or region == Region.DIE_BIAS:
            gains = rng.integers(-300, 2000, (2, info.depth)) & 0x3FFF
            write(region, gains[0] | gains[1] << 14 | rng.integers(0, 8, info.depth) << 28)
        elif region == Region.DIE_NEURON:
            write(region, rng.integers(-100, 2500, info.depth) & 0xFFFF | rng.integers(0, 9000, info.depth) << 16)
        elif region == Region.DIE_GLOBAL:
            values = rng.integers(0, 1 << 20, info.depth) >> rng.integers(0, 20, info.depth)
            values[DIE_NOISE_OFFSET] = rng.choice([0, 5, 3000])
            values[DIE_THRESHOLD_NOISE_OFFSET] = rng.choice([0, 0, 50, 1023])
            values[DIE_JITTER_OFFSET] = rng.choice([0, 0, 9, 40, 255])
            write(region, values)
        elif region in (Region.WEIGHTS, Region.DELAYS):
            write(region, rng.integers(0, 1 << 32, info.depth))
    for register in registers(cfg):
        if register.readonly or register.name in ("STEPS", "ENCODING", "RECORD"):
            continue
        low, high = (0, 4096) if "DECAY" in register.name else register.limits
        if register.name.endswith("REFRACTORY"):
            high = 3
        value = int(rng.integers(low, high + 1))
        if register.bits == cfg.state_bits and rng.integers(2):
            value //= 100
        frames.append(make_frame(Opcode.WRITE, register.offset, [value & 0xFFFFFFFF]))
    return frames


def payload(cfg: ChipConfig, encoding: int, steps: int, rng: np.random.Generator) -> list[int]:
    if encoding < 2:
        return rng.integers(0, 1 << 32, cfg.pixel_words).tolist()
    n = int(rng.integers(0, 30))
    late, outside = int(rng.integers(10) == 0), int(rng.integers(10) == 0)
    words = rng.integers(0, steps + late, n) << 16 | rng.integers(0, cfg.n_in + outside, n)
    return (np.unique(words) if rng.integers(5) else np.sort(words)).tolist()


GUMBEL = [round(-256 * math.log(-math.log((r + 0.5) / 256))) for r in range(256)]


def bell(number: int) -> int:
    """Four nibbles, summed and centred."""
    return sum(number >> 4 * k & 15 for k in range(4)) - 30


class Generators:
    """A bank of random number generators that serves `lanes` lanes."""

    def __init__(self, states: list[int]) -> None:
        self.states = states

    def draw(self) -> list[int]:
        """The 16-bit numbers of all lanes; the bank moves on."""
        numbers = [half for s in self.states for half in (s & 0xFFFF, s >> 16)]
        for g, s in enumerate(self.states):
            s ^= s << 13 & M32
            s ^= s >> 17
            s ^= s << 5 & M32
            self.states[g] = s
        return numbers


def seeded_banks(seed: int, generators: int, n: int) -> list[Generators]:
    h = seed

    def mix() -> int:
        nonlocal h
        h = (h + 0x9E3779B9) & M32
        h = (h + (h << 10)) & M32
        h ^= h >> 6
        h = (h + (h << 3)) & M32
        h ^= h >> 11
        h = (h + (h << 15)) & M32
        return h

    for _ in range(4):
        mix()
    return [Generators([mix() | 1 for _ in range(generators)][::-1]) for _ in range(n)]


class ReferenceChip:
    """Answers frames."""

    def __init__(self, cfg: ChipConfig) -> None:
        self.cfg = cfg
        self.regions = regions(cfg)
        self.registers = {register.offset: register for register in registers(cfg)}
        self.names = {register.name: register.offset for register in registers(cfg)}
        self.values = {offset: r.reset if r.constant is None else r.constant for offset, r in self.registers.items()}
        self.memory: dict[Region, dict[int, int]] = {region: {} for region in Region}

    # ---- link ----

    def frame(self, words: list[int]) -> list[int]:
        words = [word & M32 for word in words]
        opcode, tag, length = words[0] >> 24, words[0] >> 16 & 0xFF, words[0] & 0xFFFF
        status, payload = self._execute(words, opcode, length)
        return [(opcode | 0x80) << 24 | tag << 16 | status, *payload]

    def _execute(self, words: list[int], opcode: int, length: int) -> tuple[int, list[int]]:
        if len(words) - 1 > self.cfg.link_depth or len(words) < 3 or len(words) - 3 != length:
            return Status.BAD_LENGTH, []
        if crc(words[:-1]) != words[-1]:
            return Status.BAD_CRC, []
        if opcode not in list(Opcode) or (opcode == Opcode.LEARN and not self.cfg.learning):
            return Status.BAD_OPCODE, []
        if opcode == Opcode.PLANE and not self.cfg.binary_weights:
            return Status.BAD_OPCODE, []
        address, payload = words[1], words[2:-1]
        region, offset = address >> 24, address & 0xFFFFFF
        if opcode == Opcode.PLANE:
            return self._plane(address, payload), []
        if opcode == Opcode.READ:
            if length != 1:
                return Status.BAD_LENGTH, []
            if region not in self.regions or offset + payload[0] > self.regions[region].depth:
                return Status.BAD_ADDRESS, []
            if not self.regions[region].readable:
                return Status.DENIED, []
            return Status.OK, [self._load(region, offset + i) for i in range(payload[0])]
        if opcode in (Opcode.RUN, Opcode.LEARN):
            learn = opcode == Opcode.LEARN
            if self.values[self.names["ENCODING"]] < 2 and length != -(-self.cfg.n_in // 4) + learn:
                return Status.BAD_LENGTH, []
            if learn and length < 1:
                return Status.BAD_LENGTH, []
            if learn and payload[0] >= self.cfg.n_out:
                return Status.BAD_LABEL, []
            return Status.OK, self._run(address, payload[1:], payload[0]) if learn else self._run(address, payload)
        if opcode == Opcode.SCATTER and length % 2:
            return Status.BAD_LENGTH, []
        if opcode == Opcode.SCATTER:
            pairs = [(a >> 24, a & 0xFFFFFF, v) for a, v in zip(payload[::2], payload[1::2], strict=True)]
        else:
            if region not in self.regions or (payload and offset + length > self.regions[region].depth):
                return Status.BAD_ADDRESS, []
            if not self.regions[region].writable:
                return Status.DENIED, []
            pairs = [(region, offset + i, value) for i, value in enumerate(payload)]
        for where, at, _ in pairs:
            if where not in self.regions or at >= self.regions[where].depth:
                return Status.BAD_ADDRESS, []
            if not self.regions[where].writable:
                return Status.DENIED, []
            if where == Region.REGISTERS:
                if at not in self.registers:
                    return Status.BAD_ADDRESS, []
                if self.registers[at].readonly:
                    return Status.DENIED, []
        for where, at, value in pairs:
            self._store(where, at, value)
        return Status.OK, []

    def _plane(self, row: int, payload: list[int]) -> int:
        """Bit by bit: a row is written when its last bit has come, and zeros to the end of its last link word."""
        rows = [(layer, j) for layer, (n_pre, _) in enumerate(self.cfg.shapes) for j in range(n_pre)]
        if row >= len(rows):
            return Status.BAD_ADDRESS
        synapses = [(*key, i) for key in rows[row:] for i in range(self.cfg.neuron_layers[key[0]])]
        if len(payload) > -(-len(synapses) // 32):
            return Status.BAD_ADDRESS
        line: list[int] = []
        for n, (layer, j, i) in enumerate(synapses[: 32 * len(payload)]):
            line.append(payload[n // 32] >> n % 32 & 1)
            if i == self.cfg.neuron_layers[layer] - 1:
                line += [0] * (-len(line) % self.cfg.weights_per_link_word)
                for k, bit in enumerate(line):
                    self._store(Region.WEIGHT, self._element(layer, j, k), bit)
                line = []
        return Status.OK

    def _store(self, region: int, at: int, value: int) -> None:
        if region == Region.REGISTERS:
            register = self.registers[at]
            value &= (1 << register.bits) - 1
            self.values[at] = signed(value, register.bits) if register.signed else value
        elif region == Region.WEIGHTS:
            for m in range(self.cfg.weights_per_link_word):
                field = value >> (m * self.cfg.weight_bits)
                self._store(Region.WEIGHT, at * self.cfg.weights_per_link_word + m, field)
        elif region == Region.WEIGHT and self.cfg.binary_weights:
            self.memory[Region.WEIGHT][at] = value & 1
        elif region in (Region.WEIGHT, Region.THRESHOLD, Region.BIAS):
            self.memory[Region(region)][at] = signed(value, self.regions[Region(region)].bits)
        elif region == Region.DELAYS and not self.cfg.axonal_delays:
            for m in range(self.cfg.delays_per_link_word):
                field = value >> (m * self.cfg.delay_bits) & ((1 << self.cfg.delay_bits) - 1)
                self.memory[Region.DELAY][at * self.cfg.delays_per_link_word + m] = field
        elif region in (Region.DELAYS, Region.DELAY):
            self.memory[Region(region)][at] = value & ((1 << self.cfg.delay_bits) - 1)
        else:
            self.memory[Region(region)][at] = value

    def _load(self, region: int, at: int) -> int:
        if region == Region.REGISTERS:
            return self.values.get(at, 0) & M32
        if region == Region.WEIGHTS:
            k, bits = self.cfg.weights_per_link_word, self.cfg.weight_bits
            fields = [self.memory[Region.WEIGHT].get(at * k + m, 0) & ((1 << bits) - 1) for m in range(k)]
            return sum(field << (m * bits) for m, field in enumerate(fields))
        if region == Region.DELAYS and not self.cfg.axonal_delays:
            k, bits = self.cfg.delays_per_link_word, self.cfg.delay_bits
            return sum(self.memory[Region.DELAY].get(at * k + m, 0) << (m * bits) for m in range(k))
        return self.memory[Region(region)].get(at, 0) & M32

    # ---- one sample ----

    def register(self, name: str) -> int:
        return self.values[self.names[name]]

    def _global(self, offset: int) -> int:
        neutral = DIE_UNLIMITED if offset < DIE_NOISE_OFFSET and offset % 4 in (1, 2) else 0
        width = 9 if offset % 4 == 0 else 20
        if offset >= DIE_NOISE_OFFSET:
            width = {DIE_NOISE_OFFSET: 16, DIE_THRESHOLD_NOISE_OFFSET: 10, DIE_JITTER_OFFSET: 8}[offset]
        if offset == DIE_JITTER_OFFSET and not self.cfg.delay_slots:
            width = 0
        return self.memory[Region.DIE_GLOBAL].get(offset, neutral) & ((1 << width) - 1)

    def _effective(self, w: int, word: int, sh: int) -> int:
        if not self.cfg.die_tables or self.cfg.binary_weights:
            return w << sh
        c = word >> 28 & 7
        f = min(16 * abs(w), (abs(w) * self._global(4 * c) >> 4) + self._global(4 * c + 1), self._global(4 * c + 2))
        g = signed(word >> 14, 14) if w < 0 else signed(word, 14)
        p = (-f if w < 0 else f) * g
        return clip(((p << sh) + 2048) >> 12, -(1 << 31), (1 << 31) - 1)

    def _weight(self, element: int) -> int:
        stored = self.memory[Region.WEIGHT].get(element, 0)
        return (-1 if stored else 1) if self.cfg.binary_weights else stored

    def _element(self, layer: int, j: int, i: int) -> int:
        """Where the weight memory has the weight from source `j` to neuron `i` of `layer`."""
        cfg = self.cfg
        word = cfg.weight_base[layer] + j * cfg.words[layer] + i // cfg.lanes
        return word * cfg.lanes + i % cfg.lanes

    def _delay(self, layer: int, j: int, i: int) -> int:
        """Delay from source `j` to neuron `i` of `layer`."""
        if self.cfg.axonal_delays:
            return self.memory[Region.DELAYS].get(self.cfg.source_base[layer] + j, 0)
        return self.memory[Region.DELAY].get(self._element(layer, j, i), 0)

    def _stream(self, marks: list[int]) -> list[list[int]]:
        """Raster words of one layer and step for each of its neuron words."""
        lanes = self.cfg.lanes
        values = [sum(mark << k for k, mark in enumerate(marks[a : a + lanes])) for a in range(0, len(marks), lanes)]
        return [[value >> 32 * k & M32 for k in range(-(-lanes // 32))] for value in values]

    def _run(self, seed: int, payload: list[int], label: int | None = None) -> list[int]:
        cfg, lanes, memory = self.cfg, self.cfg.lanes, self.memory
        neutral = 256 | 256 << 14
        steps, encoding, record = max(1, self.register("STEPS")), self.register("ENCODING"), self.register("RECORD")
        offsets = (DIE_NOISE_OFFSET, DIE_THRESHOLD_NOISE_OFFSET, DIE_JITTER_OFFSET)
        amplitude, uncertainty, jitter = (self._global(offset) if cfg.die_tables else 0 for offset in offsets)
        low, high = cfg.state_range
        learn, sizes, last = label is not None, cfg.neuron_layers, len(cfg.neuron_layers) - 1

        def sat(value: int) -> int:
            return clip(value, low, high)

        def get(layer: int, name: str) -> int:
            return self.register(f"L{layer}_{name}")

        if encoding == 1 and not cfg.bernoulli:
            encoding = 0
        groups = cfg.lanes // (cfg.neuron_lanes or cfg.lanes)
        delayed, pipeline = cfg.delay_slots > 0, 6 + groups + 2 * (cfg.die_tables and not cfg.binary_weights)
        names = ["input"] * cfg.bernoulli + ["core"] * cfg.die_tables + ["learning"] * cfg.learning
        names += ["delay"] * (delayed and cfg.die_tables)
        banks = dict(zip(names, seeded_banks(seed, lanes // 2, len(names)), strict=True))
        fires = [get(layer, "MODE") >> 4 & 3 for layer in range(len(sizes))]
        link_words = -(-lanes // 32)
        asked = max(groups, link_words * ((record & 1) + (record >> 1 & 1)))
        cycles = -(-cfg.n_in // 4) if encoding < 2 else 0
        if encoding == 1 or amplitude or uncertainty or jitter or any(fires) or learn:
            cycles += 4 + lanes // 2 * len(banks)
        if delayed:
            cycles += 2**cfg.delay_bits * sum(cfg.words)
        early = self.register("EARLY_END") and not record & 3 and not learn
        # Of every layer: (step of arrival, neuron) -> sum of what is under way.
        arrivals: list[dict[tuple[int, int], int]] = [{} for _ in sizes]
        gain_error = [[0] * size for size in sizes]
        works, encodings = [], []

        current = [[0] * size for size in sizes]
        membrane = [[0] * size for size in sizes]
        wait = [[0] * size for size in sizes]
        count = [[0] * size for size in sizes]
        first = [[0xFFFF] * size for size in sizes]
        gradients = [[[0] * size for size in sizes] for _ in range(2)]
        total = [0] * cfg.n_out
        stream: list[int] = []
        n_input_spikes, at, bad = 0, 0, False
        over = False
        for t in range(steps):
            if encoding < 2:
                pixels = [payload[j // 4] >> 8 * (j % 4) & 0xFF for j in range(cfg.n_in)]
            if encoding == 0:
                spiking = [j for j, p in enumerate(pixels) if (128 + p * (t + 1)) >> 8 != (128 + p * t) >> 8]
            elif encoding == 1:
                numbers = [number for _ in range(cfg.in_words) for number in banks["input"].draw()]
                spiking = [j for j, p in enumerate(pixels) if numbers[j] >> 8 < p]
            else:
                spiking = []
                while not bad and at < len(payload):
                    word = payload[at]
                    if (at and word <= payload[at - 1]) or word & 0xFFFF >= cfg.n_in:
                        bad = True
                    elif word >> 16 != t:
                        break
                    else:
                        spiking.append(word & 0xFFFF)
                        at += 1
            encodings.append((cfg.in_words if encoding < 2 else len(spiking)) + 3)
            if over:
                break
            n_input_spikes += len(spiking)
            sources, all_gates = [spiking], []
            work = 0
            for layer, size in enumerate(sizes):
                mode, sh, theta_of = get(layer, "MODE"), get(layer, "SHIFT"), {}
                spikes, gates = [0] * size, [0] * size
                draws: list[int] = []
                if delayed:
                    self._send(layer, t, sources[layer], jitter, banks.get("delay"), arrivals[layer])
                for i in range(size):
                    if i % lanes == 0:
                        numbers = banks["core"].draw() if cfg.die_tables else []
                        if t == 0 and uncertainty:
                            for lane, number in enumerate(banks["core"].draw()):
                                if i + lane < size:
                                    gain_error[layer][i + lane] = (bell(number) * uncertainty + 8) >> 4
                        draws += banks["learning"].draw() if cfg.learning else []
                    element = cfg.neuron_base[layer] * lanes + i
                    x = self._effective(
                        memory[Region.BIAS].get(element, 0), memory[Region.DIE_BIAS].get(element, neutral), sh
                    )
                    x += arrivals[layer].get((t, i), 0)
                    for j in [] if delayed else sources[layer]:
                        e = self._element(layer, j, i)
                        w = self._weight(e) >> (get(layer, "FORWARD_SHIFT") if cfg.learning else 0)
                        x += self._effective(w, memory[Region.DIE_SYNAPSE].get(e, neutral), sh)
                    theta, dm, noise = memory[Region.THRESHOLD].get(element, 0), get(layer, "DECAY_MEM"), 0
                    if cfg.die_tables:
                        ratio = memory[Region.DIE_NEURON].get(element, 1024 | 1024 << 16)
                        theta = sat((theta * (signed(ratio, 16) + gain_error[layer][i]) + 512) >> 10)
                        dm = clip((dm * (ratio >> 16) + 512) >> 10, 0, 4096)
                    if amplitude:
                        noise = (bell(numbers[i % lanes]) * amplitude + 8) >> 4
                    old_i, old_v = current[layer][i], membrane[layer][i]
                    new_i = sat(old_i - ((old_i * get(layer, "DECAY_SYN") + 2048) >> 12) + x)
                    v = sat(old_v - ((old_v * dm + 2048) >> 12) + new_i + noise)
                    current[layer][i], membrane[layer][i], theta_of[i] = new_i, v, theta
                    centre = get(layer, "GATE_CENTRE") + (theta if mode & 8 else 0)
                    gates[i] = int(abs(v - centre) < get(layer, "GATE_WINDOW"))
                work += cfg.words[layer] * max(len(sources[layer]) + delayed, asked) + pipeline
                if layer == last:
                    total = [sum_v + v for sum_v, v in zip(total, membrane[layer], strict=True)]
                if layer == last and fires[layer] == 2:
                    spikes[self._winner(membrane[layer], draws)] = 1
                    work += cfg.words[layer] * asked + pipeline
                for i, v in enumerate(membrane[layer]):
                    blocked = wait[layer][i] > 0 or (mode & 4 and count[layer][i] > 0)
                    wait[layer][i] = max(0, wait[layer][i] - 1)
                    if not (layer == last and fires[layer] == 2) and not blocked:
                        if fires[layer] == 1:
                            r = draws[i] & ((1 << min(16, get(layer, "FIRE_BITS"))) - 1)
                            spikes[i] = int(v - theta_of[i] > r)
                        else:
                            spikes[i] = int(v >= theta_of[i])
                    if spikes[i]:
                        membrane[layer][i] = {1: 0, 2: sat(v - get(layer, "RESET_AMOUNT"))}.get(mode & 3, v)
                        wait[layer][i] = get(layer, "REFRACTORY")
                        if not count[layer][i]:
                            first[layer][i] = t
                        count[layer][i] += 1
                rasters = [self._stream(marks) for k, marks in enumerate((spikes, gates)) if record >> k & 1]
                for words in zip(*rasters, strict=True):
                    stream += [word for group in words for word in group]
                sources.append([i for i, spike in enumerate(spikes) if spike])
                all_gates.append(gates)
            if learn:
                g = [[0] * size for size in sizes]
                work += 2
                if fires[last] == 2 and sources[-1] != [label]:
                    work += self._backward(sources, all_gates, label, g, banks["learning"])
                for layer in range(len(sizes)):
                    marks = [[int(x == kind) for x in g[layer]] for kind in (1, -1)]
                    for kind in range(2):
                        counts = gradients[kind][layer]
                        gradients[kind][layer] = [a + b for a, b in zip(counts, marks[kind], strict=True)]
                    if record >> 2 & 1:
                        for pair in zip(*map(self._stream, marks), strict=True):
                            stream += [word for group in pair for word in group]
                        work += 2 * link_words * cfg.words[layer]
            works.append(work)
            over = bool(early and all(count[last]))
        if encoding >= 2 and (bad or (at < len(payload) and len(works) == steps)):
            n_input_spikes |= 1 << 31
        cycles += encodings[0] + sum(max(w, e) for w, e in zip(works, [*encodings[1:], 0], strict=False))
        result = [*stream, cycles & M32, n_input_spikes]
        for layer in range(len(sizes)):
            result += [f << 16 | min(c, 0xFFFF) for f, c in zip(first[layer], count[layer], strict=True)]
        if not self.register("BRIEF"):
            for value in total:
                result += [value & M32, value >> 32 & M32]
        if learn:
            for positive, negative in zip(*gradients, strict=True):
                result += [p << 16 | n for p, n in zip(positive, negative, strict=True)]
        return result

    def _send(
        self,
        layer: int,
        t: int,
        sources: list[int],
        jitter: int,
        bank: Generators | None,
        arrivals: dict[tuple[int, int], int],
    ) -> None:
        """Add the weights of the sources that spike in step `t` to what arrives then or later."""
        cfg, lanes, size = self.cfg, self.cfg.lanes, self.cfg.neuron_layers[layer]
        for word in range(cfg.words[layer]):
            for j in sources:
                numbers = bank.draw() if bank else []
                for i in range(word * lanes, min((word + 1) * lanes, size)):
                    e, d = self._element(layer, j, i), self._delay(layer, j, i)
                    if bank:
                        d = clip(d + ((bell(numbers[i % lanes]) * jitter + 128) >> 8), 0, 2**cfg.delay_bits - 1)
                    gains = self.memory[Region.DIE_SYNAPSE].get(e, 256 | 256 << 14)
                    w = self._effective(self._weight(e), gains, self.register(f"L{layer}_SHIFT"))
                    arrivals[t + d, i] = arrivals.get((t + d, i), 0) + w

    def _winner(self, membrane: list[int], draws: list[int]) -> int:
        register = self.register(f"L{len(self.cfg.neuron_layers) - 1}_NOISE")
        scores = []
        for v, draw in zip(membrane, draws, strict=False):
            n = {1: ((draw >> 8) - 128) * 4, 2: GUMBEL[draw >> 8]}.get(register >> 4, 0)
            scores.append(v + ((n << (register & 15)) >> 8))
        return scores.index(max(scores))

    def _backward(
        self, sources: list[list[int]], gates: list[list[int]], label: int, g: list[list[int]], bank: Generators
    ) -> int:
        """Fill in the gradient spikes `g` of all layers, change the weights, return the cycles."""
        cfg, lanes, weights = self.cfg, self.cfg.lanes, self.memory[Region.WEIGHT]
        low, high = cfg.weight_range
        layer = len(g) - 1
        (winner,) = sources[-1]
        g[layer][winner], g[layer][label] = 1, -1
        groups = lanes // (cfg.neuron_lanes or lanes)
        cycles = 2 * groups * (1 if winner // lanes == label // lanes else 2)
        while True:
            size = len(g[layer])
            n_words = len({i // lanes for i in range(size) if g[layer][i]})
            cycles += 1
            if layer > 0:
                below = cfg.neuron_layers[layer - 1]
                mask = (1 << min(16, self.register(f"L{layer - 1}_GRADIENT_BITS"))) - 1
                for v in range(0, below, lanes):
                    neurons = [j for j in range(v, min(v + lanes, below)) if gates[layer - 1][j]]
                    if not neurons:
                        cycles += 2
                        continue
                    numbers = bank.draw()
                    for j in neurons:
                        error = sum(weights.get(self._element(layer, j, k), 0) * g[layer][k] for k in range(size))
                        r = numbers[j - v] & mask
                        g[layer - 1][j] = (error > r) - (-error > r)
                    hit = any(g[layer - 1][j] for j in neurons)
                    cycles += 6 + groups + n_words * (1 + len(neurons)) + 2 * groups * hit
            if self.register("LEARN_ENABLE") >> layer & 1:
                if not sources[layer]:
                    cycles += 1
                for s in sorted({j // lanes for j in sources[layer]}):
                    numbers = bank.draw()
                    landed = [
                        j
                        for j in sources[layer]
                        if j // lanes == s and numbers[j % lanes] < self.register(f"L{layer}_RATE")
                    ]
                    for j in landed:
                        for i in range(size):
                            if g[layer][i]:
                                e = self._element(layer, j, i)
                                weights[e] = clip(weights.get(e, 0) - g[layer][i], low, high)
                    cycles += groups + (2 + 2 * len(landed) * n_words if landed else 1)
            layer -= 1
            if layer < 0 or not any(g[layer]):
                return cycles
