"""Networks as graphs of the Neuromorphic Intermediate Representation (NIR), which other frameworks write and read.

NIR's equations are continuous in time, the chip counts steps of `dt`. A spike is a source that is 1 for one step, and
within a step the input of an equation counts as constant. Then ``tau dV/dt = v_leak - V + r I`` becomes

    V <- a V + (1 - a) (v_leak + r I)        a = exp(-dt / tau)  (exponential)   or   1 - dt / tau  (euler)

and the synapse of a CubaLIF likewise, before the membrane. On the chip a current enters the membrane with factor 1, so
the factors ``(1 - a) r`` and ``(1 - a) w_in`` go into the weights. ``"exponential"`` solves the equation exactly;
``"euler"`` gives back the decays of frameworks that compute so themselves (snnTorch, SpikingJelly, Norse).
docs/nir.md says what becomes of every kind of node.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, NoReturn

import nir
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from host.errors import NetworkError, NirError
from host.files import write_atomically
from host.network import CHOICES, CONSTANTS, SWITCHES, Network
from rtl.config import ChipConfig

RATINGS = ("exact", "rounded", "unsupported")
"""How well the chip holds something, best first."""

DECAYS = ("exponential", "euler")
"""Relation of a decay and its time constant: ``a = exp(-dt / tau)`` or ``a = 1 - dt / tau``."""

DT = 1e-3
"""Default length of a step in exported files, in seconds."""

KEY = "spikeloop"
"""Name of what this program adds to the metadata of nodes and graphs."""

TINY = 2.0**-40
"""Decays of exported files keep this distance from 0 and 1, where time constants or resistances are not finite."""

ROUNDING = 1e-6
"""Relative errors up to here count as exact: files hold 32-bit floats."""

SPREAD = 0.05
"""Neurons of a layer share its decays if their own differ by this factor, or 1/4096, at most."""

ROOM = 16
"""Currents and membranes have room for this many thresholds, if they can get so large at all."""

IN_MEMBRANE_UNITS = ("reset_amount", "gate_centre", "gate_window")
"""Constants that scale with the membrane."""

HIDDEN = {
    "reset": "zero", "refractory": 0, "fire_once": False, "fire": "threshold", "noise": "none", "forward_shift": 0,
}  # fmt: skip
"""Options that decide about spikes and that NIR has no word for, and what a reader of NIR takes for granted."""

KINDS = "Input, Output, Linear, Affine, Scale, Delay, Flatten, LIF, CubaLIF, IF and, at the end, LI and CubaLI"

Array = NDArray[np.float64]


# ---- the report -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Conversion:
    """How one property of a node came over."""

    node: str
    item: str
    rating: str
    """One of :data:`RATINGS`."""
    reason: str
    error_max: float = 0.0
    error_rms: float = 0.0
    """Largest and root mean square quantisation error, relative to the largest value (decays: each to itself)."""


@dataclass
class ConversionReport:
    """What a conversion kept, rounded and lost; prints as a table."""

    dt: float
    """Length of a step, in the time unit of the graph (seconds by convention)."""
    decay: str
    """One of :data:`DECAYS`."""
    items: list[Conversion] = field(default_factory=list)
    scales: list[float] = field(default_factory=list)
    """Units of the chip's membrane in one unit of ``v_threshold``, per layer."""

    @property
    def rating(self) -> str:
        """The worst rating of all."""
        return max((item.rating for item in self.items), key=RATINGS.index, default=RATINGS[0])

    def add(self, node: str, item: str, rating: str, reason: str) -> None:
        """Note a property without numbers."""
        self.items.append(Conversion(node, item, rating, reason))

    def measure(self, node: str, item: str, reason: str, errors: Array, supported: bool = True) -> None:
        """Note a property whose values have these relative errors; without any error it is exact."""
        largest = float(np.abs(errors).max(initial=0.0))
        rms = float(np.sqrt(np.mean(errors**2))) if errors.size else 0.0
        rating = "unsupported" if not supported else "exact" if largest <= ROUNDING else "rounded"
        self.items.append(Conversion(node, item, rating, reason, largest, rms))

    def refuse(self, node: str, item: str, reason: str) -> NoReturn:
        """Note what no network can stand for, and raise it."""
        self.add(node, item, "unsupported", reason)
        raise NirError(reason)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return {"rating": self.rating, **asdict(self)}

    def __rich__(self) -> Table:
        title = f"Conversion: {self.rating} (dt = {self.dt:g}, decay {self.decay})"
        table = Table(title=title, title_justify="left", title_style="bold")
        for heading in ("node", "item", "rating", "error, max", "rms", "why"):
            table.add_column(heading, justify="right" if heading in ("error, max", "rms") else "left")
        for item in self.items:
            numbers = [f"{100 * error:.3g} %" if error > ROUNDING else "" for error in (item.error_max, item.error_rms)]
            table.add_row(escape(item.node), item.item, item.rating, *numbers, escape(item.reason))
        return table

    def __str__(self) -> str:
        text = io.StringIO()
        Console(file=text, width=160).print(self)
        return text.getvalue()


# ---- writing --------------------------------------------------------------------------------------------------------


