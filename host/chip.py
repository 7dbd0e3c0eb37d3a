"""A chip as trainers see it: load a network, run samples, change a few weights, run again.

Writes are posted: they travel with the next call that needs an answer, so that a changed weight and a batch of samples
cost one round trip. The host keeps a copy of everything it wrote; it sends only what differs from it, and writes it all
again if a simulator had to be restarted.
"""

from __future__ import annotations

import warnings
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, fields, replace
from itertools import accumulate, pairwise
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from host.backends import Backend, open_backend
from host.die import Die
from host.errors import ChipError, ChipMismatch, DieError, LinkError, NetworkError, UserError
from host.events import Events
from host.link import Request, frame, frames, take
from host.network import FIRES, LEARNING, NOISES, RESETS, Network, check_range, check_weights
from rtl.config import LINK_BITS, MAX_STEPS, ChipConfig
from rtl.registers import (
    BAD_EVENTS,
    MODE_FIRE,
    MODE_FIRE_ONCE,
    MODE_GATE_AT_THRESHOLD,
    MODE_RESET,
    NOISE_KIND,
    NOISE_SHIFT,
    RECORD_GATE,
    RECORD_GRADIENT,
    RECORD_RASTER,
    REGION_SHIFT,
    Encoding,
    Opcode,
    Region,
    global_registers,
    registers,
)

ENCODINGS = {"rate": Encoding.RATE, "bernoulli": Encoding.BERNOULLI}
RECORDS = {"raster": RECORD_RASTER, "gate": RECORD_GATE, "gradient": RECORD_GRADIENT}

CHUNK_SAMPLES = 4096
CHUNK_WORDS = 1 << 23
"""Samples and answer words of one exchange at most; larger batches are cut, to bound memory."""

MASK = 0xFFFFFFFF
NO_SPIKE = 0xFFFF


@dataclass(frozen=True)
class Output:
    """What a batch of samples gave. Lists have one entry per layer of neurons, the first hidden layer first."""

    counts: list[NDArray[np.int32]]
    """int32 ``(n_samples, n_layer)``: number of spikes, saturating at 65535."""
    first_spike: list[NDArray[np.int32]]
    """int32 ``(n_samples, n_layer)``: time step of the first spike, -1 if there was none."""
    potential_sum: NDArray[np.int64]
    """int64 ``(n_samples, n_out)``: membrane before the reset, summed over the steps; no columns if left out."""
    winners: NDArray[np.int32]
    """int32 ``(n_samples, n_out)``: steps won if the last layer is winner-take-all, else 0."""
    raster: list[NDArray[np.bool_]]
    """bool ``(n_samples, steps, n_layer)`` if recorded, else empty: spikes."""
    gate: list[NDArray[np.bool_]]
    """bool ``(n_samples, steps, n_layer)`` if recorded, else empty: membrane near the gate's centre."""
    cycles: NDArray[np.int64]
    """int64 ``(n_samples,)``: clock cycles."""
    input_spikes: NDArray[np.int64]
    """int64 ``(n_samples,)``: spikes of the inputs."""
    steps: NDArray[np.int64]
    """int64 ``(n_samples,)``: time steps that the sample ran."""
    positive: list[NDArray[np.int32]] = field(default_factory=list)
    negative: list[NDArray[np.int32]] = field(default_factory=list)
    """int32 ``(n_samples, n_layer)`` of :meth:`Chip.learn`, else empty: numbers of positive and of negative gradient
    spikes; those of the last layer are the errors."""
    gradient: list[NDArray[np.int8]] = field(default_factory=list)
    """int8 ``(n_samples, steps, n_layer)`` if recorded, else empty: gradient spikes, +1, -1 or 0."""


@dataclass(frozen=True, eq=False)
class Encoded:
    """Samples as frames: made by :meth:`Chip.encode`, run by :meth:`Chip.run_encoded`."""

    cfg: ChipConfig
    """The chip that can run them."""
    samples: int
    steps: int
    """Time steps of a sample."""
    record: tuple[str, ...]
    """Streams to read out."""
    early_end: bool
    potentials: bool
    """Whether the summed potentials are read."""
    settings: dict[str, int]
    """Registers that say how samples are shown."""
    requests: Iterable[Request]
    answer_length: int
    """Payload words of the answer to a sample."""

    def __len__(self) -> int:
        return self.samples


@dataclass
class Stats:
    """Totals since the chip was opened or :meth:`reset` was called."""

    samples: int = 0
    timesteps: int = 0
    cycles: int = 0
    synaptic_ops: int = 0
    """Weights added: each spike of an input or neuron times the neurons of the layer above."""
    spikes: int = 0
    """Spikes of neurons."""
    input_spikes: int = 0
    gradient_spikes: int = 0
    """Gradient spikes of neurons, both signs, the errors of the last layer included."""

    def reset(self) -> None:
        """Set everything to 0."""
        for item in fields(self):
            setattr(self, item.name, 0)

    def to_dict(self) -> dict[str, int]:
        """Plain values, ready for JSON."""
        return {item.name: int(getattr(self, item.name)) for item in fields(self)}


