"""Forward and backward passes to the input only; parameters keep their gradients and flags."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from drelu_cli.attacks.losses import misclassified

Loss = Callable[[Tensor, Tensor], Tensor]
"""logits (n, K), labels (n,) -> (n,), larger = more adversarial."""


@dataclass(frozen=True)
class Pass:
    """What one pass through the model saw at n points.

    Attributes:
        loss: (n,); infinite where some logit is not finite (that sample is misclassified).
        wrong: (n,) bool, misclassified.
        gradient: (n, ...) of the loss with respect to the points; entries that are not finite
            are 0; all 0 where no gradient was asked for.
    """

    loss: Tensor
    wrong: Tensor
    gradient: Tensor


def forward(model: nn.Module, points: Tensor, y: Tensor, loss: Loss) -> Pass:
    """One forward pass without a graph."""
    with torch.no_grad():
        logits = model(points)
        return _seen(logits, loss(logits, y), y, torch.zeros_like(points))


def forward_backward(model: nn.Module, points: Tensor, y: Tensor, loss: Loss) -> Pass:
    """One forward and one backward pass."""
    with torch.enable_grad():
        leaf = points.detach().requires_grad_()
        logits = model(leaf)
        values = loss(logits, y)
        # A model that ignores its input has no path to it: its gradient is zero.
        if values.requires_grad:
            # grad, not backward(): parameters' gradients are neither computed nor touched.
            (gradient,) = torch.autograd.grad(
                values.sum(), leaf, allow_unused=True, materialize_grads=True
            )
        else:
            gradient = torch.zeros_like(points)
    gradient = torch.nan_to_num(gradient.detach(), nan=0.0, posinf=0.0, neginf=0.0)
    return _seen(logits.detach(), values.detach(), y, gradient)


def _seen(logits: Tensor, values: Tensor, y: Tensor, gradient: Tensor) -> Pass:
    finite = torch.isfinite(logits).all(dim=1)
    values = torch.where(finite, values, torch.full_like(values, torch.inf))
    return Pass(values, misclassified(logits, y), gradient)
