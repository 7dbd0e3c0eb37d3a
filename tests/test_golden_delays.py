"""Delays, early end and the noise of a die in the golden model: worked out by hand, exact laws, and statistics."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from golden_reference import exchange, make_frame, payload, program, write
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from pymodel import GoldenChip
from pymodel.sequencer import Trace
from rtl.config import ChipConfig
from rtl.registers import BAD_EVENTS, MODE_FIRE, MODE_FIRE_ONCE, Encoding, Fire, Opcode, Region, Status

few = settings(max_examples=25, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck))

NEVER = (1 << 23) - 1
"""Threshold out of reach."""
MEMORYLESS = 4096
NOISE, THRESHOLD_NOISE, JITTER = 32, 33, 34
SPREAD = 0.5762
"""Standard deviation of the sum of four nibbles, divided by 16."""

Frame = list[int]


def inside(chip: GoldenChip, *frames: Frame) -> list[Trace]:
    return chip.trace(np.array([word for frame in frames for word in frame], np.uint64))[1]


def fill(region: Region, offset: int, values: list[int]) -> Frame:
    return make_frame(Opcode.WRITE, region << 24 | offset, [value & 0xFFFFFFFF for value in values])


def matrix(cfg: ChipConfig, region: Region, layer: int, values: list[list[int]]) -> list[Frame]:
    """Frames that write a matrix of weights or delays, one row per source."""
    row = cfg.words[layer] * cfg.lanes
    return [fill(region, cfg.weight_base[layer] * cfg.lanes + j * row, list(line)) for j, line in enumerate(values)]


def network(
    cfg: ChipConfig,
    weights: list[list[list[int]]],
    delays: list[list[list[int]]],
    threshold: int = NEVER,
    steps: int = 8,
    **values: int,
) -> list[Frame]:
    """Neurons without memory, V = x, that are driven by events."""
    frames = [fill(Region.THRESHOLD, 0, [threshold] * (cfg.neuron_depth * cfg.lanes))]
    for layer in range(len(weights)):
        frames += matrix(cfg, Region.WEIGHT, layer, weights[layer])
        frames += matrix(cfg, Region.DELAY, layer, delays[layer])
        decays = {f"L{layer}_DECAY_{name}": MEMORYLESS for name in ("SYN", "MEM")}
        frames += write(cfg, **decays)
    return frames + write(cfg, STEPS=steps, ENCODING=Encoding.EVENTS, **values)


def events(*spikes: tuple[int, int], seed: int = 0) -> Frame:
    """A RUN frame; each spike is a step and an input."""
    return make_frame(Opcode.RUN, seed, sorted(time << 16 | j for time, j in spikes))


def firsts(cfg: ChipConfig, answer: list[int]) -> list[int]:
    """First spikes of all neurons, from an answer without streams."""
    return [word >> 16 for word in answer[3 : 3 + cfg.n_neurons]]


# ---- arrivals ---------------------------------------------------------------------------------------------------


def test_every_spike_arrives_after_its_own_delay() -> None:
    cfg = ChipConfig((2, 2), lanes=4, delay_slots=4, die_tables=False)
    setup = network(cfg, [[[3, 10], [5, 20]]], [[[2, 0], [0, 3]]])
    (trace,) = inside(GoldenChip(cfg), *setup, events((0, 0), (1, 0), (1, 1), (3, 0)))
    assert trace.after[:, 0].tolist() == [0, 5, 3, 3, 0, 3, 0, 0]
    assert trace.after[:, 1].tolist() == [10, 10, 0, 10, 20, 0, 0, 0]


def test_spikes_that_arrive_together_add_up_and_bias_and_shift_stay() -> None:
    cfg = ChipConfig((3, 1), lanes=4, delay_slots=8, die_tables=False)
    setup = network(cfg, [[[100], [-30], [7]]], [[[5], [4], [0]]], L0_SHIFT=2)
    setup.append(fill(Region.BIAS, 0, [1]))
    (trace,) = inside(GoldenChip(cfg), *setup, events((0, 0), (1, 1), (5, 2)))
    assert trace.after[:, 0].tolist() == [4, 4, 4, 4, 4, 4 * (1 + 100 - 30 + 7), 4, 4]


def test_a_spike_of_a_hidden_neuron_arrives_after_its_delay() -> None:
    """Two neurons of the last layer, one without delay: it fires in the same step as the hidden neuron."""
    cfg = ChipConfig((1, 1, 2), lanes=4, delay_slots=16, die_tables=False)
    setup = network(cfg, [[[9]], [[9, 9]]], [[[1]], [[0, 11]]], threshold=9, steps=20)
    (answer,) = exchange(GoldenChip(cfg), *setup, events((2, 0)))[-1:]
    assert firsts(cfg, answer) == [3, 3, 14]


def test_delays_up_to_the_largest_field_work_as_they_stand() -> None:
    cfg = ChipConfig((1, 1), lanes=4, delay_slots=5, die_tables=False)
    chip = GoldenChip(cfg)
    exchange(chip, *network(cfg, [[[1]]], [[[0]]], threshold=1, steps=20))
    for delay in range(8):
        (_, answer) = exchange(chip, *matrix(cfg, Region.DELAY, 0, [[delay]]), events((6, 0)))
        assert firsts(cfg, answer) == [6 + delay]


@pytest.mark.parametrize("slots", [2, 3, 1024])
def test_rings_go_round(slots: int) -> None:
    """An input that spikes in every other step, with the longest delay: every slot is used again and again."""
    cfg = ChipConfig((1, 1), lanes=4, delay_slots=slots, die_tables=False)
    longest, steps = (1 << cfg.delay_bits) - 1, 1100
    setup = network(cfg, [[[3]]], [[[longest]]], steps=steps)
    (trace,) = inside(GoldenChip(cfg), *setup, *write(cfg, ENCODING=Encoding.RATE), make_frame(Opcode.RUN, 0, [128]))
    spikes = [3 * (1 - t % 2) for t in range(steps)]
    assert trace.after[:, 0].tolist() == ([0] * longest + spikes)[:steps]


@few
@given(st.integers(0, 2**32 - 1), st.integers(0, 15))
def test_one_delay_for_all_inputs_is_a_shift_of_the_events(seed: int, delay: int) -> None:
    cfg = ChipConfig((9, 7, 3), lanes=4, delay_slots=16)
    rng = np.random.default_rng(seed)
    frames = [*program(cfg, rng), *write(cfg, STEPS=40, ENCODING=Encoding.EVENTS, RECORD=0, EARLY_END=0)]
    frames.append(fill(Region.DIE_GLOBAL, JITTER, [0]))
    spikes = [(int(t), int(j)) for t, j in zip(rng.integers(0, 24, 30), rng.integers(0, 9, 30), strict=True)]
    traces = []
    for d, shift in ((delay, 0), (0, delay)):
        chip = GoldenChip(cfg)
        exchange(chip, *frames, *matrix(cfg, Region.DELAY, 0, [[d] * 8] * 9))
        traces += inside(chip, events(*((t + shift, j) for t, j in set(spikes))))
    for name in ("before", "after", "spikes", "gates"):
        assert getattr(traces[0], name).tolist() == getattr(traces[1], name).tolist()


@few
@given(st.integers(0, 2**32 - 1), st.integers(0, 3), st.integers(0, 3), st.booleans())
def test_a_chip_whose_delays_are_zero_differs_in_cycles_alone(seed: int, encoding: int, record: int, die: bool) -> None:
    plain = ChipConfig((11, 9, 3), lanes=4, die_tables=die)
    delayed = replace(plain, delay_slots=6)
    rng = np.random.default_rng(seed)
    frames = [*program(plain, rng), *write(plain, STEPS=12, ENCODING=encoding, RECORD=record, EARLY_END=0)]
    frames.append(make_frame(Opcode.RUN, seed, payload(plain, encoding, 12, rng)))
    answers, traces = [], []
    for cfg in (plain, delayed):
        # No jitter: the chip without delays forgets it, but its generators would have been seeded.
        quiet = [fill(Region.DIE_GLOBAL, JITTER, [0])] if die else []
        setup = [*frames[:-1], *quiet]
        answers.append(exchange(GoldenChip(cfg), *setup, frames[-1])[-1])
        traces += inside(GoldenChip(cfg), *setup, frames[-1])
    at = 1 + 12 * plain.neuron_depth * (record.bit_count())
    a, b = answers
    assert a[:at] + a[at + 1 :] == b[:at] + b[at + 1 :]
    assert a[at] < b[at]
    for name in ("before", "after", "spikes", "gates"):
        assert getattr(traces[0], name).tolist() == getattr(traces[1], name).tolist()


def test_what_has_not_arrived_when_a_sample_ends_is_lost() -> None:
    cfg = ChipConfig((1, 1), lanes=4, delay_slots=8, die_tables=False)
    chip = GoldenChip(cfg)
    exchange(chip, *network(cfg, [[[5]]], [[[4]]], steps=6))
    traces = inside(chip, events((1, 0), (2, 0), (5, 0)), events(), events((1, 0)))
    assert [trace.after[:, 0].tolist() for trace in traces] == [[0, 0, 0, 0, 0, 5], [0] * 6, [0, 0, 0, 0, 0, 5]]
    # Also when the end came early.
    exchange(chip, fill(Region.THRESHOLD, 0, [5]), *write(cfg, EARLY_END=1))
    early, late = inside(chip, events((0, 0), (1, 0), (2, 0)), events())
    assert early.spikes[:, 0].tolist() == [0, 0, 0, 0, 1]
    assert late.after[:, 0].tolist() == [0] * 6


@few
@given(st.integers(0, 2**32 - 1), st.booleans(), st.integers(0, 3))
def test_one_delay_per_source_equals_equal_delays_of_its_synapses(seed: int, die: bool, encoding: int) -> None:
    """Jitter and cycles included."""
    synaptic = ChipConfig((10, 6, 5), lanes=4, delay_slots=20, die_tables=die)
    axonal = replace(synaptic, axonal_delays=True)
    rng = np.random.default_rng(seed)
    setup = [*program(replace(synaptic, delay_slots=0), rng), *write(synaptic, STEPS=25, ENCODING=encoding, RECORD=3)]
    if die:
        setup.append(fill(Region.DIE_GLOBAL, JITTER, [int(rng.choice([0, 60]))]))
    run = make_frame(Opcode.RUN, seed, payload(synaptic, encoding, 25, rng))
    delays = rng.integers(0, 32, 16).tolist()
    rows = [
        matrix(synaptic, Region.DELAY, layer, [[delays[first + j]] * 8 for j in range(n_pre)])
        for layer, (n_pre, first) in enumerate(((10, 0), (6, 10)))
    ]
    expected = exchange(GoldenChip(synaptic), *setup, *rows[0], *rows[1], run)[-1]
    chip = GoldenChip(axonal)
    # In two frames, so that each of them reaches into both matrices or into one.
    assert exchange(chip, *setup, fill(Region.DELAYS, 3, delays[3:]), fill(Region.DELAYS, 0, delays[:3]), run)[-1] == (
        expected
    )
    assert exchange(chip, make_frame(Opcode.READ, Region.DELAYS << 24, [16]))[0][1:] == delays


# ---- memory and registers ---------------------------------------------------------------------------------------


def test_delays_have_a_bulk_view_and_a_single_view() -> None:
    cfg = ChipConfig((2, 5), lanes=4, delay_slots=51)
    chip, words = GoldenChip(cfg), Region.DELAYS << 24
    assert (cfg.delay_bits, cfg.delays_per_link_word) == (6, 4)
    read = make_frame(Opcode.READ, words, [4])
    assert exchange(chip, read)[0][1:] == [0] * 4
    packed = 1 | 63 << 6 | 3 << 12 | 50 << 18
    frames = [make_frame(Opcode.WRITE, words + 1, [packed | 0xFF << 24]), fill(Region.DELAY, 14, [64 + 7])]
    assert exchange(chip, *frames, read)[-1][1:] == [0, packed, 0, 7 << 12]
    pairs = [words + 1, 0, Region.DELAY << 24 | 5, 9, words + 3, 1]
    assert exchange(chip, make_frame(Opcode.SCATTER, 0, pairs), read)[-1][1:] == [0, 9 << 6, 0, 1]


def test_delays_of_sources_are_one_a_word() -> None:
    cfg = ChipConfig((2, 5, 1), lanes=4, delay_slots=51, axonal_delays=True)
    chip, read = GoldenChip(cfg), make_frame(Opcode.READ, Region.DELAYS << 24, [7])
    answers = exchange(chip, fill(Region.DELAYS, 1, [0x1FF, 2, 64]), read)
    assert answers[-1][1:] == [0, 63, 2, 0, 0, 0, 0]


def test_addresses_of_delays_are_refused_where_there_are_none() -> None:
    plain = ChipConfig((2, 5), lanes=4)
    synaptic = replace(plain, delay_slots=51)
    axonal = replace(synaptic, axonal_delays=True)
    bad, denied, fine = Status.BAD_ADDRESS, Status.DENIED, Status.OK
    delays, delay = Region.DELAYS << 24, Region.DELAY << 24
    for cfg, frame, status in (
        (plain, make_frame(Opcode.WRITE, delays, [1]), bad),
        (plain, make_frame(Opcode.READ, delays, [0]), bad),
        (plain, make_frame(Opcode.WRITE, delay, []), bad),
        (synaptic, make_frame(Opcode.WRITE, delays + 3, [1]), fine),
        (synaptic, make_frame(Opcode.WRITE, delays + 3, [1, 1]), bad),
        (synaptic, make_frame(Opcode.READ, delays + 4, [1]), bad),
        (synaptic, make_frame(Opcode.WRITE, delay + 15, [1]), fine),
        (synaptic, make_frame(Opcode.WRITE, delay + 16, [1]), bad),
        (synaptic, make_frame(Opcode.READ, delay, [1]), denied),
        (axonal, make_frame(Opcode.WRITE, delays + 1, [1]), fine),
        (axonal, make_frame(Opcode.WRITE, delays + 2, [1]), bad),
        (axonal, make_frame(Opcode.WRITE, delay, [1]), bad),
        (axonal, make_frame(Opcode.SCATTER, 0, [delays, 1, delay, 1]), bad),
        (axonal, make_frame(Opcode.WRITE, 0x08, [1]), denied),
        (plain, make_frame(Opcode.WRITE, 0x44, [1]), fine),
        (plain, make_frame(Opcode.WRITE, (Region.DIE_GLOBAL << 24) + 34, [1]), fine),
        (plain, make_frame(Opcode.WRITE, (Region.DIE_GLOBAL << 24) + 35, [1]), bad),
    ):
        assert exchange(GoldenChip(cfg), frame)[0][0] & 0xFFFF == status
    read = [make_frame(Opcode.READ, offset, [1]) for offset in (0x06, 0x08)]
    assert [answer[1] for answer in exchange(GoldenChip(axonal), *read)] == [0b1001, 51]
    assert [answer[1] for answer in exchange(GoldenChip(plain), *read)] == [0b1, 0]


# ---- cycles and early end ---------------------------------------------------------------------------------------


def test_cycles_of_a_chip_with_delays() -> None:
    """Five words and one of neurons, eight slots; in step 1 the layers wait for the encoder."""
    cfg = ChipConfig((30, 18, 3), lanes=4, delay_slots=5, die_tables=False)
    spikes = [(0, 0), (0, 1), *((2, j) for j in range(30))]
    for record, words in ((0, 0), (1, 1), (3, 2)):
        setup = network(
            cfg, [[[0] * 18] * 30, [[0] * 3] * 18], [[[0] * 18] * 30, [[0] * 3] * 18], steps=4, RECORD=record
        )
        work = [5 * max(n + 1, words) + max(1, words) + 2 * 7 for n in (2, 0, 30, 0)]
        encoder = [5, 3, 33, 3]
        expected = 8 * 6 + encoder[0] + work[3]
        expected += sum(max(work[t], encoder[t + 1]) for t in range(3))
        assert exchange(GoldenChip(cfg), *setup, events(*spikes))[-1][1 + 4 * 6 * words] == expected


def test_banks_are_seeded_for_any_amplitude_of_the_die() -> None:
    plain = ChipConfig((2, 5), lanes=8)
    for cfg, banks in ((plain, 2), (replace(plain, delay_slots=2), 3)):
        cycles = []
        for amplitudes in ([0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]):
            setup = write(cfg, ENCODING=Encoding.EVENTS)
            answer = exchange(GoldenChip(cfg), *setup, fill(Region.DIE_GLOBAL, NOISE, amplitudes), events())[-1]
            cycles.append(answer[1])
        seeding = 4 + 4 * banks
        assert [c - cycles[0] for c in cycles] == [0, seeding, seeding, seeding if cfg.delay_slots else 0]


EARLY = ChipConfig((12, 2), lanes=4, delay_slots=8, die_tables=False)


def early(*words: int, steps: int = 9, **values: int) -> list[int]:
    """Answer of a chip whose outputs fire in steps 3 and 5 if input 0 spikes in step 2; the other inputs do nothing."""
    setup = network(EARLY, [[[9, 9]] + [[0, 0]] * 11], [[[1, 3]] + [[0, 0]] * 11], 9, steps, EARLY_END=1)
    return exchange(GoldenChip(EARLY), *setup, *write(EARLY, **values), make_frame(Opcode.RUN, 0, words))[-1]


def test_a_sample_ends_after_the_step_by_which_every_output_has_fired() -> None:
    """It is worth six steps, of which one has a spike; clearing takes 8 cycles, the first step's encoding 3."""
    answer = early(2 << 16)
    assert firsts(EARLY, answer) == [3, 5]
    assert answer[1] == 8 + 3 + 5 * 8 + 9
    assert early(2 << 16, EARLY_END=0)[1] == answer[1] + 3 * 8
    assert early(2 << 16, steps=6, EARLY_END=0) == answer


