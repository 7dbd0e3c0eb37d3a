"""Writes ``docs/registers.md`` from :mod:`rtl.registers`: ``python -m rtl.docs``.

Data in, Markdown out; a test compares the committed file, so that it never says anything but what the hardware does.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from enum import IntEnum
from pathlib import Path
from typing import Any

from rtl import registers as source
from rtl.config import ChipConfig
from rtl.registers import (
    ANSWER,
    BAD_EVENTS,
    LAYER_OFFSET,
    LAYER_STRIDE,
    REGION_SHIFT,
    Encoding,
    Opcode,
    Region,
    Register,
    Reset,
    Status,
    global_registers,
    layer_registers,
    regions,
)

EXAMPLE = ChipConfig((30, 16, 2), lanes=8, learning=True)
"""Configuration whose sizes the tables show."""

FILE = Path(__file__).resolve().parent.parent / "docs" / "registers.md"


def markdown(cfg: ChipConfig = EXAMPLE) -> str:
    """The whole of ``docs/registers.md`` for the chip `cfg`."""
    sizes = "-".join(map(str, cfg.layers))
    delays = replace(cfg, learning=False, delay_slots=51)
    axonal = replace(delays, axonal_delays=True)
    binary = replace(cfg, learning=False, lanes=32, binary_weights=True)
    return f"""# Registers and address space

Generated from `rtl/registers.py` by `python -m rtl.docs`; do not edit. Sizes and values are those of one example, a
chip {sizes} with {cfg.lanes} lanes, {cfg.weight_bits}-bit weights, {cfg.state_bits}-bit states and \
{"die tables" if cfg.die_tables else "no die tables"}{" and learning" if cfg.learning else ""}.

An address has 32 bits: the region in bits 31..{REGION_SHIFT}, a word offset in bits {REGION_SHIFT - 1}..0. How words
are read and written is told in [link.md](link.md), what they do in [chip.md](chip.md).

## Regions

{_table(_REGION_HEADS, _regions(cfg, regions(cfg)))}

A chip with delays has none of what belongs to learning, but two more regions; with 51 delay slots:

{_table(_REGION_HEADS, _regions(delays, [region for region in regions(delays) if region not in regions(cfg)]))}

With one delay per source region DELAYS has {axonal.delay_depth} words of one delay, and there is no region DELAY.

A chip with binary weights has fewer words of weights and no regions DIE_SYNAPSE and DIE_BIAS; with 32 lanes:

{_table(_REGION_HEADS, _regions(binary, (Region.WEIGHTS, Region.WEIGHT)))}

Bits past a field's width are ignored when written. Signed fields are two's complement and sign-extended when read.
A chip without die tables has no regions DIE_*; one without learning lacks LEARN_ENABLE, FIRE_BITS, NOISE,
GRADIENT_BITS, RATE and FORWARD_SHIFT, and the bits of MODE and RECORD that belong to it.

## Registers of the chip

{_table(_HEADS, map(_row, global_registers(cfg)))}

Read-only registers have a value instead of a reset value. Offsets not listed read as 0 and refuse writes (BAD_ADDRESS).

## Registers of a layer

Layer *l* of neurons counts from 0; its registers start at `0x{LAYER_OFFSET:02x} + 0x{LAYER_STRIDE:02x} * l`. Offsets
are those of layer 0.

{_table(_HEADS, (_row(register) for register in layer_registers(cfg, 0)))}

## Values of fields

{_table(("ENCODING", "Name", "Meaning"), _members(Encoding, _ENCODINGS))}

{_table(("MODE[1:0]", "Name", "Meaning"), _members(Reset, _RESETS))}

## Frames

Answers carry the opcode with bit 0x{ANSWER:02x} set and the status in the low 16 bits of the header. Bit 31 of the
input-spike word of an answer to RUN (0x{BAD_EVENTS:08x}) is set if the events broke a rule.

{_table(("Opcode", "Name", "Answer", "Meaning"), _opcodes())}

{_table(("Status", "Name", "Meaning"), _statuses())}
"""


_REGION_HEADS = ("Region", "Address", "Words", "Bits", "Access", "Meaning")
_HEADS = ("Register", "Offset", "Bits", "Access", "Reset", "Meaning")

_ENCODINGS = {
    Encoding.RATE: "Intensities, deterministic accumulate and carry.",
    Encoding.BERNOULLI: "Intensities, compared with random numbers.",
    Encoding.EVENTS: "Timed events; 3 acts alike.",
}
_RESETS = {
    Reset.NONE: "A spike leaves the membrane as it is; 3 acts alike.",
    Reset.ZERO: "The membrane goes to zero.",
    Reset.SUBTRACT: "RESET_AMOUNT is subtracted.",
}
_STATUSES = {
    Status.OK: "Carried out.",
    Status.BAD_CRC: "The CRC does not belong to the frame.",
    Status.BAD_OPCODE: "No such opcode.",
}
"""What the names say already; the others are described in the source."""


def _table(heads: Iterable[str], rows: Iterable[Iterable[object]]) -> str:
    def line(cells: Iterable[object]) -> str:
        return "| " + " | ".join(str(cell).replace("|", "\\|") for cell in cells) + " |"

    heads = tuple(heads)
    return "\n".join([line(heads), "|" + "---|" * len(heads), *map(line, rows)])


def _access(readable: bool, writable: bool) -> str:
    return {(True, True): "RW", (True, False): "R", (False, True): "W"}[readable, writable]


def _regions(cfg: ChipConfig, chosen: Iterable[Region]) -> Iterable[tuple[object, ...]]:
    """Rows of the `chosen` regions of `cfg`."""
    for info in (regions(cfg)[region] for region in chosen):
        address = f"`0x{info.region << REGION_SHIFT:08x}`"
        yield info.region.name, address, info.depth, info.bits, _access(info.readable, info.writable), info.doc


def _row(register: Register) -> tuple[object, ...]:
    value = register.reset if register.constant is None else register.constant
    shown = f"`0x{value:08x}`" if value > 0xFFFF else str(value)
    bits = f"{register.bits}, signed" if register.signed else str(register.bits)
    access = "R" if register.readonly else "RW"
    return register.name, f"`0x{register.offset:02x}`", bits, access, shown, register.doc


def _members(kind: type[IntEnum], meaning: Mapping[Any, str]) -> Iterable[tuple[object, ...]]:
    return ((int(member), member.name, meaning[member]) for member in kind)


def _docs(kind: type[IntEnum]) -> dict[str, str]:
    """The string below each member of an enumeration in the source."""
    found = re.findall(r'^    (\w+) = \w+\n    """(.*?)"""', inspect.getsource(kind), re.MULTILINE | re.DOTALL)
    return {name: " ".join(text.split()) for name, text in found}


def _opcodes() -> Iterable[tuple[object, ...]]:
    docs = _docs(source.Opcode)
    return ((f"`0x{code:02x}`", code.name, f"`0x{code | ANSWER:02x}`", docs[code.name]) for code in Opcode)


def _statuses() -> Iterable[tuple[object, ...]]:
    docs = _docs(source.Status)
    return ((int(code), code.name, _STATUSES.get(code) or docs[code.name]) for code in Status)


if __name__ == "__main__":
    FILE.write_text(markdown(), encoding="utf-8")
