"""Generated images in a training: each epoch mixes its share of them with original ones."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from drelu_cli.data.generated import Generated
from drelu_cli.runtime.streams import permutation
from drelu_cli.training.batches import Images


@dataclass(frozen=True)
class Mixed:
    """A split and generated images: each epoch draws its share of both anew, N images in all.

    Section 8 of the source paper: 30 % original and 70 % generated images per epoch. Rows from N
    on are generated images; a slice of rows means original ones.

    Attributes:
        originals: the N images of the split.
        generated: M generated images; they stay in their file.
        share: the generated part of an epoch, 0 to 1.
        offset: index of the first generated image in the random streams: no original's.
    """

    originals: Images
    generated: Generated
    share: float
    offset: int

    def __len__(self) -> int:
        return len(self.originals)

    def order(self, seed: int, epoch: str) -> Tensor:
        """(N,) int64 on CPU, both kinds in one random order.

        The originals are the first of the order that an epoch without generated images has. M
        smaller than the generated part: its permutation is gone through again.
        """
        kept = round((1 - self.share) * len(self))
        drawn = len(self) - kept
        originals = permutation(seed, f"order/{epoch}", len(self))[:kept]
        generated = permutation(seed, f"generated/{epoch}", len(self.generated))
        generated = generated.repeat(-(-drawn // len(generated)))[:drawn]
        rows = torch.cat([originals, len(self) + generated])
        return rows[permutation(seed, f"mixed/{epoch}", len(self))]

    def batch(self, rows: Tensor | slice) -> tuple[Tensor, Tensor, Tensor]:
        """Images (B, C, H, W) float32 in [0, 1], labels (B,) and indices (B,) of some rows.

        Original ones first: nothing in a training depends on the order inside a batch but the
        rounding of sums.
        """
        if isinstance(rows, slice):
            return self.originals.batch(rows)
        device = self.originals.labels.device
        chosen = rows[rows >= len(self)] - len(self)
        x, y, index = self.originals.batch(rows[rows < len(self)].to(device))
        drawn = self.generated.images(chosen).to(device).float() / 255.0
        labels = self.generated.labels[chosen].to(device)
        places = (self.offset + chosen).to(device)
        return torch.cat([x, drawn]), torch.cat([y, labels]), torch.cat([index, places])
