"""What all studies do at their end: write report, JSON and figures, and print the report; pieces of Markdown."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markdown import Markdown

from host.files import write_atomically
from host.reproduce.cells import J, Result


def finish(
    folder: Path,
    found: Mapping[str, Any],
    text: str,
    draw: Callable[[Mapping[str, Any], Path], Any],
    console: Console,
    *,
    names: tuple[str, str] = ("report.md", "results.json"),
    pictures: str = "figures",
) -> None:
    """Write the report, the figures of all tables as JSON and the pictures into `folder`, and print the report."""
    report, values = names
    write_atomically(folder / report, text.encode())
    write_atomically(folder / values, (json.dumps(found, indent=1) + "\n").encode())
    draw(found, folder)
    console.print(Markdown(text))
    console.print(f"Written to {folder}: {report}, {values} and {pictures}.", highlight=False, soft_wrap=True)


def mean_seconds(results: Mapping[J, Result], name: Callable[[J], str]) -> dict[str, float]:
    """Mean seconds of the jobs that have the same name."""
    groups: dict[str, list[float]] = defaultdict(list)
    for job, result in results.items():
        groups[name(job)].append(result["seconds"])
    return {title: round(sum(values) / len(values), 2) for title, values in sorted(groups.items())}


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """A Markdown table and an empty line."""
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    return lines + ["| " + " | ".join(row) + " |" for row in rows] + [""]


def section(
    title: str,
    prose: str = "",
    head: Sequence[str] = (),
    rows: Sequence[Sequence[str]] = (),
    figure: tuple[str, str] | None = None,
) -> list[str]:
    """A section: text, figure (caption and file), table; each only if it is given."""
    lines = [f"## {title}", ""]
    if prose:
        lines += [prose, ""]
    if figure is not None:
        caption, file = figure
        lines += [f"![{caption}]({file})", ""]
    return lines + (table(head, rows) if head else [])


def introduction(title: str, paragraphs: Sequence[str], found: Mapping[str, Any], quick: str) -> list[str]:
    """Title, paragraphs, what was left out, and the claims with their answers.

    Parameters
    ----------
    quick : what a quick run leaves out
    """
    lines = [f"# {title}", ""]
    for paragraph in paragraphs:
        lines += [paragraph, ""]
    if found["quick"]:
        lines += [f"**Quick run**: {quick} The full study runs without `--quick`.", ""]
    lines += [f"**Skipped**: {reason}\n" for reason in found["skipped"]]
    lines += ["## The claims", ""]
    for claim in found["claims"]:
        lines += [f"### {claim['claim']}: {claim['answer']}", "", *(f"- {line}" for line in claim["lines"]), ""]
    return lines


def costs(job_seconds: Mapping[str, float]) -> list[str]:
    """Section with the mean seconds of the jobs."""
    return section(
        "Cost of the study", "", ["job", "seconds (mean)"], [[n, f"{s:.1f}"] for n, s in job_seconds.items()]
    )


def yes(flag: bool) -> str:
    """An agreement that should be there, loudly if it is not."""
    return "yes" if flag else "**NO**"
