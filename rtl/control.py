"""The register file, made from the register map."""

from __future__ import annotations

from amaranth.hdl import Array, Cat, Module, Signal, signed, unsigned
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from rtl.arith import sign_extend
from rtl.config import ChipConfig
from rtl.memory import HostBus
from rtl.neuron import constants
from rtl.registers import Register, global_registers, layer_registers, registers


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

        with m.If(self.host.own), m.Switch(self.host.offset):
            for register in registers(cfg):
                with m.Case(register.offset):
                    m.d.sync += self.host.read.eq(self._shown(register, values))
            with m.Default():
                m.d.sync += self.host.read.eq(0)
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
        layers, firing = [], []
        for layer in range(len(cfg.neuron_layers)):
            names = {
                register.name.split("_", 1)[1]: values[register.offset] for register in layer_registers(cfg, layer)
            }
            k = Signal(constants(cfg), name=f"constants{layer}")
            mode = names["MODE"]
            m.d.comb += [
                k.decay_syn.eq(names["DECAY_SYN"]),
                k.decay_mem.eq(names["DECAY_MEM"]),
                k.shift.eq(names["SHIFT"]),
                k.reset.eq(mode[0:2]),
                k.fire_once.eq(mode[2]),
                k.gate_at_threshold.eq(mode[3]),
                k.amount.eq(names["RESET_AMOUNT"]),
                k.refractory.eq(names["REFRACTORY"]),
                k.centre.eq(names["GATE_CENTRE"]),
                k.window.eq(names["GATE_WINDOW"]),
            ]
            if cfg.learning:
                m.d.comb += [
                    k.fire.eq(mode[4:6]),
                    k.fire_bits.eq(names["FIRE_BITS"]),
                    k.noise_shift.eq(names["NOISE"][0:4]),
                    k.noise_kind.eq(names["NOISE"][4:6]),
                    k.gradient_bits.eq(names["GRADIENT_BITS"]),
                    k.rate.eq(names["RATE"]),
                    k.forward_shift.eq(names["FORWARD_SHIFT"]),
                ]
                firing.append(k.fire.any())
            layers.append(k.as_value())
        m.d.comb += self.constants.eq(Array(layers)[self.layer])
        if cfg.learning:
            m.d.comb += [self.learn_enable.eq(named["LEARN_ENABLE"]), self.stochastic.eq(Cat(*firing).any())]
        return m

    @staticmethod
    def _shown(register: Register, values: dict[int, Signal]) -> object:
        """What a read of the register gives: signed ones extended to 32 bits."""
        if register.readonly:
            return register.constant
        value = values[register.offset]
        return sign_extend(value, 32) if register.signed else value
