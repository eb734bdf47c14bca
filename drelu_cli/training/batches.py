"""What a training reads: a split on the device, its order and mini-batches, and sums over them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from drelu_cli.runtime.streams import permutation


class TrainingImages(Protocol):
    """What the fit loop goes through, epoch by epoch: `Images`, or `Mixed` with generated ones."""

    def __len__(self) -> int:
        """Images per epoch."""

    def order(self, seed: int, epoch: str) -> Tensor:
        """(N,) int64, the rows of an epoch; follows from the seed and the epoch's name."""

    def batch(self, rows: Tensor | slice) -> tuple[Tensor, Tensor, Tensor]:
        """Images (B, C, H, W) float32 in [0, 1], labels (B,) and indices (B,) of some rows."""


@dataclass(frozen=True)
class Images:
    """A split on the device: uint8 images, labels and each sample's index in its data set.

    Attributes:
        images: (N, C, H, W) uint8.
        labels: (N,) int64.
        index: (N,) int64, the counter of the random streams.
    """

    images: Tensor
    labels: Tensor
    index: Tensor

    def order(self, seed: int, epoch: str) -> Tensor:
        """(N,) int64 on the device: every row once."""
        return permutation(seed, f"order/{epoch}", len(self)).to(self.labels.device)

    def batch(self, rows: Tensor | slice) -> tuple[Tensor, Tensor, Tensor]:
        """Images (B, C, H, W) float32 in [0, 1], labels (B,) and indices (B,) of some rows."""
        return self.images[rows].float() / 255.0, self.labels[rows], self.index[rows]

    def __len__(self) -> int:
        return len(self.labels)


def batches(order: Tensor, size: int) -> list[Tensor]:
    """Slices of `order`; a last slice of one joins the one before: batch norm needs two."""
    parts = list(torch.split(order, size))
    if len(parts) > 1 and len(parts[-1]) == 1:
        parts[-2:] = [torch.cat(parts[-2:])]
    return parts


def accumulate(totals: dict[str, Tensor], terms: Mapping[str, Tensor], count: int) -> None:
    """Adds up on the device: a synchronisation per step would cost more than the step."""
    for name, value in terms.items():
        term = value.double() * count if value.device.type != "mps" else value * count
        totals[name] = totals[name] + term if name in totals else term
