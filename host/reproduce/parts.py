"""What studies with parts share: their run from start to end, and ``python -m host.reproduce.STUDY --parts ...``."""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Generic

from rich.console import Console

from host.cli import one_sentence
from host.errors import UserError
from host.jobs import BACKENDS, allowed
from host.reproduce.cells import J, Result, cached, compute_shown
from host.reproduce.report import finish, mean_seconds
from host.runs import RunFolder, versions


class Run(Generic[J]):
    """One run of a study that has parts.

    Parameters
    ----------
    system : name of the study
    every : its parts
    parts : what to compute; the report has all parts that were computed before, too
    backend : "golden" leaves the simulated chip out

    Attributes
    ----------
    path : folder of the report
    skipped : what is left out and why
    simulate : whether the simulated chip takes part
    """

    def __init__(
        self,
        system: str,
        every: Sequence[str],
        parts: Iterable[str],
        *,
        quick: bool,
        jobs: int,
        backend: str | None,
        out: Path | None,
        console: Console,
    ) -> None:
        self.system, self.every, self.parts, self.quick, self.console = system, every, tuple(parts), quick, console
        for part in self.parts:
            if part not in every:
                raise UserError(f"Unknown part {part!r}; allowed are {', '.join(every)}.")
        if backend:
            allowed("backend", backend, BACKENDS)
        self.path = RunFolder.create(out or Path("runs") / f"reproduce-{system}{'-quick' if quick else ''}").path
        self.jobs = jobs or os.cpu_count() or 1
        self.started = time.perf_counter()
        self.simulate = backend != "golden"
        self.skipped: list[str] = []

    def compute(
        self,
        waves: Callable[[Iterable[str], bool], Sequence[Sequence[J]]],
        do: Callable[[Path, J], Result],
        name: Callable[[J], str],
    ) -> dict[J, Result]:
        """Results of the chosen parts, and those of the others that are stored.

        Parameters
        ----------
        waves : the jobs of parts, with or without the simulated chip; a wave begins when the one before has ended
        do : does a job, given the folder of the stored results
        """
        if not self.simulate and "confirmation" in self.parts:
            self.skipped.append("the simulated chip, as the backend is golden.")
        cells, chosen = self.path / "cells", waves(self.parts, self.simulate)
        builds = any(key.startswith("build-") for key in (job.key() for wave in chosen for job in wave))
        self.console.print(
            f"{sum(map(len, chosen))} jobs on {self.jobs} processes; finished ones are kept in {cells}."
            + (" The simulated chips are built first, a minute each." if builds else ""),
            highlight=False,
            soft_wrap=True,
        )
        results = compute_shown(chosen, partial(do, cells), cells, self.jobs, self.console, name)
        for job in (job for wave in waves(self.every, True) for job in wave if job not in results):
            stored = cached(cells, job)
            if stored is not None:
                results[job] = stored
        return results

    def end(
        self,
        found: dict[str, Any],
        results: Mapping[J, Result],
        name: Callable[[J], str],
        markdown: Callable[[Mapping[str, Any]], str],
        draw: Callable[[Mapping[str, Any], Path], Any],
    ) -> dict[str, Any]:
        """Write and print everything; the figures of all tables, with what the run was like.

        Parameters
        ----------
        name : of a job in the table of costs; those of the same name are averaged
        """
        found = found | {
            "system": self.system,
            "quick": self.quick,
            "skipped": self.skipped,
            "wall_s": time.perf_counter() - self.started,
            "job_seconds": mean_seconds(results, name),
            "versions": versions(),
        }
        finish(self.path, found, markdown(found), draw, self.console)
        return found


def main(name: str, description: str | None, parts: Sequence[str], run: Callable[..., Any]) -> None:
    """Read the arguments of ``python -m name`` and run the study."""
    parser = argparse.ArgumentParser(prog=f"python -m {name}", description=description)
    parser.add_argument("--parts", default=",".join(parts), help="comma-separated: %(default)s")
    parser.add_argument("--quick", action="store_true", help="the small plan")
    parser.add_argument("--jobs", type=int, default=0, help="processes; default: one per core")
    parser.add_argument("--backend", help="golden leaves the simulated chip out")
    parser.add_argument("--out", type=Path, help="folder; default: the study's in runs/")
    given = parser.parse_args()
    with one_sentence():
        run(
            quick=given.quick,
            jobs=given.jobs,
            backend=given.backend,
            out=given.out,
            console=Console(),
            parts=[part for part in given.parts.split(",") if part],
        )
