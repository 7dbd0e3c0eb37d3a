"""The study of DelGrad in miniature: jobs, cache, report, and the answers for figures that are made up."""

from __future__ import annotations

import json
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from typer.testing import CliRunner

from host import Chip, Events, Network, cli, datasets
from host.errors import ChipError, UserError
from host.reproduce import cells, delgrad, study
from host.reproduce.delgrad import figures, findings, settings
from host.reproduce.delgrad import work as jobs
from host.reproduce.delgrad.settings import NOISE, Job, Setting
from host.reproduce.delgrad.text import markdown
from host.reproduce.numbers import NOT_MEASURED, pack
from rtl.config import ChipConfig

PLAN = settings.Plan(
    epochs=1, train_size=60, sizes=(3, 5), kinds=("none", "axonal"), seeds=2, noise_seeds=1, dies=2,
    control=("axonal",), bits=(4, 8), bit_kinds=("axonal",), steps=(20, 50), step_kinds=("none",),
    gradients=(("discrete", 1.0), ("lambert", 1.0)), sweep_seeds=1,
    digits=Setting("digits", hidden=8, epochs=1, train_size=50), digit_kinds=("axonal",), shown=("none", "axonal"),
    map_side=12, confirmed=("axonal",), confirmed_seeds=1, confirm_noisy=True,
    repeated=Setting(hidden=5, epochs=1, train_size=50), known=True,
)  # fmt: skip


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


def run(out: Path, **options: Any) -> dict[str, Any]:
    with open(out.parent / "console.txt", "w") as file:
        console = Console(file=file, width=200)
        usual: dict[str, Any] = {"quick": True, "jobs": 1, "backend": None, "plan": PLAN}
        return delgrad.run(out=out, console=console, **(usual | options))


# ---- the whole study ------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_study_in_miniature(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "study"
    found = run(out)
    text = (out / "report.md").read_text()
    assert "**Skipped**: the networks stored by the authors: there is no int_*.npz in" in text
    assert [(entry["kind"], entry["hidden"]) for entry in found["size"]] == [
        ("none", 3), ("axonal", 3), ("none", 5), ("axonal", 5)
    ]  # fmt: skip
    assert [entry["parameters"] for entry in found["size"]] == [21, 28, 35, 44]
    noise = {entry["kind"]: entry for entry in found["noise"]}
    assert noise["axonal"]["deployed"]["n"] == 4
    assert noise["axonal"]["gap"]["n"] == 1
    assert set(noise["axonal"]["alone"]) == {name for name, _ in NOISE}
    assert [entry["value"] for entry in found["bits"]] == [4, 8]
    assert found["control"][0]["gain"]["n"] == 2
    assert found["digits"][0]["minus_logistic"]
    assert found["known"] == []
    confirmation = found["confirmation"]
    assert [entry["title"] for entry in confirmation["tests"]] == [
        "4-5-3, axonal delays, ideal chip, seed 0", "4-5-3, axonal delays, noisy die 0, seed 0"
    ]  # fmt: skip
    assert all(entry["agrees"] for entry in (*confirmation["tests"], confirmation["training"]))
    names = {f"{name}.png" for name in ("size", "noise", "curves", "precision", "spikes", "delays", "maps")}
    assert {path.name for path in out.glob("*.png")} == names
    assert all(f"]({name})" in text for name in names)
    assert json.loads((out / "results.json").read_text())["claims"] == found["claims"]
    assert all(claim["answer"] != NOT_MEASURED for claim in found["claims"])

    # Again: nothing is computed. Then a lost network: it is trained again for the one who needs it.
    monkeypatch.setattr(delgrad, "draw", lambda *_: [])
    stored = {path: path.stat().st_mtime_ns for path in (out / "cells").iterdir()}
    assert run(out)["claims"] == found["claims"]
    assert {path: path.stat().st_mtime_ns for path in (out / "cells").iterdir()} == stored
    lost = out / "cells" / f"{settings.train(PLAN.ideal('none'), 0).key()}.npz"
    lost.unlink()
    (out / "cells" / f"{settings.spikes(PLAN, 'none').key()}.json").unlink()
    assert run(out, parts=("pictures",))["claims"] == found["claims"]
    assert lost.is_file()


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_parts_and_a_chip_that_differs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "study"
    found = run(out, parts=("control",), backend="golden")
    assert found["control"]
    assert not found["noise"]
    assert not found["size"][0]["minus_none"]
    assert found["claims"][2]["answer"] == NOT_MEASURED
    assert "Not run." in (out / "report.md").read_text()

    def other(folder: Path, job: Job) -> dict[str, Any]:
        return jobs.confirm_test(folder, job) | {"different_times": 3}

    monkeypatch.setitem(jobs.JOBS, "confirm-test", other)
    with pytest.raises(ChipError, match="does not do what it should: 4-5-3, axonal delays, ideal chip, seed 0; 4-5-3"):
        run(out, parts=("confirmation",))
    assert "NO: not as it should be" in (out / "report.md").read_text()
    with pytest.raises(UserError, match="Unknown part 'all'; allowed are size, noise"):
        run(out, parts=("all",))
    with pytest.raises(UserError, match="Unknown backend 'fpga'"):
        run(out, backend="fpga")


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert study("delgrad") is delgrad
    few: dict[str, Any] = dict.fromkeys(("control", "bit_kinds", "step_kinds", "gradients", "digit_kinds", "shown"), ())
    monkeypatch.setattr(delgrad, "QUICK", replace(PLAN, seeds=1, sizes=(3,), dies=1, **few))
    arguments = ["reproduce", "delgrad", "--quick", "--backend", "golden", "--jobs", "1", "--out", str(tmp_path)]
    result = CliRunner().invoke(cli.app, arguments)
    assert result.exit_code == 0, result.output
    assert "Accuracy and parameters" in result.output
    assert (tmp_path / "report.md").is_file()


