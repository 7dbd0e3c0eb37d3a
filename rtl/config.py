"""The one object that hardware, golden model and host share: sizes, widths and options of a chip.

Everything that is *not* in here (weights, thresholds, decays, number of steps, mismatch, ...) is programmed at run
time over the link. Derived values (words per layer, base addresses, memory depths) are computed here and nowhere else.
This module imports no hardware library, so that the host can use it without Amaranth.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, pairwise
from typing import Any

MAGIC = 0x53504B4C
"""First configuration register of every chip: the letters ``SPKL``."""

VERSION = 1
"""Version of registers, frames and memory map; a host refuses a chip with another one."""

BIAS_BITS = 16
"""Width of the signed per-neuron bias."""

MAX_LAYERS = 8
"""Input layer and at most seven layers of neurons (the register map has room for seven)."""

MAX_DELAY_SLOTS = 1024
"""Most time steps for which a chip keeps spikes that are under way."""

DEFAULT_WEIGHT_BITS = 8
"""Width of the weights unless asked for another one."""

LINK_BITS = 32
"""Bits of a word on the link."""

MAX_RECEIVE_WORDS = 1 << 17
"""Largest receive buffer that can be asked for."""

MAX_STEPS = 65_534
"""Longest presentation; first-spike times are 16 bits and 65535 means "none"."""


class ConfigError(ValueError):
    """A chip configuration that cannot be built; the message names the field, the value and what is allowed."""


def _require(ok: bool, field: str, value: object, allowed: str) -> None:
    if not ok:
        raise ConfigError(f"ChipConfig.{field} = {value!r}: must be {allowed}")


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


@dataclass(frozen=True)
class ChipConfig:
    """Sizes, widths and options of one chip.

    Parameters
    ----------
    layers
        Number of inputs, then number of neurons of each layer, for example ``(30, 16, 2)``.
    lanes
        Synapses handled in one clock cycle; a power of two from 4 to 128.
    weight_bits
        Width of the signed weights, 2 to 16. Chips with `binary_weights` have 1, whatever the default.
    state_bits
        Width of the signed synaptic current I and membrane V, 8 to 32; both saturate.
    die_tables
        Build the tables that distort the chip (:class:`host.die.Die`); with `binary_weights` only those of the neurons.
        ``False`` leaves the hardware out.
    trace
        Add the trace port: membrane before and after, spikes and gate of every neuron word.
    learning
        Build what on-chip learning needs: stochastic firing, winner-take-all, gradient spikes and weight updates.
        Needs 4 or more weight bits.
    delay_slots
        Programmable delays of 0 to ``delay_slots - 1`` steps, one for every synapse; 0 builds none. Not together with
        `learning`.
    axonal_delays
        One delay per source instead of one per synapse.
    binary_weights
        Synapses of a single bit, weights -1 and +1, which are added and subtracted. Neither with `learning` nor with
        delays.
    neuron_lanes
        Neurons updated in one clock cycle; a power of two up to `lanes`, 0 for as many. A word of neurons then takes
        ``lanes / neuron_lanes`` cycles, which sources with more spikes than that hide, for a fraction of the
        multipliers and of the memories' width. Fewer than `lanes` neither with `die_tables` nor with `trace`.
    bernoulli
        Build the random numbers of the Bernoulli code. ``False`` leaves the hardware out.
    receive_words
        Words of the receive buffer, hence longest frame without CRC; a power of two that holds a frame of intensities,
        or 0 for room for two of them and for one event at every input.

    Raises
    ------
    ConfigError
        If a value is outside its range.
    """

    layers: tuple[int, ...]
    lanes: int = 8
    weight_bits: int = DEFAULT_WEIGHT_BITS
    state_bits: int = 24
    die_tables: bool = True
    trace: bool = False
    learning: bool = False
    delay_slots: int = 0
    axonal_delays: bool = False
    binary_weights: bool = False
    neuron_lanes: int = 0
    bernoulli: bool = True
    receive_words: int = 0

    def __post_init__(self) -> None:
        layers = self.layers
        _require(
            isinstance(layers, (tuple, list)) and 2 <= len(layers) <= MAX_LAYERS,
            "layers",
            layers,
            f"a sequence of 2 to {MAX_LAYERS} sizes (inputs first)",
        )
        for size in layers:
            _require(_is_int(size) and 1 <= size <= 65_535, "layers", layers, "integers from 1 to 65535")
        object.__setattr__(self, "layers", tuple(layers))
        _require(
            _is_int(self.lanes) and 4 <= self.lanes <= 128 and self.lanes.bit_count() == 1,
            "lanes",
            self.lanes,
            "a power of two from 4 to 128",
        )
        if self.binary_weights is True:
            _require(
                _is_int(self.weight_bits) and self.weight_bits in (1, DEFAULT_WEIGHT_BITS),
                "weight_bits",
                self.weight_bits,
                "1 or left out with binary_weights",
            )
            object.__setattr__(self, "weight_bits", 1)
        else:
            _require(
                _is_int(self.weight_bits) and 2 <= self.weight_bits <= 16,
                "weight_bits",
                self.weight_bits,
                "an integer from 2 to 16 (binary_weights = True builds weights of one bit)",
            )
        _require(
            _is_int(self.state_bits) and 8 <= self.state_bits <= 32,
            "state_bits",
            self.state_bits,
            "an integer from 8 to 32",
        )
        for name in ("die_tables", "trace", "learning", "axonal_delays", "binary_weights", "bernoulli"):
            _require(isinstance(getattr(self, name), bool), name, getattr(self, name), "True or False")
        _require(
            not (self.binary_weights and self.learning),
            "binary_weights",
            self.binary_weights,
            "False with learning (a step of one is too large for a single bit)",
        )
        _require(
            not self.learning or self.weight_bits >= 4, "weight_bits", self.weight_bits, "at least 4 with learning"
        )
        _require(
            not (self.binary_weights and self.delay_slots),
            "binary_weights",
            self.binary_weights,
            "False with delay_slots (a delay would be wider than its weight)",
        )
        _require(
            _is_int(self.delay_slots) and (self.delay_slots == 0 or 2 <= self.delay_slots <= MAX_DELAY_SLOTS),
            "delay_slots",
            self.delay_slots,
            f"0 (no delays) or an integer from 2 to {MAX_DELAY_SLOTS}",
        )
        _require(
            not (self.learning and self.delay_slots),
            "delay_slots",
            self.delay_slots,
            "0 with learning (the rules of learning know no delays)",
        )
        _require(self.delay_slots > 0 or not self.axonal_delays, "axonal_delays", True, "False without delay_slots")
        _require(
            _is_int(self.neuron_lanes)
            and (
                self.neuron_lanes == 0 or (0 < self.neuron_lanes <= self.lanes and self.neuron_lanes.bit_count() == 1)
            ),
            "neuron_lanes",
            self.neuron_lanes,
            f"0 (as many as lanes) or a power of two up to lanes = {self.lanes}",
        )
        for name in ("die_tables", "trace"):
            _require(
                self.neuron_groups == 1 or not getattr(self, name),
                "neuron_lanes",
                self.neuron_lanes,
                f"0 or lanes = {self.lanes} with {name}",
            )
        least = self.shortest_buffer
        _require(
            _is_int(self.receive_words)
            and (
                self.receive_words == 0
                or (least <= self.receive_words <= MAX_RECEIVE_WORDS and self.receive_words.bit_count() == 1)
            ),
            "receive_words",
            self.receive_words,
            f"0 (chosen from the number of inputs) or a power of two from {least} to {MAX_RECEIVE_WORDS}",
        )
        _require(
            self.weight_depth * self.lanes < 1 << 24,
            "layers",
            layers,
            "small enough for 2**24 weights (padded to whole words of `lanes`)",
        )

    # ---- layers -------------------------------------------------------------------------------------------------

    @property
    def n_in(self) -> int:
        """Number of input channels."""
        return self.layers[0]

    @property
    def n_out(self) -> int:
        """Number of neurons of the last layer."""
        return self.layers[-1]

    @property
    def neuron_layers(self) -> tuple[int, ...]:
        """Sizes of the layers of neurons (everything but the inputs)."""
        return self.layers[1:]

    @property
    def n_neurons(self) -> int:
        """Number of neurons on the chip."""
        return sum(self.neuron_layers)

    @property
    def shapes(self) -> tuple[tuple[int, int], ...]:
        """Shape ``(n_pre, n_post)`` of each weight matrix."""
        return tuple(pairwise(self.layers))

    def words_of(self, size: int) -> int:
        """Words of ``lanes`` elements that hold ``size`` elements."""
        return -(-size // self.lanes)

    @cached_property
    def in_words(self) -> int:
        """Words of ``lanes`` inputs."""
        return self.words_of(self.n_in)

    @cached_property
    def words(self) -> tuple[int, ...]:
        """Words of ``lanes`` neurons of each layer of neurons."""
        return tuple(self.words_of(size) for size in self.neuron_layers)

    # ---- memory map (addresses count words of `lanes` elements) --------------------------------------------------

    @cached_property
    def weight_base(self) -> tuple[int, ...]:
        """Word address of the first row of each weight matrix; source j, word w sits at ``base + j * words + w``."""
        sizes = (pre * words for (pre, _), words in zip(self.shapes, self.words, strict=True))
        return tuple(accumulate(sizes, initial=0))[:-1]

    @cached_property
    def weight_depth(self) -> int:
        """Words of the weight memory."""
        return sum(pre * words for (pre, _), words in zip(self.shapes, self.words, strict=True))

    @cached_property
    def neuron_base(self) -> tuple[int, ...]:
        """Word address of the first neuron word of each layer of neurons."""
        return tuple(accumulate(self.words, initial=0))[:-1]

    @cached_property
    def neuron_depth(self) -> int:
        """Words of the neuron memories."""
        return sum(self.words)

    @cached_property
    def weights_per_link_word(self) -> int:
        """Weights in one 32-bit word of the packed weight region: the largest power of two that fits."""
        return min(self.lanes, 1 << ((32 // self.weight_bits).bit_length() - 1))

    @property
    def distorts_synapses(self) -> bool:
        """Whether there are die tables of the synapses; a synapse of one bit has none."""
        return self.die_tables and not self.binary_weights

    @property
    def n_sources(self) -> int:
        """Sources of all weight matrices: rows of the bit plane of a chip with binary weights."""
        return sum(self.layers[:-1])

    @property
    def n_synapses(self) -> int:
        """Synapses of all layers, padding not counted."""
        return sum(pre * post for pre, post in self.shapes)

    # ---- random numbers ------------------------------------------------------------------------------------------

    @property
    def random_banks(self) -> int:
        """Banks of random generators: input, core, and that of learning or of delays."""
        jittery = self.die_tables and self.delay_slots > 0
        return self.bernoulli + self.die_tables + self.learning + jittery

    # ---- neurons -------------------------------------------------------------------------------------------------

    @property
    def neuron_width(self) -> int:
        """Neurons updated in one clock cycle."""
        return self.neuron_lanes or self.lanes

    @property
    def neuron_groups(self) -> int:
        """Clock cycles that the update of a neuron word takes."""
        return self.lanes // self.neuron_width

    # ---- delays --------------------------------------------------------------------------------------------------

    @property
    def delay_bits(self) -> int:
        """Width of a delay; pending arrivals of ``2**delay_bits`` steps are kept. 0 on chips without delays."""
        return max(self.delay_slots - 1, 0).bit_length()

    @property
    def delays_per_link_word(self) -> int:
        """Delays in one 32-bit word of region DELAYS: the largest power of two that fits, 1 with `axonal_delays`."""
        return 1 if self.axonal_delays else min(self.lanes, 1 << ((32 // self.delay_bits).bit_length() - 1))

    @cached_property
    def source_base(self) -> tuple[int, ...]:
        """Place of the first source of each weight matrix among the sources of all matrices."""
        return tuple(accumulate(self.layers[:-1], initial=0))[:-1]

    @property
    def delay_depth(self) -> int:
        """Words of the delay memory: of `lanes` delays, or with `axonal_delays` of one."""
        return self.n_sources if self.axonal_delays else self.weight_depth

    # ---- link ----------------------------------------------------------------------------------------------------

    @property
    def pixel_words(self) -> int:
        """32-bit words of a frame of uint8 intensities, four to a word."""
        return -(-self.n_in // 4)

    @property
    def shortest_buffer(self) -> int:
        """Words of the shortest receive buffer: it holds a frame of intensities, with label, without CRC."""
        return 1 << (self.pixel_words + 2).bit_length()

    @cached_property
    def link_depth(self) -> int:
        """Words of the receive buffer, hence longest frame: two frames of intensities or one event at every input."""
        if self.receive_words:
            return self.receive_words
        return max(1024, 1 << (max(2 * (self.pixel_words + 3), self.n_in + 3) - 1).bit_length())

    @property
    def max_payload(self) -> int:
        """Longest payload of a frame to the chip, in words (header and address need two)."""
        return self.link_depth - 2

    # ---- ranges --------------------------------------------------------------------------------------------------

    @property
    def weight_range(self) -> tuple[int, int]:
        """Smallest and largest weight; with `binary_weights` there is nothing between them."""
        if self.binary_weights:
            return -1, 1
        return -(1 << (self.weight_bits - 1)), (1 << (self.weight_bits - 1)) - 1

    @property
    def state_range(self) -> tuple[int, int]:
        """Smallest and largest current, membrane and threshold."""
        return -(1 << (self.state_bits - 1)), (1 << (self.state_bits - 1)) - 1

    @property
    def bias_range(self) -> tuple[int, int]:
        """Smallest and largest bias."""
        return -(1 << (BIAS_BITS - 1)), (1 << (BIAS_BITS - 1)) - 1

    # ---- JSON ----------------------------------------------------------------------------------------------------

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return dataclasses.asdict(self) | {"layers": list(self.layers)}

    def to_json(self) -> str:
        """One line of JSON with sorted keys: equal configurations give equal text."""
        return json.dumps(self.to_dict(), sort_keys=True)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> ChipConfig:
        """Inverse of :meth:`to_dict`; raises :class:`ConfigError` for unknown or missing fields."""
        known = {field.name for field in dataclasses.fields(cls)}
        unknown = sorted(set(values) - known)
        if unknown or "layers" not in values:
            raise ConfigError(
                f"chip configuration with fields {sorted(values)}: "
                + (f"unknown {unknown}; " if unknown else "")
                + f"allowed are {sorted(known)}, `layers` is needed"
            )
        if not isinstance(values["layers"], (list, tuple)):
            raise ConfigError(f"ChipConfig.layers = {values['layers']!r}: must be a sequence of sizes")
        return cls(**values | {"layers": tuple(values["layers"])})

    @classmethod
    def from_json(cls, text: str) -> ChipConfig:
        """Inverse of :meth:`to_json`; raises :class:`ConfigError` for text that is no such configuration."""
        try:
            values = json.loads(text)
        except json.JSONDecodeError as error:
            raise ConfigError(f"chip configuration is not JSON: {error}") from None
        if not isinstance(values, dict):
            raise ConfigError(f"chip configuration must be a JSON object, got {type(values).__name__}")
        return cls.from_dict(values)
