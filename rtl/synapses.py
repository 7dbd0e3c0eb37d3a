"""Weight memory, its distortion, and the lane-wide accumulators."""

from __future__ import annotations

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, signed, unsigned
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out, connect, flipped
from amaranth.utils import ceil_log2

from rtl.config import ChipConfig
from rtl.delays import JITTER_RANGE_BITS, Jitter, Pending, slots
from rtl.die import (
    DIE_NEUTRAL_SYNAPSE,
    EFFECTIVE_BITS,
    SYNAPSE,
    TRANSFER,
    Distorter,
)
from rtl.memory import Bank, HostBus
from rtl.random import draws
from rtl.registers import TRANSFER_CLASSES


def accumulator_shape(cfg: ChipConfig) -> data.ArrayLayout:
    """Exact sums of a layer's largest fan-in; with die tables of shifted, distorted weights, without of plain ones.

    Of n weights -1 and 1 the sum is from -n to n, as wide as that of n numbers of one bit and their sign.
    """
    bits = EFFECTIVE_BITS if cfg.distorts_synapses else cfg.weight_bits
    if cfg.die_tables and cfg.delay_slots:
        bits += JITTER_RANGE_BITS
    return data.ArrayLayout(signed(bits + ceil_log2(max(cfg.layers[:-1]) + 1)), cfg.lanes)


