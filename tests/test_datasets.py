"""Data sets: shapes, split protocol, intensities, and sentences for what is wrong."""

from __future__ import annotations

import gzip
import hashlib
import http.server
import io
import re
import threading
import urllib.request
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from host import datasets
from host.datasets import (
    Dataset,
    DatasetError,
    Recordings,
    class_sizes,
    event_split,
    idx,
    population_code,
    population_rates,
    split,
    to_intensities,
    yin_yang,
)
from host.datasets.idx import IdxSet
from host.datasets.recordings import EventSet, bin_events, event_counts, parse_events
from host.datasets.small import load_breast_cancer_original
from host.datasets.store import Archive, DataFile
from host.events import Events


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


YIN_YANG_CRCS = {
    "train": (0x93554DDB, 0xEA1A3F5E),
    "validation": (0x092A357D, 0x96B2433D),
    "test": (0x03E6629E, 0x3C9D8FBE),
}
"""CRC-32 of the authors' samples and labels, checked against their files (float64 and int64, little-endian)."""


def yin_yang_parts() -> dict[str, slice]:
    return {"train": slice(0, 5000), "validation": slice(5000, 6000), "test": slice(6000, 7000)}


def test_yin_yang_is_the_published_set() -> None:
    data = datasets.load("yin-yang")
    for part, rows in yin_yang_parts().items():
        found = (data.features[rows].astype("<f8"), data.labels[rows].astype("<i8"))
        assert tuple(zlib.crc32(array.tobytes()) for array in found) == YIN_YANG_CRCS[part]
    assert np.array_equal(data.features[:, 2:], 1 - data.features[:, :2])
    assert data.labels[:6].tolist() == [2, 1, 2, 1, 1, 1]
    assert data.features[0].tolist() == [0.6803075385877797, 0.450499251969543, 0.3196924614122203, 0.549500748030457]
    features, labels = yin_yang(7, 41)
    assert np.array_equal(features, data.features[5000:5007])
    assert np.array_equal(labels, data.labels[5000:5007])


@pytest.mark.parametrize("part", YIN_YANG_CRCS)
def test_yin_yang_equals_the_authors_files(part: str) -> None:
    path = datasets.data_folder() / "yin-yang"
    if not path.is_dir():
        pytest.skip(f"{path} is not there (set {datasets.DATA_VARIABLE} to the folder of the data files)")
    data, rows = datasets.load("yin-yang"), yin_yang_parts()[part]
    samples, labels = (np.load(path / f"{part}_{what}.npy", allow_pickle=False) for what in ("samples", "labels"))
    assert samples.dtype == np.float64
    assert data.features[rows].tobytes() == samples.tobytes()
    assert np.array_equal(data.labels[rows], labels)


def test_yin_yang_keeps_its_three_sets() -> None:
    data = datasets.load("yin-yang")
    found = split("yin-yang", validation_size=None)
    assert [len(rows) for rows in (found.rows_train, found.rows_validation, found.rows_test)] == [5000, 1000, 1000]
    assert sorted(found.rows_train.tolist()) == list(range(5000))
    assert found.rows_validation.tolist() == list(range(5000, 6000))
    assert found.rows_test.tolist() == list(range(6000, 7000))
    for name in ("train", "validation", "test"):
        rows, x = getattr(found, f"rows_{name}"), getattr(found, f"features_{name}")
        assert x.dtype == np.float64
        assert np.array_equal(x, data.features[rows])
        assert np.array_equal(getattr(found, f"y_{name}"), data.labels[rows])
        assert np.array_equal(getattr(found, f"x_{name}"), to_intensities(x))
    few = split("yin-yang", 300, 1, validation_size=90)
    assert np.bincount(few.y_validation).min() >= 29
    assert set(few.rows_validation.tolist()) < set(range(5000, 6000))
    assert np.array_equal(few.rows_train, split("yin-yang", 300, 1).rows_train)
    assert split("yin-yang").x_validation.shape == (0, 4)
    with pytest.raises(DatasetError, match="Validation size 1001 for yin-yang: must be an integer from 3 to 1000"):
        split("yin-yang", validation_size=1001)
    with pytest.raises(DatasetError, match="digits has no official validation set"):
        split("digits", validation_size=None)


