"""Schemes of the source paper's two companions: reachable outputs, and overfitting on purpose."""

from __future__ import annotations

from typing import Annotated

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from drelu_cli.certify.sensitivity import mean_log_width
from drelu_cli.runtime.streams import Stream
from drelu_cli.training.contract import Loss, regime
from drelu_cli.training.schemes import Radius, accuracy_of, natural


@regime(bounds=True)
def sensitivity(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    stream: Stream,  # noqa: ARG001
    /,
    *,
    eps: Radius,
    weight: Annotated[float, Field(ge=0)] = 0.1,
    floor: Annotated[float, Field(gt=0)] = 1e-3,
) -> Loss:
    """CE(f(x), y) + weight * mean log-width of the reachable outputs (arXiv 1810.11726).

    The source's loss is task + regulariser + sensitivity term; the regulariser is `[train]
    weight_decay`. Its sensitivity is the volume of an over-approximation of the outputs that
    Linf perturbations reach; here the interval box, whose log-volume is K times the mean
    log-width of K logits.

    Args:
        model: a chain of layers with interval bounds, such as `dense` and `shallow_cnn`.
        x: (B, C, H, W) clean images.
        y: (B,) labels.
        stream: the batch's random numbers; none are drawn.
        eps: Linf radius in pixel units (default: the data set's).
        weight: of the sensitivity term, in units of loss per natural log-width.
        floor: widths below it count as that and are not made smaller. Without it the loss falls
            without end towards a net of constant outputs; with 1e-3, which no decision feels,
            such a net gains at most 6.9 * weight.

    Raises:
        ModelError: the model has a layer without bounds.
    """
    logits = model(x)
    task = F.cross_entropy(logits, y)
    width = mean_log_width(model, x, eps, floor)
    terms = {
        "natural": task.detach(),
        "sensitivity": width.detach(),
        "accuracy": accuracy_of(logits, y),
    }
    return Loss(task + weight * width, terms)


@regime(stops=False)
def overfit(model: nn.Module, x: Tensor, y: Tensor, stream: Stream, /) -> Loss:
    """Cross entropy, all epochs at one rate, the last weights kept: the overfitting regime.

    Pedraza et al., on generalisation and robustness: training goes on long after validation
    accuracy peaks. The normal regime is the scheme `natural` with early stopping.
    """
    return natural(model, x, y, stream)