def test_rasters_keep_a_sample_to_its_last_step() -> None:
    for record in (1, 2, 3):
        answer = early(2 << 16, RECORD=record)
        assert answer == early(2 << 16, RECORD=record, EARLY_END=0)
        assert len(answer) == len(early()) + 9 * record.bit_count()


def test_the_encoder_is_one_step_ahead_of_the_end() -> None:
    """Step 6 is not run, but its events were taken, and waited for; those of steps 7 and 8 are no error."""
    busy = [6 << 16 | j for j in range(12)]
    alone, answer = early(2 << 16), early(2 << 16, *busy, 7 << 16, 8 << 16 | 1)
    assert answer[1] == alone[1] - 8 + 15
    assert answer[2:] == alone[2:]


def test_after_the_last_of_all_steps_nothing_is_ahead() -> None:
    alone = early(2 << 16)
    for end in (0, 1):
        answer = early(2 << 16, 6 << 16 | 3, steps=6, EARLY_END=end)
        assert answer == [*alone[:2], 1 | BAD_EVENTS, *alone[3:]]


def test_events_that_are_wrong_count_as_far_as_they_were_looked_at() -> None:
    """The encoder has looked at one event past those of step 6."""
    for tail, bad in (
        ([6 << 16 | 1, 7 << 16], False),
        ([6 << 16 | 1, 6 << 16], True),
        ([6 << 16 | 1, 7 << 16 | 12], True),
        ([7 << 16 | 12], True),
        ([7 << 16, 7 << 16 | 12], False),
        ([7 << 16, 7 << 16], False),
        ([9 << 16], False),
    ):
        assert early(2 << 16, *tail)[2] == 1 | BAD_EVENTS * bad