def test_features_are_what_the_intensities_were_rounded_from() -> None:
    found = split(toy(), 20, validation_size=10)
    for name in ("train", "validation", "test"):
        x = getattr(found, f"features_{name}")
        assert x.min() >= 0
        assert x.max() <= 1
        assert np.array_equal(to_intensities(x), getattr(found, f"x_{name}"))
    pixels = split(numbered(), 20)
    assert np.array_equal(pixels.features_test, pixels.x_test / 255)


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


# ---- population code ------------------------------------------------------------------------------------------------


def test_a_point_on_a_centre_drives_its_neuron_alone_and_fully() -> None:
    for k in range(10):
        assert population_code([[k / 9, 0.0]])[0].tolist() == [255 * (j == k) for j in range(10)] + [255] + [0] * 9
    assert population_code([[0.5], [1.0]], 3).tolist() == [[0, 255, 0], [0, 0, 255]]


def test_between_two_centres_both_neighbours_share_and_the_rest_is_silent() -> None:
    # Centres of 100/9: 50 lies half way between the fifth and the sixth, 3/4 of the way gives 0.5 +- sqrt(1/8).
    assert population_code([[0.5]])[0].tolist() == [0, 0, 0, 0, 128, 128, 0, 0, 0, 0]
    rates = population_rates([[0.75 / 9]])[0]
    assert rates[:2] == pytest.approx([0.5 - 0.125**0.5, 0.5 + 0.125**0.5])
    assert not rates[2:].any()
    x = np.linspace(0, 1, 101)[:, None]
    assert population_rates(x).sum(axis=1) == pytest.approx(np.ones(101))


def test_far_outside_nothing_spikes() -> None:
    assert not population_code([[-1 / 9, 1 + 1 / 9], [-5.0, 9.0]]).any()
    assert population_code([[-0.5 / 9]])[0, 0] == 128


@pytest.mark.parametrize(
    ("points", "neurons", "message"),
    [
        ([0.5], 10, r"shape \(1,\): must be finite numbers, \(points, dimensions\)"),
        ([[np.nan]], 10, "must be finite numbers"),
        ([["a"]], 10, "must be finite numbers"),
        ([[0.5]], 1, "Neurons per dimension 1: must be an integer from 2 on"),
    ],
)
def test_what_the_population_code_refuses(points: Any, neurons: Any, message: str) -> None:
    with pytest.raises(DatasetError, match=message):
        population_code(points, neurons)


@pytest.mark.parametrize(("name", "noise"), [("moons-10", 0.1), ("moons-25", 0.25)])
def test_coded_moons_are_the_moons_of_scikit_learn(name: str, noise: float) -> None:
    from sklearn.datasets import make_moons

    found = split(name, 200, 3, validation_size=400)
    assert [x.shape for x in (found.x_train, found.x_validation, found.x_test)] == [(200, 20), (400, 20), (2000, 20)]
    assert found.n_features == 20
    x, y = make_moons(n_samples=3000, noise=noise, random_state=0)
    low, span = x[found.rows_train].min(axis=0), np.ptp(x[found.rows_train], axis=0)
    points = np.clip((x[found.rows_test] - low) / span, 0, 1)
    assert found.scale.unit(found.rows_test) == pytest.approx(points)
    assert np.array_equal(found.x_test, population_code(points))
    assert np.array_equal(to_intensities(found.features_test), found.x_test)
    assert np.array_equal(found.y_test, y[found.rows_test])
    assert found.class_names[0] == "upper"
    assert x[y == 0, 1].mean() > x[y == 1, 1].mean()


def test_the_noisier_moons_overlap() -> None:
    from sklearn.neighbors import KNeighborsClassifier

    scores = {}
    for name in ("moons-10", "moons-25"):
        found = split(name, 200)
        scores[name] = KNeighborsClassifier(9).fit(found.x_train, found.y_train).score(found.x_test, found.y_test)
    assert scores["moons-10"] > 0.98
    assert 0.88 < scores["moons-25"] < 0.96


