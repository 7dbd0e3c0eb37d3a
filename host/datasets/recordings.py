"""Sets of an event camera: N-MNIST, and how recordings become time steps and intensities."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from host.datasets import store
from host.datasets.base import Dataset, Recordings
from host.datasets.idx import check_labels
from host.datasets.splits import Split
from host.datasets.store import DATA_VARIABLE, DatasetError
from host.events import Events
from rtl.config import MAX_STEPS, ChipConfig

COUNT_GAIN = 16
"""Intensity of one event. Of all pixels of N-MNIST 0.02 % have more than 15 events; they saturate at 255."""


# ---- the files ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class EventSet:
    """A folder of event files ``<id>.bs2`` and two lists of ids and labels.

    An event has 5 bytes: x, y, one bit of polarity, 23 bits of time in microseconds, most significant bit first.

    Attributes
    ----------
    folders : where the folder is looked for in the cache folder
    lists : names of the list of training samples and of that of test samples: a heading, then ``id label`` in each line
    sizes : samples of the training set and of the test set
    sha256 : checksum over name, length and contents of both lists and then of the event files in the lists' order
    side : pixels of the camera's side; input = polarity * side**2 + y * side + x
    duration : microseconds that count, the same for every sample
    """

    name: str
    folders: tuple[str, ...]
    lists: tuple[str, str]
    sizes: tuple[int, int]
    sha256: str
    origin: str
    side: int = 34
    duration: int = 315_000
    class_names: tuple[str, ...] = tuple("0123456789")

    def folder(self) -> Path:
        """The folder of the files."""
        for name in self.folders:
            path = store.data_folder() / name
            if path.is_dir():
                return path
        raise DatasetError(
            f"The data set {self.name} is not in the cache folder {store.data_folder()} and has no download: put "
            f"{self.lists[0]}, {self.lists[1]} and the files <id>.bs2 ({self.origin}) into "
            f"{store.data_folder() / self.folders[0]}, or point {DATA_VARIABLE} at a folder that has them."
        )

    def load(self) -> Dataset:
        """The data set; its features are the numbers of events of each input, times :data:`COUNT_GAIN`."""
        folder, digest = self.folder(), hashlib.sha256()

        def read(name: str) -> bytes:
            data = store.read(folder / name)
            digest.update(f"{name} {len(data)}\n".encode())
            digest.update(data)
            return data

        ids, labels = [], []
        for name, size in zip(self.lists, self.sizes, strict=True):
            found = _parse_list(read(name), folder / name, size)
            check_labels(found[:, 1], len(self.class_names), folder / name)
            ids += found[:, 0].tolist()
            labels += found[:, 1].tolist()
        samples = [parse_events(read(f"{i}.bs2"), folder / f"{i}.bs2", self.side) for i in ids]
        if digest.hexdigest() != self.sha256:
            raise DatasetError(
                f"The data files in {folder} are damaged or another version (the SHA-256 over all of them is not "
                f"{self.sha256[:12]}...); put the original ones there ({self.origin})."
            )
        recordings = Recordings(
            times=np.concatenate([times for times, _ in samples]),
            inputs=np.concatenate([inputs for _, inputs in samples]),
            offsets=np.cumsum([0, *(len(times) for times, _ in samples)], dtype=np.int64),
            n_inputs=2 * self.side**2,
            duration=self.duration,
        )
        return Dataset(
            self.name,
            event_counts(recordings, COUNT_GAIN),
            np.array(labels, dtype=np.int64),
            self.class_names,
            pool=self.sizes[0],
            fixed_pool=True,
            recordings=recordings,
            images=True,
        )


def _parse_list(data: bytes, where: Path, size: int) -> NDArray[np.int64]:
    rows = [line.split() for line in data.decode("ascii", "replace").splitlines()[1:] if line.strip()]
    try:
        table = np.array(rows, dtype=np.int64)
    except ValueError:
        table = np.zeros((0, 0), dtype=np.int64)
    if table.ndim != 2 or table.shape[1] != 2:
        raise DatasetError(f"The data file {where} does not hold lines of an id and a label.")
    if len(table) != size:
        raise DatasetError(f"The data file {where} lists {len(table)} samples instead of {size}.")
    return table


def parse_events(data: bytes, where: object, side: int) -> tuple[NDArray[np.int32], NDArray[np.uint16]]:
    """Times in microseconds and inputs of the events in the contents of one file, which came from `where`."""
    if len(data) % 5:
        raise DatasetError(f"The data file {where} is cut off: {len(data)} bytes are no whole number of 5-byte events.")
    x, y, high, middle, low = np.frombuffer(data, dtype=np.uint8).reshape(-1, 5).T.astype(np.int32)
    if len(x) and max(x.max(), y.max()) >= side:
        wrong = int(np.argmax((x >= side) | (y >= side)))
        raise DatasetError(
            f"The data file {where} has an event at pixel ({x[wrong]}, {y[wrong]}): both must be below {side}."
        )
    times = (high & 0x7F) << 16 | middle << 8 | low
    if (np.diff(times) < 0).any():
        raise DatasetError(f"The data file {where} has events whose times run backwards.")
    return times, ((high >> 7) * side**2 + y * side + x).astype(np.uint16)


N_MNIST = EventSet(
    "nmnist",
    ("n-mnist-small/NMNISTsmall", "NMNISTsmall"),
    ("train1K.txt", "test100.txt"),
    (1000, 100),
    "95871b5c87a5e7671cf2339ff56e5cb790c3165f30b8e5dfbf2dd10988aaa9b5",
    "NMNISTsmall.zip of the examples of slayerPytorch",
)


# ---- from recordings to samples -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class EventSplit:
    """The rows of a :class:`~host.datasets.Split` as timed input spikes.

    Attributes
    ----------
    x_train, x_validation, x_test : events, a sample per row of the split
    y_train, y_validation, y_test : int64 arrays (n,), the split's labels
    steps : time steps of a sample
    thinned : samples that had to lose events to fit a frame of the chip
    """

    dataset: str
    seed: int
    steps: int
    x_train: Events
    y_train: NDArray[np.int64]
    x_test: Events
    y_test: NDArray[np.int64]
    class_names: tuple[str, ...]
    n_features: int
    x_validation: Events = field(repr=False)
    y_validation: NDArray[np.int64] = field(repr=False)
    thinned: int = 0

    @property
    def n_classes(self) -> int:
        return len(self.class_names)


def event_split(split: Split, steps: int, *, limit: int | None = None) -> EventSplit:
    """The samples of `split` as events in `steps` time steps.

    An event at time t falls into step ``t * steps // duration``, with one duration for all samples: 315 ms for
    N-MNIST, three movements of the camera of 105 ms each. A step is then the same stretch of the same movement in every
    sample, and a chip need not know when a recording will end. What comes later is left out (147 of 4.5 million
    events, in 3 of 1100 samples). Events of one input within a step are one spike.

    A sample goes to the chip in one frame. One with more than `limit` spikes keeps `limit` of them, evenly spaced in
    the order of time and input: of n spikes those with index ``i * n // limit``. For N-MNIST the default limit is 4093
    and nothing is thinned up to 25 steps (at 32 steps: 11 samples of 1100, the longest from 4306 spikes).

    Parameters
    ----------
    limit : most spikes of a sample; default: what a chip with so many inputs takes in a frame, less one word

    Raises
    ------
    DatasetError
        If the data set has no timed events, or for a number of steps that no chip could run.
    """
    found = split.recordings
    if found is None:
        raise DatasetError(f"The data set {split.dataset} has no timed events, only intensities.")
    for name, value, most in (("Time steps", steps, MAX_STEPS), ("Event limit", limit, 2**31)):
        if value is None and name != "Time steps":
            continue
        if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or not 1 <= value <= most:
            raise DatasetError(f"{name} {value!r}: must be an integer from 1 to {most}.")
    if limit is None:
        limit = ChipConfig(layers=(found.n_inputs, split.n_classes)).max_payload - 1
    train, n_train = bin_events(found, split.rows_train, steps, limit)
    validation, n_validation = bin_events(found, split.rows_validation, steps, limit)
    test, n_test = bin_events(found, split.rows_test, steps, limit)
    return EventSplit(
        dataset=split.dataset,
        seed=split.seed,
        steps=int(steps),
        x_train=train,
        y_train=split.y_train,
        x_test=test,
        y_test=split.y_test,
        class_names=split.class_names,
        n_features=found.n_inputs,
        x_validation=validation,
        y_validation=split.y_validation,
        thinned=n_train + n_validation + n_test,
    )


def bin_events(recordings: Recordings, rows: NDArray[np.int64], steps: int, limit: int) -> tuple[Events, int]:
    """Events of some samples as :func:`event_split` says, and how many of them were thinned."""
    times, inputs, thinned = [], [], 0
    for row in rows:
        events = slice(recordings.offsets[row], recordings.offsets[row + 1])
        step = recordings.times[events].astype(np.int64) * steps // recordings.duration
        keys = np.sort(step * recordings.n_inputs + recordings.inputs[events])
        keys = keys[np.diff(keys, prepend=-1) > 0]  # each spike once
        keys = keys[: np.searchsorted(keys, steps * recordings.n_inputs)]
        if len(keys) > limit:
            keys = keys[np.arange(limit) * len(keys) // limit]
            thinned += 1
        times.append(keys // recordings.n_inputs)
        inputs.append(keys % recordings.n_inputs)
    return Events(times, inputs), thinned


def event_counts(recordings: Recordings, gain: int) -> NDArray[np.uint8]:
    """uint8 array (n_samples, n_inputs): number of events within the duration times `gain`, at most 255."""
    counts = np.zeros((len(recordings), recordings.n_inputs), dtype=np.uint8)
    for sample, row in enumerate(counts):
        events = slice(recordings.offsets[sample], recordings.offsets[sample + 1])
        inputs = recordings.inputs[events][recordings.times[events] < recordings.duration]
        row[:] = np.minimum(np.bincount(inputs, minlength=recordings.n_inputs) * gain, 255)
    return counts
