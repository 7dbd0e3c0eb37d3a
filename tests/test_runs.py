"""Run folders: what is written, what is refused, and resuming through them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from host import datasets, jobs
from host.die import Die
from host.jobs import Interrupted, RunSpec, SpecError, train
from host.runs import REQUIRED, RunError, RunFolder
from host.trainers import CheckpointError, Progress

SPEC = RunSpec(
    dataset="moons", backend="golden", die=1, mismatch=1.0, train_size=30, steps=60, timesteps=8, hidden=(5,)
)
TIMES = RunSpec.usual("delgrad", backend="golden", train_size=200, epochs=3, hidden=(8,), steps_per_tau=20)
ON_CHIP = RunSpec.usual("ssnn-bp", backend="golden", train_size=300, epochs=2, validation_size=40, hidden=(16,))


def test_a_run_leaves_everything_behind(tmp_path: Path) -> None:
    run = RunFolder.create(tmp_path / "deep" / "x")
    result = train(SPEC, run)
    files = {path.name for path in run.path.iterdir()}
    assert {"result.json", "history.csv", "checkpoint.npz", "network.npz", "evaluation.npz", "report.html"} <= files
    assert {"learning-curve.png", "raster.png", "confusion.png", "weights.png", "die.png"} <= files
    stored = run.read_result()
    assert set(REQUIRED) <= set(stored)
    assert stored["accuracy"].keys() == {"train", "test"}
    assert set(stored["chip"]) >= {"samples", "timesteps", "cycles", "synaptic_ops", "spikes"}
    assert stored["chip"]["timesteps"] == 8 * stored["chip"]["samples"] > 0
    assert stored["baselines"].keys() == {"logistic regression", "majority class"}
    assert stored["die"]["seed"] == 1
    assert stored == json.loads(json.dumps(result))
    history = run.read_history()
    assert len(history["step"]) == 60
    assert RunSpec.from_dict(stored["settings"]) == SPEC


def test_usual_settings_of_a_trainer() -> None:
    assert RunSpec.usual("mh", train_size=None) == RunSpec()
    assert RunSpec.usual("mh", timesteps=8, hidden=()) == RunSpec(timesteps=8, hidden=())
    spec = RunSpec.usual("ssnn-bp", lanes=4)
    assert (spec.dataset, spec.train_size, spec.timesteps, spec.hidden) == ("digits", None, 10, (64,))
    assert (spec.lanes, spec.weight_bits, spec.state_bits, spec.encoding) == (4, 10, 24, "bernoulli")
    cfg = spec.config(spec.split())
    assert cfg.layers == (64, 64, 10)
    assert cfg.learning
    assert not cfg.die_tables
    assert RunSpec.usual("ssnn-bp", die=3).config(spec.split()).die_tables
    assert not RunSpec().config(spec.split()).learning


def test_the_chip_of_a_trainer_of_delays_has_what_it_needs() -> None:
    spec = RunSpec.usual("delgrad")
    assert (spec.dataset, spec.epochs, spec.hidden, spec.weight_bits) == ("yin-yang", 50, (30,), 8)
    split = spec.split()
    cfg = spec.config(split)
    assert (cfg.layers, cfg.delay_slots, cfg.axonal_delays, cfg.die_tables) == ((4, 30, 3), 51, True, False)
    assert len(split.y_validation) == 1000
    assert len(RunSpec.usual("delgrad", validation_size=30).split().y_validation) == 30
    assert RunSpec.usual("delgrad", delays="none").config(split).delay_slots == 0
    assert not RunSpec.usual("delgrad", delays="synaptic").config(split).axonal_delays
    noisy = RunSpec.usual("delgrad", distortions=(("jitter", 0.5),), die=4)
    assert noisy.config(split).die_tables
    assert noisy.draw_die() == Die(4, 0.0, jitter=0.5)
    assert RunSpec.from_dict(noisy.to_dict()) == noisy


def test_a_run_that_learns_on_the_chip(tmp_path: Path) -> None:
    run = RunFolder.create(tmp_path)
    result = train(ON_CHIP, run)
    assert result["system"] == "ssnn-bp"
    assert result["accuracy"]["test"] > 0.7
    assert result["config"]["learning"]
    assert result["chip"]["gradient_spikes"] > 0
    assert result["chip"]["samples"] == 2 * (300 + 40)
    assert result["read_outs"].keys() == {"potential", "count"}
    assert result["read_outs"]["potential"] == result["accuracy"]["test"]
    assert result["baselines"].keys() == {"logistic regression", "majority class"}
    history = run.read_history()
    assert history["epoch"].tolist() == [1, 2]
    assert np.isfinite(history["validation_accuracy"]).all()
    page = (run.path / "report.html").read_text()
    assert "SSNN-BP, learning on the chip" in page
    assert "gradient spikes" in page
    assert page.count("data:image/png;base64,") >= 5
    found = jobs.evaluate_run(run)
    assert found["accuracy"] == result["accuracy"]["test"]
    assert jobs.evaluate_run(run, die=1)["die"] == repr(ON_CHIP.usual("ssnn-bp", die=1).draw_die())


def test_timed_events_on_the_chip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A camera that sees one input flicker per class."""
    rng = np.random.default_rng(0)
    labels = np.arange(90) % 3
    times = np.sort(rng.integers(0, 1000, (90, 20)), axis=1).astype(np.int32)
    inputs = np.where(rng.random((90, 20)) < 0.8, labels[:, None], rng.integers(0, 6, (90, 20))).astype(np.uint16)
    recordings = datasets.Recordings(times.ravel(), inputs.ravel(), np.arange(91) * 20, 6, 1000)
    features = np.stack([np.bincount(row, minlength=6) for row in inputs]).astype(np.uint8)
    data = datasets.Dataset("camera", features, labels, ("a", "b", "c"), 60, recordings=recordings)
    monkeypatch.setitem(datasets.REGISTRY, "camera", datasets.DatasetInfo("camera", "", "", "", lambda: data))
    monkeypatch.setattr(datasets, "_CACHE", {})
    spec = RunSpec.usual(
        "ssnn-bp", dataset="camera", backend="golden", encoding="events", hidden=(8,), lanes=4, epochs=5
    )
    run = RunFolder.create(tmp_path)
    result = train(spec, run)
    assert result["accuracy"]["test"] > 0.8
    assert jobs.evaluate_run(run)["accuracy"] == result["accuracy"]["test"]


