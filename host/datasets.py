"""Data sets, their splits and their conversion to the chip's uint8 intensities.

The split protocol is the same for every set: a permutation drawn from the seed, the first ``pool`` rows of it are the
training pool, the others the test set. A training subset of n rows holds every class in its share of the pool and is a
prefix of each class's rows, so the subsets of one seed are nested. Features are scaled to [0, 1] (by the smallest and
largest value **of the training subset**, clipped, unless the set has a range by definition) and become intensities
``rint(255 * x)``.
"""

from __future__ import annotations

import hashlib
import os
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import platformdirs
from numpy.typing import NDArray

from host.errors import UserError

DATA_VARIABLE = "SPIKELOOP_DATA"
"""Environment variable that names the cache folder of data files."""

ORIGINAL_FILE = "breast-cancer-wisconsin.data"
ORIGINAL_SHA256 = "402c585309c399237740f635ef9919dc512cca12cbeb20de5e563a4593f22b64"
ORIGINAL_URL = (
    "https://archive.ics.uci.edu/ml/machine-learning-databases/breast-cancer-wisconsin/breast-cancer-wisconsin.data"
)


class DatasetError(UserError):
    """A data set that is unknown, cannot be found or cannot be split as asked; the message is one sentence."""


@dataclass(frozen=True)
class Dataset:
    """A whole data set before its split.

    Attributes
    ----------
    features : float64 array (n, n_features)
    labels : int64 array (n,), values 0 .. n_classes-1
    bounds : known range ``(lowest, highest)`` of every feature, or ``None`` to take it from the training subset
    pool : number of rows in the training pool
    fixed_pool : the first `pool` rows are the training pool in their given order (sets with an official split)
    """

    name: str
    features: NDArray[np.float64]
    labels: NDArray[np.int64]
    class_names: tuple[str, ...]
    pool: int
    bounds: tuple[float, float] | None = None
    fixed_pool: bool = False

    @property
    def n_features(self) -> int:
        return int(self.features.shape[1])

    @property
    def n_classes(self) -> int:
        return len(self.class_names)


@dataclass(frozen=True)
class Split:
    """One training subset and the test set, ready for the chip.

    Attributes
    ----------
    x_train, x_test : uint8 arrays (n, n_features), intensities
    y_train, y_test : int64 arrays (n,)
    pool : rows of the training pool, the largest possible training subset
    """

    dataset: str
    seed: int
    x_train: NDArray[np.uint8]
    y_train: NDArray[np.int64]
    x_test: NDArray[np.uint8]
    y_test: NDArray[np.int64]
    class_names: tuple[str, ...]
    pool: int

    @property
    def n_features(self) -> int:
        return int(self.x_train.shape[1])

    @property
    def n_classes(self) -> int:
        return len(self.class_names)


@dataclass(frozen=True)
class DatasetInfo:
    """A line of the registry: what the set is and how to load it."""

    name: str
    summary: str
    shape: str
    source: str
    loader: Callable[[], Dataset] = field(repr=False)


# ---- where files live -----------------------------------------------------------------------------------------------


def data_folder() -> Path:
    """Cache folder of data files: ``$SPIKELOOP_DATA``, else the user's cache folder."""
    named = os.environ.get(DATA_VARIABLE)
    return Path(named).expanduser() if named else Path(platformdirs.user_cache_dir("spikeloop")) / "data"


