"""The driver of chips with binary weights: the bit plane on the link, single flips, what is refused, what it costs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from host import Chip, Network
from host.encoding import input_spikes
from host.errors import ChipError, NetworkError
from pymodel import GoldenChip
from rtl.config import ChipConfig
from rtl.registers import Opcode, Region

SHAPES = [(64, 128), (64, 128, 128), (20, 64, 64), (784, 256), (784, 256, 10)]


def binary(*layers: int, lanes: int = 32) -> ChipConfig:
    return ChipConfig(layers, lanes=lanes, binary_weights=True)


def random_network(cfg: ChipConfig, seed: int = 0, **options: Any) -> Network:
    rng = np.random.default_rng(seed)
    weights = [2 * rng.integers(0, 2, shape) - 1 for shape in cfg.shapes]
    return Network(weights, **{"thresholds": 300, "biases": -3, **options})


def flipped(network: Network, n: int, seed: int = 1) -> Network:
    """`network` with `n` other weights."""
    flat = np.concatenate([matrix.ravel() for matrix in network.weights])
    flat[np.random.default_rng(seed).choice(len(flat), n, replace=False)] *= -1
    parts = np.split(flat, np.cumsum([matrix.size for matrix in network.weights])[:-1])
    return network.replace(weights=[p.reshape(m.shape) for p, m in zip(parts, network.weights, strict=True)])


class Listener:
    """A golden chip whose frames are kept: opcode, address and payload of each."""

    died = (RuntimeError,)

    def __init__(self, cfg: ChipConfig) -> None:
        self.cfg = cfg
        self.heard: list[tuple[int, int, np.ndarray]] = []
        self.words = 0
        self.dies = False
        self.restart()

    def restart(self) -> None:
        self.inner = GoldenChip(self.cfg)

    def exchange(self, words: np.ndarray) -> np.ndarray:
        if self.dies:
            self.dies = False
            raise RuntimeError("killed by a test")
        self.words += len(words)
        for frame in np.split(words.astype(np.uint32), np.flatnonzero(words >> np.uint64(32))[:-1] + 1):
            self.heard.append((int(frame[0]) >> 24, int(frame[1]), frame[2:-1]))
        return self.inner.exchange(words)

    def close(self) -> None: ...

    def take(self) -> list[tuple[int, int, np.ndarray]]:
        """Frames since the last call that write weights."""
        taken, self.heard, self.words = self.heard, [], 0
        return [frame for frame in taken if frame[0] == Opcode.PLANE or self._writes_weights(*frame)]

    @staticmethod
    def _writes_weights(opcode: int, address: int, payload: np.ndarray) -> bool:
        if opcode == Opcode.SCATTER:
            return int(payload[0]) >> 24 == Region.WEIGHT
        return opcode == Opcode.WRITE and address >> 24 == Region.WEIGHTS


def rows_of(frames: list[tuple[int, int, np.ndarray]], cfg: ChipConfig) -> dict[int, list[int]]:
    """Rows of the bit plane that PLANE frames write, read as ``docs/link.md`` says."""
    sizes = [n_post for n_pre, n_post in cfg.shapes for _ in range(n_pre)]
    found = {}
    for _, row, payload in frames:
        bits = [int(word) >> k & 1 for word in payload for k in range(32)]
        # The last word has a bit of the plane.
        assert sum(sizes[row:]) > 32 * (len(payload) - 1)
        while row < cfg.n_sources and sizes[row] <= len(bits):
            found[row], bits = bits[: sizes[row]], bits[sizes[row] :]
            row += 1
    return found


def same(a: list[np.ndarray], b: list[np.ndarray]) -> bool:
    return all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))


@pytest.mark.parametrize("lanes", [4, 16, 32, 128])
@pytest.mark.parametrize("layers", [(5, 33, 4), (64, 128), (3, 1, 2, 7)])
def test_weights_come_back_as_written(layers: tuple[int, ...], lanes: int) -> None:
    cfg = binary(*layers, lanes=lanes)
    network = random_network(cfg)
    with Chip(cfg) as chip:
        chip.load(network)
        assert same(chip.weights(), network.weights)
        assert [matrix.dtype for matrix in chip.weights()] == [np.int32] * len(cfg.shapes)
        assert same(chip.network.weights, network.weights)


@pytest.mark.parametrize("lanes", [4, 64])
@pytest.mark.parametrize("layers", [(5, 33, 4), (64, 128, 3), (784, 256, 10), (1100, 1100)])
def test_a_load_writes_every_row_of_the_plane(layers: tuple[int, ...], lanes: int) -> None:
    cfg = binary(*layers, lanes=lanes)
    network, listener = random_network(cfg), Listener(cfg)
    with Chip(cfg, backend=listener) as chip:
        chip.load(network)
        chip.flush()
        frames = listener.take()
    assert {opcode for opcode, _, _ in frames} == {Opcode.PLANE}
    assert max(len(payload) for _, _, payload in frames) <= cfg.max_payload
    expected = [(row < 0).astype(int).tolist() for matrix in network.weights for row in matrix]
    assert rows_of(frames, cfg) == dict(enumerate(expected))


@pytest.mark.parametrize("lanes", [32, 64, 128])
@pytest.mark.parametrize("layers", SHAPES)
def test_a_full_load_costs_the_words_of_the_plane_and_at_most_five_percent(layers: tuple[int, ...], lanes: int) -> None:
    cfg = binary(*layers, lanes=lanes)
    network, listener = random_network(cfg), Listener(cfg)
    most = 1.05 * -(-cfg.n_synapses // 32)
    with Chip(cfg, backend=listener) as chip:
        chip.load(network)
        chip.flush()
        # Header, address and CRC of every frame.
        assert sum(len(payload) + 3 for _, _, payload in listener.take()) <= most
        chip.load(flipped(network, cfg.n_synapses // 2))
        chip.flush()
        without_flush = listener.words - 4
        assert {opcode for opcode, _, _ in listener.take()} == {Opcode.PLANE}
        assert without_flush <= most


@pytest.mark.parametrize("lanes", [4, 32, 128])
@pytest.mark.parametrize("layers", [(20, 64, 64), (9, 33, 7, 5), (784, 256, 10)])
def test_what_is_sent_is_never_longer_than_flips_or_than_the_plane(layers: tuple[int, ...], lanes: int) -> None:
    cfg = binary(*layers, lanes=lanes)
    listener, network = Listener(cfg), random_network(cfg)
    plane = -(-cfg.n_synapses // 32)
    with Chip(cfg, backend=listener) as chip:
        chip.load(network)
        opcodes = set()
        for n in (0, 1, plane // 4, plane // 2, plane, cfg.n_synapses):
            chip.flush()
            listener.take()
            network = flipped(network, n, seed=n)
            chip.load(network)
            chip.flush()
            frames = listener.take()
            sent = sum(len(payload) for _, _, payload in frames)
            opcodes |= {opcode for opcode, _, _ in frames}
            # Rounded up to whole words once for every frame.
            assert sent <= min(2 * n, plane + len(frames))
            assert (sent == 0) == (n == 0)
            assert same(chip.weights(), network.weights)
    assert opcodes == {Opcode.SCATTER, Opcode.PLANE}


def test_only_rows_between_the_first_and_the_last_change_are_sent() -> None:
    cfg = binary(20, 50, 13, lanes=32)
    network, listener = random_network(cfg), Listener(cfg)
    with Chip(cfg, backend=listener) as chip:
        chip.load(network)
        chip.flush()
        listener.take()
        weights = [matrix.copy() for matrix in network.weights]
        weights[0][18:] *= -1
        weights[1][:4] *= -1
        chip.load(network.replace(weights=weights))
        chip.flush()
        ((opcode, row, payload),) = listener.take()
        assert (opcode, row, len(payload)) == (Opcode.PLANE, 18, -(-(2 * 50 + 4 * 13) // 32))
        assert same(chip.weights(), weights)


def test_rows_that_no_frame_can_hold_go_the_other_way() -> None:
    cfg = binary(3, 33_000, lanes=128)
    network, listener = random_network(cfg), Listener(cfg)
    assert cfg.n_out > 32 * cfg.max_payload
    with Chip(cfg, backend=listener) as chip:
        for each in (network, flipped(network, 40_000)):
            chip.load(each)
            chip.flush()
            assert {opcode for opcode, _, _ in listener.take()} == {Opcode.WRITE}
            assert same(chip.weights(), each.weights)


def test_updates_equal_loading_the_whole_network() -> None:
    cfg, rng = binary(10, 7, 3, lanes=4), np.random.default_rng(5)
    x = rng.integers(0, 256, (12, 10))
    with Chip(cfg) as changed, Chip(cfg) as fresh:
        changed.load(random_network(cfg, thresholds=30, biases=0))
        assert changed.run(x, 12).counts[1].any()
        for _ in range(10):
            layer = int(rng.integers(2))
            rows, cols = (rng.integers(0, size, 4) for size in cfg.shapes[layer])
            changed.update(layer, rows, cols, 2 * rng.integers(0, 2, 4) - 1)
            fresh.load(changed.network)
            assert same(changed.run(x, 12).counts, fresh.run(x, 12).counts)
            assert same(changed.weights(), changed.network.weights)


def test_an_update_sends_two_words_for_a_flip_and_none_for_what_is_there() -> None:
    cfg = binary(10, 7, 3, lanes=4)
    network, listener = random_network(cfg), Listener(cfg)
    with Chip(cfg, backend=listener) as chip:
        chip.load(network)
        chip.flush()
        listener.take()
        there = network.weights[1]
        chip.update(1, [0, 5], [1, 2], [-there[0, 1], there[5, 2]])
        chip.flush()
        ((opcode, _, payload),) = listener.take()
        element = cfg.weight_base[1] * cfg.lanes + 1
        assert (opcode, payload.tolist()) == (Opcode.SCATTER, [Region.WEIGHT << 24 | element, int(there[0, 1] > 0)])


@pytest.mark.parametrize("value", [0, 2, -128, 1 << 40])
def test_other_weights_are_refused_and_change_nothing(value: int) -> None:
    cfg = binary(10, 7, 3, lanes=4)
    network = random_network(cfg)
    with Chip(cfg) as chip:
        chip.load(network)
        with pytest.raises(NetworkError, match=f"update values holds {value}: must be -1 or 1 on a chip with binary"):
            chip.update(0, [0, 1], [0, 1], [1, value])
        wrong = network.replace(weights=[matrix.copy() for matrix in network.weights])
        wrong.weights[1][6, 2] = min(value, 127)
        with pytest.raises(NetworkError, match=rf"weights\[1\] holds {min(value, 127)}: must be -1 or 1"):
            chip.load(wrong)
        assert chip.network == network
        assert same(chip.weights(), network.weights)


def test_a_dead_backend_gets_the_plane_again() -> None:
    cfg = binary(20, 64, 64)
    listener, network = Listener(cfg), random_network(cfg)
    with Chip(cfg, backend=listener) as chip:
        chip.load(network)
        chip.update(0, 3, 4, -int(network.weights[0][3, 4]))
        expected = chip.weights()
        listener.dies = True
        with pytest.warns(RuntimeWarning, match="killed by a test"):
            assert same(chip.weights(), expected)
        assert same(chip.network.weights, expected)


def test_a_refused_plane_is_named_by_its_row() -> None:
    cfg = binary(10, 7, 3, lanes=4)
    with Chip(cfg) as chip:
        chip.load(random_network(cfg))
        chip._posted.append((Opcode.PLANE, 17, np.zeros(1, np.uint32)))
        with pytest.raises(
            ChipError, match="refused PLANE from row 17 on with BAD_ADDRESS: there is no such region or"
        ):
            chip.flush()
        assert same(chip.weights(), random_network(cfg).weights)


def test_wide_lanes_are_busy_nine_cycles_in_ten() -> None:
    cfg, steps, rng = binary(784, 256, lanes=64), 25, np.random.default_rng(0)
    # As many bright pixels, as bright, as in MNIST on average.
    x = np.where(rng.random((40, 784)) < 0.19, rng.integers(90, 256, (40, 784)), 0).astype(np.uint8)
    assert x.mean() == pytest.approx(33, abs=1)
    with Chip(cfg) as chip:
        chip.load(random_network(cfg))
        out = chip.run(x, steps)
        ops = chip.stats.synaptic_ops / (cfg.lanes * chip.stats.cycles)
    spikes = input_spikes(cfg, x, steps).sum(axis=2)
    encoder = cfg.in_words + 3
    walks = np.maximum(cfg.words[0] * spikes + 7, np.where(np.arange(steps) < steps - 1, encoder, 0))
    assert np.array_equal(out.cycles, cfg.pixel_words + encoder + walks.sum(axis=1))
    assert ops >= 0.95
