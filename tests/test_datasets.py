"""Data sets: shapes, split protocol, intensities, and sentences for what is wrong."""

from __future__ import annotations

import hashlib
import io
import urllib.request

import numpy as np
import pytest

from host import datasets
from host.datasets import Dataset, DatasetError, class_sizes, split, to_intensities, yin_yang


def toy(pool: int = 40) -> Dataset:
    rng = np.random.default_rng(0)
    labels = (np.arange(60) % 3 == 0).astype(np.int64)
    return Dataset("toy", rng.normal(size=(60, 4)), labels, ("a", "b"), pool=pool)


@pytest.mark.parametrize(
    ("name", "features", "classes", "pool", "test"),
    [("breast-cancer", 30, 2, 400, 169), ("digits", 64, 10, 1200, 597), ("moons", 4, 2, 400, 600)],
)
def test_shapes(name: str, features: int, classes: int, pool: int, test: int) -> None:
    found = split(name, pool, seed=1)
    assert found.x_train.shape == (pool, features)
    assert found.x_test.shape == (test, features)
    assert found.x_train.dtype == np.uint8
    assert found.n_classes == classes == len(np.unique(found.y_train))
    assert found.x_train.max() == 255


def test_malignant_is_class_1() -> None:
    data = datasets.load("breast-cancer")
    assert np.bincount(data.labels).tolist() == [357, 212]


def test_yin_yang_is_the_published_set() -> None:
    """Checksums of the first samples of the authors' training file (seed 42) and of its class counts."""
    features, labels = yin_yang(200, 42)
    assert hashlib.sha256(features.astype("<f8").tobytes()).hexdigest() == YIN_YANG_SHA256
    assert np.array_equal(features[:, 2:], 1 - features[:, :2])
    assert set(labels.tolist()) == {0, 1, 2}


YIN_YANG_SHA256 = "a0fc963c4b6f1a89712c64205bede678e74bedce222d945d3f4e3cc3e320518b"


def test_subsets_are_nested_stratified_and_disjoint_from_the_test_set() -> None:
    data = toy()
    small, large = split(data, 10, seed=3), split(data, 30, seed=3)
    assert np.array_equal(small.y_test, large.y_test)
    assert np.bincount(small.y_train).tolist() == class_sizes_of(data, 3, 10)
    assert len(small.y_train) == 10
    assert len(large.y_train) == 30
    # Features differ in scale between subsets, so nesting is checked on labelled rows of a fixed-range set.
    fixed = Dataset("fixed", np.arange(60.0)[:, None], data.labels, ("a", "b"), pool=40, bounds=(0.0, 59.0))
    few, many = split(fixed, 10, seed=3), split(fixed, 30, seed=3)
    assert set(few.x_train[:, 0].tolist()) <= set(many.x_train[:, 0].tolist())
    assert not set(many.x_train[:, 0].tolist()) & set(many.x_test[:, 0].tolist())


def class_sizes_of(data: Dataset, seed: int, size: int) -> list[int]:
    pool = np.random.default_rng(seed).permutation(60)[:40]
    ones = max(1, round(size * float(np.mean(data.labels[pool]))))
    return [size - ones, ones]


def test_class_sizes_never_exceed_what_there_is() -> None:
    labels = np.array([0] * 30 + [1] * 5 + [2] * 5)
    for size in range(3, 41):
        sizes = class_sizes(labels, 3, size)
        assert sum(sizes) == size
        assert all(1 <= count <= have for count, have in zip(sizes, (30, 5, 5), strict=True))


def test_scaling_uses_the_training_subset_only() -> None:
    found = split(toy(), 20, seed=0)
    assert found.x_train.min(axis=0).tolist() == [0] * 4
    assert found.x_train.max(axis=0).tolist() == [255] * 4


def test_intensities_are_rounded_and_clipped() -> None:
    assert to_intensities(np.array([-1.0, 0.0, 0.5, 1.0, 2.0])).tolist() == [0, 0, 128, 255, 255]


def test_same_seed_same_split() -> None:
    first, second, other = split("moons", 50, 4), split("moons", 50, 4), split("moons", 50, 5)
    assert np.array_equal(first.x_train, second.x_train)
    assert not np.array_equal(first.x_train, other.x_train)


@pytest.mark.parametrize("size", [1, 41, 0, -3, 2.5, True])
def test_bad_sizes(size: object) -> None:
    with pytest.raises(DatasetError, match="must be an integer from 2 to 40"):
        split(toy(), size)  # type: ignore[arg-type]


def test_unknown_set_lists_the_known_ones() -> None:
    with pytest.raises(DatasetError, match="allowed are breast-cancer, breast-cancer-original, digits"):
        datasets.load("iris")


# ---- the original breast cancer file --------------------------------------------------------------------------------

ROWS = b"1000025,5,1,1,1,2,1,3,1,1,2\n1002945,5,4,4,5,7,10,3,2,1,4\n1096800,6,6,6,9,6,?,7,8,1,2\n"


@pytest.fixture
def original(monkeypatch: pytest.MonkeyPatch, tmp_path):  # type: ignore[no-untyped-def]
    """An empty cache folder, a small stand-in for the file with its checksum, and no network."""
    monkeypatch.setenv(datasets.DATA_VARIABLE, str(tmp_path))
    monkeypatch.setattr(datasets, "ORIGINAL_SHA256", hashlib.sha256(ROWS).hexdigest())
    monkeypatch.setattr(datasets, "_CACHE", {})

    def offline(*_args: object, **_kwargs: object) -> None:
        raise OSError("no network")

    monkeypatch.setattr(urllib.request, "urlopen", offline)
    return tmp_path


@pytest.mark.parametrize("place", ["breast-cancer", "."])
def test_original_is_read_from_the_cache_folder(original, place: str) -> None:  # type: ignore[no-untyped-def]
    (original / place).mkdir(exist_ok=True)
    (original / place / datasets.ORIGINAL_FILE).write_bytes(ROWS)
    data = datasets.load("breast-cancer-original")
    assert data.features.shape == (2, 9)  # the row with "?" is dropped
    assert data.labels.tolist() == [0, 1]


def test_original_is_downloaded_and_kept(original, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setattr(urllib.request, "urlopen", lambda *_a, **_k: io.BytesIO(ROWS))
    datasets.load("breast-cancer-original")
    assert (original / "breast-cancer" / datasets.ORIGINAL_FILE).read_bytes() == ROWS


def test_original_neither_there_nor_reachable(original) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(DatasetError, match=r"neither in the cache folder .* nor could it be downloaded .*no network"):
        datasets.load("breast-cancer-original")


def test_original_damaged(original) -> None:  # type: ignore[no-untyped-def]
    (original / datasets.ORIGINAL_FILE).write_bytes(ROWS[:-5])
    with pytest.raises(DatasetError, match="damaged or another version"):
        datasets.load("breast-cancer-original")


def test_read_only_cache_folder_costs_nothing_but_the_download(original, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    (original / "breast-cancer").write_text("a file where the folder should be")
    monkeypatch.setattr(urllib.request, "urlopen", lambda *_a, **_k: io.BytesIO(ROWS))
    assert len(datasets.load("breast-cancer-original").labels) == 2
