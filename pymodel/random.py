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


@njit(cache=True, nogil=True)
def mix(h: int) -> int:
    """One round of the seeding sequence; takes and returns 32 bits."""
    h = (h + WEYL) & MASK
    h = (h + (h << 10)) & MASK
    h ^= h >> 6
    h = (h + (h << 3)) & MASK
    h ^= h >> 11
    return (h + (h << 15)) & MASK


@njit(cache=True, nogil=True)
def xorshift(s: int) -> int:
    """The state that follows `s` (32 bits, not zero)."""
    s ^= (s << 13) & MASK
    s ^= s >> 17
    return s ^ ((s << 5) & MASK)


@njit(cache=True, nogil=True)
def seed_banks(seed: int, input_bank: NDArray[np.int64], core_bank: NDArray[np.int64]) -> None:
    """Fill both banks (the core bank may be empty) from a sample's `seed`, generators of the highest lanes first."""
    h = seed
    for _ in range(DISCARDED_ROUNDS):
        h = mix(h)
    for g in range(len(input_bank) - 1, -1, -1):
        h = mix(h)
        input_bank[g] = h | 1
    for g in range(len(core_bank) - 1, -1, -1):
        h = mix(h)
        core_bank[g] = h | 1


@njit(cache=True, nogil=True)
def advance(bank: NDArray[np.int64]) -> None:
    """Advance every generator of `bank` by one draw."""
    for g in range(len(bank)):
        bank[g] = xorshift(bank[g])


@njit(cache=True, nogil=True)
def draw16(bank: NDArray[np.int64], lane: int) -> int:
    """The 16 bits that `lane` sees in the present state: even lanes the low, odd lanes the high half."""
    return (bank[lane >> 1] >> (16 * (lane & 1))) & 0xFFFF
