"""Memories of the chip and what the neurons see of them.

The effective weights have the layout of the weight memory, padding included, so that a write of a few weights updates
just these. Only a new shift or a new transfer class asks for the whole matrix again.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pymodel import die, plane
from rtl.config import BIAS_BITS, ChipConfig
from rtl.registers import DIE_JITTER_OFFSET, DIE_NOISE_OFFSET, DIE_THRESHOLD_NOISE_OFFSET, Region

LINK_MASK = 0xFFFFFFFF


class Synapses:
    """Weight, delay, threshold, bias and die memories.

    Parameters
    ----------
    cfg
        The chip; all memories start at zero (binary weights at +1), die tables at neutral.

    Attributes
    ----------
    effective
        int32, flat as the weight memory: ``effective[weight_base * lanes + j * words * lanes + i]`` is what a spike of
        source j adds to neuron i. Empty on chips with binary weights, as `weights` is.
    weights, synapse_words, die_globals
        int32 / int64 / int64: the stored weights, flat as `effective`, and regions DIE_SYNAPSE and DIE_GLOBAL, for the
        kernel, which changes `weights` and `effective` when it learns. There are no `synapse_words` on chips whose
        synapses are not distorted.
    signs
        int8, flat as the weight memory: the weights -1 and +1 of chips with binary weights; empty on others.
    delays
        uint16, flat as `effective`, also with one delay per source; empty on chips without delays.
    bias, threshold, leak
        int32 / int64 / int64, flat as the neuron memories: effective bias, threshold and membrane decay.
    thetas, neuron_words
        int64, flat alike: stored thresholds and region DIE_NEURON, for thresholds that differ from sample to sample.
    bound
        Per layer, at least the largest possible magnitude of a sum of all effective weights and the bias of a neuron.
    """

    def __init__(self, cfg: ChipConfig) -> None:
        self.cfg = cfg
        lanes, n_layers = cfg.lanes, len(cfg.neuron_layers)
        self._layer_starts = np.array(cfg.weight_base, np.int64) * lanes
        self._neuron_layer = np.repeat(np.arange(n_layers), np.array(cfg.words) * lanes)
        self._fan_in = np.array(cfg.layers[:-1], np.int64)
        n_synapses, n_neurons = cfg.weight_depth * lanes, cfg.neuron_depth * lanes
        n_weights = 0 if cfg.binary_weights else n_synapses
        self.weights = np.zeros(n_weights, np.int32)
        self.signs = np.ones(n_synapses - n_weights, np.int8)
        self.delays = np.zeros(n_weights if cfg.delay_slots else 0, np.uint16)
        self._source_delays = np.zeros(cfg.delay_depth if cfg.axonal_delays else 0, np.uint16)
        self.thetas = np.zeros(n_neurons, np.int64)
        self._biases = np.zeros(n_neurons, np.int64)
        self.synapse_words = np.full(n_weights if cfg.distorts_synapses else 0, die.NEUTRAL_SYNAPSE, np.int64)
        self._bias_words = np.full(n_neurons, die.NEUTRAL_SYNAPSE, np.int64)
        self.neuron_words = np.full(n_neurons, die.NEUTRAL_NEURON, np.int64)
        self.die_globals = die.neutral_globals()
        self._global_masks = die.global_masks(delays=cfg.delay_slots > 0, synapses=cfg.distorts_synapses)
        self._shift = np.zeros(n_layers, np.int64)
        self._forward_shift = np.zeros(n_layers, np.int64)
        self._decay_mem = np.zeros(n_layers, np.int64)
        self.effective = np.zeros(n_weights, np.int32)
        self.bias = np.zeros(n_neurons, np.int32)
        self.threshold = np.zeros(n_neurons, np.int64)
        self.leak = np.zeros(n_neurons, np.int64)
        self._largest = np.zeros(n_layers, np.int64)
        self._reach: NDArray[np.int64] | None = None
        self._stale_synapses = self._stale_neurons = False

    @property
    def bound(self) -> NDArray[np.int64]:
        return self._largest * (self._fan_in + 1)

    @property
    def noise_amplitude(self) -> int:
        """Amplitude of the membrane noise, 0 on chips without die tables."""
        return int(self.die_globals[DIE_NOISE_OFFSET])

    @property
    def threshold_noise_amplitude(self) -> int:
        """Amplitude of the threshold noise, 0 on chips without die tables."""
        return int(self.die_globals[DIE_THRESHOLD_NOISE_OFFSET])

    @property
    def jitter_amplitude(self) -> int:
        """Amplitude of the jitter of delays, 0 on chips without die tables or without delays."""
        return int(self.die_globals[DIE_JITTER_OFFSET])

    # ---- link side ---------------------------------------------------------------------------------------------

    def write(self, region: Region, offsets: NDArray[np.int64], values: NDArray[np.int64]) -> None:
        """Write link words to checked offsets of a memory region; of two writes to one offset the later one counts."""
        cfg = self.cfg
        match region:
            case Region.WEIGHT:
                self._store(offsets, values)
            case Region.WEIGHTS:
                self._store(*_unpack(offsets, values, cfg.weights_per_link_word, cfg.weight_bits))
            case Region.DELAYS if cfg.axonal_delays:
                self._source_delays[offsets] = values & ((1 << cfg.delay_bits) - 1)
                self._spread(offsets)
            case Region.DELAYS:
                elements, fields = _unpack(offsets, values, cfg.delays_per_link_word, cfg.delay_bits)
                self.delays[elements] = fields
            case Region.DELAY:
                self.delays[offsets] = values & ((1 << cfg.delay_bits) - 1)
            case Region.THRESHOLD:
                self.thetas[offsets] = die.signed(values, cfg.state_bits)
                self._stale_neurons = True
            case Region.BIAS:
                self._biases[offsets] = die.signed(values, BIAS_BITS)
                self._stale_neurons = True
            case Region.DIE_SYNAPSE:
                self.synapse_words[offsets] = values & 0x7FFFFFFF
                self._reach = None
                self._refresh(offsets)
            case Region.DIE_BIAS:
                self._bias_words[offsets] = values & 0x7FFFFFFF
                self._stale_neurons = True
            case Region.DIE_NEURON:
                self.neuron_words[offsets] = values
                self._stale_neurons = True
            case Region.DIE_GLOBAL:
                before = self.die_globals[:DIE_NOISE_OFFSET].copy()
                self.die_globals[offsets] = values & self._global_masks[offsets]
                if not np.array_equal(before, self.die_globals[:DIE_NOISE_OFFSET]):
                    self._stale_synapses = self._stale_neurons = True
                    self._reach = None
            case _:
                raise AssertionError(f"{region!r} is not a memory")

    def write_plane(self, row: int, words: NDArray[np.int64]) -> None:
        """Write dense words of the bit plane from a row on, checked by :func:`pymodel.plane.fits`."""
        for layer, first, bits in plane.unpack(self.cfg, row, words):
            sources, n_post = bits.shape
            written = self._matrix(self.signs, layer)[first : first + sources]
            written[:, :n_post] = _signs(bits)
            # The padding of a row's last link word comes with it, as bits 0.
            written[:, n_post : n_post + -n_post % self.cfg.weights_per_link_word] = 1

    def read(self, region: Region, start: int, count: int) -> NDArray[np.int64]:
        """Link words of a checked range of a readable memory region."""
        cfg = self.cfg
        if region == Region.WEIGHTS:
            per_word = cfg.weights_per_link_word
            part = slice(start * per_word, (start + count) * per_word)
            fields = self.signs[part] < 0 if cfg.binary_weights else self.weights[part]
            return _pack(fields, per_word, cfg.weight_bits)
        if region == Region.DELAYS:
            per_word = cfg.delays_per_link_word
            delays = self._source_delays if cfg.axonal_delays else self.delays
            return _pack(delays[start * per_word : (start + count) * per_word], per_word, cfg.delay_bits)
        memory = self.thetas if region == Region.THRESHOLD else self._biases
        return memory[start : start + count] & LINK_MASK

    # ---- neuron side -------------------------------------------------------------------------------------------

    def settle(
        self,
        shift: NDArray[np.int64],
        decay_mem: NDArray[np.int64],
        forward_shift: NDArray[np.int64],
        learning: NDArray[np.int64],
    ) -> None:
        """Bring the effective values up to date with all writes and with the layers' registers.

        `learning` marks the layers whose weights are about to change; `bound` then covers all that they may become.
        """
        if not (np.array_equal(shift, self._shift) and np.array_equal(forward_shift, self._forward_shift)):
            self._stale_synapses = self._stale_neurons = True
            self._shift, self._forward_shift = shift.copy(), forward_shift.copy()
            self._reach = None
        if not np.array_equal(decay_mem, self._decay_mem):
            self._stale_neurons = True
            self._decay_mem = decay_mem.copy()
        if self._stale_synapses:
            self._stale_synapses = False
            self._largest[:] = 0
            self._refresh(np.arange(len(self.weights)))
            self._stale_neurons = True
        if self._stale_neurons:
            self._stale_neurons = False
            self._settle_neurons()
        if learning.any():
            if self._reach is None:
                self._reach = self._farthest()
            self._largest = np.maximum(self._largest, np.where(learning, self._reach, 0))

    def _store(self, elements: NDArray[np.int64], fields: NDArray[np.int64]) -> None:
        """Write fields of weights, of which only the low `weight_bits` count."""
        if self.cfg.binary_weights:
            self.signs[elements] = _signs(fields & 1)
        else:
            self.weights[elements] = die.signed(fields, self.cfg.weight_bits)
            self._refresh(elements)

    def _transfer(
        self,
        elements: NDArray[np.int64],
        weights: NDArray[np.int32],
        effective: NDArray[np.int32],
        largest: NDArray[np.int64],
    ) -> None:
        """Make `effective` from `weights` at these elements of the weight memory, see :func:`pymodel.die.refresh`."""
        die.refresh(
            elements, self._layer_starts, weights, self._forward_shift, self._shift, self.cfg.distorts_synapses,
            self.synapse_words, self.die_globals, effective, largest,
        )  # fmt: skip

    def _farthest(self) -> NDArray[np.int64]:
        """Per layer, the largest magnitude of an effective weight that learning could reach.

        The transfer never falls with the magnitude of a weight, so that the ends of the range decide.
        """
        every, unused = np.arange(len(self.weights)), np.empty_like(self.effective)
        largest = np.zeros_like(self._largest)
        for end in self.cfg.weight_range:
            self._transfer(every, np.full_like(self.weights, end), unused, largest)
        return largest

    def _spread(self, offsets: NDArray[np.int64]) -> None:
        """Give all synapses of these sources the delay that is stored for the source."""
        for layer, (first, (n_pre, _)) in enumerate(zip(self.cfg.source_base, self.cfg.shapes, strict=True)):
            rows = offsets[(offsets >= first) & (offsets < first + n_pre)]
            self._matrix(self.delays, layer)[rows - first] = self._source_delays[rows, None]

    def _matrix(self, memory: NDArray[Any], layer: int) -> NDArray[Any]:
        """View ``(n_pre, n_post with padding)`` of one layer in a memory that is flat as the weights."""
        cfg = self.cfg
        start, n_pre, row = self._layer_starts[layer], cfg.layers[layer], cfg.words[layer] * cfg.lanes
        return memory[start : start + n_pre * row].reshape(n_pre, row)

    def _refresh(self, elements: NDArray[np.int64]) -> None:
        """Recompute the effective weights of these elements, unless all of them are due anyway."""
        if not self._stale_synapses:
            self._transfer(elements, self.weights, self.effective, self._largest)

    def _settle_neurons(self) -> None:
        layer = self._neuron_layer
        shift, decay_mem = self._shift[layer], self._decay_mem[layer]
        if self.cfg.distorts_synapses:
            self.bias = die.distort(self._biases, self._bias_words, shift, self.die_globals)
        else:
            self.bias = (self._biases << shift).astype(np.int32)
        np.maximum.at(self._largest, layer, np.abs(self.bias.astype(np.int64)))
        if self.cfg.die_tables:
            self.threshold = die.thresholds(self.thetas, self.neuron_words, *self.cfg.state_range)
            self.leak = die.leaks(decay_mem, self.neuron_words)
        else:
            self.threshold, self.leak = self.thetas.copy(), decay_mem


def _signs(bits: NDArray[Any]) -> NDArray[np.int8]:
    """Weights of stored bits."""
    return 1 - 2 * bits.astype(np.int8)


def _unpack(
    offsets: NDArray[np.int64], values: NDArray[np.int64], per_word: int, bits: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Elements that bulk words at these offsets hold, and the unsigned field of each."""
    lane = np.arange(per_word)
    elements = (offsets[:, None] * per_word + lane).ravel()
    return elements, (values[:, None] >> (lane * bits)).ravel() & ((1 << bits) - 1)


def _pack(fields: NDArray[Any], per_word: int, bits: int) -> NDArray[np.int64]:
    """Bulk words of these elements of a memory."""
    masked = fields.astype(np.int64) & ((1 << bits) - 1)
    packed: NDArray[np.int64] = (masked.reshape(-1, per_word) << (np.arange(per_word) * bits)).sum(axis=1)
    return packed
