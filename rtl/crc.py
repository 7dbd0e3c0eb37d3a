"""CRC-32 of a stream of 32-bit words, as ``zlib.crc32`` of their bytes, lowest first."""

from __future__ import annotations

import zlib

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

WORD_BYTES = 4


def _masks(size: int) -> list[int]:
    """Bit `row` of the register after `size` bytes is the parity of (low bytes of the register ^ bytes) & masks[row].

    The register's other bytes move down and are added.
    """
    columns = [zlib.crc32((1 << bit).to_bytes(size, "little"), 0xFFFFFFFF) ^ 0xFFFFFFFF for bit in range(8 * size)]
    return [sum((column >> row & 1) << bit for bit, column in enumerate(columns)) for row in range(32)]


class Crc32(wiring.Component):
    """`crc` covers the words given with `valid` and `ready` since the last `clear`, one cycle later.

    A word stays in `data` until it was taken. With `size` 4 that is at once; with `size` 1 or 2 the register takes so
    many bytes in each cycle with `valid`, and `ready` is high for the last ones: about 80 lookup tables of an iCE40
    instead of 190. `clear` comes between words, not within one.

    Amaranth's own generator makes the same hardware; this one is written with one parity per bit, which simulates an
    order of magnitude faster.

    Raises
    ------
    ValueError
        For another `size`.
    """

    def __init__(self, size: int = WORD_BYTES) -> None:
        if size not in (1, 2, 4):
            raise ValueError(f"size = {size!r}: must be 1, 2 or 4 bytes in a cycle")
        self.size = size
        super().__init__({"clear": In(1), "valid": In(1), "ready": Out(1), "data": In(32), "crc": Out(32)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        bits, parts = 8 * self.size, WORD_BYTES // self.size
        register = Signal(32, init=0xFFFFFFFF)
        mixed, part = Signal(bits), Signal(range(parts))
        m.d.comb += [self.crc.eq(~register), self.ready.eq(part == parts - 1)]
        with m.If(self.clear):
            m.d.sync += register.eq(0xFFFFFFFF)
        with m.Elif(self.valid):
            m.d.comb += mixed.eq(register[:bits] ^ self.data.word_select(part, bits))
            m.d.sync += [
                register.eq(Cat((mixed & mask).xor() for mask in _masks(self.size)) ^ register[bits:]),
                part.eq(part + 1),
            ]
        return m
