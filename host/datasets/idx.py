"""MNIST and the sets that share its idx files: uint8 images of 28 x 28 pixels with an official test set."""

from __future__ import annotations

import gzip
import math
import zlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from host.datasets import store
from host.datasets.base import Dataset
from host.datasets.store import Archive, DataFile, DatasetError, Progress

SIDE = 28
"""Pixels of an image's side."""


@dataclass(frozen=True)
class IdxSet:
    """A data set in four gzipped idx files.

    Attributes
    ----------
    files : images and labels of the training set, images and labels of the test set
    sizes : samples of the training set and of the test set
    first_label : label of the first class in the files; in the data set it is 0
    transposed : the files hold the images column by column
    archive : zip file that the files come in
    """

    name: str
    files: tuple[DataFile, DataFile, DataFile, DataFile]
    sizes: tuple[int, int]
    class_names: tuple[str, ...]
    first_label: int = 0
    transposed: bool = False
    archive: Archive | None = None

    def fetch(self, progress: Progress | None = None) -> list[tuple[str, bytes]]:
        """Names and contents of the files, from the cache folder or downloaded into it."""
        names = ", ".join(file.name for file in self.files[:-1]) + f" and {self.files[-1].name}"
        advice = f"put {names} into {self.files[0].home.parent}"
        if self.archive is not None:
            advice += f", or {self.archive.file.name} with all of them"
        return [store.fetch(file, progress, archive=self.archive, advice=advice) for file in self.files]

    def load(self) -> Dataset:
        """The data set, its features being the pixels row by row; all files are checked before anything is kept."""
        fetched = self.fetch()
        features = np.empty((sum(self.sizes), SIDE, SIDE), dtype=np.uint8)
        labels = np.empty(sum(self.sizes), dtype=np.int64)
        first = 0
        for part, size in enumerate(self.sizes):
            rows = slice(first, first + size)
            images = self._array(fetched, 2 * part, (size, SIDE, SIDE))
            features[rows] = images.transpose(0, 2, 1) if self.transposed else images
            labels[rows] = self._labels(fetched, 2 * part + 1, size)
            first += size
        for file, (where, data) in zip(self.files, fetched, strict=True):
            store.verify(data, file.sha256, where)
        return Dataset(
            self.name,
            features.reshape(len(features), -1),
            labels,
            self.class_names,
            pool=self.sizes[0],
            fixed_pool=True,
            images=True,
        )

    def _array(self, fetched: list[tuple[str, bytes]], index: int, shape: tuple[int, ...]) -> NDArray[np.uint8]:
        where, data = fetched[index]
        try:
            plain = gzip.decompress(data)
        except (OSError, EOFError, zlib.error) as error:
            raise DatasetError(f"The data file {where} is no whole gzip file: {error}.") from None
        return parse_idx(plain, where, shape)

    def _labels(self, fetched: list[tuple[str, bytes]], index: int, size: int) -> NDArray[np.int64]:
        labels = self._array(fetched, index, (size,)).astype(np.int64) - self.first_label
        check_labels(labels, len(self.class_names), fetched[index][0], self.first_label)
        return labels


def check_labels(labels: NDArray[np.int64], n_classes: int, where: object, first: int = 0) -> None:
    """Refuse labels outside ``0 .. n_classes-1``, which stand as ``first ..`` in the file."""
    wrong = np.flatnonzero((labels < 0) | (labels >= n_classes))
    if len(wrong):
        raise DatasetError(
            f"The data file {where} gives sample {wrong[0]} the label {labels[wrong[0]] + first}: must be from {first} "
            f"to {first + n_classes - 1}."
        )


