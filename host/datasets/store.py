"""Files of data sets: where they lie, how they get there, and that they are the right ones."""

from __future__ import annotations

import hashlib
import http.client
import io
import os
import tempfile
import urllib.request
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import platformdirs

from host.errors import UserError
from host.files import write_atomically

DATA_VARIABLE = "SPIKELOOP_DATA"
"""Environment variable that names the cache folder of data files."""

TIMEOUT = 20.0
"""Seconds without an answer after which a download gives up."""

CHUNK = 1 << 18
"""Bytes of a download between two calls of the progress callback."""

Progress = Callable[[str, int, int | None], None]
"""Called with a file's name, the bytes received so far, and the bytes in all (``None`` if the server does not say)."""


class DatasetError(UserError):
    """A data set that is unknown, cannot be found or cannot be split as asked; the message is one sentence."""


@dataclass(frozen=True)
class DataFile:
    """A file of a data set.

    Attributes
    ----------
    sha256 : checksum in hexadecimal digits
    folders : where it is looked for in the cache folder, in this order; a download is kept in the first
    urls : where it can be downloaded, tried in this order
    """

    name: str
    sha256: str
    folders: tuple[str, ...]
    urls: tuple[str, ...] = ()

    @property
    def home(self) -> Path:
        """Where a download is kept."""
        return data_folder() / self.folders[0] / self.name


@dataclass(frozen=True)
class Archive:
    """A zip file of data files: its members are ``prefix + name``, and `members` are those that are kept."""

    file: DataFile
    prefix: str
    members: tuple[DataFile, ...]


def data_folder() -> Path:
    """Cache folder of data files: ``$SPIKELOOP_DATA``, else the user's cache folder."""
    named = os.environ.get(DATA_VARIABLE)
    return Path(named).expanduser() if named else Path(platformdirs.user_cache_dir("spikeloop")) / "data"


def find(file: DataFile) -> Path | None:
    """Path of a file in the cache folder, or ``None``."""
    paths = (data_folder() / folder / file.name for folder in file.folders)
    try:
        return next((path for path in paths if path.is_file()), None)
    except OSError as error:
        raise DatasetError(f"Cannot look into the cache folder {data_folder()}: {error.strerror}.") from None


def read(path: Path) -> bytes:
    """Contents of a file; raises :class:`DatasetError` if it cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise DatasetError(f"Cannot read the data file {path}: {error.strerror}.") from None


def verify(data: bytes, sha256: str, where: object) -> None:
    """Raise :class:`DatasetError` unless the checksum of `data`, which came from `where`, is `sha256`."""
    if hashlib.sha256(data).hexdigest() != sha256:
        raise DatasetError(
            f"The data file {where} is damaged or another version (its SHA-256 is not {sha256[:12]}...); delete it "
            "to have it downloaded again."
        )


def fetch(
    file: DataFile, progress: Progress | None = None, *, archive: Archive | None = None, advice: str | None = None
) -> tuple[str, bytes]:
    """Name for messages and contents of a data file: from the cache folder, or else downloaded and kept there.

    What is downloaded is verified; what lies in the folder is for the caller to verify, who can say more about what
    is wrong with it. A folder that cannot be written costs a download per call, nothing else (an archive needs it).

    Parameters
    ----------
    archive : the zip file that the file comes in, taken from the cache folder too
    advice : end of the sentence for a file that is nowhere to be had
    """
    path = find(file)
    if path is not None:
        return str(path), read(path)
    advice = advice or f"put it into {file.home.parent}"
    if archive is not None:
        packed = find(archive.file)
        if packed is None:
            _unpack_download(archive, progress, advice)
            return str(file.home), read(file.home)
        return f"{file.name} in {packed}", _members(packed, archive.prefix, (file,))[0]
    memory = io.BytesIO()
    _download(file, memory, progress, advice)
    data = memory.getvalue()
    try:
        file.home.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(file.home, data)
    except OSError:
        pass
    return str(file.home), data


def _download(file: DataFile, sink: IO[bytes], progress: Progress | None, advice: str) -> None:
    """Write a file into `sink` from the first address that delivers it whole and undamaged."""
    failures = []
    for url in file.urls:
        sink.seek(0)
        sink.truncate()
        digest, received = hashlib.sha256(), 0
        try:
            with urllib.request.urlopen(url, timeout=TIMEOUT) as answer:
                length = getattr(answer, "headers", {}).get("Content-Length")
                total = int(length) if length else None
                while chunk := answer.read(CHUNK):
                    sink.write(chunk)
                    digest.update(chunk)
                    received += len(chunk)
                    if progress is not None:
                        progress(file.name, received, total)
        except (OSError, http.client.HTTPException, ValueError) as error:
            failures.append(f"{url}: {getattr(error, 'reason', None) or error}")
            continue
        if total is not None and received < total:
            failures.append(f"{url}: broke off after {received} of {total} bytes")
        elif digest.hexdigest() != file.sha256:
            failures.append(f"{url}: damaged or another version, its SHA-256 is not {file.sha256[:12]}...")
        else:
            return
    raise DatasetError(
        f"The file {file.name} is neither in the cache folder {data_folder()} nor could it be downloaded "
        f"({'; '.join(failures)}): {advice}, or point {DATA_VARIABLE} at a folder that has it."
    )


def _members(path: Path, prefix: str, files: tuple[DataFile, ...]) -> list[bytes]:
    try:
        with zipfile.ZipFile(path) as packed:
            return [packed.read(prefix + file.name) for file in files]
    except KeyError as error:
        raise DatasetError(f"The data file {path} is another archive ({error.args[0]}).") from None
    except (OSError, zipfile.BadZipFile, EOFError, ValueError) as error:
        raise DatasetError(
            f"The data file {path} is damaged ({error}); delete it to have it downloaded again."
        ) from None


def _unpack_download(archive: Archive, progress: Progress | None, advice: str) -> None:
    """Download an archive, keep its members, and delete it."""
    folder = archive.file.home.parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".", suffix=".part") as partial:
            _download(archive.file, partial, progress, advice)
            partial.flush()
            contents = _members(Path(partial.name), archive.prefix, archive.members)
            for file, data in zip(archive.members, contents, strict=True):
                verify(data, file.sha256, f"{file.name} in {archive.file.name}")
            for file, data in zip(archive.members, contents, strict=True):
                write_atomically(file.home, data)
    except OSError as error:
        raise DatasetError(f"Cannot keep {archive.file.name} in the cache folder {folder}: {error.strerror}.") from None
