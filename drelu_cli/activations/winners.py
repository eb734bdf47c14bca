"""k winners take all: a layer keeps its largest units and drops the others."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from drelu_cli.activations.contract import LEAK, Activation, Slope, straight_through
from drelu_cli.core.errors import BadValue


class KWinners(Activation):
    """y = x where x is among the k largest of its sample's units, else 0.

    k-WTA (Xiao, Zhong & Zheng 2020, arXiv 1905.10510), which Tramer, Carlini, Brendel & Madry
    2020 (arXiv 2002.08347) broke. k = max(1, round(share * units)), units counted over all axes
    of a sample but the first. A unit is dropped where it is smaller than the k-th largest, so
    that ties are kept whatever their place; NaN is kept, so that the evaluation sees it.
    dy/dx = 1 where kept, 0 where dropped.

    Args:
        channels: size of dimension 1 of the input.
        share: of the units that are kept, in (0, 1].
    """

    elementwise = False

    def __init__(self, channels: int, share: float) -> None:
        super().__init__(channels)
        if not 0 < share <= 1:
            raise BadValue(f"share {share:g} is not in (0, 1]", hint="share = 0.15")
        self.share = share

    def forward(self, x: Tensor) -> Tensor:
        """(N, channels, ...) to the same shape."""
        return torch.where(self._dropped(x), 0.0, x)

    def bounds(self, lower: Tensor, upper: Tensor) -> tuple[Tensor, Tensor]:
        """[l, u] where a unit wins for every input of the layer, 0 where it never does.

        Between, the hull of both. A unit never wins when k others are surely larger, and always
        when fewer than k others can be.
        """
        units = lower.flatten(1).shape[1]
        k = self._count(units)
        # Where u > l the unit itself is among those whose upper end exceeds its lower one.
        rivals = torch.where(upper > lower, _largest(upper, k + 1), _largest(upper, k))
        wins = lower >= rivals
        loses = upper < _largest(lower, k)
        low = torch.where(wins, lower, torch.clamp(lower, max=0.0))
        high = torch.where(wins, upper, torch.clamp(upper, min=0.0))
        return torch.where(loses, 0.0, low), torch.where(loses, 0.0, high)

    def slopes(self) -> Mapping[str, Slope]:
        """`leaky`: slope .1 where dropped; `identity`: 1 everywhere."""
        return {
            "leaky": lambda x: torch.where(self._dropped(x), LEAK, 1.0).to(x.dtype),
            "identity": straight_through,
        }

    def extra_repr(self) -> str:
        """Channels and share."""
        return f"{self.channels}, share={self.share:g}"

    def _dropped(self, x: Tensor) -> Tensor:
        return x < _largest(x.detach(), self._count(x.flatten(1).shape[1]))

    def _count(self, units: int) -> int:
        return max(1, round(self.share * units))


def _largest(x: Tensor, k: int) -> Tensor:
    """Per sample the k-th largest number as (N, 1, ...); -inf where there are fewer."""
    numbers = x.detach().flatten(1)
    shape = (-1, *[1] * (x.dim() - 1))
    if k > numbers.shape[1]:
        return numbers.new_full((len(numbers),), -torch.inf).reshape(shape)
    return numbers.topk(k).values[:, -1].reshape(shape)


def kwta(channels: int, /, *, share: float = 0.15) -> Activation:
    """The largest `share` of each sample's units, the others 0."""
    return KWinners(channels, share)
