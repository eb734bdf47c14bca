"""Folders that travel as bytes, where driver and worker share no file system."""

from __future__ import annotations

import hashlib
import io
import os
import secrets
import shutil
import tarfile
import tempfile
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from drelu_cli.core.errors import StoreError
from drelu_cli.runtime.locks import take

# A folder with this suffix is half-made or half-removed: whoever finds it may delete it.
RUBBISH = ".gone"
_MARK = ".seen-"


@dataclass(frozen=True)
class Manifest:
    """Files that jobs read.

    Attributes:
        folder: where the driver has them.
        files: names below it, with their sizes.
        content: SHA-256 over names and bytes, hexadecimal. Sizes do not tell MNIST from another
            MNIST, and a machine keeps what was carried there.
    """

    folder: str
    files: tuple[tuple[str, int], ...] = ()
    content: str = ""

    @classmethod
    def of(cls, folder: Path, names: Iterable[str]) -> Manifest:
        """The manifest of files that are there; reads them once."""
        names = sorted(set(names))
        content = hashlib.sha256()
        for name in names:
            with (folder / name).open("rb") as file:
                content.update(name.encode() + b"\0")
                content.update(hashlib.file_digest(file, "sha256").digest())
        sizes = tuple((name, (folder / name).stat().st_size) for name in names)
        return cls(str(folder), sizes, content.hexdigest())

    def is_visible(self) -> bool:
        """Whether the files lie here at the driver's own path."""
        return all(_size(Path(self.folder, name)) == size for name, size in self.files)

    def packed(self) -> bytes:
        """The files as bytes."""
        return _tar(Path(self.folder), [name for name, _ in self.files])


def _size(file: Path) -> int | None:
    try:
        return file.stat().st_size
    except OSError:
        return None


def marked(folder: Path) -> str:
    """Leaves a mark in the driver's folder, by which a worker knows that it sees the same one."""
    token = secrets.token_hex(8)
    (folder / f"{_MARK}{token}").touch()
    return token


def has_mark(folder: Path, token: str) -> bool:
    """Whether `folder` is, from here, the one that the driver marked."""
    return (folder / f"{_MARK}{token}").exists()


def packed(folder: Path) -> bytes:
    """A folder as bytes, without locks, marks and half-written files."""
    names = (file.relative_to(folder) for file in sorted(folder.rglob("*")) if file.is_file())
    return _tar(folder, [str(name) for name in names if _travels(name)])


def _travels(name: Path) -> bool:
    # Hidden files of a store are its locks and what a killed process had half written.
    return not name.name.startswith(".") and ".tmp" not in name.name


def _tar(folder: Path, names: Iterable[str]) -> bytes:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as archive:
        for name in names:
            archive.add(folder / name, arcname=name, recursive=False)
    return content.getvalue()


def unpacked(content: bytes, folder: Path) -> None:
    """Puts a packed folder into the place of `folder`: the old one or the new one, never half.

    Raises:
        StoreError: it cannot be written.
    """
    new = folder.with_name(f"{folder.name}.{os.getpid()}.new{RUBBISH}")
    old = folder.with_name(f"{folder.name}.{os.getpid()}.old{RUBBISH}")
    shutil.rmtree(new, ignore_errors=True)
    try:
        new.mkdir(parents=True)
        with tarfile.open(fileobj=io.BytesIO(content)) as archive:
            archive.extractall(new, filter="data")
        with suppress(FileNotFoundError):
            folder.rename(old)
        new.rename(folder)
    except OSError as problem:
        raise StoreError(
            f"{folder} cannot be written: {problem.strerror or problem}", hint="is the disk full?"
        ) from problem
    finally:
        shutil.rmtree(new, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


# On the worker's machine


def node_folder() -> Path:
    """This user's folder on this machine, for what was carried here."""
    user = os.getuid() if hasattr(os, "getuid") else 0
    folder = Path(tempfile.gettempdir()) / f"drelu-{user}"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if hasattr(os, "getuid") and folder.stat().st_uid != user:
        raise StoreError(f"{folder} belongs to another user", hint="set TMPDIR to another folder")
    return folder


def data_here(manifest: Manifest) -> Path:
    """Where this machine keeps the files of `manifest`, once they were carried here."""
    return node_folder() / "data" / manifest.content[:16]


def keep_data(manifest: Manifest, content: bytes) -> None:
    """Unpacks the data once per machine; the second job that wants to waits, then finds it."""
    folder = data_here(manifest)
    folder.parent.mkdir(exist_ok=True)
    lock = take(folder.with_name(f".{folder.name}.lock"), wait=None)
    try:
        if not folder.is_dir():
            unpacked(content, folder)
    finally:
        if lock is not None:
            lock.close()
