"""MNIST, Fashion-MNIST and CIFAR-10: the official files, in torchvision's folders.

Files that are there are checked before they are read; what is missing is downloaded into a
folder of its own, checked, and only then moved into place.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import sys
import tarfile
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from drelu_cli.core.errors import DataError
from drelu_cli.data.contract import Raw
from drelu_cli.runtime.vision import import_torchvision


@dataclass(frozen=True)
class Official:
    """What the official release of a data set consists of.

    Attributes:
        name: the registered name.
        source: torchvision's class, which knows the addresses.
        folder: where its files lie below the data folder.
        files: name -> size in bytes and md5; no md5 where none is published.
    """

    name: str
    source: str
    folder: str
    files: dict[str, tuple[int, str | None]]


MNIST = Official(
    "mnist",
    "MNIST",
    "MNIST/raw",
    {
        "train-images-idx3-ubyte": (47_040_016, "6bbc9ace898e44ae57da46a324031adb"),
        "train-labels-idx1-ubyte": (60_008, "a25bea736e30d166cdddb491f175f624"),
        "t10k-images-idx3-ubyte": (7_840_016, "2646ac647ad5339dbf082846283269ea"),
        "t10k-labels-idx1-ubyte": (10_008, "27ae3e4e09519cfbb04c329615203637"),
    },
)
FASHION_MNIST = Official(
    "fashion_mnist",
    "FashionMNIST",
    "FashionMNIST/raw",
    {name: (size, None) for name, (size, _) in MNIST.files.items()},
)
# md5 as torchvision lists them; sizes of the files that have these md5.
CIFAR10 = Official(
    "cifar10",
    "CIFAR10",
    "cifar-10-batches-py",
    {
        "data_batch_1": (31_035_704, "c99cafc152244af753f735de768cd75f"),
        "data_batch_2": (31_035_320, "d4bba439e000b95fd0a9bffe97cbabec"),
        "data_batch_3": (31_035_999, "54ebc095f3ab1f0389bbae665268c751"),
        "data_batch_4": (31_035_696, "634d18415352ddfa80567beed471001a"),
        "data_batch_5": (31_035_623, "482c414d41f54cd18b22e5b47cb7c3cb"),
        "test_batch": (31_035_526, "40351d587109b95175f43aff81a1287e"),
        "batches.meta": (158, "5ff9c542aee3614f3951f8cda6e48888"),
    },
)


def mnist(data_dir: Path, /) -> Raw:
    """28x28x1, 10 classes, 60,000 and 10,000 images (LeCun, Cortes, Burges)."""
    return read_idx(MNIST, data_dir)


def fashion_mnist(data_dir: Path, /) -> Raw:
    """28x28x1, 10 classes, 60,000 and 10,000 images (arXiv 1708.07747)."""
    return read_idx(FASHION_MNIST, data_dir)


def cifar10(data_dir: Path, /) -> Raw:
    """32x32x3, 10 classes, 50,000 and 10,000 images (Krizhevsky 2009)."""
    return read_batches(CIFAR10, data_dir)


def read_idx(release: Official, data_dir: Path) -> Raw:
    """The MNIST family's four IDX files.

    Raises:
        DataError: a file that cannot be had or is damaged.
    """
    folder = fetched(release, data_dir)
    parts = [
        _idx(folder / f"{split}-{kind}-ubyte", dimensions)
        for split in ("train", "t10k")
        for kind, dimensions in (("images-idx3", 3), ("labels-idx1", 1))
    ]
    train, train_labels, test, test_labels = parts
    return Raw(
        train[:, None],
        train_labels.to(torch.int64),
        test[:, None],
        test_labels.to(torch.int64),
        classes=10,
    )


def read_batches(release: Official, data_dir: Path) -> Raw:
    """CIFAR's batches. They are pickles: torchvision opens them, after their md5 is checked.

    Raises:
        DataError: a file that cannot be had or is damaged.
    """
    fetched(release, data_dir)
    source: Any = getattr(import_torchvision().datasets, release.source)
    train, test = (source(str(data_dir), train=part) for part in (True, False))
    return Raw(
        _channels_first(train.data),
        torch.tensor(train.targets),
        _channels_first(test.data),
        torch.tensor(test.targets),
        classes=len(train.classes),
    )


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


def _verify(release: Official, folder: Path, names: Sequence[str]) -> None:
    for name in names:
        file = folder / name
        size, md5 = release.files[name]
        try:
            found = file.stat().st_size
            whole = found == size and md5 in (None, _md5(file))
        except OSError as problem:
            raise DataError(f"{file} cannot be read: {problem.strerror}") from problem
        if not whole:
            what = (
                f"{found:,} bytes, not {size:,}"
                if found != size
                else "its md5 is not the official one"
            )
            raise DataError(
                f"{release.name}: {file} is damaged: {what}",
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
        reason = str(problem).strip().replace("\n", " ") or type(problem).__name__
        raise DataError(
            f"{release.name} is not in {folder} and cannot be downloaded: {reason}",
            hint=f"put {', '.join(names)} there by hand, or use the embedded data set digits",
        ) from problem


def _fetch(release: Official, root: Path) -> None:
    source: Any = getattr(import_torchvision().datasets, release.source)
    # stdout belongs to the command's own output, which may be one JSON document.
    with contextlib.redirect_stdout(sys.stderr):
        source(str(root), download=True)


def _md5(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def _idx(file: Path, dimensions: int) -> Tensor:
    """An IDX file of bytes: magic 0x0000080D, D sizes as big-endian int32, then the values."""
    content = np.fromfile(file, np.uint8)
    start = 4 + 4 * dimensions
    sizes = [int(size) for size in content[4:start].view(">i4")]
    if bytes(content[:4]) != bytes([0, 0, 8, dimensions]) or len(content) - start != np.prod(sizes):
        raise DataError(
            f"{file} is no IDX file of {dimensions} dimensions, or is damaged",
            hint="delete it and run again: it will be downloaded",
        )
    return torch.from_numpy(content[start:].reshape(sizes))


def _channels_first(images: Any) -> Tensor:
    """(N, H, W, C) array to (N, C, H, W)."""
    return torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))
