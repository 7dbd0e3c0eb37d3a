"""The golden model against a plain reference written from the manual, and against closed forms."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from golden_reference import ReferenceChip, exchange, make_frame, payload, program, split_answers
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pymodel import GoldenChip
from pymodel.arith import decay
from pymodel.die import leaks, thresholds
from pymodel.random import mix, seed_banks, xorshift
from rtl.config import ChipConfig
from rtl.registers import BAD_EVENTS, Opcode, Region, Status, regions, registers

few = settings(max_examples=60, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck))


configs = st.builds(
    ChipConfig,
    layers=st.lists(st.integers(1, 20), min_size=2, max_size=4).map(tuple),
    lanes=st.sampled_from([4, 8, 16, 64]),
    weight_bits=st.sampled_from([2, 3, 4, 8, 10, 16]),
    state_bits=st.sampled_from([8, 16, 24, 32]),
    die_tables=st.booleans(),
    delay_slots=st.sampled_from([0, 0, 0, 2, 3, 5, 8, 51]),
    bernoulli=st.booleans(),
).flatmap(
    lambda cfg: st.builds(
        replace,
        st.just(cfg),
        axonal_delays=st.booleans() if cfg.delay_slots else st.just(False),
        neuron_lanes=st.just(0) if cfg.die_tables else st.sampled_from([0, 1, 2, 4]),
    )
)


@few
@given(configs, st.integers(0, 2**32 - 1), st.integers(0, 3), st.integers(0, 3), st.integers(0, 12))
def test_random_chips_equal_the_reference(cfg: ChipConfig, seed: int, encoding: int, record: int, steps: int) -> None:
    rng = np.random.default_rng(seed)
    frames = program(cfg, rng)
    for name, value in (("STEPS", steps), ("ENCODING", encoding), ("RECORD", record)):
        offset = next(r.offset for r in registers(cfg) if r.name == name)
        frames.append(make_frame(Opcode.WRITE, offset, [value]))
    for k in range(3):
        frames.append(make_frame(Opcode.RUN, int(rng.integers(1 << 32)), payload(cfg, encoding, max(1, steps), rng), k))
    reference = ReferenceChip(cfg)
    for got, frame in zip(exchange(GoldenChip(cfg), *frames), frames, strict=True):
        assert got == reference.frame(frame)


@few
@given(configs, st.integers(0, 2**32 - 1), st.data())
def test_random_frames_equal_the_reference(cfg: ChipConfig, seed: int, data: st.DataObject) -> None:
    """Good and bad frames in any order: same answers, and the same readable contents afterwards."""
    rng = np.random.default_rng(seed)
    info = regions(cfg)
    chip, reference = GoldenChip(cfg), ReferenceChip(cfg)
    known = [int(region) for region in Region]

    def address() -> int:
        region = int(rng.choice([*known, 0x07, 0xFF], p=None))
        depth = info[Region(region)].depth if region in list(info) else 10
        if region == Region.REGISTERS and rng.integers(3):
            return int(rng.choice([register.offset for register in registers(cfg) if not register.readonly]))
        return region << 24 | int(
            rng.choice([rng.integers(depth), depth - 1, depth, 0, 0xFFFFFF], p=[0.6, 0.1, 0.1, 0.1, 0.1])
        )

    frames = []
    for kind in data.draw(st.lists(st.sampled_from("rrwwwsssx!lc1"), min_size=1, max_size=25)):
        word = lambda: int(rng.integers(1 << 32))  # noqa: E731
        tag = int(rng.integers(256))
        frame = make_frame(Opcode.READ, address(), [int(rng.choice([0, 1, 3, 1000, (1 << 32) - 1]))], tag)
        if kind == "w":
            frame = make_frame(Opcode.WRITE, address(), [word() for _ in range(rng.integers(0, 4))], tag)
        elif kind == "s":
            pairs = [value for _ in range(rng.integers(0, 4)) for value in (address(), word())]
            frame = make_frame(Opcode.SCATTER, word(), pairs + [word()] * int(rng.integers(5) == 0), tag)
        elif kind == "x":
            frame = make_frame(Opcode.RUN, word(), [word() for _ in range(rng.integers(0, cfg.pixel_words + 2))], tag)
        elif kind == "!":
            frame = make_frame(int(rng.integers(256)), word(), [word()], tag)
        elif kind == "l":
            frame = make_frame(Opcode.WRITE, address(), [word()], tag, length=int(rng.integers(3)))
        elif kind == "c":
            frame[-1] ^= 1 << int(rng.integers(32))
        elif kind == "1":
            frame = [*frame[: rng.integers(0, 2)], frame[0] | 1 << 32]
        frames.append(frame)
    # Short samples, whatever was written to STEPS.
    for index, frame in enumerate(frames):
        if frame[0] >> 24 == Opcode.RUN:
            frames[index] = (
                frame if reference.values[reference.names["STEPS"]] < 50 else make_frame(Opcode.READ, 0, [0])
            )
        expected = reference.frame(frames[index])
        got = exchange(chip, frames[index])
        assert got == [expected]
    for region, entry in info.items():
        if entry.readable:
            frame = make_frame(Opcode.READ, region << 24, [entry.depth])
            assert exchange(chip, frame) == [reference.frame(frame)]


@pytest.fixture
def small() -> GoldenChip:
    return GoldenChip(ChipConfig((4, 3), lanes=4))


def status(chip: GoldenChip, frame: list[int]) -> Status:
    (answer,) = exchange(chip, frame)
    assert answer[0] >> 16 == ((frame[0] >> 24 & 0xFF | 0x80) << 8 | frame[0] >> 16 & 0xFF)
    return Status(answer[0] & 0xFFFF)


def test_every_bad_frame_is_answered_and_changes_nothing(small: GoldenChip) -> None:
    threshold, write = Region.THRESHOLD << 24, Opcode.WRITE
    assert status(small, make_frame(write, threshold, [5, 6, 7, 8])) == Status.OK
    crc_wrong = make_frame(write, threshold, [1])
    crc_wrong[2] ^= 1
    depth = small.cfg.link_depth
    bad = [
        (crc_wrong, Status.BAD_CRC),
        ([make_frame(write, threshold, [1])[0] | 1 << 32], Status.BAD_LENGTH),
        ([write << 24, 1 << 32], Status.BAD_LENGTH),
        (make_frame(write, threshold, [1], length=2), Status.BAD_LENGTH),
        (make_frame(write, threshold, [1, 2], length=1), Status.BAD_LENGTH),
        (make_frame(write, threshold, [1] * (depth - 1)), Status.BAD_LENGTH),
        (make_frame(0x7E, threshold, [1], tag=9), Status.BAD_OPCODE),
        (make_frame(Opcode.READ, threshold, []), Status.BAD_LENGTH),
        (make_frame(Opcode.READ, threshold, [1, 1]), Status.BAD_LENGTH),
        (make_frame(Opcode.SCATTER, 0, [threshold]), Status.BAD_LENGTH),
        (make_frame(Opcode.RUN, 0, []), Status.BAD_LENGTH),
        (make_frame(Opcode.RUN, 0, [0, 0]), Status.BAD_LENGTH),
        (make_frame(write, threshold + 2, [1, 2, 3]), Status.BAD_ADDRESS),
        (make_frame(write, 0x77 << 24, []), Status.BAD_ADDRESS),
        (make_frame(Opcode.READ, threshold, [5]), Status.BAD_ADDRESS),
        (make_frame(Opcode.READ, threshold + 5, [0]), Status.BAD_ADDRESS),
        (make_frame(Opcode.READ, threshold, [0xFFFFFFFF]), Status.BAD_ADDRESS),
        (make_frame(Opcode.SCATTER, 0, [threshold, 1, threshold + 4, 1]), Status.BAD_ADDRESS),
        (make_frame(Opcode.SCATTER, 0, [threshold, 1, 0, 1]), Status.DENIED),
        (make_frame(write, 0x3F, [1, 1]), Status.BAD_ADDRESS),
        (make_frame(write, 0x06, [1, 1, 1]), Status.DENIED),
        (make_frame(write, 0x40, [1, 1, 1, 1]), Status.BAD_ADDRESS),
        (make_frame(Opcode.READ, Region.WEIGHT << 24, [1]), Status.DENIED),
        (make_frame(Opcode.READ, Region.DIE_SYNAPSE << 24, [0]), Status.DENIED),
    ]
    before = exchange(small, make_frame(Opcode.READ, 0, [256]), make_frame(Opcode.READ, threshold, [4]))
    for frame, expected in bad:
        assert status(small, frame) == expected
    assert exchange(small, make_frame(Opcode.READ, 0, [256]), make_frame(Opcode.READ, threshold, [4])) == before
    assert before[1][1:] == [5, 6, 7, 8]


def test_edges_of_good_frames(small: GoldenChip) -> None:
    depth = small.cfg.link_depth
    assert status(small, make_frame(Opcode.READ, (Region.THRESHOLD << 24) + 4, [0])) == Status.OK
    assert status(small, make_frame(Opcode.WRITE, Region.WEIGHT << 24, [])) == Status.OK
    pairs = [(Region.BIAS << 24) + 1, 0x12345] * ((depth - 2) // 2)
    assert status(small, make_frame(Opcode.SCATTER, 0xDEAD, pairs)) == Status.OK
    (answer,) = exchange(small, make_frame(Opcode.READ, Region.BIAS << 24, [4]))
    assert answer[1:] == [0, 0x2345, 0, 0]
    exchange(small, make_frame(Opcode.WRITE, Region.BIAS << 24, [0x8000]))
    assert exchange(small, make_frame(Opcode.READ, Region.BIAS << 24, [1]))[0][1] == 0xFFFF8000


def test_a_frame_may_come_in_pieces(small: GoldenChip) -> None:
    frame = np.array(make_frame(Opcode.READ, 0, [4]), np.uint64)
    assert len(small.exchange(frame[:2])) == 0
    assert split_answers(small.exchange(frame[2:]).tolist()) == exchange(GoldenChip(small.cfg), frame.tolist())


def one_neuron(decay_syn: int, decay_mem: int, bias: int, steps: int, threshold: int = (1 << 31) - 1) -> list[int]:
    """Membrane of a neuron driven by its bias alone, from the trace."""
    chip = GoldenChip(ChipConfig((1, 1), lanes=4, state_bits=32))
    frames = [
        make_frame(Opcode.WRITE, 0x80, [decay_syn, decay_mem, 0, 2, threshold, 0, 0, 0]),
        make_frame(Opcode.WRITE, 0x40, [steps]),
        make_frame(Opcode.WRITE, Region.THRESHOLD << 24, [threshold]),
        make_frame(Opcode.WRITE, Region.BIAS << 24, [bias]),
        make_frame(Opcode.RUN, 0, [0]),
    ]
    _, traces = chip.trace(np.array([word for frame in frames for word in frame], np.uint64))
    return traces[0].after[:, 0].tolist()


def test_membrane_follows_the_difference_equation() -> None:
    """Constant drive b: I tends to b / (ds/4096), V to I / (dm/4096), along a known sum of two exponentials."""
    bias, steps, a, b = 20_000, 200, 1 - 512 / 4096, 1 - 256 / 4096
    got = np.array(one_neuron(512, 256, bias, steps))
    t = np.arange(1, steps + 1)
    level = bias / (1 - a)
    exact = level * ((1 - b**t) / (1 - b) - a * (b**t - a**t) / (b - a))
    assert np.abs(got - exact).max() < 150  # rounding of at most 1/2 a step in I and V, summed by both decays
    assert got[-1] == pytest.approx(level / (1 - b), rel=1e-3)


def test_memoryless_neuron_fires_at_the_rate_of_its_drive() -> None:
    """No decay of V, subtraction: the spikes of n steps are the integral of the drive, divided by the threshold."""
    got = np.array(one_neuron(4096, 0, 300, 100, threshold=1000))
    assert got.tolist() == [300 * t % 1000 for t in range(1, 101)]


def run_inputs(encoding: int, pixels: list[int], steps: int, seed: int = 0) -> int:
    chip = GoldenChip(ChipConfig((len(pixels), 1), lanes=8))
    words = np.zeros(-(-len(pixels) // 4) * 4, np.uint8)
    words[: len(pixels)] = pixels
    frames = [
        make_frame(Opcode.WRITE, 0x40, [steps, encoding]),
        make_frame(Opcode.RUN, seed, words.view("<u4").tolist()),
    ]
    return exchange(chip, *frames)[1][2]


@pytest.mark.parametrize("p", [0, 1, 2, 127, 128, 129, 254, 255])
def test_rate_code_rounds_the_expected_number(p: int) -> None:
    for steps in (1, 2, 17, 256):
        assert run_inputs(0, [p], steps) == (128 + p * steps) >> 8


def test_bernoulli_code_has_the_right_mean_and_spread() -> None:
    steps, n_in = 4000, 16
    for p in (0, 10, 128, 255):
        spikes = run_inputs(1, [p] * n_in, steps, seed=p)
        n, q = steps * n_in, p / 256
        assert abs(spikes - n * q) <= 4 * math.sqrt(n * q * (1 - q))


def test_xorshift_has_marsaglias_first_value_and_no_short_cycle() -> None:
    assert xorshift(2463534242) == 723471715
    s, seen = 1, set()
    for _ in range(20_000):
        s = xorshift(s)
        seen.add(s)
    assert len(seen) == 20_000


def test_banks_are_filled_from_the_highest_lane_down() -> None:
    banks = np.zeros(4, np.int64), np.zeros(2, np.int64)
    seed_banks(12345, *banks)
    h, values = 12345, []
    for _ in range(10):
        h = mix(h)
        values.append(h | 1)
    assert banks[0].tolist() == values[4:8][::-1]
    assert banks[1].tolist() == values[8:][::-1]


def test_neighbouring_seeds_give_unrelated_numbers() -> None:
    draws = np.zeros((2000, 4), np.int64)
    for seed in range(len(draws)):
        seed_banks(seed, draws[seed], np.zeros(0, np.int64))
    bits = draws[:, :, None] >> np.arange(1, 32) & 1
    means = bits.reshape(len(draws), -1).mean(axis=0)
    assert np.abs(means - 0.5).max() < 5 * 0.5 / math.sqrt(len(draws))
    flips = (bits[1:] != bits[:-1]).reshape(len(draws) - 1, -1).mean(axis=0)
    assert np.abs(flips - 0.5).max() < 5 * 0.5 / math.sqrt(len(draws))


def test_membrane_noise_is_centred_with_the_documented_spread() -> None:
    chip = GoldenChip(ChipConfig((1, 16), lanes=16, state_bits=32))
    amplitude, steps = 1000, 2000
    frames = [
        make_frame(Opcode.WRITE, 0x80, [4096, 4096, 0, 0]),
        make_frame(Opcode.WRITE, 0x40, [steps]),
        make_frame(Opcode.WRITE, Region.THRESHOLD << 24, [(1 << 31) - 1] * 16),
        make_frame(Opcode.WRITE, (Region.DIE_GLOBAL << 24) + 32, [amplitude]),
        make_frame(Opcode.RUN, 1, [0]),
    ]
    _, traces = chip.trace(np.array([word for frame in frames for word in frame], np.uint64))
    noise = traces[0].after
    n = noise.size
    assert abs(noise.mean()) < 4 * 0.5762 * amplitude / math.sqrt(n)
    assert noise.std() == pytest.approx(0.5762 * amplitude, rel=0.02)
    assert np.abs(np.corrcoef(noise.T) - np.eye(16)).max() < 5 / math.sqrt(steps)


def test_events_that_break_a_rule_are_marked() -> None:
    chip = GoldenChip(ChipConfig((5, 2), lanes=4))
    exchange(chip, make_frame(Opcode.WRITE, 0x40, [4, 2]))
    for events, taken, bad in (
        ([], 0, False),
        ([0, 1 << 16, 3 << 16 | 4], 3, False),
        ([4, 4], 1, True),
        ([1 << 16, 4], 1, True),
        ([0, 5, 1 << 16], 1, True),
        ([2, 4 << 16], 1, True),
    ):
        (answer,) = exchange(chip, make_frame(Opcode.RUN, 0, events))
        assert answer[2] == taken | BAD_EVENTS * bad


def test_trace_agrees_with_the_streams() -> None:
    cfg = ChipConfig((9, 6, 3), lanes=4)
    rng = np.random.default_rng(0)
    frames = [
        *program(cfg, rng),
        make_frame(Opcode.WRITE, 0x40, [12, 1, 3]),
        make_frame(Opcode.RUN, 3, [0x80FF4020, 0xFFFFFFFF, 0xFF]),
    ]
    stream = np.array([word for frame in frames for word in frame], np.uint64)
    answers, traces = GoldenChip(cfg).trace(stream)
    assert answers.tolist() == GoldenChip(cfg).exchange(stream).tolist()
    streams = np.array(split_answers(answers.tolist())[-1][1 : 1 + 12 * 3 * 2]).reshape(12, 3, 2)
    bits = (streams[..., None] >> np.arange(4) & 1).transpose(2, 0, 1, 3).reshape(2, 12, 12)
    assert bits[0].tolist() == traces[0].spikes.tolist()
    assert bits[1].tolist() == traces[0].gates.tolist()
    assert traces[0].before[1:].tolist() == traces[0].after[:-1].tolist()


def test_batches_on_threads_equal_single_samples() -> None:
    cfg = ChipConfig((64, 40, 5), lanes=8)
    rng = np.random.default_rng(1)
    setup = [*program(cfg, rng), make_frame(Opcode.WRITE, 0x40, [40, 1, 0])]
    runs = [make_frame(Opcode.RUN, k, rng.integers(0, 1 << 32, 16).tolist(), k % 256) for k in range(300)]
    chip = GoldenChip(cfg)
    exchange(chip, *setup)
    together = exchange(chip, *runs)
    assert together[::50] == [exchange(chip, frame)[0] for frame in runs[::50]]


def test_halves_are_rounded_up() -> None:
    assert [decay(v, 1024) for v in (1, 2, -2, 6, -6, 4)] == [1, 1, -2, 4, -5, 3]
    theta, words = np.array([1, -1, 3], np.int64), np.full(3, 512, np.int64)
    assert thresholds(theta, words, -128, 127).tolist() == [1, 0, 2]
    assert leaks(theta * theta, words << 16).tolist() == [1, 1, 5]


def test_sums_past_32_bits_are_exact() -> None:
    """Three largest weights saturate the current; a sum in 32 bits would wrap around."""
    chip = GoldenChip(ChipConfig((3, 1), lanes=4, weight_bits=16, state_bits=32, die_tables=False))
    frames = [
        make_frame(Opcode.WRITE, 0x80, [4096, 4096, 15, 0]),
        make_frame(Opcode.WRITE, Region.THRESHOLD << 24, [(1 << 31) - 1]),
        *(make_frame(Opcode.WRITE, Region.WEIGHT << 24 | 4 * j, [0x7FFF]) for j in range(3)),
        make_frame(Opcode.RUN, 0, [0xFFFFFF]),
    ]
    assert exchange(chip, *frames)[-1][-2:] == [(1 << 31) - 1, 0]
