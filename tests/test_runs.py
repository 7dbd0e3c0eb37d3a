"""Run folders: what is written, what is refused, and resuming through them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from host import jobs
from host.jobs import Interrupted, RunSpec, SpecError, train
from host.runs import REQUIRED, RunError, RunFolder
from host.trainers import CheckpointError, Progress

SPEC = RunSpec(
    dataset="moons", backend="golden", die=1, mismatch=1.0, train_size=30, steps=60, timesteps=8, hidden=(5,)
)


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


def test_resumed_run_equals_uninterrupted_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, broken = RunFolder.create(tmp_path / "whole"), RunFolder.create(tmp_path / "broken")
    expected = train(SPEC, whole, report=False)
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
            train(SPEC, broken, watch=watch, report=False)
    with pytest.raises(RunError, match=r"interrupted, go on with `spikeloop train --resume"):
        broken.read_result()
    resumed = train(SPEC, broken, resume=broken.read_checkpoint(), report=False)
    for name in ("accuracy", "chip", "read_outs", "acceptance"):
        assert resumed[name] == expected[name]
    assert (broken.path / "history.csv").read_bytes() == (whole.path / "history.csv").read_bytes()


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
        ({"trainer": "sgd"}, "Unknown trainer 'sgd'; allowed are mh, surrogate"),
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
