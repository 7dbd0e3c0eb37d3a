"""The study of chip-in-the-loop Metropolis-Hastings training (Safa et al., NICE 2024, arXiv 2402.06284).

The paper's abstract claims up to 27 points more accuracy than backpropagation on a strongly distorted chip, and more
than ten times less training data, on the Wisconsin breast cancer data. Its network, distortion and baseline are not
public; ours are stated in the tables. Backpropagation is therefore tried in four ways, from never seeing the chip to
measuring every forward pass on it, and every difference is paired by die.
"""

from __future__ import annotations

import os
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from host import datasets, plots
from host.jobs import BACKENDS, allowed
from host.reproduce.cells import Cell, Result, compute_shown, paired, summarise
from host.reproduce.report import finish, mean_seconds, table
from host.runs import RunFolder, versions
from host.trainers import MetropolisHastings, SurrogateGradient
from rtl.config import ChipConfig

ORIGINAL, DIAGNOSTIC = "breast-cancer-original", "breast-cancer"
HIDDEN, LANES, TIMESTEPS = 15, 8, 32

BEST, VOTE, MEAN, GREEDY = "MH best", "MH vote", "MH mean", "greedy search"
B1, B1R, B2N, B2C = (
    "backprop, ideal-trained, deployed",
    "backprop, domain-randomised",
    "backprop, in the loop, naive",
    "backprop, in the loop",
)
B1W = "backprop, ideal-trained, wide start"
LOGISTIC = "logistic regression (no chip)"
ROWS = (BEST, VOTE, MEAN, GREEDY, B1, B1W, B1R, B2N, B2C, LOGISTIC)

MODES = {"ideal": B1, "domain-randomised": B1R, "in-loop-naive": B2N, "in-loop": B2C}
PAPER_GAP = 0.27
PAPER_DATA = 10.0


@dataclass(frozen=True)
class Setting:
    """One headline setting: a distortion with its data and start."""

    name: str
    dataset: str
    distortion: tuple[tuple[str, float], ...]
    train_size: int
    steps: int
    wide: bool
    note: str = ""
    backend: str = "golden"


HEADLINE = (
    Setting("positive weights x 0.25", ORIGINAL, (("positive_gain", 0.25),), 100, 2000, True, backend="sim"),
    Setting(
        "all weights x 0.25",
        ORIGINAL,
        (("negative_gain", 0.25), ("positive_gain", 0.25)),
        100,
        2000,
        True,
        "the same as thresholds and reset amounts x 4",
        backend="sim",
    ),
    Setting(
        "thresholds x 4",
        ORIGINAL,
        (("threshold", 4.0),),
        100,
        2000,
        True,
        "here a spike still subtracts the undistorted amount",
    ),
    Setting("60 % of synapses stuck at 0", ORIGINAL, (("stuck", 0.6),), 100, 2000, False),
    Setting("level 2", DIAGNOSTIC, (("level", 2.0),), 400, 2000, False),
    Setting(
        "all weights x 0.25",
        DIAGNOSTIC,
        (("negative_gain", 0.25), ("positive_gain", 0.25)),
        200,
        2000,
        True,
        "the same as thresholds and reset amounts x 4",
    ),
)


@dataclass(frozen=True)
class Plan:
    """Extent of a study."""

    dies: int
    headline_dies: int
    levels: tuple[float, ...]
    sizes: tuple[int, ...]
    corner_levels: tuple[float, ...]
    """Levels at which the sizes outside `core_sizes` are run too."""
    core_sizes: tuple[int, ...]
    steps: int
    updates: int
    modes: tuple[str, ...]
    greedy_sizes: tuple[int, ...]
    headline: tuple[Setting, ...]
    offline: tuple[Setting, ...] = ()
    """Settings instead of `headline` where the original data set is not available."""


