"""The study of BiSNN: binary weights by straight-through and by Bayesian training (Jang et al., arXiv 2012.08300).

The paper's abstract claims that the Bayesian rule is more accurate and better calibrated than the straight-through one,
and that both lose little against full precision. Here weights are single bits on a chip that takes part in the training
(:mod:`host.trainers.binary`); accuracy, calibration and confidence on foreign inputs are measured on two moons, digits
and MNIST, on ideal chips and on dies whose thresholds are off.

Networks learn on the golden model. The simulated chip answers the test samples again and has to agree to the bit, with
the networks, modes and all ensemble members of two moons (gradients through all layers), of digits, of dies (deployed,
and trained with the first read-out) and of MNIST (ST). It repeats two trainings on digits from start
to end. Networks of other read-outs, local losses, attempts and grids, and answers to foreign inputs are the golden
model's alone.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console

from host.errors import ChipError
from host.reproduce.bisnn.figures import draw
from host.reproduce.bisnn.findings import digest
from host.reproduce.bisnn.settings import FULL, PARTS, QUICK, Job, Plan, missing, waves
from host.reproduce.bisnn.text import markdown
from host.reproduce.bisnn.work import do
from host.reproduce.parts import Run

__all__ = ["FULL", "PARTS", "QUICK", "Plan", "run"]


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
    study: Run[Job] = Run("bisnn", PARTS, parts, quick=quick, jobs=jobs, backend=backend, out=out, console=console)
    reason = missing(plan)
    if reason:
        study.skipped.append(reason)
        plan = plan.without_mnist()
    results = study.compute(partial(waves, plan), do, _name)
    found = study.end(digest(plan, results), results, _name, partial(markdown, plan=plan), draw)
    confirmation = found["confirmation"]
    differ = [entry["title"] for entry in confirmation["tests"] if not entry["agrees"]]
    differ += [f"the training of {entry['title']}" for entry in confirmation["trainings"] if not entry["agrees"]]
    if differ:
        raise ChipError(f"The simulated chip and the golden model differ: {'; '.join(differ)}.")
    return found


def _name(job: Job) -> str:
    return f"{job.kind}, {job.setting.dataset}" + (f", {job.setting.rule}" if job.setting.rule else "")
