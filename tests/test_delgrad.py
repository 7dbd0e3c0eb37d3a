"""DelGrad: that it learns, that interruptions leave no trace, silent networks, the network it makes, and bad input."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from host import Chip, Die, Events, Network, datasets
from host.datasets.small import yin_yang
from host.errors import UserError
from host.trainers import CheckpointError, DelGrad, Progress, StopTraining, TrainingError, checkpoint
from rtl.config import ChipConfig

pytestmark = pytest.mark.filterwarnings("ignore:In .* the label did not spike:RuntimeWarning")

CFG = ChipConfig((4, 10, 3), lanes=8, delay_slots=21, die_tables=False)
X, Y = yin_yang(400, 42)
X_TEST, Y_TEST = yin_yang(500, 40)
FAST: dict[str, Any] = {"steps_per_tau": 20, "epochs": 12, "batch_size": 10, "lr_weights": 0.04, "lr_delays": 0.04}


@pytest.fixture
def chip() -> Iterator[Chip]:
    with Chip(CFG) as chip:
        yield chip


def trainer(chip: Any, **settings: Any) -> DelGrad:
    return DelGrad(chip, **{**FAST, "epochs": 2, "batch_size": 25, "seed": 5, **settings})


def same(first: DelGrad, second: DelGrad) -> None:
    """Two trainings agree in everything but the time they took."""
    assert first.network_ == second.network_
    assert np.array_equal(first._training.vector, second._training.vector)
    for name in first.history_.keys() - {"seconds"}:
        assert np.array_equal(first.history_[name], second.history_[name], equal_nan=True), name
    assert first.cost_ == second.cost_


# ---- learning -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("delays", ["none", "axonal", "dendritic", "synaptic"])
def test_learns_yin_yang(chip: Chip, delays: str) -> None:
    model = DelGrad(chip, delays=delays, **FAST)
    assert model.fit(X, Y) is model
    assert model.score(X_TEST, Y_TEST) > 0.7
    history = model.history_
    assert history["loss"][-1] < 0.7 * history["loss"][0]
    assert history["training_accuracy"][-1] > history["training_accuracy"][0]
    assert np.diff(history["rate"]).max() <= 0
    assert history["rate"][-1] < 0.1 * history["rate"][0]
    for on_chip, of_model in ((chip.weights(), model.network_.weights), (chip.delays(), model.network_.delays)):
        assert all(np.array_equal(a, b) for a, b in zip(on_chip, of_model, strict=True))
    shapes = {"none": (1, 1), "axonal": (4, 1), "dendritic": (1, 10), "synaptic": (4, 10)}
    delay = model.network_.delays[0]
    rows, columns = shapes[delays]
    assert np.array_equal(delay, np.broadcast_to(delay[:rows, :columns], delay.shape))
    assert delay.max() <= 20
    assert bool(delay.any()) == (delays != "none")


@pytest.mark.parametrize(
    "settings",
    [
        {"gradient": "lambert"},
        {"gradient": "double", "tau_ratio": 2},
        {"tau_ratio": 1.5},
        {"loss": "two-sided"},
        {"loss": "cross-entropy", "margin": 0.5, "time_out": 6.0, "init": [(1.0, 1.0), (0.6, 0.5)]},
    ],
    ids=str,
)
def test_other_gradients_and_losses_learn(chip: Chip, settings: dict[str, Any]) -> None:
    assert DelGrad(chip, **FAST, **settings).fit(X, Y).score(X_TEST, Y_TEST) > 0.6


def test_other_networks_learn() -> None:
    for layers in ((4, 8, 8, 3), (4, 3)):
        with Chip(ChipConfig(layers, lanes=4, delay_slots=32, die_tables=False)) as chip:
            assert DelGrad(chip, **FAST, delays="synaptic").fit(X, Y).score(X_TEST, Y_TEST) > 0.5
    with Chip(ChipConfig((4, 10, 3), state_bits=16, delay_slots=21, axonal_delays=True)) as chip:
        assert DelGrad(chip, **FAST).fit(X, Y).score(X_TEST, Y_TEST) > 0.7


def test_learns_images_with_silent_pixels() -> None:
    data = datasets.split("digits", 600, seed=0)
    with Chip(ChipConfig((64, 20, 10), lanes=16, delay_slots=21, die_tables=False)) as chip:
        model = DelGrad(chip, **(FAST | {"epochs": 6}), t_early=0.0, t_late=1.5, silent_below=0.1)
        model.fit(data.x_train, data.y_train)
        assert model.score(data.x_test, data.y_test) > 0.6


def test_learns_on_a_distorted_die() -> None:
    """In the loop the spread of thresholds is learned away; nominal parameters do not carry over."""
    cfg = ChipConfig((4, 10, 3), lanes=8, delay_slots=21)
    with Chip(cfg, die=Die.only(seed=1, threshold_spread=0.3, noise=20.0)) as chip:
        assert DelGrad(chip, **FAST).fit(X, Y).score(X_TEST, Y_TEST) > 0.7


def test_frozen_delays_stay(chip: Chip) -> None:
    model = trainer(chip, train_delays=False)
    start = model.network_of(model._start(None))
    model.fit(X, Y)
    assert all(np.array_equal(a, b) for a, b in zip(model.network_.delays, start.delays, strict=True))
    assert not np.array_equal(model.network_.weights[0], start.weights[0])
    trained = trainer(chip, keep_best=False).fit(X, Y).network_
    assert not np.array_equal(trained.delays[0], start.delays[0])


def test_a_silent_network_is_raised_until_it_learns(chip: Chip) -> None:
    silent = [(0.2, 0.1), (0.1, 0.05)]
    with pytest.warns(RuntimeWarning, match=r"Epoch 1: layer [12] did not spike in any sample"):
        model = DelGrad(chip, **(FAST | {"batch_size": 5}), init=silent).fit(X, Y)
    history = model.history_
    assert history["silent_labels"][0] == 1
    assert history["silent_hidden"][0] > 0.9
    assert np.isnan(history["loss"][0])
    assert np.isfinite(history["loss"][-1])
    assert history["silent_labels"][-1] < 0.2
    assert model.score(X_TEST, Y_TEST) > 0.6
    assert np.isfinite(model._training.vector).all()


@pytest.mark.filterwarnings("ignore:Epoch 1:RuntimeWarning")
def test_labels_that_stay_silent_are_said(chip: Chip) -> None:
    with pytest.warns(RuntimeWarning, match=r"In 100 % of the samples of the last epoch the label did not spike"):
        model = trainer(chip, init=[(0, 0), (0, 0)], epochs=1).fit(X, Y)
    # Nothing spikes: every prediction is the lowest class, but none counts as right.
    assert model.predict(X_TEST).tolist() == [0] * len(X_TEST)
    assert model.score(X_TEST, Y_TEST) == model.evaluate(X_TEST, Y_TEST)[0] == 0
    assert np.allclose(model.predict_proba(X_TEST), 1 / 3)
    assert model.evaluate(X_TEST, Y_TEST) == (0, 0)
    assert model.decisions(X_TEST).tolist() == [-1] * len(X_TEST)


# ---- estimator interface --------------------------------------------------------------------------------------------


def test_clone_shares_the_chip_and_copies_settings(chip: Chip) -> None:
    model = trainer(chip, init=[(1.0, 0.5), (0.5, 0.5)]).fit(X, Y)
    copy = clone(model)
    assert copy.chip is chip
    assert {**model.get_params(), "chip": 0} == {**copy.get_params(), "chip": 0}
    assert copy.init is not model.init
    with pytest.raises(NotFittedError, match="not fitted yet; call fit"):
        copy.predict(X)


def test_predictions(chip: Chip) -> None:
    names = np.array(["yin", "yang", "dot"])[Y]
    model = trainer(chip).fit(X, names)
    proba, predicted = model.predict_proba(X_TEST), model.predict(X_TEST)
    assert proba.shape == (500, 3)
    assert np.allclose(proba.sum(axis=1), 1)
    assert np.array_equal(model.classes_[proba.argmax(axis=1)], predicted)
    test_names = np.array(["yin", "yang", "dot"])[Y_TEST]
    assert model.score(X_TEST, test_names) == model.evaluate(X_TEST, test_names)[0]
    assert model.score(X_TEST, test_names) <= np.mean(predicted == test_names)
    first = model.present(X_TEST).first_spike[-1]
    fired = (first >= 0).any(axis=1)
    assert np.array_equal(predicted[fired], model.classes_[np.where(first < 0, 999, first).argmin(axis=1)][fired])
    rows = np.arange(500) < 100
    assert model.score(X_TEST, test_names, sample_weight=rows) == model.score(X_TEST[:100], test_names[:100])
    # A raster makes every sample run to its time-out, which does not change what came first.
    recorded = model.present(X_TEST[:50], record=("raster",))
    assert np.array_equal(
        model.scores_of(recorded).argmax(axis=1), model.scores_of(model.present(X_TEST[:50])).argmax(axis=1)
    )


def test_events_are_inputs_too(chip: Chip) -> None:
    steps = np.rint(20 * (0.15 + 1.85 * X)).astype(int)
    events = Events([list(row) for row in steps], [range(4)] * len(X))
    same(trainer(chip).fit(X, Y), trainer(chip).fit(events, Y))


def test_history_and_cost_are_what_the_chip_reports(chip: Chip) -> None:
    runs: list[Any] = []

    class Spy:
        def __getattr__(self, name: str) -> Any:
            return getattr(chip, name)

        def run(self, *args: Any, **kwargs: Any) -> Any:
            runs.append((args, kwargs, chip.run(*args, **kwargs)))
            return runs[-1][2]

    model = trainer(Spy(), epochs=1, keep_best=False).fit(X, Y, X_TEST, Y_TEST)
    measured = runs.copy()
    history = {name: column[0] for name, column in model.history_.items()}
    assert len(measured) == 400 // 25 + 1
    assert len({kwargs["seed"] for _, kwargs, _ in measured}) == len(measured)
    assert all(kwargs["early_end"] and kwargs["steps"] == 80 for _, kwargs, _ in measured)
    training = [out for *_, out in measured[:-1]]
    assert history["steps"] == sum(int(out.steps.sum()) for out in training) / 400
    assert history["cycles_per_sample"] == sum(int(out.cycles.sum()) for out in training) / 400
    assert history["silent_hidden"] == pytest.approx(np.mean([(out.first_spike[0] < 0).mean() for out in training]))
    assert history["validation_accuracy"] == model.score(X_TEST, Y_TEST)
    assert model.cost_["samples"] == 400 + 500
    assert model.cost_["cycles"] == sum(int(out.cycles.sum()) for *_, out in measured)


def test_the_best_epoch_is_kept(chip: Chip) -> None:
    settings, held = {"epochs": 8, "lr_weights": 0.1}, (X_TEST[:150], Y_TEST[:150])
    kept = trainer(chip, **settings).fit(X, Y, *held)
    last = trainer(chip, **settings, keep_best=False).fit(X, Y, *held)
    accuracy = kept.history_["validation_accuracy"]
    assert accuracy.max() > accuracy[-1]
    assert kept.score(*held) == accuracy.max()
    assert last.score(*held) == accuracy[-1]
    without = trainer(chip, epochs=1, validation_fraction=0.0).fit(X, Y)
    assert np.isnan(without.history_["validation_accuracy"]).all()


# ---- determinism and resuming ---------------------------------------------------------------------------------------


def test_same_seed_same_result_other_seed_other_result(chip: Chip) -> None:
    first, second, other = trainer(chip).fit(X, Y), trainer(chip).fit(X, Y), trainer(chip, seed=6).fit(X, Y)
    same(first, second)
    assert not np.array_equal(first.history_["loss"], other.history_["loss"])


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


def test_resumed_training_equals_uninterrupted_one(tmp_path: Path) -> None:
    """Interrupted in presentations, those of the validation set included; with a noisy die."""
    cfg, settings = ChipConfig((4, 10, 3), delay_slots=21), {"batch_size": 100}
    die = Die.only(seed=2, threshold_spread=0.1, noise=50.0)
    with Chip(cfg, die=die) as chip:
        calls = Flaky(chip, -1)
        whole = trainer(calls, **settings).fit(X, Y)
        for call in range(1, -calls._left):
            broken = trainer(Flaky(chip, call), **settings)
            with pytest.raises(KeyboardInterrupt):
                broken.fit(X, Y)
            checkpoint.save(tmp_path / "c.npz", broken.state_dict())
            with Chip(cfg, die=die) as fresh:
                same(whole, trainer(fresh, **settings).fit(X, Y, resume=checkpoint.load(tmp_path / "c.npz")))


def test_stop_training_keeps_what_there_is(chip: Chip) -> None:
    seen: list[Progress] = []

    def stop(progress: Progress) -> None:
        seen.append(progress)
        if progress.step == 1:
            raise StopTraining

    model = trainer(chip).fit(X, Y, callback=stop)
    assert [progress.step for progress in seen] == [0] * 14 + [1]
    assert {progress.total for progress in seen} == {2}
    assert all(0 <= progress.accuracy <= 1 for progress in seen)
    assert seen[-1].best_accuracy == model.history_["validation_accuracy"][0]
    model.predict(X)


def test_start_from_a_network(chip: Chip) -> None:
    first = trainer(chip, epochs=6, delays="synaptic").fit(X, Y)
    again = trainer(chip, epochs=1, delays="synaptic", lr_weights=0.0, lr_delays=0.0, keep_best=False)
    again.fit(X, Y, initial=first.network_)
    for a, b in zip(again.network_.weights, first.network_.weights, strict=True):
        assert np.abs(a - b).max() <= 1  # outputs that miss some of their labels are raised
    for a, b in zip(again.network_.delays, first.network_.delays, strict=True):
        assert np.array_equal(a, b)
    with pytest.raises(TrainingError, match="must be a Network"):
        again.fit(X, Y, initial=[1, 2])
    for change, message in (
        ({"decay_mem": 5}, r"has decay_mem = \(5, 5\): must be \(200, 200\)"),
        ({"shift": 2}, "has shift ="),
        ({"thresholds": 9}, "thresholds: must be"),
    ):
        with pytest.raises(TrainingError, match=message):
            again.fit(X, Y, initial=first.network_.replace(**change))
    for kind in ("none", "axonal", "dendritic"):
        with pytest.raises(TrainingError, match=f"delays of layer 1 are not of the kind '{kind}'"):
            trainer(chip, delays=kind).fit(X, Y, initial=first.network_)


@pytest.mark.parametrize("what", ["trainer", "config", "settings", "data", "array"])
def test_foreign_and_damaged_checkpoints(chip: Chip, what: str) -> None:
    state = trainer(chip, epochs=1).fit(X[:60], Y[:60]).state_dict()
    with Chip(ChipConfig((4, 9, 3), delay_slots=21)) as other:
        model = trainer(other if what == "config" else chip, epochs=1, margin=0.3 if what == "settings" else 0.2)
        if what == "trainer":
            state.meta["trainer"] = "SpikeBackprop"
        if what == "array":
            del state.arrays["second"]
        labels = Y[1:61] if what == "data" else Y[:60]
        with pytest.raises(CheckpointError, match=r"another|other|not of|lacks parts"):
            model.fit(X[:60], labels, resume=state)


# ---- the network ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cfg", "settings", "shift", "threshold"),
    [
        ({}, {}, 6, 50800),
        ({"state_bits": 16}, {}, 4, 12700),
        ({}, {"shift": 2}, 2, 3175),
        ({}, {"steps_per_tau": 20, "weight_limit": 4.0}, 6, 40640),
        ({"weight_bits": 6, "state_bits": 12}, {}, 2, 775),
    ],
)
def test_the_network_is_the_documented_one(
    cfg: dict[str, int], settings: dict[str, Any], shift: int, threshold: int
) -> None:
    config = ChipConfig((2, 3, 2), delay_slots=51, **cfg)
    with Chip(config) as chip:
        model = DelGrad(chip, epochs=1, tau_ratio=2.0, validation_fraction=0.0, **settings)
        network = model.fit([[0.1, 0.9], [0.8, 0.2]], [0, 1]).network_
    n = settings.get("steps_per_tau", 50)
    assert network.constants["shift"] == (shift, shift)
    assert np.abs(np.concatenate(network.thresholds) - threshold).max() <= 1
    assert network.constants["decay_syn"][0] == round(4096 * (1 - np.exp(-1 / n)))
    assert network.constants["decay_mem"][0] == round(4096 * (1 - np.exp(-1 / (2 * n))))
    assert network.fire_once == (True, True)
    assert network.reset == ("none", "none")
    assert isinstance(network, Network)


# ---- bad input ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"epochs": 0}, "Setting epochs = 0: must be an integer from 1"),
        ({"batch_size": 0}, "Setting batch_size"),
        ({"delays": "some"}, "must be one of none, axonal, dendritic, synaptic"),
        ({"gradient": "surrogate"}, "must be one of discrete, lambert, double"),
        ({"loss": "mse"}, "must be one of one-sided, two-sided, cross-entropy"),
        ({"train_delays": 1}, "train_delays = 1: must be a bool"),
        ({"gradient": "lambert", "tau_ratio": 2.0}, "is for tau_ratio = 1, not 2; 'discrete' is for any"),
        ({"gradient": "double"}, "is for tau_ratio = 2, not 1"),
        (
            {"delay_range": (0.0, 2.0)},
            r"up to 40 steps, but this chip's delays go up to 20; ChipConfig\(delay_slots=41\)",
        ),
        ({"delay_range": (0.0, 90.0)}, "up to 1800 steps, but no chip has delays of more than 1023"),
        ({"tau_ratio": 10, "steps_per_tau": 1000, "delay_range": (0, 0.02)}, "of 10000 steps is too long for decays"),
        ({"delay_range": (0.5, 0.5)}, "the first must be below the second"),
        ({"delay_range": 1.0}, "must be two numbers"),
        ({"delay_range": (-0.5, 0.5)}, "must be a number from 0"),
        ({"t_late": 4.5}, "an input spike at 4.5 tau_s comes after the end of the sample, time_out = 4"),
        ({"time_out": 1.0}, "Setting t_late = 2.0: an input spike at 2 tau_s comes after the end"),
        ({"time_out": 0}, "Setting time_out"),
        ({"t_early": 1.0, "t_late": 0.5}, "must not be above t_late"),
        ({"silent_below": 2}, "Setting silent_below"),
        ({"steps_per_tau": 1}, "Setting steps_per_tau"),
        ({"tau_ratio": 0}, "Setting tau_ratio"),
        ({"weight_limit": 0}, "Setting weight_limit"),
        ({"weight_limit": float("nan")}, "Setting weight_limit"),
        ({"shift": 15}, "a threshold of 10403840 does not fit 24 state bits"),
        ({"init": [(1, 1)]}, "must be a mean and a standard deviation for each of 2 layers"),
        ({"init": [(1, 1), (1, -1)]}, "Setting init = -1"),
        ({"init": [(float("nan"), 1), (1, 1)]}, "Setting init = nan"),
        ({"seed": -1}, "Setting seed"),
        ({"margin": 0}, "Setting margin"),
        ({"lr_weights": -0.1}, "Setting lr_weights"),
        ({"validation_fraction": 1.0}, "Setting validation_fraction"),
        ({"chip": 3}, "Setting chip = 3: must be a Chip"),
    ],
    ids=str,
)
def test_bad_settings(chip: Chip, setting: dict[str, Any], message: str) -> None:
    with pytest.raises(TrainingError, match=message):
        trainer(chip).set_params(**setting).fit(X, Y)
    assert chip.stats.samples == 0


def test_chips_without_the_delays() -> None:
    with Chip(ChipConfig((4, 10, 3))) as chip:
        with pytest.raises(TrainingError, match=r"needs a chip with delays, ChipConfig\(delay_slots=21\)"):
            trainer(chip).fit(X, Y)
        trainer(chip, delays="none", epochs=1).fit(X[:60], Y[:60])
    with Chip(ChipConfig((4, 10, 3), delay_slots=21, axonal_delays=True)) as chip:
        for delays in ("dendritic", "synaptic"):
            with pytest.raises(TrainingError, match="one delay per source"):
                trainer(chip, delays=delays).fit(X, Y)
    narrow, message = (
        ChipConfig((4, 10, 3), delay_slots=21, state_bits=8),
        r"A threshold of 318 .* not fit 8 state bits",
    )
    with Chip(narrow) as chip, pytest.raises(TrainingError, match=message):
        trainer(chip).fit(X, Y)


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (X[:, :3], Y, "this chip has 4 inputs"),
        (X[0], Y[:1], "this chip has 4 inputs"),
        (X[:0], Y[:0], "Inputs of shape"),
        (2 * X, Y, "must be from 0 to 1"),
        (np.where(X > 0.9, np.nan, X), Y, "must be from 0 to 1"),
        (np.full((400, 4), 300), Y, "within 0..255"),
        (X, Y[:10], "10 labels for 400 samples"),
        (X, Y + 7.5 * (Y > 1) + 0.5 * (np.arange(400) % 2), "different values, but this chip has 3 outputs"),
        (Events([[99]] * 400, [[0]] * 400), Y, "an event at time step 99"),
        (Events([[0, 1]] * 400, [[2, 2]] * 400), Y, "several spikes of an input"),
    ],
    ids=str,
)
def test_bad_data(chip: Chip, x: Any, y: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        trainer(chip).fit(x, y)
    assert chip.stats.samples == 0


def test_bad_validation_sets(chip: Chip) -> None:
    with pytest.raises(TrainingError, match="needs both X_val and y_val"):
        trainer(chip).fit(X, Y, X_val=X_TEST)
    with pytest.raises(TrainingError, match="Label 3: must be one of the classes"):
        trainer(chip).fit(X, Y, X_TEST, Y_TEST + 1)
    with pytest.raises(TrainingError, match="one per sample"):
        trainer(chip).fit(X, Y, X_TEST, Y_TEST[:5])


def test_the_manual_runs(capsys: pytest.CaptureFixture[str]) -> None:
    text = (Path(__file__).resolve().parent.parent / "docs" / "delgrad.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"^```python\n(.*?)^```$", text, flags=re.DOTALL | re.MULTILINE)
    exec(compile(code.replace("epochs=3", "epochs=1"), "delgrad.md", "exec"), {})
    accuracy = re.match(r"test accuracy (0\.\d{3})\n\[", capsys.readouterr().out)
    assert accuracy
    assert float(accuracy[1]) > 0.7
