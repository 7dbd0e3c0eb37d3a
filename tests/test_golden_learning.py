"""Learning in the golden model: against a plain reference written from the manual, and against exact laws."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from golden_reference import ReferenceChip, exchange, make_frame, payload, program, readable, split_answers, write
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy import stats

from pymodel import GoldenChip
from pymodel.random import draw16, draw_words, seed_banks, xorshift
from rtl.config import ChipConfig
from rtl.registers import Opcode, Region, Status, regions

few = settings(max_examples=150, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck))


configs = st.builds(
    ChipConfig,
    layers=st.lists(st.integers(1, 20), min_size=2, max_size=4).map(tuple),
    lanes=st.sampled_from([4, 8, 16, 64]),
    weight_bits=st.sampled_from([4, 8, 10, 16]),
    state_bits=st.sampled_from([8, 16, 24, 32]),
    die_tables=st.booleans(),
    learning=st.just(True),
    bernoulli=st.booleans(),
).flatmap(
    lambda cfg: st.builds(
        replace, st.just(cfg), neuron_lanes=st.just(0) if cfg.die_tables else st.sampled_from([0, 1, 2, 4])
    )
)


def learner(cfg: ChipConfig, rng: np.random.Generator) -> list[list[int]]:
    """A random program with errors, open gates and gradient spikes in most steps."""
    frames = program(cfg, rng)
    for layer in range(len(cfg.neuron_layers)):
        mode = int(rng.integers(16)) | int(rng.choice([0, 1, 1, 2, 3])) << 4
        values = {
            "FORWARD_SHIFT": rng.choice([0, 0, 1, 7]),
            "RATE": rng.choice([0, 20_000, 65_535, 65_536, 65_536, 100_000]),
        }
        values |= {"GRADIENT_BITS": rng.choice([0, 0, 2, cfg.weight_bits - 1, 31]), "FIRE_BITS": rng.integers(32)}
        if layer == len(cfg.neuron_layers) - 1 and rng.integers(5):
            mode = mode & 15 | 2 << 4
        if rng.integers(3):
            values["GATE_WINDOW"] = (1 << cfg.state_bits) - 1 >> int(rng.integers(1, 4))
        values |= {"MODE": mode, "NOISE": rng.integers(16) | rng.integers(3) << 4}
        frames += write(cfg, **{f"L{layer}_{name}": int(value) for name, value in values.items()})
    return frames


@few
@given(configs, st.integers(0, 2**32 - 1), st.integers(0, 3), st.integers(0, 7), st.integers(0, 12))
def test_random_learning_chips_equal_the_reference(
    cfg: ChipConfig, seed: int, encoding: int, record: int, steps: int
) -> None:
    """Answers of successive LEARN and RUN frames with their cycles, and the weights afterwards."""
    rng = np.random.default_rng(seed)
    enable = int(rng.choice([0, 127, 127, 127, rng.integers(128)]))
    frames = learner(cfg, rng) + write(cfg, STEPS=steps, ENCODING=encoding, RECORD=record, LEARN_ENABLE=enable)
    for k in range(6):
        words, learn = payload(cfg, encoding, max(1, steps), rng), k not in (2, 5)
        label = int(rng.integers(cfg.n_out + (k == 4)))
        frames.append(
            make_frame(Opcode.LEARN if learn else Opcode.RUN, int(rng.integers(1 << 32)), [label] * learn + words, k)
        )
    frames += readable(cfg)
    reference = ReferenceChip(cfg)
    for got, frame in zip(exchange(GoldenChip(cfg), *frames), frames, strict=True):
        assert got == reference.frame(frame)


def test_learn_frames_are_checked_in_the_documented_order() -> None:
    cfg = ChipConfig((4, 3), lanes=4, learning=True)
    chip, plain = GoldenChip(cfg), GoldenChip(ChipConfig((4, 3), lanes=4))

    def status(chip: GoldenChip, frame: list[int]) -> Status:
        return Status(exchange(chip, frame)[0][0] & 0xFFFF)

    good, wrong_crc = make_frame(Opcode.LEARN, 0, [2, 0]), make_frame(Opcode.LEARN, 0, [3, 0])
    wrong_crc[-1] ^= 1
    assert status(plain, good) == status(plain, make_frame(Opcode.LEARN, 0, [9])) == Status.BAD_OPCODE
    assert status(plain, wrong_crc) == status(chip, wrong_crc) == Status.BAD_CRC
    assert status(chip, good) == Status.OK
    assert status(chip, make_frame(Opcode.LEARN, 0, [3, 0])) == Status.BAD_LABEL
    assert status(chip, make_frame(Opcode.LEARN, 0, [0xFFFFFFFF, 0])) == Status.BAD_LABEL
    for payload_words in ([], [9], [9, 0, 0]):
        assert status(chip, make_frame(Opcode.LEARN, 0, payload_words)) == Status.BAD_LENGTH
    exchange(chip, *write(cfg, ENCODING=2))
    assert status(chip, make_frame(Opcode.LEARN, 0, [])) == Status.BAD_LENGTH
    assert status(chip, make_frame(Opcode.LEARN, 0, [3])) == Status.BAD_LABEL
    assert status(chip, make_frame(Opcode.LEARN, 0, [2])) == Status.OK


def network(cfg: ChipConfig, weights: list[Any], thresholds: list[Any], biases: list[Any]) -> list[list[int]]:
    """Frames that write weights ``[layer][source, neuron]``, thresholds and biases ``[layer][neuron]``."""
    memory = np.zeros((cfg.weight_depth, cfg.lanes), np.int64)
    neurons = np.zeros((2, cfg.neuron_depth, cfg.lanes), np.int64)
    for layer, (n_pre, n_post) in enumerate(cfg.shapes):
        words = cfg.words[layer]
        rows = np.zeros((n_pre, words * cfg.lanes), np.int64)
        rows[:, :n_post] = weights[layer]
        memory[cfg.weight_base[layer] :][: n_pre * words] = rows.reshape(-1, cfg.lanes)
        for kind, values in enumerate((thresholds[layer], biases[layer])):
            row = np.zeros(words * cfg.lanes, np.int64)
            row[:n_post] = values
            neurons[kind, cfg.neuron_base[layer] :][:words] = row.reshape(-1, cfg.lanes)
    return [
        make_frame(Opcode.WRITE, region << 24, (values.ravel() & 0xFFFFFFFF).tolist())
        for region, values in ((Region.WEIGHT, memory), (Region.THRESHOLD, neurons[0]), (Region.BIAS, neurons[1]))
    ]


# ---- draws ---------------------------------------------------------------------------------------------------------

MEMORYLESS = {"DECAY_SYN": 4096, "DECAY_MEM": 4096}


def layer_values(layer: int, **values: int) -> dict[str, int]:
    return {f"L{layer}_{name}": value for name, value in values.items()}


def run_counts(cfg: ChipConfig, setup: list[list[int]], steps: int, samples: int) -> np.ndarray:
    """Spikes of every neuron in all `samples` together; their inputs are dark."""
    chip = GoldenChip(cfg)
    exchange(chip, *setup, *write(cfg, STEPS=steps))
    frames = [make_frame(Opcode.RUN, seed, [0] * cfg.pixel_words) for seed in range(samples)]
    answers = np.array(exchange(chip, *frames))
    return (answers[:, 3 : 3 + cfg.n_neurons] & 0xFFFF).sum(axis=0)


def winner_law(potential: np.ndarray, noise: np.ndarray) -> np.ndarray:
    """Exact probability that each neuron wins, all 256 values of `noise` being equally likely; first of equals wins."""
    scores = np.sort(potential[:, None] + noise, axis=1)
    law = np.zeros(len(potential))
    for k, own in enumerate(scores):
        chance = np.full(256, 1 / 256)
        for j, other in enumerate(scores):
            if j != k:
                chance *= np.searchsorted(other, own, side="left" if j < k else "right") / 256
        law[k] = chance.sum()
    return law


def softmax(values: np.ndarray) -> np.ndarray:
    powers = np.exp(values - values.max())
    return powers / powers.sum()


R8 = np.arange(256)
GUMBEL_TABLE = np.round(-256 * np.log(-np.log((R8 + 0.5) / 256))).astype(np.int64)


@pytest.mark.parametrize("kind", [0, 1, 2])
@pytest.mark.parametrize(("shift", "spread"), [(0, 1), (4, 20), (8, 300), (10, 500), (15, 16_000)])
def test_winners_follow_the_exact_law_of_the_noise_and_the_softmax(kind: int, shift: int, spread: int) -> None:
    cfg = ChipConfig((1, 6), lanes=4, learning=True, die_tables=False)
    biases = np.random.default_rng(shift).integers(-spread, spread + 1, 6)
    biases[3] = biases[1]
    setup = network(cfg, [np.zeros((1, 6))], [np.zeros(6)], [biases])
    setup += write(cfg, **layer_values(0, **MEMORYLESS, MODE=2 << 4, NOISE=shift | kind << 4))
    steps, samples = 20_000, 10
    n = steps * samples
    counts = run_counts(cfg, setup, steps, samples)
    assert counts.sum() == n
    noise = [np.zeros(256, np.int64), (R8 - 128) * 4, GUMBEL_TABLE][kind] << shift >> 8
    law = winner_law(biases, noise)
    assert law.sum() == pytest.approx(1)
    assert not counts[law == 0].any()
    if (law == 1).any():
        return
    possible = law > 0
    assert stats.chisquare(counts[possible], n * law[possible]).pvalue > 1e-3
    # A noise of few bits, as with shift 0, is too coarse for the softmax.
    if kind == 2 and shift >= 4:
        assert np.abs(law - softmax(biases / 2**shift)).sum() / 2 < (0.02 if shift == 4 else 0.003)
        assert np.abs(counts / n - softmax(biases / 2**shift)).sum() / 2 < (0.02 if shift == 4 else 0.005)


@pytest.mark.parametrize("bits", [0, 3, 9, 16, 31])
def test_stochastic_neurons_fire_with_the_clipped_linear_probability(bits: int) -> None:
    cfg = ChipConfig((1, 12), lanes=8, learning=True)
    top = 1 << min(bits, 16)
    u = np.array([-1000, -1, 0, 1, top // 3, top // 2, top - 1, top, top + 1, 5 * top, top // 5, 2])
    theta = np.arange(12) * 40 - 200
    sign = np.where(u + theta < 0, -1, 1)
    # The membrane comes from bias << 2, its remainder goes to the threshold.
    theta += sign * (abs(u + theta) // 4 * 4) - (u + theta)
    setup = network(cfg, [np.zeros((1, 12))], [theta], [(u + theta) // 4])
    setup += write(cfg, **layer_values(0, **MEMORYLESS, SHIFT=2, MODE=1 << 4, FIRE_BITS=bits))
    n = 20_000 * 10
    counts = run_counts(cfg, setup, 20_000, 10)
    p = np.clip(u / top, 0, 1)
    certain = (p == 0) | (p == 1)
    assert np.array_equal(counts[certain], n * p[certain])
    z = (counts - n * p)[~certain] / np.sqrt(n * p * (1 - p))[~certain]
    assert np.abs(z).max(initial=0) < 4
    assert (z**2).sum() < stats.chi2.ppf(0.999, max(1, len(z)))


# ---- the streams are the gradient ----------------------------------------------------------------------------------


def states(n: int) -> np.ndarray:
    """All firing patterns of `n` neurons."""
    return np.arange(1 << n)[:, None] >> np.arange(n) & 1


def probability(pattern: np.ndarray, p: np.ndarray) -> np.ndarray:
    return np.where(pattern, p, 1 - p).prod(axis=-1)


def cross_entropy(potential: np.ndarray, label: int, shift: int) -> float:
    return -math.log(softmax(potential / 2**shift)[label])


def measure_gradients(
    cfg: ChipConfig, setup: list[list[int]], label: int, steps: int, samples: int
) -> tuple[np.ndarray, np.ndarray]:
    """Mean of positive minus negative gradient spikes of each neuron per step, and the covariance of these means.

    Input 0 spikes in every step.
    """
    chip = GoldenChip(cfg)
    exchange(chip, *setup, *write(cfg, STEPS=steps, ENCODING=2))
    events = [t << 16 for t in range(steps)]
    frames = [make_frame(Opcode.LEARN, seed, [label, *events]) for seed in range(samples)]
    counts = np.array(exchange(chip, *frames))[:, -cfg.n_neurons :]
    means = ((counts >> 16) - (counts & 0xFFFF)) / steps
    return means.mean(axis=0), np.cov(means.T) / samples


def check_means(mean: np.ndarray, covariance: np.ndarray, expected: np.ndarray) -> None:
    """Within 4 standard errors each, and together by the chi-square of their covariance."""
    error = np.sqrt(np.diag(covariance))
    live = error > 0
    assert np.array_equal(mean[~live], expected[~live])
    assert np.abs((mean - expected)[live] / error[live]).max() < 4
    difference = (mean - expected)[live]
    chi2 = difference @ np.linalg.pinv(covariance[np.ix_(live, live)], rcond=1e-9) @ difference
    assert chi2 < stats.chi2.ppf(0.999, np.linalg.matrix_rank(covariance[np.ix_(live, live)]))


FIRE_BITS, GRADIENT_BITS = 8, 4
LINEAR = MEMORYLESS | {  # stochastic neurons whose gate is the derivative of their firing probability
    "MODE": 1 << 4 | 1 << 3, "FIRE_BITS": FIRE_BITS, "GRADIENT_BITS": GRADIENT_BITS,
    "GATE_CENTRE": 1 << FIRE_BITS - 1, "GATE_WINDOW": 1 << FIRE_BITS - 1,
}  # fmt: skip


@pytest.mark.parametrize(("shift", "forward", "noise_shift"), [(0, 0, 11), (1, 0, 12), (2, 2, 11)])
def test_gradient_spikes_are_the_gradient_of_the_expected_loss(shift: int, forward: int, noise_shift: int) -> None:
    """Mean of g+ - g- of a hidden layer = 2^(K + G - KG - sh + fs) * dE[loss]/dV, see docs/learning.md."""
    n_hidden, n_out, label = 8, 5, 1
    cfg = ChipConfig((2, n_hidden, n_out), lanes=4, learning=True, die_tables=False)
    rng = np.random.default_rng(shift)
    u = np.array([1, 60, 100, 128, 150, 255, 300, -20])
    theta, from_input = rng.integers(-500, 500, n_hidden), rng.integers(-100, 100, n_hidden)
    weights = rng.integers(-8 >> forward, (8 >> forward) + 1, (n_hidden, n_out)) << forward
    biases = rng.integers(-1 << noise_shift, 1 << noise_shift, n_out) >> shift
    setup = network(
        cfg,
        [np.stack([from_input, from_input]), weights],
        [theta, np.zeros(n_out)],
        [u + theta - from_input, biases],
    )
    output = MEMORYLESS | {"MODE": 2 << 4, "NOISE": noise_shift | 2 << 4, "SHIFT": shift, "FORWARD_SHIFT": forward}
    setup += write(cfg, **layer_values(0, **LINEAR), **layer_values(1, **output))
    mean, covariance = measure_gradients(cfg, setup, label, steps=400, samples=100)

    h = states(n_hidden)
    p = np.clip(u / 2**FIRE_BITS, 0, 1)
    gate = abs(u - 128) < 128
    potential = ((h @ (weights >> forward)) + biases) << shift
    noise = GUMBEL_TABLE << noise_shift >> 8
    error = np.array([winner_law(v, noise) for v in potential]) - np.eye(n_out)[label]
    law = probability(h, p)
    expected = gate * (law @ (error @ weights.T)) / 2**GRADIENT_BITS
    check_means(mean, covariance, np.concatenate([expected, law @ error]))

    loss = np.array([cross_entropy(v, label, noise_shift) for v in potential])
    slope = np.zeros(n_hidden)  # of the expected loss over p_i: exact, because it is linear in each of them
    for i in range(n_hidden):
        others = probability(np.delete(h, i, axis=1), np.delete(p, i))
        slope[i] = (others * loss)[h[:, i] == 1].sum() - (others * loss)[h[:, i] == 0].sum()
    true = gate * slope * 2.0 ** (noise_shift - GRADIENT_BITS - shift + forward)
    error_bars = np.sqrt(np.diag(covariance))[:n_hidden][gate]
    assert np.abs(true[gate]).mean() > 50 * error_bars.mean()
    assert np.abs(true - expected).max() < error_bars.min() / 4
    check_means(mean[:n_hidden], covariance[:n_hidden, :n_hidden], true)


def test_gradient_spikes_of_a_deeper_layer_have_the_chained_expectation() -> None:
    """Large weights, two hidden layers: the exact expectation of the chip's rule, layer by layer."""
    sizes, label, noise_shift = (4, 5, 3), 2, 5
    cfg = ChipConfig((1, *sizes), lanes=4, learning=True, die_tables=False)
    rng = np.random.default_rng(5)
    u = np.array([70, 128, 200, 30])
    w = [np.zeros((1, 4), np.int64), rng.integers(-8, 9, (4, 5)), rng.integers(-8, 9, (5, 3))]
    biases = [u, rng.integers(5, 25, 5), rng.integers(-40, 40, 3)]
    setup = network(cfg, w, [np.zeros(size) for size in sizes], biases)
    output = MEMORYLESS | {"MODE": 2 << 4, "NOISE": noise_shift | 2 << 4, "SHIFT": 2}
    deep = LINEAR | {"GRADIENT_BITS": GRADIENT_BITS + 2}
    setup += write(cfg, **layer_values(0, **deep), **layer_values(1, **LINEAR, SHIFT=3), **layer_values(2, **output))
    mean, covariance = measure_gradients(cfg, setup, label, steps=1000, samples=400)

    noise = GUMBEL_TABLE << noise_shift >> 8
    h2 = states(5)
    last = np.array([winner_law((v @ w[2] + biases[2]) << 2, noise) for v in h2]) - np.eye(3)[label]
    expected = [np.zeros(4), np.zeros(5), np.zeros(3)]
    for h1, chance in zip(states(4), probability(states(4), u / 256), strict=True):
        v2 = (h1 @ w[1] + biases[1]) << 3
        law = probability(h2, np.clip(v2 / 256, 0, 1))
        second = (abs(v2 - 128) < 128) * (law @ (last @ w[2].T)) / 2**GRADIENT_BITS
        expected[2] += chance * (law @ last)
        expected[1] += chance * second
        expected[0] += chance * (w[1] @ second) / 2 ** (GRADIENT_BITS + 2)
    assert np.abs(expected[0]).max() > 50 * np.sqrt(np.diag(covariance))[:4].max()
    check_means(mean, covariance, np.concatenate(expected))


