"""Calibration: figures against examples worked by hand, limits, and what is refused."""

from __future__ import annotations

import inspect
import math
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import brier_score_loss

from host import plots
from host.calibration import (
    LARGEST_EXPONENT,
    CalibrationError,
    apply_temperature,
    brier_score,
    confidence_map,
    expected_calibration_error,
    fit_temperature,
    grid,
    measures,
    negative_log_likelihood,
    out_of_distribution_auroc,
    reliability,
)

FOUR = np.array([[0.9, 0.1], [0.9, 0.1], [0.7, 0.3], [0.2, 0.8]])
RIGHT = np.array([0, 1, 0, 1])


def drawn(n: int, classes: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities, and labels that are drawn from them: calibrated as far as n samples can tell."""
    rng = np.random.default_rng(seed)
    p = rng.dirichlet(np.full(classes, 0.6), n)
    return p, (rng.random((n, 1)) > p.cumsum(axis=1)[:, :-1]).sum(axis=1)


def test_calibration_error_of_four_samples_by_hand() -> None:
    # Ten bins: two samples at 0.9 of which one is right, one at 0.7 and one at 0.8, both right.
    assert expected_calibration_error(FOUR, RIGHT, bins=10) == pytest.approx((2 * 0.4 + 0.3 + 0.2) / 4)
    # One bin: confidence 0.825 on average, three of four are right.
    assert expected_calibration_error(FOUR, RIGHT, bins=1) == pytest.approx(0.075)


def test_reliability_curve_has_a_place_for_every_sample() -> None:
    curve = reliability(FOUR, RIGHT, bins=10)
    assert curve.counts.tolist() == [0, 0, 0, 0, 0, 0, 1, 1, 2, 0]
    assert curve.centres == pytest.approx(np.arange(10) / 10 + 0.05)
    assert curve.confidence[6:9] == pytest.approx([0.7, 0.8, 0.9])
    assert curve.accuracy[6:9].tolist() == [1.0, 1.0, 0.5]
    assert np.isnan(curve.accuracy[:6]).all()
    assert np.isnan(curve.confidence[9])
    assert len(reliability(FOUR, RIGHT).counts) == 15


def test_bins_are_closed_above() -> None:
    p = np.array([[0.5, 0.5], [0.75, 0.25], [1.0, 0.0]])
    assert reliability(p, [0, 0, 0], bins=4).counts.tolist() == [0, 1, 1, 1]


def test_labels_drawn_from_the_probabilities_are_calibrated() -> None:
    p, y = drawn(20_000, 4)
    assert expected_calibration_error(p, y) < 0.012
    assert expected_calibration_error(apply_temperature(p, 3.0), y) > 0.1
    assert fit_temperature(p, y) == pytest.approx(1.0, abs=0.03)


@pytest.mark.parametrize("exponent", [0.4, 2.5])
def test_temperature_undoes_itself(exponent: float) -> None:
    p, y = drawn(20_000, 5, 1)
    distorted = apply_temperature(p, exponent)
    found = fit_temperature(distorted, y)
    assert found == pytest.approx(1 / exponent, rel=0.04)
    assert np.abs(apply_temperature(distorted, found) - p).max() < 0.02
    mended = negative_log_likelihood(apply_temperature(distorted, found), y)
    for other in (0.8 * found, 1.25 * found):
        assert mended < negative_log_likelihood(apply_temperature(distorted, other), y)


def test_extreme_temperatures() -> None:
    assert apply_temperature(FOUR, 0) == pytest.approx(np.full((4, 2), 0.5))
    assert np.array_equal(apply_temperature(FOUR, 1), FOUR)
    assert apply_temperature(FOUR, 1e6).tolist() == [[1, 0], [1, 0], [1, 0], [0, 1]]
    certain = np.array([[1.0, 0.0], [0.0, 1.0]])
    assert apply_temperature(certain, 2).tolist() == [[1, pytest.approx(0, abs=1e-30)], [pytest.approx(0), 1]]
    # All right: the more the better. All wrong: better say nothing.
    assert fit_temperature(FOUR, FOUR.argmax(axis=1)) == pytest.approx(LARGEST_EXPONENT, abs=1e-3)
    assert fit_temperature(FOUR, FOUR.argmin(axis=1)) == pytest.approx(0, abs=1e-3)


def test_scores_by_hand() -> None:
    logs = [math.log(0.9), math.log(0.1), math.log(0.7), math.log(0.8)]
    assert negative_log_likelihood(FOUR, RIGHT) == pytest.approx(-sum(logs) / 4)
    assert brier_score(FOUR, RIGHT) == pytest.approx(2 * (0.01 + 0.81 + 0.09 + 0.04) / 4)
    assert brier_score([[0.0, 1.0, 0.0]], [0]) == 2
    assert negative_log_likelihood([[0.0, 1.0]], [0]) == pytest.approx(36.04, abs=0.01)  # finite
    assert measures(FOUR, RIGHT) == {
        "accuracy": 0.75,
        "ece": expected_calibration_error(FOUR, RIGHT),
        "nll": negative_log_likelihood(FOUR, RIGHT),
        "brier": brier_score(FOUR, RIGHT),
        "confidence": pytest.approx(0.825),
    }


def test_brier_score_agrees_with_scikit_learn() -> None:
    if "labels" not in inspect.signature(brier_score_loss).parameters:
        pytest.skip("this scikit-learn knows two classes only")
    p, y = drawn(300, 3)
    assert brier_score(p, y) == pytest.approx(brier_score_loss(y, p, labels=[0, 1, 2], scale_by_half=False))


def test_rounded_probabilities_and_missing_classes_raise_no_warning() -> None:
    p, _ = drawn(50, 6)
    assert np.isfinite(negative_log_likelihood(p.astype(np.float32), np.zeros(50, int)))
    assert measures(p, np.full(50, 5))["accuracy"] < 0.5


def test_auroc_is_the_share_of_pairs_in_the_right_order() -> None:
    known = np.array([[0.9, 0.1], [0.2, 0.8], [0.5, 0.5]])
    foreign = np.array([[0.6, 0.4], [0.2, 0.8]])
    assert out_of_distribution_auroc(known, foreign) == pytest.approx((2 + 1.5 + 0) / 6)
    assert out_of_distribution_auroc(known, known) == 0.5
    assert out_of_distribution_auroc([[1.0, 0.0]], [[0.5, 0.5]]) == 1


def test_confidence_map_puts_every_point_in_its_place() -> None:
    points = grid(3)
    assert points[:4] == pytest.approx(np.array([[1, 1], [3, 1], [5, 1], [1, 3]]) / 6)

    def right_half(points: np.ndarray) -> np.ndarray:
        return np.stack([1 - points[:, 0], points[:, 0]], axis=1)

    found = confidence_map(right_half, 10)
    assert found.shape == (10, 10, 2)
    assert found[3, 9].tolist() == pytest.approx([0.05, 0.95])
    assert np.array_equal(found[0], found[9])


def test_figures(tmp_path: Any) -> None:
    p, y = drawn(200, 2)
    with plots.style():
        figure = plots.reliability_diagram({"good": reliability(p, y), "swapped": reliability(p[:, ::-1], y)})
        texts = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
        good, swapped = expected_calibration_error(p, y), expected_calibration_error(p[:, ::-1], y)
        assert texts == ["calibrated", f"good, ECE {good:.3f}", f"swapped, ECE {swapped:.3f}"]
        assert plots.save(figure, tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
        figure = plots.new_figure(3, 3)
        side = confidence_map(lambda points: np.stack([1 - points[:, 0], points[:, 0]], axis=1), 8)
        image = plots.confidence_map(figure.subplots(), side, grid(4), np.arange(16) % 2)
        assert np.array_equal(image.get_array(), side.max(axis=2))
        assert plots.save(figure, tmp_path / "b.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: measures([0.5, 0.5], [0]), r"shape \(2,\): must be \(samples, classes\)"),
        (lambda: measures(np.ones((3, 1)), [0, 0, 0]), r"shape \(3, 1\)"),
        (lambda: measures([[0.5, np.nan]], [0]), "must be finite and not negative"),
        (lambda: measures([[1.5, -0.5]], [0]), "must be finite and not negative"),
        (lambda: measures([[0.5, 0.5], [0.5, 0.6]], [0, 0]), "of sample 1 sum to 1.1: must be 1"),
        (lambda: measures([["a", "b"]], [0]), "must be an array of numbers"),
        (lambda: measures(FOUR, RIGHT[:3]), r"shape \(3,\): must be 4 integers"),
        (lambda: measures(FOUR, RIGHT / 2), "type float64"),
        (lambda: measures(FOUR, RIGHT + 1), "Labels from 1 to 2: must be from 0 to 1"),
        (lambda: reliability(FOUR, RIGHT, bins=0), "Bins 0: must be an integer from 1 on"),
        (lambda: fit_temperature(FOUR, [-1, 0, 0, 0]), "Labels from -1 to 0"),
        (lambda: apply_temperature(FOUR, -0.1), "Exponent -0.1: must be a number from 0 on"),
        (lambda: apply_temperature(FOUR, math.inf), "Exponent inf"),
        (lambda: out_of_distribution_auroc(FOUR, [[0.2, 0.3, 0.5]]), "2 classes and foreign ones 3"),
        (lambda: grid(0), "Side 0"),
        (lambda: confidence_map(lambda _: FOUR, 3), "4 rows of probabilities for 9 points"),
    ],
)
def test_what_is_refused(call: Any, message: str) -> None:
    with pytest.raises(CalibrationError, match=message):
        call()
