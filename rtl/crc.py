"""CRC-32 of a stream of 32-bit words, as ``zlib.crc32`` of their bytes, lowest first."""

from __future__ import annotations

import zlib

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

_ZERO = zlib.crc32(bytes(4), 0xFFFFFFFF) ^ 0xFFFFFFFF
_COLUMNS = [zlib.crc32((1 << bit).to_bytes(4, "little"), 0xFFFFFFFF) ^ 0xFFFFFFFF for bit in range(32)]
assert _ZERO == 0, "the register's update is linear"
_MASKS = [sum((_COLUMNS[bit] >> row & 1) << bit for bit in range(32)) for row in range(32)]
"""Bit `row` of the next register is the parity of (register ^ word) & _MASKS[row]."""


class Crc32(wiring.Component):
    """`crc` covers the words given with `valid` since the last `clear`, one cycle later.

    Amaranth's own generator makes the same hardware; this one is written with one parity per bit, which simulates an
    order of magnitude faster.
    """

    def __init__(self) -> None:
        super().__init__({"clear": In(1), "valid": In(1), "data": In(32), "crc": Out(32)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        register = Signal(32, init=0xFFFFFFFF)
        mixed = Signal(32)
        m.d.comb += self.crc.eq(~register)
        with m.If(self.clear):
            m.d.sync += register.eq(0xFFFFFFFF)
        with m.Elif(self.valid):
            m.d.comb += mixed.eq(register ^ self.data)
            m.d.sync += register.eq(Cat((mixed & mask).xor() for mask in _MASKS))
        return m
