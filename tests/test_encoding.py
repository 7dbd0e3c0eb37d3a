"""Input spikes computed by the host: those that the chip's encoder makes, seen through neurons that repeat them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from host import Chip, Die, Events, Network
from host.encoding import input_spikes
from host.errors import EventsError, UserError
from rtl.config import ChipConfig

STEPS = 40


def repeated(cfg: ChipConfig, x: Any, die: Die | None = None, **arguments: Any) -> np.ndarray:
    """Spikes of a layer in which neuron i spikes exactly in the steps in which input i does."""
    network = Network(
        [100 * np.eye(cfg.n_in, dtype=int)],
        thresholds=50 << 8,
        shift=8,
        decay_syn=4096,
        decay_mem=4096,
        reset="none",
    )
    with Chip(cfg, die=die) as chip:
        chip.load(network)
        out = chip.run(x, STEPS, record="raster", **arguments)
    assert np.array_equal(out.raster[0].sum(axis=(1, 2)), out.input_spikes)
    return out.raster[0]


def samples(n_in: int) -> np.ndarray:
    """Random intensities, the extreme ones and dark words among them."""
    x = np.random.default_rng(n_in).integers(0, 256, (12, n_in)).astype(np.uint8)
    x[0], x[1], x[2], x[3, : n_in // 2] = 0, 255, 1, 0
    return x


@pytest.mark.parametrize("lanes", [4, 8, 32])
@pytest.mark.parametrize("n_in", [1, 7, 33, 70])
@pytest.mark.parametrize("encoding", ["rate", "bernoulli"])
def test_intensities_become_the_spikes_that_the_chip_makes_of_them(lanes: int, n_in: int, encoding: str) -> None:
    cfg, x = ChipConfig((n_in, n_in), lanes=lanes), samples(n_in)
    spikes = input_spikes(cfg, x, STEPS, encoding, seed=5)
    assert spikes.dtype == bool
    assert spikes.shape == (12, STEPS, n_in)
    assert 0.3 < spikes[4:].mean() < 0.7
    assert np.array_equal(spikes, repeated(cfg, x, encoding=encoding, seed=5))


@pytest.mark.parametrize("lanes", [4, 8, 32])
def test_events_become_themselves(lanes: int) -> None:
    raster = np.random.default_rng(1).random((5, STEPS, 13)) < 0.2
    cfg, events = ChipConfig((13, 13), lanes=lanes), Events.from_dense(raster)
    assert np.array_equal(input_spikes(cfg, events, STEPS), raster)
    assert np.array_equal(repeated(cfg, events), raster)


@pytest.mark.parametrize("lanes", [4, 32])
def test_a_die_that_draws_too_changes_no_input(lanes: int) -> None:
    cfg, x = ChipConfig((13, 13), lanes=lanes), samples(13)
    die = Die(2, 0.3, kinds=("threshold",), noise=50, threshold_noise=0.05)
    spikes = input_spikes(cfg, x, STEPS, "bernoulli", seed=9)
    assert np.array_equal(spikes, repeated(cfg, x, die, encoding="bernoulli", seed=9))


def test_a_sample_depends_on_its_seed_alone() -> None:
    cfg, x = ChipConfig((13, 13), lanes=8), np.tile(samples(13)[5:6], (4, 1))
    given = input_spikes(cfg, x, STEPS, "bernoulli", seeds=[7, 8, 7, 0xFFFFFFFF])
    assert np.array_equal(given[0], given[2])
    assert not np.array_equal(given[0], given[1])
    assert np.array_equal(given, repeated(cfg, x, encoding="bernoulli", seeds=[7, 8, 7, 0xFFFFFFFF]))
    assert np.array_equal(input_spikes(cfg, x[0], STEPS, "bernoulli", seeds=[8])[0], given[1])
    assert len(np.unique(input_spikes(cfg, x, STEPS, "rate", seed=3), axis=0)) == 1


def test_no_samples_give_no_spikes() -> None:
    cfg = ChipConfig((13, 2), lanes=8)
    for encoding in ("rate", "bernoulli"):
        assert input_spikes(cfg, np.zeros((0, 13), np.uint8), 5, encoding).shape == (0, 5, 13)
    assert input_spikes(cfg, Events([], []), 5).shape == (0, 5, 13)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"x": np.zeros((2, 12), int)}, UserError, r"x has shape \(2, 12\): must be \(n_samples, 13\)"),
        ({"x": np.zeros((2, 13))}, UserError, "x has type float64: must be integers from 0 to 255, or Events"),
        ({"x": np.full((2, 13), 256)}, UserError, "values from 256 to 256: must be integers from 0 to 255"),
        ({"x": Events([[5]], [[0]])}, EventsError, "time step 5: must be below steps = 5"),
        ({"x": Events([[0]], [[13]])}, EventsError, "input 13: must be below the chip's 13 inputs"),
        ({"steps": 0}, UserError, "steps = 0: must be an integer from 1 to 65534"),
        ({"encoding": "latency"}, UserError, "encoding = 'latency': must be one of rate, bernoulli"),
        ({"seed": -1}, UserError, "seed = -1: must be an integer from 0"),
        ({"seeds": [1]}, UserError, r"seeds has type int64 and shape \(1,\): must be integers \(2,\)"),
        ({"seeds": [1, 1 << 32]}, UserError, "must be from 0 to 4294967295"),
    ],
)
def test_wrong_arguments_are_refused_in_a_sentence(
    arguments: dict[str, Any], error: type[UserError], message: str
) -> None:
    given: dict[str, Any] = {"x": np.zeros((2, 13), int), "steps": 5, **arguments}
    with pytest.raises(error, match=message) as caught:
        input_spikes(ChipConfig((13, 2)), **given)
    assert "\n" not in str(caught.value)
