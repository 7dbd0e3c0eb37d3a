"""What the stored results say: the figures of all tables, and the claims answered by them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from host.reproduce.cells import Result, summarise
from host.reproduce.delgrad import settings as s
from host.reproduce.delgrad.settings import NOISE, Job, Plan, Setting
from host.reproduce.numbers import (
    ABOVE,
    NEAR,
    NOT_MEASURED,
    SIGMAS,
    UNCLEAR,
    answered,
    contrast,
    difference,
    listed,
    percent,
    points,
    verdict,
)
from host.reproduce.report import yes
from host.trainers.delgrad import DELAYS

Results = Mapping[Job, Result]
Runs = Mapping[int, Result]
"""Results by seed."""

AUTHORS = {
    ("none", 30): 0.967, ("axonal", 30): 0.975, ("synaptic", 30): 0.982, ("synaptic", 5): 0.954,
}  # fmt: skip
"""Test accuracies of the networks that the paper's authors stored, by delays and hidden neurons: simulated with
floating point and exact times, one seed each."""
AUTHORS_HARDWARE = {"none": 0.849, "axonal": 0.926}
"""The same on BrainScaleS-2, with five copies of every input."""

WORTH = 0.14
"""What training in the loop should be worth over deployment on the noisy dies."""
STEP_CYCLES = 25
"""Clock cycles that a time step of the largest network should take at most."""


# ---- figures --------------------------------------------------------------------------------------------------------


def runs(results: Results, setting: Setting, seeds: int) -> dict[int, Result]:
    """Results of a training by seed, those that there are."""
    jobs = {seed: s.train(setting, seed) for seed in range(seeds)}
    return {seed: results[job] for seed, job in jobs.items() if job in results}


def summary(found: Runs) -> dict[str, Any]:
    """What a table says about one network."""
    one = next(iter(found.values()))

    def mean(name: str) -> float | None:
        values = [each[name] for each in found.values() if each[name] is not None]
        return float(np.mean(values)) if values else None

    return {
        "accuracy": summarise(each["accuracy"] for each in found.values()),
        "seeds": [each["accuracy"] for _, each in sorted(found.items())],
        "validation": mean("validation"),
        "parameters": one["parameters"],
        "n_test": one["n_test"],
        "shape": [one["n_in"], one["n_out"]],
        "largest": [max(each["largest"][layer] for each in found.values()) for layer in range(len(one["largest"]))],
    } | {name: mean(name) for name in ("silent", "decision", "hidden_before", "hidden_spikes", "steps", "cycles")}


def curves(found: Runs) -> dict[str, list[float]]:
    """Learning curves, means over the seeds."""
    names = ("training_accuracy", "validation_accuracy", "steps", "cycles_per_sample")
    return {name: np.mean([each["history"][name] for each in found.values()], axis=0).tolist() for name in names}


def digest(plan: Plan, results: Results) -> dict[str, Any]:
    """Everything the tables say, as far as there are results."""
    found: dict[str, Any] = {
        "size": _size(plan, results),
        "noise": _noise(plan, results),
        "control": _control(plan, results),
        "bits": _sweep(plan, results, "bits"),
        "resolution": _sweep(plan, results, "resolution"),
        "gradient": _gradient(plan, results),
        "digits": _digits(plan, results),
        "pictures": _pictures(plan, results),
        "known": _known(results),
        "confirmation": _confirmation(plan, results),
    }
    return found | {"claims": claims(found)}


def together(plus: Sequence[Sequence[Runs]], minus: Sequence[Sequence[Runs]]) -> dict[str, float] | None:
    """Mean of several differences, ``plus[k] - minus[k]``; those with a part that has no results are left out."""
    pairs = [(a, b) for a, b in zip(plus, minus, strict=True) if all(a) and all(b)]
    if not pairs:
        return None
    found = contrast([each for a, _ in pairs for each in a], [each for _, b in pairs for each in b])
    return found and {"mean": found["mean"] / len(pairs), "se": found["se"] / len(pairs), "n": found["n"]}


def _size(plan: Plan, results: Results) -> list[dict[str, Any]]:
    entries = []
    largest = runs(results, plan.ideal("none"), plan.seeds)
    for size in plan.sizes:
        by_kind = {kind: runs(results, plan.ideal(kind, size), plan.seeds) for kind in plan.kinds}
        bare = by_kind.get("none", {})
        delayed = [each for kind, each in by_kind.items() if kind != "none"]
        average = together([[each] for each in delayed], [[bare]] * len(delayed))
        for kind, mine in by_kind.items():
            if mine:
                entries.append(
                    {"kind": kind, "hidden": size, "authors": AUTHORS.get((kind, size))} | summary(mine)
                    | {"minus_none": difference(mine, bare), "minus_largest": difference(mine, largest)}
                    | {"average": average}
                    | {"curves": curves(mine)}
                )  # fmt: skip
    return entries


def _noise(plan: Plan, results: Results) -> list[dict[str, Any]]:
    """In the loop on noisy dies, against the ideal chip and against ideal-trained networks on the same dies."""
    entries = []

    def deployed(kind: str, noise: s.Noise = NOISE) -> dict[int, list[Result]]:
        jobs = {seed: s.deploy(plan, kind, seed, noise) for seed in range(plan.seeds)}
        return {seed: results[job]["dies"] for seed, job in jobs.items() if job in results}

    def groups(kind: str) -> tuple[Runs, Runs, Runs]:
        same = {seed: dies[seed] for seed, dies in deployed(kind).items() if seed < len(dies)}
        looped = runs(results, plan.noisy(kind), plan.noise_seeds)
        return runs(results, plan.ideal(kind), plan.seeds), looped, same

    def over_dies(found: Mapping[int, list[Result]]) -> dict[str, float] | None:
        return summarise(each["accuracy"] for dies in found.values() for each in dies) if found else None

    bare_ideal, bare, bare_same = groups("none")
    delayed = [groups(kind) for kind in plan.kinds if kind != "none"]
    average = {
        "spared": together([[bare_ideal, each[1]] for each in delayed], [[bare, each[0]] for each in delayed]),
        "minus_none": together([[each[1]] for each in delayed], [[bare]] * len(delayed)),
    }
    for kind in plan.kinds:
        ideal, looped, same = groups(kind)
        if not looped:
            continue
        alone = {name: over_dies(deployed(kind, noise)) for name, noise in s.alone().items()}
        entries.append(
            {"kind": kind} | summary(looped)
            | {
                "authors": AUTHORS_HARDWARE.get(kind),
                "ideal": summarise(each["accuracy"] for each in ideal.values()) if ideal else None,
                "ideal_hidden_before": summary(ideal)["hidden_before"] if ideal else None,
                "loss": difference(ideal, looped),
                "spared": contrast([bare_ideal, looped], [bare, ideal]),
                "minus_none": difference(looped, bare),
                "same": summarise(each["accuracy"] for each in same.values()) if same else None,
                "same_seeds": [each["accuracy"] for _, each in sorted(same.items())],
                "gap": difference(looped, same),
                "deployed": over_dies(deployed(kind)),
                "deployed_loss": difference(ideal, same),
                "deployed_spared": contrast([bare_ideal, same], [bare_same, ideal]),
                "alone": alone,
                "average": average,
                "curves": curves(looped),
            }
        )  # fmt: skip
    return entries


def _control(plan: Plan, results: Results) -> list[dict[str, Any]]:
    entries = []
    bare = runs(results, plan.ideal("none"), plan.seeds)
    for kind in plan.control:
        frozen, learned = (runs(results, each, plan.seeds) for each in (plan.frozen(kind), plan.ideal(kind)))
        if frozen and learned:
            entries.append(
                {"kind": kind, "frozen": summary(frozen), "learned": summary(learned)}
                | {"gain": difference(learned, frozen), "frozen_minus_none": difference(frozen, bare)}
            )
    return entries


def _sweep(plan: Plan, results: Results, part: str) -> list[dict[str, Any]]:
    """Widths of the weights or steps per tau_s, each against the finest."""
    kinds, values, setting_of = {
        "bits": (plan.bit_kinds, plan.bits, plan.at_bits),
        "resolution": (plan.step_kinds, plan.steps, plan.at_steps),
    }[part]
    entries = []
    for kind in kinds:
        finest = runs(results, setting_of(kind, max(values)), plan.sweep_seeds)
        for value in sorted(values):
            mine = runs(results, setting_of(kind, value), plan.sweep_seeds)
            if mine:
                minus = difference(mine, finest) if value != max(values) else None
                entries.append({"kind": kind, "value": value, "finest": max(values)} | summary(mine) | {"minus": minus})
    return entries


def _gradient(plan: Plan, results: Results) -> list[dict[str, Any]]:
    """Closed forms against tables, at the same ratio of the time constants."""
    entries = []
    for gradient, ratio in plan.gradients:
        mine = runs(results, plan.with_gradient(gradient, ratio), plan.sweep_seeds)
        tables = runs(results, plan.with_gradient("discrete", ratio), plan.sweep_seeds)
        if mine:
            minus = difference(mine, tables) if gradient != "discrete" else None
            seconds = float(np.mean([each["training_seconds"] for each in mine.values()]))
            entries.append(
                {"gradient": gradient, "ratio": ratio} | summary(mine) | {"minus": minus, "training_seconds": seconds}
            )
    return entries


def _digits(plan: Plan, results: Results) -> list[dict[str, Any]]:
    entries = []
    jobs = {seed: s.logistic(plan, seed) for seed in range(plan.sweep_seeds)}
    straight = {seed: results[job] for seed, job in jobs.items() if job in results}
    bare = runs(results, plan.digit("none"), plan.sweep_seeds)
    for kind in plan.digit_kinds:
        mine = runs(results, plan.digit(kind), plan.sweep_seeds)
        if mine:
            entries.append(
                {"kind": kind, "hidden": plan.digits.hidden} | summary(mine)
                | {"minus_none": difference(mine, bare), "minus_logistic": difference(mine, straight)}
                | {"logistic": summarise(each["accuracy"] for each in straight.values()) if straight else None}
                | {"logistic_parameters": next((each["parameters"] for each in straight.values()), None)}
            )  # fmt: skip
    return entries


def _pictures(plan: Plan, results: Results) -> dict[str, Any]:
    """Where the arrays of the pictures are, and what they show."""
    spikes: dict[str, Any] = {}
    maps: dict[str, dict[str, Any]] = {}
    for kind in plan.shown:
        job = s.spikes(plan, kind)
        if job in results:
            spikes[kind] = results[job] | {"key": job.key(), "n": plan.base.steps_per_tau}
        for name, job in s.maps(plan, kind).items():
            if job in results:
                trained = results.get(s.train(job.setting, job.seed))
                accuracy = trained["accuracy"] if trained else None
                maps.setdefault(kind, {})[name] = {"key": job.key(), "accuracy": accuracy} | results[job]
    return {"spikes": spikes, "maps": maps}


def _known(results: Results) -> list[dict[str, Any]]:
    """Stored networks on the golden model and, where it ran, on the simulated chip."""
    entries = []
    for job in sorted((job for job in results if job.kind == "known"), key=lambda job: job.name):
        sim = next((results[other] for other in results if (other.kind, other.name) == ("known-sim", job.name)), None)
        golden = results[job]
        equal = golden["different"] == 0 and (
            sim is None or (sim["different"] == 0 and sim["cycles"] == golden["cycles"])
        )
        entries.append({"golden": golden, "sim": sim, "agrees": equal})
    return entries


def _confirmation(plan: Plan, results: Results) -> dict[str, Any]:
    tests = []
    for job in s.confirmed(plan):
        if job in results:
            found = results[job]
            agrees = (
                found["equal_outputs"]
                and found["different_times"] == 0
                and all(len(set(found[name])) == 1 for name in ("accuracy", "cycles", "steps"))
            )
            tests.append({"title": _title(job, found), "agrees": agrees} | found)
    golden_job, sim_job = s.repeated(plan)
    golden, sim = results.get(golden_job), results.get(sim_job)
    training = None
    if golden and sim:
        history = sim["history"]
        per_step = np.array(history["cycles_per_sample"]) / np.array(history["steps"])
        equal_network = golden["network"] == sim["network"] and golden["right"] == sim["right"]
        # Equal as text, so that a missing figure equals a missing one.
        equal_history = str(golden["history"]) == str(history)
        training = {
            "title": _title(golden_job, golden),
            "epochs": golden_job.setting.epochs,
            "n_train": golden["n_train"],
            "accuracy": [golden["accuracy"], sim["accuracy"]],
            "equal_network": equal_network,
            "equal_history": equal_history,
            "agrees": equal_network and equal_history,
            "cycles_per_step": [float(per_step.min()), float(per_step.mean()), float(per_step.max())],
            "steps": float(np.mean(history["steps"])),
            "cycles": float(np.mean(history["cycles_per_sample"])),
            "seconds": [golden["seconds"], sim["seconds"]],
        }
    return {"tests": tests, "training": training}


def _title(job: Job, found: Mapping[str, Any]) -> str:
    """A network in words."""
    shape = f"{found['n_in']}-{job.setting.hidden}-{found['n_out']}"
    chip = f"noisy die {job.seed}" if job.setting.noise else "ideal chip"
    return f"{shape}, {words(job.setting.delays)}, {chip}, seed {job.seed}"


def words(kind: str) -> str:
    """A kind of delays in words."""
    return "no delays" if kind == "none" else f"{kind} delays"


# ---- what it means --------------------------------------------------------------------------------------------------


def claims(found: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The paper's claims and ours, answered by the measured figures only: what is claimed, the answer, and why."""
    return [
        _accuracy(found["size"]),
        _parameters(found["size"]),
        _stable(found["noise"]),
        _trained(found["control"]),
        _in_the_loop(found["noise"]),
        _coarse(found["bits"], found["resolution"]),
        _rule(found["gradient"]),
        _on_the_chip(found["known"], found["confirmation"]),
    ]


