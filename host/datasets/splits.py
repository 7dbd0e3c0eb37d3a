"""The split of a data set into training, validation and test rows, and their intensities."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from host.datasets.base import Dataset, Recordings
from host.datasets.store import DatasetError


@dataclass(frozen=True)
class Split:
    """One training subset, a validation set if one was asked for, and the test set, ready for the chip.

    Attributes
    ----------
    x_train, x_validation, x_test : uint8 arrays (n, n_features), intensities
    y_train, y_validation, y_test : int64 arrays (n,)
    rows_train, rows_validation, rows_test : int64 arrays (n,), rows of the data set
    pool : rows of the training pool, the largest possible training set, or training and validation sets together if the
        data set has no official validation set
    scale : what made the intensities
    recordings : timed events of all rows of the data set, for sets that have them (see :func:`event_split`)
    """

    dataset: str
    seed: int
    x_train: NDArray[np.uint8]
    y_train: NDArray[np.int64]
    x_test: NDArray[np.uint8]
    y_test: NDArray[np.int64]
    class_names: tuple[str, ...]
    pool: int
    x_validation: NDArray[np.uint8]
    y_validation: NDArray[np.int64]
    rows_train: NDArray[np.int64] = field(repr=False)
    rows_validation: NDArray[np.int64] = field(repr=False)
    rows_test: NDArray[np.int64] = field(repr=False)
    scale: Scale = field(repr=False)
    recordings: Recordings | None = field(default=None, repr=False)

    @property
    def n_features(self) -> int:
        """Inputs of a sample; more than the data set has if it codes its features."""
        return int(self.x_train.shape[1])

    @property
    def features_train(self) -> NDArray[np.float64]:
        """float64 array (n, n_features): the training samples in [0, 1], before they were rounded to intensities."""
        return self.scale.rates(self.rows_train)

    @property
    def features_validation(self) -> NDArray[np.float64]:
        """float64 array (n, n_features): the validation samples in [0, 1]."""
        return self.scale.rates(self.rows_validation)

    @property
    def features_test(self) -> NDArray[np.float64]:
        """float64 array (n, n_features): the test samples in [0, 1]."""
        return self.scale.rates(self.rows_test)

    @property
    def n_classes(self) -> int:
        return len(self.class_names)


def class_sizes(pool_labels: NDArray[np.int64], n_classes: int, size: int) -> list[int]:
    """Rows of each class in a subset of `size`: its share of the pool, at least one, the first class takes the rest.

    For two classes this is ``k1 = max(1, round(size * share of class 1))`` and ``k0 = size - k1``.
    """
    available = np.bincount(pool_labels, minlength=n_classes)
    sizes = [max(1, round(size * int(count) / len(pool_labels))) for count in available]
    sizes[0] = size - sum(sizes[1:])
    while sizes[0] < 1:  # rounding took everything: give back from the largest class
        largest = int(np.argmax(sizes))
        sizes[largest] -= 1
        sizes[0] += 1
    for index in range(n_classes):  # never more than there are
        excess = sizes[index] - int(available[index])
        while excess > 0:
            room = [int(available[k]) - sizes[k] for k in range(n_classes)]
            sizes[int(np.argmax(room))] += 1
            sizes[index] -= 1
            excess -= 1
    return sizes


def to_intensities(x: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Values in [0, 1] (clipped to it) as uint8 intensities, ``rint(255 * x)``."""
    return np.rint(255.0 * np.clip(x, 0.0, 1.0)).astype(np.uint8)


def split_rows(data: Dataset, train_size: int | None, seed: int, validation_size: int | None = 0) -> Split:
    """See :func:`host.datasets.split`."""
    if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)) or seed < 0:
        raise DatasetError(f"Split seed {seed!r}: must be an integer from 0 on.")
    if validation_size is None:
        if not data.validation:
            raise DatasetError(f"{data.name} has no official validation set: its validation size must be an integer.")
        validation_size = data.validation
    limit = data.validation or data.pool - data.n_classes
    held = _size(data, "Validation", validation_size, limit) if validation_size != 0 else 0
    most = data.pool if data.validation else data.pool - held
    size = most if train_size is None else _size(data, "Training", train_size, most)

    rng = np.random.default_rng(seed)
    if data.fixed_pool:
        pool, test = rng.permutation(data.pool), np.arange(data.pool + data.validation, len(data.labels))
    else:
        order = rng.permutation(len(data.labels))
        pool, test = order[: data.pool], order[data.pool :]
    validation = pool[:0]
    if held and data.validation:
        official = np.arange(data.pool, data.pool + data.validation)
        validation = official[_share(data.labels[official], data.n_classes, held)]
    elif held:  # the last rows of each class, so that the training subsets are prefixes of the others
        chosen = _share(data.labels[pool][::-1], data.n_classes, held)[::-1]
        pool, validation = pool[~chosen], pool[chosen]
    train = pool[_share(data.labels[pool], data.n_classes, size)]  # in the order of the permutation
    scale = Scale(data, train)
    return Split(
        dataset=data.name,
        seed=int(seed),
        x_train=scale.intensities(train),
        y_train=data.labels[train],
        x_test=scale.intensities(test),
        y_test=data.labels[test],
        class_names=data.class_names,
        pool=data.pool,
        x_validation=scale.intensities(validation),
        y_validation=data.labels[validation],
        rows_train=train,
        rows_validation=validation,
        rows_test=test,
        scale=scale,
        recordings=data.recordings,
    )


def _size(data: Dataset, what: str, size: object, most: int) -> int:
    low = data.n_classes
    if isinstance(size, bool) or not isinstance(size, (int, np.integer)) or not low <= size <= most:
        raise DatasetError(f"{what} size {size!r} for {data.name}: must be an integer from {low} to {most}.")
    return int(size)


def _share(labels: NDArray[np.int64], n_classes: int, size: int) -> NDArray[np.bool_]:
    """Mask of the first rows of each class that make up a subset of `size`."""
    chosen = np.zeros(len(labels), dtype=bool)
    for label, count in enumerate(class_sizes(labels, n_classes, size)):
        chosen[np.flatnonzero(labels == label)[:count]] = True
    return chosen


class Scale:
    """Intensities of rows: uint8 features as they are, others scaled (by bounds or the training rows) and coded."""

    def __init__(self, data: Dataset, train: NDArray[np.int64]) -> None:
        self.features, self.code = data.features, data.code
        if data.features.dtype == np.uint8:
            self.low, self.span = np.zeros(1), np.full(1, 255.0)
            return
        low, high = data.bounds or (data.features[train].min(axis=0), data.features[train].max(axis=0))
        self.low = np.asarray(low, dtype=np.float64)
        self.span = np.where(np.asarray(high) > self.low, np.asarray(high) - self.low, 1.0)

    def unit(self, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        """float64 array (n, features of the data set) in [0, 1]: what is coded, such as the points of a plane."""
        scaled: NDArray[np.float64] = np.clip((self.features[rows] - self.low) / self.span, 0.0, 1.0)
        return scaled

    def rates(self, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        """float64 array (n, n_features) in [0, 1]."""
        unit = self.unit(rows)
        return unit if self.code is None else self.code(unit)

    def intensities(self, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
        """uint8 array (n, n_features)."""
        if self.features.dtype == np.uint8:
            return self.features[rows].astype(np.uint8, copy=False)
        return to_intensities(self.rates(rows))
