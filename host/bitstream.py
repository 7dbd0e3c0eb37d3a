"""From a chip's configuration to the bitstream of a board: synthesis, placement for several seeds, packing, a report.

The tools are Yosys, nextpnr and the packer of the family: those on ``PATH``, or else the ones that YoWASP publishes as
Python packages, file by file. Equal input gives equal bytes with equal tools.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from host.errors import SpikeloopError, UserError
from host.files import write_atomically
from host.fit import estimate, sentence
from host.resources import inventory, multipliers
from rtl.boards import BoardInfo
from rtl.config import ChipConfig
from rtl.synthesis import preparation
from rtl.uart import bit_cycles
from testbench.fpga import Tool, find

MAX_SEED = 2**31 - 1

PROGRAMS = {
    "ice40": ("yosys", "nextpnr-ice40", "icepack"),
    "ecp5": ("yosys", "nextpnr-ecp5", "ecppack"),
}
"""By family the programs, in the order in which they run."""

RESOURCES = {
    "ICESTORM_LC": "logic cells",
    "ICESTORM_RAM": "block RAMs",
    "ICESTORM_SPRAM": "single-port RAMs",
    "ICESTORM_DSP": "multipliers",
    "TRELLIS_COMB": "logic cells",
    "TRELLIS_FF": "flip-flops",
    "DP16KD": "block RAMs",
    "MULT18X18D": "multipliers",
}
"""What nextpnr counts, in our words."""

TOP = "board"


class BitstreamError(SpikeloopError):
    """The tools could not make the bitstream: too slow, or a tool that failed."""


def find_tools(family: str) -> dict[str, Tool]:
    """The programs of a family by name, none for one whose bitstreams are not made here.

    Raises
    ------
    ToolchainError
        If one is missing; the message says which and how to get all of them.
    """
    return {name: find(name) for name in PROGRAMS.get(family, ())}


def versions(tools: Mapping[str, Tool]) -> dict[str, str]:
    """What to call each program in a report."""
    return {name: tool.version for name, tool in tools.items()}


# ---- what goes to the tools -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Plan:
    """Files for the tools and the commands that take them, without anything of this machine in them."""

    files: dict[str, str]
    commands: list[list[str]]
    clock_hz: int


def plan(info: BoardInfo, cfg: ChipConfig, *, clock_hz: int, baud: int) -> Plan:
    """Netlist, pin table, clock constraints and commands for the chip `cfg` on a board, clock and line as checked."""
    from rtl.boards._top import Top

    clock = info.clock(clock_hz)
    made = info.platform().prepare(
        Top(info, cfg, clock, baud), TOP, emit_src=False, **_options(info, cfg, clock_hz, baud)
    )
    files = {name: text for name, text in made.files.items() if not name.endswith(".debug.v")}
    return Plan(files, json.loads(files[f"build_{TOP}.json"])["commands"], clock.hz)


def _options(info: BoardInfo, cfg: ChipConfig, clock_hz: int, baud: int) -> dict[str, str]:
    """What Amaranth's platform passes on to Yosys; multipliers are used if there are enough for every product."""
    if info.family == "series7":
        return {}
    products = inventory(cfg, clock_hz, baud).multipliers
    enough = sum(multipliers(product, info.family) for product in products) <= info.multipliers
    synthesis = {"ice40": "-device u -spram" + " -dsp" * enough, "ecp5": "-nodsp" * (not enough)}
    return {
        "synth_opts": synthesis[info.family],
        "script_after_read": "\n".join(preparation(info.family, f"{TOP}.board.chip")),
    }


# ---- running them ---------------------------------------------------------------------------------------------------


def _run(
    command: list[str], tools: Mapping[str, Tool], folder: Path, more: Sequence[str] = ()
) -> subprocess.CompletedProcess[str]:
    tool, *arguments = command
    return tools[tool].run(folder, *arguments, *more)


def synthesise(yosys: Tool, folder: Path, name: str) -> subprocess.CompletedProcess[str]:
    """Run Yosys in a folder on the script ``NAME.ys``; all that it says goes to ``NAME.rpt``.

    Some designs end it with an assertion about wires (https://github.com/YosysHQ/yosys/issues/4349). Those go
    through with their wires cut into bits first, which otherwise would only change the order in which things are tried.
    """
    script = folder / f"{name}.ys"
    arguments = ("-q", "-l", f"{name}.rpt", script.name)
    result = yosys.run(folder, *arguments)
    if result.returncode and "ERROR: Assert" in _ended(folder / f"{name}.rpt"):
        script.write_text(re.sub(r"^(?=synth_)", "proc\nsplitnets\n", script.read_text(), flags=re.MULTILINE))
        result = yosys.run(folder, *arguments)
    return result


