"""What every board carries: the chip, its serial bridge and three lights. No pins, no clock generator, no platform."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, ResetInserter, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out, connect
from amaranth.utils import ceil_log2

from rtl.chip import Chip
from rtl.config import ChipConfig
from rtl.serial import SerialBridge

BLINK_TICKS = 16
"""A light that shows an event stays on for one tick; the first light blinks once in so many ticks."""


class Board(wiring.Component):
    """The chip `cfg` behind a UART, for any board: clock of `clock_hz`, line of `baud`.

    `rx` and `tx` are the two wires of the line as they are at the pins: idle is high. A HELLO of the host resets the
    chip's registers, not its memories. Lights, high for on:

    * 0, alive: blinks about once a second;
    * 1, working: good packets come or the chip works on a frame;
    * 2, damaged: a packet was dropped because it was damaged.
    """

    def __init__(self, cfg: ChipConfig, clock_hz: int, baud: int) -> None:
        self.cfg, self.clock_hz, self.baud = cfg, clock_hz, baud
        super().__init__({"rx": In(1, init=1), "tx": Out(1, init=1), "led": Out(3)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        chip = Chip(self.cfg)
        m.submodules.bridge = bridge = SerialBridge(self.clock_hz, self.baud)
        m.submodules.chip = ResetInserter(bridge.chip_reset)(chip)
        connect(m, bridge.to_chip, chip.rx)
        connect(m, chip.tx, bridge.from_chip)
        m.d.comb += [bridge.rx.eq(self.rx), self.tx.eq(bridge.tx), bridge.chip_busy.eq(chip.busy)]

        blink = Signal(ceil_log2(self.clock_hz))
        tick = Signal()
        m.d.sync += blink.eq(blink + 1)
        working = self._stretched(m, tick, bridge.heard | chip.busy, "working")
        damaged = self._stretched(m, tick, bridge.damaged, "damaged")
        m.d.comb += [tick.eq(blink[: -ceil_log2(BLINK_TICKS)].all()), self.led.eq(Cat(blink[-1], working, damaged))]
        return m

    @staticmethod
    def _stretched(m: Module, tick: Value, event: Value, name: str) -> Signal:
        """High for the whole tick that follows one with an `event`."""
        light, seen = Signal(name=name), Signal(name=f"{name}_seen")
        m.d.sync += seen.eq((seen & ~tick) | event)
        with m.If(tick):
            m.d.sync += light.eq(seen)
        return light
