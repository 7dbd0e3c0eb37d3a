"""Winner-take-all, the backward pass and the weight updates (``docs/chip.md``, Stochastic firing and Learning).

Gradient spikes of one step are kept twice: ``hits[layer, :n_hits[layer]]`` lists the neurons that have one, ascending,
and `sign`, flat as the neuron memories, says which kind: 1 positive, -1 negative, 0 none. The functions of the backward
pass return the clock cycles they take (``docs/cycles.md``).
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit
from numpy.typing import NDArray

from pymodel.die import synapse
from pymodel.random import draw16, draw_words
from rtl.registers import Noise

# Clock cycles, see the formula of B_t in docs/cycles.md.
C_LEARN = 2
"""Per step of a LEARN frame."""
C_ERROR = 2
"""Per word of the last layer that holds the winner or the label, if they differ, and group of its neurons."""
C_VISIT = 1
"""Per layer that the backward pass visits."""
C_CLOSED = 2
"""Per word of the layer below without an open gate."""
C_OPEN = 6
"""Per word with one, besides its gates and groups."""
C_SPIKES = 2
"""Per word that gets a gradient spike, and group of its neurons."""
C_SILENT = 1
"""Per update for which no source spiked."""
C_TAILS = 1
"""Per word of sources none of whose coins lands, besides its groups."""
C_HEADS = 2
"""Per word with one that does, besides its groups and the changed words of weights."""
C_WRITE = 2
"""Per changed word of weights."""

MANY = 8
"""A whole row of weights, as vector code, costs about as much as this fraction of its weights one by one."""

GUMBEL = np.array([round(-256 * math.log(-math.log((r + 0.5) / 256))) for r in range(256)], np.int64)
"""Quantiles of the standard Gumbel distribution in 1/256."""

# Rows of the array of layer constants that only learning chips need; pymodel.sequencer has the others.
FIRE_MASK, NOISE_SHIFT, NOISE_KIND, GRADIENT_MASK, RATE, ENABLED, FORWARD_SHIFT, SHIFT = range(9, 17)


@njit(nogil=True)
def winner_noise(r: int, kind: int, shift: int) -> int:
    """Noise of a score, `r` being the top 8 bits of the neuron's random number."""
    n = 0
    if kind == Noise.FLAT:
        n = (r - 128) * 4
    elif kind == Noise.GUMBEL:
        n = GUMBEL[r]
    return (n << shift) >> 8


@njit(nogil=True)
def choose_winner(
    membrane: NDArray[np.int64], base: int, n: int, draws: NDArray[np.int64], kind: int, shift: int
) -> int:
    """Neuron with the largest score, the first of equals."""
    winner, best = 0, 0
    for i in range(n):
        score = membrane[base + i] + winner_noise(draw16(draws, i) >> 8, kind, shift)
        if i == 0 or score > best:
            winner, best = i, score
    return winner


@njit(nogil=True)
def words_hit(hits: NDArray[np.int64], n_hits: int, lanes: int) -> int:
    """Number of neuron words with a gradient spike."""
    n, last = 0, -1
    for k in range(n_hits):
        word = hits[k] // lanes
        n += word != last
        last = word
    return n


@njit(nogil=True)
def row_error(stored: NDArray[np.int32], row: np.uint64, n: np.uint64, base: np.uint64, sign: NDArray[np.int32]) -> int:
    """Error of one source from all `n` neurons of a layer, as vector code; 65535 weights of 16 bits fit."""
    error = np.int32(0)
    for i in range(n):
        error = np.int32(error + np.int32(stored[row + i] * sign[base + i]))
    return int(error)


@njit(nogil=True)
def propagate(
    stored: NDArray[np.int32],
    weight_base: int,
    stride: int,
    hits: NDArray[np.int64],
    n_hits: int,
    n_words_hit: int,
    base: int,
    size: int,
    base_below: int,
    size_below: int,
    lanes: int,
    gates: NDArray[np.int64],
    mask: int,
    bank: NDArray[np.int64],
    draws: NDArray[np.int64],
    sign: NDArray[np.int32],
    hits_below: NDArray[np.int64],
    groups: int,
) -> tuple[int, int]:
    """Errors and gradient spikes of the layer below; returns how many there are, and the clock cycles."""
    whole_rows = MANY * n_hits > size
    n_below, cycles = 0, 0
    for first in range(0, size_below, lanes):
        last = min(first + lanes, size_below)
        n_open = 0
        for i in range(first, last):
            n_open += gates[base_below + i]
        if n_open == 0:
            cycles += C_CLOSED
            continue
        draw_words(bank, 1, draws)
        before = n_below
        for i in range(first, last):
            if gates[base_below + i]:
                row = weight_base + i * stride
                if whole_rows:
                    error = row_error(stored, np.uint64(row), np.uint64(size), np.uint64(base), sign)
                else:
                    error = 0
                    for k in range(n_hits):
                        error += stored[row + hits[k]] * sign[base + hits[k]]
                r = draw16(draws, i - first) & mask
                if abs(error) > r:
                    sign[base_below + i] = 1 if error > 0 else -1
                    hits_below[n_below] = i
                    n_below += 1
        cycles += C_OPEN + groups + n_words_hit * (1 + n_open) + (C_SPIKES * groups if n_below > before else 0)
    return n_below, cycles