def judged(gaps: Mapping[str, Mapping[str, float]], average: Mapping[str, float] | None = None) -> str:
    """Whether differences are above 0 by more than two standard errors: by kind of delays, and on their average."""
    kinds = {name: verdict(gap) for name, gap in gaps.items()}
    good = [name for name, kind in kinds.items() if kind == ABOVE]
    if len(good) == len(kinds):
        return "yes"
    if len(kinds) > 1 and average and verdict(average) == ABOVE:
        return "yes on average" + (f", by itself with {listed(good)} delays" if good else "")
    if good:
        return f"with {listed(good)} delays"
    return "cannot tell" if UNCLEAR in kinds.values() else "no"


def _by_kind(entries: Sequence[Mapping[str, Any]], name: str) -> dict[str, Mapping[str, float]]:
    return {entry["kind"]: entry[name] for entry in entries if entry[name]}


def _listed_gaps(
    gaps: Mapping[str, Mapping[str, float]], n_test: int, average: Mapping[str, float] | None = None
) -> str:
    """Differences by kind of delays and, of several kinds, on average."""
    texts = [f"{kind} {points(gap, n_test)}" for kind, gap in gaps.items()]
    if average and len(gaps) > 1:
        texts.append(f"average {points(average, n_test)}")
    return "; ".join(texts)


