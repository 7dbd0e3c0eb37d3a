"""The report as Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from host import plots
from host.reproduce.numbers import NEAR, SIGMAS, WORDS, percent, points, share
from host.reproduce.report import costs, introduction, section, table, yes
from host.reproduce.ssnn_bp import cycles
from host.reproduce.ssnn_bp.findings import NAMES
from host.reproduce.ssnn_bp.settings import SETTINGS, Plan

CYCLES = {
    "load": "load, seed",
    "encode": "encoder",
    "forward": "forward",
    "winner": "winner",
    "look": "label",
    "errors": "errors",
    "gradient": "gradient spikes",
    "update": "weights",
}
"""Names of the parts of a sample's clock cycles."""


def _shares(values: Sequence[float]) -> str:
    return ", ".join("0" if not value else f"{100 * value:.2g}" for value in values)


def _numbers(values: Sequence[float], form: str = ".1f") -> str:
    return ", ".join(format(value, form) for value in values)


def _accuracy(entry: Mapping[str, Any]) -> list[str]:
    """Columns: chip, ordinary network, difference, what to call it."""
    n = entry["n_test"]
    gap = points(entry["minus"], n) if entry["minus"] else "-"
    return [share(entry["chip"], n), share(entry["ann"], n), gap, WORDS[entry["verdict"]]]


def markdown(found: Mapping[str, Any], plan: Plan) -> str:
    """The report of the study."""
    paragraphs = [
        "Paper: Biswas, Saraswat and Ganguly, Neuromorphic Computing and Engineering 2023 (arXiv 2207.09755). The "
        "rules of the chip are **our reconstruction**, consistent with the paper's abstract; the paper's own "
        "equations, settings and accuracies were not available, so its claims are answered in words, not number "
        "against number.",
        "The ANN has the same layers and sees the same training samples for as many epochs: rectified linear units, "
        "softmax, cross-entropy, stochastic gradient descent, floating point; of event data it sees the sum over time. "
        "Learning constants of both were chosen on validation sets held back from the training data, never on a test "
        "set. Accuracies are those of the last weights. An accuracy is in %, mean ± standard deviation over seeds; "
        "differences are in points, paired by test sample, and their standard error (se) is the larger of that over "
        f"test samples and that over seeds. *Equal* means that the difference is within {SIGMAS:g} se, and that these "
        f"do not reach beyond {100 * NEAR:g} point.",
    ]
    title = "SSNN-BP: backpropagation with spikes, on the chip, against an ordinary network"
    lines = introduction(title, paragraphs, found, "a part of the data, few seeds, small networks.")
    lines += _headline(found) + _steps(found) + _bits(found) + _curves(found)
    lines += _statistics(found) + _picture(found) + _cycles(found) + _confirmation(found) + _settings(found, plan)
    lines += costs(found["job_seconds"])
    return "\n".join(lines).rstrip("\n") + "\n"


def _headline(found: Mapping[str, Any]) -> list[str]:
    if not found["headline"]:
        return []
    rows = [
        [entry["title"], *_accuracy(entry), percent(entry["count"]["mean"], entry["n_test"]), str(entry["chip"]["n"])]
        for entry in found["headline"]
    ]
    head = ["network", "chip", "ANN", "chip minus ANN", "the chip is", "chip, by steps won", "seeds"]
    return section("Accuracy beside the ANN", "", head, rows, ("Accuracy", "headline.png"))


def _steps(found: Mapping[str, Any]) -> list[str]:
    if not found["steps"]:
        return []
    rows = [
        [
            str(entry["steps"]),
            *_accuracy(entry),
            f"{100 * entry['wrong']:.1f}",
            plots.thousands(entry["cycles_learned"]),
        ]
        for entry in found["steps"]
    ]
    head = ["T", "chip", "ANN", "chip minus ANN", "the chip is", "wrong winners, last epoch (%)", "cycles per sample"]
    prose = (
        f"{_main(found)}; learned and tested with T time steps. K, G and KG of each length are among the "
        "settings below."
    )
    lines = section("Length of the spike trains", prose, head, rows, ("Accuracy against time steps", "steps.png"))
    if found["test_steps"]:
        n_test = found["steps"][0]["n_test"]
        rows = [
            [
                f"{each['steps']:g}",
                percent(each["potential"], n_test),
                percent(each["count"], n_test),
                plots.thousands(each["cycles"]),
            ]
            for each in found["test_steps"]
        ]
        head = ["T in the test", "by summed membrane", "by steps won", "cycles per sample"]
        learned = SETTINGS[found["main"]].timesteps
        lines += [f"Learned with T={learned}, tested with another length:", "", *table(head, rows)]
    return lines