def test_learning_takes_all_steps() -> None:
    """A single output that wins in every step ends RUN frames after the first."""
    cfg = ChipConfig((1, 1), lanes=4, learning=True, die_tables=False)
    chip = GoldenChip(cfg)
    setup = write(cfg, STEPS=7, EARLY_END=1, L0_MODE=Fire.WINNER << MODE_FIRE, RECORD=4)
    frames = [make_frame(Opcode.RUN, 0, [0]), make_frame(Opcode.LEARN, 0, [0, 0])]
    run, learn = exchange(chip, *setup, *frames)[-2:]
    assert run[3] == 1
    assert learn[3 + 2 * 7] == 7


def test_an_early_end_changes_nothing_that_was_before_it() -> None:
    """Random chips: the same as with as many steps as were run, but for cycles and events that are left."""
    ended = 0
    for seed in range(40):
        cfg = ChipConfig((9, 6, 3), lanes=4, delay_slots=(0, 6)[seed % 2], die_tables=seed % 4 < 2)
        rng = np.random.default_rng(seed)
        encoding, steps = seed % 3, 30
        setup = [*program(cfg, rng), *write(cfg, STEPS=steps, ENCODING=encoding, RECORD=0, EARLY_END=1)]
        setup += write(cfg, L1_MODE=1 << MODE_FIRE_ONCE)
        run = make_frame(Opcode.RUN, seed, payload(cfg, encoding, steps, rng))
        chip = GoldenChip(cfg)
        exchange(chip, *setup)
        (answer,), (trace,) = exchange(chip, run), inside(chip, run)
        ran = len(trace.after)
        exchange(chip, *write(cfg, STEPS=ran, EARLY_END=0))
        (expected,), (whole,) = exchange(chip, run), inside(chip, run)
        assert answer[2] & ~BAD_EVENTS == expected[2] & ~BAD_EVENTS
        assert answer[3:] == expected[3:]
        assert len(whole.after) == ran
        for name in ("before", "after", "spikes", "gates"):
            assert getattr(trace, name).tolist() == getattr(whole, name).tolist()
        fired = trace.spikes[:, 8:11].any(axis=0).all()
        assert fired or ran == steps
        ended += ran < steps
    assert 10 < ended < 40


