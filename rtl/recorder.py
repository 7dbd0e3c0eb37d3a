"""Serialises spike and gate rasters into the answer while a sample runs."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.fifo import SyncFIFOBuffered
from amaranth.lib.wiring import In, Out

from rtl.config import ChipConfig
from rtl.registers import RECORD_GATE, RECORD_RASTER


class Recorder(wiring.Component):
    """Takes the masks of every updated neuron word (`take`) and sends them as words of 32 lanes.

    `min_pass` is the number of words that one neuron word makes: the walker spends at least as many cycles on it.
    `full` asks the walker to hold when the link does not keep up; there is still room for all words under way then.
    A learner sends positive and negative gradient spikes with `take_gradient`, `2 * ceil(lanes / 32)` cycles apart.
    """

    DEPTH = 64
    RESERVE = 40

    def __init__(self, cfg: ChipConfig) -> None:
        self.cfg = cfg
        self.chunks = -(-cfg.lanes // 32)
        gradients = {"take_gradient": In(1), "positive": In(cfg.lanes), "negative": In(cfg.lanes)}
        super().__init__(
            {
                "record": In(2),
                "take": In(1),
                "spikes": In(cfg.lanes),
                "gates": In(cfg.lanes),
                "min_pass": Out(4),
                "full": Out(1),
                "empty": Out(1),
                "output": Out(stream.Signature(32)),
            }
            | (gradients if cfg.learning else {})
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        chunks = self.chunks
        raster, gate = self.record[RECORD_RASTER], self.record[RECORD_GATE]
        m.d.comb += self.min_pass.eq(Mux(raster & gate, 2 * chunks, Mux(raster | gate, chunks, 0)))

        m.submodules.fifo = fifo = SyncFIFOBuffered(width=32, depth=self.DEPTH)
        first, second = Signal(32 * chunks), Signal(32 * chunks)
        words = Signal(2 * 32 * chunks)
        left = Signal(range(2 * chunks + 1))
        with m.If(self.take & (self.min_pass != 0)):
            m.d.comb += [first.eq(Mux(raster, self.spikes, self.gates)), second.eq(self.gates)]
            m.d.sync += [words.eq(Cat(first, second)), left.eq(self.min_pass)]
        if self.cfg.learning:
            with m.Elif(self.take_gradient):
                m.d.comb += [first.eq(self.positive), second.eq(self.negative)]
                m.d.sync += [words.eq(Cat(first, second)), left.eq(2 * chunks)]
        with m.Elif(left != 0):
            m.d.comb += [first.eq(Mux(raster, self.spikes, self.gates)), second.eq(self.gates)]
            m.d.sync += [words.eq(words >> 32), left.eq(left - 1)]
        m.d.comb += [
            fifo.w_data.eq(words[:32]),
            fifo.w_en.eq(left != 0),
            self.full.eq(fifo.level > self.DEPTH - self.RESERVE),
            self.empty.eq((left == 0) & (fifo.level == 0)),
            self.output.valid.eq(fifo.r_rdy),
            self.output.payload.eq(fifo.r_data),
            fifo.r_en.eq(self.output.ready),
        ]
        return m