def _checksum(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _fetch(folder: str, name: str, url: str, sha256: str) -> bytes:
    """Bytes of a data file from the cache folder, or downloaded into it; verified against `sha256`."""
    root = data_folder()
    for path in (root / folder / name, root / name):
        try:
            if not path.is_file():
                continue
            data = path.read_bytes()
        except OSError as error:
            raise DatasetError(f"Cannot read the data file {path}: {error.strerror}.") from None
        if _checksum(data) != sha256:
            raise DatasetError(
                f"The data file {path} is damaged or another version (its SHA-256 is not {sha256[:12]}...); delete it "
                "to have it downloaded again."
            )
        return data
    try:
        with urllib.request.urlopen(url, timeout=20) as answer:
            data = answer.read()
    except (OSError, urllib.error.URLError, ValueError) as error:
        reason = getattr(error, "reason", error)
        raise DatasetError(
            f"The file {name} is neither in the cache folder {root} nor could it be downloaded from {url} ({reason}); "
            f"put it there or point {DATA_VARIABLE} at a folder that has it."
        ) from None
    if _checksum(data) != sha256:
        raise DatasetError(f"The download {url} is damaged or another version (its SHA-256 is not {sha256[:12]}...).")
    target = root / folder / name
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_suffix(f".{os.getpid()}.part")
        partial.write_bytes(data)
        partial.replace(target)
    except OSError:
        pass  # a read-only cache folder costs a download per run, nothing else
    return data


# ---- loaders --------------------------------------------------------------------------------------------------------


def _breast_cancer() -> Dataset:
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
        raise DatasetError(f"The file {ORIGINAL_FILE} does not hold rows of eleven integers.") from None
    if table.ndim != 2 or table.shape[1] != 11:
        raise DatasetError(f"The file {ORIGINAL_FILE} does not hold rows of eleven integers.")
    return table[:, 1:10].astype(np.float64), (table[:, 10] == 4).astype(np.int64)


def _breast_cancer_original() -> Dataset:
    features, labels = parse_original(_fetch("breast-cancer", ORIGINAL_FILE, ORIGINAL_URL, ORIGINAL_SHA256))
    return Dataset("breast-cancer-original", features, labels, ("benign", "malignant"), pool=400, bounds=(1.0, 10.0))


def _digits() -> Dataset:
    from sklearn.datasets import load_digits

    bunch = load_digits()
    return Dataset(
        "digits",
        np.asarray(bunch.data, dtype=np.float64),
        np.asarray(bunch.target, dtype=np.int64),
        tuple(str(digit) for digit in range(10)),
        pool=1200,
        bounds=(0.0, 16.0),
    )


def _moons() -> Dataset:
    from sklearn.datasets import make_moons

    x, y = make_moons(n_samples=1000, noise=0.1, random_state=0)
    # Both coordinates and their complements, so that every sample has the same total drive.
    low, high = x.min(axis=0), x.max(axis=0)
    x = (x - low) / (high - low)
    features = np.concatenate([x, 1.0 - x], axis=1)
    return Dataset("moons", features, y.astype(np.int64), ("upper", "lower"), pool=400, bounds=(0.0, 1.0))


def yin_yang(size: int, seed: int) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Yin-Yang samples (size, 4) in [0, 1] and labels (size,), equal to the authors' generator bit for bit.

    Kriener, Göltz, Petrovici, "The Yin-Yang dataset", NICE 2022. The official sets are (5000, seed 42) for training,
    (1000, 41) for validation and (1000, 40) for the test. Classes: 0 yin, 1 yang, 2 dot.
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


def _yin_yang() -> Dataset:
    x_train, y_train = yin_yang(5000, 42)
    x_test, y_test = yin_yang(1000, 40)
    return Dataset(
        "yin-yang",
        np.concatenate([x_train, x_test]),
        np.concatenate([y_train, y_test]),
        ("yin", "yang", "dot"),
        pool=5000,
        bounds=(0.0, 1.0),
        fixed_pool=True,
    )


_INFOS = (
    DatasetInfo(
        "breast-cancer",
        "Wisconsin breast cancer, diagnostic: 30 measurements of cell nuclei, benign or malignant",
        "569 x 30, 2 classes",
        "comes with scikit-learn",
        _breast_cancer,
    ),
    DatasetInfo(
        "breast-cancer-original",
        "Wisconsin breast cancer, original: 9 grades from 1 to 10, benign or malignant",
        "683 x 9, 2 classes",
        f"cache folder or download ({ORIGINAL_FILE})",
        _breast_cancer_original,
    ),
    DatasetInfo(
        "digits", "Handwritten digits of 8 x 8 pixels", "1797 x 64, 10 classes", "comes with scikit-learn", _digits
    ),
    DatasetInfo(
        "moons", "Two moons with noise 0.1, coordinates and complements", "1000 x 4, 2 classes", "generated", _moons
    ),
    DatasetInfo(
        "yin-yang",
        "Yin-Yang: two interlocked drops and their dots, coordinates and complements",
        "6000 x 4, 3 classes",
        "generated",
        _yin_yang,
    ),
)

REGISTRY: dict[str, DatasetInfo] = {info.name: info for info in _INFOS}
"""All data sets by name."""

_CACHE: dict[str, Dataset] = {}


def load(name: str) -> Dataset:
    """The data set called `name`; raises :class:`DatasetError` for an unknown one or one that cannot be found."""
    if name not in REGISTRY:
        raise DatasetError(f"Unknown data set {name!r}; allowed are {', '.join(REGISTRY)}.")
    if name not in _CACHE:
        _CACHE[name] = REGISTRY[name].loader()
    return _CACHE[name]


# ---- split ----------------------------------------------------------------------------------------------------------


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


def split(name: str | Dataset, train_size: int | None = None, seed: int = 0) -> Split:
    """Training subset of `train_size` rows (the whole pool if ``None``) and the test set, by the module's protocol.

    Raises
    ------
    DatasetError
        If the set is unknown or the size is not between the number of classes and the pool.
    """
    data = load(name) if isinstance(name, str) else name
    size = data.pool if train_size is None else train_size
    if isinstance(size, bool) or not isinstance(size, (int, np.integer)) or not data.n_classes <= size <= data.pool:
        raise DatasetError(
            f"Training size {size!r} for {data.name}: must be an integer from {data.n_classes} to {data.pool}."
        )
    if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)) or seed < 0:
        raise DatasetError(f"Split seed {seed!r}: must be an integer from 0 on.")
    rng = np.random.default_rng(seed)
    if data.fixed_pool:
        pool, test = rng.permutation(data.pool), np.arange(data.pool, len(data.labels))
    else:
        order = rng.permutation(len(data.labels))
        pool, test = order[: data.pool], order[data.pool :]
    sizes = class_sizes(data.labels[pool], data.n_classes, int(size))
    chosen = np.zeros(len(pool), dtype=bool)
    for label, count in enumerate(sizes):
        chosen[np.flatnonzero(data.labels[pool] == label)[:count]] = True
    train = pool[chosen]  # in the order of the permutation
    low: NDArray[np.float64] | float
    high: NDArray[np.float64] | float
    if data.bounds is None:
        low, high = data.features[train].min(axis=0), data.features[train].max(axis=0)
    else:
        low, high = data.bounds
    span = np.where(np.asarray(high) > low, np.asarray(high) - low, 1.0)
    return Split(
        dataset=data.name,
        seed=int(seed),
        x_train=to_intensities((data.features[train] - low) / span),
        y_train=data.labels[train],
        x_test=to_intensities((data.features[test] - low) / span),
        y_test=data.labels[test],
        class_names=data.class_names,
        pool=data.pool,
    )