# ---- the die ----------------------------------------------------------------------------------------------------


def arrivals(delay: int, amplitude: int, samples: int) -> NDArray[np.int64]:
    """Measured delays ``(samples, 64)``: of two inputs that spike in steps 0 and 100, at 16 neurons in two words."""
    cfg = ChipConfig((2, 16), lanes=8, delay_slots=100)
    setup = network(cfg, [[[1] * 16, [100] * 16]], [[[delay] * 16] * 2], steps=228)
    chip = GoldenChip(cfg)
    exchange(chip, *setup, fill(Region.DIE_GLOBAL, JITTER, [amplitude]))
    spikes = [(0, 0), (0, 1), (100, 0), (100, 1)]
    measured = []
    for trace in inside(chip, *(events(*spikes, seed=seed) for seed in range(samples))):
        for heard in (trace.after % 100 > 0, trace.after >= 100):
            assert (heard.sum(axis=0) == 2).all()
            measured += [heard.argmax(axis=0), len(heard) - 1 - heard[::-1].argmax(axis=0) - 100]
    return np.array(measured).reshape(samples, -1)


def test_jitter_is_centred_with_the_documented_spread_and_new_for_every_arrival() -> None:
    samples, amplitude = 300, 100
    delays = arrivals(40, amplitude, samples)
    spread = math.hypot(0.0360 * amplitude, math.sqrt(1 / 12))
    assert abs(delays.mean() - 40) < 4 * spread / math.sqrt(delays.size)
    assert delays.std() == pytest.approx(spread, rel=0.03)
    assert delays.std(axis=0) == pytest.approx(spread, rel=0.3)
    assert np.abs(np.corrcoef(delays.T) - np.eye(64)).max() < 5 / math.sqrt(samples)


