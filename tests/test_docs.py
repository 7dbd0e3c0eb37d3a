"""What the manuals say is what the code does."""

from __future__ import annotations

import re
from itertools import pairwise

import numpy as np
import pytest
from golden_reference import make_frame

from pymodel import GoldenChip
from pymodel.sequencer import C_DIE, C_ENC, C_LAYER
from rtl.config import ChipConfig
from rtl.docs import FILE, markdown
from rtl.registers import Opcode, Status, regions, registers


def test_register_manual_is_up_to_date() -> None:
    assert FILE.read_text(encoding="utf-8") == markdown(), "run `python -m rtl.docs` and commit docs/registers.md"


@pytest.mark.parametrize("cfg", [ChipConfig((3, 2)), ChipConfig((9, 8, 7, 2), lanes=4, die_tables=False)])
def test_register_manual_names_every_register_region_opcode_and_status(cfg: ChipConfig) -> None:
    text = markdown(cfg)
    for register in registers(cfg):
        if not register.name.startswith(("L1_", "L2_")):  # the manual shows one layer
            assert f"| {register.name} | `0x{register.offset:02x}` |" in text
    for name in [region.name for region in regions(cfg)] + [code.name for code in (*Opcode, *Status)]:
        assert f"| {name} |" in text


@pytest.mark.parametrize(
    ("cfg", "bright", "cycles", "operations"),
    [
        (ChipConfig((784, 128, 10), lanes=16), 100, 19168, 281600),
        (ChipConfig((30, 15, 2), lanes=8), 30, 1875, 9600),
        (ChipConfig((784, 256), lanes=64, binary_weights=True), 100, 8352, 512000),
    ],
    ids=["784-128-10", "30-15-2", "784-256 binary"],
)
def test_worked_examples_of_the_cycle_model(cfg: ChipConfig, bright: int, cycles: int, operations: int) -> None:
    steps = 20
    pixels = np.zeros(4 * cfg.pixel_words, np.uint8)
    pixels[:bright] = 255
    offset = {register.name: register.offset for register in registers(cfg)}
    frames = [
        make_frame(Opcode.WRITE, offset["STEPS"], [steps]),
        make_frame(Opcode.RUN, 1, pixels.view("<u4").tolist()),
    ]
    answer = GoldenChip(cfg).exchange(np.array([word for frame in frames for word in frame], np.uint64))[2:]
    counts = answer[3 : 3 + cfg.n_neurons] & np.uint64(0xFFFF)
    assert counts.tolist() == [steps] * cfg.n_neurons
    assert answer[2] == steps * bright
    assert answer[1] == cycles

    layers = (bright, *cfg.neuron_layers)
    distortion = C_DIE if cfg.distorts_synapses else 0
    work = [
        words * spikes + C_LAYER + cfg.neuron_groups + distortion
        for words, spikes in zip(cfg.words, layers[:-1], strict=True)
    ]
    assert cycles == cfg.pixel_words + cfg.in_words + C_ENC + steps * sum(work)
    assert operations == steps * sum(a * b for a, b in pairwise(layers))
    text = (FILE.parent / "cycles.md").read_text(encoding="utf-8")
    for number in (f"= {cycles} |", f"= {operations} |", f"= {operations / (cycles * cfg.lanes):.3f} |"):
        assert number in text
    for layer_work in work:
        assert f"= {layer_work} |" in text


def test_the_manual_of_binary_training_runs(capsys: pytest.CaptureFixture[str]) -> None:
    text = (FILE.parent / "bisnn.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"^```python\n(.*?)^```$", text, flags=re.DOTALL | re.MULTILINE)
    exec(compile(code, "bisnn.md", "exec"), {})
    figures = re.findall(r"^(?:test accuracy|calibration error) (0\.\d{3})$", capsys.readouterr().out, re.MULTILINE)
    accuracy, error = map(float, figures)
    assert accuracy > 0.8
    assert error < 0.2