def export_nir(
    network: Network, path: str | Path | None = None, *, dt: float = DT, decay: str = DECAYS[0]
) -> nir.NIRGraph:
    """The network as a NIR graph: Input, then for each layer (Delay,) Linear or Affine (, Delay) and neurons, Output.

    Neurons are CubaLIF, without memory of the synapse (``decay_syn = 4096``) LIF or IF. The unit of v is the power of
    two above the layer's mean threshold. What NIR has no word for (:func:`export_report`) is in the metadata, so that
    :func:`import_nir` gives an equal network.

    Parameters
    ----------
    path
        File to write (HDF5); ``None``: none. A crash never leaves half a file.
    dt
        Length of a step, in seconds.
    decay
        Relation of decays and time constants, ``"exponential"`` or ``"euler"``.

    Raises
    ------
    NirError
        If `dt` or `decay` is none.

    Examples
    --------
    >>> graph = export_nir(Network([[[90], [-30]]], decay_syn=4096))
    >>> list(graph.nodes)
    ['input', 'linear_0', 'neurons_0', 'output']
    """
    _check_step(dt, decay)
    nodes: dict[str, Any] = {"input": nir.Input(np.array([network.layers[0]]))}
    edges: list[tuple[str, str]] = []
    source = "input"
    for layer in range(len(network.weights)):
        for chain in _branches(network, layer, dt):
            nodes |= chain
            names = [source, *chain, f"neurons_{layer}"]
            edges += pairwise(names)
        nodes[f"neurons_{layer}"] = _neurons(network, layer, dt, decay)
        source = f"neurons_{layer}"
    nodes["output"] = nir.Output(np.array([network.layers[-1]]))
    edges.append((source, "output"))
    about = json.dumps({"version": 1, "dt": float(dt), "decay": decay})
    graph = nir.NIRGraph(nodes=nodes, edges=edges, metadata={KEY: {"graph": about}})
    if path is not None:
        content = io.BytesIO()
        nir.write(content, graph)
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        write_atomically(Path(path), content.getvalue())
    return graph


def export_report(network: Network, *, dt: float = DT, decay: str = DECAYS[0]) -> ConversionReport:
    """What readers other than :func:`import_nir` make of an exported network; unsupported is what they do not see."""
    _check_step(dt, decay)
    report = ConversionReport(dt=dt, decay=decay, scales=[_unit(thresholds) for thresholds in network.thresholds])
    for layer in range(len(network.weights)):
        node = f"neurons_{layer}"
        for item in ("weights", "biases", "delays", "thresholds", "decays"):
            report.add(node, item, "exact", "in the words of NIR")
        report.add(node, "arithmetic", "rounded", "other frameworks compute in floats, the chip rounds every decay")
        options = _options(network, layer)
        for item, usual in HIDDEN.items():
            if options[item] != usual:
                report.add(node, item, "unsupported", f"{options[item]!r} is in the metadata alone")
    return report


def _branches(network: Network, layer: int, dt: float) -> list[dict[str, Any]]:
    """Chains of named nodes from the sources to the neurons of a layer, which add up."""
    weights = network.weights[layer].T * 2.0 ** network.constants["shift"][layer] / _unit(network.thresholds[layer])
    bias = network.biases[layer] * 2.0 ** network.constants["shift"][layer] / _unit(network.thresholds[layer])
    delays = network.delays[layer].T
    axonal, dendritic = (delays == delays[:1]).all(), (delays == delays[:, :1]).all()
    if axonal or dendritic:
        before = delays[0] if axonal else np.zeros(0)
        after = delays[:, 0] if not axonal else np.zeros(0)
        parts = [("", before, weights, after)]
    else:
        parts = [
            (f"_{steps}", np.zeros(0), np.where(delays == steps, weights, 0), np.full(len(weights), steps))
            for steps in np.unique(delays[weights != 0]).tolist() or [0]
        ]
    if bias.any() and all(after.any() for *_, after in parts):
        # Behind a delay a bias would come late.
        parts.append(("_bias", np.zeros(0), np.zeros_like(weights), np.zeros(0)))
    chains = []
    for suffix, before, part, after in parts:
        chain: dict[str, Any] = {}
        if before.any():
            chain[f"delay_{layer}"] = nir.Delay(_floats(before * dt))
        if bias.any() and not after.any():
            chain[f"affine_{layer}{suffix}"] = nir.Affine(_floats(part), _floats(bias))
            bias = np.zeros(0)
        else:
            chain[f"linear_{layer}{suffix}"] = nir.Linear(_floats(part))
        if after.any():
            chain[f"delay_{layer}{suffix}"] = nir.Delay(_floats(after * dt))
        chains.append(chain)
    return chains


