"""Report of one run: plots as PNG and a self-contained HTML page, drawn from the run folder alone."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from host import plots
from host.calibration import reliability
from host.files import write_atomically
from host.runs import REPORT, RunFolder

_TEMPLATE = Path(__file__).with_name("report.html")

Arrays = Mapping[str, NDArray[Any]]


def learning_curve(result: Mapping[str, Any], history: Arrays) -> Figure:
    """Learning curve of any trainer."""
    if "silent_labels" in history:
        return _curve_of_times(result, history)
    if "firing" in history:
        return _curve_of_losses(result, history)
    return _curve_of_epochs(result, history) if "epoch" in history else _curve_of_steps(result, history)


def _accuracy_of_epochs(
    axis: Any,
    result: Mapping[str, Any],
    history: Arrays,
    right: Any,
    label: str,
    validated: str = "validation_accuracy",
) -> None:
    """Training, validation and, as a line, test accuracy; `right` is the training's in percent."""
    epochs, test = history["epoch"], 100 * result["accuracy"]["test"]
    axis.plot(epochs, right, "o-", color=plots.SKY, markersize=4, label=label)
    low = float(right.min())
    validation = 100 * history[validated]
    if np.isfinite(validation).any():
        axis.plot(epochs, validation, "s-", color=plots.BLUE, markersize=4, label="validation set")
        low = min(low, float(np.nanmin(validation)))
    axis.axhline(test, color=plots.RED, linestyle="--", linewidth=1.3, label=f"test, trained network: {test:.1f} %")
    axis.set_ylabel("accuracy (%)")
    axis.set_ylim(min(low, test) - 4, 101)
    axis.legend(loc="lower right")
    axis.set_title("Learning curve")


def _epoch_ticks(axis: Any, epochs: NDArray[Any]) -> None:
    axis.set_xlabel("epoch")
    axis.set_xticks(epochs if len(epochs) <= 20 else epochs[:: len(epochs) // 10])


def _curve_of_times(result: Mapping[str, Any], history: Arrays) -> Figure:
    """Accuracy, length of a sample and silent neurons of each epoch."""
    figure = plots.new_figure(7.2, 4.6)
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 2))
    epochs = history["epoch"]
    _accuracy_of_epochs(upper, result, history, 100 * history["training_accuracy"], "training, as it goes")
    for name, colour, label in (
        ("silent_hidden", plots.ORANGE, "hidden neurons"),
        ("silent_labels", plots.PINK, "labels' outputs"),
    ):
        lower.plot(epochs, 100 * history[name], "o-", color=colour, markersize=4, label=f"silent {label}")
    lower.set_ylabel("without a spike (%)")
    most = np.nanmax([history["silent_hidden"], history["silent_labels"]])
    lower.set_ylim(0, max(1.0, 160 * float(most)))
    lower.legend(loc="upper left")
    _epoch_ticks(lower, epochs)
    steps = lower.twinx()
    steps.plot(epochs, history["steps"], color=plots.GREEN)
    steps.set_ylabel("steps of a sample", color=plots.GREEN)
    steps.set_ylim(0, 1.6 * float(history["steps"].max()))
    steps.grid(False)
    steps.spines["right"].set_visible(True)
    return figure


def _curve_of_losses(result: Mapping[str, Any], history: Arrays) -> Figure:
    """Accuracy, loss and firing rate of each epoch."""
    figure = plots.new_figure(7.2, 4.6)
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 2))
    epochs, right = history["epoch"], 100 * history["accuracy_train"]
    _accuracy_of_epochs(upper, result, history, right, "training, as it goes", "accuracy_validation")
    lower.plot(epochs, history["loss"], "o-", color=plots.ORANGE, markersize=4)
    lower.set_ylabel("cross-entropy\n(nats / sample)", color=plots.ORANGE)
    lower.set_ylim(bottom=0)
    _epoch_ticks(lower, epochs)
    firing = lower.twinx()
    firing.plot(epochs, 100 * history["firing"], color=plots.GREEN)
    firing.set_ylabel("neurons that spike\nin a step (%)", color=plots.GREEN)
    firing.set_ylim(0, 130 * float(history["firing"].max()) or 1)
    firing.grid(False)
    firing.spines["right"].set_visible(True)
    return figure


