"""SSNN-BP: that it learns, that interruptions and batches leave no trace, the settings it makes, and bad input."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from host import Chip, Die, Events, Network, datasets
from host.errors import EventsError, NetworkError, UserError
from host.trainers import CheckpointError, Progress, SpikeBackprop, StopTraining, TrainingError, checkpoint
from pymodel import GoldenChip
from rtl.config import ChipConfig

CFG = ChipConfig((64, 24, 10), lanes=8, die_tables=False, learning=True)
DATA = datasets.split("digits", 1200, seed=0)
X, Y = DATA.x_train[:200], DATA.y_train[:200]
X_TEST, Y_TEST = DATA.x_test, DATA.y_test


@pytest.fixture
def chip() -> Iterator[Chip]:
    with Chip(CFG) as chip:
        yield chip


def trainer(chip: Any, **settings: Any) -> SpikeBackprop:
    return SpikeBackprop(chip, **{"epochs": 2, "timesteps": 5, "batch_size": 30, "seed": 5, **settings})


def same(first: SpikeBackprop, second: SpikeBackprop) -> None:
    """Two trainings agree in everything but the time they took."""
    for a, b in zip(first.weights_, second.weights_, strict=True):
        assert np.array_equal(a, b)
    for name in first.history_.keys() - {"seconds"}:
        assert np.array_equal(first.history_[name], second.history_[name], equal_nan=True), name
    assert first.cost_ == second.cost_


# ---- learning -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "settings",
    [{}, {"noise": "gumbel"}, {"encoding": "rate"}, {"decay_mem": (2048, 4096)}, {"read_out": "count"}],
    ids=["default", "gumbel", "rate", "leak", "count"],
)
def test_learns_digits(chip: Chip, settings: dict[str, Any]) -> None:
    model = SpikeBackprop(chip, 2, **settings)
    assert model.fit(DATA.x_train, DATA.y_train) is model
    assert model.score(X_TEST, Y_TEST) > 0.85
    assert model.history_["training_error"][1] < model.history_["training_error"][0]
    assert chip.network.weights[0].dtype == np.int32
    for on_chip, weights in zip(chip.weights(), model.weights_, strict=True):
        assert np.array_equal(on_chip, weights)


@pytest.mark.parametrize(
    ("cfg", "settings", "least"),
    [
        (ChipConfig((64, 10), lanes=4, learning=True), {}, 0.85),
        (ChipConfig((64, 32, 24, 10), lanes=16, learning=True), {"gradient_bits": (5, 6), "epochs": 5}, 0.8),
        (ChipConfig((64, 24, 10), weight_bits=10, learning=True), {"forward_shift": 2}, 0.85),
    ],
    ids=["no hidden layer", "two hidden layers", "learned finer than added"],
)
def test_other_networks_learn(cfg: ChipConfig, settings: dict[str, Any], least: float) -> None:
    with Chip(cfg) as chip:
        model = SpikeBackprop(chip, **{"epochs": 2, **settings}).fit(DATA.x_train, DATA.y_train)
        assert model.score(X_TEST, Y_TEST) > least


def test_learns_on_a_distorted_die() -> None:
    with Chip(ChipConfig((64, 24, 10), learning=True), die=Die(seed=1, level=1.0)) as chip:
        model = SpikeBackprop(chip, 3).fit(DATA.x_train, DATA.y_train)
        assert model.score(X_TEST, Y_TEST) > 0.8


def test_learns_from_events(chip: Chip) -> None:
    rng = np.random.default_rng(0)

    def events(x: np.ndarray) -> Events:
        return Events.from_dense(rng.random((len(x), 6, 64)) < x[:, None] / 256)

    train, test = events(DATA.x_train), events(X_TEST)
    model = SpikeBackprop(chip, 2, timesteps=6).fit(train, DATA.y_train, test[:50], Y_TEST[:50])
    assert model.score(test, Y_TEST) > 0.8
    assert model.history_["validation_accuracy"][-1] > 0.7
    again = SpikeBackprop(chip, 2, timesteps=6).fit(train, DATA.y_train, test[:50], Y_TEST[:50])
    same(model, again)


def test_history_and_cost_are_what_the_chip_reports(chip: Chip) -> None:
    class Watched:
        def __init__(self) -> None:
            self.outs: list[Any] = []

        def __getattr__(self, name: str) -> Any:
            return getattr(chip, name)

        def learn(self, x: Any, labels: Any, *args: Any, **kwargs: Any) -> Any:
            self.outs.append((labels, chip.learn(x, labels, *args, **kwargs)))
            return self.outs[-1][1]

    watched = Watched()
    model = trainer(watched, epochs=1, batch_size=1000, schedule=[0.5], rates=(1.0, 0.25)).fit(X, Y)
    (labels, out), history = watched.outs[0], model.history_
    assert set(history) == {
        "epoch", "training_error", "gradient_spikes", "validation_accuracy", "cycles_per_sample", "saturated",
        "seconds", "rate_1", "rate_2",
    }  # fmt: skip
    wrong = 1 - out.winners[np.arange(200), labels].sum() / (200 * 5)
    assert history["training_error"].tolist() == [pytest.approx(wrong)]
    assert history["gradient_spikes"].tolist() == [(out.positive[0] + out.negative[0]).sum() / (200 * 5)]
    assert history["cycles_per_sample"].tolist() == [out.cycles.mean()]
    assert (history["rate_1"].tolist(), history["rate_2"].tolist()) == ([0.5], [0.125])
    assert np.isnan(history["validation_accuracy"]).all()
    assert history["saturated"][0] == np.mean(np.isin(np.concatenate([w.ravel() for w in model.weights_]), (-128, 127)))
    assert sorted(labels.tolist()) == sorted(Y.tolist())
    assert model.cost_["samples"] == 200
    assert {name: chip.stats.to_dict()[name] for name in model.cost_} == model.cost_


# ---- estimator interface --------------------------------------------------------------------------------------------


def test_clone_shares_the_chip_and_copies_settings(chip: Chip) -> None:
    model = trainer(chip, rates=[1.0, 0.5], schedule=[1.0, 0.5], epochs=2).fit(X, Y)
    copy = clone(model)
    assert copy.chip is chip
    assert {**model.get_params(), "chip": 0} == {**copy.get_params(), "chip": 0}
    assert copy.rates is not model.rates
    with pytest.raises(NotFittedError, match="not fitted yet; call fit"):
        copy.predict(X)
    same(model, copy.fit(X, Y))


@pytest.mark.parametrize("read_out", ["potential", "count"])
def test_predictions(chip: Chip, read_out: str) -> None:
    model = trainer(chip, read_out=read_out, test_timesteps=8).fit(X, Y)
    proba = model.predict_proba(X_TEST)
    assert proba.shape == (len(X_TEST), 10)
    assert np.allclose(proba.sum(axis=1), 1)
    predicted = model.predict(X_TEST)
    assert np.array_equal(predicted, proba.argmax(axis=1))
    assert model.score(X_TEST, Y_TEST) == np.mean(predicted == Y_TEST) == model.evaluate(X_TEST, Y_TEST)[0]
    chip.load(model.network_)
    out = model.present(X_TEST)
    assert out.winners.sum() == 8 * len(X_TEST)
    scores = out.potential_sum if read_out == "potential" else out.winners
    assert np.array_equal(predicted, scores.argmax(axis=1))
    if read_out == "potential":  # softmax of the mean membrane, the noise being 2^5 wide
        expected = np.exp((scores - scores.max(axis=1, keepdims=True)) / 8 / 32)
        assert np.allclose(proba, expected / expected.sum(axis=1, keepdims=True))


def test_label_names_are_kept(chip: Chip) -> None:
    names = np.array([f"digit {digit}" for digit in range(10)])
    model = trainer(chip).fit(X, names[Y], X_TEST[:50], names[Y_TEST[:50]])
    assert model.classes_.tolist() == names.tolist()
    assert model.score(X_TEST, names[Y_TEST]) == trainer(chip).fit(X, Y).score(X_TEST, Y_TEST)
    with pytest.raises(TrainingError, match="Label 'digit ten': must be one of the classes"):
        trainer(chip).fit(X, names[Y], X_TEST[:1], ["digit ten"])


def test_same_seed_same_result_other_seed_other_result(chip: Chip) -> None:
    model = trainer(chip).fit(X, Y)
    same(model, trainer(chip).fit(X, Y))
    other = trainer(chip, seed=6).fit(X, Y)
    assert not np.array_equal(model.weights_[0], other.weights_[0])
    ordered = trainer(chip, shuffle=False).fit(X, Y)
    assert not np.array_equal(model.weights_[0], ordered.weights_[0])


def test_start_from_a_network(chip: Chip) -> None:
    start = [np.full((64, 24), 3), np.full((24, 10), -2)]
    for initial in (start, Network(start)):
        model = trainer(chip, rates=0.0).fit(X, Y, initial=initial)
        assert all(np.array_equal(a, b) for a, b in zip(model.weights_, start, strict=True))
    with pytest.raises(NetworkError, match="layers"):
        trainer(chip).fit(X, Y, initial=start[:1])


# ---- batches, pieces, interruptions ---------------------------------------------------------------------------------


@pytest.mark.parametrize("epochs", [1, 2, 4])
def test_batches_leave_no_trace(chip: Chip, epochs: int) -> None:
    """Also where the rates change within an epoch."""
    whole = trainer(chip, epochs=epochs, batch_size=1000).fit(X, Y)
    for batch_size in (1, 67) if epochs == 1 else (67,):
        same(whole, trainer(chip, epochs=epochs, batch_size=batch_size).fit(X, Y))


def test_pieces_are_the_whole(chip: Chip) -> None:
    settings = {"epochs": 1, "schedule": [1.0], "shuffle": False, "rates": 0.7}
    whole, pieces = trainer(chip, **settings).fit(X, Y), trainer(chip, **settings)
    with Chip(CFG) as other:
        pieces.chip = other
        for cut in (slice(0, 1), slice(1, 80), slice(80, 200)):
            assert pieces.partial_fit(X[cut], Y[cut]) is pieces
        for a, b in zip(whole.weights_, pieces.weights_, strict=True):
            assert np.array_equal(a, b)
        assert pieces.history_["epoch"].tolist() == [1, 1, 1]
        assert whole.cost_ == pieces.cost_
        assert np.array_equal(pieces.predict(X_TEST), whole.predict(X_TEST))


def test_partial_fit_goes_on_after_fit(chip: Chip) -> None:
    model = trainer(chip).fit(X, Y)
    before = model.weights_
    model.partial_fit(X[:50], Y[:50]).partial_fit(X[50:60], Y[50:60])
    assert model.history_["epoch"].tolist() == [1, 2, 3, 3]
    assert model.history_["rate_1"][2] == model.history_["rate_1"][1] == 0.12
    assert not np.array_equal(model.weights_[0], before[0])
    with pytest.raises(CheckpointError, match="other training data"):
        trainer(chip).fit(X, Y, resume=model.state_dict())


def test_partial_fit_with_few_classes_at_a_time(chip: Chip) -> None:
    names = np.array([f"digit {digit}" for digit in range(10)])
    model = trainer(chip).partial_fit(X[:3], names[Y[:3]], classes=names)
    model.partial_fit(X[3:5], names[Y[3:5]])
    assert model.classes_.tolist() == names.tolist()
    with pytest.raises(TrainingError, match="Label 'zero': must be one of the classes"):
        model.partial_fit(X[:1], ["zero"])
    with pytest.raises(TrainingError, match="Labels take 1 different values"):
        trainer(chip).partial_fit(X[:1], ["zero"])


class Flaky:
    """A chip that is interrupted in its n-th presentation."""

    def __init__(self, chip: Chip, calls: int) -> None:
        self._chip, self._left = chip, calls

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._chip, name)
        if name not in ("run", "learn"):
            return method

        def call(*args: Any, **kwargs: Any) -> Any:
            self._left -= 1
            if self._left == 0:
                raise KeyboardInterrupt
            return method(*args, **kwargs)

        return call


SPLIT = {"validation_fraction": 0.2, "early_stopping": True, "patience": 1, "epochs": 3}


@pytest.mark.parametrize("settings", [{}, SPLIT], ids=["plain", "validation"])
def test_resumed_training_equals_uninterrupted_one(chip: Chip, tmp_path: Path, settings: dict[str, Any]) -> None:
    """Interrupted in every presentation, those of the validation set included, and after every batch."""
    calls = Flaky(chip, -1)
    whole = trainer(calls, **settings).fit(X, Y)
    path = tmp_path / "c.npz"
    for call in range(1, -calls._left):
        broken = trainer(Flaky(chip, call), **settings)
        with pytest.raises(KeyboardInterrupt):
            broken.fit(X, Y)
        checkpoint.save(path, broken.state_dict())
        with Chip(CFG) as fresh:
            same(whole, trainer(fresh, **settings).fit(X, Y, resume=checkpoint.load(path)))
    states = []

    def keep(progress: Progress) -> None:
        states.append(again.state_dict())

    again = trainer(chip, **settings)
    again.fit(X, Y, callback=keep)
    for state in states[::3]:
        checkpoint.save(path, state)
        same(whole, trainer(chip, batch_size=11, **settings).fit(X, Y, resume=checkpoint.load(path)))


def test_a_backend_that_dies_in_training_leaves_no_trace(chip: Chip) -> None:
    class Mortal:
        class Died(RuntimeError):
            pass

        died = (Died,)

        def __init__(self) -> None:
            self.left = 5
            self.restart()

        def restart(self) -> None:
            self.inner = GoldenChip(CFG)

        def exchange(self, words: np.ndarray) -> np.ndarray:
            answer = self.inner.exchange(words)
            self.left -= 1
            if self.left == 0:  # it has learned, but nobody hears of it
                raise Mortal.Died("killed by a test")
            return answer

        def close(self) -> None: ...

    whole = trainer(chip).fit(X, Y)
    with Chip(CFG, backend=Mortal()) as mortal, pytest.warns(RuntimeWarning, match="killed by a test"):
        same(whole, trainer(mortal).fit(X, Y))


def test_stop_training_keeps_what_there_is(chip: Chip) -> None:
    seen: list[Progress] = []

    def stop(progress: Progress) -> None:
        seen.append(progress)
        if progress.step >= 260:
            raise StopTraining

    model = trainer(chip).fit(X, Y, callback=stop)
    assert [progress.step for progress in seen] == [30, 60, 90, 120, 134, 164, 194, 200, 230, 260]
    assert {progress.total for progress in seen} == {400}
    assert all(0 <= progress.accuracy <= 1 for progress in seen)
    assert model.history_["epoch"].tolist() == [1]
    model.predict(X)


def test_validation_and_early_stopping(chip: Chip) -> None:
    settings = {"epochs": 8, "schedule": [1.0] * 8}
    watched = trainer(chip, **settings).fit(X, Y, X_TEST[:60], Y_TEST[:60])
    accuracies = watched.history_["validation_accuracy"]
    assert len(accuracies) == 8
    chip.load(watched.network_)
    assert accuracies[-1] == np.mean(watched.predict(X_TEST[:60]) == Y_TEST[:60])
    for patience in (1, 2, 8):
        early = {"early_stopping": True, "patience": patience}
        stopped = trainer(chip, **early, **settings).fit(X, Y, X_TEST[:60], Y_TEST[:60])
        found = stopped.history_["validation_accuracy"]
        best = int(np.argmax(found))
        assert np.array_equal(found, accuracies[: len(found)])
        assert len(found) == min(8, best + 1 + patience)
        assert np.mean(stopped.predict(X_TEST[:60]) == Y_TEST[:60]) == found[best]
    # The set held back is not trained on, and the same for the same seed.
    part = trainer(chip, epochs=1, validation_fraction=0.25).fit(X, Y)
    assert part.cost_["samples"] == 150 + 50
    assert trainer(chip, epochs=1).fit(X, Y).cost_["samples"] == 200


# ---- settings -------------------------------------------------------------------------------------------------------


def test_the_network_is_the_one_of_the_manual() -> None:
    with Chip(ChipConfig((20, 9, 8, 5), weight_bits=10, learning=True)) as chip:
        model = SpikeBackprop(chip, offset=(0, -100), fire_bits=(9, 6), rates=(1, 0.5, 0.12))
        network = model.network_of(model._start(None), model._phases()[0])
        network.check(chip.cfg)
        # A gate is open for -GX < V - LO < 2^K + GX.
        assert network.constants["gate_centre"][:2] == (256, -100 + 32)
        assert network.constants["gate_window"][:2] == (512, 64)
        assert network.fire == ("stochastic", "stochastic", "winner")
        assert network.noise == ("none", "none", "gumbel")
        assert network.constants["fire_bits"] == (9, 6, 0)
        assert network.constants["noise_shift"] == (0, 0, 7)
        assert network.constants["gradient_bits"] == (6, 6, 0)
        assert network.constants["rate"] == (65536, 32768, 7864)
        assert network.constants["decay_mem"] == network.constants["decay_syn"] == (4096,) * 3
        assert network.constants["shift"] == (0,) * 3
        assert [set(values.tolist()) for values in network.thresholds] == [{0}, {-100}, {0}]
        assert not any(values.any() for values in network.biases)
        assert network.reset == ("none",) * 3
        # +-0.25 * 2^K / 10 towards hidden neurons, +-2^G / sqrt(8) towards outputs.
        assert [np.abs(matrix).max() for matrix in network.weights[:2]] == [13, 2]
        assert 35 < np.abs(network.weights[2]).max() <= 45
        model = SpikeBackprop(chip, forward_shift=2)
        network = model.network_of(model._start(None), [0, 0, 0])
        assert network.constants["fire_bits"] == (7, 7, 0)
        assert network.constants["noise_shift"] == (0, 0, 5)


@pytest.mark.parametrize(
    ("epochs", "expected"),
    [
        (1, [1, 0.5, 0.12]),
        (3, [1, 0.5, 0.12]),
        (5, [1, 0.85, 0.425, 0.21, 0.09]),
        (10, [1, 1, 1, 0.7, 0.5, 0.35, 0.25, 0.17, 0.12, 0.06]),
    ],
)
def test_default_schedule(chip: Chip, epochs: int, expected: list[float]) -> None:
    phases = SpikeBackprop(chip, epochs, rates=(1.0, 0.5))._phases()
    assert np.allclose(phases, np.outer(expected, [1.0, 0.5]))
    given = SpikeBackprop(chip, 2, rates=(1.0, 0.5), schedule=[(1, 1), (0.5, 0.1)])._phases()
    assert np.allclose(given, [[1, 0.5], [0.5, 0.05]])


@pytest.mark.parametrize(
    "setting",
    [
        {"epochs": 0}, {"epochs": 1.5}, {"timesteps": 0}, {"test_timesteps": 0}, {"test_timesteps": 65_535},
        {"encoding": "morse"}, {"noise": "pink"}, {"noise_shift": 16}, {"noise_shift": -1}, {"read_out": "vote"},
        {"schedule": [1.0]}, {"schedule": [1.0, 1.0, 1.0]}, {"schedule": 1.0}, {"schedule": "ab"},
        {"schedule": [1.0, 1.5]}, {"schedule": [1.0, -0.1]}, {"schedule": [1.0, np.nan]}, {"schedule": [1.0, None]},
        {"schedule": [1.0, "x"]}, {"schedule": [(1, 1), (1, 1, 1)]}, {"schedule": [(1, 1), (1, 2)]},
        {"rates": 1.1}, {"rates": -1}, {"rates": [1.0]}, {"rates": [1.0, np.nan]}, {"rates": True}, {"rates": None},
        {"fire_bits": 0}, {"fire_bits": 17}, {"fire_bits": [7, 7]}, {"fire_bits": 7.0}, {"gradient_bits": 17},
        {"gradient_bits": None}, {"gate_extension": -1}, {"offset": 1 << 23}, {"offset": 0.5}, {"decay_mem": 4097},
        {"decay_mem": [4096]}, {"forward_shift": 8}, {"init": -1}, {"init": np.inf}, {"shuffle": 1},
        {"validation_fraction": 1.0}, {"validation_fraction": -0.1}, {"early_stopping": "yes"}, {"patience": 0},
        {"batch_size": 0}, {"seed": -1}, {"seed": 1 << 32},
    ],
    ids=str,
)  # fmt: skip
def test_bad_settings(chip: Chip, setting: dict[str, Any]) -> None:
    for call in (lambda: trainer(chip, **setting).fit(X, Y), lambda: trainer(chip, **setting).partial_fit(X, Y)):
        with pytest.raises(TrainingError, match="must be") as caught:
            call()
        assert str(caught.value).startswith(f"Setting {next(iter(setting))}")
        assert "\n" not in str(caught.value)
    assert chip.stats.samples == 0


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (X[:, :3], Y, "this chip has 64 inputs"),
        (X[0], Y, "must be two-dimensional"),
        (X[:0], Y[:0], "hold no samples"),
        (X / 255.0, Y, "uint8 intensities 0..255"),
        (X.astype(int) + 100, Y, "within 0..255"),
        (X, Y[:-1], "199 labels for 200 samples"),
        (X, Y[:, None], "one-dimensional"),
        (X, np.where(Y, np.nan, 0.0), "NaN"),
        (X, Y % 2 + 20, "Labels take 2 different values, but this chip has 10 outputs"),
        (X, None, "Labels of shape"),
        (Events([], []), [], "hold no samples"),
    ],
)
def test_bad_data(chip: Chip, x: Any, y: Any, message: str) -> None:
    with pytest.raises(TrainingError, match=message):
        trainer(chip).fit(x, y)
    with pytest.raises(TrainingError, match=message):
        trainer(chip).partial_fit(x, y)
    assert chip.stats.samples == 0


def test_bad_events(chip: Chip) -> None:
    late = Events([[5]] * 10, [[0]] * 10)
    labels = np.arange(10)
    for call in (trainer(chip).fit, trainer(chip).partial_fit):
        with pytest.raises(EventsError, match="time step 5: must be below steps = 5"):
            call(late, labels)
    good = Events([[0]] * 10, [[0]] * 10)
    with pytest.raises(EventsError, match="time step 5"):
        trainer(chip).fit(good, labels, late, labels)
    many = Events.from_dense(np.ones((10, 30, 64), bool))
    with pytest.raises(TrainingError, match="A sample has 1920 events: this chip takes at most 1021 with a label"):
        trainer(chip, timesteps=30).fit(many, labels)
    assert chip.stats.samples == 0


def test_bad_validation_sets(chip: Chip) -> None:
    for extra in ({"X_val": X}, {"y_val": Y}):
        with pytest.raises(TrainingError, match="needs both X_val and y_val"):
            trainer(chip).fit(X, Y, **extra)
    with pytest.raises(TrainingError, match="this chip has 64 inputs"):
        trainer(chip).fit(X, Y, X[:, :3], Y)
    with pytest.raises(TrainingError, match="Label 10: must be one of the classes"):
        trainer(chip).fit(X, Y, X, Y + 1)
    with pytest.raises(TrainingError, match="early_stopping = True: needs a validation set"):
        trainer(chip, early_stopping=True).fit(X, Y)


def test_a_chip_without_learning() -> None:
    with Chip(ChipConfig((64, 24, 10))) as deaf:
        for chip, message in ((deaf, r"needs a chip with ChipConfig\(learning=True\)"), ("golden", "must be a Chip")):
            for call in (trainer(chip).fit, trainer(chip).partial_fit):
                with pytest.raises(TrainingError, match=message):
                    call(X, Y)


def test_foreign_and_damaged_checkpoints(chip: Chip, tmp_path: Path) -> None:
    model = trainer(chip, rates=(1.0, 0.5)).fit(X, Y)
    path = tmp_path / "c.npz"
    checkpoint.save(path, model.state_dict())
    with pytest.raises(CheckpointError, match="other settings: epochs, rates differ"):
        trainer(chip, epochs=3).fit(X, Y, resume=checkpoint.load(path))
    for x, y in ((X[::-1], Y), (X, Y[::-1])):
        with pytest.raises(CheckpointError, match="other training data"):
            trainer(chip, rates=(1.0, 0.5)).fit(x, y, resume=checkpoint.load(path))
    with pytest.raises(CheckpointError, match="other training data"):
        trainer(chip, rates=(1.0, 0.5)).fit(X, Y, X, Y, resume=checkpoint.load(path))
    with Chip(ChipConfig((64, 25, 10), learning=True)) as other, pytest.raises(CheckpointError, match="another chip"):
        trainer(other, rates=(1.0, 0.5)).fit(X, Y, resume=checkpoint.load(path))
    for damage in ("weights_0", "rows"):
        state = checkpoint.load(path)
        del state.arrays[damage]
        with pytest.raises(CheckpointError, match="lacks parts"):
            trainer(chip, rates=(1.0, 0.5)).fit(X, Y, resume=state)
    state = checkpoint.load(path)
    state.arrays["weights_0"] = state.arrays["weights_0"][:-1]
    with pytest.raises(CheckpointError, match="do not fit"):
        trainer(chip, rates=(1.0, 0.5)).fit(X, Y, resume=state)
    same(model, trainer(chip, rates=[1.0, 0.5]).fit(X, Y, resume=checkpoint.load(path)))


def test_not_fitted(chip: Chip) -> None:
    for call in (trainer(chip).predict, trainer(chip).predict_proba):
        with pytest.raises(NotFittedError):
            call(X)
    with pytest.raises(TrainingError, match="call fit"):
        trainer(chip).state_dict()
    with pytest.raises(UserError, match="this chip has 64 inputs"):
        trainer(chip).fit(X, Y).predict(X[:, :2])
