"""From the payload of a RUN frame to the inputs that spike in a step (``docs/chip.md``, Inputs; ``docs/link.md``, RUN).

Each function writes the spiking inputs of one step, in ascending order, to `active` and returns their number.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from pymodel.random import advance, draw16

RATE_START = 128
"""Start of the rate accumulator: half of its overflow, so that the number of spikes is rounded, not cut."""


@njit(nogil=True)
def unpack_pixels(words: NDArray[np.uint32], start: int, n_in: int, pixels: NDArray[np.int64]) -> None:
    """Intensities of one sample, four to a link word, lowest byte first."""
    for j in range(n_in):
        pixels[j] = (np.int64(words[start + (j >> 2)]) >> (8 * (j & 3))) & 0xFF


@njit(nogil=True)
def encode_rate(
    pixels: NDArray[np.int64],
    lit: NDArray[np.int64],
    n_lit: int,
    accumulator: NDArray[np.int64],
    active: NDArray[np.int64],
) -> int:
    """Deterministic rate code: the carry of an 8-bit accumulator. `lit` lists the inputs with an intensity."""
    n = 0
    for k in range(np.uint64(n_lit)):
        j = lit[k]
        total = accumulator[k] + pixels[np.uint64(j)]
        accumulator[k] = total & 0xFF
        active[np.uint64(n)] = j
        n += total >> 8
    return n


@njit(nogil=True)
def encode_bernoulli(pixels: NDArray[np.int64], lanes: int, bank: NDArray[np.int64], active: NDArray[np.int64]) -> int:
    """Input j spikes if the top byte of its draw is below its intensity; the bank advances after every input word."""
    n = 0
    n_in = len(pixels)
    for first in range(0, n_in, lanes):
        last = min(first + lanes, n_in)
        lit = 0
        for j in range(np.uint64(first), np.uint64(last)):
            lit |= pixels[j]
        # Dark words, most of an image, cost only the advance.
        if lit != 0:
            for j in range(first, last):
                active[np.uint64(n)] = j
                n += (draw16(bank, j - first) >> 8) < pixels[np.uint64(j)]
        advance(bank)
    return n


@njit(nogil=True)
def take_events(
    words: NDArray[np.uint32],
    start: int,
    length: int,
    step: int,
    n_in: int,
    cursor: NDArray[np.int64],
    active: NDArray[np.int64],
) -> int:
    """Events of `step`. `cursor` holds (events read, last word or -1, 1 if an event broke a rule)."""
    n = 0
    while cursor[2] == 0 and cursor[0] < length:
        word = np.int64(words[start + cursor[0]])
        address = word & 0xFFFF
        if word <= cursor[1] or address >= n_in:
            cursor[2] = 1
        elif word >> 16 != step:
            break
        else:
            cursor[0] += 1
            cursor[1] = word
            active[n] = address
            n += 1
    return n
