"""Reference speeds for the in-the-loop simulator: a bare C++ loop and an ordinary cocotb test on the same words.

``make bench`` divides by these. All of them measure the simulation alone, without start-up.
"""

from __future__ import annotations

import json
import subprocess
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rtl.config import ChipConfig
from testbench.build import BuildError, build
from testbench.simulator import Simulator


def bare(
    cfg: ChipConfig, words: NDArray[np.uint64], *, verilog: str | None = None
) -> tuple[float, int, NDArray[np.uint64]]:
    """Run ``words`` through a plain Verilator C++ loop (``bare.cpp``): seconds, clock cycles, output words."""
    program = build(cfg, "bare", verilog=verilog)
    with tempfile.TemporaryDirectory(prefix="spikeloop-bare-") as folder:
        source, target = Path(folder) / "input.bin", Path(folder) / "output.bin"
        np.ascontiguousarray(words, dtype=np.uint64).tofile(source)
        result = subprocess.run([str(program), str(source), str(target)], capture_output=True, text=True, check=False)
        if result.returncode != 0:
            raise BuildError(f"the bare simulator {program} failed with exit code {result.returncode}: {result.stderr}")
        report = json.loads(result.stdout)
        return report["seconds"], report["cycles"], np.fromfile(target, dtype=np.uint64)


def slow_cocotb(cfg: ChipConfig, words: NDArray[np.uint64], *, verilog: str | None = None) -> tuple[float, int]:
    """Run ``words`` through cocotb's default build with a test that awaits every clock edge: seconds, clock cycles."""
    from testbench import cosim

    with tempfile.TemporaryDirectory(prefix="spikeloop-slow-") as folder:
        source, report = Path(folder) / "words.npy", Path(folder) / "report.json"
        np.save(source, np.ascontiguousarray(words, dtype=np.uint64))
        cosim.run(
            "testbench.bench_slow",
            cfg,
            variant="stock",
            verilog=verilog,
            parameters={"words": str(source), "report": str(report)},
            timeout=3600.0,
        )
        values = json.loads(report.read_text(encoding="utf-8"))
        return values["seconds"], values["cycles"]


def in_the_loop(
    cfg: ChipConfig, words: NDArray[np.uint64], *, verilog: str | None = None
) -> tuple[float, int, NDArray[np.uint64]]:
    """Run ``words`` through the in-the-loop simulator: seconds as its caller sees them, clock cycles, output words."""
    with Simulator(cfg, verilog=verilog) as simulator:
        before = simulator.cycles
        start = time.perf_counter()
        output = simulator.exchange(words)
        return time.perf_counter() - start, simulator.cycles - before, output


def round_trips(cfg: ChipConfig, words: NDArray[np.uint64], count: int, *, verilog: str | None = None) -> float:
    """Exchanges of ``words`` per second."""
    with Simulator(cfg, verilog=verilog) as simulator:
        simulator.exchange(words)
        start = time.perf_counter()
        for _ in range(count):
            simulator.exchange(words)
        return count / (time.perf_counter() - start)


@dataclass(frozen=True)
class Speeds:
    """Clock cycles per second of the three ways, measured one after the other."""

    slow_cocotb: float
    in_the_loop: float
    bare: float

    @property
    def of_bare(self) -> float:
        """Speed in the loop as a fraction of the bare loop's."""
        return self.in_the_loop / self.bare

    @property
    def over_cocotb(self) -> float:
        """Speed in the loop as a multiple of ordinary cocotb's."""
        return self.in_the_loop / self.slow_cocotb

    def to_dict(self) -> dict[str, float]:
        """All figures, ready for JSON."""
        return asdict(self) | {"of_bare": self.of_bare, "over_cocotb": self.over_cocotb}


def compare(
    cfg: ChipConfig,
    words: NDArray[np.uint64],
    *,
    slow_words: NDArray[np.uint64] | None = None,
    repeats: int = 3,
    verilog: str | None = None,
) -> Speeds:
    """Measure all three and check that the output words are equal.

    Best of ``repeats``; the slow one is measured once, on ``slow_words`` if given.
    """
    best_loop = best_bare = 0.0
    for _ in range(repeats):
        seconds, cycles, reference = bare(cfg, words, verilog=verilog)
        best_bare = max(best_bare, cycles / seconds)
        seconds, cycles, output = in_the_loop(cfg, words, verilog=verilog)
        best_loop = max(best_loop, cycles / seconds)
        if not np.array_equal(reference, output):
            raise AssertionError("the in-the-loop simulator and the bare loop do not send equal words")
    seconds, cycles = slow_cocotb(cfg, words if slow_words is None else slow_words, verilog=verilog)
    return Speeds(cycles / seconds, best_loop, best_bare)
