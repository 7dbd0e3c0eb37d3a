"""Loss and gradients of networks whose classes are read out by a fixed random matrix, from what a chip read out.

With the counts n_i of a layer of H neurons over T steps, the matrix B of -1 and +1 and the gain G, the scores of the
classes are ``z = G / sqrt(H) * B @ (n / T)``, their probabilities softmax(z), and the loss is the mean cross-entropy of
a batch. Last layers have one, with local losses every layer has one.

Units are those of a single weight: a neuron integrates ``I <- b I + x``, ``V <- a V + I`` (the new I), fires at half of
its reset size A, and a spike subtracts A; a and b are what membrane and current keep per step. On the chip all of these
are shifted to the left, and rounded. The surrogate derivative of a spike by V / A is ``1 / (2 w)`` where the gate is
open, ``|V - A / 2| < w A``, else 0; the reset is not differentiated.

After the surrogate gradients and the local losses of Jang, Skatchkovsky and Simeone (2020), arXiv 2012.08300. The
filters of current and membrane run over the error of a neuron, backwards in time, and not over each of its inputs: the
same gradient, as both are linear.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from host.trainers.base import FloatArray, IntArray, log_softmax
from host.trainers.kernels import RESET_SUBTRACT, reconstruct, weighted_input

ONE = 4096
"""Decays count 1/4096 per step."""

DECAY_SYN, DECAY_MEM = 629, 390
"""Decays of current and membrane: time constants of 6 and of 10 steps."""

KEEP_SYN, KEEP_MEM = 1 - DECAY_SYN / ONE, 1 - DECAY_MEM / ONE


def draw_readouts(seed: int, n_classes: int, sizes: Sequence[int]) -> list[NDArray[np.float32]]:
    """Fixed random matrices of -1 and +1 (n_classes, n) for layers of n neurons."""
    return [
        np.random.default_rng([seed, 0x42, layer]).choice(np.array([-1, 1], np.float32), (n_classes, n))
        for layer, n in enumerate(sizes)
    ]


class Objective:
    """Loss, number of right answers and gradients of a batch.

    Parameters
    ----------
    readouts : B (n_classes, n) of every layer; without `local` only the last one counts
    gain : G
    sizes : A of every layer, in units of a weight
    window : w
    local : every layer has a loss of its own and no gradient passes between layers
    """

    def __init__(
        self,
        readouts: Sequence[NDArray[np.float32]],
        gain: float,
        sizes: Sequence[int],
        window: float,
        *,
        local: bool = False,
    ) -> None:
        self.readouts, self.gain, self.sizes, self.window, self.local = readouts, float(gain), sizes, window, local

    def scores(self, counts: NDArray[Any], steps: int, layer: int = -1) -> FloatArray:
        """Scores z of the classes (N, n_classes) from the spike counts (N, n) of a layer."""
        readout = self.readouts[layer].astype(np.float64)
        return self.gain / (np.sqrt(readout.shape[1]) * steps) * (np.asarray(counts, np.float64) @ readout.T)

    def by_rasters(
        self,
        weights: Sequence[NDArray[Any]],
        spikes: Sequence[NDArray[Any]],
        gates: Sequence[NDArray[np.bool_]],
        labels: IntArray,
    ) -> tuple[float, int, list[NDArray[np.float32]]]:
        """Backpropagation through time: loss of the last layer (nats), right answers, gradients (n_pre, n_post).

        Parameters
        ----------
        weights : of every layer (n_pre, n_post), as they were when the spikes were made
        spikes : of the inputs and of every layer (N, T, n)
        gates : of every layer (N, T, n)
        labels : (N,)
        """
        steps, last = spikes[0].shape[1], len(weights) - 1
        loss, right = 0.0, 0
        gradients: list[NDArray[np.float32]] = []
        pull = np.empty(0, np.float32)
        for layer in range(last, -1, -1):
            if layer == last or self.local:
                counts = spikes[layer + 1].sum(axis=1)
                one_loss, one_right, error = self._error(counts, steps, labels, layer)
                pull = (error / steps).astype(np.float32)[:, None, :]
                if layer == last:
                    loss, right = one_loss, one_right
            scale = np.float32(1.0 / (2.0 * self.window * self.sizes[layer]))
            traced = filter_back(np.ascontiguousarray(gates[layer]), pull, np.float32(KEEP_SYN), np.float32(KEEP_MEM))
            flat = traced.reshape(-1, traced.shape[2])
            sources = spikes[layer].reshape(len(flat), -1).astype(np.float32)
            gradients.append(scale * (sources.T @ flat))
            if layer and not self.local:
                back = scale * (flat @ weights[layer].T.astype(np.float32))
                pull = back.reshape(*traced.shape[:2], -1)
        return loss, right, gradients[::-1]

    def by_counts(
        self, weights: Sequence[NDArray[Any]], counts: Sequence[NDArray[Any]], steps: int, labels: IntArray
    ) -> tuple[float, int, list[NDArray[np.float32]]]:
        """Like :meth:`by_rasters`, from nothing but spike counts (N, n) of inputs and layers over `steps` steps.

        A neuron counts as a rate ``n / T`` that grows with its mean input at ``1 / ((1 - b) A)``, unless it is silent
        or fires in every step: what a driven current settles at, over the reset size.
        """
        last = len(weights) - 1
        loss, right = 0.0, 0
        gradients: list[NDArray[np.float32]] = []
        error: NDArray[Any] = np.empty(0)
        for layer in range(last, -1, -1):
            if layer == last or self.local:
                one_loss, one_right, error = self._error(counts[layer + 1], steps, labels, layer)
                if layer == last:
                    loss, right = one_loss, one_right
            slope = 1.0 / ((1.0 - KEEP_SYN) * self.sizes[layer])
            active = (counts[layer + 1] > 0) & (counts[layer + 1] < steps)
            delta = (slope * error * active).astype(np.float32)
            rates = (counts[layer] / steps).astype(np.float32)
            gradients.append(rates.T @ delta)
            if layer and not self.local:
                error = delta @ weights[layer].T.astype(np.float32)
        return loss, right, gradients[::-1]

    def _error(
        self, counts: NDArray[Any], steps: int, labels: IntArray, layer: int
    ) -> tuple[float, int, NDArray[np.float64]]:
        """Mean loss, right answers, and the derivative (N, n) of the former by the rates n / T of a layer."""
        log_p = log_softmax(self.scores(counts, steps, layer))
        n, rows = len(labels), np.arange(len(labels))
        error = np.exp(log_p)
        error[rows, labels] -= 1.0
        readout = self.readouts[layer].astype(np.float64)
        error *= self.gain / (np.sqrt(readout.shape[1]) * n)
        right = int((log_p.argmax(axis=1) == labels).sum())
        return -float(log_p[rows, labels].mean()), right, error @ readout


def recompute_gates(
    weights: NDArray[Any],
    sources: NDArray[np.bool_],
    spikes: NDArray[np.bool_],
    shift: int,
    size: int,
    window: float,
    limits: tuple[int, int],
) -> NDArray[np.bool_]:
    """Gates (N, T, n) that an ideal chip would have, had it fired as measured; on an ideal chip exactly its own.

    Parameters
    ----------
    weights : integers (n_pre, n_post)
    sources, spikes : (N, T, n_pre) and (N, T, n), of the layer below and of this one
    shift, size, window : as the chip has them (:func:`chip_constants`)
    limits : range of the chip's states
    """
    amount, threshold, reach = chip_constants(shift, size, window)
    n = spikes.shape[2]
    x = weighted_input(sources.astype(np.float32), weights.astype(np.int64), np.zeros(n, np.int64), shift)
    theta = np.full(n, threshold, np.int64)
    membrane = reconstruct(
        x, np.ascontiguousarray(spikes), theta, DECAY_SYN, DECAY_MEM, RESET_SUBTRACT, amount, *limits, False
    )
    gates: NDArray[np.bool_] = np.abs(membrane - threshold) < reach
    return gates


def chip_constants(shift: int, size: int, window: float) -> tuple[int, int, int]:
    """Reset amount, threshold and half width of the gate, in units of the chip's membrane."""
    amount = size << shift
    return amount, amount >> 1, round(window * amount)


@njit(cache=True, nogil=True)
def filter_back(gates, pull, keep_syn, keep_mem):
    """Derivative of the loss by the input of every neuron and step, but for the factor ``1 / (2 w A)``.

    From the last step to the first, ``u = v + gate * pull``, ``v = a u``, ``i = b i + u``; i is the answer.

    Parameters
    ----------
    gates : bool (N, T, n)
    pull : float32 (N, T, n) derivative by the spikes, or (N, 1, n) if it is the same in all steps
    keep_syn, keep_mem : float32, b and a

    Returns
    -------
    float32 (N, T, n)
    """
    n_samples, steps, n = gates.shape
    moves = pull.shape[1] > 1
    out = np.empty((n_samples, steps, n), np.float32)
    for sample in range(n_samples):
        membrane = np.zeros(n, np.float32)
        current = np.zeros(n, np.float32)
        for t in range(steps - 1, -1, -1):
            at = t if moves else 0
            for i in range(n):
                u = membrane[i] + pull[sample, at, i] * np.float32(gates[sample, t, i])
                membrane[i] = keep_mem * u
                current[i] = keep_syn * current[i] + u
                out[sample, t, i] = current[i]
    return out
