"""The study of BiSNN in miniature: jobs, cache, report, and the answers for figures that are made up."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from typer.testing import CliRunner

from host import Chip, cli, datasets
from host.chip import Output
from host.datasets import store
from host.datasets.base import Dataset
from host.errors import ChipError, UserError
from host.reproduce import bisnn, cells, study
from host.reproduce.bisnn import figures, findings, settings
from host.reproduce.bisnn import work as jobs
from host.reproduce.bisnn.findings import BAYES, BAYES_MODE, FLOAT, ST
from host.reproduce.bisnn.settings import ENSEMBLE, METHODS, TEMPERED, Answer, Attempt, Grid, Job, Setting
from host.reproduce.bisnn.text import markdown
from host.reproduce.numbers import NOT_MEASURED, pack

SMALL: dict[str, Any] = {"timesteps": 4, "epochs": 2}
DIGITS = {
    rule: replace(each, hidden=(12,), train_size=60, held_back=30, **SMALL) for rule, each in settings.DIGITS.items()
}
PLAN = settings.Plan(
    seeds=2,
    noises=("moons-25",),
    gradients=("bptt", "local"),
    moon={rule: replace(each, hidden=(8, 8), train_size=20, batch_size=10, held_back=40, **SMALL)
          for rule, each in settings.MOON.items()},
    digits=DIGITS,
    mnist={rule: replace(each, hidden=(10,), **SMALL) for rule, each in settings.MNIST.items()},
    mnist_seeds=1,
    attempts=(
        settings.RAW, Attempt("12 members", Answer("ensemble", 12)),
        Attempt("sharp", Answer("ensemble", sharpness=3.0)), Attempt("more steps", changes=(("timesteps", 5),)),
    ),
    read_outs=("counts", "raster+gate"),
    mismatch=2.0,
    off_hidden=(10,),
    off_epochs=1,
    loops=("raster+gate", "counts"),
    grids=(Grid("digits", "bayes", "kappa", (1000.0, 5000.0)), Grid("moons-25", "st", "epochs", (1, 2)),
           Grid("mnist", "float", "reset_size", (128, None))),
    grid_seeds={"digits": 1, "moons-25": 2, "mnist": 1},
    confirmed=settings.FULL.confirmed,
    confirmed_seeds=1,
    repeated=(DIGITS["st"], replace(DIGITS["bayes"], held_back=0)),
    operations=10,
)  # fmt: skip
FEW = replace(PLAN, gradients=("bptt",), mnist={}, attempts=(settings.RAW,), read_outs=(), mismatch=0.0, grids=(),
              repeated=PLAN.repeated[:1], seeds=1)  # fmt: skip


class InProcess:
    """Stands in for the pool of processes."""

    def __init__(self, *_args: object, **_kwargs: object) -> None: ...

    def submit(self, work: Any, *args: Any) -> Future[Any]:
        future: Future[Any] = Future()
        future.set_result(work(*args))
        return future

    def shutdown(self, **_kwargs: object) -> None: ...


@pytest.fixture(autouse=True)
def small_world(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No data files, and golden models in place of the simulated chip."""
    monkeypatch.setenv(datasets.DATA_VARIABLE, str(tmp_path / "data"))
    monkeypatch.setattr(cells, "ProcessPoolExecutor", InProcess)
    monkeypatch.setattr(jobs, "BACKENDS", ("golden", "golden"))


@pytest.fixture
def small_mnist(monkeypatch: pytest.MonkeyPatch) -> None:
    """A few blots in place of MNIST."""
    rng = np.random.default_rng(0)
    labels = np.arange(60) % 3
    images = rng.integers(0, 60, (60, 30)) + 150 * (np.arange(30) % 3 == labels[:, None])
    blots = Dataset("mnist", images.astype(np.uint8), labels, ("a", "b", "c"), pool=40, fixed_pool=True, images=True)
    monkeypatch.setitem(datasets._CACHE, "mnist", blots)
    monkeypatch.setattr(store, "find", lambda file: Path(file.name))
    monkeypatch.setitem(settings.HELD, "mnist", 12)
    monkeypatch.setitem(settings.FIRST, "mnist", 20)


def run(out: Path, **options: Any) -> dict[str, Any]:
    with open(out.parent / "console.txt", "w") as file:
        console = Console(file=file, width=200)
        usual: dict[str, Any] = {"quick": True, "jobs": 1, "backend": None, "plan": PLAN}
        return bisnn.run(out=out, console=console, **(usual | options))


