"""Simulated dies: distributions, independence, tables, and their effect on the golden model."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from host import Chip, Die, Events, Network
from host.die import KINDS, RATIO_LIMIT, SINGLES, SYNAPSES, transfer_lines
from host.errors import DieError
from rtl.config import ChipConfig
from rtl.registers import DIE_UNLIMITED

CFG = ChipConfig((60, 50, 10), lanes=8, state_bits=32)


def fields(die: Die, cfg: ChipConfig = CFG) -> dict[str, np.ndarray]:
    """Distortions in natural units: of the synapses of the first layer, of all neurons of the first layer."""
    tables = die.tables(cfg)
    n_pre, n_post = cfg.shapes[0]
    words = tables.synapse[: n_pre * cfg.words[0] * cfg.lanes].reshape(n_pre, -1)[:, :n_post]

    def signed(values: np.ndarray, bits: int) -> np.ndarray:
        return ((values & ((1 << bits) - 1)) ^ (1 << (bits - 1))) - (1 << (bits - 1))

    neuron = tables.neuron[:n_post]
    return {
        "positive": signed(words, 14) / 256,
        "negative": signed(words >> 14, 14) / 256,
        "class": words >> 28,
        "threshold": signed(neuron, 16) / 1024,
        "leak": (neuron >> 16) / 1024,
    }


def outputs(cfg: ChipConfig, die: Die | None, sign: int = 1, **constants: Any) -> Any:
    """Summed potential of single-input synapses: proportional to the effective weight of each output."""
    weights = sign * np.arange(cfg.n_out)[None, :]
    with Chip(cfg, die=die) as chip:
        chip.load(Network([weights], thresholds=(1 << 31) - 1, decay_syn=4096, decay_mem=4096, shift=8, **constants))
        return chip.run([[255]], 1).potential_sum[0] / 256


def test_the_neutral_die_is_no_die() -> None:
    rng = np.random.default_rng(0)
    network = Network([rng.integers(-128, 128, shape) for shape in CFG.shapes], biases=7)
    x = rng.integers(0, 256, (10, 60))
    plain = ChipConfig((60, 50, 10), lanes=8, state_bits=32, die_tables=False)
    results = []
    for cfg, die in (
        (plain, None),
        (CFG, None),
        (CFG, Die(5, 0.0)),
        (CFG, Die.only(seed=3)),
        (CFG, Die(5, 2.0, kinds=())),
    ):
        with Chip(cfg, die=die) as chip:
            chip.load(network)
            results.append(chip.run(x, 20))
    assert results[0].counts[1].max() > 0
    for out in results[1:]:
        assert all(np.array_equal(a, b) for a, b in zip(out.counts, results[0].counts, strict=True))
        assert np.array_equal(out.potential_sum, results[0].potential_sum)


def test_level_distributions() -> None:
    level = 1.0
    got = fields(Die(1, level, kinds=("gain",)))
    assert np.log(got["positive"]).std() == pytest.approx(0.5 * level, rel=0.05)
    assert np.array_equal(got["positive"], got["negative"])
    got = fields(Die(1, level, kinds=("negative_gain",)))
    assert (got["positive"] == 1).all()
    assert np.log(got["negative"]).mean() == pytest.approx(-0.7 * level * np.sqrt(2 / np.pi), rel=0.05)
    got = fields(Die(1, level, kinds=("stuck",)))
    assert (got["positive"] == 0).mean() == pytest.approx(0.15 * level, rel=0.15)
    assert np.array_equal(got["positive"] == 0, got["negative"] == 0)
    got = fields(Die(1, level, kinds=("transfer",)))
    assert np.bincount(got["class"].ravel(), minlength=8)[1:7].min() > 300
    wide = ChipConfig((1, 2000), lanes=8)
    got = fields(Die(1, level, kinds=("threshold", "leak")), wide)
    assert np.log(got["threshold"]).std() == pytest.approx(0.4 * level, rel=0.08)
    assert np.log(got["leak"]).std() == pytest.approx(0.5 * level, rel=0.08)
    extreme = fields(Die(1, 4.0, kinds=("leak",)), wide)["leak"]
    assert extreme.min() == 1 / 64
    assert extreme.max() == pytest.approx(11.7, rel=0.01)


def test_switching_a_kind_off_leaves_the_others_alone() -> None:
    for kind, field in (("threshold", "threshold"), ("leak", "leak"), ("transfer", "class"), ("gain", "positive")):
        alone = fields(Die(7, 1.0, kinds=(kind,)))[field]
        others = tuple(k for k in KINDS if k != "stuck")
        assert np.array_equal(alone, fields(Die(7, 1.0, kinds=others))[field])


def test_a_die_is_an_individual() -> None:
    def content(die: Die, cfg: ChipConfig) -> list[np.ndarray]:
        return list(fields(die, cfg).values())

    a, b, c = content(Die(3, 1.0), CFG), content(Die(3, 1.0), CFG), content(Die(4, 1.0), CFG)
    assert all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))
    assert not any(np.array_equal(x, y) for x, y in zip(a, c, strict=True))
    wider = content(Die(3, 1.0), ChipConfig((60, 50, 10), lanes=64, state_bits=32))
    assert all(np.array_equal(x, y) for x, y in zip(a, wider, strict=True))
    stronger = fields(Die(3, 2.0, kinds=("threshold",)))["threshold"]
    weaker = fields(Die(3, 1.0, kinds=("threshold",)))["threshold"]
    assert np.log(stronger) == pytest.approx(2 * np.log(weaker), abs=0.02)


def test_single_distortions() -> None:
    one = fields(Die.only(positive_gain=0.25))
    assert (one["positive"] == 0.25).all()
    assert (one["negative"] == 1).all()
    assert (fields(Die.only(negative_gain=0.0))["negative"] == 0).all()
    assert (fields(Die.only(threshold=4.0))["threshold"] == 4).all()
    assert (fields(Die.only(leak=10.0))["leak"] == 10).all()
    assert (fields(Die.only(stuck=0.6))["positive"] == 0).mean() == pytest.approx(0.6, abs=0.03)
    signs = fields(Die.only(gaussian_gain=2.0))["positive"]
    assert (signs < 0).mean() == pytest.approx(0.31, abs=0.03)
    assert np.log(fields(Die.only(gain_spread=0.3))["positive"]).std() == pytest.approx(0.3, rel=0.1)
    assert fields(Die.only(threshold_spread=0.5))["threshold"].std() > 0.2
    assert fields(Die.only(leak_spread=0.5))["leak"].std() > 0.2
    both = fields(Die(3, 1.0, kinds=("threshold",), threshold=2.0))["threshold"]
    assert both == pytest.approx(2 * fields(Die(3, 1.0, kinds=("threshold",)))["threshold"], abs=0.002)


def test_thresholds_may_turn_their_sign() -> None:
    wide = ChipConfig((1, 20_000), lanes=8)
    got = fields(Die.only(seed=2, gaussian_threshold=4.0), wide)
    assert got["threshold"].mean() == pytest.approx(1, abs=0.1)
    assert got["threshold"].std() == pytest.approx(4, rel=0.02)
    assert (got["threshold"] < 0).mean() == pytest.approx(0.401, abs=0.01)
    assert (got["leak"] == 1).all()
    extreme = fields(Die.only(seed=2, gaussian_threshold=10.0), wide)["threshold"]
    assert -extreme.min() == extreme.max() == RATIO_LIMIT / 1024
    both = fields(Die.only(seed=2, gaussian_threshold=4.0, threshold=0.5), wide)["threshold"]
    assert both == pytest.approx(got["threshold"] / 2, abs=0.001)
    assert (fields(Die.only(gaussian_threshold=0.0))["threshold"] == 1).all()


def test_a_neuron_whose_threshold_turned_fires_at_rest() -> None:
    cfg, die = ChipConfig((1, 64), lanes=16), Die.only(seed=1, gaussian_threshold=2.0)
    with Chip(cfg, die=die) as chip:
        chip.load(Network([np.zeros((1, 64), int)], thresholds=1000, reset="none"))
        counts = chip.run([[0]], 10).counts[0][0]
    below = fields(die, cfg)["threshold"] < 0
    assert 10 < below.sum() < 30
    assert np.array_equal(counts, 10 * below)


BINARY = ChipConfig((60, 50, 10), lanes=32, state_bits=32, binary_weights=True)


@pytest.mark.parametrize("die", [Die(3, 1.0), Die(3, 1.0, kinds=("threshold",)), Die.only(gaussian_threshold=4.0)])
def test_dies_of_binary_chips_distort_neurons_alone(die: Die) -> None:
    tables, ordinary = die.tables(BINARY), die.tables(ChipConfig((60, 50, 10), lanes=32, state_bits=32))
    assert np.array_equal(tables.neuron, ordinary.neuron)
    assert len(np.unique(tables.neuron)) > 20
    assert tables.synapse.size == tables.bias.size == 0
    assert not tables.globals.any()
    network = Network(
        [np.where(np.random.default_rng(layer).random(shape) < 0.5, -1, 1) for layer, shape in enumerate(BINARY.shapes)]
    )
    x = np.random.default_rng(5).integers(0, 256, (20, 60))
    gains = Die(die.seed, die.level, tuple(kind for kind in die.kinds if kind in ("threshold", "leak")), **die.singles)
    # Wider weights of the same values, which thresholds and leaks distort alike.
    ordinary_chip = ChipConfig((60, 50, 10), lanes=32, state_bits=32, weight_bits=2)
    outs = []
    for cfg, each in ((BINARY, die), (ordinary_chip, gains), (BINARY, None)):
        with Chip(cfg, die=each) as chip:
            chip.load(network.replace(thresholds=200, shift=4))
            outs.append(chip.run(x, 20))
    for layer in range(2):
        assert np.array_equal(outs[0].counts[layer], outs[1].counts[layer])
        assert not np.array_equal(outs[0].counts[layer], outs[2].counts[layer])


@pytest.mark.parametrize(
    ("die", "message"),
    [
        (Die.only(positive_gain=0.25), "positive_gain = 0.25: must be 1 or left out on a chip with binary weights"),
        (Die.only(negative_gain=2.0), "negative_gain = 2: must be 1 or left out"),
        (Die.only(gain_spread=0.3), "gain_spread = 0.3: must be 0 or left out"),
        (Die.only(gaussian_gain=0.3), "gaussian_gain = 0.3: must be 0 or left out"),
        (Die.only(stuck=0.1), "stuck = 0.1: must be 0 or left out"),
        (Die.only(compression=2.0), "compression = 2: must be 0 or left out"),
        (Die(1, 0.5, kinds=("gain", "stuck")), r"kinds = \('gain', 'stuck'\): must hold threshold or leak on a chip"),
        (Die.only(jitter=1.0), "jitter = 1: must be 0 on a chip without delays"),
    ],
)
def test_what_binary_chips_cannot_have_is_refused_in_a_sentence(die: Die, message: str) -> None:
    for refused in (lambda: die.tables(BINARY), lambda: Chip(BINARY, die=die)):
        with pytest.raises(DieError, match=message) as caught:
            refused()
        assert "\n" not in str(caught.value)


def test_binary_chips_take_neutral_distortions_of_synapses() -> None:
    neutral = {name: SINGLES[name][0] for name in SYNAPSES}
    for die in (Die.only(**neutral, noise=5, threshold_noise=0.1), Die(4, 0.0, kinds=("gain",)), Die(4, 0.0)):
        Chip(BINARY, die=die).close()
    with pytest.raises(DieError, match="die_tables = True"):
        Chip(ChipConfig((2, 2), die_tables=False, binary_weights=True), die=Die(0, 1.0))


def test_effect_of_gains_on_the_chip() -> None:
    cfg = ChipConfig((1, 128), lanes=16, state_bits=32)
    ideal = outputs(cfg, None)
    assert ideal.tolist() == list(range(128))
    assert np.array_equal(outputs(cfg, Die.only(positive_gain=0.25)), ideal * 0.25)
    assert np.array_equal(outputs(cfg, Die.only(positive_gain=0.25), sign=-1), -ideal)
    assert np.array_equal(outputs(cfg, Die.only(negative_gain=2.0), sign=-1), -2 * ideal)
    assert np.array_equal(outputs(cfg, Die.only(stuck=1.0)), 0 * ideal)


@pytest.mark.parametrize("k", [0.3, 1.0, 1.5, 3.0, 6.0, 10.0])
def test_compression_follows_the_tanh(k: float) -> None:
    cfg = ChipConfig((1, 128), lanes=16, state_bits=32)
    exact = np.tanh(k * np.arange(128) / 127) * 127 / k
    for sign in (1, -1):
        got = sign * outputs(cfg, Die.only(compression=k), sign=sign)
        assert np.abs(got - exact).max() <= min(0.019 * 127, 0.05 * exact.max()) + 0.1
        assert (np.diff(got) >= 0).all()


@pytest.mark.parametrize("bits", [2, 4, 16])
def test_transfer_lines_of_other_widths(bits: int) -> None:
    assert transfer_lines(0, bits) == (0, DIE_UNLIMITED, DIE_UNLIMITED)
    for k in (0.01, 1.0, 12.0, 1000.0):
        slope, offset, cap = transfer_lines(k, bits)
        assert 0 <= slope <= 256
        assert 0 <= offset <= DIE_UNLIMITED
        assert 1 <= cap <= DIE_UNLIMITED


def test_noise_in_units_of_the_membrane() -> None:
    cfg = ChipConfig((1, 64), lanes=16)
    with Chip(cfg, die=Die.only(noise=100)) as chip:
        chip.load(Network([np.zeros((1, 64), int)], thresholds=1 << 22, decay_mem=4096))
        sums = chip.run(np.zeros((200, 1), int), 1, seed=3).potential_sum
    assert sums.std() == pytest.approx(100, rel=0.03)
    assert abs(sums.mean()) < 4 * 100 / np.sqrt(sums.size)


DELAYED = ChipConfig((4, 6, 3), lanes=4, delay_slots=8)


def test_amplitudes_are_written_where_the_manual_says() -> None:
    def amplitudes(**singles: float) -> list[int]:
        return Die.only(**singles).tables(DELAYED).globals[32:].tolist()

    assert amplitudes() == [0, 0, 0]
    assert amplitudes(noise=100, threshold_noise=0.1, jitter=2) == [174, 178, 56]
    for name, bits in (("noise", 16), ("threshold_noise", 10), ("jitter", 8)):
        (largest,) = set(amplitudes(**{name: SINGLES[name][1]})) - {0}
        assert 0.9 * (1 << bits) < largest < 1 << bits


def test_threshold_noise_holds_for_a_sample() -> None:
    cfg, theta, slope, steps = ChipConfig((1, 64), lanes=16), 40_000, 100, 1500
    network = Network(
        [np.zeros((1, 64), int)], thresholds=theta, biases=slope, shift=0, decay_syn=4096, decay_mem=0, reset="zero"
    )
    with Chip(cfg, die=Die.only(threshold_noise=0.1)) as chip:
        chip.load(network)
        out = chip.run(np.zeros((300, 1), int), steps, seed=3)
        assert np.array_equal(chip.run(np.zeros((300, 1), int), steps, seed=3).first_spike[0], out.first_spike[0])
    reached = (out.first_spike[0] + 1) * slope / theta
    assert reached.std() == pytest.approx(0.1, rel=0.03)
    assert reached.mean() == pytest.approx(1, abs=0.01)
    assert reached.mean(axis=0).std() == pytest.approx(0.1 / np.sqrt(300), rel=0.3)
    assert np.array_equal(out.counts[0], steps // (out.first_spike[0] + 1))


@pytest.mark.parametrize("jitter", [0.1, 1.0, 9.18])
def test_jitter_in_time_steps(jitter: float) -> None:
    cfg = ChipConfig((1, 64), lanes=16, delay_slots=128)
    network = Network([np.ones((1, 64), int)], thresholds=1, decay_syn=4096, decay_mem=4096, delays=64)
    with Chip(cfg, die=Die.only(jitter=jitter)) as chip:
        chip.load(network)
        late = chip.run(Events.from_times(np.zeros((300, 1), int)), 128, seed=1).first_spike[0]
        chip.load(network.replace(delays=0))
        prompt = chip.run(Events.from_times(np.zeros((300, 1), int)), 128, seed=1).first_spike[0]
    # Arrivals are rounded to whole steps.
    assert late.std() == pytest.approx(np.sqrt(jitter**2 + 1 / 12), rel=0.05) if jitter > 0.5 else late.std() < 0.5
    assert abs(late.mean() - 64) < 0.05 + 0.02 * jitter
    assert np.array_equal(prompt, np.maximum(late - 64, 0))


def test_jitter_needs_delays() -> None:
    plain, die = ChipConfig((4, 6, 3), lanes=4), Die.only(jitter=0.5)
    for refused in (lambda: die.tables(plain), lambda: Chip(plain, die=die)):
        with pytest.raises(DieError, match=r"jitter = 0\.5: must be 0 on a chip without delays") as caught:
            refused()
        assert "\n" not in str(caught.value)
    Chip(plain, die=Die.only(jitter=0.0, threshold_noise=0.1)).close()
    Chip(DELAYED, die=die).close()


def test_description_and_json() -> None:
    die = Die(3, 0.8, kinds=("stuck", "gain"), threshold=4.0, noise=2)
    assert die.kinds == ("gain", "stuck")
    assert Die.from_json(die.to_json()) == die
    assert hash(Die.from_dict(die.to_dict())) == hash(die)
    assert die != Die(4, 0.8)
    assert repr(die) == "Die(seed=3, level=0.8, kinds=('gain', 'stuck'), threshold=4, noise=2)"
    assert die.severity() == pytest.approx({"level_gain": 0.4, "level_stuck": 0.12, "threshold": 4.0, "noise": 2.0})
    assert Die.only(threshold_noise=0.1, jitter=2).severity() == {"threshold_noise": 0.1, "jitter": 2.0}
    assert Die(3, 0.0).severity() == Die.only(threshold=1.0).severity() == {}
    assert list(SINGLES) == list(Die.only(**dict.fromkeys(SINGLES, 0.5)).singles)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"seed": -1}, "seed = -1: must be an integer from 0 on"),
        ({"seed": 1.0}, "seed = 1.0"),
        ({"level": -0.1}, "level = -0.1: must be a number from 0 to 4"),
        ({"level": float("nan")}, "level = nan"),
        ({"level": "high"}, "level = 'high'"),
        ({"kinds": ("gain", "colour")}, "'colour'.*must be among gain"),
        ({"colour": 1.0}, "colour: must be among positive_gain"),
        ({"stuck": 1.5}, "stuck = 1.5: must be a number from 0 to 1"),
        ({"noise": True}, "noise = True"),
        ({"gaussian_threshold": 11}, "gaussian_threshold = 11: must be a number from 0 to 10"),
        ({"threshold_noise": 0.6}, "threshold_noise = 0.6: must be a number from 0 to 0.575"),
        ({"jitter": 10}, "jitter = 10: must be a number from 0 to 9.18"),
        ({"jitter": float("nan")}, "jitter = nan: must be a number"),
    ],
)
def test_wrong_dies_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(DieError, match=message):
        Die(**arguments)


@pytest.mark.parametrize("text", ["{", "[1]", '{"colour": 1}', '{"level": null}'])
def test_wrong_descriptions_are_refused(text: str) -> None:
    with pytest.raises(DieError):
        Die.from_json(text)
