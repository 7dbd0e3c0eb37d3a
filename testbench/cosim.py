"""Run a cocotb test module on a chip from a pytest test.

::

    def test_lockstep():
        run("testbench.lockstep_tests", cfg, parameters={"samples": 20, "seed": 3})

The chip is built as variant ``pins`` (:mod:`testbench.build`): pins ``rx_*``, ``tx_*``, ``busy`` at the top, the chip
with its trace port below as ``dut.chip``, every signal readable, assertions on. The module runs inside the
simulator's process; it finds its chip and its parameters with :func:`config` and :func:`parameters`. With ``WAVES=1``
in the environment an FST file is written to
``build/waves``, whose name and place are printed.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import tempfile
import xml.etree.ElementTree as ET
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rtl.config import ChipConfig
from testbench.build import RECIPES, build
from testbench.runner import Runner

_JOB_VARIABLE = "SPIKELOOP_COSIM_JOB"


def run(
    module: str,
    cfg: ChipConfig,
    *,
    parameters: Mapping[str, Any] | None = None,
    testcase: str | None = None,
    variant: str = "pins",
    verilog: str | None = None,
    waves: str | Path | None = None,
    seed: int = 0,
    timeout: float = 600.0,
) -> str:
    """Run the cocotb tests of ``module`` and return the simulator's log.

    Parameters
    ----------
    module
        Import name of the module with the cocotb tests.
    cfg
        The chip.
    parameters
        Values for the module's :func:`parameters`; anything that JSON can hold.
    testcase
        Name of the only test of the module to run; default: all.
    variant
        ``"pins"``, or another variant with cocotb in it.
    verilog
        Verilog to simulate instead of that of ``cfg``.
    waves
        FST file to write. Default: none, or ``build/waves/<module>-<testcase>.fst`` if ``WAVES=1``.
    seed
        Seed of cocotb's random generators.
    timeout
        Seconds after which the simulation is ended.

    Raises
    ------
    AssertionError
        If a test fails, no test ran, or the simulator did not end properly; the message holds the end of the log.
    """
    program = build(cfg, variant, verilog=verilog)
    if waves is None and os.environ.get("WAVES", "0") not in ("", "0"):
        title = re.sub(r"[^A-Za-z0-9]+", "-", f"{module} {testcase or ''}").strip("-")
        waves = Path("build") / "waves" / f"{title}.fst"
    with tempfile.TemporaryDirectory(prefix="spikeloop-cosim-") as name:
        folder = Path(name)
        job, results, log = folder / "job.json", folder / "results.xml", folder / "simulation.log"
        job.write_text(json.dumps({"config": cfg.to_dict(), "parameters": dict(parameters or {})}), encoding="utf-8")
        environment = Runner(RECIPES[variant]).simulation_environment(
            module, {"COCOTB_ANSI_OUTPUT": "0", "COCOTB_RANDOM_SEED": str(seed), _JOB_VARIABLE: str(job)}
        )
        environment |= {"COCOTB_RESULTS_FILE": str(results), "COCOTB_ANSI_OUTPUT": "0", "COCOTB_RANDOM_SEED": str(seed)}
        environment |= {_JOB_VARIABLE: str(job)}
        environment.pop("COCOTB_TEST_FILTER", None)
        if testcase is not None:
            environment["COCOTB_TEST_FILTER"] = rf"\.{re.escape(testcase)}$"
        arguments = [str(program)]
        if waves is not None:
            waves = Path(waves).absolute()
            waves.parent.mkdir(parents=True, exist_ok=True)
            arguments += ["--trace", "--trace-file", str(waves)]
            print(f"waves: {waves}")
        code: int | str
        with open(log, "wb") as output:
            try:
                code = subprocess.run(
                    arguments,
                    cwd=folder,
                    env=environment,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    timeout=timeout,
                    check=False,
                ).returncode
            except subprocess.TimeoutExpired:
                code = f"ended after {timeout:.0f} s"
        text = log.read_text(encoding="utf-8", errors="replace")
        passed, failed = _count(results)
        if code != 0 or failed or not passed:
            tail = "\n".join(text.splitlines()[-60:])
            raise AssertionError(
                f"cocotb tests of {module}: {passed} passed, {failed} failed, exit code {code}; end of the log:\n{tail}"
            )
        return text


def config() -> ChipConfig:
    """Inside the simulator: the configuration of the chip under test."""
    return ChipConfig.from_dict(_job()["config"])


def parameters() -> dict[str, Any]:
    """Inside the simulator: the parameters that :func:`run` was given."""
    return dict(_job()["parameters"])


def _job() -> dict[str, Any]:
    return dict(json.loads(Path(os.environ[_JOB_VARIABLE]).read_text(encoding="utf-8")))


def _count(results: Path) -> tuple[int, int]:
    """Tests passed and failed; none at all if the file is missing or broken, which is not a pass either."""
    try:
        cases = list(ET.parse(results).getroot().iter("testcase"))
    except (OSError, ET.ParseError):
        return 0, 0
    bad = sum(1 for case in cases if case.find("failure") is not None or case.find("error") is not None)
    skipped = sum(1 for case in cases if case.find("skipped") is not None)
    return len(cases) - bad - skipped, bad