FULL = Plan(
    dies=8,
    headline_dies=5,
    levels=(0.0, 0.5, 1.0, 1.5, 2.0),
    sizes=(10, 20, 40, 100, 200, 400),
    corner_levels=(0.0, 2.0),
    core_sizes=(20, 100, 400),
    steps=2000,
    updates=300,
    modes=tuple(MODES),
    greedy_sizes=(100,),
    headline=HEADLINE,
)
QUICK = Plan(
    dies=3,
    headline_dies=2,
    levels=(0.0, 2.0),
    sizes=(20, 100),
    corner_levels=(),
    core_sizes=(20, 100),
    steps=1000,
    updates=200,
    modes=("ideal", "in-loop"),
    greedy_sizes=(),
    headline=(replace(HEADLINE[0], steps=1200),),
    offline=(Setting("level 2", DIAGNOSTIC, (("level", 2.0),), 100, 1000, False, backend="sim"),),
)


# ---- one cell -------------------------------------------------------------------------------------------------------


def work(cell: Cell) -> Result:
    """Train one learner on one die; test accuracy and balanced accuracy of each of its read-outs, and chip costs."""
    split = datasets.split(cell.dataset, cell.train_size, cell.seed)
    if cell.learner == "logistic":
        from sklearn.linear_model import LogisticRegression

        model = LogisticRegression(max_iter=2000).fit(split.x_train / 255.0, split.y_train)
        predicted = model.predict(split.x_test / 255.0)
        share = float(np.mean(predicted == split.y_test))
        balanced = float(np.mean([np.mean(predicted[split.y_test == k] == k) for k in np.unique(split.y_test)]))
        return {"scores": {LOGISTIC: [share, balanced]}, "chip": {}}
    from host.chip import Chip
    from host.die import Die

    distortion = dict(cell.distortion)
    kinds = None if "level" in distortion else ()
    cfg = ChipConfig(layers=(split.n_features, HIDDEN, split.n_classes), lanes=LANES)

    def draw(seed: int) -> Die:
        return Die(seed=seed, kinds=kinds, **distortion)

    common: dict[str, Any] = {
        "start_sd": cell.start_sd,
        "prior_sd": cell.prior_sd,
        "timesteps": TIMESTEPS,
        "seed": cell.seed,
    }
    with Chip(cfg, backend=cell.backend, die=draw(cell.seed) if distortion else None) as chip:
        scores: dict[str, list[float]] = {}
        if cell.learner in ("mh", "greedy"):
            chain = MetropolisHastings(chip, cell.steps, greedy=cell.learner == "greedy", **common)
            chain.fit(split.x_train, split.y_train)
            names = {"best": GREEDY} if cell.learner == "greedy" else {"best": BEST, "vote": VOTE, "mean": MEAN}
            for read_out, name in names.items():
                chain.read_out = read_out
                scores[name] = list(chain.evaluate(split.x_test, split.y_test))
            return {"scores": scores, "chip": chain.cost_, "acceptance": chain.acceptance_}
        network = SurrogateGradient(
            chip,
            cell.learner,
            updates=cell.steps,
            dies=lambda index: draw(1_000_000 + 16 * cell.seed + index),
            **common,
        )
        network.fit(split.x_train, split.y_train)
        name = B1W if cell.learner == "ideal" and cell.start_sd > 30 else MODES[cell.learner]
        scores[name] = list(network.evaluate(split.x_test, split.y_test))
        return {"scores": scores, "chip": network.cost_}


# ---- which cells ----------------------------------------------------------------------------------------------------


def starts(dataset: str) -> dict[str, Any]:
    """Spread of start and prior: smaller where a neuron has more inputs (both from tuning on other splits)."""
    return {"start_sd": 12.0, "prior_sd": 24.0} if dataset == DIAGNOSTIC else {"start_sd": 24.0, "prior_sd": 32.0}


