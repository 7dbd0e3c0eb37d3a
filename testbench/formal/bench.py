"""What a proof is written with: free inputs, assumptions and claims around a block, all in Amaranth."""

from __future__ import annotations

from typing import Any

from amaranth.back import rtlil
from amaranth.hdl import (
    Assert,
    Assume,
    ClockDomain,
    Cover,
    Elaboratable,
    Fragment,
    Instance,
    Module,
    Signal,
    Value,
)
from amaranth.lib import wiring
from amaranth.lib.memory import ReadPort, WritePort
from amaranth.utils import ceil_log2

ANY_CONSTANT = "any_constant"
"""Cell type that becomes Yosys's ``$anyconst``, a name that Amaranth does not write."""


class Bench:
    """Surroundings of a block under proof.

    `m` takes the block as a submodule and whatever logic the claims need. Its clock domain `sync` has no reset: a proof
    begins with the state after power-up.
    """

    def __init__(self) -> None:
        self.m = Module()
        clock = ClockDomain("sync", reset_less=True)
        self.m.domains += clock
        self._ports = [clock.clk]

    def free(self, shape: Any, name: str) -> Any:
        """An input that can have any value in every cycle."""
        signal = Signal(shape, name=name)
        self._ports.append(Value.cast(signal))
        return signal

    def constant(self, shape: Any, name: str) -> Any:
        """A value that can be any, but is the same in all cycles."""
        signal = Signal(shape, name=name)
        value = Value.cast(signal)
        self.m.submodules += Instance(ANY_CONSTANT, p_WIDTH=len(value), o_Y=value)
        if isinstance(shape, range):
            self.assume(signal < shape.stop)
        return signal

    def held(self, shape: Any, name: str, until: Value) -> Any:
        """An input that changes only in the cycle after one with `until`."""
        signal = self.free(shape, name)
        value = Value.cast(signal)
        self.assume(self.past(until, init=1) | (value == self.past(value)))
        return signal

    def drive(self, *inputs: Any) -> None:
        """Leave these inputs of a block to the solver."""
        for number, signal in enumerate(inputs):
            value = Value.cast(signal)
            if len(value):
                self.m.d.comb += value.eq(self.free(len(value), f"free{len(self._ports)}_{number}"))

    def assume(self, condition: Any) -> None:
        """Consider only what the environment may do: `condition` holds in every cycle."""
        self.m.d.comb += Assume(condition)

    def claim(self, condition: Any) -> None:
        """What is to be proved: `condition` holds in every cycle."""
        self.m.d.comb += Assert(condition, src_loc_at=1)

    def reach(self, condition: Any) -> None:
        """Something that must be possible under the assumptions; a proof about nothing fails here."""
        self.m.d.comb += Cover(condition, src_loc_at=1)

    def past(self, value: Any, init: int | None = None) -> Any:
        """The value in the cycle before; in the first one `init`, or 0."""
        signal = Signal(value.shape(), init=init)
        self.m.d.sync += signal.eq(value)
        return signal

    def rtlil(self) -> str:
        """The whole of it for Yosys, the module `top`."""
        return rtlil.convert(self.m, ports=self._ports, name="top")


class Inside:
    """An elaborated block whose inner signals claims may speak of; `fragment` is then the submodule of the bench."""

    def __init__(self, block: Elaboratable) -> None:
        self.fragment = Fragment.get(block, None)
        self._ports: set[int] = set()
        if isinstance(block, wiring.Component):
            self._ports = {id(Value.cast(member)) for _, _, member in block.signature.flatten(block)}

    def part(self, name: str) -> Inside:
        """A submodule."""
        return Inside(self.fragment.find_subfragment(name))

    def __getitem__(self, name: str) -> Signal:
        """The one signal of this name that the block itself drives, its ports left out if there is another one."""
        found = {
            id(signal): signal
            for statements in self.fragment.statements.values()
            for statement in statements
            for signal in statement._lhs_signals()
            if signal.name == name
        }
        if len(found) > 1:
            found = {key: signal for key, signal in found.items() if key not in self._ports}
        (signal,) = found.values()
        return signal

    def ongoing(self, *states: str) -> Value:
        """Whether the block's state machine is in one of these states; without names, whether it is in any."""
        fsm = self.fragment.find_generated("fsm")
        states = states or tuple(fsm.encoding)
        unknown = set(states) - set(fsm.encoding)
        assert not unknown, f"no states {unknown}"
        first, *others = (fsm.ongoing(state) for state in states)
        for other in others:
            first |= other
        return first


class WatchedMemory(Elaboratable):
    """Stands for a memory with one write port: exact at the address `place`, which can be any, elsewhere anything.

    What is proved of the word at `place` holds for all words, and the solver has only one of them to think of. `exact`
    tells for each read port that it shows this word, `watched` that the first one asks for it, `written` that it is
    written.
    """

    def __init__(self, t: Bench, *, shape: Any, depth: int, init: Any) -> None:
        self.t, self.shape, self.depth = t, shape, depth
        self.place = t.constant(range(depth), "place")
        self.cell = Signal(shape)
        self.exact: list[Signal] = []
        self.watched, self.written = Signal(name="watched"), Signal(name="written")
        self._reads: list[tuple[Any, tuple[Any, ...]]] = []
        self._write: Any = None

    def read_port(self, *, domain: str = "sync", transparent_for: tuple[Any, ...] = ()) -> Any:
        assert domain == "sync", "memories of the chip are read with a clock"
        port = ReadPort.Signature(addr_width=ceil_log2(self.depth), shape=self.shape).create()
        self.exact.append(Signal(name=f"exact{len(self._reads)}"))
        self._reads.append((port, transparent_for))
        return port

    def write_port(self) -> Any:
        assert self._write is None, "one write port"
        self._write = WritePort.Signature(addr_width=ceil_log2(self.depth), shape=self.shape).create()
        return self._write

    def elaborate(self, platform: object) -> Module:
        m = Module()
        for number, (port, transparent_for) in enumerate(self._reads):
            exact, data = self.exact[number], Signal(self.shape, name=f"data{number}")
            m.d.comb += port.data.eq(data)
            with m.If(port.en):
                m.d.sync += [exact.eq(0), data.eq(self.t.free(len(Value.cast(data)), f"elsewhere{number}"))]
                with m.If(port.addr == self.place):
                    m.d.sync += [exact.eq(1), data.eq(self.cell)]
                    if transparent_for:
                        with m.If(self._write.en & (self._write.addr == self.place)):
                            m.d.sync += data.eq(self._write.data)
        m.d.comb += self.written.eq(self._write.en & (self._write.addr == self.place))
        if self._reads:
            asked, _ = self._reads[0]
            m.d.comb += self.watched.eq(asked.en & (asked.addr == self.place))
        with m.If(self.written):
            m.d.sync += self.cell.eq(self._write.data)
        return m
