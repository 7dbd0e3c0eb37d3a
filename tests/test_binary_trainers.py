"""Trainers of binary networks: that they learn, what they write to the chip, and that interruptions leave no trace."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from scipy.special import expit, logit
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from host import Chip, Die, Events, Network, datasets
from host.calibration import apply_temperature, negative_log_likelihood
from host.encoding import input_spikes
from host.errors import UserError
from host.trainers import (
    BayesianBinary,
    BinaryStraightThrough,
    CheckpointError,
    Progress,
    State,
    StopTraining,
    TrainingError,
    binary,
    checkpoint,
)
from host.trainers.binary import draw
from rtl.config import ChipConfig

CFG = ChipConfig((64, 48), lanes=64, binary_weights=True, die_tables=False)
DATA = datasets.split("digits", seed=0, validation_size=200)
X, Y = DATA.x_train[:240], DATA.y_train[:240]
HELD = (DATA.x_validation, DATA.y_validation)
BOTH: Any = pytest.mark.parametrize("kind", [BinaryStraightThrough, BayesianBinary])


@pytest.fixture
def chip() -> Iterator[Chip]:
    with Chip(CFG) as chip:
        yield chip


def small(kind: Any, chip: Any, **settings: Any) -> Any:
    """Two epochs of four updates."""
    return kind(chip, **{"epochs": 2, "batch_size": 60, "timesteps": 8, "seed": 5, **settings})


def same(first: Any, second: Any) -> None:
    """Two trainings agree in everything but the time they took."""
    assert first.network_ == second.network_
    assert getattr(first, "networks_", None) == getattr(second, "networks_", None)
    assert all(np.array_equal(a, b) for a, b in zip(first.latent_, second.latent_, strict=True))
    assert all(np.array_equal(a, b) for a, b in zip(first._training.moments, second._training.moments, strict=True))
    for name in first.history_.keys() - {"seconds"}:
        assert np.array_equal(first.history_[name], second.history_[name], equal_nan=True), name
    assert first.cost_ == second.cost_
    assert first.temperature_ == second.temperature_


class Spy:
    """A chip that notes what it is asked to do, and is interrupted in presentation number `last`."""

    def __init__(self, chip: Chip, last: int = -1) -> None:
        self._chip, self._last = chip, last
        self.loaded: list[Network] = []
        self.runs: list[dict[str, Any]] = []
        self.encoded: list[Any] = []
        self.repeated: list[Any] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._chip, name)

    def load(self, network: Network) -> None:
        self.loaded.append(network)
        self._chip.load(network)

    def run(self, x: Any, **settings: Any) -> Any:
        self.runs.append({"x": x, **settings})
        self._presented()
        return self._chip.run(x, **settings)

    def encode(self, x: Any, **settings: Any) -> Any:
        self.encoded.append(self._chip.encode(x, **settings))
        return self.encoded[-1]

    def run_encoded(self, encoded: Any) -> Any:
        self.repeated.append(encoded)
        self._presented()
        return self._chip.run_encoded(encoded)

    def _presented(self) -> None:
        if len(self.runs) + len(self.repeated) == self._last:
            raise KeyboardInterrupt


# ---- learning -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("read_out", ["counts", "raster+gate", "recompute"])
@pytest.mark.parametrize(
    ("kind", "settings"),
    [(BinaryStraightThrough, {}), (BayesianBinary, {"rate": 0.03, "epochs": 6})],
    ids=["straight-through", "bayes"],
)
def test_learns_digits(kind: Any, settings: dict[str, Any], read_out: str) -> None:
    with Chip(ChipConfig((64, 128), lanes=64, binary_weights=True, die_tables=False)) as chip:
        model = kind(chip, **{"epochs": 3, "batch_size": 32, "read_out": read_out, **settings})
        assert model.fit(DATA.x_train, DATA.y_train) is model
        assert model.score(*HELD) > 0.85
    history = model.history_
    assert history["loss"][-1] < 0.5 * history["loss"][0]
    assert history["accuracy_train"][-1] > history["accuracy_train"][0]
    assert np.diff(history["rate"]).max() < 0
    assert 0.02 < history["firing"].min() < history["firing"].max() < 0.5


@pytest.mark.parametrize("gradient", ["bptt", "local"])
@BOTH
def test_learns_through_two_layers(kind: Any, gradient: str) -> None:
    data = datasets.split("moons-10", 200, seed=0)
    with Chip(ChipConfig((20, 64, 64), lanes=64, binary_weights=True, die_tables=False)) as chip:
        rate = {"kappa": 1000.0, "rate": 0.03} if kind is BayesianBinary else {}
        model = kind(chip, epochs=15, batch_size=25, timesteps=15, gain=10.0, gradient=gradient, **rate)
        model.fit(data.x_train, data.y_train)
        assert model.score(data.x_test[:500], data.y_test[:500]) > 0.93
        assert model.readout_.shape == (2, 64)


@BOTH
def test_learns_from_events_and_random_spikes(chip: Chip, kind: Any) -> None:
    """An input is what the encoder makes of it: Events of the same spikes train the same network."""
    events = Events.from_dense(input_spikes(CFG, X, 8))
    images, spikes = small(kind, chip).fit(X, Y), small(kind, chip).fit(events, Y)
    assert np.array_equal(images.latent_[0], spikes.latent_[0])
    assert np.array_equal(images.predict_proba(X), spikes.predict_proba(events))
    random = small(kind, chip, encoding="bernoulli", epochs=8, batch_size=20).fit(X, Y)
    assert random.history_["accuracy_train"][-1] > random.history_["accuracy_train"][0] + 0.2


def test_gates_of_the_chip_and_recomputed_ones_train_alike_on_an_ideal_chip_only() -> None:
    cfg = ChipConfig((64, 48), lanes=64, binary_weights=True)
    for die, equal in ((None, True), (Die.only(seed=1, gaussian_threshold=1.0), False)):
        with Chip(cfg, die=die) as chip:
            first = small(BinaryStraightThrough, chip).fit(X, Y)
            second = small(BinaryStraightThrough, chip, read_out="recompute").fit(X, Y)
        assert np.array_equal(first.latent_[0], second.latent_[0]) == equal


def test_learns_on_a_die_with_thresholds_of_its_own() -> None:
    """In the loop the threshold errors are learned away; the network of the ideal chip does not carry over as well."""
    cfg, settings = ChipConfig((64, 128), lanes=64, binary_weights=True), {"epochs": 4, "batch_size": 32}
    with Chip(cfg) as ideal, Chip(cfg, die=Die.only(seed=3, gaussian_threshold=4.0)) as distorted:
        deployed = BinaryStraightThrough(ideal, **settings).fit(DATA.x_train, DATA.y_train)
        deployed.chip = distorted
        looped = BinaryStraightThrough(distorted, **settings).fit(DATA.x_train, DATA.y_train)
        assert looped.score(*HELD) > deployed.score(*HELD) + 0.03


# ---- what the chip gets ---------------------------------------------------------------------------------------------


def test_the_network_is_the_documented_one() -> None:
    cfg = ChipConfig((20, 64, 16), lanes=16, binary_weights=True)
    weights = [np.ones(shape, np.int32) for shape in cfg.shapes]
    with Chip(cfg) as chip:
        network = BinaryStraightThrough(chip).network_of(weights)
        other = BinaryStraightThrough(chip, shift=2, reset_size=[16, 40], window=0.5).network_of(weights)
        chip.load(network)
    assert [int(each[0]) for each in network.thresholds] == [1024, 2048]
    assert network.constants["reset_amount"] == network.constants["gate_window"] == (2048, 4096)
    assert network.constants["decay_syn"] == (629, 629)
    assert network.constants["decay_mem"] == (390, 390)
    assert network.constants["shift"] == (6, 6)
    assert network.constants["gate_centre"] == (0, 0)
    assert network.gate_at_threshold == (True, True)
    assert network.reset == ("subtract", "subtract")
    assert [int(each[0]) for each in other.thresholds] == [32, 80]
    assert other.constants["reset_amount"] == (64, 160)
    assert other.constants["gate_window"] == (32, 80)


@pytest.mark.parametrize(
    ("read_out", "record"), [("counts", ()), ("raster+gate", ("raster", "gate")), ("recompute", ("raster",))]
)
@BOTH
def test_one_load_and_one_presentation_for_every_mini_batch(
    chip: Chip, kind: Any, read_out: str, record: tuple[str, ...]
) -> None:
    spy = Spy(chip)
    model = small(kind, spy, read_out=read_out).fit(X, Y)
    assert len(spy.loaded) == len(spy.runs) == 2 * 240 // 60
    assert all(run["record"] == record and run["steps"] == 8 and len(run["x"]) == 60 for run in spy.runs)
    assert len({run["seed"] for run in spy.runs}) == len(spy.runs)
    shown = np.concatenate([run["x"] for run in spy.runs[:4]])
    assert sorted(shown.tolist()) == sorted(X.tolist())
    assert not np.array_equal(shown, np.concatenate([run["x"] for run in spy.runs[4:]]))
    assert model.cost_["samples"] == 480
    assert model.cost_["timesteps"] == 480 * 8
    assert model.cost_["cycles"] == chip.stats.cycles
    model.predict(HELD[0])
    assert spy.runs[-1]["seed"] not in {run["seed"] for run in spy.runs[:-1]} or kind is BayesianBinary


def test_an_ensemble_encodes_its_inputs_once(chip: Chip) -> None:
    spy = Spy(chip)
    model = small(BayesianBinary, spy, members=7).fit(X, Y)
    before = len(spy.loaded)
    p = model.predict_proba(HELD[0])
    assert len(spy.encoded) == 1
    assert spy.repeated == spy.encoded * 7
    assert spy.loaded[before:] == model.networks_
    each = model.member_probabilities(HELD[0])
    assert each.shape == (7, 200, 10)
    assert np.allclose(each.mean(axis=0), p)
    assert np.allclose(p.sum(axis=1), 1)
    assert len(spy.encoded) == 2
    # Members are different, and each is what its network alone gives.
    assert len({network.weights[0].tobytes() for network in model.networks_}) == 7
    chip.load(model.networks_[3])
    z = model.scores_of(model.present(HELD[0]))
    assert np.allclose(each[3], np.exp(z) / np.exp(z).sum(axis=1, keepdims=True))


def test_what_is_left_of_an_epoch_waits(chip: Chip) -> None:
    spy = Spy(chip)
    small(BinaryStraightThrough, spy, batch_size=100).fit(X, Y)
    assert [len(run["x"]) for run in spy.runs] == [100] * 4
    spy = Spy(chip)
    small(BinaryStraightThrough, spy, batch_size=1000).fit(X, Y)
    assert [len(run["x"]) for run in spy.runs] == [240] * 2


# ---- the two rules --------------------------------------------------------------------------------------------------


def test_straight_through_weights_are_signs_of_bounded_parameters(chip: Chip) -> None:
    spy = Spy(chip)
    model = small(BinaryStraightThrough, spy, learning_rate=0.5).fit(X, Y)
    (latent,) = model.latent_
    assert np.abs(latent).max() == 1
    assert np.array_equal(model.network_.weights[0], np.where(latent < 0, -1, 1))
    assert spy.loaded[-1] != model.network_  # the last update is not measured any more


@BOTH
def test_rates_fall_to_zero_along_a_cosine(chip: Chip, kind: Any) -> None:
    name = "rate" if kind is BayesianBinary else "learning_rate"
    model = small(kind, chip, epochs=3, **{name: 0.2}).fit(X, Y)
    last = np.array([3, 7, 11])  # update, from 0, that ends an epoch
    assert np.allclose(model.history_["rate"], 0.1 * (1 + np.cos(np.pi * last / 12)))


def test_zero_is_a_weight_of_plus_one(chip: Chip) -> None:
    model = small(BinaryStraightThrough, chip, epochs=1, learning_rate=0.0)
    assert (model.fit(X, Y, initial=[np.zeros((64, 48))]).network_.weights[0] == 1).all()


def test_weights_are_drawn_from_the_posterior() -> None:
    vector = np.array([-4.0, -1.0, -0.3, 0.0, 0.2, 1.5, 4.0])
    rng = np.random.default_rng(1)
    for sharpness in (1.0, 2.5):
        drawn = np.stack([draw(vector, rng, sharpness) for _ in range(20_000)])
        assert set(np.unique(drawn)) == {-1, 1}
        # Mean tanh(s lambda) within 4.5 standard errors.
        mean = np.tanh(sharpness * vector)
        assert (np.abs(drawn.mean(axis=0) - mean) < 4.5 * np.sqrt((1 - mean**2) / 20_000) + 1e-6).all()
    assert np.array_equal(draw(vector[[0, -1]], rng, 1e6), [-1, 1])


def test_training_weights_are_fresh_draws_of_the_posterior(chip: Chip) -> None:
    """With a rate of 0 the posterior stays where it starts: the mean of what is loaded is its mean."""
    spy = Spy(chip)
    lam = np.linspace(-1, 1, 64 * 48).reshape(64, 48)
    small(BayesianBinary, spy, epochs=50, batch_size=120, rate=0.0).fit(X[:120], Y[:120], initial=[lam])
    drawn = np.stack([network.weights[0] for network in spy.loaded])
    assert len(drawn) == 50
    assert len({weights.tobytes() for weights in drawn}) == 50
    error = (drawn.mean(axis=0) - np.tanh(lam)) / np.sqrt((1 - np.tanh(lam) ** 2) / 50)
    assert abs(error.mean()) < 0.1
    assert 0.9 < error.std() < 1.1


def test_bayesian_update_follows_the_natural_gradient(chip: Chip) -> None:
    """One update by hand: momentum, kappa, prior and the gradient at the drawn weights."""
    spy = Spy(chip)
    prior = np.random.default_rng(2).uniform(0.2, 0.8, (64, 48))
    lam = np.random.default_rng(3).normal(0, 0.5, (64, 48))
    settings = {"epochs": 1, "batch_size": 240, "rate": 0.02, "kappa": 300.0, "read_out": "counts", "prior": [prior]}
    model = small(BayesianBinary, spy, **settings).fit(X, Y, initial=[lam])
    (run,) = spy.runs
    chip.load(spy.loaded[0])
    counts = chip.run(**run).counts[0]
    z = 20 / np.sqrt(48) * (counts / 8) @ model.readout_.T
    p = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
    rows = [X.tolist().index(row) for row in run["x"].tolist()]
    error = (p - np.eye(10)[Y[rows]]) * 20 / 240 @ model.readout_ / np.sqrt(48)
    delta = error * ((counts > 0) & (counts < 8)) * 4096 / 629 / 64
    gradient = (input_spikes(CFG, run["x"], 8).sum(axis=1) / 8).T @ delta
    wanted = 0.98 * lam + 0.02 * 0.5 * logit(prior) - 0.02 * 300 * 0.1 * gradient
    assert np.allclose(model.latent_[0], wanted, atol=1e-5)
    assert np.abs(wanted - lam).max() > 0.01


def test_prior_pulls_where_the_data_say_nothing(chip: Chip) -> None:
    """Black pixels never spike, so their weights stay with the prior, of whatever form it is given in."""
    black = ~X.any(axis=0)
    assert black.sum() > 3
    for prior in (0.9, [0.9], [np.full((64, 48), 0.9)]):
        model = small(BayesianBinary, chip, epochs=4, rate=0.5, prior=prior).fit(X, Y)
        probability = expit(2 * model.latent_[0])
        assert np.abs(probability[black] - 0.9).max() < 0.05
        assert probability[~black].std() > 0.2


def test_smaller_ensembles_are_the_first_of_larger_ones(chip: Chip) -> None:
    ten = small(BayesianBinary, chip, members=10).fit(X, Y)
    three = small(BayesianBinary, chip, members=3).fit(X, Y)
    assert three.networks_ == ten.networks_[:3]
    assert np.array_equal(three.predict_proba(HELD[0]), ten.probabilities(HELD[0], members=3))
    assert not np.array_equal(three.predict_proba(HELD[0]), ten.predict_proba(HELD[0]))
    assert np.array_equal(ten.member_probabilities(HELD[0], 3), ten.member_probabilities(HELD[0])[:3])


def test_a_finished_training_can_be_finished_otherwise(chip: Chip) -> None:
    """Sharpness, members and prediction act after the training; sharp members are the mode."""
    first = small(BayesianBinary, chip).fit(X, Y)
    samples = chip.stats.samples
    sharp = small(BayesianBinary, chip, sharpness=1e6, members=2, prediction="mode")
    sharp.fit(X, Y, resume=first.state_dict())
    assert chip.stats.samples == samples
    assert sharp.networks_ == [first.network_, first.network_]
    assert np.array_equal(sharp.predict_proba(HELD[0]), first.probabilities(HELD[0], prediction="mode"))
    assert not np.array_equal(sharp.predict_proba(HELD[0]), first.predict_proba(HELD[0]))


# ---- temperature ----------------------------------------------------------------------------------------------------


def test_temperature_is_an_exponent_of_the_averaged_probabilities(chip: Chip) -> None:
    plain = small(BayesianBinary, chip).fit(X, Y)
    given = small(BayesianBinary, chip, temperature=2.0).fit(X, Y)
    assert plain.temperature_ == 1.0
    assert given.temperature_ == 2.0
    for prediction in ("ensemble", "mode"):
        p = plain.probabilities(HELD[0], prediction=prediction)
        assert np.allclose(given.probabilities(HELD[0], prediction=prediction), apply_temperature(p, 2.0))


@BOTH
def test_temperature_is_fitted_on_validation_data(chip: Chip, kind: Any) -> None:
    plain = small(kind, chip).fit(X, Y, *HELD)
    fitted = small(kind, chip, temperature="validation").fit(X, Y, *HELD)
    assert np.array_equal(plain.latent_[0], fitted.latent_[0])
    assert abs(fitted.temperature_ - 1) > 0.02
    p = plain.predict_proba(HELD[0])
    best = negative_log_likelihood(fitted.predict_proba(HELD[0]), HELD[1])
    for factor in (0.97, 1 / fitted.temperature_, 1.03):
        assert best < negative_log_likelihood(apply_temperature(p, factor * fitted.temperature_), HELD[1])
    # A part of the training data that is held back serves as well, and is not learned.
    held = small(kind, chip, temperature="validation", validation_fraction=0.25).fit(X, Y)
    assert held.history_["accuracy_validation"].min() > 0
    assert held.cost_["samples"] >= 2 * 180
    with pytest.raises(TrainingError, match="needs a validation set, X_val and y_val or validation_fraction"):
        small(kind, chip, temperature="validation").fit(X, Y)


@BOTH
def test_the_exponent_does_not_change_decisions(chip: Chip, kind: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = small(kind, chip).fit(X, Y, *HELD)
    monkeypatch.setattr(binary, "fit_temperature", lambda p, labels: 0.0)
    flat = small(kind, chip, temperature="validation").fit(X, Y, *HELD)
    assert np.allclose(flat.predict_proba(HELD[0]), 0.1)
    assert np.array_equal(flat.predict(HELD[0]), plain.predict(HELD[0]))
    assert flat.evaluate(*HELD) == plain.evaluate(*HELD)


def test_mode_and_ensemble_have_a_temperature_each(chip: Chip) -> None:
    ensemble = small(BayesianBinary, chip, temperature="validation").fit(X, Y, *HELD)
    mode = small(BayesianBinary, chip, temperature="validation", prediction="mode").fit(X, Y, *HELD)
    assert ensemble.temperature_ != mode.temperature_
    p = mode.predict_proba(HELD[0])
    assert np.array_equal(ensemble.probabilities(HELD[0], prediction="mode"), p)
    assert np.array_equal(mode.probabilities(HELD[0], prediction="ensemble"), ensemble.predict_proba(HELD[0]))


# ---- estimator interface --------------------------------------------------------------------------------------------


@BOTH
def test_predictions(chip: Chip, kind: Any) -> None:
    names = np.array([f"digit {label}" for label in range(10)])
    model = small(kind, chip).fit(X, names[Y], HELD[0], names[HELD[1]])
    p = model.predict_proba(HELD[0])
    assert p.shape == (200, 10)
    assert np.array_equal(model.predict(HELD[0]), names[p.argmax(axis=1)])
    assert model.score(HELD[0], names[HELD[1]]) == model.evaluate(HELD[0], names[HELD[1]])[0] > 0.15
    # The classes are read out of the counts by the fixed matrix.
    chip.load(model.network_)
    out = model.present(HELD[0])
    z = 20 / np.sqrt(48) * (out.counts[0] / 8) @ model.readout_.astype(float).T
    assert np.allclose(model.scores_of(out), z)
    assert model.history_["accuracy_validation"][-1] == np.mean(model.decide(model.scores_of(out)) == HELD[1])


@BOTH
def test_scores_need_no_training_if_the_classes_are_known(chip: Chip, kind: Any) -> None:
    model = small(kind, chip).fit(X, Y)
    chip.load(model.network_)
    out = model.present(HELD[0])
    fresh = small(kind, chip, n_classes=10)
    assert np.array_equal(fresh.scores_of(fresh.present(HELD[0])), model.scores_of(out))
    with pytest.raises(TrainingError, match="n_classes = None: must be given"):
        small(kind, chip).scores_of(out)


def test_clone_shares_the_chip_and_copies_settings(chip: Chip) -> None:
    model = small(BayesianBinary, chip, prior=[0.4], reset_size=[32]).fit(X, Y)
    copy = clone(model)
    assert copy.chip is chip
    assert {**model.get_params(), "chip": 0} == {**copy.get_params(), "chip": 0}
    assert copy.prior is not model.prior
    with pytest.raises(NotFittedError, match="not fitted yet; call fit"):
        copy.predict(X)


@BOTH
def test_start_from_a_network_or_from_parameters(chip: Chip, kind: Any) -> None:
    frozen = {"rate": 0.0} if kind is BayesianBinary else {"learning_rate": 0.0}
    weights = np.random.default_rng(8).choice(np.array([-1, 1], np.int32), (64, 48))
    model = small(kind, chip, **frozen).fit(X, Y, initial=Network([weights]))
    assert np.array_equal(model.network_.weights[0], weights)
    assert 0.07 < np.abs(model.latent_[0]).mean() < 0.09
    latent = np.random.default_rng(9).uniform(-1, 1, (64, 48))
    again = small(kind, chip, **frozen).fit(X, Y, initial=[latent])
    assert np.array_equal(again.latent_[0], latent)


@BOTH
def test_same_seed_same_result_other_seed_other_result(chip: Chip, kind: Any) -> None:
    first, second, other = (small(kind, chip, seed=seed).fit(X, Y) for seed in (5, 5, 6))
    same(first, second)
    assert first.network_ != other.network_
    assert not np.array_equal(first.readout_, other.readout_)


# ---- interruptions --------------------------------------------------------------------------------------------------


@BOTH
def test_resumed_training_equals_uninterrupted_one(tmp_path: Path, kind: Any) -> None:
    """Interrupted in any presentation, those of the validation set included; random inputs and a noisy die."""
    cfg = ChipConfig((64, 24, 16), lanes=16, binary_weights=True)
    die = Die.only(seed=2, gaussian_threshold=1.0, noise=50.0)
    settings = {"encoding": "bernoulli", "temperature": "validation", "timesteps": 5}
    settings |= {"members": 2} if kind is BayesianBinary else {}
    with Chip(cfg, die=die) as chip:
        spy = Spy(chip)
        whole = small(kind, spy, **settings).fit(X, Y, *HELD)
        for call in range(1, len(spy.runs) + len(spy.repeated) + 1):
            broken = small(kind, Spy(chip, call), **settings)
            with pytest.raises(KeyboardInterrupt):
                broken.fit(X, Y, *HELD)
            checkpoint.save(tmp_path / "c.npz", broken.state_dict())
            with Chip(cfg, die=die) as fresh:
                resumed = small(kind, fresh, **settings).fit(X, Y, *HELD, resume=checkpoint.load(tmp_path / "c.npz"))
                same(whole, resumed)
                assert np.array_equal(resumed.predict_proba(X), small_probabilities(whole, chip))


def small_probabilities(model: Any, chip: Chip) -> Any:
    model.chip = chip
    return model.predict_proba(X)


@BOTH
def test_stop_training_keeps_what_there_is(chip: Chip, kind: Any) -> None:
    seen: list[Progress] = []

    def stop(progress: Progress) -> None:
        seen.append(progress)
        if progress.step == 5:
            raise StopTraining

    model = small(kind, chip).fit(X, Y, *HELD, callback=stop)
    assert [progress.step for progress in seen] == [1, 2, 3, 4, 5]
    assert {progress.total for progress in seen} == {8}
    assert all(0 <= progress.accuracy <= 1 and progress.log_likelihood < 0 for progress in seen)
    assert np.isnan(seen[2].best_accuracy)
    assert seen[4].best_accuracy == model.history_["accuracy_validation"][0]
    assert len(model.history_["epoch"]) == 1
    model.predict(X)
    same(small(kind, chip).fit(X, Y, *HELD), small(kind, chip).fit(X, Y, *HELD, resume=model.state_dict()))


def _spoilt(state: State, what: str) -> State:
    if what == "trainer":
        state.meta["trainer"] = "DelGrad"
    if what == "missing":
        del state.arrays["second"]
    if what == "shape":
        state.arrays["vector"] = state.arrays["vector"][:-1]
    return state


@pytest.mark.parametrize("what", ["trainer", "config", "settings", "data", "validation", "missing", "shape"])
def test_foreign_and_damaged_checkpoints(chip: Chip, what: str) -> None:
    state = _spoilt(small(BinaryStraightThrough, chip, epochs=1).fit(X[:60], Y[:60]).state_dict(), what)
    with Chip(ChipConfig((64, 32), binary_weights=True)) as other:
        gain = 19.0 if what == "settings" else 20.0
        model = small(BinaryStraightThrough, other if what == "config" else chip, epochs=1, gain=gain)
        labels = Y[1:61] if what == "data" else Y[:60]
        held = HELD if what == "validation" else (None, None)
        with pytest.raises(CheckpointError, match=r"another|other|not of|lacks parts|do not fit"):
            model.fit(X[:60], labels, *held, resume=state)


@BOTH
def test_a_refused_refit_changes_nothing(chip: Chip, kind: Any) -> None:
    two = Y < 5
    model = small(kind, chip).fit(X, np.where(two, "low", "high"))
    p, predicted, state = model.predict_proba(X), model.predict(X), model.state_dict()
    for settings in ({"initial": "bad"}, {"resume": state}):
        with pytest.raises(UserError):
            model.fit(X, np.minimum(Y, 2), **settings)
        assert model.classes_.tolist() == ["high", "low"]
        assert np.array_equal(model.predict_proba(X), p)
        assert np.array_equal(model.predict(X), predicted)
    assert model.fit(X, np.minimum(Y, 2)).predict_proba(X).shape == (240, 3)


# ---- bad input ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"epochs": 0}, "Setting epochs = 0: must be an integer from 1"),
        ({"batch_size": 0}, "Setting batch_size"),
        ({"timesteps": 0}, "Setting timesteps"),
        ({"read_out": "gates"}, r"must be one of counts, raster\+gate, recompute"),
        ({"gradient": "global"}, "must be one of bptt, local"),
        ({"encoding": "latency"}, "must be one of rate, bernoulli"),
        ({"gain": 0}, "Setting gain"),
        ({"shift": 16}, "Setting shift = 16: must be an integer from 0 to 15"),
        ({"window": float("nan")}, "Setting window"),
        ({"reset_size": 0}, "Setting reset_size = 0: must be an integer from 1"),
        ({"reset_size": 12.5}, "Setting reset_size = 12.5: must be an integer"),
        ({"reset_size": [32, 32]}, r"Setting reset_size = \[32, 32\]: must be an integer, or 1 of them"),
        ({"reset_size": 1 << 20}, "Setting reset_size = 1048576: with shift = 6 .* 24 state bits, up to 8388607"),
        ({"window": 900.0, "reset_size": 8192}, "Setting reset_size = 8192: with shift = 6 and window = 900"),
        ({"n_classes": 1}, "Setting n_classes = 1: must be an integer from 2"),
        ({"n_classes": 9}, "Setting n_classes = 9: must be 10 or more, for the labels take 10 values"),
        ({"temperature": "test"}, "Setting temperature = 'test': must be none or validation, or a number"),
        ({"temperature": -1.0}, "Setting temperature = -1.0: must be a number from 1e-06 to 1000"),
        ({"temperature": 0}, "Setting temperature = 0: must be a number from 1e-06"),
        ({"temperature": float("nan")}, "Setting temperature = nan"),
        ({"temperature": "validation"}, "needs a validation set"),
        ({"validation_fraction": 1.0}, "Setting validation_fraction"),
        ({"seed": -1}, "Setting seed"),
        ({"chip": 3}, "Setting chip = 3: must be a Chip"),
    ],
    ids=str,
)
@BOTH
def test_bad_settings(chip: Chip, kind: Any, setting: dict[str, Any], message: str) -> None:
    with pytest.raises(TrainingError, match=message):
        small(kind, chip).set_params(**setting).fit(X, Y)
    assert chip.stats.samples == 0


@pytest.mark.parametrize(
    ("kind", "setting", "message"),
    [
        (BinaryStraightThrough, {"learning_rate": -1}, "Setting learning_rate = -1: must be a number from 0"),
        (BayesianBinary, {"rate": 1.5}, "Setting rate = 1.5: must be a number from 0 to 1"),
        (BayesianBinary, {"kappa": float("inf")}, "Setting kappa"),
        (BayesianBinary, {"members": 0}, "Setting members = 0: must be an integer from 1"),
        (BayesianBinary, {"prediction": "mean"}, "must be one of ensemble, mode"),
        (BayesianBinary, {"sharpness": -1}, "Setting sharpness"),
        (BayesianBinary, {"prior": 1.0}, "Setting prior from 1 to 1: must be probabilities between 0 and 1"),
        (BayesianBinary, {"prior": [0.5, 0.5]}, "Setting prior: must be one array for each of the 1 layers"),
        (
            BayesianBinary,
            {"prior": [np.ones((3, 3))]},
            r"Setting prior of layer 1: must be numbers of shape \(64, 48\)",
        ),
        (BayesianBinary, {"prior": [float("nan")]}, "Setting prior hold NaN"),
        (BayesianBinary, {"prior": "half"}, "Setting prior: must be one array"),
    ],
    ids=str,
)
def test_bad_settings_of_the_rules(chip: Chip, kind: Any, setting: dict[str, Any], message: str) -> None:
    with pytest.raises(TrainingError, match=message):
        small(kind, chip).set_params(**setting).fit(X, Y)
    assert chip.stats.samples == 0
    with pytest.raises(TrainingError, match=message):
        small(kind, SimpleNamespace(cfg=CFG)).set_params(**setting).check_settings()


@BOTH
def test_settings_can_be_checked_before_there_is_a_chip(kind: Any) -> None:
    without = SimpleNamespace(cfg=CFG)
    small(kind, without).check_settings()
    with pytest.raises(TrainingError, match="Setting gain = nan: must be a number from 1e-06"):
        small(kind, without, gain=float("nan")).check_settings()
    with pytest.raises(TrainingError, match="must be a Chip"):
        small(kind, without).fit(X, Y)


@pytest.mark.parametrize(
    ("n_classes", "y", "message"),
    [
        (None, np.zeros(240, int), "Labels take 1 value: must take 2 or more, unless n_classes says how many"),
        (None, np.full(240, 5), "Labels take 1 value: must take 2 or more"),
        (None, np.full(240, "a"), "Labels take 1 value: must take 2 or more"),
        (3, np.where(Y < 5, "a", "b"), "Labels take 2 different values, but n_classes = 3, and only integers from 0 "),
        (3, np.full(240, 5), "Labels take 1 different values, but n_classes = 3"),
        (
            None,
            np.where(Y < 5, "a", 1 + Y.astype(object)),
            "Labels of mixed types: must all be numbers or words",
        ),
        (None, Y[:, None], "must be one-dimensional"),
        (None, np.array(3), "must be one-dimensional"),
    ],
    ids=["zeros", "fives", "word", "words", "subset", "mixed", "column", "scalar"],
)
@BOTH
def test_bad_labels(chip: Chip, kind: Any, n_classes: int | None, y: Any, message: str) -> None:
    with pytest.raises(TrainingError, match=message):
        small(kind, chip, n_classes=n_classes).fit(X, y)
    assert chip.stats.samples == 0


def test_integer_labels_may_lack_a_class_if_their_number_is_given(chip: Chip) -> None:
    model = small(BinaryStraightThrough, chip, n_classes=3).fit(X, np.zeros(240, int))
    assert model.classes_.tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (X[:, :3], Y, "this chip has 64 inputs"),
        (X / 255.0, Y, "the chip takes uint8 intensities"),
        (X, Y[:10], "10 labels for 240 samples"),
        (Events([[99]] * 240, [[0]] * 240), Y, "an event at time step 99: must be below steps = 8"),
    ],
    ids=str,
)
@BOTH
def test_bad_data(chip: Chip, kind: Any, x: Any, y: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        small(kind, chip).fit(x, y)
    assert chip.stats.samples == 0


@pytest.mark.parametrize(
    ("initial", "message"),
    [
        ([1.0, 2.0], "Start parameters: must be one array for each of the 1 layers"),
        ([np.zeros((2, 2))], r"Start parameters of layer 1: must be numbers of shape \(64, 48\)"),
        ([np.full((64, 48), np.nan)], "Start parameters hold NaN"),
        (Network([np.ones((64, 47), np.int32)]), "the network has layers"),
    ],
    ids=["layers", "shape", "nan", "network"],
)
@BOTH
def test_bad_start(chip: Chip, kind: Any, initial: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        small(kind, chip).fit(X, Y, initial=initial)
    assert chip.stats.samples == 0


def test_bad_requests_of_members(chip: Chip) -> None:
    model = small(BayesianBinary, chip, members=3).fit(X, Y)
    for members in (0, 4, 1.5):
        with pytest.raises(TrainingError, match=r"Setting members = .*: must be an integer from 1 to 3"):
            model.probabilities(X, members=members)
        with pytest.raises(TrainingError, match="must be an integer from 1 to 3"):
            model.member_probabilities(X, members)
    with pytest.raises(TrainingError, match="must be one of ensemble, mode"):
        model.probabilities(X, prediction="best")


def test_wide_weights_of_plus_and_minus_one_give_the_same_chip(chip: Chip) -> None:
    with Chip(ChipConfig((64, 48), lanes=16, weight_bits=4)) as wide:
        for kind in (BinaryStraightThrough, BayesianBinary):
            first, second = small(kind, chip).fit(X, Y), small(kind, wide).fit(X, Y)
            assert first.network_ == second.network_
        with pytest.raises(TrainingError, match=r"all weights must be -1 or \+1"):
            small(BinaryStraightThrough, wide).fit(X, Y, initial=Network([np.full((64, 48), 2, np.int32)]))