def _curve_of_epochs(result: Mapping[str, Any], history: Arrays) -> Figure:
    """Accuracy, gradient spikes and learning rates of each epoch."""
    figure = plots.new_figure(7.2, 4.6)
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 2))
    epochs = history["epoch"]
    right = 100 * (1 - history["training_error"])
    _accuracy_of_epochs(upper, result, history, right, "training, single steps with the right winner")
    lower.plot(epochs, history["gradient_spikes"], "o-", color=plots.ORANGE, markersize=4)
    lower.set_ylabel("gradient spikes\nper step", color=plots.ORANGE)
    lower.set_ylim(bottom=0)
    _epoch_ticks(lower, epochs)
    rates = lower.twinx()
    table = np.array([history[name] for name in sorted(history) if name.startswith("rate_")])
    together = bool((table == table[0]).all())
    for index, row in enumerate(table[:1] if together else table):
        colour = (plots.GREEN, plots.PINK, plots.GREY)[index % 3]
        label = "learning rate" + ("" if together else f" of layer {index + 1}")
        rates.step(epochs, row, where="mid", color=colour, label=label)
    rates.set_ylabel("learning rate", color=plots.GREEN)
    rates.set_ylim(0, 1.05 * float(table.max()) or 1)
    rates.grid(False)
    rates.spines["right"].set_visible(True)
    rates.legend(loc="upper right")
    return figure