def _neurons(network: Network, layer: int, dt: float, decay: str) -> nir.NIRNode:
    """The neurons of a layer; a unit of current adds a unit to the membrane, a unit of input one to the current."""
    size, unit = network.layers[layer + 1], _unit(network.thresholds[layer])
    lost_syn, lost_mem = (network.constants[name][layer] / 4096 for name in ("decay_syn", "decay_mem"))
    # V >= threshold of the chip is V > threshold - 1/2, whole numbers being apart by 1.
    threshold = (network.thresholds[layer] - 0.5) / unit
    notes: dict[str, Any] = {"options": json.dumps({"unit": unit, **_options(network, layer)})}
    delays = network.delays[layer]
    if (delays != delays[:1]).any() and (delays != delays[:, :1]).any():
        # Synapses of weight 0 are in no branch.
        notes["silent_delays"] = np.where(network.weights[layer] == 0, delays, 0).astype(np.int32)
    threshold = threshold if (_floats(threshold) != threshold).any() else _floats(threshold)
    common = {"v_threshold": threshold, "v_reset": np.zeros(size, np.float32), "metadata": {KEY: notes}}
    if lost_syn == 1 and lost_mem == 0:
        return nir.IF(r=_floats(np.full(size, 1 / dt)), **common)
    tau_mem, r = _tau(lost_mem, dt, decay)
    common |= {"r": _floats(np.full(size, r)), "v_leak": np.zeros(size, np.float32)}
    if lost_syn == 1:
        return nir.LIF(tau=_floats(np.full(size, tau_mem)), **common)
    tau_syn, w_in = _tau(lost_syn, dt, decay)
    common |= {"tau_syn": _floats(np.full(size, tau_syn)), "w_in": _floats(np.full(size, w_in))}
    return nir.CubaLIF(tau_mem=_floats(np.full(size, tau_mem)), **common)


def _tau(lost: float, dt: float, decay: str) -> tuple[float, float]:
    """Time constant of an equation that loses this fraction in a step, and the gain that makes its input's factor 1."""
    lost = max(lost, TINY)
    if decay == "euler":
        return dt / lost, 1 / lost
    lost = min(lost, 1 - TINY)
    return -dt / float(np.log1p(-lost)), 1 / lost


def _lost(tau: Array, dt: float, decay: str) -> Array:
    """Fraction that an equation with this time constant loses in a step."""
    with np.errstate(divide="ignore"):
        ratio = dt / tau
    return ratio if decay == "euler" else -np.expm1(-ratio)


def _unit(thresholds: NDArray[np.int32]) -> float:
    """Units of the chip's membrane in one unit of v of an exported layer: a power of two."""
    return 2.0 ** int(np.ceil(np.log2(max(1.0, float(np.abs(thresholds.astype(np.int64)).mean())))))


def _options(network: Network, layer: int) -> dict[str, Any]:
    """Options of a layer that are neither in its weights nor in time constants."""
    values = {name: values[layer] for name, values in network.constants.items() if not name.startswith("decay")}
    return values | {name: getattr(network, name)[layer] for name in (*CHOICES, *SWITCHES)}


def _floats(values: Any) -> NDArray[np.float32]:
    """`values` in 32 bits, as frameworks expect them; weights and biases do not change by it."""
    return np.asarray(values, np.float32)


def _check_step(dt: Any, decay: Any) -> None:
    if isinstance(dt, bool) or not isinstance(dt, (int, float, np.number)) or not 0 < dt < np.inf:
        raise NirError(f"dt = {dt!r}: must be the length of a step in seconds, above 0")
    if decay not in DECAYS:
        raise NirError(f"decay = {decay!r}: must be one of {', '.join(DECAYS)}")


# ---- reading --------------------------------------------------------------------------------------------------------


def import_nir(
    source: nir.NIRGraph | str | Path,
    cfg: ChipConfig,
    *,
    dt: float | None = None,
    decay: str | None = None,
    weight_scale: Any = None,
    strict: bool = True,
) -> tuple[Network, ConversionReport]:
    """The network of a NIR graph, in the integers of a chip, and a report of what was rounded.

    Parameters
    ----------
    source
        A graph, or the file (HDF5) that holds one.
    cfg
        The chip that has to hold it.
    dt
        Length of a step in the graph's unit of time (seconds by convention); ``None``: as the file says, if
        :func:`export_nir` wrote it.
    decay
        Relation of decays and time constants, ``"exponential"`` or ``"euler"``; ``None``: as the file says, otherwise
        exponential.
    weight_scale
        Units of a chip's weight in what a spike adds to v in the graph: a number, or one per layer; ``"per-layer"``: as
        many as fit, such that weights on a grid stay exact; ``None``: as the file says, otherwise per layer.
    strict
        ``False``: what is rated unsupported becomes the next best that the chip can hold, if there is any.

    Raises
    ------
    NirError
        If the chip cannot hold the graph or, unless `strict` is ``False``, if anything is rated unsupported; its
        ``report`` is the report up to there. Also if `dt` is missing or the file holds no graph.

    Examples
    --------
    >>> network = Network([[[90], [-30]]], decay_mem=512)
    >>> again, report = import_nir(export_nir(network), ChipConfig((2, 1)))
    >>> again == network, report.rating
    (True, 'exact')
    """
    if not isinstance(cfg, ChipConfig):
        raise NirError(f"cfg = {cfg!r}: must be a ChipConfig")
    if not isinstance(source, (nir.NIRGraph, str, Path)):
        raise NirError(f"source = {source!r}: must be a NIR graph or the path of a file")
    graph = source if isinstance(source, nir.NIRGraph) else _read(source)
    about = _notes(graph.metadata, "graph", "the graph")
    dt, decay = about.get("dt") if dt is None else dt, decay or about.get("decay", DECAYS[0])
    if dt is None:
        raise NirError("dt is missing: the graph does not say how long a step is, give it in seconds")
    _check_step(dt, decay)
    if about and not np.isclose(dt, about["dt"], rtol=1e-9, atol=0):
        raise NirError(f"dt = {dt:g}: must be {about['dt']:g}, with which the file was exported, or be left out")
    if about and decay != about["decay"]:
        raise NirError(
            f"decay = {decay!r}: must be {about['decay']!r}, with which the file was exported, or be left out"
        )
    report = ConversionReport(dt=float(dt), decay=decay)
    try:
        layers = _chain(*_flat(graph, report), report)
        sizes = (layers[0].branches[0].weight.shape[1], *(len(layer.branches[0].weight) for layer in layers))
        if sizes != cfg.layers:
            report.refuse("graph", "layers", f"the graph has layers {sizes}: must be the chip's {cfg.layers}")
        scales = _scales(weight_scale, len(layers))
        made = [_Converter(layer, cfg, report, scale).options() for layer, scale in zip(layers, scales, strict=True)]
        try:
            network = Network(**{name: [options[name] for options in made] for name in made[0]})
            network.check(cfg)
        except NetworkError as error:
            report.refuse("graph", "network", str(error))
        refused = [item for item in report.items if item.rating == "unsupported"]
        if strict and refused:
            raise NirError(refused[0].reason)
    except NirError as error:
        error.report = report
        raise
    return network, report


