"""Lane-wide memories with a port for the datapath and a port for the host."""

from __future__ import annotations

from collections.abc import Mapping

from amaranth.hdl import Const, Module, Shape, ShapeLike, Signal, Value
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from rtl.arith import named, sign_extend


class HostBus(wiring.Signature):
    """How the executor reaches memories and registers while no sample runs.

    `own` gives it the read ports, `offset` and `data` come from the frame; each target has its own `write` strobe. Data
    read at `offset` are there in the next cycle.
    """

    def __init__(self) -> None:
        super().__init__({"own": Out(1), "offset": Out(24), "write": Out(1), "data": Out(32), "read": In(32)})


class Bank(wiring.Component):
    """A memory of words of `lanes` elements.

    The datapath reads a word a cycle after it gave `address` and `enable`. The host reads and writes `per_word`
    neighbouring elements at a time (offset = word * lanes / per_word + group) and, with `single`, may write one
    element (offset = word * lanes + lane). With `update` the datapath writes lanes of the word at `address`. There is
    one address for reading and writing, and a cycle does one of them, so that a single-port memory will do.
    """

    def __init__(
        self,
        depth: int,
        lanes: int,
        element: ShapeLike,
        *,
        per_word: int = 1,
        single: bool = False,
        update: bool = False,
        init: int | Mapping[str, int] = 0,
    ) -> None:
        self.depth, self.lanes, self.shape = depth, lanes, Shape.cast(element)
        self.per_word, self.init = per_word, init
        self.layout = data.ArrayLayout(element, lanes)
        ports = {"address": In(range(depth)), "enable": In(1), "data": Out(self.layout), "host": In(HostBus())}
        if single:
            ports["single_write"] = In(1)
        if update:
            ports |= {"update": In(lanes), "update_data": In(self.layout)}
        self.single, self.updated = single, update
        super().__init__(ports)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        bits, lanes, per_word = self.shape.width, self.lanes, self.per_word
        m.submodules.memory = memory = Memory(
            shape=self.layout, depth=self.depth, init=[[self.init] * lanes] * self.depth
        )
        read, write = memory.read_port(), memory.write_port(granularity=1)
        m.d.comb += self.data.eq(read.data)

        host = self.host
        groups = lanes // per_word
        group = host.offset[: ceil_log2(groups)]
        group_word = host.offset[ceil_log2(groups) :]
        lane, lane_word = host.offset[: ceil_log2(lanes)], host.offset[ceil_log2(lanes) :]
        place, writing = Signal(range(self.depth)), Signal()
        m.d.comb += [
            place.eq(self.address),
            read.addr.eq(place),
            write.addr.eq(place),
            writing.eq(write.en.any()),
            read.en.eq((self.enable | host.own) & ~writing),
        ]
        with m.If(host.own):
            m.d.comb += place.eq(group_word)
        with m.If(host.write):
            m.d.comb += [
                write.en.eq(Const((1 << per_word) - 1, lanes) << (group * per_word)),
                Value.cast(write.data).eq(host.data[: bits * per_word].replicate(groups)),
            ]
        if self.single:
            with m.If(self.single_write):
                m.d.comb += [
                    place.eq(lane_word),
                    write.en.eq(1 << lane),
                    Value.cast(write.data).eq(host.data[:bits].replicate(lanes)),
                ]

        if self.updated:
            with m.If(self.update.any()):
                m.d.comb += [write.en.eq(self.update), write.data.eq(self.update_data)]

        read_group, reading = Signal(range(max(groups, 2))), Signal()
        m.d.sync += [read_group.eq(group), reading.eq(host.own)]
        with m.If(reading):
            chosen = named(m, Value.cast(read.data).word_select(read_group, bits * per_word), "chosen")
            m.d.comb += host.read.eq(sign_extend(chosen, 32) if per_word == 1 and self.shape.signed else chosen)
        return m
