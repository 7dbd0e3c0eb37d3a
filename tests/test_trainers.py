"""Trainers: the estimator interface, exact resuming, the chain's statistics, the gradient, and bad input."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from host import Chip, Die, Network, datasets
from host.encoding import input_spikes
from host.errors import UserError
from host.trainers import (
    CheckpointError,
    DelGrad,
    MetropolisHastings,
    Neuron,
    Progress,
    StopTraining,
    SurrogateGradient,
    TrainingError,
    balanced_accuracy,
    checkpoint,
)
from host.trainers.base import ParameterMap, draw_start, log_softmax
from host.trainers.kernels import reconstruct, weighted_input
from host.trainers.port import ParameterPort
from host.trainers.surrogate import Gradient
from rtl.config import ChipConfig

CFG = ChipConfig(layers=(4, 6, 2), lanes=4)
DATA = datasets.split("moons", 40, seed=0)
X, Y = DATA.x_train, DATA.y_train


@pytest.fixture
def chip() -> Iterator[Chip]:
    with Chip(CFG, die=Die(seed=1, level=1.0)) as chip:
        yield chip


def small(chip: Any, **settings: Any) -> MetropolisHastings:
    return MetropolisHastings(chip, **{"steps": 120, "timesteps": 12, "seed": 5, **settings})


def descend(chip: Any, **settings: Any) -> SurrogateGradient:
    return SurrogateGradient(chip, **{"mode": "in-loop", "updates": 12, "timesteps": 12, "seed": 5, **settings})


# ---- estimator interface --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [small, descend])
def test_clone_shares_the_chip_and_copies_settings(chip: Chip, make: Any) -> None:
    trainer = make(chip, beta=0.25, neuron={"threshold": 4000}).fit(X, Y)
    copy = clone(trainer)
    assert copy.chip is chip
    mine, theirs = trainer.get_params(), copy.get_params()
    assert {**mine, "chip": 0} == {**theirs, "chip": 0}
    assert copy.neuron is not trainer.neuron
    with pytest.raises(NotFittedError, match="not fitted yet; call fit"):
        copy.predict(X)
    copy.set_params(beta=1.0)
    assert trainer.beta == 0.25


@pytest.mark.parametrize("make", [small, descend])
def test_fit_predict_score(chip: Chip, make: Any) -> None:
    trainer = make(chip)
    assert trainer.fit(X, Y) is trainer
    proba = trainer.predict_proba(DATA.x_test)
    assert proba.shape == (600, 2)
    assert np.allclose(proba.sum(axis=1), 1)
    predicted = trainer.predict(DATA.x_test)
    assert trainer.score(DATA.x_test, DATA.y_test) == np.mean(predicted == DATA.y_test)
    assert trainer.evaluate(DATA.x_test, DATA.y_test)[0] == trainer.score(DATA.x_test, DATA.y_test)
    assert isinstance(trainer.network_, Network)
    assert trainer.n_features_in_ == 4


def test_label_names_are_kept(chip: Chip) -> None:
    names = np.array(["lower", "upper"])[Y]
    trainer = small(chip, steps=20).fit(X, names)
    assert set(trainer.predict(X)) <= {"lower", "upper"}
    assert trainer.score(X, names) == pytest.approx(np.mean(trainer.predict(X) == names))


def test_ties_go_to_the_lowest_class(chip: Chip) -> None:
    trainer = small(chip, steps=1, start_sd=0.0, width=0.6, neuron=Neuron(threshold=1 << 22)).fit(X, Y)
    assert trainer.predict(X).tolist() == [0] * len(X)
    assert trainer.evaluate(X, Y)[1] == 0.5


@pytest.mark.parametrize(("dataset", "n"), [("yin-yang", 30), ("digits", 40)])
def test_more_than_two_classes(dataset: str, n: int) -> None:
    data = datasets.split(dataset, n, seed=0)
    with Chip(ChipConfig(layers=(data.n_features, 8, data.n_classes))) as chip:
        chain = small(chip, steps=30).fit(data.x_train, data.y_train)
        assert chain.predict_proba(data.x_test[:7]).shape == (7, data.n_classes)
        assert descend(chip).fit(data.x_train, data.y_train).predict(data.x_test[:7]).shape == (7,)


# ---- determinism and resuming ---------------------------------------------------------------------------------------


def same(first: Any, second: Any) -> None:
    """Two fitted trainers agree in everything they found."""
    assert first.history_.keys() == second.history_.keys()
    for name in first.history_:
        assert np.array_equal(first.history_[name], second.history_[name]), name
    assert first.cost_ == second.cost_
    if isinstance(first, MetropolisHastings):
        assert np.array_equal(first.votes_, second.votes_)
        assert all(np.array_equal(first.samples_[name], second.samples_[name]) for name in first.samples_)
    else:
        assert np.array_equal(first.best_, second.best_)
        assert np.array_equal(first.last_, second.last_)


@pytest.mark.parametrize("make", [small, descend])
def test_same_seed_same_result_other_seed_other_result(chip: Chip, make: Any) -> None:
    first, second, other = make(chip).fit(X, Y), make(chip).fit(X, Y), make(chip, seed=6).fit(X, Y)
    same(first, second)
    column = "log_likelihood" if make is small else "loss"
    assert not np.array_equal(first.history_[column], other.history_[column])


class Flaky:
    """A chip that is interrupted in its n-th presentation."""

    def __init__(self, chip: Chip, calls: int) -> None:
        self._chip, self._left = chip, calls

    def __getattr__(self, name: str) -> Any:
        return getattr(self._chip, name)

    def run(self, *args: Any, **kwargs: Any) -> Any:
        self._left -= 1
        if self._left == 0:
            raise KeyboardInterrupt
        return self._chip.run(*args, **kwargs)


@pytest.mark.parametrize(
    ("make", "settings"),
    [(small, {}), (small, {"remeasure": True, "encoding": "bernoulli"}), (small, {"greedy": True}), (descend, {})]
    + [(descend, {"mode": mode, "batch_size": 16}) for mode in ("ideal", "domain-randomised", "in-loop-naive")],
)
def test_resumed_training_equals_uninterrupted_one(
    chip: Chip, tmp_path: Path, make: Any, settings: dict[str, Any]
) -> None:
    whole = make(chip, **settings).fit(X, Y)
    if settings.get("mode") in ("ideal", "domain-randomised"):

        def stop(progress: Progress) -> None:
            if progress.step == 7:
                raise KeyboardInterrupt

        broken, callback = make(chip, **settings), stop
    else:
        broken, callback = make(Flaky(chip, 9), **settings), None
    with pytest.raises(KeyboardInterrupt):
        broken.fit(X, Y, callback=callback)
    checkpoint.save(tmp_path / "c.npz", broken.state_dict())
    with Chip(CFG, die=Die(seed=1, level=1.0)) as fresh:
        resumed = make(fresh, **settings).fit(X, Y, resume=checkpoint.load(tmp_path / "c.npz"))
    same(whole, resumed) if "remeasure" not in settings else None
    for name in whole.history_:
        assert np.array_equal(whole.history_[name], resumed.history_[name]), name


def test_stop_training_keeps_what_there_is(chip: Chip) -> None:
    def stop(progress: Progress) -> None:
        if progress.step >= 30:
            raise StopTraining

    trainer = small(chip).fit(X, Y, callback=stop)
    assert len(trainer.history_["step"]) == 30
    trainer.predict(X)


def test_partial_fit_continues_the_chain(chip: Chip) -> None:
    trainer = small(chip).fit(X, Y)
    before = trainer.history_["log_likelihood"].copy()
    trainer.partial_fit(X, Y, steps=50)
    assert len(trainer.history_["step"]) == 170
    assert np.array_equal(trainer.history_["log_likelihood"][:120], before)
    assert trainer.history_["width"][120:].std() == 0  # no adaptation after the burn-in


@pytest.mark.parametrize("what", ["trainer", "config", "settings", "data"])
def test_foreign_checkpoints(chip: Chip, what: str) -> None:
    state = small(chip).fit(X, Y).state_dict()
    labels = 1 - Y if what == "data" else Y
    with Chip(ChipConfig(layers=(4, 5, 2))) as other:
        trainer = {
            "trainer": descend(chip),
            "config": small(other),
            "settings": small(chip, beta=0.75),
            "data": small(chip),
        }[what]
        with pytest.raises(CheckpointError, match=r"another|other|not of"):
            trainer.fit(X, labels, resume=state)


def test_damaged_checkpoints(chip: Chip, tmp_path: Path) -> None:
    path = tmp_path / "c.npz"
    with pytest.raises(CheckpointError, match="no checkpoint at"):
        checkpoint.load(path)
    state = small(chip, steps=10).fit(X, Y).state_dict()
    checkpoint.save(path, state)
    data = path.read_bytes()
    for damaged in (data[:-30], data[: len(data) // 2], b"", b"hello", data[:200] + b"\0" * 40 + data[240:]):
        path.write_bytes(damaged)
        with pytest.raises(CheckpointError, match=r"damaged|no spikeloop checkpoint"):
            checkpoint.load(path)
    np.savez(path, a=np.zeros(3))
    with pytest.raises(CheckpointError, match="no spikeloop checkpoint"):
        checkpoint.load(path)
    del state.arrays["current"]
    with pytest.raises(CheckpointError, match="lacks parts"):
        small(chip, steps=10).fit(X, Y, resume=state)


# ---- the chain ------------------------------------------------------------------------------------------------------


def test_learns_on_a_distorted_die() -> None:
    data = datasets.split("breast-cancer", 60, seed=0)
    with Chip(ChipConfig(layers=(30, 15, 2)), die=Die(seed=3, level=2.0)) as chip:
        chain = MetropolisHastings(chip, 1000, timesteps=16, seed=0).fit(data.x_train, data.y_train)
        assert chain.score(data.x_test, data.y_test) > 0.8
    likelihood = chain.history_["log_likelihood"]
    assert likelihood[-1] > likelihood[0] + 0.3
    assert chain.history_["best_log_likelihood"][-1] == likelihood.max() or likelihood.max() < 0
    assert chain.cost_["samples"] <= 60 * 1001


def test_a_silent_chip_leaves_the_prior(chip: Chip) -> None:
    """Without spikes the likelihood is flat, so the chain must sample the prior: a test of the acceptance rule."""
    chain = small(
        chip, steps=2400, start_sd=20.0, prior_sd=20.0, block=8, neuron=Neuron(threshold=1 << 22), n_votes=1200
    ).fit(X[:2], Y[:2])
    samples = chain.votes_[::5].astype(float)
    assert samples.std() == pytest.approx(20.0, rel=0.1)
    assert abs(samples.mean()) < 3.0
    assert 0.2 < chain.acceptance_ < 0.4
    assert np.abs(chain.votes_).max() <= 127


def test_moves_out_of_range_are_rejected(chip: Chip) -> None:
    start = np.full(ParameterMap(CFG).size, 127)
    chain = small(chip, width=64.0, prior_sd=1e6).fit(X, Y, initial=start)
    assert max(np.abs(vector).max() for vector in chain.samples_.values()) <= 127
    # Proposals that would leave the range are never presented.
    assert chain.cost_["samples"] < 121 * len(X)


def test_greedy_never_gets_worse_and_keeps_its_width(chip: Chip) -> None:
    chain = small(chip, greedy=True).fit(X, Y)
    assert np.all(np.diff(chain.history_["log_posterior"]) >= 0)
    assert set(chain.history_["width"]) == {24.0}


def test_port_sends_only_what_changed_and_undoes_it(chip: Chip) -> None:
    map_ = ParameterMap(CFG)
    port = ParameterPort(chip, map_, Neuron())
    start = draw_start(map_, 24.0, 0)
    port.load(start)
    candidate = start.copy()
    touched = np.array([0, 23, 24, 29, 30, 41, 43])  # weights and biases of both layers
    candidate[touched] += 3
    port.change(candidate, touched)
    assert all(np.array_equal(have, want) for have, want in zip(chip.weights(), map_.split(candidate)[0], strict=True))
    assert np.array_equal(chip.network.biases[1], map_.split(candidate)[1][1])
    port.change(start, touched)
    assert all(np.array_equal(have, want) for have, want in zip(chip.weights(), map_.split(start)[0], strict=True))


def test_start_from_a_network(chip: Chip) -> None:
    network = descend(chip).fit(X, Y).network_
    chain = small(chip, steps=1).fit(X, Y, initial=network)
    map_ = ParameterMap(CFG)
    drift = chain.samples_["last"] - map_.join(list(network.weights), list(network.biases))
    assert np.count_nonzero(drift) <= 4


def test_read_outs(chip: Chip) -> None:
    chain = small(chip).fit(X, Y)
    counts = {}
    for name in ("best", "map", "mean", "last", "vote"):
        chain.read_out = name
        counts[name] = len(chain.counts(X))
    assert counts == {"best": 1, "map": 1, "mean": 1, "last": 1, "vote": 20}
    assert np.array_equal(chain.samples_["last"], chain.votes_[-1])


# ---- the gradient ---------------------------------------------------------------------------------------------------


def test_input_spikes_are_the_chips_encoders(chip: Chip) -> None:
    chip.load(Network(weights=[np.zeros((4, 6), int), np.zeros((6, 2), int)]))
    out = chip.run(X, steps=25)
    assert np.array_equal(input_spikes(CFG, X, 25).sum(axis=(1, 2)), out.input_spikes)


@pytest.mark.parametrize("reset", ["subtract", "zero", "none"])
def test_rebuilt_membrane_is_exact_on_the_ideal_chip(reset: str) -> None:
    map_ = ParameterMap(CFG)
    cell = Neuron(reset=reset)
    vector = draw_start(map_, 40.0, 1)
    trainer = MetropolisHastings(None, neuron=cell)  # type: ignore[arg-type]
    with Chip(CFG) as chip:
        trainer.chip = chip
        chip.load(trainer.network_of(vector))
        out = chip.run(X, steps=20, record=("raster",))
    weights, biases = map_.split(vector)
    source = input_spikes(CFG, X, 20).astype(np.float32)
    codes = {"none": 0, "zero": 1, "subtract": 2}
    for layer in range(2):
        x = weighted_input(source, weights[layer], biases[layer], cell.shift)
        theta = np.full(len(biases[layer]), cell.threshold)
        raster = np.ascontiguousarray(out.raster[layer])
        u = reconstruct(x, raster, theta, 1024, 256, codes[reset], cell.threshold, *CFG.state_range, False)
        assert np.array_equal(u >= cell.threshold, raster)
        source = raster.astype(np.float32)
    assert np.array_equal(u.sum(axis=1), out.potential_sum)


def forward_sensitivity(
    map_: ParameterMap, vector: Any, inputs: Any, rasters: Any, us: Any, labels: Any, beta: float, reset: str
) -> Any:
    """Gradient by forward accumulation, one sample, step and neuron at a time: shares no code with the trainer."""
    theta, keep_syn, keep_mem, scale = 8192.0, 1 - 1024 / 4096, 1 - 256 / 4096, 16.0
    weights, _ = map_.split(vector.astype(float))
    gradient = np.zeros(map_.size)
    for sample in range(len(labels)):
        below = np.zeros((inputs.shape[1], inputs.shape[2], map_.size))
        spikes = inputs[sample]
        for layer, matrix in enumerate(weights):
            steps, n_post = rasters[layer].shape[1:]
            current, membrane = np.zeros((n_post, map_.size)), np.zeros((n_post, map_.size))
            above = np.zeros((steps, n_post, map_.size))
            for t in range(steps):
                for i in range(n_post):
                    dx = np.zeros(map_.size)
                    for j in range(matrix.shape[0]):
                        dx += matrix[j, i] * below[t, j]
                        dx[map_.weight_slices[layer].start + j * n_post + i] += spikes[t, j]
                    dx[map_.bias_slices[layer].start + i] += 1
                    current[i] = keep_syn * current[i] + scale * dx
                    du = keep_mem * membrane[i] + current[i]
                    u = us[layer][sample, t, i]
                    above[t, i] = du / (theta * (1 + 2 * abs(u - theta) / theta) ** 2)
                    membrane[i] = 0 if reset == "zero" and rasters[layer][sample, t, i] else du
            below, spikes = above, rasters[layer][sample]
        counts = rasters[-1][sample].sum(axis=0)
        p = np.exp(beta * counts - np.max(beta * counts))
        p /= p.sum()
        p[labels[sample]] -= 1
        gradient += beta * np.einsum("k,tkp->p", p, below) / len(labels)
    return gradient


@pytest.mark.parametrize("reset", ["subtract", "zero"])
def test_gradient_equals_forward_accumulation(reset: str) -> None:
    cfg = ChipConfig(layers=(3, 4, 3, 2), lanes=4)
    map_, cell = ParameterMap(cfg), Neuron(reset=reset)
    vector = draw_start(map_, 90.0, 2)
    rng = np.random.default_rng(0)
    x, labels = rng.integers(60, 256, (3, 3)).astype(np.uint8), np.array([0, 1, 1])
    trainer = MetropolisHastings(None, neuron=cell)  # type: ignore[arg-type]
    with Chip(cfg) as chip:
        trainer.chip = chip
        chip.load(trainer.network_of(vector))
        out = chip.run(x, steps=9, record=("raster",))
    assert sum(int(counts.sum()) for counts in out.counts) >= 10
    inputs = input_spikes(cfg, x, 9).astype(np.float32)
    loss, accuracy, gradient = Gradient(map_, cell, 0.5, clamp=False)(vector, inputs, out.raster, labels)
    # Membranes by a plain integer loop.
    us, source = [], inputs.astype(int)
    for (weights, biases), raster in zip(zip(*map_.split(vector), strict=True), out.raster, strict=True):
        u = np.zeros(raster.shape)
        current = np.zeros(raster.shape[::2], dtype=int)
        membrane = np.zeros_like(current)
        for t in range(9):
            current = current - ((current * 1024 + 2048) >> 12) + ((source[:, t] @ weights + biases) << 4)
            membrane = membrane - ((membrane * 256 + 2048) >> 12) + current
            u[:, t] = membrane
            fired = raster[:, t]
            membrane = np.where(fired, 0 if reset == "zero" else membrane - 8192, membrane)
        us.append(u)
        source = raster.astype(int)
    expected = forward_sensitivity(map_, vector, inputs, out.raster, us, labels, 0.5, reset)
    assert np.allclose(gradient, expected, rtol=1e-9, atol=1e-15)
    assert np.abs(gradient).max() > 0
    log_p = log_softmax(0.5 * out.counts[-1].astype(float))
    assert loss == pytest.approx(-log_p[np.arange(3), labels].mean())
    assert accuracy == np.mean(out.counts[-1].argmax(axis=1) == labels)


def test_backprop_learns_and_ideal_training_does_not_touch_the_chip(chip: Chip) -> None:
    ideal = SurrogateGradient(chip, "ideal", updates=80, seed=0).fit(X, Y)
    assert ideal.cost_["samples"] == 0
    loop = SurrogateGradient(chip, "in-loop", updates=80, seed=0).fit(X, Y)
    assert loop.cost_["samples"] == 80 * 40
    assert loop.history_["best_loss"][-1] < 0.6 * loop.history_["loss"][0]
    assert loop.score(DATA.x_test, DATA.y_test) > 0.75


def test_domain_randomisation_uses_the_given_dies(chip: Chip) -> None:
    asked: list[int] = []

    def dies(index: int) -> Die:
        asked.append(index)
        return Die(seed=100 + index, level=0.5)

    descend(chip, mode="domain-randomised", dies=dies, n_dies=3).fit(X, Y)
    assert asked == [0, 1, 2]


def test_balanced_accuracy_shares_ties() -> None:
    counts = np.array([[3, 1], [2, 2], [0, 0], [1, 4]])
    assert balanced_accuracy(counts, np.array([0, 0, 1, 1])) == pytest.approx((0.75 + 0.75) / 2)


# ---- bad input ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (X[:, :3], Y, "this chip has 4 inputs"),
        (X[0], Y, "must be two-dimensional"),
        (X[:0], Y[:0], "hold no samples"),
        (X / 255.0, Y, "uint8 intensities 0..255"),
        (np.where(X > 200, np.nan, X / 255.0), Y, "NaN or infinite"),
        (X.astype(int) + 100, Y, "within 0..255"),
        (X.astype(int) - 300, Y, "within 0..255"),
        (X > 100, Y, "must be integers"),
        (X, Y[:-1], "39 labels for 40 samples"),
        (X, Y[:, None], "one-dimensional"),
        (X, np.where(Y, np.nan, 0.0), "NaN"),
        (X, np.arange(40), "Labels take 40 different values, but this chip has 2 outputs"),
        (X, np.full(40, "a"), "Labels take 1 different values"),
        (X, np.where(Y, "a", np.ones(40, object)), "Labels of mixed types: must all be numbers or words"),
    ],
)
@pytest.mark.parametrize("make", [small, descend])
def test_bad_data(chip: Chip, make: Any, x: Any, y: Any, message: str) -> None:
    before = chip.stats.samples
    with pytest.raises(TrainingError, match=message):
        make(chip).fit(x, y)
    assert chip.stats.samples == before


@pytest.mark.parametrize(
    ("make", "setting"),
    [(small, item) for item in ({"steps": 0}, {"steps": 2.5}, {"beta": 0}, {"beta": "x"}, {"block": 45}, {"block": 0})]
    + [(small, item) for item in ({"width": 100.0}, {"prior_sd": 0}, {"burn_in": 1.0}, {"read_out": "worst"})]
    + [(small, item) for item in ({"encoding": "morse"}, {"timesteps": 0}, {"seed": -1}, {"neuron": {"theta": 3}})]
    + [(descend, item) for item in ({"mode": "magic"}, {"updates": 0}, {"batch_size": 0}, {"learning_rate": 0})]
    + [(descend, item) for item in ({"encoding": "bernoulli"}, {"n_dies": 0}, {"prior_sd": np.nan})],
)
def test_bad_settings(chip: Chip, make: Any, setting: dict[str, Any]) -> None:
    with pytest.raises(TrainingError, match="must be") as caught:
        make(chip, **setting).fit(X, Y)
    assert str(caught.value).count(".") >= 1
    assert "\n" not in str(caught.value)


def test_bad_starts(chip: Chip) -> None:
    with pytest.raises(TrainingError, match="must be 44 integers or a Network"):
        small(chip).fit(X, Y, initial=np.zeros(10, int))
    with pytest.raises(UserError, match="layers"):
        small(chip).fit(X, Y, initial=Network(weights=[np.zeros((4, 2), int)]))


@pytest.mark.parametrize("make", [small, descend])
def test_a_refused_refit_changes_nothing(chip: Chip, make: Any) -> None:
    trainer = make(chip).fit(X, Y)
    predicted = trainer.predict(X)
    with pytest.raises(TrainingError, match="must be 44 integers or a Network"):
        trainer.fit(X, np.where(Y, "a", "b"), initial=np.zeros(10, int))
    assert trainer.classes_.tolist() == [0, 1]
    assert np.array_equal(trainer.predict(X), predicted)


@pytest.mark.parametrize("kind", [MetropolisHastings, SurrogateGradient, DelGrad])
def test_chips_of_binary_weights_have_trainers_of_their_own(kind: Any) -> None:
    delays = {"delays": "none"} if kind is DelGrad else {}
    with Chip(ChipConfig((4, 8, 2), binary_weights=True)) as chip:
        with pytest.raises(TrainingError, match="trainers are BinaryStraightThrough and BayesianBinary"):
            kind(chip, **delays).fit(X, Y)
        assert chip.stats.samples == 0


def test_settings_can_be_checked_before_there_is_a_chip() -> None:
    without = SimpleNamespace(cfg=CFG)
    for make in (small, descend):
        make(without).check_settings()
    for bad in (small(without, steps=0), descend(without, updates=0), small(without, beta=np.nan)):
        with pytest.raises(TrainingError, match="must be"):
            bad.check_settings()


def test_not_a_chip() -> None:
    with pytest.raises(TrainingError, match="must be a Chip"):
        small("golden").fit(X, Y)


def test_not_fitted(chip: Chip) -> None:
    for trainer in (small(chip), descend(chip)):
        for call in (trainer.predict, trainer.predict_proba, trainer.counts):
            with pytest.raises(NotFittedError):
                call(X)
        with pytest.raises(TrainingError, match="call fit"):
            trainer.state_dict()
