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
import torch.nn.functional as F
from torch import Tensor, nn

from drelu_cli.activations.capped import DReLU, SReLU
from drelu_cli.activations.contract import Activation
from drelu_cli.activations.plain import Hardtanh, ReLU
from drelu_cli.activations.surrogate import GenericSurrogate, Surrogate
from drelu_cli.attacks.chain import certain_layers

Back = Callable[[Tensor], Tensor]
"""The gradient at a layer's output -> the gradient at its input."""
Step = Callable[[Tensor], tuple[Tensor, Back]]
"""A layer's input -> its output and the way back; it may overwrite a tensor made for it alone."""

_aten: Any = torch.ops.aten
_LAST = torch.channels_last
# Input channels up to which a convolution's input gradient is a matrix product: oneDNN computes 8
# or 16 channels where 1 or 3 are wanted.
_FEW_CHANNELS = 4


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
    if type(layer) not in _MAKERS and getattr(layer, "inplace", False):
        return False
    return all(
        weight.dtype == points.dtype and weight.is_cpu and weight.layout == torch.strided
        for weight in layer._parameters.values()  # noqa: SLF001 - `parameters` costs 10 times
        if weight is not None
    )


def _maker(layer: nn.Module, points: Tensor) -> Callable[[Any, bool], Step]:
    make = _MAKERS.get(type(layer), _by_autograd)
    # Of the type: asking a module for what it lacks takes as long as a small layer.
    if make is _by_autograd and points.dtype == torch.float32:
        return _affine if hasattr(type(layer), "scale_and_shift") else make
    return make


def _passes_on(layer: nn.Module) -> bool:
    return type(layer) is nn.Identity or (type(layer) is nn.Dropout and not layer.training)


def _pooled_first(layers: list[nn.Module]) -> list[nn.Module]:
    """Max pooling before the clamp it follows."""
    ordered = list(layers)
    for at in range(len(ordered) - 1):
        if type(ordered[at]) in _CLAMPS and type(ordered[at + 1]) is nn.MaxPool2d:
            ordered[at], ordered[at + 1] = ordered[at + 1], ordered[at]
    return ordered


def _dense(layer: nn.Linear, own: bool) -> Step:  # noqa: ARG001
    return lambda point: (F.linear(point, layer.weight, layer.bias), lambda g: g @ layer.weight)


def _flatten(layer: nn.Flatten, own: bool) -> Step:  # noqa: ARG001
    def step(point: Tensor) -> tuple[Tensor, Back]:
        layout = _LAST if _is_last(point) else torch.contiguous_format
        return layer(point), lambda g: g.reshape(point.shape).contiguous(memory_format=layout)

    return step


def _affine(layer: Any, own: bool) -> Step:  # noqa: ARG001
    def step(point: Tensor) -> tuple[Tensor, Back]:
        scale = layer.scale_and_shift()[0].to(point)
        return layer(point), lambda g: g * scale

    return step


def _convolution(layer: nn.Conv2d, own: bool) -> Step:  # noqa: ARG001
    def step(point: Tensor) -> tuple[Tensor, Back]:
        point = _channels_last(point)
        conv = layer._conv_forward(point, layer.weight, layer.bias)  # noqa: SLF001
        if _as_product(layer, point):
            return conv, lambda g: _convolved_back(g, layer)
        return conv, lambda g: _convolution_backward(layer, g, point)

    return step


def _convolution_backward(layer: nn.Conv2d, gradient: Tensor, point: Tensor) -> Tensor:
    """Autograd's own kernel, asked for the input's part alone."""
    found: Tensor = _aten.convolution_backward(
        gradient,
        point,
        layer.weight,
        None,
        layer.stride,
        layer.padding,
        layer.dilation,
        False,
        [0, 0],
        layer.groups,
        [True, False, False],
    )[0]
    return found


def _as_product(layer: nn.Conv2d, point: Tensor) -> bool:
    return (
        point.dtype == torch.float32
        and layer.in_channels <= _FEW_CHANNELS
        and (layer.groups, layer.stride, layer.dilation) == (1, (1, 1), (1, 1))
    )


