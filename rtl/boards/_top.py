"""The top of every board: the platform-independent :class:`rtl.board.Board` at pins and clock of one of them."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import ClockDomain, Elaboratable, Module
from amaranth.lib import io

from rtl.board import Board
from rtl.boards import BoardInfo
from rtl.config import ChipConfig


class Top(Elaboratable):
    """Chip `cfg` on the board `info`, as near to `clock_hz` as its clock generator comes; the line has `baud`."""

    def __init__(self, info: BoardInfo, cfg: ChipConfig, clock_hz: int, baud: int) -> None:
        self.info, self.cfg, self.baud = info, cfg, baud
        self.clock = info.clock(clock_hz)

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        if self.clock.drives:
            m.domains.sync = ClockDomain()
        m.submodules.clock = self.clock
        m.submodules.board = board = Board(self.cfg, self.clock.hz, self.baud)
        uart = platform.request("uart", 0, dir={"rx": "-", "tx": "-"})
        m.submodules.rx = rx = io.Buffer("i", uart.rx)
        m.submodules.tx = tx = io.Buffer("o", uart.tx)
        m.d.comb += [board.rx.eq(rx.i), tx.o.eq(board.tx)]
        for bit, number in enumerate(self.info.leds):
            led = io.Buffer("o", platform.request("led", number, dir="-"))
            m.submodules[f"led{bit}"] = led
            m.d.comb += led.o.eq(board.led[bit])
        return m