def _bits(found: Mapping[str, Any]) -> list[str]:
    if not found["bits"]:
        return []
    rows = []
    for entry in found["bits"]:
        gap, n = entry["minus_widest"], entry["n_test"]
        same = " (same weights)" if entry["same_weights"] and entry["name"] != entry["widest"] else ""
        rows.append(
            [
                entry["name"],
                *_accuracy(entry)[:3],
                "-" if gap is None or entry["name"] == entry["widest"] else points(gap, n) + same,
                _numbers(entry["largest"], "d") + f" of {entry['limit']}",
                _shares(entry["saturated"]),
            ]
        )
    widest = found["bits"][0]["widest"]
    head = ["weight bits", "chip", "ANN", "chip minus ANN", f"minus {widest} bits", "largest weight per layer"]
    prose = (
        f"{_main(found)}. Up to 10 bits, K and G go down with the width and the coins of the updates get rarer (a unit "
        "is a larger step); more than 10 bits keep K, G and rates, hence the scale. *10, forward 8*: 10 bits are "
        "learned, and the upper 8 of them are used in the forward pass."
    )
    head.append("at a limit per layer (%)")
    return section("Width of the weights", prose, head, rows, ("Accuracy against weight bits", "bits.png"))


def _curves(found: Mapping[str, Any]) -> list[str]:
    if not found["headline"]:
        return []
    rows = []
    for entry in found["headline"]:
        curves, n = entry["curves"], entry["n_test"]
        wrong = [f"{100 * value:.1f}" for value in (curves["wrong"][0], curves["wrong"][-1])]
        per_epoch = [" ".join(percent(value, n) for value in curves[kind]) or "-" for kind in ("chip", "ann")]
        rows.append([entry["title"], f"{wrong[0]} → {wrong[1]}", *per_epoch])
    head = ["network", "wrong winners, first → last piece (%)", "chip, test after each epoch", "ANN"]
    prose = (
        "Wrong winners are counted while the chip learns, per 1000 samples (or what an epoch leaves). The test "
        "accuracy after each epoch decides nothing."
    )
    return section("Learning curves", prose, head, rows, ("Learning curves", "curves.png"))


def _statistics(found: Mapping[str, Any]) -> list[str]:
    if not found["statistics"]:
        return []
    rows = []
    for entry in found["statistics"]:
        for name, moment in entry["moments"].items():
            when = f"after {entry['early_after']}" if name == "early" else "end"
            rows.append(
                [
                    entry["title"],
                    when,
                    f"{moment['input_spikes']:.0f} of {entry['n_in']}",
                    _numbers(moment["spikes"]),
                    _numbers(moment["gates"]),
                    f"{100 * moment['wrong']:.1f}",
                    _numbers(moment["gradient_spikes"]),
                    _numbers([100 * value for value in moment["positive"]], ".0f"),
                    _numbers(moment["changed"]),
                    _numbers(moment["changed_per_backward"], ".0f"),
                    _numbers(moment["largest"], "d") + f" of {moment['limit']}",
                    _shares(moment["saturated"]),
                ]
            )
    head = [
        "network", "learned", "input spikes", "hidden spikes", "open gates", "wrong winners (%)",
        "gradient spikes per backward step", "of them positive (%)", "weights changed per sample",
        "per backward step", "largest weight", "at a limit (%)",
    ]  # fmt: skip
    samples = max(entry["samples"] for entry in found["statistics"])
    prose = (
        f"The first {samples} training samples (seed 0) being learned, early in the training with its first rates and "
        "at its end with its last. Spikes and gates are per time step; several numbers are those of the layers. "
        "Changed weights are those that a sample left changed, over the first 100 samples."
    )
    return section("Spikes and gradients", prose, head, rows)


def _picture(found: Mapping[str, Any]) -> list[str]:
    picture = found["picture"]
    if not picture:
        return []
    prose = (
        f"{picture['title']}, frozen. Test sample {picture['sample']} is a {picture['label']}; the chip calls it "
        f"{picture['predicted']}, with a wrong winner in {picture['wrong']} of {picture['steps']} steps. In these "
        f"steps hidden neurons with an open gate send gradient spikes: {picture['positive']} positive, "
        f"{picture['negative']} negative."
    )
    return section("A mistake and its two streams", prose, figure=("A mistake", "mistake.png"))


