"""The bit plane of chips with binary weights: dense words of frame PLANE to the weight memory (``docs/link.md``)."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from rtl.config import LINK_BITS, ChipConfig


def fits(cfg: ChipConfig, row: int, n_words: int) -> bool:
    """Whether there is such a `row`, and the last of `n_words` words from it on has at least one bit of the plane."""
    if row >= cfg.n_sources:
        return False
    rows_before = [min(max(row - base, 0), n_pre) for base, (n_pre, _) in zip(cfg.source_base, cfg.shapes, strict=True)]
    first_bit = sum(rows * n_post for rows, (_, n_post) in zip(rows_before, cfg.shapes, strict=True))
    return n_words == 0 or first_bit + LINK_BITS * (n_words - 1) < cfg.n_synapses


def unpack(cfg: ChipConfig, row: int, words: NDArray[np.int64]) -> Iterator[tuple[int, int, NDArray[np.uint8]]]:
    """Rows, from `row` on, that are complete in `words`: layer, first source, and bits ``(sources, n_post)``."""
    bits = np.unpackbits(words.astype("<u4").view(np.uint8), bitorder="little")
    for layer, (n_pre, n_post) in enumerate(cfg.shapes):
        first = max(row - cfg.source_base[layer], 0)
        last = min(n_pre, first + len(bits) // n_post)
        if first < last:
            taken = (last - first) * n_post
            yield layer, first, bits[:taken].reshape(-1, n_post)
            bits = bits[taken:]
        if last < n_pre:
            break
