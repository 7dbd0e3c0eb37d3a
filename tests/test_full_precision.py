"""The float network beside the binary ones: its neurons, that it learns, that interruptions leave no trace."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from host import Chip, datasets
from host.encoding import input_spikes
from host.trainers import (
    BinaryStraightThrough,
    CheckpointError,
    FullPrecision,
    Progress,
    StopTraining,
    TrainingError,
    checkpoint,
)
from host.trainers.full_precision import integrate
from rtl.config import ChipConfig

DATA = datasets.split("digits", seed=0, validation_size=200)
X, Y = DATA.x_train[:240], DATA.y_train[:240]
HELD = (DATA.x_validation, DATA.y_validation)


def small(layers: Any = (64, 48), **settings: Any) -> FullPrecision:
    return FullPrecision(layers, **{"epochs": 2, "batch_size": 60, "timesteps": 8, "seed": 5, **settings})


def same(first: FullPrecision, second: FullPrecision) -> None:
    assert all(np.array_equal(a, b) for a, b in zip(first.latent_, second.latent_, strict=True))
    assert all(np.array_equal(a, b) for a, b in zip(first._training.moments, second._training.moments, strict=True))
    for name in first.history_.keys() - {"seconds"}:
        assert np.array_equal(first.history_[name], second.history_[name], equal_nan=True), name
    assert first.cost_ == second.cost_


def test_neurons_follow_the_equations() -> None:
    drive = np.random.default_rng(1).normal(0.5, 3, (3, 20, 5)).astype(np.float32)
    spikes, gates = integrate(drive, 16.0, 12.0)
    for sample, i in np.ndindex(3, 5):
        current = v = 0.0
        for t in range(20):
            current = (1 - 629 / 4096) * current + drive[sample, t, i]
            v = (1 - 390 / 4096) * v + current
            assert spikes[sample, t, i] == (v >= 8)
            assert gates[sample, t, i] == (abs(v - 8) < 12)
            v -= 16 * (v >= 8)
    assert 0.1 < spikes.mean() < 0.9
    assert 0.1 < gates.mean() < 0.9


def test_binary_weights_spike_nearly_as_on_the_chip() -> None:
    """What is left is the rounding of the chip's states."""
    cfg = ChipConfig((64, 48), lanes=64, binary_weights=True)
    weights = [np.random.default_rng(2).choice(np.array([-1, 1], np.int32), (64, 48))]
    model = small(timesteps=25)
    spikes, gates = model._forward([weights[0].astype(np.float32)], X, seed=3)
    with Chip(cfg) as chip:
        chip.load(BinaryStraightThrough(chip).network_of(weights))
        out = chip.run(X, steps=25, seed=3, record=("raster", "gate"))
    assert np.array_equal(spikes[0], input_spikes(cfg, X, 25, seed=3))
    assert 0 < np.mean(spikes[1] != out.raster[0]) < 0.01
    assert np.mean(gates[0] != out.gate[0]) < 0.01
    assert 0.05 < out.raster[0].mean() < 0.5


@pytest.mark.parametrize("read_out", ["counts", "raster+gate"])
@pytest.mark.parametrize("gradient", ["bptt", "local"])
def test_learns_digits(read_out: str, gradient: str) -> None:
    model = FullPrecision(
        (64, 128, 64), epochs=8, batch_size=32, read_out=read_out, gradient=gradient, learning_rate=0.05
    )
    assert model.fit(DATA.x_train, DATA.y_train, *HELD) is model
    assert model.score(*HELD) > 0.85
    assert model.score(*HELD) == model.history_["accuracy_validation"][-1]
    assert model.history_["loss"][-1] < 0.5 * model.history_["loss"][0]
    assert model.cost_ == {"samples": 8 * (992 + 200), "timesteps": 8 * (992 + 200) * 25}
    assert [weights.shape for weights in model.latent_] == [(64, 128), (128, 64)]


def test_both_read_outs_of_rasters_are_one() -> None:
    same(small().fit(X, Y), small(read_out="recompute").fit(X, Y))
    assert not np.array_equal(small().fit(X, Y).latent_[0], small(read_out="counts").fit(X, Y).latent_[0])


def test_predictions_do_not_depend_on_how_samples_are_cut() -> None:
    model = small(encoding="bernoulli").fit(X, Y)
    many = np.concatenate([DATA.x_train, DATA.x_validation])
    p = model.predict_proba(many)
    assert p.shape == (1200, 10)
    assert np.allclose(p.sum(axis=1), 1)
    assert np.allclose(p[:300], model.predict_proba(many[:300]), atol=1e-6)
    assert np.array_equal(model.predict(many), p.argmax(axis=1))


def test_temperature() -> None:
    plain, fitted = small().fit(X, Y, *HELD), small(temperature="validation").fit(X, Y, *HELD)
    p = plain.predict_proba(HELD[0]) ** fitted.temperature_
    assert fitted.temperature_ != 1
    assert np.allclose(fitted.predict_proba(HELD[0]), p / p.sum(axis=1, keepdims=True))


def test_seeds_and_clones() -> None:
    model = small().fit(X, Y)
    same(model, clone(model).fit(X, Y))
    assert not np.array_equal(model.latent_[0], small(seed=6).fit(X, Y).latent_[0])
    with pytest.raises(NotFittedError, match="not fitted yet; call fit"):
        clone(model).predict(X)


def test_resumed_training_equals_uninterrupted_one(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"encoding": "bernoulli", "layers": (64, 24, 16)}
    whole = small(**settings).fit(X, Y, *HELD)
    for last in range(1, 9):

        def stop(progress: Progress, last: int = last) -> None:
            if progress.step == last:
                raise StopTraining

        broken = small(**settings).fit(X, Y, *HELD, callback=stop)
        assert len(broken.history_["epoch"]) == last // 4
        checkpoint.save(tmp_path / "c.npz", broken.state_dict())
        resumed = small(**settings).fit(X, Y, *HELD, resume=checkpoint.load(tmp_path / "c.npz"))
        same(whole, resumed)
        assert np.array_equal(whole.predict_proba(X), resumed.predict_proba(X))
    with pytest.raises(CheckpointError, match="another chip configuration"):
        small().fit(X, Y, *HELD, resume=whole.state_dict())


def test_there_is_nothing_of_a_chip() -> None:
    model = small(reset_size=1 << 20)
    for name in ("chip", "shift", "network_", "present", "scores_of"):
        assert not hasattr(model, name), name
    assert "shift" not in model.get_params()
    model.check_settings()
    with pytest.raises(TrainingError, match="this network has 64 inputs"):
        model.fit(X[:, :3], Y)
    with pytest.raises(TrainingError, match="the network takes uint8 intensities"):
        model.fit(X / 255.0, Y)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"layers": (64,)}, r"Setting layers = \(64,\): .*must be a sequence of 2 to 8 sizes"),
        ({"layers": (64, 0)}, r"Setting layers = \(64, 0\): .*must be integers from 1"),
        ({"layers": 5}, "Setting layers = 5"),
        ({"layers": (65535, 193, 8)}, r"Setting layers = \(65535, 193, 8\): .*must be small enough"),
        ({"learning_rate": -1}, "Setting learning_rate"),
        ({"timesteps": 0}, "Setting timesteps"),
        ({"gradient": "x"}, "must be one of bptt, local"),
    ],
    ids=str,
)
def test_bad_settings(setting: dict[str, Any], message: str) -> None:
    with pytest.raises(TrainingError, match=message):
        small(**setting).fit(X, Y)
