"""The study of SSNN-BP in miniature: jobs, cache, report, and the answers for figures that are made up."""

from __future__ import annotations

import json
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from typer.testing import CliRunner

from host import Chip, Events, cli, datasets
from host.chip import sample_seeds
from host.datasets import DatasetError
from host.errors import ChipError, UserError
from host.reproduce import cells, ssnn_bp, study
from host.reproduce.numbers import ABOVE, BELOW, CLOSE, EQUAL, NOT_MEASURED, UNCLEAR, difference, pack, verdict
from host.reproduce.ssnn_bp import findings, settings
from host.reproduce.ssnn_bp import work as jobs
from host.reproduce.ssnn_bp.cycles import PARTS, closed_form, input_spikes
from host.reproduce.ssnn_bp.settings import SETTINGS, Job, Setting

TINY = Setting("digits", hidden=(12,), epochs=2, timesteps=3, train_size=60, test_size=40)
PLAN = settings.Plan(
    headline=("tiny", "absent"), main="absent", fallback="tiny", seeds=2, sweep_seeds=1, steps=(1, 10),
    bits=("6", "10"), test_steps=(2, 3), statistics=("tiny", "absent"), confirmed=("absent",), or_confirmed=("tiny",),
    probe_samples=8, confirm_samples=30, confirm_test=20, picture_samples=20, picture_steps=12,
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
def small_world(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two networks, of which one has no data, and golden models in place of the simulated chip."""

    def missing() -> None:
        raise DatasetError("The files are nowhere.")

    info = replace(datasets.REGISTRY["nmnist"], loader=missing)
    monkeypatch.setitem(datasets.REGISTRY, "nmnist", info)
    monkeypatch.setattr(datasets, "_CACHE", {})
    monkeypatch.setitem(SETTINGS, "tiny", TINY)
    monkeypatch.setitem(SETTINGS, "absent", Setting("nmnist", encoding="events"))
    monkeypatch.setattr(cells, "ProcessPoolExecutor", InProcess)
    monkeypatch.setattr(jobs, "BACKENDS", ("golden", "golden"))


def run(out: Path, **options: Any) -> dict[str, Any]:
    with open(out.parent / "console.txt", "w") as file:
        console = Console(file=file, width=200)
        usual: dict[str, Any] = {"quick": True, "jobs": 1, "backend": None, "plan": PLAN}
        return ssnn_bp.run(out=out, console=console, **(usual | options))


# ---- the whole study ------------------------------------------------------------------------------------------------


def test_study_in_miniature(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "study"
    found = run(out)
    text = (out / "report.md").read_text()
    assert "reconstruction" in text
    assert "**Skipped**: everything on nmnist: The files are nowhere." in text
    assert "the sweeps over absent; they are over tiny instead" in text
    assert [entry["name"] for entry in found["headline"]] == ["tiny"]
    assert [entry["steps"] for entry in found["steps"]] == [1, 10]
    assert found["headline"][0]["chip"]["n"] == 2
    assert found["statistics"][0]["moments"]["end"]["cycles_equal"] == 8
    assert found["confirmation"][0]["agrees"]
    assert found["confirmation"][0]["learning"]["samples"] == 30
    assert found["picture"]["closed"] == found["picture"]["without_mistake"] == 0
    names = {"headline.png", "steps.png", "bits.png", "curves.png", "cycles.png", "mistake.png"}
    assert {path.name for path in out.glob("*.png")} == names
    assert all(f"]({name})" in text for name in names)
    assert json.loads((out / "results.json").read_text())["claims"] == found["claims"]

    # Again: nothing is computed. Then a damaged result and lost weights: these are, and nothing else.
    monkeypatch.setattr(ssnn_bp, "draw", lambda *_: [])
    stored = {path: path.stat().st_mtime_ns for path in (out / "cells").iterdir()}
    assert run(out)["claims"] == found["claims"]
    assert {path: path.stat().st_mtime_ns for path in (out / "cells").iterdir()} == stored
    damaged = out / "cells" / f"{Job('chip', TINY, 1).key()}.json"
    damaged.write_text("{")
    assert run(out)["claims"] == found["claims"]
    changed = {path for path in stored if path.stat().st_mtime_ns != stored[path]}
    assert changed == {damaged, damaged.with_suffix(".npz")}
    lost = out / "cells" / f"{Job('chip', TINY, 0).key()}.npz"
    lost.unlink()
    (out / "cells" / f"{settings.picture(settings.restricted(PLAN, ['nmnist'])).key()}.json").unlink()
    assert run(out)["picture"] | {"seconds": 0} == found["picture"] | {"seconds": 0}
    assert lost.is_file()


def test_parts_one_after_the_other_make_the_whole(tmp_path: Path) -> None:
    out = tmp_path / "study"
    found = run(out, parts=("headline",), backend="golden")
    assert found["headline"]
    assert not found["steps"]
    assert not (out / "steps.png").exists()
    assert found["claims"][1]["answer"] == NOT_MEASURED
    assert "Not run." in (out / "report.md").read_text()
    found = run(out, parts=("steps",), backend="golden")
    assert found["headline"]
    assert found["steps"]
    assert "the simulated chip did not run" not in str(found["claims"])
    with pytest.raises(UserError, match="Unknown part 'all'; allowed are headline, steps"):
        run(out, parts=("all",))
    with pytest.raises(UserError, match="Unknown backend 'fpga'"):
        run(out, backend="fpga")


def test_a_chip_that_differs_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def other(folder: Path, job: Job) -> dict[str, Any]:
        return jobs.confirm_learning(folder, job) | {"different_weights": 3}

    monkeypatch.setitem(jobs.KINDS, "confirm-learning", other)
    out = tmp_path / "study"
    with pytest.raises(ChipError, match="The simulated chip and the golden model differ: digits, 60 samples, 64-12-10"):
        run(out, parts=("confirmation",))
    text = (out / "report.md").read_text()
    assert "NO: chip and model differ" in text
    assert "3 of 888" in text


def test_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert study("ssnn-bp") is ssnn_bp
    monkeypatch.setattr(ssnn_bp, "QUICK", replace(PLAN, seeds=1, steps=(1,), bits=("10",)))
    arguments = ["reproduce", "ssnn-bp", "--quick", "--backend", "golden", "--jobs", "1", "--out", str(tmp_path)]
    result = CliRunner().invoke(cli.app, arguments)
    assert result.exit_code == 0, result.output
    assert "Accuracy beside the ANN" in result.output
    assert (tmp_path / "report.md").is_file()


# ---- settings and jobs ----------------------------------------------------------------------------------------------


def test_every_setting_makes_a_trainer_that_its_chip_takes() -> None:
    for plan in (settings.FULL, settings.QUICK):
        for name in (*plan.headline, *plan.statistics, *plan.confirmed, *plan.or_confirmed, plan.fallback):
            assert name in SETTINGS
        bases = [SETTINGS[plan.main], SETTINGS[plan.fallback]]
        every = [SETTINGS[name] for name in plan.headline]
        every += [settings.at_steps(base, steps) for base in bases for steps in plan.steps]
        every += [settings.with_bits(base, name) for base in bases for name in plan.bits]
        for setting in every:
            with Chip(setting.config(8, 10)) as chip:
                trainer = setting.trainer(chip, 0)
                trainer._check_settings()
                assert len(trainer._phases()) == setting.epochs


def test_jobs_are_known_by_their_settings() -> None:
    job = Job("chip", TINY, 0)
    assert job.key() == Job("chip", replace(TINY), 0).key()
    others = [
        Job("chip", TINY, 1),
        Job("probe", TINY, 0),
        Job("chip", replace(TINY, rates=0.5), 0),
        Job("chip", replace(TINY, forward_shift=1), 0),
    ]
    assert len({job.key(), *(other.key() for other in others)}) == 5
    # The ordinary network does not depend on what the chip alone has.
    assert settings.ann(TINY, 0) == settings.ann(replace(TINY, weight_bits=6, timesteps=50, rates=0.1), 0)
    first, second = settings.waves(settings.FULL, settings.PARTS, True)
    assert all(each.training in first for each in second if each.training is not None)
    assert len({each.key() for each in first + second}) == len(first + second)
    assert not any(
        "confirm" in each.kind for wave in settings.waves(settings.FULL, settings.PARTS, False) for each in wave
    )


def test_a_quick_run_downloads_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(datasets.DATA_VARIABLE, str(tmp_path))
    reasons = settings.missing(settings.QUICK)
    assert list(reasons) == ["mnist"]
    assert "a quick run downloads nothing" in reasons["mnist"]
    plan = settings.restricted(settings.QUICK, reasons)
    assert plan.headline == plan.confirmed == ("digits-30",)


# ---- the closed form of the cycles ----------------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", ["rate", "bernoulli", "events"])
def test_cycles_of_learning_follow_from_the_recorded_spikes(encoding: str) -> None:
    setting = Setting("digits", hidden=(20, 9), weight_bits=8, fire_bits=6, noise_shift=5, gradient_bits=3,
                      rates=(0.4, 1.0, 0.1), timesteps=7)  # fmt: skip
    rng = np.random.default_rng(3)
    x: Any = rng.integers(0, 256, (6, 37)).astype(np.uint8)
    if encoding == "events":
        raster = rng.random((6, 7, 37)) < 0.3
        raster[1, 2:5] = False
        x = Events.from_dense(raster)
    labels, seeds = rng.integers(0, 5, 6), sample_seeds(5, 6)
    common: dict[str, Any] = {"steps": 7, "seeds": seeds, "encoding": "rate" if encoding == "events" else encoding}
    with Chip(setting.config(37, 5)) as chip:
        weights = [rng.integers(-30, 31, shape) for shape in chip.cfg.shapes]
        network = setting.trainer(chip, 0).network_of(weights, setting.rates)  # type: ignore[arg-type]
        chip.load(network)
        seen = chip.learn(x, labels, record=("raster", "gate", "gradient"), **common)
        chip.load(network)
        counted = chip.learn(x, labels, **common)
        inputs = input_spikes(x, chip.cfg, 7, encoding, seeds.tolist())
        parts = closed_form(chip.cfg, network, seen, inputs, labels, seeds.tolist(), events=encoding == "events")
    np.testing.assert_array_equal(inputs.sum(axis=(1, 2)), seen.input_spikes)
    np.testing.assert_array_equal(np.sum([parts[name] for name in PARTS], axis=0), counted.cycles)
    assert parts["update"].sum() > 0
    assert parts["gradient"].sum() > 0


# ---- what the figures mean ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mean", "se", "expected"),
    [
        (0.004, 0.001, ABOVE),
        (-0.001, 0.002, EQUAL),
        (-0.008, 0.002, CLOSE),
        (-0.03, 0.004, BELOW),
        (-0.03, 0.03, UNCLEAR),
        (0.0, 0.01, UNCLEAR),
        (0.0, 0.0, EQUAL),
    ],
)
def test_verdict(mean: float, se: float, expected: str) -> None:
    assert verdict({"mean": mean, "se": se}) == expected


def test_differences_are_paired_by_sample_and_seed() -> None:
    def result(right: list[int], test: str = "a") -> dict[str, Any]:
        return {"right": pack(np.array(right, bool)), "n_test": len(right), "test": test}

    ten = [1] * 8 + [0] * 2
    found = difference({0: result(ten)}, {0: result([1] * 9 + [0])})
    assert found is not None
    assert found["mean"] == pytest.approx(-0.1)
    assert found["se"] == pytest.approx(0.1)  # one of ten pairs differs
    alike = difference({0: result(ten), 1: result(ten)}, {0: result(ten), 1: result(ten)})
    assert alike == {"mean": 0.0, "se": 0.0, "n": 2}
    # Two seeds that disagree count more than their test samples.
    apart = difference({0: result(ten), 1: result(ten)}, {0: result([0] * 10), 1: result(ten)})
    assert apart is not None
    assert apart["se"] == pytest.approx(0.4)
    others = difference({0: result(ten, "a"), 1: result(ten, "b")}, {0: result(ten, "a"), 1: result(ten, "b")})
    assert others == {"mean": 0.0, "se": 0.0, "n": 2}
    assert difference({0: result(ten)}, {1: result(ten)}) is None
    assert difference({0: result(ten, "a")}, {0: result(ten, "b")}) is None


def entry(mean: float, se: float = 0.001, **more: Any) -> dict[str, Any]:
    """A row of a table, with what the claims look at."""
    gap = {"mean": mean, "se": se, "n": 3}
    chip = {"mean": 0.97 + mean, "sd": 0.001, "n": 3}
    base: dict[str, Any] = {"title": "a network", "n_test": 10_000, "minus": gap, "verdict": verdict(gap)}
    return base | {"chip": chip, "curves": {"wrong": [0.5, 0.05]}} | more


def answers(**parts: Any) -> list[dict[str, Any]]:
    usual: dict[str, Any] = {
        "main": "mnist-3", "headline": [], "steps": [], "test_steps": [], "bits": [], "statistics": [],
        "picture": None, "confirmation": [],
    }  # fmt: skip
    return findings.claims(usual | parts)


@pytest.mark.parametrize(
    ("gaps", "answer"),
    [
        ([(-0.001, 0.002), (0.005, 0.002)], "yes"),
        ([(-0.001, 0.002), (-0.006, 0.001)], "within 1 point"),
        ([(-0.001, 0.002), (-0.03, 0.001)], "depends on the network"),
        ([(-0.02, 0.001), (-0.03, 0.001)], "no"),
        ([(-0.02, 0.03)], "cannot tell"),
        ([(-0.02, 0.03), (0.0, 0.001)], "yes"),
        ([], "not measured"),
    ],
)
def test_claim_of_accuracy(gaps: list[tuple[float, float]], answer: str) -> None:
    claim = answers(headline=[entry(mean, se) for mean, se in gaps])[0]
    assert claim["answer"] == answer


def test_claim_of_long_spike_trains() -> None:
    def claim(*gaps: tuple[int, float, float]) -> tuple[str, str]:
        found = answers(steps=[entry(mean, se, steps=steps) for steps, mean, se in gaps])[1]
        return found["answer"], " ".join(found["lines"])

    answer, text = claim((1, -0.03, 0.001), (5, -0.008, 0.001), (10, -0.001, 0.001), (20, 0.0, 0.001))
    assert answer == "yes"
    assert "**yes, with T=10 or more**" in text
    assert "From T=10 on, longer spike trains gain nothing" in text
    answer, text = claim((1, -0.03, 0.001), (10, -0.008, 0.001), (20, -0.015, 0.001))
    assert answer == "approaches: yes, equals: no"
    assert "**no, at no length measured; within 1 point with T=10**" in text
    assert "best -0.80 (se 0.10) with T=10" in text
    answer, text = claim((1, -0.03, 0.001), (10, -0.03, 0.001))
    assert answer == "approaches: no, equals: no"
    answer, text = claim((1, -0.09, 0.001), (10, -0.01, 0.01))
    assert answer == "approaches: yes, equals: cannot tell"
    assert claim((1, 0.0, 0.1))[0] == "not measured"


def test_claim_of_quantised_weights() -> None:
    def row(name: str, mean: float, **more: Any) -> dict[str, Any]:
        setting = settings.with_bits(SETTINGS["mnist-3"], name).to_dict()
        gap = {"mean": mean, "se": 0.001, "n": 3}
        usual: dict[str, Any] = {"same_weights": name == "16", "largest": [390, 250], "widest": "16"}
        return entry(0.0, name=name, setting=setting, minus_widest=gap) | usual | more

    rows = [row("6", -0.04), row("8", -0.009), row("10", 0.0, same_weights=True), row("16", 0.0)]
    claim = answers(bits=rows)[2]
    assert claim["answer"] == "yes from 8 bits on, no with 6 bits"
    text = " ".join(claim["lines"])
    assert "8 bits are the fewest within 1 point" in text
    assert "10 bits have K, G and the rates of 16 bits and learned the very same weights" in text
    assert "390" in text
    rows[2] = row("10", -0.001)
    assert "10 bits have K, G and the rates of 16 bits, but other weights" in " ".join(answers(bits=rows)[2]["lines"])
    assert answers(bits=[row("6", -0.04), row("16", 0.0)])[2]["answer"] == "no"
    assert answers(bits=rows[:1])[2]["answer"] == "not measured"


def test_claim_of_two_streams() -> None:
    agrees, differs = {"agrees": True}, {"agrees": False}
    picture = {"positive": 3, "negative": 2, "closed": 0, "without_mistake": 0}
    assert answers(confirmation=[agrees])[3]["answer"] == "yes, on the simulated chip"
    assert answers(confirmation=[agrees, differs])[3]["answer"] == "NO: chip and model differ"
    assert answers(picture=picture)[3]["answer"].startswith("yes, on the golden model")
    assert answers(picture=picture | {"closed": 1}, confirmation=[agrees])[3]["answer"].startswith("NO: gradient")
    assert answers()[3]["answer"] == "not measured"
    assert answers(headline=[entry(0.0)])[4]["answer"] == "all networks learn by it"
    worse = entry(-0.5, curves={"wrong": [0.5, 0.6]})
    assert answers(headline=[worse])[4]["answer"] == "no"
    assert answers(headline=[worse, entry(0.0)])[4]["answer"] == "not always"
