"""Chips with binary weights in the golden model: against the plain reference, equal chips of two bits, and by hand."""

from __future__ import annotations

import numpy as np
import pytest
from golden_reference import ReferenceChip, exchange, make_frame, payload, program, readable, write
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from pymodel import GoldenChip
from rtl.config import ChipConfig
from rtl.registers import Encoding, Opcode, Region, Reset, Status

few = settings(max_examples=60, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck))

configs = st.builds(
    ChipConfig,
    layers=st.lists(st.sampled_from([1, 2, 3, 7, 10, 16, 33, 40]), min_size=2, max_size=4).map(tuple),
    lanes=st.sampled_from([4, 8, 32, 64, 128]),
    state_bits=st.sampled_from([8, 16, 24, 32]),
    die_tables=st.booleans(),
    binary_weights=st.just(True),
)


def status(chip: GoldenChip, frame: list[int]) -> Status:
    (answer,) = exchange(chip, frame)
    return Status(answer[0] & 0xFFFF)


def plane(row: int, words: list[int]) -> list[int]:
    return make_frame(Opcode.PLANE, row, words)


def dense(matrices: list[NDArray[np.int64]]) -> list[int]:
    """Words of the bit plane of matrices ``[layer][source, neuron]`` of -1 and +1."""
    bits = np.concatenate([np.ravel(matrix) < 0 for matrix in matrices])
    packed = np.packbits(np.pad(bits, (0, -len(bits) % 32)), bitorder="little")
    return packed.view("<u4").tolist()


def weights_of(chip: GoldenChip) -> list[NDArray[np.int64]]:
    """Matrices ``[layer][source, neuron]`` of -1 and +1, padding included, from region WEIGHTS."""
    cfg = chip.cfg
    depth = cfg.weight_depth * cfg.lanes // cfg.weights_per_link_word
    (answer,) = exchange(chip, make_frame(Opcode.READ, Region.WEIGHTS << 24, [depth]))
    bits = np.array(answer[1:])[:, None] >> np.arange(32) & 1
    assert not bits[:, cfg.weights_per_link_word :].any()
    memory = 1 - 2 * bits[:, : cfg.weights_per_link_word].reshape(cfg.weight_depth, cfg.lanes)
    parts = zip(cfg.weight_base, cfg.shapes, cfg.words, strict=True)
    return [memory[base : base + n_pre * words].reshape(n_pre, -1) for base, (n_pre, _), words in parts]


def random_signs(rng: np.random.Generator, cfg: ChipConfig) -> list[NDArray[np.int64]]:
    return [rng.choice([-1, 1], shape) for shape in cfg.shapes]


# ---- the network ---------------------------------------------------------------------------------------------------


@few
@given(configs, st.integers(0, 2**32 - 1), st.integers(0, 3), st.integers(0, 3), st.integers(0, 12))
def test_random_binary_chips_equal_the_reference(
    cfg: ChipConfig, seed: int, encoding: int, record: int, steps: int
) -> None:
    """Answers with rasters, gates, counts, potentials and cycles, before and after a part of the plane is written."""
    rng = np.random.default_rng(seed)
    frames = program(cfg, rng) + write(cfg, STEPS=steps, ENCODING=encoding, RECORD=record)
    for k in range(3):
        frames.append(make_frame(Opcode.RUN, int(rng.integers(1 << 32)), payload(cfg, encoding, max(1, steps), rng), k))
        row = int(rng.integers(cfg.n_sources))
        frames.append(plane(row, rng.integers(0, 1 << 32, rng.integers(1, 9)).tolist()))
    frames += readable(cfg)
    reference = ReferenceChip(cfg)
    for got, frame in zip(exchange(GoldenChip(cfg), *frames), frames, strict=True):
        assert got == reference.frame(frame)


