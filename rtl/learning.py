"""The backward pass: error spikes, gradient spikes and weight updates (docs/chip.md, "Learning")."""

from __future__ import annotations

from collections.abc import Sequence

from amaranth.hdl import Cat, Module, Mux, Signal, Value, signed, unsigned
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from rtl.arith import lowest_one, named, saturate
from rtl.config import ChipConfig
from rtl.neuron import chance_mask
from rtl.random import DRAW_BITS, draws
from rtl.spikes import SpikeList, entry

COUNTS = data.StructLayout({"negative": unsigned(16), "positive": unsigned(16)})
"""Read-out of a neuron: numbers of its gradient spikes."""


def gradient_entry(cfg: ChipConfig) -> data.StructLayout:
    """One word of a list of gradient spikes."""
    return data.StructLayout(
        {"index": entry(cfg).members["index"], "positive": unsigned(cfg.lanes), "negative": unsigned(cfg.lanes)}
    )


def gradient_trace(cfg: ChipConfig) -> data.StructLayout:
    """What the trace port shows of one word of gradient spikes; `word` counts over all layers."""
    return data.StructLayout(
        {"step": unsigned(16), "word": unsigned(16), "positive": unsigned(cfg.lanes), "negative": unsigned(cfg.lanes)}
    )


def _sum(terms: Sequence[Value]) -> Value:
    """Balanced tree of additions."""
    while len(terms) > 1:
        pairs = [terms[index] + terms[index + 1] for index in range(0, len(terms) - 1, 2)]
        terms = [*pairs, *terms[len(terms) & ~1 :]]
    return terms[0]