# ---- the whole study ------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("small_mnist")
def test_study_in_miniature(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "study"
    found = run(out)
    text = (out / "report.md").read_text()
    assert [(entry["gradient"], entry["tempered"], entry["method"]) for entry in found["moons"]] == [
        (*how, method) for how in (("bptt", False), ("bptt", True), ("local", False)) for method in METHODS
    ]
    assert [(entry["method"], entry["tempered"]) for entry in found["digits"]] == [
        (method, tempered) for tempered in (False, True) for method in METHODS
    ]
    assert [(entry["name"], entry["tempered"]) for entry in found["tried"]] == [
        (attempt.name, tempered) for attempt in PLAN.attempts for tempered in (False, True)
    ]
    ensemble = next(entry for entry in found["digits"] if entry["method"] == BAYES and entry["tempered"])
    assert ensemble["minus_st"]["accuracy"]["n"] == 2
    assert set(ensemble["foreign"]) == {"noise", "shuffled"}
    assert ensemble["temperature"]["mean"] != 1
    assert [entry["read_out"] for entry in found["readouts"]] == ["counts"] * 3 + ["raster+gate"] * 3
    for entry in found["mismatch"]:
        assert set(entry["loops"]) == {"raster+gate", "counts"}
        assert entry["loops"]["counts"]["recovered"]["n"] == 2
    assert [entry["method"] for entry in found["mnist"]] == list(METHODS)
    assert [row["chosen"] for grid in found["selection"] for row in grid["rows"]] == [False, True] * 3
    assert [(row["n"], row["accuracy"]["n"]) for grid in found["selection"] for row in grid["rows"][:1]] == [
        (200, 1), (600, 2), (12, 1)
    ]  # fmt: skip
    assert (
        "200 of digits, seeds: 1; 600 of two moons, noise 0.25, seeds: 2; 12 of MNIST (20 training samples), seeds: 1."
    ) in text
    best = [grid["best"]["accuracy"] == grid["rows"][1]["value"] for grid in found["selection"]]
    assert f"the best by accuracy in {sum(best)} and by NLL in" in text
    assert "- MNIST, float: reset size." in text
    assert "| MNIST, float | reset size | **near 8 sqrt(fan-in)** |" in text
    assert {entry["dataset"]: entry["synapses"] for entry in found["memory"]} == {
        "moons-25": 20 * 8 + 8 * 8, "digits": 64 * 12, "mnist": 30 * 10
    }  # fmt: skip
    assert all(entry["equal"] and entry["least"] < entry["words"] <= entry["least"] + 4 for entry in found["memory"])
    confirmation = found["confirmation"]
    assert [(entry["title"], entry["networks"]) for entry in confirmation["tests"]] == [
        ("two moons, noise 0.25, ST, ideal chip, seed 0", 1),
        ("two moons, noise 0.25, Bayes, ideal chip, seed 0", 11),
        ("digits, ST, ideal chip, seed 0", 1),
        ("digits, Bayes, ideal chip, seed 0", 11),
        ("digits, ST, trained on die 0, seed 0", 1),
        ("digits, Bayes, trained on die 0, seed 0", 11),
        ("digits, ST, ideal-trained, on die 0, seed 0", 1),
        ("digits, Bayes, ideal-trained, on die 0, seed 0", 11),
        ("MNIST, ST, ideal chip, seed 0", 1),
    ]
    assert all(entry["agrees"] for entry in (*confirmation["tests"], *confirmation["trainings"]))
    assert {entry["most_encodings"] for entry in confirmation["tests"]} == {1}
    assert confirmation["operations"][0]["samples"] == 10
    names = ("maps", "reliability-moons", "reliability-digits", "digits", "tried", "mismatch")
    assert {path.name for path in out.glob("*.png")} == {f"{name}.png" for name in names}
    assert all(f"]({name}.png)" in text for name in names)
    stored = json.loads((out / "results.json").read_text())
    assert stored["claims"] == found["claims"]
    assert stored["bars"] == found["bars"]
    assert all(claim["answer"] != NOT_MEASURED for claim in found["claims"])
    unmeasured = [bar["bar"] for bar in found["bars"] if bar["answer"] == NOT_MEASURED]
    assert unmeasured == ["Two moons, noise 0.1: all at least 99.3 %"]

    # Again: nothing is computed. Then a lost network: it is trained again for the one who needs it.
    monkeypatch.setattr(bisnn, "draw", lambda *_: [])
    times = {path: path.stat().st_mtime_ns for path in (out / "cells").iterdir()}
    assert run(out)["claims"] == found["claims"]
    assert {path: path.stat().st_mtime_ns for path in (out / "cells").iterdir()} == times
    lost = out / "cells" / f"{settings.train(PLAN.ideal('st'), 0).key()}.state"
    lost.unlink()
    (out / "cells" / f"{settings.deploy(PLAN, 'st', 0).key()}.json").unlink()
    assert run(out, parts=("mismatch",))["claims"] == found["claims"]
    assert lost.is_file()


def test_parts_missing_data_and_a_chip_that_differs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "study"
    plan = replace(FEW, mnist=PLAN.mnist, grids=PLAN.grids[::2])
    found = run(out, plan=plan, parts=("selection", "digits", "mnist"), backend="golden")
    assert found["digits"]
    assert [grid["network"] for grid in found["selection"]] == ["digits"]
    assert found["moons"] == found["mnist"] == []
    assert "**Skipped**: MNIST: it is not in" in (out / "report.md").read_text()
    assert "Not run." in (out / "report.md").read_text()

    def other(folder: Path, job: Job) -> dict[str, Any]:
        return jobs.confirm_test(folder, job) | {"equal_probabilities": False}

    monkeypatch.setitem(jobs.JOBS, "confirm-test", other)
    with pytest.raises(ChipError, match=r"model differ: two moons, noise 0\.25, ST, ideal chip, seed 0; two moons"):
        run(out, plan=FEW, parts=("confirmation",))
    bars = {bar["bar"]: bar for bar in json.loads((out / "results.json").read_text())["bars"]}
    agree = bars["The simulated chip agrees with the golden model, tests and trainings"]
    assert (agree["answer"], agree["margin"]) == ("**NO**", "1 of 5")
    with pytest.raises(UserError, match="Unknown part 'all'; allowed are selection, moons"):
        run(out, parts=("all",))
    with pytest.raises(UserError, match="Unknown backend 'fpga'"):
        run(out, backend="fpga")


def test_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert study("bisnn") is bisnn
    monkeypatch.setattr(bisnn, "QUICK", replace(FEW, noises=()))
    arguments = ["reproduce", "bisnn", "--quick", "--backend", "golden", "--jobs", "1", "--out", str(tmp_path)]
    result = CliRunner().invoke(cli.app, arguments)
    assert result.exit_code == 0, result.output
    assert "What was tried against under-confidence" in result.output
    assert "Quick run" in result.output
    assert (tmp_path / "report.md").is_file()


# ---- settings and jobs ----------------------------------------------------------------------------------------------


def test_jobs_are_known_by_their_settings() -> None:
    setting = settings.DIGITS["bayes"]
    job = settings.train(setting, 0)
    assert job.key() == settings.train(replace(setting), 0).key()
    others = [
        settings.train(setting, 1),
        settings.held(setting, 0),
        settings.train(replace(setting, kappa=1.0), 0),
        settings.train(replace(setting, mismatch=2.0), 0),
        settings.deploy(settings.FULL, "bayes", 0),
    ]
    assert len({job.key(), *(other.key() for other in others)}) == 6
    for plan in (settings.FULL, settings.QUICK):
        waves = settings.waves(plan, settings.PARTS, True)
        first, second, third = waves
        every = [each for wave in waves for each in wave]
        assert len({each.key() for each in every}) == len(every)
        assert all(each.held in first for each in second if each.held is not None)
        assert all(each.training in second for each in third if each.training is not None)
        assert {"held", "build"} == {each.kind for each in first}
        assert {"train"} == {each.kind for each in second}
        assert all(each.cost() > 0 for each in every)
        golden = [each for wave in settings.waves(plan, settings.PARTS, False) for each in wave]
        assert not any(each.kind.startswith(("confirm", "build", "load", "operations")) for each in golden)
    # Each chip is built once: those of moons, digits without and with dies, MNIST.
    first, second, third = settings.waves(settings.FULL, settings.PARTS, True)
    builds = {(each.setting.config(20).layers[1:], each.setting.config(20).die_tables)
              for each in first if each.kind == "build"}  # fmt: skip
    assert len(builds) == sum(each.kind == "build" for each in first) == 4
    confirmed = [each for each in third if each.kind == "confirm-test"]
    assert len({each.training for each in confirmed if not each.mismatch}) == (2 + 1 + 1) * 2 * 5 + 5


def test_what_decides_about_the_cache_is_the_version_and_not_the_source(monkeypatch: pytest.MonkeyPatch) -> None:
    job = settings.train(settings.DIGITS["st"], 0)
    before = job.key()
    monkeypatch.setattr(settings, "VERSION", settings.VERSION + 1)
    assert job.key() != before


def test_every_setting_makes_a_trainer_that_its_chip_takes() -> None:
    for plan in (settings.FULL, settings.QUICK):
        every = [setting for part in settings.PARTS for setting in settings.settings_of(plan, part)]
        for setting in dict.fromkeys([*every, *settings.chosen_from(plan), *plan.repeated]):
            if setting.rule == "float":
                setting.trainer(None, 8, 3, 0)._check_common()
                continue
            with Chip(setting.config(8), die=settings.die(setting.mismatch, 0)) as chip:
                setting.trainer(chip, 8, 3, 0)._check_common()


def test_grids_hold_the_settings_of_the_study() -> None:
    for plan in (settings.FULL, settings.QUICK):
        for grid in plan.grids:
            chosen = [value for value in grid.values if value == getattr(plan.base(grid), grid.constant)]
            assert len(chosen) == 1, grid


def test_nothing_is_chosen_or_fitted_on_test_samples() -> None:
    grids = {grid.network: grid for grid in settings.GRIDS}
    assert set(grids) == set(settings.HELD) == {"digits", "moons-25", "mnist"}
    varied = [settings.FULL.base(grid) for name, grid in grids.items() if name != "mnist"]
    for job in (settings.held(setting, 3) for setting in (settings.DIGITS["st"], settings.MOON["bayes"], *varied)):
        data = jobs.Data.of(job)
        assert list(data.asked) == ["validation"]
        assert not set(data.split.rows_validation) & {*data.split.rows_train, *data.split.rows_test}
        final = jobs.Data.of(replace(job, kind="train"))
        assert not set(data.split.rows_validation) & set(final.split.rows_test)
        np.testing.assert_array_equal(data.split.rows_test, final.split.rows_test)


def test_points_are_far_if_all_training_points_are() -> None:
    points = np.array([[0.5, 0.5], [0.5, 0.7], [0.5, 0.64]])
    far = jobs.far_from(points, np.array([[0.5, 0.5], [0.1, 0.1]]))
    assert far.tolist() == [False, True, False]


def test_shuffled_images_keep_their_pixels() -> None:
    images = np.random.default_rng(1).integers(0, 256, (5, 64)).astype(np.uint8)
    found = jobs.foreign_images(images, 0)
    np.testing.assert_array_equal(np.sort(found["shuffled"], axis=1), np.sort(images, axis=1))
    assert (found["shuffled"] != images).any(axis=1).all()
    orders = [np.argsort(row, kind="stable") for row in found["shuffled"]]
    assert any((orders[0] != order).any() for order in orders[1:])
    assert found["noise"].shape == images.shape


# ---- what the figures mean ------------------------------------------------------------------------------------------


def scored(share: float, ece: float, n: int, auroc: Mapping[str, float], temperature: float = 1.0) -> dict[str, Any]:
    """Scores of an answer that gets the first `share` of the test samples right."""
    foreign = {kind: {"auroc": value, "confidence": 0.6, "sure": 0.2, "n": 100} for kind, value in auroc.items()}
    bins = [{"n": 0, "confidence": None, "accuracy": None}] * 14 + [{"n": n, "confidence": 0.95, "accuracy": share}]
    right = pack(np.arange(n) < share * n)
    return {"accuracy": share, "ece": ece, "nll": 5 * ece, "brier": 2 * ece, "confidence": share - ece,
            "right": right, "bins": bins, "foreign": foreign, "temperature": temperature}  # fmt: skip


def result(answers: Mapping[str, Mapping[str, Any]], n: int = 1000, **more: Any) -> dict[str, Any]:
    usual = {
        "n_train": 1000, "n_test": n, "n_in": 64, "n_out": 10, "test": "a", "n_held": 200, "answers": dict(answers),
        "history": {"loss": [1.0, 0.5]}, "training_seconds": 3.0, "weights": "w", "seconds": 4.0,
        "cost": {"cycles": 5000, "timesteps": 100},
    }  # fmt: skip
    return usual | more


Shares = Mapping[str, Sequence[float]]
FULL = settings.FULL
ALMOST_SAME = (0.0, 0.0005, -0.0005, 0.001, -0.001)


def network(
    networks: Mapping[str, Setting],
    accuracy: Mapping[str, float],
    ece: Mapping[str, float],
    auroc: Mapping[str, Mapping[str, float]] | None = None,
    tempered: Mapping[str, float] | None = None,
) -> dict[Job, dict[str, Any]]:
    """Five seeds of all methods on a problem, nearly alike; `tempered`: calibration errors with a temperature."""
    found: dict[Job, dict[str, Any]] = {}
    for rule, setting in networks.items():
        mine = {method: answer for method, (each, answer) in METHODS.items() if each == rule and method in accuracy}
        for seed, off in enumerate(ALMOST_SAME):
            answers = {}
            for method, answer in mine.items():
                foreign = {kind: value + off for kind, value in (auroc or {}).get(method, {}).items()}
                share = accuracy[method] + off
                answers[answer.name] = scored(share, ece[method] + off, 1000, foreign)
                if tempered:
                    answers[answer.name + TEMPERED] = scored(share, tempered[method] + off, 1000, foreign, 1.4)
            if answers:
                found[settings.train(setting, seed)] = result(answers)
    return found


def moons(
    noise: str, accuracy: Sequence[float], ece: Sequence[float], tempered: Sequence[float] | None = None
) -> dict[Job, dict[str, Any]]:
    """Results of ST, mode, ensemble and float."""
    networks = {rule: FULL.moons(noise, "bptt", rule) for rule in FULL.moon}
    far = {method: {"far": 0.7} for method in METHODS}
    heated = dict(zip(METHODS, tempered, strict=True)) if tempered else None
    return network(
        networks, dict(zip(METHODS, accuracy, strict=True)), dict(zip(METHODS, ece, strict=True)), far, heated
    )


def digits(
    accuracy: Sequence[float], ece: Sequence[float], tempered: Sequence[float], noise: Sequence[float]
) -> dict[Job, dict[str, Any]]:
    auroc = {method: {"noise": each, "shuffled": 0.8} for method, each in zip(METHODS, noise, strict=True)}
    return network(
        FULL.digits, dict(zip(METHODS, accuracy, strict=True)), dict(zip(METHODS, ece, strict=True)), auroc,
        dict(zip(METHODS, tempered, strict=True)),
    )  # fmt: skip


def digested(results: Mapping[Job, dict[str, Any]]) -> tuple[list[dict[str, Any]], dict[str, dict[str, str]]]:
    found = findings.digest(FULL, results)
    json.dumps(found)
    # Whatever there is can be written down.
    found |= {"quick": False, "skipped": [], "job_seconds": {}}
    assert markdown(found, FULL).startswith("# BiSNN")
    return found["claims"], {bar["bar"]: bar for bar in found["bars"]}


def test_nothing_is_answered_without_results() -> None:
    claims, bars = digested({})
    assert {claim["answer"] for claim in claims} == {NOT_MEASURED}
    assert {bar["answer"] for bar in bars.values()} == {NOT_MEASURED}
    assert figures.draw(findings.digest(FULL, {}), Path("nowhere")) == []


def test_bars_and_claims_of_two_moons() -> None:
    results = moons("moons-25", (0.92, 0.92, 0.93, 0.918), (0.037, 0.06, 0.014, 0.048))
    (better, lost, foreign, *_), bars = digested(results)
    assert better["answer"] == "yes"
    assert "accuracy +1.0" in better["lines"][0]
    assert lost["answer"] == "ST: yes, within 1 point everywhere; Bayes, ensemble: yes, within 1 point everywhere"
    assert foreign["answer"] == "no as far as measured"
    half = bars["Two moons, noise 0.25: ECE of the ensemble at most 0.5 of that of ST"]
    assert (half["answer"], half["margin"]) == ("yes", "0.38 times it")
    assert half["figures"] == "as trained: 0.0140 against 0.0370, reached, in 5 of 5 seeds"
    assert bars["Two moons, noise 0.25: accuracy of the ensemble not below that of ST"]["answer"] == "yes"

    results = moons("moons-25", (0.92, 0.92, 0.91, 0.95), (0.037, 0.06, 0.02, 0.048))
    results |= moons("moons-10", (0.994, 0.9945, 0.9999, 0.998), (0.003, 0.005, 0.014, 0.002))
    (better, lost, *_), bars = digested(results)
    assert better["answer"] == (
        "under conditions, the ensemble; in calibration alone: two moons, noise 0.25; in accuracy alone: two moons, "
        "noise 0.1; worse in accuracy: two moons, noise 0.25; worse in calibration: two moons, noise 0.1"
    )
    assert lost["answer"] == (
        "ST: within 1 point, but not surely on two moons, noise 0.25; "
        "Bayes, ensemble: within 1 point, but not surely on two moons, noise 0.25"
    )
    assert bars["Two moons, noise 0.25: ECE of the ensemble at most 0.5 of that of ST"]["answer"] == "**NO**"
    assert bars["Two moons, noise 0.25: accuracy of the ensemble not below that of ST"]["answer"] == "**NO**"
    high = bars["Two moons, noise 0.1: all at least 99.3 %"]
    assert (high["answer"], high["margin"]) == ("yes", "+0.10 points (ST)")
    results |= moons("moons-10", (0.994, 0.992, 0.999, 0.998), (0.003, 0.005, 0.014, 0.002))
    assert digested(results)[1]["Two moons, noise 0.1: all at least 99.3 %"]["answer"] == "**NO**"


def test_ensemble_with_temperature_against_st_as_trained_decides_and_like_against_like_is_said() -> None:
    name = "Two moons, noise 0.25: ECE of the ensemble at most 0.5 of that of ST"
    right = (0.92, 0.92, 0.93, 0.918)
    _, bars = digested(moons("moons-25", right, (0.037, 0.06, 0.02, 0.048), (0.015, 0.02, 0.01, 0.02)))
    assert (bars[name]["answer"], bars[name]["margin"]) == ("yes", "0.27 times it")
    assert bars[name]["figures"] == (
        "ensemble with temperature, ST as trained: 0.0100 against 0.0370, reached, in 5 of 5 seeds; "
        "both as trained: 0.0200 against 0.0370, not reached, in 0 of 5 seeds; "
        "both with temperature: 0.0100 against 0.0150, not reached, in 0 of 5 seeds"
    )
    assert sum("ECE of the ensemble" in each and "moons" in each for each in bars) == 1
    _, bars = digested(moons("moons-25", right, (0.037, 0.06, 0.014, 0.048), (0.07, 0.02, 0.02, 0.02)))
    assert bars[name]["answer"] == "**NO**"
    perfect = moons("moons-25", right, (0.0, 0.0, 0.0, 0.0))
    assert digested({job: each for job, each in perfect.items() if not job.seed})[1][name]["margin"] == "-"


def test_bars_and_claims_of_digits() -> None:
    results = digits(
        (0.974, 0.959, 0.966, 0.969), (0.014, 0.018, 0.05, 0.019), (0.014, 0.018, 0.02, 0.019), (0.56, 0.69, 0.94, 0.76)
    )
    (better, lost, foreign, close, *_), bars = digested(results)
    assert better["answer"].startswith("no; worse in accuracy: digits / digits, all with temperature; worse in cal")
    assert lost["answer"].endswith("Bayes, ensemble: yes, within 1 point everywhere")
    assert foreign["answer"] == "only on digits, uniform noise"
    assert close["answer"] == "yes: by a temperature in 1 of 1 cases"
    assert "ensemble of 10 and temperature: ECE 0.0200, closes it" in close["lines"][2]
    limit = bars["Digits: ECE of the ensemble at most that of ST + 0.01"]
    assert (limit["answer"], limit["margin"]) == ("yes", "-0.0040 from the limit")
    assert limit["figures"] == (
        "ensemble with temperature, ST as trained: 0.0200 against 0.0140, reached, in 5 of 5 seeds; "
        "both as trained: 0.0500 against 0.0140, not reached, in 0 of 5 seeds; "
        "both with temperature: 0.0200 against 0.0140, reached, in 5 of 5 seeds"
    )
    assert bars["Digits: accuracy of ST at least 97.0 %"]["margin"] == "+0.4 points"
    assert bars["Digits: accuracy of the ensemble at least 96.2 %"]["answer"] == "yes"
    auroc = "Digits: AUROC of the ensemble as trained against uniform noise at least 0.93 and above ST and float"
    assert bars[auroc]["margin"] == "+0.010; +0.180 above the better"
    # With temperatures the ensemble would not reach it: that is said, and does not decide.
    for rule, setting in FULL.digits.items():
        for seed in range(5):
            for name, each in results[settings.train(setting, seed)]["answers"].items():
                if name.endswith(TEMPERED):
                    each["foreign"]["noise"] = each["foreign"]["noise"] | {"auroc": 0.9 if rule == "bayes" else 0.95}
    said = digested(results)[1][auroc]
    assert said["answer"] == "yes"
    assert said["figures"] == ("0.940, ST 0.560, float 0.760; all with temperature: 0.900, ST 0.950, float 0.950")

    results = digits(
        (0.96, 0.959, 0.955, 0.969), (0.014, 0.018, 0.05, 0.019), (0.014, 0.018, 0.03, 0.019), (0.56, 0.69, 0.94, 0.95)
    )
    sharp = next(each for each in FULL.attempts if each.answer.sharpness == 2.0)
    for seed in range(5):
        job = settings.tried(FULL, FULL.digits["bayes"], seed)
        assert job is not None
        assert sharp.answer in job.answers
        results[job] = result({sharp.answer.name: scored(0.96, 0.023, 1000, {"noise": 0.9, "shuffled": 0.8})})
    (_, _, foreign, close, *_), bars = digested(results)
    assert foreign["answer"] == "no as far as measured"
    assert close["answer"] == "yes: without a temperature by sharpness 2"
    for what in ("ECE of the ensemble at most that of ST + 0.01", "accuracy of ST at least 97.0 %",
                 "accuracy of the ensemble at least 96.2 %"):  # fmt: skip
        assert bars[f"Digits: {what}"]["answer"] == "**NO**"
    assert bars[auroc]["answer"] == "**NO**"


def test_one_seed_tells_no_difference_of_calibration() -> None:
    results = {
        job: each for job, each in moons("moons-25", (0.9,) * 4, (0.04, 0.04, 0.01, 0.05)).items() if not job.seed
    }
    (better, *_), _ = digested(results)
    assert better["answer"] == "one seed cannot tell"
    assert "**one seed cannot tell**" in better["lines"][0]


def test_bars_and_claims_of_dies_and_read_outs() -> None:
    usual = {"ece": {ST: 0.02, BAYES_MODE: 0.02, BAYES: 0.05}, "noise": {"noise": 0.9, "shuffled": 0.8}}

    def trained(accuracy: float, settings_of: Mapping[str, Setting], drop: float = 0.0) -> dict[Job, dict[str, Any]]:
        shares = {ST: accuracy, BAYES_MODE: accuracy - drop, BAYES: accuracy - drop}
        return network(settings_of, shares, usual["ece"], dict.fromkeys(shares, usual["noise"]))

    rules = ("st", "bayes")
    results = trained(0.97, {rule: FULL.digits[rule] for rule in rules})
    results |= trained(0.97, {rule: FULL.ideal(rule) for rule in rules})
    results |= trained(0.965, {rule: FULL.off(rule, "raster+gate") for rule in rules}, drop=0.04)
    for rule in rules:
        for seed in range(5):
            deployed = settings.deploy(FULL, rule, seed)
            results[deployed] = results[settings.train(FULL.ideal(rule), seed)] | {
                "answers": {name: scored(0.9, 0.03, 1000, usual["noise"]) for name in ("network", "mode", "ensemble")}
            }
    results |= trained(0.969, {rule: FULL.with_read_out(rule, "counts") for rule in rules}, drop=0.03)
    claims, bars = digested(results)
    loop, read = claims[4:]
    assert loop["answer"] == "with ST, read-out raster+gate"
    assert "in the loop raster+gate 96.5 %, +6.5" in loop["lines"][0]
    assert read["answer"] == "for ST, not for the others"
    enough = {name: bar["answer"] for name, bar in bars.items() if name.startswith("Thresholds off")}
    assert enough == {
        "Thresholds off: in the loop at least 6 points above offline, ST": "yes",
        "Thresholds off: in the loop at least 6 points above offline, Bayes, ensemble": "**NO**",
    }
    # A better read-out that was not named before decides nothing, with and without the first one.
    results |= trained(0.99, {rule: FULL.off(rule, "counts") for rule in rules})
    claims, bars = digested(results)
    assert claims[4]["answer"] == "with ST, read-out raster+gate"
    assert {name: bars[name]["answer"] for name in enough} == enough
    first = [settings.train(FULL.off(rule, "raster+gate"), seed) for rule in rules for seed in range(5)]
    claims, bars = digested({job: each for job, each in results.items() if job not in first})
    assert claims[4]["answer"] == NOT_MEASURED
    assert {bars[name]["answer"] for name in enough} == {NOT_MEASURED}


def test_bars_of_mnist_and_the_chip() -> None:
    results = network(FULL.mnist, {ST: 0.95, FLOAT: 0.965}, {ST: 0.01, FLOAT: 0.01})
    for job in settings.loads(FULL):
        results[job] = {"layers": [784, 256], "synapses": 200_704, "words": 6300, "least": 6272, "memory_bits": 200_704,
                        "equal": True}  # fmt: skip
    for job in settings.operations(FULL):
        results[job] = {"layers": [784, 256], "lanes": 64, "samples": 500, "rate": 0.85, "sample_rate": 0.91,
                        "cycles_per_step": 430.0, "input_spikes_per_step": 100.0}  # fmt: skip
    _, bars = digested(results)
    loss = bars["MNIST: ST within 2 points of the float network"]
    assert (loss["answer"], loss["margin"][:4]) == ("yes", "-1.5")
    load = bars["A load of all weights takes synapses / 32 words plus at most 5 %"]
    assert (load["answer"], load["margin"]) == ("yes", "at most +0.4 %")
    rate = bars["At least 0.90 synaptic operations per lane and clock cycle, 64 lanes, MNIST"]
    assert (rate["answer"], rate["margin"]) == ("yes", "+0.010")
    assert rate["figures"].startswith("784-256: 0.910 ")

    results = network(FULL.mnist, {ST: 0.94, FLOAT: 0.965}, {ST: 0.01, FLOAT: 0.01})
    for job in settings.loads(FULL):
        results[job] = {"layers": [784, 256], "synapses": 200_704, "words": 6700, "least": 6272, "memory_bits": 200_704,
                        "equal": True}  # fmt: skip
    for job in settings.operations(FULL):
        results[job] = {"layers": [784, 256], "lanes": 64, "samples": 500, "rate": 0.85, "sample_rate": 0.89,
                        "cycles_per_step": 430.0, "input_spikes_per_step": 100.0}  # fmt: skip
    _, bars = digested(results)
    assert {bars[each["bar"]]["answer"] for each in (loss, load, rate)} == {"**NO**"}


def made_up(job: Job, rng: np.random.Generator) -> dict[str, Any]:
    """What a job of any kind could have given."""
    if job.kind == "build":
        return {"seconds": 1.0}
    if job.kind == "load":
        return {"layers": [20, 64], "synapses": 1280, "words": 41, "least": 40, "memory_bits": 1280, "equal": True}
    if job.kind == "operations":
        return {"layers": [784, 256], "lanes": 64, "samples": 500, "rate": 0.85, "sample_rate": 0.91,
                "cycles_per_step": 430.0, "input_spikes_per_step": 100.0}  # fmt: skip
    if job.kind == "confirm-test":
        return {"equal_outputs": True, "equal_probabilities": True, "different_counts": 0, "cycles": [5, 5],
                "steps": [1, 1], "accuracy": {answer.name: [0.9, 0.9] for answer in job.answers}, "networks": 1,
                "most_encodings": 1, "presentations": 10, "spikes": 100}  # fmt: skip
    kinds = ("far",) if job.setting.dataset in settings.MOONS else ("noise", "shuffled")
    return result(
        {
            answer.name + suffix: scored(rng.uniform(0.9, 1), rng.uniform(0.01, 0.1), 1000, dict.fromkeys(kinds, 0.9))
            for answer in job.answers
            for suffix in (("", TEMPERED) if job.setting.held_back else ("",))
        }
    )


def test_report_takes_whatever_results_there_are(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    every = {job: made_up(job, rng) for wave in settings.waves(FULL, settings.PARTS, True) for job in wave}
    claims, bars = digested(every)
    assert NOT_MEASURED not in {each["answer"] for each in (*claims, *bars.values())}
    for share in (0.02, 0.1, 0.3, 0.6, 0.9):
        digested({job: each for job, each in every.items() if rng.random() < share})
    few = {job: each for job, each in every.items() if (job.setting.rule == "st") == (job.seed == 1)}
    few = {
        job: each for job, each in few.items() if job.setting.dataset != "moons-25" or job.setting.gradient != "bptt"
    }
    _, bars = digested(few)
    assert bars["Digits: ECE of the ensemble at most that of ST + 0.01"]["answer"] == NOT_MEASURED
    assert len(figures.draw(findings.digest(FULL, few), tmp_path)) == 5


def test_bars_compare_the_seeds_that_both_have() -> None:
    results = moons("moons-25", (0.92, 0.92, 0.93, 0.918), (0.04, 0.06, 0.012, 0.048))
    half, above = (f"Two moons, noise 0.25: {what}" for what in (
        "ECE of the ensemble at most 0.5 of that of ST", "accuracy of the ensemble not below that of ST"
    ))  # fmt: skip

    def only(st: Sequence[int], others: Sequence[int]) -> dict[str, dict[str, str]]:
        seeds = {"st": st}
        return digested(
            {job: each for job, each in results.items() if job.seed in seeds.get(job.setting.rule, others)}
        )[1]

    results[settings.train(FULL.moons("moons-25", "bptt", "st"), 4)]["answers"]["network"]["ece"] = 0.001
    assert only((0, 1, 4), (0, 1, 2, 3))[half]["figures"].endswith("reached, in 2 of 2 seeds")
    assert only((0, 1, 4), (0, 1, 2, 3))[half]["answer"] == "yes"
    for name in (half, above):
        assert only((0, 1), (2, 3))[name]["answer"] == NOT_MEASURED
        assert only((), (2, 3))[name]["answer"] == NOT_MEASURED


def test_report_says_whether_the_ensemble_is_less_confident_than_right() -> None:
    for ece, text in ((0.05, "less confident than right"), (-0.02, "not less confident than right")):
        results = digits((0.97, 0.96, 0.96, 0.97), (0.014, 0.018, ece, 0.019), (0.014, 0.018, 0.02, 0.019), (0.9,) * 4)
        found = findings.digest(FULL, results) | {"quick": False, "skipped": [], "job_seconds": {}}
        confidence = 100 * (0.96 - ece)
        assert (
            f"The ensemble of 10 as trained is {confidence:.1f} % confident and to 96.0 % right: {text}."
            in markdown(found, FULL)
        )


def test_everything_that_chips_answer_is_compared() -> None:
    one = np.zeros((2, 3), np.int32)
    cycles = np.zeros(2, np.int64)
    out = Output([one], [one], one.astype(np.int64), one, [one > 0], [one > 0], cycles, cycles, cycles)
    for field in fields(out):
        value: Any = getattr(out, field.name)
        changed: Any = [each + 1 for each in value] or [one] if isinstance(value, list) else value + 1
        other = replace(out, **{field.name: changed})
        assert [array.tolist() for array in jobs._arrays(out)] != [array.tolist() for array in jobs._arrays(other)]


def test_repeated_trainings_must_be_equal_to_the_bit() -> None:
    golden, sim = settings.repeated(FULL)[0]
    scores = {"network": scored(0.97, 0.01, 1000, {"noise": 0.9, "shuffled": 0.8})}
    results = {golden: result(scores), sim: result(scores)}
    _, bars = digested(results)
    agree = "The simulated chip agrees with the golden model, tests and trainings"
    assert bars[agree]["answer"] == "yes"
    for other in ({"weights": "v"}, {"history": {"loss": [1.0, 0.4]}}, {"cost": {"cycles": 5001, "timesteps": 100}}):
        assert digested(results | {sim: result(scores, **other)})[1][agree]["answer"] == "**NO**"


def test_curves_of_several_seeds_are_pooled_by_their_samples() -> None:
    full, empty = {"n": 30, "confidence": 0.9, "accuracy": 0.8}, {"n": 0, "confidence": None, "accuracy": None}
    found = findings.pooled([[full, empty], [{"n": 10, "confidence": 0.7, "accuracy": 0.4}, empty]])
    assert found[0] == {"n": 40, "confidence": pytest.approx(0.85), "accuracy": pytest.approx(0.7)}
    assert found[1] == empty


def test_ensembles_of_fewer_members_are_the_first_of_more() -> None:
    class Trainer:
        def member_probabilities(self, x: np.ndarray, members: int) -> np.ndarray:
            assert members == 12
            first = np.linspace(0.2, 0.9, members)[:, None]
            return np.stack([np.repeat(first, len(x), axis=1), 1 - np.repeat(first, len(x), axis=1)], axis=2)

    twelve = Answer("ensemble", 12)
    found = jobs.ask(Trainer(), [ENSEMBLE, twelve], np.zeros((3, 4), np.uint8))
    assert list(found) == [ENSEMBLE, twelve]
    np.testing.assert_allclose(found[ENSEMBLE][:, 0], np.linspace(0.2, 0.9, 12)[:10].mean())
    np.testing.assert_allclose(found[twelve].sum(axis=1), 1.0)
