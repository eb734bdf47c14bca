"""Training schemes. Keyword options come from `[[phase]]` of the recipe."""

from __future__ import annotations

from typing import Annotated

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from drelu_cli.runtime.modes import evaluation_mode
from drelu_cli.runtime.streams import Stream
from drelu_cli.training.contract import Loss
from drelu_cli.training.inner import linf_pgd

Radius = Annotated[float, Field(ge=0)]
Steps = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(gt=0)]


def accuracy_of(logits: Tensor, y: Tensor) -> Tensor:
    """Share of correct predictions, 0-dim, without a gradient."""
    return (logits.detach().argmax(dim=1) == y).float().mean()


def natural(model: nn.Module, x: Tensor, y: Tensor, stream: Stream, /) -> Loss:  # noqa: ARG001
    """Cross entropy on clean images."""
    logits = model(x)
    loss = F.cross_entropy(logits, y)
    return Loss(loss, {"natural": loss.detach(), "accuracy": accuracy_of(logits, y)})


def madry(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    stream: Stream,
    /,
    *,
    eps: Radius,
    steps: Steps = 10,
    rel_step: Share = 0.25,
) -> Loss:
    """Cross entropy on PGD examples: Madry et al. 2017 (arXiv 1706.06083).

    Args:
        model: logits from images in [0, 1].
        x: (B, C, H, W) clean images.
        y: (B,) labels.
        stream: the batch's random numbers.
        eps: Linf radius in pixel units (default: the data set's).
        steps: PGD steps.
        rel_step: PGD step size as a share of eps.
    """

    def cross_entropy(logits: Tensor) -> Tensor:
        return F.cross_entropy(logits, y, reduction="sum")

    points = linf_pgd(model, x, stream, cross_entropy, eps=eps, steps=steps, rel_step=rel_step)
    logits = model(points)
    loss = F.cross_entropy(logits, y)
    return Loss(loss, {"robust": loss.detach(), "accuracy": accuracy_of(logits, y)})


def at(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    stream: Stream,
    /,
    *,
    eps: Radius,
    adversarial_epochs: Annotated[int, Field(ge=0)] = 10,  # noqa: ARG001
    steps: Steps = 10,
    rel_step: Share = 0.25,
) -> Loss:
    """The source paper's adversarial training: natural, then `adversarial_epochs` of Madry's.

    A recipe spells it out as those two phases; as a loss it is the second one's.

    Args:
        model: logits from images in [0, 1].
        x: (B, C, H, W) clean images.
        y: (B,) labels.
        stream: the batch's random numbers.
        eps: Linf radius in pixel units (default: the data set's).
        adversarial_epochs: length of the second phase.
        steps: PGD steps.
        rel_step: PGD step size as a share of eps.
    """
    return madry(model, x, y, stream, eps=eps, steps=steps, rel_step=rel_step)


def trades(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    stream: Stream,
    /,
    *,
    eps: Radius,
    beta: Annotated[float, Field(ge=0)] = 6.0,
    steps: Steps = 10,
    rel_step: Share = 0.25,
) -> Loss:
    """CE(f(x), y) + beta * KL(f(x) || f(x')): TRADES, Zhang et al. 2019 (arXiv 1901.08573), eq. 3.

    x' maximises the same KL divergence. The start is uniform in the ball (the authors' code
    starts from normal noise of scale 0.001; from x itself the gradient would be zero).

    Args:
        model: logits from images in [0, 1].
        x: (B, C, H, W) clean images.
        y: (B,) labels.
        stream: the batch's random numbers.
        eps: Linf radius in pixel units (default: the data set's).
        beta: weight of the robust term; the paper's 1 / lambda.
        steps: PGD steps.
        rel_step: PGD step size as a share of eps.
    """
    with evaluation_mode(model), torch.no_grad():
        target = F.log_softmax(model(x), dim=1)

    def divergence(logits: Tensor) -> Tensor:
        return F.kl_div(F.log_softmax(logits, dim=1), target, reduction="sum", log_target=True)

    points = linf_pgd(model, x, stream, divergence, eps=eps, steps=steps, rel_step=rel_step)
    # Two passes, as the authors' code: batch norm sees clean and perturbed statistics apart.
    clean, perturbed = model(x), model(points)
    task = F.cross_entropy(clean, y)
    robust = F.kl_div(
        F.log_softmax(perturbed, dim=1),
        F.log_softmax(clean, dim=1),
        reduction="batchmean",
        log_target=True,
    )
    terms = {"natural": task.detach(), "robust": robust.detach(), "accuracy": accuracy_of(clean, y)}
    return Loss(task + beta * robust, terms)
