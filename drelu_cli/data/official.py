"""The MNIST family, the CIFAR family and STL-10: the official files, in torchvision's folders."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from drelu_cli.core.errors import DataError
from drelu_cli.data.contract import Raw
from drelu_cli.data.download import fetched
from drelu_cli.data.releases import CIFAR10, CIFAR100, FASHION_MNIST, MNIST, STL10, Official
from drelu_cli.runtime.vision import import_torchvision

_STL10_SHAPE = (3, 96, 96)


def mnist(data_dir: Path, /) -> Raw:
    """28x28x1, 10 classes, 60,000 and 10,000 images (LeCun, Cortes, Burges)."""
    return read_idx(MNIST, data_dir)


def fashion_mnist(data_dir: Path, /) -> Raw:
    """28x28x1, 10 classes, 60,000 and 10,000 images (arXiv 1708.07747)."""
    return read_idx(FASHION_MNIST, data_dir)


def cifar10(data_dir: Path, /) -> Raw:
    """32x32x3, 10 classes, 50,000 and 10,000 images (Krizhevsky 2009)."""
    return read_batches(CIFAR10, data_dir)


def cifar100(data_dir: Path, /) -> Raw:
    """32x32x3, 100 classes (the fine labels), 50,000 and 10,000 images (Krizhevsky 2009)."""
    return read_batches(CIFAR100, data_dir)


def stl10(data_dir: Path, /) -> Raw:
    """96x96x3, 10 classes, 5,000 and 8,000 images (Coates, Ng, Lee 2011); no unlabelled ones."""
    return read_binary(STL10, data_dir)


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


def read_binary(release: Official, data_dir: Path) -> Raw:
    """STL-10's binary files: bytes of (N, 3, 96, 96), columns first, and labels from 1.

    Raises:
        DataError: a file that cannot be had or is damaged.
    """
    folder = fetched(release, data_dir)
    train, test = (_columns_first(folder / f"{split}_X.bin") for split in ("train", "test"))
    train_labels, test_labels = (
        torch.from_numpy(np.fromfile(folder / f"{split}_y.bin", np.uint8)).to(torch.int64) - 1
        for split in ("train", "test")
    )
    return Raw(train, train_labels, test, test_labels, classes=10)


def _columns_first(file: Path) -> Tensor:
    """(N, 3, 96, 96): the file runs down the columns of a channel of an image."""
    content = np.fromfile(file, np.uint8)
    if len(content) % np.prod(_STL10_SHAPE):
        raise DataError(
            f"{file} is damaged: {len(content):,} bytes are no whole number of 96x96x3 images",
            hint="delete it and run again: it will be downloaded",
        )
    stored = content.reshape(-1, *_STL10_SHAPE)
    return torch.from_numpy(np.ascontiguousarray(stored.transpose(0, 1, 3, 2)))


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