# ---- validation set -------------------------------------------------------------------------------------------------


def numbered(pool: int = 40, **settings: Any) -> Dataset:
    """60 rows whose only feature is the row's number, as an intensity."""
    labels = (np.arange(60) % 3 == 0).astype(np.int64)
    return Dataset("numbered", np.arange(60, dtype=np.uint8)[:, None], labels, ("a", "b"), pool=pool, **settings)


def test_validation_set_is_stratified_and_independent_of_the_training_size() -> None:
    small, large = split(numbered(), 10, 3, validation_size=9), split(numbered(), None, 3, validation_size=9)
    assert np.array_equal(small.x_validation, large.x_validation)
    assert np.bincount(small.y_validation).tolist() == class_sizes_of(toy(), 3, 9)
    assert len(large.y_train) == 31
    rows = [set(found[:, 0].tolist()) for found in (large.x_train, large.x_validation, large.x_test)]
    assert sum(map(len, rows)) == 60
    assert set.union(*rows) == set(range(60))
    assert set(small.x_train[:, 0].tolist()) <= rows[0]


def test_validation_set_leaves_small_training_subsets_as_they_were() -> None:
    with_one, without = split(numbered(), 12, 5, validation_size=10), split(numbered(), 12, 5)
    assert np.array_equal(with_one.x_train, without.x_train)
    assert np.array_equal(with_one.x_test, without.x_test)
    assert without.x_validation.shape == (0, 1)


@pytest.mark.parametrize("size", [1, 39, -1, 2.5, True])
def test_bad_validation_sizes(size: Any) -> None:
    with pytest.raises(DatasetError, match=r"Validation size .* must be an integer from 2 to 38"):
        split(toy(), validation_size=size)
    with pytest.raises(DatasetError, match=r"Training size 31 .* must be an integer from 2 to 30"):
        split(toy(), 31, validation_size=10)


def test_official_split_and_pixels_stay_as_they_are() -> None:
    data = numbered(fixed_pool=True)
    found = split(data, 30, seed=2)
    assert found.x_test[:, 0].tolist() == list(range(40, 60))
    assert found.x_train.dtype == np.uint8
    assert np.array_equal(found.x_train[:, 0], found.rows_train)
    assert np.array_equal(found.y_train, data.labels[found.rows_train])
    assert found.rows_train.tolist() != sorted(found.rows_train.tolist())
    assert not np.array_equal(found.rows_train, split(data, 30, seed=3).rows_train)
    found.x_train[:] = 0  # a copy: the data set keeps its pixels
    assert np.array_equal(data.features[:, 0], np.arange(60))


# ---- the original breast cancer file --------------------------------------------------------------------------------

ROWS = b"1000025,5,1,1,1,2,1,3,1,1,2\n1002945,5,4,4,5,7,10,3,2,1,4\n1096800,6,6,6,9,6,?,7,8,1,2\n"
FILE = DataFile(
    "rows.data", hashlib.sha256(ROWS).hexdigest(), ("breast-cancer", "."), ("http://nowhere.invalid/rows.data",)
)


def offline(*_args: object, **_kwargs: object) -> None:
    raise OSError("no network")


