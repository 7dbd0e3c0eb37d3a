"""Gradients of binary networks: against finite differences of a smooth model, naive loops, and the chip's own gates."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from host import Chip, Die, Events
from host.encoding import input_spikes
from host.trainers import BinaryStraightThrough
from host.trainers.binary_gradient import (
    DECAY_MEM,
    DECAY_SYN,
    KEEP_MEM,
    KEEP_SYN,
    Objective,
    chip_constants,
    draw_readouts,
    recompute_gates,
)
from rtl.config import ChipConfig

STEPS, SIZES, WINDOW, GAIN = 12, (8, 4), 0.8, 5.0
RNG = np.random.default_rng(1)
READOUTS = draw_readouts(3, 3, (7, 5))
LABELS = np.array([0, 2, 1, 1])
INPUTS = RNG.random((4, STEPS, 6)) < 0.4
WEIGHTS = [RNG.choice([-1.0, 1.0], (6, 7)), RNG.choice([-1.0, 1.0], (7, 5))]

Layers = list[NDArray[Any]]


def objective(local: bool = False) -> Objective:
    return Objective(READOUTS, GAIN, SIZES, WINDOW, local=local)


def cross_entropy(layer: int, rates: NDArray[Any]) -> float:
    """Of the read-out of a layer, from its rates (N, n)."""
    readout = READOUTS[layer].astype(float)
    z = GAIN / np.sqrt(readout.shape[1]) * rates @ readout.T
    return float(np.mean(np.log(np.exp(z).sum(axis=1)) - z[np.arange(len(z)), LABELS]))


def smooth(weights: Layers) -> tuple[Layers, list[NDArray[np.bool_]]]:
    """Neurons without reset, whose spikes are a ramp of the membrane as wide as the gate: spikes and gates."""
    spikes, gates = [INPUTS.astype(float)], []
    for matrix, size in zip(weights, SIZES, strict=True):
        current, membrane = np.zeros((4, matrix.shape[1])), np.zeros((4, matrix.shape[1]))
        fired, gate = [], []
        for t in range(STEPS):
            current = (1 - 629 / 4096) * current + spikes[-1][:, t] @ matrix
            membrane = (1 - 390 / 4096) * membrane + current
            away = membrane / size - 0.5
            fired.append(np.clip(away / (2 * WINDOW) + 0.5, 0, 1))
            gate.append(np.abs(away) < WINDOW)
        spikes.append(np.stack(fired, axis=1))
        gates.append(np.stack(gate, axis=1))
    return spikes, gates


def differences(loss: Callable[[Layers], float], layer: int) -> NDArray[Any]:
    """Central differences of `loss` by the weights of a layer."""
    found, step = np.zeros_like(WEIGHTS[layer]), 1e-5
    for index in np.ndindex(*found.shape):
        values = []
        for sign in (1, -1):
            moved = [matrix.copy() for matrix in WEIGHTS]
            moved[layer][index] += sign * step
            values.append(loss(moved))
        found[index] = (values[0] - values[1]) / (2 * step)
    return found


def test_backpropagation_is_the_gradient_of_the_smooth_network() -> None:
    spikes, gates = smooth(WEIGHTS)
    assert all(0.1 < gate.mean() < 0.9 for gate in gates)
    loss, right, gradients = objective().by_rasters(WEIGHTS, spikes, gates, LABELS)
    assert loss == pytest.approx(cross_entropy(1, spikes[2].mean(axis=1)))
    z = spikes[2].mean(axis=1) @ READOUTS[1].T
    assert right == (z.argmax(axis=1) == LABELS).sum()
    for layer, gradient in enumerate(gradients):
        wanted = differences(lambda moved: cross_entropy(1, smooth(moved)[0][2].mean(axis=1)), layer)
        assert np.abs(wanted).max() > 1e-2
        assert np.abs(gradient - wanted).max() < 1e-4 * np.abs(wanted).max()


def test_local_gradients_are_those_of_every_layers_own_loss() -> None:
    spikes, gates = smooth(WEIGHTS)
    loss, _, gradients = objective(local=True).by_rasters(WEIGHTS, spikes, gates, LABELS)
    assert loss == pytest.approx(cross_entropy(1, spikes[2].mean(axis=1)))
    for layer, gradient in enumerate(gradients):

        def own(moved: Layers, layer: int = layer) -> float:
            return cross_entropy(layer, smooth(moved)[0][layer + 1].mean(axis=1))

        wanted = differences(own, layer)
        assert np.abs(gradient - wanted).max() < 1e-4 * np.abs(wanted).max()


@pytest.mark.parametrize("rule", ["rasters", "counts"])
def test_no_gradient_passes_between_layers_with_local_losses(rule: str) -> None:
    spikes, gates = smooth(WEIGHTS)
    flipped = [WEIGHTS[0], -WEIGHTS[1]]

    def first(weights: Layers, local: bool) -> NDArray[Any]:
        if rule == "rasters":
            return objective(local).by_rasters(weights, spikes, gates, LABELS)[2][0]
        return objective(local).by_counts(weights, [layer.sum(axis=1) for layer in spikes], STEPS, LABELS)[2][0]

    assert np.array_equal(first(WEIGHTS, True), first(flipped, True))
    assert np.allclose(first(WEIGHTS, False), -first(flipped, False))
    assert np.abs(first(WEIGHTS, False)).max() > 0


@pytest.mark.parametrize("local", [False, True])
def test_backpropagation_equals_naive_loops(local: bool) -> None:
    """Sums over samples, synapses and steps, from random binary spikes and gates that no model connects."""
    rng = np.random.default_rng(4)
    sizes = (6, 7, 5)
    spikes = [rng.random((4, STEPS, n)) < 0.3 for n in sizes]
    gates = [rng.random((4, STEPS, n)) < 0.5 for n in sizes[1:]]
    gradients = objective(local).by_rasters(WEIGHTS, spikes, gates, LABELS)[2]

    def pull(layer: int) -> NDArray[Any]:
        readout = READOUTS[layer]
        z = GAIN / np.sqrt(readout.shape[1]) * (spikes[layer + 1].sum(axis=1) / STEPS) @ readout.T
        p = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
        e = (p - np.eye(3)[LABELS]) * GAIN / (len(LABELS) * STEPS)
        return np.repeat((e @ readout / np.sqrt(readout.shape[1]))[:, None], STEPS, axis=1)

    back = pull(1)
    for layer in (1, 0):
        if local:
            back = pull(layer)
        wanted, below = np.zeros(WEIGHTS[layer].shape), np.zeros(spikes[layer].shape)
        for s in range(4):
            for i in range(sizes[layer + 1]):
                v = c = 0.0
                for t in reversed(range(STEPS)):
                    u = v + gates[layer][s, t, i] / (2 * WINDOW) * back[s, t, i]
                    v, c = (1 - 390 / 4096) * u, (1 - 629 / 4096) * c + u
                    for j in range(sizes[layer]):
                        wanted[j, i] += c * spikes[layer][s, t, j] / SIZES[layer]
                        below[s, t, j] += WEIGHTS[layer][j, i] * c / SIZES[layer]
        assert np.allclose(gradients[layer], wanted, rtol=1e-4, atol=1e-6)
        back = below


def test_counts_give_the_gradient_of_rates_that_grow_with_the_input() -> None:
    """Rates are linear in the rates below, except for neurons that are silent or always fire."""
    slopes = [4096 / 629 / size for size in SIZES]
    rng = np.random.default_rng(7)
    rates = [rng.uniform(0.1, 0.9, (4, n)) for n in (6, 7, 5)]
    rates[1][:, 2], rates[2][:, 4] = 0.0, 1.0

    def moved_rates(moved: Layers) -> Layers:
        """What the rates become, to first order, when the weights move away from WEIGHTS."""
        below, found = rates[0], [rates[0]]
        for layer in (0, 1):
            change = below @ moved[layer] - rates[layer] @ WEIGHTS[layer]
            active = (rates[layer + 1] > 0) & (rates[layer + 1] < 1)
            below = rates[layer + 1] + slopes[layer] * active * change
            found.append(below)
        return found

    counts = [STEPS * layer for layer in rates]
    loss, _, gradients = objective().by_counts(WEIGHTS, counts, STEPS, LABELS)
    assert loss == pytest.approx(cross_entropy(1, rates[2]))
    for layer, gradient in enumerate(gradients):
        wanted = differences(lambda moved: cross_entropy(1, moved_rates(moved)[2]), layer)
        assert np.abs(gradient - wanted).max() < 1e-4 * np.abs(wanted).max()
    assert not gradients[0][:, 2].any()
    assert not gradients[1][:, 4].any()
    assert gradients[1][:, :4].any()


def test_decays_are_time_constants_of_six_and_ten_steps() -> None:
    assert round(4096 * (1 - np.exp(-1 / 6))) == DECAY_SYN == round(4096 * (1 - KEEP_SYN))
    assert round(4096 * (1 - np.exp(-1 / 10))) == DECAY_MEM == round(4096 * (1 - KEEP_MEM))


def test_read_outs_are_signs_drawn_from_the_seed_for_every_layer() -> None:
    first, other = draw_readouts(1, 10, (300, 200)), draw_readouts(2, 10, (300, 200))
    assert [matrix.shape for matrix in first] == [(10, 300), (10, 200)]
    assert all(set(np.unique(matrix)) == {-1, 1} and abs(matrix.mean()) < 0.1 for matrix in first)
    assert all(np.array_equal(a, b) for a, b in zip(first, draw_readouts(1, 10, (300, 200)), strict=True))
    assert not np.array_equal(first[0], other[0])
    assert not np.array_equal(first[0][:, :200], first[1])


# ---- gates that the host recomputes ---------------------------------------------------------------------------------


def present(cfg: ChipConfig, die: Die | None, samples: Any, encoding: str, shift: int) -> tuple[Layers, Layers, Layers]:
    """Weights, spikes from the inputs on, and gates that a chip with random weights read out in 30 steps."""
    rng = np.random.default_rng(11)
    weights = [rng.choice(np.array([-1, 1], np.int32), shape) for shape in cfg.shapes]
    with Chip(cfg, die=die) as chip:
        chip.load(BinaryStraightThrough(chip, shift=shift).network_of(weights))
        out = chip.run(samples, steps=30, seed=9, encoding=encoding, record=("raster", "gate"))
    inputs = input_spikes(cfg, samples, 30, encoding=encoding, seed=9)
    return weights, [inputs, *out.raster], list(out.gate)


def recomputed(cfg: ChipConfig, weights: Layers, spikes: Layers, shift: int) -> Layers:
    sizes = [1 << round(np.log2(8 * np.sqrt(pre))) for pre, _ in cfg.shapes]
    return [
        recompute_gates(matrix, below, above, shift, size, 1.0, cfg.state_range)
        for matrix, below, above, size in zip(weights, spikes[:-1], spikes[1:], sizes, strict=True)
    ]


@pytest.mark.parametrize("encoding", ["rate", "bernoulli", "events"])
@pytest.mark.parametrize(("state_bits", "shift"), [(24, 6), (10, 2)], ids=["usual", "saturating"])
def test_recomputed_gates_are_those_of_an_ideal_chip(encoding: str, state_bits: int, shift: int) -> None:
    cfg = ChipConfig((20, 32, 16), lanes=32, binary_weights=True, state_bits=state_bits)
    samples: Any = np.random.default_rng(5).integers(0, 256, (40, 20)).astype(np.uint8)
    if encoding == "events":
        samples, encoding = Events.from_dense(np.random.default_rng(6).random((40, 30, 20)) < 0.4), "rate"
    weights, spikes, gates = present(cfg, None, samples, encoding, shift)
    assert all(0.1 < gate.mean() < 0.9 for gate in gates)
    for mine, chips in zip(recomputed(cfg, weights, spikes, shift), gates, strict=True):
        assert np.array_equal(mine, chips)


def test_recomputed_gates_differ_from_those_of_a_distorted_die() -> None:
    cfg = ChipConfig((20, 32, 16), lanes=32, binary_weights=True)
    samples = np.random.default_rng(5).integers(0, 256, (40, 20)).astype(np.uint8)
    die = Die.only(seed=1, gaussian_threshold=1.0)
    weights, spikes, gates = present(cfg, die, samples, "rate", 6)
    for mine, chips in zip(recomputed(cfg, weights, spikes, 6), gates, strict=True):
        assert 0.02 < np.mean(mine != chips) < 0.8


def test_chip_constants() -> None:
    assert chip_constants(6, 64, 1.0) == (4096, 2048, 4096)
    assert chip_constants(0, 32, 0.5) == (32, 16, 16)
