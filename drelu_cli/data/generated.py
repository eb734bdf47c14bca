"""Generated images beside a training split: one .npz, mapped into memory, never whole in it.

Arrays as in the release of arXiv 2302.04638 (images of EDM, arXiv 2206.00364): `image` uint8
(M, H, W, C) and `label` integers (M,).
"""

from __future__ import annotations

import math
import mmap
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from drelu_cli.core.errors import DataError
from drelu_cli.data.contract import Shape
from drelu_cli.data.generated_file import GeneratedFile, examined


@dataclass(frozen=True, eq=False)
class Generated:
    """M generated images that stay in their file.

    Attributes:
        digest: sha256 of images and labels, 64 hexadecimal digits.
        labels: (M,) int64 on CPU, 0 .. classes - 1.
        mapped: the images.
    """

    digest: str
    labels: Tensor
    mapped: Mapped

    def __len__(self) -> int:
        return len(self.labels)

    def images(self, rows: Tensor) -> Tensor:
        """(B, C, H, W) uint8 on CPU, of some rows (B,) int64; only these are read."""
        return torch.from_numpy(self.mapped.rows(rows.numpy())).permute(0, 3, 1, 2)


class Mapped:
    """A uint8 array in a file, row by row.

    Args:
        file: read, never written.
        offset: where the array begins, in bytes.
        shape: (M, H, W, C), in C order.
    """

    def __init__(self, file: Path, offset: int, shape: tuple[int, ...]) -> None:
        with file.open("rb") as content:
            self._map = mmap.mmap(content.fileno(), 0, access=mmap.ACCESS_READ)
        flat = np.frombuffer(self._map, np.uint8, count=math.prod(shape), offset=offset)
        self._array = flat.reshape(shape)

    def rows(self, index: np.ndarray[tuple[int, ...], np.dtype[np.int64]]) -> np.ndarray:
        """A copy of some rows; the pages they came from are given back to the system.

        Pages that were read would stay mapped: after an epoch the process would hold them all.
        """
        found = self._array[index]
        if hasattr(mmap, "MADV_DONTNEED"):
            self._map.madvise(mmap.MADV_DONTNEED)
        return found


def find_generated(path: str, data_dir: Path) -> Path:
    """The file `path`: as it stands, seen from here, or in the data folder.

    Raises:
        DataError: no such file.
    """
    asked = Path(path).expanduser()
    for file in (asked, data_dir / asked):
        if file.is_file():
            return file.resolve()
    where = str(asked) if asked.is_absolute() else f"{asked}, neither here nor in {data_dir}"
    raise DataError(
        f"no file of generated images {where}",
        hint="an .npz with `image` uint8 (M, H, W, C) and `label` (M,); see docs/data.md",
    )


def open_generated(file: Path, cache: Path, *, shape: Shape, classes: int) -> Generated:
    """The generated images in `file`, checked against the data set they are mixed with.

    An uncompressed .npz is mapped in place; of a compressed one the images are unpacked into the
    cache once.

    Args:
        file: an .npz.
        cache: folder for digests and unpacked images; digests do without it.
        shape: (C, H, W) of the data set.
        classes: of the data set.

    Raises:
        DataError: not an .npz, damaged, arrays that are missing, of the wrong kind or shape,
            labels that are no classes, no room to unpack.
    """
    found = examined(file, cache)
    _check(found, shape, classes)
    labels = torch.from_numpy(found.labels)
    return Generated(found.digest, labels, Mapped(found.pixels, found.offset, found.shape))


def _check(found: GeneratedFile, shape: Shape, classes: int) -> None:
    channels, height, width = shape
    if found.shape[1:] != (height, width, channels):
        raise DataError(
            f"{found.file}: images of shape {found.shape[1:]}, the data set has "
            f"{(height, width, channels)}",
            hint="`image` is (M, H, W, C)",
        )
    low, high = int(found.labels.min()), int(found.labels.max())
    if low < 0 or high >= classes:
        raise DataError(
            f"{found.file}: labels from {low} to {high}, the data set has {classes} classes",
            hint=f"labels are 0 .. {classes - 1}",
        )