@njit(nogil=True)
def update_row(
    stored: NDArray[np.int32],
    effective: NDArray[np.int32],
    row: np.uint64,
    n: np.uint64,
    low: np.int32,
    high: np.int32,
    forward_shift: int,
    shift: int,
    base: np.uint64,
    sign: NDArray[np.int32],
) -> None:
    """One source's weights to all `n` neurons of a layer, on chips without die tables, as vector code."""
    for i in range(n):
        weight = min(max(np.int32(stored[row + i] - sign[base + i]), low), high)
        stored[row + i] = weight
        effective[row + i] = (weight >> forward_shift) << shift


@njit(nogil=True)
def update(
    stored: NDArray[np.int32],
    effective: NDArray[np.int32],
    synapse_words: NDArray[np.int64],
    table: NDArray[np.int64],
    die_tables: bool,
    weight_base: int,
    stride: int,
    low: int,
    high: int,
    forward_shift: int,
    shift: int,
    sources: NDArray[np.int64],
    n_sources: int,
    hits: NDArray[np.int64],
    n_hits: int,
    n_words_hit: int,
    base: int,
    size: int,
    sign: NDArray[np.int32],
    lanes: int,
    rate: int,
    bank: NDArray[np.int64],
    draws: NDArray[np.int64],
    groups: int,
) -> int:
    """Change the weights from the sources whose coin lands to the neurons with a gradient spike."""
    if n_sources == 0:
        return C_SILENT
    whole_rows = not die_tables and MANY * n_hits > size
    cycles = 0
    k = 0
    while k < n_sources:
        first = sources[k] // lanes * lanes
        draw_words(bank, 1, draws)
        coins = 0
        while k < n_sources and sources[k] < first + lanes:
            source = sources[k]
            k += 1
            if draw16(draws, source - first) >= rate:
                continue
            coins += 1
            row = weight_base + source * stride
            if whole_rows:
                update_row(
                    stored, effective, np.uint64(row), np.uint64(size), np.int32(low), np.int32(high), forward_shift,
                    shift, np.uint64(base), sign,
                )  # fmt: skip
                continue
            for h in range(n_hits):
                i = hits[h]
                at = row + i
                old = stored[at]
                new = min(max(old - sign[base + i], low), high)
                stored[at] = new
                forward = new >> forward_shift
                if not die_tables:
                    effective[at] = forward << shift
                elif forward != old >> forward_shift:
                    effective[at] = synapse(forward, synapse_words[at], shift, table)
        cycles += groups + (C_HEADS + C_WRITE * coins * n_words_hit if coins > 0 else C_TAILS)
    return cycles


@njit(nogil=True)
def backward(
    winner: int,
    label: int,
    sizes: NDArray[np.int64],
    n_words: NDArray[np.int64],
    weight_base: NDArray[np.int64],
    neuron_base: NDArray[np.int64],
    lanes: int,
    constants: NDArray[np.int64],
    gates: NDArray[np.int64],
    spiking: NDArray[np.int64],
    n_spiking: NDArray[np.int64],
    stored: NDArray[np.int32],
    effective: NDArray[np.int32],
    synapse_words: NDArray[np.int64],
    table: NDArray[np.int64],
    die_tables: bool,
    weight_low: int,
    weight_high: int,
    bank: NDArray[np.int64],
    draws: NDArray[np.int64],
    hits: NDArray[np.int64],
    n_hits: NDArray[np.int64],
    sign: NDArray[np.int32],
    groups: int,
) -> int:
    """The backward pass of one step whose `winner` is not its `label`.

    `spiking` and `n_spiking` list the sources of each layer. `n_hits` and `sign` must be zero. `groups` of
    neurons make a word.
    """
    layer = len(n_words) - 1
    base = neuron_base[layer] * lanes
    hits[layer, 0], hits[layer, 1] = min(winner, label), max(winner, label)
    n_hits[layer] = 2
    sign[base + winner], sign[base + label] = 1, -1
    cycles = C_ERROR * groups * words_hit(hits[layer], 2, lanes)
    while layer >= 0 and n_hits[layer] > 0:
        base, stride = neuron_base[layer] * lanes, n_words[layer] * lanes
        first_weight = weight_base[layer] * lanes
        n_words_hit = words_hit(hits[layer], n_hits[layer], lanes)
        cycles += C_VISIT
        if layer > 0:
            n_hits[layer - 1], taken = propagate(
                stored, first_weight, stride, hits[layer], n_hits[layer], n_words_hit, base,
                sizes[layer + 1], neuron_base[layer - 1] * lanes, sizes[layer], lanes, gates,
                constants[GRADIENT_MASK, layer - 1], bank, draws, sign, hits[layer - 1], groups,
            )  # fmt: skip
            cycles += taken
        if constants[ENABLED, layer]:
            cycles += update(
                stored, effective, synapse_words, table, die_tables, first_weight, stride, weight_low, weight_high,
                constants[FORWARD_SHIFT, layer], constants[SHIFT, layer], spiking[layer], n_spiking[layer],
                hits[layer], n_hits[layer], n_words_hit, base, sizes[layer + 1], sign, lanes, constants[RATE, layer],
                bank, draws, groups,
            )  # fmt: skip
        layer -= 1
    return cycles
