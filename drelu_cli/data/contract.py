"""What every data set is: whole splits of images as uint8 tensors.

    loader(data_dir, /, *, path) -> Raw

A loader reads; `loading.py` checks what it read, takes the validation split and digests it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

Split = Literal["train", "validation", "test"]
Shape = tuple[int, int, int]


@dataclass(frozen=True, eq=False)
class Raw:
    """What a loader returns.

    Attributes:
        train_images: (N, C, H, W) uint8.
        train_labels: (N,) int64, 0 .. classes - 1.
        test_images: (M, C, H, W) uint8, the same C, H, W.
        test_labels: (M,) int64.
        classes: number of classes, >= 2.
        validation_share: part of the training images that becomes the validation split.
    """

    train_images: Tensor
    train_labels: Tensor
    test_images: Tensor
    test_labels: Tensor
    classes: int
    validation_share: float = 0.1


@dataclass(frozen=True, eq=False)
class Dataset:
    """One split of a data set, in a fixed order.

    Attributes:
        name: the registered name.
        split: `train`, `validation` or `test`.
        images: (N, C, H, W) uint8.
        labels: (N,) int64, 0 .. classes - 1.
        classes: number of classes.
        sha256: digest of images and labels, 64 hexadecimal digits.
    """

    name: str
    split: Split
    images: Tensor
    labels: Tensor
    classes: int
    sha256: str

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def shape(self) -> Shape:
        """(C, H, W) of one image."""
        channels, height, width = self.images.shape[1:]
        return channels, height, width


@dataclass(frozen=True, eq=False)
class DataSplits:
    """A whole data set. The splits belong to the data set, not to a training's seed.

    Attributes:
        train: in the order of the fixed permutation that chose the splits.
        validation: likewise.
        test: in the data set's own order; its indices name samples in the store.
        digest: sha256 of the content of all three, without name and path.
        mean: per channel, of the training split's pixels in [0, 1].
        std: per channel, population standard deviation; 1 for a constant channel.
    """

    train: Dataset
    validation: Dataset
    test: Dataset
    digest: str
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @property
    def classes(self) -> int:
        """Number of classes."""
        return self.train.classes

    @property
    def shape(self) -> Shape:
        """(C, H, W) of one image."""
        return self.train.shape
