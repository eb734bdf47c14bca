"""Capped ReLUs: y = min(max(0, x), m), with m fixed (S-ReLU, ReLU6) or learnt (D-ReLU).

Derivatives at ties are fixed, since libraries differ: dy/dx = 1[0 < x < m], dy/dm = 1[x > m].
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from drelu_cli.activations.contract import (
    Activation,
    Slope,
    leaky_between,
    soft_between,
)
from drelu_cli.activations.plain import ReLU
from drelu_cli.core.errors import BadValue, ModelError


class CappedReLU(Activation):
    """What all capped ReLUs share: surrogates, ends. `limits` gives the caps."""

    def limits(self, x: Tensor) -> Tensor | float:
        """The caps, in a shape that broadcasts over `x`."""
        raise NotImplementedError

    def slopes(self) -> Mapping[str, Slope]:
        """`relu`: 1[x > 0]; `leaky_cap` and `soft_cap`: nowhere zero, 1 inside (0, m)."""
        return {
            "relu": lambda x: (x > 0).to(x.dtype),
            "leaky_cap": lambda x: leaky_between(x, 0.0, self.limits(x)),
            "soft_cap": lambda x: soft_between(x, 0.0, self.limits(x)),
        }

    def uncapped(self) -> nn.Module:
        """ReLU: the cap at infinity."""
        return ReLU(self.channels)

    def ends(self, x: Tensor) -> tuple[Tensor | float, Tensor | float]:
        """0 and the cap."""
        return 0.0, self.limits(x)


class SReLU(CappedReLU):
    """y = min(max(0, x), m) with one fixed m.

    Args:
        channels: size of dimension 1 of the input.
        cap: m, finite and >= 0, in units of the activation.
    """

    def __init__(self, channels: int, cap: float) -> None:
        super().__init__(channels)
        self.cap = _usable(cap)

    def forward(self, x: Tensor) -> Tensor:
        """(N, channels, ...) to the same shape; torch's hardtanh has the derivative fixed above."""
        return F.hardtanh(x, 0.0, self.cap)

    def limits(self, x: Tensor) -> Tensor | float:  # noqa: ARG002 - one for all of `x`
        """The one cap m."""
        return self.cap

    def extra_repr(self) -> str:
        """Channels and cap."""
        return f"{self.channels}, cap={self.cap:g}"


class DReLU(CappedReLU):
    """y_i = min(max(0, x_i), m_i) with one learnable m_i per neuron or channel.

    Attributes:
        cap: (channels,) the m_i, kept >= 0 by `caps.project_caps_` after each optimiser step.

    Args:
        channels: size of dimension 1 of the input.
        cap: where all m_i start, finite and >= 0.
    """

    def __init__(self, channels: int, cap: float) -> None:
        super().__init__(channels)
        self.cap = nn.Parameter(torch.full((channels,), _usable(cap)))

    def forward(self, x: Tensor) -> Tensor:
        """(N, channels, ...) to the same shape.

        Raises:
            ModelError: dimension 1 of `x` does not have `channels` entries.
        """
        return capped(x, self.limits(x))

    def limits(self, x: Tensor) -> Tensor:
        """The caps as (channels, 1, ...), one per neuron or channel of `x`."""
        if x.dim() < 2 or x.shape[1] != self.channels:
            raise ModelError(
                f"D-ReLU with {self.channels} caps got an input of shape {tuple(x.shape)}",
                hint="dimension 1 holds the neurons or channels",
            )
        return self.cap.reshape(-1, *[1] * (x.dim() - 2))

    def caps(self) -> tuple[nn.Parameter, ...]:
        """The m_i."""
        return (self.cap,)


def capped(x: Tensor, cap: Tensor) -> Tensor:
    """min(max(0, x), cap), with the derivatives fixed above.

    Args:
        x: any shape.
        cap: broadcasts over `x`.
    """
    y: Tensor = _Capped.apply(x, cap)  # type: ignore[no-untyped-call]
    return y


class _Capped(torch.autograd.Function):
    """min(max(0, x), m) with derivatives that are whole numbers at ties.

    `torch.minimum` gives halves at ties, `torch.clamp` ones at both ends.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, cap: Tensor) -> Tensor:
        return torch.minimum(F.relu(x), cap)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:  # noqa: ARG004
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None]:
        x, cap = ctx.saved_tensors
        # cap - x > 0 says x < cap exactly, since a difference of floats is zero only where they
        # are equal; grad * (x < cap) says it, too, at several times the cost on a CPU.
        grad_x = _where_positive(_where_positive(grad, x), cap - x)
        if not ctx.needs_input_grad[1]:
            return grad_x, None
        return grad_x, _where_positive(grad, x - cap).sum_to_size(cap.shape)


def _where_positive(grad: Tensor, x: Tensor) -> Tensor:
    """Entries of `grad` where x > 0, else 0: the backward pass of ReLU, vectorised."""
    kept: Tensor = torch.ops.aten.threshold_backward(grad, x, 0)
    return kept


def _usable(cap: float) -> float:
    if not math.isfinite(cap) or cap < 0:
        raise BadValue(f"cap {cap:g} is not a finite number >= 0", hint="cap = 1.0")
    return float(cap)


def relu6(channels: int, /) -> Activation:
    """min(max(0, x), 6) (arXiv 1704.04861)."""
    return SReLU(channels, 6.0)


def srelu(channels: int, /, *, cap: float = 1.0) -> Activation:
    """min(max(0, x), m), one fixed m = `cap`."""
    return SReLU(channels, cap)


def drelu(channels: int, /, *, cap: float = 100.0) -> Activation:
    """min(max(0, x), m_i), one learnable m_i per neuron or channel, started at `cap`."""
    return DReLU(channels, cap)
