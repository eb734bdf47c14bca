"""Each known layer's output and its way back, as formulas: the parts of `layerwise`.

In float64 every number is the one that autograd gives.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from drelu_cli.activations.capped import DReLU, SReLU
from drelu_cli.activations.plain import Hardtanh, ReLU

Back = Callable[[Tensor], Tensor]
"""The gradient at a layer's output -> the gradient at its input."""
Step = Callable[[Tensor], tuple[Tensor, Back]]
"""A layer's input -> its output and the way back; it may overwrite a tensor made for it alone."""

_aten: Any = torch.ops.aten
_LAST = torch.channels_last
# Input channels up to which a convolution's input gradient is a matrix product: oneDNN computes 8
# or 16 channels where 1 or 3 are wanted.
_FEW_CHANNELS = 4


def _dense(layer: nn.Linear, own: bool) -> Step:  # noqa: ARG001
    return lambda point: (F.linear(point, layer.weight, layer.bias), lambda g: g @ layer.weight)


def _flatten(layer: nn.Flatten, own: bool) -> Step:  # noqa: ARG001
    def step(point: Tensor) -> tuple[Tensor, Back]:
        layout = _LAST if _is_last(point) else torch.contiguous_format
        return layer(point), lambda g: g.reshape(point.shape).contiguous(memory_format=layout)

    return step


def affine(layer: Any, own: bool) -> Step:  # noqa: ARG001
    """A layer with one scale and shift per channel, such as normalisation."""

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
    top, left = map(int, layer.padding)  # no text: `layerwise` leaves such layers to autograd
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


def by_autograd(layer: nn.Module, own: bool) -> Step:  # noqa: ARG001
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


CLAMPS = {
    nn.ReLU: _relu,
    ReLU: _relu,
    nn.ReLU6: _hardtanh,
    nn.Hardtanh: _hardtanh,
    Hardtanh: _hardtanh,
    SReLU: _hardtanh,
    DReLU: _drelu,
}
MAKERS: dict[type[nn.Module], Callable[[Any, bool], Step]] = {
    **CLAMPS,
    nn.Linear: _dense,
    nn.Conv2d: _convolution,
    nn.MaxPool2d: _pooling,
    nn.Flatten: _flatten,
}