# ---- settings and jobs ----------------------------------------------------------------------------------------------


def test_jobs_are_known_by_their_settings() -> None:
    job = Job("train", Setting(), 0)
    assert job.key() == Job("train", replace(Setting()), 0).key()
    others = [
        Job("train", Setting(), 1),
        Job("map", Setting(), 0),
        Job("train", Setting(noise=NOISE), 0),
        Job("train", Setting(train_delays=False), 0),
        Job("train", Setting(more=(("margin", 0.3),)), 0),
    ]
    assert len({job.key(), *(other.key() for other in others)}) == 6
    for plan in (settings.FULL, settings.QUICK):
        first, second = settings.waves(plan, settings.PARTS, True)
        assert all(each.training in first for each in second if each.training is not None)
        assert len({each.key() for each in first + second}) == len(first + second)
        assert {"train", "build"} == {each.kind for each in first}
        assert all(each.cost() > 0 for each in first + second)
        golden = settings.waves(plan, settings.PARTS, False)
        assert not any("confirm" in each.kind or each.kind == "build" for wave in golden for each in wave)
    # Each chip is built once, an ideal one and one with a die; the training that is repeated is one of its.
    first, second = settings.waves(settings.FULL, settings.PARTS, True)
    builds = [each.setting.config(4, 3) for each in first if each.kind == "build"]
    assert sorted(cfg.die_tables for cfg in builds) == [False, True]
    repeated = settings.repeated(settings.FULL)[0]
    assert repeated in first
    assert repeated.setting.config(4, 3) in builds
    assert len(list(settings.confirmed(settings.FULL))) == 24
    assert all(cfg.layers == (4, 30, 3) for cfg in builds)


def test_every_setting_makes_a_trainer_that_its_chip_takes() -> None:
    for plan in (settings.FULL, settings.QUICK):
        for part in settings.PARTS:
            for job in settings.trainings(plan, part):
                setting = job.setting
                with Chip(setting.config(6, 3), die=setting.die(job.seed)) as chip:
                    trainer = setting.trainer(chip, job.seed)
                    trainer._check_common()
                    delays = setting.delays != "none"
                    vector = trainer._start(None)
                    assert len(vector) == setting.parameters(6, 3)
                    assert any(matrix.any() for matrix in trainer.network_of(vector).delays) == delays


# ---- stored networks ------------------------------------------------------------------------------------------------