def sweep_cells(plan: Plan, dataset: str, levels: Iterable[float], sizes: Iterable[int]) -> list[Cell]:
    """Accuracy against level and size, on the golden model."""
    cells = []
    for seed in range(plan.dies):
        for size in sizes:
            cells.append(Cell("sweep", "logistic", dataset, size, seed))
            for level in levels:
                if size not in plan.core_sizes and level not in plan.corner_levels:
                    continue
                base = Cell(
                    "sweep",
                    "mh",
                    dataset,
                    size,
                    seed,
                    (("level", level),) if level else (),
                    plan.steps,
                    **starts(dataset),
                )
                cells.append(base)
                if size in plan.greedy_sizes:
                    cells.append(replace(base, learner="greedy"))
                cells += [replace(base, learner=mode, steps=plan.updates) for mode in plan.modes]
    return cells


def headline_cells(plan: Plan, setting: Setting) -> list[Cell]:
    """The cells of one headline setting."""
    cells = []
    for seed in range(plan.headline_dies):
        base = Cell(
            setting.name,
            "mh",
            setting.dataset,
            setting.train_size,
            seed,
            setting.distortion,
            setting.steps,
            backend=setting.backend,
            **starts(setting.dataset),
        )
        wide = replace(base, start_sd=64.0, prior_sd=64.0)
        cells.append(wide if setting.wide else base)
        cells += [replace(base, learner=mode, steps=plan.updates) for mode in plan.modes]
        cells.append(replace(wide, learner="ideal", steps=plan.updates))
        cells.append(replace(base, learner="logistic", distortion=(), steps=0, backend="golden"))
    return cells


# ---- the study ------------------------------------------------------------------------------------------------------


Scores = dict[str, dict[int, tuple[float, float]]]
"""Of one setting: per row of the table, per die, accuracy and balanced accuracy."""


def run(*, quick: bool, jobs: int, backend: str | None, out: Path | None, console: Console) -> dict[str, Any]:
    """Run or continue the study; writes tables, JSON and plots, prints them, and returns what was found."""
    plan = QUICK if quick else FULL
    folder = RunFolder.create(out or Path("runs") / ("reproduce-mh-quick" if quick else "reproduce-mh"))
    if backend:
        allowed("backend", backend, BACKENDS)
    jobs = jobs or os.cpu_count() or 1
    started = time.perf_counter()
    skipped: list[str] = []
    try:
        datasets.load(ORIGINAL)
        has_original = True
    except datasets.DatasetError as error:
        has_original = False
        skipped.append(f"All cells on `{ORIGINAL}` were skipped: {error}")
    cells: list[Cell] = []
    main = ORIGINAL if has_original else DIAGNOSTIC
    cells += sweep_cells(plan, main, plan.levels, plan.sizes)
    chosen = plan.headline if has_original or not plan.offline else plan.offline
    settings = [setting for setting in chosen if has_original or setting.dataset != ORIGINAL]
    if backend:
        settings = [replace(setting, backend=backend) for setting in settings]
    _prebuild([setting for setting in settings if setting.backend == "sim"], console)
    for setting in settings:
        cells += headline_cells(plan, setting)

    console.print(
        f"{len(set(cells))} cells on {jobs} processes; finished ones are kept in {folder.path / 'cells'}.",
        highlight=False,
        soft_wrap=True,
    )
    results = compute_shown(
        [cells],
        work,
        folder.path / "cells",
        jobs,
        console,
        lambda cell: f"{cell.learner}, {cell.train_size} samples",
    )

    found = digest(plan, cells, results, settings)
    found |= {
        "system": "mh",
        "quick": quick,
        "skipped": skipped,
        "wall_s": time.perf_counter() - started,
        "cell_seconds": mean_seconds(
            results, lambda cell: f"{cell.learner}, {cell.dataset}, n={cell.train_size}, {cell.backend}"
        ),
        "versions": versions(),
    }
    names = ("table.md", "result.json")
    finish(folder.path, found, markdown(found, plan), draw, console, names=names, pictures="plots")
    return found


