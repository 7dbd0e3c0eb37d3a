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
    must pulse when the last word of the layer was updated. If `enough` is high with the last layer's, this step is
    the sample's last: `cut` tells so with `done`.

    On chips with delays a sample begins with `clear`, until `cleared`.

    If `winner` says so, the last layer is walked once more with `award` (its winner being known then), and in samples
    with `learn` every step ends with `learn_start` and waits for `learn_done`.
    """

    def __init__(self, cfg: ChipConfig) -> None:
        self.cfg, self.layers = cfg, len(cfg.neuron_layers)
        learning = {
            "winner": In(1),
            "award": Out(1),
            "learn": In(1),
            "learn_start": Out(1),
            "learn_done": In(1),
        }
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
                "enough": In(1),
                "cut": Out(1),
            }
            | ({"clear": Out(1), "cleared": In(1)} if cfg.delay_slots else {})
            | (learning if cfg.learning else {})
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        ahead = Signal(16)
        m.d.comb += ahead.eq(self.step + 1)

        def end_step() -> None:
            if self.cfg.learning:
                m.d.sync += self.award.eq(0)
            with m.If(ahead >= self.steps):
                m.d.comb += self.done.eq(1)
                m.next = "IDLE"
            with m.Elif(self.enough):
                with m.If(self.encoding):
                    m.next = "FINISH"
                with m.Else():
                    m.d.comb += [self.done.eq(1), self.cut.eq(1)]
                    m.next = "IDLE"
            with m.Else():
                m.d.sync += [self.step.eq(ahead), self.layer.eq(0)]
                with m.If(self.encoding):
                    m.next = "ENCODE"
                with m.Else():
                    m.next = "LAYER"

        def first_step() -> None:
            m.d.comb += self.encode.eq(1)
            m.next = "ENCODE"

        def prepared() -> None:
            if self.cfg.delay_slots:
                m.next = "CLEAR"
            else:
                first_step()

        with m.FSM():
            with m.State("IDLE"):
                with m.If(self.start):
                    m.d.sync += [self.step.eq(0), self.layer.eq(0)]
                    with m.If(self.stochastic):
                        m.d.comb += self.seed.eq(1)
                        m.next = "SEED"
                    with m.Else():
                        prepared()
            with m.State("SEED"), m.If(self.seeded):
                prepared()
            if self.cfg.delay_slots:
                with m.State("CLEAR"):
                    m.d.comb += self.clear.eq(1)
                    with m.If(self.cleared):
                        first_step()
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
                if self.cfg.learning:
                    with m.Elif(self.winner & ~self.award):
                        m.d.sync += self.award.eq(1)
                        m.next = "AWARD"
                    with m.Elif(self.learn):
                        m.next = "LEARN"
                with m.Else():
                    end_step()
            # The encoder is still busy with a step that will not be.
            with m.State("FINISH"), m.If(~self.encoding):
                m.d.comb += [self.done.eq(1), self.cut.eq(1)]
                m.next = "IDLE"
            if self.cfg.learning:
                with m.State("AWARD"):
                    m.d.comb += self.walk.eq(1)
                    m.next = "WAIT"
                with m.State("LEARN"):
                    m.d.comb += self.learn_start.eq(1)
                    m.next = "LEARNING"
                with m.State("LEARNING"), m.If(self.learn_done):
                    end_step()
        return m
