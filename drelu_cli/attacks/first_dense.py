"""A first dense layer that follows a window's change by the changed pixels alone."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from drelu_cli.attacks.chain import called
from drelu_cli.attacks.shortcut import Change, Kept, Memos, window_pixels, windows

# Share of the pixels above which a matrix product with all of them costs no more.
_WORTH = 0.5


class FirstDense:
    """A net that begins with a dense layer: W (x + d) + b = (W x + b) + W d.

    The sum over the accepted changes is kept in float64: rounded once for each change it would
    drift from a full pass.

    Args:
        before: pointwise layers before it.
        dense: the layer.
        after: the layers after it.
    """

    follows_windows = True

    def __init__(self, before: list[nn.Module], dense: nn.Linear, after: list[nn.Module]) -> None:
        self.before = before
        self.dense = dense
        self.after = after
        self.columns = dense.weight.detach().t().contiguous()

    def fixed(self, low: Tensor, high: Tensor) -> Memos:
        """By how much a pixel's input to the layer grows from its low to its high value."""
        return [called(self.before, high) - called(self.before, low)]

    def blank(self, low: Tensor) -> Memos:
        """The layer's outputs, (n, features) float64."""
        return [low.new_zeros((len(low), self.dense.out_features), dtype=torch.float64)]

    def full(self, points: Tensor, rows: Tensor) -> tuple[Tensor, Kept]:
        """All layers."""
        outputs = self.dense(called(self.before, points).flatten(1))
        return called(self.after, outputs), _Outputs(outputs, rows)

    def windowed(self, fixed: Memos, memos: Memos, change: Change) -> tuple[Tensor, Kept] | None:
        """The window's columns of W, then the layers after it."""
        span = fixed[0]
        if change.standing[0].numel() > _WORTH * span[0].numel():
            return None
        signs = change.signs[..., None, None].to(span.dtype)
        delta = windows(span, change) * (signs - change.standing.to(span.dtype))
        added = F.embedding_bag(
            window_pixels(change, *span.shape[2:]),
            self.columns,
            mode="sum",
            per_sample_weights=delta.flatten(1),
        )
        outputs = memos[0].index_select(0, change.rows).to(added.dtype) + added
        return called(self.after, outputs), _Added(added, change.rows)


@dataclass(frozen=True)
class _Outputs:
    """The layer's outputs of a full pass."""

    outputs: Tensor
    rows: Tensor

    def write(self, memos: Memos, accepted: Tensor) -> None:
        memos[0][self.rows[accepted]] = self.outputs[accepted].double()


@dataclass(frozen=True)
class _Added:
    """What a change adds to the layer's outputs."""

    added: Tensor
    rows: Tensor

    def write(self, memos: Memos, accepted: Tensor) -> None:
        memos[0][self.rows[accepted]] += self.added[accepted].double()