def _accuracy(size: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    what = "Delays raise accuracy"
    entries = [entry for entry in size if entry["kind"] != "none" and entry["minus_none"]]
    if not entries:
        return answered(what, NOT_MEASURED, ["No network with delays has one without delays beside it."])
    largest = max(entry["hidden"] for entry in entries)
    lines, answers = [], []
    for hidden in sorted({entry["hidden"] for entry in entries}, reverse=True):
        mine = [entry for entry in entries if entry["hidden"] == hidden]
        gaps, average = _by_kind(mine, "minus_none"), mine[0]["average"]
        answers.append(judged(gaps, average))
        lines.append(
            f"{hidden} hidden neurons, against none: {_listed_gaps(gaps, mine[0]['n_test'], average)}. "
            f"More: **{answers[-1]}**."
        )
    lines += _beside_authors([entry for entry in size if entry["authors"]])
    return answered(what, f"{answers[0]} ({largest} hidden neurons)", lines)


def _beside_authors(entries: Sequence[Mapping[str, Any]]) -> list[str]:
    if not entries:
        return []
    pairs = [
        f"{entry['hidden']} hidden neurons, {words(entry['kind'])} {percent(entry['authors'], entry['n_test'])} % "
        f"(here {percent(entry['accuracy']['mean'], entry['n_test'])} %)"
        for entry in entries
    ]
    return [
        "Networks stored by the paper's authors, floating point and exact times, one seed each: "
        + "; ".join(pairs)
        + "."
    ]


def _parameters(size: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    what = "Delays save parameters"
    bare = sorted((entry for entry in size if entry["kind"] == "none"), key=lambda entry: entry["parameters"])
    if len(bare) < 2:
        return answered(what, NOT_MEASURED, ["Fewer than two sizes without delays are measured."])
    top = bare[-1]
    small = [entry for entry in size if entry["parameters"] < top["parameters"] and entry["minus_largest"]]
    if all(entry["kind"] == "none" for entry in small):
        return answered(what, NOT_MEASURED, ["No network with delays is smaller than the largest one without."])
    lines = [
        f"Against {top['hidden']} hidden neurons without delays ({top['parameters']} parameters, "
        f"{percent(top['accuracy']['mean'], top['n_test'])} %): "
        + "; ".join(
            f"{entry['hidden']} with {words(entry['kind'])} ({entry['parameters']} parameters) "
            f"{points(entry['minus_largest'], entry['n_test'])}"
            for entry in small
        )
        + "."
    ]
    gains = {
        (entry["kind"], entry["hidden"]): entry["accuracy"]["mean"] - at_parameters(bare, entry["parameters"])
        for entry in size
        if entry["kind"] != "none" and entry["parameters"] <= top["parameters"]
    }
    lines.append(
        "Against networks without delays of as many parameters (between the measured sizes, accuracy over the "
        "logarithm of the number): "
        + "; ".join(f"{hidden} with {kind} delays {100 * gain:+.1f}" for (kind, hidden), gain in gains.items())
        + " points."
    )
    enough = [entry for entry in small if entry["minus_largest"]["mean"] >= -NEAR]
    needed = {
        delayed: min(
            (entry for entry in enough if (entry["kind"] != "none") == delayed),
            key=lambda entry: entry["parameters"],
            default=top,
        )
        for delayed in (False, True)
    }
    near = f"within {100 * NEAR:g} point of the {percent(top['accuracy']['mean'], top['n_test'])} %"
    lines.append(
        f"The fewest parameters that come {near}: without delays {needed[False]['parameters']}, with delays "
        + (
            f"{needed[True]['parameters']} ({needed[True]['kind']})."
            if needed[True] is not top
            else "none that is smaller."
        )
    )
    saves = needed[True]["parameters"] < needed[False]["parameters"]
    answer = (
        f"yes: {needed[True]['parameters']} with {needed[True]['kind']} delays instead of {needed[False]['parameters']}"
        if saves
        else "no as far as measured"
    )
    ahead = sum(gain > 0 for gain in gains.values())
    if not saves and ahead:
        answer += f"; at as many parameters {ahead} of {len(gains)} networks with delays are ahead"
    return answered(what, answer, lines)


def at_parameters(bare: Sequence[Mapping[str, Any]], parameters: int) -> float:
    """Accuracy without delays at a number of parameters, interpolated over its logarithm."""
    known = [np.log(entry["parameters"]) for entry in bare], [entry["accuracy"]["mean"] for entry in bare]
    return float(np.interp(np.log(parameters), *known))


def _stable(noise: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    what = "Delays stabilise against noise"
    bare = next((entry for entry in noise if entry["kind"] == "none"), None)
    entries = [entry for entry in noise if entry["kind"] != "none" and entry["spared"]]
    if bare is None or bare["loss"] is None or not entries:
        return answered(what, NOT_MEASURED, ["There is no loss with and without delays yet."])
    n_test = bare["n_test"]
    spared, above, average = _by_kind(entries, "spared"), _by_kind(entries, "minus_none"), entries[0]["average"]
    answer = judged(spared, average["spared"])
    lines = [
        f"Loss from the ideal chip to noisy dies, both trained in the loop: none {points(bare['loss'], n_test)}; "
        f"{_listed_gaps(_by_kind(entries, 'loss'), n_test)}.",
        f"Less lost than without delays: {_listed_gaps(spared, n_test, average['spared'])}. Less: **{answer}**.",
        f"Accuracy on the noisy dies, against none: {_listed_gaps(above, n_test, average['minus_none'])}. More: "
        f"**{judged(above, average['minus_none'])}**.",
    ]
    untrained = _by_kind(entries, "deployed_spared")
    if untrained:
        lines.append(
            "Without the loop, ideal-trained networks on the same dies, less lost than without delays: "
            f"{_listed_gaps(untrained, n_test)}."
        )
    if bare["hidden_before"] is not None:
        lines.append(
            "Hidden neurons that spike before the decision, on the noisy dies: "
            + "; ".join(f"{entry['kind']} {entry['hidden_before']:.1f}" for entry in (bare, *entries))
            + "."
        )
    theirs = {kind: AUTHORS_HARDWARE[kind] for kind in ("none", "axonal")}
    lines.append(
        "The authors' networks on BrainScaleS-2, one seed each: "
        + ", ".join(f"{kind} {percent(value, n_test)} %" for kind, value in theirs.items())
        + f", {100 * (theirs['axonal'] - theirs['none']):+.1f} points."
    )
    return answered(what, answer, lines)


def _trained(control: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    what = "Training the delays matters, random ones do not do"
    entries = [entry for entry in control if entry["gain"]]
    if not entries:
        return answered(what, NOT_MEASURED, ["No network with frozen delays is trained yet."])
    lines = [
        f"{entry['kind'].capitalize()} delays, trained minus frozen: {points(entry['gain'], entry['frozen']['n_test'])}"
        + (
            f"; frozen minus no delays: {points(entry['frozen_minus_none'], entry['frozen']['n_test'])}"
            if entry["frozen_minus_none"]
            else ""
        )
        + "."
        for entry in entries
    ]
    return answered(what, judged(_by_kind(entries, "gain")), lines)


def _in_the_loop(noise: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    what = f"Training in the loop is worth at least {100 * WORTH:g} points on a noisy die"
    entries = [entry for entry in noise if entry["gap"]]
    if not entries:
        return answered(what, NOT_MEASURED, ["No deployed network is tested on the dies of the loop yet."])
    worth = [entry["kind"] for entry in entries if entry["gap"]["mean"] >= WORTH]
    surely = [entry["kind"] for entry in entries if entry["gap"]["mean"] - SIGMAS * entry["gap"]["se"] >= WORTH]
    names = [words(kind) for kind in worth]
    answer = "yes" if len(worth) == len(entries) else f"with {listed(names)}" if worth else "no"
    lines = [
        "In the loop minus ideal-trained and deployed, on the same dies: "
        + "; ".join(f"{entry['kind']} {points(entry['gap'], entry['n_test'])}" for entry in entries)
        + f". At least {100 * WORTH:g} points even two standard errors below the mean: "
        f"**{len(surely)} of {len(entries)}**."
    ]
    spread = [entry for entry in entries if entry["deployed"]]
    if spread:
        lines.append(
            "Deployed, mean and worst over all dies: "
            + "; ".join(
                f"{entry['kind']} {percent(entry['deployed']['mean'], entry['n_test'])} % "
                f"({percent(entry['deployed']['worst'], entry['n_test'])} %)"
                for entry in spread
            )
            + "."
        )
        alone = {
            name: [entry["alone"][name]["mean"] for entry in spread if entry["alone"].get(name)] for name in s.alone()
        }
        singles = {name: float(np.mean(values)) for name, values in alone.items() if values}
        if singles:
            worst = min(singles, key=lambda name: singles[name])
            lines.append(
                "What deployment suffers from, mean accuracy with each noise alone: "
                + "; ".join(
                    f"{NOISES[name]} {percent(value, entries[0]['n_test'])} %" for name, value in singles.items()
                )
                + f". The most harmful is the {NOISES[worst]}."
            )
    return answered(what, answer, lines)


NOISES = {
    "threshold_spread": "fixed spread of the thresholds",
    "threshold_noise": "threshold noise of each sample",
    "jitter": "jitter of arrivals",
}
"""Noises of a die in words."""


def _coarse(bits: Sequence[Mapping[str, Any]], resolution: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    what = "Few bits and a coarse clock suffice"
    lines, answers = [], []
    for entries, unit, plural in ((bits, "bits", "bits"), (resolution, "steps per tau_s", "steps")):
        for kind in [kind for kind in DELAYS if any(entry["kind"] == kind for entry in entries)]:
            mine = [entry for entry in entries if entry["kind"] == kind]
            others = [entry for entry in mine if entry["minus"]]
            finest = next((entry for entry in mine if entry["value"] == entry["finest"]), None)
            if finest is None or not others:
                continue
            within = [entry for entry in others if entry["minus"]["mean"] >= -NEAR]
            least = min((entry["value"] for entry in within), default=finest["value"])
            answers.append(f"{least} {plural} ({kind})")
            lines.append(
                f"{words(kind).capitalize()}, against {finest['value']} {unit} "
                f"({percent(finest['accuracy']['mean'], finest['n_test'])} %): "
                + "; ".join(f"{entry['value']} {points(entry['minus'], entry['n_test'])}" for entry in others)
                + f". The fewest within {100 * NEAR:g} point on average: **{least}**."
            )
    if not lines:
        return answered(what, NOT_MEASURED, ["Fewer than two widths or clocks are measured."])
    return answered(what, f"within {100 * NEAR:g} point of the finest from {listed(answers)} on", lines)


def _rule(gradient: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    what = "Spike times alone suffice: tables of the impulse response learn as well as the closed forms"
    entries = [entry for entry in gradient if entry["minus"]]
    if not entries:
        return answered(what, NOT_MEASURED, ["No closed form has tables beside it yet."])
    better = [entry for entry in entries if verdict(entry["minus"]) == ABOVE]
    lines = [
        "Closed form minus tables, axonal delays: "
        + "; ".join(
            f"{entry['gradient']} (tau_m = {_ratio(entry['ratio'])}tau_s) {points(entry['minus'], entry['n_test'])}"
            for entry in entries
        )
        + "."
    ]
    return answered(what, "no" if better else "yes, as far as the standard errors tell", lines)


def _ratio(ratio: float) -> str:
    return "" if ratio == 1 else f"{ratio:g} "


def _on_the_chip(known: Sequence[Mapping[str, Any]], confirmation: Mapping[str, Any]) -> dict[str, Any]:
    what = f"The chip does it, exactly and in at most {STEP_CYCLES} clock cycles per time step"
    tests, training = confirmation["tests"], confirmation["training"]
    lines, agree = [], []
    if known:
        good = [entry for entry in known if entry["agrees"]]
        times = sum(entry["golden"]["times"] for entry in good)
        lines.append(
            f"Networks stored by the authors, in integers: all {times:,} first spikes come in the known steps in "
            f"{len(good)} of {len(known)} networks"
            + (", on the golden model and on the simulated chip." if all(entry["sim"] for entry in known) else ".")
        )
        agree += [entry["agrees"] for entry in known]
    if tests:
        good = [entry for entry in tests if entry["agrees"]]
        samples = sum(entry["n_test"] for entry in tests)
        lines.append(
            f"Tests on the simulated chip: {len(good)} of {len(tests)} networks with equal spikes, cycles and "
            f"accuracy, {samples:,} samples in all."
        )
        agree += [entry["agrees"] for entry in tests]
    fast = True
    if training:
        low, mean, high = training["cycles_per_step"]
        fast = high <= STEP_CYCLES
        lines.append(
            f"A whole training on the simulated chip ({training['title']}, {_epochs(training['epochs'])} of "
            f"{training['n_train']:,} samples): the same network {yes(training['equal_network'])}, the same "
            f"history {yes(training['equal_history'])}; {mean:.1f} clock cycles per time step, in single epochs "
            f"{low:.1f} to {high:.1f}."
        )
        agree.append(training["agrees"])
    if not lines:
        return answered(what, NOT_MEASURED, ["Neither stored networks nor the simulated chip are measured."])
    if not all(agree):
        answer = "NO: not as it should be"
    elif not tests and not training:
        answer = "the stored networks agree; the simulated chip did not learn"
    else:
        answer = "yes" if fast and training else "exact; cycles not measured" if fast else "exact, but slower"
    return answered(what, answer, lines)


def _epochs(n: int) -> str:
    return f"{n} epoch{'s' if n > 1 else ''}"
