"""Trees of image files as whole tensors, decoded once and kept as one file in the data folder."""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from drelu_cli.core.digest import digest_of
from drelu_cli.core.errors import DataError
from drelu_cli.data.contract import Raw
from drelu_cli.data.releases import CACHE

Mode = Literal["L", "RGB"]
Array = NDArray[Any]

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".ppm", ".pgm", ".tif", ".tiff", ".webp")
# Pillow's names for what holds one or three bytes per pixel, with or without a palette or alpha.
_GREY = ("1", "L")
_COLOUR = ("P", "PA", "LA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr")
_VERSION = 1
_SHORT = 16


@dataclass(frozen=True)
class Tree:
    """Image files of a data set with their labels.

    Attributes:
        root: the folder below which all files lie.
        train: files and labels, in a fixed order.
        test: likewise.
        classes: number of classes.
        mode: `L` or `RGB`; None takes `L` where every image is grey.
    """

    root: Path
    train: Sequence[tuple[Path, int]]
    test: Sequence[tuple[Path, int]]
    classes: int
    mode: Mode | None = None


def images_in(folder: Path) -> list[Path]:
    """The image files of a folder by their suffix, sorted by name.

    Raises:
        DataError: the folder is not there or cannot be read.
    """
    try:
        with os.scandir(folder) as entries:
            names = [entry.name for entry in entries if entry.name.lower().endswith(SUFFIXES)]
    except OSError as problem:
        raise DataError(f"{folder} cannot be read: {problem.strerror}") from problem
    return [folder / name for name in sorted(names)]


def read_tree(tree: Tree, name: str, data_dir: Path, *, validation_share: float = 0.1) -> Raw:
    """All images of a tree, decoded, or as an earlier call left them in the data folder.

    The cache is named after the tree's files, their sizes, times and labels: a tree that has
    changed is decoded anew, and so is one whose cache is damaged. Where the data folder cannot
    be written, nothing is kept.

    Raises:
        DataError: a file that is no image, is damaged, or has another size than the first one.
    """
    place = hashlib.sha256(str(tree.root.resolve()).encode()).hexdigest()[:_SHORT]
    stem = f"{name}-{place}"
    file = data_dir / CACHE / f"{stem}-{_manifest(tree)[:_SHORT]}.npz"
    arrays = _kept(file)
    if arrays is None:
        arrays = _decoded(tree)
        _keep(arrays, file, stem)
    parts = {key: torch.from_numpy(array) for key, array in arrays.items()}
    return Raw(**parts, classes=tree.classes, validation_share=validation_share)


def _manifest(tree: Tree) -> str:
    """A digest of names, sizes, times and labels: no file is opened for it."""
    parts: dict[str, Any] = {"version": _VERSION, "mode": tree.mode, "classes": tree.classes}
    for split, listed in (("train", tree.train), ("test", tree.test)):
        digest = hashlib.sha256()
        for path, label in listed:
            try:
                found = path.stat()
            except OSError as problem:
                raise DataError(f"{path} cannot be read: {problem.strerror}") from problem
            name = path.relative_to(tree.root).as_posix()
            state = f"{found.st_size}\0{found.st_mtime_ns}\0{found.st_ctime_ns}"
            digest.update(f"{name}\0{label}\0{state}\n".encode())
        parts[split] = digest.hexdigest()
    return digest_of(parts)


_KEYS = ("train_images", "train_labels", "test_images", "test_labels")


def _kept(file: Path) -> dict[str, Array] | None:
    """The arrays of a cache; None where there is none or it is damaged (zip keeps a checksum)."""
    if not file.is_file():
        return None
    try:
        # numpy leaves a file that it opened itself open where the content is damaged.
        with file.open("rb") as content, np.load(content, allow_pickle=False) as found:
            return {key: found[key] for key in _KEYS}
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError, KeyError):
        return None


def _keep(arrays: Mapping[str, Any], file: Path, stem: str) -> None:
    """Writes the cache by an atomic rename and removes those of the tree's earlier states."""
    with contextlib.suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=file.parent, prefix=f".{stem}-") as scratch:
            written = Path(scratch) / "tree.npz"
            np.savez(written, **arrays)
            written.replace(file)
        for other in file.parent.glob(f"{stem}-*.npz"):
            if other != file:
                other.unlink(missing_ok=True)


def _decoded(tree: Tree) -> dict[str, Array]:
    listed = [path for path, _ in (*tree.train, *tree.test)]
    with ThreadPoolExecutor() as pool:
        headers = list(pool.map(_header, listed))
        mode = tree.mode or ("L" if all(mode in _GREY for _, mode in headers) else "RGB")
        _check_sizes(listed, [size for size, _ in headers])
        (width, height), channels = headers[0][0], len(mode)
        arrays: dict[str, Array] = {}
        for split, part in (("train", tree.train), ("test", tree.test)):
            images = np.empty((len(part), channels, height, width), np.uint8)
            decode = ((path, mode, images[row]) for row, (path, _) in enumerate(part))
            for _ in pool.map(_decode, decode):
                pass
            arrays[f"{split}_images"] = images
            arrays[f"{split}_labels"] = np.array([label for _, label in part], np.int64)
    return arrays


def _check_sizes(files: Sequence[Path], sizes: Sequence[tuple[int, int]]) -> None:
    first = sizes[0]
    for file, size in zip(files, sizes, strict=True):
        if size != first:
            raise DataError(
                f"{file} has {size[0]}x{size[1]} pixels, {files[0].name} has {first[0]}x{first[1]}",
                hint="all images of a data set have one size: resize them first",
            )


def _header(file: Path) -> tuple[tuple[int, int], str]:
    """Width, height and Pillow's mode; pixels are not decoded."""
    try:
        with Image.open(file) as image:
            size, mode = image.size, image.mode
    except (OSError, ValueError, SyntaxError) as problem:
        raise _unreadable(file, problem) from problem
    if mode not in (*_GREY, *_COLOUR):
        raise DataError(
            f"{file} has more than 8 bits per channel (mode {mode})", hint="convert it to 8 bits"
        )
    return size, mode


def _decode(job: tuple[Path, Mode, Array]) -> None:
    """Fills (C, H, W) with the image of a file; transparency is dropped, rotation marks, too."""
    file, mode, target = job
    try:
        with Image.open(file) as image:
            # A palette with transparent entries becomes RGB by way of RGBA only.
            opened = image.convert("RGBA") if "transparency" in image.info else image
            pixels = np.asarray(opened.convert(mode))
    except (OSError, ValueError, SyntaxError) as problem:
        raise _unreadable(file, problem) from problem
    target[...] = pixels[None] if mode == "L" else pixels.transpose(2, 0, 1)


def _unreadable(file: Path, problem: Exception) -> DataError:
    what = "is no image" if isinstance(problem, UnidentifiedImageError) else "is damaged"
    return DataError(f"{file} {what}: {problem}", hint="put it right, or take it away")
