"""Will a network fit a board? Answered from the netlist in seconds, before any tool runs.

Memories and multipliers are counted as Yosys places them. Logic is estimated from the operators of the netlist; the
weight of each kind of operator comes from chips that were synthesised (``fit.json``). To measure them anew after
changes of the hardware (half an hour): ``python -m host.fit --calibrate``.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np
from scipy.optimize import nnls

from host.resources import (
    BLOCK,
    FLIP_FLOPS,
    LUT_RAM,
    LUTS,
    SINGLE_PORT,
    Inventory,
    Memory,
    Place,
    inventory,
    multipliers,
    place,
)
from rtl.boards import BoardInfo, find, registry
from rtl.config import ChipConfig, ConfigError

POINTS = Path(__file__).with_name("fit.json")
TOLERANCE = 0.18
"""Relative error that the estimate of logic may have; tests hold it to that."""
NEAR = {"ice40": 0.04, "ecp5": 0.1, "series7": 0.1}
"""The same, by family, if a chip with these options, but another network, was measured."""

OPERATORS = ("arithmetic", "comparison", "choice", "logic", "shift", "register")
FEATURES = (*OPERATORS, "memory flip-flops", "memory LUTs", "memory choices", "soft products", "joined products")
EXPECTED = np.array([1.0, 0.3, 0.17, 0.1, 0.12, 0.45, 1.6, 1.0, 0.6, 2.0, 1.0])
"""What a bit of each feature may cost in logic cells, where nothing was measured."""
_TRUST = 0.02
"""Weight of that against the measured points."""


@dataclass(frozen=True)
class Fit:
    """What the chip `cfg` needs of the board `info`."""

    info: BoardInfo
    cfg: ChipConfig
    places: tuple[Place, ...]
    logic_cells: int
    """Estimate."""
    tolerance: float = TOLERANCE
    """Relative error that it may have."""
    counted: Mapping[str, tuple[int, int]] | None = None
    """What the placer counted as needed and as there, if it got so far."""

    def count(self, kind: str) -> int:
        """Primitives of a kind that the memories take."""
        return sum(found.count for found in self.places if found.kind == kind)

    @cached_property
    def needs(self) -> dict[str, tuple[int, int]]:
        """What is needed and what there is, of each resource that can run out."""
        if self.counted is not None:
            return dict(self.counted)
        found = {
            "logic cells": (self.logic_cells, self.info.logic_cells),
            "block RAMs": (self.count(BLOCK), self.info.block_rams),
        }
        if self.info.single_port_rams:
            found["single-port RAMs"] = self.count(SINGLE_PORT), self.info.single_port_rams
        return found

    @property
    def missing(self) -> dict[str, tuple[int, int]]:
        """Those of `needs` of which there are not enough."""
        return {name: pair for name, pair in self.needs.items() if pair[0] > pair[1]}

    @property
    def ok(self) -> bool:
        """Whether nothing is missing."""
        return not self.missing

    @property
    def certain(self) -> bool:
        """Whether the answer would be the same with an estimate of logic that errs by its tolerance."""
        if set(self.missing) - {"logic cells"}:
            return True
        needed, available = self.needs["logic cells"]
        return not needed * (1 - self.tolerance) < available < needed * (1 + self.tolerance)


# ---- estimates ------------------------------------------------------------------------------------------------------


def is_weights(memory: Memory) -> bool:
    """Whether a memory of a board's netlist holds the weights."""
    return ".synapses.weights." in memory.name


def _features(info: BoardInfo, found: Inventory, places: Sequence[Place]) -> np.ndarray:
    """Bits of each of `FEATURES`."""
    bits = {name: float(found.operators.get(name, 0)) for name in OPERATORS}
    for kinds, name in (((FLIP_FLOPS,), "memory flip-flops"), ((LUT_RAM, LUTS), "memory LUTs")):
        bits[name] = float(sum(held.count for held in places if held.kind in kinds))
    bits["memory choices"] = float(sum(held.choices for held in places))
    pieces = [multipliers(product, info.family) for product in found.multipliers]
    soft = sum(pieces) > info.multipliers
    bits["soft products"] = soft * float(sum(product.a * product.b for product in found.multipliers))
    joined = sum(max(count - 1, 0) * product.y for count, product in zip(pieces, found.multipliers, strict=True))
    bits["joined products"] = float(not soft) * joined
    return np.array([bits[name] for name in FEATURES])