@pytest.fixture
def folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty cache folder, and no network."""
    path = tmp_path / "data"
    path.mkdir()
    monkeypatch.setenv(datasets.DATA_VARIABLE, str(path))
    monkeypatch.setattr(datasets, "_CACHE", {})
    monkeypatch.setattr(urllib.request, "urlopen", offline)
    return path


def files_in(path: Path) -> list[str]:
    return sorted(str(found.relative_to(path)) for found in path.rglob("*") if found.is_file())


@pytest.mark.parametrize("place", ["breast-cancer", "."])
def test_original_is_read_from_the_cache_folder(folder: Path, place: str) -> None:
    (folder / place).mkdir(exist_ok=True)
    (folder / place / FILE.name).write_bytes(ROWS)
    data = load_breast_cancer_original(FILE)
    assert data.features.shape == (2, 9)  # the row with "?" is dropped
    assert data.labels.tolist() == [0, 1]


def test_original_is_downloaded_and_kept(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(urllib.request, "urlopen", lambda *_a, **_k: io.BytesIO(ROWS))
    load_breast_cancer_original(FILE)
    assert files_in(folder) == ["breast-cancer/rows.data"]


def test_original_neither_there_nor_reachable(folder: Path) -> None:
    with pytest.raises(DatasetError, match=r"neither in the cache folder .* nor could it be downloaded .*no network"):
        datasets.load("breast-cancer-original")


def test_original_damaged(folder: Path) -> None:
    (folder / FILE.name).write_bytes(ROWS[:-5])
    with pytest.raises(DatasetError, match=r"rows.data is damaged or another version"):
        load_breast_cancer_original(FILE)


def test_read_only_cache_folder_costs_nothing_but_the_download(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "breast-cancer").write_text("a file where the folder should be")
    monkeypatch.setattr(urllib.request, "urlopen", lambda *_a, **_k: io.BytesIO(ROWS))
    assert len(load_breast_cancer_original(FILE).labels) == 2


# ---- idx files ------------------------------------------------------------------------------------------------------

SIZES = (12, 6)


def idx_bytes(array: np.ndarray) -> bytes:
    """An idx file of unsigned bytes."""
    dimensions = b"".join(size.to_bytes(4, "big") for size in array.shape)
    return bytes([0, 0, 8, array.ndim]) + dimensions + array.astype(np.uint8).tobytes()


def images(part: int) -> np.ndarray:
    return np.random.default_rng(part).integers(0, 256, (SIZES[part], 28, 28), dtype=np.uint8)


def tiny_set(**settings: Any) -> tuple[IdxSet, dict[str, bytes]]:
    """A set of 12 + 6 images of 3 classes, its own checksums, and the contents of its files."""
    first = settings.get("first_label", 0)
    contents = {}
    for part, name in enumerate(("train", "t10k")):
        contents[f"{name}-images.gz"] = gzip.compress(idx_bytes(images(part)), mtime=0)
        contents[f"{name}-labels.gz"] = gzip.compress(idx_bytes(np.arange(SIZES[part]) % 3 + first), mtime=0)
    return IdxSet("tiny", checksums(contents), SIZES, ("a", "b", "c"), **settings), contents


def checksums(contents: dict[str, bytes], *urls: str) -> tuple[DataFile, DataFile, DataFile, DataFile]:
    a, b, c, d = (
        DataFile(name, hashlib.sha256(data).hexdigest(), ("tiny",), tuple(url + name for url in urls))
        for name, data in contents.items()
    )
    return a, b, c, d


def put(folder: Path, contents: dict[str, bytes]) -> None:
    (folder / "tiny").mkdir(exist_ok=True)
    for name, data in contents.items():
        (folder / "tiny" / name).write_bytes(data)


def test_idx_set_is_read_exactly(folder: Path) -> None:
    tiny, contents = tiny_set()
    put(folder, contents)
    data = tiny.load()
    assert data.features.dtype == np.uint8
    assert np.array_equal(data.features, np.concatenate([images(0), images(1)]).reshape(18, 784))
    assert data.labels.dtype == np.int64
    assert data.labels.tolist() == [0, 1, 2] * 6
    found = split(data, 9, 1, validation_size=3)
    assert [len(y) for y in (found.y_train, found.y_validation, found.y_test)] == [9, 3, 6]
    assert np.array_equal(found.x_test, images(1).reshape(6, 784))


def test_emnist_images_are_turned_and_letters_count_from_0(folder: Path) -> None:
    tiny, contents = tiny_set(first_label=1, transposed=True)
    put(folder, contents)
    data = tiny.load()
    assert np.array_equal(data.features[13].reshape(28, 28), images(1)[1].T)
    assert data.labels.tolist() == [0, 1, 2] * 6


def pack(array: Any, head: bytes | None = None) -> bytes:
    plain = idx_bytes(np.asarray(array))
    return gzip.compress(plain if head is None else head + plain[len(head) :])


DAMAGED: list[tuple[str, Callable[[bytes], bytes], str]] = [
    ("train-images.gz", lambda _: pack(images(0), b"\0\0\x0d\3"), "begins with 00000d03 instead of 00000803"),
    ("t10k-labels.gz", lambda _: pack(np.zeros((6, 1))), "begins with 00000802 instead of 00000801"),
    ("t10k-images.gz", lambda _: pack(images(0)), "is of size 12 x 28 x 28 instead of 6 x 28 x 28"),
    ("train-images.gz", lambda old: gzip.compress(gzip.decompress(old)[:-1]), "too short: 9423 bytes instead of 9424"),
    ("train-images.gz", lambda old: gzip.compress(gzip.decompress(old) + b"x"), "too long: 9425 bytes instead of 9424"),
    ("train-labels.gz", lambda _: gzip.compress(b"\0\0\x08\1"), "too short: 4 bytes do not even hold the header"),
    ("train-labels.gz", lambda _: pack([0, 1, 2, 3] * 3), "gives sample 3 the label 3: must be from 0 to 2"),
    ("train-images.gz", lambda old: old[:-20], "is no whole gzip file"),
    ("train-images.gz", lambda _: b"<html>not found</html>", "is no whole gzip file"),
    ("train-images.gz", lambda _: b"", "too short: 0 bytes"),
    ("t10k-images.gz", lambda _: pack(images(1) ^ 1), r"damaged or another version \(its SHA-256 is not"),
]


@pytest.mark.parametrize(("name", "damage", "sentence"), DAMAGED)
def test_damaged_idx_file(folder: Path, name: str, damage: Callable[[bytes], bytes], sentence: str) -> None:
    """The checksum is of the undamaged file throughout: what the contents tell comes first."""
    tiny, contents = tiny_set()
    put(folder, contents | {name: damage(contents[name])})
    with pytest.raises(DatasetError, match=re.escape(str(folder / "tiny" / name)) + ".*" + sentence) as caught:
        tiny.load()
    assert str(caught.value).count(". ") == 0
    assert str(caught.value).endswith(".")


def test_label_below_the_first_one(folder: Path) -> None:
    tiny, contents = tiny_set(first_label=1)
    put(folder, contents | {"train-labels.gz": pack(np.arange(12) % 3)})
    with pytest.raises(DatasetError, match="gives sample 0 the label 0: must be from 1 to 3"):
        tiny.load()


def test_damaged_set_is_not_half_loaded(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny, contents = tiny_set()
    monkeypatch.setitem(datasets.REGISTRY, "tiny", replace(datasets.REGISTRY["mnist"], name="tiny", loader=tiny.load))
    put(folder, contents | {"t10k-labels.gz": b""})
    with pytest.raises(DatasetError):
        datasets.load("tiny")
    assert not datasets._CACHE
    put(folder, contents)
    assert datasets.load("tiny") is datasets.load("tiny")


# ---- downloads ------------------------------------------------------------------------------------------------------


class Handler(http.server.SimpleHTTPRequestHandler):
    """Serves a folder; of what is asked for below /cut/ only the first half arrives."""

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        cut = self.path.startswith("/cut/")
        path = Path(self.directory) / self.path.removeprefix("/cut").lstrip("/")
        if not path.is_file():
            self.send_error(404)
            return
        data = path.read_bytes()
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data[: len(data) // 2] if cut else data)


@pytest.fixture
def server(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, Path]]:
    """Address and folder of a server on this machine, which is reached without any proxy."""
    root = tmp_path / "served"
    root.mkdir()
    monkeypatch.undo()
    monkeypatch.setenv(datasets.DATA_VARIABLE, str(folder))
    monkeypatch.setenv("no_proxy", "*")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(root))) as found:
        thread = threading.Thread(target=found.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{found.server_port}/", root
        found.shutdown()
        thread.join()


def serve(root: Path, contents: dict[str, bytes]) -> None:
    for name, data in contents.items():
        (root / name).write_bytes(data)


def test_download_goes_on_to_the_next_mirror_and_tells_its_progress(server: tuple[str, Path], folder: Path) -> None:
    url, root = server
    tiny, contents = tiny_set()
    serve(root, contents)
    seen: list[tuple[str, int, int | None]] = []
    mirrored = replace(tiny, files=checksums(contents, url + "missing/", url + "cut/", url))
    mirrored.fetch(lambda *values: seen.append(values))
    assert files_in(folder) == sorted(f"tiny/{name}" for name in contents)
    for name, data in contents.items():
        assert (name, len(data), len(data)) in seen
    seen.clear()
    assert len(mirrored.load().labels) == 18
    mirrored.fetch(lambda *values: seen.append(values))  # all there: nothing to download
    assert not seen


@pytest.mark.parametrize(
    ("below", "reason"),
    [("cut/", "broke off after [0-9]+ of [0-9]+ bytes"), ("missing/", "Not Found"), ("", "its SHA-256 is not")],
)
def test_failed_download_leaves_nothing(server: tuple[str, Path], folder: Path, below: str, reason: str) -> None:
    url, root = server
    tiny, contents = tiny_set()
    serve(root, {name: data if below else data + b"x" for name, data in contents.items()})
    broken = replace(tiny, files=checksums(contents, url + below))
    with pytest.raises(DatasetError, match=f"train-images.gz is neither in .*{reason}") as caught:
        broken.load()
    assert f"put train-images.gz, train-labels.gz, t10k-images.gz and t10k-labels.gz into {folder / 'tiny'}" in str(
        caught.value
    )
    assert files_in(folder) == []


def test_interrupted_download_leaves_nothing(server: tuple[str, Path], folder: Path) -> None:
    url, root = server
    tiny, contents = packed_set(url)
    (root / "all.zip").write_bytes(contents)

    def interrupt(*_values: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tiny.fetch(interrupt)
    assert files_in(folder) == []


def packed_set(url: str) -> tuple[IdxSet, bytes]:
    """The tiny set in a zip file, and the zip file's contents."""
    tiny, contents = tiny_set()
    memory = io.BytesIO()
    with zipfile.ZipFile(memory, "w") as packed:
        for name, data in contents.items():
            packed.writestr(f"gzip/{name}", data)
    data = memory.getvalue()
    file = DataFile("all.zip", hashlib.sha256(data).hexdigest(), ("tiny",), (url + "all.zip",))
    return replace(tiny, archive=Archive(file, "gzip/", tiny.files)), data


