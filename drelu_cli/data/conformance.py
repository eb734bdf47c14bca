"""What every data set must be, as functions that a third party's tests can call.

Each raises AssertionError where the contract is broken.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from drelu_cli.data.contract import Dataset, DataSplits
from drelu_cli.data.loading import as_float, sample_order


def check_dataset(loaded: Callable[[], DataSplits]) -> None:
    """All checks; `loaded` reads the data set anew."""
    splits = loaded()
    for split in (splits.train, splits.validation, splits.test):
        check_split(split)
        assert split.shape == splits.shape, "splits differ in image size"
        assert split.classes == splits.classes, "splits differ in classes"
    check_statistics(splits)
    check_order(splits.test)
    check_repeatable(splits, loaded())


def check_split(split: Dataset) -> None:
    """uint8 (N, C, H, W) images, int64 labels in range, at least one sample."""
    assert split.images.dtype == torch.uint8, f"images are {split.images.dtype}"
    assert split.images.dim() == 4, f"images have shape {tuple(split.images.shape)}"
    assert split.labels.dtype == torch.int64, f"labels are {split.labels.dtype}"
    assert split.labels.shape == (len(split.images),), "not one label per image"
    assert len(split) > 0, f"the split {split.split} is empty"
    assert int(split.labels.min()) >= 0, "a label is negative"
    assert int(split.labels.max()) < split.classes, "a label is no class"
    assert len(split.sha256) == 64, "the digest is no sha256"


def check_statistics(splits: DataSplits) -> None:
    """`mean` and `std` normalise the training split; `as_float` gives [0, 1]."""
    images = as_float(splits.train.images).double()
    assert 0 <= float(images.min()) <= float(images.max()) <= 1, "pixels leave [0, 1]"
    axes = (0, 2, 3)
    mean = torch.tensor(splits.mean, dtype=torch.float64)
    torch.testing.assert_close(images.mean(axes), mean, rtol=0, atol=1e-6)
    deviation = images.std(axes, correction=0)
    expected = torch.where(deviation < 1e-6, 1.0, deviation)
    std = torch.tensor(splits.std, dtype=torch.float64)
    torch.testing.assert_close(std, expected, rtol=0, atol=1e-6)


def check_order(test: Dataset) -> None:
    """The order of samples is a permutation, and a fixed one."""
    order = sample_order(test)
    assert sorted(order) == list(range(len(test))), "the order of samples is no permutation"
    assert order == sample_order(test), "the order of samples is not fixed"


def check_repeatable(first: DataSplits, second: DataSplits) -> None:
    """Reading twice gives the same splits in the same order."""
    assert first.digest == second.digest, "the digest changes between two readings"
    for one, other in ((first.train, second.train), (first.validation, second.validation)):
        assert torch.equal(one.images, other.images), "a split changes between two readings"
        assert torch.equal(one.labels, other.labels), "labels change between two readings"