# ---- learning ------------------------------------------------------------------------------------------------------


def learned_weights(chip: GoldenChip) -> list[int]:
    return exchange(chip, make_frame(Opcode.READ, Region.WEIGHTS << 24, [regions(chip.cfg)[Region.WEIGHTS].depth]))[0]


def test_learning_separates_patterns_of_two_bits() -> None:
    """Exclusive or: not to be had without the hidden layer's gradient."""
    cfg = ChipConfig((4, 24, 2), lanes=8, weight_bits=10, learning=True, die_tables=False)
    rng = np.random.default_rng(0)
    weights = [rng.integers(-200, 201, shape) for shape in cfg.shapes]
    setup = network(cfg, weights, [np.zeros(24), np.zeros(2)], [np.full(24, 128), np.zeros(2)])
    output = MEMORYLESS | {"MODE": 2 << 4, "NOISE": 8 | 2 << 4, "RATE": 6000}
    setup += write(cfg, **layer_values(0, **LINEAR | {"GRADIENT_BITS": 9, "RATE": 20_000}), **layer_values(1, **output))
    setup += write(cfg, STEPS=20, LEARN_ENABLE=3)
    chip = GoldenChip(cfg)
    exchange(chip, *setup)

    def shown(opcode: Opcode, a: int, b: int, seed: int) -> list[int]:
        pixels = sum(255 << 8 * (2 * k + bit) for k, bit in enumerate((a, b)))
        return make_frame(opcode, seed, [a ^ b] * (opcode == Opcode.LEARN) + [pixels])

    def accuracy() -> float:
        """Part of the steps whose winner is right."""
        answers = exchange(chip, *(shown(Opcode.RUN, k & 1, k >> 1 & 1, k) for k in range(200)))
        right = [answer[3 + 24 + ((k ^ k >> 1) & 1)] & 0xFFFF for k, answer in enumerate(answers)]
        return sum(right) / (200 * 20)

    assert 0.35 < accuracy() < 0.65
    exchange(chip, *(shown(Opcode.LEARN, *rng.integers(2, size=2).tolist(), seed) for seed in range(3000)))
    assert accuracy() > 0.9


