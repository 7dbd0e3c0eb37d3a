"""What the stored results say: the figures of all tables, and the claims and bars answered by them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from host.reproduce.bisnn import settings as s
from host.reproduce.bisnn.settings import ENSEMBLE, METHODS, MOONS, TEMPERED, Answer, Job, Plan, Setting
from host.reproduce.cells import Result, summarise
from host.reproduce.numbers import (
    NEAR,
    NOT_MEASURED,
    SIGMAS,
    WITHIN,
    WORDS,
    answered,
    difference,
    percent,
    points,
    verdict,
)
from host.reproduce.report import yes

Results = Mapping[Job, Result]
Runs = Mapping[int, Result]
"""Results by seed: what the tables say about the data, and the scores of one answer."""

ST, BAYES_MODE, BAYES, FLOAT = METHODS

MEASURES = ("accuracy", "ece", "nll", "brier", "confidence")
HALF = 0.5
"""Share of the straight-through network's calibration error that the ensemble's may have, two moons with noise 0.25."""
ALMOST = 0.01
"""What it may have more on digits."""
MOONS_ACCURACY = 0.993
ST_ACCURACY, ENSEMBLE_ACCURACY = 0.97, 0.962
AUROC = 0.93
WORTH = 0.06
"""What training in the loop should be worth over deployment on dies whose thresholds are off."""
MNIST_LOSS = 0.02
EXTRA_WORDS = 0.05
OPERATIONS = 0.90

BETTER, WORSE, SAME, ONE_SEED = "better", "worse", "no difference told", "one seed cannot tell"


# ---- figures --------------------------------------------------------------------------------------------------------


def flat(result: Result, name: str) -> Result:
    """What a table needs of one answer of a result."""
    return {key: value for key, value in result.items() if key != "answers"} | result["answers"][name]


def runs(results: Results, jobs: Iterable[Job | None], name: str) -> dict[int, Result]:
    """Results by seed of an answer, those that there are."""
    return {
        job.seed: flat(results[job], name)
        for job in jobs
        if job is not None and job in results and name in results[job]["answers"]
    }


def trainings(plan: Plan, results: Results, setting: Setting | None, name: str) -> dict[int, Result]:
    """Results of a training by seed."""
    if setting is None:
        return {}
    return runs(results, [s.train(setting, seed) for seed in range(max(plan.seeds, plan.mnist_seeds))], name)


def pick(result: Any, path: Sequence[str]) -> float:
    """A figure inside of a result."""
    for name in path:
        result = result[name]
    return float(result)


def summary(found: Runs) -> dict[str, Any]:
    """What a table says about one answer of a network."""
    one = next(iter(found.values()))

    def over(*path: str) -> dict[str, float]:
        return summarise(pick(each, path) for each in found.values())

    def seeds(*path: str) -> list[float]:
        return [pick(each, path) for _, each in sorted(found.items())]

    return {name: over(name) for name in (*MEASURES, "temperature")} | {
        "n_test": one["n_test"],
        "n_train": one["n_train"],
        "seeds": {"seed": sorted(found)} | {name: seeds(name) for name in ("accuracy", "ece")},
        "foreign": {
            kind: {what: over("foreign", kind, what) for what in ("auroc", "confidence", "sure")}
            | {"seeds": seeds("foreign", kind, "auroc")}
            for kind in one["foreign"]
        },
        "bins": pooled([each["bins"] for each in found.values()]),
    }


def pooled(curves: Sequence[Sequence[Mapping[str, Any]]]) -> list[dict[str, Any]]:
    """Reliability curve of several test sets together; ``None`` in bins without samples."""
    found = []
    for bins in zip(*curves, strict=True):
        used = [each for each in bins if each["n"]]
        n = sum(each["n"] for each in used)
        means = {
            name: float(sum(each["n"] * each[name] for each in used) / n) if n else None
            for name in ("confidence", "accuracy")
        }
        found.append({"n": n} | means)
    return found


def gap(first: Runs, second: Runs, *path: str) -> dict[str, float] | None:
    """Mean of a figure of `first` less that of `second` over the seeds that both have, and its standard error."""
    seeds = sorted(set(first) & set(second))
    if not seeds:
        return None
    found = summarise(pick(first[seed], path) - pick(second[seed], path) for seed in seeds)
    return {name: found[name] for name in ("mean", "se", "n")}


def gaps(first: Runs, second: Runs) -> dict[str, Any] | None:
    """All figures of `first` less those of `second`; that of the accuracy is paired by test sample."""
    if not set(first) & set(second):
        return None
    kinds = [kind for kind in next(iter(first.values()))["foreign"] if kind in next(iter(second.values()))["foreign"]]
    return {"accuracy": difference(first, second)} | {
        "ece": gap(first, second, "ece"),
        "nll": gap(first, second, "nll"),
        "auroc": {kind: gap(first, second, "foreign", kind, "auroc") for kind in kinds},
    }


def shared(
    entries: Sequence[Mapping[str, Any] | None], values: Callable[[Mapping[str, Any]], Sequence[float]]
) -> list[tuple[float, ...]]:
    """Figures of several entries, a row for each seed that all of them have; no rows if an entry is missing."""
    columns = [dict(zip(entry["seeds"]["seed"], values(entry), strict=True)) if entry else {} for entry in entries]
    return [tuple(column[seed] for column in columns) for seed in sorted(set.intersection(*map(set, columns)))]


def means(rows: Sequence[tuple[float, ...]]) -> list[float]:
    """Means over the seeds of what :func:`shared` gave."""
    return [sum(column) / len(column) for column in zip(*rows, strict=True)]


def compared(found: Mapping[str, float] | None, sign: int = 1) -> str:
    """What to call a difference of which a positive one is good if `sign` is 1, by two standard errors."""
    if found is None:
        return NOT_MEASURED
    if found["n"] < 2:
        return ONE_SEED
    mean, margin = sign * found["mean"], SIGMAS * found["se"]
    return BETTER if mean > margin else WORSE if mean < -margin else SAME


def digest(plan: Plan, results: Results) -> dict[str, Any]:
    """Everything the tables say, as far as there are results."""
    found: dict[str, Any] = {
        "selection": _selection(plan, results),
        "moons": _moons(plan, results),
        "digits": _digits(plan, results),
        "tried": _tried(plan, results),
        "readouts": _read_outs(plan, results),
        "mismatch": _mismatch(plan, results),
        "mnist": _compared(plan, results, plan.mnist),
        "memory": _memory(plan, results),
        "confirmation": _confirmation(plan, results),
    }
    return found | {"claims": claims(found), "bars": bars(found)}


def _compared(plan: Plan, results: Results, networks: Mapping[str, Setting], **more: Any) -> list[dict[str, Any]]:
    """All methods on one problem, each against the straight-through and the float network asked likewise.

    Answers with a temperature follow those without, where samples were held back.
    """
    entries = []
    for suffix in ("", TEMPERED):
        found = {
            method: trainings(plan, results, networks.get(rule), answer.name + suffix)
            for method, (rule, answer) in METHODS.items()
        }
        entries += [
            {"method": method, "tempered": bool(suffix)} | more | summary(mine)
            | {"minus_st": gaps(mine, found[ST]) if method != ST else None}
            | {"minus_float": gaps(mine, found[FLOAT]) if method != FLOAT else None}
            | {"training_seconds": summarise(each["training_seconds"] for each in mine.values())["mean"]}
            for method, mine in found.items()
            if mine
        ]  # fmt: skip
    return entries


def _moons(plan: Plan, results: Results) -> list[dict[str, Any]]:
    entries = []
    for noise in plan.noises:
        for gradient in plan.gradients:
            networks = {rule: plan.moons(noise, gradient, rule) for rule in plan.moon}
            mine = _compared(plan, results, networks, noise=noise, gradient=gradient)
            # Where the arrays of the maps are, of the first seed.
            keys = {rule: s.train(setting, 0).key() for rule, setting in networks.items()}
            entries += [
                entry | {"map": {"key": keys[rule], "name": f"map_{answer.name}"}}
                for entry in mine
                for rule, answer in [METHODS[entry["method"]]]
            ]
    return entries


def _digits(plan: Plan, results: Results) -> list[dict[str, Any]]:
    return _compared(plan, results, plan.digits)


def _asked(plan: Plan, results: Results, setting: Setting, answer: Answer, suffix: str = "") -> dict[int, Result]:
    """Results by seed of an answer, a usual one or one that is only tried."""
    found = trainings(plan, results, setting, answer.name + suffix)
    return found or runs(results, [s.tried(plan, setting, seed) for seed in range(plan.seeds)], answer.name + suffix)


def _tried(plan: Plan, results: Results) -> list[dict[str, Any]]:
    """What was tried against the ensemble's under-confidence, each without and with a temperature."""
    entries = []
    straight = trainings(plan, results, plan.digits["st"], METHODS[ST][1].name)
    raw = trainings(plan, results, plan.digits["bayes"], ENSEMBLE.name)
    for attempt in plan.attempts:
        setting = attempt.of(plan.digits["bayes"])
        for suffix in ("", TEMPERED):
            mine = _asked(plan, results, setting, attempt.answer, suffix)
            if mine:
                entries.append(
                    {"name": attempt.name, "tempered": bool(suffix)} | summary(mine)
                    | {"minus_st": gaps(mine, straight), "minus_raw": gaps(mine, raw) if mine != raw else None}
                )  # fmt: skip
    return entries


