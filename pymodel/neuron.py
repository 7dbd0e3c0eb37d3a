"""One time step of one layer of neurons (``docs/chip.md``, One time step).

Offsets and counts are unsigned: Numba then leaves out the test for negative indices, and the loops become vector code.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from pymodel.arith import decay, sat
from pymodel.random import draw16

BYTE_ROWS = 124
"""Rows of -1 and +1 whose sum fits in a byte, a multiple of four."""


@njit(nogil=True)
def add_rows(
    total: NDArray[np.int32] | NDArray[np.int64],
    bias: NDArray[np.int32],
    base: np.uint64,
    n: np.uint64,
    weights: NDArray[np.int32],
    weight_base: int,
    stride: int,
    sources: NDArray[np.int64],
    n_sources: int,
) -> None:
    """``total[:n] = bias + rows of the spiking sources``; the caller picks a type of `total` that cannot overflow."""
    for i in range(n):
        total[i] = bias[base + i]
    # Four rows at a time: the total is loaded and stored a quarter as often.
    n_fours = n_sources & ~3
    for k in range(0, n_fours, 4):
        a = np.uint64(weight_base + sources[k] * stride)
        b = np.uint64(weight_base + sources[k + 1] * stride)
        c = np.uint64(weight_base + sources[k + 2] * stride)
        d = np.uint64(weight_base + sources[k + 3] * stride)
        for i in range(n):
            total[i] += weights[a + i] + weights[b + i] + weights[c + i] + weights[d + i]
    for k in range(n_fours, n_sources):
        row = np.uint64(weight_base + sources[k] * stride)
        for i in range(n):
            total[i] += weights[row + i]


@njit(nogil=True)
def add_signs(
    total: NDArray[np.int64],
    bias: NDArray[np.int32],
    base: np.uint64,
    n: np.uint64,
    signs: NDArray[np.int8],
    weight_base: int,
    stride: int,
    sources: NDArray[np.int64],
    n_sources: int,
    shift: int,
    some: NDArray[np.int8],
) -> None:
    """Like :func:`add_rows` for weights of -1 and +1; `some` holds sums of as many rows as a byte can count."""
    for i in range(n):
        total[i] = 0
    for first in range(0, n_sources, BYTE_ROWS):
        last = min(first + BYTE_ROWS, n_sources)
        last_four = last - ((last - first) & 3)
        for i in range(n):
            some[i] = 0
        for k in range(first, last_four, 4):
            a = np.uint64(weight_base + sources[k] * stride)
            b = np.uint64(weight_base + sources[k + 1] * stride)
            c = np.uint64(weight_base + sources[k + 2] * stride)
            d = np.uint64(weight_base + sources[k + 3] * stride)
            for i in range(n):
                some[i] += signs[a + i] + signs[b + i] + signs[c + i] + signs[d + i]
        for k in range(last_four, last):
            row = np.uint64(weight_base + sources[k] * stride)
            for i in range(n):
                some[i] += signs[row + i]
        for i in range(n):
            total[i] += some[i]
    for i in range(n):
        total[i] = bias[base + i] + (total[i] << shift)


@njit(nogil=True)
def integrate(
    current: NDArray[np.int64],
    membrane: NDArray[np.int64],
    base: np.uint64,
    n: np.uint64,
    total: NDArray[np.int32] | NDArray[np.int64],
    decay_syn: int,
    leak: NDArray[np.int64],
    noise: NDArray[np.int64],
    low: int,
    high: int,
) -> None:
    """Current and membrane of a layer; the membrane `noise` of its neurons is added before the membrane saturates."""
    for i in range(n):
        k = base + i
        updated = sat(decay(current[k], decay_syn) + total[i], low, high)
        current[k] = updated
        membrane[k] = sat(decay(membrane[k], leak[k]) + updated + noise[i], low, high)


@njit(nogil=True)
def open_gates(
    membrane: NDArray[np.int64],
    threshold: NDArray[np.int64],
    base: np.uint64,
    n: np.uint64,
    centre: int,
    window: int,
    relative: int,
    gates: NDArray[np.int64],
) -> None:
    """Gates of a layer, 1 if open; `centre` counts from the threshold if `relative` is set."""
    for i in range(n):
        k = base + i
        middle = centre + threshold[k] if relative else centre
        gates[k] = abs(membrane[k] - middle) < window


@njit(nogil=True)
def fire(
    membrane: NDArray[np.int64],
    threshold: NDArray[np.int64],
    waiting: NDArray[np.int64],
    count: NDArray[np.int64],
    base: np.uint64,
    n: np.uint64,
    once: int,
    stochastic: bool,
    draws: NDArray[np.int64],
    mask: int,
    fires: NDArray[np.int64],
    fired: NDArray[np.int64],
) -> int:
    """List the neurons of a layer that fire, ascending, and count their waiting times down; returns their number.

    `fires` is overwritten.
    """
    for i in range(n):
        k = base + i
        fires[i] = (membrane[k] >= threshold[k]) & (waiting[k] == 0) & ((once == 0) | (count[k] == 0))
        waiting[k] -= waiting[k] > 0
    if stochastic:
        # Random numbers are not negative: stochastic neurons, too, need what was tested before.
        for i in range(n):
            k = base + i
            fires[i] &= membrane[k] - threshold[k] > draw16(draws, i) & mask
    # Without a branch: which way it went would be hard to predict.
    n_fired = 0
    for i in range(n):
        fired[np.uint64(n_fired)] = i
        n_fired += fires[i]
    return n_fired


@njit(nogil=True)
def reset_membrane(value: int, mode: int, amount: int, low: int, high: int) -> int:
    """Membrane after a spike; mode 1 to zero, 2 subtract, all others leave it."""
    if mode == 1:
        return 0
    if mode == 2:
        return sat(value - amount, low, high)
    return value
