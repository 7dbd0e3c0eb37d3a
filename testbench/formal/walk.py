"""From sample to weight addresses: sequencer, spike lists and walker end, in order, and read what is there."""

from __future__ import annotations

from functools import partial
from typing import Any
from unittest.mock import patch

from amaranth.hdl import Array, Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import data

from rtl import spikes
from rtl.config import ChipConfig
from rtl.sequencer import Sequencer
from rtl.spikes import SpikeList, Walker, entry
from testbench.formal.bench import Bench, Inside, WatchedMemory
from testbench.formal.solve import Group, Mutant, Proof

# ---- sequencer ------------------------------------------------------------------------------------------------------


def sequencer(t: Bench, cfg: ChipConfig, block: type[Sequencer] = Sequencer) -> None:
    """Whatever the others answer and when: every layer once in every step, in order, inputs a step ahead, one end."""
    m, dut = t.m, block(cfg)
    inside = Inside(dut)
    m.submodules.dut = inside.fragment
    at, layers = inside.ongoing, len(cfg.neuron_layers)
    t.drive(dut.start, dut.stochastic, dut.seeded, dut.encoding, dut.layer_done, dut.enough)
    if cfg.delay_slots:
        t.drive(dut.cleared)
    if cfg.learning:
        t.drive(dut.winner, dut.learn, dut.learn_done)
    award = dut.award if cfg.learning else Const(0)
    running = Signal()
    m.d.comb += dut.steps.eq(t.held(16, "steps", dut.done | ~running))
    steps = Mux(dut.steps == 0, 1, dut.steps)

    next_step, next_layer, encoded, awards = Signal(16), Signal(range(layers + 1)), Signal(17), Signal()
    begins = dut.start & ~running
    with m.If(begins):
        m.d.sync += [running.eq(1), next_step.eq(0), next_layer.eq(0)]
        m.d.sync += encoded.eq(dut.encode)
    with m.Elif(dut.encode):
        m.d.sync += encoded.eq(encoded + 1)
    with m.If(dut.walk & ~award):
        m.d.sync += [next_layer.eq(next_layer + 1), awards.eq(0)]
        with m.If(next_layer == layers - 1):
            m.d.sync += [next_layer.eq(0), next_step.eq(next_step + 1)]
    with m.If(dut.done):
        m.d.sync += running.eq(0)

    last = dut.layer == layers - 1
    t.claim(dut.layer < layers)
    t.claim(~running | (dut.step < steps))
    t.claim(~dut.walk | running)
    t.claim(~dut.done | running)
    t.claim(~dut.walk | award | ((dut.layer == next_layer) & (dut.step == next_step)))
    # A winner is told its spike right after the last layer was walked, once.
    t.claim(~(dut.walk & award) | (last & (next_layer == 0) & (next_step == dut.step + 1)))
    t.claim(~(t.past(dut.walk & award) & dut.walk) | ~award)
    # Inputs: step 0 first, then always one step ahead and not past the end.
    t.claim(~dut.encode | (running | begins))
    t.claim(~dut.encode | (dut.encode_step == Mux(begins, 0, encoded)))
    t.claim(~dut.encode | begins | (encoded < steps))
    t.claim(~(dut.walk & ~award & (dut.layer == 0)) | (encoded == next_step + 1))
    t.claim(~dut.done | dut.cut | ((next_step == steps) & (next_layer == 0) & (encoded == steps)))
    if cfg.delay_slots:
        t.claim(~dut.encode | (encoded != 0) & ~begins | t.past(dut.clear) | (dut.clear & dut.cleared))
    t.reach(dut.done & ~dut.cut & (steps == 2))
    t.reach(dut.cut)

    # Whenever it waits for nobody, a number gets smaller that is 0 when it is idle.
    phases = ["FINISH", "LEARNING", "LEARN", "WAIT for the award", "AWARD", "WAIT", "LAYER", "ENCODE", "CLEAR", "SEED"]
    there = inside.fragment.find_generated("fsm").encoding
    phase = Signal(range(len(phases)))
    for number, state in enumerate(phases):
        if state in there:
            with m.If(at(state)):
                m.d.comb += phase.eq(Mux(award, 3, number) if state == "WAIT" else number)
    rank = Signal(1 + len(phase) + len(next_layer) + 17)
    left = Mux(dut.steps > dut.step, dut.steps - dut.step, 0)
    with m.If(~at("IDLE")):
        m.d.comb += rank.eq(Cat(phase, (layers - dut.layer)[: len(next_layer)], left[:16], 1))
    waits = at("WAIT") & ~dut.layer_done | at("ENCODE", "FINISH") & dut.encoding | at("SEED") & ~dut.seeded
    if cfg.delay_slots:
        waits |= at("CLEAR") & ~dut.cleared
    if cfg.learning:
        waits |= at("LEARNING") & ~dut.learn_done
    t.claim(~t.past(~(at("IDLE") | waits)) | (rank < t.past(rank)))

    # For the induction.
    t.claim(at())
    t.claim(running == ~at("IDLE"))
    if cfg.learning:
        t.claim(~award | at("AWARD", "WAIT", "LEARN", "LEARNING"))
        t.claim(~award | last)
    before = at("SEED", "CLEAR") if cfg.delay_slots else at("SEED")
    t.claim(~before | ((encoded == 0) & (next_step == 0) & (next_layer == 0) & (dut.step == 0) & (dut.layer == 0)))
    t.claim(~at("ENCODE", "LAYER") | ((next_step == dut.step) & (next_layer == dut.layer)))
    t.claim(~at("ENCODE") | ((encoded == dut.step + 1) & (dut.layer == 0)))
    ahead = Mux(dut.step + 1 < steps, dut.step + 2, dut.step + 1)
    t.claim(~at("LAYER") | (encoded == Mux(dut.layer == 0, dut.step + 1, ahead)))
    after = at("IDLE", "SEED", "ENCODE", "LAYER")
    if cfg.delay_slots:
        after |= at("CLEAR")
    t.claim(after | (encoded == ahead))
    t.claim(after | (next_layer == Mux(last, 0, dut.layer + 1)))
    t.claim(after | (next_step == dut.step + last))
    t.claim(~at("FINISH") | last)
    if cfg.learning:
        t.claim(~at("AWARD", "LEARN", "LEARNING") | last)
        t.claim(~at("AWARD") | award)