def _read(path: str | Path) -> nir.NIRGraph:
    if not Path(path).is_file():
        raise NirError(f"{path} does not exist or is no file")
    try:
        return nir.read(path, type_check=False)
    except (
        OSError,
        KeyError,
        TypeError,
        ValueError,
        AttributeError,
        AssertionError,
        IndexError,
        RuntimeError,
    ) as error:
        raise NirError(f"{path} is damaged or no NIR file ({type(error).__name__}: {error})") from None


def _notes(metadata: Any, entry: str, where: str) -> dict[str, Any]:
    """What :func:`export_nir` put into the metadata; empty if another program wrote them."""
    notes = metadata.get(KEY) if isinstance(metadata, Mapping) else None
    if not isinstance(notes, Mapping) or entry not in notes:
        return {}
    try:
        values = json.loads(notes[entry])
        if entry == "graph":
            _check_step(values["dt"], values["decay"])
        else:
            if not 0 < values["unit"] < np.inf:
                raise ValueError(f"unit {values['unit']}")
            for name in (*CHOICES, *SWITCHES, *CONSTANTS):
                if not name.startswith("decay_") and not isinstance(values[name], (int, str)):
                    raise ValueError(f"{name} {values[name]}")
    except (TypeError, KeyError, ValueError) as error:
        raise NirError(f"the metadata of {where} under {KEY!r} are damaged: {error}") from None
    return values


def _scales(weight_scale: Any, n_layers: int) -> list[Any]:
    """One entry per layer: a number, ``None`` or ``"per-layer"``."""
    values = list(weight_scale) if isinstance(weight_scale, (list, tuple, np.ndarray)) else [weight_scale] * n_layers
    for value in values:
        number = isinstance(value, (int, float, np.number)) and not isinstance(value, bool) and 0 < value < np.inf
        if not (value is None or value == "per-layer" or number):
            raise NirError(f"weight_scale = {value!r}: must be None, 'per-layer' or a number above 0")
    if len(values) != n_layers:
        raise NirError(f"weight_scale has {len(values)} values: must be one, or one for each of the {n_layers} layers")
    return values


# ---- reading: the graph ---------------------------------------------------------------------------------------------

_NEURONS = (nir.CubaLIF, nir.LIF, nir.IF, nir.CubaLI, nir.LI)
_SILENT = (nir.CubaLI, nir.LI)
_WEIGHTS = (nir.Affine, nir.Linear)


class _Wire:
    """End of a graph within a graph."""


@dataclass
class _Branch:
    """One way from the sources of a layer to its neurons."""

    name: str
    """The node with the weights."""
    weight: Array
    """``(n_post, n_pre)``."""
    bias: Array
    """``(n_post,)``."""
    early: Array
    late: Array
    """Delays before the weights ``(n_pre,)`` and behind them ``(n_post,)``, in the unit of `dt`."""

    @property
    def delay(self) -> Array:
        """Of every synapse, ``(n_post, n_pre)``."""
        return self.late[:, None] + self.early


@dataclass
class _Layer:
    name: str
    node: Any
    branches: list[_Branch]


def _flat(
    graph: nir.NIRGraph, report: ConversionReport, prefix: str = ""
) -> tuple[dict[str, Any], set[tuple[str, str]]]:
    """Nodes and edges without graphs in graphs; refuses kinds that the chip does not have."""
    nodes: dict[str, Any] = {}
    edges = {(prefix + a, prefix + b) for a, b in graph.edges}
    for name, node in graph.nodes.items():
        name = prefix + name
        if isinstance(node, nir.NIRGraph):
            inner, inner_edges = _flat(node, report, f"{name}.")
            ends = []
            for kind, what in ((nir.Input, "Input"), (nir.Output, "Output")):
                found = [key for key, part in inner.items() if isinstance(part, kind)]
                if len(found) != 1:
                    report.refuse(
                        name, "node", f"graph {name!r} within the graph has {len(found)} {what}s: must have one"
                    )
                ends.append(found[0])
                inner[found[0]] = _Wire()
            nodes |= inner
            edges = {(ends[1] if a == name else a, ends[0] if b == name else b) for a, b in edges} | inner_edges
        elif isinstance(node, (nir.Input, nir.Output, nir.Scale, nir.Delay, nir.Flatten, *_WEIGHTS, *_NEURONS)):
            nodes[name] = node
        else:
            reason = f"node {name!r} is a {type(node).__name__}, which the chip does not have: it can hold {KINDS}"
            report.refuse(name, "node", reason)
    for end in {end for edge in edges for end in edge} - set(nodes):
        report.refuse(end, "node", f"an edge leads to or from {end!r}: there is no such node")
    return nodes, edges


