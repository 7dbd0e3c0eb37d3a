"""The report as Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from host.reproduce.delgrad.findings import NOISES, words
from host.reproduce.delgrad.settings import NOISE, STATE_BITS, Plan
from host.reproduce.numbers import NEAR, SIGMAS, percent, points, share
from host.reproduce.report import costs, introduction, section, table, yes
from host.trainers.delgrad import DELAYS


def markdown(found: Mapping[str, Any], plan: Plan) -> str:
    """The report of the study."""
    base = plan.base
    held = dict(NOISE)
    paragraphs = [
        "Paper: Göltz, Weber, Kriener et al., Nature Communications 16:8245 (2025), arXiv 2404.19165. It claims that "
        "delays that are trained with the weights make spiking networks more accurate, save parameters and stabilise "
        "networks on noisy hardware. The other claims below are expectations of ours, their figures (14 points, 25 "
        "cycles) included. Here the network runs on a clocked chip with integer weights, delays and "
        "states; the host gets nothing from it but the steps of first spikes. Loss, start and rates are ours; the "
        "paper's own figures were not available, but networks that its authors stored are "
        "([repository](https://github.com/JulianGoeltz/fastAndDeep)), and their accuracies stand beside ours.",
        f"Data: Yin-Yang, official training, validation and test sets (seeds 42, 41, 40). Unless said otherwise: 4-"
        f"{base.hidden}-3 neurons, tau_m = tau_s of {base.steps_per_tau} steps, {base.weight_bits}-bit weights, "
        f"delays of 0 to 1 tau_s, {STATE_BITS}-bit states, {base.epochs} epochs. Accuracies are those of the test "
        "set, with the parameters of the epoch that did best on the validation set; the test set decides nothing. An "
        "accuracy is in %, mean ± standard deviation over seeds; differences are in points, paired by test sample "
        "and seed, and their standard error (se) is the larger of that over test samples and that over seeds. "
        f"*Yes* means above 0 by more than {SIGMAS:g} se, *cannot tell* that {SIGMAS:g} se reach both 0 and beyond "
        f"{100 * NEAR:g} point. Trainings that differ in nothing but the seed lie about a point apart, so that few "
        "seeds resolve no smaller difference.",
        f"A noisy die has a fixed spread of the thresholds of {100 * held['threshold_spread']:g} %, threshold noise of "
        f"{100 * held['threshold_noise']:g} % that is new in every sample, and a jitter of every arrival of "
        f"{held['jitter']:g} steps ({held['jitter'] / base.steps_per_tau:g} tau_s). The trainer knows none of it.",
    ]
    title = "DelGrad: delays learned with the weights, the chip in the loop"
    lines = introduction(title, paragraphs, found, "few epochs, seeds and samples, a part of the networks.")
    lines += _size(found["size"]) + _noise(found["noise"], plan) + _control(found["control"])
    lines += _sweep(found["bits"], "Width of the weights", "bits", "weight bits")
    lines += _sweep(found["resolution"], "Time steps", "resolution", "steps per tau_s")
    lines += _gradient(found["gradient"]) + _digits(found["digits"]) + _pictures(found["pictures"])
    lines += _known(found["known"]) + _confirmation(found["confirmation"])
    lines += costs(found["job_seconds"])
    return "\n".join(lines).rstrip("\n") + "\n"


def _points(gap: Mapping[str, float] | None, n_test: int) -> str:
    return points(gap, n_test) if gap else "-"


def _number(value: float | None, form: str = ".1f") -> str:
    return "-" if value is None else format(value, form)


def _percent(value: float | None, n_test: int) -> str:
    return "-" if value is None else percent(value, n_test)


def _size(entries: Sequence[Mapping[str, Any]]) -> list[str]:
    if not entries:
        return []
    rows = [
        [
            str(entry["hidden"]),
            entry["kind"],
            str(entry["parameters"]),
            share(entry["accuracy"], entry["n_test"]),
            _percent(entry["validation"], entry["n_test"]),
            _points(entry["minus_none"] if entry["kind"] != "none" else None, entry["n_test"]),
            _percent(entry["authors"], entry["n_test"]),
            _number(entry["decision"], ".0f"),
            _number(entry["hidden_before"]),
            _number(entry["steps"], ".0f"),
            _number(entry["cycles"], ".0f"),
        ]
        for entry in entries
    ]
    head = [
        "hidden", "delays", "parameters", "test accuracy", "best validation", "minus none", "authors' network",
        "decision (step)", "hidden spikes before", "steps per sample", "cycles per sample",
    ]  # fmt: skip
    prose = (
        f"Ideal chip, seeds: {entries[0]['accuracy']['n']}. Parameters are weights and delays; of axonal delays one "
        "per source, of dendritic ones one per target. Decision: step of the first output spike; with it goes the "
        "number of hidden neurons that have spiked before. A sample ends when all outputs have spiked. Authors: 300 "
        "epochs, other settings, floating point."
    )
    return section("Accuracy and parameters", prose, head, rows, ("Accuracy against parameters", "size.png"))


def _noise(entries: Sequence[Mapping[str, Any]], plan: Plan) -> list[str]:
    if not entries:
        return []
    n = entries[0]["n_test"]
    rows = [
        [
            entry["kind"],
            share(entry["ideal"], n),
            share(entry["accuracy"], n),
            _points(entry["loss"], n),
            _points(entry["spared"] if entry["kind"] != "none" else None, n),
            _points(entry["minus_none"] if entry["kind"] != "none" else None, n),
            share(entry["same"], n),
            _points(entry["gap"], n),
            _number(entry["ideal_hidden_before"]),
            _number(entry["hidden_before"]),
            _percent(entry["authors"], n),
        ]
        for entry in entries
    ]
    head = [
        "delays", "ideal chip", "in the loop, noisy", "lost", "less lost than none", "minus none",
        "ideal-trained, deployed", "in the loop minus deployed", "hidden spikes before, ideal", "noisy",
        "authors, BrainScaleS-2",
    ]  # fmt: skip
    prose = (
        f"Trained and tested on noisy dies, seed and die {_range(plan.noise_seeds)}. Deployed: the networks of the "
        "table above with the same seed, tested on the same die without having seen it."
    )
    lines = section("Noisy dies, in the loop and not", prose, head, rows, ("Noisy dies", "noise.png"))
    spread = [entry for entry in entries if entry["deployed"]]
    if spread:
        names = [name for name in NOISES if any(entry["alone"].get(name) for entry in spread)]
        rows = [
            [
                entry["kind"],
                share(entry["deployed"], n),
                percent(entry["deployed"]["worst"], n),
                *(share(entry["alone"].get(name), n) for name in names),
            ]
            for entry in spread
        ]
        head = ["delays", "all three", "worst", *(NOISES[name] for name in names)]
        lines += [
            f"Deployed without the loop: every ideal-trained network on {max(plan.dies, plan.noise_seeds)} dies, "
            "mean ± standard deviation over networks and dies, with all noises and with each alone:",
            "",
            *table(head, rows),
        ]
    return [*lines, "![Learning curves](curves.png)", ""]


def _range(n: int) -> str:
    return "0" if n == 1 else f"0 to {n - 1}"


def _control(entries: Sequence[Mapping[str, Any]]) -> list[str]:
    if not entries:
        return []
    rows = [
        [
            entry["kind"],
            share(entry["frozen"]["accuracy"], entry["frozen"]["n_test"]),
            share(entry["learned"]["accuracy"], entry["frozen"]["n_test"]),
            _points(entry["gain"], entry["frozen"]["n_test"]),
            _points(entry["frozen_minus_none"], entry["frozen"]["n_test"]),
        ]
        for entry in entries
    ]
    head = ["delays", "frozen", "trained", "trained minus frozen", "frozen minus no delays"]
    prose = (
        f"Random delays that stay as they are drawn, weights trained, seeds: {entries[0]['frozen']['accuracy']['n']}."
    )
    return section("Frozen delays", prose, head, rows)


def _sweep(entries: Sequence[Mapping[str, Any]], title: str, part: str, what: str) -> list[str]:
    if not entries:
        return []
    kinds = [kind for kind in DELAYS if any(entry["kind"] == kind for entry in entries)]
    at = {(entry["kind"], entry["value"]): entry for entry in entries}
    rows = []
    for value in sorted({entry["value"] for entry in entries}):
        row = [str(value)]
        for kind in kinds:
            entry = at.get((kind, value))
            row += (
                [share(entry["accuracy"], entry["n_test"]), _points(entry["minus"], entry["n_test"])]
                if entry
                else ["-"] * 2
            )
        if part == "resolution":
            mine = [at[kind, value] for kind in kinds if (kind, value) in at]
            row.append(_number(sum(entry["steps"] for entry in mine) / len(mine), ".0f"))
        rows.append(row)
    finest = entries[0]["finest"]
    head = [what, *(text for kind in kinds for text in (words(kind), f"minus {finest}"))]
    if part == "resolution":
        head.append("steps per sample")
    prose = {
        "bits": "Trained anew with each width; up to 6 bits the largest weight is 4, else 8 thresholds. ",
        "resolution": "Trained anew with each clock. ",
    }[part] + f"Seeds: {entries[0]['accuracy']['n']}."
    figure = ("Bits and time steps", "precision.png") if part == "bits" else None
    return section(title, prose, head, rows, figure)


def _gradient(entries: Sequence[Mapping[str, Any]]) -> list[str]:
    if not entries:
        return []
    rows = [
        [
            "tables" if entry["gradient"] == "discrete" else f"closed form ({entry['gradient']})",
            f"{entry['ratio']:g}",
            share(entry["accuracy"], entry["n_test"]),
            _points(entry["minus"], entry["n_test"]),
            _number(entry["training_seconds"], ".0f"),
        ]
        for entry in entries
    ]
    prose = (
        "Axonal delays. Tables: exact derivatives for the clocked neuron, whatever the time constants, without its "
        "threshold. Closed forms: those of the paper for continuous time, at the measured steps. "
        f"Seeds: {entries[0]['accuracy']['n']}."
    )
    head = ["gradient", "tau_m / tau_s", "test accuracy", "closed form minus tables", "seconds per training"]
    return section("Tables against closed forms", prose, head, rows)


def _digits(entries: Sequence[Mapping[str, Any]]) -> list[str]:
    if not entries:
        return []
    n, one = entries[0]["n_test"], entries[0]
    rows = [
        [
            f"{entry['shape'][0]}-{entry['hidden']}-{entry['shape'][1]}, {words(entry['kind'])}",
            str(entry["parameters"]),
            share(entry["accuracy"], n),
            _points(entry["minus_none"] if entry["kind"] != "none" else None, n),
            _points(entry["minus_logistic"], n),
        ]
        for entry in entries
    ]
    if one["logistic"]:
        rows.append(["logistic regression", str(one["logistic_parameters"]), share(one["logistic"], n), "-", "-"])
    head = ["network", "parameters", "test accuracy", "minus none", "minus logistic regression"]
    prose = (
        "Handwritten digits of 8 x 8 pixels (scikit-learn), one spike of each bright pixel, the brighter the earlier. "
        f"{n} test samples, so that a point is hardly resolved; seeds: {one['accuracy']['n']}, each with its own split."
    )
    return section("A second task: digits", prose, head, rows)


def _pictures(pictures: Mapping[str, Any]) -> list[str]:
    lines: list[str] = []
    for kind, entry in pictures["spikes"].items():
        said = [
            f"{entry['class_names'][label]}: {_named(entry, before)} before, {_named(entry, after)} after"
            for label, (before, after) in enumerate(
                zip(entry["predicted"]["before"], entry["predicted"]["after"], strict=True)
            )
        ]
        lines.append(f"{words(kind).capitalize()}: {'; '.join(said)}.")
    found: list[str] = []
    if lines:
        prose = (
            "First spikes of a test sample of each class (the first one of the set), before and after the training, "
            "seed 0. Called: " + " ".join(lines)
        )
        found += section("Spikes before and after training", prose, figure=("First spikes", "spikes.png"))
        if any(kind != "none" for kind in pictures["spikes"]):
            found += section("Learned delays", figure=("Learned delays", "delays.png"))
    if pictures["maps"]:
        prose = "The class that the chip names all over the plane; noisy: on the die on which the network learned."
        found += section("Decision maps", prose, figure=("Decision maps", "maps.png"))
    return found


def _named(entry: Mapping[str, Any], label: int) -> str:
    return "nothing" if label < 0 else str(entry["class_names"][label])


def _known(entries: Sequence[Mapping[str, Any]]) -> list[str]:
    if not entries:
        return []
    rows = []
    for entry in entries:
        golden, sim = entry["golden"], entry["sim"]
        different = [str(each["different"]) for each in (sim, golden) if each]
        rows.append(
            [
                golden["name"].removesuffix(".npz"),
                "-".join(map(str, golden["shape"])) + f", {golden['bits']} bits",
                f"{golden['times']:,}",
                " / ".join(different),
                f"{percent(golden['accuracy'], golden['samples'])} "
                f"({percent(golden['stored_accuracy'], golden['samples'])})",
                f"{golden['cycles'] / golden['steps']:.1f}",
                yes(entry["agrees"]),
            ]
        )
    head = [
        "network", "size", "first spikes", "of them in another step, simulated / golden", "accuracy (stored)",
        "cycles per step", "agrees",
    ]  # fmt: skip
    prose = (
        "The authors' networks, rounded to integers, with 100 steps per tau_s, tau_m = 2 tau_s and without being "
        "trained again; the steps in which their neurons spike are known from a model of the chip's equations in "
        "another program. All 1000 test samples."
    )
    return section("Stored networks", prose, head, rows)


def _confirmation(found: Mapping[str, Any]) -> list[str]:
    title = "On the simulated chip"
    tests, training = found["tests"], found["training"]
    if not tests and not training:
        return section(title, "Not run.")
    lines = section(
        title,
        "The trainings above ran on the golden model. Here the simulated Verilog tests networks and repeats one.",
    )
    if training:
        rows = [
            ["epochs, training samples", f"{training['epochs']}, {training['n_train']:,}"],
            ["same network, same test answers", yes(training["equal_network"])],
            [
                "same history (loss, accuracies, silent neurons, steps, cycles of all epochs)",
                yes(training["equal_history"]),
            ],
            ["test accuracy, simulated / golden (%)", _both(training["accuracy"])],
            ["time steps per training sample", f"{training['steps']:.1f}"],
            ["clock cycles per training sample", f"{training['cycles']:.0f}"],
            [
                "clock cycles per time step, mean (least, most of an epoch)",
                "{1:.2f} ({0:.2f}, {2:.2f})".format(*training["cycles_per_step"]),
            ],
            ["seconds, simulated / golden", "{1:.0f} / {0:.0f}".format(*training["seconds"])],
        ]
        lines += [f"A training from start to end, {training['title']}:", "", *table(["", ""], rows)]
    if tests:
        rows = [
            [
                entry["title"],
                f"{entry['n_test']:,}",
                _both(entry["accuracy"]),
                f"{entry['spikes']:,}",
                str(entry["different_times"]),
                _equal(entry["cycles"]),
                f"{entry['cycles'][1] / entry['steps'][1]:.1f}",
                yes(entry["agrees"]),
            ]
            for entry in tests
        ]
        head = [
            "network", "test samples", "accuracy, simulated / golden (%)", "first spikes", "in another step", "cycles",
            "cycles per step", "agrees",
        ]  # fmt: skip
        lines += ["Tests:", "", *table(head, rows)]
    return lines


def _both(values: Sequence[float]) -> str:
    golden, sim = values
    return f"{100 * sim:.1f} / {100 * golden:.1f}"


def _equal(values: Sequence[int]) -> str:
    golden, sim = values
    return f"{sim:,}, equal" if golden == sim else f"**{sim:,} and {golden:,}**"
