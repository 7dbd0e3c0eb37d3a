"""What is loaded into a chip: weights, thresholds, biases and the constants of each layer."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from host.errors import NetworkError
from host.files import save_arrays
from rtl.config import MAX_LAYERS, ChipConfig
from rtl.registers import RATE_ONE

FILE_KIND = "spikeloop network"
FILE_VERSION = 3
"""Version 1 had no learning options, version 2 no delays; their files are still read."""

THRESHOLD = 8192
"""Default threshold and reset amount, in units of the membrane."""

RESETS = ("none", "zero", "subtract")
"""What a spike does to the membrane; the index is the field RESET of register MODE."""

FIRES = ("threshold", "stochastic", "winner")
"""What makes a neuron spike; the index is the field FIRE of register MODE."""

NOISES = ("none", "flat", "gumbel")
"""Noise of a winner-take-all layer; the index is the field KIND of register NOISE."""

LEARNING: dict[str, tuple[Any, int, int]] = {
    "fire_bits": (0, 0, 16),
    "noise_shift": (0, 0, 15),
    "gradient_bits": (0, 0, 16),
    "rate": (0, 0, RATE_ONE),
    "forward_shift": (0, 0, 7),
}
"""Constants of a layer that only chips with learning have: default, smallest and largest value."""

LEARNING_OPTIONS: dict[str, Any] = {"fire": FIRES[0], "noise": NOISES[0]} | {
    name: default for name, (default, _, _) in LEARNING.items()
}
"""Options that only chips with learning have, and their defaults, which mean the same as on other chips."""

CONSTANTS: dict[str, tuple[Any, int, int]] = {
    "decay_syn": (1024, 0, 4096),
    "decay_mem": (256, 0, 4096),
    "shift": (4, 0, 15),
    "reset_amount": (THRESHOLD, -(1 << 31), (1 << 31) - 1),
    "refractory": (0, 0, 255),
    "gate_centre": (0, -(1 << 31), (1 << 31) - 1),
    "gate_window": (THRESHOLD, -(1 << 31), (1 << 31) - 1),
    **LEARNING,
}
"""Integer constants of a layer: default, smallest and largest value (the chip's state width may allow less)."""


CHOICES = {"reset": RESETS, "fire": FIRES, "noise": NOISES}
"""Options of a layer that name one of several possibilities."""

SWITCHES = ("fire_once", "gate_at_threshold")
"""Options of a layer that are on or off."""


def _whole(values: Any, what: str) -> NDArray[np.int32]:
    """A copy of `values` as int32, refused unless they are integers already: a fraction would be cut silently."""
    if isinstance(values, np.ndarray) and values.dtype == np.int32:
        return values.copy()
    try:
        array = np.asarray(values)
    except ValueError:
        raise NetworkError(f"{what} must be an array of integers, got rows of unequal length") from None
    if array.dtype.kind not in "iu":
        raise NetworkError(f"{what} must be integers, got {array.dtype}")
    limit = 1 << 31
    if array.size and (int(array.min()) < -limit or int(array.max()) >= limit):
        raise NetworkError(f"{what} must be integers of at most 32 bits, got {int(array.min())} to {int(array.max())}")
    return array.astype(np.int32)


def _per_layer(name: str, value: Any, n_layers: int) -> tuple[Any, ...]:
    """A scalar for every layer, or one value per layer, as plain Python values."""
    if not isinstance(value, (tuple, list)) and (isinstance(value, str) or np.ndim(value) == 0):
        return (value.item() if isinstance(value, np.generic) else value,) * n_layers
    if len(value) != n_layers:
        raise NetworkError(f"{name} has {len(value)} values: must be one, or one for each of the {n_layers} layers")
    return tuple(item.item() if isinstance(item, np.generic) else item for item in value)


class Network:
    """Integer parameters of a network; nothing in it depends on a chip (see :meth:`check`).

    Layer 0 is the first layer of neurons. Every constant is one value for all layers or a sequence of one per layer.

    Parameters
    ----------
    weights
        One integer array ``(n_pre, n_post)`` per layer.
    thresholds, biases
        ``None`` (8192 and 0), an integer for all neurons, or per layer an integer or an integer array ``(n_post,)``.
        Biases are added in every step and shifted like weights.
    decay_syn, decay_mem
        Decay of current and membrane per step, in 1/4096; 4096 means no memory.
    shift
        Left shift of the weighted sum, 0 to 15.
    reset
        ``"none"``, ``"zero"`` or ``"subtract"``: what a spike does to the membrane.
    reset_amount
        What ``"subtract"`` subtracts; ``None``: the layer's mean threshold.
    refractory
        Steps after a spike in which a neuron cannot fire, 0 to 255.
    fire_once
        ``True``: at most one spike per sample.
    gate_centre, gate_window, gate_at_threshold
        The gate is open if ``abs(V - centre) < window``; the centre counts from each neuron's threshold if
        `gate_at_threshold`. ``None``: the layer's mean threshold for the window, and for the centre too unless it
        counts from the threshold anyway (then 0).
    fire
        ``"threshold"``, ``"stochastic"`` or, in the last layer, ``"winner"`` (winner-take-all). This and all that
        follows needs a chip with learning.
    fire_bits
        Bits of the random number of stochastic firing, 0 to 16: a neuron fires with probability
        ``(V - threshold) / 2**fire_bits``.
    noise, noise_shift
        Noise of a winner-take-all layer, ``"none"``, ``"flat"`` or ``"gumbel"``, and its left shift, 0 to 15.
    gradient_bits
        Bits of the random number of gradient spikes, 0 to 16.
    rate
        Probability, in 1/65536, that a spike takes part in an update of this layer's weights.
    forward_shift
        Arithmetic right shift of the weights in the forward pass, 0 to 7.
    delays
        Steps from a spike to its arrival: ``None`` (0 everywhere), an integer for all synapses, or per layer an integer
        or an integer array that broadcasts to ``(n_pre, n_post)``: ``(n_pre, 1)`` are axonal, ``(1, n_post)`` dendritic
        delays. Other values than 0 need a chip with delays.

    Raises
    ------
    NetworkError
        If something is not an integer, out of range or of the wrong shape.

    Examples
    --------
    >>> network = Network(weights=[[[1, 2], [3, 4], [5, 6]]], decay_mem=512)
    >>> network.layers
    (3, 2)
    """

    def __init__(
        self,
        weights: Sequence[Any],
        thresholds: Any = None,
        biases: Any = None,
        *,
        decay_syn: Any = 1024,
        decay_mem: Any = 256,
        shift: Any = 4,
        reset: Any = "subtract",
        reset_amount: Any = None,
        refractory: Any = 0,
        fire_once: Any = False,
        gate_centre: Any = None,
        gate_window: Any = None,
        gate_at_threshold: Any = False,
        fire: Any = "threshold",
        fire_bits: Any = 0,
        noise: Any = "none",
        noise_shift: Any = 0,
        gradient_bits: Any = 0,
        rate: Any = 0,
        forward_shift: Any = 0,
        delays: Any = None,
    ) -> None:
        if not isinstance(weights, (list, tuple)) or not 1 <= len(weights) < MAX_LAYERS:
            raise NetworkError(f"weights must be a list of 1 to {MAX_LAYERS - 1} integer arrays (n_pre, n_post)")
        self.weights: list[NDArray[np.int32]] = [_whole(w, f"weights[{i}]") for i, w in enumerate(weights)]
        for index, matrix in enumerate(self.weights):
            if matrix.ndim != 2 or 0 in matrix.shape:
                raise NetworkError(f"weights[{index}] has shape {matrix.shape}: must be (n_pre, n_post)")
            if index and self.weights[index - 1].shape[1] != matrix.shape[0]:
                raise NetworkError(
                    f"weights[{index}] has {matrix.shape[0]} rows: must be the {self.weights[index - 1].shape[1]} "
                    f"columns of weights[{index - 1}]"
                )
        self.thresholds = self._per_neuron("thresholds", thresholds, THRESHOLD)
        self.biases = self._per_neuron("biases", biases, 0)
        self.delays = self._per_synapse("delays", delays)
        for index, matrix in enumerate(self.delays):
            if matrix.min() < 0:
                raise NetworkError(
                    f"delays[{index}] holds values from {matrix.min()} to {matrix.max()}: must be 0 or more"
                )
        n_layers = len(self.weights)
        means = []
        if reset_amount is None or gate_centre is None or gate_window is None:
            means = [int(np.rint(thresholds.mean())) for thresholds in self.thresholds]
        if reset_amount is None:
            reset_amount = means
        if gate_centre is None:
            at_threshold = _per_layer("gate_at_threshold", gate_at_threshold, n_layers)
            gate_centre = [0 if inside else mean for mean, inside in zip(means, at_threshold, strict=True)]
        if gate_window is None:
            gate_window = [abs(mean) for mean in means]
        given = {
            "decay_syn": decay_syn, "decay_mem": decay_mem, "shift": shift, "reset_amount": reset_amount,
            "refractory": refractory, "gate_centre": gate_centre, "gate_window": gate_window, "fire_bits": fire_bits,
            "noise_shift": noise_shift, "gradient_bits": gradient_bits, "rate": rate, "forward_shift": forward_shift,
        }  # fmt: skip
        self.constants: dict[str, tuple[int, ...]] = {}
        """Integer constants by name, one value per layer."""
        for name, value in given.items():
            _, low, high = CONSTANTS[name]
            values = _per_layer(name, value, n_layers)
            for item in values:
                if not isinstance(item, int) or isinstance(item, bool) or not low <= item <= high:
                    raise NetworkError(f"{name} = {item!r}: must be an integer from {low} to {high}")
            self.constants[name] = values
        self.reset: tuple[str, ...] = _per_layer("reset", reset, n_layers)
        self.fire: tuple[str, ...] = _per_layer("fire", fire, n_layers)
        self.noise: tuple[str, ...] = _per_layer("noise", noise, n_layers)
        for name, allowed in CHOICES.items():
            for item in getattr(self, name):
                if item not in allowed:
                    raise NetworkError(f"{name} = {item!r}: must be one of {', '.join(allowed)}")
        self.fire_once: tuple[bool, ...] = _per_layer("fire_once", fire_once, n_layers)
        self.gate_at_threshold: tuple[bool, ...] = _per_layer("gate_at_threshold", gate_at_threshold, n_layers)
        for name in SWITCHES:
            for item in getattr(self, name):
                if not isinstance(item, bool):
                    raise NetworkError(f"{name} = {item!r}: must be True or False")

    def _per_neuron(self, name: str, values: Any, default: int) -> list[NDArray[np.int32]]:
        result = []
        for index, array in enumerate(self._entries(name, default if values is None else values)):
            size = self.weights[index].shape[1]
            if array.shape not in ((), (size,)):
                raise NetworkError(f"{name}[{index}] has shape {array.shape}: must be a single integer or ({size},)")
            result.append(array if array.ndim else np.full(size, array))
        return result

    def _per_synapse(self, name: str, values: Any) -> list[NDArray[np.int32]]:
        result = []
        for index, array in enumerate(self._entries(name, 0 if values is None else values)):
            shape = self.weights[index].shape
            try:
                result.append(array if array.shape == shape else np.broadcast_to(array, shape).copy())
            except ValueError:
                raise NetworkError(
                    f"{name}[{index}] has shape {array.shape}: must be a single integer, or broadcast to {shape}"
                ) from None
        return result

    def _entries(self, name: str, values: Any) -> list[NDArray[np.int32]]:
        """One integer for all layers, or one entry for each, as an array per layer."""
        n_layers = len(self.weights)
        if np.isscalar(values) or (isinstance(values, np.ndarray) and values.ndim == 0):
            values = [values] * n_layers
        if not isinstance(values, (list, tuple, np.ndarray)) or len(values) != n_layers:
            raise NetworkError(f"{name} must be one integer, or one entry for each of the {n_layers} layers")
        return [_whole(entry, f"{name}[{index}]") for index, entry in enumerate(values)]

    @property
    def layers(self) -> tuple[int, ...]:
        """Number of inputs, then of neurons of each layer."""
        return (self.weights[0].shape[0], *(matrix.shape[1] for matrix in self.weights))

    def options(self) -> dict[str, Any]:
        """Keyword arguments other than `weights` that make this network again."""
        return {
            "thresholds": [array.copy() for array in self.thresholds],
            "biases": [array.copy() for array in self.biases],
            "delays": [array.copy() for array in self.delays],
            **self.constants,
            **{name: getattr(self, name) for name in (*CHOICES, *SWITCHES)},
        }

    def replace(self, **changes: Any) -> Network:
        """A copy in which some constructor arguments are different."""
        return Network(**{"weights": self.weights, **self.options(), **changes})

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Network):
            return NotImplemented
        arrays = zip(self._arrays(), other._arrays(), strict=False)
        plain = ("layers", "constants", *CHOICES, *SWITCHES)
        return all(getattr(self, name) == getattr(other, name) for name in plain) and all(
            np.array_equal(a, b) for a, b in arrays
        )

    __hash__ = None  # type: ignore[assignment]

    def _arrays(self) -> list[NDArray[np.int32]]:
        return [*self.weights, *self.thresholds, *self.biases, *self.delays]

    def __repr__(self) -> str:
        return f"Network(layers={self.layers})"

    def check(self, cfg: ChipConfig) -> None:
        """Raise :class:`NetworkError` unless the chip `cfg` can hold this network exactly."""
        if self.layers != cfg.layers:
            raise NetworkError(f"the network has layers {self.layers}: must be the chip's {cfg.layers}")
        for index, matrix in enumerate(self.weights):
            check_weights(f"weights[{index}]", matrix, cfg)
        for name, arrays, (low, high) in (
            ("thresholds", self.thresholds, cfg.state_range),
            ("biases", self.biases, cfg.bias_range),
        ):
            for index, array in enumerate(arrays):
                check_range(f"{name}[{index}]", array, low, high)
        self._check_delays(cfg)
        low, high = cfg.state_range
        for name in ("reset_amount", "gate_centre", "gate_window"):
            for value in self.constants[name]:
                if not low <= value <= high:
                    raise NetworkError(f"{name} = {value}: must be from {low} to {high} ({cfg.state_bits} state bits)")
        if "winner" in self.fire[:-1]:
            raise NetworkError(f"fire = {self.fire!r}: only the last layer can be 'winner'")
        for name, default in LEARNING_OPTIONS.items() if not cfg.learning else ():
            values = self.constants[name] if name in self.constants else getattr(self, name)
            if set(values) != {default}:
                raise NetworkError(
                    f"{name} = {values!r}: needs a chip with learning hardware, ChipConfig(learning=True), "
                    f"or must be {default!r}"
                )

    def _check_delays(self, cfg: ChipConfig) -> None:
        for index, matrix in enumerate(self.delays):
            most = int(matrix.max())
            if not cfg.delay_slots and matrix.any():
                raise NetworkError(
                    f"delays[{index}] holds values from {matrix.min()} to {most}: needs a chip with delays, "
                    f"ChipConfig(delay_slots={most + 1}), or must be 0"
                )
            check_range(f"delays[{index}]", matrix, 0, max(cfg.delay_slots - 1, 0))
            if cfg.axonal_delays and (matrix != matrix[:, :1]).any():
                row = int((matrix != matrix[:, :1]).any(axis=1).argmax())
                raise NetworkError(
                    f"delays[{index}][{row}] holds values from {matrix[row].min()} to {matrix[row].max()}: must be one "
                    f"value, for a chip with axonal_delays has one delay per source"
                )

    # ---- files -------------------------------------------------------------------------------------------------

    def save(self, path: str | Path) -> None:
        """Write the network as ``.npz`` (no pickled objects). A crash never leaves half a file."""
        path = Path(path)
        n_layers = len(self.weights)
        content: dict[str, Any] = {
            "kind": np.array(FILE_KIND),
            "version": np.array(FILE_VERSION),
            "n_layers": np.array(n_layers),
        }
        content |= {name: np.array(getattr(self, name)) for name in (*CHOICES, *SWITCHES)}
        content |= {name: np.array(values, np.int64) for name, values in self.constants.items()}
        for index in range(n_layers):
            content[f"weights_{index}"] = self.weights[index]
            content[f"thresholds_{index}"] = self.thresholds[index]
            content[f"biases_{index}"] = self.biases[index]
            content[f"delays_{index}"] = self.delays[index]
        path.parent.mkdir(parents=True, exist_ok=True)
        save_arrays(path, content)

    @classmethod
    def load(cls, path: str | Path) -> Network:
        """Read what :meth:`save` wrote; raises :class:`NetworkError` if the file is missing, damaged or foreign."""
        try:
            with np.load(path, allow_pickle=False) as file:
                content = {name: file[name] for name in file.files} if hasattr(file, "files") else {}
            if str(content.get("kind")) != FILE_KIND:
                raise NetworkError(f"{path} is not a saved network")
            version = int(content["version"])
            if not 1 <= version <= FILE_VERSION:
                raise NetworkError(
                    f"{path} has format version {version}: this program reads versions 1 to {FILE_VERSION}"
                )
            layers = range(int(content["n_layers"]))
            names = [*CONSTANTS, *CHOICES, *SWITCHES]
            if version == 1:
                names = [name for name in names if name not in LEARNING_OPTIONS]
            return cls(
                weights=[content[f"weights_{index}"] for index in layers],
                thresholds=[content[f"thresholds_{index}"] for index in layers],
                biases=[content[f"biases_{index}"] for index in layers],
                delays=[content[f"delays_{index}"] for index in layers] if version >= 3 else None,
                **{name: content[name] for name in names},
            )
        except NetworkError:
            raise
        except FileNotFoundError:
            raise NetworkError(f"{path} does not exist") from None
        except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
            raise NetworkError(f"{path} is damaged or not a saved network ({type(error).__name__}: {error})") from None


def check_range(what: str, values: NDArray[Any], low: int, high: int) -> None:
    """Raise :class:`NetworkError` unless all `values` lie in ``low..high``."""
    if values.size and (int(values.min()) < low or int(values.max()) > high):
        raise NetworkError(f"{what} holds values from {values.min()} to {values.max()}: must be from {low} to {high}")


def check_weights(what: str, values: NDArray[Any], cfg: ChipConfig) -> None:
    """Raise :class:`NetworkError` unless the chip `cfg` can hold all `values` as weights."""
    if not cfg.binary_weights:
        check_range(what, values, *cfg.weight_range)
    elif (wrong := np.abs(values) != 1).any():
        raise NetworkError(
            f"{what} holds {values[wrong][0]}: must be -1 or 1 on a chip with binary weights "
            f"(take the sign of real weights, that of 0 as 1)"
        )
