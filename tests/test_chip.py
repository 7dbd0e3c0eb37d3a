"""The driver on the golden model: results, partial writes, errors, restarts."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, replace
from typing import Any

import numpy as np
import pytest
from golden_reference import make_frame

from host import Chip, Die, Events, Network
from host.chip import sample_seeds
from host.errors import BackendError, ChipError, ChipMismatch, DieError, EventsError, LinkError, NetworkError, UserError
from host.link import LAST, frame, frames
from pymodel import GoldenChip
from rtl.config import ChipConfig
from rtl.registers import Opcode, Region

CFG = ChipConfig((10, 7, 3), lanes=4)
LEARNING = ChipConfig((10, 7, 5, 3), lanes=4, weight_bits=6, learning=True)


def random_network(cfg: ChipConfig = CFG, seed: int = 0, **constants: Any) -> Network:
    rng = np.random.default_rng(seed)
    low, high = cfg.weight_range
    options = {
        "weights": [rng.integers(low, high + 1, shape) for shape in cfg.shapes],
        "thresholds": [rng.integers(500, 5000, size) for size in cfg.neuron_layers],
        "biases": [rng.integers(-20, 20, size) for size in cfg.neuron_layers],
    }
    return Network(**{**options, **constants})


def images(n: int = 12, cfg: ChipConfig = CFG, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (n, cfg.n_in)).astype(np.uint8)


def learning_network(seed: int = 0, **options: Any) -> Network:
    rng = np.random.default_rng(seed)
    return Network(
        **{
            "weights": [rng.integers(-8, 9, shape) for shape in LEARNING.shapes],
            "thresholds": 0, "decay_syn": 4096, "decay_mem": 4096, "shift": 0, "reset": "none",
            "gate_centre": 16, "gate_window": 32, "fire": ("stochastic", "stochastic", "winner"), "fire_bits": 5,
            "noise": "flat", "noise_shift": 3, "gradient_bits": 3, "rate": 1 << 16,
            **options,
        }
    )  # fmt: skip


@pytest.fixture
def chip() -> Chip:
    chip = Chip(CFG)
    chip.load(random_network())
    return chip


@pytest.fixture
def learner() -> Chip:
    chip = Chip(LEARNING)
    chip.load(learning_network())
    return chip


LABELS = np.arange(12) % 3
EVERYTHING = ("raster", "gate", "gradient")


def equal(a: Any, b: Any) -> bool:
    return all(
        np.array_equal(x, y)
        for name in ("counts", "first_spike", "raster", "gate", "positive", "negative", "gradient")
        for x, y in zip(getattr(a, name), getattr(b, name), strict=True)
    ) and all(
        np.array_equal(getattr(a, name), getattr(b, name))
        for name in ("potential_sum", "winners", "cycles", "input_spikes")
    )


def same_weights(a: Chip, b: Chip) -> bool:
    """The two chips hold the same weights, and each host knows what its chip holds."""
    return all(
        np.array_equal(x, y)
        for other in (b.weights(), a.network.weights, b.network.weights)
        for x, y in zip(a.weights(), other, strict=True)
    )


class Recorder:
    """A golden chip that remembers its traffic, and can be told to die."""

    class Died(RuntimeError):
        pass

    died = (Died,)

    def __init__(self, cfg: ChipConfig, deaths: int = 0) -> None:
        self.cfg, self.deaths = cfg, deaths
        self.sent: list[np.ndarray] = []
        self.closed = False
        self.restart()

    def restart(self) -> None:
        self.inner = GoldenChip(self.cfg)

    def exchange(self, words: np.ndarray) -> np.ndarray:
        if self.deaths and len(self.sent) > 1:
            self.deaths -= 1
            raise Recorder.Died("killed by a test")
        self.sent.append(words)
        return self.inner.exchange(words)

    def close(self) -> None:
        self.closed = True


def test_output_has_the_documented_shapes_and_agrees_with_the_rasters(chip: Chip) -> None:
    out = chip.run(images(), steps=20, seed=4, encoding="bernoulli", record=("raster", "gate"))
    for layer, size in enumerate(CFG.neuron_layers):
        assert out.counts[layer].dtype == out.first_spike[layer].dtype == np.int32
        assert out.raster[layer].dtype == out.gate[layer].dtype == bool
        assert out.raster[layer].shape == out.gate[layer].shape == (12, 20, size)
        assert np.array_equal(out.raster[layer].sum(axis=1), out.counts[layer])
        first = np.where(out.raster[layer].any(axis=1), out.raster[layer].argmax(axis=1), -1)
        assert np.array_equal(first, out.first_spike[layer])
        assert 0 < out.gate[layer].mean() < 1
    assert out.counts[0].min() == 0
    assert out.counts[1].max() > 0
    assert out.potential_sum.shape == out.winners.shape == (12, 3)
    assert out.potential_sum.dtype == np.int64
    assert out.winners.dtype == np.int32
    assert not out.winners.any()
    assert out.cycles.shape == out.input_spikes.shape == (12,)
    plain = chip.run(images(), steps=20, seed=4, encoding="bernoulli")
    assert plain.raster == plain.gate == []
    assert all(np.array_equal(a, b) for a, b in zip(plain.counts, out.counts, strict=True))


def test_stats_count_what_the_outputs_say(chip: Chip) -> None:
    a, b = chip.run(images(5), 10), chip.run(images(3), 4)
    outs = (a, b)
    stats = chip.stats
    assert (stats.samples, stats.timesteps) == (8, 62)
    assert stats.cycles == sum(int(out.cycles.sum()) for out in outs)
    assert stats.spikes == sum(int(counts.sum()) for out in outs for counts in out.counts)
    assert stats.synaptic_ops == sum(int(7 * out.input_spikes.sum() + 3 * out.counts[0].sum()) for out in outs)
    stats.reset()
    assert set(stats.to_dict().values()) == {0}


def test_events_of_a_raster_give_what_the_raster_says(chip: Chip) -> None:
    raster = np.random.default_rng(2).random((6, 15, 10)) < 0.3
    out = chip.run(Events.from_dense(raster), steps=15)
    assert np.array_equal(out.input_spikes, raster.sum(axis=(1, 2)))
    # The rate code of full intensity as events: same spikes.
    x = np.full((1, 10), 255, np.uint8)
    rate = chip.run(x, 40, record=["raster"])
    t = np.arange(40)
    dense = np.repeat(((128 + 255 * (t + 1)) >> 8 != (128 + 255 * t) >> 8)[None, :, None], 10, axis=2)
    assert np.array_equal(chip.run(Events.from_dense(dense), 40, record=["raster"]).raster[0], rate.raster[0])


def test_a_sample_depends_on_its_seed_alone(chip: Chip) -> None:
    x = images(6)
    out = chip.run(x, 10, seed=9, encoding="bernoulli")
    assert equal(out, chip.run(x, 10, seed=9, encoding="bernoulli"))
    assert not equal(out, chip.run(x, 10, seed=10, encoding="bernoulli"))
    given = chip.run(x[::-1], 10, encoding="bernoulli", seeds=sample_seeds(9, 6)[::-1])
    assert np.array_equal(given.counts[0][::-1], out.counts[0])
    assert np.array_equal(sample_seeds(9, 6)[2:], sample_seeds(9, 4, first=2))
    assert len(np.unique(np.concatenate([sample_seeds(seed, 1000) for seed in range(20)]))) > 19_990


def test_large_batches_are_cut_without_a_trace(chip: Chip, monkeypatch: pytest.MonkeyPatch) -> None:
    x = images(700)
    whole = chip.run(x, 5, seed=3, encoding="bernoulli", record=["gate"])
    monkeypatch.setattr("host.chip.CHUNK_SAMPLES", 300)
    assert equal(chip.run(x, 5, seed=3, encoding="bernoulli", record=["gate"]), whole)
    events = Events.from_dense(np.random.default_rng(0).random((700, 5, 10)) < 0.2)
    cut = chip.run(events, 5)
    monkeypatch.undo()
    assert equal(chip.run(events, 5), cut)


def test_no_samples_give_empty_arrays(chip: Chip) -> None:
    out = chip.run(np.zeros((0, 10), np.uint8), 5, record=["raster"])
    assert out.counts[0].shape == (0, 7)
    assert out.raster[1].shape == (0, 5, 3)
    assert len(chip.run(Events([], []), 5).cycles) == 0


# ---- samples encoded once ---------------------------------------------------------------------------------------


PRESENTATIONS: list[tuple[str, Any, dict[str, Any]]] = [
    ("rate", images(), {}),
    ("bernoulli", images(), {"encoding": "bernoulli", "seed": 4, "record": ["raster", "gate"]}),
    ("seeds", images(2), {"encoding": "bernoulli", "seeds": [7, 9], "record": "gate"}),
    ("events", Events.from_dense(np.random.default_rng(2).random((6, 9, 10)) < 0.3), {"record": "raster"}),
    ("early end", np.full((3, 10), 255), {"early_end": True}),
    ("brief", images(), {"record": "raster", "potentials": False}),
    ("nothing", np.zeros((0, 10), np.uint8), {"record": "raster"}),
]


@pytest.mark.parametrize(("x", "options"), [row[1:] for row in PRESENTATIONS], ids=[row[0] for row in PRESENTATIONS])
def test_encoded_samples_give_what_run_gives_for_every_network(x: Any, options: dict[str, Any]) -> None:
    with Chip(CFG) as chip, Chip(CFG) as plain:
        encoded = chip.encode(x, 9, **options)
        assert len(encoded) == len(x)
        assert encoded.steps == 9
        for seed in range(3):
            network = random_network(seed=seed, thresholds=600)
            chip.load(network)
            plain.load(network)
            expected = plain.run(x, 9, **options)
            assert equal(chip.run_encoded(encoded), expected)
            # Whatever was shown between, and by any chip of the configuration.
            chip.run(images(3), 5, encoding="bernoulli")
            assert equal(chip.run_encoded(encoded), expected)
            assert equal(plain.run_encoded(encoded), expected)
        assert plain.stats.samples == 6 * len(x)


def test_an_answer_without_potentials_is_shorter_and_else_the_same(chip: Chip) -> None:
    chip.load(random_network(thresholds=600))
    whole, brief = chip.run(images(), 9, record="raster"), chip.run(images(), 9, record="raster", potentials=False)
    assert whole.potential_sum.any()
    assert brief.potential_sum.shape == (len(images()), 0)
    assert equal(whole, replace(brief, potential_sum=whole.potential_sum))
    assert np.array_equal(chip.run(images(), 9).potential_sum, whole.potential_sum)
    short, long = (chip.encode(images(), 9, potentials=value).answer_length for value in (False, True))
    assert long - short == 2 * chip.cfg.n_out


def test_frames_of_encoded_samples_are_built_once(chip: Chip, monkeypatch: pytest.MonkeyPatch) -> None:
    built = []

    def counting(opcode: Opcode, seeds: np.ndarray, *rest: Any) -> np.ndarray:
        built.append(len(seeds))
        return frames(opcode, seeds, *rest)

    monkeypatch.setattr("host.chip.frames", counting)
    monkeypatch.setattr("host.chip.CHUNK_SAMPLES", 5)
    encoded = chip.encode(images(12), 6)
    assert built == [5, 5, 2]
    first = chip.run_encoded(encoded)
    assert equal(chip.run_encoded(encoded), first)
    assert built == [5, 5, 2]
    assert equal(chip.run(images(12), 6), first)
    assert built == [5, 5, 2] * 2


def test_run_builds_the_frames_of_one_exchange_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    log = []

    class Watcher(Recorder):
        def exchange(self, words: np.ndarray) -> np.ndarray:
            log.append("sent")
            return super().exchange(words)

    def logged(*arguments: Any) -> np.ndarray:
        log.append("built")
        return frames(*arguments)

    monkeypatch.setattr("host.chip.CHUNK_SAMPLES", 4)
    monkeypatch.setattr("host.chip.frames", logged)
    with Chip(CFG, backend=Watcher(CFG)) as chip:
        chip.load(random_network())
        log.clear()
        chip.run(images(12), 5)
    assert log == ["built", "sent"] * 3


def test_encoded_samples_survive_a_dead_backend() -> None:
    recorder = Recorder(CFG)
    with Chip(CFG, backend=recorder) as chip:
        encoded = chip.encode(images(), 8)
        chip.load(random_network())
        expected = chip.run_encoded(encoded)
        recorder.deaths = 1
        with pytest.warns(RuntimeWarning, match="killed by a test") as caught:
            assert equal(chip.run_encoded(encoded), expected)
        assert caught[0].filename == __file__


def test_encoded_samples_of_another_chip_are_refused_in_a_sentence(chip: Chip) -> None:
    with Chip(ChipConfig((10, 7, 3), lanes=8)) as other:
        encoded = other.encode(images(), 5)
    before = chip.stats.to_dict()
    with pytest.raises(
        UserError, match=r"encoded is for a chip .*lanes=8.*: must be made by encode\(\) of a chip .*lanes=4"
    ):
        chip.run_encoded(encoded)
    with pytest.raises(UserError, match=r"encoded has type ndarray: must be what Chip.encode returns"):
        chip.run_encoded(images())  # type: ignore[arg-type]
    with pytest.raises(FrozenInstanceError):
        encoded.cfg = CFG  # type: ignore[misc]
    assert chip.stats.to_dict() == before
    with Chip(CFG) as empty:
        ready = empty.encode(images(), 5)
        with pytest.raises(UserError, match="no network is loaded"):
            empty.run_encoded(ready)


BAD_SAMPLES: list[tuple[Any, dict[str, Any], str]] = [
    (np.zeros((2, 11), int), {}, r"shape \(2, 11\): must be \(n_samples, 10\)"),
    (np.zeros((2, 10)), {}, "float64: must be integers"),
    (images(), {"steps": 0}, "steps = 0: must be an integer from 1 to 65534"),
    (images(), {"seed": -1}, "seed = -1"),
    (images(), {"seeds": [1]}, "seeds has type"),
    (images(), {"encoding": "morse"}, "'morse': must be one of rate, bernoulli"),
    (images(), {"record": "gradient"}, r"only learn\(\) has gradients"),
    (images(), {"early_end": 1}, "early_end = 1: must be True or False"),
    (images(), {"potentials": None}, "potentials = None: must be True or False"),
    (Events([[5]], [[0]]), {}, "time step 5: must be below steps = 5"),
    (
        Events([np.arange(1100) // 10], [np.arange(1100) % 10]),
        {"steps": 200},
        "1100 events: the chip takes at most 1022",
    ),
]


@pytest.mark.parametrize(("x", "options", "message"), BAD_SAMPLES)
def test_wrong_samples_are_refused_in_a_sentence_when_they_are_encoded(
    chip: Chip, x: Any, options: dict[str, Any], message: str
) -> None:
    arguments = {"steps": 5, **options}
    for call in (chip.encode, chip.run):
        with pytest.raises(UserError, match=message) as caught:
            call(x, **arguments)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("bits", [2, 3, 5, 8, 10, 16])
@pytest.mark.parametrize("lanes", [4, 32])
def test_weights_come_back_as_written(bits: int, lanes: int) -> None:
    cfg = ChipConfig((5, 33, 4), lanes=lanes, weight_bits=bits)
    network = random_network(cfg)
    with Chip(cfg) as chip:
        chip.load(network)
        assert all(np.array_equal(a, b) for a, b in zip(chip.weights(), network.weights, strict=True))


def test_partial_writes_equal_loading_the_whole_network() -> None:
    rng = np.random.default_rng(5)
    die = Die(2, 1.0, noise=30)
    with Chip(CFG, die=die) as changed, Chip(CFG, die=die) as fresh:
        changed.load(random_network())
        for _ in range(10):
            layer = int(rng.integers(2))
            n_pre, n_post = CFG.shapes[layer]
            rows, cols = rng.integers(0, n_pre, 4), rng.integers(0, n_post, 4)
            changed.update(layer, rows, cols, rng.integers(-128, 128, 4))
            changed.update_neurons(layer, rng.integers(0, n_post, 2), thresholds=rng.integers(500, 5000, 2))
            changed.update_neurons(layer, biases=rng.integers(-30, 30, n_post))
            fresh.load(changed.network)
            assert equal(changed.run(images(), 12, seed=1), fresh.run(images(), 12, seed=1))
        other = random_network(seed=8, shift=2, reset="zero", refractory=(1, 2), fire_once=[True, False])
        changed.load(other)
        assert changed.network == other
        with Chip(CFG, die=die) as new:
            new.load(other)
            assert equal(changed.run(images(), 12, seed=1), new.run(images(), 12, seed=1))


def test_only_what_changed_is_sent_and_with_the_next_run() -> None:
    recorder = Recorder(CFG)
    with Chip(CFG, backend=recorder) as chip:
        network = random_network()
        chip.load(network)
        chip.run(images(), 8)
        chip.run(images(), 8)
        runs_alone = len(recorder.sent[-1])
        n_exchanges = len(recorder.sent)
        chip.update(0, [1, 2], [3, 3], [int(network.weights[0][1, 3]), int(network.weights[0][2, 3]) ^ 1])
        chip.update(1, 0, 0, int(network.weights[1][0, 0]) ^ 1)
        assert len(recorder.sent) == n_exchanges
        chip.run(images(), 8)
        assert len(recorder.sent) == n_exchanges + 1
        assert len(recorder.sent[-1]) == runs_alone + 3 + 2 * 2
        chip.load(chip.network)
        chip.flush()
        assert len(recorder.sent[-1]) == 4
    assert recorder.closed


def test_the_last_of_several_values_for_a_weight_counts(chip: Chip) -> None:
    chip.update(0, [3, 3, 3], [2, 2, 2], [5, 6, 7])
    assert chip.weights()[0][3, 2] == chip.network.weights[0][3, 2] == 7


def test_a_dead_backend_is_restarted_and_loses_nothing() -> None:
    recorder = Recorder(CFG)
    die = Die(1, 1.0)
    with Chip(CFG, backend=recorder, die=die) as chip, Chip(CFG, die=die) as safe:
        for each in (chip, safe):
            each.load(random_network())
            each.run(images(), 8)
            each.update(0, 1, 1, 99)
        recorder.deaths = 1
        with pytest.warns(RuntimeWarning, match="killed by a test"):
            out = chip.run(images(), 8, seed=2, encoding="bernoulli")
        assert equal(out, safe.run(images(), 8, seed=2, encoding="bernoulli"))
        recorder.deaths = 2
        with pytest.raises(Recorder.Died), pytest.warns(RuntimeWarning):
            chip.run(images(), 8)


def test_the_chip_must_be_the_one_of_the_configuration() -> None:
    with pytest.raises(ChipMismatch, match="register LANES holds 8, expected 4"):
        Chip(CFG, backend=Recorder(ChipConfig((10, 7, 3), lanes=8)))


class Liar(Recorder):
    """Answers to RUN are changed by a function."""

    def __init__(self, cfg: ChipConfig, change: Any) -> None:
        super().__init__(cfg)
        self.change = change

    def exchange(self, words: np.ndarray) -> np.ndarray:
        answer = super().exchange(words)
        return self.change(answer) if len(self.sent) > 2 else answer


def flip_crc(words: np.ndarray) -> np.ndarray:
    return words ^ np.eye(1, len(words), len(words) - 1, dtype=np.uint64)[0]


def refuse(words: np.ndarray) -> np.ndarray:
    lasts = np.flatnonzero(words >> np.uint64(32))
    answer = frame(Opcode(0x10), 0, np.zeros(0, np.uint32))[:0]
    import zlib

    header = np.array([0x90 << 24 | 4], np.uint32)
    crc = zlib.crc32(header.tobytes())
    return np.concatenate([answer, np.array([int(header[0]), crc | LAST], np.uint64), words[lasts[0] + 1 :]])


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (flip_crc, LinkError, "wrong CRC"),
        (lambda words: words[:-30], LinkError, "expected"),
        (lambda words: words[:0], LinkError, "0 answers"),
        (refuse, ChipError, "RUN .seed 0x.*BAD_ADDRESS: there is no such region"),
    ],
)
def test_answers_that_are_none_are_refused(change: Any, error: type[Exception], message: str) -> None:
    with Chip(CFG, backend=Liar(CFG, change)) as chip:
        chip.load(random_network())
        chip.run(images(), 8)
        with pytest.raises(error, match=message):
            chip.run(images(), 8)


def test_a_refused_write_is_named(chip: Chip) -> None:
    chip._post(Opcode.WRITE, Region.WEIGHT << 24 | 0xFFFFF, np.zeros(1, np.int64), 10)
    with pytest.raises(ChipError, match=r"refused WRITE at WEIGHT \+ 0xFFFFF with BAD_ADDRESS: "):
        chip.flush()
    chip.run(images(), 3)


# ---- learning ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lengths", [[5, 5, 5], [4, 0, 2], []])
def test_the_label_precedes_the_payload(lengths: list[int]) -> None:
    rng = np.random.default_rng(0)
    payloads = [rng.integers(0, 1 << 32, n).astype(np.uint32) for n in lengths]
    labels, seeds = np.arange(3, dtype=np.uint32)[: len(lengths)], np.arange(7, 10, dtype=np.uint32)[: len(lengths)]
    flat = np.concatenate([np.zeros(0, np.uint32), *payloads])
    got = frames(Opcode.LEARN, seeds, flat, np.array(lengths, np.int64), 255, labels)
    expected = [
        make_frame(Opcode.LEARN, int(seed), [int(label), *payload.tolist()], (255 + k) % 256)
        for k, (seed, label, payload) in enumerate(zip(seeds, labels, payloads, strict=True))
    ]
    assert got.tolist() == [word for words in expected for word in words]


def test_learning_is_what_the_recorded_spikes_say(learner: Chip) -> None:
    raster = np.random.default_rng(3).random((12, 15, 10)) < 0.4
    weights = [matrix.astype(int) for matrix in learner.network.weights]
    out = learner.learn(Events.from_dense(raster), LABELS, 15, seed=2, record=EVERYTHING)
    for layer, size in enumerate(LEARNING.neuron_layers):
        gradient = out.gradient[layer]
        assert gradient.shape == (12, 15, size)
        assert gradient.dtype == np.int8
        assert np.array_equal((gradient == 1).sum(axis=1), out.positive[layer])
        assert np.array_equal((gradient == -1).sum(axis=1), out.negative[layer])
        assert out.positive[layer].dtype == out.negative[layer].dtype == np.int32
        assert np.array_equal(out.raster[layer].sum(axis=1), out.counts[layer])
        if layer < 2:
            assert not (gradient[~out.gate[layer]]).any()
    # Errors are one winner and one label, wherever they differ.
    winner = out.raster[2].argmax(axis=2)
    assert (out.raster[2].sum(axis=2) == 1).all()
    assert np.array_equal(out.winners, out.counts[2])
    expected = np.eye(3, dtype=int)[winner] - np.eye(3, dtype=int)[LABELS][:, None]
    assert np.array_equal(out.gradient[2], expected)
    # At rate 1 every coincidence of a spike and a gradient spike is a step of one.
    sources = [raster, *out.raster[:2]]
    for sample in range(12):
        for t in range(15):
            for layer, (source, gradient) in enumerate(zip(sources, out.gradient, strict=True)):
                weights[layer] = np.clip(
                    weights[layer] - np.outer(source[sample, t], gradient[sample, t]), *LEARNING.weight_range
                )
    for learned, matrix in zip(learner.network.weights, weights, strict=True):
        assert np.array_equal(learned, matrix)
    assert learner.stats.gradient_spikes == sum(int(np.abs(gradient.astype(int)).sum()) for gradient in out.gradient)
    plain = learner.run(Events.from_dense(raster), 15)
    assert plain.positive == plain.negative == plain.gradient == []
    assert np.array_equal(plain.winners.sum(axis=1), np.full(12, 15))


def test_learned_weights_are_known_to_the_host() -> None:
    with Chip(LEARNING) as chip, Chip(LEARNING) as other:
        chip.load(learning_network())
        before = chip.network
        chip.learn(images(), LABELS, 10)
        after = chip.network
        assert after != before
        assert after == before.replace(weights=after.weights)
        assert all(np.array_equal(a, b) for a, b in zip(chip.weights(), after.weights, strict=True))
        other.load(after)
        chip.update(0, [1, 2], 3, 7)
        other.update(0, [1, 2], 3, 7)
        assert same_weights(chip, other)
        assert equal(chip.learn(images(), LABELS, 10, seed=1), other.learn(images(), LABELS, 10, seed=1))
        assert same_weights(chip, other)
        chip.load(before)
        other.load(before)
        assert same_weights(chip, other)


def test_only_the_chosen_layers_learn(learner: Chip) -> None:
    before = learner.network
    frozen = learner.learn(images(), LABELS, 10, layers=(), record="gradient")
    assert learner.network == before
    assert all(np.array_equal(a, b) for a, b in zip(learner.weights(), before.weights, strict=True))
    assert frozen.positive[0].any()
    assert equal(learner.learn(images(), LABELS, 10, layers=(), record="gradient"), frozen)
    learner.learn(images(), LABELS, 10, layers=[1])
    changed = [not np.array_equal(a, b) for a, b in zip(learner.network.weights, before.weights, strict=True)]
    assert changed == [False, True, False]
    assert learner.network == before.replace(weights=learner.weights())


def test_a_rate_of_zero_changes_nothing(learner: Chip) -> None:
    learner.load(learning_network(rate=0))
    out = learner.learn(images(), LABELS, 10)
    assert out.positive[0].any()
    assert learner.network == learning_network(rate=0)


def test_learning_in_several_exchanges_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    with Chip(LEARNING) as whole, Chip(LEARNING) as cut:
        for each in (whole, cut):
            each.load(learning_network())
        expected = whole.learn(images(), LABELS, 10, seed=5, encoding="bernoulli", record=EVERYTHING)
        monkeypatch.setattr("host.chip.CHUNK_SAMPLES", 5)
        found = cut.learn(images(), LABELS, 10, seed=5, encoding="bernoulli", record=EVERYTHING)
        assert equal(found, expected)
        assert same_weights(whole, cut)
        assert cut.learn(np.zeros((0, 10), np.uint8), [], 10, record=EVERYTHING).gradient[0].shape == (0, 10, 7)


@pytest.mark.parametrize("late", [False, True], ids=["before it learned", "after it learned"])
def test_a_backend_that_dies_while_learning_loses_nothing(late: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    class Mortal(Recorder):
        """Dies in the second exchange of LEARN frames."""

        learned = 0

        def exchange(self, words: np.ndarray) -> np.ndarray:
            opcodes = (words[[0, *(np.flatnonzero(words >> np.uint64(32))[:-1] + 1)]] >> np.uint64(24)) & np.uint64(
                0xFF
            )
            self.learned += bool((opcodes == Opcode.LEARN).any())
            dies = self.learned == 2
            answer = super().exchange(words) if late or not dies else words
            if dies:
                self.learned += 1
                raise Recorder.Died("killed by a test")
            return answer

    monkeypatch.setattr("host.chip.CHUNK_SAMPLES", 4)
    with Chip(LEARNING, backend=Mortal(LEARNING)) as chip, Chip(LEARNING) as safe:
        for each in (chip, safe):
            each.load(learning_network())
            each.update(2, 1, 1, 5)
        expected = safe.learn(images(), LABELS, 10, seed=2, record=EVERYTHING)
        with pytest.warns(RuntimeWarning, match="killed by a test"):
            found = chip.learn(images(), LABELS, 10, seed=2, record=EVERYTHING)
        assert equal(found, expected)
        assert same_weights(chip, safe)
        assert equal(chip.run(images(), 10), safe.run(images(), 10))
        assert chip.stats == safe.stats


def test_an_interrupted_exchange_of_learning_never_happened(monkeypatch: pytest.MonkeyPatch) -> None:
    class Impatient(Recorder):
        """Ctrl-C arrives when the chip has learned and before the answer is there."""

        armed = False

        def exchange(self, words: np.ndarray) -> np.ndarray:
            answer = super().exchange(words)
            if self.armed:
                self.armed = False
                raise KeyboardInterrupt
            return answer

    backend = Impatient(LEARNING)
    with Chip(LEARNING, backend=backend) as chip, Chip(LEARNING) as safe:
        for each in (chip, safe):
            each.load(learning_network())
        chip.flush()
        backend.armed = True
        with pytest.raises(KeyboardInterrupt):
            chip.learn(images(), LABELS, 10)
        assert chip.network == learning_network()
        assert equal(chip.learn(images(), LABELS, 10), safe.learn(images(), LABELS, 10))
        assert same_weights(chip, safe)


def test_a_refused_label_is_named(learner: Chip, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Chip, "_labels", lambda self, labels, n: np.asarray(labels, np.uint32))
    with pytest.raises(ChipError, match=r"refused LEARN \(seed 0x.*\) with BAD_LABEL: the label is no output neuron"):
        learner.learn(images(1), [3], 10)
    assert learner.network == learning_network()


BAD_LEARNING: list[tuple[str, Any, str]] = [
    ("missing", lambda c: c.learn(images(), None, 5), "labels are missing: must be 12 integers from 0 to 2"),
    ("few", lambda c: c.learn(images(), LABELS[:-1], 5), r"shape \(11,\): must be 12 integers"),
    ("many", lambda c: c.learn(images(1), [0, 1], 5), r"shape \(2,\): must be 1 integers"),
    ("column", lambda c: c.learn(images(), LABELS[:, None], 5), r"shape \(12, 1\)"),
    ("float", lambda c: c.learn(images(), LABELS / 1.0, 5), "type float64"),
    ("nan", lambda c: c.learn(images(), np.full(12, np.nan), 5), "type float64"),
    ("bool", lambda c: c.learn(images(), LABELS > 0, 5), "type bool"),
    ("text", lambda c: c.learn(images(), list("abcabcabcabc"), 5), "must be 12 integers"),
    ("ragged", lambda c: c.learn(images(), [[1], [1, 2]], 5), "unequal length"),
    ("negative", lambda c: c.learn(images(), LABELS - 1, 5), "values from -1 to 1: must be 12 integers from 0 to 2"),
    ("large", lambda c: c.learn(images(), LABELS + 1, 5), "values from 1 to 3: must be 12 integers from 0 to 2"),
    ("layer", lambda c: c.learn(images(), LABELS, 5, layers=[3]), "layer = 3: must be an integer from 0 to 2"),
    ("layers", lambda c: c.learn(images(), LABELS, 5, layers=1), "layers = 1: must be None or a sequence"),
    ("layers text", lambda c: c.learn(images(), LABELS, 5, layers="0"), "layer = '0'"),
    ("steps", lambda c: c.learn(images(), LABELS, 0), "steps = 0"),
    ("encoding", lambda c: c.learn(images(), LABELS, 5, encoding="x"), "encoding = 'x'"),
    ("record", lambda c: c.learn(images(), LABELS, 5, record="x"), "'x': must be among raster, gate, gradient"),
    ("run", lambda c: c.run(images(), 5, record="gradient"), r"'gradient': only learn\(\) has gradients"),
    ("events", lambda c: c.learn(Events([[5]], [[0]]), [0], 5), "time step 5"),
]


@pytest.mark.parametrize(("call", "message"), [row[1:] for row in BAD_LEARNING], ids=[row[0] for row in BAD_LEARNING])
def test_wrong_calls_of_learn_are_refused_in_a_sentence(call: Any, message: str) -> None:
    recorder = Recorder(LEARNING)
    with Chip(LEARNING, backend=recorder) as learner:
        learner.load(learning_network())
        learner.flush()
        sent = len(recorder.sent)
        with pytest.raises(UserError, match=message) as caught:
            call(learner)
        assert "\n" not in str(caught.value)
        assert len(recorder.sent) == sent
        assert learner.network == learning_network()


def test_chips_and_networks_that_cannot_learn(chip: Chip, learner: Chip) -> None:
    with pytest.raises(UserError, match=r"no learning hardware: learn\(\) needs ChipConfig\(learning=True\)"):
        chip.learn(images(), LABELS, 5)
    with pytest.raises(NetworkError, match="needs a chip with learning hardware"):
        chip.load(random_network(rate=1))
    learner.load(learning_network(fire="threshold", noise="none"))
    with pytest.raises(UserError, match="last layer's fire = 'threshold': must be 'winner'"):
        learner.learn(images(), LABELS, 5)
    with pytest.raises(NetworkError, match="only the last layer can be 'winner'"):
        learner.load(learning_network(fire="winner"))


BAD_CALLS: list[tuple[str, Any, type[Exception], str]] = [
    ("float x", lambda c: c.run(np.zeros((2, 10)), 5), UserError, "float64: must be integers"),
    ("wide x", lambda c: c.run(np.zeros((2, 11), int), 5), UserError, r"\(2, 11\): must be \(n_samples, 10\)"),
    ("large x", lambda c: c.run(np.full((2, 10), 256), 5), UserError, "0 to 255"),
    ("negative x", lambda c: c.run(np.full((2, 10), -1), 5), UserError, "0 to 255"),
    ("ragged x", lambda c: c.run([[1], [1, 2]], 5), UserError, "unequal length"),
    ("text x", lambda c: c.run("abc", 5), UserError, "must be"),
    ("steps 0", lambda c: c.run(images(), 0), UserError, "steps = 0: must be an integer from 1 to 65534"),
    ("steps float", lambda c: c.run(images(), 2.0), UserError, "steps = 2.0"),
    ("steps bool", lambda c: c.run(images(), True), UserError, "steps = True"),
    ("steps long", lambda c: c.run(images(), 65535), UserError, "steps = 65535"),
    ("seed", lambda c: c.run(images(), 5, seed=-1), UserError, "seed = -1"),
    ("seeds", lambda c: c.run(images(), 5, seeds=[1]), UserError, "seeds has type"),
    ("seeds large", lambda c: c.run(images(1), 5, seeds=[1 << 32]), UserError, "must be from 0"),
    ("encoding", lambda c: c.run(images(), 5, encoding="morse"), UserError, "'morse': must be one of rate, bernoulli"),
    ("record", lambda c: c.run(images(), 5, record="membrane"), UserError, "'membrane': must be among raster, gate"),
    ("late event", lambda c: c.run(Events([[5]], [[0]]), 5), EventsError, "time step 5: must be below steps = 5"),
    ("far event", lambda c: c.run(Events([[0]], [[10]]), 5), EventsError, "input 10: must be below the chip's 10"),
    ("load", lambda c: c.load([1]), NetworkError, "must be a Network"),
    ("layers", lambda c: c.load(Network([[[1]]])), NetworkError, r"layers \(1, 1\): must be the chip's \(10, 7, 3\)"),
    ("layer", lambda c: c.update(2, 0, 0, 1), UserError, "layer = 2: must be an integer from 0 to 1"),
    ("row", lambda c: c.update(0, 10, 0, 1), NetworkError, "rows holds values from 10 to 10: must be from 0 to 9"),
    ("column", lambda c: c.update(0, 0, -1, 1), NetworkError, "cols"),
    ("value", lambda c: c.update(0, 0, 0, 128), NetworkError, "from -128 to 127"),
    ("value float", lambda c: c.update(0, 0, 0, 1.5), NetworkError, "integers"),
    ("shapes", lambda c: c.update(0, [1, 2], [1, 2, 3], 1), NetworkError, "broadcast"),
    ("threshold", lambda c: c.update_neurons(0, thresholds=1 << 23), NetworkError, "thresholds holds"),
    ("bias", lambda c: c.update_neurons(0, 7, biases=1), NetworkError, "neurons holds"),
]


@pytest.mark.parametrize(
    ("call", "error", "message"), [row[1:] for row in BAD_CALLS], ids=[row[0] for row in BAD_CALLS]
)
def test_wrong_calls_are_refused_in_a_sentence_and_change_nothing(
    chip: Chip, call: Any, error: type[Exception], message: str
) -> None:
    before, out = chip.network, chip.run(images(), 5)
    with pytest.raises(error, match=message) as caught:
        call(chip)
    assert isinstance(caught.value, UserError)
    assert "\n" not in str(caught.value)
    assert chip.network == before
    assert equal(chip.run(images(), 5), out)


def test_opening_a_chip_the_wrong_way() -> None:
    with pytest.raises(BackendError, match="'fpga': must be \"golden\""):
        Chip(CFG, backend="fpga")
    with pytest.raises(BackendError, match="there is no serial port /dev/nowhere"):
        Chip(CFG, backend="serial:/dev/nowhere")
    with pytest.raises(BackendError, match="no options"):
        Chip(CFG, waves=True)
    with pytest.raises(BackendError, match="exchange"):
        Chip(CFG, backend=3)  # type: ignore[arg-type]
    with pytest.raises(DieError, match="die_tables = True"):
        Chip(ChipConfig((2, 2), die_tables=False), die=Die(0, 1.0))
    with pytest.raises(UserError, match="must be a ChipConfig"):
        Chip((2, 2))  # type: ignore[arg-type]
    chip = Chip(CFG)
    with pytest.raises(UserError, match="no network is loaded"):
        chip.run(images(), 5)
    chip.close()
    chip.close()
    with pytest.raises(UserError, match="closed"):
        chip.run(images(), 5)
    with pytest.raises(UserError, match="closed"):
        chip.weights()
