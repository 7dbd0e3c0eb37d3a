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

from pymodel.die import noise
from pymodel.encoder import RATE_START, encode_bernoulli, encode_rate, take_events, unpack_pixels
from pymodel.neuron import add_rows, integrate, integrate_noisy, reset_membrane
from pymodel.random import DISCARDED_ROUNDS, advance, seed_banks
from pymodel.synapses import Synapses
from rtl.config import ChipConfig
from rtl.registers import BAD_EVENTS, Encoding

# Clock cycles besides those that the formulas of docs/cycles.md count one by one.
C_SAMPLE = 0
"""Per sample."""
C_SEED = 0
"""Per sample whose generators are seeded, besides the rounds themselves."""
C_STEP = 0
"""Per time step."""
C_LAYER = 7
"""Per layer and step."""
C_DIE = 2
"""Per layer and step on chips with die tables, whose pipeline is longer."""
C_ENC = 3
"""Per step whose input spikes are made from intensities."""
C_EVENTS = 3
"""Per step whose input spikes are events."""

NONE = 0xFFFF
"""First-spike time of a neuron that never fired."""

WORTH_A_THREAD = 1e6
"""Nanoseconds of work for which one more thread pays."""


@dataclass(frozen=True)
class Control:
    """Everything a sample depends on besides memories and payload: the registers. Arrays are int64, one per layer."""

    steps: int
    encoding: int
    raster: bool
    gate: bool
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


@dataclass(frozen=True)
class Trace:
    """One sample seen from inside; int64 ``(steps, neuron_depth * lanes)``, flat as the neuron memories.

    Only real neurons are filled in; padding lanes stay 0.
    """

    before: NDArray[np.int64]
    """Membrane before the step."""
    after: NDArray[np.int64]
    """Membrane after the step, a reset included."""
    spikes: NDArray[np.int64]
    gates: NDArray[np.int64]


