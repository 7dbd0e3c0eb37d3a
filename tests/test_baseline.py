"""The ordinary network: accuracy, reproducible, and sentences for what is wrong."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from host import baseline, datasets
from host.baseline import BaselineError, train_ann

DIGITS = datasets.split("digits", 600, seed=0, validation_size=100)
ARRAYS = (DIGITS.x_train, DIGITS.y_train, DIGITS.x_test, DIGITS.y_test)


def test_two_epochs_on_digits() -> None:
    seen: list[dict[str, Any]] = []
    found = train_ann(datasets.split("digits"), (32,), 2, callback=seen.append)
    assert found.accuracy_test > 0.85
    assert found.accuracy_train > 0.85
    assert found.accuracy_validation is None
    assert found.history == seen
    assert [entry["epoch"] for entry in seen] == [1, 2]
    assert seen[1]["loss"] < seen[0]["loss"]
    assert seen[0]["learning_rate"] == found.settings["learning_rate"]
    assert seen[1]["learning_rate"] == pytest.approx(baseline.FINAL_SHARE * found.settings["learning_rate"])
    assert found.settings["layers"] == [64, 32, 10]
    assert found.predictions.shape == (597,)


def test_equal_seeds_give_equal_results() -> None:
    first, second, other = (train_ann(DIGITS, (8,), 2, seed=seed) for seed in (1, 1, 2))
    assert np.array_equal(first.predictions, second.predictions)
    assert [entry["loss"] for entry in first.history] == [entry["loss"] for entry in second.history]
    assert first.history[0]["loss"] != other.history[0]["loss"]


def test_validation_set_is_measured_and_changes_nothing_else() -> None:
    found = train_ann(DIGITS, (32,), 2)
    assert found.accuracy_validation == found.history[-1]["accuracy_validation"]
    assert 0.5 < found.accuracy_validation <= 1  # type: ignore[operator]
    alone = train_ann(ARRAYS, (32,), 2, learning_rate=found.settings["learning_rate"])
    assert alone.accuracy_validation is None
    assert np.array_equal(alone.predictions, found.predictions)


def test_intensities_and_floats_are_the_same_data() -> None:
    scaled = tuple(part.astype(np.float32) / 255 if part.ndim == 2 else part for part in ARRAYS)
    assert np.array_equal(train_ann(scaled, (8,), 1).predictions, train_ann(ARRAYS, (8,), 1).predictions)


def test_rate_falls_within_the_epochs_of_large_sets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(baseline, "PART_BATCHES", 5)
    found = train_ann(DIGITS, (32,), 2, learning_rate=1.0)
    steps = [1 - 0.9 * done / 13 for done in range(14)]  # 600 samples are 7 parts of at least 5 batches
    assert [entry["learning_rate"] for entry in found.history] == pytest.approx([steps[6], steps[13]])
    parts = baseline._deal(DIGITS.y_train, 7, np.random.RandomState(0))
    assert sorted(np.concatenate(parts).tolist()) == list(range(600))
    assert {len(rows) for rows in parts} == {85, 86}
    assert all(len(np.unique(DIGITS.y_train[rows])) == 10 for rows in parts)


def test_no_hidden_layer_and_two_classes() -> None:
    found = train_ann(datasets.split("breast-cancer", 100), (), 20)
    assert found.settings["layers"] == [30, 2]
    assert found.accuracy_test > 0.8


def test_callback_can_end_the_training() -> None:
    def stop(entry: dict[str, Any]) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_ann(DIGITS, (4,), 1000, callback=stop)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"epochs": 0}, "Epochs 0: must be an integer from 1 on"),
        ({"epochs": 1.5}, "Epochs 1.5: must be an integer"),
        ({"hidden": (8, 0)}, "Hidden layer size 0: must be an integer from 1 on"),
        ({"hidden": 8}, "Hidden layers 8: must be a list of sizes"),
        ({"seed": -1}, "Seed -1: must be an integer from 0 to"),
        ({"batch_size": True}, "Batch size True"),
        ({"learning_rate": 0}, "Learning rate 0: must be a number above 0"),
        ({"learning_rate": float("nan")}, "Learning rate nan"),
        ({"learning_rate": float("inf")}, "Learning rate inf"),
        ({"activation": "step"}, "Unknown activation 'step'; allowed are relu"),
        ({"learning_rate": 1e30}, "too large, the weights became infinite"),
    ],
)
def test_bad_settings(settings: dict[str, Any], sentence: str) -> None:
    with pytest.raises(BaselineError, match=sentence):
        train_ann(DIGITS, **{"hidden": (4,), "epochs": 1} | settings)


@pytest.mark.parametrize(
    ("arrays", "sentence"),
    [
        (ARRAYS[:3], "must be a Split, or 4 or 6 arrays"),
        ("digits", "must be a Split, or 4 or 6 arrays"),
        ((ARRAYS[0], ARRAYS[1][:-1], *ARRAYS[2:]), "training labels are int64 of shape .* must be 600 integers"),
        ((ARRAYS[0] / 1.0, *ARRAYS[1:]), "must be integers from 0 to 255 or floats from 0 to 1"),
        ((ARRAYS[0] * np.nan, *ARRAYS[1:]), "training inputs .* must be integers"),
        ((ARRAYS[0][0], *ARRAYS[1:]), r"must be \(samples, features\)"),
        ((*ARRAYS[:2], ARRAYS[2][:, 1:], ARRAYS[3]), "test inputs have 63 features, the training inputs 64"),
        ((ARRAYS[0], 0 * ARRAYS[1], *ARRAYS[2:]), "hold a single class"),
    ],
)
def test_bad_data(arrays: Any, sentence: str) -> None:
    with pytest.raises(BaselineError, match=sentence):
        train_ann(arrays, (4,), 1)