def _cycles(found: Mapping[str, Any]) -> list[str]:
    if not found["statistics"]:
        return []
    rows, checks = [], []
    for entry in found["statistics"]:
        for name, moment in entry["moments"].items():
            when = f"after {entry['early_after']}" if name == "early" else "end"
            rows.append(
                [
                    entry["title"],
                    when,
                    f"{moment['cycles_inferred']:.0f}",
                    f"{moment['cycles_learned']:.0f}",
                    *(f"{moment['cycles'][part]:.0f}" for part in cycles.PARTS),
                    f"{moment['ops_inferred']:.3f}",
                    f"{moment['ops_learned']:.3f}",
                ]
            )
            checks.append((moment["cycles_equal"], entry["samples"]))
    good, total = np.sum(checks, axis=0)
    head = [
        "network", "learned", "tested", "learning", *(CYCLES[part] for part in cycles.PARTS),
        "operations per lane and cycle, tested", "learning",
    ]  # fmt: skip
    prose = (
        f"Cycles per sample, and where they go while learning, by the closed form of `docs/cycles.md` (16 lanes). It "
        f"gives the counted cycles of {good} of {total} samples to the cycle: **{'yes' if good == total else 'NO'}**. "
        "Operations are additions of the forward pass; an ideal chip would do one per lane and cycle."
    )
    return section("Clock cycles", prose, head, rows, ("Clock cycles", "cycles.png"))


def _confirmation(found: Mapping[str, Any]) -> list[str]:
    title = "On the simulated chip"
    if not found["confirmation"]:
        return section(title, "Not run.")
    rows = []
    for entry in found["confirmation"]:
        learning, test = entry["learning"], entry["test"]
        row = [entry["title"]]
        if learning:
            row += [
                f"{learning['samples']:,}",
                f"{learning['different_weights']} of {learning['weights']:,}",
                yes(learning["equal_outputs"]),
                _pair(learning["golden"]["cycles"], learning["sim"]["cycles"]),
            ]
        else:
            row += ["-"] * 4
        if test:
            row += [
                f"{test['samples']:,}",
                " / ".join(percent(test["accuracy"][name], test["samples"]) for name in ("sim", "golden")),
                str(test["different_sums"]),
                _pair(test["cycles"]["golden"], test["cycles"]["sim"]),
            ]
        else:
            row += ["-"] * 4
        rows.append([*row, yes(entry["agrees"])])
    head = [
        "network", "samples learned", "weights that differ", "all answers equal", "cycles",
        "test samples", "accuracy, simulated / golden (%)", "membrane sums that differ", "cycles in the test",
        "agrees",
    ]  # fmt: skip
    prose = (
        "The trainings above ran on the golden model. Here the simulated Verilog learns the first samples of the same "
        "training (seed 0), and tests the trained network."
    )
    return section(title, prose, head, rows)


def _pair(golden: int, sim: int) -> str:
    return f"{sim:,}, equal" if golden == sim else f"**{sim:,} and {golden:,}**"


def _settings(found: Mapping[str, Any], plan: Plan) -> list[str]:
    entries = {entry["title"]: entry["setting"] for entry in found["headline"]}
    entries |= {f"T={entry['steps']}, else {plan.main}": entry["setting"] for entry in found["steps"]}
    entries |= {f"{entry['name']} bits, else {plan.main}": entry["setting"] for entry in found["bits"]}
    rows = [
        [
            name,
            str(each["fire_bits"]),
            str(each["noise_shift"]),
            str(each["gradient_bits"]),
            f"{each['decay_mem']}",
            str(each["forward_shift"]),
            each["encoding"],
            f"{each['rates']}",
            ", ".join(f"{value:g}" for value in each["schedule"]) if each["schedule"] else "usual",
        ]
        for name, each in entries.items()
    ]
    head = ["network", "K", "G", "KG", "membrane decay / 4096", "forward shift", "encoding", "rates", "schedule"]
    return section("Settings", "", head, rows) if rows else []


def _main(found: Mapping[str, Any]) -> str:
    """The network that the sweeps vary, without what they vary."""
    entry = (found["steps"] or found["bits"])[0]
    setting = SETTINGS[found["main"]]
    name = NAMES.get(setting.dataset, setting.dataset)
    return f"{name}, hidden layer of {setting.hidden[0]}, {setting.epochs} epochs, seeds: {entry['chip']['n']}"
