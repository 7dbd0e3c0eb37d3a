"""What a design is made of, read from its netlist before any synthesis: memories, multipliers and operators.

The netlist is Amaranth's (RTLIL), so nothing here repeats what the hardware says about itself. Memories are placed into
primitives by the rule of Yosys's ``memory_libmap``: of all that could hold one it takes the cheapest, and memories of a
few bits become flip-flops.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from amaranth.back import rtlil
from amaranth.hdl import Elaboratable, Instance, Module, Shape
from amaranth.lib.memory import Memory as HardwareMemory

from rtl.board import Board
from rtl.config import ChipConfig

BLOCK, SINGLE_PORT, LUT_RAM, FLIP_FLOPS, LUTS = "block RAM", "single-port RAM", "LUT RAM", "flip-flops", "LUTs"
"""Kinds of primitives that hold a memory."""


@dataclass(frozen=True)
class Memory:
    """A memory with one port to read and one to write, or a table that is only read."""

    name: str
    depth: int
    width: int
    enables: tuple[int, ...]
    """Widths of the groups of bits that share a write enable; none: it is a table."""
    readers: int = 1
    """Ports to read."""

    @property
    def bits(self) -> int:
        """Size in bits."""
        return self.depth * self.width


@dataclass(frozen=True)
class Multiplier:
    """A product of two variables."""

    a: int
    b: int
    y: int


@dataclass(frozen=True)
class Inventory:
    """Everything that the estimates need."""

    memories: tuple[Memory, ...]
    multipliers: tuple[Multiplier, ...]
    operators: dict[str, int]
    """Bits of each kind of operator: ``arithmetic``, ``comparison``, ``choice``, ``logic``, ``shift``, ``register``."""


@dataclass(frozen=True)
class Ram:
    """A primitive: what it costs Yosys, and its shapes."""

    kind: str
    cost: int
    address_bits: int
    """At the first of `widths`; one less at each that follows."""
    widths: tuple[int, ...]
    byte: int
    """Bits that share a write enable; 0: a whole word."""
    readers: int = 1
    """Ports to read that a table may have in one primitive."""


@dataclass(frozen=True)
class Place:
    """Where a memory goes."""

    memory: Memory
    kind: str
    count: int
    """Primitives; flip-flops or lookup tables where it is made of logic."""
    choices: int = 0
    """Bits of multiplexers that choose between primitives, none of which is deep enough."""


RAMS: dict[str, tuple[Ram, ...]] = {
    "ice40": (
        Ram(BLOCK, 64, 11, (2, 4, 8, 16), 1),
        Ram(SINGLE_PORT, 2048, 14, (16,), 4),
    ),
    "ecp5": (
        Ram(LUT_RAM, 4, 4, (4,), 0),
        Ram(BLOCK, 128, 11, (9, 18, 36), 9),
        Ram(BLOCK, 128, 14, (1, 2, 4, 9, 18), 9, readers=2),
    ),
    "series7": (
        Ram(LUT_RAM, 8, 6, (3, 6), 0),
        Ram(BLOCK, 129, 14, (1, 2, 4, 9, 18, 36), 9, readers=2),
    ),
}
"""By family. The first two are Yosys's own tables; what Vivado does with the third is only near to this."""

_READ_PORT = 2
"""What Yosys adds to the cost of a primitive for a port of its own to read."""

_TABLE_BITS = 16
"""Bits of a table that cost Yosys as much as one bit of a memory: those of a lookup table."""

_DSP = {"ice40": (16, 16, 11), "ecp5": (18, 18, 11), "series7": (25, 18, 11)}
"""Widths of the factors of a multiplier, and of the narrowest product that is worth one."""


