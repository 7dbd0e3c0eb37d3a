"""State of a training that moves one vector of parameters epoch by epoch, to and from a checkpoint."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from host.trainers.base import FloatArray
from host.trainers.checkpoint import CheckpointError, State


class Course:
    """Parameters, moments, what happened in the present epoch and what the finished ones were like.

    Converts to and from a checkpoint without loss: subclasses name the attributes that go into it, and the columns of
    their history, the first of which is "epoch". A tally names its attributes FIELDS.
    """

    _SCALARS: tuple[str, ...] = ("updates", "cost")
    _VECTORS: tuple[str, ...] = ("vector", "first", "second")
    _COLUMNS: tuple[str, ...]

    tally: Any

    def __init__(self, vector: FloatArray) -> None:
        self.vector = vector
        self.first, self.second = np.zeros_like(vector), np.zeros_like(vector)
        self.updates = 0
        self.cost: dict[str, int] = {}
        self.rows: list[list[float]] = []
        """Of every epoch the values of _COLUMNS."""

    @property
    def epoch(self) -> int:
        """Finished epochs."""
        return len(self.rows)

    @property
    def moments(self) -> tuple[FloatArray, FloatArray]:
        """Running means of the gradient and of its square."""
        return self.first, self.second

    def columns(self) -> dict[str, NDArray[Any]]:
        found: dict[str, NDArray[Any]] = dict(zip(self._COLUMNS, self._table().T, strict=True))
        return found | {"epoch": found["epoch"].astype(np.int64)}

    def _table(self) -> FloatArray:
        return np.array(self.rows, dtype=float).reshape(len(self.rows), len(self._COLUMNS))

    def to_state(self) -> State:
        meta = {
            "course": {name: getattr(self, name) for name in self._SCALARS},
            "tally": {name: getattr(self.tally, name) for name in self.tally.FIELDS},
        }
        return State(meta, {"rows": self._table()} | {name: getattr(self, name) for name in self._VECTORS})

    @classmethod
    def from_state(cls, state: State, size: int, *rest: Any) -> Self:
        """The course of `size` parameters in a checkpoint; `rest` are further arguments of the constructor."""
        course = cls(np.zeros(size), *rest)
        try:
            for name in cls._SCALARS:
                setattr(course, name, state.meta["course"][name])
            for name in course.tally.FIELDS:
                setattr(course.tally, name, state.meta["tally"][name])
            for name in cls._VECTORS:
                setattr(course, name, state.arrays[name].copy())
            course.rows = state.arrays["rows"].tolist()
        except (KeyError, TypeError, ValueError) as error:
            raise CheckpointError(f"The checkpoint lacks parts of the training ({error}).") from None
        if {getattr(course, name).shape for name in cls._VECTORS} != {(size,)}:
            raise CheckpointError("The checkpoint's arrays do not fit this chip configuration.")
        return course