@pytest.mark.parametrize("end", [0, 127])
def test_jitter_is_clipped_to_what_a_delay_can_be(end: int) -> None:
    """Half of all numbers, and the 0 in the middle, point past the end."""
    delays = arrivals(end, 255, 50)
    assert delays.min() >= 0
    assert delays.max() <= 127
    middle = 1 / (SPREAD * 16 * math.sqrt(2 * math.pi))
    share = (delays == end).mean()
    assert share == pytest.approx((1 + middle) / 2, abs=4 * 0.5 / math.sqrt(delays.size))
    assert np.abs(delays - end).max() > 2 * 0.0360 * 255


def test_no_jitter_no_change() -> None:
    assert (arrivals(31, 0, 3) == 31).all()


def climbing(threshold: int, gain: int, amplitude: int, steps: int) -> tuple[ChipConfig, GoldenChip]:
    """Eight neurons whose membrane grows by 1 a step, from 0 after every spike: the interval is the threshold."""
    cfg = ChipConfig((1, 8), lanes=4)
    chip = GoldenChip(cfg)
    setup = write(cfg, L0_DECAY_SYN=MEMORYLESS, L0_DECAY_MEM=0, L0_MODE=1, STEPS=steps)
    setup += [fill(Region.BIAS, 0, [1] * 8), fill(Region.THRESHOLD, 0, [threshold] * 8)]
    setup += [fill(Region.DIE_NEURON, 0, [gain | 1024 << 16] * 8)]
    exchange(chip, *setup, fill(Region.DIE_GLOBAL, THRESHOLD_NOISE, [amplitude]))
    return cfg, chip


