"""`npz`: a data set of the user's own in one file.

Arrays x_train, x_test: uint8 (N, H, W, C), (N, C, H, W) or grey (N, H, W); y_train, y_test:
integers (N,) from 0.
"""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from drelu_cli.core.errors import DataError
from drelu_cli.data.contract import Raw

_KEYS = ("x_train", "y_train", "x_test", "y_test")
_CHANNELS = (1, 3)
Array = NDArray[Any]


def npz(data_dir: Path, /, *, path: str | None = None) -> Raw:  # noqa: ARG001 - `path` says where
    """The data set in the file `path`; the classes are 0 .. the largest training label.

    Raises:
        DataError: no such file, not an npz, damaged, a missing array, or one of the wrong kind.
    """
    if path is None:
        raise DataError("the data set npz needs a file", hint="give its path: [data] path = ...")
    file = Path(path).expanduser()
    arrays = _arrays(file)
    train, test = (_images(arrays[key], f"{file}: {key}") for key in ("x_train", "x_test"))
    train_labels, test_labels = (
        _labels(arrays[key], f"{file}: {key}") for key in ("y_train", "y_test")
    )
    for key, images, labels in (("train", train, train_labels), ("test", test, test_labels)):
        if len(images) != len(labels) or len(labels) == 0:
            raise DataError(
                f"{file}: x_{key} has {len(images)} images, y_{key} has {len(labels)} labels",
                hint="one label per image, and one image or more",
            )
    classes = int(train_labels.max()) + 1
    if int(test_labels.max()) >= classes:
        raise DataError(
            f"{file}: y_test has label {int(test_labels.max())}, y_train only 0 .. {classes - 1}"
        )
    return Raw(train, train_labels, test, test_labels, classes)


def _arrays(file: Path) -> dict[str, Array]:
    if not file.is_file():
        raise DataError(f"{file} is not a file", hint="give the path of an .npz file")
    if not zipfile.is_zipfile(file):
        raise DataError(f"{file} is no npz file, or is cut short", hint="write it with numpy.savez")
    try:
        with np.load(file, allow_pickle=False) as found:
            missing = [key for key in _KEYS if key not in found.files]
            if missing:
                there = ", ".join(found.files) or "nothing"
                raise DataError(
                    f"{file} lacks {', '.join(missing)}; it has {there}",
                    hint=f"needed: {', '.join(_KEYS)}",
                )
            return {key: found[key] for key in _KEYS}
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError, KeyError) as problem:
        raise DataError(f"{file} is damaged or holds objects: {problem}") from problem


def _images(array: Array, where: str) -> Tensor:
    """(N, C, H, W) uint8."""
    if array.dtype != np.uint8:
        raise DataError(
            f"{where} is {array.dtype}, not uint8", hint="pixels are 0 .. 255: scale and round them"
        )
    if array.ndim == 3:
        array = array[:, None]
    if array.ndim != 4:
        raise DataError(f"{where} has shape {array.shape}", hint="NHWC, NCHW or NHW")
    first, last = array.shape[1] in _CHANNELS, array.shape[3] in _CHANNELS
    if first == last:
        reading = "both NCHW and NHWC" if first else "neither NCHW nor NHWC"
        raise DataError(
            f"{where} has shape {array.shape}, which reads as {reading}",
            hint="one axis, the second or the last, holds 1 or 3 channels",
        )
    if last:
        array = array.transpose(0, 3, 1, 2)
    return torch.from_numpy(np.ascontiguousarray(array))


def _labels(array: Array, where: str) -> Tensor:
    """(N,) int64, >= 0."""
    if array.dtype.kind not in "iu" or array.ndim != 1:
        raise DataError(
            f"{where} is {array.dtype} of shape {array.shape}", hint="labels are integers (N,)"
        )
    labels = torch.from_numpy(array.astype(np.int64))
    if len(labels) and int(labels.min()) < 0:
        raise DataError(f"{where} has label {int(labels.min())}", hint="labels count from 0")
    return labels