def _prebuild(settings: list[Setting], console: Console) -> None:
    """Build the simulated chips once, before several processes ask for them."""
    from host.chip import Chip

    for inputs in sorted({datasets.load(setting.dataset).n_features for setting in settings}):
        console.print(f"Building the simulated chip {inputs}-{HIDDEN}-2 ...", highlight=False)
        Chip(ChipConfig(layers=(inputs, HIDDEN, 2), lanes=LANES), backend="sim").close()


def _gather(cells: Iterable[tuple[Cell, Result]]) -> Scores:
    scores: Scores = defaultdict(dict)
    for cell, result in cells:
        for name, (share, balanced) in result["scores"].items():
            scores[name][cell.seed] = (share, balanced)
    return scores


def _summary(scores: Scores) -> dict[str, Any]:
    """Per row: accuracy and balanced accuracy over dies; paired differences of MH best to every other row."""
    rows = {}
    for name in ROWS:
        if name in scores:
            rows[name] = {
                "accuracy": summarise(pair[0] for pair in scores[name].values()),
                "balanced": summarise(pair[1] for pair in scores[name].values()),
                "dies": {str(seed): pair[0] for seed, pair in sorted(scores[name].items())},
            }
    differences: dict[str, dict[str, Any]] = {}
    for name in scores:
        if name != BEST and BEST in scores:
            for index, kind in enumerate(("accuracy", "balanced")):
                difference = paired(
                    {seed: pair[index] for seed, pair in scores[BEST].items()},
                    {seed: pair[index] for seed, pair in scores[name].items()},
                )
                if difference is not None:
                    differences.setdefault(name, {})[kind] = difference
    return {"rows": rows, "minus": differences}


def digest(plan: Plan, cells: list[Cell], results: Mapping[Cell, Result], settings: list[Setting]) -> dict[str, Any]:
    """Everything the tables say, from the cells."""
    grid: dict[tuple[str, float, int], list[tuple[Cell, Result]]] = defaultdict(list)
    for cell in cells:
        if cell.group != "sweep":
            continue
        if cell.learner == "logistic":
            for level in plan.levels:
                grid[cell.dataset, level, cell.train_size].append((cell, results[cell]))
        else:
            level = dict(cell.distortion).get("level", 0.0)
            grid[cell.dataset, level, cell.train_size].append((cell, results[cell]))
    sweep = [
        {"dataset": dataset, "level": level, "n": size, "backend": "golden", **_summary(_gather(entries))}
        for (dataset, level, size), entries in sorted(grid.items())
        if any(cell.learner == "mh" for cell, _ in entries)
    ]
    heads = []
    for setting in settings:
        mine = headline_cells(plan, setting)
        entries = [(cell, results[cell]) for cell in mine]
        presented = [result["chip"].get("samples", 0) for cell, result in entries if cell.learner == "mh"]
        cycles = [result["chip"].get("cycles", 0) for cell, result in entries if cell.learner == "mh"]
        heads.append(
            {
                "name": setting.name,
                "dataset": setting.dataset,
                "distortion": dict(setting.distortion),
                "n": setting.train_size,
                "steps": setting.steps,
                "wide": setting.wide,
                "note": setting.note,
                "backend": setting.backend,
                "presentations": float(np.mean(presented)),
                "cycles": float(np.mean(cycles)),
                **_summary(_gather(entries)),
            }
        )
    found = {"sweep": sweep, "headline": heads}
    return found | {"claims": claims(found)}


# ---- what it means --------------------------------------------------------------------------------------------------


def _signed(value: float) -> str:
    return f"{100 * value:+.1f}"


def claims(found: Mapping[str, Any]) -> dict[str, list[str]]:
    """The paper's two claims, answered by the measured numbers only."""
    return {"gap": _gap_claim(found), "data": _data_claim(found["sweep"])}