def _layout(memory: Memory, ram: Ram) -> tuple[float, int, int]:
    """Cost, number of primitives and bits that are chosen between them, in the cheapest shape."""
    found = []
    for narrower, width in enumerate(ram.widths):
        byte = min(ram.byte, width) or width
        bits = sum(-(-run // byte) * byte for run in memory.enables) or memory.width
        slices = -(-memory.depth // (1 << (ram.address_bits - narrower)))
        copies = memory.readers if memory.enables else -(-memory.readers // ram.readers)
        count = -(-slices * bits // width) * copies
        choices = (slices - 1) * memory.width
        strobes = slices * len(memory.enables) if slices > 1 else 0
        found.append((ram.cost * count + 0.5 * (choices + strobes), count, choices))
    return min(found, key=lambda shape: shape[0])


def place(memory: Memory, family: str, *, single_port: bool = False) -> Place:
    """Where `memory` goes; with `single_port` into a single-port RAM, whatever it costs."""
    if memory.enables:
        best, kind, count = (float("inf") if single_port else float(memory.bits)), FLIP_FLOPS, memory.bits
    else:
        best, kind, count = memory.bits / _TABLE_BITS, LUTS, memory.readers * memory.bits // _TABLE_BITS
    choices = 0
    for ram in RAMS[family]:
        if (ram.kind == SINGLE_PORT) != single_port or (ram.kind == LUT_RAM and not memory.enables):
            continue
        cost, number, chosen = _layout(memory, ram)
        cost += _READ_PORT * memory.readers
        if cost < best:
            best, kind, count, choices = cost, ram.kind, number, chosen
    return Place(memory, kind, count, choices)


def multipliers(product: Multiplier, family: str) -> int:
    """Multipliers of the device that one product takes; 0 if it is too small for one."""
    a, b, narrowest = _DSP[family]
    if min(product.a, product.b) < 2 or product.y < narrowest:
        return 0
    return -(-max(product.a, product.b) // max(a, b)) * -(-min(product.a, product.b) // min(a, b))


# ---- reading the netlist --------------------------------------------------------------------------------------------

_ASSIGN = re.compile(r"assign \S+(?: \[(\d+)(?::(\d+))?\])? ")
_CONSTANT = re.compile(r"\d+'[01x-]+")
_KINDS = {
    "arithmetic": ("$add", "$sub", "$neg"),
    "comparison": ("$lt", "$le", "$gt", "$ge", "$eq", "$ne"),
    "choice": ("$mux",),
    "logic": ("$and", "$or", "$xor", "$not", "$reduce_or", "$reduce_and", "$reduce_xor", "$reduce_bool"),
    "shift": ("$shl", "$shr", "$sshr", "$sshl", "$shift", "$shiftx"),
    "register": ("$dff",),
}
_KIND = {cell: kind for kind, cells in _KINDS.items() for cell in cells}


class _Shapes:
    """A platform on which a memory is a cell with its shape, so that nothing grows with its depth."""

    def get_memory(self, memory: HardwareMemory) -> Module:
        m = Module()
        ports: dict[str, Any] = {}
        for number, reading in enumerate(memory.read_ports):
            ports |= {f"i_read_address{number}": reading.addr, f"o_read_data{number}": reading.data}
        for write in memory.write_ports:
            ports |= {"i_address": write.addr, "i_data": write.data, "i_enable": write.en}
        m.submodules.cell = Instance(
            "memory",
            p_DEPTH=memory.depth,
            p_WIDTH=Shape.cast(memory.shape).width,
            p_ENABLES=sum(len(write.en) for write in memory.write_ports),
            p_READERS=len(memory.read_ports),
            **ports,
        )
        return m


def _cells(text: str) -> Iterator[tuple[str, str, dict[str, str]]]:
    """Module, type and attributes of every cell of a netlist; bits chosen in a process come as type ``process``."""
    module, kind, values, depth = "", "", dict[str, str](), 0
    for line in map(str.strip, text.splitlines()):
        if line.startswith("module "):
            module = line.split("\\", 1)[1]
        elif line.startswith("cell "):
            kind, values = line.split()[1], {}
        elif kind and line.startswith(("parameter ", "connect ")):
            key, value = line.split(" ", 1)[1].removeprefix("signed ").split(" ", 1)
            values[key.lstrip("\\")] = value
        elif line.startswith("switch "):
            depth += 1
        elif depth and (assigned := _ASSIGN.match(line)):
            high, low = assigned.groups()
            yield module, "process", {"WIDTH": str(int(high) - int(low or high) + 1 if high else 1)}
        elif line == "end":
            if kind:
                yield module, kind, values
                kind = ""
            elif depth:
                depth -= 1


def read(design: Elaboratable) -> Inventory:
    """Inventory of a design."""
    text = rtlil.convert(design, name="top", platform=_Shapes(), emit_src=False)
    memories, products, operators = [], [], Counter[str]()
    for module, kind, values in _cells(text):
        if kind == "\\memory":
            depth, width, enables, readers = (int(values[name]) for name in ("DEPTH", "WIDTH", "ENABLES", "READERS"))
            runs = (width // enables,) * enables if enables else ()
            memories.append(Memory(module.removeprefix("top."), depth, width, runs, readers))
        elif kind == "$mul":
            if not any(_CONSTANT.fullmatch(values[factor]) for factor in "AB"):
                products.append(Multiplier(*(int(values[f"{port}_WIDTH"]) for port in "ABY")))
        elif kind == "process":
            operators["choice"] += int(values["WIDTH"])
        elif kind in _KIND:
            width = max(int(values.get(name, 0)) for name in ("A_WIDTH", "Y_WIDTH", "WIDTH"))
            operators[_KIND[kind]] += width * (int(values["B_WIDTH"]) if _KIND[kind] == "shift" else 1)
    return Inventory(tuple(memories), tuple(products), dict(operators))


@lru_cache(maxsize=64)
def inventory(cfg: ChipConfig, clock_hz: int, baud: int) -> Inventory:
    """Inventory of the chip `cfg` with its serial bridge, as it stands on a board."""
    return read(Board(cfg, clock_hz, baud))
