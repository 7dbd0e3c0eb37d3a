"""Command line of a study that has parts: ``python -m host.reproduce.STUDY --parts ...``."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from host.cli import one_sentence


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