def _curve_of_steps(result: Mapping[str, Any], history: Arrays) -> Figure:
    """Accuracy and objective against chip presentations (and clock cycles, on top)."""
    figure = plots.new_figure(7.2, 4.6)
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 2))
    steps = history["step"]
    is_chain = "log_likelihood" in history
    total = max(1.0, float(steps[-1]))
    samples = float(result["chip"]["samples"])
    on_chip = samples > 0
    x = steps / total * samples if on_chip else steps
    window = max(1, len(steps) // 60)
    upper.plot(x, 100 * history["accuracy"], color=plots.SKY, linewidth=0.7, alpha=0.7, label="training, each step")
    upper.plot(
        x,
        100 * plots.running_mean(history["accuracy"], window),
        color=plots.BLUE,
        label=f"training, mean of {window} steps",
    )
    test = 100 * result["accuracy"]["test"]
    upper.axhline(test, color=plots.RED, linestyle="--", linewidth=1.3, label=f"test, trained network: {test:.1f} %")
    upper.set_ylabel("accuracy (%)")
    low = float(np.percentile(100 * history["accuracy"], 1))
    upper.set_ylim(min(low, test) - 4, 101)
    upper.legend(loc="lower right")
    upper.set_title("Learning curve")
    if is_chain:
        lower.plot(x, history["log_likelihood"], color=plots.ORANGE, linewidth=0.8, label="current sample")
        lower.plot(x, history["best_log_likelihood"], color=plots.GREEN, label="best so far")
        lower.set_ylabel("log-likelihood\n(nats / sample)")
        values = history["log_likelihood"]
        lower.set_ylim(float(np.percentile(values, 2)) - 0.02, max(0.0, float(values.max())) + 0.02)
        lower.legend(loc="lower right")
    else:
        lower.plot(x, history["loss"], color=plots.ORANGE, linewidth=0.8, label="batch")
        lower.plot(x, history["best_loss"], color=plots.GREEN, label="lowest so far")
        lower.set_ylabel("cross-entropy\n(nats / sample)")
        lower.legend(loc="upper right")
    lower.set_xlabel("presentations of a sample to the chip" if on_chip else "updates (the chip is not used)")
    lower.set_xlim(0, float(x[-1]))
    if on_chip:
        lower.xaxis.set_major_formatter(lambda value, _: plots.thousands(value))
        per_sample = result["chip"]["cycles"] / samples
        if per_sample > 0:
            top = upper.secondary_xaxis("top", functions=(lambda v: v * per_sample, lambda v: v / per_sample))
            top.xaxis.set_major_formatter(lambda value, _: plots.thousands(value))
            top.set_xlabel("clock cycles of the chip", fontsize=8.5)
            top.tick_params(labelsize=8)
    return figure


def spike_raster(result: Mapping[str, Any], evaluation: Arrays) -> Figure:
    """Spikes of all layers for a few test samples."""
    names = result["class_names"]
    labels = evaluation["raster_labels"]
    layers = sorted(
        (name for name in evaluation if name.startswith("raster_") and name[7:].isdigit()),
        key=lambda name: int(name[7:]),
    )
    n_samples = len(labels)
    # With binary weights classes have no neurons of their own.
    outputs = layers[-1] if not result["config"].get("binary_weights") else None
    figure = plots.new_figure(7.2, 3.6)
    axes = figure.subplots(1, n_samples, sharey=True, squeeze=False)[0]
    for index, axis in enumerate(axes):
        offset, ticks, tick_labels = 0, [], []
        for depth, name in enumerate(layers):
            raster = evaluation[name][index]  # (T, n)
            steps, n = raster.shape
            colour = plots.RED if name == outputs else plots.BLUE
            when, who = np.nonzero(raster)
            height = 0.8
            axis.vlines(when, offset + who - height / 2, offset + who + height / 2, color=colour, linewidth=1.4)
            if name == outputs:
                ticks += list(range(offset, offset + n))
                tick_labels += [str(item) for item in names]
            else:
                ticks.append(offset + (n - 1) / 2)
                tick_labels.append(f"hidden {depth + 1}\n({n} neurons)")
                axis.axhline(offset + n - 0.5, color=plots.GREY, linewidth=0.8)
            offset += n
        counts = evaluation[layers[-1]][index].sum(axis=0)
        winner = int(evaluation["raster_predicted"][index] if "raster_predicted" in evaluation else np.argmax(counts))
        right = winner == labels[index]
        if outputs is None:
            found = f"{counts.sum()} spikes"
        elif len(counts) <= 4:
            found = " : ".join(map(str, counts.tolist()))
        else:
            found = f"{counts[winner]} of {counts.sum()} spikes"
        axis.set_title(
            f"sample {evaluation['raster_samples'][index]}: {names[labels[index]]}\n"
            f"{'read as' if right else 'MISREAD as'} {names[winner] if winner >= 0 else 'none'} ({found})",
            fontsize=9,
            color="black" if right else plots.RED,
        )
        axis.set_xlim(-0.8, steps - 0.2)
        axis.set_ylim(-0.8, offset - 0.2)
        axis.set_yticks(ticks, tick_labels if offset < 60 or outputs is None else ["" for _ in ticks])
        axis.tick_params(axis="y", length=0)
        axis.grid(False)
        axis.set_xlabel("time step")
        axis.xaxis.get_major_locator().set_params(integer=True)
    return figure


def confusion(result: Mapping[str, Any], evaluation: Arrays) -> Figure:
    """Confusion matrix of the test set, in samples."""
    names = result["class_names"]
    # Samples without an answer, -1, have a column of their own.
    silent = bool((evaluation["predicted"] < 0).any())
    columns = [*names, "none"] if silent else names
    matrix = np.zeros((len(names), len(columns)), dtype=int)
    np.add.at(matrix, (evaluation["labels"], evaluation["predicted"]), 1)
    share = matrix / np.maximum(1, matrix.sum(axis=1, keepdims=True))
    size = 3.6 if len(names) <= 4 else 5.0
    figure = plots.new_figure(size + 0.6, size)
    axis = figure.subplots()
    image = axis.imshow(share, cmap="Blues", vmin=0, vmax=1)
    for row in range(len(names)):
        for column in range(len(columns)):
            text = str(matrix[row, column])
            if len(names) <= 4:
                text += f"\n{100 * share[row, column]:.1f} %"
            axis.text(
                column, row, text, ha="center", va="center", color="white" if share[row, column] > 0.55 else "black"
            )
    axis.set_xticks(range(len(columns)), columns)
    axis.set_yticks(range(len(names)), names, rotation=90 if len(names) <= 4 else 0, va="center")
    axis.set_xlabel("predicted")
    axis.set_ylabel("true")
    axis.grid(False)
    axis.spines[:].set_visible(False)
    axis.set_title(f"Test set, {int(matrix.sum())} samples")
    figure.colorbar(image, ax=axis, label="share of the true class", shrink=0.8)
    return figure


def weight_histogram(result: Mapping[str, Any], evaluation: Arrays) -> Figure:
    """Distribution of the trained integer weights, layer by layer; of binary ones, what they are drawn from."""
    if "latent_0" in evaluation:
        return _latent_histogram(result, evaluation)
    limit = 1 << (int(result["config"]["weight_bits"]) - 1)
    figure = _histogram(evaluation, "weights_", np.linspace(-limit, limit, 33))
    axis = figure.axes[0]
    axis.set_xlabel("weight (integer units)")
    axis.set_ylabel("weights of the layer (%)")
    axis.set_title("Trained weights")
    return figure


def _latent_histogram(result: Mapping[str, Any], evaluation: Arrays) -> Figure:
    """Distribution of the real number that stands behind every binary weight."""
    figure = _histogram(evaluation, "latent_", np.linspace(-1, 1, 41), ".2f")
    axis = figure.axes[0]
    posterior = result["system"] == "bisnn-bayes"
    axis.set_xlabel("posterior mean of a weight" if posterior else "real parameter, whose sign is the weight")
    axis.set_ylabel("synapses of the layer (%)")
    axis.set_title("Posterior means" if posterior else "Trained parameters")
    return figure


def delay_histogram(result: Mapping[str, Any], evaluation: Arrays) -> Figure | None:
    """Distribution of the synapses' delays, layer by layer; ``None`` if there are none."""
    if "delays_0" not in evaluation:
        return None
    slots = int(result["config"]["delay_slots"])
    figure = _histogram(evaluation, "delays_", np.linspace(0, slots, min(slots, 32) + 1))
    axis = figure.axes[0]
    axis.set_xlabel("delay (time steps)")
    axis.set_ylabel("synapses of the layer (%)")
    axis.set_title("Delays")
    return figure


def _histogram(evaluation: Arrays, prefix: str, bins: NDArray[Any], digits: str = ".0f") -> Figure:
    """Distributions of the matrices of all layers."""
    figure = plots.new_figure(7.2, 2.9)
    axis = figure.subplots()
    for index, name in enumerate(sorted(name for name in evaluation if name.startswith(prefix))):
        values = evaluation[name].ravel()
        colour = plots.PALETTE[index % len(plots.PALETTE)]
        shape = " x ".join(map(str, evaluation[name].shape))
        label = f"layer {index + 1}: {shape}, sd {values.std():{digits}}"
        parts = np.histogram(values, bins)[0] / len(values) * 100
        axis.stairs(parts, bins, fill=True, color=colour, alpha=0.25)
        axis.stairs(parts, bins, color=colour, linewidth=1.6, label=label)
    axis.set_xlim(bins[0], bins[-1])
    axis.legend(loc="upper right")
    return figure


def die_severity(evaluation: Arrays) -> Figure | None:
    """How the die distorts the chip: factors of gains, thresholds and leaks; ``None`` for the ideal chip."""
    if "die_threshold" not in evaluation:
        return None
    synapses = "die_gain_positive" in evaluation
    figure = plots.new_figure(7.2 if synapses else 3.6, 2.9)
    *left, right = figure.subplots(1, 1 + synapses, width_ratios=(3, 2)[-1 - synapses :], squeeze=False)[0]
    for axis in left:
        _die_gains(axis, evaluation)
    n = len(evaluation["die_threshold"])
    order = np.arange(1, n + 1)
    thresholds = np.sort(evaluation["die_threshold"])
    right.plot(order, thresholds, "o", color=plots.GREEN, markersize=3.5, label="threshold")
    right.plot(order, np.sort(evaluation["die_leak"]), "s", color=plots.PINK, markersize=3.5, label="membrane decay")
    right.axhline(1, color=plots.GREY, linewidth=0.9, linestyle=":")
    if thresholds[0] > 0:
        right.set_yscale("log", base=2)
    right.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    right.set_xlabel("neurons, sorted")
    right.set_ylabel("factor (ideal: 1)")
    right.legend(loc="upper left")
    right.set_title("Die: neurons")
    return figure


def _die_gains(left: Any, evaluation: Arrays) -> None:
    edges = np.geomspace(1 / 16, 16, 33)
    for name, colour, label in (
        ("die_gain_positive", plots.BLUE, "positive weights"),
        ("die_gain_negative", plots.ORANGE, "negative weights"),
    ):
        gains = np.abs(evaluation[name])
        stuck = float(np.mean(gains == 0))
        parts = np.histogram(np.clip(gains[gains > 0], edges[0], edges[-1]), edges)[0] / max(1, len(gains)) * 100
        left.stairs(parts, edges, fill=True, color=colour, alpha=0.25)
        left.stairs(parts, edges, color=colour, linewidth=1.6, label=f"{label} ({100 * stuck:.0f} % stuck at 0)")
    left.set_xscale("log", base=2)
    left.axvline(1, color=plots.GREY, linewidth=0.9, linestyle=":")
    left.set_xticks([1 / 16, 1 / 4, 1, 4, 16], ["1/16", "1/4", "1", "4", "16"])
    left.set_xlabel("gain of a synapse (ideal: 1)")
    left.set_ylabel("synapses (%)")
    top = left.get_ylim()[1]
    left.set_ylim(0, 1.35 * top)
    left.legend(loc="upper left")
    left.set_title("Die: synapses")


def reliability_of(evaluation: Arrays) -> Figure | None:
    """Accuracy against confidence of each kind of prediction; ``None`` where there are no probabilities."""
    curves = {
        name.removeprefix("probabilities_"): reliability(p, evaluation["labels"])
        for name, p in evaluation.items()
        if name.startswith("probabilities_")
    }
    return plots.reliability_diagram(curves) if curves else None


def comparison(result: Mapping[str, Any]) -> Figure:
    """Test accuracy beside the baselines."""
    rows = [(system_name(result), 100 * result["accuracy"]["test"], plots.RED)]
    rows += [(name, 100 * value, plots.BLUE) for name, value in result["baselines"].items()]
    rows.sort(key=lambda row: row[1])
    figure = plots.new_figure(7.2, 0.8 + 0.36 * len(rows))
    axis = figure.subplots()
    names, values, colours = zip(*rows, strict=True)
    axis.barh(names, values, color=colours, height=0.62)
    for index, value in enumerate(values):
        axis.text(value + 0.6, index, f"{value:.1f}", va="center", fontsize=9)
    axis.set_xlim(0, 104)
    axis.set_xlabel("test accuracy (%)")
    axis.grid(axis="y", visible=False)
    axis.tick_params(axis="y", length=0)
    axis.set_title("Against the baselines (same split, same chip)")
    return figure


def system_name(result: Mapping[str, Any]) -> str:
    """What to call the trained system in tables and figures."""
    settings = result.get("settings", {})
    if result["system"] == "mh":
        kind = "greedy search" if settings.get("greedy") else "Metropolis-Hastings"
        return f"{kind}, chip in the loop ({settings.get('read_out', 'best')})"
    if result["system"] == "ssnn-bp":
        return "SSNN-BP, learning on the chip"
    if result["system"] == "delgrad":
        return f"DelGrad, chip in the loop (delays: {settings.get('delays', '?')})"
    if result["system"] == "bisnn-st":
        return "BiSNN, straight-through, chip in the loop"
    if result["system"] == "bisnn-bayes":
        return f"BiSNN, Bayesian, chip in the loop ({next(iter(result['calibration']))})"
    return f"backprop, {settings.get('mode', '?')}"


def make_plots(run: RunFolder) -> dict[str, Path]:
    """Draw all figures of a run into its folder; returns their files by title."""
    result, history, evaluation = run.read_result(), run.read_history(), run.read_evaluation()
    files: dict[str, Path] = {}
    with plots.style():
        figures = {
            "learning-curve": learning_curve(result, history),
            "comparison": comparison(result) if result["baselines"] else None,
            "raster": spike_raster(result, evaluation),
            "confusion": confusion(result, evaluation),
            "weights": weight_histogram(result, evaluation),
            "delays": delay_histogram(result, evaluation),
            "die": die_severity(evaluation),
            "reliability": reliability_of(evaluation),
        }
        for name, figure in figures.items():
            if figure is not None:
                files[name] = plots.save(figure, run.path / f"{name}.png")
    return files


def write_report(run: RunFolder) -> Path:
    """Draw the plots and write report.html with the plots inside it; returns its path."""
    files = make_plots(run)
    result = run.read_result()
    images = {name: base64.b64encode(path.read_bytes()).decode() for name, path in files.items()}
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    chip = result["chip"]
    page = environment.from_string(_TEMPLATE.read_text(encoding="utf-8")).render(
        name=run.path.name,
        result=result,
        system=system_name(result),
        images=images,
        settings=result.get("settings", {}),
        read_outs=result.get("read_outs", {}),
        calibration=result.get("calibration", {}),
        severity=(result["die"] or {}).get("severity", {}),
        wall=str(timedelta(seconds=round(result["wall_s"]))),
        per_sample=chip["cycles"] / chip["samples"] if chip["samples"] else None,
        short=plots.thousands,
    )
    path = run.path / REPORT
    write_atomically(path, page.encode())
    return path