def test_stored_networks_spike_when_they_should(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    weights = [rng.integers(-20, 100, (4, 6)), rng.integers(-20, 100, (6, 3))]
    delays = [rng.integers(0, 9, (4, 6)), rng.integers(0, 9, (6, 3))]
    inputs, labels = rng.integers(5, 60, (20, 4)), rng.integers(0, 3, 20)
    network = Network(
        weights, thresholds=[3000, 5000], delays=[delays[0], delays[1] + 1], decay_syn=200, decay_mem=100, shift=2,
        reset="none", fire_once=True,
    )  # fmt: skip
    with Chip(ChipConfig((4, 6, 3), delay_slots=10)) as chip:
        chip.load(network)
        out = chip.run(Events.from_times(inputs), steps=120)
    accuracy = float(np.mean(jobs.classes(out) == labels))
    stored: dict[str, Any] = {
        "W1q": weights[0], "W2q": weights[1], "D1": delays[0], "D2": delays[1], "theta1": 3000, "theta2": 5000,
        "ds": 200, "dm": 100, "sh": 2, "state_bits": 24, "lat": 1, "T": 120, "t_in": inputs, "labels": labels,
        "t_hid": out.first_spike[0], "t_out": out.first_spike[1], "acc": accuracy,
    }  # fmt: skip
    folder = tmp_path / "data" / settings.KNOWN_FOLDER
    folder.mkdir(parents=True)
    np.savez(folder / "int_good.npz", **stored)
    np.savez(folder / "int_late.npz", **(stored | {"lat": 2}))
    results = {job: jobs.do(tmp_path, job) for job in settings.known(True)}
    assert [job.kind for job in results] == ["known", "known-sim"] * 2
    good, late = findings._known(results)
    assert good["agrees"]
    assert good["golden"]["times"] == 180
    assert good["golden"]["accuracy"] == pytest.approx(accuracy)
    assert not late["agrees"]
    assert late["golden"]["different"] > 0


# ---- what the figures mean ------------------------------------------------------------------------------------------


def result(share: float, n: int = 1000, **more: Any) -> dict[str, Any]:
    """The result of a training that gets the first `share` of the test samples right."""
    right = np.arange(n) < share * n
    history = {name: [0.5, share] for name in ("training_accuracy", "validation_accuracy")}
    history |= {"steps": [100.0, 90.0], "cycles_per_sample": [2000.0, 1800.0]}
    usual = {
        "accuracy": float(right.mean()), "right": pack(right), "n_test": n, "test": "a", "n_in": 4, "n_out": 3,
        "n_train": 5000, "silent": 0.0, "decision": 100.0, "hidden_before": 20.0, "hidden_spikes": 28.0,
        "steps": 150.0, "cycles": 2800.0, "parameters": 210, "history": history, "validation": share,
        "training_seconds": 30.0, "network": "x", "largest": [100, 60], "seconds": 31.0,
    }  # fmt: skip
    return usual | more


def made_up(plan: settings.Plan, shares: dict[Setting, Sequence[float]]) -> dict[Job, dict[str, Any]]:
    """Results of trainings: a share of right answers for each seed."""
    return {
        settings.train(setting, seed): result(share, parameters=setting.parameters(4, 3))
        for setting, each in shares.items()
        for seed, share in enumerate(each)
    }


def answers(plan: settings.Plan, results: dict[Job, dict[str, Any]]) -> list[dict[str, Any]]:
    found = findings.digest(plan, results)
    # Whatever there is can be written down.
    found |= {"quick": False, "skipped": [], "job_seconds": {}}
    assert markdown(found, plan).startswith("# DelGrad")
    return found["claims"]


FULL = settings.FULL


def test_claims_without_results() -> None:
    assert {claim["answer"] for claim in answers(FULL, {})} == {NOT_MEASURED}
    assert figures.draw(findings.digest(FULL, {}), Path("nowhere")) == []


def test_claims_of_accuracy_and_parameters() -> None:
    none, synaptic = FULL.ideal("none"), FULL.ideal("synaptic")
    shares: dict[Setting, Sequence[float]] = {none: [0.96, 0.97, 0.965], synaptic: [0.98, 0.985, 0.985]}
    accuracy, parameters, *_ = answers(FULL, made_up(FULL, shares))
    assert accuracy["answer"] == "yes (30 hidden neurons)"
    assert "synaptic +1.8" in accuracy["lines"][0]
    assert "98.2 % (here 98.3 %)" in accuracy["lines"][-1]
    assert parameters["answer"] == NOT_MEASURED

    # One kind does not help: by itself with the other one, and on average.
    shares[FULL.ideal("axonal")] = [0.962, 0.97, 0.966]
    accuracy, *_ = answers(FULL, made_up(FULL, shares))
    assert accuracy["answer"] == "yes on average, by itself with synaptic delays (30 hidden neurons)"

    shares |= {FULL.ideal("none", 10): [0.94, 0.93, 0.92], FULL.ideal("axonal", 10): [0.96, 0.957, 0.963]}
    _, parameters, *_ = answers(FULL, made_up(FULL, shares))
    assert parameters["answer"] == "yes: 84 with axonal delays instead of 210"
    assert "10 with no delays (70 parameters) -3.5" in parameters["lines"][0]
    shares[FULL.ideal("axonal", 10)] = [0.95, 0.94, 0.94]
    _, parameters, *_ = answers(FULL, made_up(FULL, shares))
    assert parameters["answer"] == (
        "no as far as measured; at as many parameters 1 of 1 networks with delays are ahead"
    )


def test_accuracy_at_a_number_of_parameters() -> None:
    bare = [{"parameters": 50, "accuracy": {"mean": 0.9}}, {"parameters": 200, "accuracy": {"mean": 0.96}}]
    assert findings.at_parameters(bare, 100) == pytest.approx(0.93)
    assert findings.at_parameters(bare, 20) == pytest.approx(0.9)


def test_claims_of_noise() -> None:
    def noisy(ideal: float, looped: float, deployed: float, kind: str) -> dict[Job, dict[str, Any]]:
        shares = {FULL.ideal(kind): [ideal] * 3, FULL.noisy(kind): [looped] * 3}
        dies = {"dies": [result(deployed)] * FULL.dies}
        variants = [NOISE, *settings.alone().values()]
        return made_up(FULL, shares) | {  # type: ignore[arg-type]
            settings.deploy(FULL, kind, seed, noise): dies for seed in range(3) for noise in variants
        }

    results = noisy(0.965, 0.93, 0.72, "none") | noisy(0.97, 0.96, 0.75, "axonal")
    _, _, stable, _, loop, *_ = answers(FULL, results)
    assert stable["answer"] == "yes"
    assert "axonal +2.5" in stable["lines"][1]
    assert loop["answer"] == "yes"
    assert "**2 of 2**" in loop["lines"][0]
    results = noisy(0.965, 0.95, 0.84, "none") | noisy(0.97, 0.95, 0.75, "axonal")
    _, _, stable, _, loop, *_ = answers(FULL, results)
    assert stable["answer"] == "no"
    assert loop["answer"] == "with axonal delays"


def test_claims_of_frozen_delays_bits_and_gradients() -> None:
    shares: dict[Setting, Sequence[float]] = {
        FULL.frozen("axonal"): [0.95] * 3, FULL.ideal("axonal"): [0.97] * 3,
        FULL.frozen("synaptic"): [0.97] * 3, FULL.ideal("synaptic"): [0.97] * 3,
    }  # fmt: skip
    for bits, share in {4: 0.9, 6: 0.968, 10: 0.972}.items():
        shares[FULL.at_bits("axonal", bits)] = [share] * 2
    shares |= {FULL.at_steps("axonal", 20): [0.95] * 2, FULL.at_steps("axonal", 100): [0.97] * 2}
    shares |= {FULL.with_gradient("lambert", 1.0): [0.94, 0.985]}
    *_, trained, _, coarse, rule, _ = answers(FULL, made_up(FULL, shares))
    assert trained["answer"] == "with axonal delays"
    assert coarse["answer"] == "within 1 point of the finest from 6 bits (axonal) and 50 steps (axonal) on"
    assert rule["answer"].startswith("yes")
    shares |= {FULL.with_gradient("lambert", 1.0): [0.99] * 2}
    assert answers(FULL, made_up(FULL, shares))[6]["answer"] == "no"


def test_claim_of_the_chip() -> None:
    golden, sim = settings.repeated(FULL)
    results = made_up(FULL, {golden.setting: [0.97]})
    results[sim] = result(0.97, parameters=results[golden]["parameters"])
    claim = answers(FULL, results)[-1]
    assert claim["answer"] == "yes"
    assert "20.0 clock cycles per time step" in claim["lines"][0]
    slow = results[golden]["history"] | {"cycles_per_sample": [2600.0, 2600.0]}
    results[golden], results[sim] = ({**each, "history": slow} for each in (results[golden], results[sim]))
    assert answers(FULL, results)[-1]["answer"] == "exact, but slower"
    results[sim] = results[sim] | {"network": "y"}
    assert answers(FULL, results)[-1]["answer"].startswith("NO")
