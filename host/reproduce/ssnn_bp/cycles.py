"""The closed form of the clock cycles (``docs/cycles.md``), part by part, from the spikes that a chip recorded.

Written from the documents alone. Which coins of an update land is not recorded; it follows from the sample's seed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from host.chip import Output
from host.events import Events
from host.network import Network
from rtl.config import ChipConfig

PARTS = ("load", "encode", "forward", "winner", "look", "errors", "gradient", "update")
"""Loading the sample and seeding; encoding that the layers wait for; the layers' lists; the second walk of the last
layer; the look whether the winner is wrong; then, of wrong steps: error spikes and the layers' starts, gradient
spikes, weights."""

C_LAYER, C_ENCODER = 7, 3
Bits = NDArray[np.bool_]


def input_spikes(
    x: NDArray[np.uint8] | Events, cfg: ChipConfig, steps: int, encoding: str, seeds: Sequence[int]
) -> Bits:
    """Spikes of the inputs, bool ``(n_samples, steps, n_in)``."""
    if isinstance(x, Events):
        return x.to_dense(steps, cfg.n_in)
    if encoding == "rate":
        # The accumulator after t steps, from its start at 128; a carry is a spike.
        sums = 128 + x.astype(np.int64)[:, None, :] * np.arange(steps + 1)[None, :, None]
        return np.diff(sums >> 8, axis=1) > 0
    spikes = np.zeros((len(x), steps, cfg.n_in), bool)
    for sample, seed in enumerate(seeds):
        bank = _Bank.of(int(seed), cfg, 0)
        for t in range(steps):
            draws = np.concatenate([bank.draw() for _ in range(cfg.in_words)])[: cfg.n_in]
            spikes[sample, t] = (draws >> 8) < x[sample]
    return spikes


def closed_form(
    cfg: ChipConfig, network: Network, out: Output, inputs: Bits, labels: NDArray[np.int64], seeds: Sequence[int],
    *, events: bool = False,
) -> dict[str, NDArray[np.int64]]:  # fmt: skip
    """Clock cycles of each sample that learned without RECORD, int64 ``(n_samples,)`` for each of :data:`PARTS`.

    Parameters
    ----------
    out : the same samples with ``record=("raster", "gate", "gradient")``; all layers learned
    inputs : their input spikes
    """
    assert cfg.learning
    assert not cfg.die_tables
    words, last = cfg.words, len(cfg.words) - 1
    sources = [inputs, *out.raster[:-1]]
    n, steps = inputs.shape[:2]
    parts = {name: np.zeros(n, np.int64) for name in PARTS}
    parts["load"] += (0 if events else cfg.pixel_words) + 4 + cfg.lanes // 2 * 2
    encodings = inputs.sum(axis=2) + C_ENCODER if events else np.full((n, steps), cfg.in_words + C_ENCODER)
    work = np.zeros((n, steps), np.int64)
    for layer in range(last + 1):
        forward = words[layer] * np.maximum(sources[layer].sum(axis=2), 1) + C_LAYER
        parts["forward"] += forward.sum(axis=1)
        work += forward
    parts["winner"] += steps * (words[last] + C_LAYER)
    parts["look"] += 2 * steps
    work += words[last] + C_LAYER + 2
    rates = [int(rate) for rate in network.constants["rate"]]
    for s in range(n):
        bank = _Bank.of(int(seeds[s]), cfg, 1)
        for t in range(steps):
            for _ in range(sum(words)):
                bank.draw()
            if not out.gradient[-1][s, t].any():
                continue
            taken = _backward(cfg, out, sources, rates, bank, s, t)
            for name, cycles in zip(("errors", "gradient", "update"), taken, strict=True):
                parts[name][s] += cycles
            work[s, t] += sum(taken)
    waits = np.maximum(encodings[:, 1:] - work[:, :-1], 0).sum(axis=1)
    parts["encode"] += encodings[:, 0] + waits
    return parts


def _backward(
    cfg: ChipConfig, out: Output, sources: Sequence[Bits], rates: Sequence[int], bank: _Bank, s: int, t: int
) -> tuple[int, int, int]:
    """Cycles of the backward pass of one step: error spikes and starts, gradient spikes, weights."""
    errors = gradient = update = 0
    layer = len(cfg.words) - 1
    while layer >= 0:
        hit = _by_words(out.gradient[layer][s, t] != 0, cfg.lanes).any(axis=1)
        n_hit = int(hit.sum())
        if not n_hit:
            break
        errors += 1 + (2 * n_hit if layer == len(cfg.words) - 1 else 0)
        if layer > 0:
            gates = _by_words(out.gate[layer - 1][s, t], cfg.lanes).sum(axis=1)
            got = np.any(_by_words(out.gradient[layer - 1][s, t] != 0, cfg.lanes), axis=1)
            for word, n_open in enumerate(gates):
                if n_open:
                    bank.draw()
                gradient += 7 + n_hit * (1 + int(n_open)) + 2 * int(got[word]) if n_open else 2
        spiking = _by_words(sources[layer][s, t], cfg.lanes)
        spiking = spiking[spiking.any(axis=1)]
        for mask in spiking:
            coins = int((bank.draw()[mask] < rates[layer]).sum())
            update += 3 + 2 * coins * n_hit if coins else 2
        update += not len(spiking)
        layer -= 1
    return errors, gradient, update


def _by_words(values: NDArray[Any], lanes: int) -> Bits:
    """``(n,)`` as ``(words, lanes)``, padded with False."""
    padded = np.zeros(-(-len(values) // lanes) * lanes, bool)
    padded[: len(values)] = values
    return padded.reshape(-1, lanes)


class _Bank:
    """The generators of a sample: number 0 for the inputs, number 1 for firing and learning."""

    def __init__(self, states: NDArray[np.uint32]) -> None:
        self.states = states

    @classmethod
    def of(cls, seed: int, cfg: ChipConfig, number: int) -> _Bank:
        h, mask, generators, values = seed, 0xFFFFFFFF, cfg.lanes // 2, []
        for _ in range(4 + generators * (number + 1)):
            h = (h + 0x9E3779B9) & mask
            h = (h + (h << 10)) & mask
            h ^= h >> 6
            h = (h + (h << 3)) & mask
            h ^= h >> 11
            h = (h + (h << 15)) & mask
            values.append(h | 1)
        return cls(np.array(values[: -generators - 1 : -1], np.uint32))

    def draw(self) -> NDArray[np.uint32]:
        """The 16-bit numbers of all lanes; the bank moves on."""
        s = self.states
        numbers = np.stack([s & np.uint32(0xFFFF), s >> np.uint32(16)], axis=1).ravel()
        s = s ^ s << np.uint32(13)
        s ^= s >> np.uint32(17)
        self.states = s ^ s << np.uint32(5)
        return numbers