class EncodesTwice(Sequencer):
    """Has the inputs of a step encoded again."""

    def elaborate(self, platform: object) -> Module:
        m = super().elaborate(platform)
        with m.If(self.walk & (self.layer == 0)):
            m.d.comb += self.encode_step.eq(self.step)
        return m


# ---- spike lists ----------------------------------------------------------------------------------------------------


def spike_list(t: Bench, depth: int, lists: int, block: type[SpikeList] = SpikeList) -> None:
    """Entry n of a list is the one pushed n-th since it was cleared."""
    m = t.m
    layout = data.StructLayout({"index": 3, "mask": 4})
    dut = block(depth, layout, lists)
    memories: list[WatchedMemory] = []

    def memory(**arguments: Any) -> WatchedMemory:
        memories.append(WatchedMemory(t, **arguments))
        return memories[-1]

    with patch.object(spikes, "Memory", memory):
        inside = Inside(dut)
    m.submodules.dut = inside.fragment
    (stored,) = memories
    t.drive(dut.which, dut.clear, dut.clear_all, dut.push, dut.item, dut.read_which, dut.read_index)
    t.assume((dut.which < lists) & (dut.read_which < lists) & (dut.read_index < depth))

    # One list and one entry of it.
    which, index = t.constant(range(lists), "which"), t.constant(range(depth), "index")
    t.assume(stored.place == which * depth + index)
    length, item = Signal(range(depth + 1)), Signal(layout)
    this = dut.which == which
    used = Array(inside[f"length{number}"] for number in range(lists))
    t.assume(~dut.push | (used[dut.which] < depth) & ~dut.clear & ~dut.clear_all)
    with m.If(dut.clear_all | (dut.clear & this)):
        m.d.sync += length.eq(0)
    with m.Elif(dut.push & this):
        m.d.sync += length.eq(length + 1)
        with m.If(length == index):
            m.d.sync += item.eq(dut.item)
    t.claim((dut.read_which != which) | (dut.length == length))
    asked = (dut.read_which == which) & (dut.read_index == index) & (index < length)
    t.claim(~t.past(asked) | (dut.read_item == t.past(item)))
    t.reach(asked & (index == 1))
    # For the induction.
    t.claim((index >= length) | (stored.cell == item))
    for number in range(lists):
        t.claim((which != number) | (inside[f"length{number}"] == length))


