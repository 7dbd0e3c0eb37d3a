"""What a data set and its split are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from host.datasets.store import Progress


@dataclass(frozen=True)
class Recordings:
    """Timed events of many samples, as an event camera gives them, one sample after the other.

    Attributes
    ----------
    times : int32 array (n_events,), microseconds since the start of the sample's recording, ascending within a sample
    inputs : uint16 array (n_events,), input that spikes, from 0
    offsets : int64 array (n_samples + 1,): sample s holds events ``offsets[s]:offsets[s + 1]``
    n_inputs : number of inputs
    duration : microseconds of a recording that count, the same for every sample
    """

    times: NDArray[np.int32]
    inputs: NDArray[np.uint16]
    offsets: NDArray[np.int64]
    n_inputs: int
    duration: int

    def __len__(self) -> int:
        return len(self.offsets) - 1


@dataclass(frozen=True)
class Dataset:
    """A whole data set before its split.

    Attributes
    ----------
    features : float64 array (n, n_features), or a uint8 array of that shape that holds the intensities themselves
    labels : int64 array (n,), values 0 .. n_classes-1
    bounds : known range ``(lowest, highest)`` of every float feature, or ``None`` to take it from the training subset
    pool : number of rows in the training pool
    fixed_pool : the first `pool` rows are the training pool, the last ones the test set (sets with an official split)
    images : whether features are brightnesses, so that larger ones say more
    code : turns float features (n, n_features), once scaled to [0, 1], into rates (n, n_inputs) in [0, 1]; ``None``:
        they are the rates themselves
    validation : with `fixed_pool`, number of rows of an official validation set, which follow the training pool
    recordings : the events behind the intensities, sample by sample, for sets of an event camera
    """

    name: str
    features: NDArray[np.float64] | NDArray[np.uint8]
    labels: NDArray[np.int64]
    class_names: tuple[str, ...]
    pool: int
    bounds: tuple[float, float] | None = None
    fixed_pool: bool = False
    recordings: Recordings | None = field(default=None, repr=False)
    validation: int = 0
    images: bool = False
    code: Callable[[NDArray[np.float64]], NDArray[np.float64]] | None = field(default=None, repr=False)

    @property
    def n_features(self) -> int:
        return int(self.features.shape[1])

    @property
    def n_classes(self) -> int:
        return len(self.class_names)


@dataclass(frozen=True)
class DatasetInfo:
    """A line of the registry: what the set is and how to load it.

    `fetch` brings the set's files into the cache folder, reporting to a progress callback; ``None`` where there is
    nothing to download.
    """

    name: str
    summary: str
    shape: str
    source: str
    loader: Callable[[], Dataset] = field(repr=False)
    fetch: Callable[[Progress | None], object] | None = field(default=None, repr=False)
