"""Netlists of small blocks do what their RTL does, for both families of FPGAs, by Yosys alone."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from amaranth.back import rtlil
from amaranth.hdl import Elaboratable, Module, Signal, Value, signed
from amaranth.lib import wiring

from rtl import arith
from rtl.cobs import CobsDecoder
from rtl.config import ChipConfig
from rtl.sequencer import Sequencer
from rtl.serial import ByteCrc
from rtl.spikes import Walker
from rtl.synthesis import preparation
from rtl.uart import UartTransmitter
from testbench.formal.arithmetic import wrap
from testbench.formal.solve import FormalToolError, Group, Outcome, Verdict, yosys
from testbench.formal.walk import OneTooMany
from testbench.netlist import FAMILIES, cells


class Function(Elaboratable):
    """A function of :mod:`rtl.arith` as a block: `shape` is that of its result, `inputs` those of its arguments."""

    def __init__(self, function: Callable[..., Value], shape: Any, **inputs: Any) -> None:
        self.function = function
        self.inputs = [Signal(of_input, name=name) for name, of_input in inputs.items()]
        self.result = Signal(shape)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.d.comb += self.result.eq(self.function(m, *self.inputs))
        return m


def ports_of(block: Elaboratable) -> list[Signal]:
    """Inputs and outputs of a block."""
    if isinstance(block, Function):
        return [*block.inputs, block.result]
    assert isinstance(block, wiring.Component)
    members = (Value.cast(member) for _, _, member in block.signature.flatten(block))
    return [member for member in members if isinstance(member, Signal)]


@dataclass(frozen=True)
class Equivalence:
    """The netlist that `family` gets of a block does what the block's RTL does.

    `mutants` are broken blocks whose netlists have to be told from the RTL of the right one.
    """

    block: str
    family: str
    build: Callable[[], Elaboratable]
    mutants: Mapping[str, Callable[[], Elaboratable]] = field(default_factory=dict)

    method = "equivalence, unbounded"
    solver = "Yosys"

    @property
    def name(self) -> str:
        """What it is called on the command line and in docs/formal.md."""
        return f"netlist-{self.block}-{self.family}"

    @property
    def claim(self) -> str:
        """What it proves."""
        return f"the netlist of `{self.block}` for {self.family} does what its RTL does"

    def run(self, folder: Path) -> Outcome:
        """Prove it; all files go to `folder`."""
        return self._compare(self.build(), folder)

    def refute(self, mutant: str, folder: Path) -> Outcome:
        """Compare the netlist of a broken variant with the RTL."""
        return self._compare(self.mutants[mutant](), folder)

    def _compare(self, synthesised: Elaboratable, folder: Path) -> Outcome:
        folder.mkdir(parents=True, exist_ok=True)
        for name, block in (("gold", self.build()), ("gate", synthesised)):
            text = rtlil.convert(block, ports=ports_of(block), name="top")
            (folder / f"{name}.il").write_text(text, encoding="utf-8")
        script = ["read_rtlil gate.il", *preparation(self.family, "top"), f"{FAMILIES[self.family].synthesis} -top top"]
        yosys("; ".join([*script, "delete t:$scopeinfo", "write_verilog -noattr netlist.v"]), folder)
        text = (folder / "netlist.v").read_text(encoding="utf-8")
        (folder / "cells.v").write_text(cells(self.family, text), encoding="utf-8")
        plain = "hierarchy -check -top top; proc; flatten; opt -fast; async2sync; dffunmap; opt -full; opt_clean"
        yosys(
            f"read_rtlil gold.il; {plain}; rename top gold; design -stash gold; "
            f"read_verilog cells.v netlist.v; {plain}; rename top gate; design -stash gate; "
            "design -copy-from gold -as gold gold; design -copy-from gate -as gate gate; "
            "equiv_make gold gate equiv; hierarchy -top equiv; opt -fast; equiv_simple -short; equiv_induct -seq 2; "
            "equiv_status",
            folder,
        )
        log = (folder / "yosys.log").read_text(encoding="utf-8")
        counted = re.findall(r"Of those cells (\d+) are proven and \d+ are unproven\.", log)
        if not counted:
            raise FormalToolError(f"Yosys said nothing of equivalence in {folder}.")
        unproven = re.findall(r"Unproven \$equiv \S+: \\(\S+)_gold", log)
        verdict = Verdict.FAILED if unproven or counted[-1] == "0" else Verdict.PROVED
        return Outcome(verdict, f"not proved equal: {', '.join(sorted(set(unproven)))}" if unproven else "")


CHIP = ChipConfig((6, 5, 3), lanes=4)

BLOCKS: dict[str, Callable[[], Elaboratable]] = {
    "saturate": lambda: Function(partial(arith.saturate, bits=16), signed(16), value=signed(27)),
    "magnitude": lambda: Function(arith.magnitude, 26, value=signed(26)),
    "least": lambda: Function(arith.least, 24, one=24, two=24, three=13),
    "lowest_one": lambda: Function(arith.lowest_one, 5, mask=32),
    "UartTransmitter": partial(UartTransmitter, 13),
    "CobsDecoder": CobsDecoder,
    "ByteCrc": ByteCrc,
    "Sequencer": partial(Sequencer, CHIP),
    "Walker": partial(Walker, CHIP),
}

BROKEN: dict[str, Mapping[str, Callable[[], Elaboratable]]] = {
    "saturate": {"saturation forgotten": lambda: Function(partial(wrap, bits=16), signed(16), value=signed(27))},
    "UartTransmitter": {"a bit lasts one clock cycle more": partial(UartTransmitter, 14)},
    "Walker": {"an entry too many is read": partial(OneTooMany, CHIP)},
}

GROUP = Group(
    "Netlists",
    "Small blocks after synthesis with the commands for a board, against their RTL. The cells are the models that "
    "Yosys brings, "
    "but for the lookup table of iCE40 (`testbench/cells/ice40.v`). Blocks with memories or multipliers are not here: "
    "of "
    "those the simulated netlist is compared with the RTL.",
    tuple(
        Equivalence(block, family, build, BROKEN.get(block, {}))
        for block, build in BLOCKS.items()
        for family in FAMILIES
    ),
)
