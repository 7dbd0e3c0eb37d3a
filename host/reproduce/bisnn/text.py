"""The report as Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from host.reproduce.bisnn.findings import ALMOST, figure, in_points, initial, name_of, problem, shape, untouched
from host.reproduce.bisnn.settings import BINS, FAR, FIRST, LANES, MEMBERS, MOONS, RULES, SURE, Plan, Setting
from host.reproduce.numbers import NEAR, SIGMAS, listed, percent, share
from host.reproduce.report import costs, introduction, section, table, yes


def markdown(found: Mapping[str, Any], plan: Plan) -> str:
    """The report of the study."""
    paragraphs = [
        "Paper: Jang, Skatchkovsky and Simeone, *BiSNN: Training spiking neural networks with binary weights via "
        "Bayesian learning* (2020), arXiv 2012.08300. Its abstract claims that the Bayesian rule is more accurate and "
        "better calibrated than the straight-through one (ST), and that little is lost against full precision. The "
        "other claims below and the bars are expectations of ours. The paper's own figures were not available. Here a "
        "weight is a single bit on a clocked chip with integer states; the host reads spikes and gates, or counts "
        "alone, and writes all weights anew for every mini-batch. Neurons, rules and read-out follow the paper in "
        "their idea; where they differ, `host/trainers/binary.py` says so.",
        "A network has no layer of classes: classes are read out on the host from the spike counts of the last layer "
        "by a fixed random matrix of -1 and +1. *Mode*: the most probable weights of the posterior. *Ensemble*: mean "
        f"of the probabilities of {MEMBERS} networks drawn from it. *Float*: the same neurons, read-out, loss and "
        "gradients in floating point with real weights. *Temperature*: class probabilities to the power of an exponent "
        "and normalised; the exponent is fitted on samples held back from the training pool, with a twin of the "
        "network that learned without them. Differences of answers with a temperature are to others with theirs.",
        "Accuracies are in %, mean ± standard deviation over seeds; each seed has a split, start and order of its own. "
        f"ECE: expected calibration error, {BINS} equal bins of the largest probability. NLL in nats; Brier score "
        "summed over the classes. AUROC: how well confidence tells test samples from foreign inputs. Differences of "
        "accuracies are in points, paired by test sample and seed, and their standard error (se) is the larger of that "
        "over test samples and that over seeds; those of other figures are paired by seed. *Better* and *worse* mean "
        f"by more than {SIGMAS:g} se, *within {100 * NEAR:g} point* that no more than that is lost.",
    ]
    lines = introduction(
        "BiSNN: binary weights, straight-through and Bayesian", paragraphs, found,
        "one seed, few epochs, a part of the networks, no MNIST; differences of one seed say little.",
    )  # fmt: skip
    lines += _bars(found)
    lines += _settings(plan)
    lines += _moons(found["moons"]) + _digits(found["digits"]) + _tried(found["tried"], found["digits"])
    lines += _read_outs(found["readouts"]) + _mismatch(found["mismatch"], plan)
    lines += _mnist(found["mnist"], found["memory"], plan) + _selection(found["selection"])
    lines += _confirmation(found["confirmation"])
    lines += costs(found["job_seconds"])
    return "\n".join(lines).rstrip("\n") + "\n"


def _bars(found: Mapping[str, Any]) -> list[str]:
    rows = [[each["bar"], each["answer"], each["figures"], each["margin"]] for each in found["bars"]]
    prose = (
        "ECE: the ensemble with its temperature, where samples were held back to fit one, against ST as trained "
        "decides; like against like stands beside it."
    )
    if found["quick"]:
        prose += " The bars are those of the full study; a quick run is too short to reach all of them."
    return section("The bars", prose, ["what should be shown", "reached", "measured", "by how much"], rows)


def _settings(plan: Plan) -> list[str]:
    """The networks and how they learn."""
    rows = []
    networks = {"two moons": plan.moon, "digits": plan.digits, "MNIST": plan.mnist}
    for name, network in networks.items():
        rows += [[f"{name}, {RULES[rule]}", *_constants(setting)] for rule, setting in network.items()]
    head = [
        "network", "neurons", "time steps", "encoding", "read-out", "epochs", "batch", "gain", "rate", "kappa",
        "reset size", "training samples",
    ]  # fmt: skip
    return section("Settings", "", head, rows)


def _constants(setting: Setting) -> list[str]:
    return [
        shape(setting.hidden),
        str(setting.timesteps),
        setting.encoding,
        setting.read_out,
        str(setting.epochs),
        str(setting.batch_size),
        f"{setting.gain:g}",
        f"{setting.rate:g}",
        f"{setting.kappa:g}" if setting.rule == "bayes" else "-",
        _value(setting.reset_size),
        str(setting.train_size or "all"),
    ]


def _value(value: Any) -> str:
    """A constant; ``None`` is the trainer's choice of the reset size."""
    if isinstance(value, tuple):
        return shape(value)
    return "near 8 sqrt(fan-in)" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


