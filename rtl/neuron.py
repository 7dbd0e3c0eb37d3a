"""Update of one word of leaky integrate-and-fire neurons, pipelined (docs/chip.md, "One time step")."""

from __future__ import annotations

from collections.abc import Callable

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, signed, unsigned
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out, connect, flipped
from amaranth.utils import ceil_log2

from rtl.arith import DECAY_BITS, decay, least, magnitude, named, saturate
from rtl.config import BIAS_BITS, ChipConfig
from rtl.die import (
    DIE_NEUTRAL_NEURON,
    DIE_NEUTRAL_SYNAPSE,
    EFFECTIVE_BITS,
    NEURON,
    SYNAPSE,
    TRANSFER,
    Distorter,
)
from rtl.memory import Bank, HostBus
from rtl.random import DRAW_BITS, deviate, draws
from rtl.registers import TRANSFER_CLASSES, Fire, Reset
from rtl.synapses import Synapses, accumulator_shape

READOUT = data.StructLayout({"count": unsigned(16), "first": unsigned(16)})
"""Read-out of a neuron: number of spikes and step of the first one."""

MOST_SHIFT = 15
"""Largest value of register SHIFT."""

NEVER = 0xFFFF
"""First-spike step of a silent neuron."""


def constants(cfg: ChipConfig) -> data.StructLayout:
    """What the registers of one layer set."""
    state = cfg.state_bits
    learning = {
        "fire": unsigned(2),
        "fire_bits": unsigned(5),
        "noise_shift": unsigned(4),
        "noise_kind": unsigned(2),
        "gradient_bits": unsigned(5),
        "rate": unsigned(17),
        "forward_shift": unsigned(3),
    }
    return data.StructLayout(
        {
            "decay_syn": unsigned(13),
            "decay_mem": unsigned(13),
            "shift": unsigned(4),
            "reset": unsigned(2),
            "fire_once": unsigned(1),
            "gate_at_threshold": unsigned(1),
            "amount": signed(state),
            "refractory": unsigned(8),
            "centre": signed(state),
            "window": unsigned(state),
        }
        | (learning if cfg.learning else {})
    )


def chance_mask(m: Module, bits: Value) -> Signal:
    """Mask of the low `bits` bits of a draw; more than it has mean all."""
    return named(m, Cat(bits > index for index in range(DRAW_BITS)), "chance_mask")


def trace_layout(cfg: ChipConfig) -> data.StructLayout:
    """What the trace port shows of one neuron word in one step; `word` counts over all layers."""
    membranes = data.ArrayLayout(signed(cfg.state_bits), cfg.lanes)
    return data.StructLayout(
        {
            "step": 16,
            "word": 16,
            "before": membranes,
            "after": membranes,
            "spikes": cfg.lanes,
            "gates": cfg.lanes,
        }
    )