def test_a_batch_of_learn_frames_equals_single_ones() -> None:
    cfg = ChipConfig((64, 40, 5), lanes=8, learning=True)
    rng = np.random.default_rng(1)
    setup = learner(cfg, rng) + write(cfg, STEPS=10, ENCODING=1, LEARN_ENABLE=3, L1_MODE=2 << 4)
    setup += write(cfg, L0_RATE=1 << 16, L0_GRADIENT_BITS=3)
    frames = [
        make_frame(Opcode.LEARN, k, [int(rng.integers(5)), *rng.integers(0, 1 << 32, 16).tolist()]) for k in range(60)
    ]
    chips = GoldenChip(cfg), GoldenChip(cfg)
    for chip in chips:
        exchange(chip, *setup)
    before = learned_weights(chips[0])
    assert exchange(chips[0], *frames) == [exchange(chips[1], frame)[0] for frame in frames]
    assert learned_weights(chips[0]) == learned_weights(chips[1]) != before
    # Frozen, the frames may be spread over threads.
    for chip in chips:
        exchange(chip, *write(cfg, LEARN_ENABLE=0))
    assert exchange(chips[0], *frames * 10)[::50] == [exchange(chips[1], frame)[0] for frame in frames * 10][::50]
    assert learned_weights(chips[0]) == learned_weights(chips[1])