RELIABILITY = "Reliability on the test samples of all seeds together, and the ECE of all of them together:"

SCORES = ("accuracy", "minus ST", "minus float", "ECE", "NLL", "Brier", "confidence")


def _scores(entry: Mapping[str, Any]) -> list[str]:
    """Cells of :data:`SCORES`."""
    n_test = entry["n_test"]
    return [
        share(entry["accuracy"], n_test),
        *(in_points(entry[against] and entry[against]["accuracy"], n_test) for against in ("minus_st", "minus_float")),
        _spread(entry["ece"]),
        _spread(entry["nll"], 3),
        _spread(entry["brier"], 3),
        _spread(entry["confidence"], 3),
    ]


def _spread(values: Mapping[str, float], digits: int = 4) -> str:
    """Mean and, of several seeds, standard deviation."""
    spread = f" ± {values['sd']:.{digits}f}" if values["n"] > 1 else ""
    return f"{values['mean']:.{digits}f}{spread}"


def _foreign(entry: Mapping[str, Any], kinds: Sequence[str]) -> list[str]:
    """AUROC, mean confidence and share of sure answers on foreign inputs."""
    cells = []
    for kind in kinds:
        mine = entry["foreign"][kind]
        cells += [_spread(mine["auroc"], 3), f"{mine['confidence']['mean']:.3f}", f"{100 * mine['sure']['mean']:.0f}"]
    return cells


def _foreign_head(kinds: Sequence[str]) -> list[str]:
    return [f"{what}, {kind}" for kind in kinds for what in ("AUROC", "confidence", f"% above {SURE:g}")]


def _moons(entries: Sequence[Mapping[str, Any]]) -> list[str]:
    if not entries:
        return []
    one = entries[0]
    kinds = list(one["foreign"])
    lines = section(
        "Two moons",
        f"Two coordinates in population code, ten inputs each; {one['n_train']} training and {one['n_test']:,} test "
        f"samples, seeds: {one['accuracy']['n']}. Far: points of the unit square that are more than {FAR:g} from every "
        "training sample. *bptt*: gradients through layers and time from one loss; *local*: a loss for every layer.",
    )
    for noise in dict.fromkeys(entry["noise"] for entry in entries):
        rows = [
            [entry["gradient"], _method(entry), *_scores(entry), *_foreign(entry, kinds)]
            for entry in entries
            if entry["noise"] == noise
        ]
        lines += [
            f"{initial(MOONS[noise])}:", "",
            *table(["gradient", "network", *SCORES, *_foreign_head(kinds)], rows),
        ]  # fmt: skip
    lines += ["![Confidence maps](maps.png)", ""]
    lines += [RELIABILITY, "", "![Reliability](reliability-moons.png)", ""]
    return lines


def _digits(entries: Sequence[Mapping[str, Any]]) -> list[str]:
    if not entries:
        return []
    one = entries[0]
    kinds = list(one["foreign"])
    rows = [[_method(entry), *_scores(entry), *_foreign(entry, kinds)] for entry in entries]
    prose = (
        f"Handwritten digits of 8 x 8 pixels (scikit-learn); {one['n_train']:,} training and {one['n_test']} test "
        f"samples, seeds: {one['accuracy']['n']}. Foreign: images of uniform noise, and test images with their pixels "
        "in random order."
    )
    lines = section("Digits", prose, ["network", *SCORES, *_foreign_head(kinds)], rows, ("Digits", "digits.png"))
    return [
        *lines, RELIABILITY, "",
        "![Reliability](reliability-digits.png)", "",
    ]  # fmt: skip