def _ended(log: Path) -> str:
    """Last words of a program."""
    return log.read_text(encoding="utf-8", errors="replace")[-1000:] if log.exists() else ""


def failure(tool: str, result: subprocess.CompletedProcess[str], log: Path) -> BitstreamError:
    """What to raise when a program failed."""
    said = [line for line in (result.stdout + result.stderr + _ended(log)).splitlines() if "ERROR" in line]
    reason = said[-1].strip() if said else f"exit code {result.returncode}"
    return BitstreamError(f"{tool} failed: {reason} (all it said is in {log}).")


def _used(log: Path) -> dict[str, dict[str, int]]:
    """Resources of the device that nextpnr counted before it placed anything."""
    found = re.findall(r"^Info:\s+(\w+):\s+(\d+)/\s*(\d+)\s+\d+%", log.read_text(encoding="utf-8"), re.MULTILINE)
    return {
        RESOURCES[name]: {"used": int(used), "available": int(available)}
        for name, used, available in found
        if name in RESOURCES
    }


def _room(report: dict[str, Any]) -> float:
    """How much faster than asked the placed design runs; of several clocks, the one with the least room."""
    return min(float(clock["achieved"] / clock["constraint"]) for clock in report["fmax"].values())


def _too_large(info: BoardInfo, cfg: ChipConfig, resources: dict[str, dict[str, int]]) -> str:
    """By how much the chip `cfg` does not fit, as nextpnr counted, and what to change; nothing if it does."""
    if all(found["used"] <= found["available"] for found in resources.values()):
        return ""
    counted = {name: (found["used"], found["available"]) for name, found in resources.items()}
    return sentence(replace(estimate(info, cfg), counted=counted))


def build(
    info: BoardInfo,
    cfg: ChipConfig,
    out: Path,
    *,
    clock_hz: int | None = None,
    baud: int | None = None,
    seeds: Sequence[int] = (1, 2, 3),
    all_seeds: bool = False,
    watch: Callable[[str], None] = lambda step: None,
) -> dict[str, Any]:
    """Make the bitstream of the chip `cfg` for a board and return its report, which is ``report.json``, too.

    Parameters
    ----------
    out
        Folder of all files; what an earlier run left there is removed.
    clock_hz, baud
        Wanted clock of the chip and rate of the line; default: the board's own.
    seeds
        Of placement, tried in this order until one meets the clock; with `all_seeds` all are tried. The fastest one
        is packed.
    watch
        Called with a few words at the start of each step.

    Raises
    ------
    BoardError, UserError
        If seeds, clock or baud rate are out of range, the folder cannot be written, or the design does not fit.
    ToolchainError
        If a program is missing.
    BitstreamError
        If no seed meets the clock (bitstream and report are there nevertheless), or a tool fails.
    """
    clock_hz, baud = check_clock(info, clock_hz, baud), baud or info.baud
    seeds = check_seeds(seeds)
    tools = find_tools(info.family)
    watch("Netlist")
    began = time.perf_counter()
    work = plan(info, cfg, clock_hz=clock_hz, baud=baud)
    _write(out, work, cfg)
    report: dict[str, Any] = {
        "board": info.name,
        "device": info.device,
        "package": info.package,
        "config": cfg.to_dict(),
        "wanted_hz": clock_hz,
        "clock_hz": work.clock_hz,
        "baud": baud,
        "tools": versions(tools) | {"amaranth": importlib.metadata.version("amaranth")},
        "seconds": {"netlist": time.perf_counter() - began},
    }
    if not tools:
        report["files"] = sorted(work.files)
        _save(out, report)
        return report

    _, placement, packing = work.commands
    watch("Synthesis (Yosys)")
    began = time.perf_counter()
    result = synthesise(tools["yosys"], out, TOP)
    report["seconds"]["synthesis"] = time.perf_counter() - began
    if result.returncode:
        raise failure("Yosys", result, out / f"{TOP}.rpt")
    _place(info, cfg, out, placement, tools, report, seeds, all_seeds=all_seeds, watch=watch)

    watch("Packing")
    best = report["best_seed"]
    bits = Path(packing[packing.index("--input") + 1] if "--input" in packing else packing[1])
    shutil.copyfile(out / f"seed-{best}{bits.suffix}", out / bits)
    result = _run(packing, tools, out)
    if result.returncode:
        raise failure(packing[0], result, out)
    bitstream = out / (f"{TOP}.bit" if info.family == "ecp5" else f"{TOP}.bin")
    report["bitstream"] = {
        "file": bitstream.name,
        "bytes": bitstream.stat().st_size,
        "sha256": hashlib.sha256(bitstream.read_bytes()).hexdigest(),
    }
    _save(out, report)
    if not report["met"]:
        raise BitstreamError(
            f"Too slow: the best of seeds {', '.join(str(found['seed']) for found in report['seeds'])} reaches "
            f"{report['fmax_hz'] / 1e6:.2f} MHz, wanted are {work.clock_hz / 1e6:g} MHz: lower --clock, try other "
            f"--seeds or fewer lanes (report: {out / 'report.md'})."
        )
    return report