def _read_outs(plan: Plan, results: Results) -> list[dict[str, Any]]:
    entries = []
    for read_out in plan.read_outs:
        for method, (rule, answer) in METHODS.items():
            if rule == "float":
                continue
            mine = trainings(plan, results, plan.with_read_out(rule, read_out), answer.name)
            usual = trainings(plan, results, plan.digits[rule], answer.name)
            if mine:
                entries.append(
                    {"read_out": read_out, "method": method} | summary(mine)
                    | {"minus_usual": gaps(mine, usual) if read_out != plan.digits[rule].read_out else None}
                )  # fmt: skip
    return entries


def _mismatch(plan: Plan, results: Results) -> list[dict[str, Any]]:
    """Ideal chip, deployed on dies, and trained in the loop with each read-out."""
    entries = []
    for method, (rule, answer) in METHODS.items():
        if rule == "float":
            continue
        ideal = trainings(plan, results, plan.ideal(rule), answer.name)
        deployed = runs(results, [s.deploy(plan, rule, seed) for seed in range(plan.seeds)], answer.name)
        if not deployed:
            continue
        entry = {
            "method": method,
            "n_test": next(iter(deployed.values()))["n_test"],
            "main": plan.loops[0],
            "loops": {},
        }
        entry |= {"ideal": summary(ideal) if ideal else None, "deployed": summary(deployed)}
        for read_out in plan.loops:
            looped = trainings(plan, results, plan.off(rule, read_out), answer.name)
            if looped:
                entry["loops"][read_out] = summary(looped) | {"recovered": difference(looped, deployed)}
        entries.append(entry)
    return entries


