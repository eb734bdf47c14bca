"""Interval bounds: a box goes in, a box comes out of every layer."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from drelu_cli.certify.functionals import Box
from drelu_cli.certify.layers import Layer
from drelu_cli.certify.network import layers_of
from drelu_cli.core.errors import BadValue


def interval_bounds(model: nn.Module, lower: Tensor, upper: Tensor) -> tuple[Tensor, Tensor]:
    """Bounds of the logits for all inputs in [lower, upper], by interval arithmetic.

    Gowal et al. 2018, arXiv 1810.12715, equation (6). Sound up to rounding in the dtype given;
    differentiable in the model's parameters, caps included, and in the box.

    Args:
        model: a chain of supported layers, logits from images; read in evaluation mode.
        lower: (N, ...) finite, float64 where something is to be proven.
        upper: the same shape and dtype, >= lower.

    Returns:
        lower and upper bounds of the logits, (N, K) each.

    Raises:
        ModelError: a layer without bounds, by name.
        BadValue: no box, or none at all.
    """
    if lower.shape != upper.shape or not bool((lower <= upper).all()):
        raise BadValue("lower and upper are no box", hint="the same shape, lower <= upper")
    return boxes_through(layers_of(model, lower), (lower, upper))[-1]


def boxes_through(layers: Sequence[Layer], box: Box) -> list[Box]:
    """The box before each layer, and the last one's result: one more than there are layers."""
    boxes = [box]
    for layer in layers:
        boxes.append(layer.interval(boxes[-1]))
    return boxes


def ball(x: Tensor, eps: float) -> Box:
    """The Linf ball of radius `eps` around images `x` (N, ...), cut with the box [0, 1]; float64.

    Raises:
        BadValue: pixels outside [0, 1], or a radius that is negative or not finite.
    """
    return ball_like(x.double(), eps)


def ball_like(x: Tensor, eps: float) -> Box:
    """The same in the dtype of `x`, for what is not to be proven."""
    if not 0.0 <= eps < float("inf"):
        raise BadValue(f"eps {eps:g} is no radius", hint="finite and >= 0")
    if not bool(((x >= 0) & (x <= 1)).all()):
        raise BadValue("pixels lie outside [0, 1]", hint="normalisation belongs into the model")
    return torch.clamp(x - eps, min=0.0), torch.clamp(x + eps, max=1.0)
