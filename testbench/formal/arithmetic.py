"""Arithmetic of the contract (docs/chip.md, "One time step"), for all inputs."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from unittest.mock import patch

from amaranth.hdl import Const, Module, Mux, Signal, Value, signed, unsigned

from rtl import arith
from rtl.config import ChipConfig
from rtl.neuron import NeuronUpdate
from rtl.registers import Reset
from rtl.synapses import Synapses
from testbench.formal.bench import Bench, Inside
from testbench.formal.solve import Group, Mutant, Proof


def clipped(value: Value, bits: int) -> Value:
    """``sat`` of the contract, by comparisons."""
    low, high = -(1 << (bits - 1)), (1 << (bits - 1)) - 1
    return Mux(value < low, low, Mux(value > high, high, value))


def saturate(t: Bench, wide: int, bits: int, block: Callable[[Module, Value, int], Value] = arith.saturate) -> None:
    value = t.free(signed(wide), "value")
    result = Signal(signed(bits))
    t.m.d.comb += result.eq(block(t.m, value, bits))
    t.claim(result == clipped(value, bits))


def wrap(m: Module, value: Value, bits: int) -> Value:
    """Saturation forgotten."""
    return value[:bits].as_signed()


def decay(t: Bench, bits: int, block: Callable[[Value, Value], Value] = arith.decay) -> None:
    """``|result| <= |state|`` and never of the other sign, so that what is left lies between the state and zero."""
    state, factor = t.free(signed(bits), "state"), t.free(unsigned(arith.DECAY_BITS + 1), "factor")
    t.assume(factor <= 1 << arith.DECAY_BITS)
    lost, left = Signal(signed(bits + arith.DECAY_BITS + 2)), Signal(signed(bits + arith.DECAY_BITS + 3))
    t.m.d.comb += [lost.eq(block(state, factor)), left.eq(state - lost)]
    t.claim(Mux(state < 0, (lost >= state) & (lost <= 0), (lost <= state) & (lost >= 0)))
    t.claim(Mux(state < 0, (left >= state) & (left <= 0), (left <= state) & (left >= 0)))
    t.claim((factor != 0) | (lost == 0))
    t.claim((factor != 1 << arith.DECAY_BITS) | (left == 0))


def decay_rounds(t: Bench, bits: int, block: Callable[[Value, Value], Value] = arith.decay) -> None:
    """The result is the nearest integer to ``state * factor / 4096``, halves up: two inequalities without a shift."""
    state, factor = t.free(signed(bits), "state"), t.free(unsigned(arith.DECAY_BITS + 1), "factor")
    width = bits + arith.DECAY_BITS + 4
    product, lost = Signal(signed(width)), Signal(signed(width))
    t.m.d.comb += [product.eq(state * factor), lost.eq(block(state, factor))]
    unit = 1 << arith.DECAY_BITS
    t.claim(2 * unit * lost <= 2 * product + unit)
    t.claim(2 * unit * lost > 2 * product - unit)


def truncated(state: Value, factor: Value) -> Value:
    """The half that rounds forgotten."""
    return (state * factor) >> arith.DECAY_BITS


def magnitude(t: Bench, bits: int, block: Callable[[Module, Value], Value] = arith.magnitude) -> None:
    value = t.free(signed(bits), "value")
    result = block(t.m, value)
    t.claim(result == Mux(value < 0, 0 - value, value))


def least(t: Bench, bits: int, block: Callable[..., Value] = arith.least) -> None:
    values = [t.free(unsigned(bits), f"value{number}") for number in range(3)]
    result = Signal(bits)
    t.m.d.comb += result.eq(block(t.m, *values))
    for value in values:
        t.claim(result <= value)
    t.claim((result == values[0]) | (result == values[1]) | (result == values[2]))


def signs(t: Bench, bits: int, wide: int) -> None:
    value = t.free(signed(bits), "value")
    t.claim(arith.sign_extend(value, wide).as_signed() == value)


def lowest(t: Bench, bits: int) -> None:
    mask = t.free(bits, "mask")
    index = arith.lowest_one(t.m, mask)
    others = Signal(bits)
    t.m.d.comb += others.eq((1 << index) - 1)
    t.claim(Mux(mask == 0, index == 0, mask.bit_select(index, 1) & ((mask & others) == 0)))


def neuron(t: Bench, cfg: ChipConfig, block: type[NeuronUpdate] = NeuronUpdate) -> None:
    """The pipeline's new current, membrane, gate and reset are the contract's, exact where the contract is.

    What decays take away is any number between 0 and the state: that is all the proofs of `decay` leave.
    """
    m, dut, bits = t.m, block(cfg), cfg.state_bits
    losses: list[Signal] = []

    def any_loss(state: Value, factor: Value) -> Signal:
        losses.append(t.free(signed(bits + 1), f"loss{len(losses)}"))
        t.assume(Mux(state < 0, (losses[-1] >= state) & (losses[-1] <= 0), (losses[-1] <= state) & (losses[-1] >= 0)))
        return losses[-1]

    with patch("rtl.neuron.decay", any_loss):
        inside = Inside(dut)
    m.submodules.dut = inside.fragment
    k = dut.constants
    t.drive(dut.last, dut.word, dut.base, dut.output_layer, dut.first_step, dut.step, dut.sums)
    m.d.comb += Value.cast(k).eq(t.constant(len(Value.cast(k)), "layer_constants"))

    def ago(value: Value, cycles: int) -> Value:
        for _ in range(cycles):
            value = t.past(value)
        return value

    def first_lane(name: str) -> Value:
        lanes = inside[name]
        return lanes[: len(lanes) // cfg.lanes].as_signed()

    # Lane 0 stands for all of them. What it begins with, what comes in, and its threshold, each in its cycle.
    start_current, start_membrane = ago(inside["start_current0"], 3), ago(inside["start_membrane0"], 3)
    loss_current, loss_membrane = (ago(loss, 3) for loss in losses[:2])
    drive, theta = ago(first_lane("drive"), 2), ago(first_lane("theta"), 1)
    current, membrane, after = (Signal(signed(bits), name=name) for name in ("current", "membrane", "after"))
    distance = Signal(signed(bits + 4))
    trace = dut.trace
    m.d.comb += [
        current.eq(clipped(start_current - loss_current + drive, bits)),
        membrane.eq(clipped(start_membrane - loss_membrane + current, bits)),
        distance.eq(membrane - k.centre - Mux(k.gate_at_threshold, theta, 0)),
        after.eq(membrane),
    ]
    with m.If(trace.spikes[0] & (k.reset == Reset.ZERO)):
        m.d.comb += after.eq(0)
    with m.If(trace.spikes[0] & (k.reset == Reset.SUBTRACT)):
        m.d.comb += after.eq(clipped(membrane - k.amount, bits))
    stages = Synapses.latency(cfg) + NeuronUpdate.STAGES
    with m.If(dut.passed & ago(Const(1), stages)):
        t.claim(trace.before[0] == start_membrane)
        t.claim(first_lane("new_currents") == current)
        t.claim(trace.after[0] == after)
        t.claim(~trace.spikes[0] | (membrane >= theta))
        t.claim(trace.gates[0] == (Mux(distance < 0, -distance, distance) < k.window))
    t.reach(dut.passed & trace.spikes[0])


def proof(name: str, claim: str, build: Callable[[Bench], None], **mutants: Callable[[Bench], None]) -> Proof:
    return Proof(
        name,
        claim,
        build,
        combinational=True,
        mutants={broken.replace("_", " "): Mutant(mutant) for broken, mutant in mutants.items()},
    )


GROUP = Group(
    "Arithmetic",
    "The functions of `rtl/arith.py`, for all inputs; the contract is written with comparisons and exact products. "
    "The pipeline of "
    "`NeuronUpdate` is proved with a decay that takes any amount between 0 and the state away, which is what the "
    "proofs of "
    "`decay` leave of it: its product is no longer in the way, and the states have their real width.",
    (
        *(
            proof(
                f"saturate-{wide}-{bits}",
                f"`saturate` of {wide} to {bits} bits clips",
                partial(saturate, wide=wide, bits=bits),
                saturation_forgotten=partial(saturate, wide=wide, bits=bits, block=wrap),
            )
            for wide, bits in ((27, 16), (42, 24), (16, 8))
        ),
        *(
            proof(
                f"decay-{bits}",
                f"`decay` of {bits} bits by 0 to 4096: what is lost and what is left lie between 0 and the state, "
                "nothing is lost at 0 and all at 4096",
                partial(decay, bits=bits),
            )
            for bits in (16, 24)
        ),
        *(
            proof(
                f"decay-rounds-{bits}",
                f"`decay` of {bits} bits is the nearest integer to state * factor / 4096, halves up",
                partial(decay_rounds, bits=bits),
                halves_down=partial(decay_rounds, bits=bits, block=truncated),
            )
            for bits in (16, 24)
        ),
        *(
            proof(
                f"magnitude-{bits}",
                f"`magnitude` of {bits} bits, the lowest value included",
                partial(magnitude, bits=bits),
            )
            for bits in (18, 26)
        ),
        proof("least-24", "`least` of three values of 24 bits is the smallest of them", partial(least, bits=24)),
        proof("sign-extend-9-32", "`sign_extend` of 9 to 32 bits keeps the value", partial(signs, bits=9, wide=32)),
        proof(
            "lowest-one-32",
            "`lowest_one` of 32 bits is the place of the lowest one, 0 if there is none",
            partial(lowest, bits=32),
        ),
        *(
            Proof(
                f"neuron-{bits}",
                f"`NeuronUpdate` without die, states of {bits} bits: new current, membrane, gate and reset are the "
                f"contract's for "
                "any state, loss by decay, input, threshold and registers; no intermediate result overflows",
                partial(neuron, cfg=ChipConfig((4, 4), lanes=4, state_bits=bits, die_tables=False, trace=True)),
                steps=6,
                reached=9,
            )
            for bits in (16, 24)
        ),
    ),
)