def _gap_claim(found: Mapping[str, Any]) -> list[str]:
    entries = [*found["headline"], *found["sweep"]]
    gaps = [(entry, entry["minus"][B1]["accuracy"]) for entry in entries if B1 in entry["minus"]]
    reached = [pair for pair in gaps if pair[1]["mean"] >= PAPER_GAP]
    lines = []
    if reached:
        lines.append(
            f"**Holds under {len(reached)} of {len(gaps)} measured conditions** against backpropagation that was "
            "trained on the ideal model and then deployed: the mean paired gap of the best-likelihood sample is at "
            "least 27 points for "
            + "; ".join(
                f"{_where(entry)}: {_signed(gap['mean'])} (se {100 * gap['se']:.1f}, {gap['n']} dies, "
                f"{gap['reach_27']} of them at 27 or more)"
                for entry, gap in reached
            )
            + "."
        )
    else:
        entry, gap = max(gaps, key=lambda pair: pair[1]["mean"])
        lines.append(
            f"**Not reached on average** in any of the {len(gaps)} measured conditions; the largest mean gap is "
            f"{_signed(gap['mean'])} (se {100 * gap['se']:.1f}) at {_where(entry)}."
        )
    single = sum(gap["reach_27"] for _, gap in gaps)
    total = sum(gap["n"] for _, gap in gaps)
    lines.append(f"On single dies the gap is 27 points or more in {single} of {total} cases.")
    wide = [(entry, entry["minus"][B1W]["accuracy"]) for entry in found["headline"] if B1W in entry["minus"]]
    held = [pair for pair in wide if pair[1]["mean"] >= PAPER_GAP]
    if wide:
        lines.append(
            "Where the distortion silences the chip, the baseline's small weights are part of the gap. Against the "
            "same baseline started wide (start and prior 64) it is "
            + "; ".join(f"{_where(entry)}: {_signed(gap['mean'])}" for entry, gap in wide)
            + f"; {len(held)} of {len(wide)} stay at 27 or more."
        )
    loops = [(entry, entry["minus"][B2C]["accuracy"]) for entry in entries if B2C in entry["minus"]]
    if loops:
        better = [pair for pair in loops if pair[1]["mean"] > 2 * pair[1]["se"] and pair[1]["n"] > 2]
        worse = [pair for pair in loops if pair[1]["mean"] < -2 * pair[1]["se"] and pair[1]["n"] > 2]
        low = min(loops, key=lambda pair: pair[1]["mean"])
        high = max(loops, key=lambda pair: pair[1]["mean"])
        lines.append(
            "**Against backpropagation that measures its forward pass on the chip there is no such gap**: the mean "
            f"differences lie between {_signed(low[1]['mean'])} ({_where(low[0])}) and {_signed(high[1]['mean'])} "
            f"({_where(high[0])}); of {len(loops)} conditions, MH is ahead by more than two standard errors in "
            f"{len(better)} and behind by more than two in {len(worse)}."
            if high[1]["mean"] < PAPER_GAP
            else "Against backpropagation in the loop the largest mean difference is "
            f"{_signed(high[1]['mean'])} ({_where(high[0])})."
        )
    return lines


def _where(entry: Mapping[str, Any]) -> str:
    what = entry.get("name") or f"level {entry['level']:g}"
    return f"{what}, {entry['dataset']}, n={entry['n']}"


