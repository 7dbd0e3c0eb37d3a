"""Step and compare: the chip's answers and trace against the golden model's, and where they differ if they do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from itertools import accumulate

import numpy as np
from numpy.typing import NDArray

from rtl.config import ChipConfig
from rtl.registers import ANSWER, Opcode, Status
from testbench.programs import Program


@dataclass
class Totals:
    """What was compared."""

    configurations: int = 0
    frames: int = 0
    steps: int = 0
    spikes: int = 0
    cycles: int = 0
    learned: int = 0
    """Samples of LEARN frames."""
    gradient_events: int = 0

    def __add__(self, other: Totals) -> Totals:
        return Totals(*(getattr(self, field.name) + getattr(other, field.name) for field in fields(self)))

    def __str__(self) -> str:
        return (
            f"{self.configurations} configurations, {self.frames:,} frames, {self.steps:,} time steps, "
            f"{self.spikes:,} spikes, {self.learned:,} samples learned, {self.gradient_events:,} gradient events, "
            f"{self.cycles:,} cycles: all equal"
        )


def split(words: NDArray[np.uint64]) -> list[NDArray[np.uint64]]:
    """A stream as a list of frames."""
    ends = np.flatnonzero(words >> np.uint64(32)) + 1
    frames = np.split(words, ends)
    return frames if len(frames[-1]) else frames[:-1]


def compare(program: Program, chip: NDArray[np.uint64], model: NDArray[np.uint64]) -> Totals:
    """Check that both gave the same answers.

    Raises
    ------
    AssertionError
        At the first word that differs: what the chip said, what the model said, and what the word means.
    """
    cfg = program.cfg
    answers, expected = split(chip), split(model)
    totals = Totals(configurations=1, frames=len(program.frames))
    samples = zip(program.steps, program.early, program.brief, strict=True)
    for number, (frame, here, there) in enumerate(zip(program.frames, answers, expected, strict=False)):
        header = int(there[0])
        opcode = header >> 24 & 0xFF ^ ANSWER
        ran = opcode in SAMPLES and header & 0xFFFF == Status.OK
        steps, early, brief = next(samples) if ran else (0, False, False)
        if len(here) != len(there) or (here != there).any():
            raise AssertionError(
                f"{cfg.to_json()}, program {program.seed}, frame {number} ({_title(frame)}): "
                f"{_difference(cfg, here, there, brief)}"
            )
        if ran:
            tail = there[-1 - _result_words(cfg, opcode, brief) : -1]
            totals.cycles += int(tail[0])
            totals.steps += _steps_run(cfg, tail, steps, early)
            totals.spikes += int((tail[2 : 2 + cfg.n_neurons] & np.uint64(0xFFFF)).sum())
            if opcode == Opcode.LEARN:
                totals.learned += 1
                gradients = tail[-cfg.n_neurons :]
                totals.gradient_events += int(
                    (gradients & np.uint64(0xFFFF)).sum() + (gradients >> np.uint64(16)).sum()
                )
    if not len(answers) == len(expected) == len(program.frames):
        raise AssertionError(
            f"{cfg.to_json()}, program {program.seed}: {len(program.frames)} frames, of which the chip answered "
            f"{len(answers)} and the model {len(expected)}"
        )
    return totals


SAMPLES = (Opcode.RUN, Opcode.LEARN)


def _result_words(cfg: ChipConfig, opcode: int, brief: bool) -> int:
    """Words at the end of a sample's answer: cycles, input spikes, neurons, potentials, gradient spikes."""
    potentials = 0 if brief else 2 * cfg.n_out
    return 2 + cfg.n_neurons + potentials + (cfg.n_neurons if opcode == Opcode.LEARN else 0)


def _steps_run(cfg: ChipConfig, tail: NDArray[np.uint64], steps: int, early: bool) -> int:
    """Steps of a sample: those asked for, unless it ended with the last output's first spike."""
    first = tail[2 + cfg.n_neurons - cfg.n_out : 2 + cfg.n_neurons] >> np.uint64(16)
    return min(steps, int(first.max()) + 1) if early else steps


def _title(frame: Sequence[int]) -> str:
    opcode = frame[0] >> 24 & 0xFF
    name = Opcode(opcode).name if opcode in set(Opcode) else f"opcode {opcode:#x}"
    return f"{name}, {len(frame)} words"


def _difference(cfg: ChipConfig, chip: NDArray[np.uint64], model: NDArray[np.uint64], brief: bool) -> str:
    if len(chip) != len(model):
        return f"the chip answered {len(chip)} words, the model {len(model)}"
    place = int(np.flatnonzero(chip != model)[0])
    return (
        f"{_meaning(cfg, model, place, brief)}: the chip said {int(chip[place]):#x}, the model {int(model[place]):#x}"
    )


def _meaning(cfg: ChipConfig, answer: NDArray[np.uint64], place: int, brief: bool) -> str:
    """What word `place` of an answer is."""
    if place == 0:
        return "header"
    if place == len(answer) - 1:
        return "CRC"
    opcode = int(answer[0]) >> 24 & 0xFF ^ ANSWER
    if opcode not in SAMPLES:
        return f"word {place - 1} of the payload"
    tail = place - (len(answer) - 1 - _result_words(cfg, opcode, brief))
    if tail < 0:
        return f"word {place - 1} of the rasters"
    if tail < 2:
        return ("clock cycles", "input spikes")[tail]
    neuron, what = tail - 2, "first spike and count"
    if neuron >= cfg.n_neurons:
        output, half = divmod(neuron - cfg.n_neurons, 2)
        if output < cfg.n_out and not brief:
            return f"potential of output {output} ({('low', 'high')[half]} word)"
        neuron -= cfg.n_neurons + (0 if brief else 2 * cfg.n_out)
        what = "positive and negative gradient spikes"
    ends = list(accumulate(cfg.neuron_layers))
    layer = next(index for index, end in enumerate(ends) if neuron < end)
    return f"{what} of neuron {neuron - (ends[layer] - cfg.neuron_layers[layer])} of layer {layer}"


