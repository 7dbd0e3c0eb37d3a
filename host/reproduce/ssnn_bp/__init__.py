"""The study of SSNN-BP: backpropagation with spikes on the chip (Biswas, Saraswat and Ganguly, arXiv 2207.09755).

The paper's abstract claims that a spiking network whose gradients travel as positive and negative spike streams, and
whose output is winner-take-all, does as well as an ANN of the same architecture on images and event data, and that it
approaches backpropagation in the ANN when the spike trains are long enough. The paper's equations and settings are not
used; the chip's rules are a reconstruction that is consistent with the abstract.

Networks learn on the golden model, beside an ANN on the same samples (:mod:`host.baseline`). The simulated chip repeats
the beginning of every training and the test of every trained network; it has to agree to the bit.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console

from host.errors import ChipError
from host.reproduce.parts import Run
from host.reproduce.ssnn_bp.figures import draw
from host.reproduce.ssnn_bp.findings import digest
from host.reproduce.ssnn_bp.settings import FULL, PARTS, QUICK, SETTINGS, Job, Plan, missing, restricted, waves
from host.reproduce.ssnn_bp.text import markdown
from host.reproduce.ssnn_bp.work import do

__all__ = ["FULL", "PARTS", "QUICK", "SETTINGS", "Plan", "run"]


def run(
    *,
    quick: bool,
    jobs: int,
    backend: str | None,
    out: Path | None,
    console: Console,
    parts: Iterable[str] = PARTS,
    plan: Plan | None = None,
) -> dict[str, Any]:
    """Run or continue the study; writes report, JSON and figures, prints the report, and returns what was found.

    Parameters
    ----------
    backend : "golden" leaves the simulated chip out
    parts : what to compute; the report has all parts that were computed before, too
    plan : instead of the full or the quick one

    Raises
    ------
    ChipError
        If the simulated chip does not agree with the golden model; everything is written before.
    """
    plan = plan or (QUICK if quick else FULL)
    study: Run[Job] = Run("ssnn-bp", PARTS, parts, quick=quick, jobs=jobs, backend=backend, out=out, console=console)
    absent = missing(plan)
    study.skipped += [f"everything on {name}: {reason}" for name, reason in absent.items()]
    wanted, plan = plan.main, restricted(plan, absent)
    if plan.main != wanted:
        study.skipped.append(f"the sweeps over {wanted}; they are over {plan.main} instead.")
    results = study.compute(partial(waves, plan), do, _name)
    report = partial(markdown, plan=plan)
    found = study.end(digest(plan, results), results, _long_name, report, draw)
    differ = [entry["title"] for entry in found["confirmation"] if not entry["agrees"]]
    if differ:
        raise ChipError(f"The simulated chip and the golden model differ: {'; '.join(differ)}.")
    return found


def _name(job: Job) -> str:
    return f"{job.kind}, {job.setting.dataset}"


def _long_name(job: Job) -> str:
    """With what the time of a training depends on."""
    if job.kind not in ("chip", "ann"):
        return _name(job)
    steps = f", T={job.setting.timesteps}" if job.kind == "chip" else ""
    return f"{_name(job)}, {job.setting.epochs} epochs{steps}"
