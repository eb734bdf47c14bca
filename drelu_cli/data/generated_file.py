"""A file of generated images: what it holds, where its pixels lie, and its digest.

The digest covers images and labels as stored, so an .npz keeps it when it is compressed, copied
or renamed. It is taken once per file: path, size and times of its last change stand for it after.
"""

from __future__ import annotations

import contextlib
import hashlib
import struct
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from drelu_cli.core.errors import DataError

_KEYS = ("image", "label")
_BLOCK = 1 << 20
# A zip member starts with 30 bytes; the last four give the lengths of name and extra field.
_LOCAL_HEADER = 30
_DAMAGES = (zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError, KeyError, struct.error)


@dataclass(frozen=True, eq=False)
class GeneratedFile:
    """What a file of generated images holds.

    Attributes:
        file: the .npz.
        digest: sha256 of images and labels, 64 hexadecimal digits.
        shape: (M, H, W, C).
        labels: (M,) int64.
        pixels: the file in which the pixels lie uncompressed.
        offset: where in it they begin, in bytes.
    """

    file: Path
    digest: str
    shape: tuple[int, int, int, int]
    labels: NDArray[np.int64]
    pixels: Path
    offset: int


def examined(file: Path, cache: Path) -> GeneratedFile:
    """Reads what is small, takes the digest, unpacks what is compressed.

    Raises:
        DataError: not an .npz, damaged, arrays that are missing or of the wrong kind, no room to
            unpack.
    """
    if not zipfile.is_zipfile(file):
        raise DataError(f"{file} is no npz file, or is cut short", hint="write it with numpy.savez")
    with _named(file), zipfile.ZipFile(file) as archive:
        _check_keys(file, archive)
        with archive.open("image.npy") as member:
            shape, start = _header(member, file)
        labels = _labels(file, archive, len_=shape[0])
        digest = _digest(file, archive, cache)
        info = archive.getinfo("image.npy")
        if info.file_size != start + int(np.prod(shape)):
            raise DataError(f"{file} is damaged: `image` is cut short")
        if info.compress_type == zipfile.ZIP_STORED:
            pixels, offset = file, _member_start(file, info) + start
        else:
            pixels, offset = _unpacked(archive, info, cache / f"generated-{digest}.npy"), start
    return GeneratedFile(file, digest, shape, labels, pixels, offset)


@contextlib.contextmanager
def _named(file: Path) -> Iterator[None]:
    try:
        yield
    except DataError:
        raise
    except _DAMAGES as problem:
        raise DataError(f"{file} is damaged or holds objects: {problem}") from problem


def _check_keys(file: Path, archive: zipfile.ZipFile) -> None:
    there = [name.removesuffix(".npy") for name in archive.namelist()]
    missing = [key for key in _KEYS if key not in there]
    if missing:
        raise DataError(
            f"{file} lacks {', '.join(missing)}; it has {', '.join(there) or 'nothing'}",
            hint="needed: `image` uint8 (M, H, W, C) and `label` integers (M,)",
        )


def _header(member: IO[bytes], file: Path) -> tuple[tuple[int, int, int, int], int]:
    """Shape of `image` and the length of its .npy header."""
    version = np.lib.format.read_magic(member)
    read: Any = (
        np.lib.format.read_array_header_1_0
        if version == (1, 0)
        else np.lib.format.read_array_header_2_0
    )
    shape, fortran, dtype = read(member)
    if dtype != np.uint8 or len(shape) != 4 or 0 in shape:
        raise DataError(
            f"{file}: image is {dtype} of shape {shape}", hint="needed: uint8 (M, H, W, C)"
        )
    if fortran:
        raise DataError(
            f"{file}: image is in Fortran order", hint="save numpy.ascontiguousarray(image)"
        )
    return shape, member.tell()


def _labels(file: Path, archive: zipfile.ZipFile, *, len_: int) -> NDArray[np.int64]:
    with archive.open("label.npy") as member:
        labels = np.lib.format.read_array(member, allow_pickle=False)
    if labels.dtype.kind not in "iu" or labels.shape != (len_,):
        raise DataError(
            f"{file}: label is {labels.dtype} of shape {labels.shape}",
            hint=f"needed: {len_} integers, one per image",
        )
    return labels.astype(np.int64)


def _digest(file: Path, archive: zipfile.ZipFile, cache: Path) -> str:
    """sha256 of both members, taken once per file; reading them checks zip's own checksums."""
    found = file.stat()
    # An unpacked archive may give all files one st_mtime; nobody sets st_ctime.
    known = f"{file.resolve()}\0{found.st_size}\0{found.st_mtime_ns}\0{found.st_ctime_ns}"
    note = cache / f"generated-{hashlib.sha256(known.encode()).hexdigest()[:32]}.sha256"
    with contextlib.suppress(OSError):
        text = note.read_text(encoding="ascii", errors="replace").strip()
        if len(text) == 64 and set(text) <= set("0123456789abcdef"):
            return text
    digest = hashlib.sha256()
    for key in _KEYS:
        with archive.open(f"{key}.npy") as member:
            while block := member.read(_BLOCK):
                digest.update(block)
    with contextlib.suppress(OSError):
        cache.mkdir(parents=True, exist_ok=True)
        _write(note, lambda target: target.write(digest.hexdigest().encode()))
    return digest.hexdigest()


def _unpacked(archive: zipfile.ZipFile, info: zipfile.ZipInfo, target: Path) -> Path:
    if target.is_file() and target.stat().st_size == info.file_size:
        return target

    def copy(to: IO[bytes]) -> None:
        with archive.open(info) as member:
            while block := member.read(_BLOCK):
                to.write(block)

    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _write(target, copy)
    except OSError as problem:
        raise DataError(
            f"{archive.filename} is compressed and cannot be unpacked into {target.parent}: "
            f"{problem.strerror}",
            hint=f"it takes {info.file_size:,} bytes; an uncompressed .npz takes none",
        ) from problem
    return target


def _write(target: Path, fill: Any) -> None:
    """Writes beside the target and renames; others who share the folder can read the file."""
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".generated-") as scratch:
        written = Path(scratch) / target.name
        with written.open("wb") as content:
            fill(content)
        written.replace(target)


def _member_start(file: Path, info: zipfile.ZipInfo) -> int:
    """Where a stored member's bytes begin; the central directory does not say."""
    with file.open("rb") as content:
        content.seek(info.header_offset)
        header = content.read(_LOCAL_HEADER)
    name, extra = struct.unpack("<HH", header[-4:])
    return info.header_offset + _LOCAL_HEADER + int(name) + int(extra)