def _data_claim(sweep: list[dict[str, Any]]) -> list[str]:
    """Smallest training set with which MH reaches what a baseline reaches with the largest one."""
    table: dict[tuple[str, float], dict[int, dict[str, float]]] = defaultdict(dict)
    for entry in sweep:
        table[entry["dataset"], entry["level"]][entry["n"]] = {
            name: row["accuracy"]["mean"] for name, row in entry["rows"].items()
        }
    lines = []
    for (dataset, level), by_size in sorted(table.items()):
        largest, smallest = max(by_size), min(by_size)
        if largest < PAPER_DATA * smallest:
            continue
        ideal = table.get((dataset, 0.0), {}).get(largest, {}).get(B1)
        targets = {
            "deployed backprop": by_size[largest].get(B1),
            "in-the-loop backprop": by_size[largest].get(B2C),
        }
        if level and ideal is not None:
            targets["deployed backprop on an undistorted chip"] = ideal
        parts = []
        for name, target in targets.items():
            if target is None:
                continue
            reached = [size for size in sorted(by_size) if by_size[size].get(BEST, 0.0) >= target]
            if reached:
                ratio = largest / reached[0]
                verdict = "more than 10 times less: holds" if ratio > PAPER_DATA else "does not hold"
                parts.append(
                    f"MH with n={reached[0]} ({100 * by_size[reached[0]][BEST]:.1f} %) reaches {name} with n={largest} "
                    f"({100 * target:.1f} %): {ratio:.0f} times less data ({verdict})"
                )
            else:
                top = max(values.get(BEST, 0.0) for values in by_size.values())
                parts.append(
                    f"MH (at most {100 * top:.1f} %) does not reach {name} with n={largest} ({100 * target:.1f} %) at "
                    "any size (does not hold)"
                )
        own = {size: by_size[size].get(B2C) for size in sorted(by_size)}
        few = own.get(smallest)
        if few is not None:
            parts.append(
                f"with n={smallest} itself, MH has {100 * by_size[smallest][BEST]:.1f} % and in-the-loop backprop "
                f"{100 * few:.1f} %"
            )
        lines.append(f"{dataset}, level {level:g}: " + "; ".join(parts) + ".")
    if not lines:
        lines.append("Not measured here: the training sizes of this run span less than a factor of ten.")
    return lines


# ---- tables ---------------------------------------------------------------------------------------------------------


def _cell_text(row: Mapping[str, Any] | None) -> str:
    if row is None:
        return "-"
    share = row["accuracy"]
    return (
        f"{100 * share['mean']:.1f}±{100 * share['sd']:.1f} ({100 * share['worst']:.0f}) "
        f"b{100 * row['balanced']['mean']:.0f}"
    )


def _difference_text(item: Mapping[str, Any] | None) -> str:
    if item is None:
        return "-"
    share = item["accuracy"]
    return f"{_signed(share['mean'])} (se {100 * share['se']:.1f})"


