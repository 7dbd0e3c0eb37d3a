"""Gradients of spike times: against differences of a network in continuous time, their laws, and their guards."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import brentq

from host.trainers import spike_times as gradients
from host.trainers.spike_times import NEVER, Continuous, Discrete, backward

FORMS = {1: gradients.lambert, 2: gradients.double}
FINE = 1_000_000
"""Steps per time constant at which rounding times to steps no longer shows."""


# ---- an independent reference: continuous time, first crossing by search ---------------------------------------------


def membrane(t: np.ndarray | float, arrivals: np.ndarray, weights: np.ndarray, ratio: float) -> np.ndarray:
    """Membrane at t of a neuron with tau_s = 1, tau_m = ratio."""
    x = np.maximum(np.asarray(t)[..., None] - arrivals, 0.0)
    kernel = x * np.exp(-x) if ratio == 1 else (np.exp(-x / ratio) - np.exp(-x)) / (1 - 1 / ratio)
    return (weights * kernel).sum(axis=-1)


def first_crossing(arrivals: np.ndarray, weights: np.ndarray, ratio: float) -> float:
    """Time at which the membrane first reaches 1, `inf` if it does not within 8 time constants of the last input."""
    grid = np.arange(arrivals.min(), arrivals[np.isfinite(arrivals)].max() + 8, 1 / 400)
    above = np.flatnonzero(membrane(grid, arrivals, weights, ratio) >= 1)
    if not len(above):
        return np.inf
    at = grid[above[0]]
    return float(brentq(lambda t: membrane(t, arrivals, weights, ratio) - 1, at - 1 / 400, at, xtol=1e-14, rtol=1e-14))


def spike_times(
    inputs: np.ndarray, weights: list[np.ndarray], delays: list[np.ndarray], ratio: float
) -> list[np.ndarray]:
    """Times of the inputs and of all layers of one sample."""
    times = [inputs]
    for w, d in zip(weights, delays, strict=True):
        times.append(np.array([first_crossing(times[-1] + d[:, i], w[:, i], ratio) for i in range(w.shape[1])]))
    return times


def differences(function: Callable[[], float], array: np.ndarray, step: float = 1e-6) -> np.ndarray:
    """Central differences of `function` by the entries of `array`, which it reads."""
    result = np.empty(array.size)
    flat = array.reshape(-1)
    for index in range(array.size):
        kept, values = flat[index], []
        for sign in (1, -1):
            flat[index] = kept + sign * step
            values.append(function())
        flat[index] = kept
        result[index] = (values[0] - values[1]) / (2 * step)
    return result.reshape(array.shape)


def some_neurons(ratio: float, n: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Arrivals (n, 6), weights (n, 6) and spike times (n,) of neurons that cross their threshold at a decent slope."""
    rng = np.random.default_rng(seed)
    found: list[tuple[np.ndarray, np.ndarray, float]] = []
    while len(found) < n:
        arrivals, weights = rng.uniform(0, 2, 6), rng.normal(0.8, 1.0, 6)
        time = first_crossing(arrivals, weights, ratio)
        if np.isfinite(time) and np.abs(arrivals - time).min() > 1e-3:
            slope = membrane(time + 1e-5, arrivals, weights, ratio) - 1
            if slope > 0.2 * 1e-5:
                found.append((arrivals, weights, time))
    columns = zip(*found, strict=True)
    return tuple(np.array(column) for column in columns)  # type: ignore[return-value]


# ---- one neuron -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ratio", [1, 2])
def test_derivatives_of_a_neuron_are_its_differences(ratio: int) -> None:
    arrivals, weights, times = some_neurons(ratio, 25, seed=ratio)
    for s, w, t in zip(arrivals, weights, times, strict=True):
        by_weight = differences(lambda s=s, w=w: first_crossing(s, w, ratio), w)
        by_arrival = differences(lambda s=s, w=w: first_crossing(s, w, ratio), s)
        exact = FORMS[ratio]((t - s)[None, :, None], w[:, None])
        assert np.allclose(exact[0][0, :, 0], by_weight, atol=1e-6)
        assert np.allclose(exact[1][0, :, 0], by_arrival, atol=1e-6)
        # The tables of the clocked neuron come close when the clock is fast.
        n = 20_000
        decays = [4096 * -np.expm1(-1 / (tau * n)) for tau in (1, ratio)]
        age = np.floor((t - s) * n).astype(int)[None, :, None]
        clocked = Discrete(*decays, n, 8 * n)(age, w[:, None])
        assert np.allclose(clocked[0][0, :, 0], by_weight, atol=2e-3)
        assert np.allclose(clocked[1][0, :, 0], by_arrival, atol=2e-3)


