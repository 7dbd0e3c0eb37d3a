"""The simulator process and the build cache, on the stand-in core: nothing here needs the chip's Verilog."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from rtl.config import ChipConfig
from testbench import build as build_module
from testbench import toolchain
from testbench.build import BuildError, build
from testbench.simulator import Simulator, SimulatorDied

STANDIN = (Path(__file__).parents[1] / "testbench" / "standin.sv").read_text(encoding="utf-8")
CFG = ChipConfig(layers=(4, 4, 2))
LAST = np.uint64(1 << 32)
LOW = np.uint64(0xFFFF_FFFF)
SLOW = np.array([0xDEAD_0200], dtype=np.uint64)
"""Keeps the stand-in busy for 33 million clock cycles: seconds."""


def words(count: int, seed: int = 0) -> np.ndarray:
    draw = np.random.default_rng(seed)
    low = draw.integers(0, 1 << 31, count, dtype=np.uint64)
    return low | draw.integers(0, 2, count, dtype=np.uint64) << np.uint64(32)


def simulator(**options: object) -> Simulator:
    return Simulator(CFG, verilog=STANDIN, **options)  # type: ignore[arg-type]


# ---- exchanges ------------------------------------------------------------------------------------------------------


def test_words_come_back_in_order_with_their_marks() -> None:
    with simulator() as sim:
        for count in (1, 2, 7, 500, 0, 3):
            sent = words(count, count)
            assert np.array_equal(sim.exchange(sent), sent ^ LOW)
        assert sim.cycles > 513


@pytest.mark.parametrize("capacity", [1, 2, 3, 64])
def test_batches_larger_than_the_region(capacity: int) -> None:
    sent = words(200, capacity)
    with simulator(region_words=capacity) as sim:
        assert np.array_equal(sim.exchange(sent), sent ^ LOW)
        assert np.array_equal(sim.exchange(sent[:5]), sent[:5] ^ LOW)


def test_equal_cycles_however_the_region_cuts_a_batch() -> None:
    """The clock stands still between bursts; each of them costs the harness two clock cycles and the chip nothing."""
    sent = np.array([0xDEAD_0001] * 3, dtype=np.uint64)
    cycles = []
    for capacity in (1, 100):
        with simulator(region_words=capacity) as sim:
            sim.exchange(sent)
            cycles.append(sim.cycles)
    assert cycles[0] - cycles[1] < 40
    assert cycles[1] > 3 * 65536


def test_two_simulators_at_once() -> None:
    a, b = words(300, 1), words(400, 2)
    with simulator() as first, simulator() as second:
        assert np.array_equal(first.exchange(a), a ^ LOW)
        assert np.array_equal(second.exchange(b), b ^ LOW)
        assert np.array_equal(first.exchange(b), b ^ LOW)


def test_restart_begins_afresh() -> None:
    with simulator() as sim:
        sim.exchange(words(10))
        before, pid = sim.cycles, sim.pid
        sim.restart()
        assert sim.pid != pid
        assert sim.cycles == before
        assert np.array_equal(sim.exchange(words(10)), words(10) ^ LOW)
        assert sim.cycles > before


def test_waves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WAVES", "1")
    with simulator() as sim:
        sim.exchange(words(50))
        assert sim.variant == "debug"
        assert sim.waves is not None
        assert sim.waves.parent == tmp_path / "build" / "waves"
    assert sim.waves.stat().st_size > 500


# ---- dying ----------------------------------------------------------------------------------------------------------


def test_killed_child_is_reported_at_once_and_restart_works(tmp_path: Path) -> None:
    with simulator(log_dir=tmp_path) as sim:
        assert sim.pid is not None
        threading.Timer(0.3, os.kill, (sim.pid, signal.SIGKILL)).start()
        start = time.monotonic()
        with pytest.raises(SimulatorDied, match=r"signal 9 \(SIGKILL\)(?s:.)*Running on Verilator") as caught:
            sim.exchange(SLOW)
        assert time.monotonic() - start < 10  # on a busy machine
        assert str(tmp_path) in str(caught.value)
        with pytest.raises(SimulatorDied, match="restart"):
            sim.exchange(words(1))
        sim.restart()
        assert np.array_equal(sim.exchange(words(9)), words(9) ^ LOW)


def test_killed_while_idle() -> None:
    with simulator() as sim:
        assert sim.pid is not None
        os.kill(sim.pid, signal.SIGKILL)
        with pytest.raises(SimulatorDied, match="SIGKILL"):
            sim.exchange(words(1))


def test_watchdog_names_the_stuck_chip() -> None:
    with simulator(watchdog=1_000_000) as sim:
        with pytest.raises(SimulatorDied, match="busy for 1,000,000 clock cycles without") as caught:
            sim.exchange(np.array([0xDEAD_FFFF], dtype=np.uint64))
        assert "watchdog:" in str(caught.value)


def test_interrupted_exchange_is_brought_to_its_end() -> None:
    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        with simulator() as sim:
            signal.setitimer(signal.ITIMER_REAL, 0.2)
            with pytest.raises(KeyboardInterrupt):
                sim.exchange(SLOW)
            assert np.array_equal(sim.exchange(words(20)), words(20) ^ LOW)
    finally:
        signal.signal(signal.SIGALRM, before)


def test_child_ends_with_its_parent() -> None:
    script = (
        "import sys, os, signal\n"
        "from pathlib import Path\n"
        "from tests.test_simulator import simulator\n"
        "sim = simulator()\n"
        "print(sim.pid, flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    root = Path(__file__).parents[1]
    result = subprocess.run([sys.executable, "-c", script], cwd=root, capture_output=True, text=True, check=False)
    pid = int(result.stdout)
    for _ in range(100):
        if not _runs(pid):
            return
        time.sleep(0.1)
    pytest.fail(f"process {pid} still runs")


def _runs(pid: int) -> bool:
    """Whether a process exists and is more than a corpse that nobody collects."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in ("Z", "X")
    except OSError:
        return False


