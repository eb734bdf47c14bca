"""Activations without parameters: ReLU and the smooth or bounded ones of the field."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from drelu_cli.activations.contract import (
    LEAK,
    Activation,
    Slope,
    leaky,
    leaky_between,
    soft_between,
    straight_through,
    widened,
)

# Where x * sigmoid(x) is smallest, and how small: the root of 1 + x + exp(x) = 0 is the place,
# and the value there is x + 1.
_SILU_DIP_AT = -1.2784645427610738
_SILU_DIP = -0.2784645427610738
# Beyond this softplus(x) and x agree in float64. torch's own 20 makes a step of 2e-9 downwards
# there, which would break monotone bounds.
_SOFTPLUS_LINEAR_FROM = 40.0
_TANH_END = math.atanh(0.99)


class ReLU(Activation):
    """y = max(0, x); dy/dx = 1[x > 0]."""

    def forward(self, x: Tensor) -> Tensor:
        """(N, channels, ...) to the same shape."""
        return F.relu(x)

    def slopes(self) -> Mapping[str, Slope]:
        """`leaky`: slope .1 below 0."""
        return {"leaky": leaky}

    def ends(self, x: Tensor) -> tuple[float, float]:  # noqa: ARG002
        """0, and none above."""
        return 0.0, math.inf


class Tanh(Activation):
    """y = tanh(x)."""

    def forward(self, x: Tensor) -> Tensor:
        """(N, channels, ...) to the same shape."""
        return torch.tanh(x)

    def bounds(self, lower: Tensor, upper: Tensor) -> tuple[Tensor, Tensor]:
        """Monotone, widened for rounding."""
        return widened(torch.tanh(lower), torch.tanh(upper))

    def slopes(self) -> Mapping[str, Slope]:
        """The true derivative is exactly 0 in float32 from |x| = 9 on; these never are."""
        return {
            "identity": straight_through,
            "leaky_cap": lambda x: torch.clamp(1 - torch.tanh(x).square(), min=LEAK),
            "soft_cap": lambda x: soft_between(x, 0.0, 0.0),
        }

    def uncapped(self) -> nn.Module:
        """The identity: the tangent at 0."""
        return nn.Identity()

    def ends(self, x: Tensor) -> tuple[float, float]:  # noqa: ARG002
        """Where |tanh(x)| = .99: the derivative is 1/50 there and falls on."""
        return -_TANH_END, _TANH_END


class Hardtanh(Activation):
    """y = max(-1, min(1, x)); dy/dx = 1[-1 < x < 1]."""

    def forward(self, x: Tensor) -> Tensor:
        """(N, channels, ...) to the same shape."""
        return F.hardtanh(x)

    def slopes(self) -> Mapping[str, Slope]:
        """Slopes that do not vanish beyond -1 and 1."""
        return {
            "identity": straight_through,
            "leaky_cap": lambda x: leaky_between(x, -1.0, 1.0),
            "soft_cap": lambda x: soft_between(x, -1.0, 1.0),
        }

    def uncapped(self) -> nn.Module:
        """The identity: both ends at infinity."""
        return nn.Identity()

    def ends(self, x: Tensor) -> tuple[float, float]:  # noqa: ARG002
        """-1 and 1."""
        return -1.0, 1.0


class SiLU(Activation):
    """y = x * sigmoid(x) (arXiv 1702.03118, 1710.05941); falls until x = -1.278, then rises."""

    def forward(self, x: Tensor) -> Tensor:
        """(N, channels, ...) to the same shape."""
        return F.silu(x)

    def bounds(self, lower: Tensor, upper: Tensor) -> tuple[Tensor, Tensor]:
        """Above, the larger end; below, the dip where it is inside, else the smaller end."""
        at_lower, at_upper = F.silu(lower), F.silu(upper)
        low, high = torch.minimum(at_lower, at_upper), torch.maximum(at_lower, at_upper)
        # The dip's place is rounded: an interval that ends within that rounding holds it, too.
        near = 1e-2
        holds_dip = (lower <= _SILU_DIP_AT + near) & (upper >= _SILU_DIP_AT - near)
        return widened(torch.where(holds_dip, torch.clamp(low, max=_SILU_DIP), low), high)

    def slopes(self) -> Mapping[str, Slope]:
        """`leaky`: the derivative of a leaky ReLU."""
        return {"leaky": leaky}


class Softplus(Activation):
    """y = log(1 + exp(x)); dy/dx = sigmoid(x)."""

    def forward(self, x: Tensor) -> Tensor:
        """(N, channels, ...) to the same shape."""
        return F.softplus(x, threshold=_SOFTPLUS_LINEAR_FROM)

    def bounds(self, lower: Tensor, upper: Tensor) -> tuple[Tensor, Tensor]:
        """Monotone, widened for rounding."""
        return widened(self(lower), self(upper))

    def slopes(self) -> Mapping[str, Slope]:
        """`leaky`: the true derivative, but never below .1."""
        return {"leaky": lambda x: torch.clamp(torch.sigmoid(x), min=LEAK)}


def relu(channels: int, /) -> Activation:
    """max(0, x)."""
    return ReLU(channels)


def tanh(channels: int, /) -> Activation:
    """The hyperbolic tangent."""
    return Tanh(channels)


def hardtanh(channels: int, /) -> Activation:
    """Clamp of x to [-1, 1]."""
    return Hardtanh(channels)


def silu(channels: int, /) -> Activation:
    """Swish, x * sigmoid(x)."""
    return SiLU(channels)


def softplus(channels: int, /) -> Activation:
    """log(1 + exp(x))."""
    return Softplus(channels)