class Learner(wiring.Component):
    """Ends a step of a LEARN frame: `start` to `done`, both for one cycle.

    `wrong` at `start` says that the winner (`winner_word`, `winner_lane`) is not the label (`label_word`,
    `label_lane`). The learner then works down from the last layer. It reads the sources of layer `layer` by
    `source_index` (entry `source` a cycle later, list of `source_length` entries), weights by `address` and `read`
    (`words` a cycle later), and writes lanes of the word at `address` with `update`. `gates_write` tells it the gates
    of every neuron word `gates_address`; `clear` resets the counters of group `clear_group` of that word.
    `constants_layer` is the layer whose `gradient_bits` and `rate` it needs in this cycle; `advance` takes a draw.

    With `record` it sends the gradient spikes of all words to the recorder (`take`, `positive`, `negative`); `held` is
    high while the recorder is `full`. While `counts_own` is high, `counts` shows the group of neurons `counts_address`
    a cycle later. Draws are used, and stored words counted, group by group.
    """

    def __init__(self, cfg: ChipConfig) -> None:
        self.cfg = cfg
        words, layers = range(max(cfg.words) + 1), range(max(len(cfg.words), 2))
        weights = data.ArrayLayout(signed(cfg.weight_bits), cfg.lanes)
        super().__init__(
            {
                "start": In(1),
                "done": Out(1),
                "busy": Out(1),
                "wrong": In(1),
                "winner_word": In(words),
                "winner_lane": In(range(cfg.lanes)),
                "label_word": In(words),
                "label_lane": In(range(cfg.lanes)),
                "enable": In(7),
                "layer": Out(layers),
                "source_index": Out(range(max(cfg.in_words, *cfg.words, 2))),
                "source": In(entry(cfg)),
                "source_length": In(range(max(cfg.in_words, *cfg.words) + 1)),
                "read": Out(1),
                "address": Out(range(cfg.weight_depth)),
                "words": In(weights),
                "update": Out(cfg.lanes),
                "update_data": Out(weights),
                "gates_write": In(1),
                "clear": In(1),
                "clear_group": In(range(cfg.neuron_groups)),
                "gates_address": In(range(cfg.neuron_depth)),
                "gates": In(cfg.lanes),
                "constants_layer": Out(layers),
                "gradient_bits": In(5),
                "rate": In(17),
                "draws": In(draws(cfg.lanes)),
                "advance": Out(1),
                "record": In(1),
                "take": Out(1),
                "positive": Out(cfg.lanes),
                "negative": Out(cfg.lanes),
                "full": In(1),
                "held": Out(1),
                "counts_own": In(1),
                "counts_address": In(range(cfg.neuron_depth * cfg.neuron_groups)),
                "counts": Out(data.ArrayLayout(COUNTS, cfg.neuron_width)),
                "stored": Out(1),
                "stored_word": Out(range(cfg.neuron_depth)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        cfg, lanes = self.cfg, self.cfg.lanes
        top = len(cfg.words) - 1
        item = gradient_entry(cfg)

        m.submodules.lists = lists = SpikeList(max(cfg.words), item, lists=max(len(cfg.words), 2))
        m.submodules.gates = gates = Memory(shape=unsigned(lanes), depth=cfg.neuron_depth, init=[])
        neurons, groups = cfg.neuron_width, cfg.neuron_groups
        counts_layout = data.ArrayLayout(COUNTS, neurons)
        m.submodules.counts = counts = Memory(shape=counts_layout, depth=cfg.neuron_depth * groups, init=[])
        gates_read, gates_write = gates.read_port(), gates.write_port()
        counts_read, counts_write = counts.read_port(), counts.write_port()

        # `layer` has known gradient spikes; `filling` is the layer whose words are made or sent, `word` among them.
        layer, filling = self.layer, Signal.like(self.layer)
        word, last_word = Signal.like(self.winner_word), Signal.like(self.winner_word)
        global_word = Signal(range(max(cfg.neuron_depth, 2)))
        with m.Switch(filling):
            for number, base in enumerate(cfg.neuron_base):
                with m.Case(number):
                    m.d.comb += global_word.eq(base + word)
            with m.Default():
                m.d.comb += global_word.eq(0)
        erring, again, below = Signal(), Signal(), Signal()
        group = Signal(range(groups))
        winner_first = self.winner_word <= self.label_word
        winner_lane = named(m, Cat(self.winner_lane == lane for lane in range(lanes)), "winner_mask")
        label_lane = named(m, Cat(self.label_lane == lane for lane in range(lanes)), "label_mask")

        positive, negative = Signal(lanes), Signal(lanes)
        pointer, target = Signal(range(max(cfg.words) + 1)), Signal(item)
        following = Signal.like(pointer)
        source = Signal.like(self.source_index)
        rest, open_gates = Signal(lanes), Signal(lanes)
        index = Signal.like(self.source.index)
        waiting = Signal(range(max(4, 2 * -(-lanes // 32))))

        m.d.comb += [
            gates_write.addr.eq(self.gates_address),
            gates_write.data.eq(self.gates),
            gates_write.en.eq(self.gates_write),
            gates_read.addr.eq(global_word),
            gates_read.en.eq(0),
            counts_read.addr.eq(Mux(self.counts_own, self.counts_address, Cat(group, global_word))),
            counts_read.en.eq(self.counts_own),
            self.counts.eq(counts_read.data),
            counts_write.addr.eq(Cat(group, global_word)),
            lists.which.eq(filling),
            lists.item.index.eq(word),
            lists.item.positive.eq(positive),
            lists.item.negative.eq(negative),
            lists.read_which.eq(layer),
            lists.read_index.eq(pointer),
            following.eq(Mux(pointer + 1 == lists.length, 0, pointer + 1)),
            self.constants_layer.eq(layer),
            self.source_index.eq(source),
            self.stored_word.eq(global_word),
            self.positive.eq(positive),
            self.negative.eq(negative),
        ]
        with m.If(self.clear):
            m.d.comb += [counts_write.addr.eq(Cat(self.clear_group, self.gates_address)), counts_write.en.eq(1)]

        # Address of a weight word: row of a source lane, column of a gradient word.
        chosen, row_word, column = Signal(lanes), Signal.like(index), Signal.like(target.index)
        others = named(m, rest & (rest - 1), "others")
        m.d.comb += [chosen.eq(rest), row_word.eq(index), column.eq(lists.read_item.index)]
        row = named(m, Cat(lowest_one(m, chosen), row_word), "row")
        place, where = Signal.like(self.address), Signal.like(self.address)
        with m.Switch(layer):
            for number, (base, width) in enumerate(zip(cfg.weight_base, cfg.words, strict=True)):
                with m.Case(number):
                    m.d.comb += place.eq(base + row * width + column)
            with m.Default():
                m.d.comb += place.eq(0)

        # A changed word is written in the next cycle that reads none; nobody reads it sooner.
        changed, changed_place = Signal(lanes), Signal.like(where)
        m.d.comb += self.address.eq(where)
        with m.If(~self.read & changed.any()):
            m.d.comb += [self.update.eq(changed), self.address.eq(changed_place)]
            m.d.sync += changed.eq(0)

        # Errors of the layer below: weight word, masked sum over its lanes, accumulator of the source's lane.
        partial_shape = signed(cfg.weight_bits + ceil_log2(lanes + 1))
        error_shape = signed(cfg.weight_bits + ceil_log2(max(cfg.neuron_layers) + 1))
        errors = Signal(data.ArrayLayout(error_shape, lanes), reset_less=True)
        terms = Signal(data.ArrayLayout(signed(cfg.weight_bits + 1), lanes), reset_less=True)
        partial = Signal(partial_shape, reset_less=True)
        masks = Signal(item, reset_less=True)
        asked, there, masked, summed = Signal(), Signal(), Signal(), Signal()
        asked_lane = Signal(range(lanes))
        there_lane, masked_lane, summed_lane = (
            Signal.like(asked_lane, name=f"{name}_lane") for name in ("there", "masked", "summed")
        )
        m.d.sync += [asked.eq(0), there.eq(asked), masked.eq(there), summed.eq(masked)]
        with m.If(asked):
            m.d.comb += self.read.eq(1)
            m.d.sync += [masks.eq(target), there_lane.eq(asked_lane)]
        with m.If(there):
            for lane in range(lanes):
                weight = self.words[lane]
                m.d.sync += terms[lane].eq(Mux(masks.positive[lane], weight, 0) - Mux(masks.negative[lane], weight, 0))
            m.d.sync += masked_lane.eq(there_lane)
        with m.If(masked):
            m.d.sync += [partial.eq(_sum(list(terms))), summed_lane.eq(masked_lane)]
        with m.If(summed), m.Switch(summed_lane):
            for lane in range(lanes):
                with m.Case(lane):
                    m.d.sync += errors[lane].eq(errors[lane] + partial)

        mask = chance_mask(m, self.gradient_bits)
        last_group = named(m, group == groups - 1, "last_group")
        shown_draws = named(m, self.draws.as_value().word_select(group, DRAW_BITS * neurons), "shown_draws")

        def next_word() -> None:
            with m.If(word == last_word):
                begin_update()
            with m.Else():
                m.d.sync += word.eq(word + 1)
                m.next = "GATE"

        def begin_update() -> None:
            m.d.sync += [source.eq(0), pointer.eq(0)]
            with m.If(self.enable.bit_select(layer, 1)):
                m.next = "SOURCE"
            with m.Else():
                end_layer()

        def next_source() -> None:
            m.d.sync += pointer.eq(0)
            with m.If(source + 1 == self.source_length):
                end_layer()
            with m.Else():
                m.d.sync += source.eq(source + 1)
                m.next = "SOURCE"

        def end_layer() -> None:
            with m.If((layer != 0) & below):
                m.d.sync += layer.eq(layer - 1)
                m.next = "LAYER"
            with m.Else():
                finish()

        def finish() -> None:
            m.d.sync += [filling.eq(0), word.eq(0), pointer.eq(0)]
            m.next = "DONE"
            with m.If(self.record):
                m.next = "FETCH"

        with m.FSM() as fsm:
            with m.State("IDLE"), m.If(self.start):
                m.d.comb += lists.clear_all.eq(1)
                m.d.sync += [
                    erring.eq(1),
                    again.eq(self.winner_word != self.label_word),
                    layer.eq(top),
                    word.eq(Mux(winner_first, self.winner_word, self.label_word)),
                    positive.eq(Mux(winner_first, winner_lane, 0)),
                    negative.eq(Mux(self.label_word <= self.winner_word, label_lane, 0)),
                ]
                with m.If(self.wrong):
                    m.d.sync += filling.eq(top)
                    m.next = "COUNT"
                with m.Else():
                    finish()

            # A word of gradient spikes into its list and its counters.
            with m.State("COUNT"):
                m.d.comb += counts_read.en.eq(1)
                m.next = "STORE"
            with m.State("STORE"):
                m.d.comb += [self.stored.eq(last_group), lists.push.eq(last_group), counts_write.en.eq(1)]
                rises_now, falls_now = (mask.word_select(group, neurons) for mask in (positive, negative))
                for lane in range(neurons):
                    old, new = counts_read.data[lane], counts_write.data[lane]
                    m.d.comb += [
                        new.positive.eq(old.positive + rises_now[lane]),
                        new.negative.eq(old.negative + falls_now[lane]),
                    ]
                m.d.sync += group.eq(group + 1)
                with m.If(~last_group):
                    m.next = "COUNT"
                with m.Elif(~erring):
                    next_word()
                with m.Elif(again):
                    m.d.sync += [
                        again.eq(0),
                        word.eq(Mux(winner_first, self.label_word, self.winner_word)),
                        positive.eq(Mux(winner_first, 0, winner_lane)),
                        negative.eq(Mux(winner_first, label_lane, 0)),
                    ]
                    m.next = "COUNT"
                with m.Else():
                    m.d.sync += erring.eq(0)
                    m.next = "LAYER"

            with m.State("LAYER"):
                m.d.sync += [below.eq(0), filling.eq(layer - 1), word.eq(0), pointer.eq(0)]
                with m.Switch(layer):
                    for above in range(1, len(cfg.words)):
                        with m.Case(above):
                            m.d.sync += last_word.eq(cfg.words[above - 1] - 1)
                with m.If(layer == 0):
                    begin_update()
                with m.Else():
                    m.next = "GATE"

            # Gradient spikes of one word of the layer below.
            with m.State("GATE"):
                m.d.comb += gates_read.en.eq(1)
                m.d.sync += [Value.cast(errors).eq(0), pointer.eq(0)]
                m.next = "LOOK"
            with m.State("LOOK"):
                m.d.sync += open_gates.eq(gates_read.data)
                m.next = "ENTRY"
                with m.If(gates_read.data == 0):
                    next_word()
            with m.State("ENTRY"):
                m.d.sync += [target.eq(lists.read_item), rest.eq(open_gates)]
                m.next = "ROWS"
            with m.State("ROWS"):
                m.d.comb += [row_word.eq(word), column.eq(target.index)]
                m.d.sync += [asked.eq(1), asked_lane.eq(row), where.eq(place), rest.eq(others), waiting.eq(0)]
                with m.If(others == 0):
                    m.next = "DRAIN"
                    with m.If(following != 0):
                        m.d.comb += lists.read_index.eq(following)
                        m.d.sync += pointer.eq(following)
                        m.next = "ENTRY"
            with m.State("DRAIN"):
                m.d.sync += waiting.eq(waiting + 1)
                with m.If(waiting == 3):
                    m.next = "DRAW"
            with m.State("DRAW"):
                rises, falls = Signal(neurons), Signal(neurons)
                m.d.comb += [self.constants_layer.eq(filling), self.advance.eq(last_group)]
                shown_errors = named(m, errors.as_value().word_select(group, neurons * error_shape.width), "shown")
                shown_gates = named(m, open_gates.word_select(group, neurons), "shown_gates")
                for lane in range(neurons):
                    error = named(m, shown_errors.word_select(lane, error_shape.width).as_signed(), f"error{lane}")
                    chance = named(m, shown_draws.word_select(lane, DRAW_BITS) & mask, f"gradient_chance{lane}")
                    m.d.comb += [
                        rises[lane].eq(shown_gates[lane] & (error > chance)),
                        falls[lane].eq(shown_gates[lane] & (-error > chance)),
                    ]
                found = named(m, Cat(positive[neurons:], rises), "found_positive")
                found_negative = named(m, Cat(negative[neurons:], falls), "found_negative")
                m.d.sync += [positive.eq(found), negative.eq(found_negative), pointer.eq(0), group.eq(group + 1)]
                with m.If(last_group):
                    with m.If((found | found_negative).any()):
                        m.d.sync += below.eq(1)
                        m.next = "COUNT"
                    with m.Else():
                        next_word()

            # Weights between the spikes of one word of sources and all gradient spikes.
            with m.State("SOURCE"):
                m.next = "COIN"
                with m.If(self.source_length == 0):
                    end_layer()
            with m.State("COIN"):
                coins = Signal(neurons)
                sources = named(m, self.source.mask.word_select(group, neurons), "shown_sources")
                for lane in range(neurons):
                    landed = shown_draws.word_select(lane, DRAW_BITS) < self.rate
                    m.d.comb += coins[lane].eq(sources[lane] & landed)
                tossed = named(m, Cat(rest[neurons:], coins), "tossed")
                m.d.comb += self.advance.eq(last_group)
                m.d.sync += [rest.eq(tossed), index.eq(self.source.index), group.eq(group + 1)]
                with m.If(last_group):
                    m.next = "PLACE"
                    with m.If(tossed == 0):
                        next_source()
            with m.State("PLACE"):
                m.d.sync += [where.eq(place), target.eq(lists.read_item)]
                m.next = "READ"
            with m.State("READ"):
                m.d.comb += [self.read.eq(1), lists.read_index.eq(following)]
                m.next = "MODIFY"
            with m.State("MODIFY"):
                for lane in range(lanes):
                    moved = self.words[lane] - target.positive[lane] + target.negative[lane]
                    m.d.sync += self.update_data[lane].eq(saturate(m, moved, cfg.weight_bits))
                m.d.sync += [changed.eq(target.positive | target.negative), changed_place.eq(where)]
                m.d.sync += [where.eq(place), target.eq(lists.read_item), pointer.eq(following)]
                m.next = "READ"
                with m.If(following == 0):
                    m.d.comb += chosen.eq(others)
                    m.d.sync += rest.eq(others)
                    with m.If(others == 0):
                        next_source()

            # Gradient raster: every word of every layer, silent ones too.
            with m.State("FETCH"):
                m.d.comb += [lists.read_which.eq(filling), self.held.eq(self.full)]
                with m.If(~self.full):
                    m.d.sync += waiting.eq(0)
                    m.next = "TAKE"
            with m.State("TAKE"):
                m.d.comb += lists.read_which.eq(filling)
                m.d.sync += waiting.eq(waiting + 1)
                with m.If(waiting == 2 * -(-lanes // 32) - 2):
                    m.d.comb += [self.take.eq(1), self.positive.eq(0), self.negative.eq(0)]
                    m.next = "FETCH"
                    m.d.sync += word.eq(word + 1)
                    with m.If((pointer != lists.length) & (lists.read_item.index == word)):
                        m.d.comb += [
                            self.positive.eq(lists.read_item.positive),
                            self.negative.eq(lists.read_item.negative),
                        ]
                        m.d.sync += pointer.eq(pointer + 1)
                    with m.Switch(filling):
                        for number, width in enumerate(cfg.words):
                            with m.Case(number):
                                with m.If(word == width - 1):
                                    m.d.sync += [word.eq(0), pointer.eq(0), filling.eq(filling + 1)]
                                    if number == top:
                                        m.next = "DONE"
            with m.State("DONE"):
                m.d.comb += self.done.eq(1)
                m.next = "IDLE"
        m.d.comb += self.busy.eq(~fsm.ongoing("IDLE"))
        return m
