"""The study's figures."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from host import plots
from host.reproduce.numbers import NEAR
from host.reproduce.ssnn_bp import cycles
from host.reproduce.ssnn_bp.text import CYCLES

CHIP, ANN = plots.RED, plots.BLUE
SHOWN_NEURONS = 48


def draw(found: Mapping[str, Any], folder: Path) -> list[Path]:
    """Write all figures for which there are results, as PNG."""
    figures: dict[str, Callable[[], Any]] = {}
    if found["headline"]:
        figures["headline.png"] = lambda: _headline(found["headline"])
        figures["curves.png"] = lambda: _curves(found["headline"])
    if len(found["steps"]) > 1:
        figures["steps.png"] = lambda: _steps(found)
    if len(found["bits"]) > 1:
        figures["bits.png"] = lambda: _bits(found["bits"])
    if found["statistics"]:
        figures["cycles.png"] = lambda: _cycles(found["statistics"])
    picture = found["picture"]
    path = folder / "cells" / f"{picture['key']}.npz" if picture else None
    if path is not None and path.is_file():
        with np.load(path) as archive:
            streams = {name: archive[name] for name in archive.files}
        figures["mistake.png"] = lambda: _mistake(picture, streams)
    with plots.style():
        return [plots.save(make(), folder / name) for name, make in figures.items()]


def _short(entry: Mapping[str, Any]) -> str:
    """A title on two lines."""
    name, *rest = entry["title"].split(", ")
    if rest[0].endswith("samples"):
        name = f"{name}, {rest.pop(0)}"
    return f"{name}, {rest[0]}\n" + ", ".join(rest[1:])


def _headline(entries: Sequence[Mapping[str, Any]]) -> Any:
    figure = plots.new_figure(9.4, 1.4 + 0.55 * len(entries))
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=(3, 2))
    for y, entry in enumerate(reversed(entries)):
        first = y == 0
        for kind, colour, marker, dy in (("ann", ANN, "D", 0.13), ("chip", CHIP, "o", -0.13)):
            if entry[kind] is None:
                continue
            label = {"ann": "ANN", "chip": "chip"}[kind] if first else None
            at = 100 * entry[kind]["mean"]
            left.plot(at, y + dy, color=colour, marker=marker, markersize=6, linestyle="none", label=label)
        gap = entry["minus"]
        if gap:
            right.errorbar(
                100 * gap["mean"],
                y,
                xerr=200 * gap["se"],
                color=CHIP,
                marker="o",
                markersize=6,
                capsize=3,
                linestyle="none",
                label="difference, two standard errors" if first else None,
            )
    right.axvline(0, color=ANN, linewidth=1.2)
    right.axvspan(-100 * NEAR, 100 * NEAR, color=ANN, alpha=0.1, linewidth=0, label=f"within {100 * NEAR:g} point")
    left.set_yticks(range(len(entries)), [_short(entry) for entry in reversed(entries)])
    left.set_ylim(-0.6, len(entries) - 0.4)
    left.set_xlabel("test accuracy (%)")
    right.set_xscale("symlog", linthresh=1.0)
    low, high = right.get_xlim()
    ticks = [tick for tick in (-10, -5, -2, -1, -0.5, 0, 0.5, 1, 2, 5, 10) if low <= tick <= high]
    right.set_xticks(ticks, [f"{tick:g}" for tick in ticks], rotation=0 if len(ticks) < 8 else 45)
    right.minorticks_off()
    right.set_xlim(low, high)
    right.set_xlabel("chip minus ANN (points)")
    for axis in (left, right):
        axis.tick_params(axis="y", length=0)
    figure.legend(loc="outside lower center", ncols=4)
    return figure


def _line(axis: Any, x: Sequence[float], entries: Sequence[Mapping[str, Any]]) -> None:
    """Chip with error bars, and the ANN as a band of two standard deviations over seeds."""
    axis.errorbar(
        x,
        [100 * entry["chip"]["mean"] for entry in entries],
        yerr=[200 * (entry["minus"]["se"] if entry["minus"] else 0.0) for entry in entries],
        color=CHIP,
        marker="o",
        markersize=5,
        capsize=2.5,
        label="chip (bars: two standard errors of the difference to the ANN)",
    )
    ann = next((entry["ann"] for entry in entries if entry["ann"]), None)
    if ann is not None:
        mean, spread = 100 * ann["mean"], 200 * ann["sd"]
        axis.axhline(mean, color=ANN, linestyle="--", label="ANN (band: two standard deviations over seeds)")
        axis.axhspan(mean - spread, mean + spread, color=ANN, alpha=0.12, linewidth=0)


def _steps(found: Mapping[str, Any]) -> Any:
    entries, tested = found["steps"], found["test_steps"]
    figure = plots.new_figure(8.2 if tested else 5.2, 3.7)
    axes = figure.subplots(1, 2 if tested else 1, sharey=True, squeeze=False)[0]
    x = [entry["steps"] for entry in entries]
    _line(axes[0], x, entries)
    axes[0].set_title("learned and tested with T steps")
    axes[0].set_ylabel("test accuracy (%)")
    if tested:
        x_tested = [each["steps"] for each in tested]
        for kind, label, colour, marker in (
            ("potential", "chip, class by summed membrane", CHIP, "o"),
            ("count", "chip, class by steps won", plots.ORANGE, "s"),
        ):
            values = [100 * each[kind] for each in tested]
            axes[1].plot(x_tested, values, color=colour, marker=marker, markersize=5, linestyle=":", label=label)
        axes[1].set_title("same weights, tested with T steps")
    for axis, ticks in zip(axes, (x, x_tested) if tested else (x,), strict=True):
        axis.set_xscale("log")
        axis.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        axis.minorticks_off()
        axis.set_xlabel("time steps T of a sample")
    figure.legend(loc="outside lower center", ncols=2)
    return figure


def _bits(entries: Sequence[Mapping[str, Any]]) -> Any:
    figure = plots.new_figure(6.2, 3.7)
    axis = figure.subplots()
    plain = sorted(
        (entry for entry in entries if not entry["setting"]["forward_shift"]),
        key=lambda entry: entry["setting"]["weight_bits"],
    )
    if plain:
        _line(axis, [entry["setting"]["weight_bits"] for entry in plain], plain)
    for entry in entries:
        if entry["setting"]["forward_shift"]:
            bits = entry["setting"]["weight_bits"]
            axis.plot(
                bits - entry["setting"]["forward_shift"],
                100 * entry["chip"]["mean"],
                color=plots.GREEN,
                marker="*",
                markersize=11,
                linestyle="none",
                label=f"{bits} bits learned, the upper {bits - entry['setting']['forward_shift']} in the forward pass",
            )
    ticks = sorted({entry["setting"]["weight_bits"] for entry in plain})
    axis.set_xticks(ticks, [str(tick) for tick in ticks])
    axis.set_xlabel("bits of a weight")
    axis.set_ylabel("test accuracy (%)")
    figure.legend(loc="outside lower center", ncols=1)
    return figure


def _curves(entries: Sequence[Mapping[str, Any]]) -> Any:
    figure = plots.new_figure(9.2, 3.6 + 0.24 * len(entries))
    left, right = figure.subplots(1, 2)
    for index, entry in enumerate(entries):
        colour, curves = plots.PALETTE[index % len(plots.PALETTE)], entry["curves"]
        samples = np.array(curves["samples"], dtype=float) / entry["n_train"]
        window = max(1, len(samples) // 60)
        # At the start there is nothing to average over.
        smooth = plots.running_mean(curves["wrong"], window)
        left.plot(samples, 100 * smooth, color=colour, linewidth=1.3, label=entry["title"])
        for kind, line in (("chip", "-"), ("ann", "--")):
            values = [100 * (1 - value) for value in curves[kind]]
            right.plot(range(1, len(values) + 1), values, color=colour, linestyle=line, marker="o", markersize=3)
    for axis in (left, right):
        axis.set_yscale("log")
        axis.set_xlabel("epochs")
        ticks = [1, 2, 3, 5, 10, 20, 50, 100]
        low, high = axis.get_ylim()
        axis.set_yticks(ticks, [str(tick) for tick in ticks])
        axis.set_ylim(low, high)
        axis.minorticks_off()
        axis.set_xlim(0, None)
    left.set_title("while the chip learns")
    left.set_ylabel("steps with a wrong winner (%)")
    right.set_title("test set, after each epoch")
    right.set_ylabel("wrong classes (%)")
    right.plot([], [], color="black", label="chip")
    right.plot([], [], color="black", linestyle="--", label="ANN")
    right.legend(loc="upper right")
    figure.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=1)
    return figure


def _cycles(entries: Sequence[Mapping[str, Any]]) -> Any:
    """Where the cycles of a sample go, as shares of those of its test."""
    colours = dict(
        zip(
            cycles.PARTS,
            (plots.GREY, "#BDBDBD", plots.BLUE, plots.GREEN, "#000000", plots.PINK, plots.ORANGE, plots.RED),
            strict=True,
        )
    )
    figure = plots.new_figure(8.6, 1.5 + 0.62 * len(entries))
    axis = figure.subplots()
    labels = []
    for index, entry in enumerate(reversed(entries)):
        for dy, moment, name in ((0.19, "early", "early"), (-0.19, "end", "end")):
            each, at = entry["moments"][moment], 0.0
            for part in cycles.PARTS:
                width = each["cycles"][part] / each["cycles_inferred"]
                label = CYCLES[part] if (index, moment) == (0, "early") else None
                axis.barh(index + dy, width, left=at, height=0.34, color=colours[part], label=label)
                at += width
            axis.text(at + 0.012, index + dy, f"{name}: {each['cycles_learned']:,.0f}", va="center", fontsize=8)
        labels.append(_short(entry))
    axis.axvline(1, color="black", linewidth=0.9, linestyle=":")
    axis.set_yticks(range(len(entries)), labels)
    axis.set_xlim(0, 1.16 * max(entry["moments"][m]["cycles_learned"] / entry["moments"][m]["cycles_inferred"]
                                for entry in entries for m in ("early", "end")))  # fmt: skip
    axis.set_xlabel("clock cycles to learn a sample, relative to testing it; numbers: cycles")
    axis.grid(axis="y", visible=False)
    axis.tick_params(axis="y", length=0)
    figure.legend(loc="outside lower center", ncols=4)
    return figure


def _mistake(picture: Mapping[str, Any], streams: Mapping[str, Any]) -> Any:
    """Winner against label, hidden spikes and open gates, gradient spikes of both signs, over the time steps."""
    winner, raster, gate, gradient = (streams[name] for name in ("winner", "raster", "gate", "gradient"))
    steps, n_hidden = raster.shape
    # The neurons with the most gradient spikes, from the most positive to the most negative.
    most = np.argsort(-np.abs(gradient).sum(axis=0), kind="stable")[: min(SHOWN_NEURONS, n_hidden)]
    rows = most[np.argsort(-gradient[:, most].sum(axis=0), kind="stable")]
    time = np.arange(steps)
    wrong = winner != picture["label"]

    figure = plots.new_figure(9.6, 7.4)
    grid = figure.add_gridspec(3, 2, width_ratios=(1, 5), height_ratios=(1.25, 2, 2))
    image = figure.add_subplot(grid[0, 0])
    _image(image, streams["image"])
    image.set_title(f"a {picture['label']}")
    top = figure.add_subplot(grid[0, 1])
    top.axhline(picture["label"], color=plots.GREEN, linewidth=7, alpha=0.25, label="label")
    top.plot(time[~wrong], winner[~wrong], "o", color=plots.GREEN, markersize=4.5, label="right winner")
    top.plot(time[wrong], winner[wrong], "X", color="black", markersize=5.5, label="wrong winner")
    top.set_yticks(range(int(max(9, winner.max())) + 1))
    top.set_ylabel("class")
    top.set_title("one winner in each step")
    middle = figure.add_subplot(grid[1, 1], sharex=top)
    bottom = figure.add_subplot(grid[2, 1], sharex=top, sharey=middle)
    for axis in (middle, bottom):
        axis.pcolormesh(
            np.arange(steps + 1) - 0.5,
            np.arange(len(rows) + 1) - 0.5,
            np.where(gate[:, rows].T, 1.0, np.nan),
            cmap="Greys",
            vmin=0,
            vmax=6,
            rasterized=True,
        )
        axis.grid(visible=False)
        axis.set_ylabel(f"hidden neuron ({len(rows)} of {n_hidden})")
        axis.set_ylim(-0.6, len(rows) - 0.4)
    for t in time[wrong]:
        bottom.axvline(t, color="black", linewidth=0.6, alpha=0.4, zorder=1.5)
    t, i = np.nonzero(raster[:, rows])
    middle.plot(t, i, "|", color="black", markersize=4.2, markeredgewidth=1.1, label="spike")
    middle.set_title("hidden neurons: spikes")
    for sign, colour, marker, label in ((1, plots.RED, "^", "positive"), (-1, plots.BLUE, "v", "negative")):
        t, i = np.nonzero(gradient[:, rows] == sign)
        bottom.plot(t, i, marker, color=colour, markersize=3.6, label=f"{label} gradient spike")
    bottom.set_title("hidden neurons: the two gradient streams")
    bottom.set_xlabel("time step")
    top.set_xlim(-0.7, steps - 0.3)
    for axis in (top, middle):
        axis.tick_params(labelbottom=False)
    middle.fill_between([], [], [], color="#DADADA", label="gate open")
    bottom.plot([], [], color="black", linewidth=0.5, alpha=0.5, label="step with a wrong winner")
    side = figure.add_subplot(grid[1:, 0])
    side.axis("off")
    pairs = [pair for axis in (top, middle, bottom) for pair in zip(*axis.get_legend_handles_labels(), strict=True)]
    side.legend(*zip(*pairs, strict=True), loc="upper left", bbox_to_anchor=(-0.1, 1.0), labelspacing=0.9)
    return figure


def _image(axis: Any, image: Any) -> None:
    """The sample's intensities as a picture; of event data, both polarities summed."""
    pixels = image.astype(float)
    if len(pixels) == 2 * 34 * 34:
        pixels = pixels.reshape(2, -1).sum(axis=0)
    side = int(len(pixels) ** 0.5)
    axis.imshow(pixels[: side * side].reshape(side, -1), cmap="Greys", interpolation="nearest")
    axis.set_xticks([])
    axis.set_yticks([])
    axis.grid(visible=False)
    for spine in axis.spines.values():
        spine.set_visible(True)
