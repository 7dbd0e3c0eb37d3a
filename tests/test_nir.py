"""Graphs of NIR: what the host writes it reads back, and what other frameworks write runs on the chip or is refused."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import nir
import numpy as np
import pytest
from numpy.typing import NDArray
from typer.testing import CliRunner

from host import Chip, Events, Network, cli, export_nir, import_nir, nir_io
from host.errors import NirError
from host.nir_io import ConversionReport
from rtl.config import ChipConfig

DT = 1e-3


# ---- files of the host itself ---------------------------------------------------------------------------------------

DELAYS = ("none", "axonal", "dendritic", "synaptic", "equal")
SYNAPSES = ((1024, 256), (4096, 300), (4096, 0), (0, 4096), (1, 4095), (700, 0))


def random_network(rng: np.random.Generator, kind: str, synapse: tuple[int, int], learning: bool = False) -> Network:
    """A network that is busy, with everything that chips without learning know (or with it)."""
    layers = [int(size) for size in rng.integers(1, 9, rng.integers(2, 5))]
    shapes = list(pairwise(layers))
    shape_of: dict[str, Callable[[int, int], tuple[int, int]]] = {
        "none": lambda pre, post: (0, 0), "axonal": lambda pre, post: (pre, 1),
        "dendritic": lambda pre, post: (1, post), "synaptic": lambda pre, post: (pre, post),
        "equal": lambda pre, post: (1, 1),
    }  # fmt: skip
    delays = [0 if kind == "none" else rng.integers(0, 8, shape_of[kind](*shape)) for shape in shapes]
    n = len(shapes)

    def each(*values: Any) -> list[Any]:
        return [values[index] for index in rng.integers(0, len(values), n)]

    more: dict[str, Any] = {}
    if learning:
        more = {"fire": ["stochastic"] * (n - 1) + ["winner"], "fire_bits": 9, "noise": "gumbel", "noise_shift": 7}
        more |= {"gradient_bits": 5, "rate": 300, "forward_shift": each(0, 2)}
    return Network(
        [rng.integers(-40, 128, shape) * (rng.random(shape) < 0.8) for shape in shapes],
        thresholds=[rng.integers(100, 3000, post) for _, post in shapes],
        biases=[rng.integers(-20, 60, post) * rng.integers(0, 2) for _, post in shapes],
        decay_syn=synapse[0], decay_mem=synapse[1], shift=each(0, 4, 6), reset=each("none", "zero", "subtract"),
        reset_amount=each(-5, 3000), refractory=each(0, 3), fire_once=each(True, False), gate_centre=each(7, -8),
        gate_window=each(100, 200), gate_at_threshold=each(True, False), delays=delays, **more,
    )  # fmt: skip


def spikes(network: Network, cfg: ChipConfig, seed: int = 0, steps: int = 40) -> list[NDArray[np.bool_]]:
    with Chip(cfg) as chip:
        chip.load(network)
        x = np.random.default_rng(seed).integers(0, 256, (3, cfg.n_in))
        return chip.run(x, steps, record=["raster"]).raster


@pytest.mark.parametrize("synapse", SYNAPSES, ids=str)
@pytest.mark.parametrize("kind", DELAYS)
def test_a_file_gives_the_network_again(kind: str, synapse: tuple[int, int], tmp_path: Path) -> None:
    rng = np.random.default_rng([DELAYS.index(kind), *synapse])
    fired = 0
    for decay in nir_io.DECAYS:
        network = random_network(rng, kind, synapse)
        cfg = ChipConfig(network.layers, delay_slots=8, axonal_delays=kind in ("axonal", "equal"))
        path = tmp_path / "new" / "network.nir"
        graph = export_nir(network, path, dt=10 ** rng.uniform(-5, 1), decay=decay)
        for source in (path, str(path), graph):
            again, report = import_nir(source, cfg)
            assert again == network
            assert report.rating == "exact", str(report)
        rasters = zip(spikes(network, cfg), spikes(again, cfg), strict=True)
        for a, b in rasters:
            assert np.array_equal(a, b)
            fired += a.sum()
        assert [entry.name for entry in path.parent.iterdir()] == ["network.nir"]
    assert fired or synapse[0] == 1


def test_a_network_that_learns_comes_back() -> None:
    network = random_network(np.random.default_rng(5), "none", (1024, 256), learning=True)
    cfg = ChipConfig(network.layers, learning=True)
    assert import_nir(export_nir(network), cfg)[0] == network
    with pytest.raises(NirError, match="needs a chip with learning hardware"):
        import_nir(export_nir(network), ChipConfig(network.layers))
    with pytest.raises(NirError, match="fire at random, in units that change with weight_scale"):
        import_nir(export_nir(network), cfg, weight_scale="per-layer")


def test_wide_chips_come_back() -> None:
    rng = np.random.default_rng(1)
    network = Network(
        [rng.integers(-(1 << 15), 1 << 15, (5, 4))], thresholds=[rng.integers(-(1 << 31), (1 << 31) - 1, 4)],
        biases=[[-(1 << 15), (1 << 15) - 1, 1, 0]], shift=15, decay_syn=1, decay_mem=4095,
    )  # fmt: skip
    again, report = import_nir(export_nir(network), ChipConfig((5, 4), weight_bits=16, state_bits=32))
    assert again == network
    assert report.rating == "exact"


def test_words_of_nir_in_an_exported_graph() -> None:
    """The graph alone, without metadata, says the same: weights, time constants, thresholds, delays."""
    network = Network(
        [[[3, 0], [5, -7]], [[1], [2]], [[4]]], thresholds=[[64, 128], 100, 10], biases=[[0, 2], 0, 0],
        decay_syn=(1024, 4096, 4096), decay_mem=(256, 512, 0), shift=(2, 0, 0), reset="zero",
        delays=[[[1, 2], [3, 3]], [[0], [4]], 0],
    )  # fmt: skip
    graph = export_nir(network, dt=0.5)
    edges = set(graph.edges)
    assert {("input", "linear_0_1"), ("linear_0_1", "delay_0_1"), ("delay_0_1", "neurons_0")} <= edges
    assert {("neurons_0", "delay_1"), ("delay_1", "linear_1"), ("linear_1", "neurons_1")} <= edges
    assert {("neurons_1", "linear_2"), ("linear_2", "neurons_2"), ("neurons_2", "output")} <= edges
    unit = 128.0  # the power of two above the mean of 64 and 128
    assert graph.nodes["linear_0_1"].weight.tolist() == [[12 / unit, 0], [0, 0]]
    assert graph.nodes["linear_0_3"].weight.tolist() == [[0, 20 / unit], [0, -28 / unit]]
    assert graph.nodes["delay_0_3"].delay.tolist() == [1.5, 1.5]
    assert graph.nodes["affine_0_bias"].bias.tolist() == [0, 8 / unit]
    assert graph.nodes["delay_1"].delay.tolist() == [0, 2]
    first, second, third = (graph.nodes[f"neurons_{layer}"] for layer in range(3))
    assert (type(first), type(second), type(third)) == (nir.CubaLIF, nir.LIF, nir.IF)
    assert np.allclose(np.exp(-0.5 / first.tau_syn), 0.75)
    assert np.allclose(np.exp(-0.5 / first.tau_mem), 1 - 256 / 4096)
    assert np.allclose((1 - np.exp(-0.5 / first.tau_syn)) * first.w_in, 1)
    assert np.allclose((1 - np.exp(-0.5 / second.tau)) * second.r, 1)
    assert third.r.tolist() == [2.0]
    assert first.v_threshold.tolist() == [63.5 / unit, 127.5 / unit]
    euler = export_nir(network, dt=0.5, decay="euler").nodes["neurons_1"]
    assert np.allclose(euler.tau, 0.5 * 4096 / 512)

    for node in graph.nodes.values():
        node.metadata.clear()
    graph.metadata.clear()
    cfg = ChipConfig(network.layers, delay_slots=5)
    again, report = import_nir(graph, cfg, dt=0.5)
    rounded = {(item.node, item.item) for item in report.items if item.rating != "exact"}
    assert rounded <= {("neurons_0", "states"), ("neurons_2", "states"), ("neurons_2", "v_threshold")}
    assert [(a.tolist(), b.tolist()) for a, b in zip(again.weights, again.delays, strict=True)] == [
        ([[3, 0], [5, -7]], [[1, 0], [3, 3]]), ([[1], [2]], [[0], [4]]), ([[1]], [[0]])
    ]  # fmt: skip


def test_a_dendritic_delay_does_not_delay_the_bias() -> None:
    network = Network([[[3, 5]]], biases=[[1, 2]], delays=[[[0, 4]]])
    graph = export_nir(network)
    assert graph.nodes["affine_0_bias"].weight.tolist() == [[0], [0]]
    assert ("linear_0", "delay_0") in graph.edges
    assert import_nir(graph, ChipConfig((1, 2), delay_slots=5))[0] == network


def test_an_edited_file_is_taken_at_its_word() -> None:
    """Numbers come from the nodes; the metadata add only what nodes cannot say."""
    network = Network([[[100], [-50]]], reset="subtract", refractory=3)
    graph = export_nir(network)
    unit = 8192 / 16
    graph.nodes["linear_0"].weight[0, 0] = 20.25 / unit
    again, report = import_nir(graph, ChipConfig((2, 1)))
    assert again == network.replace(weights=[[[20], [-50]]])
    (weights,) = [item for item in report.items if item.item == "weights"]
    assert weights.rating == "rounded"
    assert weights.error_max == pytest.approx(0.25 / 50, rel=1e-4)
    assert weights.error_rms == pytest.approx(0.25 / 50 / np.sqrt(2), rel=1e-4)


def test_a_smaller_chip_gets_a_smaller_scale() -> None:
    network = Network([[[1000], [-333]]], reset="subtract", reset_amount=4096, shift=0)
    again, report = import_nir(export_nir(network), ChipConfig((2, 1), weight_bits=8))
    assert again.weights[0].tolist() == [[127], [-42]]
    scale = report.scales[0] / 8192
    assert again.constants["reset_amount"] == (round(4096 * scale),)
    assert again.thresholds[0] == pytest.approx(8191.5 * scale, abs=1)
    assert report.rating == "rounded"


def test_what_other_readers_do_not_see() -> None:
    network = Network([[[1]], [[1]]], reset=("zero", "subtract"), fire_once=(True, False), refractory=(0, 2))
    report = nir_io.export_report(network)
    assert [(item.node, item.item) for item in report.items if item.rating == "unsupported"] == [
        ("neurons_0", "fire_once"), ("neurons_1", "reset"), ("neurons_1", "refractory"),
    ]  # fmt: skip


# ---- files of other frameworks --------------------------------------------------------------------------------------


def full(size: int, value: float) -> NDArray[np.float32]:
    return np.full(size, value, np.float32)


def cuba(size: int, **changes: Any) -> nir.CubaLIF:
    values = {
        "tau_syn": 5e-3,
        "tau_mem": 20e-3,
        "r": 1.0,
        "v_leak": 0.0,
        "v_threshold": 1.0,
        "v_reset": 0.0,
        "w_in": 1.0,
    }
    values |= changes
    return nir.CubaLIF(**{name: np.broadcast_to(np.float32(value), size).copy() for name, value in values.items()})


def lif(size: int, **changes: Any) -> nir.LIF:
    values = {"tau": 20e-3, "r": 1.0, "v_leak": 0.0, "v_threshold": 1.0, "v_reset": 0.0} | changes
    return nir.LIF(**{name: np.broadcast_to(np.float32(value), size).copy() for name, value in values.items()})


def chain(*nodes: Any, n_in: int, n_out: int) -> nir.NIRGraph:
    named = {"input": nir.Input(np.array([n_in]))}
    named |= {f"n{index}": node for index, node in enumerate(nodes)}
    named["output"] = nir.Output(np.array([n_out]))
    names = list(named)
    return nir.NIRGraph(named, list(pairwise(names)), type_check=False)


def simulate(
    layers: list[dict[str, Any]], inputs: list[float], dt: float, steps: int, level: float = 1.0, fine: int = 50
) -> list[NDArray[np.float64]]:
    """First-spike times, in steps, of NIR's equations in continuous time (Euler at dt / fine); inputs spike once.

    `level` scales the thresholds. A layer: W, b, delay (n_post, n_pre), tau_syn, tau_mem, r, w_in.
    """
    h = dt / fine
    on = np.array(inputs)
    firsts = []
    for layer in layers:
        n_post, current, v, first = len(layer["W"]), 0.0, np.zeros(len(layer["W"])), np.full(len(layer["W"]), np.inf)
        arrival = on[None] + layer["delay"]
        for index in range(steps * fine):
            t = index * h
            s = (arrival <= t + h / 2) & (t + h / 2 < arrival + dt)
            x = (layer["W"] * s).sum(axis=1) + layer["b"]
            current = current + h / layer["tau_syn"] * (layer["w_in"] * x - current)
            v = v + h / layer["tau_mem"] * (layer["r"] * current - v)
            first = np.where((v > level) & np.isinf(first), t + h, first)
        firsts.append(first / dt)
        on = first
        assert n_post == len(first)
    return firsts


def test_a_foreign_network_spikes_when_its_equations_do(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    dt, steps = 0.5e-3, 160
    sizes = (6, 5, 3)
    W = [rng.uniform(0.2, 1.0, (5, 6)).astype(np.float32), rng.uniform(0.2, 1.0, (3, 5)).astype(np.float32)]
    b = [rng.uniform(0, 0.05, 5).astype(np.float32), np.zeros(3, np.float32)]
    axonal = (rng.integers(0, 20, 6) * dt).astype(np.float32)
    dendritic = (rng.uniform(0, 8, 3) * dt).astype(np.float32)
    r, w_in = np.array([28, 30, 32, 34, 26], np.float32), 2.0
    graph = chain(
        nir.Delay(axonal), nir.Affine(W[0], b[0]), cuba(5, r=r, w_in=w_in),
        nir.Linear(W[1]), nir.Delay(dendritic), cuba(3, tau_syn=8e-3, tau_mem=15e-3, r=60.0),
        n_in=6, n_out=3,
    )  # fmt: skip
    path = tmp_path / "foreign.nir"
    nir.write(path, graph)
    cfg = ChipConfig(sizes, weight_bits=12, delay_slots=32)
    network, report = import_nir(path, cfg, dt=dt)
    # First spikes count, so neurons fire once; a foreign graph cannot say so.
    network = network.replace(fire_once=True)
    times = np.arange(6) * 3
    with Chip(cfg) as chip:
        chip.load(network)
        found = chip.run(Events.from_times(times[None]), steps).first_spike

    layers = [
        {"W": W[0], "b": b[0], "delay": np.tile(axonal, (5, 1)), "tau_syn": 5e-3, "tau_mem": 20e-3, "r": r,
         "w_in": w_in},
        {"W": W[1], "b": 0.0, "delay": np.tile(dendritic[:, None], (1, 5)), "tau_syn": 8e-3, "tau_mem": 15e-3,
         "r": 60.0, "w_in": 1.0},
    ]  # fmt: skip
    error = sum(item.error_max for item in report.items if item.item not in ("delays", "states"))
    assert 0.001 < error < 0.05
    early, late = (simulate(layers, list(times * dt), dt, steps, level) for level in (1 - error, 1 + error))
    for layer in range(2):
        # Steps begin at their inputs and are not continuous: one step and a half each; the delays round by half a one.
        slack = 2 * (layer + 1)
        assert np.isfinite(late[layer]).all()
        assert (found[layer][0] >= early[layer] - 1 - slack).all(), (found, early)
        assert (found[layer][0] <= late[layer] - 1 + slack).all(), (found, late)
    assert late[1].max() - early[1].min() < 40

    # The report, from the equations.
    rated = {(item.node, item.item): item for item in report.items}
    gain = [
        -np.expm1(-dt / 5e-3) * w_in * -np.expm1(-dt / 20e-3) * r,
        -np.expm1(-dt / 8e-3) * -np.expm1(-dt / 15e-3) * 60,
    ]
    for layer, name in enumerate(("n2", "n5")):
        exact = W[layer] * np.broadcast_to(gain[layer], len(W[layer]))[:, None]
        scale = 2047 / exact.max()
        errors = (network.weights[layer].T - exact * scale) / 2047
        assert rated[name, "weights"].rating == "rounded"
        assert rated[name, "weights"].error_max == pytest.approx(np.abs(errors).max(), rel=1e-3)
        assert rated[name, "weights"].error_rms == pytest.approx(np.sqrt(np.mean(errors**2)), rel=1e-3)
        unit = scale * 2 ** network.constants["shift"][layer]
        assert report.scales[layer] == pytest.approx(unit)
        assert network.thresholds[layer] == pytest.approx(unit, abs=1)
    for item, tau, decay in (("tau_syn", 5e-3, "decay_syn"), ("tau_mem", 20e-3, "decay_mem")):
        exact = -4096 * np.expm1(-dt / tau)
        assert network.constants[decay][0] == round(exact)
        assert rated["n2", item].error_max == pytest.approx(abs(round(exact) - exact) / exact, rel=1e-2)
    assert rated["n2", "delays"].rating == "exact"
    steps_of = np.rint(dendritic / dt)
    assert np.array_equal(network.delays[1], np.tile(steps_of, (5, 1)))
    assert rated["n5", "delays"].error_max == pytest.approx(np.abs(steps_of * dt - dendritic).max() / dendritic.max())
    assert rated["n2", "v_reset"].rating == "exact"


def snntorch(beta: float, weights: list[Any], dt: float = 1e-4) -> nir.NIRGraph:
    """Leaky neurons as snnTorch writes them: single values, forward Euler, a Flatten in front."""
    tau = np.array([dt / (1 - beta)])
    nodes: list[Any] = [nir.Flatten(np.array([1, len(weights[0][0])]), start_dim=0)]
    for matrix in weights:
        nodes.append(nir.Linear(np.array(matrix, np.float32)))
        nodes.append(nir.LIF(tau=tau, r=tau / dt, v_leak=np.zeros(1), v_threshold=np.ones(1), v_reset=np.zeros(1)))
    return chain(*nodes, n_in=len(weights[0][0]), n_out=len(weights[-1]))


def test_graphs_like_those_of_snntorch(tmp_path: Path) -> None:
    """With ``euler`` decays come back to the last bit; weights on a grid stay exact."""
    rng = np.random.default_rng(8)
    weights = [rng.integers(-8, 17, (6, 9)) / 32, rng.integers(-8, 17, (4, 6)) / 16]
    path = tmp_path / "graph.nir"
    nir.write(path, snntorch(0.875, weights))
    cfg = ChipConfig((9, 6, 4))
    network, report = import_nir(path, cfg, dt=1e-4, decay="euler")
    rated = {(item.node, item.item): item.rating for item in report.items}
    assert {name for name, rating in rated.items() if rating != "exact"} <= {
        (node, item) for node in ("n2", "n4") for item in ("states", "v_threshold")
    }
    assert network.constants["decay_mem"] == (512, 512)
    assert network.constants["decay_syn"] == (4096, 4096)
    assert network.reset == ("zero", "zero")
    assert np.array_equal(network.weights[0].T, weights[0] * 32)

    x = rng.integers(0, 256, (1, 9))
    with Chip(cfg) as chip:
        chip.load(network)
        raster = [each[0] for each in chip.run(x, 60, record=["raster"]).raster]
    t = np.arange(60)[:, None]
    spikes = ((128 + x * (t + 1)) >> 8) != ((128 + x * t) >> 8)
    for matrix, found in zip(weights, raster, strict=True):
        mem, fired = np.zeros(len(matrix)), []
        for step in range(60):
            mem = 0.875 * mem + matrix @ spikes[step]
            fired.append(mem > 1)
            mem = np.where(fired[-1], 0, mem)
        assert np.array_equal(np.array(fired), found)
        assert found.any()
        spikes = found

    other, _ = import_nir(path, cfg, dt=1e-4)
    assert other.constants["decay_mem"] == (round(4096 * (1 - np.exp(-0.125))),) * 2


def test_v_leak_gains_and_thresholds_of_single_neurons() -> None:
    W = np.array([[1.0, 2.0], [4.0, 1.0]])
    node = lif(2, r=[1.0, 0.5], v_leak=[-65.0, -70.0], v_reset=[-65.0, -70.0], v_threshold=[-50.0, -60.0])
    network, report = import_nir(chain(nir.Linear(W), node, n_in=2, n_out=2), ChipConfig((2, 2)), dt=DT)
    assert network.weights[0].T.tolist() == [[1, 2], [2, 0]] or network.weights[0].T.tolist() == [[2, 4], [4, 1]]
    unit = report.scales[0]
    assert network.thresholds[0] == pytest.approx(np.array([15, 10]) * unit, abs=1)
    assert network.reset == ("zero",)


def test_integrate_and_fire_has_no_leak() -> None:
    node = nir.IF(r=full(1, 1 / DT), v_threshold=full(1, 3.0))
    network, report = import_nir(chain(nir.Linear(np.ones((1, 1))), node, n_in=1, n_out=1), ChipConfig((1, 1)), dt=DT)
    assert (network.constants["decay_syn"], network.constants["decay_mem"]) == ((4096,), (0,))
    with Chip(ChipConfig((1, 1))) as chip:
        chip.load(network)
        # 1, 2, 3, and above it in the fourth step.
        assert chip.run([[255]], 9, record=["raster"]).raster[0].ravel().nonzero()[0].tolist() == [3, 7]
    assert report.rating == "rounded"


@pytest.mark.parametrize("synapse", [False, True])
def test_a_leaky_integrator_at_the_end_is_read_as_potential(synapse: bool) -> None:
    values = {"r": full(2, 1.0), "v_leak": full(2, 0.0)}
    node = nir.CubaLI(full(2, 5e-3), full(2, 20e-3), **values) if synapse else nir.LI(full(2, 20e-3), **values)
    W = np.array([[0.5], [-1.0]])
    network, report = import_nir(chain(nir.Linear(W), node, n_in=1, n_out=2), ChipConfig((1, 2)), dt=DT)
    with Chip(ChipConfig((1, 2))) as chip:
        chip.load(network)
        out = chip.run(Events.from_times([[0]]), 30)
    assert not out.counts[0].any()
    a, c = np.exp(-DT / 20e-3), np.exp(-DT / 5e-3)
    v, current, total = 0.0, 0.0, 0.0
    for step in range(30):
        current = (c * current + (1 - c) * (step == 0)) if synapse else float(step == 0)
        v = a * v + (1 - a) * current
        total += v
    assert out.potential_sum[0] / report.scales[0] == pytest.approx(np.array([0.5, -1]) * total, rel=0.02)


def test_graphs_within_graphs_scales_and_sums() -> None:
    """A nested layer, a Scale, and two branches that add up at a synapse."""
    inner = chain(nir.Linear(np.array([[3.0, 1.0]])), lif(1), n_in=2, n_out=1)
    nodes = {
        "in": nir.Input(np.array([2])), "out": nir.Output(np.array([1])), "sub": inner,
        "half": nir.Scale(full(2, 0.5)), "a": nir.Affine(np.array([[1.0], [2.0]]), np.array([0.0, 1.0])),
        "b": nir.Linear(np.array([[1.0], [0.0]])), "x": lif(2),
    }  # fmt: skip
    edges = [("in", "half"), ("half", "sub"), ("sub", "a"), ("sub", "b"), ("a", "x"), ("b", "x"), ("x", "out")]
    nodes["out"] = nir.Output(np.array([2]))
    network, _ = import_nir(nir.NIRGraph(nodes, edges, type_check=False), ChipConfig((2, 1, 2)), dt=DT)
    assert network.weights[0].ravel().tolist() == [3, 1]
    assert network.weights[1].ravel().tolist() == [2, 2]
    assert network.biases[1].tolist() == [0, 1]


def test_scales_of_choice() -> None:
    graph = chain(nir.Linear(np.array([[1.0, 0.33]])), nir.IF(full(1, 1000.0), full(1, 5.0)), n_in=2, n_out=1)
    network, _ = import_nir(graph, ChipConfig((2, 1)), dt=DT, weight_scale=10)
    assert network.weights[0].ravel().tolist() == [10, 3]
    assert import_nir(graph, ChipConfig((2, 1)), dt=DT, weight_scale=[10])[0] == network
    assert import_nir(graph, ChipConfig((2, 1)), dt=DT)[0].weights[0].ravel().tolist() == [100, 33]
    with pytest.raises(NirError, match="weights of neurons 'n1' go from 66 to 200: the chip holds -128 to 127"):
        import_nir(graph, ChipConfig((2, 1)), dt=DT, weight_scale=200)


def test_states_fit() -> None:
    """Shifts are as large as currents and membranes allow."""
    graph = chain(nir.Linear(np.full((1, 784), 0.01)), cuba(1, r=100), n_in=784, n_out=1)
    for bits in (16, 24, 32):
        network, report = import_nir(graph, ChipConfig((784, 1), state_bits=bits), dt=DT)
        unit, top = report.scales[0], 1 << (bits - 1)
        assert unit <= top
        assert 16 * unit > top / 2 or network.constants["shift"] == (15,) or "cannot saturate" in str(report)


def test_the_report_is_a_table_and_plain() -> None:
    _, report = import_nir(snntorch(0.9, [[[0.3, 0.7]]]), ChipConfig((2, 1)), dt=1e-4)
    plain = json.loads(json.dumps(report.to_dict()))
    assert plain["rating"] == "rounded"
    assert plain["items"][0].keys() == {"node", "item", "rating", "reason", "error_max", "error_rms"}
    assert "tau_mem" in str(report)
    assert "Conversion: rounded (dt = 0.0001, decay exponential)" in str(report)
    assert ConversionReport(1.0, "euler").rating == "exact"


# ---- refusals -------------------------------------------------------------------------------------------------------

ONE = np.ones((1, 1))
W = nir.Linear(ONE)


def graph_of(nodes: dict[str, Any], *edges: tuple[str, str]) -> nir.NIRGraph:
    ends = {"in": nir.Input(np.array([1])), "out": nir.Output(np.array([1]))}
    return nir.NIRGraph(ends | nodes, list(edges), type_check=False)


def usual(*nodes: Any) -> nir.NIRGraph:
    return chain(*nodes, n_in=1, n_out=1)


def two_delays() -> nir.NIRGraph:
    nodes = {"a": W, "b": nir.Linear(3 * ONE), "d": nir.Delay(full(1, 4e-3)), "x": lif(1)}
    return graph_of(nodes, ("in", "a"), ("in", "b"), ("a", "d"), ("d", "x"), ("b", "x"), ("x", "out"))


def recurrent(to_itself: bool) -> nir.NIRGraph:
    nodes = {"w": W, "x": lif(1), "back": W}
    edges = [("in", "w"), ("w", "x"), ("x", "out"), ("x", "back"), ("back", "x" if to_itself else "w")]
    return graph_of(nodes, *edges)


def skipping() -> nir.NIRGraph:
    nodes = {"w": W, "x": lif(1), "u": W, "y": lif(1), "s": W}
    edges = [("in", "w"), ("w", "x"), ("x", "u"), ("u", "y"), ("y", "out"), ("in", "s"), ("s", "y")]
    return graph_of(nodes, *edges)


def without(name: str) -> nir.NIRGraph:
    graph = usual(W, lif(1))
    del graph.nodes[name]
    graph.edges = [edge for edge in graph.edges if name not in edge]
    return graph


def conv() -> nir.Conv2d:
    return nir.Conv2d((3, 3), np.ones((1, 1, 3, 3)), 1, 0, 1, 1, np.zeros(1))


TWO = ("in", "w"), ("w", "x"), ("x", "out"), ("in", "u"), ("u", "y"), ("y", "out")
REFUSED: list[tuple[Callable[[], nir.NIRGraph], dict[str, Any], str]] = [
    (lambda: usual(conv(), lif(1)), {}, "node 'n0' is a Conv2d, which the chip does not have: it can hold Input"),
    (lambda: usual(W, nir.Threshold(full(1, 1.0))), {}, "node 'n1' is a Threshold, which the chip does"),
    (lambda: usual(W, nir.I(full(1, 1.0))), {}, "node 'n1' is a I, which"),
    (lambda: recurrent(True), {}, "a recurrent edge leads from 'x' to 'x': the chip's layers feed forward"),
    (lambda: recurrent(False), {}, "a recurrent edge leads from 'x' to 'x': the chip's layers feed forward"),
    (skipping, {}, "node 'in' feeds 'x' and 'y': on the chip one layer feeds the next one alone"),
    (lambda: graph_of({"a": W, "b": nir.Scale(full(1, 1.0)), "x": lif(1)}, ("in", "a"), ("a", "x"),
                      ("b", "a"), ("a", "b"), ("x", "out")), {}, "leads back to itself: the chip has no recurr"),
    (lambda: graph_of({"w": W, "u": W, "x": lif(1), "y": lif(1)}, *TWO), {}, "feeds 'x' and"),
    (lambda: without("input"), {}, "the graph has 0 nodes Input: must have one"),
    (lambda: graph_of({"w": W, "x": lif(1), "u": W, "y": lif(1)}, *pairwise(["in", "w", "x", "u", "y"]), ("x", "out")),
     {}, "the last neurons 'y' do not lead to the Output: the chip answers with them"),
    (lambda: graph_of({"in": nir.Input(None), "w": W, "x": lif(1)}, *pairwise(["in", "w", "x", "out"])), {},
     "Input 'in' has no shape: must say how many inputs there are"),
    (lambda: without("output"), {}, "the graph has 0 nodes Output: must have one"),
    (lambda: without("n0"), {}, "no way leads from the Input to neurons 'n1'"),
    (lambda: graph_of({"w": W, "x": lif(1)}, ("w", "x"), ("x", "out")), {}, "nothing leads to node 'w'"),
    (lambda: graph_of({"x": lif(1)}, ("in", "y"), ("x", "out")), {}, "an edge leads to or from 'y': there is no such"),
    (lambda: usual(nir.Delay(full(1, 0.0))), {}, "the graph has no neurons: a layer of the chip ends in neurons"),
    (lambda: usual(lif(1)), {}, "0 nodes with weights lie between 'input' and 'n0': must be one, Linear or Affine"),
    (lambda: usual(W, W, lif(1)), {}, "2 nodes with weights lie between 'input' and 'n2'"),
    (lambda: usual(W, lif(1), W), {}, "no neurons follow Linear 'n2': a layer of the"),
    (lambda: usual(W, lif(1), nir.Delay(full(1, 1e-3))), {}, "Delay 'n2' follows the last neurons: the chip"),
    (lambda: usual(W, nir.LI(full(1, 1.0), full(1, 1.0), full(1, 0.0)), W, lif(1)), {},
     "neurons 'n1' are LI, which send no spikes: only the last layer can be"),
    (lambda: usual(nir.Linear(np.ones((1, 2))), lif(1)), {}, r"weights of 'n0' have shape \(1, 2\): must be \(1, 1\)"),
    (lambda: usual(W, lif(2)), {}, "tau of 'n1' has 2 values: must be one, or one for each of the 1"),
    (lambda: usual(nir.Linear(np.ones((3, 1))), lif(3)), {}, r"graph has layers \(1, 3\): must be the chip's \(1, 1\)"),
    (lambda: usual(nir.Linear(ONE * np.nan), lif(1)), {}, "weight of 'n0' holds values that are not finite"),
    (lambda: usual(W, lif(1, tau=-1.0)), {}, "tau of 'n1' holds -1: must be above 0"),
    (lambda: usual(nir.Delay(full(1, -1.0)), W, lif(1)), {}, "Delay 'n0' holds -1: must be 0 or more"),
    (lambda: usual(nir.Delay(full(1, 9e-3)), W, lif(1)), {},
     r"delays of neurons 'n2' go up to 9 steps: the chip holds 0 to 7 \(delay_slots = 8\)"),
    (two_delays, {}, "branch 'a' delays the synapse from source 0 to neuron 0 of 'x' by 0.004, another branch by 0: "
     "the chip holds one delay per synapse"),
    (lambda: usual(W, lif(1)), {"dt": None}, "dt is missing: the graph does not say how long a step is"),
    (lambda: usual(W, lif(1)), {"dt": 0}, "dt = 0: must be the length of a step in seconds, above 0"),
    (lambda: usual(W, lif(1)), {"decay": "heun"}, "decay = 'heun': must be one of exponential, euler"),
    (lambda: usual(W, lif(1)), {"weight_scale": -1}, "weight_scale = -1: must be None, 'per-layer' or a number"),
    (lambda: usual(W, lif(1)), {"weight_scale": [1, 2]}, "weight_scale has 2 values: must be one, or one for"),
    (lambda: usual(W, lif(1, v_reset=0.5)), {}, "neurons 'n1' reset v to 0.5 above v_leak: the chip resets to"),
    (lambda: usual(W, lif(1, tau=0.5e-3)), {"decay": "euler"}, "tau_mem of neurons 'n1' is below dt and would"),
    (lambda: usual(W, lif(1, v_threshold=1e9)), {"weight_scale": 1e3}, "thresholds of neurons 'n1' go up to"),
    (lambda: export_nir(Network([[[1]]]), dt=2e-3), {}, "dt = 0.001: must be 0.002, with which the file was exported"),
]  # fmt: skip


@pytest.mark.parametrize(("make", "changes", "message"), REFUSED)
def test_refusals_are_one_sentence(make: Callable[[], nir.NIRGraph], changes: dict[str, Any], message: str) -> None:
    with pytest.raises(NirError, match=message) as caught:
        import_nir(make(), ChipConfig((1, 1), delay_slots=8), **{"dt": DT, **changes})
    assert "\n" not in str(caught.value)
    report = caught.value.report
    if report is not None and report.items:
        assert report.rating == "unsupported" or "weight_scale" in changes


def test_what_a_chip_without_room_refuses() -> None:
    graph = usual(nir.Delay(full(1, 3e-3)), W, lif(1))
    with pytest.raises(NirError, match=r"go up to 3 steps: the chip holds none \(delay_slots = 0\)"):
        import_nir(graph, ChipConfig((1, 1)), dt=DT)
    network = Network([[[1, 2]]], delays=[[[0, 3]]])
    cfg = ChipConfig((1, 2), delay_slots=4, axonal_delays=True)
    with pytest.raises(
        NirError, match="source 0 of neurons 'neurons_0' has delays of 0 to 3 steps: a chip with axonal"
    ):
        import_nir(export_nir(network), cfg)
    node = lif(2, tau=[10e-3, 40e-3])
    with pytest.raises(
        NirError, match="tau_mem of neurons 'n1' makes decays from 101/4096 to 390/4096: the chip holds one"
    ):
        import_nir(chain(nir.Linear(np.ones((2, 1))), node, n_in=1, n_out=2), ChipConfig((1, 2)), dt=DT)


def test_not_strict_takes_the_next_best() -> None:
    def taken(graph: nir.NIRGraph, cfg: ChipConfig) -> tuple[Network, ConversionReport]:
        network, report = import_nir(graph, cfg, dt=DT, strict=False)
        network.check(cfg)
        assert report.rating == "unsupported"
        return network, report

    cfg = ChipConfig((1, 1), delay_slots=8)
    assert taken(usual(nir.Delay(full(1, 9e-3)), W, lif(1)), cfg)[0].delays[0] == 7
    assert taken(two_delays(), cfg)[0].delays[0] == 0
    network, report = taken(usual(W, lif(1, v_reset=0.25)), cfg)
    assert network.reset == ("subtract",)
    assert network.constants["reset_amount"] == (round(0.75 * report.scales[0]),)
    node = lif(3, tau=[10e-3, 20e-3, 40e-3])
    network, report = taken(chain(nir.Linear(np.ones((3, 1))), node, n_in=1, n_out=3), ChipConfig((1, 3)))
    assert network.constants["decay_mem"] == (round(-4096 * np.expm1(-0.05)),)
    (item,) = [item for item in report.items if item.item == "tau_mem"]
    assert item.error_max == pytest.approx(np.expm1(-0.05) / np.expm1(-0.025) - 1, rel=1e-2)


def test_a_bias_behind_a_delay_is_rounded() -> None:
    graph = usual(nir.Affine(ONE, full(1, 0.1)), nir.Delay(full(1, 2e-3)), lif(1))
    _, report = import_nir(graph, ChipConfig((1, 1), delay_slots=8), dt=DT)
    assert [item.rating for item in report.items if "from the first step on" in item.reason] == ["rounded"]


def test_files_that_hold_no_graph(tmp_path: Path) -> None:
    cfg, path = ChipConfig((1, 1)), tmp_path / "x.nir"
    with pytest.raises(NirError, match=r"x\.nir does not exist"):
        import_nir(path, cfg, dt=DT)
    path.write_text("no HDF5")
    with pytest.raises(NirError, match=r"x\.nir is damaged or no NIR file \(OSError"):
        import_nir(path, cfg, dt=DT)
    export_nir(Network([[[1]]]), path)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(NirError, match="damaged or no NIR file"):
        import_nir(path, cfg)


@pytest.mark.parametrize("damage", ["no JSON", "[]", "{}", '{"unit": 0}', '{"unit": "x"}'])
def test_damaged_metadata_are_refused(damage: str) -> None:
    graph = export_nir(Network([[[1]]]))
    graph.nodes["neurons_0"].metadata["spikeloop"]["options"] = damage
    with pytest.raises(NirError, match="the metadata of node 'neurons_0' under 'spikeloop' are damaged") as caught:
        import_nir(graph, ChipConfig((1, 1)))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("changes", [{"dt": -1}, {"dt": True}, {"decay": "x"}])
def test_wrong_conventions_are_refused_when_writing(changes: dict[str, Any]) -> None:
    with pytest.raises(NirError, match="must be"):
        export_nir(Network([[[1]]]), **changes)


def test_arguments_that_are_none_are_said() -> None:
    graph, cfg = export_nir(Network([[[90], [-30]]]), decay="euler"), ChipConfig((2, 1))
    with pytest.raises(NirError, match="cfg = 3: must be a ChipConfig"):
        import_nir(graph, 3)  # type: ignore[arg-type]
    with pytest.raises(NirError, match="source = 3: must be a NIR graph or the path"):
        import_nir(3, cfg)  # type: ignore[arg-type]
    with pytest.raises(NirError, match="decay = 'exponential': must be 'euler', with which the file was exported"):
        import_nir(graph, cfg, decay="exponential")


def test_the_manual_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    text = (Path(__file__).resolve().parent.parent / "docs" / "nir.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"^```python\n(.*?)^```$", text, flags=re.DOTALL | re.MULTILINE)
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "nir.md", "exec"), {})
    assert "Conversion: rounded" in capsys.readouterr().out


# ---- the command line -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["import-nir", "export-nir"])
def test_commands_have_help_with_an_example(command: str) -> None:
    result = CliRunner().invoke(cli.app, [command, "--help"], terminal_width=200)
    assert result.exit_code == 0
    assert f"Example: spikeloop {command}" in result.output


def test_commands_of_both_directions(tmp_path: Path) -> None:
    runner, network = CliRunner(), Network([[[90, 1], [-30, 2]]], delays=[[[3], [1]]], reset="subtract")
    network.save(tmp_path / "a.npz")
    files = [str(tmp_path / name) for name in ("a.npz", "a.nir", "b.npz")]
    result = runner.invoke(cli.app, ["export-nir", files[0], "--out", files[1]])
    assert result.exit_code == 0, result.output
    assert "subtract" in result.output
    arguments = ["import-nir", files[1], "--layers", "2,2", "--out", files[2]]
    result = runner.invoke(cli.app, [*arguments, "--delay-slots", "4"])
    assert result.exit_code == 0, result.output
    assert "Conversion: exact" in result.output
    assert Network.load(files[2]) == network

    result = runner.invoke(cli.app, arguments)
    assert result.exit_code == 2
    assert "Conversion: unsupported" in result.output
    assert "the chip holds none (delay_slots = 0)" in " ".join(result.output.split())
    assert runner.invoke(cli.app, [*arguments, "--nearest"]).exit_code == 0
    assert not Network.load(files[2]).delays[0].any()
    config = tmp_path / "chip.json"
    config.write_text(ChipConfig((2, 2), delay_slots=4).to_json())
    assert runner.invoke(cli.app, [*arguments, "--config", str(config)]).exit_code == 0
    for command in (
        ["export-nir", files[0], "--out", files[0] + "/x"],
        [*arguments[:-1], files[0] + "/x", "--nearest"],
    ):
        result = runner.invoke(cli.app, command)
        assert result.exit_code == 2
        assert "Cannot write" in result.output