@pytest.mark.parametrize("die_tables", [False, True])
@pytest.mark.parametrize("encoding", [Encoding.RATE, Encoding.BERNOULLI])
def test_a_chip_of_two_bits_with_weights_of_one_gives_the_same_samples(die_tables: bool, encoding: Encoding) -> None:
    """But for the cycles of the synapses' die tables, two in every layer and step."""
    layers, steps, rng = (100, 70, 33, 10), 25, np.random.default_rng(3)
    binary = ChipConfig(layers, lanes=32, die_tables=die_tables, binary_weights=True)
    other = ChipConfig(layers, lanes=32, die_tables=die_tables, weight_bits=2)
    signs = random_signs(rng, binary)
    rows = [np.pad(w, ((0, 0), (0, -w.shape[1] % 32))) for w in signs]
    padded = np.concatenate([w.ravel() for w in rows]) & 3
    words = (padded.reshape(-1, 16) << 2 * np.arange(16)).sum(axis=1)
    bulk = [
        make_frame(Opcode.WRITE, Region.WEIGHTS << 24 | at, words[at : at + 1000].tolist())
        for at in range(0, len(words), 1000)
    ]
    thresholds = rng.integers(50, 900, other.neuron_depth * 32)
    shared = [
        make_frame(Opcode.WRITE, Region.THRESHOLD << 24, thresholds.tolist()),
        make_frame(Opcode.WRITE, Region.BIAS << 24, (rng.integers(-3, 4, len(thresholds)) & 0xFFFFFFFF).tolist()),
        *write(other, STEPS=steps, ENCODING=encoding, RECORD=3),
    ]
    for layer in range(3):
        values = {"DECAY_SYN": 629, "DECAY_MEM": 390, "SHIFT": 4, "MODE": Reset.SUBTRACT | 8, "GATE_WINDOW": 300}
        values |= {"RESET_AMOUNT": 500, "REFRACTORY": layer}
        shared += write(other, **{f"L{layer}_{name}": value for name, value in values.items()})
    if die_tables:
        neuron = rng.integers(900, 1200, len(thresholds)) | rng.integers(900, 1200, len(thresholds)) << 16
        shared.append(make_frame(Opcode.WRITE, Region.DIE_NEURON << 24, neuron.tolist()))
        shared.append(make_frame(Opcode.WRITE, Region.DIE_GLOBAL << 24 | 32, [20, 50]))
    shared += [make_frame(Opcode.RUN, k, rng.integers(0, 1 << 32, 25).tolist()) for k in range(4)]
    one, two = GoldenChip(binary), GoldenChip(other)
    assert status(one, plane(0, dense(signs))) == Status.OK
    exchange(two, *bulk)
    at = 1 + 2 * steps * binary.neuron_depth
    for mine, its in zip(exchange(one, *shared), exchange(two, *shared), strict=True):
        if len(mine) > 1:
            counts = np.array(mine[at + 2 :][: binary.n_neurons]) & 0xFFFF
            assert len(np.unique(counts)) > 3
            its[at] -= 2 * 3 * steps * die_tables
        assert mine == its


def test_all_weights_are_one_after_reset() -> None:
    cfg = ChipConfig((5, 3, 2), lanes=8, binary_weights=True, die_tables=False)
    chip = GoldenChip(cfg)
    assert all((w == 1).all() for w in weights_of(chip))
    setup = write(cfg, STEPS=1, ENCODING=Encoding.EVENTS, L1_DECAY_MEM=4096, L1_SHIFT=3)
    answer = exchange(chip, *setup, make_frame(Opcode.RUN, 0, [0, 1, 4]))[-1]
    assert answer[-4:] == [3 << 3, 0, 3 << 3, 0]  # all hidden neurons fire at their threshold of zero


