"""Delays, latencies and samples that end early, as the driver sees them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from host import Chip, Events, Network, latency
from host.errors import EventsError, NetworkError, UserError
from pymodel import GoldenChip
from rtl.config import ChipConfig
from rtl.registers import Opcode, Region

CFG = ChipConfig((10, 7, 3), lanes=4, delay_slots=20)
AXONAL = ChipConfig((10, 7, 3), lanes=4, delay_slots=20, axonal_delays=True)


def random_network(cfg: ChipConfig, seed: int = 0, **changes: Any) -> Network:
    rng = np.random.default_rng(seed)
    options: dict[str, Any] = {
        "weights": [rng.integers(-60, 128, shape) for shape in cfg.shapes],
        "thresholds": [rng.integers(500, 3000, size) for size in cfg.neuron_layers],
        "delays": [
            rng.integers(0, cfg.delay_slots, (n_pre, 1 if cfg.axonal_delays else n_post))
            for n_pre, n_post in cfg.shapes
        ],
    }
    return Network(**{**options, **changes})


def posted(chip: Chip) -> list[tuple[Region, int, list[int]]]:
    """Region, offset and words of every write to the delays that waits for the next exchange."""
    found = []
    for opcode, address, words in chip._posted:
        if opcode == Opcode.WRITE:
            found.append((Region(address >> 24), address & 0xFFFFFF, words.tolist()))
        else:
            pairs = words.reshape(-1, 2)
            found += [(Region(int(a) >> 24), int(a) & 0xFFFFFF, [int(word)]) for a, word in pairs]
    return [item for item in found if item[0] in (Region.DELAYS, Region.DELAY)]


def element(cfg: ChipConfig, layer: int, row: int, column: int) -> int:
    word = cfg.weight_base[layer] + row * cfg.words[layer] + column // cfg.lanes
    return word * cfg.lanes + column % cfg.lanes


@pytest.mark.parametrize("slots", [2, 3, 16, 17, 1024])
@pytest.mark.parametrize("lanes", [4, 16])
def test_delays_are_written_in_bulk_as_the_manual_says(slots: int, lanes: int) -> None:
    cfg = ChipConfig((10, 7, 3), lanes=lanes, delay_slots=slots)
    network = random_network(cfg)
    with Chip(cfg) as chip:
        chip.load(network)
        ((region, offset, words),) = posted(chip)
    assert (region, offset) == (Region.DELAYS, 0)
    k, bits = cfg.delays_per_link_word, cfg.delay_bits
    assert len(words) * k == cfg.delay_depth * lanes
    for layer, matrix in enumerate(network.delays):
        for (row, column), delay in np.ndenumerate(matrix):
            at = element(cfg, layer, row, column)
            assert words[at // k] >> at % k * bits & ((1 << bits) - 1) == delay


def test_axonal_delays_are_one_word_per_source() -> None:
    network = random_network(AXONAL)
    with Chip(AXONAL) as chip:
        chip.load(network)
        expected = np.concatenate([matrix[:, 0] for matrix in network.delays]).tolist()
        assert posted(chip) == [(Region.DELAYS, 0, expected)]


def test_only_delays_that_changed_are_sent() -> None:
    network = random_network(CFG)
    changed = network.replace(delays=[matrix.copy() for matrix in network.delays])
    changed.delays[0][3, 5] ^= 1
    changed.delays[1][6, 2] ^= 1
    with Chip(CFG) as chip:
        chip.load(network)
        chip._posted.clear()
        chip.load(network)
        assert not chip._posted
        chip.load(changed)
        assert posted(chip) == [
            (Region.DELAY, element(CFG, layer, *at), [int(changed.delays[layer][at])])
            for layer, at in ((0, (3, 5)), (1, (6, 2)))
        ]
        assert chip.network == changed
        chip._posted.clear()
        chip.load(random_network(CFG, seed=1, weights=network.weights))
        assert [item[0] for item in posted(chip)] == [Region.DELAYS]
    network = random_network(AXONAL)
    with Chip(AXONAL) as chip:
        chip.load(network)
        chip._posted.clear()
        network.delays[1][4] ^= 1
        chip.load(network)
        assert posted(chip) == [(Region.DELAYS, 10 + 4, [int(network.delays[1][4, 0])])]


def test_chips_without_delays_get_none() -> None:
    cfg = ChipConfig((10, 7, 3), lanes=4)
    with Chip(cfg) as chip:
        chip.load(random_network(CFG, delays=None))
        assert posted(chip) == []
        assert [matrix.tolist() for matrix in chip.delays()] == [np.zeros(shape).tolist() for shape in cfg.shapes]
        with pytest.raises(NetworkError, match=r"needs a chip with delays, ChipConfig\(delay_slots=20\)"):
            chip.load(random_network(CFG, delays=[19, 0]))
        with pytest.raises(UserError, match="early_end = 1: must be True or False"):
            chip.run(np.zeros((1, 10), int), 3, early_end=1)  # type: ignore[arg-type]
        assert chip.network == random_network(CFG, delays=None)
    with pytest.raises(UserError, match="the chip is closed"):
        chip.delays()


# ---- latencies ---------------------------------------------------------------------------------------------------


def test_a_value_is_the_time_of_a_spike() -> None:
    x = np.random.default_rng(0).random((200, 4))
    times = np.rint(50 * (0.15 + 1.85 * x)).astype(int)
    events = latency(x, 0.15 * 50, 2.0 * 50)
    assert events == Events(list(times), [range(4)] * 200)
    assert events == Events.from_times(times)
    assert len(events.words) == 800
    assert latency(x.astype(np.float32)[:0], 0, 5) == Events([], [])
    assert latency([[0.0, 0.5, 1.0, 0.0]], 0, 65533).words.tolist() == [0, 3, 32766 << 16 | 1, 65533 << 16 | 2]


def test_bright_pixels_are_early_and_black_ones_silent() -> None:
    pixels = np.array([[0, 1, 128, 255], [0, 0, 0, 0], [255, 3, 255, 0]], np.uint8)
    expected = Events([[10, 5, 0], [], [0, 0, 10]], [[1, 2, 3], [], [0, 2, 1]])
    assert latency(pixels, 0, 10, silent_below=1 / 255) == latency(pixels / 255, 0, 10, 1e-9) == expected
    assert latency(pixels, 0, 10, silent_below=0).times[1].tolist() == [10] * 4
    assert latency(pixels, 0, 10, silent_below=1).addresses[2].tolist() == [0, 2]
    assert latency(pixels, 0, 10).times[0].tolist() == [0, 0, 5, 10]


@pytest.mark.parametrize("dtype", [np.int8, np.int32, np.int64])
def test_times_of_inputs(dtype: Any) -> None:
    times = np.array([[3, -1, 3], [-1, -1, -1], [9, 0, 1]], dtype)
    events = Events.from_times(times)
    assert events == Events([[3, 3], [], [9, 0, 1]], [[0, 2], [], [0, 1, 2]])
    assert events.offsets.dtype == np.int64
    assert events.words.dtype == np.uint32
    assert Events.from_times(times[:, :0]) == Events([[]] * 3, [[]] * 3)


BAD_LATENCIES: list[tuple[Any, str]] = [
    (lambda: latency([[0.1, float("nan")]], 0, 5), "x of sample 0, input 1 is nan: must be from 0 to 1"),
    (lambda: latency([[0.1], [1.5]], 0, 5), r"x of sample 1, input 0 is 1\.5: must be from 0 to 1"),
    (lambda: latency([[-0.1]], 0, 5, silent_below=0.5), "must be from 0 to 1"),
    (lambda: latency([0.1, 0.2], 0, 5), r"x has shape \(2,\): must be \(n_samples, n_in\)"),
    (lambda: latency(np.zeros((1, 2, 3)), 0, 5), r"shape \(1, 2, 3\)"),
    (lambda: latency([[0.1], [0.2, 0.3]], 0, 5), "x has rows of unequal length"),
    (lambda: latency([[0, 1]], 0, 5), "x has type int64: must be floats from 0 to 1, or uint8 intensities"),
    (lambda: latency([["a"]], 0, 5), "x has type <U1"),
    (lambda: latency([[0.1]], -1, 5), "steps_early = -1: must be a number from 0 to 65533"),
    (lambda: latency([[0.1]], 0, 70_000), "steps_late = 70000: must be a number from 0 to 65533"),
    (lambda: latency([[0.1]], float("nan"), 5), "steps_early = nan"),
    (lambda: latency([[0.1]], "0", 5), "steps_early = '0'"),
    (lambda: latency([[0.1]], 6, 5), "steps_early = 6: must not be above steps_late = 5"),
    (lambda: latency([[0.1]], 0, 5, silent_below=2), "silent_below = 2: must be a number from 0 to 1"),
    (lambda: Events.from_times([[1.0]]), "times have type float64"),
    (lambda: Events.from_times([1]), r"shape \(1,\): must be integers \(n_samples, n_in\)"),
    (lambda: Events.from_times([[1], [2, 3]]), "unequal length"),
    (lambda: Events.from_times([[-2]]), "event time -2: must be an integer from 0 to 65533, or -1"),
    (lambda: Events.from_times([[65534]]), "event time 65534"),
    (lambda: Events.from_times(np.zeros((1, 65537), int)), "at most 65536 inputs"),
]


@pytest.mark.parametrize(("call", "message"), BAD_LATENCIES)
def test_wrong_latencies_are_refused_in_a_sentence(call: Any, message: str) -> None:
    with pytest.raises(EventsError, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)


def test_latencies_past_the_time_out_are_refused() -> None:
    with Chip(CFG) as chip:
        chip.load(random_network(CFG))
        with pytest.raises(EventsError, match="an event at time step 100: must be below steps = 100"):
            chip.run(latency(np.ones((1, 10)), 7.5, 100), 100)


# ---- on the golden model -----------------------------------------------------------------------------------------


def spikes(n: int = 12, steps: int = 25, seed: int = 3) -> Events:
    return Events.from_dense(np.random.default_rng(seed).random((n, steps, 10)) < 0.15)


def equal(a: Any, b: Any) -> bool:
    lists = zip([*a.counts, *a.first_spike], [*b.counts, *b.first_spike], strict=True)
    plain = ("potential_sum", "cycles", "input_spikes", "steps")
    return all(np.array_equal(x, y) for x, y in lists) and all(
        np.array_equal(getattr(a, name), getattr(b, name)) for name in plain
    )


@pytest.mark.parametrize("axonal", [False, True], ids=["synaptic", "axonal"])
@pytest.mark.parametrize(("slots", "lanes"), [(2, 4), (17, 16), (1024, 8)])
def test_delays_come_back_as_written(slots: int, lanes: int, axonal: bool) -> None:
    cfg = ChipConfig((10, 7, 3), lanes=lanes, delay_slots=slots, axonal_delays=axonal)
    with Chip(cfg) as chip, Chip(cfg) as fresh:
        for seed in range(3):
            network = random_network(cfg, seed)
            network.delays[0][2] = slots - 1
            chip.load(network)
            assert all(np.array_equal(a, b) for a, b in zip(chip.delays(), network.delays, strict=True))
            assert all(np.array_equal(a, b) for a, b in zip(chip.weights(), network.weights, strict=True))
            network.delays[1][4] = 0
            chip.load(network)
            assert [matrix.dtype for matrix in chip.delays()] == [np.int32, np.int32]
            assert np.array_equal(chip.delays()[1], network.delays[1])
            fresh.load(network)
            assert equal(chip.run(spikes(), 40), fresh.run(spikes(), 40))


def test_axonal_and_synaptic_chips_agree() -> None:
    network = random_network(AXONAL)
    with Chip(AXONAL) as axonal, Chip(CFG) as synaptic:
        for chip in (axonal, synaptic):
            chip.load(network)
        assert equal(axonal.run(spikes(), 40), synaptic.run(spikes(), 40))


def test_a_delay_of_the_inputs_is_a_later_input() -> None:
    later = np.arange(10)[:, None]
    network = random_network(CFG, delays=[later, 0])
    times = np.random.default_rng(1).integers(-1, 15, (20, 10))
    shifted = np.where(times < 0, -1, times + later[:, 0])
    with Chip(CFG) as delayed, Chip(CFG) as prompt:
        delayed.load(network)
        prompt.load(network.replace(delays=None))
        a = delayed.run(Events.from_times(times), 40, record="raster")
        b = prompt.run(Events.from_times(shifted), 40, record="raster")
    assert a.counts[1].any()
    assert all(np.array_equal(x, y) for x, y in zip(a.raster, b.raster, strict=True))


def test_samples_end_with_the_last_first_spike_of_the_outputs() -> None:
    raster = spikes(30).to_dense(25, 10)
    raster[::3, 6:] = False
    x = Events.from_dense(raster)
    with Chip(CFG) as chip:
        chip.load(random_network(CFG, biases=[-10, -20]))
        whole, early = chip.run(x, 40), chip.run(x, 40, early_end=True)
        fired = (whole.first_spike[1] >= 0).all(axis=1)
        assert 0 < fired.sum() < 30
        assert whole.steps.tolist() == [40] * 30
        assert whole.steps.dtype == early.steps.dtype == np.int64
        assert np.array_equal(early.steps, np.where(fired, whole.first_spike[1].max(axis=1) + 1, 40))
        assert np.array_equal(early.first_spike[1], whole.first_spike[1])
        assert np.array_equal(early.cycles < whole.cycles, early.steps < 40)
        assert chip.stats.timesteps == 30 * 40 + int(early.steps.sum())
        recorded = chip.run(x, 40, record=["raster"], early_end=True)
        assert recorded.steps.tolist() == [40] * 30
        assert recorded.raster[1].shape == (30, 40, 3)
        # What would have come after the end did not happen, and the register does not stay set.
        assert int(sum(counts.sum() for counts in early.counts)) < int(sum(counts.sum() for counts in whole.counts))
        assert equal(chip.run(x, 40), whole)
        assert chip.run(Events([], []), 40, early_end=True).steps.shape == (0,)


def test_samples_of_plain_chips_end_early_and_learning_ones_do_not() -> None:
    cfg = ChipConfig((10, 7, 3), lanes=4, learning=True)
    weights = random_network(CFG).weights
    with Chip(cfg) as chip:
        chip.load(Network(weights, thresholds=1000))
        out = chip.run(np.full((2, 10), 255), 50, early_end=True)
        assert np.array_equal(out.steps, out.first_spike[1].max(axis=1) + 1)
        assert out.steps.max() < 50
        chip.load(Network(weights, fire=("threshold", "winner"), noise="flat", noise_shift=8))
        learned = chip.learn(np.full((2, 10), 255), [0, 1], 50)
        assert learned.steps.tolist() == [50, 50]
        assert learned.winners.sum(axis=1).tolist() == [50, 50]


def test_a_restarted_backend_gets_its_delays_back() -> None:
    class Died(RuntimeError):
        pass

    class Mortal:
        """A golden chip that dies when told to."""

        died = (Died,)
        dies = False

        def __init__(self) -> None:
            self.restart()

        def restart(self) -> None:
            self.inner = GoldenChip(CFG)

        def exchange(self, words: np.ndarray) -> np.ndarray:
            if self.dies:
                self.dies = False
                raise Died("killed by a test")
            return self.inner.exchange(words)

        def close(self) -> None:
            pass

    backend, network = Mortal(), random_network(CFG)
    with Chip(CFG, backend=backend) as chip, Chip(CFG) as safe:
        for each in (chip, safe):
            each.load(random_network(CFG, seed=4))
            each.run(spikes(), 40, early_end=True)
            each.load(network)
        backend.dies = True
        with pytest.warns(RuntimeWarning, match="killed by a test"):
            out = chip.run(spikes(), 40, early_end=True)
        assert equal(out, safe.run(spikes(), 40, early_end=True))
        assert all(np.array_equal(a, b) for a, b in zip(chip.delays(), network.delays, strict=True))