def test_sums_that_learning_pushes_past_32_bits_are_exact() -> None:
    """Both outputs stick at the largest membrane, so the first one wins and the second one's weights grow."""
    cfg = ChipConfig((3, 2), lanes=4, weight_bits=16, state_bits=32, die_tables=False, learning=True)
    steps, start = 6000, 16_000
    chip = GoldenChip(cfg)
    exchange(
        chip,
        *network(cfg, [np.full((3, 2), start)], [np.zeros(2)], [np.zeros(2)]),
        *write(cfg, STEPS=steps, ENCODING=1, LEARN_ENABLE=1, L0_SHIFT=15, L0_DECAY_SYN=4096, L0_MODE=2 << 4),
        *write(cfg, L0_RATE=1 << 16),
    )
    answer = exchange(chip, make_frame(Opcode.LEARN, 0, [1, 0xFFFFFF]))[0]
    assert answer[3:5] == [steps, 0xFFFF << 16]
    assert answer[5:7] == answer[7:9]
    assert answer[-2:] == [steps << 16, steps]
    grown = learned_weights(chip)[1:]
    assert [word >> 16 for word in grown[::2]] == pytest.approx([start + steps * 255 / 256] * 3, abs=30)
    assert 3 * (grown[0] >> 16) << 15 > 1 << 31


