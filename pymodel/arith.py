"""Saturation and decay, the two operations every state of the chip goes through (``docs/chip.md``, One time step)."""

from __future__ import annotations

from numba import njit

DECAY_BITS = 12
"""Decay constants count in 1/4096."""


@njit(nogil=True)
def sat(value: int, low: int, high: int) -> int:
    """Clip `value` to ``low..high``."""
    return min(max(value, low), high)


@njit(nogil=True)
def decay(value: int, factor: int) -> int:
    """What is left of `value` after one step: ``value - round(value * factor / 4096)``, halves rounded up."""
    return value - ((value * factor + 2048) >> DECAY_BITS)