def first_intervals(chip: GoldenChip, samples: int) -> NDArray[np.int64]:
    answers = exchange(chip, *(make_frame(Opcode.RUN, seed, [0], seed % 256) for seed in range(samples)))
    return np.array([firsts(chip.cfg, answer) for answer in answers]) + 1


def test_threshold_noise_is_centred_with_the_documented_spread() -> None:
    samples, threshold, amplitude = 600, 200, 200
    _, chip = climbing(threshold, 1024, amplitude, 300)
    measured = first_intervals(chip, samples)
    spread = threshold * SPREAD * amplitude / 1024
    assert abs(measured.mean() - threshold) < 4 * spread / math.sqrt(measured.size)
    assert measured.std() == pytest.approx(spread, rel=0.05)
    assert np.abs(np.corrcoef(measured.T) - np.eye(8)).max() < 5 / math.sqrt(samples)
    exchange(chip, fill(Region.DIE_GLOBAL, THRESHOLD_NOISE, [0]))
    assert (first_intervals(chip, 3) == threshold).all()


def test_a_threshold_holds_for_a_whole_sample() -> None:
    _, chip = climbing(40, 1024, 300, 400)
    traces = inside(chip, *(make_frame(Opcode.RUN, seed, [0]) for seed in range(3)))
    thresholds = []
    for trace in traces:
        for spikes in trace.spikes.T:
            (steps,) = np.nonzero(spikes)
            assert len({*np.diff(steps).tolist(), int(steps[0]) + 1}) == 1
            thresholds.append(int(steps[0]) + 1)
    assert len(set(thresholds)) > 8


def test_a_noisy_gain_does_not_wrap() -> None:
    _, chip = climbing(10, 0x7FFF, 1023, 400)
    measured = first_intervals(chip, 200)
    assert measured.min() >= (10 * (0x7FFF - 30 * 64)) >> 10
    assert measured.max() > 10 * 0x8000 >> 10
