"""Checkpoints: a NumPy archive with a JSON header, written atomically and checked when read."""

from __future__ import annotations

import json
import zipfile
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from host.errors import UserError
from host.files import save_arrays

FORMAT = "spikeloop-checkpoint"
FORMAT_VERSION = 1
_HEADER = "header"


class CheckpointError(UserError):
    """A checkpoint that is missing, damaged, foreign or of another training; the message is one sentence."""


@dataclass
class State:
    """Everything needed to go on with a training: JSON values and arrays."""

    meta: dict[str, Any] = field(default_factory=dict)
    arrays: dict[str, NDArray[Any]] = field(default_factory=dict)


def save(path: str | Path, state: State) -> None:
    """Write `state` to `path` atomically."""
    header = {"format": FORMAT, "version": FORMAT_VERSION, "meta": state.meta}
    text = np.frombuffer(json.dumps(header).encode(), dtype=np.uint8)
    arrays: dict[str, Any] = {_HEADER: text} | {f"a_{key}": value for key, value in state.arrays.items()}
    save_arrays(Path(path), arrays)


def load(path: str | Path) -> State:
    """Read a checkpoint; raises :class:`CheckpointError` with one sentence if there is none or it is damaged."""
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"There is no checkpoint at {path}.")
    try:
        with np.load(path, allow_pickle=False) as archive:
            if _HEADER not in archive.files:
                raise CheckpointError(f"The file {path} is no spikeloop checkpoint.")
            header = json.loads(archive[_HEADER].tobytes().decode())
            arrays = {name[2:]: archive[name] for name in archive.files if name != _HEADER}
    except CheckpointError:
        raise
    except (ValueError, OSError, EOFError, KeyError, zipfile.BadZipFile, zlib.error) as error:
        raise CheckpointError(f"The checkpoint {path} is damaged ({type(error).__name__}).") from None
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        raise CheckpointError(f"The file {path} is no spikeloop checkpoint.")
    if header.get("version") != FORMAT_VERSION:
        raise CheckpointError(
            f"The checkpoint {path} has format version {header.get('version')!r}; this program reads {FORMAT_VERSION}."
        )
    if not isinstance(header.get("meta"), dict):
        raise CheckpointError(f"The checkpoint {path} is damaged (no header fields).")
    return State(header["meta"], arrays)
