"""Winner-take-all: noise on the scores of the last layer, and the search for the largest (docs/chip.md)."""

from __future__ import annotations

import math

from amaranth.hdl import Cat, Module, Mux, Signal, Value, signed
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from rtl.arith import named
from rtl.config import ChipConfig
from rtl.random import draws
from rtl.registers import Noise

GUMBEL = [round(-256 * math.log(-math.log((r + 0.5) / 256))) for r in range(256)]
"""Quantiles of the Gumbel distribution in 1/256: their maximum over scores samples the softmax."""

NOISE_BITS = 12 + 15 - 8 + 1
"""Width of the noise at the largest shift."""


class Winner(wiring.Component):
    """Finds the neuron of the last layer with the largest noisy membrane.

    In the cycle with `draw` the random numbers `draws` are those of the group of neurons whose `potentials` come with
    `take`, one cycle later; `exists` marks its lanes that are neurons, `take_group` counts the groups of the layer.
    At most five cycles after the last one, before a walk of an empty list is over, `word` and `lane` name the winner,
    until the words of the next step come.
    """

    def __init__(self, cfg: ChipConfig) -> None:
        self.cfg = cfg
        self.groups = range((max(cfg.words) + 1) * cfg.neuron_groups)
        super().__init__(
            {
                "draw": In(1),
                "draws": In(draws(cfg.neuron_width)),
                "noise_shift": In(4),
                "noise_kind": In(2),
                "take": In(1),
                "take_group": In(self.groups),
                "potentials": In(data.ArrayLayout(signed(cfg.state_bits), cfg.neuron_width)),
                "exists": In(cfg.neuron_width),
                "word": Out(range(max(cfg.words) + 1)),
                "lane": Out(range(cfg.lanes)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        used = min(self.cfg.neuron_width, self.cfg.n_out)
        score_shape = signed(max(self.cfg.state_bits, NOISE_BITS) + 1)

        # A table of noise that all lanes read; an entry arrives together with the membrane.
        m.submodules.gumbel = table = Memory(shape=signed(12), depth=256, init=GUMBEL)
        kind = self.noise_kind
        candidates: list[tuple[Value, Value, Value]] = []
        for lane in range(used):
            read = table.read_port()
            r8 = self.draws[lane][8:]
            flat = Signal(signed(12), name=f"flat{lane}", reset_less=True)
            m.d.comb += [read.addr.eq(r8), read.en.eq(self.draw)]
            with m.If(self.draw):
                m.d.sync += flat.eq((r8 - 128) << 2)
            score = Signal(score_shape, name=f"score{lane}", reset_less=True)
            valid = Signal(name=f"valid{lane}", reset_less=True)
            with m.If(self.take):
                noise = Mux(kind == Noise.GUMBEL, read.data, Mux(kind == Noise.FLAT, flat, 0))
                m.d.sync += [
                    score.eq(self.potentials[lane] + ((noise << self.noise_shift) >> 8)),
                    valid.eq(self.exists[lane]),
                ]
            candidates.append((valid, score, Value.cast(lane)))

        # A tree of comparisons with a register after every second level; the lower lane wins a tie.
        moving, group = self._delay(m, self.take, self.take_group)
        level = 0
        while len(candidates) > 1:
            merged = [
                self._better(m, candidates[index], candidates[index + 1], f"{level}_{index}")
                for index in range(0, len(candidates) - 1, 2)
            ]
            if len(candidates) % 2:
                merged.append(candidates[-1])
            candidates = merged
            level += 1
            if level % 2 == 0 and len(candidates) > 1:
                registered = []
                for index, (valid, score, lane) in enumerate(candidates):
                    fields = tuple(
                        Signal(value.shape(), name=f"{name}{level}_{index}", reset_less=True)
                        for name, value in (("valid", valid), ("score", score), ("lane", lane))
                    )
                    with m.If(moving):
                        m.d.sync += [now.eq(before) for now, before in zip(fields, (valid, score, lane), strict=True)]
                    registered.append(fields)
                candidates = registered
                moving, group = self._delay(m, moving, group)

        valid, score, lane = candidates[0]
        best = Signal(score_shape, reset_less=True)
        winner_group, winner_lane = Signal(self.groups), Signal(range(self.cfg.neuron_width))
        with m.If(moving & valid & ((group == 0) | (score > best))):
            m.d.sync += [best.eq(score), winner_group.eq(group), winner_lane.eq(lane)]
        m.d.comb += Cat(self.lane, self.word).eq(Cat(winner_lane, winner_group))
        return m

    @staticmethod
    def _delay(m: Module, moving: Value, group: Value) -> tuple[Signal, Signal]:
        later, later_group = Signal(), Signal.like(group)
        m.d.sync += [later.eq(moving), later_group.eq(group)]
        return later, later_group

    @staticmethod
    def _better(
        m: Module, low: tuple[Value, Value, Value], high: tuple[Value, Value, Value], name: str
    ) -> tuple[Value, Value, Value]:
        second = named(m, high[0] & (~low[0] | (high[1] > low[1])), f"second{name}")
        return (
            named(m, low[0] | high[0], f"either{name}"),
            named(m, Mux(second, high[1], low[1]), f"better{name}"),
            named(m, Mux(second, high[2], low[2]), f"which{name}"),
        )
