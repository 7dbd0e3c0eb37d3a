"""Walks a sample through its time steps and layers (docs/cycles.md counts the cycles)."""

from __future__ import annotations

from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from rtl.config import ChipConfig


class Sequencer(wiring.Component):
    """Starts seeder, encoder and walker at the right times.

    `start` begins a sample of `steps` steps, `done` pulses in its last cycle. `walk` starts the walker on `layer` in
    step `step`; `encode` starts the encoder on `encode_step`, which is one step ahead of the layers. `layer_done`
    must pulse when the last word of the layer was updated.
    """

    def __init__(self, cfg: ChipConfig) -> None:
        self.cfg = cfg
        self.layers = len(cfg.neuron_layers)
        super().__init__(
            {
                "start": In(1),
                "steps": In(16),
                "stochastic": In(1),
                "done": Out(1),
                "seed": Out(1),
                "seeded": In(1),
                "encode": Out(1),
                "encode_step": Out(16),
                "encoding": In(1),
                "walk": Out(1),
                "layer": Out(range(max(self.layers, 2))),
                "step": Out(16),
                "layer_done": In(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        ahead = Signal(16)
        m.d.comb += ahead.eq(self.step + 1)
        with m.FSM():
            with m.State("IDLE"):
                with m.If(self.start):
                    m.d.sync += [self.step.eq(0), self.layer.eq(0)]
                    with m.If(self.stochastic):
                        m.d.comb += self.seed.eq(1)
                        m.next = "SEED"
                    with m.Else():
                        m.d.comb += self.encode.eq(1)
                        m.next = "ENCODE"
            with m.State("SEED"), m.If(self.seeded):
                m.d.comb += self.encode.eq(1)
                m.next = "ENCODE"
            with m.State("ENCODE"), m.If(~self.encoding):
                m.next = "LAYER"
            with m.State("LAYER"):
                m.d.comb += self.walk.eq(1)
                with m.If((self.layer == 0) & (ahead < self.steps)):
                    m.d.comb += [self.encode.eq(1), self.encode_step.eq(ahead)]
                m.next = "WAIT"
            with m.State("WAIT"), m.If(self.layer_done):
                with m.If(self.layer != self.layers - 1):
                    m.d.sync += self.layer.eq(self.layer + 1)
                    m.next = "LAYER"
                with m.Elif(ahead >= self.steps):
                    m.d.comb += self.done.eq(1)
                    m.next = "IDLE"
                with m.Else():
                    m.d.sync += [self.step.eq(ahead), self.layer.eq(0)]
                    with m.If(self.encoding):
                        m.next = "ENCODE"
                    with m.Else():
                        m.next = "LAYER"
        return m