def test_trace_and_raster_show_the_gradient_spikes() -> None:
    cfg = ChipConfig((9, 6, 5), lanes=4, learning=True)
    rng = np.random.default_rng(8)
    setup = learner(cfg, rng) + write(cfg, STEPS=12, ENCODING=1, RECORD=4, LEARN_ENABLE=3)
    mode = {"MODE": 2 << 4 | 2, "RESET_AMOUNT": 100, "NOISE": 8 | 2 << 4}
    setup += write(cfg, **layer_values(0, GATE_WINDOW=(1 << 24) - 1, GRADIENT_BITS=0), **layer_values(1, **mode))
    words = [0x80FF4020, 0xFFFFFFFF, 0xFF]
    frames = [*setup, make_frame(Opcode.LEARN, 3, [4, *words]), make_frame(Opcode.RUN, 3, words)]
    stream = np.array([word for frame in frames for word in frame], np.uint64)
    answers, (learned, run) = GoldenChip(cfg).trace(stream)
    assert answers.tolist() == GoldenChip(cfg).exchange(stream).tolist()
    answer = split_answers(answers.tolist())[-2]
    bits = np.array(answer[1 : 1 + 12 * 4 * 2]).reshape(12, 4, 2)[..., None] >> np.arange(4) & 1
    shown = bits.transpose(2, 0, 1, 3).reshape(2, 12, 16)
    assert shown[0].tolist() == learned.positive.tolist()
    assert shown[1].tolist() == learned.negative.tolist()
    totals = (shown[0].sum(axis=0) << 16 | shown[1].sum(axis=0))[[*range(6), *range(8, 13)]]
    assert totals.tolist() == answer[-11:]
    assert shown[:, :, :6].any()
    assert not run.positive.any()
    assert not run.negative.any()
    # The winner's reset happens within the step.
    outputs = slice(8, 13)
    for trace in (learned, run):
        assert trace.before[1:, :8].tolist() == trace.after[:-1, :8].tolist()
        assert (trace.before[:, outputs] - 100 * trace.spikes[:, outputs]).tolist() == trace.after[:, outputs].tolist()