@dataclass(frozen=True)
class _Memory:
    """A memory of the synapses and its two views."""

    bulk: Region
    single: Region
    bits: int
    signed: bool
    per_word: int
    """Elements in a word of region `bulk`."""
    size: int
    """Elements, padding included."""
    binary: bool = False
    """Whether an element is the bit of a weight, 1 for -1 and 0 for +1."""

    @property
    def words(self) -> int:
        """Words of region `bulk`."""
        return self.size // self.per_word

    @property
    def dtype(self) -> type:
        """Of an array of elements."""
        return np.bool_ if self.binary else np.int64

    def elements(self, values: NDArray[Any]) -> NDArray[Any]:
        """What the memory holds for weights or delays."""
        return values < 0 if self.binary else values

    def values(self, elements: NDArray[Any]) -> NDArray[Any]:
        """Inverse of :meth:`elements`."""
        return 1 - 2 * elements if self.binary else elements

    def pack(self, elements: NDArray[Any]) -> NDArray[np.int64]:
        """Words of region `bulk` that hold all `elements`."""
        fields = elements.astype(np.int64, copy=False) & ((1 << self.bits) - 1)
        if self.per_word == 1:
            return fields
        words: NDArray[np.int64] = (fields.reshape(-1, self.per_word) << self._shifts).sum(axis=1)
        return words

    def unpack(self, words: NDArray[np.uint32]) -> NDArray[np.int64]:
        """Inverse of :meth:`pack`."""
        fields = (words.astype(np.int64)[:, None] >> self._shifts).reshape(-1) & ((1 << self.bits) - 1)
        half = 1 << (self.bits - 1) if self.signed and not self.binary else 0
        return (fields ^ half) - half

    @property
    def _shifts(self) -> NDArray[np.int64]:
        return np.arange(self.per_word) * self.bits


def _memories(cfg: ChipConfig) -> tuple[_Memory, ...]:
    """Memories of the weights and, on chips that have them, of the delays."""
    weights = _Memory(
        Region.WEIGHTS,
        Region.WEIGHT,
        cfg.weight_bits,
        True,
        cfg.weights_per_link_word,
        cfg.weight_depth * cfg.lanes,
        cfg.binary_weights,
    )
    if not cfg.delay_slots:
        return (weights,)
    # With one delay per source a word of the bulk view holds one delay, and there is no other view.
    single, lanes = (Region.DELAYS, 1) if cfg.axonal_delays else (Region.DELAY, cfg.lanes)
    delays = _Memory(Region.DELAYS, single, cfg.delay_bits, False, cfg.delays_per_link_word, cfg.delay_depth * lanes)
    return (weights, delays)


@dataclass(frozen=True)
class _Cut:
    """A PLANE frame: its first row, that row's first bit in the plane, words of payload."""

    row: int
    start: int
    words: int


