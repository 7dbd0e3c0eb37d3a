"""Population code: a real number becomes the rates of a few neurons, each of which prefers one value."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from host.datasets.splits import to_intensities
from host.datasets.store import DatasetError

NEURONS = 10
"""Neurons of a dimension, as BiSNN has them (Jang, Skatchkovsky, Simeone, arXiv 2012.08300)."""


def population_rates(x: ArrayLike, per_dimension: int = NEURONS) -> NDArray[np.float64]:
    """Rates (N, dimensions * per_dimension) in [0, 1] of points (N, dimensions), the neurons of a dimension together.

    Neuron k of K prefers ``c_k = k / (K - 1)``, where its rate is 1, and is silent from the next centre on to either
    side: ``0.5 + 0.5 cos(clip(pi (x - c_k) (K - 1), -pi, pi))``. Between two centres the rates sum to 1; far enough
    outside of [0, 1] all are 0.

    Raises
    ------
    DatasetError
        If the points are not finite numbers of this shape, or there are fewer than 2 neurons to a dimension.
    """
    if isinstance(per_dimension, bool) or not isinstance(per_dimension, (int, np.integer)) or per_dimension < 2:
        raise DatasetError(f"Neurons per dimension {per_dimension!r}: must be an integer from 2 on.")
    points = np.asarray(x)
    if points.ndim != 2 or points.dtype.kind not in "fiu" or not np.isfinite(points).all():
        raise DatasetError(
            f"Points of type {points.dtype.name}, shape {points.shape}: must be finite numbers, (points, dimensions)."
        )
    between = int(per_dimension) - 1
    phase = np.pi * (between * points[:, :, None] - np.arange(per_dimension))
    rates: NDArray[np.float64] = 0.5 + 0.5 * np.cos(np.clip(phase, -np.pi, np.pi))
    return rates.reshape(len(points), points.shape[1] * int(per_dimension))


def population_code(x: ArrayLike, per_dimension: int = NEURONS) -> NDArray[np.uint8]:
    """Intensities (N, dimensions * per_dimension), uint8, of points (N, dimensions): 255 times the rates, rounded.

    The inputs of the data sets moons-10 and moons-25 are made of their coordinates like this, so a confidence map
    presents ``population_code(host.calibration.grid(side))``. Raises what :func:`population_rates` does.
    """
    return to_intensities(population_rates(x, per_dimension))