def _measure(info: BoardInfo, cfg: ChipConfig) -> tuple[Inventory, tuple[Place, ...]]:
    found = inventory(cfg, info.clock_hz, info.baud)
    return found, tuple(
        place(memory, info.family, single_port=bool(info.single_port_rams) and is_weights(memory))
        for memory in found.memories
    )


def estimate(info: BoardInfo, cfg: ChipConfig) -> Fit:
    """What the chip `cfg` needs of a board."""
    _, places = _measure(info, cfg)
    logic = cells(info, cfg, weights(info.family))
    found = error(info, cfg)
    if found is None:
        return Fit(info, cfg, places, logic)
    return Fit(info, cfg, places, round(logic / found), NEAR[info.family])


def error(info: BoardInfo, cfg: ChipConfig) -> float | None:
    """By what factor the measured chip with the options of `cfg` is estimated wrongly, if there is one.

    Of several it is the one whose number of inputs and neurons is the nearest.
    """
    alike = []
    for point in _measured()["points"][info.family]:
        measured = ChipConfig.from_dict(point["config"])
        if _options(measured) == _options(cfg):
            factor = point["estimated"] / point["used"]["logic cells"]
            alike.append((abs(sum(measured.layers) - sum(cfg.layers)), factor))
    return min(alike)[1] if alike else None


def _options(cfg: ChipConfig) -> str:
    """All of a chip but its network, and the buffer whose length follows from that."""
    return replace(cfg, layers=(1, 1), receive_words=0).to_json()


def cells(info: BoardInfo, cfg: ChipConfig, by: np.ndarray) -> int:
    """Logic cells of the chip `cfg` by the weights `by` of `FEATURES`."""
    return round(float(by @ _features(info, *_measure(info, cfg))))


@cache
def weights(family: str) -> np.ndarray:
    """Logic cells for a bit of each of `FEATURES`, from the measured points."""
    return np.array(_measured()["weights"][family])


@cache
def _measured() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(POINTS.read_text(encoding="utf-8"))
    return found


def solve(features: np.ndarray, measured: np.ndarray) -> np.ndarray:
    """Weights, not negative, with the least relative errors of the estimates, drawn a little towards `EXPECTED`.

    Parameters
    ----------
    features
        Of each point, shape ``(points, len(FEATURES))``.
    measured
        Logic cells of each point.
    """
    rows = np.concatenate([features / measured[:, None], _TRUST * np.diag(1 / EXPECTED)])
    found, _ = nnls(rows, np.concatenate([np.ones(len(measured)), np.full(len(EXPECTED), _TRUST)]))
    return found


# ---- what to change -------------------------------------------------------------------------------------------------


def changes(cfg: ChipConfig) -> Iterator[list[tuple[str, ChipConfig]]]:
    """Chips for the same network that need less, by the option that leads there, each time the mildest change first."""
    neuron_lanes = cfg.neuron_lanes or cfg.lanes
    fewer_lanes = [n for n in (64, 32, 16, 8, 4) if n < cfg.lanes]
    tries: list[list[tuple[str, dict[str, Any]]]] = [
        [(f"--neuron-lanes {n}", {"neuron_lanes": n}) for n in (4, 2, 1) if n < neuron_lanes],
        [(f"--lanes {n}", {"lanes": n, "neuron_lanes": min(cfg.neuron_lanes, n)}) for n in fewer_lanes],
        [(f"--weight-bits {n}", {"weight_bits": n}) for n in (8, 4, 2) if n < cfg.weight_bits],
        [(f"--state-bits {n}", {"state_bits": n}) for n in (24, 16, 12) if n < cfg.state_bits],
        [("--no-bernoulli", {"bernoulli": False})] * cfg.bernoulli,
        [("--no-die-tables", {"die_tables": False})] * cfg.die_tables,
        [("--no-learning", {"learning": False})] * cfg.learning,
    ]
    for kind in tries:
        found = []
        for option, fields in kind:
            with suppress(ConfigError):  # a combination that does not exist
                found.append((option, replace(cfg, **fields)))
        if found:
            yield found


