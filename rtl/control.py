"""The register file, made from the register map."""

from __future__ import annotations

from amaranth.hdl import Array, Cat, Const, Module, Mux, Signal, Value, signed, unsigned
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from rtl.arith import sign_extend
from rtl.config import ChipConfig
from rtl.memory import HostBus
from rtl.neuron import constants
from rtl.registers import LAYER_OFFSET, LAYER_STRIDE, Register, global_registers, layer_registers, registers


class Control(wiring.Component):
    """All registers of :mod:`rtl.registers`; `host.read` shows the register at `host.offset` a cycle later.

    `known` and `readonly` classify `probe`, the offset of a register that a frame wants to write. `constants` are
    those of layer `layer`. `stochastic` tells that some layer fires by chance.
    """

    def __init__(self, cfg: ChipConfig) -> None:
        self.cfg = cfg
        super().__init__(
            {
                "host": In(HostBus()),
                "probe": In(8),
                "known": Out(1),
                "readonly": Out(1),
                "steps": Out(16),
                "encoding": Out(2),
                "record": Out(3 if cfg.learning else 2),
                "early_end": Out(1),
                "brief": Out(1),
                "layer": In(range(max(len(cfg.neuron_layers), 2))),
                "constants": Out(constants(cfg)),
            }
            | ({"learn_enable": Out(7), "stochastic": Out(1)} if cfg.learning else {})
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        cfg = self.cfg
        values = {}
        for register in registers(cfg):
            if not register.readonly:
                shape = signed(register.bits) if register.signed else unsigned(register.bits)
                values[register.offset] = Signal(shape, init=register.reset, name=register.name.lower())
        with m.If(self.host.write), m.Switch(self.host.offset):
            for offset, value in values.items():
                with m.Case(offset):
                    m.d.sync += value.eq(self.host.data)

        # One multiplexer over the layers serves the datapath and, while no sample runs, the host.
        names = {register.name.split("_", 1)[1]: register.offset - LAYER_OFFSET for register in layer_registers(cfg, 0)}
        layout = data.StructLayout({name: values[LAYER_OFFSET + place].shape() for name, place in names.items()})
        layers = []
        for number in range(len(cfg.neuron_layers)):
            layer = Signal(layout, name=f"layer{number}")
            for name, place in names.items():
                m.d.comb += layer[name].eq(values[LAYER_OFFSET + number * LAYER_STRIDE + place])
            layers.append(layer.as_value())
        shown = self.host.offset - LAYER_OFFSET
        chosen, index = Signal(layout), Signal.like(self.layer)
        m.d.comb += [
            index.eq(Mux(self.host.own, shown[4:], self.layer)),
            chosen.eq(Array(layers)[index]),
        ]

        with m.If(self.host.own):
            m.d.sync += self.host.read.eq(0)
            with m.Switch(self.host.offset):
                for register in global_registers(cfg):
                    with m.Case(register.offset):
                        m.d.sync += self.host.read.eq(self._shown(register, values))
            with m.If((shown >= 0) & (shown < LAYER_STRIDE * len(layers))), m.Switch(shown[:4]):
                for name, place in names.items():
                    with m.Case(place):
                        value = chosen[name]
                        m.d.sync += self.host.read.eq(sign_extend(value, 32) if value.shape().signed else value)
        with m.Switch(self.probe):
            for register in registers(cfg):
                with m.Case(register.offset):
                    m.d.comb += [self.known.eq(1), self.readonly.eq(register.readonly)]

        named = {register.name: values.get(register.offset) for register in global_registers(cfg)}
        m.d.comb += [
            self.steps.eq(named["STEPS"]),
            self.encoding.eq(named["ENCODING"]),
            self.record.eq(named["RECORD"]),
            self.early_end.eq(named["EARLY_END"]),
            self.brief.eq(named["BRIEF"]),
        ]
        k, mode = self.constants, chosen["MODE"]
        m.d.comb += [
            k.decay_syn.eq(chosen["DECAY_SYN"]),
            k.decay_mem.eq(chosen["DECAY_MEM"]),
            k.shift.eq(chosen["SHIFT"]),
            k.reset.eq(mode[0:2]),
            k.fire_once.eq(mode[2]),
            k.gate_at_threshold.eq(mode[3]),
            k.amount.eq(chosen["RESET_AMOUNT"]),
            k.refractory.eq(chosen["REFRACTORY"]),
            k.centre.eq(chosen["GATE_CENTRE"]),
            k.window.eq(chosen["GATE_WINDOW"]),
        ]
        if cfg.learning:
            modes = [data.View(layout, layer)["MODE"] for layer in layers]
            m.d.comb += [
                k.fire.eq(mode[4:6]),
                k.fire_bits.eq(chosen["FIRE_BITS"]),
                k.noise_shift.eq(chosen["NOISE"][0:4]),
                k.noise_kind.eq(chosen["NOISE"][4:6]),
                k.gradient_bits.eq(chosen["GRADIENT_BITS"]),
                k.rate.eq(chosen["RATE"]),
                k.forward_shift.eq(chosen["FORWARD_SHIFT"]),
                self.learn_enable.eq(named["LEARN_ENABLE"]),
                self.stochastic.eq(Cat(mode[4:6] for mode in modes).any()),
            ]
        return m

    @staticmethod
    def _shown(register: Register, values: dict[int, Signal]) -> Value:
        """What a read of a register of the whole chip gives."""
        return Const(register.constant, 32) if register.constant is not None else values[register.offset]
