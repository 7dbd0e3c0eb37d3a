"""Data sets, their splits and their conversion to the chip's uint8 intensities.

The split protocol is the same for every set: a permutation drawn from the seed, the first ``pool`` rows of it are the
training pool, the others the test set; sets with an official test set keep it, and the permutation is one of the pool.
A training subset of n rows holds every class in its share of the pool and is a prefix of each class's rows, so the
subsets of one seed are nested; a validation set is the end of each class's rows, or the official one of sets that have
one, which then is no part of the pool. Features are scaled to [0, 1] (by the smallest and largest value **of the
training subset**, clipped, unless the set has a range by definition), coded by neurons that prefer a value each if the
set says so, and become intensities ``rint(255 * x)``; sets of images or events are intensities from the start.
"""

from __future__ import annotations

from functools import partial

from host.datasets.base import Dataset, DatasetInfo, Recordings
from host.datasets.idx import EMNIST_BALANCED, EMNIST_LETTERS, FASHION_MNIST, MNIST
from host.datasets.population import population_code, population_rates
from host.datasets.recordings import N_MNIST, EventSplit, event_split
from host.datasets.small import (
    ORIGINAL,
    load_breast_cancer,
    load_breast_cancer_original,
    load_coded_moons,
    load_digits,
    load_moons,
    load_yin_yang,
    yin_yang,
)
from host.datasets.splits import Split, class_sizes, split_rows, to_intensities
from host.datasets.store import DATA_VARIABLE, DatasetError, Progress, data_folder, fetch

__all__ = [
    "DATA_VARIABLE",
    "REGISTRY",
    "Dataset",
    "DatasetError",
    "DatasetInfo",
    "EventSplit",
    "Progress",
    "Recordings",
    "Split",
    "class_sizes",
    "data_folder",
    "download",
    "event_split",
    "load",
    "population_code",
    "population_rates",
    "split",
    "to_intensities",
    "yin_yang",
]

_INFOS = (
    DatasetInfo(
        "breast-cancer",
        "Wisconsin breast cancer, diagnostic: 30 measurements of cell nuclei, benign or malignant",
        "569 x 30, 2 classes",
        "comes with scikit-learn",
        load_breast_cancer,
    ),
    DatasetInfo(
        "breast-cancer-original",
        "Wisconsin breast cancer, original: 9 grades from 1 to 10, benign or malignant",
        "683 x 9, 2 classes",
        f"cache folder or download ({ORIGINAL.name})",
        load_breast_cancer_original,
        lambda progress: fetch(ORIGINAL, progress),
    ),
    DatasetInfo(
        "digits", "Handwritten digits of 8 x 8 pixels", "1797 x 64, 10 classes", "comes with scikit-learn", load_digits
    ),
    DatasetInfo(
        "emnist-balanced",
        "EMNIST, balanced: handwritten digits and letters, 28 x 28 pixels",
        "131600 x 784, 47 classes",
        "cache folder or download (562 MB)",
        EMNIST_BALANCED.load,
        EMNIST_BALANCED.fetch,
    ),
    DatasetInfo(
        "emnist-letters",
        "EMNIST, letters: handwritten letters of either case, 28 x 28 pixels",
        "145600 x 784, 26 classes",
        "cache folder or download (with emnist-balanced)",
        EMNIST_LETTERS.load,
        EMNIST_LETTERS.fetch,
    ),
    DatasetInfo(
        "fashion-mnist",
        "Fashion-MNIST: clothes, 28 x 28 pixels",
        "70000 x 784, 10 classes",
        "cache folder or download (31 MB)",
        FASHION_MNIST.load,
        FASHION_MNIST.fetch,
    ),
    DatasetInfo(
        "mnist",
        "MNIST: handwritten digits, 28 x 28 pixels",
        "70000 x 784, 10 classes",
        "cache folder or download (12 MB)",
        MNIST.load,
        MNIST.fetch,
    ),
    DatasetInfo(
        "moons", "Two moons with noise 0.1, coordinates and complements", "1000 x 4, 2 classes", "generated", load_moons
    ),
    *(
        DatasetInfo(
            name,
            f"Two moons with noise {noise}, population code: ten neurons to a coordinate",
            "3000 x 2, 2 classes; 20 inputs",
            "generated",
            partial(load_coded_moons, name, noise),
        )
        for name, noise in (("moons-10", 0.1), ("moons-25", 0.25))
    ),
    DatasetInfo(
        "nmnist",
        "N-MNIST, part: MNIST digits before an event camera, 34 x 34 pixels, two polarities",
        "1100 x 2312, 10 classes",
        "cache folder (no download)",
        N_MNIST.load,
    ),
    DatasetInfo(
        "yin-yang",
        "Yin-Yang: two interlocked drops and their dots, coordinates and complements",
        "7000 x 4, 3 classes",
        "generated",
        load_yin_yang,
    ),
)

REGISTRY: dict[str, DatasetInfo] = {info.name: info for info in _INFOS}
"""All data sets by name."""

_CACHE: dict[str, Dataset] = {}


def _info(name: str) -> DatasetInfo:
    if name not in REGISTRY:
        raise DatasetError(f"Unknown data set {name!r}; allowed are {', '.join(REGISTRY)}.")
    return REGISTRY[name]


def load(name: str) -> Dataset:
    """The data set called `name`; raises :class:`DatasetError` for an unknown one or one that cannot be found."""
    info = _info(name)
    if name not in _CACHE:
        _CACHE[name] = info.loader()
    return _CACHE[name]


def download(name: str, progress: Progress | None = None) -> None:
    """Bring the files of a data set into the cache folder, unless they are there.

    :func:`load` does the same silently; call this before it to show how far a download is.

    Parameters
    ----------
    progress : called with a file's name, the bytes received, and the bytes in all (``None`` if unknown)
    """
    info = _info(name)
    if info.fetch is not None:
        info.fetch(progress)


def split(
    name: str | Dataset, train_size: int | None = None, seed: int = 0, *, validation_size: int | None = 0
) -> Split:
    """Training subset of `train_size` rows and the test set, by the module's protocol.

    Parameters
    ----------
    train_size : default: all of the training pool that the validation set leaves
    validation_size : rows of the training pool to hold back, classes in their shares; they depend on the seed and this
        size, not on `train_size`. Of a set with an official validation set: so many rows of that, or all of them if
        ``None``

    Raises
    ------
    DatasetError
        If the set is unknown or a size is not between the number of classes and what there is; if `validation_size` is
        ``None`` and there is no official validation set.
    """
    return split_rows(load(name) if isinstance(name, str) else name, train_size, seed, validation_size)
