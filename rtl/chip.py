"""The chip: everything between the two streams of the link (docs/chip.md has the picture)."""

from __future__ import annotations

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped
from amaranth.utils import ceil_log2

from rtl.config import ChipConfig
from rtl.control import Control
from rtl.crc import WORD_BYTES
from rtl.die import DieGlobals
from rtl.encoder import Encoder
from rtl.executor import Executor
from rtl.learning import Learner, gradient_trace
from rtl.link import WORD, Receiver, Sender, Stage
from rtl.neuron import NeuronUpdate, constants, trace_layout
from rtl.random import RandomBank, Seeder
from rtl.recorder import Recorder
from rtl.registers import RECORD_GRADIENT, Encoding, Fire, Region
from rtl.results import Results
from rtl.sequencer import Sequencer
from rtl.spikes import SpikeList, Walker, entry
from rtl.synapses import Synapses
from rtl.winner import Winner

NARROW_LANES = 4
"""Up to so many lanes, answers go from the memories to the CRC within a cycle."""


def crc_bytes(cfg: ChipConfig) -> int:
    """Bytes of a link word that the CRC takes in a cycle: one on a narrow chip that updates its neurons in groups.

    Such a chip is made for a small device, where a serial line is slower by far.
    """
    return 1 if cfg.lanes <= NARROW_LANES and cfg.neuron_groups > 1 else WORD_BYTES


