"""Spikes under way to their targets (``docs/chip.md``, Delays).

``pending[slot, k]`` is what arrives at neuron k, counted as the neuron memories, in the steps with that `slot`: the low
bits of their number. A slot is emptied when it is collected, so that it is free for the step that comes round next.
Offsets and counts are unsigned, as in :mod:`pymodel.neuron`.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from pymodel.die import jittered
from pymodel.random import draw_words


@njit(nogil=True)
def send(
    pending: NDArray[np.int64],
    step: np.uint64,
    base: np.uint64,
    n: np.uint64,
    weights: NDArray[np.int32],
    delays: NDArray[np.uint16],
    weight_base: int,
    stride: int,
    sources: NDArray[np.int64],
    n_sources: int,
) -> None:
    """Put the spikes that the sources of a layer make in `step` where they arrive."""
    ring = np.uint64(len(pending) - 1)
    for k in range(n_sources):
        row = np.uint64(weight_base + sources[k] * stride)
        for i in range(n):
            pending[(step + delays[row + i]) & ring, base + i] += weights[row + i]


@njit(nogil=True)
def send_jittered(
    pending: NDArray[np.int64],
    step: int,
    base: int,
    n: int,
    weights: NDArray[np.int32],
    delays: NDArray[np.uint16],
    weight_base: int,
    stride: int,
    sources: NDArray[np.int64],
    n_sources: int,
    lanes: int,
    amplitude: int,
    bank: NDArray[np.int64],
    draws: NDArray[np.int64],
) -> None:
    """Like :func:`send` with a delay of its own for every arrival; target words are the outer loop, as on the chip."""
    ring = len(pending) - 1
    for first in range(0, n, lanes):
        for k in range(n_sources):
            draw_words(bank, 1, draws)
            row = weight_base + sources[k] * stride
            for i in range(first, min(first + lanes, n)):
                delay = jittered(int(delays[row + i]), draws, i - first, amplitude, ring)
                pending[(step + delay) & ring, base + i] += weights[row + i]


@njit(nogil=True)
def collect(
    total: NDArray[np.int64],
    bias: NDArray[np.int32],
    base: np.uint64,
    n: np.uint64,
    pending: NDArray[np.int64],
    step: np.uint64,
) -> None:
    """``total[:n] = bias + what arrives in this step``, once the spikes of this step were sent."""
    slot = step & np.uint64(len(pending) - 1)
    for i in range(n):
        k = base + i
        total[i] = bias[k] + pending[slot, k]
        pending[slot, k] = 0
