"""What every activation is: a module that knows its bounds, its surrogates and where it ends.

    factory(channels, *, options) -> Activation

The factory's positional argument comes from the network, its options from the recipe.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from drelu_cli.core.errors import ModelError

ActivationFactory = Callable[[int], nn.Module]
Slope = Callable[[Tensor], Tensor]

# Slope of a leaky surrogate where the true derivative is zero: steep enough that a sample on a
# plateau moves, flat enough that active units lead. Same value in every surrogate.
LEAK = 0.1


class Activation(nn.Module):
    """An elementwise, nondecreasing function; override `bounds` where it is not monotone.

    Attributes:
        elementwise: an output depends on one input. False where units compete; every sample is
            still alone.

    Args:
        channels: size of dimension 1 of the input; neurons after a dense layer, channels after
            a convolution; >= 1.
    """

    elementwise: bool = True

    def __init__(self, channels: int) -> None:
        super().__init__()
        if channels < 1:
            raise ModelError(f"an activation for {channels} channels", hint="use 1 or more")
        self.channels = channels

    def forward(self, x: Tensor) -> Tensor:
        """(N, channels, ...) to the same shape and dtype."""
        raise NotImplementedError

    def bounds(self, lower: Tensor, upper: Tensor) -> tuple[Tensor, Tensor]:
        """Bounds of the outputs for all inputs in [lower, upper], elementwise.

        Sound for the numbers `forward` returns, rounding included; differentiable.

        Args:
            lower: (N, channels, ...) finite.
            upper: the same shape, >= lower.
        """
        return self(lower), self(upper)

    def slopes(self) -> Mapping[str, Slope]:
        """Surrogate derivatives for attacks: name -> elementwise dy/dx to use instead.

        The forward pass never changes. Each takes the activation's input (N, channels, ...)
        and returns the same shape.
        """
        return {}

    def caps(self) -> tuple[nn.Parameter, ...]:
        """The learnable caps: the penalty counts them, `project_caps_` keeps them >= 0."""
        return ()

    def uncapped(self) -> nn.Module | None:
        """The same function without its cap, as a network that leads an attack has it.

        None where there is no cap. It never judges: nothing needs to agree with `forward`.
        """
        return None

    def ends(self, x: Tensor) -> tuple[Tensor | float, Tensor | float] | None:  # noqa: ARG002
        """The inputs at and below, at and above which a unit is saturated.

        Either end may be infinite. None where the activation does not saturate.

        Args:
            x: (N, channels, ...) an input; both ends broadcast over it.
        """
        return None

    def extra_repr(self) -> str:
        """The channels, for the network's structure text."""
        return str(self.channels)


def leaky(x: Tensor) -> Tensor:
    """1 above 0, `LEAK` elsewhere: the derivative of a leaky ReLU."""
    return torch.where(x > 0, 1.0, LEAK).to(x.dtype)


def straight_through(x: Tensor) -> Tensor:
    """1 everywhere (Bengio, Leonard & Courville 2013, arXiv 1308.3432)."""
    return torch.ones_like(x)


def leaky_between(x: Tensor, low: Tensor | float, high: Tensor | float) -> Tensor:
    """1 where low < x < high, `LEAK` elsewhere."""
    return torch.where((x > low) & (x < high), 1.0, LEAK).to(x.dtype)


def soft_between(x: Tensor, low: Tensor | float, high: Tensor | float) -> Tensor:
    """1 / (1 + d^2), d the distance of x from [low, high].

    The derivative of a smooth cap: linear between `low` and `high`, an arctangent of unit
    scale beyond. Its tails are algebraic on purpose: a logistic tail underflows to exactly
    zero where a unit sits far beyond its cap, which is what a surrogate must not do.
    """
    below = torch.clamp(low - x, min=0)
    above = torch.clamp(x - high, min=0)
    return (1 + (below + above).square()).reciprocal()


def widened(lower: Tensor, upper: Tensor) -> tuple[Tensor, Tensor]:
    """Bounds moved outwards by 8 units in the last place.

    exp, tanh and log1p are rounded differently by vector and scalar code and need not be
    monotone in their last bits; clamps are exact and need no widening.
    """
    info = torch.finfo(lower.dtype)
    return (
        lower - (8 * info.eps * lower.detach().abs() + info.tiny),
        upper + (8 * info.eps * upper.detach().abs() + info.tiny),
    )
