"""The golden model: the chip of ``docs/chip.md`` once more, in NumPy and Numba, bit for bit and cycle for cycle.

It is written from the manual, not from the hardware, so that the two check each other. Every module stands for the
hardware block of the same name; :class:`pymodel.chip.GoldenChip` speaks the frames of ``docs/link.md``.
"""

from pymodel.chip import GoldenChip

__all__ = ["GoldenChip"]