@pytest.mark.parametrize("ratio", [1, 2])
def test_moving_all_inputs_moves_the_output_alike(ratio: int) -> None:
    arrivals, weights, times = some_neurons(ratio, 60, seed=3)
    age, decays = times[:, None] - arrivals, (81, 81 // ratio)
    for a, w in zip(age, weights, strict=True):
        assert FORMS[ratio](a[None, :, None], w[:, None])[1].sum() == pytest.approx(1)
        steps = np.floor(50 * a).astype(int)[None, :, None]
        total = Discrete(*decays, 50, 500)(steps, w[:, None])[1].sum()
        assert total == pytest.approx(1) or total == 0


def test_closed_forms_take_measured_times() -> None:
    """A time that is not the neuron's own gives a close gradient, not nonsense."""
    for ratio, form in FORMS.items():
        arrivals, weights, times = some_neurons(ratio, 40, seed=5)
        age = times[:, None] - arrivals
        late = np.where(age > 0, age + 0.01, age)
        for a, b, w in zip(age, late, weights, strict=True):
            exact, measured = (np.concatenate(form(x[None, :, None], w[:, None])).ravel() for x in (a, b))
            assert np.abs(measured - exact).max() < 0.1 * np.abs(exact).max()


@pytest.mark.parametrize(("ds", "dm"), [(81, 81), (81, 41), (390, 390), (41, 200)])
def test_the_tables_are_the_integer_neuron(ds: int, dm: int) -> None:
    n, steps, scale = 50, 300, 1 << 22
    k, slope = gradients.impulse_response(ds, dm, n, steps)
    current = membrane = 0
    chip = []
    for t in range(steps):
        current += (scale if t == 0 else 0) - ((current * ds + 2048) >> 12)
        membrane += current - ((membrane * dm + 2048) >> 12)
        chip.append(membrane)
    assert np.allclose(k, np.array(chip) / (scale * n), atol=2e-5)
    assert np.allclose(np.cumsum(slope) / n, k)
    assert k[0] == pytest.approx(1 / n)


# ---- networks -------------------------------------------------------------------------------------------------------

RULES = {
    "lambert": (1, FINE, lambda: Continuous(gradients.lambert, FINE), 1e-4),
    "double": (2, FINE, lambda: Continuous(gradients.double, FINE), 1e-4),
    "discrete": (1, 20_000, lambda: Discrete(*[4096 * -np.expm1(-1 / 20_000)] * 2, 20_000, 200_000), 5e-3),
    "discrete double": (
        2, 20_000, lambda: Discrete(*(4096 * -np.expm1(-1 / (tau * 20_000)) for tau in (1, 2)), 20_000, 200_000), 5e-3
    ),
}  # fmt: skip


@pytest.mark.parametrize("layers", [(4, 5, 3), (4, 4, 4, 3)], ids=str)
@pytest.mark.parametrize("rule", RULES)
def test_backward_through_layers(rule: str, layers: tuple[int, ...]) -> None:
    """Loss of a network in continuous time: every weight and every delay by differences."""
    ratio, n, make, tolerance = RULES[rule]
    rng = np.random.default_rng(11)
    shapes = list(pairwise(layers))
    weights = [rng.uniform(0.5, 2.5, shape) for shape in shapes]
    # Delays on the grid of steps, so that both see the same network.
    delays = [rng.integers(0, n, shape) / n for shape in shapes]
    inputs = np.round(rng.uniform(0.15, 2.0, layers[0]) * n) / n
    label = np.array([int(np.argmax(spike_times(inputs, weights, delays, ratio)[-1]))])

    def loss() -> float:
        return float(gradients.one_sided(spike_times(inputs, weights, delays, ratio)[-1][None], label)[0][0])

    times = spike_times(inputs, weights, delays, ratio)
    _, error = gradients.one_sided(times[-1][None], label)
    steps = [np.floor(t * n + 1e-6).astype(int)[None] for t in times]
    found = backward(error, steps, weights, [np.rint(d * n).astype(int) for d in delays], make())
    assert loss() > 0.01
    for layer, (by_weight, by_delay) in enumerate(found):
        for gradient, array in ((by_weight, weights[layer]), (by_delay, delays[layer])):
            numeric = differences(loss, array)
            assert np.abs(numeric).max() > 1e-3
            assert np.abs(gradient - numeric).max() < tolerance * np.abs(numeric).max()


def test_samples_are_averaged() -> None:
    rng = np.random.default_rng(2)
    weights, delays = [rng.uniform(0.2, 2, (4, 5)), rng.uniform(0.2, 2, (5, 3))], [np.zeros((4, 1), int), np.array([1])]
    times = [rng.integers(0, 30, (7, 4)), rng.integers(20, 60, (7, 5)), rng.integers(40, 90, (7, 3))]
    error, rule = rng.normal(size=(7, 3)), Discrete(81, 81, 50, 200)
    whole = backward(error, times, weights, delays, rule, clip=0.05)
    single = [backward(error[b : b + 1], [t[b : b + 1] for t in times], weights, delays, rule, 0.05) for b in range(7)]
    for layer in range(2):
        for kind in range(2):
            assert np.allclose(whole[layer][kind], np.mean([parts[layer][kind] for parts in single], axis=0))


def test_clipping_scales_a_neuron_of_a_sample() -> None:
    weights, times = [np.array([[2.0, 0.1], [1.0, 1.5]])], [np.array([[0, 3]]), np.array([[30, 40]])]
    arguments = ([np.array([[100.0, -0.001]])], times, weights, [np.zeros((1, 1), int)], Discrete(81, 81, 50, 200))
    free, clipped = (backward(arguments[0][0], *arguments[1:], clip=clip)[0] for clip in (np.inf, 0.5))
    assert np.abs(free[0][:, 0]).max() > 1
    assert np.abs(clipped[0][:, 0]).max() == pytest.approx(0.5)
    factor = clipped[0][0, 0] / free[0][0, 0]
    assert np.allclose(clipped[0][:, 0], factor * free[0][:, 0])
    assert np.allclose(clipped[1][:, 0], factor * free[1][:, 0])
    assert np.array_equal(clipped[0][:, 1], free[0][:, 1])


# ---- guards ---------------------------------------------------------------------------------------------------------

ALL = [Discrete(81, 81, 50, 300), Continuous(gradients.lambert, 50), Continuous(gradients.double, 50)]


@pytest.mark.parametrize("rule", ALL, ids=["discrete", "lambert", "double"])
def test_what_did_not_spike_has_no_gradient(rule: gradients.Rule) -> None:
    weights, delays = [np.full((3, 2), 2.0)], [np.zeros((3, 2), int)]
    times = [np.array([[0, NEVER, 20]]), np.array([[20, -1]])]
    by_weight, by_delay = backward(np.ones((1, 2)), times, weights, delays, rule)[0]
    assert by_weight[0, 0] < 0
    assert by_delay[0, 0] > 0
    assert by_delay[1, 0] == by_weight[1, 0] == 0
    assert (by_weight[:, 1] == 0).all()
    assert (by_delay[:, 1] == 0).all()
    # An arrival in the step of the spike is causal, the step after is not; -1 and NEVER mean the same.
    assert by_weight[2, 0] < 0
    same = backward(np.ones((1, 2)), [np.array([[0, -1, 20]]), np.array([[20, NEVER]])], weights, delays, rule)[0]
    assert np.array_equal(same[0], by_weight)
    later = backward(np.ones((1, 2)), times, weights, [np.array([[0], [0], [1]])], rule)[0]
    assert later[0][2, 0] == later[1][2, 0] == 0


@pytest.mark.parametrize("rule", ALL, ids=["discrete", "lambert", "double"])
@pytest.mark.parametrize("weights", [[[0.0], [0.0]], [[-1.0], [-1.0]], [[1e-5], [0.0]], [[0.5], [-0.5]]], ids=str)
def test_flat_membranes_have_no_gradient(rule: gradients.Rule, weights: list[list[float]]) -> None:
    """Noise can make a neuron spike whose nominal membrane does not even rise."""
    for time in (0, 10, 48):
        by_weight, by_arrival = rule(np.array([[[time], [time]]]), np.array(weights))
        assert np.array_equal(by_weight, np.zeros((1, 2, 1)))
        assert np.array_equal(by_arrival, np.zeros((1, 2, 1)))


@given(seed=st.integers(0, 2**32 - 1), scale=st.sampled_from([0.0, 1e-9, 1e-3, 1.0, 8.0, 1e6]))
def test_gradients_are_always_finite(seed: int, scale: float) -> None:
    rng = np.random.default_rng(seed)
    weights = [scale * rng.normal(size=(3, 4)), scale * rng.normal(size=(4, 2))]
    times = [rng.choice([NEVER, -1, 0, 5, 40], (6, size)) for size in (3, 4)] + [rng.integers(-1, 250, (6, 2))]
    delays = [rng.integers(0, 50, (3, 1)), rng.integers(0, 50, (1, 2))]
    out = np.where(times[-1] < 0, np.inf, times[-1] / 50)
    for loss in (gradients.one_sided, gradients.two_sided, gradients.cross_entropy):
        value, error = loss(out, rng.integers(0, 2, 6), 0.2)
        assert np.isfinite(value).all()
        for rule in ALL:
            for parts in backward(error, times, weights, delays, rule, clip=0.5):
                assert all(np.isfinite(part).all() for part in parts)
                assert np.abs(parts[0]).max() <= 0.5 * (1 + 1e-9)


# ---- losses ---------------------------------------------------------------------------------------------------------

LOSSES = [gradients.one_sided, gradients.two_sided, gradients.cross_entropy]


@pytest.mark.parametrize("loss", LOSSES)
def test_losses_are_differentiated(loss: gradients.Loss) -> None:
    rng = np.random.default_rng(4)
    times, labels = rng.uniform(0, 1, (20, 4)), rng.integers(0, 4, 20)
    times[rng.random((20, 4)) < 0.2] = np.inf
    value, error = loss(times, labels, 0.2)
    numeric = np.zeros_like(times)
    for b, n in zip(*np.nonzero(np.isfinite(times)), strict=True):
        row = times[b : b + 1].copy()
        numeric[b, n] = differences(lambda row=row, b=b: loss(row, labels[b : b + 1], 0.2)[0][0], row[:, n : n + 1])[
            0, 0
        ]
    assert np.allclose(error, numeric, atol=1e-5)
    assert np.allclose(error.sum(axis=1), 0)  # only differences of times count
    silent = ~np.isfinite(times[np.arange(20), labels])
    assert silent.any()
    assert (value[silent] == 0).all()
    assert (error[silent] == 0).all()


def test_values_of_the_losses() -> None:
    times, labels = np.array([[1.0, 1.5, 1.1], [2.0, 1.0, np.inf]]), np.array([0, 0])
    one, error = gradients.one_sided(times, labels)
    assert one == pytest.approx([0.5 * 0.1**2, 0.5 * 1.2**2])
    assert error[1] == pytest.approx([1.2, -1.2, 0])
    two, _ = gradients.two_sided(times, labels)
    assert two == pytest.approx([0.5 * (0.3**2 + 0.1**2), 0.5 * 1.2**2])
    entropy, _ = gradients.cross_entropy(times, labels, xi=0.5)
    assert entropy == pytest.approx([np.log(1 + np.exp(-1) + np.exp(-0.2)), np.log(1 + np.exp(2))])
