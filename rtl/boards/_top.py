"""The top of every board: the platform-independent :class:`rtl.board.Board` at pins and clock of one of them."""

from __future__ import annotations

from typing import Any

from amaranth.build import Subsignal
from amaranth.hdl import Elaboratable, Module
from amaranth.lib import io

from rtl.board import Board
from rtl.boards import BoardInfo
from rtl.config import ChipConfig


class Top(Elaboratable):
    """Chip `cfg` on the board `info` with the clock generator `clock`; the line has `baud`."""

    def __init__(self, info: BoardInfo, cfg: ChipConfig, clock: Any, baud: int) -> None:
        self.info, self.cfg, self.clock, self.baud = info, cfg, clock, baud

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        self.clock.add(m, platform)
        m.submodules.board = board = Board(self.cfg, self.clock.hz, self.baud)
        wires = {wire.name: "-" for wire in platform.lookup("uart", 0).ios if isinstance(wire, Subsignal)}
        uart = platform.request("uart", 0, dir=wires)
        m.submodules.rx = rx = io.Buffer("i", uart.rx)
        m.submodules.tx = tx = io.Buffer("o", uart.tx)
        m.d.comb += [board.rx.eq(rx.i), tx.o.eq(board.tx)]
        for bit, number in enumerate(self.info.leds):
            led = io.Buffer("o", platform.request("led", number, dir="-"))
            m.submodules[f"led{bit}"] = led
            m.d.comb += led.o.eq(board.led[bit])
        return m
