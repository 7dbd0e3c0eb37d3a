"""Turns a sample into the spike list of each step: rate, Bernoulli, or timed events (docs/chip.md, "Inputs")."""

from __future__ import annotations

from amaranth.hdl import Module, Mux, Signal, Value, unsigned
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from rtl.config import ChipConfig
from rtl.random import RandomBank
from rtl.registers import Encoding
from rtl.spikes import entry


class Encoder(wiring.Component):
    """Encodes one step after `start`, while the layers may still work on the step before.

    Steps come as 0, 1, 2, ..., the first with `first_step`.

    Intensities (`pixel_*`: four a link word) stay in a memory for the whole sample; words of `lanes` inputs are
    handled one a cycle. Events are taken from `event` while `event_left`, one a cycle with `event_take`. Spikes leave
    by `push` / `item` for list `step % 2`, which `start` empties. `hold` freezes the encoder. `bad_events` stays high
    from a bad event until the next `start` with `first_step`.
    """

    def __init__(self, cfg: ChipConfig) -> None:
        self.cfg = cfg
        super().__init__(
            {
                "pixel_write": In(1),
                "pixel_index": In(range(max(cfg.pixel_words, 2))),
                "pixel_data": In(32),
                "start": In(1),
                "first_step": In(1),
                "step": In(16),
                "encoding": In(2),
                "hold": In(1),
                "event": In(32),
                "event_left": In(1),
                "event_take": Out(1),
                "bad_events": Out(1),
                "busy": Out(1),
                "clear": Out(1),
                "which": Out(1),
                "push": Out(1),
                "item": Out(entry(cfg)),
            }
            | ({"seed_shift": In(1), "seed": In(32)} if cfg.bernoulli else {})
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        cfg = self.cfg
        lanes, words = cfg.lanes, cfg.in_words
        index_shape = entry(cfg).members["index"]
        pixels = data.ArrayLayout(unsigned(8), lanes)

        m.submodules.intensities = intensities = Memory(shape=pixels, depth=words, init=[])
        m.submodules.carries = carries = Memory(shape=pixels, depth=words, init=[])
        pixel_read, pixel_write = intensities.read_port(), intensities.write_port(granularity=4)
        carry_read, carry_write = carries.read_port(), carries.write_port()
        groups = lanes // 4
        m.d.comb += [
            pixel_write.addr.eq(self.pixel_index >> ceil_log2(groups)),
            pixel_write.en.eq(self.pixel_write << self.pixel_index[: ceil_log2(groups)]),
            Value.cast(pixel_write.data).eq(self.pixel_data.replicate(groups)),
        ]
        if cfg.bernoulli:
            m.submodules.bank = bank = RandomBank(lanes)
            m.d.comb += [bank.shift.eq(self.seed_shift), bank.seed.eq(self.seed)]

        step, first_step = Signal(16), Signal()
        position = Signal(range(words + 1))
        pending = Signal()
        pending_index = Signal(index_shape)
        last_mask = (1 << ((cfg.n_in - 1) % lanes + 1)) - 1

        # Events are taken in their own step, so that an earlier one than this comes too late, and one of this step is
        # in order if it is above those that were collected.
        collected = Signal(entry(cfg))
        time, source = self.event[16:], self.event[:16]
        event_lane, event_word = source[: ceil_log2(lanes)], source[ceil_log2(lanes) :]
        same_word, now = Signal(), Signal()
        m.d.comb += [same_word.eq(event_word == collected.index), now.eq(time == step)]
        behind = (event_word < collected.index) | (same_word & (collected.mask >> event_lane).any())
        bad = (time < step) | (now & pending & behind) | (source >= cfg.n_in)

        m.d.comb += [
            self.which.eq(step[0]),
            pixel_read.en.eq(~self.hold),
            carry_read.en.eq(~self.hold),
            pixel_read.addr.eq(position),
            carry_read.addr.eq(position),
            carry_write.addr.eq(pending_index),
        ]

        with m.FSM() as fsm:
            with m.State("IDLE"):
                with m.If(self.start):
                    m.d.comb += [self.which.eq(self.step[0]), self.clear.eq(1)]
                    m.d.sync += [step.eq(self.step), first_step.eq(self.first_step), position.eq(0), pending.eq(0)]
                    with m.If(self.first_step):
                        m.d.sync += self.bad_events.eq(0)
                    with m.If(self.encoding[1]):
                        m.next = "EVENTS"
                    with m.Else():
                        m.next = "INTENSITIES"

            with m.State("INTENSITIES"):
                with m.If(~self.hold):
                    m.d.sync += [pending.eq(position != words), pending_index.eq(position)]
                    with m.If(position != words):
                        m.d.sync += position.eq(position + 1)
                    rate, random = Signal(lanes), Signal(lanes)
                    with m.If(pending):
                        for lane in range(lanes):
                            pixel = pixel_read.data[lane]
                            total = Signal(9, name=f"total{lane}")
                            m.d.comb += [
                                total.eq(Mux(first_step, 128, carry_read.data[lane]) + pixel),
                                carry_write.data[lane].eq(total),
                                rate[lane].eq(total[8]),
                            ]
                        spikes: Value = rate
                        if cfg.bernoulli:
                            m.d.comb += bank.advance.eq(1)
                            for lane in range(lanes):
                                m.d.comb += random[lane].eq(bank.values[lane][8:] < pixel_read.data[lane])
                            spikes = Mux(self.encoding == Encoding.BERNOULLI, random, rate)
                        exists = Mux(pending_index == words - 1, last_mask, (1 << lanes) - 1)
                        m.d.comb += [
                            carry_write.en.eq(1),
                            self.item.index.eq(pending_index),
                            self.item.mask.eq(spikes & exists),
                            self.push.eq(self.item.mask.any()),
                        ]
                        with m.If(position == words):
                            m.next = "IDLE"

            with m.State("EVENTS"):
                with m.If(~self.hold):
                    with m.If(self.event_left & ~self.bad_events & bad):
                        m.d.sync += self.bad_events.eq(1)
                    m.d.comb += self.item.eq(collected)
                    with m.If(self.event_left & ~self.bad_events & ~bad & now):
                        m.d.comb += self.event_take.eq(1)
                        m.d.sync += pending.eq(1)
                        with m.If(pending & same_word):
                            m.d.sync += collected.mask.eq(collected.mask | (1 << event_lane))
                        with m.Else():
                            m.d.comb += self.push.eq(pending)
                            m.d.sync += [collected.index.eq(event_word), collected.mask.eq(1 << event_lane)]
                    with m.Else():
                        m.d.comb += self.push.eq(pending)
                        m.next = "IDLE"
        m.d.comb += self.busy.eq(~fsm.ongoing("IDLE"))
        return m
