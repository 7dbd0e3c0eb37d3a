"""Run folders: what is written, what is refused, and resuming through them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from host import datasets, jobs
from host.calibration import measures
from host.die import Die
from host.jobs import Interrupted, RunSpec, SpecError, train
from host.runs import REQUIRED, RunError, RunFolder
from host.trainers import CheckpointError, Progress, TrainingError

SPEC = RunSpec(
    dataset="moons", backend="golden", die=1, mismatch=1.0, train_size=30, steps=60, timesteps=8, hidden=(5,)
)
TIMES = RunSpec.usual("delgrad", backend="golden", train_size=200, epochs=3, hidden=(8,), steps_per_tau=20)
BINARY = RunSpec.usual(
    "bisnn-bayes", backend="golden", dataset="moons-10", train_size=120, validation_size=60, timesteps=15, hidden=(32,),
    lanes=8, epochs=15, batch_size=20, gain=10.0, rate=0.03, kappa=500.0, members=3, temperature="validation",
)  # fmt: skip
ON_CHIP = RunSpec.usual("ssnn-bp", backend="golden", train_size=300, epochs=2, validation_size=40, hidden=(16,))


ST = {"trainer": "bisnn-st", "weight_bits": 1, "read_out": "counts"}


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


def test_the_chip_of_binary_weights_has_no_neurons_for_classes() -> None:
    spec = RunSpec.usual("bisnn-st", batch_size=32, gain=None)
    assert (spec.dataset, spec.epochs, spec.timesteps, spec.hidden) == ("digits", 60, 25, (128,))
    assert (spec.encoding, spec.read_out, spec.options) == ("rate", "raster+gate", (("batch_size", 32),))
    cfg = spec.config(spec.split())
    assert (cfg.layers, cfg.lanes, cfg.weight_bits, cfg.binary_weights) == ((64, 128), 64, 1, True)
    # One chip whatever the die, so that a network can be moved to another one.
    assert RunSpec.usual("bisnn-st", die=3).config(spec.split()) == cfg
    assert RunSpec.usual("bisnn-st", die=3).draw_die() == Die(3, 1.0, kinds=("threshold", "leak"))
    assert RunSpec.from_dict(json.loads(json.dumps(BINARY.to_dict()))) == BINARY
    assert jobs.baselines_for(spec) == ("the same network, full precision", "logistic regression", "majority class")


def test_a_run_with_a_posterior_of_binary_weights(tmp_path: Path) -> None:
    run = RunFolder.create(tmp_path)
    result = train(BINARY, run, baselines=jobs.baselines_for(BINARY)[:1])
    assert list(result["calibration"]) == ["ensemble", "mode"]
    assert result["accuracy"]["test"] == result["calibration"]["ensemble"]["accuracy"] > 0.9
    assert set(result["calibration"]["mode"]) == {"accuracy", "ece", "nll", "brier", "confidence"}
    assert result["temperature"] != 1
    assert result["baselines"]["the same network, full precision"] > 0.7
    # Every epoch: 6 updates of 20 samples and the validation set; at the end the mode and 3 members see it once more.
    assert result["chip"]["samples"] == 15 * (6 * 20 + 60) + 4 * 60
    evaluation = run.read_evaluation()
    assert result["calibration"] == {
        kind: measures(evaluation[f"probabilities_{kind}"], evaluation["labels"]) for kind in ("ensemble", "mode")
    }
    assert not np.array_equal(evaluation["probabilities_ensemble"], evaluation["probabilities_mode"])
    assert np.array_equal(evaluation["weights_0"] < 0, evaluation["latent_0"] < 0)
    assert np.abs(evaluation["latent_0"]).max() < 1
    page = (run.path / "report.html").read_text()
    for text in ("BiSNN, Bayesian, chip in the loop (ensemble)", "Calibration", "to the power of", "20-32"):
        assert text in page
    # The ensemble comes back from the checkpoint, with as many presentations: the mode and 3 members.
    found = jobs.evaluate_run(run)
    assert found["calibration"] == result["calibration"]
    assert found["accuracy"] == result["accuracy"]["test"]
    assert found["presentations"] == 4 * 2000
    moved = jobs.evaluate_run(run, distortions=(("gaussian_threshold", 4.0),), die=1)
    assert moved["accuracy"] < found["accuracy"]


def test_a_straight_through_run_on_a_die(tmp_path: Path) -> None:
    spec = RunSpec.usual(
        "bisnn-st", backend="golden", dataset="moons-10", train_size=100, timesteps=10, hidden=(6,), lanes=4, epochs=2,
        read_out="counts", batch_size=25, distortions=(("gaussian_threshold", 3.0),), die=2,
    )  # fmt: skip
    run = RunFolder.create(tmp_path)
    result = train(spec, run)
    assert list(result["calibration"]) == ["network"]
    assert result["temperature"] == 1
    evaluation = run.read_evaluation()
    assert evaluation["die_threshold"].shape == evaluation["die_leak"].shape == (6,)
    assert evaluation["die_threshold"].min() < 0
    assert "die_gain_positive" not in evaluation
    assert "to the power of" not in (run.path / "report.html").read_text()
    assert jobs.evaluate_run(run)["calibration"] == result["calibration"]


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


@pytest.mark.parametrize("spec", [SPEC, ON_CHIP, TIMES, BINARY], ids=["mh", "ssnn-bp", "delgrad", "bisnn-bayes"])
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
    for name in ("accuracy", "chip", "read_outs", "calibration"):
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
        ({"validation_size": 10}, "must be with the trainer ssnn-bp, delgrad, bisnn-st or bisnn-bayes, not mh"),
        ({"trainer": "delgrad", "start": "backprop"}, "must be 'random' with the trainer delgrad"),
        ({"trainer": "ssnn-bp", "start": "backprop"}, "Start 'backprop': must be 'random' with the trainer ssnn-bp"),
        (ST | {"weight_bits": 8}, "Weight bits 8: must be 1 with the trainer bisnn-st"),
        (ST | {"hidden": ()}, "Hidden layers: must be one or more with the trainer bisnn-st"),
        (ST | {"read_out": "best"}, "Unknown read-out 'best'; allowed are counts, raster.gate, recompute"),
        (ST | {"encoding": "events"}, "must be with the trainer ssnn-bp, not bisnn-st"),
        (ST | {"options": (("kappa", 3.0),)}, "Setting kappa: must be with the trainer bisnn-bayes, not bisnn-st"),
        (ST | {"options": (("colour", 3.0),)}, "Unknown setting 'colour'; allowed are batch_size"),
        (ST | {"options": (("gradient", "x"),)}, "Unknown gradient 'x'; allowed are bptt, local"),
        (ST | {"options": (("temperature", "hot"),)}, "Unknown temperature 'hot'; allowed are none, validation"),
        (ST | {"options": (("temperature", "validation"),)}, "must be with a validation set"),
        ({"options": (("gain", 3.0),)}, "Setting gain: must be with the trainer bisnn-st or bisnn-bayes, not mh"),
    ],
)
def test_bad_specs(values: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        RunSpec(**values)


@pytest.mark.parametrize(
    ("trainer", "setting", "message"),
    [
        ("bisnn-bayes", {"members": 0}, "Setting members = 0: must be an integer from 1"),
        ("bisnn-bayes", {"kappa": -1.0}, "Setting kappa = -1.0"),
        ("bisnn-bayes", {"prior": 2.0}, "Setting prior from 2 to 2: must be probabilities"),
        ("bisnn-bayes", {"sharpness": -1.0}, "Setting sharpness = -1.0"),
        ("bisnn-st", {"batch_size": 0}, "Setting batch_size = 0"),
        ("bisnn-st", {"gain": float("nan")}, "Setting gain = nan"),
        ("bisnn-st", {"temperature": float("nan")}, "Setting temperature = nan"),
        ("mh", {"beta": float("nan")}, "Setting beta = nan"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_bad_settings_of_a_trainer_are_refused_before_a_chip_is_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trainer: str, setting: dict[str, Any], message: str
) -> None:
    def opened(*arguments: Any, **settings: Any) -> Any:
        raise AssertionError("a chip was opened")

    monkeypatch.setattr("host.chip.Chip", opened)
    spec = RunSpec.usual(trainer, **setting)
    with pytest.raises(TrainingError, match=message):
        train(spec, RunFolder.create(tmp_path))


def test_start_from_backprop(tmp_path: Path) -> None:
    run = RunFolder.create(tmp_path)
    result = train(RunSpec(**{**SPEC.to_dict(), "start": "backprop", "steps": 20}), run, report=False)
    assert result["settings"]["start"] == "backprop"
    assert np.isfinite(result["accuracy"]["test"])