def markdown(found: Mapping[str, Any], plan: Plan) -> str:
    """The report of the study."""
    lines = [
        "# Metropolis-Hastings with the chip in the loop, against backpropagation",
        "",
        "Paper: Safa et al., NICE 2024 (arXiv 2402.06284). It claims up to 27 points over backpropagation under strong "
        "distortion, and more than 10 times less training data. Network, distortions and baselines are ours: "
        f"inputs-{HIDDEN}-2 integrate-and-fire neurons, 8-bit weights, {TIMESTEPS} steps of rate code.",
        "",
        "Entries: test accuracy in %, mean±standard deviation over dies (worst die), b: mean balanced accuracy "
        "(ties count half; plain accuracy lets a silent chip pass as one that always says benign). A seed is one "
        "split, one die and one start; differences are paired by seed, se is their standard error. All choices of "
        "networks use training data only.",
        "",
    ]
    if found["quick"]:
        lines += [
            f"**Quick run**: {plan.dies} dies, {plan.steps} proposals; standard errors are large. The full study runs "
            "without `--quick`.",
            "",
        ]
    lines += [f"**{reason}**" for reason in found["skipped"]] + ([""] if found["skipped"] else [])
    lines += ["## The two claims", "", "### Up to 27 points more accuracy", ""]
    lines += [f"- {line}" for line in found["claims"]["gap"]]
    lines += ["", "### More than ten times less data", ""]
    lines += [f"- {line}" for line in found["claims"]["data"]]
    lines += ["", "## Headline settings", ""]
    for head in found["headline"]:
        lines += [
            f"**{head['name']}**, {head['dataset']}, n={head['n']}, backend {head['backend']}, {head['steps']} "
            "proposals"
            + (", MH started wide (start and prior 64)" if head["wide"] else "")
            + (f"; {head['note']}" if head["note"] else "")
            + f"; {plots.thousands(head['presentations'])} presentations and {plots.thousands(head['cycles'])} clock "
            "cycles per chain",
            "",
        ]
        rows = []
        for name, row in head["rows"].items():
            item = head["minus"].get(name)
            reach = f"{item['accuracy']['reach_27']} of {item['accuracy']['n']}" if item else "-"
            rows.append([name, _cell_text(row), _difference_text(item), reach])
        lines += table(["learner", "accuracy", "MH best minus it", "dies at 27 or more"], rows)
    by_set: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for entry in found["sweep"]:
        by_set[entry["dataset"]].append(entry)
    for dataset, entries in by_set.items():
        sizes = sorted({entry["n"] for entry in entries})
        lines += [f"## Accuracy against level and training size: {dataset} (backend golden)", ""]
        for level in sorted({entry["level"] for entry in entries}):
            at = {entry["n"]: entry for entry in entries if entry["level"] == level}
            rows = []
            for name in ROWS:
                if any(name in entry["rows"] for entry in at.values()):
                    texts = [_cell_text(at[size]["rows"].get(name)) if size in at else "-" for size in sizes]
                    rows.append([name, *texts])
            for name in (B1, B1R, B2N, B2C, GREEDY, VOTE, MEAN):
                if any(name in entry["minus"] for entry in at.values()):
                    texts = [_difference_text(at[size]["minus"].get(name)) if size in at else "-" for size in sizes]
                    rows.append([f"*MH best minus {name}*", *texts])
            lines += [f"Level {level:g}", "", *table(["learner", *(f"n={size}" for size in sizes)], rows)]
    rows = [[name, f"{value:.1f}"] for name, value in found["cell_seconds"].items()]
    lines += ["## Cost", "", *table(["cell", "seconds"], rows)]
    return "\n".join(lines)


# ---- plots ----------------------------------------------------------------------------------------------------------

_LOOK = {
    BEST: (plots.RED, "o", "-"),
    VOTE: (plots.ORANGE, "s", "-"),
    MEAN: (plots.YELLOW, "v", ":"),
    GREEDY: (plots.PINK, "P", ":"),
    B1: (plots.BLUE, "D", "-"),
    B1R: (plots.SKY, "^", "--"),
    B2N: (plots.GREY, "X", "--"),
    B2C: (plots.GREEN, "*", "-"),
    LOGISTIC: ("#000000", "", ":"),
}


def draw(found: Mapping[str, Any], folder: Path) -> list[Path]:
    """Accuracy against level, against training size, and the headline settings, as PNG."""
    with plots.style():
        return [
            plots.save(_level_figure(found["sweep"]), folder / "accuracy-level.png"),
            plots.save(_size_figure(found["sweep"]), folder / "accuracy-size.png"),
            *([plots.save(_headline_figure(found["headline"]), folder / "headline.png")] if found["headline"] else []),
        ]


def _curves(axis: Any, entries: list[Mapping[str, Any]], key: str) -> None:
    entries = sorted(entries, key=lambda entry: entry[key])
    for index, (name, (colour, marker, line)) in enumerate(_LOOK.items()):
        points = [(entry[key], entry["rows"][name]["accuracy"]) for entry in entries if name in entry["rows"]]
        if not points:
            continue
        x = np.array([point[0] for point in points], dtype=float)
        x = x * (1 + 0.012 * (index - 4)) if key == "n" else x + 0.012 * (index - 4)
        axis.errorbar(
            x,
            [100 * point[1]["mean"] for point in points],
            yerr=[100 * point[1]["se"] for point in points],
            color=colour,
            marker=marker or None,
            linestyle=line,
            markersize=4.5,
            capsize=2,
            linewidth=1.4,
            label=name,
        )
    axis.set_ylim(None, 101)
    axis.set_ylabel("test accuracy (%)")