class Chip(wiring.Component):
    """A spiking-network chip of the given configuration.

    Frames go in by `rx` and answers come out of `tx`, both 32-bit words with a `last` mark. `busy` is high from the
    cycle after the last word of a frame until the last word of its answer was taken. With ``trace`` in the
    configuration, `trace` shows each neuron word in the cycle in which `trace_valid` is high, and `gradient` with
    `gradient_valid` each word of gradient spikes.
    """

    def __init__(self, cfg: ChipConfig) -> None:
        self.cfg = cfg
        ports = {
            "rx": In(stream.Signature(WORD)),
            "tx": Out(stream.Signature(WORD)),
            "busy": Out(1),
        }
        if cfg.trace:
            ports |= {"trace_valid": Out(1), "trace": Out(trace_layout(cfg))}
            if cfg.learning:
                ports |= {"gradient_valid": Out(1), "gradient": Out(gradient_trace(cfg))}
        super().__init__(ports)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        cfg = self.cfg
        m.submodules.receiver = receiver = Receiver(cfg.link_depth, crc_bytes(cfg))
        m.submodules.sender = sender = Sender(crc_bytes(cfg))
        m.submodules.executor = executor = Executor(cfg)
        m.submodules.control = control = Control(cfg)
        m.submodules.encoder = encoder = Encoder(cfg)
        m.submodules.inputs = inputs = SpikeList(cfg.in_words, entry(cfg))
        # A chip that learns needs the spikes of all layers once more when a step ends.
        lists = max(len(cfg.words), 2) if cfg.learning else 2
        m.submodules.hidden = hidden = SpikeList(max(cfg.words), entry(cfg), lists)
        m.submodules.walker = walker = Walker(cfg)
        m.submodules.synapses = synapses = Synapses(cfg)
        m.submodules.neurons = neurons = NeuronUpdate(cfg)
        m.submodules.sequencer = sequencer = Sequencer(cfg)
        jittery = cfg.die_tables and cfg.delay_slots > 0
        jitter: Value = Const(0)
        bernoulli: Value = Const(0)
        m.submodules.recorder = recorder = Recorder(cfg)
        m.submodules.results = results = Results(cfg)

        # ---- link -------------------------------------------------------------------------------------------------
        connect(m, flipped(self.rx), receiver.rx)
        answering: Value = executor.busy | sender.busy
        if cfg.lanes > NARROW_LANES:
            # The way from a wide memory to the CRC would be the longest of the chip.
            m.submodules.stage = stage = Stage()
            connect(m, executor.answer, stage.words)
            connect(m, stage.tx, sender.words)
            answering |= stage.busy
        else:
            connect(m, executor.answer, sender.words)
        connect(m, sender.tx, flipped(self.tx))
        m.d.comb += [
            executor.available.eq(receiver.available),
            executor.frame.eq(receiver.start),
            executor.record.eq(receiver.record),
            receiver.fetch.eq(executor.fetch),
            receiver.release.eq(executor.release),
            self.busy.eq(answering),
        ]

        # ---- what the host reaches --------------------------------------------------------------------------------
        def bus(host: wiring.FlippedInterface | wiring.PureInterface, region: Region) -> None:
            m.d.comb += [
                host.own.eq(executor.own),
                host.offset.eq(executor.offset),
                host.data.eq(executor.data),
                host.write.eq(executor.write[region.name]),
                executor.read[region.name].eq(host.read),
            ]

        bus(control.host, Region.REGISTERS)
        bus(synapses.host, Region.WEIGHTS)
        bus(neurons.threshold_host, Region.THRESHOLD)
        bus(neurons.bias_host, Region.BIAS)
        m.d.comb += [
            synapses.single_write.eq(executor.write[Region.WEIGHT.name]),
            control.probe.eq(executor.probe),
            executor.known.eq(control.known),
            executor.readonly.eq(control.readonly),
        ]

        # ---- random numbers ---------------------------------------------------------------------------------------
        if cfg.random_banks:
            m.submodules.seeder = seeder = Seeder(cfg.lanes // 2, cfg.random_banks)
            m.d.comb += [
                seeder.start.eq(sequencer.seed),
                seeder.seed.eq(executor.seed),
                sequencer.seeded.eq(seeder.done),
            ]
        if cfg.bernoulli:
            bernoulli = control.encoding == Encoding.BERNOULLI
            m.d.comb += [encoder.seed_shift.eq(seeder.shift[0]), encoder.seed.eq(seeder.word)]

        # ---- a sample ---------------------------------------------------------------------------------------------
        noisy, chancy = Signal(), Signal()
        hold = Signal()
        m.d.comb += [
            hold.eq(recorder.full & walker.walking),
            executor.held.eq(hold),
            executor.events.eq(control.encoding[1]),
            executor.done.eq(sequencer.done),
            executor.cut.eq(sequencer.cut),
            executor.bad_events.eq(encoder.bad_events),
            executor.input_spike.eq(walker.spikes & (sequencer.layer == 0)),
            encoder.pixel_write.eq(executor.pixel_write),
            encoder.pixel_index.eq(executor.pixel_index),
            encoder.pixel_data.eq(executor.data),
            encoder.event.eq(executor.event),
            encoder.event_left.eq(executor.event_left),
            executor.event_take.eq(encoder.event_take),
            sequencer.start.eq(executor.start),
            sequencer.steps.eq(control.steps),
            sequencer.stochastic.eq(bernoulli | noisy | chancy),
            encoder.start.eq(sequencer.encode),
            encoder.step.eq(sequencer.encode_step),
            encoder.first_step.eq(sequencer.encode_step == 0),
            encoder.encoding.eq(control.encoding),
            encoder.hold.eq(hold),
            sequencer.encoding.eq(encoder.busy),
            inputs.which.eq(encoder.which),
            inputs.clear.eq(encoder.clear),
            inputs.push.eq(encoder.push),
            inputs.item.eq(encoder.item),
        ]

        # A word of neurons must be stored, and its masks sent, before the next one comes.
        groups = cfg.neuron_groups
        # The walker reads the list of the layer below and the updates fill that of its own layer.
        first_layer = sequencer.layer == 0
        m.d.comb += [
            walker.start.eq(sequencer.walk),
            walker.layer.eq(sequencer.layer),
            walker.min_pass.eq(Mux(recorder.min_pass > groups, recorder.min_pass, groups)),
            walker.hold.eq(hold),
            inputs.read_which.eq(sequencer.step[0]),
            inputs.read_index.eq(walker.index),
            hidden.which.eq(sequencer.layer if cfg.learning else sequencer.layer[0]),
            hidden.clear.eq(sequencer.walk),
            hidden.read_which.eq(sequencer.layer - 1 if cfg.learning else ~sequencer.layer[0]),
            hidden.read_index.eq(walker.index),
            walker.item.eq(hidden.read_item),
            walker.length.eq(hidden.length),
        ]
        with m.If(first_layer):
            m.d.comb += [walker.item.eq(inputs.read_item), walker.length.eq(inputs.length)]

        # Constants of the layer, taken over when it starts: they are needed some cycles later, at the earliest.
        layer_constants = Signal(constants(cfg))
        base = Signal.like(neurons.base)
        last_word = Signal.like(neurons.word)
        m.d.comb += control.layer.eq(sequencer.layer)
        with m.If(sequencer.walk):
            m.d.sync += layer_constants.eq(control.constants)
            with m.Switch(sequencer.layer):
                for layer, (start, words) in enumerate(zip(cfg.neuron_base, cfg.words, strict=True)):
                    with m.Case(layer):
                        m.d.sync += [base.eq(start), last_word.eq(words - 1)]

        output_layer = sequencer.layer == len(cfg.words) - 1
        # An answer with rasters must have the length that the registers say.
        may_end = ~control.record[:RECORD_GRADIENT].any()
        if cfg.learning:
            may_end &= ~executor.learn
        m.d.comb += [
            synapses.go.eq(walker.go),
            synapses.valid.eq(walker.valid),
            synapses.last.eq(walker.last),
            synapses.address.eq(walker.address),
            neurons.last.eq(walker.last),
            neurons.word.eq(walker.word),
            neurons.base.eq(base),
            neurons.output_layer.eq(output_layer),
            neurons.first_step.eq(sequencer.step == 0),
            neurons.step.eq(sequencer.step),
            neurons.constants.eq(layer_constants),
            neurons.sums.eq(synapses.sums),
            hidden.push.eq(neurons.done & neurons.spikes.any()),
            hidden.item.index.eq(neurons.word_done),
            hidden.item.mask.eq(neurons.spikes),
            sequencer.layer_done.eq(neurons.passed & (neurons.word_done == last_word)),
            sequencer.enough.eq(neurons.all_fired & control.early_end & may_end),
            recorder.record.eq(control.record),
            recorder.take.eq(neurons.done),
            recorder.spikes.eq(neurons.spikes),
            recorder.gates.eq(neurons.gates),
        ]

        if cfg.delay_slots:
            m.d.comb += [
                synapses.target.eq(base + walker.word),
                synapses.now.eq(sequencer.step),
                synapses.clear.eq(sequencer.clear),
                sequencer.cleared.eq(synapses.cleared),
            ]
            bus(synapses.delay_host, Region.DELAYS)
            if cfg.axonal_delays:
                m.d.comb += synapses.source.eq(walker.source)
            else:
                m.d.comb += synapses.single_delay.eq(executor.write[Region.DELAY.name])
        if cfg.learning:
            self._learning(m, layer_constants, base, output_layer, hold, chancy)

        # ---- the die ----------------------------------------------------------------------------------------------
        if cfg.die_tables:
            m.submodules.bank = bank = RandomBank(cfg.lanes, pairs=True)
            m.submodules.die = die = DieGlobals(delays=jittery, synapses=cfg.distorts_synapses)
            if jittery:
                jitter = die.jitter_amplitude
            bus(die.host, Region.DIE_GLOBAL)
            bus(neurons.die_neuron_host, Region.DIE_NEURON)
            m.d.comb += [
                noisy.eq((die.amplitude != 0) | (die.threshold_amplitude != 0) | (jitter != 0)),
                bank.shift.eq(seeder.shift[int(cfg.bernoulli)]),
                bank.seed.eq(seeder.word),
                bank.advance.eq(neurons.drawn),
                bank.twice.eq(neurons.drawn_twice),
                neurons.amplitude.eq(die.amplitude),
                neurons.threshold_amplitude.eq(die.threshold_amplitude),
                neurons.draws.eq(bank.values),
                neurons.more_draws.eq(bank.following),
            ]
        if cfg.distorts_synapses:
            bus(synapses.die_host, Region.DIE_SYNAPSE)
            bus(neurons.die_bias_host, Region.DIE_BIAS)
            m.d.comb += [
                synapses.shift.eq(layer_constants.shift),
                synapses.curves.eq(die.curves),
                neurons.curves.eq(die.curves),
            ]
        if jittery:
            m.submodules.jitters = jitters = RandomBank(cfg.lanes)
            m.d.comb += [
                jitters.shift.eq(seeder.shift[-1]),
                jitters.seed.eq(seeder.word),
                jitters.advance.eq(synapses.drawn),
                synapses.draws.eq(jitters.values),
                synapses.jitter.eq(jitter),
            ]

        # ---- results ----------------------------------------------------------------------------------------------
        connect(m, recorder.output, executor.raster)
        connect(m, results.words, executor.results)
        m.d.comb += [
            executor.raster_empty.eq(recorder.empty),
            results.start.eq(executor.results_start),
            results.brief.eq(control.brief),
            results.cycles.eq(executor.cycles),
            results.input_spikes.eq(executor.input_spikes),
            neurons.read.eq(results.reading),
            neurons.read_address.eq(results.address),
            results.readout.eq(neurons.readout),
            results.potentials.eq(neurons.potentials),
        ]
        if cfg.trace:
            m.d.comb += [self.trace_valid.eq(neurons.done), self.trace.eq(neurons.trace)]
        return m

    def _learning(
        self, m: Module, constants: data.View, base: Signal, output_layer: Value, hold: Signal, chancy: Signal
    ) -> None:
        """Winner-take-all, and the learner with its claim on lists, weights and random numbers."""
        cfg = self.cfg
        part = m.submodules
        control, executor, inputs, hidden, walker = part.control, part.executor, part.inputs, part.hidden, part.walker
        synapses, neurons, sequencer, recorder = part.synapses, part.neurons, part.sequencer, part.recorder
        part.winner = winner = Winner(cfg)
        part.learner = learner = Learner(cfg)
        part.chances = bank = RandomBank(cfg.lanes)

        label_word = Signal.like(learner.label_word)
        word_bits = ceil_log2(cfg.lanes)
        winner_layer = Signal()
        m.d.comb += [
            winner_layer.eq(output_layer & (constants.fire == Fire.WINNER)),
            chancy.eq(control.stochastic | executor.learn),
            bank.shift.eq(part.seeder.shift[-1]),
            bank.seed.eq(part.seeder.word),
            bank.advance.eq(neurons.chance_drawn | learner.advance),
            synapses.forward_shift.eq(constants.forward_shift),
            neurons.chances.eq(bank.values),
            neurons.winner_layer.eq(winner_layer),
            neurons.award.eq(sequencer.award),
            neurons.winner_word.eq(winner.word),
            neurons.winner_lane.eq(winner.lane),
            winner.draw.eq(neurons.chance_shown & winner_layer),
            winner.draws.eq(neurons.group_chances),
            winner.noise_shift.eq(constants.noise_shift),
            winner.noise_kind.eq(constants.noise_kind),
            winner.take.eq(neurons.potentials_ready),
            winner.take_group.eq(Cat(neurons.group_done, neurons.word_done)),
            winner.potentials.eq(neurons.new_potentials),
            winner.exists.eq(neurons.exists),
            sequencer.winner.eq(winner_layer),
            sequencer.learn.eq(executor.learn),
            sequencer.learn_done.eq(learner.done),
        ]
        with m.If(sequencer.award):
            m.d.comb += walker.length.eq(0)

        m.d.comb += [
            label_word.eq(executor.label >> word_bits),
            learner.start.eq(sequencer.learn_start),
            learner.wrong.eq(winner_layer & (Cat(winner.lane, winner.word) != executor.label)),
            learner.winner_word.eq(winner.word),
            learner.winner_lane.eq(winner.lane),
            learner.label_word.eq(label_word),
            learner.label_lane.eq(executor.label[:word_bits]),
            learner.enable.eq(control.learn_enable),
            learner.words.eq(synapses.words),
            learner.gates_write.eq(neurons.done),
            learner.clear.eq(neurons.stored & (sequencer.step == 0)),
            learner.clear_group.eq(neurons.group_done),
            learner.gates_address.eq(base + neurons.word_done),
            learner.gates.eq(neurons.gates),
            learner.gradient_bits.eq(control.constants.gradient_bits),
            learner.rate.eq(control.constants.rate),
            learner.draws.eq(bank.values),
            learner.record.eq(control.record[RECORD_GRADIENT]),
            learner.full.eq(recorder.full),
            learner.counts_own.eq(part.results.reading),
            learner.counts_address.eq(part.results.address),
            synapses.learn.eq(learner.busy),
            synapses.learn_read.eq(learner.read),
            synapses.learn_address.eq(learner.address),
            synapses.update.eq(learner.update),
            synapses.update_data.eq(learner.update_data),
            recorder.take_gradient.eq(learner.take),
            recorder.positive.eq(learner.positive),
            recorder.negative.eq(learner.negative),
            part.results.learned.eq(executor.learn),
            part.results.gradients.eq(learner.counts),
            learner.source.eq(hidden.read_item),
            learner.source_length.eq(hidden.length),
        ]
        with m.If(learner.busy):
            m.d.comb += [
                control.layer.eq(learner.constants_layer),
                inputs.read_index.eq(learner.source_index),
                hidden.read_index.eq(learner.source_index),
                hidden.read_which.eq(learner.layer - 1),
            ]
        with m.If(learner.layer == 0):
            m.d.comb += [learner.source.eq(inputs.read_item), learner.source_length.eq(inputs.length)]
        with m.If(learner.held):
            m.d.comb += hold.eq(1)
        if cfg.trace:
            m.d.comb += [
                self.gradient_valid.eq(learner.stored),
                self.gradient.step.eq(sequencer.step),
                self.gradient.word.eq(learner.stored_word),
                self.gradient.positive.eq(learner.positive),
                self.gradient.negative.eq(learner.negative),
            ]