def _chain(nodes: dict[str, Any], edges: set[tuple[str, str]], report: ConversionReport) -> list[_Layer]:
    """The layers from the input to the output; refuses graphs that are no chain of layers."""
    inputs = [name for name, node in nodes.items() if isinstance(node, nir.Input)]
    outputs = [name for name, node in nodes.items() if isinstance(node, nir.Output)]
    for found, what in ((inputs, "Input"), (outputs, "Output")):
        if not found or (len(found) > 1 and what == "Input"):
            report.refuse("graph", "node", f"the graph has {len(found)} nodes {what}: must have one")
    before: dict[str, list[str]] = {name: [] for name in nodes}
    for a, b in sorted(edges):
        before[b].append(a)

    def ways(name: str, seen: tuple[str, ...] = ()) -> Iterable[tuple[str, ...]]:
        """Names on every way from a source to the node `name`, both included."""
        for other in before[name]:
            if isinstance(nodes[other], (nir.Input, *_NEURONS)):
                yield (other, name)
            elif other in seen:
                report.refuse(other, "edge", f"node {other!r} leads back to itself: the chip has no recurrent edges")
            elif not before[other]:
                report.refuse(other, "edge", f"nothing leads to node {other!r}: it must come from the Input")
            else:
                yield from ((*way, name) for way in ways(other, (*seen, other)))

    neurons = {name: list(ways(name)) for name, node in nodes.items() if isinstance(node, _NEURONS)}
    source, layers = inputs[0], []
    done = [source]
    shape = nodes[source].input_type["input"]
    if shape is None:
        report.refuse(source, "node", f"Input {source!r} has no shape: must say how many inputs there are")
    n_pre = int(np.prod(shape, dtype=np.int64))
    while targets := [name for name, each in neurons.items() if any(way[0] == source for way in each)]:
        if len(targets) > 1:
            names = " and ".join(map(repr, sorted(targets)))
            report.refuse(
                source, "edge", f"node {source!r} feeds {names}: on the chip one layer feeds the next one alone"
            )
        target = targets[0]
        others = sorted({way[0] for way in neurons[target]} - {source})
        if others:
            # Not from an earlier layer, which would feed two.
            reason = f"a recurrent edge leads from {others[0]!r} to {target!r}: the chip's layers feed forward alone"
            report.refuse(target, "edge", reason)
        branches = _parse(neurons[target], nodes, n_pre, report)
        layers.append(_Layer(target, nodes[target], branches))
        source, n_pre = target, len(branches[0].weight)
        done.append(source)
    for name in neurons:
        if name not in done:
            report.refuse(name, "edge", f"no way leads from the Input to neurons {name!r}")
    if not layers:
        report.refuse("graph", "node", "the graph has no neurons: a layer of the chip ends in neurons")
    for layer in layers[:-1]:
        if isinstance(layer.node, _SILENT):
            kind = type(layer.node).__name__
            report.refuse(
                layer.name,
                "node",
                f"neurons {layer.name!r} are {kind}, which send no spikes: only the last layer can be",
            )
    _check_outputs([way for name in outputs for way in ways(name)], nodes, source, report)
    return layers


def _check_outputs(ways: list[tuple[str, ...]], nodes: dict[str, Any], last: str, report: ConversionReport) -> None:
    """The last layer must be what comes out, as it is."""
    if last not in (way[0] for way in ways):
        report.refuse(last, "edge", f"the last neurons {last!r} do not lead to the Output: the chip answers with them")
    for way in ways:
        for name in way[1:-1]:
            node = nodes[name]
            if isinstance(node, _WEIGHTS):
                kind = type(node).__name__
                reason = f"no neurons follow {kind} {name!r}: a layer of the chip ends in neurons"
                report.refuse(name, "node", reason)
            if isinstance(node, (nir.Scale, nir.Delay)):
                kind = type(node).__name__
                report.add(
                    name,
                    "node",
                    "unsupported",
                    f"{kind} {name!r} follows the last neurons: the chip sends out plain spikes",
                )


def _parse(ways: list[tuple[str, ...]], nodes: dict[str, Any], n_pre: int, report: ConversionReport) -> list[_Branch]:
    """The branches of a layer, all of one shape."""
    branches: list[_Branch] = []
    counted: set[tuple[str, ...]] = set()
    for source, *way, target in ways:
        at = [index for index, name in enumerate(way) if isinstance(nodes[name], _WEIGHTS)]
        if len(at) != 1:
            reason = (
                f"{len(at)} nodes with weights lie between {source!r} and {target!r}: must be one, Linear or Affine"
            )
            report.refuse(target, "edge", reason)
        name, node = way[at[0]], nodes[way[at[0]]]
        weight = _finite(name, "weight", node.weight, report)
        n_post = len(branches[0].weight) if branches else len(weight)
        if weight.ndim != 2 or weight.shape != (n_post, n_pre):
            reason = (
                f"the weights of {name!r} have shape {weight.shape}: must be ({n_post}, {n_pre}), targets by sources"
            )
            report.refuse(name, "weights", reason)
        early, gain_pre = _along(way[: at[0]], nodes, n_pre, report)
        late, gain_post = _along(way[at[0] + 1 :], nodes, n_post, report)
        bias = np.zeros(n_post)
        if isinstance(node, nir.Affine) and tuple(way[at[0] :]) not in counted:
            # Two sources that add up before the weights share the bias.
            counted.add(tuple(way[at[0] :]))
            bias = _spread(name, "bias", node.bias, n_post, report) * gain_post
        weight = weight * gain_pre * gain_post[:, None]
        branches.append(_Branch(name, weight, bias, early, late))
    return branches


