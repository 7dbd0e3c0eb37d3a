"""The study's figures."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from host import plots
from host.calibration import Reliability
from host.reproduce.bisnn.findings import ALMOST, BAYES, FOREIGN
from host.reproduce.bisnn.settings import BINS, METHODS, MOONS

LOOK = dict(zip(METHODS, (plots.BLUE, plots.ORANGE, plots.RED, plots.GREY), strict=True))
"""Colour of each method."""


def draw(found: Mapping[str, Any], folder: Path) -> list[Path]:
    """Write all figures for which there are results, as PNG."""
    figures: dict[str, Callable[[], Any]] = {}
    plain = [entry for entry in found["moons"] if not entry["tempered"]]
    maps = [(entry, arrays) for entry in plain if (arrays := _arrays(folder / "cells", entry["map"]["key"]))]
    if maps:
        figures["maps.png"] = lambda: _maps(maps)
    if found["moons"]:
        figures["reliability-moons.png"] = lambda: _reliability(found["moons"])
    if found["digits"]:
        figures["reliability-digits.png"] = lambda: _reliability(found["digits"])
        figures["digits.png"] = lambda: _digits(found["digits"])
    if found["tried"]:
        figures["tried.png"] = lambda: _tried(found)
    if found["mismatch"]:
        figures["mismatch.png"] = lambda: _mismatch(found["mismatch"])
    with plots.style():
        return [plots.save(make(), folder / name) for name, make in figures.items()]


def _arrays(cells: Path, key: str) -> dict[str, Any]:
    """What a training left beside its result; empty if it is gone."""
    path = cells / f"{key}.npz"
    if not path.is_file():
        return {}
    with np.load(path) as archive:
        return {name: archive[name] for name in archive.files}


def _maps(maps: Sequence[tuple[Mapping[str, Any], Mapping[str, Any]]]) -> Any:
    """Confidence all over the unit square; a row for each problem and gradient, a column for each method."""
    rows = list(dict.fromkeys((entry["noise"], entry["gradient"]) for entry, _ in maps))
    columns = [method for method in METHODS if any(entry["method"] == method for entry, _ in maps)]
    figure = plots.new_figure(2.5 * len(columns) + 0.7, 2.65 * len(rows))
    grid = figure.subplots(len(rows), len(columns), squeeze=False)
    image: Any = None
    for axes in grid:
        for axis in axes:
            axis.axis("off")
    for entry, arrays in maps:
        axis = grid[rows.index((entry["noise"], entry["gradient"]))][columns.index(entry["method"])]
        axis.axis("on")
        image = plots.confidence_map(axis, arrays[entry["map"]["name"]], arrays["points"], arrays["labels"], size=4.0)
        axis.set_title(entry["method"], fontsize=9.5)
    for axes, (noise, gradient) in zip(grid, rows, strict=True):
        axes[0].set_ylabel(f"{MOONS[noise]}\n{gradient}")
    figure.colorbar(image, ax=grid, shrink=0.6, label="confidence")
    return figure


def _curve(entry: Mapping[str, Any]) -> Reliability:
    """The pooled reliability curve of an entry."""
    bins = entry["bins"]
    columns = {name: np.array([each[name] for each in bins], float) for name in ("confidence", "accuracy")}
    counts = np.array([each["n"] for each in bins], np.int64)
    return Reliability((np.arange(BINS) + 0.5) / BINS, columns["confidence"], columns["accuracy"], counts)


def _reliability(entries: Sequence[Mapping[str, Any]]) -> Any:
    """Reliability of all methods: two moons of the largest noise by the first gradient, or digits."""
    if "noise" in entries[0]:
        noise = max(entry["noise"] for entry in entries)
        entries = [entry for entry in entries if entry["noise"] == noise]
        entries = [entry for entry in entries if entry["gradient"] == entries[0]["gradient"]]
    names = {entry["method"]: entry for entry in entries if not entry["tempered"]}
    tempered = [entry for entry in entries if entry["tempered"] and entry["method"] == BAYES]
    names |= {f"{BAYES}, temperature": entry for entry in tempered}
    figure = plots.reliability_diagram({name: _curve(entry) for name, entry in names.items()}, width=6.0)
    figure.axes[0].legend(loc="lower right")
    return figure


def _digits(entries: Sequence[Mapping[str, Any]]) -> Any:
    """Accuracy, calibration and foreign inputs of each answer; small points are seeds."""
    shown = [entry for entry in entries if not entry["tempered"]]
    shown += [entry for entry in entries if entry["tempered"] and entry["method"] == BAYES]
    names = [entry["method"] + (",\ntemperature" if entry["tempered"] else "") for entry in shown]
    panels = [("accuracy (%)", 100.0, lambda entry: (entry["accuracy"], entry["seeds"]["accuracy"]))]
    panels += [("ECE", 1.0, lambda entry: (entry["ece"], entry["seeds"]["ece"]))]
    panels += [(f"AUROC, {FOREIGN[kind]}", 1.0, partial(_auroc, kind)) for kind in shown[0]["foreign"]]
    figure = plots.new_figure(2.4 * len(panels) + 1.2, 0.5 * len(shown) + 1.0)
    axes = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for axis, (label, scale, values) in zip(axes, panels, strict=True):
        for at, entry in enumerate(shown):
            mean, seeds = values(entry)
            marker = "D" if entry["tempered"] else "o"
            axis.plot(scale * mean["mean"], -at, marker, color=LOOK[entry["method"]], markersize=8)
            axis.plot([scale * seed for seed in seeds], [-at] * len(seeds), ".", color="black", markersize=4)
        axis.set_xlabel(label)
        axis.grid(axis="y", visible=False)
        axis.tick_params(axis="y", length=0)
    axes[0].set_yticks([-at for at in range(len(shown))], names)
    return figure


def _auroc(kind: str, entry: Mapping[str, Any]) -> tuple[Any, Any]:
    return entry["foreign"][kind]["auroc"], entry["foreign"][kind]["seeds"]


def _tried(found: Mapping[str, Any]) -> Any:
    """Calibration error of all attempts without and with a temperature, and what is allowed."""
    attempts = list(dict.fromkeys(entry["name"] for entry in found["tried"]))
    figure = plots.new_figure(7.4, 0.32 * len(attempts) + 1.4)
    axis = figure.subplots()
    for tempered, colour, marker in ((False, plots.RED, "o"), (True, plots.GREEN, "D")):
        mine = {entry["name"]: entry for entry in found["tried"] if entry["tempered"] == tempered}
        for at, name in enumerate(attempts):
            if name in mine:
                seeds = mine[name]["seeds"]["ece"]
                axis.plot(seeds, [-at] * len(seeds), ".", color=colour, markersize=4)
                label = "with temperature" if tempered else "as it is"
                axis.plot(mine[name]["ece"]["mean"], -at, marker, color=colour, markersize=7,
                          label=label if name == next(iter(mine)) else None)  # fmt: skip
    straight = next((each for each in found["digits"] if each["method"] == "ST" and not each["tempered"]), None)
    if straight:
        limit = straight["ece"]["mean"]
        axis.axvline(limit, color=plots.BLUE, linewidth=1, label="ST")
        axis.axvline(limit + ALMOST, color=plots.BLUE, linewidth=1, linestyle=":", label=f"ST + {ALMOST:g}")
    axis.set_yticks([-at for at in range(len(attempts))], attempts)
    axis.set_xlim(left=0)
    axis.set_xlabel("ECE on digits (small: seeds)")
    axis.grid(axis="y", visible=False)
    axis.tick_params(axis="y", length=0)
    figure.legend(loc="outside lower center", ncols=4)
    return figure


def _mismatch(entries: Sequence[Mapping[str, Any]]) -> Any:
    """Ideal chip, deployed and in the loop, of each method."""
    figure = plots.new_figure(8.0, 4.0)
    axis = figure.subplots()
    colours = (plots.GREY, plots.BLUE, plots.RED, plots.ORANGE, plots.GREEN)
    lowest = 100.0
    for index, entry in enumerate(entries):
        bars = {"ideal chip": entry["ideal"], "off, ideal-trained and deployed": entry["deployed"]}
        bars |= {f"off, in the loop, {read_out}": each for read_out, each in entry["loops"].items()}
        width = 0.84 / len(bars)
        for place, (label, each) in enumerate(bars.items()):
            if each is None:
                continue
            x = index + width * (place - (len(bars) - 1) / 2)
            axis.bar(x, 100 * each["accuracy"]["mean"], width=0.93 * width, color=colours[place % len(colours)],
                     alpha=0.85, label=label if index == 0 else None)  # fmt: skip
            seeds = [100 * seed for seed in each["seeds"]["accuracy"]]
            axis.plot([x] * len(seeds), seeds, "_", color="black", markersize=7)
            lowest = min(lowest, *seeds)
    axis.set_xticks(range(len(entries)), [entry["method"] for entry in entries])
    axis.set_ylim(max(0.0, 10 * np.floor((lowest - 2) / 10)), 101)
    axis.set_ylabel("test accuracy (%); ticks: single dies")
    axis.grid(axis="x", visible=False)
    axis.tick_params(axis="x", length=0)
    figure.legend(loc="outside lower center", ncols=3)
    return figure
