"""Data sets that come with scikit-learn, are generated, or fit one small file."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from host.datasets import store
from host.datasets.base import Dataset
from host.datasets.population import population_rates
from host.datasets.store import DataFile, DatasetError

ORIGINAL = DataFile(
    "breast-cancer-wisconsin.data",
    "402c585309c399237740f635ef9919dc512cca12cbeb20de5e563a4593f22b64",
    ("breast-cancer", "."),
    ("https://archive.ics.uci.edu/ml/machine-learning-databases/breast-cancer-wisconsin/breast-cancer-wisconsin.data",),
)


def load_breast_cancer() -> Dataset:
    from sklearn.datasets import load_breast_cancer

    bunch = load_breast_cancer()
    return Dataset(
        "breast-cancer",
        np.asarray(bunch.data, dtype=np.float64),
        1 - np.asarray(bunch.target, dtype=np.int64),  # scikit-learn calls benign 1; here class 1 is malignant
        ("benign", "malignant"),
        pool=400,
    )


def parse_original(data: bytes) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Features (683, 9), values 1..10, and labels (683,), 1 = malignant, of the original Wisconsin file.

    The 16 rows with an unknown value ("?") are dropped.
    """
    rows = [line.split(",") for line in data.decode("ascii", "replace").splitlines() if line and "?" not in line]
    try:
        table = np.array(rows, dtype=np.int64)
    except ValueError:
        raise DatasetError(f"The file {ORIGINAL.name} does not hold rows of eleven integers.") from None
    if table.ndim != 2 or table.shape[1] != 11:
        raise DatasetError(f"The file {ORIGINAL.name} does not hold rows of eleven integers.")
    return table[:, 1:10].astype(np.float64), (table[:, 10] == 4).astype(np.int64)


def load_breast_cancer_original(file: DataFile = ORIGINAL) -> Dataset:
    where, data = store.fetch(file)
    store.verify(data, file.sha256, where)
    features, labels = parse_original(data)
    return Dataset("breast-cancer-original", features, labels, ("benign", "malignant"), pool=400, bounds=(1.0, 10.0))


def load_digits() -> Dataset:
    from sklearn.datasets import load_digits

    bunch = load_digits()
    return Dataset(
        "digits",
        np.asarray(bunch.data, dtype=np.float64),
        np.asarray(bunch.target, dtype=np.int64),
        tuple(str(digit) for digit in range(10)),
        pool=1200,
        bounds=(0.0, 16.0),
        images=True,
    )


def load_moons() -> Dataset:
    from sklearn.datasets import make_moons

    x, y = make_moons(n_samples=1000, noise=0.1, random_state=0)
    # Both coordinates and their complements, so that every sample has the same total drive.
    low, high = x.min(axis=0), x.max(axis=0)
    x = (x - low) / (high - low)
    features = np.concatenate([x, 1.0 - x], axis=1)
    return Dataset("moons", features, y.astype(np.int64), ("upper", "lower"), pool=400, bounds=(0.0, 1.0))


def load_coded_moons(name: str, noise: float) -> Dataset:
    """Two moons in population code, as BiSNN has them (arXiv 2012.08300), with more samples to validate and test."""
    from sklearn.datasets import make_moons

    x, y = make_moons(n_samples=3000, noise=noise, random_state=0)
    return Dataset(name, x, y.astype(np.int64), ("upper", "lower"), pool=1000, code=population_rates)


YIN_YANG_PARTS = ((5000, 42), (1000, 41), (1000, 40))
"""Size and seed of the official training, validation and test set."""


def yin_yang(size: int, seed: int) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Yin-Yang samples (size, 4) in [0, 1] and labels (size,), equal to the authors' generator bit for bit.

    Kriener, Göltz, Petrovici, "The Yin-Yang dataset", NICE 2022; the official sets are :data:`YIN_YANG_PARTS`. Features
    are x, y, 1 - x, 1 - y; classes 0 yin, 1 yang, 2 dot.
    """
    big, small = 0.5, 0.1
    rng = np.random.RandomState(seed)
    features, labels = np.empty((size, 4)), np.empty(size, dtype=np.int64)
    for index in range(size):
        wanted = rng.randint(3)
        while True:
            x, y = rng.rand(2) * 2 * big
            if np.sqrt((x - big) ** 2 + (y - big) ** 2) > big:
                continue
            right = np.sqrt((x - 1.5 * big) ** 2 + (y - big) ** 2)
            left = np.sqrt((x - 0.5 * big) ** 2 + (y - big) ** 2)
            if right < small or left < small:
                label = 2
            else:
                yang = small < left <= 0.5 * big or (y > big and right > 0.5 * big) or right == small
                label = int(yang)
            if label == wanted:
                break
        features[index] = (x, y, 1 - x, 1 - y)
        labels[index] = wanted
    return features, labels


def load_yin_yang() -> Dataset:
    parts = [yin_yang(size, seed) for size, seed in YIN_YANG_PARTS]
    return Dataset(
        "yin-yang",
        np.concatenate([features for features, _ in parts]),
        np.concatenate([labels for _, labels in parts]),
        ("yin", "yang", "dot"),
        pool=YIN_YANG_PARTS[0][0],
        bounds=(0.0, 1.0),
        fixed_pool=True,
        validation=YIN_YANG_PARTS[1][0],
    )
