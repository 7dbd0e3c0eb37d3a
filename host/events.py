"""Timed input spikes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from host.errors import EventsError
from rtl.config import MAX_STEPS

_FIELD = 16
_FIELD_MAX = (1 << _FIELD) - 1


def _integers(values: Any, what: str) -> NDArray[np.int64]:
    array = np.asarray(values)
    if array.size == 0:
        return np.zeros(0, np.int64)
    if array.ndim != 1 or array.dtype.kind not in "iu":
        raise EventsError(f"{what} must be a 1-D list of integers, got {array.dtype} of shape {array.shape}")
    return array.astype(np.int64)


class Events:
    """Spikes of the inputs of many samples, each a time step and an input.

    Parameters
    ----------
    times, addresses
        One list of integers per sample: time steps from 0 and inputs from 0. They may be in any order; they are sorted
        by time and then input, and an event given twice counts once, for an input spikes at most once in a step.

    Raises
    ------
    EventsError
        If the lists do not match, or hold anything but integers from 0 to 65535 (times: 65533).

    Examples
    --------
    >>> events = Events([[3, 0], []], [[1, 2], []])
    >>> len(events), events[0].times[0].tolist(), events[0].addresses[0].tolist()
    (2, [0, 3], [2, 1])
    """

    def __init__(self, times: Sequence[Any], addresses: Sequence[Any]) -> None:
        if len(times) != len(addresses):
            raise EventsError(
                f"Events of {len(times)} lists of times and {len(addresses)} of addresses: must be as many"
            )
        all_times = [_integers(values, f"times of sample {s}") for s, values in enumerate(times)]
        all_addresses = [_integers(values, f"addresses of sample {s}") for s, values in enumerate(addresses)]
        for s, (a, b) in enumerate(zip(all_times, all_addresses, strict=True)):
            if len(a) != len(b):
                raise EventsError(f"sample {s} has {len(a)} times and {len(b)} addresses: must be as many")
        counts = np.array([len(values) for values in all_times], np.int64)
        empty = np.zeros(0, np.int64)
        self._set(
            len(counts),
            np.repeat(np.arange(len(counts)), counts),
            np.concatenate([empty, *all_times]),
            np.concatenate([empty, *all_addresses]),
        )

    def _set(self, n: int, samples: NDArray[np.int64], times: NDArray[np.int64], addresses: NDArray[np.int64]) -> None:
        for name, values, limit in (("time", times, MAX_STEPS - 1), ("address", addresses, _FIELD_MAX)):
            if len(values) and (values.min() < 0 or values.max() > limit):
                bad = int(values.min()) if values.min() < 0 else int(values.max())
                raise EventsError(f"event {name} {bad}: must be an integer from 0 to {limit}")
        keys = np.sort((samples << 2 * _FIELD) | (times << _FIELD) | addresses)
        keys = keys[np.diff(keys, prepend=-1) > 0]  # each spike once
        self.words: NDArray[np.uint32] = keys.astype(np.uint32)
        """uint32: ``time << 16 | address`` of all events, sample after sample, ascending within a sample."""
        self.offsets: NDArray[np.int64] = np.searchsorted(keys, np.arange(n + 1, dtype=np.int64) << 2 * _FIELD)
        """int64 ``(n_samples + 1,)``: sample s holds ``words[offsets[s]:offsets[s + 1]]``."""

    @classmethod
    def from_dense(cls, raster: NDArray[np.bool_]) -> Events:
        """Events of a bool (or 0/1 integer) raster ``(n_samples, steps, n_in)``."""
        array = np.asarray(raster)
        if array.ndim != 3 or array.dtype.kind not in "biu" or (array.size and not ((array == 0) | (array == 1)).all()):
            raise EventsError(
                f"dense events must be a raster of False and True of shape (n_samples, steps, n_in), "
                f"got {array.dtype} of shape {array.shape}"
            )
        samples, times, addresses = np.nonzero(array)
        events = cls.__new__(cls)
        events._set(len(array), samples, times, addresses)
        return events

    def to_dense(self, steps: int, n_in: int) -> NDArray[np.bool_]:
        """bool raster ``(n_samples, steps, n_in)``; raises :class:`EventsError` for events outside."""
        self.check(steps, n_in)
        raster = np.zeros((len(self), steps, n_in), bool)
        samples = np.repeat(np.arange(len(self)), np.diff(self.offsets))
        raster[samples, self.words >> _FIELD, self.words & _FIELD_MAX] = True
        return raster

    def check(self, steps: int, n_in: int) -> None:
        """Raise :class:`EventsError` if an event lies past `steps` or at an input that does not exist."""
        if not len(self.words):
            return
        time, address = int((self.words >> _FIELD).max()), int((self.words & _FIELD_MAX).max())
        if time >= steps:
            raise EventsError(f"an event at time step {time}: must be below steps = {steps}")
        if address >= n_in:
            raise EventsError(f"an event at input {address}: must be below the chip's {n_in} inputs")

    @property
    def times(self) -> list[NDArray[np.int64]]:
        """Time steps of each sample, ascending."""
        return np.split((self.words >> _FIELD).astype(np.int64), self.offsets[1:-1]) if len(self) else []

    @property
    def addresses(self) -> list[NDArray[np.int64]]:
        """Inputs of each sample, in the order of :attr:`times`."""
        return np.split((self.words & _FIELD_MAX).astype(np.int64), self.offsets[1:-1]) if len(self) else []

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __iter__(self) -> Iterator[Events]:
        return (self[s] for s in range(len(self)))

    def __getitem__(self, index: Any) -> Events:
        """The samples that a NumPy index along the first axis selects, always as :class:`Events`."""
        chosen = np.atleast_1d(np.arange(len(self))[index])
        starts, counts = self.offsets[chosen], np.diff(self.offsets)[chosen]
        events = Events.__new__(Events)
        events.offsets = np.concatenate(([0], np.cumsum(counts))).astype(np.int64)
        events.words = self.words[np.repeat(starts - events.offsets[:-1], counts) + np.arange(events.offsets[-1])]
        return events

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Events):
            return NotImplemented
        return np.array_equal(self.words, other.words) and np.array_equal(self.offsets, other.offsets)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Events({len(self)} samples, {len(self.words)} spikes)"
