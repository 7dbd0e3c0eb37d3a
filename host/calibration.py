"""How well class probabilities say how often they are right: calibration, proper scores, foreign inputs.

Everything here is a pure function of probabilities (N, n_classes), whose rows sum to one, and labels (N,), indices
``0 .. n_classes-1`` of the right class. The *confidence* of a sample is its largest probability; ties go to the lowest
class.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import minimize_scalar
from sklearn.metrics import log_loss, roc_auc_score

from host.errors import UserError

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

BINS = 15
"""Equal-width bins of the confidence, as in Guo et al. 2017."""

SUM_TOLERANCE = 1e-6
"""How far from one a row of probabilities may sum."""

LOWEST = float(np.finfo(np.float64).eps)
"""Smaller probabilities count as this one where a logarithm is taken, as in scikit-learn."""

LARGEST_EXPONENT = 10.0
"""Bound of :func:`fit_temperature`: where all answers are right, the likelihood grows with the exponent for ever."""


class CalibrationError(UserError):
    """Probabilities, labels or settings of which no figure can be computed; the message is one sentence."""


@dataclass(frozen=True)
class Reliability:
    """Reliability curve: confidence against accuracy, in equal-width bins ``((m-1)/M, m/M]`` of the confidence.

    Attributes
    ----------
    centres : float64 array (M,), middle of each bin
    confidence : float64 array (M,), mean confidence of the samples in it, NaN where there are none
    accuracy : float64 array (M,), share of them that is right, NaN where there are none
    counts : int64 array (M,), samples in it
    """

    centres: FloatArray
    confidence: FloatArray
    accuracy: FloatArray
    counts: IntArray

    @property
    def error(self) -> float:
        """Expected calibration error: mean of \\|accuracy - confidence\\| over the samples' bins, 0 to 1."""
        used = self.counts > 0
        gaps = np.abs(self.accuracy - self.confidence)[used]
        return float(np.average(gaps, weights=self.counts[used]))


def reliability(probabilities: ArrayLike, labels: ArrayLike, bins: int = BINS) -> Reliability:
    """Reliability curve with `bins` bins (Guo et al., "On calibration of modern neural networks", ICML 2017)."""
    if isinstance(bins, bool) or not isinstance(bins, (int, np.integer)) or bins < 1:
        raise CalibrationError(f"Bins {bins!r}: must be an integer from 1 on.")
    p, y = _checked(probabilities, labels)
    edges = np.linspace(0.0, 1.0, int(bins) + 1)
    confidence = p.max(axis=1)
    place = np.digitize(confidence, edges[1:-1], right=True)
    counts = np.bincount(place, minlength=int(bins))
    divisor = np.where(counts > 0, counts, np.nan)
    return Reliability(
        (edges[:-1] + edges[1:]) / 2,
        np.bincount(place, confidence, int(bins)) / divisor,
        np.bincount(place, p.argmax(axis=1) == y, int(bins)) / divisor,
        counts.astype(np.int64),
    )


def expected_calibration_error(probabilities: ArrayLike, labels: ArrayLike, bins: int = BINS) -> float:
    """Mean distance of accuracy and confidence, 0 to 1, equation (3) of Guo et al. 2017."""
    return reliability(probabilities, labels, bins).error


def negative_log_likelihood(probabilities: ArrayLike, labels: ArrayLike) -> float:
    """Mean of ``-ln p(right class)`` in nats per sample."""
    p, y = _checked(probabilities, labels)
    return float(log_loss(y, p / p.sum(axis=1, keepdims=True), labels=np.arange(p.shape[1])))


def brier_score(probabilities: ArrayLike, labels: ArrayLike) -> float:
    """Mean over the samples of the squared error, summed over **all** classes: 0 to 2 (Brier 1950).

    For two classes that is twice what scikit-learn reports; scikit-learn knows more than two from its version 1.7 on.
    """
    p, y = _checked(probabilities, labels)
    return float(np.mean(np.sum((p - np.eye(p.shape[1])[y]) ** 2, axis=1)))


def measures(probabilities: ArrayLike, labels: ArrayLike) -> dict[str, float]:
    """All figures of merit: accuracy, ece, nll, brier, and the mean confidence."""
    p, y = _checked(probabilities, labels)
    return {
        "accuracy": float(np.mean(p.argmax(axis=1) == y)),
        "ece": expected_calibration_error(p, y),
        "nll": negative_log_likelihood(p, y),
        "brier": brier_score(p, y),
        "confidence": float(p.max(axis=1).mean()),
    }


