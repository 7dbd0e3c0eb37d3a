"""Spikes under way: a ring of pending sums for every neuron (docs/chip.md, "Delays")."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Mux, Signal, signed, unsigned
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from rtl.arith import named
from rtl.config import ChipConfig
from rtl.random import deviate, draws

JITTER_RANGE_BITS = 6
"""Arrivals of one synapse that jitter can heap on one step, in bits: it moves them by 30 steps at most."""


def slots(cfg: ChipConfig) -> data.ArrayLayout:
    """For every lane a delay, or the place of a time step in the ring."""
    return data.ArrayLayout(unsigned(cfg.delay_bits), cfg.lanes)


class Pending(wiring.Component):
    """One memory for each lane: ``2**delay_bits`` pending sums of every neuron of the lane.

    With `event`, `weights` that come one cycle later are added to sums of neuron word `target`, in each lane to the one
    at its slot. With `collect`, one cycle later `sums` holds the sums at slot `now`, which start again from zero. One
    of the two can be given in every cycle, whatever went before.

    `clear` sets one word after the other to zero; `cleared` is high in the last cycle that this takes.
    """

    def __init__(self, cfg: ChipConfig, weights: data.ArrayLayout, sums: data.ArrayLayout) -> None:
        self.cfg = cfg
        super().__init__(
            {
                "event": In(1),
                "collect": In(1),
                "target": In(range(cfg.neuron_depth)),
                "slots": In(slots(cfg)),
                "now": In(cfg.delay_bits),
                "weights": In(weights),
                "sums": Out(sums),
                "clear": In(1),
                "cleared": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        depth = self.cfg.neuron_depth << self.cfg.delay_bits
        swept = Signal(range(depth))
        adding, writing = Signal(), Signal()
        m.d.comb += self.cleared.eq(swept == depth - 1)
        m.d.sync += [adding.eq(self.event), writing.eq(self.event | self.collect)]
        with m.If(self.clear):
            m.d.sync += swept.eq(Mux(self.cleared, 0, swept + 1))
        for lane in range(self.cfg.lanes):
            memory = Memory(shape=self.sums[lane].shape(), depth=depth, init=[])
            m.submodules[f"lane{lane}"] = memory
            write = memory.write_port()
            # Sees what is being written: the next command may want the same sum.
            read = memory.read_port(transparent_for=(write,))
            place = Signal(range(depth), name=f"place{lane}", reset_less=True)
            m.d.comb += [
                read.en.eq(self.event | self.collect),
                read.addr.eq(Cat(Mux(self.collect, self.now, self.slots[lane]), self.target)),
                self.sums[lane].eq(read.data),
                write.en.eq(writing | self.clear),
                write.addr.eq(place),
            ]
            m.d.sync += place.eq(read.addr)
            with m.If(adding):
                m.d.comb += write.data.eq(read.data + self.weights[lane])
            with m.If(self.clear):
                m.d.comb += write.addr.eq(swept)
        return m


class Jitter(wiring.Component):
    """Delays as the die has them: two cycles from `delays` and `draws` to `moved`."""

    LATENCY = 2

    def __init__(self, cfg: ChipConfig) -> None:
        self.cfg = cfg
        super().__init__(
            {
                "delays": In(slots(cfg)),
                "draws": In(draws(cfg.lanes)),
                "amplitude": In(8),
                "enable": In(1),
                "moved": Out(slots(cfg)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        bits = self.cfg.delay_bits
        enabled = Signal()
        m.d.sync += enabled.eq(self.enable)
        for lane in range(self.cfg.lanes):
            delay = Signal(bits, name=f"delay{lane}", reset_less=True)
            deviation = Signal(signed(7), name=f"deviation{lane}", reset_less=True)
            moved = Signal(bits, name=f"moved{lane}", reset_less=True)
            m.d.comb += self.moved[lane].eq(moved)
            with m.If(self.enable):
                m.d.sync += [delay.eq(self.delays[lane]), deviation.eq(deviate(m, self.draws[lane]))]
            with m.If(enabled):
                late = named(m, delay + ((deviation * self.amplitude + 128) >> 8), "late")
                m.d.sync += moved.eq(Mux(late < 0, 0, Mux(late >> bits != 0, (1 << bits) - 1, late)))
        return m
