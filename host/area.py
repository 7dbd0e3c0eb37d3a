"""What a chip costs in an ECP5: cells per lane and per synaptic operation, option by option.

``python -m host.area`` synthesises the chips of the table in ``docs/boards.md``, counts their cells, runs the same
images on the golden model, whose clock cycles are those of the chip, and prints the table in Markdown.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from host.bitstream import counted_cells, failure, synthesise
from host.chip import Chip
from host.network import Network
from rtl.config import ChipConfig
from rtl.synthesis import preparation
from testbench.fpga import find

LAYERS = (784, 128, 10)
STEPS = 10
BRIGHT = 150
"""Inputs of an image that are not dark: MNIST's mean."""

BASE = ChipConfig(LAYERS, lanes=16, weight_bits=8, state_bits=16, die_tables=False, neuron_lanes=2, bernoulli=False)
CHIPS: dict[str, ChipConfig] = {
    "16 lanes": BASE,
    "8 lanes": replace(BASE, lanes=8),
    "32 lanes": replace(BASE, lanes=32),
    "16 neuron lanes": replace(BASE, neuron_lanes=16),
    "Bernoulli code": replace(BASE, bernoulli=True),
    "delays, 16 slots": replace(BASE, delay_slots=16),
    "axonal delays, 16 slots": replace(BASE, delay_slots=16, axonal_delays=True),
    "die tables": replace(BASE, die_tables=True, neuron_lanes=0),
    "trace": replace(BASE, trace=True, neuron_lanes=0),
    "learning": replace(BASE, learning=True),
    "learning, Bernoulli code": replace(BASE, learning=True, bernoulli=True),
    "learning, 32 lanes": replace(BASE, learning=True, lanes=32),
    "binary weights, 64 lanes": replace(BASE, lanes=64, weight_bits=1, binary_weights=True),
}
"""Chips of the table by what they differ in from the first."""

PUBLISHED = {"tinyODIN": (2960, 17, 39, 0.49), "ODIN": (11150, 20, 20, 0.49)}
"""Published cores on ECP5 with the open tools: LUT4, block RAMs, MHz, synaptic operations per cycle."""


@dataclass(frozen=True)
class Cost:
    """Cells of a chip without its board, and what it does in a cycle."""

    name: str
    lanes: int
    luts: int
    """Cells LUT4 that Yosys makes, as published figures count."""
    slots: int
    """Lookup tables that they, the carry chains and the distributed RAM occupy."""
    flip_flops: int
    block_rams: int
    multipliers: int
    operations: float
    """Synaptic operations per clock cycle."""


def operations(cfg: ChipConfig) -> float:
    """Synaptic operations per clock cycle of a chip that sees images: weights added, by counted cycles."""
    rng = np.random.default_rng(0)
    images = np.zeros((20, cfg.n_in), np.uint8)
    for image in images:
        image[rng.choice(cfg.n_in, BRIGHT, replace=False)] = rng.integers(30, 256, BRIGHT)
    weights = [
        rng.choice([-1, 1], shape) if cfg.binary_weights else rng.integers(-50, 51, shape) for shape in cfg.shapes
    ]
    with Chip(cfg) as chip:
        chip.load(Network(weights=weights, thresholds=[np.full(size, 500) for size in cfg.neuron_layers]))
        chip.run(images, STEPS)
        return chip.stats.synaptic_ops / chip.stats.cycles


def cost(name: str, cfg: ChipConfig) -> Cost:
    """Synthesise a chip and count.

    Raises
    ------
    BitstreamError
        If Yosys fails.
    """
    from amaranth.back import rtlil

    from rtl.chip import Chip as Hardware

    with tempfile.TemporaryDirectory() as folder:
        top = "spikeloop"
        (Path(folder) / "chip.il").write_text(rtlil.convert(Hardware(cfg), name=top, emit_src=False), encoding="utf-8")
        lines = [
            "read_rtlil chip.il",
            *preparation("ecp5", top),
            f"synth_ecp5 -top {top}",
            "tee -o cells.json stat -json",
        ]
        (Path(folder) / "chip.ys").write_text("\n".join(lines), encoding="utf-8")
        result = synthesise(find("yosys"), Path(folder), "chip")
        if result.returncode:
            raise failure("Yosys", result, Path(folder) / "chip.rpt")
        cells = counted_cells(Path(folder) / "cells.json")
    count = {
        kind: int(cells.get(kind, 0))
        for kind in ("LUT4", "CCU2C", "TRELLIS_DPR16X4", "TRELLIS_FF", "DP16KD", "MULT18X18D")
    }
    return Cost(
        name=name,
        lanes=cfg.lanes,
        luts=count["LUT4"],
        # A carry cell is made of two lookup tables; 16 x 4 bits of distributed RAM of four, and two for its writing.
        slots=count["LUT4"] + 2 * count["CCU2C"] + 6 * count["TRELLIS_DPR16X4"],
        flip_flops=count["TRELLIS_FF"],
        block_rams=count["DP16KD"],
        multipliers=count["MULT18X18D"],
        operations=operations(cfg),
    )


def table(costs: Sequence[Cost]) -> Iterator[str]:
    """Lines of Markdown."""
    columns = (
        "chip",
        "LUT4",
        "LUT4 + carry + RAM",
        "flip-flops",
        "block RAMs",
        "multipliers",
        "LUT4 per lane",
        "synaptic ops per cycle",
        "LUT4 per op and cycle",
    )
    yield f"| {' | '.join(columns)} |"
    yield "|---" * len(columns) + "|"
    for item in costs:
        each = item.luts / item.lanes, item.luts / item.operations
        yield (
            f"| {item.name} | {item.luts:,} | {item.slots:,} | {item.flip_flops:,} | {item.block_rams} "
            f"| {item.multipliers} | {each[0]:.0f} | {item.operations:.2f} | {each[1]:,.0f} |"
        )
    for name, (luts, rams, _, ops) in PUBLISHED.items():
        yield f"| {name} (published) | {luts:,} | | | {rams} | | | {ops} | {luts / ops:,.0f} |"


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table, or the rows whose names are given."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help=f"rows; default all: {', '.join(CHIPS)}")
    names = parser.parse_args(arguments).names or list(CHIPS)
    if unknown := [name for name in names if name not in CHIPS]:
        parser.error(f"unknown row {unknown[0]!r}; there are {', '.join(CHIPS)}")
    costs = []
    for name in names:
        costs.append(cost(name, CHIPS[name]))
        print(costs[-1], flush=True)
    print("\n".join(table(costs)))


if __name__ == "__main__":
    main()