class NeuronUpdate(wiring.Component):
    """Neuron state, parameters and read-outs, and the pipeline that moves them one step on.

    A walker command with `last` announces a word; `Synapses.latency` cycles later its sums arrive and the update
    starts: products of the decays, then new current and membrane, then firing. In the third of these cycles (`done`)
    the state is written, `spikes` and `gates` are valid and `word_done` names the word. One word may follow another
    in every cycle; a word must be finished before it is updated again.

    With fewer neuron lanes than lanes a word is updated in groups, one cycle after the other, and the next word must
    not be announced sooner. `stored` pulses with every group (`group_done`), `done` with the last one of a word, which
    shows the spikes and gates of all. Groups, not words, are what `read_address` counts.

    Stochastic neurons and winner-take-all noise draw from `chances`, once a word (`chance_drawn`, one cycle before the
    third of its last group; `chance_shown` with `group_chances` in that of each). A winner-take-all layer
    (`winner_layer`) is updated twice: the first pass only makes membranes (`potentials_ready` with `new_potentials`
    and `exists` of group `group_done`; `done` stays low), the second one, with `award`, only fires
    the neuron at `winner_word` and `winner_lane`. `passed` pulses with every word of either pass.

    `all_fired` tells, with the last word of a layer that is `done`, that all neurons of the layer have fired by now.
    The threshold noise of a sample is drawn with its first step: `drawn_twice` comes with `drawn` then.

    While `read` is high no update runs and `read_address` selects the word seen in `readout` and `potentials` a cycle
    later.
    """

    STAGES = 3

    def __init__(self, cfg: ChipConfig) -> None:
        self.cfg = cfg
        self.potential_bits = cfg.state_bits + 16
        width, groups = cfg.neuron_width, range(cfg.neuron_depth * cfg.neuron_groups)
        host_buses = ["threshold_host", "bias_host"]
        learning = {
            "winner_layer": In(1),
            "award": In(1),
            "winner_word": In(range(max(cfg.words) + 1)),
            "winner_lane": In(range(cfg.lanes)),
            "chances": In(draws(cfg.lanes)),
            "chance_drawn": Out(1),
            "chance_shown": Out(1),
            "group_chances": Out(draws(width)),
            "potentials_ready": Out(1),
            "new_potentials": Out(data.ArrayLayout(signed(cfg.state_bits), width)),
            "exists": Out(width),
        }
        ports = {
            "last": In(1),
            "word": In(range(max(cfg.words) + 1)),
            "base": In(range(cfg.neuron_depth)),
            "output_layer": In(1),
            "first_step": In(1),
            "step": In(16),
            "constants": In(constants(cfg)),
            "sums": In(accumulator_shape(cfg)),
            "done": Out(1),
            "passed": Out(1),
            "stored": Out(1),
            "group_done": Out(range(cfg.neuron_groups)),
            "all_fired": Out(1),
            "word_done": Out(range(max(cfg.words) + 1)),
            "spikes": Out(cfg.lanes),
            "gates": Out(cfg.lanes),
            "read": In(1),
            "read_address": In(groups),
            "readout": Out(data.ArrayLayout(READOUT, width)),
            "potentials": Out(data.ArrayLayout(signed(self.potential_bits), width)),
        }
        if cfg.distorts_synapses:
            host_buses.append("die_bias_host")
            ports["curves"] = In(data.ArrayLayout(TRANSFER, TRANSFER_CLASSES))
        if cfg.die_tables:
            host_buses.append("die_neuron_host")
            ports |= {
                "amplitude": In(16),
                "threshold_amplitude": In(10),
                "draws": In(draws(cfg.lanes)),
                "more_draws": In(draws(cfg.lanes)),
                "drawn": Out(1),
                "drawn_twice": Out(1),
            }
        if cfg.trace:
            ports["trace"] = Out(trace_layout(cfg))
        if cfg.learning:
            ports |= learning
        super().__init__(ports | {name: In(HostBus()) for name in host_buses})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        cfg, k = self.cfg, self.constants
        lanes, groups, state = cfg.neuron_width, cfg.neuron_groups, cfg.state_bits
        depth = cfg.neuron_depth * groups
        states = data.ArrayLayout(signed(state), lanes)

        # at[n]: whether a group was announced n cycles ago, its word, and which one of the word it is. The groups of a
        # word come one after the other.
        update = Synapses.latency(cfg)
        final = update + self.STAGES - 1
        at: list[tuple[Value, Value, Value]] = [self._announced(m)]
        for stage in range(1, final + 1):
            moved = (
                Signal(name=f"valid{stage}"),
                Signal.like(self.word, name=f"word{stage}"),
                Signal(range(groups), name=f"group{stage}"),
            )
            m.d.sync += [now.eq(before) for now, before in zip(moved, at[-1], strict=True)]
            at.append(moved)

        # What decays take away is known a cycle before the sums, unless the die has its say in it.
        decaying = update if cfg.die_tables else update - 1

        # Of a winner-take-all layer, the first pass makes membranes and the second one spikes.
        integrating: Value = Const(1)
        firing: Value = Const(1)
        if cfg.learning:
            integrating, firing = ~self.award, ~self.winner_layer | self.award

        def address(stage: int) -> Value:
            word = (self.base + at[stage][1])[: max(1, ceil_log2(cfg.neuron_depth))]
            return Cat(at[stage][2], word)

        # ---- parameters -----------------------------------------------------------------------------------------
        m.submodules.thresholds = thresholds = Bank(depth, lanes, signed(state))
        m.submodules.biases = biases = Bank(depth, lanes, signed(BIAS_BITS))
        connect(m, flipped(self.threshold_host), thresholds.host)
        connect(m, flipped(self.bias_host), biases.host)
        theta = Signal(states)
        decays = Signal(data.ArrayLayout(unsigned(13), lanes), reset_less=True)
        shifted = EFFECTIVE_BITS if cfg.distorts_synapses else BIAS_BITS
        drive_bits = 1 + max(len(self.sums[0]), shifted) + (0 if cfg.distorts_synapses else MOST_SHIFT)
        drive = Signal(data.ArrayLayout(signed(drive_bits), lanes))
        noise = Signal(data.ArrayLayout(signed(22), lanes), reset_less=True)
        if cfg.die_tables:
            self._distorted_parameters(m, at, integrating, address, thresholds, theta, decays, noise)
        else:
            m.d.comb += [
                thresholds.address.eq(address(final - 2)),
                thresholds.enable.eq(at[final - 2][0]),
                theta.eq(thresholds.data),
            ]
            for lane in range(lanes):
                m.d.comb += decays[lane].eq(k.decay_mem)
        if cfg.distorts_synapses:
            self._distorted_biases(m, at, address, biases, drive)
        else:
            m.d.comb += [biases.address.eq(address(decaying - 1)), biases.enable.eq(at[decaying - 1][0])]
            sums = self._sums(m, at[update])
            for lane in range(lanes):
                bias: Value = biases.data[lane]
                if decaying < update:
                    bias, loaded = Signal(signed(BIAS_BITS), name=f"bias{lane}", reset_less=True), bias
                    with m.If(at[decaying][0]):
                        m.d.sync += bias.eq(loaded)
                with m.If(at[update][0]):
                    m.d.comb += drive[lane].eq((sums[lane] + bias) << k.shift)

        # ---- state ----------------------------------------------------------------------------------------------
        def state_memory(name: str, layout: data.ArrayLayout, read_stage: int, written: Value) -> tuple[Signal, Signal]:
            """Memory whose word arrives a cycle after `read_stage` and is written at `final` in passes `written`."""
            memory = Memory(shape=layout, depth=depth, init=[])
            m.submodules[name] = memory
            read, write = memory.read_port(), memory.write_port()
            new = Signal(layout, name=f"new_{name}")
            m.d.comb += [
                read.addr.eq(Mux(self.read, self.read_address, address(read_stage))),
                read.en.eq(self.read | at[read_stage][0]),
                write.addr.eq(address(final)),
                write.en.eq(at[final][0] & written),
                write.data.eq(new),
            ]
            return read.data, new

        old_currents, new_currents = state_memory("currents", states, decaying - 1, integrating)
        old_membranes, new_membranes = state_memory("membranes", states, decaying - 1, Const(1))
        old_waits, new_waits = state_memory("waits", data.ArrayLayout(unsigned(8), lanes), final - 2, firing)
        old_readout, new_readout = state_memory("readouts", data.ArrayLayout(READOUT, lanes), final - 2, firing)
        m.d.comb += self.readout.eq(old_readout)

        # Summed potentials exist for the last layer only.
        out_words, out_base = cfg.words[-1] * groups, cfg.neuron_base[-1] * groups
        out_layout = data.ArrayLayout(signed(self.potential_bits), lanes)
        m.submodules.potentials = potentials = Memory(shape=out_layout, depth=out_words, init=[])
        potential_read, potential_write = potentials.read_port(), potentials.write_port()
        m.d.comb += [
            self.potentials.eq(potential_read.data),
            potential_read.addr.eq(
                Mux(self.read, self.read_address - out_base, Cat(at[final - 1][2], at[final - 1][1]))[
                    : max(1, ceil_log2(out_words))
                ]
            ),
            potential_read.en.eq(self.read | at[final - 1][0]),
            potential_write.addr.eq(Cat(at[final][2], at[final][1])[: max(1, ceil_log2(out_words))]),
            potential_write.en.eq(at[final][0] & self.output_layer & integrating),
        ]

        # ---- lanes ----------------------------------------------------------------------------------------------
        exists = Signal(lanes, init=-1)
        with m.Switch(address(final)):
            for base, words, size in zip(cfg.neuron_base, cfg.words, cfg.neuron_layers, strict=True):
                for first in range((words - 1) * cfg.lanes, words * cfg.lanes, lanes):
                    if size < first + lanes:
                        with m.Case(base * groups + first // lanes):
                            m.d.comb += exists.eq((1 << max(0, size - first)) - 1)
            with m.Default():
                m.d.comb += exists.eq(-1)

        if cfg.learning:
            mask = chance_mask(m, k.fire_bits)
            stochastic = named(m, k.fire == Fire.STOCHASTIC, "stochastic")
            m.d.comb += [
                self.chance_shown.eq(at[final - 1][0] & integrating),
                self.chance_drawn.eq(self.chance_shown & (at[final - 1][2] == groups - 1)),
                self.group_chances.eq(self.chances.as_value().word_select(at[final - 1][2], DRAW_BITS * lanes)),
                self.potentials_ready.eq(at[final][0] & self.winner_layer & integrating),
                self.exists.eq(exists),
            ]

        spikes, gates, fired = Signal(lanes), Signal(lanes), Signal(lanes)
        full, fuller = Signal(), Signal()
        m.d.comb += [
            fuller.eq((fired | ~exists).all() & (full | (Cat(at[final][2], at[final][1]) == 0))),
            self.all_fired.eq(fuller),
        ]
        with m.If(at[final][0] & firing):
            m.d.sync += full.eq(fuller)

        for lane in range(lanes):

            def register(name: str, shape: object, lane: int = lane) -> Signal:
                return Signal(shape, name=f"{name}{lane}", reset_less=True)

            # What decays take away; in cycle 1 it leaves, and the sums come in.
            start_current, start_membrane = (
                register("start_current", signed(state)),
                register("start_membrane", signed(state)),
            )
            old_current, old_membrane = register("old_current", signed(state)), register("old_membrane", signed(state))
            taken_current, taken_membrane = (
                register("taken_current", signed(state + 1)),
                register("taken_membrane", signed(state + 1)),
            )
            current = register("current", signed(max(drive_bits, state + 2) + 1))
            membrane, kept = register("membrane", signed(state)), register("kept", signed(state + 2))
            with m.If(at[decaying][0]):
                m.d.comb += [
                    start_current.eq(Mux(self.first_step, 0, old_currents[lane])),
                    start_membrane.eq(Mux(self.first_step & integrating, 0, old_membranes[lane])),
                ]
                m.d["comb" if decaying == update else "sync"] += [
                    old_current.eq(start_current),
                    old_membrane.eq(start_membrane),
                    taken_current.eq(decay(start_current, k.decay_syn)),
                    taken_membrane.eq(decay(start_membrane, decays[lane])),
                ]
            with m.If(at[update][0]):
                m.d.sync += [
                    current.eq(old_current - taken_current + drive[lane]),
                    membrane.eq(old_membrane),
                    kept.eq(old_membrane - taken_membrane),
                ]

            # Cycle 2: new current and membrane, and what the membrane will be compared with.
            clipped = register("clipped", signed(state))
            new_current, potential = register("new_current", signed(state)), register("potential", signed(state))
            before = register("before", signed(state))
            bar = register("bar", signed(max(state, DRAW_BITS + 1) + 1 if cfg.learning else state))
            gate_centre = register("gate_centre", signed(state + 1))
            wait, count, first = (
                register(name, unsigned(bits)) for name, bits in (("wait", 8), ("count", 16), ("first", 16))
            )
            readout = old_readout[lane]
            with m.If(at[update + 1][0]):
                m.d.comb += clipped.eq(saturate(m, current, state))
                m.d.sync += [
                    new_current.eq(clipped),
                    before.eq(membrane),
                    gate_centre.eq(Mux(k.gate_at_threshold, theta[lane], 0) + k.centre),
                    wait.eq(Mux(self.first_step, 0, old_waits[lane])),
                    count.eq(Mux(self.first_step, 0, readout.count)),
                    first.eq(Mux(self.first_step, NEVER, readout.first)),
                ]
                moved = saturate(m, kept + clipped + noise[lane], state)
                m.d.sync += potential.eq(Mux(self.award, membrane, moved) if cfg.learning else moved)
                bar_value: Value = theta[lane]
                if cfg.learning:
                    chance = Mux(stochastic, (self.group_chances[lane] & mask) + 1, 0)
                    bar_value = theta[lane] + chance
                m.d.sync += bar.eq(bar_value)

            # Cycle 3: gate, spike, reset.
            blocked, fire = register("blocked", 1), register("fire", 1)
            distance = register("distance", signed(state + 2))
            after = new_membranes[lane]
            with m.If(at[final][0]):
                m.d.comb += [
                    blocked.eq((wait != 0) | (k.fire_once & (count != 0))),
                    distance.eq(potential - gate_centre),
                    spikes[lane].eq(fire),
                    fired[lane].eq(fire | (count != 0)),
                    gates[lane].eq((magnitude(m, distance) < k.window) & exists[lane]),
                    new_currents[lane].eq(new_current),
                    after.eq(potential),
                    new_waits[lane].eq(Mux(fire, k.refractory, Mux(wait != 0, wait - 1, 0))),
                    new_readout[lane].count.eq(count + fire),
                    new_readout[lane].first.eq(Mux(fire & (count == 0), self.step, first)),
                    potential_write.data[lane].eq(Mux(self.first_step, 0, potential_read.data[lane]) + potential),
                ]
                m.d.comb += fire.eq((potential >= bar) & ~blocked & exists[lane])
                if cfg.learning:
                    m.d.comb += self.new_potentials[lane].eq(potential)
                    with m.If(self.winner_layer):
                        chosen = (self.winner_word == at[final][1]) & (
                            self.winner_lane == Cat(Const(lane, ceil_log2(lanes)), at[final][2])
                        )
                        m.d.comb += fire.eq(self.award & chosen)
                with m.If(fire & (k.reset == Reset.ZERO)):
                    m.d.comb += after.eq(0)
                with m.If(fire & (k.reset == Reset.SUBTRACT)):
                    m.d.comb += after.eq(saturate(m, potential - k.amount, state))
            if cfg.trace:
                m.d.comb += [self.trace.before[lane].eq(before), self.trace.after[lane].eq(after)]

        # Words leave whole: spikes and gates of earlier groups are gathered.
        for whole, part in ((self.spikes, spikes), (self.gates, gates)):
            gathered = Signal(cfg.lanes - lanes, name="gathered")
            m.d.comb += whole.eq(Cat(gathered, part))
            with m.If(at[final][0]):
                m.d.sync += gathered.eq(whole[lanes:])
        last_group = at[final][2] == groups - 1
        m.d.comb += [
            self.done.eq(at[final][0] & firing & last_group),
            self.passed.eq(at[final][0] & last_group),
            self.stored.eq(at[final][0] & firing),
            self.word_done.eq(at[final][1]),
            self.group_done.eq(at[final][2]),
        ]
        if cfg.trace:
            m.d.comb += [
                self.trace.step.eq(self.step),
                self.trace.word.eq(address(final)),
                self.trace.spikes.eq(self.spikes),
                self.trace.gates.eq(self.gates),
            ]
        return m

    def _announced(self, m: Module) -> tuple[Value, Value, Value]:
        """Groups of a word that is announced: the first one at once, then one a cycle."""
        groups = self.cfg.neuron_groups
        if groups == 1:
            return self.last, self.word, Const(0, 0)
        following, word = Signal(range(groups)), Signal.like(self.word)
        with m.If(self.last):
            m.d.sync += [following.eq(1), word.eq(self.word)]
        with m.Elif(following != 0):
            m.d.sync += following.eq(following + 1)
        return self.last | (following != 0), Mux(self.last, self.word, word), Mux(self.last, 0, following)

    def _sums(self, m: Module, now: tuple[Value, Value, Value]) -> data.View:
        """Sums of the group that is updated: those of the first one are there, those of the others are kept."""
        lanes, groups = self.cfg.neuron_width, self.cfg.neuron_groups
        if groups == 1:
            return self.sums
        valid, _, group = now
        whole = self.sums.as_value()
        bits = len(whole) // groups
        kept = Signal(len(whole) - bits, reset_less=True)
        shown = Signal(data.ArrayLayout(self.sums.shape().elem_shape, lanes), name="shown_sums")
        m.d.comb += shown.eq(Mux(group == 0, whole[:bits], kept[:bits]))
        with m.If(valid):
            m.d.sync += kept.eq(Mux(group == 0, whole[bits:], kept >> bits))
        return shown

    def _distorted_parameters(
        self,
        m: Module,
        at: list[tuple[Value, Value, Value]],
        integrating: Value,
        address: Callable[[int], Value],
        thresholds: Bank,
        theta: Signal,
        decays: Signal,
        noise: Signal,
    ) -> None:
        """Threshold, leak and noise as the die has them, each ready in the cycle that needs it."""
        cfg, k = self.cfg, self.constants
        lanes, update = cfg.lanes, Synapses.latency(cfg)
        m.submodules.die_neurons = neurons = Bank(cfg.neuron_depth, lanes, NEURON, init=DIE_NEUTRAL_NEURON)
        connect(m, flipped(self.die_neuron_host), neurons.host)
        # The noise of a neuron's threshold holds for the whole sample.
        deviations = Memory(shape=data.ArrayLayout(signed(7), lanes), depth=cfg.neuron_depth, init=[])
        m.submodules.deviations = deviations
        deviation_read, deviation_write = deviations.read_port(), deviations.write_port()
        m.d.comb += [
            thresholds.address.eq(address(update - 2)),
            thresholds.enable.eq(at[update - 2][0]),
            neurons.address.eq(address(update - 2)),
            neurons.enable.eq(at[update - 2][0]),
            self.drawn.eq(at[update - 1][0] & integrating),
            self.drawn_twice.eq(self.first_step & (self.threshold_amplitude != 0)),
            deviation_read.addr.eq(address(update - 2)),
            deviation_read.en.eq(at[update - 2][0]),
            deviation_write.addr.eq(address(update - 1)),
            deviation_write.en.eq(self.drawn & self.first_step),
        ]
        for lane in range(lanes):
            # Shifted along with the word: needed in the second cycle of the update.
            stages = [
                Signal(signed(cfg.state_bits), name=f"theta{lane}_{stage}", reset_less=True) for stage in range(2)
            ]
            ratio = neurons.data[lane]
            deviation = Signal(signed(7), name=f"deviation{lane}")
            total = Signal(signed(7), name=f"deviate{lane}", reset_less=True)
            with m.If(at[update - 1][0]):
                m.d.comb += deviation.eq(deviation_read.data[lane])
                with m.If(deviation_write.en):
                    m.d.comb += deviation.eq(deviate(m, self.more_draws[lane]))
                m.d.sync += total.eq(deviate(m, self.draws[lane]))
            m.d.comb += deviation_write.data[lane].eq(deviation)
            gain = named(m, ratio.threshold + ((deviation * self.threshold_amplitude + 8) >> 4), "gain")
            scaled = (thresholds.data[lane] * gain + 512) >> 10
            m.d.comb += theta[lane].eq(stages[-1])
            with m.If(at[update - 1][0]):
                m.d.sync += [
                    stages[0].eq(saturate(m, scaled, cfg.state_bits)),
                    decays[lane].eq(least(m, (k.decay_mem * ratio.leak + 512) >> 10, Const(1 << DECAY_BITS))),
                ]
            with m.If(at[update][0]):
                m.d.sync += stages[1].eq(stages[0])
            with m.If(at[update][0]):
                m.d.sync += noise[lane].eq((total * self.amplitude + 8) >> 4)

    def _distorted_biases(
        self,
        m: Module,
        at: list[tuple[Value, Value, Value]],
        address: Callable[[int], Value],
        biases: Bank,
        drive: Signal,
    ) -> None:
        """Bias as the die has it, and the sum it is added to."""
        cfg = self.cfg
        update = Synapses.latency(cfg)
        m.submodules.die_biases = tables = Bank(cfg.neuron_depth, cfg.lanes, SYNAPSE, init=DIE_NEUTRAL_SYNAPSE)
        m.submodules.distorter = distorter = Distorter(cfg.lanes, BIAS_BITS)
        connect(m, flipped(self.die_bias_host), tables.host)
        before = update - 1 - Distorter.LATENCY
        m.d.comb += [
            biases.address.eq(address(before)),
            biases.enable.eq(at[before][0]),
            tables.address.eq(address(before)),
            tables.enable.eq(at[before][0]),
            distorter.weights.eq(biases.data),
            distorter.tables.eq(tables.data),
            distorter.curves.eq(self.curves),
            distorter.shift.eq(self.constants.shift),
            distorter.enable.eq(at[before + 1][0]),
        ]
        for lane in range(cfg.lanes):
            with m.If(at[update][0]):
                m.d.comb += drive[lane].eq(self.sums[lane] + distorter.effective[lane])
