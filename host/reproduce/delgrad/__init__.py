"""The study of DelGrad: delays trained with the weights (Göltz, Weber, Kriener et al., arXiv 2404.19165).

The paper's abstract claims that trained transmission delays make spiking networks more accurate, save parameters and
have a stabilising effect on noisy hardware. Here the chip is clocked and its weights, delays and states are integers;
gradients come from the steps of first spikes alone (:class:`host.trainers.DelGrad`).

Networks learn on the golden model, on the ideal chip and on noisy dies. The simulated chip tests them again and repeats
one training as a whole; it has to agree to the bit. So do networks that the paper's authors stored.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console

from host.errors import ChipError
from host.reproduce.delgrad.figures import draw
from host.reproduce.delgrad.findings import digest
from host.reproduce.delgrad.settings import FULL, PARTS, QUICK, Job, Plan, missing_known, waves
from host.reproduce.delgrad.text import markdown
from host.reproduce.delgrad.work import do
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
        If the simulated chip does not agree with the golden model, or a stored network with what is known of it;
        everything is written before.
    """
    plan = plan or (QUICK if quick else FULL)
    study: Run[Job] = Run("delgrad", PARTS, parts, quick=quick, jobs=jobs, backend=backend, out=out, console=console)
    reason = missing_known() if plan.known else None
    if reason:
        study.skipped.append(f"the networks stored by the authors: {reason}")
    results = study.compute(partial(waves, plan), do, _name)
    report = partial(markdown, plan=plan)
    found = study.end(digest(plan, results), results, _long_name, report, draw)
    confirmation = found["confirmation"]
    differ = [entry["title"] for entry in confirmation["tests"] if not entry["agrees"]]
    differ += [f"the training of {each['title']}" for each in [confirmation["training"]] if each and not each["agrees"]]
    differ += [entry["golden"]["name"] for entry in found["known"] if not entry["agrees"]]
    if differ:
        raise ChipError(f"The chip does not do what it should: {'; '.join(differ)}.")
    return found


def _name(job: Job) -> str:
    return job.name or f"{job.kind}, {job.setting.dataset}, {job.setting.delays}"


def _long_name(job: Job) -> str:
    """With what the time of a job depends on."""
    if job.kind not in ("train", "confirm-training"):
        return f"{job.kind}, {job.setting.dataset}" if not job.name else job.kind
    setting = job.setting
    chip = "noisy die" if setting.noise else "ideal chip"
    return f"{_name(job)}, {setting.epochs} epochs, N={setting.steps_per_tau}, {chip}"