def largest(info: BoardInfo, cfg: ChipConfig, fits: Callable[[ChipConfig], bool]) -> ChipConfig | None:
    """The chip with the largest hidden layers, all shrunk alike, that fits; `None` if there is none."""
    hidden = cfg.layers[1:-1]
    if not hidden:
        return None

    def chip(size: int) -> ChipConfig:
        scaled = (max(1, size * width // max(hidden)) for width in hidden)
        return replace(cfg, layers=(cfg.n_in, *scaled, cfg.n_out))

    if not fits(chip(1)):
        return None
    low, high = 1, max(hidden)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(chip(middle)) else (low, middle)
    return chip(low)


def advice(fit: Fit) -> list[str]:
    """Single changes after which the chip fits for certain, as options of the command line, each as mild as can be."""
    # How far the estimate of this chip is off, if its logic was counted, holds for its relatives.
    off = fit.needs["logic cells"][0] / fit.logic_cells

    def fits(cfg: ChipConfig) -> bool:
        found = estimate(fit.info, cfg)
        found = replace(found, logic_cells=round(found.logic_cells * off))
        return found.ok and found.certain

    found = [next(option for option, cfg in kind if fits(cfg)) for kind in changes(fit.cfg) if fits(kind[-1][1])]
    smaller = largest(fit.info, fit.cfg, fits)
    if smaller is not None:
        found.append(f"--layers {','.join(map(str, smaller.layers))} (the largest hidden layers that fit)")
    return found


def sentence(fit: Fit) -> str:
    """By how much the chip does not fit and what to change, in one sentence."""
    about = "about " * (fit.counted is None)
    missing = " and ".join(
        f"{about * (name == 'logic cells')}{needed:,} {name} of {available:,} ({needed - available:,} too many)"
        for name, (needed, available) in fit.missing.items()
    )
    layers = "-".join(map(str, fit.cfg.layers))
    return f"The chip {layers} does not fit {fit.info.title}: it needs {missing}; {remedy(fit)}."


def remedy(fit: Fit) -> str:
    """What makes the chip fit."""
    tried = advice(fit)
    return f"it would fit with {' or '.join(tried)}" if tried else "no single option makes it fit; take another board"


def doubt(fit: Fit) -> str:
    """What to do about a chip of which the estimate does not decide whether it fits, in a sentence or two."""
    decides = "Vivado decides" if fit.info.family == "series7" else "`spikeloop bitstream` with these options decides"
    told = f"It is close: logic is estimated within {fit.tolerance:.0%}; {decides}."
    return told if fit.ok else f"{told} For certain {remedy(fit)}."


# ---- calibration ----------------------------------------------------------------------------------------------------

CALIBRATION: dict[str, tuple[str, tuple[dict[str, Any], ...]]] = {
    "ice40": (
        "icebreaker",
        (
            {"layers": (784, 128, 10)},
            {"layers": (64, 32, 10)},
            {"layers": (256, 64, 32, 10)},
            {"layers": (16, 8, 4), "lanes": 4, "neuron_lanes": 1, "weight_bits": 4, "state_bits": 12},
            {"layers": (64, 32, 10), "lanes": 4, "neuron_lanes": 2, "weight_bits": 8, "state_bits": 16},
            {"layers": (784, 128, 10), "lanes": 8, "neuron_lanes": 1, "weight_bits": 8, "state_bits": 16},
            {"layers": (784, 64, 10), "lanes": 16, "neuron_lanes": 1, "weight_bits": 4, "state_bits": 24},
            {"layers": (64, 48), "lanes": 32, "neuron_lanes": 1, "binary_weights": True, "state_bits": 16},
            {"layers": (64, 24, 10), "lanes": 8, "neuron_lanes": 8, "weight_bits": 6, "state_bits": 16},
        ),
    ),
    "ecp5": (
        "ulx3s-85f",
        (
            {"layers": (784, 128, 10)},
            {"layers": (64, 32, 10)},
            {"layers": (16, 8, 4), "lanes": 4, "neuron_lanes": 0, "weight_bits": 4, "state_bits": 12},
            {"layers": (784, 128, 10), "lanes": 8, "neuron_lanes": 0, "weight_bits": 8, "state_bits": 24},
            {"layers": (64, 32, 10), "lanes": 16, "neuron_lanes": 2, "weight_bits": 8, "state_bits": 16},
            {"layers": (64, 32, 10), "lanes": 4, "neuron_lanes": 0, "weight_bits": 10, "learning": True},
            {"layers": (64, 32, 10), "lanes": 8, "neuron_lanes": 0, "state_bits": 16, "delay_slots": 16},
            {"layers": (784, 128, 10), "weight_bits": 10, "learning": True},
            {"layers": (64, 48), "lanes": 32, "neuron_lanes": 4, "binary_weights": True, "state_bits": 16},
            {"layers": (784, 128, 10), "lanes": 16, "neuron_lanes": 2, "state_bits": 16, "bernoulli": False},
            {"layers": (64, 48, 10), "lanes": 8, "neuron_lanes": 1, "weight_bits": 6, "state_bits": 20},
        ),
    ),
    "series7": (
        "arty-a7-35",
        (
            {"layers": (784, 128, 10)},
            {"layers": (64, 32, 10)},
            {"layers": (16, 8, 4), "lanes": 4, "neuron_lanes": 0, "weight_bits": 4, "state_bits": 12},
            {"layers": (64, 32, 10), "lanes": 4, "neuron_lanes": 0, "weight_bits": 10, "learning": True},
        ),
    ),
}
"""By family a board, and chips on it, given by what differs from its own, from which the weights come."""


def calibrate(families: Sequence[str], *, measure: bool = True, say: Callable[[str], None] = print) -> None:
    """Find the weights and write them to ``fit.json``.

    Parameters
    ----------
    measure
        Synthesise and pack the chips of `CALIBRATION` first; otherwise the points that are there are taken, with the
        hardware as it is now.
    """
    from host.bitstream import find_tools, occupy, versions

    known = json.loads(POINTS.read_text(encoding="utf-8"))
    known["features"] = list(FEATURES)
    for family in families:
        name, chips = CALIBRATION[family]
        info, points = find(name), []
        for fields in chips if measure else ():
            cfg = info.config(**fields)
            with tempfile.TemporaryDirectory() as folder:
                used = occupy(info, cfg, Path(folder))
            points.append({"config": cfg.to_dict(), "used": used})
            say(f"{family}: {cfg.to_json()}: {used}")
        if measure:
            known["points"][family] = points
            known["tools"][family] = versions(find_tools("ecp5" if family == "series7" else family))
        found = fitted(info, known["points"][family]).round(5)
        known["weights"][family] = found.tolist()
        for point in known["points"][family]:
            point["estimated"] = cells(info, ChipConfig.from_dict(point["config"]), found)
        POINTS.write_text(json.dumps(known, indent=1) + "\n", encoding="utf-8")


def fitted(info: BoardInfo, points: Sequence[dict[str, Any]]) -> np.ndarray:
    """Weights from measured points, as :func:`calibrate` keeps them."""
    features, measured = [], []
    for point in points:
        features.append(_features(info, *_measure(info, ChipConfig.from_dict(point["config"]))))
        measured.append(point["used"]["logic cells"])
    return solve(np.array(features), np.array(measured, dtype=float))


SHAPES = (
    (64, 32, 10),
    (256, 64, 10),
    (784, 32, 10),
    (784, 128, 10),
    (784, 256, 10),
    (784, 256, 128, 10),
    (784, 512, 10),
)
"""Networks of the table in docs/boards.md."""


def heading() -> str:
    """First line of the table."""
    return f"| network | {' | '.join(info.title for info in registry().values())} |"


def row(layers: tuple[int, ...]) -> str:
    """Line of the table for one network: whether it fits each board with the board's own options."""
    found = [estimate(info, info.config(layers=layers)) for info in registry().values()]
    marks = (("yes" if fit.ok else "no") if fit.certain else "close" for fit in found)
    return f"| {'-'.join(map(str, layers))} | {' | '.join(marks)} |"


def table() -> str:
    """Which of `SHAPES` fit which board, as Markdown."""
    line = "|---" * (len(registry()) + 1) + "|"
    return "\n".join([heading(), line, *map(row, SHAPES)])


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of ``python -m host.fit``."""
    parser = argparse.ArgumentParser(prog="python -m host.fit", description=__doc__)
    parser.add_argument("--calibrate", action="store_true", help="measure the chips of the calibration anew")
    parser.add_argument("--refit", action="store_true", help="find the weights anew from the chips measured before")
    parser.add_argument("--family", choices=CALIBRATION, help="only this family")
    parser.add_argument("--table", action="store_true", help="which networks fit which board, as Markdown")
    given = parser.parse_args(arguments)
    if given.calibrate or given.refit:
        calibrate([given.family] if given.family else list(CALIBRATION), measure=given.calibrate)
    elif given.table:
        print(table())
    else:
        parser.print_help(sys.stderr)
        raise SystemExit(2)


if __name__ == "__main__":
    main()
