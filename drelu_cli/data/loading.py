"""A data set by name: read, checked, split, digested."""

from __future__ import annotations

import hashlib
from pathlib import Path

import torch
from torch import Tensor

from drelu_cli.core.digest import digest_of
from drelu_cli.core.errors import DataError
from drelu_cli.data import DATASETS
from drelu_cli.data.contract import Dataset, DataSplits, Raw, Split
from drelu_cli.runtime.streams import permutation

# The seed of every data set's own permutations; a training's seed never changes a split.
_SPLIT_SEED = 0
_LEVELS = 256


def load(name: str, data_dir: Path, *, path: str | None = None) -> DataSplits:
    """The data set `name` with its three splits.

    Args:
        name: a registered data set.
        data_dir: where official files are looked for and downloaded to.
        path: the file of a data set that takes one, such as `npz`.

    Raises:
        UnknownName: no such data set, or one that takes no path.
        DataError: files that are missing, damaged, or not what the data set needs.
    """
    given = {} if path is None else {"path": path}
    raw: Raw = DATASETS.bind(name, **given)(data_dir)
    _check(raw, name)
    order = permutation(_SPLIT_SEED, f"{name}/validation", len(raw.train_labels))
    held_out = max(1, round(len(order) * raw.validation_share))
    chosen, kept_back = order[:-held_out], order[-held_out:]
    train = _dataset(name, "train", raw.train_images[chosen], raw.train_labels[chosen], raw)
    validation = _dataset(
        name, "validation", raw.train_images[kept_back], raw.train_labels[kept_back], raw
    )
    test = _dataset(name, "test", raw.test_images, raw.test_labels, raw)
    mean, std = pixel_statistics(train.images)
    splits = {split.split: split.sha256 for split in (train, validation, test)}
    digest = digest_of({"record": "data", "classes": raw.classes, **splits})
    return DataSplits(train, validation, test, digest, mean, std)


def sample_order(test: Dataset) -> tuple[int, ...]:
    """A fixed permutation of the test split's indices: N samples are its first N.

    The same for every model and seed, so a larger N extends a smaller one.
    """
    order = permutation(_SPLIT_SEED, f"{test.name}/samples", len(test))
    return tuple(int(index) for index in order)


def as_float(images: Tensor) -> Tensor:
    """(N, C, H, W) uint8 to float32 in [0, 1], x / 255, on the same device."""
    return images.to(torch.float32) / (_LEVELS - 1)


def pixel_statistics(images: Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and population standard deviation per channel, of pixels in [0, 1].

    From counts of the 256 levels, so the numbers are the same on every machine. A constant
    channel gets the standard deviation 1: it is to be shifted, not divided by zero.

    Args:
        images: (N, C, H, W) uint8 on CPU, not empty.
    """
    levels = torch.arange(_LEVELS, dtype=torch.float64) / (_LEVELS - 1)
    means, deviations = [], []
    for channel in images.unbind(1):
        counts = torch.bincount(channel.reshape(-1), minlength=_LEVELS).to(torch.float64)
        mean = float((counts * levels).sum() / counts.sum())
        variance = float((counts * (levels - mean).square()).sum() / counts.sum())
        constant = int((counts > 0).sum()) == 1
        means.append(mean)
        deviations.append(1.0 if constant else variance**0.5)
    return tuple(means), tuple(deviations)


def _dataset(name: str, split: Split, images: Tensor, labels: Tensor, raw: Raw) -> Dataset:
    images, labels = images.contiguous(), labels.contiguous()
    sha = hashlib.sha256(f"{tuple(images.shape)}\n".encode())
    sha.update(images.numpy().data)
    sha.update(labels.numpy().data)
    return Dataset(name, split, images, labels, raw.classes, sha.hexdigest())


def _check(raw: Raw, name: str) -> None:
    """Refuses what a loader must not return; third parties' loaders come through here, too."""
    if raw.classes < 2:
        raise DataError(f"{name} has {raw.classes} classes", hint="a classifier needs 2 or more")
    _check_part(raw.train_images, raw.train_labels, raw.classes, f"{name}, train")
    _check_part(raw.test_images, raw.test_labels, raw.classes, f"{name}, test")
    if raw.train_images.shape[1:] != raw.test_images.shape[1:]:
        raise DataError(
            f"{name}: training images of shape {tuple(raw.train_images.shape[1:])}, "
            f"test images of shape {tuple(raw.test_images.shape[1:])}"
        )
    if len(raw.train_labels) < 2:
        raise DataError(
            f"{name} has {len(raw.train_labels)} training image",
            hint="the validation split takes one, so 2 or more are needed",
        )


def _check_part(images: Tensor, labels: Tensor, classes: int, where: str) -> None:
    if images.dtype != torch.uint8 or images.dim() != 4:
        raise DataError(
            f"{where}: images are {images.dtype} of shape {tuple(images.shape)}, "
            "not uint8 (N, C, H, W)"
        )
    if labels.dtype != torch.int64 or labels.dim() != 1:
        raise DataError(
            f"{where}: labels are {labels.dtype} of shape {tuple(labels.shape)}, not int64 (N,)"
        )
    if len(images) != len(labels):
        raise DataError(f"{where}: {len(images)} images and {len(labels)} labels")
    if images.numel() == 0:
        raise DataError(f"{where}: no images, shape {tuple(images.shape)}")
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= classes:
        raise DataError(
            f"{where}: labels from {low} to {high}, with {classes} classes",
            hint=f"labels are 0 .. {classes - 1}",
        )
