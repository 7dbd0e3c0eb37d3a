"""Spike lists, and the walker that turns them into weight addresses.

A list holds the words of a layer in which somebody spiked, as (word index, mask); silent words are not in it, so
walking a list costs one cycle a spike. Inputs have two lists (the encoder fills one while the other is walked),
layers of neurons two as well (the updates of a layer fill one while the walker reads that of the layer below); chips
that learn keep those of all layers until the backward pass is over.
"""

from __future__ import annotations

from collections.abc import Sequence

from amaranth.hdl import Cat, Module, Mux, Signal, Value, unsigned
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from rtl.arith import lowest_one
from rtl.config import ChipConfig


def entry(cfg: ChipConfig) -> data.StructLayout:
    """One word of a spike list."""
    return data.StructLayout({"index": unsigned(max(1, ceil_log2(max((cfg.in_words, *cfg.words))))), "mask": cfg.lanes})


def choose(index: Value, values: Sequence[Value | int]) -> Value:
    """``values[index]`` as a tree of multiplexers."""
    if len(values) == 1:
        return Value.cast(values[0])
    return Mux(index[0], choose(index[1:], values[1::2]), choose(index[1:], values[0::2]))


class SpikeList(wiring.Component):
    """Some lists of up to `depth` entries in one memory.

    `clear` empties list `which`, `clear_all` every list, `push` appends `item` to list `which`. The reader gives
    `read_which` and `read_index` and has the entry in the next cycle; `length` is that of `read_which`.
    """

    def __init__(self, depth: int, layout: data.StructLayout, lists: int = 2) -> None:
        self.depth, self.layout, self.lists = depth, layout, lists
        super().__init__(
            {
                "which": In(range(lists)),
                "clear": In(1),
                "clear_all": In(1),
                "push": In(1),
                "item": In(layout),
                "read_which": In(range(lists)),
                "read_index": In(range(max(depth, 2))),
                "read_item": Out(layout),
                "length": Out(range(depth + 1)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.memory = memory = Memory(shape=self.layout, depth=self.lists * self.depth, init=[])
        read, write = memory.read_port(), memory.write_port()
        lengths = [Signal(range(self.depth + 1), name=f"length{which}") for which in range(self.lists)]
        bases = [which * self.depth for which in range(self.lists)]
        length = choose(self.which, lengths)
        with m.If(self.clear):
            m.d.sync += Cat(*lengths).word_select(self.which, len(lengths[0])).eq(0)
        with m.Elif(self.push):
            m.d.sync += Cat(*lengths).word_select(self.which, len(lengths[0])).eq(length + 1)
        with m.If(self.clear_all):
            m.d.sync += Cat(*lengths).eq(0)
        m.d.comb += [
            write.addr.eq(choose(self.which, bases) + length),
            write.data.eq(self.item),
            write.en.eq(self.push),
            read.addr.eq(choose(self.read_which, bases) + self.read_index),
            self.read_item.eq(read.data),
            self.length.eq(choose(self.read_which, lengths)),
        ]
        return m


class Walker(wiring.Component):
    """Walks a spike list once for every word of target neurons and names a weight word in each cycle.

    `start` begins layer `layer` from the list `item` / `length` that the reader of a :class:`SpikeList` shows for
    `index`; the first command follows two cycles later, then one a cycle: `words * max(spikes, min_pass, 1)` of them.
    A command comes with `go`; `valid` tells whether it names a weight (`address`), `last` that it ends the target
    word `word`. Outputs are registered. `hold` freezes the walker between two commands; `walking` tells that it could
    be held. `spikes` pulses with every source of the first word: the spikes of the layer below.

    On chips with delays a word ends with a command of its own, which names no weight; it makes a pass at least one
    longer than its spikes. `source` (axonal delays) counts the sources of all matrices.
    """

    def __init__(self, cfg: ChipConfig) -> None:
        self.cfg = cfg
        longest = max((cfg.in_words, *cfg.words))
        self.lengths = range(longest + 1)
        self.words = range(max(cfg.words) + 1)
        self.most_passes = max(15, cfg.neuron_groups)
        super().__init__(
            {
                "start": In(1),
                "layer": In(range(max(len(cfg.words), 2))),
                "length": In(self.lengths),
                "item": In(entry(cfg)),
                "min_pass": In(range(self.most_passes + 1)),
                "hold": In(1),
                "index": Out(range(max(longest, 2))),
                "walking": Out(1),
                "go": Out(1),
                "valid": Out(1),
                "last": Out(1),
                "word": Out(self.words),
                "address": Out(range(cfg.weight_depth)),
                "spikes": Out(1),
            }
            | ({"source": Out(range(cfg.delay_depth))} if cfg.axonal_delays else {})
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        cfg = self.cfg
        layout = entry(cfg)

        layer = Signal.like(self.layer)
        length = Signal(self.lengths)
        empty = Signal()
        pointer = Signal(self.lengths)
        current = Signal(layout)
        current_last = Signal()
        word = Signal(self.words)
        last_word = Signal(self.words)
        count = Signal.like(self.min_pass)

        rest = Signal(cfg.lanes)
        m.d.comb += rest.eq(current.mask & (current.mask - 1))
        row = Cat(lowest_one(m, current.mask), current.index)
        following = Signal(self.lengths)
        m.d.comb += following.eq(Mux(pointer + 1 >= length, 0, pointer + 1))

        # Whether this command takes a spike, and whether it ends the word.
        exhausted = (rest == 0) & current_last
        taking, ending = ~empty, exhausted
        if cfg.delay_slots:
            collecting = Signal()
            taking, ending = ~empty & ~collecting, empty | collecting
        wait = ending & (count + 1 < self.min_pass)
        m.d.sync += [self.go.eq(0), self.valid.eq(0), self.last.eq(0)]

        with m.FSM():
            with m.State("IDLE"):
                with m.If(self.start):
                    m.d.sync += [layer.eq(self.layer), length.eq(self.length), empty.eq(self.length == 0)]
                    m.next = "PRIME"
            with m.State("PRIME"):
                first = length > 1
                m.d.comb += self.index.eq(first)
                m.d.sync += [
                    current.eq(self.item),
                    current_last.eq(length <= 1),
                    pointer.eq(first),
                    word.eq(0),
                    count.eq(0),
                ]
                with m.If(empty):
                    m.d.sync += current.mask.eq(0)
                if cfg.delay_slots:
                    m.d.sync += collecting.eq(0)
                with m.Switch(layer):
                    for number, words in enumerate(cfg.words):
                        with m.Case(number):
                            m.d.sync += last_word.eq(words - 1)
                m.next = "WALK"
            with m.State("WALK"):
                m.d.comb += [self.walking.eq(1), self.index.eq(pointer)]
                with m.If(~self.hold):
                    m.d.sync += [self.go.eq(1), self.word.eq(word)]
                    with m.If(wait):
                        m.d.sync += count.eq(count + 1)
                    with m.Else():
                        m.d.comb += self.spikes.eq(taking & (word == 0))
                        m.d.sync += [self.valid.eq(taking), self.last.eq(ending)]
                        if cfg.delay_slots:
                            m.d.sync += collecting.eq(taking & exhausted)
                        with m.If(count != self.most_passes):
                            m.d.sync += count.eq(count + 1)
                        with m.If(taking):
                            m.d.sync += current.mask.eq(rest)
                            with m.If(rest == 0):
                                m.d.comb += self.index.eq(following)
                                m.d.sync += [
                                    pointer.eq(following),
                                    current_last.eq(following == 0),
                                    current.eq(self.item),
                                ]
                        with m.If(ending):
                            m.d.sync += [word.eq(word + 1), count.eq(0)]
                            with m.If(word == last_word):
                                m.next = "IDLE"
                        with m.Switch(layer):
                            for number, (base, words) in enumerate(zip(cfg.weight_base, cfg.words, strict=True)):
                                with m.Case(number):
                                    m.d.sync += self.address.eq(base + row * words + word)
                                    if cfg.axonal_delays:
                                        m.d.sync += self.source.eq(cfg.source_base[number] + row)
        return m