# ---- walker ---------------------------------------------------------------------------------------------------------


def walker(t: Bench, cfg: ChipConfig, block: type[Walker] = Walker) -> None:
    """Every spike once with every word of targets, no address outside the layer, no entry past the list's end."""
    m, dut = t.m, block(cfg)
    inside = Inside(dut)
    m.submodules.dut = inside.fragment
    at = inside.ongoing
    sizes, words = cfg.layers[:-1], cfg.words
    t.drive(dut.start, dut.hold)
    m.d.comb += dut.min_pass.eq(t.constant(4, "min_pass"))
    t.assume(~dut.start | at("IDLE"))

    # The list: one of its entries is looked at, the others are anything that is no second entry of the same word.
    waiting = at("IDLE") & ~dut.start
    layer, length = t.held(len(dut.layer), "layer", waiting), t.held(len(dut.length), "length", waiting)
    t.assume(layer < len(words))
    place = t.constant(len(dut.index), "place")
    watched, other = t.held(entry(cfg), "watched", waiting), t.free(entry(cfg), "other")
    m.d.comb += [dut.layer.eq(layer), dut.length.eq(length)]
    read = t.past(dut.index)
    m.d.comb += dut.item.eq(Mux(read == place, watched, other))

    source_count, below, word_count, base = Signal(17), Signal(17), Signal(17), Signal(range(cfg.weight_depth + 1))
    for number, (size, count) in enumerate(zip(sizes, words, strict=True)):
        with m.If(layer == number):
            m.d.comb += [
                source_count.eq(size),
                below.eq(cfg.words_of(size)),
                word_count.eq(count),
                base.eq(cfg.weight_base[number]),
            ]

    def exists(item: data.View) -> Value:
        lanes = [~item.mask[lane] | (item.index * cfg.lanes + lane < source_count) for lane in range(cfg.lanes)]
        return Cat(lanes).all() & item.mask.any()

    t.assume(length <= below)
    t.assume(exists(watched) & exists(other) & (other.index != watched.index))

    lane = t.constant(range(cfg.lanes), "lane")
    row = watched.index * cfg.lanes + lane
    there = (place < length) & watched.mask.bit_select(lane, 1)
    this = dut.go & dut.valid & (dut.address == base + row * word_count + dut.word)
    seen = Signal(2)
    ends = dut.go & dut.last
    m.d.sync += seen.eq(Mux(ends, 0, Mux(this & (seen != 2), seen + 1, seen)))
    t.claim(~dut.valid | (dut.go & (dut.address >= base) & (dut.address < base + source_count * word_count)))
    t.claim(~dut.go | (dut.word < word_count))
    t.claim(~ends | (seen + this == there))
    t.claim((length == 0) | (dut.index < length))
    t.claim((length != 0) | (dut.index == 0))
    t.claim(~dut.go | ~dut.valid | (length != 0))

    t.reach(ends & there & (dut.word == 1))

    # For the induction: where in the list the walker is, and what it has of the watched entry behind it.
    current, pointer, word = Signal(entry(cfg)), inside["pointer"], inside["word"]
    m.d.comb += current.eq(inside["current"])
    collecting = inside["collecting"] if cfg.delay_slots else Const(0)
    position = Signal(range(cfg.in_words + max(words) + 1))
    m.d.comb += position.eq(Mux(length <= 1, 0, Mux(pointer == 0, length - 1, pointer - 1)))
    here, left = position == place, current.mask.bit_select(lane, 1)
    behind = Mux(here, there & ~left, there & (position > place)) | (collecting & there)
    total = Mux(ends, 0, seen + this)
    t.claim(at())
    t.claim(at("IDLE") | ((inside["layer"] == layer) & (inside["length"] == length)))
    t.claim(at("IDLE") | (inside["empty"] == (length == 0)))
    t.claim(at("WALK") | (total == 0))
    t.claim(~at("PRIME") | (~dut.go & (read == 0)))
    t.claim(at("IDLE") | (read == Mux(at("WALK"), pointer, 0)))
    with m.If(at("WALK")):
        t.claim((inside["last_word"] == word_count - 1) & (word < word_count))
        t.claim((pointer < length) | ((pointer == 0) & (length == 0)))
        t.claim(inside["current_last"] == (pointer == 0))
        t.claim(~dut.go | (word == dut.word + ends))
        t.claim(total == behind)
        with m.If(length == 0):
            t.claim((current.mask == 0) & (pointer == 0) & ~collecting)
        with m.Elif(here):
            t.claim((current.index == watched.index) & current.mask.any() & ((current.mask & ~watched.mask) == 0))
        with m.Else():
            t.claim(exists(current) & (current.index != watched.index))
        t.claim(~collecting | ((position == 0) & (~here | (current.mask == watched.mask))))

    # Whenever it is not held, a number gets smaller that is 0 when it is idle.
    rank = Signal(40)
    count = inside["count"]
    with m.If(at("WALK")):
        m.d.comb += rank.eq(
            Cat(
                (15 - count)[:4],
                current.mask,
                Mux(length == 0, 0, length - position)[:8],
                ~collecting,
                (word_count - word)[:8],
            )
        )
    with m.If(at("PRIME")):
        m.d.comb += rank.eq(-1)
    t.claim(~t.past(~(at("IDLE") | at("WALK") & dut.hold)) | (rank < t.past(rank)))


