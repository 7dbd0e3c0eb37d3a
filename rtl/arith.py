"""Arithmetic of the contract in Amaranth (docs/chip.md, "One time step").

An Amaranth expression that is used twice becomes hardware twice. Whatever a function here needs more than once is
therefore given a name, a combinational signal in the module `m`.
"""

from __future__ import annotations

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, signed

DECAY_BITS = 12
"""Decays are fractions of 2**12."""


def named(m: Module, value: Value, name: str = "value") -> Signal:
    """The value of an expression as a signal, so that it is computed once however often it is used."""
    signal = Signal(value.shape(), name=name)
    m.d.comb += signal.eq(value)
    return signal


def sign_extend(value: Value, bits: int) -> Value:
    """The bits of a signed value, `bits` of them. The value should have a name."""
    return Cat(value, value[-1].replicate(bits - len(value)))


def lowest_one(m: Module, mask: Value) -> Signal:
    """Index of the lowest bit that is set (0 if there is none)."""
    lane = Signal(range(len(mask)), name="lowest")
    for index in reversed(range(len(mask))):
        with m.If(mask[index]):
            m.d.comb += lane.eq(index)
    return lane


def magnitude(m: Module, value: Value) -> Signal:
    """Absolute value of a signed one, unsigned and as wide."""
    value = named(m, value, "signed")
    return named(m, Mux(value < 0, -value, value)[: len(value)], "magnitude")


def least(m: Module, *values: Value) -> Value:
    """The smallest of some values."""
    smallest, *others = values
    for other in others:
        smallest, other = named(m, smallest, "one"), named(m, other, "other")
        smallest = Mux(smallest < other, smallest, other)
    return smallest


def saturate(m: Module, value: Value, bits: int) -> Value:
    """Clip a signed value to `bits` bits, signed."""
    if len(value) <= bits:
        return value
    value = named(m, value, "wide")
    sign, top = value[-1], value[bits - 1 :]
    limit = Mux(sign, Const(-(1 << (bits - 1)), signed(bits)), Const((1 << (bits - 1)) - 1, signed(bits)))
    return Mux(~top.any() | top.all(), value[:bits].as_signed(), limit)


def decay(state: Value, factor: Value) -> Value:
    """What a state loses in one step: ``(state * factor + 2048) >> 12``."""
    return (state * factor + (1 << (DECAY_BITS - 1))) >> DECAY_BITS