def _method(entry: Mapping[str, Any]) -> str:
    return (
        f"{entry['method']}, temperature {entry['temperature']['mean']:.2f}" if entry["tempered"] else entry["method"]
    )


def _tried(entries: Sequence[Mapping[str, Any]], digits: Sequence[Mapping[str, Any]]) -> list[str]:
    if not entries:
        return []
    straight = next((each for each in digits if each["method"] == "ST" and not each["tempered"]), None)
    rows = []
    for entry in entries:
        noise, shuffled = (entry["foreign"].get(kind) for kind in ("noise", "shuffled"))
        rows.append(
            [
                name_of(entry),
                share(entry["accuracy"], entry["n_test"]),
                in_points(entry["minus_raw"] and entry["minus_raw"]["accuracy"], entry["n_test"]),
                _spread(entry["ece"]),
                figure(entry["minus_st"]["ece"]) if entry["minus_st"] else "-",
                _spread(entry["nll"], 3),
                f"{entry['confidence']['mean']:.3f}",
                f"{entry['temperature']['mean']:.2f}" if entry["tempered"] else "-",
                _spread(noise["auroc"], 3) if noise else "-",
                _spread(shuffled["auroc"], 3) if shuffled else "-",
            ]
        )
    head = [
        "ensemble", "accuracy", "minus ensemble of 10", "ECE", "ECE minus that of ST", "NLL", "confidence", "exponent",
        "AUROC, noise", "AUROC, shuffled",
    ]  # fmt: skip
    limit = f" The limit is {straight['ece']['mean'] + ALMOST:.4f}, that of ST + {ALMOST:g}." if straight else ""
    prose = (
        "Members, sharpness (members drawn with P(+1) = sigmoid(2 s lambda)) and temperature only ask the trained "
        f"posterior in another way; everything else is trained anew.{limit}"
    )
    raw = untouched(entries)
    if raw:
        confidence, accuracy = raw["confidence"]["mean"], raw["accuracy"]["mean"]
        than = "less" if confidence < accuracy else "not less"
        prose = (
            f"The ensemble of {MEMBERS} as trained is {100 * confidence:.1f} % confident and to "
            f"{percent(accuracy, raw['n_test'])} % right: {than} confident than right. {prose}"
        )
    return section("What was tried against under-confidence", prose, head, rows, ("Attempts", "tried.png"))


def _read_outs(entries: Sequence[Mapping[str, Any]]) -> list[str]:
    if not entries:
        return []
    rows = []
    for entry in entries:
        minus = entry["minus_usual"]
        noise = entry["foreign"].get("noise")
        rows.append(
            [
                entry["read_out"],
                entry["method"],
                share(entry["accuracy"], entry["n_test"]),
                in_points(minus and minus["accuracy"], entry["n_test"]),
                _spread(entry["ece"]),
                _spread(entry["nll"], 3),
                _spread(noise["auroc"], 3) if noise else "-",
            ]
        )
    prose = (
        "What the host reads of the chip while it learns, digits: numbers of spikes; every spike and gate; every "
        "spike, and the gates from membranes that the host recomputes with the nominal constants."
    )
    head = ["read-out", "network", "accuracy", "minus the usual one", "ECE", "NLL", "AUROC, noise"]
    return section("Read-outs", prose, head, rows)


def _mismatch(entries: Sequence[Mapping[str, Any]], plan: Plan) -> list[str]:
    if not entries:
        return []
    loops = [read_out for read_out in plan.loops if any(read_out in entry["loops"] for entry in entries)]
    rows = []
    for entry in entries:
        n_test = entry["n_test"]
        row = [
            entry["method"],
            share(entry["ideal"]["accuracy"] if entry["ideal"] else None, n_test),
            share(entry["deployed"]["accuracy"], n_test),
            percent(entry["deployed"]["accuracy"]["worst"], n_test),
        ]
        for read_out in loops:
            mine = entry["loops"].get(read_out)
            row += (
                [share(mine["accuracy"], n_test), in_points(mine["recovered"], n_test), f"{mine['ece']['mean']:.4f}"]
                if mine
                else ["-"] * 3
            )
        rows.append(row)
    head = ["network", "ideal chip", "ideal-trained, deployed", "worst"]
    for read_out in loops:
        head += [f"in the loop, {read_out}", "recovered", "ECE"]
    prose = (
        f"Digits on dies whose thresholds are off by N(0, ({plan.mismatch:g} A)²), A being the reset size and A / 2 "
        "the threshold, die s for seed s; the trainer knows nothing of it. Deployed: the networks of the ideal chip. "
        "Recovered: in the loop minus deployed, on the same dies."
    )
    return section("Thresholds that are off", prose, head, rows, ("Thresholds that are off", "mismatch.png"))