def _selection(plan: Plan, results: Results) -> list[dict[str, Any]]:
    """Validation scores of the grids; ``chosen`` is the setting that the study uses."""
    entries = []
    for grid in plan.grids:
        answer = METHODS[BAYES if grid.rule == "bayes" else ST][1].name
        rows = []
        for value in grid.values:
            jobs = [s.held(plan.varied(grid, value), seed) for seed in range(plan.grid_seeds[grid.network])]
            mine = runs(results, jobs, answer)
            if mine:
                chosen = value == getattr(plan.base(grid), grid.constant)
                measures = {
                    name: summarise(each[name] for each in mine.values()) for name in ("accuracy", "ece", "nll")
                }
                rows.append({"value": value, "chosen": chosen, "n": next(iter(mine.values()))["n_held"]} | measures)
        if rows:
            best = {
                "accuracy": max(rows, key=lambda row: row["accuracy"]["mean"])["value"],
                "nll": min(rows, key=lambda row: row["nll"]["mean"])["value"],
            }
            same = {"network": grid.network, "rule": grid.rule, "constant": grid.constant}
            entries.append(same | {"rows": rows, "best": best})
    return entries


def _memory(plan: Plan, results: Results) -> list[dict[str, Any]]:
    """Bits of the weights, and the words of a load that were measured."""
    entries = []
    for job in s.loads(plan):
        if job in results:
            found = results[job]
            entries.append(
                {name: found[name] for name in ("layers", "synapses", "words", "least", "memory_bits", "equal")}
                | {"dataset": job.setting.dataset, "extra": found["words"] / found["least"] - 1}
            )
    return entries


def _confirmation(plan: Plan, results: Results) -> dict[str, Any]:
    tests = []
    for job in s.confirmed(plan):
        if job in results:
            found = results[job]
            agrees = (
                found["equal_outputs"]
                and found["equal_probabilities"]
                and found["different_counts"] == 0
                and all(len(set(pair)) == 1 for pair in (*found["accuracy"].values(), found["cycles"], found["steps"]))
            )
            tests.append({"title": title(job), "agrees": agrees} | found)
    repeats = []
    for golden_job, sim_job in s.repeated(plan):
        golden, sim = results.get(golden_job), results.get(sim_job)
        if golden and sim:
            # Equal as text, so that a missing figure equals a missing one.
            equal = {
                "weights": golden["weights"] == sim["weights"],
                "history": str(golden["history"]) == str(sim["history"]),
                "answers": {name: golden["answers"][name] for name in sim["answers"]} == sim["answers"],
                "cost": golden["cost"] == sim["cost"],
            }
            cost = sim["cost"]
            repeats.append(
                {
                    "title": title(golden_job),
                    "epochs": golden_job.setting.epochs,
                    "n_train": golden["n_train"],
                    "accuracy": {name: [golden["answers"][name]["accuracy"], each["accuracy"]]
                                 for name, each in sim["answers"].items()},
                    "equal": equal,
                    "agrees": all(equal.values()),
                    "cycles_per_step": cost["cycles"] / cost["timesteps"],
                    "cost": cost,
                    "seconds": [golden["seconds"], sim["seconds"]],
                }
            )  # fmt: skip
    rates = [results[job] for job in s.operations(plan) if job in results]
    return {"tests": tests, "trainings": repeats, "operations": rates}