def stream_words(cfg: ChipConfig, control: Control) -> int:
    """Words of the raster and gate streams in an answer."""
    kinds = int(control.raster) + int(control.gate)
    return control.steps * cfg.neuron_depth * kinds * -(-cfg.lanes // 32)


def answer_words(cfg: ChipConfig, control: Control) -> int:
    """Payload words of the answer to a RUN frame."""
    return stream_words(cfg, control) + 2 + cfg.n_neurons + 2 * cfg.n_out


def _sources_digest() -> int:
    text = b"".join(path.read_bytes() for path in sorted(Path(__file__).parent.glob("*.py")))
    return int.from_bytes(hashlib.sha256(text).digest()[:7], "big")


@cache
def _kernel() -> Callable[..., None]:
    # Numba's cache looks only at the file of the cached function, not at the functions it calls. It does look at
    # enclosed variables, hence the digest of all sources of the model: a changed block is never run from an old cache.
    digest = _sources_digest()

    @njit(cache=True, nogil=True)
    def run(
        begin, end, words, starts, lengths, seeds, sizes, n_words, weight_base, neuron_base, lanes, low, high,
        die_tables, steps, encoding, raster, gate, amplitude, constants, weights, bias, threshold, leak, wide, costs,
        out, tracing, trace,
    ):  # fmt: skip
        if digest < 0:
            return
        n_layers = len(n_words)
        n_in = sizes[0]
        n_elements = len(bias)
        widest = sizes.max()
        link_words = (lanes + 31) // 32
        kinds = raster + gate
        least = max(kinds * link_words, 1)
        c_sample, c_seed, c_step, c_layer, c_enc, c_events = costs
        stochastic = encoding == Encoding.BERNOULLI or amplitude != 0

        pixels = np.zeros(n_in, np.int64)
        lit = np.zeros(n_in, np.int64)
        accumulator = np.zeros(n_in, np.int64)
        sources = np.zeros(widest + 1, np.int64)
        fired = np.zeros(widest + 1, np.int64)
        narrow_total = np.zeros(widest, np.int32)
        wide_total = np.zeros(widest, np.int64)
        disturbance = np.zeros(widest, np.int64)
        input_bank = np.zeros(lanes // 2, np.int64)
        core_bank = np.zeros(lanes // 2 if die_tables else 0, np.int64)
        cursor = np.zeros(3, np.int64)
        current = np.zeros(n_elements, np.int64)
        membrane = np.zeros(n_elements, np.int64)
        waiting = np.zeros(n_elements, np.int64)
        count = np.zeros(n_elements, np.int64)
        first = np.zeros(n_elements, np.int64)
        potential = np.zeros(sizes[-1], np.int64)

        for s in range(begin, end):
            current[:] = 0
            membrane[:] = 0
            waiting[:] = 0
            count[:] = 0
            first[:] = NONE
            potential[:] = 0
            cursor[0], cursor[1], cursor[2] = 0, -1, 0
            cycles = c_sample
            n_lit = 0
            if encoding <= Encoding.BERNOULLI:
                cycles += lengths[s]
                unpack_pixels(words, starts[s], n_in, pixels)
                for j in range(n_in):
                    if pixels[j] != 0:
                        lit[n_lit] = j
                        accumulator[n_lit] = RATE_START
                        n_lit += 1
            if stochastic:
                seed_banks(seeds[s], input_bank, core_bank)
                cycles += c_seed + DISCARDED_ROUNDS + len(input_bank) + len(core_bank)

            input_spikes = 0
            work = 0
            position = 0
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
                input_spikes += n_sources

                for layer in range(n_layers):
                    size = sizes[layer + 1]
                    n = np.uint64(size)
                    base = np.uint64(neuron_base[layer] * lanes)
                    stride = n_words[layer] * lanes
                    work += n_words[layer] * max(n_sources, least) + c_layer
                    if tracing:
                        for i in range(n):
                            trace[0, t, base + i] = membrane[base + i]
                    if amplitude != 0:
                        for i in range(size):
                            if i > 0 and i % lanes == 0:
                                advance(core_bank)
                            disturbance[i] = noise(core_bank, i % lanes, amplitude)
                        advance(core_bank)
                    decay_syn = constants[0, layer]
                    if wide[layer]:
                        add_rows(
                            wide_total, bias, base, n, weights, weight_base[layer] * lanes, stride, sources, n_sources
                        )
                        if amplitude != 0:
                            integrate_noisy(
                                current, membrane, base, n, wide_total, decay_syn, leak, low, high, disturbance
                            )
                        else:
                            integrate(current, membrane, base, n, wide_total, decay_syn, leak, low, high)
                    else:
                        add_rows(
                            narrow_total, bias, base, n, weights, weight_base[layer] * lanes, stride, sources, n_sources
                        )
                        if amplitude != 0:
                            integrate_noisy(
                                current, membrane, base, n, narrow_total, decay_syn, leak, low, high, disturbance
                            )
                        else:
                            integrate(current, membrane, base, n, narrow_total, decay_syn, leak, low, high)

                    if layer == n_layers - 1:
                        for i in range(n):
                            potential[i] += membrane[base + i]
                    if gate or tracing:
                        offset = raster * link_words
                        centre, window, relative = constants[6, layer], constants[7, layer], constants[5, layer]
                        for i in range(size):
                            k = base + np.uint64(i)
                            middle = centre + threshold[k] if relative else centre
                            if abs(membrane[k] - middle) < window:
                                if gate:
                                    at = position + (i // lanes) * kinds * link_words + offset + (i % lanes) // 32
                                    out[s, at] |= np.uint32(1 << (i % lanes % 32))
                                if tracing:
                                    trace[3, t, k] = 1

                    reset, amount = constants[1, layer], constants[2, layer]
                    refractory, once = constants[3, layer], constants[4, layer]
                    n_fired = 0
                    for i in range(n):
                        k = base + i
                        blocked = waiting[k] > 0
                        if blocked:
                            waiting[k] -= 1
                        if membrane[k] >= threshold[k] and not blocked and not (once and count[k] > 0):
                            fired[n_fired] = i
                            n_fired += 1
                    for f in range(n_fired):
                        i = fired[f]
                        k = base + np.uint64(i)
                        membrane[k] = reset_membrane(membrane[k], reset, amount, low, high)
                        waiting[k] = refractory
                        if count[k] == 0:
                            first[k] = t
                        count[k] += 1
                        if raster:
                            at = position + (i // lanes) * kinds * link_words + (i % lanes) // 32
                            out[s, at] |= np.uint32(1 << (i % lanes % 32))
                        if tracing:
                            trace[2, t, k] = 1
                    if tracing:
                        for i in range(n):
                            trace[1, t, base + i] = membrane[base + i]
                    position += n_words[layer] * kinds * link_words
                    sources, fired = fired, sources
                    n_sources = n_fired

            cycles += work
            if encoding >= Encoding.EVENTS and cursor[0] < lengths[s]:
                input_spikes |= BAD_EVENTS
            out[s, position] = np.uint32(cycles)
            out[s, position + 1] = np.uint32(input_spikes)
            position += 2
            for layer in range(n_layers):
                for i in range(sizes[layer + 1]):
                    k = neuron_base[layer] * lanes + i
                    out[s, position] = np.uint32(first[k] << 16 | min(count[k], 0xFFFF))
                    position += 1
            for i in range(sizes[-1]):
                out[s, position] = np.uint32(potential[i] & 0xFFFFFFFF)
                out[s, position + 1] = np.uint32((potential[i] >> 32) & 0xFFFFFFFF)
                position += 2

    return run


class Sequencer:
    """Runs samples on the memories of a chip."""

    def __init__(self, cfg: ChipConfig, synapses: Synapses) -> None:
        self.cfg = cfg
        self.synapses = synapses
        as_array = lambda values: np.array(values, np.int64)  # noqa: E731
        low, high = cfg.state_range
        self._shape: tuple[Any, ...] = (
            as_array(cfg.layers), as_array(cfg.words), as_array(cfg.weight_base), as_array(cfg.neuron_base), cfg.lanes,
            low, high, cfg.die_tables,
        )  # fmt: skip
        self._costs = (C_SAMPLE, C_SEED, C_STEP, C_LAYER + C_DIE * cfg.die_tables, C_ENC, C_EVENTS)
        self._no_trace = np.zeros((4, 1, 1), np.int64)

    def run(
        self,
        control: Control,
        words: NDArray[np.uint32],
        starts: NDArray[np.int64],
        lengths: NDArray[np.int64],
        seeds: NDArray[np.int64],
    ) -> NDArray[np.uint32]:
        """Run samples whose payloads are ``words[start:start + length]``.

        Returns
        -------
        uint32 ``(n_samples, answer_words)``: the payloads of the answers.
        """
        n = len(starts)
        out = np.zeros((n, answer_words(self.cfg, control)), np.uint32)
        arguments = self._arguments(control, words, starts, lengths, seeds)
        run = _kernel()
        # Rough: a quarter of the sources spikes, a row costs 8 ns and 1/8 ns a weight, a neuron 5 ns.
        per_step = sum(n_pre * (2 + n_post / 32) + 5 * n_post for n_pre, n_post in self.cfg.shapes)
        workers = min(os.cpu_count() or 1, n, 1 + int(n * control.steps * per_step / WORTH_A_THREAD))
        if workers < 2:
            run(0, n, *arguments, out, False, self._no_trace)
            return out
        # More parts than threads: samples differ in work, and other programs may hold a core.
        edges = np.linspace(0, n, min(4 * workers, n) + 1).astype(int).tolist()
        with ThreadPoolExecutor(workers) as pool:
            parts = [pool.submit(run, a, b, *arguments, out, False, self._no_trace) for a, b in pairwise(edges)]
            for part in parts:
                part.result()
        return out

    def trace(
        self,
        control: Control,
        words: NDArray[np.uint32],
        starts: NDArray[np.int64],
        lengths: NDArray[np.int64],
        seeds: NDArray[np.int64],
    ) -> tuple[NDArray[np.uint32], list[Trace]]:
        """Like :meth:`run`, and what happened inside every sample."""
        n = len(starts)
        out = np.zeros((n, answer_words(self.cfg, control)), np.uint32)
        arguments = self._arguments(control, words, starts, lengths, seeds)
        traces = []
        for s in range(n):
            inside = np.zeros((4, control.steps, self.cfg.neuron_depth * self.cfg.lanes), np.int64)
            _kernel()(s, s + 1, *arguments, out, True, inside)
            traces.append(Trace(*inside))
        return out, traces

    def _arguments(
        self,
        control: Control,
        words: NDArray[np.uint32],
        starts: NDArray[np.int64],
        lengths: NDArray[np.int64],
        seeds: NDArray[np.int64],
    ) -> tuple[Any, ...]:
        memory = self.synapses
        memory.settle(control.shift, control.decay_mem)
        constants = np.stack(
            [
                control.decay_syn, control.reset, control.reset_amount, control.refractory, control.fire_once,
                control.gate_at_threshold, control.gate_centre, control.gate_window,
            ]
        )  # fmt: skip
        wide = memory.bound >= 1 << 31
        return (
            words, starts, lengths, seeds, *self._shape,
            control.steps, control.encoding, int(control.raster), int(control.gate), memory.noise_amplitude, constants,
            memory.effective, memory.bias, memory.threshold, memory.leak, wide, self._costs,
        )  # fmt: skip