def _mnist(entries: Sequence[Mapping[str, Any]], memory: Sequence[Mapping[str, Any]], plan: Plan) -> list[str]:
    lines: list[str] = []
    if entries:
        one = entries[0]
        kinds = list(one["foreign"])
        rows = [
            [entry["method"], *_scores(entry), *_foreign(entry, kinds), f"{entry['training_seconds']:.0f}"]
            for entry in entries
        ]
        own = ", ".join(
            f"{RULES[rule]} {plan.mnist[rule].rate:g} and {_value(plan.mnist[rule].reset_size)}"
            for rule in ("st", "float")
        )
        prose = (
            f"{one['n_train']:,} training and {one['n_test']:,} test images, seeds: {one['accuracy']['n']}. The float "
            "network has the same shape, read-out, loss and gradient as ST; learning rate and reset size are each "
            f'network\'s own: {own}. "Choice of settings" says what was tried on validation data.'
        )
        head = ["network", *SCORES, *_foreign_head(kinds), "seconds per training"]
        lines += section("MNIST", prose, head, rows)
    if memory:
        rows = [
            [
                shape(entry["layers"]),
                f"{entry['synapses']:,}",
                f"{32 * entry['synapses']:,}",
                f"{-(-entry['synapses'] // 8):,}",
                f"{4 * entry['synapses']:,}",
                f"{entry['memory_bits']:,}",
                f"{entry['words']:,} ({entry['least']:,}, {100 * entry['extra']:+.1f} %)",
                yes(entry["equal"]),
            ]
            for entry in memory
        ]
        head = [
            "network", "bits, binary", "bits, float", "bytes, binary", "bytes, float", f"chip's memory ({LANES} lanes)",
            "link words of a whole load (synapses / 32)", "read back equal",
        ]  # fmt: skip
        prose = (
            "Weights and their memory; float: 32 bits. A load brings other random weights to the simulated chip; all "
            "words of its frames are counted, headers and checksums included."
        )
        lines += section("Weights and memory", prose, head, rows)
    return lines


def _selection(grids: Sequence[Mapping[str, Any]]) -> list[str]:
    if not grids:
        return []
    rows = []
    for grid in grids:
        for row in grid["rows"]:
            marks = [name for name, value in grid["best"].items() if value == row["value"]]
            rows.append(
                [
                    f"{problem(grid['network'])}, {RULES[grid['rule']]}",
                    _constant(grid),
                    f"**{_value(row['value'])}**" if row["chosen"] else _value(row["value"]),
                    share(row["accuracy"], row["n"]),
                    _spread(row["ece"]),
                    _spread(row["nll"], 3),
                    ", ".join(marks) or "-",
                ]
            )
    held: dict[str, str] = {}
    covered: dict[str, list[str]] = {}
    used = {"accuracy": 0, "nll": 0}
    for grid in grids:
        name, one = problem(grid["network"]), grid["rows"][0]
        first = f" ({FIRST[grid['network']]:,} training samples)" if grid["network"] in FIRST else ""
        held[name] = f"{one['n']:,} of {name}{first}, seeds: {one['accuracy']['n']}"
        for how, best in grid["best"].items():
            used[how] += any(row["chosen"] and row["value"] == best for row in grid["rows"])
        covered.setdefault(f"{name}, {RULES[grid['rule']]}", []).append(_constant(grid))
    prose = (
        "The settings are judged on samples held back from the training pool, which are no test samples of the same "
        f"split: {'; '.join(held.values())}. Of digits and two moons every seed "
        "draws its split anew, so that the test set of one seed has samples that another seed held back; MNIST has one "
        "test set for all. One constant of a network is varied at a time; bold: what the study uses, the best "
        f"by accuracy in {used['accuracy']} and by NLL in {used['nll']} of {len(grids)} grids. Ensembles for Bayes. "
        "Two moons with noise 0.1 have the settings chosen for noise 0.25."
    )
    lines = [prose, "", "The table covers:", ""]
    lines += [f"- {name}: {listed(constants)}." for name, constants in covered.items()]
    lines += [
        "",
        "Everything else had no grid and was taken over from numerical prototypes: gain, gate window (1), batch size, "
        "shift (6), the rule for the reset size, and of rates, epochs, time steps, encodings and networks what the "
        "list does not name. In the prototypes gain, window, reset size and rates were chosen by hand on the test "
        "score of one split. MNIST has the constants of digits where it has no others, and fewer time steps and "
        "epochs, as they cost time.",
    ]
    head = ["network", "constant", "value", "validation accuracy", "ECE", "NLL", "best by"]
    return section("Choice of settings", "\n".join(lines), head, rows)


