"""Run the proofs: ``python -m testbench.formal [--jobs N] [name ...]``."""

from __future__ import annotations

import argparse
import shutil
import sys
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

from testbench.formal.registry import FILE, markdown, proofs
from testbench.formal.solve import FormalToolError, Outcome, Provable, Verdict, find_solver

FOLDER = Path("build") / "formal"


def _timed(proof: Provable, mutant: str | None) -> tuple[Outcome, float]:
    """Run a proof, or that of its broken variant, in a folder of its own."""
    name = proof.name if mutant is None else f"{proof.name}-broken-{list(proof.mutants).index(mutant)}"
    folder = FOLDER / name
    shutil.rmtree(folder, ignore_errors=True)
    start = time.monotonic()
    outcome = proof.run(folder) if mutant is None else proof.refute(mutant, folder)
    return outcome, time.monotonic() - start


def main(arguments: list[str] | None = None) -> int:
    """0 if all was proved and every broken variant refuted, 1 if not, 2 if a tool or a proof's name is missing."""
    parser = argparse.ArgumentParser(prog="python -m testbench.formal", description=__doc__)
    parser.add_argument("--jobs", type=int, default=2, help="proofs at the same time (default: 2)")
    parser.add_argument(
        "names", nargs="*", metavar="name", help="proofs to run (default: all, and write docs/formal.md)"
    )
    chosen = parser.parse_args(arguments)
    known = proofs()
    if unknown := sorted(set(chosen.names) - set(known)):
        print(f"Error: no proof named {', '.join(unknown)}; there are {', '.join(known)}.", file=sys.stderr)
        return 2
    if chosen.jobs < 1:
        print(f"Error: --jobs {chosen.jobs}: must be at least 1.", file=sys.stderr)
        return 2
    failed = 0
    try:
        find_solver()
        with ThreadPoolExecutor(chosen.jobs) as pool:
            running = {
                pool.submit(_timed, proof, mutant): (proof, mutant)
                for proof in (known[name] for name in chosen.names or known)
                for mutant in (None, *proof.mutants)
            }
            try:
                for future in as_completed(running):
                    proof, mutant = running[future]
                    outcome, seconds = future.result()
                    failed += not _report(proof, mutant, outcome, seconds)
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise
    except FormalToolError as error:
        print(f"Error: {error}", file=sys.stderr)
        return 2
    if not chosen.names:
        FILE.write_text(markdown(), encoding="utf-8")
    print(f"{len(running) - failed} of {len(running)} as they should be")
    return int(failed > 0)


def _report(proof: Provable, mutant: str | None, outcome: Outcome, seconds: float) -> bool:
    """Print a line of the table; whether the outcome is the wanted one."""
    good = outcome.verdict is (Verdict.PROVED if mutant is None else Verdict.FAILED)
    what = proof.claim if mutant is None else f"broken: {mutant}"
    word = outcome.verdict.value if mutant is None else f"proof {outcome.verdict.value}"
    mark = "" if good else "  <-- WRONG"
    print(f"{proof.name} | {what} | {proof.method} | {proof.solver} | {word}, {seconds:.1f} s{mark}", flush=True)
    if not good:
        print(f"    {outcome.detail}", flush=True)
        if outcome.trace is not None:
            print(f"    trace: {outcome.trace}", flush=True)
    return good


if __name__ == "__main__":
    sys.exit(main())
