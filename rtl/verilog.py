"""Verilog out: equal configurations give equal bytes."""

from __future__ import annotations

import re

from amaranth.back import verilog

from rtl.chip import Chip
from rtl.config import ChipConfig

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,62}")


def generate(cfg: ChipConfig, *, name: str = "spikeloop") -> str:
    """Verilog-2001 text of the chip `cfg`, top module `name`.

    Ports: `clk`, `rst` (synchronous, active high), the streams `rx__*` and `tx__*`, `busy`, and `trace*` if configured.

    Raises
    ------
    ValueError
        If `name` is not a Verilog identifier.
    """
    if not _NAME.fullmatch(name):
        raise ValueError(f"name = {name!r}: must be a Verilog identifier (letters, digits, underscores; at most 63)")
    text = verilog.convert(Chip(cfg), name=name, emit_src=False, strip_internal_attrs=True)
    header = f"// spikeloop chip, generated; do not edit.\n// configuration: {cfg.to_json()}\n"
    return header + text
