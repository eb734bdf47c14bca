"""A network with another backward pass: forward bit for bit the same, gradients that do not vanish.

Backward pass differentiable approximation (Athalye, Carlini & Wagner 2018, arXiv 1802.00420),
as a change of the model, so every gradient attack gains it.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from drelu_cli.activations.contract import LEAK, Activation, Slope
from drelu_cli.activations.copies import exchanged, sharing_copy
from drelu_cli.core.errors import UnknownName


class Surrogate(nn.Module):
    """An activation whose backward pass uses the slope `name`.

    For attacks only: no gradient reaches the activation's own parameters.
    """

    def __init__(self, exact: Activation, name: str) -> None:
        super().__init__()
        self.exact = exact
        self.name = name

    def forward(self, x: Tensor) -> Tensor:
        """What the activation returns, bit for bit."""
        with torch.no_grad():
            y = self.exact(x)
        return replaced(x, y, self.exact.slopes()[self.name])

    def extra_repr(self) -> str:
        """The slope's name."""
        return self.name


class GenericSurrogate(nn.Module):
    """A module whose backward pass leaks wherever its own is exactly zero or not finite.

    For attacks only: no gradient reaches the module's own parameters.
    """

    def __init__(self, exact: nn.Module) -> None:
        super().__init__()
        self.exact = exact

    def forward(self, x: Tensor) -> Tensor:
        """What the module returns, bit for bit."""
        if not (torch.is_grad_enabled() and x.requires_grad):
            y: Tensor = self.exact(x)
            return y
        leaking: Tensor = _Leaking.apply(x, self.exact)  # type: ignore[no-untyped-call]
        return leaking


def replaced(x: Tensor, y: Tensor, slope: Slope) -> Tensor:
    """`y`, whose derivative with respect to `x` is `slope(x)`; all of one shape."""
    out: Tensor = _Replaced.apply(x, y, slope)  # type: ignore[no-untyped-call]
    return out


class _Replaced(torch.autograd.Function):
    """y in the forward pass, slope(x) as dy/dx in the backward pass."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor, slope: Slope) -> Tensor:
        ctx.slope = slope
        ctx.save_for_backward(x)
        return y.view_as(y)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        (x,) = ctx.saved_tensors
        with torch.no_grad():
            slope = ctx.slope(x)
        return grad * slope, None, None


class _Leaking(torch.autograd.Function):
    """The module's vector-Jacobian product; LEAK times the cotangent where that is no number."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, exact: nn.Module) -> Tensor:
        with torch.enable_grad():
            point = x.detach().requires_grad_()
            # The clone is for modules that work in place, which a leaf does not allow.
            y: Tensor = exact(point.clone())
        ctx.point, ctx.y = point, y
        return y.detach().view_as(y)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        # Kept: a caller may ask for one logit's gradient after another.
        own = vector_jacobian(ctx.y, ctx.point, grad, keep=True)
        if own is None:
            return grad * LEAK, None
        return torch.where((own == 0) | ~own.isfinite(), grad * LEAK, own), None


def vector_jacobian(
    y: Tensor, x: Tensor, cotangent: Tensor, *, keep: bool = False
) -> Tensor | None:
    """The cotangent times dy/dx; None where no graph leads from `y` to `x`."""
    if not y.requires_grad:
        return None
    found: tuple[Tensor | None, ...] = torch.autograd.grad(
        y, x, cotangent, retain_graph=keep, allow_unused=True
    )
    return found[0]


def surrogate_names(model: nn.Module) -> list[str]:
    """Every slope that some activation of `model` declares, sorted."""
    return sorted(
        {
            name
            for module in model.modules()
            if isinstance(module, Activation)
            for name in module.slopes()
        }
    )


def with_surrogate(model: nn.Module, name: str) -> nn.Module:
    """A copy of `model` whose activations use the slope `name` where they declare it.

    Parameters and buffers are shared, the rest of the structure is not: train/eval mode and
    hooks of the copy are its own, and the original is untouched. Activations that do not
    declare `name` keep the backward pass they have, so calls may be stacked.

    Raises:
        UnknownName: no activation of `model` declares this slope.
        ModelError: the model holds something that cannot be copied.
    """
    known = surrogate_names(model)
    if name not in known:
        raise UnknownName.among("surrogate slope of this model", name, known)

    def choose(module: nn.Module) -> nn.Module | None:
        exact = module.exact if isinstance(module, Surrogate) else module
        if not isinstance(exact, Activation):
            return None
        if name not in exact.slopes():
            return module
        return Surrogate(exact, name).train(module.training)

    return exchanged(sharing_copy(model), choose)