def test_bits_are_weights_in_both_regions() -> None:
    cfg = ChipConfig((2, 3), lanes=4, binary_weights=True, die_tables=False)
    chip = GoldenChip(cfg)
    frames = [
        make_frame(Opcode.WRITE, Region.WEIGHTS << 24, [0xFFFFFFF5, 0x2]),
        make_frame(Opcode.WRITE, Region.WEIGHT << 24 | 1, [0xFFFFFFFF]),
        make_frame(Opcode.WRITE, Region.WEIGHT << 24 | 4, [3]),
        make_frame(Opcode.WRITE, Region.WEIGHT << 24 | 5, [2]),
    ]
    assert all(status(chip, frame) == Status.OK for frame in frames)
    (weights,) = weights_of(chip)
    assert weights.tolist() == [[-1, -1, -1, 1], [-1, 1, 1, 1]]
    setup = [make_frame(Opcode.WRITE, Region.THRESHOLD << 24, [99] * 4), *write(cfg, STEPS=2, ENCODING=Encoding.EVENTS)]
    exchange(chip, *setup, *write(cfg, L0_DECAY_SYN=4096, L0_DECAY_MEM=4096))
    run = make_frame(Opcode.RUN, 0, [0, 0x10000, 0x10001])
    _, (trace,) = chip.trace(np.array(run, np.uint64))
    assert trace.after[:, :3].tolist() == [[-1, -1, -1], [-2, 0, 0]]


@pytest.mark.parametrize("n_in", [1, 3, 4, 123, 124, 125, 127, 128, 129, 251, 700])
def test_sums_of_many_equal_weights_are_exact(n_in: int) -> None:
    cfg = ChipConfig((n_in, 2), lanes=4, binary_weights=True, die_tables=False)
    setup = [
        plane(0, dense([np.tile([1, -1], (n_in, 1))])),
        make_frame(Opcode.WRITE, Region.THRESHOLD << 24, [1 << 20] * 4),
        make_frame(Opcode.WRITE, Region.BIAS << 24, [5, 5]),
        *write(cfg, STEPS=1, L0_SHIFT=1),
    ]
    answer = exchange(GoldenChip(cfg), *setup, make_frame(Opcode.RUN, 0, [0xFFFFFFFF] * cfg.pixel_words))[-1]
    assert answer[-4::2] == [2 * (5 + n_in), 2 * (5 - n_in) & 0xFFFFFFFF]


def test_sums_past_32_bits_saturate() -> None:
    cfg = ChipConfig((65_535, 1), lanes=4, binary_weights=True, state_bits=32)
    setup = [
        make_frame(Opcode.WRITE, Region.THRESHOLD << 24, [(1 << 31) - 1]),
        make_frame(Opcode.WRITE, Region.BIAS << 24, [0x7FFF]),
        *write(cfg, STEPS=1, L0_SHIFT=15),
    ]
    answer = exchange(GoldenChip(cfg), *setup, make_frame(Opcode.RUN, 0, [0xFFFFFFFF] * cfg.pixel_words))[-1]
    assert answer[-2:] == [(1 << 31) - 1, 0]


# ---- frame PLANE ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lanes", [4, 32, 64, 128])
@pytest.mark.parametrize("layers", [(3, 1), (9, 33), (5, 10, 1, 40), (7, 40, 33, 10, 64, 1), (2, 128, 129)])
def test_a_plane_is_dense_across_rows_and_layers(layers: tuple[int, ...], lanes: int) -> None:
    cfg = ChipConfig(layers, lanes=lanes, binary_weights=True)
    chip, rng = GoldenChip(cfg), np.random.default_rng(lanes)
    signs = random_signs(rng, cfg)
    lines = [line for matrix in signs for line in matrix]
    # In frames of a few rows each; what a frame has of the row after its last is in the next one again.
    row = 0
    while row < cfg.n_sources:
        words = dense([line[None] for line in lines[row:]])[: rng.integers(5, 12)]
        assert status(chip, plane(row, words)) == Status.OK
        ends = np.cumsum([len(line) for line in lines[row:]])
        row += int(np.searchsorted(ends, 32 * len(words), side="right"))
    for got, matrix in zip(weights_of(chip), signs, strict=True):
        assert got[:, : matrix.shape[1]].tolist() == matrix.tolist()
        assert (got[:, matrix.shape[1] :] == 1).all()


