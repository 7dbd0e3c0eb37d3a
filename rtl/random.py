"""The random source: banks of xorshift generators and the unit that seeds them (docs/chip.md, "Random numbers")."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Signal, Value, signed, unsigned
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from rtl.arith import named

DRAW_BITS = 16
"""Random bits that a lane gets with each draw; two lanes share one 32-bit generator."""

WARM_UP = 4
"""Rounds of the seeding sequence that are thrown away."""

GOLDEN_RATIO = 0x9E3779B9


def draws(lanes: int) -> data.ArrayLayout:
    """Shape of one draw of all lanes."""
    return data.ArrayLayout(unsigned(DRAW_BITS), lanes)


def deviate(m: Module, draw: Value) -> Signal:
    """Sum of a draw's four nibbles, centred: nearly Gaussian from -30 to 30, standard deviation 9.22."""
    total = Signal(signed(7), name="deviate")
    nibbles = [draw[4 * index : 4 * index + 4] for index in range(4)]
    m.d.comb += total.eq(sum(nibbles[1:], nibbles[0]) - 30)
    return total


def xorshift(m: Module, state: Value) -> Value:
    """Next state of Marsaglia's 32-bit generator (13, 17, 5)."""
    state = named(m, state ^ (state << 13)[:32], "xor1")
    state = named(m, state ^ (state >> 17), "xor2")
    return state ^ (state << 5)[:32]


def seed_round(m: Module, h: Value) -> Value:
    """One round of the seeding sequence: additions make it non-linear, unlike the generators themselves."""
    h = named(m, (h + GOLDEN_RATIO)[:32], "add1")
    h = named(m, (h + (h << 10))[:32], "add2")
    h = named(m, h ^ (h >> 6), "xor1")
    h = named(m, (h + (h << 3))[:32], "add3")
    h = named(m, h ^ (h >> 11), "xor2")
    return (h + (h << 15))[:32]


class RandomBank(wiring.Component):
    """`lanes / 2` generators that advance together.

    `values` are the draws of the present state, valid in every cycle; `advance` moves on to the next state at the end
    of the cycle. `shift` pushes `seed | 1` into the generator of lanes 0 and 1 and every state one generator up.
    With `pairs`, `following` are the draws of the next state, and `twice` makes `advance` pass over it.
    """

    def __init__(self, lanes: int, *, pairs: bool = False) -> None:
        self.lanes, self.pairs = lanes, pairs
        super().__init__(
            {
                "advance": In(1),
                "shift": In(1),
                "seed": In(32),
                "values": Out(draws(lanes)),
            }
            | ({"twice": In(1), "following": Out(draws(lanes))} if pairs else {})
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        states = [Signal(32, init=1, name=f"state{index}") for index in range(self.lanes // 2)]
        previous: Value = self.seed | 1
        following: list[Value] = []
        for state in states:
            one: Value = xorshift(m, state)
            step = one
            if self.pairs:
                one = named(m, one, "one")
                following.append(one)
                step = named(m, one, "step")
                with m.If(self.twice):
                    m.d.comb += step.eq(xorshift(m, one))
            with m.If(self.shift):
                m.d.sync += state.eq(previous)
            with m.Elif(self.advance):
                m.d.sync += state.eq(step)
            previous = state
        m.d.comb += self.values.eq(Cat(*states))
        if self.pairs:
            m.d.comb += self.following.eq(Cat(*following))
        return m


class Seeder(wiring.Component):
    """Fills the banks from a sample's seed, one 32-bit word a cycle.

    `start` latches `seed`; `done` is high in the last of the ``4 + words of all banks`` cycles that follow.
    """

    def __init__(self, words: int, banks: int) -> None:
        self.words, self.banks = words, banks
        super().__init__(
            {
                "start": In(1),
                "seed": In(32),
                "done": Out(1),
                "shift": Out(banks),
                "word": Out(32),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        total = WARM_UP + self.words * self.banks
        state = Signal(32)
        left = Signal(range(total + 1))
        m.d.comb += self.word.eq(seed_round(m, state))
        with m.If(self.start):
            m.d.sync += [state.eq(self.seed), left.eq(total)]
        with m.Elif(left != 0):
            m.d.sync += [state.eq(self.word), left.eq(left - 1)]
            for bank in range(self.banks):
                after = self.words * (self.banks - bank)
                m.d.comb += self.shift[bank].eq((left <= after) & (left > after - self.words))
            m.d.comb += self.done.eq(left == 1)
        return m