class Synapses(wiring.Component):
    """Adds one weight word a cycle to the accumulators.

    Commands (`go`, `valid`, `last`, `address`) come from the walker. `LATENCY` cycles after a command with `last`,
    `done` is high and `sums` holds the target word's sums for that one cycle; the next word's sums start from zero by
    themselves. The sums are made of weights shifted to the right by `forward_shift` (chips that learn). With binary
    weights the memory holds one bit of each, which adds 1 if it is clear and subtracts 1 if it is set.

    On chips with delays the weights go to sums that are due later, those of neuron word `target`, and a word's last
    command collects what is due in step `now`. Between samples `clear` empties them; it takes until `cleared`.
    With die tables, too, `drawn` tells that the `draws` for a word's jitter were used.

    A learner that sets `learn` has the memory: `words` is the weight word whose `learn_address` it gave with
    `learn_read` a cycle before, as it is stored; `update` writes lanes of the word at `learn_address`.
    """

    @staticmethod
    def latency(cfg: ChipConfig) -> int:
        """Cycles from a command to `done`: memory, distortion if there is any, accumulator."""
        return 2 + (Distorter.LATENCY if cfg.distorts_synapses else 0)

    def __init__(self, cfg: ChipConfig) -> None:
        self.cfg = cfg
        ports = {
            "go": In(1),
            "valid": In(1),
            "last": In(1),
            "address": In(range(cfg.weight_depth)),
            "done": Out(1),
            "sums": Out(accumulator_shape(cfg)),
            "host": In(HostBus()),
            "single_write": In(1),
        }
        if cfg.learning:
            layout = data.ArrayLayout(signed(cfg.weight_bits), cfg.lanes)
            ports |= {
                "forward_shift": In(3),
                "learn": In(1),
                "learn_read": In(1),
                "learn_address": In(range(cfg.weight_depth)),
                "words": Out(layout),
                "update": In(cfg.lanes),
                "update_data": In(layout),
            }
        if cfg.delay_slots:
            ports |= {
                "target": In(range(cfg.neuron_depth)),
                "now": In(cfg.delay_bits),
                "clear": In(1),
                "cleared": Out(1),
                "delay_host": In(HostBus()),
                "single_delay": In(1),
            }
            if cfg.axonal_delays:
                ports["source"] = In(range(cfg.delay_depth))
            if cfg.die_tables:
                ports |= {"draws": In(draws(cfg.lanes)), "drawn": Out(1), "jitter": In(8)}
        if cfg.distorts_synapses:
            ports |= {
                "shift": In(4),
                "curves": In(data.ArrayLayout(TRANSFER, TRANSFER_CLASSES)),
                "die_host": In(HostBus()),
            }
        super().__init__(ports)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        cfg = self.cfg
        m.submodules.weights = weights = Bank(
            cfg.weight_depth,
            cfg.lanes,
            unsigned(1) if cfg.binary_weights else signed(cfg.weight_bits),
            per_word=cfg.weights_per_link_word,
            single=True,
            update=cfg.learning,
        )
        connect(m, flipped(self.host), weights.host)
        m.d.comb += [
            weights.single_write.eq(self.single_write),
            weights.address.eq(self.address),
            weights.enable.eq(self.valid),
        ]

        # The marks of a command travel beside its weight word.
        marks = [(self.go, self.valid, self.last)]
        for stage in range(1, self.latency(cfg)):
            moved = tuple(Signal(name=f"{name}{stage}") for name in ("go", "valid", "last"))
            m.d.sync += [now.eq(before) for now, before in zip(moved, marks[-1], strict=True)]
            marks.append(moved)

        stored: data.View | Signal = weights.data
        if cfg.binary_weights:
            stored = Signal(data.ArrayLayout(signed(2), cfg.lanes), name="stored")
            for lane in range(cfg.lanes):
                m.d.comb += stored[lane].eq(Cat(Const(1, 1), weights.data[lane]))
        if cfg.learning:
            m.d.comb += [self.words.eq(weights.data), weights.update.eq(self.update)]
            m.d.comb += weights.update_data.eq(self.update_data)
            with m.If(self.learn):
                m.d.comb += [weights.address.eq(self.learn_address), weights.enable.eq(self.learn_read)]
            stored = Signal(weights.data.shape(), name="stored")
            with m.If(marks[1][1]):
                for lane in range(cfg.lanes):
                    m.d.comb += stored[lane].eq(weights.data[lane] >> self.forward_shift)

        if cfg.distorts_synapses:
            m.submodules.tables = tables = Bank(cfg.weight_depth, cfg.lanes, SYNAPSE, init=DIE_NEUTRAL_SYNAPSE)
            m.submodules.distorter = distorter = Distorter(cfg.lanes, cfg.weight_bits)
            connect(m, flipped(self.die_host), tables.host)
            m.d.comb += [
                tables.address.eq(self.address),
                tables.enable.eq(self.valid),
                distorter.weights.eq(stored),
                distorter.tables.eq(tables.data),
                distorter.curves.eq(self.curves),
                distorter.shift.eq(self.shift),
                distorter.enable.eq(marks[1][1]),
            ]
            words = distorter.effective
        else:
            words = stored

        go, valid, last = marks[-1]
        m.d.sync += self.done.eq(last)
        if cfg.delay_slots:
            self._delayed(m, marks, words)
            return m
        fresh = Signal(init=1)
        sums = Signal(accumulator_shape(cfg), reset_less=True)
        m.d.comb += self.sums.eq(sums)
        with m.If(go):
            m.d.sync += fresh.eq(last)
            for lane in range(cfg.lanes):
                m.d.sync += sums[lane].eq(Mux(fresh, 0, sums[lane]) + Mux(valid, words[lane], 0))
        return m

    def _delayed(self, m: Module, marks: list[tuple[Value, ...]], words: data.View) -> None:
        """Delays of the command's synapses, and the sums that its weights go to."""
        cfg = self.cfg
        m.submodules.delays = delays = Bank(
            cfg.delay_depth,
            1 if cfg.axonal_delays else cfg.lanes,
            unsigned(cfg.delay_bits),
            per_word=cfg.delays_per_link_word,
            single=not cfg.axonal_delays,
        )
        m.submodules.pending = pending = Pending(cfg, words.shape(), accumulator_shape(cfg))
        connect(m, flipped(self.delay_host), delays.host)
        m.d.comb += [
            delays.address.eq(self.source if cfg.axonal_delays else self.address),
            delays.enable.eq(self.valid),
        ]
        if not cfg.axonal_delays:
            m.d.comb += delays.single_write.eq(self.single_delay)

        late = Signal(slots(cfg))
        for lane in range(cfg.lanes):
            m.d.comb += late[lane].eq(delays.data[0 if cfg.axonal_delays else lane])
        if cfg.die_tables:
            m.submodules.jitter = jitter = Jitter(cfg)
            m.d.comb += [
                jitter.delays.eq(late),
                jitter.draws.eq(self.draws),
                jitter.amplitude.eq(self.jitter),
                jitter.enable.eq(marks[1][1]),
                self.drawn.eq(marks[1][1]),
            ]
            late = jitter.moved

        # Weights are here when their slots are, but added a cycle later.
        target: Value = self.target
        for stage in range(1, len(marks)):
            target, before = Signal.like(self.target, name=f"target{stage}"), target
            m.d.sync += target.eq(before)
        held = Signal(words.shape(), name="held", reset_less=True)
        _, valid, last = marks[-1]
        m.d.sync += held.eq(words)
        m.d.comb += [
            pending.event.eq(valid),
            pending.collect.eq(last),
            pending.target.eq(target),
            pending.now.eq(self.now),
            pending.weights.eq(held),
            pending.clear.eq(self.clear),
            self.cleared.eq(pending.cleared),
            self.sums.eq(pending.sums),
        ]
        for lane in range(cfg.lanes):
            m.d.comb += pending.slots[lane].eq(late[lane] + self.now)