@dataclass(frozen=True)
class TracedWord:
    """One transfer of the trace port."""

    step: int
    word: int
    before: tuple[int, ...]
    after: tuple[int, ...]
    spikes: int
    gates: int


@dataclass(frozen=True)
class TracedGradient:
    """One transfer of the trace port's gradient side: masks of the word's lanes."""

    step: int
    word: int
    positive: int
    negative: int


def traced_gradient(cfg: ChipConfig, value: int) -> TracedGradient:
    """Take the payload of the gradient port apart (:func:`rtl.learning.gradient_trace`)."""
    lanes = cfg.lanes
    mask = (1 << lanes) - 1
    return TracedGradient(value & 0xFFFF, value >> 16 & 0xFFFF, value >> 32 & mask, value >> 32 + lanes & mask)


def compare_gradients(cfg: ChipConfig, seen: Sequence[TracedGradient], expected: Sequence[object]) -> int:
    """Check every word of gradient spikes in its order; returns their number."""
    position = 0
    layers = list(zip(cfg.neuron_base, cfg.words, strict=True))
    for sample, trace in enumerate(expected):
        shape = (-1, cfg.neuron_depth, cfg.lanes)
        positive, negative = (a.reshape(shape) for a in (trace.positive, trace.negative))  # type: ignore[attr-defined]
        for step in np.flatnonzero((positive | negative).any(axis=(1, 2))).tolist():
            for layer, (base, words) in reversed(list(enumerate(layers))):
                for address in range(base, base + words):
                    masks = [
                        sum(int(bit) << lane for lane, bit in enumerate(stream[step, address]))
                        for stream in (positive, negative)
                    ]
                    if not any(masks):
                        continue
                    where = f"{cfg.to_json()}, sample {sample}, step {step}, layer {layer}, word {address - base}"
                    model = TracedGradient(step, address, *masks)
                    assert position < len(seen), f"{where}: the chip traced no gradient spikes, the model {model}"
                    assert seen[position] == model, f"{where}: the chip traced {seen[position]}, the model {model}"
                    position += 1
    assert position == len(seen), f"{cfg.to_json()}: the chip traced {len(seen) - position} gradient words too many"
    return position


def traced_word(cfg: ChipConfig, value: int) -> TracedWord:
    """Take the payload of the trace port apart (:func:`rtl.neuron.trace_layout`)."""
    lanes, bits = cfg.lanes, cfg.state_bits

    def take(width: int) -> int:
        nonlocal value
        field, value = value & (1 << width) - 1, value >> width
        return field

    def states() -> tuple[int, ...]:
        return tuple((take(bits) ^ 1 << bits - 1) - (1 << bits - 1) for _ in range(lanes))

    return TracedWord(take(16), take(16), states(), states(), take(lanes), take(lanes))


def compare_trace(cfg: ChipConfig, seen: Sequence[TracedWord], expected: Sequence[object]) -> int:
    """Check the trace port against the model's traces, one a sample, step by step; the number of steps compared.

    Raises
    ------
    AssertionError
        At the first neuron that differs: sample, step, layer and neuron, and both sides' values.
    """
    position = steps = 0
    sizes = [
        (base + word, layer, word, min(cfg.lanes, size - word * cfg.lanes))
        for layer, (base, words, size) in enumerate(zip(cfg.neuron_base, cfg.words, cfg.neuron_layers, strict=True))
        for word in range(words)
    ]
    for sample, trace in enumerate(expected):
        for step in range(len(trace.before)):  # type: ignore[attr-defined]
            steps += 1
            for address, layer, word, lanes in sizes:
                where = f"{cfg.to_json()}, sample {sample}, step {step}, layer {layer}, word {word}"
                assert position < len(seen), f"{where}: the chip's trace ends here, after {position} words"
                chip = seen[position]
                position += 1
                assert (chip.step, chip.word) == (step, address), (
                    f"{where}: the chip traced step {chip.step}, neuron word {chip.word} instead of {address}"
                )
                for lane in range(lanes):
                    index = address * cfg.lanes + lane
                    values = {
                        "membrane before": (chip.before[lane], trace.before[step, index]),  # type: ignore[attr-defined]
                        "membrane after": (chip.after[lane], trace.after[step, index]),  # type: ignore[attr-defined]
                        "spike": (chip.spikes >> lane & 1, trace.spikes[step, index]),  # type: ignore[attr-defined]
                        "gate": (chip.gates >> lane & 1, trace.gates[step, index]),  # type: ignore[attr-defined]
                    }
                    for name, (ours, theirs) in values.items():
                        assert ours == theirs, (
                            f"{where}, neuron {word * cfg.lanes + lane}, {name}: "
                            f"the chip had {ours}, the model {theirs}"
                        )
    assert position == len(seen), f"{cfg.to_json()}: the chip traced {len(seen) - position} words too many"
    return steps