def out_of_distribution_auroc(known: ArrayLike, foreign: ArrayLike) -> float:
    """Area under the curve that tells known from foreign samples by their confidence.

    It is the probability that a known sample (N, n_classes) is more confident than a foreign one (M, n_classes), ties
    counting half: 1 is perfect, 0.5 is chance (Hendrycks and Gimpel, ICLR 2017).
    """
    inside, outside = _probabilities(known), _probabilities(foreign)
    if inside.shape[1] != outside.shape[1]:
        raise CalibrationError(
            f"Known samples have {inside.shape[1]} classes and foreign ones {outside.shape[1]}: must be as many."
        )
    confidence = np.concatenate([inside.max(axis=1), outside.max(axis=1)])
    return float(roc_auc_score(np.arange(len(confidence)) < len(inside), confidence))


# ---- temperature ----------------------------------------------------------------------------------------------------


def fit_temperature(probabilities: ArrayLike, labels: ArrayLike) -> float:
    """Exponent g >= 0 for which ``p**g``, normalised, has the lowest negative log-likelihood.

    For one softmax g is an inverse temperature (Guo et al. 2017, section 4.2); here it also serves averages of several.
    Below 1 it takes confidence away, above 1 it adds some. The likelihood is concave in g, so the optimum is the only
    one; it is at most :data:`LARGEST_EXPONENT`. Fit on validation data, never on the data to be reported.
    """
    p, y = _checked(probabilities, labels)
    logs = np.log(np.maximum(p, LOWEST))
    right = logs[np.arange(len(y)), y]

    def loss(exponent: float) -> float:
        return float(np.mean(np.log(np.exp(exponent * logs).sum(axis=1)) - exponent * right))

    return float(minimize_scalar(loss, bounds=(0.0, LARGEST_EXPONENT), method="bounded").x)


def apply_temperature(probabilities: ArrayLike, exponent: float) -> FloatArray:
    """``p**exponent``, normalised, (N, n_classes): 1 changes nothing, 0 makes all classes equal."""
    p = _probabilities(probabilities)
    number = isinstance(exponent, (int, float, np.number)) and not isinstance(exponent, bool)
    if not number or not 0 <= exponent < np.inf:
        raise CalibrationError(f"Exponent {exponent!r}: must be a number from 0 on.")
    if exponent == 1:
        return p
    logs = exponent * np.log(np.maximum(p, LOWEST))
    powers: FloatArray = np.exp(logs - logs.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


# ---- two-dimensional problems ---------------------------------------------------------------------------------------


def grid(side: int) -> FloatArray:
    """Centres (side * side, 2) of the cells of the unit square, rows of equal second coordinate, from the lowest."""
    if isinstance(side, bool) or not isinstance(side, (int, np.integer)) or side < 1:
        raise CalibrationError(f"Side {side!r}: must be an integer from 1 on.")
    at = (np.arange(side) + 0.5) / side
    y, x = np.meshgrid(at, at, indexing="ij")
    return np.stack([x.ravel(), y.ravel()], axis=1)


def confidence_map(predict_proba: Callable[[FloatArray], Any], side: int = 50) -> FloatArray:
    """Class probabilities (side, side, n_classes) on the unit square, for :func:`host.plots.confidence_map`.

    Parameters
    ----------
    predict_proba : from points (N, 2) in the unit square to probabilities (N, n_classes), for example
        ``lambda points: model.predict_proba(population_code(points))``
    """
    p = _probabilities(predict_proba(grid(side)))
    if len(p) != side * side:
        raise CalibrationError(f"{len(p)} rows of probabilities for {side * side} points: must be one each.")
    return p.reshape(side, side, -1)


# ---- checks ---------------------------------------------------------------------------------------------------------


def _probabilities(values: ArrayLike) -> FloatArray:
    try:
        p = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError):
        raise CalibrationError("Probabilities: must be an array of numbers, (samples, classes).") from None
    if p.ndim != 2 or p.shape[0] < 1 or p.shape[1] < 2:
        raise CalibrationError(f"Probabilities of shape {p.shape}: must be (samples, classes), at least (1, 2).")
    if not np.isfinite(p).all() or p.min() < 0:
        raise CalibrationError("Probabilities: must be finite and not negative.")
    worst = int(np.abs(p.sum(axis=1) - 1).argmax())
    if abs(p[worst].sum() - 1) > SUM_TOLERANCE:
        raise CalibrationError(f"Probabilities of sample {worst} sum to {p[worst].sum():.6g}: must be 1.")
    return p


def _checked(probabilities: ArrayLike, labels: ArrayLike) -> tuple[FloatArray, IntArray]:
    p, y = _probabilities(probabilities), np.asarray(labels)
    if y.shape != (len(p),) or y.dtype.kind not in "iu":
        raise CalibrationError(
            f"Labels of type {y.dtype.name} and shape {y.shape}: must be {len(p)} integers, one per sample."
        )
    if int(y.min()) < 0 or int(y.max()) >= p.shape[1]:
        raise CalibrationError(f"Labels from {y.min()} to {y.max()}: must be from 0 to {p.shape[1] - 1}.")
    return p, y.astype(np.int64)