def _level_figure(sweep: list[Mapping[str, Any]]) -> Any:
    dataset = _main(sweep)
    mine = [entry for entry in sweep if entry["dataset"] == dataset]
    sizes = sorted({entry["n"] for entry in mine if len({e["level"] for e in mine if e["n"] == entry["n"]}) > 1})
    sizes = sizes if len(sizes) <= 3 else [sizes[1], 100, sizes[-1]]
    figure = plots.new_figure(3.3 * len(sizes) + 0.4, 4.2)
    for axis, size in zip(figure.subplots(1, len(sizes), sharey=True, squeeze=False)[0], sizes, strict=True):
        _curves(axis, [entry for entry in mine if entry["n"] == size], "level")
        axis.set_title(f"{size} training samples")
        axis.set_xlabel("level of the die's distortion")
    _legend(figure)
    return figure


def _size_figure(sweep: list[Mapping[str, Any]]) -> Any:
    dataset = _main(sweep)
    mine = [entry for entry in sweep if entry["dataset"] == dataset]
    most = max(len({entry["n"] for entry in mine if entry["level"] == other["level"]}) for other in mine)
    levels = sorted(
        {
            other["level"]
            for other in mine
            if len({entry["n"] for entry in mine if entry["level"] == other["level"]}) == most
        }
    )[:3]
    figure = plots.new_figure(3.3 * len(levels) + 0.4, 4.2)
    for axis, level in zip(figure.subplots(1, len(levels), sharey=True, squeeze=False)[0], levels, strict=True):
        entries = [entry for entry in mine if entry["level"] == level]
        _curves(axis, entries, "n")
        sizes = sorted(entry["n"] for entry in entries)
        axis.set_xscale("log")
        axis.set_xticks(sizes, [str(size) for size in sizes])
        axis.minorticks_off()
        axis.set_title(f"level {level:g}")
        axis.set_xlabel("training samples")
    _legend(figure)
    return figure


def _legend(figure: Any) -> None:
    handles: dict[str, Any] = {}
    for axis in figure.axes:
        for handle, label in zip(*axis.get_legend_handles_labels(), strict=True):
            handles.setdefault(label, handle)
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=3)
    for axis in figure.axes[1:]:
        axis.set_ylabel("")


def _main(sweep: list[Mapping[str, Any]]) -> str:
    names = [entry["dataset"] for entry in sweep]
    return max(set(names), key=names.count)


def _headline_figure(heads: list[Mapping[str, Any]]) -> Any:
    shown = (BEST, B1, B1W, B2C, LOGISTIC)
    colours = {BEST: plots.RED, B1: plots.BLUE, B1W: plots.SKY, B2C: plots.GREEN, LOGISTIC: plots.GREY}
    figure = plots.new_figure(7.6, 1.2 + 0.85 * len(heads))
    axis = figure.subplots()
    height = 0.8 / len(shown)
    for index, head in enumerate(reversed(heads)):
        for position, name in enumerate(shown):
            if name not in head["rows"]:
                continue
            y = index + 0.4 - (position + 0.5) * height
            row = head["rows"][name]
            axis.barh(
                y,
                100 * row["accuracy"]["mean"],
                height=0.9 * height,
                color=colours[name],
                alpha=0.85,
                label=name if index == 0 else None,
            )
            dies = [100 * value for value in row["dies"].values()]
            axis.plot(dies, [y] * len(dies), "|", color="black", markersize=5, markeredgewidth=0.9)
    axis.set_yticks(
        range(len(heads)),
        [
            f"{head['name']}\n{'original' if head['dataset'] == ORIGINAL else 'diagnostic'}, n={head['n']}"
            for head in reversed(heads)
        ],
    )
    axis.set_xlim(50, 100.5)
    axis.set_xlabel("test accuracy (%); ticks: single dies")
    axis.grid(axis="y", visible=False)
    axis.tick_params(axis="y", length=0)
    figure.legend(loc="outside lower center", ncols=3)
    return figure
