"""What the die tables do to a synapse, a bias and a neuron (``docs/chip.md``, The die)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from pymodel.arith import sat
from pymodel.random import draw16
from rtl.registers import (
    DIE_GLOBAL_SPACE,
    DIE_JITTER_OFFSET,
    DIE_NEUTRAL_GAIN,
    DIE_NEUTRAL_RATIO,
    DIE_NOISE_OFFSET,
    DIE_THRESHOLD_NOISE_OFFSET,
    DIE_UNLIMITED,
)

GAIN_BITS = 14
SLOPE_BITS = 9
LINE_BITS = 20
NOISE_BITS = 16
THRESHOLD_NOISE_BITS = 10
JITTER_BITS = 8
NEUTRAL_SYNAPSE = DIE_NEUTRAL_GAIN | DIE_NEUTRAL_GAIN << GAIN_BITS
NEUTRAL_NEURON = DIE_NEUTRAL_RATIO | DIE_NEUTRAL_RATIO << 16
INT32_MIN, INT32_MAX = -(1 << 31), (1 << 31) - 1


def neutral_globals() -> NDArray[np.int64]:
    """Reset contents of region DIE_GLOBAL: no class bends, no amplitude."""
    table = np.zeros(DIE_GLOBAL_SPACE, np.int64)
    table[1:DIE_NOISE_OFFSET:4] = DIE_UNLIMITED
    table[2:DIE_NOISE_OFFSET:4] = DIE_UNLIMITED
    return table


def global_masks(delays: bool = False, synapses: bool = True) -> NDArray[np.int64]:
    """Bits that each word of DIE_GLOBAL keeps.

    None between the classes, none of the jitter without `delays`, none of the classes without distorted `synapses`.
    """
    masks = np.zeros(DIE_GLOBAL_SPACE, np.int64)
    if synapses:
        masks[0:DIE_NOISE_OFFSET:4] = (1 << SLOPE_BITS) - 1
        masks[1:DIE_NOISE_OFFSET:4] = masks[2:DIE_NOISE_OFFSET:4] = (1 << LINE_BITS) - 1
    masks[DIE_NOISE_OFFSET] = (1 << NOISE_BITS) - 1
    masks[DIE_THRESHOLD_NOISE_OFFSET] = (1 << THRESHOLD_NOISE_BITS) - 1
    masks[DIE_JITTER_OFFSET] = (1 << JITTER_BITS) - 1 if delays else 0
    return masks


def signed(values: NDArray[np.int64], bits: int) -> NDArray[np.int64]:
    """Low `bits` of each value as two's complement."""
    half = 1 << (bits - 1)
    return ((values & ((1 << bits) - 1)) ^ half) - half


@njit(cache=True, nogil=True)
def synapse(weight: int, word: int, shift: int, table: NDArray[np.int64]) -> int:
    """Effective weight: transfer, gain and shift of one weight (or bias) with its DIE_SYNAPSE (or DIE_BIAS) `word`."""
    line = 4 * (word >> (2 * GAIN_BITS))
    a = abs(weight)
    f = min(16 * a, ((a * table[line]) >> 4) + table[line + 1], table[line + 2])
    field = word >> GAIN_BITS if weight < 0 else word
    half = 1 << (GAIN_BITS - 1)
    g = ((field & (2 * half - 1)) ^ half) - half
    p = (-f if weight < 0 else f) * g
    return min(max(((p << shift) + 2048) >> 12, INT32_MIN), INT32_MAX)


@njit(cache=True, nogil=True)
def _distort(
    weights: NDArray[np.int64],
    words: NDArray[np.int64],
    shift: NDArray[np.int64],
    table: NDArray[np.int64],
    out: NDArray[np.int32],
) -> None:
    for i in range(len(weights)):
        out[i] = synapse(weights[i], words[i], shift[i], table)


def distort(
    weights: NDArray[Any], words: NDArray[np.int64], shift: NDArray[np.int64] | np.int64, table: NDArray[np.int64]
) -> NDArray[np.int32]:
    """Effective weights or biases, see :func:`synapse`."""
    shape = np.shape(weights)
    flat = lambda values: np.ascontiguousarray(np.broadcast_to(values, shape), np.int64).reshape(-1)  # noqa: E731
    out = np.empty(np.size(weights), np.int32)
    _distort(flat(weights), flat(words), flat(shift), table, out)
    return out.reshape(shape)


@njit(cache=True, nogil=True)
def refresh(
    elements: NDArray[np.int64],
    starts: NDArray[np.int64],
    weights: NDArray[np.int32],
    forward_shift: NDArray[np.int64],
    shift: NDArray[np.int64],
    distorted: bool,
    words: NDArray[np.int64],
    table: NDArray[np.int64],
    effective: NDArray[np.int32],
    largest: NDArray[np.int64],
) -> None:
    """Effective values of these `elements` of the weight memory, and the `largest` magnitude of each layer so far.

    Layer l begins at ``starts[l]``; `words` counts only if the synapses are `distorted`.
    """
    layer, begin, end = 0, 0, 0
    for e in elements:
        if not begin <= e < end:
            layer = np.searchsorted(starts, e, side="right") - 1
            begin, end = starts[layer], starts[layer + 1] if layer + 1 < len(starts) else len(weights)
        weight = weights[e] >> forward_shift[layer]
        value = synapse(weight, words[e], shift[layer], table) if distorted else weight << shift[layer]
        effective[e] = value
        largest[layer] = max(largest[layer], abs(value))


def thresholds(theta: NDArray[np.int64], words: NDArray[np.int64], low: int, high: int) -> NDArray[np.int64]:
    """Effective thresholds: signed ratio in bits 15..0 of DIE_NEURON, saturated at the state width."""
    return np.clip((theta * signed(words, 16) + 512) >> 10, low, high)


def leaks(decay_mem: NDArray[np.int64], words: NDArray[np.int64]) -> NDArray[np.int64]:
    """Effective membrane decays: unsigned ratio in bits 31..16 of DIE_NEURON, clipped to 0..4096."""
    return np.clip((decay_mem * (words >> 16) + 512) >> 10, 0, 4096)


@njit(nogil=True)
def bell(draws: NDArray[np.int64], lane: int) -> int:
    """A nearly Gaussian number from -30 to 30: the centred sum of the four nibbles of a draw."""
    r = draw16(draws, lane)
    return (r & 15) + ((r >> 4) & 15) + ((r >> 8) & 15) + (r >> 12) - 30


@njit(nogil=True)
def noise(draws: NDArray[np.int64], lane: int, amplitude: int) -> int:
    """Noise of one neuron, on the membrane or on the gain of the threshold."""
    return (bell(draws, lane) * amplitude + 8) >> 4


@njit(nogil=True)
def noisy_threshold(theta: int, word: int, extra: int, low: int, high: int) -> int:
    """What :func:`thresholds` gives for one neuron if its gain is larger by `extra`; that sum does not wrap."""
    gain = ((word & 0xFFFF) ^ 0x8000) - 0x8000
    return sat((theta * (gain + extra) + 512) >> 10, low, high)


@njit(nogil=True)
def jittered(delay: int, draws: NDArray[np.int64], lane: int, amplitude: int, longest: int) -> int:
    """Delay of one arrival, from 0 to `longest`."""
    return sat(delay + ((bell(draws, lane) * amplitude + 128) >> 8), 0, longest)