def _convolved_back(gradient: Tensor, layer: nn.Conv2d) -> Tensor:
    """One product for what every output gives to every tap of its window, then a sum by tap."""
    n, channels, height, width = gradient.shape
    _, inputs, *window = layer.weight.shape
    by_channel = gradient.permute(0, 2, 3, 1).reshape(-1, channels)
    given = layer.weight.flatten(1).t() @ by_channel.t()
    taps = given.view(inputs, *window, n, height, width)
    found = gradient.new_zeros(inputs, n, height + window[0] - 1, width + window[1] - 1)
    for row in range(window[0]):
        for column in range(window[1]):
            found[:, :, row : row + height, column : column + width] += taps[:, row, column]
    top, left = layer.padding  # type: ignore[misc] - `_fits` lets no text pass
    found = found[:, :, top : found.shape[2] - top, left : found.shape[3] - left]
    return found.transpose(0, 1).contiguous()


def _pooling(layer: nn.MaxPool2d, own: bool) -> Step:  # noqa: ARG001
    stride = layer.kernel_size if layer.stride is None else layer.stride
    options = [
        [size, size] if isinstance(size, int) else list(size)
        for size in (layer.kernel_size, stride, layer.padding, layer.dilation)
    ]

    def step(point: Tensor) -> tuple[Tensor, Back]:
        point = _channels_last(point)
        pooled, places = _aten.max_pool2d_with_indices(point, *options)
        return pooled, lambda g: _aten.max_pool2d_with_indices_backward(
            g, point, *options, False, places
        )

    return step


def _relu(layer: nn.Module, own: bool) -> Step:  # noqa: ARG001
    def step(point: Tensor) -> tuple[Tensor, Back]:
        y = point.relu_() if own else point.relu()
        return y, lambda g: _aten.threshold_backward(g, y, 0)

    return step


def _hardtanh(layer: Any, own: bool) -> Step:
    if isinstance(layer, nn.Hardtanh):
        low, high = layer.min_val, layer.max_val
    else:
        low, high = (0.0, layer.cap) if isinstance(layer, SReLU) else (-1.0, 1.0)

    def step(point: Tensor) -> tuple[Tensor, Back]:
        # The derivative is that of the output as well: 1 strictly inside.
        y = F.hardtanh(point, low, high, inplace=own)
        return y, lambda g: _aten.hardtanh_backward(g, y, low, high)

    return step


def _drelu(layer: DReLU, own: bool) -> Step:
    def step(point: Tensor) -> tuple[Tensor, Back]:
        cap = layer.limits(point)
        y = point.relu_() if own else point.relu()
        y = torch.minimum(y, cap, out=y)
        # 0 < y < cap says 0 < x < cap; both as in the activation itself.
        return y, lambda g: _aten.threshold_backward(_aten.threshold_backward(g, y, 0), cap - y, 0)

    return step


def _by_autograd(layer: nn.Module, own: bool) -> Step:  # noqa: ARG001
    """A layer that has no formula here, on the layout that every layer takes."""

    def step(point: Tensor) -> tuple[Tensor, Back]:
        with torch.enable_grad():
            leaf = point.detach().contiguous().requires_grad_()
            y = layer(leaf)

        def back(gradient: Tensor) -> Tensor:
            if not y.requires_grad:
                return torch.zeros_like(leaf)
            (found,) = torch.autograd.grad(
                y, leaf, gradient, allow_unused=True, materialize_grads=True
            )
            return found

        return y.detach(), back

    return step


def _channels_last(point: Tensor) -> Tensor:
    """(n, C, H, W) float32 with the channels last in memory; others as they are."""
    if point.dtype != torch.float32 or point.dim() != 4 or _is_last(point):
        return point
    n, channels, height, width = point.shape
    if channels > 1:
        return point.contiguous(memory_format=_LAST)
    # Either layout has the same entries in the same places; only the strides tell them apart.
    return point.contiguous().as_strided((n, 1, height, width), (height * width, 1, width, 1))


def _is_last(point: Tensor) -> bool:
    return point.dim() == 4 and point.stride(1) == 1 and point.is_contiguous(memory_format=_LAST)


_CLAMPS = {
    nn.ReLU: _relu,
    ReLU: _relu,
    nn.ReLU6: _hardtanh,
    nn.Hardtanh: _hardtanh,
    Hardtanh: _hardtanh,
    SReLU: _hardtanh,
    DReLU: _drelu,
}
_MAKERS: dict[type[nn.Module], Callable[[Any, bool], Step]] = {
    **_CLAMPS,
    nn.Linear: _dense,
    nn.Conv2d: _convolution,
    nn.MaxPool2d: _pooling,
    nn.Flatten: _flatten,
}
