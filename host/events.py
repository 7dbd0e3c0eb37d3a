"""Timed input spikes, and values as the times of spikes."""

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

    @classmethod
    def from_times(cls, times: Any) -> Events:
        """Events of inputs that spike once at most.

        Parameters
        ----------
        times
            Integers ``(n_samples, n_in)``: time step of each input's spike, -1 for none.

        Raises
        ------
        EventsError
            For another shape or type, or a time that is not from -1 to 65533.
        """
        try:
            array = np.asarray(times)
        except ValueError:
            raise EventsError("times are rows of unequal length: must be integers (n_samples, n_in)") from None
        if array.ndim != 2 or array.dtype.kind not in "iu" or array.shape[1] > _FIELD_MAX + 1:
            raise EventsError(
                f"times have type {array.dtype} and shape {array.shape}: must be integers (n_samples, n_in) of at most "
                f"{_FIELD_MAX + 1} inputs"
            )
        if array.size and (array.min() < -1 or array.max() >= MAX_STEPS):
            bad = int(array.min()) if array.min() < -1 else int(array.max())
            raise EventsError(f"event time {bad}: must be an integer from 0 to {MAX_STEPS - 1}, or -1 for no spike")
        # -1 turns into step 65535: silent inputs come last in their rows, for no event is as late.
        words = array.astype(np.uint32) << _FIELD | np.arange(array.shape[1], dtype=np.uint32)
        words.sort(axis=1)
        events = cls.__new__(cls)
        events.offsets = np.concatenate(([0], np.cumsum((array >= 0).sum(axis=1)))).astype(np.int64)
        events.words = words[words < _FIELD_MAX << _FIELD].astype(np.uint32, copy=False)
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


def latency(x: Any, steps_early: float, steps_late: float, silent_below: float | None = None) -> Events:
    """Spikes whose times are values, one at most of each input and sample.

    Without `silent_below` an input of value x spikes in step ``rint(steps_early + (steps_late - steps_early) * x)``:
    small values early. With it values are intensities p, bright ones early: an input spikes in step
    ``rint(steps_early + (steps_late - steps_early) * (1 - p))``, and not at all if ``p < silent_below``.

    Parameters
    ----------
    x
        ``(n_samples, n_in)``: floats from 0 to 1, or uint8 intensities, which count as ``x / 255``.
    steps_early, steps_late
        First and last step of a spike, not rounded: numbers from 0 to 65533, `steps_early` not above `steps_late`.
    silent_below
        From 0 (every input spikes) to 1. With 1/255 black pixels alone are silent.

    Raises
    ------
    EventsError
        For arguments that are not allowed, NaN included.

    Examples
    --------
    >>> latency([[0.0, 0.5, 1.0]], 2, 12).times[0].tolist()
    [2, 7, 12]
    >>> latency(np.array([[0, 51, 255]], np.uint8), 0, 10, silent_below=1 / 255).times[0].tolist()
    [0, 8]

    Yin-Yang with N steps per synaptic time constant is ``latency(x, 0.15 * N, 2.0 * N)``.
    """
    values = _values(x)
    early = _number("steps_early", steps_early, 0, MAX_STEPS - 1)
    late = _number("steps_late", steps_late, 0, MAX_STEPS - 1)
    if early > late:
        raise EventsError(f"steps_early = {steps_early!r}: must not be above steps_late = {steps_late!r}")
    if silent_below is None:
        return Events.from_times(np.rint(early + (late - early) * values).astype(np.int32))
    least = _number("silent_below", silent_below, 0, 1)
    times = np.rint(early + (late - early) * (1 - values)).astype(np.int32)
    times[values < least] = -1
    return Events.from_times(times)


def _values(x: Any) -> NDArray[np.float64]:
    """`x` as floats from 0 to 1."""
    try:
        array = np.asarray(x)
    except ValueError:
        raise EventsError("x has rows of unequal length: must be (n_samples, n_in)") from None
    if array.dtype.kind != "f" and array.dtype != np.uint8:
        raise EventsError(f"x has type {array.dtype}: must be floats from 0 to 1, or uint8 intensities")
    if array.ndim != 2:
        raise EventsError(f"x has shape {array.shape}: must be (n_samples, n_in)")
    if array.dtype == np.uint8:
        return array / 255
    if not ((array >= 0) & (array <= 1)).all():
        sample, column = np.argwhere(~((array >= 0) & (array <= 1)))[0].tolist()
        raise EventsError(f"x of sample {sample}, input {column} is {array[sample, column]}: must be from 0 to 1")
    return array.astype(np.float64)


def _number(name: str, value: Any, low: int, high: int) -> float:
    good = isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool)
    if not good or not low <= value <= high:
        raise EventsError(f"{name} = {value!r}: must be a number from {low} to {high}")
    return float(value)
