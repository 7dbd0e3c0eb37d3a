"""All proofs, and the page that lists them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from testbench.formal import arithmetic, frames, netlists, serial, streams, walk
from testbench.formal.solve import Group, Provable

FILE = Path(__file__).parents[2] / "docs" / "formal.md"

GROUPS: tuple[Group, ...] = (arithmetic.GROUP, streams.GROUP, serial.GROUP, frames.GROUP, walk.GROUP, netlists.GROUP)

_INTRODUCTION = """\
# Proofs

Written by `python -m testbench.formal`. `make formal` proves all of this anew, in some minutes on two cores, with Yosys
and Z3 from Python packages; `python -m testbench.formal NAME ...` some of it. A failed proof leaves a trace (VCD) and
says where.

The blocks are the classes of `rtl/`, the claims are written in Amaranth around them (`testbench/formal/`).

* *all inputs*: a function without a memory, proved for every value of its inputs.
* *unbounded, k-induction*: holds in every cycle after power-up, however long it runs.
* *bounded, n cycles*: holds in the first n cycles after power-up; nothing is said of later ones.
* *equivalence*: registers of the same name hold the same values for ever, if they do at the start.

A proof from contradictory assumptions would prove anything. So what is to be possible under them is reached by a search
as well, and for each group there are broken variants of the blocks, below, whose proofs must fail.
"""


def proofs() -> dict[str, Provable]:
    """Every proof by its name."""
    found = [proof for group in GROUPS for proof in group.proofs]
    by_name = {proof.name: proof for proof in found}
    assert len(by_name) == len(found), "two proofs have the same name"
    return by_name


def table(heads: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A table in Markdown."""
    heads = tuple(heads)
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def markdown() -> str:
    """The page ``docs/formal.md``."""
    parts = [_INTRODUCTION]
    for group in GROUPS:
        rows = [(f"`{proof.name}`", proof.claim, proof.method, proof.solver) for proof in group.proofs]
        parts += [f"## {group.title}\n", f"{group.text}\n", table(("proof", "what", "how", "by"), rows) + "\n"]
    broken = [(f"`{proof.name}`", mutant) for proof in proofs().values() for mutant in proof.mutants]
    parts += [
        "## Broken variants\n",
        "The proof of each must fail.\n",
        table(("proof", "what is broken"), broken) + "\n",
    ]
    return "\n".join(parts)
