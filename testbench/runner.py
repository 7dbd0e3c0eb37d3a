"""cocotb's Verilator runner, with our main and options in place of its defaults.

The runner is the part of cocotb that knows how to link its libraries and which environment a simulation needs, so it is
subclassed instead of repeated.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import cocotb_tools.config
from cocotb_tools.runner import Verilator as CocotbVerilator
from cocotb_tools.runner import VerilatorControlFile, Verilog

from testbench.build import ROOT, Recipe
from testbench.toolchain import Toolchain

Command = list[str]


class Runner(CocotbVerilator):
    """Builds a :class:`~testbench.build.Recipe` and knows the environment of the simulation process."""

    def __init__(self, recipe: Recipe, tools: Toolchain | None = None) -> None:
        super().__init__()
        self.log.setLevel(logging.WARNING)
        self._recipe = recipe
        self._tools = tools
        self._cpp: list[str] = []

    def build_program(self, files: Sequence[Path], build_dir: Path, log: Path) -> Path:
        """Run Verilator and make; raises ``RuntimeError`` if one of them fails."""
        self._cpp = [str(file) for file in files if file.suffix == ".cpp"]
        # Control files come first: Verilator applies them to what it reads afterwards.
        sources: list[Verilog | VerilatorControlFile] = [
            *(VerilatorControlFile(file) for file in files if file.suffix == ".vlt"),
            *(Verilog(file) for file in files if file.suffix in (".v", ".sv")),
        ]
        self.build(
            sources=sources,
            build_args=list(self._recipe.options),
            hdl_toplevel=self._recipe.top,
            build_dir=build_dir,
            log_file=log,
        )
        return build_dir / self._recipe.top

    def simulation_environment(self, test_module: str, extra: Mapping[str, str]) -> dict[str, str]:
        """Environment in which the built program runs the cocotb tests of ``test_module``."""
        self.env = dict(extra)
        self.sim_hdl_toplevel = self._recipe.top
        self.hdl_toplevel_lang = "verilog"
        self.test_module = test_module
        self._set_env_test()
        self.env["PYTHONPATH"] = os.pathsep.join([str(ROOT), self.env["PYTHONPATH"]])
        return self.env

    # ---- what cocotb's runner would do otherwise --------------------------------------------------------------------

    def _set_env_build(self) -> None:
        super()._set_env_build()
        assert self._tools is not None
        self.env.update(self._tools.environment())

    def _simulator_in_path_build_only(self) -> None:
        assert self._tools is not None
        self.executable = str(self._tools.verilator)

    def _build_command(self) -> list[Command]:
        assert self._tools is not None
        recipe = self._recipe
        self.waves = False  # recipes say themselves what they trace; the variable WAVES must not change a cached build
        verilate, make = super()._build_command()
        if not recipe.public:
            verilate.remove("--public-flat-rw")
        if recipe.own_main:
            cocotb_main = str(cocotb_tools.config.share_dir / "lib" / "verilator" / "verilator.cpp")
            at = verilate.index(cocotb_main)
            verilate[at : at + 1] = self._cpp
        if not recipe.cocotb:
            verilate.remove("--vpi")
            at = verilate.index("-LDFLAGS")
            del verilate[at : at + 2]
        if not recipe.stock:
            verilate[1:1] = ["--no-timing", "--timescale-override", "1ns/1ns"]
        if recipe.own_main:  # which keeps the time where Verilator's documentation wants it; cocotb's main does not
            verilate[1:1] = ["-CFLAGS", "-DVL_TIME_CONTEXT"]
        if recipe.waves:
            verilate[1:1] = ["--trace-fst", "--trace-structs"]
            if self._tools.needs_fst_headers:
                verilate[1:1] = ["-CFLAGS", "-I../fst"]
                # Without the libraries that fst/ stands in for.
                make.append("LDLIBS=$(filter-out -lz -llz4,$(VM_USER_LDLIBS))")
        verilate[1:1] = ["-Wno-fatal", "-Wno-lint", "-Wno-style", "-LDFLAGS", "-pthread"]
        make = [arg for arg in make if not arg.startswith("VM_TRACE=")]
        make[0] = str(self._tools.make)
        return [verilate, [*make, *self._tools.make_variables, *recipe.make]]


def compile_program(recipe: Recipe, files: Sequence[Path], build_dir: Path, log: Path, tools: Toolchain) -> Path:
    """Build ``recipe`` from ``files`` and return the program."""
    return Runner(recipe, tools).build_program(files, build_dir, log)