# ---- generators ----------------------------------------------------------------------------------------------------


def apply(matrix: list[int], vector: int) -> int:
    """Product over GF(2); `matrix` holds the columns as bits of integers."""
    result = 0
    for k, column in enumerate(matrix):
        if vector >> k & 1:
            result ^= column
    return result


def power(matrix: list[int], exponent: int) -> list[int]:
    result = [1 << k for k in range(32)]
    while exponent:
        if exponent & 1:
            result = [apply(matrix, column) for column in result]
        matrix = [apply(matrix, column) for column in matrix]
        exponent >>= 1
    return result


def test_generators_have_the_full_period() -> None:
    """A step is a linear map M over GF(2). Its order is 2^32 - 1, so that one cycle holds all states but zero."""
    matrix = [xorshift(1 << k) for k in range(32)]
    for s in np.random.default_rng(0).integers(1, 1 << 32, 100).tolist():
        assert xorshift(s) == apply(matrix, s)
    order, identity = (1 << 32) - 1, power(matrix, 0)
    primes = [3, 5, 17, 257, 65_537]
    assert math.prod(primes) == order
    assert power(matrix, order) == identity
    for prime in primes:
        assert power(matrix, order // prime) != identity


@pytest.fixture(scope="module")
def drawn() -> np.ndarray:
    """Draws of 16 lanes: ``[draw, lane]``."""
    bank = np.zeros(8, np.int64)
    seed_banks(20_240_601, bank)
    n = 1 << 18
    flat = np.zeros(n * 8, np.int64)
    draw_words(bank, n, flat)
    numbers = np.stack([flat & 0xFFFF, flat >> 16], axis=1).reshape(n, 16)
    assert [draw16(flat, i) for i in range(40)] == numbers.ravel()[:40].tolist()
    return numbers


def uniform_pvalue(values: np.ndarray, bins: int) -> float:
    return float(stats.chisquare(np.bincount(values, minlength=bins)).pvalue)


def check_pvalues(pvalues: list[float]) -> None:
    """As uniform as the p-values of many true hypotheses: none too small, and their distribution is flat."""
    assert min(pvalues) > 1e-3 / len(pvalues)
    assert stats.kstest(pvalues, "uniform").pvalue > 1e-3


def test_every_lane_draws_uniformly(drawn: np.ndarray) -> None:
    check_pvalues([uniform_pvalue(drawn[:, lane] >> shift & 0xFF, 256) for lane in range(16) for shift in (0, 4, 8)])
    check_pvalues([uniform_pvalue(drawn[:, lane], 1 << 16) for lane in range(16)])


def test_lanes_are_independent_of_each_other(drawn: np.ndarray) -> None:
    correlation = np.corrcoef(drawn.T)
    pairs = list(itertools.combinations(range(16), 2))
    z = np.array([correlation[a, b] for a, b in pairs]) * math.sqrt(len(drawn))
    assert np.abs(z).max() < 4.5
    assert (z**2).sum() < stats.chi2.ppf(0.999, len(z))
    nibbles = drawn & 15, drawn >> 12
    check_pvalues([uniform_pvalue(x[:, a] << 4 | y[:, b], 256) for a, b in pairs for x in nibbles for y in nibbles])


@pytest.mark.parametrize("lag", [1, 2, 3, 8])
def test_successive_draws_are_independent(drawn: np.ndarray, lag: int) -> None:
    now, later = drawn[:-lag], drawn[lag:]
    scaled = (now - now.mean(axis=0)) / now.std(axis=0), (later - later.mean(axis=0)) / later.std(axis=0)
    z = scaled[0].T @ scaled[1] / math.sqrt(len(now))  # every lane with every lane
    assert np.abs(z).max() < 4.8
    assert (z**2).sum() < stats.chi2.ppf(0.999, z.size)
    nibbles = (now & 15, now >> 12), (later & 15, later >> 12)
    pvalues = [
        uniform_pvalue(x[:, lane] << 4 | y[:, lane ^ other], 256)
        for lane in range(16)
        for other in (0, 1)
        for x in nibbles[0]
        for y in nibbles[1]
    ]
    check_pvalues(pvalues)
