"""What a training scheme is: a function from a batch to a loss."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from drelu_cli.runtime.streams import Stream


@dataclass(frozen=True)
class Loss:
    """A batch's loss.

    Attributes:
        total: 0-dim, what is minimised (without the cap penalty, which joins any scheme).
        terms: 0-dim detached tensors by name for the history, e.g. `natural`, `robust`;
            `accuracy` is the share of correct predictions on what the scheme trained on.
    """

    total: Tensor
    terms: Mapping[str, Tensor]


# model, x (B, C, H, W) float in [0, 1], y (B,) int64, the batch's stream -> loss
Scheme = Callable[[nn.Module, Tensor, Tensor, Stream], Loss]
