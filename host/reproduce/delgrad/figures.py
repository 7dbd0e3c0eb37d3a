"""The study's figures."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from host import plots
from host.reproduce.delgrad.findings import AUTHORS_HARDWARE, words
from host.trainers.delgrad import DELAYS

LOOK = {
    "none": (plots.GREY, "X"),
    "axonal": (plots.RED, "o"),
    "dendritic": (plots.GREEN, "s"),
    "synaptic": (plots.BLUE, "D"),
}
"""Colour and marker of each kind of delays."""
CLASSES = (plots.BLUE, plots.ORANGE, plots.GREEN)


def draw(found: Mapping[str, Any], folder: Path) -> list[Path]:
    """Write all figures for which there are results, as PNG."""
    figures: dict[str, Callable[[], Any]] = {}
    if found["size"]:
        figures["size.png"] = lambda: _size(found["size"])
    if found["noise"]:
        figures["noise.png"] = lambda: _noise(found["noise"])
        figures["curves.png"] = lambda: _curves(found)
    if found["bits"]:
        figures["precision.png"] = lambda: _precision(found)
    cells = folder / "cells"
    spikes = _arrays(cells, found["pictures"]["spikes"])
    if spikes:
        figures["spikes.png"] = lambda: _spikes(found["pictures"]["spikes"], spikes)
        delayed = {kind: arrays for kind, arrays in spikes.items() if kind != "none"}
        if delayed:
            figures["delays.png"] = lambda: _delays(found["pictures"]["spikes"], delayed)
    maps = {kind: arrays for kind, each in found["pictures"]["maps"].items() if (arrays := _arrays(cells, each))}
    if maps:
        figures["maps.png"] = lambda: _maps(found["pictures"]["maps"], maps)
    with plots.style():
        return [plots.save(make(), folder / name) for name, make in figures.items()]


def _arrays(cells: Path, entries: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """What jobs left beside their results, as far as it is there."""
    found = {}
    for name, entry in entries.items():
        path = cells / f"{entry['key']}.npz"
        if path.is_file():
            with np.load(path) as archive:
                found[name] = {each: archive[each] for each in archive.files}
    return found


def _of(entries: Sequence[Mapping[str, Any]]) -> list[str]:
    """The kinds of delays that occur."""
    return [kind for kind in DELAYS if any(entry["kind"] == kind for entry in entries)]


def _line(axis: Any, entries: Sequence[Mapping[str, Any]], x: Sequence[float], kind: str) -> None:
    """Mean accuracies and, as small points, the seeds."""
    colour, marker = LOOK[kind]
    means = [100 * entry["accuracy"]["mean"] for entry in entries]
    axis.plot(x, means, color=colour, marker=marker, markersize=6, label=words(kind))
    for at, entry in zip(x, entries, strict=True):
        axis.plot([at] * len(entry["seeds"]), [100 * seed for seed in entry["seeds"]], ".", color=colour, markersize=4)


def _size(entries: Sequence[Mapping[str, Any]]) -> Any:
    figure = plots.new_figure(9.2, 4.0)
    left, right = figure.subplots(1, 2, sharey=True)
    kinds, sizes = _of(entries), sorted({entry["hidden"] for entry in entries})
    for index, kind in enumerate(kinds):
        mine = [entry for entry in entries if entry["kind"] == kind]
        apart = 1 + 0.035 * (index - (len(kinds) - 1) / 2)
        _line(left, mine, [entry["hidden"] * apart for entry in mine], kind)
        _line(right, mine, [entry["parameters"] for entry in mine], kind)
        for axis, name in ((left, "hidden"), (right, "parameters")):
            theirs = [entry for entry in mine if entry["authors"]]
            axis.plot(
                [entry[name] for entry in theirs],
                [100 * entry["authors"] for entry in theirs],
                "*",
                color=LOOK[kind][0],
                markersize=10,
                markeredgecolor="black",
                markeredgewidth=0.6,
                zorder=5,
            )
    for axis in (left, right):
        axis.set_xscale("log")
        axis.minorticks_off()
    left.set_xticks(sizes, [str(size) for size in sizes])
    left.set_xlabel("hidden neurons")
    left.set_ylabel("test accuracy (%); small: seeds")
    counts = sorted({entry["parameters"] for entry in entries})
    ticks = [
        tick for tick in (20, 35, 50, 70, 100, 150, 210, 300, 420, 600) if 0.8 * counts[0] <= tick <= 1.2 * counts[-1]
    ]
    right.set_xticks(ticks, [str(tick) for tick in ticks])
    right.set_xlabel("parameters (weights and delays)")
    if any(entry["authors"] for entry in entries):
        right.plot([], [], "*", color="white", markeredgecolor="black", markersize=10, label="the authors' networks")
    figure.legend(*right.get_legend_handles_labels(), loc="outside lower center", ncols=5)
    return figure


def _noise(entries: Sequence[Mapping[str, Any]]) -> Any:
    """Ideal chip, in the loop and deployed, of each kind of delays."""
    figure = plots.new_figure(8.4, 4.0)
    axis = figure.subplots()
    bars = (
        ("ideal", "ideal chip", plots.GREY),
        ("accuracy", "noisy die, trained in the loop", plots.RED),
        ("same", "noisy die, ideal-trained and deployed", plots.BLUE),
    )
    lowest, inside = 100.0, {}
    for index, entry in enumerate(entries):
        for place, (name, label, colour) in enumerate(bars):
            values = entry[name]
            if values is None:
                continue
            x = index + 0.27 * (place - 1)
            axis.bar(x, 100 * values["mean"], width=0.25, color=colour, alpha=0.85, label=label if index == 0 else None)
            inside[x] = f"{100 * values['mean']:.1f}"
            singles = {"accuracy": entry["seeds"], "same": entry["same_seeds"]}.get(name, [])
            axis.plot([x] * len(singles), [100 * each for each in singles], "_", color="black", markersize=7)
            lowest = min(lowest, 100 * values["worst"])
        if entry["kind"] in AUTHORS_HARDWARE:
            axis.plot(
                index,
                100 * AUTHORS_HARDWARE[entry["kind"]],
                "*",
                color="white",
                markersize=10,
                markeredgecolor="black",
                markeredgewidth=0.8,
                label="the authors' networks on BrainScaleS-2" if index == 0 else None,
            )
    axis.set_xticks(range(len(entries)), [words(entry["kind"]) for entry in entries])
    bottom = max(0.0, 10 * np.floor((lowest - 3) / 10))
    axis.set_ylim(bottom, 102)
    for x, text in inside.items():
        axis.text(x, bottom + 0.8, text, ha="center", color="white", fontsize=8.5, fontweight="bold")
    axis.set_ylabel("test accuracy (%); ticks: single dies")
    axis.grid(axis="x", visible=False)
    axis.tick_params(axis="x", length=0)
    figure.legend(loc="outside lower center", ncols=2)
    return figure


def _curves(found: Mapping[str, Any]) -> Any:
    """Wrong classes on the validation set after each epoch."""
    largest = max((entry["hidden"] for entry in found["size"]), default=0)
    ideal = [entry for entry in found["size"] if entry["hidden"] == largest]
    panels = [(title, each) for title, each in (("ideal chip", ideal), ("noisy dies", found["noise"])) if each]
    figure = plots.new_figure(4.6 * len(panels), 3.7)
    for axis, (title, entries) in zip(
        figure.subplots(1, len(panels), sharey=True, squeeze=False)[0], panels, strict=True
    ):
        for entry in entries:
            values = 100 * (1 - np.array(entry["curves"]["validation_accuracy"]))
            axis.plot(range(1, len(values) + 1), values, color=LOOK[entry["kind"]][0], label=words(entry["kind"]))
        axis.set_title(title)
        axis.set_xlabel("epochs")
        axis.xaxis.get_major_locator().set_params(integer=True)
    for axis in figure.axes:
        axis.set_yscale("log")
        ticks = [1, 2, 3, 5, 10, 20, 40]
        low, high = axis.get_ylim()
        axis.set_yticks(ticks, [str(tick) for tick in ticks])
        axis.set_ylim(low, high)
        axis.minorticks_off()
    figure.axes[0].set_ylabel("wrong on the validation set (%)")
    figure.legend(*figure.axes[-1].get_legend_handles_labels(), loc="outside lower center", ncols=4)
    return figure


def _precision(found: Mapping[str, Any]) -> Any:
    """Accuracy against bits and against time steps."""
    panels = [
        (entries, label)
        for entries, label in (
            (found["bits"], "bits of a weight"),
            (found["resolution"], "time steps per synaptic time constant"),
        )
        if entries
    ]
    figure = plots.new_figure(4.6 * len(panels), 3.8)
    handles: dict[str, Any] = {}
    for axis, (entries, label) in zip(
        figure.subplots(1, len(panels), sharey=True, squeeze=False)[0], panels, strict=True
    ):
        for kind in _of(entries):
            mine = [entry for entry in entries if entry["kind"] == kind]
            _line(axis, mine, [entry["value"] for entry in mine], kind)
        ticks = sorted({entry["value"] for entry in entries})
        axis.set_xticks(ticks, [str(tick) for tick in ticks])
        axis.set_xlabel(label)
        for handle, name in zip(*axis.get_legend_handles_labels(), strict=True):
            handles.setdefault(name, handle)
    figure.axes[0].set_ylabel("test accuracy (%); small: seeds")
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=4)
    return figure


def _spikes(entries: Mapping[str, Mapping[str, Any]], spikes: Mapping[str, Mapping[str, Any]]) -> Any:
    """First spikes of inputs, hidden neurons and outputs; a column for each class, rows before and after training."""
    kinds = list(spikes)
    names = entries[kinds[0]]["class_names"]
    figure = plots.new_figure(3.1 * len(names) + 0.6, 0.7 + 3.9 * len(kinds))
    grid = figure.subplots(2 * len(kinds), len(names), sharex=True, sharey=True, squeeze=False)
    for at, kind in enumerate(kinds):
        arrays, n = spikes[kind], entries[kind]["n"]
        n_hidden = arrays["hidden_after"].shape[1]
        # In the order of their trained spikes, so that before and after can be told apart neuron by neuron.
        late = np.where(arrays["hidden_after"] < 0, 1 << 24, arrays["hidden_after"])
        order = np.argsort(np.median(late, axis=0), kind="stable")
        for row, moment in enumerate(("before", "after")):
            for label, name in enumerate(names):
                axis = grid[2 * at + row][label]
                _raster(axis, arrays["inputs"][label] / n, np.arange(arrays["inputs"].shape[1]) - 6, "black", "|")
                hidden = arrays[f"hidden_{moment}"][label][order]
                _raster(axis, hidden / n, np.arange(n_hidden), LOOK[kind][0], ".")
                outputs = arrays[f"output_{moment}"][label]
                for k, step in enumerate(outputs):
                    if step >= 0:
                        y = n_hidden + 4 + 5 * k
                        axis.plot(step / n, y, "D", color=CLASSES[k], markersize=5.5 if k == label else 4, zorder=4,
                                  markeredgecolor="black" if k == label else CLASSES[k])  # fmt: skip
                fired = outputs[outputs >= 0]
                if len(fired):
                    axis.axvline(fired.min() / n, color=CLASSES[int(np.where(outputs < 0, 1 << 24, outputs).argmin())],
                                 linewidth=0.9, alpha=0.7)  # fmt: skip
                axis.set_ylim(-7.5, n_hidden + 5 * len(names) + 2)
                if 2 * at + row == 0:
                    axis.set_title(f"sample of class {name}")
            grid[2 * at + row][0].set_ylabel(f"{words(kind)},\n{moment}")
    ticks = [-4.5, (n_hidden - 1) / 2, *(n_hidden + 4 + 5 * k for k in range(len(names)))]
    for axes in grid:
        axes[0].set_yticks(ticks, ["inputs", "hidden", *names])
        for axis in axes:
            axis.grid(axis="y", visible=False)
            axis.tick_params(axis="y", length=0)
    for axis in grid[-1]:
        axis.set_xlabel("time (tau_s)")
    last = max(float(arrays[f"output_{moment}"].max() / entries[kind]["n"]) for kind, arrays in spikes.items()
               for moment in ("before", "after"))  # fmt: skip
    grid[0][0].set_xlim(0, 1.03 * last)
    return figure


def _raster(axis: Any, times: Any, rows: Any, colour: str, marker: str) -> None:
    fired = times >= 0
    axis.plot(times[fired], np.asarray(rows)[fired], marker, color=colour, markersize=4.5)


def _delays(entries: Mapping[str, Mapping[str, Any]], delays: Mapping[str, Mapping[str, Any]]) -> Any:
    """Histograms of the delays of both layers, before and after training."""
    figure = plots.new_figure(4.2 * len(delays), 4.6)
    grid = figure.subplots(2, len(delays), sharex=True, squeeze=False)
    edges = np.linspace(0, 1, 26)
    for column, (kind, arrays) in enumerate(delays.items()):
        for row, what in enumerate(("inputs to hidden", "hidden to outputs")):
            axis = grid[row][column]
            for moment, look in (("before", {"color": plots.GREY}), ("after", {"color": LOOK[kind][0]})):
                matrix = arrays[f"delays_{row}_{moment}"]
                # One value for each delay that is learned, not for each synapse.
                values = {"axonal": matrix[:, :1], "dendritic": matrix[:1]}.get(kind, matrix).ravel() / entries[kind][
                    "n"
                ]
                label = f"{moment} training ({values.size})"
                axis.hist(values, bins=edges, alpha=0.45 if moment == "before" else 0.75, label=label, **look)
            axis.set_title(f"{words(kind)}: {what}")
            axis.legend(loc="upper right")
            axis.set_ylabel("delays")
            axis.yaxis.get_major_locator().set_params(integer=True)
    for axis in grid[-1]:
        axis.set_xlabel("delay (tau_s)")
    return figure


def _maps(entries: Mapping[str, Mapping[str, Any]], maps: Mapping[str, Mapping[str, Any]]) -> Any:
    """The class of every point of the plane; a column for each kind of delays."""
    from matplotlib.colors import ListedColormap

    kinds = list(maps)
    names = [name for name in ("ideal", "noisy") if any(name in maps[kind] for kind in kinds)]
    figure = plots.new_figure(2.9 * len(kinds) + 0.4, 0.6 + 3.1 * len(names))
    grid = figure.subplots(len(names), len(kinds), squeeze=False)
    titles = {"ideal": "ideal chip", "noisy": "noisy die"}
    angle = np.linspace(0, 2 * np.pi, 200)
    shown: list[str] = []
    for column, kind in enumerate(kinds):
        for row, name in enumerate(names):
            axis = grid[row][column]
            axis.set_xticks([])
            axis.set_yticks([])
            axis.grid(visible=False)
            axis.set_aspect("equal")
            if name not in maps[kind]:
                axis.axis("off")
                continue
            entry, classes = entries[kind][name], maps[kind][name]["classes"]
            shown = entry["class_names"]
            at = (np.arange(len(classes)) + 0.5) / len(classes)
            inside = np.hypot(*np.meshgrid(at - 0.5, at - 0.5)) <= 0.5
            axis.imshow(
                np.where(inside, classes, np.nan),
                origin="lower",
                extent=(0, 1, 0, 1),
                cmap=ListedColormap(["#000000", *CLASSES[: len(shown)]]),
                vmin=-1.5,
                vmax=len(shown) - 0.5,
                interpolation="nearest",
                alpha=0.75,
            )
            _yin_yang(axis, angle)
            score = f", {100 * entry['accuracy']:.1f} %" if entry["accuracy"] is not None else ""
            axis.set_title(f"{words(kind)}\n{titles[name]}{score}", fontsize=9.5)
            for spine in axis.spines.values():
                spine.set_visible(False)
    for k, name in enumerate(shown):
        grid[0][0].plot([], [], "s", color=CLASSES[k], alpha=0.75, label=name)
    grid[0][0].plot([], [], color="black", linewidth=1, label="true border")
    figure.legend(*grid[0][0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
    return figure


def _yin_yang(axis: Any, angle: Any) -> None:
    """The true borders of the classes."""
    style = {"color": "black", "linewidth": 0.9}
    axis.plot(0.5 + 0.5 * np.cos(angle), 0.5 + 0.5 * np.sin(angle), **style)
    for centre in (0.25, 0.75):
        axis.plot(centre + 0.1 * np.cos(angle), 0.5 + 0.1 * np.sin(angle), **style)
    half = np.linspace(0, np.pi, 100)
    axis.plot(0.25 + 0.25 * np.cos(half), 0.5 - 0.25 * np.sin(half), **style)
    axis.plot(0.75 + 0.25 * np.cos(half), 0.5 + 0.25 * np.sin(half), **style)