# ---- build cache and toolchain --------------------------------------------------------------------------------------


def test_second_build_comes_from_the_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    program = build(CFG, verilog=STANDIN)
    monkeypatch.setattr(build_module, "_build", lambda *_: pytest.fail("built again"))
    assert build(CFG, verilog=STANDIN) == program


def test_verilog_is_kept_per_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPIKELOOP_CACHE", str(tmp_path))
    key = build_module._verilog_key(CFG)
    assert key != build_module._verilog_key(ChipConfig(layers=(4, 4, 3)))
    (tmp_path / "verilog").mkdir()
    (tmp_path / "verilog" / f"{key}.v").write_text("module spikeloop; endmodule")
    assert build_module.verilog_text(CFG) == "module spikeloop; endmodule"


def test_cache_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("SPIKELOOP_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(BuildError, match=r"file/cache cannot be written .*SPIKELOOP_CACHE"):
        build(CFG, verilog=STANDIN)


def test_cache_with_a_space_in_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPIKELOOP_CACHE", str(tmp_path / "a b"))
    with pytest.raises(BuildError, match="space"):
        build(CFG, verilog=STANDIN)


def test_broken_verilog_shows_the_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPIKELOOP_CACHE", str(tmp_path))
    with pytest.raises(BuildError, match=r"\.failed\.log:(?s:.)*syntax error"):
        build(CFG, verilog="module spikeloop(input clk; endmodule")
    assert not list(tmp_path.glob("builds/new-*"))


def _tools(folder: Path, *names: str) -> None:
    for name in names:
        program = folder / name
        program.write_text("#!/bin/sh\necho Verilator 5.006 2023-01-22\n")
        program.chmod(0o755)


@pytest.mark.parametrize(
    ("present", "missing", "package"),
    [(("make", "perl"), "g++", "g++"), (("g++", "perl"), "make", "make"), (("g++", "make"), "perl", "perl")],
)
def test_missing_tool_names_the_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, present: tuple[str, ...], missing: str, package: str
) -> None:
    _tools(tmp_path, *present)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(toolchain.ToolchainError) as caught:
        toolchain.find()
    assert f"`{missing}`" in str(caught.value)
    assert f"Debian package `{package}`" in str(caught.value)


def test_too_old_verilator_is_passed_over_for_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _tools(tmp_path, "g++", "make", "perl", "verilator")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(toolchain, "_package", lambda: None)
    with pytest.raises(toolchain.ToolchainError, match=r"version 5\.006 .* at least 5\.036"):
        toolchain.find()
    monkeypatch.undo()
    package = toolchain._package()
    if package is not None:
        assert package[1] >= toolchain.MINIMUM_VERILATOR


def test_no_verilator_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _tools(tmp_path, "g++", "make", "perl")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(toolchain, "_package", lambda: None)
    with pytest.raises(toolchain.ToolchainError, match="neither on PATH nor as a Python package"):
        toolchain.find()


def test_new_enough_verilator_on_path_is_preferred(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _tools(tmp_path, "g++", "make", "perl")
    program = tmp_path / "verilator"
    program.write_text("#!/bin/sh\necho Verilator 5.040 2025-08-30 rev v5.040\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    tools = toolchain.find()
    assert (tools.verilator, tools.verilator_version, tools.verilator_root) == (program, "5.040", None)
