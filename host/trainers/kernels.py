"""Compiled loops over time of the surrogate-gradient trainer, and the vectorised pieces around them.

Arrays are ordered (sample, step, neuron). The forward recursion is the integer arithmetic of the chip
(``docs/chip.md``, "One time step"); the backward recursion is the straight-through derivative of the same equations
with the reset detached.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

RESET_NONE, RESET_ZERO, RESET_SUBTRACT = 0, 1, 2
"""Codes of the reset, as in register MODE."""


def weighted_input(
    spikes: NDArray[np.float32], weights: NDArray[np.int64], biases: NDArray[np.int64], shift: int
) -> NDArray[np.int64]:
    """Exact input ``(sum_j w_ij s_j + bias_i) << shift`` of every step: (N, T, n_pre) to (N, T, n_post).

    A float32 product is exact while every partial sum stays below 2**24; otherwise float64 is used.
    """
    n, steps, n_pre = spikes.shape
    bound = int(np.abs(weights).sum(axis=0).max(initial=0)) + int(np.abs(biases).max(initial=0))
    kind = np.float32 if bound < 1 << 24 else np.float64
    flat = spikes.reshape(n * steps, n_pre).astype(kind, copy=False) @ weights.astype(kind)
    return ((flat.astype(np.int64) + biases) << shift).reshape(n, steps, -1)


@njit(cache=True)
def reconstruct(x, spikes, theta, decay_syn, decay_mem, reset, amount, low, high, clamp):
    """Membrane before the reset, rebuilt by the ideal model but reset by the *measured* spikes.

    Parameters
    ----------
    x : int64 (N, T, n), exact shifted input of every step
    spikes : bool (N, T, n), what the chip fired
    theta : int64 (n,), programmed thresholds
    decay_syn, decay_mem : decays in 1/4096
    reset, amount : reset mode and amount of the subtracting reset
    low, high : range of the saturating state
    clamp : limit the membrane *after* the reset to theta. Without it a neuron that is silent on the chip but not in
        the model ramps away and its surrogate gradient dies.

    Returns
    -------
    float64 (N, T, n)
        On an ideal chip exactly the chip's own V, step by step.
    """
    n_samples, steps, n = x.shape
    u = np.empty((n_samples, steps, n), dtype=np.float64)
    for sample in range(n_samples):
        for i in range(n):
            current = np.int64(0)
            v = np.int64(0)
            for t in range(steps):
                current = current - ((current * decay_syn + 2048) >> 12) + x[sample, t, i]
                current = min(max(current, low), high)
                v = v - ((v * decay_mem + 2048) >> 12) + current
                v = min(max(v, low), high)
                u[sample, t, i] = v
                if spikes[sample, t, i]:
                    if reset == RESET_ZERO:
                        v = np.int64(0)
                    elif reset == RESET_SUBTRACT:
                        v = min(max(v - amount, low), high)
                if clamp and v > theta[i]:
                    v = theta[i]
    return u


@njit(cache=True)
def backward(u, spikes, grad_spikes, theta, decay_syn, decay_mem, reset, slope):
    """Gradient of the loss with respect to the input x of every step.

    With ``sg = 1 / (theta * (1 + slope * |u - theta| / theta)**2)``, ``am = 1 - dm/4096``, ``as = 1 - ds/4096``::

        gu[t] = grad_spikes[t] * sg[t] + am * gu[t+1]         (times (1 - spike) for a reset to zero)
        gx[t] = gu[t] + as * gx[t+1]

    Parameters
    ----------
    u : float64 (N, T, n), membrane before the reset
    spikes : bool (N, T, n)
    grad_spikes : float64 (N, T, n), gradient with respect to the spikes
    """
    n_samples, steps, n = u.shape
    keep_mem = 1.0 - decay_mem / 4096.0
    keep_syn = 1.0 - decay_syn / 4096.0
    grad_x = np.empty((n_samples, steps, n), dtype=np.float64)
    for sample in range(n_samples):
        for i in range(n):
            scale = abs(theta[i])
            if scale < 1:
                scale = 1
            gv = 0.0
            gx = 0.0
            for t in range(steps - 1, -1, -1):
                carried = gv
                if reset == RESET_ZERO and spikes[sample, t, i]:
                    carried = 0.0
                distance = 1.0 + slope * abs(u[sample, t, i] - theta[i]) / scale
                gu = grad_spikes[sample, t, i] / (scale * distance * distance) + carried
                gx = gu + keep_syn * gx
                gv = keep_mem * gu
                grad_x[sample, t, i] = gx
    return grad_x
