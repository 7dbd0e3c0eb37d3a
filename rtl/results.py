"""Reads the results of a sample out of the neuron memories, as the end of an answer."""

from __future__ import annotations

from amaranth.hdl import Array, Const, Module, Signal, Value, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from rtl.arith import named, sign_extend
from rtl.config import ChipConfig
from rtl.link import WORD
from rtl.neuron import READOUT


class Results(wiring.Component):
    """After `start`: cycles, input spikes, read-out of every neuron, potentials of the last layer; one word a cycle.

    `brief` leaves the potentials out. With `learned` there follow the numbers of gradient spikes of every neuron.

    `reading` selects the memories' read ports, whose group of neurons at `address` must be there in the next cycle.
    """

    def __init__(self, cfg: ChipConfig) -> None:
        self.cfg = cfg
        self.potential_bits = cfg.state_bits + 16
        width = cfg.neuron_width
        super().__init__(
            {
                "start": In(1),
                "brief": In(1),
                "cycles": In(32),
                "input_spikes": In(32),
                "reading": Out(1),
                "address": Out(range(cfg.neuron_depth * cfg.neuron_groups)),
                "readout": In(data.ArrayLayout(READOUT, width)),
                "potentials": In(data.ArrayLayout(signed(self.potential_bits), width)),
                "words": Out(stream.Signature(WORD)),
            }
            | ({"learned": In(1), "gradients": In(data.ArrayLayout(32, width))} if cfg.learning else {})
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        cfg, lanes = self.cfg, self.cfg.neuron_width
        word, lane, high = Signal(range(max(cfg.neuron_depth * cfg.neuron_groups, 2))), Signal(range(lanes)), Signal()
        bases = [base * cfg.neuron_groups for base in cfg.neuron_base]
        ends = [base + (size - 1) // lanes for base, size in zip(bases, cfg.neuron_layers, strict=True)]
        last_word = ends[-1]

        # Lanes, and whole groups, past the end of a layer hold no neuron.
        last_lane, following = Signal(range(lanes), init=lanes - 1), Signal.like(word)
        m.d.comb += following.eq(word + 1)
        with m.Switch(word):
            for end, after, size in zip(ends, [*bases[1:], 0], cfg.neuron_layers, strict=True):
                with m.Case(end):
                    m.d.comb += [last_lane.eq((size - 1) % lanes), following.eq(after)]
            with m.Default():
                m.d.comb += last_lane.eq(lanes - 1)

        learned: Value | Const = self.learned if cfg.learning else Const(0)
        out, ready = self.words.payload, self.words.ready
        m.d.comb += self.address.eq(word)

        with m.FSM() as fsm:
            with m.State("IDLE"), m.If(self.start):
                m.d.sync += [word.eq(0), lane.eq(0), high.eq(0)]
                m.next = "CYCLES"
            with m.State("CYCLES"):
                m.d.comb += out.data.eq(self.cycles)
                with m.If(ready):
                    m.next = "SPIKES"
            with m.State("SPIKES"):
                m.d.comb += out.data.eq(self.input_spikes)
                with m.If(ready):
                    m.next = "NEURONS"
            with m.State("NEURONS"):
                m.d.comb += [
                    out.data.eq(Array(Value.cast(self.readout[index]) for index in range(lanes))[lane]),
                    out.last.eq(self.brief & (lane == last_lane) & (word == last_word) & ~learned),
                ]
                with m.If(ready):
                    m.d.sync += lane.eq(lane + 1)
                    with m.If(lane == last_lane):
                        m.d.sync += lane.eq(0)
                        with m.If((word == last_word) & self.brief):
                            m.d.comb += self.address.eq(0)
                            m.next = "IDLE"
                            if cfg.learning:
                                with m.If(learned):
                                    m.next = "GRADIENTS"
                        with m.Elif(word == last_word):
                            m.d.comb += self.address.eq(bases[-1])
                            m.next = "POTENTIALS"
                        with m.Else():
                            m.d.comb += self.address.eq(following)
                        m.d.sync += word.eq(self.address)
            with m.State("POTENTIALS"):
                potential = named(m, Array(self.potentials[index] for index in range(lanes))[lane], "potential")
                m.d.comb += [
                    out.data.eq(sign_extend(potential, 64).word_select(high, 32)),
                    out.last.eq(high & (lane == last_lane) & (word == last_word) & ~learned),
                ]
                with m.If(ready):
                    m.d.sync += high.eq(~high)
                    with m.If(high):
                        m.d.sync += lane.eq(lane + 1)
                        with m.If(lane == last_lane):
                            m.d.sync += lane.eq(0)
                            with m.If(word == last_word):
                                m.next = "IDLE"
                                if cfg.learning:
                                    with m.If(learned):
                                        m.d.comb += self.address.eq(0)
                                        m.d.sync += word.eq(0)
                                        m.next = "GRADIENTS"
                            with m.Else():
                                m.d.comb += self.address.eq(following)
                                m.d.sync += word.eq(following)
            if cfg.learning:
                with m.State("GRADIENTS"):
                    m.d.comb += [
                        out.data.eq(Array(self.gradients[index] for index in range(lanes))[lane]),
                        out.last.eq((lane == last_lane) & (word == last_word)),
                    ]
                    with m.If(ready):
                        m.d.sync += lane.eq(lane + 1)
                        with m.If(lane == last_lane):
                            m.d.sync += lane.eq(0)
                            with m.If(word == last_word):
                                m.next = "IDLE"
                            with m.Else():
                                m.d.comb += self.address.eq(following)
                                m.d.sync += word.eq(following)
        m.d.comb += [self.reading.eq(~fsm.ongoing("IDLE")), self.words.valid.eq(self.reading)]
        return m
