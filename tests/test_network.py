"""Networks: defaults, validation, files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from host import Network
from host.errors import NetworkError
from rtl.config import ChipConfig

W = [np.arange(6).reshape(3, 2), np.array([[1, -1], [2, -2]])]


def test_defaults_reach_every_layer_and_neuron() -> None:
    network = Network(W)
    assert network.layers == (3, 2, 2)
    assert network.constants["decay_syn"] == (1024, 1024)
    assert network.constants["decay_mem"] == (256, 256)
    assert network.constants["shift"] == (4, 4)
    assert network.reset == ("subtract", "subtract")
    assert network.fire == ("threshold", "threshold")
    assert network.noise == ("none", "none")
    for name in ("fire_bits", "noise_shift", "gradient_bits", "rate", "forward_shift"):
        assert network.constants[name] == (0, 0)
    assert [values.tolist() for values in network.thresholds] == [[8192, 8192]] * 2
    assert [values.tolist() for values in network.biases] == [[0, 0]] * 2
    network.check(ChipConfig((3, 2, 2)))


def test_constants_per_layer_and_neuron() -> None:
    network = Network(
        W, thresholds=[5, [6, 7]], biases=3, decay_syn=(1, 2), reset=["zero", "none"], fire_once=[0 == 0, False]
    )
    assert [values.tolist() for values in network.thresholds] == [[5, 5], [6, 7]]
    assert [values.tolist() for values in network.biases] == [[3, 3], [3, 3]]
    assert network.constants["decay_syn"] == (1, 2)
    assert network.reset == ("zero", "none")
    assert network.fire_once == (True, False)
    assert network.replace(biases=3) == network
    assert network.replace(shift=1) != network


def test_a_network_owns_its_arrays() -> None:
    matrix = np.ones((2, 2), np.int32)
    network = Network([matrix])
    matrix[0, 0] = 9
    assert network.weights[0][0, 0] == 1


BAD: list[tuple[dict[str, Any], str]] = [
    ({"weights": []}, "list of 1 to 7"),
    ({"weights": np.ones((2, 2), int)}, "list of 1 to 7"),
    ({"weights": [np.ones((2, 2))]}, r"weights\[0\] must be integers, got float64"),
    ({"weights": [[[1, 2], [3]]]}, "unequal length"),
    ({"weights": [[1, 2]]}, r"shape \(2,\): must be \(n_pre, n_post\)"),
    ({"weights": [np.ones((2, 0), int)]}, "must be"),
    ({"weights": [W[0], W[0]]}, "3 rows: must be the 2 columns"),
    ({"weights": [[[1 << 40]]]}, "at most 32 bits"),
    ({"weights": [[[float("nan")]]]}, "integers"),
    ({"thresholds": 1.5}, "thresholds.0. must be integers"),
    ({"thresholds": [1, 2, 3]}, "each of the 2 layers"),
    ({"thresholds": [[1, 2, 3], 4]}, r"shape \(3,\)"),
    ({"biases": [1, [True, False]]}, "integers, got bool"),
    ({"decay_syn": 4097}, "decay_syn = 4097: must be an integer from 0 to 4096"),
    ({"decay_mem": [1, 2, 3]}, "decay_mem has 3 values: must be one, or one for each of the 2 layers"),
    ({"decay_mem": 0.5}, "decay_mem = 0.5"),
    ({"shift": -1}, "from 0 to 15"),
    ({"refractory": True}, "refractory = True"),
    ({"reset": "soft"}, "'soft': must be one of none, zero, subtract"),
    ({"fire_once": 1}, "fire_once = 1: must be True or False"),
    ({"fire": "always"}, "fire = 'always': must be one of threshold, stochastic, winner"),
    ({"fire": ["winner"]}, "fire has 1 values"),
    ({"noise": "pink"}, "'pink': must be one of none, flat, gumbel"),
    ({"fire_bits": 17}, "fire_bits = 17: must be an integer from 0 to 16"),
    ({"noise_shift": 16}, "noise_shift = 16: must be an integer from 0 to 15"),
    ({"gradient_bits": -1}, "gradient_bits = -1: must be an integer from 0 to 16"),
    ({"rate": 65537}, "rate = 65537: must be an integer from 0 to 65536"),
    ({"rate": 0.5}, "rate = 0.5: must be an integer from 0 to 65536"),
    ({"forward_shift": 8}, "forward_shift = 8: must be an integer from 0 to 7"),
    ({"delays": -1}, r"delays\[0\] holds values from -1 to -1: must be 0 or more"),
    ({"delays": [0, [[0, 3], [-2, 0]]]}, r"delays\[1\] holds values from -2 to 3: must be 0 or more"),
    ({"delays": 1.0}, r"delays\[0\] must be integers, got float64"),
    ({"delays": True}, "must be integers, got bool"),
    ({"delays": "slow"}, "must be integers"),
    ({"delays": [1, 2, 3]}, "delays must be one integer, or one entry for each of the 2 layers"),
    ({"delays": {0: 1}}, "each of the 2 layers"),
    ({"delays": [np.zeros((2, 3), int), 0]}, r"delays\[0\] has shape \(2, 3\): must be .* broadcast to \(3, 2\)"),
    ({"delays": [np.zeros((1, 3, 2), int), 0]}, r"shape \(1, 3, 2\): must be .* broadcast to \(3, 2\)"),
    ({"delays": [[[1, 2], [3]], 0]}, "unequal length"),
    ({"delays": 1 << 40}, "at most 32 bits"),
]


@pytest.mark.parametrize(("changes", "message"), BAD)
def test_wrong_networks_are_refused_in_a_sentence(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(NetworkError, match=message) as caught:
        Network(**{"weights": W, **changes})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"weights": [W[0] * 100, W[1]]}, r"weights\[0\] holds values from 0 to 500: must be from -128 to 127"),
        ({"thresholds": 1 << 20}, "thresholds"),
        ({"biases": 40_000}, "biases"),
        ({"reset_amount": 1 << 20}, "16 state bits"),
        ({"weights": W[:1]}, "layers"),
    ],
)
def test_check_against_a_chip(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(NetworkError, match=message):
        Network(**{"weights": W, **changes}).check(ChipConfig((3, 2, 2), state_bits=16))


@pytest.mark.parametrize(("value", "at"), [(0, (0, 0)), (2, (2, 1)), (-2, (1, 0)), (127, (0, 1)), (-(1 << 31), (2, 0))])
@pytest.mark.parametrize("layer", [0, 1])
def test_binary_weights_are_nothing_but_one_and_minus_one(value: int, at: tuple[int, int], layer: int) -> None:
    cfg = ChipConfig((3, 3, 2), binary_weights=True)
    network = Network([np.where(np.eye(3), -1, 1), np.where(np.eye(3, 2), 1, -1)])
    network.check(cfg)
    network.weights[layer][at] = value
    message = rf"weights\[{layer}\] holds {value}: must be -1 or 1 on a chip with binary weights .*, that of 0 as 1\)"
    with pytest.raises(NetworkError, match=message) as caught:
        network.check(cfg)
    assert "\n" not in str(caught.value)


LEARNING: dict[str, Any] = {
    "fire": ("stochastic", "winner"), "fire_bits": (9, 0), "noise": ["none", "gumbel"], "noise_shift": (0, 7),
    "gradient_bits": (6, 3), "rate": (65536, 1), "forward_shift": 2,
}  # fmt: skip


@pytest.mark.parametrize("name", LEARNING)
def test_learning_options_need_a_chip_with_learning(name: str) -> None:
    network = Network(W, **{name: LEARNING[name]})
    network.check(ChipConfig((3, 2, 2), learning=True))
    with pytest.raises(NetworkError, match=rf"^{name} = \(.*: needs a chip with learning hardware") as caught:
        network.check(ChipConfig((3, 2, 2)))
    assert "\n" not in str(caught.value)


DELAYS = [[[1], [2], [0]], [[3, 0]]]


def test_delays_reach_every_synapse() -> None:
    assert [matrix.tolist() for matrix in Network(W).delays] == [[[0, 0]] * 3, [[0, 0]] * 2]
    assert Network(W, delays=np.int64(4)) == Network(W, delays=np.array(4)) == Network(W, delays=[4, 4])
    network = Network(W, delays=DELAYS)
    assert [matrix.tolist() for matrix in network.delays] == [[[1, 1], [2, 2], [0, 0]], [[3, 0], [3, 0]]]
    assert [matrix.dtype for matrix in network.delays] == [np.int32, np.int32]
    network.delays[0][0, 0] = 7  # its own array, of which no other element is a view
    assert network.delays[0].tolist() == [[7, 1], [2, 2], [0, 0]]
    assert network.replace(shift=4) == network != Network(W, delays=DELAYS)
    assert network.replace(delays=None) == Network(W)
    assert network.options()["delays"][0] is not network.delays[0]


def test_delays_must_fit_the_chip() -> None:
    network = Network(W, delays=DELAYS)
    network.check(ChipConfig((3, 2, 2), delay_slots=4))
    with pytest.raises(NetworkError, match=r"delays\[1\] holds values from 0 to 3: must be from 0 to 2"):
        network.check(ChipConfig((3, 2, 2), delay_slots=3))
    with pytest.raises(
        NetworkError, match=r"delays\[0\] holds .* 0 to 2: needs a chip with delays, ChipConfig\(delay_slots=3\), or"
    ):
        network.check(ChipConfig((3, 2, 2)))
    with pytest.raises(NetworkError, match=r"delays\[1\]\[0\] holds values from 0 to 3: must be one value.*per source"):
        network.check(ChipConfig((3, 2, 2), delay_slots=4, axonal_delays=True))
    network.replace(delays=[DELAYS[0], 3]).check(ChipConfig((3, 2, 2), delay_slots=4, axonal_delays=True))
    network.replace(delays=0).check(ChipConfig((3, 2, 2)))


def test_winner_is_for_the_last_layer() -> None:
    cfg = ChipConfig((3, 2, 2), learning=True)
    Network(W, fire=("threshold", "winner")).check(cfg)
    with pytest.raises(NetworkError, match="only the last layer can be 'winner'"):
        Network(W, fire="winner").check(cfg)
    Network(W[:1], fire="winner").check(ChipConfig((3, 2), learning=True))


def test_files_keep_everything(tmp_path: Path) -> None:
    network = Network(
        W, thresholds=[5, [6, 7]], biases=[[1, 2], 3], decay_syn=(1, 2), decay_mem=3, shift=(0, 15),
        reset=["none", "zero"], reset_amount=-4, refractory=255, fire_once=True, gate_centre=-1,
        gate_window=(2, 3), gate_at_threshold=[True, False], delays=DELAYS, **LEARNING,
    )  # fmt: skip
    path = tmp_path / "new" / "network.npz"
    network.save(path)
    assert Network.load(path) == network
    network.replace(shift=1, delays=1).save(path)
    assert Network.load(path) == network.replace(shift=1, delays=1)
    assert [entry.name for entry in path.parent.iterdir()] == ["network.npz"]


@pytest.mark.parametrize(
    ("version", "missing"), [(1, [*LEARNING, "delays_0", "delays_1"]), (2, ["delays_0", "delays_1"])]
)
def test_files_of_earlier_versions_are_read(tmp_path: Path, version: int, missing: list[str]) -> None:
    network, path = Network(W, shift=3, reset="zero"), tmp_path / "network.npz"
    network.save(path)
    with np.load(path) as file:
        content = {name: file[name] for name in file.files if name not in missing}
    np.savez(path, **{**content, "version": np.array(version)})
    assert Network.load(path) == network
    np.savez(path, **{**content, "version": np.array(version + 1)})  # a later version must be complete
    with pytest.raises(NetworkError, match="damaged"):
        Network.load(path)


def test_files_that_are_no_networks(tmp_path: Path) -> None:
    path = tmp_path / "network.npz"
    with pytest.raises(NetworkError, match="does not exist"):
        Network.load(path)
    Network(W).save(path)
    whole = path.read_bytes()
    for damaged in (b"", b"hello", whole[: len(whole) // 2], whole[:300] + bytes(40) + whole[340:]):
        path.write_bytes(damaged)
        with pytest.raises(NetworkError, match="damaged or not a saved network"):
            Network.load(path)
    np.savez(path, a=np.arange(3))
    with pytest.raises(NetworkError, match="not a saved network"):
        Network.load(path)
    np.savez(path, kind=np.array("spikeloop network"), version=np.array(99))
    with pytest.raises(NetworkError, match="format version 99: this program reads versions 1 to 3"):
        Network.load(path)
    np.savez(path, kind=np.array("spikeloop network"), version=np.array(1), n_layers=np.array([{}], dtype=object))
    with pytest.raises(NetworkError, match="damaged or not a saved network"):
        Network.load(path)
    np.save(tmp_path / "plain.npy", np.arange(3))
    with pytest.raises(NetworkError, match="not a saved network"):
        Network.load(tmp_path / "plain.npy")
