"""What distorts a simulated chip: transfer and gain of a synapse, and the chip-wide die registers (docs/chip.md)."""

from __future__ import annotations

from amaranth.hdl import Array, Module, Mux, Signal, Value, signed, unsigned
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from rtl.arith import least, magnitude, named, saturate
from rtl.memory import HostBus
from rtl.registers import (
    DIE_JITTER_OFFSET,
    DIE_NEUTRAL_GAIN,
    DIE_NEUTRAL_RATIO,
    DIE_NOISE_OFFSET,
    DIE_THRESHOLD_NOISE_OFFSET,
    DIE_UNLIMITED,
    TRANSFER_CLASSES,
)

GAIN_BITS = 14
LINE_BITS = 20
"""Width of offset and cap of a transfer class, hence of a transfer's magnitude."""

EFFECTIVE_BITS = 32
"""Width to which a distorted, shifted weight is clipped."""

SYNAPSE = data.StructLayout({"positive": signed(GAIN_BITS), "negative": signed(GAIN_BITS), "transfer": unsigned(3)})
"""A word of DIE_SYNAPSE and DIE_BIAS."""

DIE_NEUTRAL_SYNAPSE = {"positive": DIE_NEUTRAL_GAIN, "negative": DIE_NEUTRAL_GAIN, "transfer": 0}
DIE_NEUTRAL_NEURON = {"threshold": DIE_NEUTRAL_RATIO, "leak": DIE_NEUTRAL_RATIO}

NEURON = data.StructLayout({"threshold": signed(16), "leak": unsigned(16)})
"""A word of DIE_NEURON."""

TRANSFER = data.StructLayout({"slope": 9, "offset": LINE_BITS, "cap": LINE_BITS})
"""One class of the transfer curve."""


def transfer(m: Module, weight: Value, curve: data.View) -> Value:
    """Signed transfer of a weight in sixteenths: the least of three lines, with the weight's sign."""
    size = magnitude(m, weight)
    line = ((size * curve.slope) >> 4) + curve.offset
    bent = named(m, least(m, size << 4, line, curve.cap)[:LINE_BITS], "least")
    return Mux(weight < 0, -bent, bent)


def amplify(m: Module, bent: Value, gain: Value, shift: Value) -> Value:
    """Distorted weight, shifted to the scale of the synaptic current."""
    return saturate(m, (((bent * gain) << shift) + 2048) >> 12, EFFECTIVE_BITS)


class DieGlobals(wiring.Component):
    """Region DIE_GLOBAL: the transfer classes, if there are, and the amplitudes of what is drawn anew. Write-only."""

    def __init__(self, *, delays: bool, synapses: bool) -> None:
        self.delays, self.synapses = delays, synapses
        super().__init__(
            {
                "host": In(HostBus()),
                "amplitude": Out(16),
                "threshold_amplitude": Out(10),
            }
            | ({"curves": Out(data.ArrayLayout(TRANSFER, TRANSFER_CLASSES))} if synapses else {})
            | ({"jitter_amplitude": Out(8)} if delays else {})
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        amplitudes = {DIE_NOISE_OFFSET: self.amplitude, DIE_THRESHOLD_NOISE_OFFSET: self.threshold_amplitude}
        if self.delays:
            amplitudes[DIE_JITTER_OFFSET] = self.jitter_amplitude
        with m.If(self.host.write):
            for offset, amplitude in amplitudes.items():
                with m.If(self.host.offset == offset):
                    m.d.sync += amplitude.eq(self.host.data)
        if self.synapses:
            neutral = {"slope": 0, "offset": DIE_UNLIMITED, "cap": DIE_UNLIMITED}
            curves = Signal(data.ArrayLayout(TRANSFER, TRANSFER_CLASSES), init=[neutral] * TRANSFER_CLASSES)
            m.d.comb += self.curves.eq(curves)
            with m.If(self.host.write):
                for index in range(TRANSFER_CLASSES):
                    for field, name in enumerate(("slope", "offset", "cap")):
                        with m.If(self.host.offset == 4 * index + field):
                            m.d.sync += curves[index][name].eq(self.host.data)
        return m


class Distorter(wiring.Component):
    """Transfer and gain for one word of weights; two cycles from `weights` and `tables` to `effective`."""

    LATENCY = 2

    def __init__(self, lanes: int, weight_bits: int) -> None:
        self.lanes, self.weight_bits = lanes, weight_bits
        super().__init__(
            {
                "weights": In(data.ArrayLayout(signed(weight_bits), lanes)),
                "tables": In(data.ArrayLayout(SYNAPSE, lanes)),
                "curves": In(data.ArrayLayout(TRANSFER, TRANSFER_CLASSES)),
                "shift": In(4),
                "enable": In(1),
                "effective": Out(data.ArrayLayout(signed(EFFECTIVE_BITS), lanes)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        curves = Array(self.curves[index] for index in range(TRANSFER_CLASSES))
        enabled = Signal()
        m.d.sync += enabled.eq(self.enable)
        for lane in range(self.lanes):
            weight, table = self.weights[lane], self.tables[lane]
            bent = Signal(signed(LINE_BITS + 1), name=f"bent{lane}", reset_less=True)
            gain = Signal(signed(GAIN_BITS), name=f"gain{lane}", reset_less=True)
            effective = Signal(signed(EFFECTIVE_BITS), name=f"effective{lane}", reset_less=True)
            curve = Signal(TRANSFER, name=f"curve{lane}")
            m.d.comb += self.effective[lane].eq(effective)
            with m.If(self.enable):
                m.d.comb += curve.eq(curves[table.transfer])
                m.d.sync += [
                    bent.eq(transfer(m, weight, curve)),
                    gain.eq(Mux(weight < 0, table.negative, table.positive)),
                ]
            with m.If(enabled):
                m.d.sync += effective.eq(amplify(m, bent, gain, self.shift))
        return m
