"""CROWN: linear bounds carried back to the input, layer by layer, for undecided units only."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from drelu_cli.certify.functionals import Box, Functionals, units
from drelu_cli.certify.interval import ball, boxes_through
from drelu_cli.certify.layers import Backwards, Layer
from drelu_cli.certify.network import layers_of
from drelu_cli.core.errors import BadValue

# Numbers held at a time: bounds and margins' coefficients of a chunk of images, coefficients of a
# chunk of units. The work holds about ten such tensors of float64 (8 and 4 MB), and is fastest
# while they stay in the caches.
_IMAGE_NUMBERS = 1 << 20
_WEIGHT_NUMBERS = 1 << 19


@torch.no_grad()
def crown_margins(
    model: nn.Module, x: Tensor, y: Tensor, eps: float, *, tighten: bool = True
) -> Tensor:
    """Proven lower bounds of z_y - z_j over the Linf ball of `eps` within [0, 1], float64.

    CROWN (Zhang et al. 2018, arXiv 1811.00866) with adaptive lower slopes; the bounds before
    each nonlinear layer come from CROWN, too, or from intervals (CROWN-IBP, Zhang et al. 2020,
    arXiv 1906.06316). A sample's bounds do not depend on its neighbours, up to rounding.

    Args:
        model: a chain of supported layers, logits from images; read in evaluation mode, never
            changed.
        x: (N, ...) images in [0, 1].
        y: (N,) int64 labels.
        eps: radius, >= 0, in units of pixels in [0, 1].
        tighten: bound undecided units by CROWN, not by intervals alone.

    Returns:
        (N, K - 1) float64, the other classes j in ascending order.

    Raises:
        ModelError: a layer without bounds, by name.
        BadValue: no image, pixels outside [0, 1], a label that is no class, a radius below 0.
    """
    box = ball(x, eps)
    layers = layers_of(model, box[0])
    return in_chunks(crown_bounds if tighten else crown_interval_bounds, layers, box, y)


Bounds = Callable[[Sequence[Layer], Box, Tensor], Tensor]
"""(layers, box of inputs (N, ...), labels (N,)) to (N, K - 1) lower bounds of the margins."""


def in_chunks(bounds: Bounds, layers: Sequence[Layer], box: Box, y: Tensor) -> Tensor:
    """`bounds` of N >= 1 images, `_IMAGE_NUMBERS` numbers at a time.

    Raises:
        BadValue: a label that is no class, or not one for each image.
    """
    if y.shape != box[0].shape[:1]:
        raise BadValue(f"{len(y)} labels for {len(box[0])} images")
    boxes = boxes_through(layers, (box[0][:1], box[1][:1]))
    classes = boxes[-1][0].shape[1]
    if not bool(((y >= 0) & (y < classes)).all()):
        raise BadValue(f"a label is none of the {classes} classes", hint="0 .. classes - 1")
    sizes = [lower.numel() for lower, _ in boxes]
    size = max(1, _IMAGE_NUMBERS // (sum(sizes) + (classes - 1) * max(sizes)))
    chunks = zip(*(torch.split(part, size) for part in (*box, y)), strict=True)
    return torch.cat([bounds(layers, (lower, upper), labels) for lower, upper, labels in chunks])


def interval_bounds_of_margins(layers: Sequence[Layer], box: Box, y: Tensor) -> Tensor:
    """Intervals up to the last nonlinear layer; the linear rest, z_y - z_j included, is exact."""
    chain = _relaxed(layers, box, tighten=False)
    return _least(_differences(y, chain.classes), chain.tail, chain.last).reshape(len(y), -1)


def crown_interval_bounds(layers: Sequence[Layer], box: Box, y: Tensor) -> Tensor:
    """CROWN-IBP: lines from interval bounds, carried back to the input once."""
    return _carried_back(_relaxed(layers, box, tighten=False), box, y)


def crown_bounds(layers: Sequence[Layer], box: Box, y: Tensor) -> Tensor:
    """CROWN: lines from bounds that are themselves carried back to the input."""
    return _carried_back(_relaxed(layers, box, tighten=True), box, y)


@dataclass(frozen=True)
class _Chain:
    """A network relaxed over some boxes of inputs.

    Attributes:
        steps: per layer, how functions of its outputs become functions of its inputs.
        tail: the steps of the linear layers after the last nonlinear one.
        last: the box before the tail.
        classes: number of logits.
    """

    steps: list[Backwards]
    tail: list[Backwards]
    last: Box
    classes: int


def _relaxed(layers: Sequence[Layer], box: Box, *, tighten: bool) -> _Chain:
    steps: list[Backwards] = []
    here = last = box
    end = 0
    # Mixing layers since the last box that nothing can tighten: from the input on, intervals
    # are exact through the first of them.
    mixed = -1
    for index, layer in enumerate(layers):
        undecided = layer.undecided(here)
        if undecided is not None and tighten and mixed > 0:
            here = _tightened(here, undecided, steps, box)
        steps.append(layer.backwards(here))
        here = layer.interval(here)
        mixed += layer.mixes
        if undecided is not None:
            mixed, last, end = 0, here, index + 1
    return _Chain(steps, steps[end:], last, here[0].shape[1])


def _carried_back(chain: _Chain, box: Box, y: Tensor) -> Tensor:
    """(N, K - 1): from the input, or from the last box where that gives more."""
    wanted = _differences(y, chain.classes)
    from_input = _least(wanted, chain.steps, box)
    return torch.maximum(from_input, _least(wanted, chain.tail, chain.last)).reshape(len(y), -1)


def _tightened(here: Box, undecided: Tensor, steps: Sequence[Backwards], box: Box) -> Box:
    """`here` with the bounds of undecided units carried back to the input, where tighter."""
    lower, upper = here[0].clone(), here[1].clone()
    image, *unit = undecided.nonzero(as_tuple=True)
    if not len(image):
        return here
    shape = lower.shape[1:]
    index = torch.stack(unit, dim=1)
    size = max(1, _WEIGHT_NUMBERS // _widest(units(image[:1], index[:1], shape, 1.0), steps))
    for rows in torch.split(torch.arange(len(image), device=image.device), size):
        at = (image[rows], *(part[rows] for part in unit))
        low = _least(units(image[rows], index[rows], shape, 1.0), steps, box)
        high = -_least(units(image[rows], index[rows], shape, -1.0), steps, box)
        lower[at] = torch.maximum(lower[at], low)
        upper[at] = torch.minimum(upper[at], high)
    # Both hold up to rounding: where they meet, rounding may cross them.
    return torch.minimum(lower, upper), torch.maximum(lower, upper)


def _least(given: Functionals, steps: Sequence[Backwards], box: Box) -> Tensor:
    """(T,) lower bounds over the box of inputs."""
    for step in reversed(steps):
        given = step(given)
    return given.least(box)


def _widest(given: Functionals, steps: Sequence[Backwards]) -> int:
    """The most coefficients that one function has in any layer below."""
    widest = given.weight.numel()
    for step in reversed(steps):
        given = step(given)
        widest = max(widest, given.weight.numel())
    return widest


def _differences(y: Tensor, classes: int) -> Functionals:
    """z_y - z_j for each other class j, image after image."""
    unit = torch.eye(classes, dtype=torch.float64, device=y.device)
    others = (unit[y] == 0).nonzero()[:, 1]
    image = torch.arange(len(y), device=y.device)
    place = image.repeat_interleave(classes - 1)
    weight = unit[y][place] - unit[others]
    return Functionals(weight, weight.new_zeros(len(weight)), place, image)
