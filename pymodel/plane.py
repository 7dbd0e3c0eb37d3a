"""The bit plane of chips with binary weights: dense words of frame PLANE to the weight memory (``docs/link.md``)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from rtl.config import ChipConfig

WORD = 32
"""Bits of the plane in a link word."""


def fits(cfg: ChipConfig, row: int, n_words: int) -> bool:
    """Whether there is such a `row`, and the last of `n_words` words from it on has at least one bit of the plane."""
    if row >= cfg.n_sources:
        return False
    rows_before = [min(max(row - base, 0), n_pre) for base, (n_pre, _) in zip(cfg.source_base, cfg.shapes, strict=True)]
    first_bit = sum(rows * n_post for rows, (_, n_post) in zip(rows_before, cfg.shapes, strict=True))
    return n_words == 0 or first_bit + WORD * (n_words - 1) < cfg.n_synapses


def unpack(cfg: ChipConfig, row: int, words: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Elements of the weight memory that the complete rows in `words`, from `row` on, write, and the bit of each.

    With them goes the padding of the link words that hold a row; its bits are 0.
    """
    per_word = cfg.weights_per_link_word
    bits = np.unpackbits(words.astype("<u4").view(np.uint8), bitorder="little").astype(np.int64)
    elements, values, taken = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)], 0
    for layer, (n_pre, n_post) in enumerate(cfg.shapes):
        first = max(row - cfg.source_base[layer], 0)
        last = min(n_pre, first + (len(bits) - taken) // n_post)
        if first < last:
            stride, start = cfg.words[layer] * cfg.lanes, cfg.weight_base[layer] * cfg.lanes
            starts = start + stride * np.arange(first, last)
            padding = -n_post % per_word
            elements.append((starts[:, None] + np.arange(n_post + padding)).ravel())
            rows = bits[taken : taken + (last - first) * n_post].reshape(-1, n_post)
            values.append(np.pad(rows, ((0, 0), (0, padding))).ravel())
            taken += rows.size
        if last < n_pre:
            break
    return np.concatenate(elements), np.concatenate(values)
