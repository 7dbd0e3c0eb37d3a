"""Random numbers of the chip: banks of 32-bit xorshift generators and how a sample's seed fills them.

Written from ``docs/chip.md``, Random numbers. States are kept in int64 and masked, because Numba turns mixed unsigned
arithmetic into floating point.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

MASK = 0xFFFFFFFF
WEYL = 0x9E3779B9
DISCARDED_ROUNDS = 4
DRAW_BITS = 16
"""Bits of a random number."""


@njit(nogil=True)
def mix(h: int) -> int:
    """One round of the seeding sequence; takes and returns 32 bits."""
    h = (h + WEYL) & MASK
    h = (h + (h << 10)) & MASK
    h ^= h >> 6
    h = (h + (h << 3)) & MASK
    h ^= h >> 11
    return (h + (h << 15)) & MASK


@njit(nogil=True)
def xorshift(s: int) -> int:
    """The state that follows `s` (32 bits, not zero)."""
    s ^= (s << 13) & MASK
    s ^= s >> 17
    return s ^ ((s << 5) & MASK)


@njit(nogil=True)
def seed_banks(seed: int, *banks: NDArray[np.int64]) -> None:
    """Fill the banks (any may be empty), one after the other, from a sample's `seed`; highest lanes first."""
    h = seed
    for _ in range(DISCARDED_ROUNDS):
        h = mix(h)
    for bank in banks:
        for g in range(len(bank) - 1, -1, -1):
            h = mix(h)
            bank[g] = h | 1


@njit(nogil=True)
def advance(bank: NDArray[np.int64]) -> None:
    """Advance every generator of `bank` by one draw."""
    for g in range(np.uint64(len(bank))):
        bank[g] = xorshift(bank[g])


@njit(nogil=True)
def draw_words(bank: NDArray[np.int64], n_words: int, draws: NDArray[np.int64]) -> None:
    """Draw for `n_words` words, one after the other; element i of them then sees ``draw16(draws, i)``."""
    generators = np.uint64(len(bank))
    at = np.uint64(0)
    for _ in range(n_words):
        for g in range(generators):
            s = bank[g]
            draws[at + g] = s
            bank[g] = xorshift(s)
        at += generators


@njit(nogil=True)
def draw16(states: NDArray[np.int64], lane: int) -> int:
    """The 16 bits that `lane` sees: even lanes the low, odd lanes the high half of a generator's state."""
    return (states[np.uint64(lane >> 1)] >> (16 * (lane & 1))) & 0xFFFF