def _place(
    info: BoardInfo,
    cfg: ChipConfig,
    out: Path,
    command: list[str],
    tools: Mapping[str, Tool],
    report: dict[str, Any],
    seeds: Sequence[int],
    *,
    all_seeds: bool,
    watch: Callable[[str], None],
) -> None:
    """Place and route with each seed; what is found goes into `report`."""
    report["seeds"] = []
    for seed in seeds:
        watch(f"Placement and routing (nextpnr), seed {seed}")
        began = time.perf_counter()
        details = out / f"seed-{seed}.json"
        options = ["--seed", str(seed), "--report", details.name, "--timing-allow-fail"]
        result = _run(command, tools, out, options)
        seconds = time.perf_counter() - began
        log = out / f"seed-{seed}.log"
        if (out / f"{TOP}.tim").exists():  # nextpnr's log, all it said included
            (out / f"{TOP}.tim").replace(log)
        if not log.exists():
            raise failure(command[0], result, out)
        report["resources"] = _used(log)
        if result.returncode:
            _save(out, report)
            told = _too_large(info, cfg, report["resources"])
            raise UserError(f"{told} (Report: {out / 'report.md'})") if told else failure(command[0], result, log)
        written = out / Path(command[-1])
        written.replace(out / f"seed-{seed}{written.suffix}")
        reached = _room(json.loads(details.read_text(encoding="utf-8"))) * report["clock_hz"]
        met = reached >= report["clock_hz"]
        report["seeds"].append({"seed": seed, "fmax_hz": round(reached), "met": met, "seconds": seconds})
        if met and not all_seeds:
            break
    best = max(report["seeds"], key=lambda found: found["fmax_hz"])
    report |= {"best_seed": best["seed"], "fmax_hz": best["fmax_hz"], "met": best["met"]}


def check_clock(info: BoardInfo, clock_hz: int | None, baud: int | None) -> int:
    """The wanted clock in Hz, or the board's own; raises if the board or its line cannot have it.

    Raises
    ------
    BoardError
        If the clock generator of the board does not reach it.
    UserError
        If the line cannot have `baud` at that clock.
    """
    wanted, baud = info.clock_hz if clock_hz is None else clock_hz, info.baud if baud is None else baud
    hz = info.clock(wanted).hz
    try:
        bit_cycles(hz, baud)
    except ValueError as error:
        raise UserError(f"Setting {error}.") from None
    return wanted


def occupy(info: BoardInfo, cfg: ChipConfig, folder: Path) -> dict[str, int]:
    """What the chip `cfg` takes of each resource of a board, found by synthesis and packing without placement.

    Raises
    ------
    BitstreamError
        If a tool fails.
    """
    if info.family == "series7":
        return _occupy_series7(info, cfg, folder)
    tools = find_tools(info.family)
    work = plan(info, cfg, clock_hz=info.clock_hz, baud=info.baud)
    _write(folder, work, cfg)
    _, placement, _ = work.commands
    result = synthesise(tools["yosys"], folder, TOP)
    if result.returncode:
        raise failure("Yosys", result, folder / f"{TOP}.rpt")
    nothing_placed = placement[:-2]  # without the file of what is placed where
    result = _run(nothing_placed, tools, folder, ("--no-place", "--no-route"))
    if result.returncode:
        raise failure(placement[0], result, folder / f"{TOP}.tim")
    return {name: found["used"] for name, found in _used(folder / f"{TOP}.tim").items()}


def check_seeds(seeds: Sequence[int]) -> tuple[int, ...]:
    """The seeds as they are; raises :class:`UserError` for none, doubled ones, or one out of range."""
    if not seeds or len(set(seeds)) != len(seeds) or not all(1 <= seed <= MAX_SEED for seed in seeds):
        given = ",".join(map(str, seeds))
        raise UserError(f"Seeds {given!r}: must be different integers from 1 to {MAX_SEED}, separated by commas.")
    return tuple(seeds)


