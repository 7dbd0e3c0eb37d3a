"""One sample after the other: layers, steps, read-outs and the clock cycles they take.

The loop over samples is one compiled function. It releases the interpreter lock, so that large batches are spread over
threads; unlike Numba's own parallel loops that is safe under fork and when several chips run at once.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from pymodel.delays import collect, send, send_jittered
from pymodel.die import noise, noisy_threshold
from pymodel.encoder import RATE_START, encode_bernoulli, encode_rate, take_events, unpack_pixels
from pymodel.learning import (
    C_LEARN,
    ENABLED,
    FIRE_MASK,
    FORWARD_SHIFT,
    GRADIENT_MASK,
    NOISE_KIND,
    NOISE_SHIFT,
    RATE,
    SHIFT,
    backward,
    choose_winner,
)
from pymodel.neuron import add_rows, add_signs, fire, integrate, open_gates, reset_membrane
from pymodel.random import DISCARDED_ROUNDS, DRAW_BITS, draw_words, seed_banks
from pymodel.synapses import Synapses
from rtl.config import ChipConfig
from rtl.registers import BAD_EVENTS, Encoding, Fire, Noise

# Clock cycles besides those that the formulas of docs/cycles.md count one by one.
C_SAMPLE = 0
"""Per sample."""
C_SEED = 0
"""Per sample whose generators are seeded, besides the rounds themselves."""
C_STEP = 0
"""Per time step."""
C_LAYER = 6
"""Per layer and step, besides the groups of neurons that are updated together."""
C_DIE = 2
"""Per layer and step on chips with die tables of synapses, whose pipeline is longer."""
C_ENC = 3
"""Per step whose input spikes are made from intensities."""
C_EVENTS = 3
"""Per step whose input spikes are events."""

NONE = 0xFFFF
"""First-spike time of a neuron that never fired."""

# Rows of the array of layer constants; pymodel.learning has more.
DECAY_SYN, RESET, RESET_AMOUNT, REFRACTORY, FIRE_ONCE, GATE_AT_THRESHOLD, GATE_CENTRE, GATE_WINDOW, FIRE = range(9)
N_CONSTANTS = SHIFT + 1

WORTH_A_THREAD = 1e6
"""Nanoseconds of work for which one more thread pays."""


@dataclass(frozen=True)
class Control:
    """Everything a sample depends on besides memories and payload: the registers. Arrays are int64, one per layer.

    Registers that a chip does not have are zero.
    """

    steps: int
    encoding: int
    raster: bool
    gate: bool
    gradient: bool
    early_end: bool
    brief: bool
    shift: NDArray[np.int64]
    decay_syn: NDArray[np.int64]
    decay_mem: NDArray[np.int64]
    reset: NDArray[np.int64]
    reset_amount: NDArray[np.int64]
    refractory: NDArray[np.int64]
    fire_once: NDArray[np.int64]
    gate_at_threshold: NDArray[np.int64]
    gate_centre: NDArray[np.int64]
    gate_window: NDArray[np.int64]
    fire: NDArray[np.int64]
    fire_bits: NDArray[np.int64]
    noise_shift: NDArray[np.int64]
    noise_kind: NDArray[np.int64]
    gradient_bits: NDArray[np.int64]
    rate: NDArray[np.int64]
    forward_shift: NDArray[np.int64]
    enabled: NDArray[np.int64]
    """1 for layers whose weights LEARN frames change."""


@dataclass(frozen=True)
class Samples:
    """The samples of successive RUN or of successive LEARN frames; arrays are int64, one element per sample."""

    words: NDArray[np.uint32]
    """Holds the payloads ``words[start:start + length]``, without labels."""
    starts: NDArray[np.int64]
    lengths: NDArray[np.int64]
    seeds: NDArray[np.int64]
    labels: NDArray[np.int64]
    learn: bool
    """LEARN frames; `labels` counts for them alone."""


@dataclass(frozen=True)
class Trace:
    """One sample seen from inside; int64 ``(steps, neuron_depth * lanes)``, flat as the neuron memories.

    There are as many rows as steps were run, fewer than STEPS in a sample that ended early.
    Only real neurons are filled in; padding lanes stay 0.
    """

    before: NDArray[np.int64]
    """Membrane before the step; of a winner-take-all layer, before the reset at the end of this step."""
    after: NDArray[np.int64]
    """Membrane after the step, a reset included."""
    spikes: NDArray[np.int64]
    gates: NDArray[np.int64]
    positive: NDArray[np.int64]
    negative: NDArray[np.int64]
    """Gradient spikes of LEARN frames."""


def stream_words(cfg: ChipConfig, control: Control, learn: bool) -> int:
    """Words of the raster, gate and gradient streams in an answer."""
    kinds = int(control.raster) + int(control.gate) + 2 * int(control.gradient and learn)
    return control.steps * cfg.neuron_depth * kinds * -(-cfg.lanes // 32)


def answer_words(cfg: ChipConfig, control: Control, learn: bool) -> int:
    """Payload words of the answer to a RUN or LEARN frame."""
    potentials = 0 if control.brief else 2 * cfg.n_out
    return stream_words(cfg, control, learn) + 2 + (2 if learn else 1) * cfg.n_neurons + potentials


def _sources_digest() -> int:
    text = b"".join(path.read_bytes() for path in sorted(Path(__file__).parent.glob("*.py")))
    return int.from_bytes(hashlib.sha256(text).digest()[:7], "big")


@njit(nogil=True)
def mark_one(out: NDArray[np.uint32], position: int, pitch: int, lanes: int, i: int) -> None:
    """Set the bit of neuron `i` in a raster that starts at `position`, with `pitch` link words to a neuron word."""
    out[position + i // lanes * pitch + i % lanes // 32] |= np.uint32(1 << (i % lanes % 32))


@njit(nogil=True)
def mark_open(
    out: NDArray[np.uint32],
    position: int,
    pitch: int,
    lanes: int,
    gates: NDArray[np.int64],
    base: np.uint64,
    n: np.uint64,
) -> None:
    """Set the bits of all open gates of a layer, a link word at a time."""
    width = np.uint64(min(lanes, 32))
    per_word = np.uint64(lanes) // width
    for word in range((n + width - np.uint64(1)) // width):
        first = word * width
        bits = 0
        for i in range(first, min(first + width, n)):
            bits |= gates[base + i] << (i - first)
        out[position + word // per_word * pitch + word % per_word] = np.uint32(bits)


@njit(nogil=True)
def mark(
    out: NDArray[np.uint32], position: int, pitch: int, lanes: int, listed: NDArray[np.int64], n_listed: int
) -> None:
    """Set the bits of all listed neurons."""
    for k in range(n_listed):
        mark_one(out, position, pitch, lanes, listed[k])


@cache
def _kernel() -> Callable[..., int]:
    # Numba's cache looks only at the file of the cached function, not at the functions it calls. It does look at
    # enclosed variables, hence the digest of all sources of the model: a changed block is never run from an old cache.
    # For the same reason no function that calls one of another file is cached by itself.
    digest = _sources_digest()

    @njit(cache=True, nogil=True)
    def run(
        begin, end, words, starts, lengths, seeds, labels, learn, sizes, n_words, weight_base, neuron_base, lanes,
        groups, low, high, weight_low, weight_high, die_tables, learning, bernoulli, slots, steps, encoding, raster,
        gate, gradient, early_end, brief, amplitude, threshold_amplitude, jitter_amplitude, seeded, drawing, constants,
        weights, signs, bias, settled_threshold, leak, wide, stored, synapse_words, table, delays, thetas,
        neuron_words, costs, out, tracing, trace,
    ):  # fmt: skip
        """Returns the number of steps that the last sample took."""
        if digest < 0:
            return 0
        n_layers = len(n_words)
        n_in = sizes[0]
        n_elements = len(bias)
        widest = sizes.max()
        link_words = (lanes + 31) // 32
        kinds = raster + gate
        least = max(kinds * link_words, groups)
        c_sample, c_seed, c_step, c_layer, c_enc, c_events = costs
        generators = lanes // 2

        pixels = np.zeros(n_in, np.int64)
        lit = np.zeros(n_in, np.int64)
        accumulator = np.zeros(n_in, np.int64)
        sources = np.zeros(widest + 1, np.int64)
        fired = np.zeros(widest + 1, np.int64)
        fires = np.zeros(widest, np.int64)
        # The sources of every layer, kept for the backward pass.
        spiking = np.zeros((n_layers, widest), np.int64)
        n_spiking = np.zeros(n_layers, np.int64)
        narrow_total = np.zeros(widest, np.int32)
        wide_total = np.zeros(widest, np.int64)
        byte_total = np.zeros(widest, np.int8)
        disturbance = np.zeros(widest, np.int64)
        input_bank = np.zeros(generators if bernoulli else 0, np.int64)
        core_bank = np.zeros(generators if die_tables else 0, np.int64)
        learning_bank = np.zeros(generators if learning else 0, np.int64)
        delay_bank = np.zeros(generators if die_tables and slots > 0 else 0, np.int64)
        draws = np.zeros(2 * n_words.max() * generators, np.int64)
        pending = np.zeros((slots, n_elements), np.int64)
        threshold = np.zeros(n_elements, np.int64) if threshold_amplitude != 0 else settled_threshold
        cursor = np.zeros(3, np.int64)
        current = np.zeros(n_elements, np.int64)
        membrane = np.zeros(n_elements, np.int64)
        waiting = np.zeros(n_elements, np.int64)
        count = np.zeros(n_elements, np.int64)
        first = np.zeros(n_elements, np.int64)
        potential = np.zeros(sizes[-1], np.int64)
        gates = np.zeros(n_elements, np.int64)
        hits = np.zeros((n_layers, max(widest, 2)), np.int64)
        n_hits = np.zeros(n_layers, np.int64)
        sign = np.zeros(n_elements, np.int32)
        gradients = np.zeros((2, n_elements), np.int64)

        for s in range(begin, end):
            current[:] = 0
            membrane[:] = 0
            waiting[:] = 0
            count[:] = 0
            first[:] = NONE
            potential[:] = 0
            if learn:
                gradients[:] = 0
            cursor[0], cursor[1], cursor[2] = 0, -1, 0
            pending[:] = 0
            cycles = c_sample + slots * n_words.sum()
            n_lit = 0
            if encoding <= Encoding.BERNOULLI:
                cycles += lengths[s]
                unpack_pixels(words, starts[s], n_in, pixels)
                accumulator[:] = RATE_START
                for j in range(n_in):
                    lit[n_lit] = j
                    n_lit += pixels[j] != 0
            if seeded:
                # No chip has both of the last two.
                seed_banks(seeds[s], input_bank, core_bank, learning_bank, delay_bank)
                cycles += c_seed + DISCARDED_ROUNDS + len(input_bank) + len(core_bank)
                cycles += len(learning_bank) + len(delay_bank)

            input_spikes = 0
            work = 0
            position = 0
            silent = sizes[-1]
            ran = steps
            for t in range(steps):
                if encoding == Encoding.RATE:
                    n_sources = encode_rate(pixels, lit, n_lit, accumulator, sources)
                    encoding_cycles = (n_in + lanes - 1) // lanes + c_enc
                elif encoding == Encoding.BERNOULLI:
                    n_sources = encode_bernoulli(pixels, lanes, input_bank, sources)
                    encoding_cycles = (n_in + lanes - 1) // lanes + c_enc
                else:
                    n_sources = take_events(words, starts[s], lengths[s], t, n_in, cursor, sources)
                    encoding_cycles = n_sources + c_events
                # The encoder prepares a step while the layers work on the one before.
                cycles += max(work, encoding_cycles)
                work = c_step
                if early_end and silent == 0:
                    # The encoder had this step under way when the sample ended.
                    work = 0
                    ran = t
                    break
                input_spikes += n_sources

                for layer in range(n_layers):
                    size = sizes[layer + 1]
                    n = np.uint64(size)
                    base = np.uint64(neuron_base[layer] * lanes)
                    stride = n_words[layer] * lanes
                    first_weight = weight_base[layer] * lanes
                    work += n_words[layer] * max(n_sources + (slots > 0), least) + c_layer
                    if learn:
                        n_spiking[layer] = n_sources
                        for j in range(n_sources):
                            spiking[layer, j] = sources[j]
                    if tracing:
                        for i in range(n):
                            trace[0, t, base + i] = membrane[base + i]
                    if t == 0 and threshold_amplitude != 0:
                        # Two draws a word: for the membrane, then for the threshold.
                        draw_words(core_bank, 2 * n_words[layer], draws)
                        for i in range(size):
                            lane = i // lanes * lanes + i
                            disturbance[i] = noise(draws, lane, amplitude)
                            k = neuron_base[layer] * lanes + i
                            extra = noise(draws, lane + lanes, threshold_amplitude)
                            threshold[k] = noisy_threshold(thetas[k], neuron_words[k], extra, low, high)
                    elif amplitude != 0:
                        draw_words(core_bank, n_words[layer], draws)
                        for i in range(size):
                            disturbance[i] = noise(draws, i, amplitude)
                    decay_syn = constants[DECAY_SYN, layer]
                    if slots > 0:
                        if jitter_amplitude != 0:
                            send_jittered(
                                pending, t, neuron_base[layer] * lanes, size, weights, delays, first_weight, stride,
                                sources, n_sources, lanes, jitter_amplitude, delay_bank, draws,
                            )  # fmt: skip
                        else:
                            send(
                                pending, np.uint64(t), base, n, weights, delays, first_weight, stride, sources,
                                n_sources,
                            )  # fmt: skip
                        collect(wide_total, bias, base, n, pending, np.uint64(t))
                        integrate(current, membrane, base, n, wide_total, decay_syn, leak, disturbance, low, high)
                    elif len(signs) > 0:
                        add_signs(
                            wide_total, bias, base, n, signs, first_weight, stride, sources, n_sources,
                            constants[SHIFT, layer], byte_total,
                        )  # fmt: skip
                        integrate(current, membrane, base, n, wide_total, decay_syn, leak, disturbance, low, high)
                    elif wide[layer]:
                        add_rows(wide_total, bias, base, n, weights, first_weight, stride, sources, n_sources)
                        integrate(current, membrane, base, n, wide_total, decay_syn, leak, disturbance, low, high)
                    else:
                        add_rows(narrow_total, bias, base, n, weights, first_weight, stride, sources, n_sources)
                        integrate(current, membrane, base, n, narrow_total, decay_syn, leak, disturbance, low, high)

                    if layer == n_layers - 1:
                        for i in range(n):
                            potential[i] += membrane[base + i]
                    if gate or tracing or learn:
                        open_gates(
                            membrane, threshold, base, n, constants[GATE_CENTRE, layer], constants[GATE_WINDOW, layer],
                            constants[GATE_AT_THRESHOLD, layer], gates,
                        )  # fmt: skip

                    if drawing:
                        draw_words(learning_bank, n_words[layer], draws)
                    if constants[FIRE, layer] == Fire.WINNER:
                        work += n_words[layer] * least + c_layer
                        for i in range(n):
                            waiting[base + i] -= waiting[base + i] > 0
                            if tracing:
                                trace[0, t, base + i] = membrane[base + i]
                        fired[0] = choose_winner(
                            membrane, neuron_base[layer] * lanes, size, draws, constants[NOISE_KIND, layer],
                            constants[NOISE_SHIFT, layer],
                        )  # fmt: skip
                        n_fired = 1
                    else:
                        n_fired = fire(
                            membrane, threshold, waiting, count, base, n, constants[FIRE_ONCE, layer],
                            constants[FIRE, layer] == Fire.STOCHASTIC, draws, constants[FIRE_MASK, layer], fires,
                            fired,
                        )  # fmt: skip
                    reset, amount = constants[RESET, layer], constants[RESET_AMOUNT, layer]
                    for f in range(n_fired):
                        k = base + np.uint64(fired[f])
                        membrane[k] = reset_membrane(membrane[k], reset, amount, low, high)
                        waiting[k] = constants[REFRACTORY, layer]
                        if count[k] == 0:
                            first[k] = t
                            silent -= layer == n_layers - 1
                        count[k] += 1
                    if raster:
                        mark(out[s], position, kinds * link_words, lanes, fired, n_fired)
                    if gate:
                        mark_open(out[s], position + raster * link_words, kinds * link_words, lanes, gates, base, n)
                    if tracing:
                        for i in range(n):
                            trace[1, t, base + i] = membrane[base + i]
                            trace[3, t, base + i] = gates[base + i]
                        for f in range(n_fired):
                            trace[2, t, base + np.uint64(fired[f])] = 1
                    position += n_words[layer] * kinds * link_words
                    sources, fired = fired, sources
                    n_sources = n_fired

                if learn:
                    work += C_LEARN
                    n_hits[:] = 0
                    if constants[FIRE, n_layers - 1] == Fire.WINNER and sources[0] != labels[s]:
                        work += backward(
                            sources[0], labels[s], sizes, n_words, weight_base, neuron_base, lanes, constants,
                            gates, spiking, n_spiking, stored, weights, synapse_words, table, die_tables, weight_low,
                            weight_high, learning_bank, draws, hits, n_hits, sign, groups,
                        )  # fmt: skip
                    for layer in range(n_layers):
                        for f in range(n_hits[layer]):
                            i = hits[layer, f]
                            k = neuron_base[layer] * lanes + i
                            kind = 0 if sign[k] > 0 else 1
                            sign[k] = 0
                            gradients[kind, k] += 1
                            if gradient:
                                mark_one(out[s], position + kind * link_words, 2 * link_words, lanes, i)
                            if tracing:
                                trace[4 + kind, t, k] = 1
                        if gradient:
                            work += n_words[layer] * 2 * link_words
                            position += n_words[layer] * 2 * link_words

            cycles += work
            # Whatever stops the reading is an error, but for the end of a sample that came early.
            if encoding >= Encoding.EVENTS and (cursor[2] or (ran == steps and cursor[0] < lengths[s])):
                input_spikes |= BAD_EVENTS
            out[s, position] = np.uint32(cycles)
            out[s, position + 1] = np.uint32(input_spikes)
            position += 2
            for layer in range(n_layers):
                for i in range(sizes[layer + 1]):
                    k = neuron_base[layer] * lanes + i
                    out[s, position] = np.uint32(first[k] << 16 | min(count[k], 0xFFFF))
                    position += 1
            if not brief:
                for i in range(sizes[-1]):
                    out[s, position] = np.uint32(potential[i] & 0xFFFFFFFF)
                    out[s, position + 1] = np.uint32((potential[i] >> 32) & 0xFFFFFFFF)
                    position += 2
            if learn:
                for layer in range(n_layers):
                    for i in range(sizes[layer + 1]):
                        k = neuron_base[layer] * lanes + i
                        out[s, position] = np.uint32(gradients[0, k] << 16 | gradients[1, k])
                        position += 1
        return ran

    return run


class Sequencer:
    """Runs samples on the memories of a chip."""

    def __init__(self, cfg: ChipConfig, synapses: Synapses) -> None:
        self.cfg = cfg
        self.synapses = synapses
        as_array = lambda values: np.array(values, np.int64)  # noqa: E731
        self._shape: tuple[Any, ...] = (
            as_array(cfg.layers), as_array(cfg.words), as_array(cfg.weight_base), as_array(cfg.neuron_base), cfg.lanes,
            cfg.neuron_groups,
            *cfg.state_range, *cfg.weight_range, cfg.die_tables, cfg.learning, cfg.bernoulli,
            1 << cfg.delay_bits if cfg.delay_slots else 0,
        )  # fmt: skip
        c_layer = C_LAYER + cfg.neuron_groups + C_DIE * cfg.distorts_synapses
        self._costs = (C_SAMPLE, C_SEED, C_STEP, c_layer, C_ENC, C_EVENTS)
        self._no_trace = np.zeros((6, 1, 1), np.int64)

    def run(self, control: Control, samples: Samples) -> NDArray[np.uint32]:
        """Run samples.

        Returns
        -------
        uint32 ``(n_samples, answer_words)``: the payloads of the answers.
        """
        n = len(samples.starts)
        out = np.zeros((n, answer_words(self.cfg, control, samples.learn)), np.uint32)
        arguments = self._arguments(control, samples)
        run = _kernel()
        # Rough: a quarter of the sources spikes, a row costs 8 ns and 1/8 ns a weight, a neuron 5 ns.
        per_step = sum(n_pre * (2 + n_post / 32) + 5 * n_post for n_pre, n_post in self.cfg.shapes)
        cores = int(os.environ.get("NUMBA_NUM_THREADS") or os.cpu_count() or 1)
        workers = min(cores, n, 1 + int(n * control.steps * per_step / WORTH_A_THREAD))
        # A sample that learns changes the weights of the next one.
        if workers < 2 or (samples.learn and control.enabled.any()):
            run(0, n, *arguments, out, False, self._no_trace)
            return out
        # More parts than threads: samples differ in work, and other programs may hold a core.
        edges = np.linspace(0, n, min(4 * workers, n) + 1).astype(int).tolist()
        with ThreadPoolExecutor(workers) as pool:
            parts = [pool.submit(run, a, b, *arguments, out, False, self._no_trace) for a, b in pairwise(edges)]
            for part in parts:
                part.result()
        return out

    def trace(self, control: Control, samples: Samples) -> tuple[NDArray[np.uint32], list[Trace]]:
        """Like :meth:`run`, and what happened inside every sample."""
        n = len(samples.starts)
        out = np.zeros((n, answer_words(self.cfg, control, samples.learn)), np.uint32)
        arguments = self._arguments(control, samples)
        traces = []
        for s in range(n):
            inside = np.zeros((6, control.steps, self.cfg.neuron_depth * self.cfg.lanes), np.int64)
            steps = _kernel()(s, s + 1, *arguments, out, True, inside)
            traces.append(Trace(*inside[:, :steps]))
        return out, traces

    def _arguments(self, control: Control, samples: Samples) -> tuple[Any, ...]:
        memory = self.synapses
        enabled = control.enabled if samples.learn else np.zeros_like(control.enabled)
        memory.settle(control.shift, control.decay_mem, control.forward_shift, enabled)
        rules = effective_fire(control.fire)
        amplitudes = memory.noise_amplitude, memory.threshold_noise_amplitude, memory.jitter_amplitude
        encoding = control.encoding
        if encoding == Encoding.BERNOULLI and not self.cfg.bernoulli:
            encoding = Encoding.RATE
        seeded = encoding == Encoding.BERNOULLI or any(amplitudes) or control.fire.any() or samples.learn
        # The length of an answer with rasters, and of what a LEARN frame does, depends on registers alone.
        early_end = control.early_end and not (control.raster or control.gate or samples.learn)
        # Without any of these nothing looks at the learning bank.
        noisy = rules[-1] == Fire.WINNER and control.noise_kind[-1] in (Noise.FLAT, Noise.GUMBEL)
        drawing = samples.learn or noisy or (rules == Fire.STOCHASTIC).any()
        rows = {
            DECAY_SYN: control.decay_syn, RESET: control.reset, RESET_AMOUNT: control.reset_amount,
            REFRACTORY: control.refractory, FIRE_ONCE: control.fire_once, GATE_AT_THRESHOLD: control.gate_at_threshold,
            GATE_CENTRE: control.gate_centre, GATE_WINDOW: control.gate_window, FIRE: rules,
            FIRE_MASK: draw_mask(control.fire_bits), NOISE_SHIFT: control.noise_shift, NOISE_KIND: control.noise_kind,
            GRADIENT_MASK: draw_mask(control.gradient_bits), RATE: control.rate, ENABLED: enabled,
            FORWARD_SHIFT: control.forward_shift, SHIFT: control.shift,
        }  # fmt: skip
        constants = np.zeros((N_CONSTANTS, len(rules)), np.int64)
        for row, values in rows.items():
            constants[row] = values
        wide = memory.bound >= 1 << 31
        return (
            samples.words, samples.starts, samples.lengths, samples.seeds, samples.labels, samples.learn, *self._shape,
            control.steps, encoding, int(control.raster), int(control.gate),
            bool(control.gradient and samples.learn), early_end, control.brief, *amplitudes, bool(seeded),
            bool(drawing), constants,
            memory.effective, memory.signs, memory.bias, memory.threshold, memory.leak, wide, memory.weights,
            memory.synapse_words, memory.die_globals, memory.delays, memory.thetas, memory.neuron_words, self._costs,
        )  # fmt: skip


def effective_fire(fire: NDArray[np.int64]) -> NDArray[np.int64]:
    """Field FIRE with all that acts as THRESHOLD replaced by it: 3, and WINNER below the last layer."""
    result = np.where(fire == Fire.STOCHASTIC, fire, Fire.THRESHOLD)
    if fire[-1] == Fire.WINNER:
        result[-1] = Fire.WINNER
    return result


def draw_mask(bits: NDArray[np.int64]) -> NDArray[np.int64]:
    """Mask of the low `bits` of a random number; more than it has are all it has."""
    return (1 << np.minimum(bits, DRAW_BITS)) - 1