def _along(names: Sequence[str], nodes: dict[str, Any], size: int, report: ConversionReport) -> tuple[Array, Array]:
    """Delay and factor, each ``(size,)``, of the nodes before or behind the weights."""
    delay, gain = np.zeros(size), np.ones(size)
    for name in names:
        node = nodes[name]
        if isinstance(node, nir.Delay):
            values = _spread(name, "delay", node.delay, size, report)
            if values.min() < 0:
                report.refuse(name, "delay", f"Delay {name!r} holds {values.min():g}: must be 0 or more")
            delay += values
        elif isinstance(node, nir.Scale):
            gain *= _spread(name, "scale", node.scale, size, report)
    return delay, gain


def _finite(name: str, item: str, values: Any, report: ConversionReport) -> Array:
    try:
        array = np.asarray(values, np.float64)
    except (TypeError, ValueError):
        report.refuse(name, item, f"{item} of {name!r} must be numbers")
    if not np.isfinite(array).all():
        report.refuse(name, item, f"{item} of {name!r} holds values that are not finite")
    return array


def _spread(name: str, item: str, values: Any, size: int, report: ConversionReport) -> Array:
    """One value for each of `size` channels; frameworks write a single one if all are equal."""
    array = _finite(name, item, values, report).ravel()
    if array.size not in (1, size):
        report.refuse(
            name, item, f"{item} of {name!r} has {array.size} values: must be one, or one for each of the {size}"
        )
    return np.broadcast_to(array, size).copy()


# ---- reading: numbers -----------------------------------------------------------------------------------------------