def _constant(grid: Mapping[str, Any]) -> str:
    """The constant that a grid varies, as the table of settings calls it."""
    return str(grid["constant"]).replace("_", " ").replace("timesteps", "time steps").replace("hidden", "neurons")


def _confirmation(found: Mapping[str, Any]) -> list[str]:
    title = "On the simulated chip"
    tests, trainings, operations = found["tests"], found["trainings"], found["operations"]
    if not tests and not trainings:
        return section(title, "Not run.")
    lines = section(
        title,
        "The trainings above ran on the golden model. Here the simulated Verilog answers all test samples with the "
        "networks that are listed, mode and all members of the ensembles, and repeats the trainings that are listed. "
        "Equal means: counts and first spikes of all neurons, input spikes, steps, cycles, probabilities. The golden "
        "model alone has answered foreign inputs and the points of the confidence maps, and has trained and tested the "
        "networks that are not listed: those of local losses, of other read-outs, attempts and grids.",
    )
    for entry in trainings:
        equal = entry["equal"]
        rows = [
            ["epochs, training samples", f"{entry['epochs']}, {entry['n_train']:,}"],
            ["same parameters, to the bit", yes(equal["weights"])],
            ["same history of all epochs", yes(equal["history"])],
            ["same test figures", yes(equal["answers"])],
            ["same samples, steps, cycles, operations, spikes", yes(equal["cost"])],
            *([f"accuracy, {name}, simulated / golden", _both(each)] for name, each in entry["accuracy"].items()),
            ["clock cycles in all", f"{entry['cost']['cycles']:,}"],
            ["clock cycles per time step", f"{entry['cycles_per_step']:.1f}"],
            ["seconds, simulated / golden", "{1:.0f} / {0:.0f}".format(*entry["seconds"])],
        ]
        lines += [f"A training from start to end, {entry['title']}:", "", *table(["", ""], rows)]
    if tests:
        rows = [
            [
                entry["title"],
                str(entry["networks"]),
                f"{entry['presentations']:,}",
                "; ".join(f"{name} {_both(each)}" for name, each in entry["accuracy"].items()),
                f"{entry['spikes']:,}",
                str(entry["different_counts"]),
                _equal(entry["cycles"]),
                f"{entry['cycles'][1] / entry['steps'][1]:.1f}",
                yes(entry["equal_probabilities"]),
                yes(entry["agrees"]),
            ]
            for entry in tests
        ]
        head = [
            "training", "networks", "presentations", "accuracy, simulated / golden", "spikes", "different counts",
            "cycles", "cycles per step", "same probabilities", "agrees",
        ]  # fmt: skip
        lines += ["Tests:", "", *table(head, rows)]
    for entry in operations:
        rows = [
            ["synaptic operations per lane and clock cycle of the samples", f"{entry['sample_rate']:.3f}"],
            ["and of all clock cycles, reading the answers included", f"{entry['rate']:.3f}"],
            ["clock cycles per time step", f"{entry['cycles_per_step']:.1f}"],
            ["input spikes per time step", f"{entry['input_spikes_per_step']:.1f}"],
        ]
        what = f"Work of {shape(entry['layers'])} with {entry['lanes']} lanes on {entry['samples']} test samples:"
        lines += [what, "", *table(["", ""], rows)]
    return lines


def _both(values: Sequence[float]) -> str:
    golden, sim = values
    return f"{100 * sim:.2f} / {100 * golden:.2f}"


def _equal(values: Sequence[int]) -> str:
    golden, sim = values
    return f"{sim:,}, equal" if golden == sim else f"**{sim:,} and {golden:,}**"
