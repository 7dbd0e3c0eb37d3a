"""Exact gradients of first-spike times, from nothing but the steps in which neurons spiked (DelGrad).

A current-based leaky neuron crosses its threshold at ``T``, given by ``u(T) = sum_j w_j k(T - s_j) = theta`` over the
causal inputs, those with arrival ``s_j <= T``. By the implicit function theorem

    dT/dw_j = -k(T - s_j) / u'(T)        dT/ds_j = w_j k'(T - s_j) / u'(T)        u'(T) = sum_j w_j k'(T - s_j)

for any impulse response k. An arrival is the spike of the source plus the delay of the synapse, ``s_j = t_j + d_ij``,
so the derivatives by the delay and by the spike time below are both dT/ds_j. They sum to 1 over j: moving all inputs
moves the output alike. See Göltz, Weber, Kriener et al., "DelGrad", Nature Communications 16:8245 (2025),
arXiv 2404.19165, whose closed forms for tau_m = tau_s and tau_m = 2 tau_s are here as well.

Units: thresholds are 1, times count the synaptic time constant tau_s (N steps); steps are integers. Arrays of
synapses have the shape (B, n_pre, n_post): samples, sources, targets. A membrane is never needed, nor that a
neuron fires at most once; later spikes are ignored.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import lambertw

from host.trainers.base import FloatArray, IntArray

NEVER = 1 << 24
"""Step of a spike that never came: later than any other, so that it causes nothing."""

MIN_SLOPE = 1e-3
"""A membrane that crosses the threshold more slowly (in thresholds per tau_s) has no usable gradient."""

ONE = 4096
"""Decays count 1/4096 per step."""

Derivatives = tuple[FloatArray, FloatArray]
"""dT/dw and dT/ds (B, n_pre, n_post); both 0 where there is no gradient."""

Rule = Callable[[IntArray, FloatArray], Derivatives]
"""From the ages ``T - s`` in steps (B, n_pre, n_post) and the weights (n_pre, n_post) to the derivatives."""

Loss = Callable[[FloatArray, IntArray, float], tuple[FloatArray, FloatArray]]
"""From the output times in tau_s (B, n_out), ``inf`` for none, the labels (B,) and a scale to loss (B,) and dL/dt."""


# ---- derivatives of one layer ---------------------------------------------------------------------------------------


def impulse_response(decay_syn: float, decay_mem: float, steps_per_tau: int, steps: int) -> tuple[FloatArray, ...]:
    """What a spike of weight 1 adds to the membrane n steps after its arrival, and the slope of that.

    ``k[n] = 1/N * sum_{m=0..n} b^(n-m) a^m`` and ``k'[n] = N (k[n] - k[n-1])``, with a and b what current and membrane
    keep per step: exact for the chip but for the rounding of its states, whatever the two decays.

    Parameters
    ----------
    decay_syn, decay_mem : decay per step in 1/4096
    steps_per_tau : N
    steps : length of the tables
    """
    a, b = 1 - decay_syn / ONE, 1 - decay_mem / ONE
    k, current, membrane = np.empty(steps), 1.0, 0.0
    for n in range(steps):
        membrane = b * membrane + current
        k[n] = membrane / steps_per_tau
        current *= a
    return k, steps_per_tau * np.diff(k, prepend=0.0)


class Discrete:
    """The derivatives by tables of the impulse response of the clocked neuron; any decays, no threshold needed."""

    def __init__(self, decay_syn: float, decay_mem: float, steps_per_tau: int, steps: int) -> None:
        k, slope = impulse_response(decay_syn, decay_mem, steps_per_tau, steps)
        # Entry 0 is that of everything that arrives after the spike.
        self._k, self._slope = (np.concatenate(([0.0], table)) for table in (k, slope))

    def __call__(self, age: IntArray, weights: FloatArray) -> Derivatives:
        """Derivatives for the ages ``T - s`` in steps; negative: not causal."""
        index = np.maximum(age, -1) + 1
        pull = weights * self._slope.take(index)
        inverse = _inverse(pull.sum(axis=1))[:, None, :]
        return -self._k.take(index) * inverse, pull * inverse


class Continuous:
    """One of the closed forms, :func:`lambert` or :func:`double`, at the measured steps.

    A neuron crossed its threshold somewhere in the step in which it spiked; half a step is taken.
    """

    def __init__(self, form: Callable[[FloatArray, FloatArray], Derivatives], steps_per_tau: int) -> None:
        self._form, self._steps_per_tau = form, steps_per_tau

    def __call__(self, age: IntArray, weights: FloatArray) -> Derivatives:
        """Derivatives for the ages ``T - s`` in steps; negative: not causal."""
        return self._form(np.where(age < 0, -1.0, (age + 0.5) / self._steps_per_tau), weights)


def lambert(age: FloatArray, weights: FloatArray, theta: float = 1.0) -> Derivatives:
    """Closed form for tau_m = tau_s, where ``k(x) = x e^-x`` (DelGrad; Göltz et al. 2021).

    With ``a = sum w_j e^s_j``, ``b = sum w_j s_j e^s_j`` and W the principal branch of the Lambert function at
    ``-(theta/a) e^(b/a)``:

        dT/dw_j = -(T - s_j) e^s_j / (a (1 + W))        dT/ds_j = -w_j (T - s_j - 1) e^s_j / (a (1 + W))

    Parameters
    ----------
    age : ``T - s`` in tau_s (B, n_pre, n_post), negative where not causal. T may be the neuron's own time,
        ``b/a - W``, or a measured one: W does not depend on it, nor on a common shift of T and s.
    weights : (n_pre, n_post)
    """
    causal = age >= 0
    x = np.where(causal, age, 0.0)
    exponential = causal * np.exp(-x)
    weighted = weights * exponential
    a, b = weighted.sum(axis=1), -(weighted * x).sum(axis=1)
    # The slope a (1 + W) is below a.
    steep = a > MIN_SLOPE
    a = np.where(steep, a, 1.0)
    z = -theta / a * np.exp(np.minimum(b / a, 50.0))
    reached = steep & (z >= -np.exp(-1.0))
    slope = np.where(reached, a * (1.0 + lambertw(np.where(reached, z, 0.0)).real), 0.0)
    inverse = _inverse(slope)[:, None, :]
    return -x * exponential * inverse, weighted * (1.0 - x) * inverse


def double(age: FloatArray, weights: FloatArray, theta: float = 1.0) -> Derivatives:
    """Closed form for tau_m = 2 tau_s, where ``k(x) = 2 (e^(-x/2) - e^-x)`` (DelGrad; Göltz et al. 2021).

    With ``c = theta / 2``, ``a1 = sum w_j e^s_j``, ``a2 = sum w_j e^(s_j/2)`` and ``r = sqrt(a2^2 - 4 a1 c)``:

        dT/dw_j = 2 ((1 + c/r e^(T/2)) e^s_j / a1 - e^(s_j/2) / r)
        dT/ds_j = w_j (2 (1 + c/r e^(T/2)) e^s_j / a1 - e^(s_j/2) / r)

    at the neuron's own time ``T = 2 ln(2 a1 / (a2 + r))`` or a measured one. Parameters as in :func:`lambert`.
    """
    causal, c = age >= 0, theta / 2
    root = causal * np.exp(-0.5 * np.where(causal, age, 0.0))
    square = root * root
    a1, a2 = (weights * square).sum(axis=1), (weights * root).sum(axis=1)
    discriminant = a2 * a2 - 4.0 * c * a1
    reached = (a1 > MIN_SLOPE) & (a2 > 0) & (discriminant > 0)
    r = np.sqrt(np.where(reached, discriminant, 0.0))
    inverse = _inverse(r)
    factor = np.where(inverse > 0, (1.0 + c * inverse) / np.where(reached, a1, 1.0), 0.0)[:, None, :]
    fast, slow = factor * square, inverse[:, None, :] * root
    return 2.0 * (fast - slow), weights * (2.0 * fast - slow)


def _inverse(slope: FloatArray) -> FloatArray:
    """1 / slope, or 0 where the threshold is crossed too slowly or, as far as the host can tell, not at all."""
    steep = slope > MIN_SLOPE
    return np.where(steep, 1.0 / np.where(steep, slope, 1.0), 0.0)


# ---- losses ---------------------------------------------------------------------------------------------------------


def one_sided(times: FloatArray, labels: IntArray, margin: float = 0.2) -> tuple[FloatArray, FloatArray]:
    """``1/2 sum_n min(0, t_n - t_label - margin)^2`` over the other outputs: the label must lead by the margin.

    The loss of the authors, :func:`two_sided`, without its pull on outputs that are later than needed, or silent.
    A sample whose label output is silent has no loss and no gradient.
    """
    return _shift_invariant(times, labels, margin, late=False)


def two_sided(times: FloatArray, labels: IntArray, margin: float = 0.2) -> tuple[FloatArray, FloatArray]:
    """``1/2 sum_n (t_n - t_label - margin)^2`` over the other outputs that spiked, the loss of arXiv 2404.19165.

    A sample whose label output is silent has no loss and no gradient.
    """
    return _shift_invariant(times, labels, margin, late=True)


def _shift_invariant(times: FloatArray, labels: IntArray, margin: float, late: bool) -> tuple[FloatArray, FloatArray]:
    rows = np.arange(len(labels))
    wanted = times[rows, labels][:, None]
    both = np.isfinite(times) & np.isfinite(wanted)
    both[rows, labels] = False
    gap = np.where(both, np.where(both, times, 0.0) - np.where(np.isfinite(wanted), wanted, 0.0) - margin, 0.0)
    if not late:
        gap = np.minimum(gap, 0.0)
    error = gap.copy()
    error[rows, labels] = -gap.sum(axis=1)
    return 0.5 * (gap * gap).sum(axis=1), error


def cross_entropy(times: FloatArray, labels: IntArray, xi: float = 0.2) -> tuple[FloatArray, FloatArray]:
    """``log sum_n e^(-t_n/xi) + t_label/xi``, the cross-entropy of times to first spike (Göltz et al. 2021).

    Silent outputs count as infinitely late; a sample whose label output is silent has no loss and no gradient.
    """
    rows = np.arange(len(labels))
    fired = np.isfinite(times[rows, labels])
    first = np.where(fired, times.min(axis=1), 0.0)[:, None]
    weight = np.exp(-(times - first) / xi) * fired[:, None]
    total = np.where(fired, weight.sum(axis=1), 1.0)
    delay = np.where(fired, times[rows, labels] - first[:, 0], 0.0)
    error = -weight / total[:, None]
    error[rows, labels] += fired
    return np.log(total) + delay / xi, error / xi


# ---- all layers -----------------------------------------------------------------------------------------------------


def backward(
    error: FloatArray,
    times: Sequence[NDArray[np.integer[Any]]],
    weights: Sequence[FloatArray],
    delays: Sequence[NDArray[np.integer[Any]]],
    rule: Rule,
    clip: float = np.inf,
) -> list[tuple[FloatArray, FloatArray]]:
    """Mean gradients of a loss by the weights and by the delay of every synapse, layer by layer.

    Parameters
    ----------
    error : derivative of each sample's loss by the output times (B, n_out), per tau_s
    times : step of the first spike of the inputs and of every layer (B, n_l); :data:`NEVER`, or -1, if there is none
    weights : of every layer (n_pre, n_post), those that the chip held, in units of the threshold
    delays : of every layer in steps, to be broadcast to (n_pre, n_post)
    rule : derivatives of a layer, for example :class:`Discrete`
    clip : the error of a neuron in a sample is scaled down so that no weight's derivative exceeds it

    Returns
    -------
    list of (dL/dw, dL/dd), both (n_pre, n_post); dL/dd per tau_s
    """
    gradients = []
    for layer in range(len(weights) - 1, -1, -1):
        before = np.where(times[layer] < 0, NEVER, times[layer])[:, :, None]
        after = np.where(times[layer + 1] == NEVER, -1, times[layer + 1])[:, None, :]
        by_weight, by_arrival = rule(after - (before + delays[layer]), weights[layer])
        peak = np.abs(error) * np.abs(by_weight).max(axis=1)
        error = error * (clip / np.maximum(peak, clip) if np.isfinite(clip) else 1.0)
        at_arrival = error[:, None, :] * by_arrival
        by_weight *= error[:, None, :]
        gradients.append((by_weight.mean(axis=0), at_arrival.mean(axis=0)))
        error = at_arrival.sum(axis=2)
    return gradients[::-1]