def counted_cells(file: Path) -> dict[str, int]:
    """Cells of a design by their types, from what Yosys' command ``tee -o FILE stat -json`` wrote."""
    text = file.read_text(encoding="utf-8")
    found: dict[str, int] = json.loads(text[text.index("{") :])["design"]["num_cells_by_type"]
    return found


def _occupy_series7(info: BoardInfo, cfg: ChipConfig, folder: Path) -> dict[str, int]:
    """What Yosys alone makes of the chip `cfg`; block RAMs are halves of 18 Kbit."""
    from amaranth.back import rtlil

    from rtl.board import Board

    netlist = rtlil.convert(Board(cfg, info.clock_hz, info.baud), name=TOP, emit_src=False)
    script = [f"read_rtlil {TOP}.il", *preparation("series7", f"{TOP}.chip"), f"synth_xilinx -family xc7 -top {TOP}"]
    (folder / f"{TOP}.il").write_text(netlist, encoding="utf-8")
    (folder / f"{TOP}.ys").write_text("\n".join([*script, "tee -o cells.json stat -json"]), encoding="utf-8")
    result = synthesise(find("yosys"), folder, TOP)
    if result.returncode:
        raise failure("Yosys", result, folder / f"{TOP}.rpt")
    cells = counted_cells(folder / "cells.json")
    luts = sum(number for kind, number in cells.items() if re.fullmatch(r"LUT\d", kind))
    distributed = sum(4 * number for kind, number in cells.items() if re.fullmatch(r"RAM\d+M", kind))
    return {
        "logic cells": luts + distributed,
        "block RAMs": cells.get("RAMB18E1", 0) + 2 * cells.get("RAMB36E1", 0),
        "multipliers": cells.get("DSP48E1", 0),
    }


# ---- files ----------------------------------------------------------------------------------------------------------


def _write(out: Path, work: Plan, cfg: ChipConfig) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
        if any(out.iterdir()) and not (out / f"build_{TOP}.json").exists():
            raise UserError(f"The folder {out} holds other files: name an empty one, or that of an earlier bitstream.")
        for pattern in (f"{TOP}.*", f"build_{TOP}.*", "seed-*", "report.*"):
            for old in out.glob(pattern):
                old.unlink()
        for name, text in work.files.items():
            (out / name).write_text(text, encoding="utf-8", newline="\n")
        (out / "chip.json").write_text(cfg.to_json() + "\n", encoding="utf-8", newline="\n")
    except OSError as error:
        raise UserError(f"Cannot write {out}: {error.strerror or error}.") from None


def _save(out: Path, report: dict[str, Any]) -> None:
    write_atomically(out / "report.json", (json.dumps(report, indent=2) + "\n").encode())
    write_atomically(out / "report.md", markdown(report).encode())


def rows(report: dict[str, Any]) -> list[tuple[str, str]]:
    """Lines of the report's table: name and value."""
    lines = [("chip", f"{'-'.join(map(str, report['config']['layers']))}, {report['config']['lanes']} lanes")]
    wanted = "" if report["clock_hz"] == report["wanted_hz"] else f" (wanted: {report['wanted_hz'] / 1e6:g})"
    lines += [("clock", f"{report['clock_hz'] / 1e6:g} MHz{wanted}"), ("line", f"{report['baud']:,} baud")]
    lines += [
        (name, f"{found['used']:,} of {found['available']:,} ({100 * found['used'] / found['available']:.0f} %)")
        for name, found in report.get("resources", {}).items()
    ]
    for found in report.get("seeds", []):
        verdict = "met" if found["met"] else "missed"
        lines.append(
            (f"fmax, seed {found['seed']}", f"{found['fmax_hz'] / 1e6:.2f} MHz, {verdict}, {found['seconds']:.0f} s")
        )
    if "synthesis" in report["seconds"]:
        lines.append(("synthesis", f"{report['seconds']['synthesis']:.0f} s"))
    if "bitstream" in report:
        made = report["bitstream"]
        lines.append(("bitstream", f"{made['file']}, {made['bytes']:,} bytes, SHA-256 {made['sha256'][:16]}..."))
    return lines + [(tool, version) for tool, version in report["tools"].items()]


def markdown(report: dict[str, Any]) -> str:
    """The report as a page."""
    table = "\n".join(f"| {name} | {value} |" for name, value in rows(report))
    config = json.dumps(report["config"])
    return f"# {report['board']} ({report['device']})\n\n| | |\n|---|---|\n{table}\n\nConfiguration: `{config}`\n"
