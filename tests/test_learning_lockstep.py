"""Learning on the simulated chip and on the golden model through the host's interface: equal to the last bit."""

from __future__ import annotations

import os
import random
import signal
import threading

import numpy as np
import pytest

from host import Chip, Network
from host.chip import Output
from rtl.config import ChipConfig

SMALL = ChipConfig(layers=(24, 12, 5), lanes=8, weight_bits=10, die_tables=False, learning=True)


def learnable(cfg: ChipConfig, draw: random.Random) -> Network:
    """A network whose hidden neurons fire by chance and whose last layer is a winner-take-all."""
    rng = np.random.default_rng(draw.getrandbits(32))
    n, bits = len(cfg.neuron_layers), cfg.weight_bits
    fire_bits = [draw.randint(bits - 2, bits) for _ in range(n)]
    spread = 1 << bits - 4
    return Network(
        weights=[rng.integers(-spread, spread + 1, shape) for shape in cfg.shapes],
        thresholds=0,
        biases=[rng.integers(0, spread, size) for size in cfg.neuron_layers],
        decay_syn=4096,
        decay_mem=draw.choice((4096, 4096, 2048)),
        shift=0,
        reset="none",
        gate_centre=[1 << bits - 1 for bits in fire_bits],
        gate_window=[1 << bits for bits in fire_bits],
        fire=["stochastic"] * (n - 1) + ["winner"],
        fire_bits=fire_bits,
        noise=draw.choice(("flat", "gumbel")),
        noise_shift=bits - 3,
        gradient_bits=draw.randint(bits - 5, bits - 2),
        rate=draw.choice((65_536, 32_768, 8_000)),
        forward_shift=draw.choice((0, 0, 2)),
    )


def compare(here: Output, there: Output) -> None:
    for name in ("potential_sum", "winners", "cycles", "input_spikes"):
        np.testing.assert_array_equal(getattr(here, name), getattr(there, name), err_msg=name)
    for name in ("counts", "first_spike", "positive", "negative"):
        for layer, (a, b) in enumerate(zip(getattr(here, name), getattr(there, name), strict=True)):
            np.testing.assert_array_equal(a, b, err_msg=f"{name} of layer {layer}")


def samples(cfg: ChipConfig, n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Classes with a pattern each, so that there is something to learn."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, cfg.n_out, n)
    patterns = rng.integers(0, 256, (cfg.n_out, cfg.n_in))
    return np.clip(patterns[labels] + rng.integers(-60, 61, (n, cfg.n_in)), 0, 255).astype(np.uint8), labels


def test_a_simulator_killed_while_it_learns_ends_with_the_same_bits() -> None:
    x, labels = samples(SMALL, 4000, 1)
    network = learnable(SMALL, random.Random(1))
    with Chip(SMALL, "golden") as golden, Chip(SMALL, "sim") as sim:
        for chip in (golden, sim):
            chip.load(network)
            chip.learn(x[:50], labels[:50], steps=8, seed=1)
        expected = golden.learn(x, labels, steps=8, seed=2)
        pid = sim._backend.pid  # type: ignore[attr-defined]
        killer = threading.Timer(0.3, os.kill, (pid, signal.SIGKILL))
        killer.start()
        with pytest.warns(RuntimeWarning, match="restarted"):
            found = sim.learn(x, labels, steps=8, seed=2)
        killer.join()
        compare(found, expected)
        for ours, theirs in zip(sim.weights(), golden.weights(), strict=True):
            np.testing.assert_array_equal(ours, theirs)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(10))
def test_twenty_thousand_samples_end_with_equal_weights_counts_and_cycles(seed: int) -> None:
    draw = random.Random(f"learn {seed}")
    cfg = ChipConfig(
        layers=tuple(draw.randint(5, 40) for _ in range(draw.choice((2, 3, 3, 4)))),
        lanes=draw.choice((4, 8, 16, 32)),
        weight_bits=draw.choice((8, 9, 10, 12, 16)),
        die_tables=draw.random() < 0.5,
        learning=True,
    )
    network = learnable(cfg, draw)
    x, labels = samples(cfg, 20_000, seed)
    with Chip(cfg, "golden") as golden, Chip(cfg, "sim") as sim:
        steps, encoding = draw.randint(2, 8), draw.choice(("rate", "bernoulli"))
        for chip in (golden, sim):
            chip.load(network)
        compare(
            sim.learn(x, labels, steps=steps, seed=seed, encoding=encoding),
            golden.learn(x, labels, steps=steps, seed=seed, encoding=encoding),
        )
        changed = 0
        for ours, theirs, start in zip(sim.weights(), golden.weights(), network.weights, strict=True):
            np.testing.assert_array_equal(ours, theirs)
            changed += int((ours != start).sum())
        assert changed > 0
        assert sim.stats.to_dict() == golden.stats.to_dict()
        assert sim.stats.gradient_spikes > 1000
