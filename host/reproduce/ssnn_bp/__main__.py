"""Parts of the study by themselves: ``python -m host.reproduce.ssnn_bp --parts steps,bits``."""

from __future__ import annotations

import argparse
from pathlib import Path

from rich.console import Console

from host.cli import one_sentence
from host.reproduce.ssnn_bp import PARTS, run


def main() -> None:
    """Command line of this module; ``spikeloop reproduce ssnn-bp`` runs all parts."""
    parser = argparse.ArgumentParser(prog="python -m host.reproduce.ssnn_bp", description=__doc__)
    parser.add_argument("--parts", default=",".join(PARTS), help="comma-separated: %(default)s")
    parser.add_argument("--quick", action="store_true", help="the small plan")
    parser.add_argument("--jobs", type=int, default=0, help="processes; default: one per core")
    parser.add_argument("--backend", help="golden leaves the simulated chip out")
    parser.add_argument("--out", type=Path, help="folder; default: runs/reproduce-ssnn-bp")
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


if __name__ == "__main__":
    main()
