"""The chip with memories that show the opposite of a word that is written while it is read.

``rtl/synthesis.py`` tells Yosys that nobody looks at such words, whatever a device makes of them. A chip that keeps
step with the golden model although they are garbled proves it right.
"""

from __future__ import annotations

from amaranth.back import verilog
from amaranth.hdl import Cat, MemoryInstance, Module, Signal
from amaranth.lib.memory import Memory

from rtl.chip import Chip
from rtl.config import ChipConfig


class _Garbling:
    """A platform on which reading and writing collide. Read ports that pass on what is written do so, unless `deaf`."""

    def __init__(self, *, deaf: bool) -> None:
        self.deaf = deaf

    def get_memory(self, memory: Memory) -> Module:
        m = Module()
        instance = MemoryInstance(data=memory.data, attrs=memory.attrs)
        writing = {}
        for write in memory.write_ports:
            writing[write] = instance.write_port(domain=write.domain, addr=write.addr, data=write.data, en=write.en)
        for number, read in enumerate(memory.read_ports):
            seen = () if self.deaf else read.transparent_for
            stored = Signal(len(Cat(read.data)), name=f"stored{number}")
            collided = Signal(name=f"collided{number}")
            instance.read_port(
                domain=read.domain,
                data=stored,
                addr=read.addr,
                en=read.en,
                transparent_for=tuple(writing[write] for write in seen),
            )
            with m.If(read.en):
                m.d.sync += collided.eq(0)
                for write in memory.write_ports:
                    if write not in seen:
                        with m.If(write.en.any() & (write.addr == read.addr)):
                            m.d.sync += collided.eq(1)
            m.d.comb += Cat(read.data).eq(stored ^ collided.replicate(len(stored)))
        m.submodules.instance = instance
        return m


def garbled(cfg: ChipConfig, *, deaf: bool = False) -> str:
    """Verilog of the chip `cfg`, module ``spikeloop``, with such memories.

    With `deaf`, ports that should pass on a word that is being written garble it like the others.
    """
    return str(verilog.convert(Chip(cfg), name="spikeloop", platform=_Garbling(deaf=deaf), emit_src=False))
