"""Official files: checked where they are, downloaded where they are not.

What is missing is downloaded into a folder of its own, checked, and only then moved into place.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import shutil
import sys
import tarfile
import tempfile
import urllib.request
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from drelu_cli.core.errors import DataError
from drelu_cli.data.releases import Archive, Official
from drelu_cli.runtime.vision import import_torchvision

# Without an answer for so long a server counts as gone.
_SECONDS = 60
_BLOCK = 1 << 20


def fetched(release: Official, data_dir: Path) -> Path:
    """The folder with the release's files, all there and whole; downloads what is missing.

    Raises:
        DataError: a damaged file, which is named and left as it is, or a failed download.
    """
    folder = data_dir / release.folder
    missing = [name for name in release.files if not (folder / name).is_file()]
    _verify(release, folder, [name for name in release.files if name not in missing])
    if missing:
        _download(release, data_dir, missing)
    return folder


def unpacked(archive: Archive, data_dir: Path) -> Path:
    """The folder that the archive unpacks to; unpacks and, before that, downloads what is missing.

    An archive that lies in the data folder under its own name is used, and left there.

    Raises:
        DataError: a damaged archive, which is named and left as it is, or a failed download.
    """
    folder = data_dir / archive.folder
    if folder.is_dir():
        return folder
    file = data_dir / archive.url.rpartition("/")[2]
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=data_dir, prefix=".download-") as scratch:
            if not file.is_file():
                file = Path(scratch) / file.name
                _copy(archive.url, file)
            _check(archive.name, file, archive.size, archive.md5)
            with zipfile.ZipFile(file) as content:
                content.extractall(scratch)
            (Path(scratch) / archive.folder).replace(folder)
    except (
        OSError,
        EOFError,
        http.client.HTTPException,
        zipfile.BadZipFile,
        zlib.error,
    ) as problem:
        raise DataError(
            f"{archive.name} is not in {folder} and cannot be downloaded: {_reason(problem)}",
            hint=f"put {archive.url} or what it unpacks to into {data_dir} by hand",
        ) from problem
    return folder


def _verify(release: Official, folder: Path, names: Sequence[str]) -> None:
    for name in names:
        _check(release.name, folder / name, *release.files[name])


def _check(release: str, file: Path, size: int | None, md5: str | None) -> None:
    try:
        found = file.stat().st_size
        whole = size in (None, found) and md5 in (None, _md5(file))
    except OSError as problem:
        raise DataError(f"{file} cannot be read: {problem.strerror}") from problem
    if not whole:
        short = size is not None and found != size
        what = f"{found:,} bytes, not {size:,}" if short else "its md5 is not the official one"
        raise DataError(
            f"{release}: {file} is damaged: {what}",
            hint="delete it and run again: it will be downloaded",
        )


def _download(release: Official, data_dir: Path, names: Sequence[str]) -> None:
    """Fetches into a folder beside the final one; a file that is in place is whole."""
    folder = data_dir / release.folder
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=data_dir, prefix=".download-") as scratch:
            _fetch(release, Path(scratch))
            _verify(release, Path(scratch) / release.folder, names)
            folder.mkdir(parents=True, exist_ok=True)
            for name in names:
                (Path(scratch) / release.folder / name).replace(folder / name)
    # torchvision raises RuntimeError for a wrong md5 or when every mirror failed.
    except (
        OSError,
        RuntimeError,
        EOFError,
        http.client.HTTPException,
        tarfile.TarError,
    ) as problem:
        raise DataError(
            f"{release.name} is not in {folder} and cannot be downloaded: {_reason(problem)}",
            hint=f"put {', '.join(names)} there by hand, or use the embedded data set digits",
        ) from problem


def _fetch(release: Official, root: Path) -> None:
    source: Any = getattr(import_torchvision().datasets, release.source)
    # stdout belongs to the command's own output, which may be one JSON document.
    with contextlib.redirect_stdout(sys.stderr):
        source(str(root), download=True)


def _copy(url: str, file: Path) -> None:
    sys.stderr.write(f"Downloading {url}\n")
    with urllib.request.urlopen(url, timeout=_SECONDS) as source, file.open("wb") as target:
        shutil.copyfileobj(source, target, _BLOCK)


def _reason(problem: Exception) -> str:
    return str(problem).strip().replace("\n", " ") or type(problem).__name__


def _md5(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