def parse_idx(data: bytes, where: object, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """The array in the unpacked idx file `data`, which came from `where`: unsigned bytes of this very shape."""
    magic, found = 0x0800 | len(shape), int.from_bytes(data[:4], "big")
    header = 4 + 4 * len(shape)
    if len(data) < header:
        raise DatasetError(f"The data file {where} is too short: {len(data)} bytes do not even hold the header.")
    if found != magic:
        raise DatasetError(
            f"The data file {where} is no idx file of unsigned bytes in {len(shape)} dimensions: it begins with "
            f"{found:08x} instead of {magic:08x}."
        )
    dimensions = tuple(int(value) for value in np.frombuffer(data, dtype=">u4", offset=4, count=len(shape)))
    if dimensions != shape:
        raise DatasetError(
            f"The data file {where} is of size {' x '.join(map(str, dimensions))} instead of "
            f"{' x '.join(map(str, shape))}."
        )
    wanted = header + math.prod(shape)
    if len(data) != wanted:
        word = "short" if len(data) < wanted else "long"
        raise DatasetError(f"The data file {where} is too {word}: {len(data)} bytes instead of {wanted}.")
    return np.frombuffer(data, dtype=np.uint8, offset=header).reshape(shape)


# ---- the sets -------------------------------------------------------------------------------------------------------


def _four(
    prefixes: tuple[str, str], folders: tuple[str, ...], urls: tuple[str, ...], checksums: tuple[str, str, str, str]
) -> tuple[DataFile, DataFile, DataFile, DataFile]:
    names = [f"{prefix}-{kind}-ubyte.gz" for prefix in prefixes for kind in ("images-idx3", "labels-idx1")]
    a, b, c, d = (
        DataFile(name, checksum, folders, tuple(url + name for url in urls))
        for name, checksum in zip(names, checksums, strict=True)
    )
    return a, b, c, d


MNIST = IdxSet(
    "mnist",
    _four(
        ("train", "t10k"),
        ("mnist",),
        ("https://ossci-datasets.s3.amazonaws.com/mnist/", "https://storage.googleapis.com/cvdf-datasets/mnist/"),
        (
            "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
            "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
            "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
            "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
        ),
    ),
    (60_000, 10_000),
    tuple("0123456789"),
)

FASHION_MNIST = IdxSet(
    "fashion-mnist",
    _four(
        ("train", "t10k"),
        ("fashion-mnist",),
        (
            "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
            "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
        ),
        (
            "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
            "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
            "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
            "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
        ),
    ),
    (60_000, 10_000),
    (
        "T-shirt/top",
        "trouser",
        "pullover",
        "dress",
        "coat",
        "sandal",
        "shirt",
        "sneaker",
        "bag",
        "ankle boot",
    ),
)

_EMNIST_FOLDERS = ("emnist", "emnist/gzip")
_LETTERS = _four(
    ("emnist-letters-train", "emnist-letters-test"),
    _EMNIST_FOLDERS,
    (),
    (
        "6288f418a917e007bf5fddb823a2dc7a5c6a35031401b93292a539cb12bd881f",
        "9759af91ea6bccdf07a6040fd085861f2ec88e37f7c3f5760f6feb57106fbe5c",
        "50f0e93d75b99b463e9760b8345866f22587fa2c2fba472730a5ba09c693412d",
        "924955c31fe7fd809b7303b5c0141282955f4b8390c74cdfd5d80435e0f4b4cb",
    ),
)
_BALANCED = _four(
    ("emnist-balanced-train", "emnist-balanced-test"),
    _EMNIST_FOLDERS,
    (),
    (
        "74295e75e4e9fa2c102147460ee7eb763653d5132d883a84fb88932bfb8d2db4",
        "b46d41e5156a0a8aaaa4d18979fdd1588850fa8571018acffd5d93b325a7d6ed",
        "117fc12b015e37ea98bfb2cbba3f77c3782c056cdbd219b87abfc8661d7135db",
        "a67cac948379b67270b9a4d0a01c8ec661598accf2f2b1964340b7c83cb175cd",
    ),
)
_EMNIST = Archive(
    DataFile(
        "gzip.zip",
        "fb9bb67e33772a9cc0b895e4ecf36d2cf35be8b709693c3564cea2a019fcda8e",
        ("emnist",),
        (
            "https://biometrics.nist.gov/cs_links/EMNIST/gzip.zip",
            "https://www.itl.nist.gov/iaui/vip/cs_links/EMNIST/gzip.zip",
        ),
    ),
    "gzip/",
    _LETTERS + _BALANCED,
)

EMNIST_LETTERS = IdxSet(
    "emnist-letters",
    _LETTERS,
    (124_800, 20_800),
    tuple("ABCDEFGHIJKLMNOPQRSTUVWXYZ"),
    first_label=1,
    transposed=True,
    archive=_EMNIST,
)

EMNIST_BALANCED = IdxSet(
    "emnist-balanced",
    _BALANCED,
    (112_800, 18_800),
    tuple("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabdefghnqrt"),
    transposed=True,
    archive=_EMNIST,
)
