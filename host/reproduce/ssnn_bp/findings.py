"""What the stored results say: the figures of all tables, and the paper's claims answered by them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from host.reproduce.cells import Result, summarise
from host.reproduce.numbers import (
    ABOVE,
    BELOW,
    CLOSE,
    EQUAL,
    NEAR,
    NOT_MEASURED,
    REACHED,
    SIGMAS,
    UNCLEAR,
    VERDICTS,
    WITHIN,
    answered,
    difference,
    listed,
    percent,
    points,
    verdict,
)
from host.reproduce.ssnn_bp import settings as s
from host.reproduce.ssnn_bp.settings import SETTINGS, Job, Plan, Setting

NAMES = {"mnist": "MNIST", "fashion-mnist": "Fashion-MNIST", "nmnist": "N-MNIST", "digits": "digits"}

Results = Mapping[Job, Result]


# ---- figures --------------------------------------------------------------------------------------------------------


def _seeds(results: Results, setting: Setting, seeds: int, kind: str = "chip") -> dict[int, Result]:
    """Results of a setting by seed, those that there are."""
    jobs = {seed: Job(kind, setting, seed) if kind == "chip" else s.ann(setting, seed) for seed in range(seeds)}
    return {seed: results[job] for seed, job in jobs.items() if job in results}


def title(setting: Setting, found: Mapping[str, Any]) -> str:
    """A network in words."""
    shape = "-".join(str(size) for size in (found["n_in"], *setting.hidden, found["n_out"]))
    part = f", {found['n_train']} samples" if setting.train_size else ""
    epochs = f"{setting.epochs} epoch{'s' if setting.epochs > 1 else ''}"
    name = NAMES.get(setting.dataset, setting.dataset)
    return f"{name}{part}, {shape}, {setting.weight_bits} bits, T={setting.timesteps}, {epochs}"


def _compared(results: Results, setting: Setting, seeds: int) -> dict[str, Any] | None:
    """Chip and ordinary network of one setting; ``None`` if the chip has no result yet."""
    chip, ann = _seeds(results, setting, seeds), _seeds(results, setting, seeds, "ann")
    if not chip:
        return None
    one = next(iter(chip.values()))
    gap = difference(chip, ann)
    return {
        "title": title(setting, one),
        "setting": setting.to_dict(),
        "n_train": one["n_train"],
        "n_test": one["n_test"],
        "chip": summarise(each["accuracy"] for each in chip.values()),
        "count": summarise(each["accuracy_count"] for each in chip.values()),
        "ann": summarise(each["accuracy"] for each in ann.values()) if ann else None,
        "minus": gap,
        "verdict": verdict(gap) if gap else None,
        "largest": [max(each["largest"][layer] for each in chip.values()) for layer in range(len(one["largest"]))],
        "saturated": [
            float(np.mean([each["saturated"][layer] for each in chip.values()]))
            for layer in range(len(one["saturated"]))
        ],
        "limit": one["limit"],
        "wrong": float(np.mean([each["epochs"][-1]["wrong"] for each in chip.values()])),
        "cycles_learned": float(np.mean([each["cycles_learned"] for each in chip.values()])),
        "cycles_tested": float(np.mean([each["cycles_tested"] for each in chip.values()])),
    }


def _curves(results: Results, setting: Setting, seeds: int) -> dict[str, Any]:
    """Learning curves, means over the seeds."""
    chip, ann = _seeds(results, setting, seeds), _seeds(results, setting, seeds, "ann")

    def over(found: Mapping[int, Result], name: str) -> list[float]:
        rows = [[entry[name] for entry in each["epochs"]] for each in found.values()]
        return np.mean(rows, axis=0).tolist() if rows else []

    points = [each["curve"] for each in chip.values()]
    return {
        "samples": [point[0] for point in points[0]],
        "wrong": np.mean([[point[1] for point in each] for each in points], axis=0).tolist(),
        "chip": over(chip, "test"),
        "ann": over(ann, "test"),
    }


def digest(plan: Plan, results: Results) -> dict[str, Any]:
    """Everything the tables say, as far as there are results."""
    main = SETTINGS[plan.main]
    headline, steps, bits, statistics, confirmation = [], [], [], [], []
    for name in plan.headline:
        entry = _compared(results, SETTINGS[name], plan.seeds)
        if entry:
            headline.append({"name": name} | entry | {"curves": _curves(results, SETTINGS[name], plan.seeds)})
    for number in plan.steps:
        entry = _compared(results, s.at_steps(main, number), plan.sweep_seeds)
        if entry:
            steps.append({"steps": number} | entry)
    widest = max(plan.bits, key=lambda name: s.with_bits(main, name).weight_bits) if plan.bits else None
    for name in plan.bits:
        assert widest is not None
        setting = s.with_bits(main, name)
        entry = _compared(results, setting, plan.sweep_seeds)
        if entry:
            mine = _seeds(results, setting, plan.sweep_seeds)
            other = _seeds(results, s.with_bits(main, widest), plan.sweep_seeds)
            same = [mine[seed]["weights"] == other[seed]["weights"] for seed in mine if seed in other]
            bits.append(
                {"name": name, "widest": widest} | entry
                | {"minus_widest": difference(mine, other), "same_weights": bool(same) and all(same)}
            )  # fmt: skip
    tested = [results[job] for job in (s.inference(plan, seed) for seed in range(plan.sweep_seeds)) if job in results]
    test_steps = [
        {key: float(np.mean([each["test_steps"][i][key] for each in tested])) for key in each0}
        for i, each0 in enumerate(tested[0]["test_steps"])
    ] if tested else []  # fmt: skip
    for name in plan.statistics:
        job = s.probe(plan, name)
        if job in results:
            statistics.append({"name": name, "title": title(SETTINGS[name], results[job])} | results[job])
    job = s.picture(plan)
    picture = {"title": title(main, results[job]), "key": job.key()} | results[job] if job in results else None
    for name in plan.confirmed:
        learning, test = (results.get(each) for each in s.confirmations(plan, name))
        known = learning or test
        if known:
            agrees = [_learned_alike(learning)] * bool(learning) + [_tested_alike(test)] * bool(test)
            confirmation.append(
                {"name": name, "title": title(SETTINGS[name], known), "learning": learning, "test": test}
                | {"agrees": all(agrees)}
            )
    found: dict[str, Any] = {
        "main": plan.main,
        "headline": headline,
        "steps": steps,
        "test_steps": test_steps,
        "bits": bits,
        "statistics": statistics,
        "picture": picture,
        "confirmation": confirmation,
    }
    return found | {"claims": claims(found)}


def _learned_alike(found: Mapping[str, Any] | None) -> bool:
    return bool(
        found and found["different_weights"] == 0 and found["equal_outputs"] and found["golden"] == found["sim"]
    )


def _tested_alike(found: Mapping[str, Any] | None) -> bool:
    return bool(
        found
        and found["different_sums"] == 0
        and found["equal_outputs"]
        and found["accuracy"]["golden"] == found["accuracy"]["sim"]
        and found["cycles"]["golden"] == found["cycles"]["sim"]
    )


# ---- what it means --------------------------------------------------------------------------------------------------


def claims(found: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The paper's claims, answered by the measured figures only: what is claimed, the answer, and why."""
    return [
        _comparable(found["headline"]),
        _long_trains(found["steps"], found["test_steps"], SETTINGS[found["main"]].timesteps),
        _quantised(found["bits"]),
        _streams(found["statistics"], found["picture"], found["confirmation"]),
        _winner_take_all(found["headline"]),
    ]


