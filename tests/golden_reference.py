"""The chip once more, as slow and plain as possible: Python integers and loops, written from docs/chip.md and
docs/link.md alone. Shares nothing with the golden model but the configuration and the names of registers.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from typing import Any

from rtl.config import ChipConfig
from rtl.registers import DIE_NOISE_OFFSET, DIE_UNLIMITED, Opcode, Region, Status, regions, registers

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


def signed(value: int, bits: int) -> int:
    value &= (1 << bits) - 1
    return value - (1 << bits) if value >> (bits - 1) else value


def clip(value: int, low: int, high: int) -> int:
    return low if value < low else high if value > high else value


class ReferenceChip:
    """Answers frames; the cycle count in answers to RUN is ``None``."""

    def __init__(self, cfg: ChipConfig) -> None:
        self.cfg = cfg
        self.regions = regions(cfg)
        self.registers = {register.offset: register for register in registers(cfg)}
        self.names = {register.name: register.offset for register in registers(cfg)}
        self.values = {offset: r.reset if r.constant is None else r.constant for offset, r in self.registers.items()}
        self.memory: dict[Region, dict[int, int]] = {region: {} for region in Region}

    # ---- link ----

    def frame(self, words: list[int]) -> list[Any]:
        words = [word & M32 for word in words]
        opcode, tag, length = words[0] >> 24, words[0] >> 16 & 0xFF, words[0] & 0xFFFF
        status, payload = self._execute(words, opcode, length)
        return [(opcode | 0x80) << 24 | tag << 16 | status, *payload]

    def _execute(self, words: list[int], opcode: int, length: int) -> tuple[int, list[Any]]:
        if len(words) - 1 > self.cfg.link_depth or len(words) < 3 or len(words) - 3 != length:
            return Status.BAD_LENGTH, []
        if crc(words[:-1]) != words[-1]:
            return Status.BAD_CRC, []
        if opcode not in list(Opcode):
            return Status.BAD_OPCODE, []
        address, payload = words[1], words[2:-1]
        region, offset = address >> 24, address & 0xFFFFFF
        if opcode == Opcode.READ:
            if length != 1:
                return Status.BAD_LENGTH, []
            if region not in self.regions or offset + payload[0] > self.regions[region].depth:
                return Status.BAD_ADDRESS, []
            if not self.regions[region].readable:
                return Status.DENIED, []
            return Status.OK, [self._load(region, offset + i) for i in range(payload[0])]
        if opcode == Opcode.RUN:
            if self.values[self.names["ENCODING"]] < 2 and length != -(-self.cfg.n_in // 4):
                return Status.BAD_LENGTH, []
            return Status.OK, self._run(address, payload)
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

    def _store(self, region: int, at: int, value: int) -> None:
        if region == Region.REGISTERS:
            register = self.registers[at]
            value &= (1 << register.bits) - 1
            self.values[at] = signed(value, register.bits) if register.signed else value
        elif region == Region.WEIGHTS:
            for m in range(self.cfg.weights_per_link_word):
                field = value >> (m * self.cfg.weight_bits)
                self.memory[Region.WEIGHT][at * self.cfg.weights_per_link_word + m] = signed(
                    field, self.cfg.weight_bits
                )
        elif region in (Region.WEIGHT, Region.THRESHOLD, Region.BIAS):
            self.memory[Region(region)][at] = signed(value, self.regions[Region(region)].bits)
        else:
            self.memory[Region(region)][at] = value

    def _load(self, region: int, at: int) -> int:
        if region == Region.REGISTERS:
            return self.values.get(at, 0) & M32
        if region == Region.WEIGHTS:
            k, bits = self.cfg.weights_per_link_word, self.cfg.weight_bits
            fields = [self.memory[Region.WEIGHT].get(at * k + m, 0) & ((1 << bits) - 1) for m in range(k)]
            return sum(field << (m * bits) for m, field in enumerate(fields))
        return self.memory[Region(region)].get(at, 0) & M32

    # ---- one sample ----

    def register(self, name: str) -> int:
        return self.values[self.names[name]]

    def _global(self, offset: int) -> int:
        neutral = DIE_UNLIMITED if offset < DIE_NOISE_OFFSET and offset % 4 in (1, 2) else 0
        width = 16 if offset == DIE_NOISE_OFFSET else 9 if offset % 4 == 0 else 20
        return self.memory[Region.DIE_GLOBAL].get(offset, neutral) & ((1 << width) - 1)

    def _effective(self, w: int, word: int, sh: int) -> int:
        if not self.cfg.die_tables:
            return w << sh
        c = word >> 28 & 7
        f = min(16 * abs(w), (abs(w) * self._global(4 * c) >> 4) + self._global(4 * c + 1), self._global(4 * c + 2))
        g = signed(word >> 14, 14) if w < 0 else signed(word, 14)
        p = (-f if w < 0 else f) * g
        return clip(((p << sh) + 2048) >> 12, -(1 << 31), (1 << 31) - 1)

    def _run(self, seed: int, payload: list[int]) -> list[Any]:
        cfg, lanes, memory = self.cfg, self.cfg.lanes, self.memory
        neutral = 256 | 256 << 14
        steps, encoding, record = max(1, self.register("STEPS")), self.register("ENCODING"), self.register("RECORD")
        amplitude = self._global(DIE_NOISE_OFFSET) if cfg.die_tables else 0
        low, high = cfg.state_range

        def sat(value: int) -> int:
            return clip(value, low, high)

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
        banks = [[mix() | 1 for _ in range(lanes // 2)][::-1] for _ in range(2)]

        def draw(bank: list[int]) -> list[int]:
            numbers = [half for s in bank for half in (s & 0xFFFF, s >> 16)]
            for g, s in enumerate(bank):
                s ^= s << 13 & M32
                s ^= s >> 17
                s ^= s << 5 & M32
                bank[g] = s
            return numbers

        sizes = cfg.neuron_layers
        current = [[0] * size for size in sizes]
        membrane = [[0] * size for size in sizes]
        wait = [[0] * size for size in sizes]
        count = [[0] * size for size in sizes]
        first = [[0xFFFF] * size for size in sizes]
        total = [0] * cfg.n_out
        stream: list[int] = []
        n_input_spikes, at, bad = 0, 0, False
        for t in range(steps):
            if encoding < 2:
                pixels = [payload[j // 4] >> 8 * (j % 4) & 0xFF for j in range(cfg.n_in)]
            if encoding == 0:
                spiking = [j for j, p in enumerate(pixels) if (128 + p * (t + 1)) >> 8 != (128 + p * t) >> 8]
            elif encoding == 1:
                numbers: list[int] = []
                for _ in range(cfg.in_words):
                    numbers += draw(banks[0])
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
            n_input_spikes += len(spiking)
            for layer, size in enumerate(sizes):
                get = lambda name, layer=layer: self.register(f"L{layer}_{name}")  # noqa: E731
                mode, sh = get("MODE"), get("SHIFT")
                spikes, gates = [0] * size, [0] * size
                for i in range(size):
                    if amplitude and i % lanes == 0:
                        numbers = draw(banks[1])
                    element = cfg.neuron_base[layer] * lanes + i
                    x = self._effective(
                        memory[Region.BIAS].get(element, 0), memory[Region.DIE_BIAS].get(element, neutral), sh
                    )
                    for j in spiking:
                        e = (cfg.weight_base[layer] + j * cfg.words[layer] + i // lanes) * lanes + i % lanes
                        x += self._effective(
                            memory[Region.WEIGHT].get(e, 0), memory[Region.DIE_SYNAPSE].get(e, neutral), sh
                        )
                    theta, dm, noise = memory[Region.THRESHOLD].get(element, 0), get("DECAY_MEM"), 0
                    if cfg.die_tables:
                        ratio = memory[Region.DIE_NEURON].get(element, 1024 | 1024 << 16)
                        theta = sat((theta * signed(ratio, 16) + 512) >> 10)
                        dm = clip((dm * (ratio >> 16) + 512) >> 10, 0, 4096)
                    if amplitude:
                        nibbles = sum(numbers[i % lanes] >> 4 * k & 15 for k in range(4))
                        noise = ((nibbles - 30) * amplitude + 8) >> 4
                    old_i, old_v = current[layer][i], membrane[layer][i]
                    new_i = sat(old_i - ((old_i * get("DECAY_SYN") + 2048) >> 12) + x)
                    v = sat(old_v - ((old_v * dm + 2048) >> 12) + new_i + noise)
                    if layer == len(sizes) - 1:
                        total[i] += v
                    centre = get("GATE_CENTRE") + (theta if mode & 8 else 0)
                    gates[i] = abs(v - centre) < get("GATE_WINDOW")
                    blocked = wait[layer][i] > 0 or (mode & 4 and count[layer][i] > 0)
                    wait[layer][i] = max(0, wait[layer][i] - 1)
                    if v >= theta and not blocked:
                        spikes[i] = 1
                        v = {1: 0, 2: sat(v - get("RESET_AMOUNT"))}.get(mode & 3, v)
                        wait[layer][i] = get("REFRACTORY")
                        if not count[layer][i]:
                            first[layer][i] = t
                        count[layer][i] += 1
                    current[layer][i], membrane[layer][i] = new_i, v
                for w in range(cfg.words[layer]):
                    for bit, marks in enumerate((spikes, gates)):
                        if record >> bit & 1:
                            value = sum(int(mark) << k for k, mark in enumerate(marks[w * lanes : (w + 1) * lanes]))
                            stream += [value >> 32 * k & M32 for k in range(-(-lanes // 32))]
                spiking = [i for i, spike in enumerate(spikes) if spike]
        if encoding >= 2 and at < len(payload):
            n_input_spikes |= 1 << 31
        result: list[Any] = [*stream, None, n_input_spikes]
        for layer in range(len(sizes)):
            result += [f << 16 | min(c, 0xFFFF) for f, c in zip(first[layer], count[layer], strict=True)]
        for value in total:
            result += [value & M32, value >> 32 & M32]
        return result
