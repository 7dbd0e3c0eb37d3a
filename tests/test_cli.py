"""The command line: help with examples, exit codes, one sentence per mistake, and a study in miniature."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from host import cli, datasets, jobs
from host.datasets import DatasetError
from host.errors import ChipError
from host.reproduce import cells, mh
from rtl.config import ChipConfig

runner = CliRunner()
COMMANDS = (
    "train", "demo", "evaluate", "datasets", "info", "report", "verilog", "import-nir", "export-nir", "reproduce",
    "bench", "baseline", "selftest", "bitstream", "fit",
)  # fmt: skip
SMALL = ["--backend", "golden", "--dataset", "moons", "--train-size", "20", "--timesteps", "8", "--hidden", "4"]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_an_example(command: str) -> None:
    result = runner.invoke(cli.app, [command, "--help"], terminal_width=200)
    assert result.exit_code == 0
    assert f"Example: spikeloop {command}" in result.output


def test_train_evaluate_report(tmp_path: Path) -> None:
    run = tmp_path / "x"
    arguments = ["train", *SMALL, "--steps", "30", "--die", "3", "--mismatch", "0.8", "--out", str(run)]
    result = runner.invoke(cli.app, arguments)
    assert result.exit_code == 0, result.output
    assert "Metropolis-Hastings" in result.output
    assert (run / "result.json").is_file()
    for arguments in (["evaluate", str(run)], ["evaluate", str(run), "--die", "4"], ["report", str(run)]):
        result = runner.invoke(cli.app, arguments)
        assert result.exit_code == 0, result.output
    # A finished run resumes to the same result.
    before = (run / "history.csv").read_bytes()
    assert runner.invoke(cli.app, ["train", "--resume", str(run)]).exit_code == 0
    assert (run / "history.csv").read_bytes() == before


def test_learning_on_the_chip(tmp_path: Path) -> None:
    run = tmp_path / "x"
    arguments = ["train", "--trainer", "ssnn-bp", "--backend", "golden", "--train-size", "200", "--epochs", "1"]
    result = runner.invoke(cli.app, [*arguments, "--hidden", "12", "--out", str(run)])
    assert result.exit_code == 0, result.output
    assert "SSNN-BP, learning on the chip" in result.output
    assert "gradient spikes" in result.output
    before = json.loads((run / "result.json").read_text())
    assert before["config"]["layers"] == [64, 12, 10]
    assert before["settings"]["train_size"] == 200
    for arguments in (["evaluate", str(run)], ["report", str(run)], ["train", "--resume", str(run)]):
        result = runner.invoke(cli.app, arguments)
        assert result.exit_code == 0, result.output
    after = json.loads((run / "result.json").read_text())
    assert {**after, "wall_s": 0} == {**before, "wall_s": 0}


def test_delays_trained_with_spike_times(tmp_path: Path) -> None:
    run = tmp_path / "x"
    arguments = ["train", "--trainer", "delgrad", "--backend", "golden", "--train-size", "200", "--epochs", "1"]
    arguments += ["--delays", "synaptic", "--distort", "threshold_spread=0.1", "--distort", "jitter=0.5", "--die", "1"]
    result = runner.invoke(cli.app, [*arguments, "--hidden", "6", "--steps-per-tau", "20", "--out", str(run)])
    assert result.exit_code == 0, result.output
    assert "delays: synaptic" in result.output
    assert "die 1, level 0, threshold_spread 0.1, jitter 0.5" in " ".join(result.output.split())
    found = json.loads((run / "result.json").read_text())
    assert found["config"]["layers"] == [4, 6, 3]
    assert found["config"]["delay_slots"] == 21
    assert found["die"]["jitter"] == 0.5
    for arguments in (["evaluate", str(run)], ["report", str(run)], ["train", "--resume", str(run)]):
        result = runner.invoke(cli.app, arguments)
        assert result.exit_code == 0, result.output


def test_binary_weights_with_calibration(tmp_path: Path) -> None:
    run = tmp_path / "x"
    arguments = ["train", "--trainer", "bisnn-bayes", "--backend", "golden", "--dataset", "moons-25", "--epochs", "2"]
    arguments += ["--train-size", "60", "--validation-size", "20", "--temperature", "validation", "--hidden", "8,6"]
    arguments += ["--timesteps", "10", "--batch-size", "20", "--members", "2", "--gradient", "local", "--kappa", "500"]
    result = runner.invoke(cli.app, [*arguments, "--prediction", "mode", "--out", str(run)])
    assert result.exit_code == 0, result.output
    assert "BiSNN, Bayesian, chip in the loop (mode)" in result.output
    assert "Calibration on the test set" in result.output
    assert result.output.index("mode ") < result.output.index("ensemble ")
    found = json.loads((run / "result.json").read_text())
    assert found["config"]["layers"] == [20, 8, 6]
    assert found["config"]["weight_bits"] == 1
    assert dict(found["settings"]["options"]) == {
        "batch_size": 20, "gradient": "local", "kappa": 500.0, "members": 2, "prediction": "mode",
        "temperature": "validation",
    }  # fmt: skip
    for arguments in (["evaluate", str(run)], ["report", str(run)], ["train", "--resume", str(run)]):
        result = runner.invoke(cli.app, arguments)
        assert result.exit_code == 0, result.output
        assert ("Brier" in result.output) == (arguments[0] != "report")
    after = json.loads((run / "result.json").read_text())
    assert {**after, "wall_s": 0} == {**found, "wall_s": 0}


def test_baseline() -> None:
    result = runner.invoke(cli.app, ["baseline", "--train-size", "100", "--hidden", "8,6", "--epochs", "2"])
    assert result.exit_code == 0, result.output
    assert "64-8-6-10" in result.output
    assert "test accuracy" in result.output


def test_verilog_of_a_chip_of_binary_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rtl.verilog.generate", lambda cfg, name: cfg.to_json())
    arguments = ["verilog", "--layers", "784,256", "--lanes", "64", "--binary-weights", "--out", str(tmp_path)]
    result = runner.invoke(cli.app, arguments)
    assert result.exit_code == 0, result.output
    cfg = ChipConfig.from_json((tmp_path / "spikeloop.v").read_text())
    assert cfg == ChipConfig((784, 256), lanes=64, binary_weights=True, die_tables=False)


def test_verilog_of_a_narrow_chip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rtl.verilog.generate", lambda cfg, name: cfg.to_json())
    arguments = ["verilog", "--layers", "4,3,2", "--neuron-lanes", "2", "--no-bernoulli", "--out", str(tmp_path)]
    result = runner.invoke(cli.app, arguments)
    assert result.exit_code == 0, result.output
    cfg = ChipConfig.from_json((tmp_path / "spikeloop.v").read_text())
    assert cfg == ChipConfig((4, 3, 2), neuron_lanes=2, bernoulli=False, die_tables=False)


def test_verilog_of_a_chip_that_learns(tmp_path: Path) -> None:
    arguments = ["verilog", "--layers", "4,3,2", "--lanes", "4", "--out", str(tmp_path), "--learning"]
    result = runner.invoke(cli.app, arguments)
    assert result.exit_code == 0, result.output
    learning = len((tmp_path / "spikeloop.v").read_bytes())
    assert runner.invoke(cli.app, arguments[:-1]).exit_code == 0
    assert learning > 1.2 * len((tmp_path / "spikeloop.v").read_bytes())


def test_interrupt_says_how_to_resume(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Asked:
        def __enter__(self):  # type: ignore[no-untyped-def]
            return lambda: True

        def __exit__(self, *_: object) -> None: ...

    run = tmp_path / "x"
    with monkeypatch.context() as patch:
        patch.setattr(jobs, "stop_on_interrupt", Asked)
        result = runner.invoke(cli.app, ["train", *SMALL, "--steps", "60", "--out", str(run)])
    assert result.exit_code == 130
    assert f"spikeloop train --resume {run}" in result.stderr
    assert not (run / "result.json").exists()
    result = runner.invoke(cli.app, ["train", "--resume", str(run)])
    assert result.exit_code == 0, result.output
    assert len((run / "history.csv").read_text().splitlines()) == 61


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["train", "--dataset", "iris"], "Unknown data set 'iris'; allowed are breast-cancer"),
        (["train", "--backend", "fpga"], "Unknown backend 'fpga'; allowed are golden, sim"),
        (["train", "--trainer", "sgd"], "Unknown trainer 'sgd'; allowed are mh, surrogate, ssnn-bp, delgrad"),
        (["train", "--mode", "x"], "Unknown mode"),
        (["train", "--trainer", "ssnn-bp", "--epochs", "0"], "Epochs 0: must be an integer from 1 on"),
        (["train", "--trainer", "ssnn-bp", "--encoding", "morse"], "Unknown encoding 'morse'"),
        (["train", "--trainer", "ssnn-bp", "--encoding", "events", "--backend", "golden"], "has no timed events"),
        (["train", "--trainer", "ssnn-bp", "--weight-bits", "3", "--backend", "golden"], "at least 4 with learning"),
        (["train", "--validation-size", "9"], "must be with the trainer ssnn-bp, delgrad, bisnn-st or bisnn-bayes"),
        (["train", "--trainer", "bisnn-st", "--kappa", "9"], "must be with the trainer bisnn-bayes, not bisnn-st"),
        (["train", "--members", "9"], "Setting members: must be with the trainer bisnn-bayes, not mh"),
        (
            ["train", "--trainer", "bisnn-st", "--weight-bits", "8"],
            "Weight bits 8: must be 1 with the trainer bisnn-st",
        ),
        (["train", "--trainer", "bisnn-st", "--hidden", ""], "Hidden layers: must be one or more"),
        (["train", "--trainer", "bisnn-st", "--read-out", "best"], "Unknown read-out 'best'; allowed are counts"),
        (["train", "--trainer", "bisnn-bayes", "--prediction", "x"], "Unknown prediction 'x'; allowed are ensemble"),
        (["train", "--trainer", "bisnn-bayes", "--temperature", "validation"], "must be with a validation set"),
        (
            ["train", "--trainer", "bisnn-bayes", "--kappa", "-1"],
            "Setting kappa = -1.0: must be a number from 0 to 1e+12",
        ),
        (["train", "--trainer", "bisnn-st", "--distort", "stuck=0.1", "--backend", "golden"], "synapses are exact"),
        (
            ["verilog", "--binary-weights", "--learning"],
            "ChipConfig.binary_weights = True: must be False with learning",
        ),
        (["verilog", "--binary-weights", "--weight-bits", "4"], "must be 1 or left out with binary_weights"),
        (
            ["train", "--trainer", "delgrad", "--delays", "all"],
            "Unknown kind of delays 'all'; allowed are none, axonal",
        ),
        (["train", "--trainer", "delgrad", "--steps-per-tau", "1"], "Steps per tau 1: must be from 2 to 1000"),
        (["train", "--distort", "jitter"], "Distortion 'jitter': must be NAME=SIZE"),
        (["train", "--distort", "heat=1"], "Unknown distortion 'heat'; allowed are positive_gain"),
        (["train", *SMALL, "--distort", "jitter=0.5"], "Distortion jitter: must be with delays"),
        (["train", "--distort", "leak=1", "--distort", "leak=2"], "Distortion leak: is given 2 times, must be once"),
        (["verilog", "--delay-slots", "1"], "ChipConfig.delay_slots = 1"),
        (["verilog", "--axonal-delays"], "must be False without delay_slots"),
        (["baseline", "--dataset", "iris"], "Unknown data set 'iris'"),
        (["baseline", "--epochs", "0"], "Epochs 0"),
        (["baseline", "--hidden", "x"], "must be sizes separated by commas"),
        (["train", *SMALL, "--train-size", "100000"], "must be an integer from 2 to 400"),
        (["train", *SMALL, "--hidden", "a,b"], "must be sizes separated by commas"),
        (["train", *SMALL, "--lanes", "3"], "a power of two from 4 to 128"),
        (["train", *SMALL, "--mismatch", "9"], "Mismatch 9.0"),
        (["train", "--resume", "nowhere"], "There is no run folder nowhere"),
        (["evaluate", "nowhere"], "There is no run folder nowhere"),
        (["report", "nowhere"], "There is no run folder nowhere"),
        (["verilog", "--layers", "0"], "ChipConfig.layers"),
        (["verilog", "--config", "nowhere.json"], "Cannot read the configuration"),
        (["reproduce", "magic"], "Unknown system 'magic'; allowed are mh"),
        (["reproduce", "mh", "--backend", "fpga"], "Unknown backend 'fpga'"),
    ],
)
def test_mistakes_get_one_sentence_and_exit_code_2(
    arguments: list[str], sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = runner.invoke(cli.app, arguments)
    assert result.exit_code == 2, result.output
    assert sentence in result.stderr
    assert result.stderr.count("\n") == 1


def test_corrupt_checkpoint(tmp_path: Path) -> None:
    (tmp_path / "checkpoint.npz").write_bytes(b"PK nothing")
    result = runner.invoke(cli.app, ["train", "--resume", str(tmp_path)])
    assert result.exit_code == 2
    assert "damaged" in result.stderr


def test_unknown_option_and_missing_argument() -> None:
    assert runner.invoke(cli.app, ["train", "--colour", "red"]).exit_code == 2
    assert runner.invoke(cli.app, ["evaluate"]).exit_code == 2


def test_failures_of_the_chip_exit_with_1(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_args: object, **_kwargs: object) -> None:
        raise ChipError("RUN at 0x0 was refused: BAD_LENGTH")

    monkeypatch.setattr(jobs, "train", fail)
    result = runner.invoke(cli.app, ["train", *SMALL, "--out", str(tmp_path)])
    assert result.exit_code == 1
    assert "was refused" in result.stderr


def test_datasets_and_info() -> None:
    result = runner.invoke(cli.app, ["datasets"])
    assert result.exit_code == 0
    assert "yin-yang" in result.output
    assert runner.invoke(cli.app, ["info"]).exit_code == 0


# ---- the study ------------------------------------------------------------------------------------------------------


def test_study_in_miniature(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> None:
        raise DatasetError("The file is nowhere.")

    info = replace(datasets.REGISTRY[mh.ORIGINAL], loader=missing)
    monkeypatch.setitem(datasets.REGISTRY, mh.ORIGINAL, info)
    monkeypatch.setattr(datasets, "_CACHE", {})
    setting = mh.Setting("level 2", mh.DIAGNOSTIC, (("level", 2.0),), 10, 20, False)
    plan = replace(
        mh.QUICK, dies=2, sizes=(10, 110), core_sizes=(10, 110), steps=20, updates=3, greedy_sizes=(10,),
        modes=tuple(mh.MODES), offline=(setting,),
    )  # fmt: skip
    monkeypatch.setattr(mh, "QUICK", plan)
    arguments = ["reproduce", "mh", "--quick", "--backend", "golden", "--jobs", "1", "--out", str(tmp_path)]
    monkeypatch.setattr(cells, "ProcessPoolExecutor", InProcess)
    result = runner.invoke(cli.app, arguments)
    assert result.exit_code == 0, result.output
    text = (tmp_path / "table.md").read_text()
    assert "were skipped: The file is nowhere." in text
    assert "## The two claims" in text
    assert "does not reach" in text or "times less data" in text
    assert len(list(tmp_path.glob("*.png"))) == 3
    # Again: everything comes from the cache; a damaged cell is computed again.
    stored = sorted((tmp_path / "cells").iterdir())
    stored[0].write_text("{")
    times = {path: path.stat().st_mtime_ns for path in stored}
    assert runner.invoke(cli.app, arguments).exit_code == 0
    assert [path for path in stored if path.stat().st_mtime_ns != times[path]] == [stored[0]]


class InProcess:
    """Stands in for the pool of processes."""

    def __init__(self, *_args: object, **_kwargs: object) -> None: ...

    def submit(self, work, *args):  # type: ignore[no-untyped-def]
        from concurrent.futures import Future

        future: Future[object] = Future()
        future.set_result(work(*args))
        return future

    def shutdown(self, **_kwargs: object) -> None: ...


def test_paired_differences() -> None:
    found = cells.paired({0: 0.9, 1: 0.8, 2: 0.7}, {0: 0.6, 1: 0.6, 3: 0.1})
    assert found is not None
    assert found["mean"] == pytest.approx(0.25)
    assert found["se"] == pytest.approx(0.05)
    assert found["reach_27"] == 1
    assert cells.paired({0: 1.0}, {1: 1.0}) is None
