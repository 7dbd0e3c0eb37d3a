"""The report: drawn from the folder alone, self-contained, for every kind of run."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from host.jobs import RunSpec, train
from host.report import write_report
from host.runs import RunError, RunFolder

BASE = {"backend": "golden", "train_size": 30, "timesteps": 8, "hidden": (5,)}


BINARY = {"dataset": "moons-25", "epochs": 2, "weight_bits": 1, "read_out": "recompute"}


@pytest.mark.parametrize(
    "settings",
    [
        {"dataset": "moons", "steps": 40, "die": 2, "mismatch": 2.0},
        {"dataset": "yin-yang", "steps": 5, "trainer": "surrogate", "mode": "in-loop", "hidden": (4, 3)},
        {"dataset": "moons", "steps": 5, "trainer": "surrogate", "mode": "ideal"},
        {"dataset": "moons", "steps": 1, "greedy": True, "hidden": ()},
        {**BINARY, "trainer": "bisnn-bayes", "hidden": (6, 4), "die": 2, "options": (("members", 2),)},
        {**BINARY, "trainer": "bisnn-st", "validation_size": 20},
    ],
)
def test_report_is_self_contained(tmp_path: Path, settings: dict) -> None:  # type: ignore[type-arg]
    run = RunFolder.create(tmp_path)
    train(RunSpec(**{**BASE, **settings}), run)
    page = (tmp_path / "report.html").read_text()
    sources = re.findall(r'src="([^"]*)"', page)
    assert len(sources) >= 4
    assert all(source.startswith("data:image/png;base64,") for source in sources)
    assert "http" not in page
    for name in ("learning-curve", "raster", "confusion", "weights"):
        assert (tmp_path / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "die.png").exists() == ("die" in settings)
    assert (tmp_path / "reliability.png").exists() == ("weight_bits" in settings) == ("Brier" in page)
    before = {path.name: path.read_bytes() for path in tmp_path.glob("*.png")}
    write_report(run)  # again, without the chip: the same bytes
    assert before == {path.name: path.read_bytes() for path in tmp_path.glob("*.png")}


def test_report_of_nothing(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"no result\.json"):
        write_report(RunFolder.open(tmp_path))