def test_rows_that_are_not_complete_stay_as_they_are() -> None:
    cfg = ChipConfig((3, 20, 1), lanes=32, binary_weights=True)
    chip = GoldenChip(cfg)
    assert status(chip, plane(0, [0xFFFFFFFF])) == Status.OK  # one row and 12 bits of the next
    weights = weights_of(chip)
    assert (weights[0][0, :20] == -1).all()
    assert (weights[0][1:] == 1).all()
    assert (weights[1] == 1).all()  # the 12 bits are not taken for rows of the next, narrower layer
    assert status(chip, plane(1, [0x000FFFFE])) == Status.OK
    assert weights_of(chip)[0][:, :20].tolist() == [[-1] * 20, [1, *[-1] * 19], [1] * 20]
    wide = GoldenChip(ChipConfig((2, 40), lanes=8, binary_weights=True))
    assert status(wide, plane(1, [0xFFFFFFFF])) == Status.OK  # not even one row
    assert (weights_of(wide)[0] == 1).all()


def test_bits_past_the_end_are_ignored() -> None:
    cfg = ChipConfig((2, 3, 2), lanes=4, binary_weights=True)
    chip = GoldenChip(cfg)
    assert status(chip, plane(3, [0xFFFFFFF4])) == Status.OK
    weights = weights_of(chip)
    assert (weights[0] == 1).all()
    assert weights[1].tolist() == [[1, 1, 1, 1], [1, 1, 1, 1], [-1, 1, 1, 1]]


@pytest.mark.parametrize(("lanes", "kept"), [(8, []), (64, [0xFFFF_FFFF])])
def test_padding_in_the_words_of_a_row_becomes_zero_and_other_words_keep_theirs(lanes: int, kept: list[int]) -> None:
    cfg = ChipConfig((2, 3), lanes=lanes, binary_weights=True)
    chip, words = GoldenChip(cfg), 2 + 2 * len(kept)
    exchange(chip, make_frame(Opcode.WRITE, Region.WEIGHTS << 24, [0xFFFF_FFFF] * words))
    assert status(chip, plane(0, [0b010_101])) == Status.OK
    (answer,) = exchange(chip, make_frame(Opcode.READ, Region.WEIGHTS << 24, [words]))
    assert answer[1:] == [0b101, *kept, 0b010, *kept]


def test_planes_without_a_row_or_past_the_end_are_refused_and_change_nothing() -> None:
    cfg = ChipConfig((2, 33, 10), lanes=32, binary_weights=True)  # 2 rows of 33 bits, 33 of 10: 396
    chip, ones = GoldenChip(cfg), [0xFFFFFFFF]
    for row, n in ((35, 0), (35, 1), (0xFFFFFFFF, 1), (1 << 24, 0), (0, 14), (1, 13), (2, 12), (34, 2), (31, 3)):
        assert status(chip, plane(row, ones * n)) == Status.BAD_ADDRESS
    assert all((w == 1).all() for w in weights_of(chip))
    for row, n in ((0, 0), (34, 0), (0, 13), (1, 12), (2, 11), (34, 1), (31, 2)):
        assert status(chip, plane(row, ones * n)) == Status.OK
    assert all((w[:, :size] == -1).all() for w, size in zip(weights_of(chip), cfg.neuron_layers, strict=True))


def test_a_last_word_that_starts_at_the_end_has_no_bit_of_the_plane() -> None:
    chip = GoldenChip(ChipConfig((2, 32), lanes=32, binary_weights=True))
    assert status(chip, plane(0, [1, 2])) == Status.OK
    assert status(chip, plane(0, [1, 2, 0])) == status(chip, plane(1, [1, 0])) == Status.BAD_ADDRESS