def _comparable(headline: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    what = "As accurate as an ANN of the same shape, trained by backpropagation"
    entries = [entry for entry in headline if entry["minus"]]
    if not entries:
        return answered(what, NOT_MEASURED, ["No network of the table has both accuracies yet."])
    groups = {kind: [each for each in entries if each["verdict"] == kind] for kind in VERDICTS}
    clear = [entry for entry in entries if entry["verdict"] != UNCLEAR]
    if not clear:
        answer = "cannot tell"
    elif all(entry["verdict"] in REACHED for entry in clear):
        answer = "yes"
    elif not groups[BELOW]:
        answer = f"within {100 * NEAR:g} point"
    elif len(groups[BELOW]) == len(clear):
        answer = "no"
    else:
        answer = "depends on the network"
    sentences = {
        ABOVE: "More accurate than the ANN by more than two standard errors",
        EQUAL: f"No difference to the ANN beyond two standard errors, which are within {100 * NEAR:g} point",
        CLOSE: f"Below the ANN by more than two standard errors, but by at most {100 * NEAR:g} point",
        BELOW: f"More than {100 * NEAR:g} point below the ANN",
        UNCLEAR: f"Too few test samples to tell: two standard errors reach both 0 and beyond {100 * NEAR:g} point",
    }
    lines = [
        f"{sentences[kind]} ({len(group)} of {len(entries)}): "
        + "; ".join(f"{each['title']}: {points(each['minus'], each['n_test'])}" for each in group)
        + "."
        for kind, group in groups.items()
        if group
    ]
    return answered(what, answer, lines)


def _long_trains(
    steps: Sequence[Mapping[str, Any]], test_steps: Sequence[Mapping[str, Any]], learned: int
) -> dict[str, Any]:
    what = "Approaches, and equals, the ANN when the spike trains are long enough"
    entries = sorted((entry for entry in steps if entry["minus"]), key=lambda entry: entry["steps"])
    if len(entries) < 2:
        return answered(what, NOT_MEASURED, ["Fewer than two lengths of the spike trains are measured."])
    first, last = entries[0], entries[-1]
    best = max(entries, key=lambda entry: entry["minus"]["mean"])
    n_test = first["n_test"]

    def beyond(high: Mapping[str, Any], low: Mapping[str, Any]) -> bool:
        """Whether one gap is smaller than another by more than two standard errors of their difference."""
        a, b = high["minus"], low["minus"]
        return bool(a["mean"] - b["mean"] > SIGMAS * (a["se"] ** 2 + b["se"] ** 2) ** 0.5)

    def gap(entry: Mapping[str, Any]) -> str:
        return f"{points(entry['minus'], n_test)} with T={entry['steps']}"

    approaches = beyond(best, first)
    equal = [entry["steps"] for entry in entries if entry["verdict"] in REACHED]
    close = [entry["steps"] for entry in entries if entry["verdict"] in WITHIN]
    measured = [gap(first), gap(last)] + ([] if best is last else [f"best {gap(best)}"])
    lines = [
        f"Chip minus ANN: {', '.join(measured)}. The gap closes with longer spike trains: "
        f"**{_yes(approaches)}{'' if approaches else ', not by more than two standard errors'}**."
    ]
    unclear = [entry["steps"] for entry in entries if entry["verdict"] == UNCLEAR]
    if equal:
        answer = f"yes, with {_lengths(equal, entries)}"
    elif unclear:
        answer = f"too few test samples to tell with {_lengths(unclear, entries)}, no otherwise"
    else:
        answer = "no, at no length measured" + (
            f"; within {100 * NEAR:g} point with {_lengths(close, entries)}" if close else ""
        )
    lines.append(f"No difference to the ANN beyond two standard errors: **{answer}**.")
    enough = next(entry for entry in entries if not beyond(best, entry))
    if enough is not last:
        lines.append(f"From T={enough['steps']} on, longer spike trains gain nothing beyond two standard errors.")
    if len(test_steps) > 1:
        low, high = test_steps[0], test_steps[-1]
        lines.append(
            f"The length may differ between learning and testing: the network that learned with T={learned} reaches "
            + ", ".join(f"{percent(each['potential'], n_test)} % with T={each['steps']:g}" for each in test_steps)
            + f" in the test ({percent(low['count'], n_test)} to {percent(high['count'], n_test)} % if the class is "
            "that of most steps won)."
        )
    equals = "yes" if equal else "cannot tell" if unclear else "no"
    return answered(what, "yes" if approaches and equal else f"approaches: {_yes(approaches)}, equals: {equals}", lines)


def _yes(flag: bool) -> str:
    return "yes" if flag else "no"


def _lengths(chosen: Sequence[int], entries: Sequence[Mapping[str, Any]]) -> str:
    every = [entry["steps"] for entry in entries]
    if chosen == every[-len(chosen) :] and len(chosen) > 1:
        return f"T={chosen[0]} or more"
    return listed([f"T={steps}" for steps in chosen])


def _quantised(bits: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    what = "Weights that change by one unit at a time cost little accuracy"
    entries = [entry for entry in bits if entry["minus_widest"]]
    widest = next((entry for entry in entries if entry["name"] == entry["widest"]), None)
    others = [entry for entry in entries if entry is not widest]
    if not others or widest is None:
        return answered(what, NOT_MEASURED, ["Fewer than two widths of the weights are measured."])
    n_test = widest["n_test"]
    kinds = {entry["name"]: verdict(entry["minus_widest"]) for entry in others}
    plain = [entry for entry in others if entry["setting"]["forward_shift"] == 0]
    plain.sort(key=lambda entry: entry["setting"]["weight_bits"])
    enough = next((entry for entry in [*plain, widest] if kinds.get(entry["name"], EQUAL) in WITHIN), widest)
    lines = [
        f"Against {widest['name']} bits ({percent(widest['chip']['mean'], n_test)} %): "
        + "; ".join(
            f"{entry['name']} bits {points(entry['minus_widest'], n_test)}"
            for entry in others
            if not entry["same_weights"]
        )
        + f". {enough['name']} bits are the fewest within {100 * NEAR:g} point."
    ]
    same = [entry["name"] for entry in others if entry["same_weights"]]
    if same:
        lines.append(
            f"{listed(same)} bits have K, G and the rates of {widest['name']} bits and learned the very same weights: "
            f"the largest weight is {max(widest['largest'])}, far from their limits."
        )
    differs = [
        entry["name"]
        for entry in others
        if not entry["same_weights"]
        and all(entry["setting"][name] == widest["setting"][name] for name in ("fire_bits", "noise_shift", "rates"))
        and not entry["setting"]["forward_shift"]
    ]
    if differs:
        lines.append(
            f"{listed(differs)} bits have K, G and the rates of {widest['name']} bits, but other weights: some reached "
            "their limits."
        )
    worst = min(others, key=lambda entry: entry["minus_widest"]["mean"])
    if enough in plain:
        answer = f"yes from {enough['name']} bits on"
    else:
        answer = "cannot tell" if UNCLEAR in kinds.values() else "no"
    if kinds[worst["name"]] == BELOW and enough in plain:
        answer += f", no with {worst['name']} bits"
    return answered(what, answer, lines)


def _streams(
    statistics: Sequence[Mapping[str, Any]], picture: Mapping[str, Any] | None, confirmed: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    what = "Signed gradients as a positive and a negative spike stream, on the chip, beside the forward pass"
    lines = []
    for entry in statistics[:1]:
        end = entry["moments"]["end"]
        lines.append(
            f"{entry['title']}, at the end of training: {100 * end['wrong']:.1f} % of the steps have a wrong winner; "
            f"each of these makes {sum(end['gradient_spikes']):.1f} gradient spikes of hidden neurons, "
            f"{100 * end['positive'][0]:.0f} % of them positive."
        )
    if picture:
        lines.append(
            f"Of the {picture['positive']} positive and {picture['negative']} negative spikes in the picture, "
            f"{picture['closed']} belong to a neuron whose gate is closed; {picture['without_mistake']} of its steps "
            "have gradient spikes without a mistake."
        )
    if confirmed:
        agree = [entry for entry in confirmed if entry["agrees"]]
        lines.append(
            "The simulated chip learned the same weights as the golden model, and answered the same, in "
            f"{len(agree)} of {len(confirmed)} networks: **{'yes' if len(agree) == len(confirmed) else 'NO'}**."
        )
        answer = "yes, on the simulated chip" if len(agree) == len(confirmed) else "NO: chip and model differ"
    elif lines:
        answer = "yes, on the golden model (the simulated chip did not run)"
    else:
        answer, lines = NOT_MEASURED, ["Neither statistics nor the simulated chip are measured."]
    if picture and (picture["closed"] or picture["without_mistake"]):
        answer = "NO: gradient spikes where none may be"
    return answered(what, answer, lines)


def _winner_take_all(headline: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    what = "Softmax with cross-entropy by winner-take-all"
    if not headline:
        return answered(what, NOT_MEASURED, ["No network is trained yet."])
    better = [entry for entry in headline if entry["curves"]["wrong"][-1] < entry["curves"]["wrong"][0]]
    shares = [
        f"{entry['title']}: {100 * entry['curves']['wrong'][0]:.0f} % and {100 * entry['curves']['wrong'][-1]:.1f} %"
        for entry in headline
    ]
    lines = [
        "All networks learn from winner-take-all errors alone. Steps with a wrong winner, in the first and in the last "
        f"piece of the learning curve: {'; '.join(shares)}."
    ]
    close = [entry for entry in headline if entry["verdict"] in WITHIN]
    compared = [entry for entry in headline if entry["verdict"]]
    if compared:
        lines.append(
            f"{len(close)} of {len(compared)} networks end within {100 * NEAR:g} point of the ANN, whose loss is the "
            "cross-entropy of a softmax."
        )
    answer = "all networks learn by it" if len(better) == len(headline) else "no" if not better else "not always"
    return answered(what, answer, lines)
