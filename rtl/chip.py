"""The chip: everything between the two streams of the link (docs/chip.md has the picture)."""

from __future__ import annotations

from amaranth.hdl import Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from rtl.config import ChipConfig
from rtl.control import Control
from rtl.die import DieGlobals
from rtl.encoder import Encoder
from rtl.executor import Executor
from rtl.link import WORD, Receiver, Sender
from rtl.neuron import NeuronUpdate, constants, trace_layout
from rtl.random import RandomBank, Seeder
from rtl.recorder import Recorder
from rtl.registers import Encoding, Region
from rtl.results import Results
from rtl.sequencer import Sequencer
from rtl.spikes import SpikeList, Walker, entry
from rtl.synapses import Synapses


class Chip(wiring.Component):
    """A spiking-network chip of the given configuration.

    Frames go in by `rx` and answers come out of `tx`, both 32-bit words with a `last` mark. `busy` is high from the
    cycle after the last word of a frame until the last word of its answer was taken. With ``trace`` in the
    configuration, `trace` shows each neuron word in the cycle in which `trace_valid` is high.
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
        super().__init__(ports)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        cfg = self.cfg
        m.submodules.receiver = receiver = Receiver(cfg.link_depth)
        m.submodules.sender = sender = Sender()
        m.submodules.executor = executor = Executor(cfg)
        m.submodules.control = control = Control(cfg)
        m.submodules.encoder = encoder = Encoder(cfg)
        m.submodules.inputs = inputs = SpikeList(cfg.in_words, entry(cfg))
        m.submodules.hidden = hidden = SpikeList(max(cfg.words), entry(cfg))
        m.submodules.walker = walker = Walker(cfg)
        m.submodules.synapses = synapses = Synapses(cfg)
        m.submodules.neurons = neurons = NeuronUpdate(cfg)
        m.submodules.sequencer = sequencer = Sequencer(cfg)
        m.submodules.seeder = seeder = Seeder(cfg.lanes // 2, 2 if cfg.die_tables else 1)
        m.submodules.recorder = recorder = Recorder(cfg)
        m.submodules.results = results = Results(cfg)

        # ---- link -------------------------------------------------------------------------------------------------
        connect(m, flipped(self.rx), receiver.rx)
        connect(m, executor.answer, sender.words)
        connect(m, sender.tx, flipped(self.tx))
        m.d.comb += [
            executor.available.eq(receiver.available),
            executor.frame.eq(receiver.start),
            executor.record.eq(receiver.record),
            receiver.fetch.eq(executor.fetch),
            receiver.release.eq(executor.release),
            self.busy.eq(executor.busy | sender.busy),
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

        # ---- a sample ---------------------------------------------------------------------------------------------
        noisy = Signal()
        hold = Signal()
        m.d.comb += [
            hold.eq(recorder.full & walker.walking),
            executor.held.eq(hold),
            executor.events.eq(control.encoding[1]),
            executor.done.eq(sequencer.done),
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
            sequencer.stochastic.eq((control.encoding == Encoding.BERNOULLI) | noisy),
            seeder.start.eq(sequencer.seed),
            seeder.seed.eq(executor.seed),
            sequencer.seeded.eq(seeder.done),
            encoder.seed_shift.eq(seeder.shift[0]),
            encoder.seed.eq(seeder.word),
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

        # The walker reads the list of the layer below and the updates fill that of its own layer.
        first_layer = sequencer.layer == 0
        m.d.comb += [
            walker.start.eq(sequencer.walk),
            walker.layer.eq(sequencer.layer),
            walker.min_pass.eq(recorder.min_pass),
            walker.hold.eq(hold),
            inputs.read_which.eq(sequencer.step[0]),
            inputs.read_index.eq(walker.index),
            hidden.which.eq(sequencer.layer[0]),
            hidden.clear.eq(sequencer.walk),
            hidden.read_which.eq(~sequencer.layer[0]),
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
            sequencer.layer_done.eq(neurons.done & (neurons.word_done == last_word)),
            recorder.record.eq(control.record),
            recorder.take.eq(neurons.done),
            recorder.spikes.eq(neurons.spikes),
            recorder.gates.eq(neurons.gates),
        ]

        # ---- the die ----------------------------------------------------------------------------------------------
        if cfg.die_tables:
            m.submodules.bank = bank = RandomBank(cfg.lanes)
            m.submodules.die = die = DieGlobals()
            bus(die.host, Region.DIE_GLOBAL)
            bus(synapses.die_host, Region.DIE_SYNAPSE)
            bus(neurons.die_neuron_host, Region.DIE_NEURON)
            bus(neurons.die_bias_host, Region.DIE_BIAS)
            m.d.comb += [
                noisy.eq(die.amplitude != 0),
                bank.shift.eq(seeder.shift[1]),
                bank.seed.eq(seeder.word),
                bank.advance.eq(neurons.drawn),
                synapses.shift.eq(layer_constants.shift),
                synapses.curves.eq(die.curves),
                neurons.curves.eq(die.curves),
                neurons.amplitude.eq(die.amplitude),
                neurons.draws.eq(bank.values),
            ]

        # ---- results ----------------------------------------------------------------------------------------------
        connect(m, recorder.output, executor.raster)
        connect(m, results.words, executor.results)
        m.d.comb += [
            executor.raster_empty.eq(recorder.empty),
            results.start.eq(executor.results_start),
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