class _Converter:
    """Makes the integers of one layer; `scale` is its entry in ``weight_scale``."""

    def __init__(self, layer: _Layer, cfg: ChipConfig, report: ConversionReport, scale: Any) -> None:
        self.layer, self.cfg, self.report, self.scale = layer, cfg, report, scale
        self.name, self.node = layer.name, layer.node
        self.size = len(layer.branches[0].weight)
        self.silent = isinstance(self.node, _SILENT)
        self.notes = _notes(self.node.metadata, "options", f"node {self.name!r}")

    def options(self) -> dict[str, Any]:
        """Arguments of :class:`Network` for this layer."""
        report, cfg = self.report, self.cfg
        lost_syn, lost_mem, gain = self._dynamics()
        v_leak = self._get("v_leak") if hasattr(self.node, "v_leak") else np.zeros(self.size)
        theta = None if self.silent else self._get("v_threshold") - v_leak
        if v_leak.any():
            report.add(self.name, "v_leak", "exact", "membranes count from v_leak, and start there")
        decays = {"decay_syn": 4096, "decay_mem": self._decay("tau_mem", lost_mem)}
        if hasattr(self.node, "tau_syn"):
            decays["decay_syn"] = self._decay("tau_syn", lost_syn)
        weights = sum(branch.weight for branch in self.layer.branches) * gain[:, None]
        biases = sum(branch.bias for branch in self.layer.branches) * gain
        scale, shift = self._scale(weights, biases, theta, decays)
        unit = scale * 2.0**shift
        report.scales.append(unit)
        made = {
            "weights": self._integers("weights", weights * scale, cfg.weight_range).T,
            "biases": self._integers("biases", biases * scale, cfg.bias_range),
            "thresholds": (thresholds := self._thresholds(theta, unit)),
            "delays": self._delays().T,
            **decays,
            "shift": shift,
        }
        self._late_biases()
        return made | self._resets(theta, v_leak, unit, thresholds)

    def _get(self, name: str) -> Array:
        return _spread(self.name, name, getattr(self.node, name), self.size, self.report)

    def _dynamics(self) -> tuple[Array, Array, Array]:
        """Fractions that current and membrane lose in a step, and what an input of 1 adds to v at once."""
        node, dt, decay = self.node, self.report.dt, self.report.decay
        if isinstance(node, nir.IF):
            return np.ones(self.size), np.zeros(self.size), dt * self._get("r")
        synapse = isinstance(node, (nir.CubaLIF, nir.CubaLI))
        lost = []
        for name in ("tau_syn", "tau_mem") if synapse else ("tau",):
            tau = self._get(name)
            if tau.min() <= 0:
                self.report.refuse(self.name, name, f"{name} of {self.name!r} holds {tau.min():g}: must be above 0")
            lost.append(_lost(tau, dt, decay))
        gain = lost[-1] * self._get("r")
        if synapse:
            return lost[0], lost[1], gain * lost[0] * self._get("w_in")
        return np.ones(self.size), lost[0], gain

    def _decay(self, item: str, lost: Array) -> int:
        """The layer's decay in 1/4096."""
        exact = 4096 * lost
        own = np.rint(np.clip(exact, 0, 4096))
        shared = int(np.rint(np.median(np.clip(exact, 0, 4096))))
        reason, supported = f"decay of {shared}/4096 per step", True
        if exact.max() > 4096 * (1 + ROUNDING):
            supported = False
            reason = (
                f"{item} of neurons {self.name!r} is below dt and would overshoot with decay 'euler': the chip's "
                f"decays go up to 1, take 'exponential' or a smaller dt"
            )
        elif (np.abs(own - shared) > np.maximum(1, SPREAD * own)).any():
            supported = False
            reason = (
                f"{item} of neurons {self.name!r} makes decays from {own.min():.0f}/4096 to {own.max():.0f}/4096: the "
                f"chip holds one for a layer"
            )
        self.report.measure(self.name, item, reason, (shared - exact) / np.maximum(exact, 1), supported)
        return shared

    def _scale(
        self, weights: Array, biases: Array, theta: Array | None, decays: Mapping[str, int]
    ) -> tuple[float, int]:
        """Units of a chip's weight in one of v, and the shift."""
        cfg, room = self.cfg, self.cfg.state_range[1]
        if self.notes and self.scale is None:
            shift = int(self.notes["shift"])
            scale = self.notes["unit"] / 2.0**shift
            if _fits(weights * scale, cfg.weight_range) and _fits(biases * scale, cfg.bias_range):
                return scale, shift
        largest = [
            float(np.abs(values).max(initial=0.0)) for values in (weights, biases, () if theta is None else theta)
        ]
        limits = (cfg.weight_range[1], cfg.bias_range[1], room / ROOM)
        most = min((limit / size for limit, size in zip(limits, largest, strict=True) if size), default=1.0)
        scale = self.scale if isinstance(self.scale, (int, float, np.number)) else _on_grid(weights, biases, most)
        sums = np.abs(weights).sum(axis=1) + np.abs(biases)
        with np.errstate(divide="ignore", invalid="ignore"):
            worst = np.float64(4096 * scale * sums.max()) / decays["decay_syn"] * 4096 / decays["decay_mem"]
        worst = worst if sums.any() else np.float64(0)
        high = scale * max(largest[0], largest[2])
        for shift in range(15, -1, -1):
            fits = high * 2**shift <= room and worst * 2**shift <= room
            if fits or (theta is not None and ROOM * high * 2**shift <= room):
                break
        if worst * 2**shift <= room:
            self.report.add(self.name, "states", "exact", "currents and membranes cannot saturate")
        else:
            limit = room / (scale * 2.0**shift)
            self.report.add(self.name, "states", "rounded", f"currents and membranes saturate where v is {limit:.4g}")
        return float(scale), shift

    def _integers(self, item: str, values: Array, limits: tuple[int, int]) -> NDArray[np.int64]:
        whole = np.clip(np.rint(values), *limits)
        reason, supported = "integers", _fits(values, limits)
        if not supported:
            reason = (
                f"{item} of neurons {self.name!r} go from {np.rint(values.min()):.0f} to {np.rint(values.max()):.0f}: "
                f"the chip holds {limits[0]} to {limits[1]}, make weight_scale smaller"
            )
        if largest := float(np.abs(values).max()):
            self.report.measure(self.name, item, reason, (whole - values) / largest, supported)
        return whole.astype(np.int64)

    def _thresholds(self, theta: Array | None, unit: float) -> NDArray[np.int64]:
        low, high = self.cfg.state_range
        if theta is None:
            self.report.add(
                self.name, "v_threshold", "exact", "none: out of reach unless V saturates; read potential_sum"
            )
            return np.full(self.size, high)
        exact = theta * unit
        # 32-bit floats miss whole numbers by a little, and v must be above the threshold.
        exact = np.where(np.abs(exact - np.rint(exact)) < 0.01, np.rint(exact), exact)
        whole = np.clip(np.floor(exact) + 1, low, high)
        reason, supported = f"V at or above {whole.mean():.0f} on average", _fits(np.floor(exact) + 1, (low, high))
        if not supported:
            reason = (
                f"thresholds of neurons {self.name!r} go up to {np.abs(exact).max():.0f}: the chip holds {low} to "
                f"{high}, make weight_scale smaller"
            )
        errors = (whole - 0.5 - exact) / max(float(np.abs(exact).max()), 1.0)
        self.report.measure(self.name, "v_threshold", reason, errors, supported)
        return whole.astype(np.int64)

    def _delays(self) -> NDArray[np.int64]:
        """Steps ``(n_post, n_pre)``; a synapse that several branches share takes the delay of its largest weight."""
        dt, cfg = self.report.dt, self.cfg
        branches = [branch for branch in self.layer.branches if branch.weight.any()] or self.layer.branches[:1]
        strength, seconds = np.abs(branches[0].weight), branches[0].delay
        problems: list[str] = []
        for branch in branches[1:]:
            weight, delay = np.abs(branch.weight), branch.delay
            both = (strength > 0) & (weight > 0) & (np.rint(seconds / dt) != np.rint(delay / dt))
            if both.any() and not problems:
                post, pre = np.argwhere(both)[0]
                problems.append(
                    f"branch {branch.name!r} delays the synapse from source {pre} to neuron {post} of {self.name!r} by "
                    f"{delay[post, pre]:g}, another branch by {seconds[post, pre]:g}: the chip holds one delay per "
                    f"synapse"
                )
            seconds = np.where(weight > strength, delay, seconds)
            strength = np.maximum(strength, weight)
        used = strength > 0
        wanted = np.rint(seconds / dt).astype(np.int64)
        if len(branches) > 1:
            wanted[~used] = 0
        silent = self._silent_delays(wanted.shape)
        if silent is not None:
            wanted[~used] = silent[~used]
        steps, limit = wanted.copy(), max(cfg.delay_slots - 1, 0)
        if cfg.axonal_delays:
            for source in range(steps.shape[1]):
                some = used[:, source] if used[:, source].any() else slice(None)
                steps[:, source] = int(np.median(steps[some, source]))
            if (steps != wanted)[used].any():
                source = int((used & (steps != wanted)).any(axis=0).argmax())
                values = wanted[used[:, source], source]
                problems.append(
                    f"source {source} of neurons {self.name!r} has delays of {values.min()} to {values.max()} steps: a "
                    f"chip with axonal_delays holds one delay per source"
                )
        longest = int(wanted[used].max(initial=0))
        if longest > limit:
            holds = f"0 to {limit} (delay_slots = {limit + 1})" if limit else "none (delay_slots = 0)"
            problems.append(f"delays of neurons {self.name!r} go up to {longest} steps: the chip holds {holds}")
        steps = np.minimum(steps, limit)
        largest = float(seconds[used].max(initial=0.0))
        if largest or problems:
            reason = problems[0] if problems else f"up to {longest} steps of dt"
            errors = (steps * dt - seconds)[used] / (largest or dt)
            self.report.measure(self.name, "delays", reason, errors, not problems)
        return steps

    def _silent_delays(self, shape: tuple[int, int]) -> NDArray[np.int64] | None:
        """Delays of synapses without weight, from the metadata."""
        values = np.asarray(self.node.metadata[KEY].get("silent_delays", ())) if self.notes else np.zeros(0)
        return values.T.astype(np.int64) if values.shape == shape[::-1] and values.dtype.kind in "iu" else None

    def _late_biases(self) -> None:
        if any((branch.bias * branch.late).any() for branch in self.layer.branches):
            reason = "behind a delay; on the chip biases enter from the first step on"
            self.report.add(self.name, "biases", "rounded", reason)

    def _resets(self, theta: Array | None, v_leak: Array, unit: float, thresholds: NDArray[np.int64]) -> dict[str, Any]:
        """What a spike does, and the constants that NIR has no word for."""
        low, high = self.cfg.state_range
        mean = int(np.rint(thresholds.mean()))
        values = {name: default for name, (default, _, _) in CONSTANTS.items() if not name.startswith("decay_")}
        values |= {
            "reset_amount": mean,
            "gate_centre": mean,
            "gate_window": min(abs(mean), high),
            **dict.fromkeys(SWITCHES, False),
        }
        values |= {"reset": "zero", "fire": "threshold", "noise": "none"}
        del values["shift"]
        if self.notes:
            ratio = unit / self.notes["unit"]
            values = {name: self.notes[name] for name in values}
            for name in IN_MEMBRANE_UNITS:
                values[name] = int(np.rint(values[name] * ratio))
            told = [f"{name} {values[name]}" for name in HIDDEN if values[name] != HIDDEN[name]]
            self.report.add(self.name, "options", "exact", ", ".join(["from the metadata", *told]))
            if ratio != 1 and values["fire"] != "threshold":
                reason = f"neurons {self.name!r} fire at random, in units that change with weight_scale: leave it out"
                self.report.add(self.name, "options", "unsupported", reason)
        if theta is None:
            return values | {"reset": "none"}
        above = self._get("v_reset") - v_leak
        if (np.abs(above) > ROUNDING * np.abs(theta).max()).any():
            amount = int(np.clip(np.rint((theta - above).mean() * unit), low, high))
            values |= {"reset": "subtract", "reset_amount": amount}
            reason = (
                f"neurons {self.name!r} reset v to {above[np.abs(above).argmax()]:g} above v_leak: the chip resets to "
                f"v_leak, or subtracts an amount"
            )
            self.report.add(self.name, "v_reset", "unsupported", reason)
        else:
            self.report.add(self.name, "v_reset", "exact", f"reset {values['reset']}")
        return values


def _fits(values: Array, limits: tuple[int, int]) -> bool:
    whole = np.rint(values)
    return bool(whole.min() >= limits[0] and whole.max() <= limits[1])


def _on_grid(weights: Array, biases: Array, most: float) -> float:
    """A scale of at most `most` at which all values are whole, if there is one, or `most`."""
    values = np.unique(np.abs(np.concatenate([weights.ravel(), biases])))
    values = values[values > 0]
    if not values.size:
        return most
    scales = np.arange(1, int(most * values[0] * (1 + ROUNDING)) + 1) / values[0]
    for part in (values[:: max(1, len(values) // 64)], values):
        scaled = scales[:, None] * part
        scales = scales[(np.abs(scaled - np.rint(scaled)) <= ROUNDING * scales[:, None] * values[-1]).all(axis=1)]
    return float(scales[0]) if scales.size else most
