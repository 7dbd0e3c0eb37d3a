"""Unpacks rows of the bit plane into words of region WEIGHTS (docs/link.md, PLANE)."""

from __future__ import annotations

from itertools import accumulate

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from rtl.arith import named
from rtl.config import LINK_BITS, ChipConfig
from rtl.registers import Region, regions


class BitPlane(wiring.Component):
    """Writes the rows that the payload of a frame holds.

    `start` takes over `row`, the first one; in the next cycle `fits` tells whether it is there and whether each of the
    `left` payload words has a bit of the plane. From then on, while `run` is high, payload words are used up (`take`
    asks for the one after `word`) and `write` stores `data` at `offset` of region WEIGHTS. `done` is high in the cycle
    that finds no further row complete.

    A word of region WEIGHTS costs one cycle, a payload word another one.
    """

    def __init__(self, cfg: ChipConfig) -> None:
        self.cfg = cfg
        super().__init__(
            {
                "start": In(1),
                "row": In(32),
                "fits": Out(1),
                "run": In(1),
                "word": In(LINK_BITS),
                "left": In(16),
                "take": Out(1),
                "write": Out(1),
                "offset": Out(range(regions(cfg)[Region.WEIGHTS].depth)),
                "data": Out(LINK_BITS),
                "done": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        cfg = self.cfg
        per_word = cfg.weights_per_link_word
        groups = cfg.lanes // per_word
        sizes, heights = cfg.neuron_layers, cfg.layers[:-1]
        bits_before = list(accumulate((pre * post for pre, post in cfg.shapes), initial=0))

        layer = Signal(range(len(sizes)))
        rows_left = Signal(range(max(heights) + 1))
        first_bit = Signal(range(cfg.n_synapses + 1))
        known = Signal()
        size, row_words = Signal(range(max(sizes) + 1)), Signal(range(max(cfg.words) * groups + 1))
        with m.Switch(layer):
            for index, (neurons, words) in enumerate(zip(sizes, cfg.words, strict=True)):
                with m.Case(index):
                    m.d.comb += [size.eq(neurons), row_words.eq(words * groups)]

        # Where a word goes: rows lie one behind the other, also from layer to layer.
        row_place = Signal.like(self.offset)
        place = Signal.like(self.offset)
        row_left = Signal.like(size)
        # Bits that were taken and not yet written; fewer than a word's before the next one is taken.
        bits, filled = Signal(2 * LINK_BITS), Signal(range(2 * LINK_BITS))

        with m.If(self.start):
            m.d.sync += [known.eq(self.row < cfg.n_sources), bits.eq(0), filled.eq(0)]
            for index, (begin, height) in enumerate(zip(cfg.source_base, heights, strict=True)):
                with m.If((self.row >= begin) & (self.row < begin + height)):
                    ahead = named(m, (self.row - begin)[: len(rows_left)], f"ahead{index}")
                    start = named(
                        m, cfg.weight_base[index] * groups + ahead * (cfg.words[index] * groups), f"start{index}"
                    )
                    m.d.sync += [
                        layer.eq(index),
                        rows_left.eq(height - ahead),
                        row_left.eq(sizes[index]),
                        first_bit.eq(bits_before[index] + ahead * sizes[index]),
                        row_place.eq(start),
                        place.eq(start),
                    ]
        used_before_last = named(m, first_bit + (self.left - 1) * LINK_BITS, "used_before_last")
        m.d.comb += self.fits.eq(known & ((self.left == 0) | (used_before_last < cfg.n_synapses)))

        last_of_row = row_left <= per_word
        need = named(m, Mux(last_of_row, row_left, per_word), "need")
        complete = filled + self.left * LINK_BITS >= size
        m.d.comb += [
            self.offset.eq(place),
            self.data.eq(bits & named(m, Cat(need > index for index in range(LINK_BITS)), "mask")),
        ]
        with m.If(self.run):
            with m.If((rows_left == 0) | ((row_left == size) & ~complete)):
                m.d.comb += self.done.eq(1)
            with m.Elif(filled < need):
                m.d.comb += self.take.eq(1)
                m.d.sync += [bits.eq(bits | (self.word << filled)), filled.eq(filled + LINK_BITS)]
            with m.Else():
                m.d.comb += self.write.eq(1)
                m.d.sync += [
                    bits.eq(bits >> need),
                    filled.eq(filled - need),
                    place.eq(place + 1),
                    row_left.eq(row_left - per_word),
                ]
                with m.If(last_of_row):
                    following = named(m, row_place + row_words, "following")
                    m.d.sync += [
                        row_place.eq(following),
                        place.eq(following),
                        rows_left.eq(rows_left - 1),
                        row_left.eq(size),
                    ]
                    for index in range(len(sizes) - 1):
                        with m.If((rows_left == 1) & (layer == index)):
                            m.d.sync += [
                                layer.eq(index + 1),
                                rows_left.eq(heights[index + 1]),
                                row_left.eq(sizes[index + 1]),
                            ]
        return m