def title(job: Job) -> str:
    """A network in words."""
    setting = job.setting
    if setting.mismatch:
        chip = f"trained on die {job.seed}"
    else:
        chip = f"ideal-trained, on die {job.seed}" if job.mismatch else "ideal chip"
    return f"{problem(setting.dataset)}, {s.RULES[setting.rule]}, {chip}, seed {job.seed}"


def problem(dataset: str) -> str:
    """A data set in words."""
    return MOONS.get(dataset, {"mnist": "MNIST"}.get(dataset, dataset))


# ---- what it means --------------------------------------------------------------------------------------------------


HEATED = ", all with temperature"
"""What follows the name of a condition in which all answers have their temperatures."""


def conditions(found: Mapping[str, Any]) -> dict[str, dict[str, dict[str, Any]]]:
    """Entries of all methods by condition: problem, gradient, whether asked with a temperature."""
    named: dict[str, dict[str, dict[str, Any]]] = {}
    for part in ("moons", "digits", "mnist"):
        for entry in found[part]:
            name = problem(entry.get("noise", part)) + (", local losses" if entry.get("gradient") == "local" else "")
            named.setdefault(name + HEATED * entry["tempered"], {})[entry["method"]] = entry
    return named


def claims(found: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The paper's claims and ours, answered by the measured figures only: what is claimed, the answer, and why."""
    named = conditions(found)
    return [
        _better(named),
        _little_lost(named),
        _foreign(named),
        _under_confident(named.get("digits", {}).get(ST), found["tried"]),
        _in_the_loop(found["mismatch"]),
        _read(found["readouts"]),
    ]


def in_points(found: Mapping[str, float] | None, n_test: int) -> str:
    """A difference of accuracies in points, if there is one."""
    return points(found, n_test) if found else "-"


def figure(found: Mapping[str, float] | None, digits: int = 4) -> str:
    """A difference of figures that are no shares, with its standard error if there are several seeds."""
    if found is None:
        return "-"
    error = f" (se {found['se']:.{digits}f})" if found["n"] > 1 else ""
    return f"{found['mean']:+.{digits}f}{error}"


def _better(named: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    what = "The Bayesian rule is better than straight-through in accuracy and calibration"
    lines, judged = [], {}
    for name, methods in named.items():
        for method in (BAYES, BAYES_MODE):
            entry = methods.get(method)
            if entry is None or entry["minus_st"] is None:
                continue
            minus = entry["minus_st"]
            accuracy, ece, nll = compared(minus["accuracy"]), compared(minus["ece"], -1), compared(minus["nll"], -1)
            if method == BAYES:
                judged[name] = accuracy, ece
            share = in_points(minus["accuracy"], entry["n_test"])
            lines.append(
                f"{initial(name)}, {'ensemble' if method == BAYES else 'mode'} minus ST: accuracy {share}, "
                f"**{accuracy}**; ECE {figure(minus['ece'])}, **{ece}**; NLL {figure(minus['nll'], 3)}, **{nll}**."
            )
    if not judged:
        return answered(what, NOT_MEASURED, ["No ensemble has a straight-through network beside it."])
    if ONE_SEED in {word for pair in judged.values() for word in pair}:
        return answered(what, ONE_SEED, lines)
    groups = {
        "in both": [name for name, pair in judged.items() if pair == (BETTER, BETTER)],
        "in calibration alone": [name for name, (a, e) in judged.items() if e == BETTER and a != BETTER],
        "in accuracy alone": [name for name, (a, e) in judged.items() if a == BETTER and e != BETTER],
    }
    worse = {
        "worse in accuracy": [name for name, (a, _) in judged.items() if a == WORSE],
        "worse in calibration": [name for name, (_, e) in judged.items() if e == WORSE],
    }
    if len(groups["in both"]) == len(judged):
        return answered(what, "yes", lines)
    parts = [f"{how}: {_on(names)}" for how, names in groups.items() if names]
    answer = "under conditions, the ensemble; " + "; ".join(parts) if parts else "no"
    parts = [f"{how}: {_on(names)}" for how, names in worse.items() if names]
    return answered(what, "; ".join([answer, *parts]), lines)


def _on(names: Sequence[str]) -> str:
    """Conditions as a list; they have commas of their own."""
    return " / ".join(names)


def _little_lost(named: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    what = "Binary weights lose little against full precision"
    lines: list[str] = []
    judged: dict[str, dict[str, str]] = {ST: {}, BAYES: {}}
    for name, methods in named.items():
        texts = []
        for method in (ST, BAYES_MODE, BAYES):
            entry = methods.get(method)
            minus = entry["minus_float"] if entry else None
            if entry is None or minus is None or minus["accuracy"] is None:
                continue
            word = verdict(minus["accuracy"])
            if method in judged and not entry["tempered"]:
                judged[method][name] = word
            texts.append(f"{method} {points(minus['accuracy'], entry['n_test'])}, {WORDS[word]}, ECE "
                         f"{figure(minus['ece'])}")  # fmt: skip
        if texts:
            lines.append(f"{initial(name)}, accuracy minus that of the float network: {'; '.join(texts)}.")
    if not any(judged.values()):
        return answered(what, NOT_MEASURED, ["No binary network has a float one beside it."])
    answers = []
    for method, words in judged.items():
        if words:
            lost = [name for name, word in words.items() if word not in WITHIN]
            held = [name for name in words if name not in lost]
            if not lost:
                answers.append(f"{method}: yes, within {100 * NEAR:g} point everywhere")
            elif not held:
                answers.append(f"{method}: no, nowhere surely within {100 * NEAR:g} point")
            else:
                answers.append(f"{method}: within {100 * NEAR:g} point, but not surely on {_on(lost)}")
    return answered(what, "; ".join(answers), lines)


FOREIGN = {"noise": "uniform noise", "shuffled": "shuffled pixels", "far": "points far from the data"}
"""Foreign inputs in words."""


def _foreign(named: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    what = "The ensemble tells foreign inputs from known ones better than straight-through and float networks"
    lines, judged = [], {}
    for name, methods in named.items():
        entry = methods.get(BAYES)
        if entry is None or entry["tempered"] or not entry["minus_st"] or not entry["minus_float"]:
            continue
        for kind in entry["foreign"]:
            st, full = (entry[against]["auroc"].get(kind) for against in ("minus_st", "minus_float"))
            judged[f"{name}, {FOREIGN[kind]}"] = {compared(st), compared(full)}
            mine = {method: each["foreign"][kind] for method, each in methods.items()}
            lines.append(
                f"{initial(name)}, {FOREIGN[kind]}: AUROC "
                + ", ".join(f"{method} {each['auroc']['mean']:.3f}" for method, each in mine.items())
                + f"; ensemble minus ST {figure(st, 3)}, **{compared(st)}**; minus float {figure(full, 3)}, "
                f"**{compared(full)}**. Mean confidence: "
                + ", ".join(f"{method} {each['confidence']['mean']:.2f}" for method, each in mine.items())
                + "."
            )
    if not judged:
        return answered(what, NOT_MEASURED, ["No ensemble was asked about foreign inputs yet."])
    if ONE_SEED in set.union(*judged.values()):
        return answered(what, ONE_SEED, lines)
    good = [name for name, words in judged.items() if words == {BETTER}]
    answer = "yes" if len(good) == len(judged) else f"only on {_on(good)}" if good else "no as far as measured"
    return answered(what, answer, lines)


def untouched(tried: Sequence[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """The ensemble of 10 as it is among the attempts."""
    return next((entry for entry in tried if entry["name"] == s.RAW.name and not entry["tempered"]), None)


def _under_confident(straight: Mapping[str, Any] | None, tried: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    what = "The ensemble's under-confidence on digits can be closed"
    raw = untouched(tried)
    tried = [entry for entry in tried if entry["minus_st"]]
    if straight is None or raw is None or not tried:
        return answered(what, NOT_MEASURED, ["No ensemble has a straight-through network beside it."])
    limit, n_test = straight["ece"]["mean"] + ALMOST, straight["n_test"]
    good = [entry for entry in tried if entry["minus_st"]["ece"]["mean"] <= ALMOST]
    lines = [
        f"ECE of the straight-through network {straight['ece']['mean']:.4f}, of the ensemble as it is "
        f"{raw['ece']['mean']:.4f}; its confidence is {100 * raw['confidence']['mean']:.1f} % at an accuracy of "
        f"{percent(raw['accuracy']['mean'], n_test)} %."
    ]
    for entry in tried:
        noise = entry["foreign"].get("noise")
        lines.append(
            f"{name_of(entry)}: ECE {entry['ece']['mean']:.4f}, "
            f"{'closes it' if entry in good else 'does not'}; accuracy "
            f"{percent(entry['accuracy']['mean'], n_test)} %"
            + (f"; AUROC against noise {noise['auroc']['mean']:.3f}" if noise else "")
            + (f"; exponent {entry['temperature']['mean']:.2f}" if entry["tempered"] else "")
            + "."
        )
    if not good:
        return answered(what, f"no: nothing brought the ECE to {limit:.4f}", lines)
    if raw in good:
        return answered(what, f"it is small as it is: {raw['ece']['mean']:.4f}, the limit is {limit:.4f}", lines)
    without = [entry["name"] for entry in good if not entry["tempered"]]
    scaled = [entry["name"] for entry in good if entry["tempered"]]
    by = [f"without a temperature by {_on(without)}"] if without else []
    by += [f"by a temperature in {len(scaled)} of {sum(entry['tempered'] for entry in tried)} cases"] if scaled else []
    return answered(what, f"yes: {'; '.join(by)}", lines)


def name_of(entry: Mapping[str, Any]) -> str:
    """An attempt in words."""
    return f"{entry['name']} and temperature" if entry["tempered"] else entry["name"]


def _in_the_loop(mismatch: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    what = f"Training in the loop recovers {100 * WORTH:g} points where thresholds are off"
    entries = [entry for entry in mismatch if entry["loops"]]
    if not entries:
        return answered(what, NOT_MEASURED, ["No network learned in the loop on dies yet."])
    lines, worth = [], {}
    for entry in entries:
        n_test, loops = entry["n_test"], entry["loops"]
        ideal = f"{percent(entry['ideal']['accuracy']['mean'], n_test)} % on the ideal chip, " if entry["ideal"] else ""
        lines.append(
            f"{entry['method']}: {ideal}{percent(entry['deployed']['accuracy']['mean'], n_test)} % deployed (worst "
            f"{percent(entry['deployed']['accuracy']['worst'], n_test)} %); in the loop "
            + "; ".join(
                f"{read_out} {percent(each['accuracy']['mean'], n_test)} %, {in_points(each['recovered'], n_test)} more"
                for read_out, each in loops.items()
            )
            + "."
        )
        main = loops.get(entry["main"])
        if main and main["recovered"]:
            worth[entry["method"]] = main["recovered"]["mean"] >= WORTH
    if not worth:
        return answered(what, NOT_MEASURED, lines)
    good = [method for method, enough in worth.items() if enough]
    answer = "yes" if len(good) == len(worth) else f"with {_on(good)}" if good else "no"
    return answered(what, f"{answer}, read-out {entries[0]['main']}", lines)


def _read(entries: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    what = "Spike counts are all that the host needs to read"
    mine = [entry for entry in entries if entry["read_out"] == "counts" and entry["minus_usual"]]
    if not mine:
        return answered(what, NOT_MEASURED, ["Networks that learned from counts have no others beside them."])
    lines, fine = [], []
    for entry in mine:
        minus = entry["minus_usual"]
        accuracy, ece = compared(minus["accuracy"]), compared(minus["ece"], -1)
        lines.append(
            f"{entry['method']}, counts minus rasters with gates: accuracy "
            f"{points(minus['accuracy'], entry['n_test'])}, **{accuracy}**; ECE {figure(minus['ece'])}, **{ece}**."
        )
        if ONE_SEED in (accuracy, ece):
            return answered(what, ONE_SEED, lines)
        if WORSE not in (accuracy, ece):
            fine.append(entry["method"])
    answer = "yes" if len(fine) == len(mine) else f"for {_on(fine)}, not for the others" if fine else "no"
    return answered(what, answer, lines)


# ---- bars -----------------------------------------------------------------------------------------------------------


def bars(found: Mapping[str, Any]) -> list[dict[str, str]]:
    """What should be shown, each with yes or no, the figures and by how much."""
    named = conditions(found)
    noisy, digits = ((named.get(name, {}), named.get(name + HEATED, {})) for name in (MOONS["moons-25"], "digits"))
    return [
        *_noisy_bars(*noisy),
        _quiet_bar(named.get(MOONS["moons-10"], {})),
        *_digits_bars(*digits),
        *_mismatch_bars(found["mismatch"]),
        _mnist_bar(named.get(problem("mnist"), {})),
        *_chip_bars(found["memory"], found["confirmation"]),
    ]


def bar(what: str, reached: bool | None = None, figures: str = "-", margin: str = "-") -> dict[str, str]:
    """A line of the table."""
    return {"bar": what, "answer": NOT_MEASURED if reached is None else yes(reached), "figures": figures,
            "margin": margin}  # fmt: skip


Methods = Mapping[str, Mapping[str, Any]]
"""Entries of a condition by method."""


def _ece_bar(what: str, plain: Methods, heated: Methods, factor: float, more: float) -> dict[str, str]:
    """Whether the ensemble's ECE is at most `factor` times that of ST, plus `more`, over the seeds that both have.

    The ensemble with its temperature, where there is one, against ST as trained decides; like against like is said.
    """

    def against(mine: Mapping[str, Any] | None, straight: Mapping[str, Any] | None) -> tuple[float, float, str] | None:
        rows = shared([mine, straight], lambda entry: entry["seeds"]["ece"])
        if not rows:
            return None
        a, b = means(rows)
        good = sum(one <= factor * other + more for one, other in rows)
        reached = "" if a <= factor * b + more else "not "
        return a, b, f"{a:.4f} against {b:.4f}, {reached}reached, in {good} of {len(rows)} seeds"

    tempered = BAYES in heated
    found = against(heated.get(BAYES, plain.get(BAYES)), plain.get(ST))
    if found is None:
        return bar(what)
    a, b, said = found
    texts = [f"ensemble with temperature, ST as trained: {said}"] if tempered else [f"as trained: {said}"]
    for how, methods in (("both as trained", plain), ("both with temperature", heated)):
        like = against(methods.get(BAYES), methods.get(ST)) if tempered else None
        texts += [f"{how}: {like[2]}"] if like else []
    times = f"{a / b:.2f} times it" if b else "-"
    margin = f"{a - b - more:+.4f} from the limit" if more else times
    return bar(what, a <= factor * b + more, "; ".join(texts), margin)


def _noisy_bars(plain: Methods, heated: Methods) -> list[dict[str, str]]:
    where = initial(MOONS["moons-25"])
    half = f"{where}: ECE of the ensemble at most {HALF:g} of that of ST"
    above = bar(f"{where}: accuracy of the ensemble not below that of ST")
    mine, straight = plain.get(BAYES), plain.get(ST)
    minus = mine["minus_st"]["accuracy"] if mine and mine["minus_st"] else None
    if mine and straight and minus:
        answers = mine["n_test"] * len(mine["seeds"]["ece"])
        shares = " against ".join(f"{percent(entry['accuracy']['mean'], answers)} %" for entry in (mine, straight))
        above = bar(above["bar"], minus["mean"] >= 0, shares, f"{points(minus, answers)} points")
    return [_ece_bar(half, plain, heated, HALF, 0.0), above]


def _quiet_bar(methods: Methods) -> dict[str, str]:
    high = f"{initial(MOONS['moons-10'])}: all at least {100 * MOONS_ACCURACY:.1f} %"
    if set(METHODS) - set(methods):
        return bar(high)
    worst = min(methods.values(), key=lambda entry: entry["accuracy"]["mean"])
    shares = ", ".join(
        f"{method} {percent(entry['accuracy']['mean'], entry['n_test'])}" for method, entry in methods.items()
    )
    over = worst["accuracy"]["mean"] - MOONS_ACCURACY
    return bar(high, over >= 0, f"{shares} %", f"{100 * over:+.2f} points ({worst['method']})")


def _digits_bars(plain: Methods, heated: Methods) -> list[dict[str, str]]:
    lines = []
    for what, method, least in (("ST", ST, ST_ACCURACY), ("the ensemble", BAYES, ENSEMBLE_ACCURACY)):
        text, entry = f"Digits: accuracy of {what} at least {100 * least:.1f} %", plain.get(method)
        if entry is None:
            lines.append(bar(text))
        else:
            mean = entry["accuracy"]["mean"]
            share = f"{percent(mean, entry['n_test'])} %"
            lines.append(bar(text, mean >= least, share, f"{100 * (mean - least):+.1f} points"))
    text = f"Digits: AUROC of the ensemble as trained against uniform noise at least {AUROC:g} and above ST and float"
    raw, tempered = (
        shared([methods.get(method) for method in (BAYES, ST, FLOAT)], lambda entry: entry["foreign"]["noise"]["seeds"])
        for methods in (plain, heated)
    )
    if not raw:
        lines.append(bar(text))
    else:
        a, b, c = means(raw)
        said = f"{a:.3f}, ST {b:.3f}, float {c:.3f}"
        if tempered:
            said += "; all with temperature: {:.3f}, ST {:.3f}, float {:.3f}".format(*means(tempered))
        margin = f"{a - AUROC:+.3f}; {a - max(b, c):+.3f} above the better"
        lines.append(bar(text, a >= AUROC and a > max(b, c), said, margin))
    text = f"Digits: ECE of the ensemble at most that of ST + {ALMOST:g}"
    return [*lines, _ece_bar(text, plain, heated, 1.0, ALMOST)]


def _mismatch_bars(mismatch: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
    lines = []
    for method in (ST, BAYES):
        text = f"Thresholds off: in the loop at least {100 * WORTH:g} points above offline, {method}"
        entry = next((entry for entry in mismatch if entry["method"] == method), None)
        looped = entry["loops"].get(entry["main"]) if entry else None
        recovered = looped["recovered"] if looped else None
        if entry is None or looped is None or recovered is None:
            lines.append(bar(text))
            continue
        n_test = entry["n_test"]
        shares = (
            f"{percent(looped['accuracy']['mean'], n_test)} % ({entry['main']}) against "
            f"{percent(entry['deployed']['accuracy']['mean'], n_test)} %"
        )
        lines.append(bar(text, recovered["mean"] >= WORTH, shares, f"{points(recovered, n_test)} points"))
    return lines


def _mnist_bar(methods: Methods) -> dict[str, str]:
    text = f"MNIST: ST within {100 * MNIST_LOSS:g} points of the float network"
    entry, full = methods.get(ST), methods.get(FLOAT)
    minus = entry["minus_float"]["accuracy"] if entry and entry["minus_float"] else None
    if entry is None or full is None or minus is None:
        return bar(text)
    n_test = entry["n_test"]
    shares = f"{percent(entry['accuracy']['mean'], n_test)} % against {percent(full['accuracy']['mean'], n_test)} %"
    return bar(text, minus["mean"] >= -MNIST_LOSS, shares, f"{points(minus, n_test)} points")


def _chip_bars(memory: Sequence[Mapping[str, Any]], confirmation: Mapping[str, Any]) -> list[dict[str, str]]:
    load = f"A load of all weights takes synapses / 32 words plus at most {100 * EXTRA_WORDS:g} %"
    once = "An ensemble's prediction encodes its inputs once"
    rate = f"At least {OPERATIONS:.2f} synaptic operations per lane and clock cycle, {s.LANES} lanes, MNIST"
    agree = "The simulated chip agrees with the golden model, tests and trainings"
    lines = [bar(load), bar(once), bar(rate), bar(agree)]
    if memory:
        worst = max(memory, key=lambda entry: entry["extra"])
        texts = [f"{shape(entry['layers'])}: {entry['words']:,} of {entry['least']:,}" for entry in memory]
        good = worst["extra"] <= EXTRA_WORDS and all(entry["equal"] for entry in memory)
        lines[0] = bar(load, good, "; ".join(texts), f"at most {100 * worst['extra']:+.1f} %")
    tests, repeats = confirmation["tests"], confirmation["trainings"]
    ensembles = [entry for entry in tests if ENSEMBLE.name in entry["accuracy"]]
    if ensembles:
        most = max(entry["most_encodings"] for entry in ensembles)
        lines[1] = bar(once, most == 1, f"{most} for {s.MEMBERS} members", f"ensembles: {len(ensembles)}")
    for found in confirmation["operations"]:
        reached = found["sample_rate"] >= OPERATIONS and found["lanes"] == s.LANES
        share, layers = found["sample_rate"], shape(found["layers"])
        said = f"{layers}: {share:.3f} ({found['rate']:.3f} with the cycles in which answers are read)"
        lines[2] = bar(rate, reached, said, f"{share - OPERATIONS:+.3f}")
    if tests or repeats:
        good = [entry["agrees"] for entry in (*tests, *repeats)]
        networks = sum(entry["networks"] for entry in tests)
        figures = f"networks tested: {networks} of {len(tests)} trainings; trainings repeated: {len(repeats)}"
        lines[3] = bar(agree, all(good), figures, f"{sum(good)} of {len(good)}")
    return lines


def initial(name: str) -> str:
    """A name at the beginning of a sentence."""
    return name[:1].upper() + name[1:]


def shape(layers: Sequence[int]) -> str:
    """Sizes of the layers in short."""
    return "-".join(map(str, layers))