class OneTooMany(Walker):
    """Takes one entry too many."""

    def elaborate(self, platform: object) -> Module:
        m = super().elaborate(platform)
        with m.If(self.walking):
            m.d.comb += self.index.eq(self.length)
        return m


CHIPS = {
    "plain": ChipConfig((6, 5, 3), lanes=4),
    "delays": ChipConfig((6, 5, 3), lanes=4, delay_slots=3),
    "learning": ChipConfig((6, 5, 3), lanes=4, learning=True),
}

GROUP = Group(
    "Walk",
    "Chips of three layers; the number of steps is any. Encoder, seeder, layers and learner answer anything, at any "
    "time. The "
    "lists of the walker hold words in which somebody spiked, each at most once and with sources that exist, as "
    "encoder and neurons "
    "push them; one entry is looked at, the others are anything.",
    (
        *(
            Proof(
                f"sequencer-{name}",
                f"`Sequencer` ({name}): every layer once in every step, in order, inputs exactly one step ahead, one "
                f"`done`; layer and "
                "step exist; it never hangs (a number that is 0 when it is idle gets smaller whenever it waits for "
                "nobody)",
                partial(sequencer, cfg=cfg),
                steps=2,
                reached=20,
                mutants={"a step is encoded twice": Mutant(partial(sequencer, cfg=cfg, block=EncodesTwice), 12)},
            )
            for name, cfg in CHIPS.items()
        ),
        Proof(
            "spike-list",
            "`SpikeList`, 3 lists of 6 entries: entry n of a list is the one pushed n-th since it was cleared, the "
            "lists do not meet",
            partial(spike_list, depth=6, lists=3),
            steps=1,
            reached=8,
        ),
        *(
            Proof(
                f"walker-{name}",
                f"`Walker` ({name}): every spike once with every word of targets, addresses between the first and the "
                f"last word of the "
                "layer's weights, no entry past the list's end is read, it never hangs",
                partial(walker, cfg=cfg),
                steps=1,
                reached=12,
                mutants={"an entry too many is read": Mutant(partial(walker, cfg=cfg, block=OneTooMany), 8)},
            )
            for name, cfg in CHIPS.items()
            if not cfg.learning
        ),
    ),
)
