"""Cells of a study: small independent jobs, cached as JSON files, so that an interrupted study continues."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from host.files import write_atomically

Result = dict[str, Any]


class Job(Protocol):
    """What a cell must be able to do; cells are frozen dataclasses."""

    def key(self) -> str:
        """Name of the cache file."""
        ...

    def cost(self) -> float:
        """Rough cost; only ratios matter."""
        ...


J = TypeVar("J", bound=Job)


def digest_of(fields: Mapping[str, Any]) -> str:
    """Short hash of plain values."""
    return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()[:12]


@dataclass(frozen=True)
class Cell:
    """One job: what to train on which die with which data. Equal cells give equal results.

    Attributes
    ----------
    group : which part of the study it belongs to (does not change the result)
    learner : "mh", "greedy", "logistic" or a mode of the backprop trainer
    distortion : arguments of :class:`host.die.Die` besides the seed, as sorted pairs; empty for the ideal chip
    seed : of split, die, start and training
    """

    group: str
    learner: str
    dataset: str
    train_size: int
    seed: int
    distortion: tuple[tuple[str, float], ...] = ()
    steps: int = 0
    start_sd: float = 24.0
    prior_sd: float = 32.0
    backend: str = "golden"

    def key(self) -> str:
        """Name of the cache file: readable, and unique through a hash of all fields but the group."""
        fields = asdict(self)
        fields.pop("group")
        return f"{self.learner}-{self.dataset}-{self.train_size}-{self.seed}-{digest_of(fields)}"

    def cost(self) -> float:
        """In chip presentations, weighted by network and backend."""
        inputs = 2.0 if self.dataset == "breast-cancer" else 1.0
        factor = inputs * (3.0 if self.backend == "sim" else 1.0)
        if self.learner in ("mh", "greedy"):
            return factor * self.steps * (self.train_size + 60)
        if self.learner == "logistic":
            return 100.0
        presentations = self.steps * (min(self.train_size, 64) + 120)
        return presentations * (factor if self.learner.startswith("in-loop") else inputs)


def cached(folder: Path, cell: Job) -> Result | None:
    """The stored result of a cell, or ``None``; damaged files count as absent."""
    try:
        stored = json.loads((folder / f"{cell.key()}.json").read_text())
    except (OSError, ValueError):
        return None
    return stored["result"] if isinstance(stored, dict) and "result" in stored else None


def _store(folder: Path, cell: Any, result: Result) -> None:
    text = json.dumps({"cell": asdict(cell), "result": result}, indent=1)
    write_atomically(folder / f"{cell.key()}.json", text.encode())


def _timed(work: Callable[[J], Result], cell: J) -> Result:
    started = time.perf_counter()
    return work(cell) | {"seconds": time.perf_counter() - started}


def _quiet() -> None:
    """Start of a worker process: Ctrl-C is the parent's business."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def compute(
    cells: Iterable[J], work: Callable[[J], Result], folder: Path, jobs: int
) -> Iterator[tuple[J, Result, bool]]:
    """Results of all cells as they finish, and whether each came from the cache.

    Workers are started afresh (not forked), so that no simulator or thread of the parent is shared.
    """
    folder.mkdir(parents=True, exist_ok=True)
    todo = []
    for cell in dict.fromkeys(cells):
        found = cached(folder, cell)
        if found is None:
            todo.append(cell)
        else:
            yield cell, found, True
    if not todo:
        return
    todo.sort(key=lambda cell: cell.cost(), reverse=True)  # long ones first, so that the cores finish together
    # The environment must be set before a worker imports NumPy.
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")
    before = {name: os.environ.get(name) for name in names}
    os.environ.update(dict.fromkeys(names, "1"))
    pool = ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("spawn"), initializer=_quiet)
    try:
        running = {pool.submit(_timed, work, cell): cell for cell in todo}
        while running:
            done, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                cell, result = running.pop(future), future.result()
                _store(folder, cell, result)
                yield cell, result, False
    except BaseException:
        for process in multiprocessing.active_children():
            process.terminate()  # cells under way are lost, finished ones are stored
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def compute_shown(
    waves: Iterable[Iterable[J]],
    work: Callable[[J], Result],
    folder: Path,
    jobs: int,
    console: Console,
    name: Callable[[J], str],
) -> dict[J, Result]:
    """Results of all cells, with a progress bar; a wave of cells begins when the one before has ended."""
    bars = Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=30),
        TextColumn("{task.percentage:3.0f} %"),
        TextColumn("{task.fields[last]}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=console,
    )
    groups = [list(dict.fromkeys(wave)) for wave in waves]
    results: dict[J, Result] = {}
    with bars:
        task = bars.add_task("study", total=sum(cell.cost() for group in groups for cell in group), last="")
        for group in groups:
            for cell, result, from_cache in compute(group, work, folder, jobs):
                results[cell] = result
                label = "from the cache" if from_cache else f"{name(cell)}: {result['seconds']:.1f} s"
                bars.update(task, advance=cell.cost(), last=label)
    return results


def summarise(values: Iterable[float]) -> dict[str, float]:
    """Mean, standard deviation over dies, worst die, standard error of the mean, number (of shares 0..1)."""
    numbers = list(values)
    n = len(numbers)
    mean = sum(numbers) / n
    spread = (sum((value - mean) ** 2 for value in numbers) / max(1, n - 1)) ** 0.5
    return {"mean": mean, "sd": spread, "worst": min(numbers), "se": spread / n**0.5, "n": n}


def paired(first: Mapping[int, float], second: Mapping[int, float]) -> dict[str, float] | None:
    """Mean of first - second over the seeds that both have, its standard error, and how many reach 27 points."""
    seeds = sorted(set(first) & set(second))
    if not seeds:
        return None
    differences = [first[seed] - second[seed] for seed in seeds]
    return summarise(differences) | {"reach_27": sum(value >= 0.27 for value in differences)}
