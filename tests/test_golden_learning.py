"""Learning in the golden model: against a plain reference written from the manual, and against exact laws."""

from __future__ import annotations

import numpy as np
from golden_reference import ReferenceChip, make_frame, payload, program, split_answers
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pymodel import GoldenChip
from rtl.config import ChipConfig
from rtl.registers import Opcode, Status, regions, registers

few = settings(max_examples=60, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck))


def exchange(chip: GoldenChip, *frames: list[int]) -> list[list[int]]:
    stream = np.array([word for frame in frames for word in frame], np.uint64)
    return split_answers(chip.exchange(stream).tolist())


def write(cfg: ChipConfig, **values: int) -> list[list[int]]:
    """Frames that write registers by name."""
    offsets = {register.name: register.offset for register in registers(cfg)}
    return [make_frame(Opcode.WRITE, offsets[name], [value & 0xFFFFFFFF]) for name, value in values.items()]


def readable(cfg: ChipConfig) -> list[list[int]]:
    """Frames that read everything there is."""
    return [make_frame(Opcode.READ, r << 24, [info.depth]) for r, info in regions(cfg).items() if info.readable]


configs = st.builds(
    ChipConfig,
    layers=st.lists(st.integers(1, 20), min_size=2, max_size=4).map(tuple),
    lanes=st.sampled_from([4, 8, 16, 64]),
    weight_bits=st.sampled_from([4, 8, 10, 16]),
    state_bits=st.sampled_from([8, 16, 24, 32]),
    die_tables=st.booleans(),
    learning=st.just(True),
)


def learner(cfg: ChipConfig, rng: np.random.Generator) -> list[list[int]]:
    """A random program with errors, open gates and gradient spikes in most steps."""
    frames = program(cfg, rng)
    for layer in range(len(cfg.neuron_layers)):
        mode = int(rng.integers(16)) | int(rng.choice([0, 1, 1, 2, 3])) << 4
        values = {"FORWARD_SHIFT": rng.choice([0, 0, 1, 7]), "RATE": rng.choice([0, 20_000, 65_535, 65_536, 1 << 16])}
        values |= {"GRADIENT_BITS": rng.choice([0, cfg.weight_bits - 1, 16, 31]), "FIRE_BITS": rng.integers(32)}
        if layer == len(cfg.neuron_layers) - 1 and rng.integers(5):
            mode = mode & 15 | 2 << 4
        if rng.integers(3):
            values["GATE_WINDOW"] = (1 << cfg.state_bits) - 1 >> int(rng.integers(1, 4))
        values |= {"MODE": mode, "NOISE": rng.integers(16) | rng.integers(3) << 4}
        frames += write(cfg, **{f"L{layer}_{name}": int(value) for name, value in values.items()})
    return frames


@few
@given(configs, st.integers(0, 2**32 - 1), st.integers(0, 3), st.integers(0, 7), st.integers(0, 12))
def test_random_learning_chips_equal_the_reference(
    cfg: ChipConfig, seed: int, encoding: int, record: int, steps: int
) -> None:
    """Answers of successive LEARN and RUN frames with their cycles, and the weights afterwards."""
    rng = np.random.default_rng(seed)
    enable = int(rng.choice([0, 127, 127, rng.integers(128)]))
    frames = learner(cfg, rng) + write(cfg, STEPS=steps, ENCODING=encoding, RECORD=record, LEARN_ENABLE=enable)
    for k in range(6):
        words, learn = payload(cfg, encoding, max(1, steps), rng), k not in (2, 5)
        label = int(rng.integers(cfg.n_out + (k == 4)))
        frames.append(
            make_frame(Opcode.LEARN if learn else Opcode.RUN, int(rng.integers(1 << 32)), [label] * learn + words, k)
        )
    frames += readable(cfg)
    reference = ReferenceChip(cfg)
    for got, frame in zip(exchange(GoldenChip(cfg), *frames), frames, strict=True):
        assert got == reference.frame(frame)


def test_learn_frames_are_checked_in_the_documented_order() -> None:
    cfg = ChipConfig((4, 3), lanes=4, learning=True)
    chip, plain = GoldenChip(cfg), GoldenChip(ChipConfig((4, 3), lanes=4))

    def status(chip: GoldenChip, frame: list[int]) -> Status:
        return Status(exchange(chip, frame)[0][0] & 0xFFFF)

    good, wrong_crc = make_frame(Opcode.LEARN, 0, [2, 0]), make_frame(Opcode.LEARN, 0, [3, 0])
    wrong_crc[-1] ^= 1
    assert status(plain, good) == status(plain, make_frame(Opcode.LEARN, 0, [9])) == Status.BAD_OPCODE
    assert status(plain, wrong_crc) == status(chip, wrong_crc) == Status.BAD_CRC
    assert status(chip, good) == Status.OK
    assert status(chip, make_frame(Opcode.LEARN, 0, [3, 0])) == Status.BAD_LABEL
    assert status(chip, make_frame(Opcode.LEARN, 0, [0xFFFFFFFF, 0])) == Status.BAD_LABEL
    for payload_words in ([], [9], [9, 0, 0]):
        assert status(chip, make_frame(Opcode.LEARN, 0, payload_words)) == Status.BAD_LENGTH
    exchange(chip, *write(cfg, ENCODING=2))
    assert status(chip, make_frame(Opcode.LEARN, 0, [])) == Status.BAD_LENGTH
    assert status(chip, make_frame(Opcode.LEARN, 0, [3])) == Status.BAD_LABEL
    assert status(chip, make_frame(Opcode.LEARN, 0, [2])) == Status.OK