def test_archive_is_downloaded_and_its_members_kept(server: tuple[str, Path], folder: Path) -> None:
    url, root = server
    tiny, contents = packed_set(url)
    (root / "all.zip").write_bytes(contents)
    assert len(tiny.load().labels) == 18
    assert files_in(folder) == sorted(f"tiny/{file.name}" for file in tiny.files)


def test_archive_in_the_cache_folder_is_read_as_it_is(folder: Path) -> None:
    tiny, contents = packed_set("http://nowhere.invalid/")
    put(folder, {"all.zip": contents})
    assert len(tiny.load().labels) == 18
    put(folder, {"all.zip": contents[:-30]})
    with pytest.raises(DatasetError, match=r"all.zip is damaged"):
        tiny.load()
    other = replace(tiny, archive=replace(tiny.archive, prefix="other/"))  # type: ignore[type-var]
    put(folder, {"all.zip": contents})
    with pytest.raises(DatasetError, match=r"all.zip is another archive"):
        other.load()


def test_without_network_the_sentence_says_what_to_put_where(folder: Path) -> None:
    for name, wanted in (
        ("mnist", f"t10k-images-idx3-ubyte.gz and t10k-labels-idx1-ubyte.gz into {folder / 'mnist'}"),
        ("emnist-letters", "or gzip.zip with all of them"),
        ("nmnist", f"put train1K.txt, test100.txt and the files <id>.bs2 .* into {folder / 'n-mnist-small'}"),
    ):
        with pytest.raises(DatasetError, match=wanted):
            datasets.load(name)
    datasets.download("digits")  # nothing to download
    with pytest.raises(DatasetError, match="no network"):
        datasets.download("fashion-mnist")