class _Plane:
    """How the bit plane of a chip with binary weights is cut into PLANE frames."""

    def __init__(self, cfg: ChipConfig) -> None:
        self._cfg = cfg
        self._starts = np.concatenate(([0], np.cumsum(np.repeat(cfg.neuron_layers, cfg.layers[:-1]))))
        """First bit of each row, and the plane's end."""

    def cuts(self, first: int, last: int) -> list[_Cut]:
        """Frames that write the rows from that of the element `first` of the weight memory to that of `last`."""
        row, end = self._row(first), self._row(last) + 1
        found = []
        while row < end:
            start = int(self._starts[row])
            room = np.searchsorted(self._starts, start + LINK_BITS * self._cfg.max_payload, "right")
            after = min(int(room) - 1, end)
            found.append(_Cut(row, start, -((start - int(self._starts[after])) // LINK_BITS)))
            row = after
        return found

    def _row(self, element: int) -> int:
        cfg, word = self._cfg, element // self._cfg.lanes
        layer = bisect_right(cfg.weight_base, word) - 1
        return cfg.source_base[layer] + (word - cfg.weight_base[layer]) // cfg.words[layer]


@dataclass
class _Shadow:
    """What the chip holds as far as this host wrote it; what is missing is not known."""

    registers: dict[int, int] = field(default_factory=dict)
    synapses: dict[Region, NDArray[Any]] = field(default_factory=dict)
    """By bulk region: elements, flat as the memory."""
    neurons: dict[Region, NDArray[np.int64]] = field(default_factory=dict)
    """THRESHOLD and BIAS, flat as the neuron memories."""


def sample_seeds(seed: int, n: int, first: int = 0) -> NDArray[np.uint32]:
    """Random seeds of samples ``first ... first + n - 1`` of a call of :meth:`Chip.run` with `seed`.

    The upper 32 bits of splitmix64(splitmix64(seed) + index): close seeds and close indices give unrelated generators,
    and a sample's seed does not depend on how the batch is cut.
    """

    def splitmix64(z: NDArray[np.uint64]) -> NDArray[np.uint64]:
        z = np.asarray(z + np.uint64(0x9E3779B97F4A7C15), np.uint64)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return z ^ (z >> np.uint64(31))

    start = splitmix64(np.array([seed], np.uint64))
    mixed = splitmix64(start + np.arange(first, first + n).astype(np.uint64))
    return (mixed >> np.uint64(32)).astype(np.uint32)


def integer(name: str, value: Any, low: int, high: int) -> int:
    """`value`, refused with :class:`UserError` unless it is an integer from `low` to `high`."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or not low <= value <= high:
        raise UserError(f"{name} = {value!r}: must be an integer from {low} to {high}")
    return int(value)


def check_samples(
    cfg: ChipConfig, x: Any, steps: Any, seed: Any, encoding: Any, seeds: Any
) -> tuple[NDArray[np.uint8] | Events, int, Encoding, NDArray[np.uint32]]:
    """What the chip `cfg` is shown by these arguments of :meth:`Chip.run`.

    Returns
    -------
    uint8 intensities ``(n_samples, n_in)`` or events, time steps, encoding, and uint32 ``(n_samples,)`` seeds.

    Raises
    ------
    UserError
        For arguments that are not allowed.
    """
    steps = integer("steps", steps, 1, MAX_STEPS)
    if encoding not in ENCODINGS:
        raise UserError(f"encoding = {encoding!r}: must be one of {', '.join(ENCODINGS)} (or give Events)")
    if isinstance(x, Events):
        x.check(steps, cfg.n_in)
        code = Encoding.EVENTS
    else:
        x, code = _intensities(x, cfg.n_in), ENCODINGS[encoding]
        if code == Encoding.BERNOULLI and not cfg.bernoulli:
            raise UserError('encoding = "bernoulli": this chip was built without it (bernoulli = False); use "rate"')
    n = len(x)
    all_seeds = sample_seeds(integer("seed", seed, 0, (1 << 64) - 1), n) if seeds is None else _seeds(seeds, n)
    return x, steps, code, all_seeds


def _intensities(x: Any, n_in: int) -> NDArray[np.uint8]:
    try:
        array = np.asarray(x)
    except ValueError:
        raise UserError("x has rows of unequal length: must be (n_samples, n_in)") from None
    if array.ndim == 1 and array.shape[0] == n_in:
        array = array[None]
    if array.ndim != 2 or array.shape[1] != n_in:
        raise UserError(f"x has shape {array.shape}: must be (n_samples, {n_in})")
    if array.dtype == np.uint8:
        return array
    if array.dtype.kind not in "iu":
        raise UserError(f"x has type {array.dtype}: must be integers from 0 to 255, or Events")
    if array.size and (array.min() < 0 or array.max() > 255):
        raise UserError(f"x holds values from {array.min()} to {array.max()}: must be integers from 0 to 255")
    return array.astype(np.uint8)


def _seeds(seeds: Any, n: int) -> NDArray[np.uint32]:
    array = np.asarray(seeds)
    if array.shape != (n,) or (n and array.dtype.kind not in "iu"):
        raise UserError(f"seeds has type {array.dtype} and shape {array.shape}: must be integers ({n},)")
    if n and (array.min() < 0 or array.max() > MASK):
        raise UserError(f"seeds holds values from {array.min()} to {array.max()}: must be from 0 to {MASK}")
    return array.astype(np.uint32)


def _read_request(region: Region, offset: int, count: int) -> Request:
    address = int(region) << REGION_SHIFT | offset
    words = frame(Opcode.READ, address, np.array([count], np.uint32))
    return Request(words, Opcode.READ, np.array([address], np.uint32), count)


class Chip:
    """A chip behind a backend. Use it as a context manager.

    Parameters
    ----------
    cfg
        The chip at the other end; it is asked and must agree.
    backend
        ``"golden"`` (the model), ``"sim"`` (the simulated chip), ``"serial:PORT"`` (a board), or an object with
        ``exchange()`` and ``close()``.
    die
        Written to the die tables at once; needs ``cfg.die_tables``. ``None``: the ideal chip, also where the tables
        still hold the die of an earlier session.
    **options
        For the backend.

    Raises
    ------
    BackendError
        If there is no such backend.
    ChipMismatch
        If the chip has another configuration.
    DieError
        If there is a die but no tables for it, or one with a distortion that this chip cannot have.

    Examples
    --------
    >>> from rtl.config import ChipConfig
    >>> with Chip(ChipConfig(layers=(2, 1))) as chip:
    ...     chip.load(Network(weights=[[[127], [127]]]))
    ...     chip.run([[255, 255], [0, 0]], steps=10).counts[0].tolist()
    [[9], [0]]
    """

    def __init__(
        self, cfg: ChipConfig, backend: str | Backend = "golden", die: Die | None = None, **options: Any
    ) -> None:
        if not isinstance(cfg, ChipConfig):
            raise UserError(f"Chip cfg = {cfg!r}: must be a ChipConfig")
        if die is not None:
            if not isinstance(die, Die):
                raise DieError(f"Chip die = {die!r}: must be a Die or None")
            die.check(cfg)
        self.cfg = cfg
        self.stats = Stats()
        self._die = die
        self._network: Network | None = None
        self._register = {register.name: register for register in registers(cfg)}
        self._memories = {memory.bulk: memory for memory in _memories(cfg)}
        # A row that no frame can hold is left to the bulk view.
        rows_fit = max(cfg.neuron_layers) <= LINK_BITS * cfg.max_payload
        self._plane = _Plane(cfg) if cfg.binary_weights and rows_fit else None
        self._shadow = _Shadow()
        self._posted: list[tuple[Opcode, int, NDArray[np.uint32]]] = []
        self._open = True
        self._backend, self._died = open_backend(backend, cfg, **options)
        try:
            self._identify()
            self._write_die()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Chip:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Release the backend; posted writes that no call waited for are dropped."""
        if self._open:
            self._open = False
            self._backend.close()

    # ---- network -----------------------------------------------------------------------------------------------

    @property
    def network(self) -> Network:
        """The network in the chip, as written (a copy); raises :class:`UserError` before the first :meth:`load`."""
        return self._loaded().replace()

    def load(self, network: Network) -> None:
        """Make `network` the chip's network; only what differs from the present one is sent.

        Weights go one by one or in bulk, whichever is shorter; in bulk those of chips with binary weights are rows of
        the bit plane, 32 weights a word.

        Raises
        ------
        NetworkError
            If it does not fit the chip; the chip keeps what it has.
        """
        if not isinstance(network, Network):
            raise NetworkError(f"load({type(network).__name__}): must be a Network")
        network.check(self.cfg)
        self._network = network.replace()
        for region, memory in self._memories.items():
            matrices = network.weights if region == Region.WEIGHTS else network.delays
            elements: NDArray[Any] = np.zeros(memory.size, memory.dtype)
            for layer, matrix in enumerate(matrices):
                view = self._matrix(memory, elements, layer)
                view[...] = memory.elements(matrix[:, : view.shape[1]])
            self._post_synapses(memory, elements)
        for region, arrays in ((Region.THRESHOLD, network.thresholds), (Region.BIAS, network.biases)):
            values = np.zeros(self.cfg.neuron_depth * self.cfg.lanes, np.int64)
            for layer, array in enumerate(arrays):
                start = self.cfg.neuron_base[layer] * self.cfg.lanes
                values[start : start + len(array)] = array
            self._post_neurons(region, values)
        changes = {}
        for layer in range(len(network.weights)):
            constants = {name: values[layer] for name, values in network.constants.items()}
            noise_shift = constants.pop("noise_shift")
            if self.cfg.learning:
                noise = NOISES.index(network.noise[layer])
                changes[f"L{layer}_NOISE"] = noise_shift << NOISE_SHIFT | noise << NOISE_KIND
            for name, value in constants.items():
                if self.cfg.learning or name not in LEARNING:
                    changes[f"L{layer}_{name.upper()}"] = value
            changes[f"L{layer}_MODE"] = (
                RESETS.index(network.reset[layer]) << MODE_RESET
                | network.fire_once[layer] << MODE_FIRE_ONCE
                | network.gate_at_threshold[layer] << MODE_GATE_AT_THRESHOLD
                | FIRES.index(network.fire[layer]) << MODE_FIRE
            )
        self._post_registers(changes)

    def update(self, layer: int, rows: Any, cols: Any, values: Any) -> None:
        """Change single weights: ``weights[layer][rows, cols] = values``. Sent with the next run.

        Parameters
        ----------
        layer
            0 is the layer between the inputs and the first neurons.
        rows, cols, values
            Integers, or integer arrays of the same shape (or that broadcast to one). The last of several values for a
            weight counts. Values are -1 and 1 on chips with binary weights.

        Raises
        ------
        NetworkError
            For indices or values out of range or not integers; nothing is changed then.
        """
        matrix = self._loaded().weights[self._layer(layer)]
        rows, cols, values = self._indices(rows=rows, cols=cols, values=values)
        for name, index, size in (("rows", rows, matrix.shape[0]), ("cols", cols, matrix.shape[1])):
            check_range(f"update {name}", index, 0, size - 1)
        check_weights("update values", values, self.cfg)
        matrix[rows, cols] = values
        cfg, known = self.cfg, self._shadow.synapses[Region.WEIGHTS]
        elements = cfg.weight_base[layer] * cfg.lanes + rows * (cfg.words[layer] * cfg.lanes) + cols
        self._post_changes(Region.WEIGHT, known, elements, self._memories[Region.WEIGHTS].elements(values))

    def update_neurons(self, layer: int, neurons: Any = None, thresholds: Any = None, biases: Any = None) -> None:
        """Change thresholds or biases of single `neurons` (default: all) of a layer; otherwise like :meth:`update`."""
        network, cfg = self._loaded(), self.cfg
        size = cfg.neuron_layers[self._layer(layer)]
        neurons = np.arange(size) if neurons is None else neurons
        planned = []
        for name, region, values, limits in (
            ("thresholds", Region.THRESHOLD, thresholds, cfg.state_range),
            ("biases", Region.BIAS, biases, cfg.bias_range),
        ):
            if values is not None:
                chosen, new = self._indices(neurons=neurons, **{name: values})
                check_range("update_neurons neurons", chosen, 0, size - 1)
                check_range(f"update_neurons {name}", new, *limits)
                planned.append((name, region, chosen, new))
        for name, region, chosen, new in planned:
            getattr(network, name)[layer][chosen] = new
            self._post_changes(region, self._shadow.neurons[region], cfg.neuron_base[layer] * cfg.lanes + chosen, new)

    def weights(self) -> list[NDArray[np.int32]]:
        """Read the weights back from the chip: int32 ``(n_pre, n_post)`` per layer."""
        return self._read_synapses(Region.WEIGHTS)

    def delays(self) -> list[NDArray[np.int32]]:
        """Read the delays back from the chip: int32 ``(n_pre, n_post)`` per layer, 0 on chips without delays.

        On chips with one delay per source the columns are equal.
        """
        if not self.cfg.delay_slots:
            self.flush()
            return [np.zeros(shape, np.int32) for shape in self.cfg.shapes]
        return self._read_synapses(Region.DELAYS)

    def _read_synapses(self, region: Region) -> list[NDArray[np.int32]]:
        memory = self._memories[region]
        return self._matrices(memory, memory.values(memory.unpack(self._read(region, 0, memory.words))))

    # ---- samples -----------------------------------------------------------------------------------------------

    def run(
        self,
        x: Any,
        steps: int,
        seed: int = 0,
        encoding: str = "rate",
        record: Iterable[str] = (),
        seeds: Any = None,
        early_end: bool = False,
        potentials: bool = True,
    ) -> Output:
        """Run samples through the loaded network, with all posted writes before them.

        Parameters
        ----------
        x
            Integers 0..255 ``(n_samples, n_in)`` (a single sample may be 1-D), or :class:`Events`.
        steps
            Time steps of a sample, 1 to 65534.
        seed
            Integer from 0 to 2**64 - 1. Each sample draws from a generator of its own, see :func:`sample_seeds`.
        encoding
            How intensities become spikes: ``"rate"`` (regular, no randomness) or ``"bernoulli"``. Events need none.
        record
            ``"raster"``, ``"gate"`` or both: streams to read out.
        seeds
            32-bit seed of each sample, instead of `seed`.
        early_end
            End a sample after the step by which every neuron of the last layer has fired, see :attr:`Output.steps`;
            without effect if something is recorded.
        potentials
            ``False`` leaves :attr:`Output.potential_sum` out of the answers, two words for every output.

        Raises
        ------
        UserError
            For arguments that are not allowed.
        ChipError, LinkError
            If the chip refuses or answers nonsense.
        """
        return self._show(
            self._encode(
                Opcode.RUN, x, steps, seed, encoding, record, seeds, early_end=early_end, potentials=potentials
            )
        )

    def encode(
        self,
        x: Any,
        steps: int,
        seed: int = 0,
        encoding: str = "rate",
        record: Iterable[str] = (),
        seeds: Any = None,
        early_end: bool = False,
        potentials: bool = True,
    ) -> Encoded:
        """Check samples and build their frames, to be run any number of times and with any networks.

        ``run_encoded(encode(...))`` is ``run(...)``, arguments and errors are the same; no network need be loaded. All
        frames are built here and kept, 8 bytes for every word (four intensities or one event, and three words more for
        each sample), while :meth:`run` builds those of one exchange at a time.
        """
        encoded = self._encode(
            Opcode.RUN, x, steps, seed, encoding, record, seeds, early_end=early_end, potentials=potentials
        )
        return replace(encoded, requests=tuple(encoded.requests))

    def run_encoded(self, encoded: Encoded) -> Output:
        """Run what :meth:`encode` made, by this chip or one of the same configuration, through the loaded network.

        Raises
        ------
        UserError
            If `encoded` is for a chip of another configuration.
        ChipError, LinkError
            As :meth:`run`.
        """
        if not isinstance(encoded, Encoded):
            raise UserError(f"encoded has type {type(encoded).__name__}: must be what Chip.encode returns")
        if encoded.cfg != self.cfg:
            raise UserError(f"encoded is for a chip {encoded.cfg}: must be made by encode() of a chip {self.cfg}")
        return self._show(encoded)

    def learn(
        self,
        x: Any,
        labels: Any,
        steps: int,
        seed: int = 0,
        encoding: str = "rate",
        record: Iterable[str] = (),
        seeds: Any = None,
        layers: Iterable[int] | None = None,
    ) -> Output:
        """Run samples and learn from each, on the chip; needs ``cfg.learning`` and a winner-take-all last layer.

        The learned weights are read back: :attr:`network` has them when this returns. Samples travel in exchanges of
        at most 4096; after an error the chip is as after the last complete exchange.

        Parameters
        ----------
        x, steps, seed, encoding, seeds
            As in :meth:`run`.
        labels
            Integers ``(n_samples,)``: the output neuron that should win, from 0.
        record
            ``"raster"``, ``"gate"``, ``"gradient"``: streams to read out.
        layers
            Layers whose weights learn, 0 being the one between the inputs and the first neurons. ``None``: all; empty:
            none, the gradient is only measured.

        Raises
        ------
        UserError
            For arguments that are not allowed, or a chip or network that cannot learn; nothing is sent then.
        ChipError, LinkError
            If the chip refuses or answers nonsense.
        """
        network = self._loaded()
        if not self.cfg.learning:
            raise UserError("this chip has no learning hardware: learn() needs ChipConfig(learning=True)")
        if network.fire[-1] != "winner":
            raise UserError(f"the last layer's fire = {network.fire[-1]!r}: must be 'winner' for learn()")
        chosen = self._layers(layers)
        return self._show(self._encode(Opcode.LEARN, x, steps, seed, encoding, record, seeds, labels, chosen), chosen)

    def _encode(
        self,
        opcode: Opcode,
        x: Any,
        steps: Any,
        seed: Any,
        encoding: Any,
        record: Iterable[str],
        seeds: Any,
        labels: Any = None,
        layers: frozenset[int] = frozenset(),
        early_end: Any = False,
        potentials: Any = True,
    ) -> Encoded:
        """Check the arguments of :meth:`run` or :meth:`learn`; the requests are built when they are asked for."""
        cfg, learns = self.cfg, opcode == Opcode.LEARN
        for name, value in (("early_end", early_end), ("potentials", potentials)):
            if not isinstance(value, (bool, np.bool_)):
                raise UserError(f"{name} = {value!r}: must be True or False")
        recorded = self._recorded(record, learns)
        x, steps, code, seeds = check_samples(cfg, x, steps, seed, encoding, seeds)
        if isinstance(x, Events):
            longest, room = int(np.diff(x.offsets).max(initial=0)), cfg.max_payload - learns
            if longest > room:
                raise UserError(f"a sample with {longest} events: the chip takes at most {room}")
        if learns:
            labels = self._labels(labels, len(x))
        settings = {
            "STEPS": steps,
            "ENCODING": int(code),
            "RECORD": sum(1 << RECORDS[item] for item in recorded),
            "EARLY_END": int(early_end),
            "BRIEF": int(not potentials),
        }
        if learns:
            settings["LEARN_ENABLE"] = sum(1 << layer for layer in layers)
        words_per_step = cfg.neuron_depth * -(-cfg.lanes // 32) * (len(recorded) + ("gradient" in recorded))
        length = steps * words_per_step + 2 + cfg.n_neurons * (1 + learns) + 2 * cfg.n_out * potentials
        requests = self._requests(opcode, x, seeds, labels if learns else None, length)
        return Encoded(cfg, len(x), steps, recorded, bool(early_end), bool(potentials), settings, requests, length)

    def _requests(
        self,
        opcode: Opcode,
        x: NDArray[np.uint8] | Events,
        seeds: NDArray[np.uint32],
        labels: NDArray[np.uint32] | None,
        length: int,
    ) -> Iterator[Request]:
        chunk = max(1, min(CHUNK_SAMPLES, CHUNK_WORDS // (length + self.cfg.pixel_words)))
        for begin in range(0, len(x), chunk):
            cut = slice(begin, begin + chunk)
            part, part_seeds, tag = x if len(x) <= chunk else x[cut], seeds[cut], begin & 0xFF
            if isinstance(part, Events):
                payload, lengths = part.words, np.diff(part.offsets)
            else:
                payload, lengths = self._pixels(part), np.full(len(part), self.cfg.pixel_words, np.int64)
            words = frames(opcode, part_seeds, payload, lengths, tag, None if labels is None else labels[cut])
            yield Request(words, opcode, part_seeds, length, tag)

    def _show(self, encoded: Encoded, layers: frozenset[int] = frozenset()) -> Output:
        """Exchange chunk after chunk; `layers` learn, if there are any."""
        self._loaded()
        self._post_registers(encoded.settings)
        parts = []
        for request in encoded.requests:
            parts.append(self._learn(request) if layers else self._exchange(request)[0])  # noqa: PERF401
        answers = np.concatenate(parts) if parts else np.zeros((0, encoded.answer_length), np.uint32)
        output = self._output(answers, encoded)
        self._count(output)
        return output

    def _learn(self, request: Request) -> NDArray[np.uint32]:
        """Exchange frames that change weights, and read these back in the same exchange.

        A backend that dies before the host has both is therefore set back to the weights before, and learns again.
        """
        try:
            memory = self._memories[Region.WEIGHTS]
            answers, packed = self._exchange(request, _read_request(Region.WEIGHTS, 0, memory.words))
            weights = memory.unpack(packed[0])
            self._loaded().weights = self._matrices(memory, weights)
            self._shadow.synapses[Region.WEIGHTS] = weights
        except BaseException:
            # Interrupted or refused: nobody knows how far the chip came.
            self._rewrite()
            raise
        return answers

    def flush(self) -> None:
        """Send all posted writes now instead of with the next run."""
        self._read(Region.REGISTERS, 0, 0)

    # ---- arguments ---------------------------------------------------------------------------------------------

    def _loaded(self) -> Network:
        if not self._open:
            raise UserError("the chip is closed")
        if self._network is None:
            raise UserError("no network is loaded: call load(network) first")
        return self._network

    def _layer(self, layer: int) -> int:
        return integer("layer", layer, 0, len(self.cfg.neuron_layers) - 1)

    @staticmethod
    def _indices(**arrays: Any) -> list[NDArray[np.int64]]:
        """Integer arrays flattened to one common shape."""
        given = {name: np.asarray(values) for name, values in arrays.items()}
        for name, array in given.items():
            if array.dtype.kind not in "iu" and array.size:
                raise NetworkError(f"update {name} must be integers, got {array.dtype}")
        try:
            return [array.astype(np.int64).ravel() for array in np.broadcast_arrays(*given.values())]
        except ValueError:
            shapes = ", ".join(f"{name} {array.shape}" for name, array in given.items())
            raise NetworkError(f"update with shapes {shapes}: must be equal or broadcast to one shape") from None

    @staticmethod
    def _recorded(record: Iterable[str], learns: bool) -> tuple[str, ...]:
        """The streams asked for, in the order of the chip's answer."""
        chosen = (record,) if isinstance(record, str) else tuple(record)
        for item in chosen:
            if item not in RECORDS:
                raise UserError(f"record = {item!r}: must be among {', '.join(RECORDS)}")
            if item == "gradient" and not learns:
                raise UserError("record = 'gradient': only learn() has gradients, run() records raster and gate")
        return tuple(item for item in RECORDS if item in chosen)

    def _layers(self, layers: Iterable[int] | None) -> frozenset[int]:
        every = range(len(self.cfg.neuron_layers))
        try:
            chosen = every if layers is None else tuple(layers)
        except TypeError:
            raise UserError(f"layers = {layers!r}: must be None or a sequence of integers") from None
        return frozenset(self._layer(layer) for layer in chosen)

    def _labels(self, labels: Any, n: int) -> NDArray[np.uint32]:
        allowed = f"must be {n} integers from 0 to {self.cfg.n_out - 1}, one for each sample"
        if labels is None:
            raise UserError(f"labels are missing: {allowed}")
        try:
            array = np.atleast_1d(np.asarray(labels))
        except ValueError:
            raise UserError(f"labels are rows of unequal length: {allowed}") from None
        if array.shape != (n,) or (n and array.dtype.kind not in "iu"):
            raise UserError(f"labels has type {array.dtype} and shape {array.shape}: {allowed}")
        if n and (array.min() < 0 or array.max() >= self.cfg.n_out):
            raise UserError(f"labels holds values from {array.min()} to {array.max()}: {allowed}")
        return array.astype(np.uint32)

    def _pixels(self, x: NDArray[np.uint8]) -> NDArray[np.uint32]:
        padded = np.zeros((len(x), self.cfg.pixel_words * 4), np.uint8)
        padded[:, : self.cfg.n_in] = x
        return padded.reshape(-1).view("<u4").astype(np.uint32, copy=False)

    # ---- answers -----------------------------------------------------------------------------------------------

    def _output(self, answers: NDArray[np.uint32], encoded: Encoded) -> Output:
        cfg, n, steps, recorded = self.cfg, len(answers), encoded.steps, encoded.record
        learned = "LEARN_ENABLE" in encoded.settings
        plain = [item for item in recorded if item != "gradient"]
        streams: dict[str, list[NDArray[np.bool_]]] = {}
        # Of each step: raster and gate word by word, then, again word by word, positive and negative gradient spikes.
        parts = [names for names in (plain, ["positive", "negative"] if "gradient" in recorded else []) if names]
        link_words = -(-cfg.lanes // 32)
        per_step = cfg.neuron_depth * link_words * sum(map(len, parts))
        streamed = steps * per_step
        if streamed:
            stream = np.ascontiguousarray(answers[:, :streamed]).astype("<u4", copy=False)
            bits = np.unpackbits(stream.view(np.uint8), axis=1, bitorder="little").view(bool)
            bits = bits.reshape(n, steps, per_step * 32)
            at = 0
            for names in parts:
                width = cfg.neuron_depth * len(names) * link_words * 32
                part = bits[..., at : at + width].reshape(n, steps, cfg.neuron_depth, len(names), link_words * 32)
                for kind, name in enumerate(names):
                    streams[name] = self._by_layer(part[..., kind, : cfg.lanes])
                at += width
        gradient = [
            positive.astype(np.int8) - negative.astype(np.int8)
            for positive, negative in zip(streams.get("positive", []), streams.get("negative", []), strict=True)
        ]
        rest = answers[:, streamed:]
        spikes = rest[:, 1].astype(np.int64)
        if (spikes & BAD_EVENTS).any():
            sample = int(np.flatnonzero(spikes & BAD_EVENTS)[0])
            raise ChipError(
                f"the chip did not accept the events of sample {sample}: not ascending, too late or no input"
            )
        ends = accumulate([2, cfg.n_neurons, 2 * cfg.n_out * encoded.potentials, cfg.n_neurons])
        neurons, potentials, errors = (rest[:, a:b] for a, b in pairwise(ends))
        first = self._halves(neurons, 16)
        for steps_of_layer in first:
            steps_of_layer[steps_of_layer == NO_SPIKE] = -1
        ran = np.full(n, steps, np.int64)
        if encoded.early_end and not recorded:
            fired = (first[-1] >= 0).all(axis=1)
            ran[fired] = first[-1][fired].max(axis=1) + 1
        counts = self._halves(neurons, 0)
        wins = self._loaded().fire[-1] == "winner"
        sums = np.ascontiguousarray(potentials).astype("<u4", copy=False)
        return Output(
            counts=counts,
            first_spike=first,
            potential_sum=sums.view("<i8").astype(np.int64, copy=False),
            winners=counts[-1].copy() if wins else np.zeros((n, cfg.n_out), np.int32),
            raster=streams.get("raster", []),
            gate=streams.get("gate", []),
            cycles=rest[:, 0].astype(np.int64),
            input_spikes=spikes,
            steps=ran,
            positive=self._halves(errors, 16) if learned else [],
            negative=self._halves(errors, 0) if learned else [],
            gradient=gradient,
        )

    def _by_layer(self, bits: NDArray[np.bool_]) -> list[NDArray[np.bool_]]:
        """Cut ``(n, steps, neuron words, lanes)`` into the layers' neurons, without padding."""
        n, steps = bits.shape[:2]
        return [
            bits[:, :, base : base + words].reshape(n, steps, words * self.cfg.lanes)[..., :size]
            for base, words, size in zip(self.cfg.neuron_base, self.cfg.words, self.cfg.neuron_layers, strict=True)
        ]

    def _halves(self, words: NDArray[np.uint32], shift: int) -> list[NDArray[np.int32]]:
        """Bits ``shift ... shift + 15`` of a word per neuron, layer by layer."""
        values = (words >> np.uint32(shift) & np.uint32(0xFFFF)).astype(np.int32)
        ends = accumulate(self.cfg.neuron_layers, initial=0)
        return [np.ascontiguousarray(values[:, a:b]) for a, b in pairwise(ends)]

    def _count(self, output: Output) -> None:
        stats = self.stats
        totals = [int(output.input_spikes.sum()), *(int(counts.sum(dtype=np.int64)) for counts in output.counts)]
        stats.samples += len(output.steps)
        stats.timesteps += int(output.steps.sum())
        stats.cycles += int(output.cycles.sum())
        stats.synaptic_ops += sum(a * b for a, b in zip(totals, self.cfg.neuron_layers, strict=False))
        stats.spikes += sum(totals[1:])
        stats.input_spikes += totals[0]
        stats.gradient_spikes += sum(int(each.sum(dtype=np.int64)) for each in (*output.positive, *output.negative))

    # ---- writes ------------------------------------------------------------------------------------------------

    def _matrix(self, memory: _Memory, flat: NDArray[Any], layer: int) -> NDArray[Any]:
        """View of layer `layer`, without padding, in an array that is flat as `memory`.

        Shape ``(n_pre, n_post)``, for one delay per source ``(n_pre, 1)``.
        """
        cfg = self.cfg
        n_pre, n_post = cfg.shapes[layer]
        if memory.bulk == Region.DELAYS and cfg.axonal_delays:
            start = cfg.source_base[layer]
            return flat[start : start + n_pre, None]
        start, stride = cfg.weight_base[layer] * cfg.lanes, cfg.words[layer] * cfg.lanes
        return flat[start : start + n_pre * stride].reshape(n_pre, stride)[:, :n_post]

    def _matrices(self, memory: _Memory, flat: NDArray[np.int64]) -> list[NDArray[np.int32]]:
        """Matrices ``(n_pre, n_post)`` in an array that is flat as `memory`."""
        return [
            np.broadcast_to(self._matrix(memory, flat, layer), shape).astype(np.int32)
            for layer, shape in enumerate(self.cfg.shapes)
        ]

    def _post_registers(self, changes: dict[str, int]) -> None:
        pairs = []
        for name, value in changes.items():
            offset = self._register[name].offset
            if self._shadow.registers.get(offset) != value:
                self._shadow.registers[offset] = value
                pairs += [int(Region.REGISTERS) << REGION_SHIFT | offset, value & MASK]
        if pairs:
            self._post_scatter(np.array(pairs, np.int64))

    def _post_synapses(self, memory: _Memory, elements: NDArray[Any]) -> None:
        """Post what differs from the shadow: one by one or, if that is shorter, in bulk."""
        known = self._shadow.synapses.get(memory.bulk)
        self._shadow.synapses[memory.bulk] = elements
        changed = None if known is None else np.flatnonzero(known != elements)
        if changed is not None and not len(changed):
            return
        plane = self._plane if memory.binary else None
        cuts, words = [], memory.words
        if plane is not None:
            cuts = plane.cuts(*(0, memory.size - 1) if changed is None else changed[[0, -1]].tolist())
            words = sum(cut.words for cut in cuts)
        if changed is not None and 2 * len(changed) <= words:
            self._post_pairs(memory.single, changed, elements[changed])
        elif plane is not None:
            self._post_plane(memory, elements, cuts)
        else:
            self._post_range(memory.bulk, memory.pack(elements))

    def _post_plane(self, memory: _Memory, elements: NDArray[np.bool_], cuts: list[_Cut]) -> None:
        """Post frames that write rows of the bit plane; the last word of each is filled with what follows."""
        matrices = [self._matrix(memory, elements, layer).reshape(-1) for layer in range(len(self.cfg.shapes))]
        bits = np.concatenate([*matrices, np.zeros(LINK_BITS - 1, bool)])
        for cut in cuts:
            packed = np.packbits(bits[cut.start : cut.start + LINK_BITS * cut.words], bitorder="little")
            self._posted.append((Opcode.PLANE, cut.row, packed.view("<u4").astype(np.uint32, copy=False)))

    def _post_neurons(self, region: Region, values: NDArray[np.int64]) -> None:
        known = self._shadow.neurons.get(region)
        self._shadow.neurons[region] = values
        if known is None:
            self._post_range(region, values)
        else:
            changed = np.flatnonzero(known != values)
            self._post_pairs(region, changed, values[changed])

    def _post_changes(
        self, region: Region, memory: NDArray[Any], elements: NDArray[np.int64], values: NDArray[Any]
    ) -> None:
        """Write to the shadow `memory` and post what this changed."""
        before = memory[elements]
        memory[elements] = values
        changed = np.unique(elements[before != memory[elements]])
        self._post_pairs(region, changed, memory[changed])

    def _post_pairs(self, region: Region, elements: NDArray[np.int64], values: NDArray[Any]) -> None:
        if len(elements):
            words = values.astype(np.int64, copy=False) & MASK
            self._post_scatter(np.stack([int(region) << REGION_SHIFT | elements, words], axis=1).ravel())

    def _post_scatter(self, pairs: NDArray[np.int64]) -> None:
        self._post(Opcode.SCATTER, 0, pairs, self.cfg.max_payload & ~1)

    def _post_range(self, region: Region, values: NDArray[np.int64]) -> None:
        self._post(Opcode.WRITE, int(region) << REGION_SHIFT, values & MASK, self.cfg.max_payload)

    def _post(self, opcode: Opcode, address: int, payload: NDArray[np.int64], longest: int) -> None:
        """Queue writes, cut into frames; scattered writes join those queued before them."""
        words = payload.astype(np.uint32)
        if opcode == Opcode.SCATTER and self._posted and self._posted[-1][0] == opcode:
            last = self._posted[-1][2]
            if len(last) + len(words) <= longest:
                self._posted[-1] = (opcode, 0, np.concatenate([last, words]))
                return
        for begin in range(0, len(words), longest):
            step = begin if opcode == Opcode.WRITE else 0
            self._posted.append((opcode, address + step, words[begin : begin + longest]))

    # ---- link --------------------------------------------------------------------------------------------------

    def _read(self, region: Region, offset: int, count: int) -> NDArray[np.uint32]:
        if not self._open:
            raise UserError("the chip is closed")
        return self._exchange(_read_request(region, offset, count))[0][0]

    def _exchange(self, *requests: Request) -> list[NDArray[np.uint32]]:
        """Send the posted writes and `requests` together; restart a backend that died, once."""
        try:
            return self._send(*requests)
        except (ChipError, LinkError):
            # What the chip holds is not certain any more; the next call writes it again.
            self._rewrite()
            raise
        except self._died as error:
            warnings.warn(
                f"the chip's backend died and was restarted, nothing is lost: {error}", RuntimeWarning, stacklevel=4
            )
        self._restore()
        return self._send(*requests)

    def _send(self, *requests: Request) -> list[NDArray[np.uint32]]:
        writes = []
        for opcode, address, payload in self._posted:
            at = int(payload[0]) if opcode == Opcode.SCATTER else address
            writes.append(Request(frame(opcode, address, payload), opcode, np.array([at], np.uint32), 0))
        stream = self._backend.exchange(np.concatenate([request.words for request in (*writes, *requests)]))
        # Cleared only now: a backend that dies has not taken them.
        self._posted.clear()
        at, answers = 0, []
        for request in (*writes, *requests):
            answer, at = take(stream, request, at)
            answers.append(answer)
        return answers[len(writes) :]

    def _identify(self) -> None:
        expected = [register for register in global_registers(self.cfg) if register.constant is not None]
        # Without a second try: a backend that dies this early is no use.
        values = self._send(_read_request(Region.REGISTERS, 0, expected[-1].offset + 1))[0][0]
        for register in expected:
            value = int(values[register.offset])
            if value != register.constant:
                raise ChipMismatch(
                    f"the chip's register {register.name} holds {value}, expected {register.constant}: it is not the "
                    f"chip of this configuration"
                )

    def _write_die(self) -> None:
        die = self._die
        if die is None and self.cfg.die_tables and getattr(self._backend, "keeps_memories", False):
            die = Die()
        if die is None:
            return
        tables = die.tables(self.cfg)
        self._post_range(Region.DIE_SYNAPSE, tables.synapse)
        self._post_range(Region.DIE_NEURON, tables.neuron)
        self._post_range(Region.DIE_BIAS, tables.bias)
        self._post_range(Region.DIE_GLOBAL, tables.globals)

    def _restore(self) -> None:
        """Restart the backend and post everything that the chip held; if it dies once more, that is an error."""
        self._backend.restart()  # type: ignore[attr-defined]
        self._posted.clear()
        self._identify()
        self._rewrite()

    def _rewrite(self) -> None:
        """Post everything that the chip should hold."""
        self._posted.clear()
        self._write_die()
        old, self._shadow = self._shadow, _Shadow()
        if self._network is not None:
            self.load(self._network)
        names = {register.offset: name for name, register in self._register.items()}
        self._post_registers({names[offset]: value for offset, value in old.registers.items()})
