"""Weight memory, its distortion, and the lane-wide accumulators."""

from __future__ import annotations

from amaranth.hdl import Module, Mux, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out, connect, flipped
from amaranth.utils import ceil_log2

from rtl.config import ChipConfig
from rtl.die import (
    DIE_NEUTRAL_SYNAPSE,
    EFFECTIVE_BITS,
    SYNAPSE,
    TRANSFER,
    Distorter,
)
from rtl.memory import Bank, HostBus
from rtl.registers import TRANSFER_CLASSES


def accumulator_shape(cfg: ChipConfig) -> data.ArrayLayout:
    """Exact sums of a layer's largest fan-in; with die tables of shifted, distorted weights, without of plain ones."""
    bits = EFFECTIVE_BITS if cfg.die_tables else cfg.weight_bits
    return data.ArrayLayout(signed(bits + ceil_log2(max(cfg.layers[:-1]) + 1)), cfg.lanes)


class Synapses(wiring.Component):
    """Adds one weight word a cycle to the accumulators.

    Commands (`go`, `valid`, `last`, `address`) come from the walker. `LATENCY` cycles after a command with `last`,
    `done` is high and `sums` holds the target word's sums for that one cycle; the next word's sums start from zero by
    themselves. The sums are made of weights shifted to the right by `forward_shift` (chips that learn).

    A learner that sets `learn` has the memory: `words` is the weight word whose `learn_address` it gave with
    `learn_read` a cycle before, as it is stored; `update` writes lanes of the word at `learn_address`.
    """

    @staticmethod
    def latency(cfg: ChipConfig) -> int:
        """Cycles from a command to `done`: memory, distortion if there is any, accumulator."""
        return 2 + (Distorter.LATENCY if cfg.die_tables else 0)

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
        if cfg.die_tables:
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
            signed(cfg.weight_bits),
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
            delayed = tuple(Signal(name=f"{name}{stage}") for name in ("go", "valid", "last"))
            m.d.sync += [now.eq(before) for now, before in zip(delayed, marks[-1], strict=True)]
            marks.append(delayed)

        stored: data.View | Signal = weights.data
        if cfg.learning:
            m.d.comb += [self.words.eq(weights.data), weights.update.eq(self.update)]
            m.d.comb += weights.update_data.eq(self.update_data)
            with m.If(self.learn):
                m.d.comb += [weights.address.eq(self.learn_address), weights.enable.eq(self.learn_read)]
            stored = Signal(weights.data.shape(), name="stored")
            with m.If(marks[1][1]):
                for lane in range(cfg.lanes):
                    m.d.comb += stored[lane].eq(weights.data[lane] >> self.forward_shift)

        if cfg.die_tables:
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
        fresh = Signal(init=1)
        sums = Signal(accumulator_shape(cfg), reset_less=True)
        m.d.comb += self.sums.eq(sums)
        m.d.sync += self.done.eq(last)
        with m.If(go):
            m.d.sync += fresh.eq(last)
            for lane in range(cfg.lanes):
                m.d.sync += sums[lane].eq(Mux(fresh, 0, sums[lane]) + Mux(valid, words[lane], 0))
        return m