def test_pinned_sets_are_told_apart() -> None:
    sets = (idx.MNIST, idx.FASHION_MNIST, idx.EMNIST_LETTERS, idx.EMNIST_BALANCED)
    pinned = [file.sha256 for found in sets for file in found.files]
    assert len(set(pinned)) == 16
    assert all(re.fullmatch("[0-9a-f]{64}", value) for value in pinned)
    assert [len(found.class_names) for found in sets] == [10, 10, 26, 47]
    assert all(
        name == found.name and name in datasets.REGISTRY
        for name, found in zip(("mnist", "fashion-mnist", "emnist-letters", "emnist-balanced"), sets, strict=True)
    )


# ---- event files ----------------------------------------------------------------------------------------------------


def event(x: int, y: int, polarity: int, time: int) -> bytes:
    return bytes([x, y, polarity << 7 | time >> 16, time >> 8 & 255, time & 255])


SAMPLE = event(3, 2, 0, 0) + event(3, 2, 1, 62_999) + event(33, 33, 1, 63_000) + event(0, 1, 0, 0x7F_FFFF)


def test_event_bytes_are_decoded() -> None:
    times, inputs = parse_events(SAMPLE, "here", 34)
    assert times.tolist() == [0, 62_999, 63_000, 8_388_607]
    assert inputs.tolist() == [2 * 34 + 3, 1156 + 2 * 34 + 3, 2311, 34]
    assert [len(part) for part in parse_events(b"", "here", 34)] == [0, 0]


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (SAMPLE[:-1], "cut off: 19 bytes are no whole number of 5-byte events"),
        (SAMPLE + event(1, 34, 0, 0x7F_FFFF), r"an event at pixel \(1, 34\): both must be below 34"),
        (SAMPLE + event(1, 3, 0, 5), "times run backwards"),
    ],
)
def test_damaged_events(data: bytes, sentence: str) -> None:
    with pytest.raises(DatasetError, match=sentence):
        parse_events(data, "here", 34)