def test_plane_frames_are_checked_in_the_documented_order() -> None:
    cfg = ChipConfig((2, 3), lanes=4, binary_weights=True)
    chip, other = GoldenChip(cfg), GoldenChip(ChipConfig((2, 3), lanes=4))
    wrong = plane(99, [1])
    wrong[-1] ^= 1
    assert status(chip, wrong) == status(other, wrong) == Status.BAD_CRC
    assert status(chip, make_frame(Opcode.PLANE, 99, [1], length=2)) == Status.BAD_LENGTH
    assert status(chip, plane(0, [1] * (cfg.link_depth - 1))) == Status.BAD_LENGTH
    assert status(chip, plane(99, [1])) == Status.BAD_ADDRESS
    for frame in (plane(0, [1]), plane(0, []), plane(99, [1])):
        assert status(other, frame) == Status.BAD_OPCODE
        assert status(GoldenChip(ChipConfig((2, 3), lanes=4, learning=True)), frame) == Status.BAD_OPCODE


def test_a_plane_counts_from_the_next_sample_on() -> None:
    cfg = ChipConfig((1, 2), lanes=4, binary_weights=True, die_tables=False)
    setup = write(cfg, STEPS=1, L0_SHIFT=5, L0_DECAY_MEM=4096)
    setup.append(make_frame(Opcode.WRITE, Region.THRESHOLD << 24, [1 << 20] * 4))
    run = make_frame(Opcode.RUN, 0, [0xFF])
    answers = exchange(GoldenChip(cfg), *setup, run, plane(0, [2]), run, plane(0, [1]), run, plane(0, [0]), run)
    potentials = [answer[-4::2] for answer in answers if len(answer) > 1]
    minus = (-32) & 0xFFFFFFFF
    assert potentials == [[32, 32], [32, minus], [minus, 32], [32, 32]]


# ---- the die -------------------------------------------------------------------------------------------------------


def test_gains_of_the_die_act_on_threshold_and_gate_and_nothing_on_synapses() -> None:
    """Eight sources of +1 with bias 2 and shift 2 drive a membrane of 40; a threshold of 20 is 10, 40 or 41."""
    cfg = ChipConfig((8, 4), lanes=4, binary_weights=True)
    chip, gains = GoldenChip(cfg), [512, 2048, 2100, 1024]
    ratios = [gain | 1024 << 16 for gain in gains]
    setup = [
        make_frame(Opcode.WRITE, Region.THRESHOLD << 24, [20] * 4),
        make_frame(Opcode.WRITE, Region.BIAS << 24, [2] * 4),
        make_frame(Opcode.WRITE, Region.DIE_NEURON << 24, ratios),
        *(make_frame(Opcode.WRITE, Region.DIE_GLOBAL << 24 | 4 * c, [1, 1, 1]) for c in range(8)),
        *write(cfg, STEPS=1, RECORD=3, L0_SHIFT=2, L0_MODE=8, L0_GATE_CENTRE=1, L0_GATE_WINDOW=2),
        make_frame(Opcode.RUN, 0, [0xFFFFFFFF, 0xFFFFFFFF]),
    ]
    answers = exchange(chip, *setup)
    assert all(answer[0] & 0xFFFF == Status.OK for answer in answers)
    spikes, gates, *rest = answers[-1][1:]
    assert rest[-8::2] == [40] * 4
    assert [spikes >> i & 1 for i in range(4)] == [1, 1, 0, 1]
    assert [gates >> i & 1 for i in range(4)] == [0, 1, 0, 0]  # |40 - (theta + 1)| < 2 of theta 10, 40, 41, 20
    for region in (Region.DIE_SYNAPSE, Region.DIE_BIAS):
        assert status(chip, make_frame(Opcode.WRITE, region << 24, [0])) == Status.BAD_ADDRESS
    exchange(chip, *write(cfg, L0_GATE_CENTRE=0))
    assert exchange(chip, setup[-1])[0][2] == 0b0110
