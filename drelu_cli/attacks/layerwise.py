"""Input gradients layer by layer, without autograd, where a model is surely a chain of layers.

What this saves on a CPU, beside autograd's bookkeeping:
* images with their channels last, float32 only: torch's max pooling then is vectorised (8 us for
  64 x 14 x 14 instead of 90), and it was half of the shallow CNN's forward pass;
* clamping activations after the max pooling that follows them, f(max(x)) = max(f(x)): a quarter
  of the numbers. The gradient is the same: pooling may choose another of several saturated
  entries, but their derivative is 0;
* the input gradient of a convolution with few input channels as one matrix product.

In float64 every number is the one that autograd gives.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from drelu_cli.activations.contract import Activation
from drelu_cli.activations.surrogate import GenericSurrogate, Surrogate
from drelu_cli.attacks.chain import certain_layers
from drelu_cli.attacks.layer_steps import CLAMPS, MAKERS, Back, Step, affine, by_autograd


def steps_of(model: nn.Module, points: Tensor) -> list[Step] | None:
    """The layers of `model` for such points, in order; None where autograd has to do it.

    Args:
        model: any module; a chain may hold layers that are not known here (smooth activations,
            batch normalisation): those get autograd, each for itself.
        points: (n, ...) in the model's dtype.
    """
    if not points.is_cpu or torch.is_autocast_enabled("cpu"):
        return None
    # A classifier that names the images it takes refuses others: that is for its own `forward`.
    if getattr(model, "shape", points.shape[1:]) != points.shape[1:]:
        return None
    layers = certain_layers(model, (Activation, Surrogate, GenericSurrogate))
    if layers is None or not all(_fits(layer, points) for layer in layers):
        return None
    ordered = _pooled_first([layer for layer in layers if not _passes_on(layer)])
    steps, own = [], False
    for layer in ordered:
        steps.append(_maker(layer, points)(layer, own))
        if type(layer) is not nn.Flatten:
            # Only what nobody else holds may be overwritten: a clamp keeps its output.
            own = type(layer) in (nn.Linear, nn.Conv2d, nn.MaxPool2d)
    return steps


def through(steps: list[Step], points: Tensor) -> tuple[Tensor, list[Back]]:
    """The logits at `points` and the ways back through the layers, the last layer's first."""
    backs: list[Back] = []
    with torch.no_grad():
        for step in steps:
            points, back = step(points)
            backs.insert(0, back)
    return points, backs


def logits_through(steps: list[Step], points: Tensor) -> Tensor:
    """The logits at `points`; nothing is kept."""
    with torch.no_grad():
        for step in steps:
            points, _ = step(points)
    return points


def back_through(backs: list[Back], gradient: Tensor) -> Tensor:
    """The gradient at the points from the one at the logits; what was kept is let go."""
    with torch.no_grad():
        while backs:
            gradient = backs.pop(0)(gradient)
    return gradient


def _fits(layer: nn.Module, points: Tensor) -> bool:
    """Whether a layer's own formulas hold: ordinary weights, and options that they know."""
    if type(layer) is nn.Conv2d and (
        layer.padding_mode != "zeros" or isinstance(layer.padding, str)
    ):
        return False
    if type(layer) is nn.MaxPool2d and (layer.ceil_mode or layer.return_indices):
        return False
    if type(layer) not in MAKERS and getattr(layer, "inplace", False):
        return False
    return all(
        weight.dtype == points.dtype and weight.is_cpu and weight.layout == torch.strided
        for weight in layer._parameters.values()  # noqa: SLF001 - `parameters` costs 10 times
        if weight is not None
    )


def _maker(layer: nn.Module, points: Tensor) -> Callable[[Any, bool], Step]:
    make = MAKERS.get(type(layer), by_autograd)
    # Of the type: asking a module for what it lacks takes as long as a small layer.
    if make is by_autograd and points.dtype == torch.float32:
        return affine if hasattr(type(layer), "scale_and_shift") else make
    return make


def _passes_on(layer: nn.Module) -> bool:
    return type(layer) is nn.Identity or (type(layer) is nn.Dropout and not layer.training)


def _pooled_first(layers: list[nn.Module]) -> list[nn.Module]:
    """Max pooling before the clamp it follows."""
    ordered = list(layers)
    for at in range(len(ordered) - 1):
        if type(ordered[at]) in CLAMPS and type(ordered[at + 1]) is nn.MaxPool2d:
            ordered[at], ordered[at + 1] = ordered[at + 1], ordered[at]
    return ordered