def recordings(*samples: list[tuple[int, int]], n_inputs: int = 4, duration: int = 100) -> Recordings:
    """Samples of (time, input)."""
    flat = np.array([pair for sample in samples for pair in sample], dtype=np.int64).reshape(-1, 2)
    return Recordings(
        flat[:, 0].astype(np.int32),
        flat[:, 1].astype(np.uint16),
        np.cumsum([0, *map(len, samples)]),
        n_inputs,
        duration,
    )


def test_binning() -> None:
    found = recordings([(0, 1), (9, 1), (9, 0), (10, 1), (99, 3), (100, 2)], [], [(50, 2)])
    events, thinned = bin_events(found, np.array([0, 1, 2]), 10, 100)
    assert events == Events([[0, 0, 1, 9], [], [5]], [[0, 1, 1, 3], [], [2]])
    assert thinned == 0
    assert bin_events(found, np.array([2, 0]), 1, 100)[0] == Events([[0], [0, 0, 0]], [[2], [0, 1, 3]])
    assert event_counts(found, 16).tolist() == [[16, 48, 0, 16], [0, 0, 0, 0], [0, 0, 16, 0]]
    assert event_counts(found, 100).max() == 255


def test_thinning_is_even_and_exact() -> None:
    found = recordings([(time, 0) for time in range(100)], [(5, 1)])
    events, thinned = bin_events(found, np.array([0, 1]), 100, 40)
    assert thinned == 1
    assert events.times[0].tolist() == [i * 100 // 40 for i in range(40)]
    assert len(events[1].words) == 1


def event_folder(folder: Path) -> EventSet:
    """A set of two training samples and one test sample."""
    lists = {"train.txt": b"#sample #class\r\n7\t1\r\n3\t0\r\n\r\n", "test.txt": b"#sample #class\n5\t1\n"}
    samples = {"7.bs2": SAMPLE, "3.bs2": event(0, 0, 0, 5) * 20, "5.bs2": b""}
    (folder / "events").mkdir()
    digest = hashlib.sha256()
    for name, data in (lists | samples).items():
        (folder / "events" / name).write_bytes(data)
        digest.update(f"{name} {len(data)}\n".encode() + data)
    return EventSet(
        "toy", ("events",), ("train.txt", "test.txt"), (2, 1), digest.hexdigest(), "a toy", class_names=("a", "b")
    )


def test_event_set_and_its_split(folder: Path) -> None:
    data = event_folder(folder).load()
    assert data.labels.tolist() == [1, 0, 1]
    assert data.features.shape == (3, 2312)
    assert data.features[1, 0] == 255
    assert np.flatnonzero(data.features[0]).tolist() == [71, 1227, 2311]  # what comes after 315 ms does not count
    found = split(data, 2, seed=0)
    events = event_split(found, 5)
    row = found.rows_train.tolist().index(0)
    assert events.x_train[row] == Events([[0, 0, 1]], [[71, 1227, 2311]])
    assert np.array_equal(events.y_train, found.y_train)
    assert [len(events.x_validation), len(events.x_test), events.steps, events.thinned] == [0, 1, 5, 0]
    assert event_split(found, 5, limit=2).thinned == 1


@pytest.mark.parametrize(
    ("name", "data", "sentence"),
    [
        ("train.txt", b"#\n7 1\n3 2\n", "gives sample 1 the label 2: must be from 0 to 1"),
        ("train.txt", b"#\n7 1\n", "lists 1 samples instead of 2"),
        ("test.txt", b"#\nfive 1\n", "does not hold lines of an id and a label"),
        ("5.bs2", b"1234", "cut off"),
        ("5.bs2", None, "Cannot read the data file"),
        ("5.bs2", SAMPLE, "the SHA-256 over all of them is not"),
    ],
)
def test_damaged_event_set(folder: Path, name: str, data: bytes | None, sentence: str) -> None:
    found = event_folder(folder)
    (folder / "events" / name).unlink()
    if data is not None:
        (folder / "events" / name).write_bytes(data)
    with pytest.raises(DatasetError, match=sentence):
        found.load()


@pytest.mark.parametrize("steps", [0, -1, 2.5, True, 70_000])
def test_bad_steps(folder: Path, steps: Any) -> None:
    with pytest.raises(DatasetError, match=r"Time steps .* must be an integer from 1 to"):
        event_split(split(event_folder(folder).load(), 2), steps)


def test_sets_without_events_say_so() -> None:
    with pytest.raises(DatasetError, match="The data set toy has no timed events, only intensities"):
        event_split(split(toy()), 10)


# ---- the real files, where they are ---------------------------------------------------------------------------------


def real(name: str, place: str) -> Dataset:
    """A data set whose files are in the cache folder; skips the test if they are not."""
    path = datasets.data_folder() / place
    if not path.exists():
        pytest.skip(f"{path} is not there (set {datasets.DATA_VARIABLE} to the folder of the data files)")
    return datasets.load(name)


@pytest.mark.parametrize("name", ["mnist", "fashion-mnist"])
def test_real_images(name: str) -> None:
    data = real(name, f"{name}/t10k-labels-idx1-ubyte.gz")
    assert data.features.shape == (70_000, 784)
    assert data.features.dtype == np.uint8
    found = split(name, 1000, seed=0, validation_size=5000)
    assert len(found.y_test) == 10_000
    assert np.bincount(found.y_validation).min() > 400
    first = {"mnist": [5, 0, 4, 1], "fashion-mnist": [9, 0, 0, 3]}[name]
    assert data.labels[:4].tolist() == first
    assert int(data.features[0].sum()) == {"mnist": 27_525, "fashion-mnist": 76_247}[name]


def test_real_letters() -> None:
    data = real("emnist-letters", "emnist/emnist-letters-test-labels-idx1-ubyte.gz")
    assert np.bincount(data.labels).tolist() == [5600] * 26


def test_real_events() -> None:
    data = real("nmnist", "n-mnist-small/NMNISTsmall/test100.txt")
    assert data.features.shape == (1100, 2312)
    found = split("nmnist")
    for steps, longest in ((5, 2339), (10, 2810), (20, 3555)):
        events = event_split(found, steps)
        assert events.thinned == 0
        assert max(np.diff(part.offsets).max() for part in (events.x_train, events.x_test)) == longest
    assert event_split(found, 32).thinned == 11