@pytest.mark.parametrize("spec", [SPEC, ON_CHIP, TIMES], ids=["mh", "ssnn-bp", "delgrad"])
def test_resumed_run_equals_uninterrupted_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spec: RunSpec) -> None:
    whole, broken = RunFolder.create(tmp_path / "whole"), RunFolder.create(tmp_path / "broken")
    expected = train(spec, whole, report=False)
    seen: list[int] = []

    def watch(_title: str, progress: Progress) -> None:
        seen.append(progress.step)

    class Asked:
        """Ctrl-C arrives after the third report."""

        def __enter__(self) -> Any:
            return lambda: len(seen) == 3

        def __exit__(self, *_: object) -> None: ...

    with monkeypatch.context() as patch:
        patch.setattr(jobs, "stop_on_interrupt", Asked)
        with pytest.raises(Interrupted):
            train(spec, broken, watch=watch, report=False)
    with pytest.raises(RunError, match=r"interrupted, go on with `spikeloop train --resume"):
        broken.read_result()
    assert broken.read_checkpoint().meta["spec"] == spec.to_dict()
    resumed = train(spec, broken, resume=broken.read_checkpoint(), report=False)
    for name in ("accuracy", "chip", "read_outs"):
        assert resumed.get(name) == expected.get(name)
    assert resumed.get("acceptance") == expected.get("acceptance")
    history, again = whole.read_history(), broken.read_history()
    assert history.keys() == again.keys()
    for name in history.keys() - {"seconds"}:
        assert np.array_equal(history[name], again[name]), name


def test_checkpoint_of_another_spec(tmp_path: Path) -> None:
    run = RunFolder.create(tmp_path)
    train(SPEC, run, report=False)
    with pytest.raises(CheckpointError, match="another chip configuration"):
        train(RunSpec(**{**SPEC.to_dict(), "hidden": (4,)}), run, resume=run.read_checkpoint(), report=False)
    with pytest.raises(CheckpointError, match="does not say how"):
        RunSpec.from_dict({"colour": 3})


def test_damaged_and_missing_files(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="no run folder"):
        RunFolder.open(tmp_path / "nothing")
    run = RunFolder.create(tmp_path)
    with pytest.raises(RunError, match=r"no result\.json"):
        run.read_result()
    for text, message in (("{", "damaged"), ("[]", "no result"), ('{"system": 1}', "no result")):
        (tmp_path / "result.json").write_text(text)
        with pytest.raises(RunError, match=message):
            run.read_result()
    for call in (run.read_history, run.read_evaluation):
        with pytest.raises(RunError, match="missing or damaged"):
            call()
    (tmp_path / "evaluation.npz").write_bytes(b"PK\3\4 not really")
    with pytest.raises(RunError, match="missing or damaged"):
        run.read_evaluation()
    with pytest.raises(RunError, match="lacks the fields"):
        run.write_result({"system": "mh"})


def test_unwritable_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="Cannot write to the run folder"):
        RunFolder.create(tmp_path / "file" / "x")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"trainer": "sgd"}, "Unknown trainer 'sgd'; allowed are mh, surrogate, ssnn-bp, delgrad"),
        ({"mode": "x"}, "Unknown mode"),
        ({"dataset": "iris"}, "Unknown data set 'iris'; allowed are breast-cancer"),
        ({"backend": "fpga"}, "Unknown backend 'fpga'; allowed are golden, sim"),
        ({"read_out": "x"}, "Unknown read-out"),
        ({"encoding": "x"}, "Unknown encoding"),
        ({"start": "x"}, "Unknown start"),
        ({"mismatch": -1.0}, "Mismatch"),
        ({"mismatch": float("nan")}, "Mismatch"),
        ({"die": -1}, "Die"),
        ({"seed": -1}, "Seed"),
        ({"steps": 0}, "Steps"),
        ({"timesteps": 0}, "Time steps"),
        ({"epochs": 0}, "Epochs 0: must be an integer from 1 on"),
        ({"encoding": "events"}, "must be with the trainer ssnn-bp, not mh"),
        ({"validation_size": 10}, "must be with the trainer ssnn-bp or delgrad, not mh"),
        ({"trainer": "delgrad", "start": "backprop"}, "must be 'random' with the trainer delgrad"),
        ({"trainer": "ssnn-bp", "start": "backprop"}, "Start 'backprop': must be 'random' with the trainer ssnn-bp"),
    ],
)
def test_bad_specs(values: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        RunSpec(**values)


def test_start_from_backprop(tmp_path: Path) -> None:
    run = RunFolder.create(tmp_path)
    result = train(RunSpec(**{**SPEC.to_dict(), "start": "backprop", "steps": 20}), run, report=False)
    assert result["settings"]["start"] == "backprop"
    assert np.isfinite(result["accuracy"]["test"])
