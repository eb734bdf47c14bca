"""The inner maximisation of adversarial training: PGD with its last iterate.

Unlike the attack `pgd` it never stops early and returns the last iterate, as the training
schemes define it; it computes no weight gradients and leaves batch norm's statistics alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import torch
from torch import Tensor, nn

from drelu_cli.runtime.modes import evaluation_mode

# (logits at the perturbed points) -> 0-dim loss to be maximised
Objective = Callable[[Tensor], Tensor]


class Draws(Protocol):
    """Where the random start comes from: a `Stream`, or those of stacked nets."""

    def uniform(
        self, name: str, shape: Sequence[int], *, dtype: torch.dtype = torch.float32
    ) -> Tensor:
        """(B, *shape) uniform draws from [0, 1)."""


def linf_pgd(
    model: nn.Module,
    x: Tensor,
    stream: Draws,
    objective: Objective,
    *,
    eps: float,
    steps: int,
    rel_step: float,
) -> Tensor:
    """Perturbed points after `steps` signed gradient steps of `eps * rel_step`.

    Madry et al. 2017 (arXiv 1706.06083), eq. 2.1 and section 2: uniform random start in the
    Linf ball, projection onto ball and box [0, 1] after every step.

    Args:
        model: evaluated in evaluation mode; its modes are restored.
        x: (B, ...) in [0, 1].
        stream: the batch's random numbers (the epoch is in its path).
        objective: what is maximised, from the logits of the perturbed points.
        eps: radius in pixel units.
        steps: number of gradient steps.
        rel_step: step size as a share of eps.

    Returns:
        (B, ...) detached, inside ball and box.
    """
    low, high = (x - eps).clamp_min(0.0), (x + eps).clamp_max(1.0)
    start = stream.uniform("train start", tuple(x.shape[1:]), dtype=x.dtype)
    points = torch.clamp(x + (2.0 * start - 1.0) * eps, low, high)
    with evaluation_mode(model), torch.enable_grad():
        for _ in range(steps):
            points = points.detach().requires_grad_(True)
            (gradient,) = torch.autograd.grad(objective(model(points)), points)
            points = torch.clamp(points + rel_step * eps * gradient.sign(), low, high)
    return points.detach()
