"""The README does what it says: its Python runs, its commands, options, targets and links exist."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from host import cli
from host.jobs import RunSpec

ROOT = Path(__file__).resolve().parent.parent
PAGES = ("README.md", "CONTRIBUTING.md")


def blocks(page: str, language: str) -> list[str]:
    """Code blocks of a language in a page."""
    text = (ROOT / page).read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```$", text, flags=re.DOTALL | re.MULTILINE)


def commands(program: str) -> list[list[str]]:
    """Words of the shell commands in the pages that start with `program`, without comments."""
    lines = [line for page in PAGES for block in blocks(page, "sh") for line in block.splitlines()]
    found = [shlex.split(line, comments=True) for line in lines]
    return [words for words in found if words and Path(words[0]).name == program]


PYTHON = blocks("README.md", "python")


def test_there_is_python_to_run() -> None:
    assert len(PYTHON) == 3


@pytest.mark.parametrize("code", PYTHON, ids=range(len(PYTHON)))
def test_python_runs_on_the_golden_model(code: str, tmp_path: Path) -> None:
    assert 'backend="golden"' in code
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        cwd=tmp_path,
        env=None,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    # Where a comment says what is printed, that is what is printed.
    printed = " ".join(result.stdout.split())
    for promise in re.findall(r"#.*?: +(\[\[.*\]\])", code):
        assert promise in re.sub(r"\[ +", "[", printed)


def test_targets_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE))
    text = "\n".join((ROOT / page).read_text(encoding="utf-8") for page in PAGES)
    mentioned = set(re.findall(r"(?:`|^)make ([a-z-]+)", text, flags=re.MULTILINE))
    assert {"sim", "test", "verilog", "reproduce"} <= mentioned
    assert mentioned <= targets


def test_commands_and_their_options_exist() -> None:
    group = typer.main.get_command(cli.app)
    known = group.commands  # type: ignore[attr-defined]
    found = commands("spikeloop")
    assert {words[1] for words in found} >= {"train", "evaluate", "datasets", "info"}
    for words in found:
        options = {option for parameter in known[words[1]].params for option in parameter.opts}
        assert {word for word in words if word.startswith("--")} <= options, words


def test_links_lead_somewhere() -> None:
    for page in (*PAGES, "CHANGELOG.md"):
        for target in re.findall(r"\]\(([^)#]+)\)", (ROOT / page).read_text(encoding="utf-8")):
            if not target.startswith("https://"):
                assert (ROOT / target).exists(), f"{page}: {target}"


def test_the_sizes_it_names_are_those_of_the_main_job() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    layers = "-".join(str(size) for size in (30, *RunSpec().hidden, 2))
    assert f"a {layers} network on {RunSpec().train_size} samples" in text
