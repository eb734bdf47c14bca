"""A model as a chain of layers whose bounds are known, checked against the model itself."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from drelu_cli.activations.capped import DReLU, SReLU
from drelu_cli.activations.contract import Activation
from drelu_cli.activations.plain import Hardtanh, ReLU
from drelu_cli.certify.chain import leaves
from drelu_cli.certify.layers import Convolution, Dense, Flatten, Layer, Scale
from drelu_cli.certify.pooling import MaxPooling
from drelu_cli.certify.relaxations import Bounded, Clamp
from drelu_cli.core.errors import BadValue, ModelError
from drelu_cli.runtime.modes import evaluation_mode

_CHECKED = 4  # points at which chain and model are compared
_SUPPORTED = (
    "nn.Sequential of Linear, Conv2d, MaxPool2d, Flatten, ReLU, drelu activations and a "
    "normalisation with scale_and_shift()"
)


@runtime_checkable
class PerChannelAffine(Protocol):
    """A frozen map y = scale * x + shift, one scale and shift per channel of (N, C, H, W)."""

    def scale_and_shift(self) -> tuple[Tensor, Tensor]:
        """(C, 1, 1) each."""
        ...


def layers_of(model: nn.Module, x: Tensor) -> list[Layer]:
    """The chain that `model` computes in evaluation mode, in the dtype and on the device of `x`.

    A layer is recognised by its exact type: a subclass may compute something else. That no
    container or hook does is checked by comparing chain and model at a few points.

    Args:
        model: nested `nn.Sequential`s, or a straight traced graph, of supported layers; any dtype.
        x: (N, ...) float, N >= 1: points of the model's input space.

    Raises:
        ModelError: a layer that has no bounds here, by name; or a model that computes something
            else than its layers one after another.
        BadValue: no point.
    """
    if not len(x):
        raise BadValue("bounds for no image", hint="give one or more")
    with evaluation_mode(model), torch.no_grad():
        like = next((p for p in model.parameters() if p.is_floating_point()), x)
        logits = model(x[:_CHECKED].to(like)).to(x)
    layers: list[Layer] = []
    point = x[:_CHECKED]
    for name, module in leaves(model, "model"):
        layer = _layer(name, module, point)
        if layer is None:
            continue
        layers.append(layer)
        point = layer.forward(point)
    _require_same(point.detach(), logits, torch.finfo(like.dtype).eps)
    return _merged(layers)


def _layer(name: str, module: nn.Module, point: Tensor) -> Layer | None:
    """The layer that `module` is for inputs like `point`; None for one that changes nothing."""
    if type(module) in (nn.Identity, nn.Dropout):
        return None
    make = _MAKERS.get(type(module))
    if make is None and isinstance(module, PerChannelAffine):
        make = _scale
    if make is None and isinstance(module, Activation):
        make = _bounded
    if make is None:
        raise ModelError(
            f"no bounds are known for {name}, a {type(module).__name__}",
            hint=f"certified are {_SUPPORTED}",
        )
    layer: Layer | None = make(module, point)
    if layer is None:
        raise ModelError(
            f"no bounds are known for {name}, {module} on inputs of shape {tuple(point.shape)}",
            hint="zero padding, Linear on (N, features), Conv2d and pooling on (N, C, H, W)",
        )
    return layer


def _dense(module: nn.Linear, point: Tensor) -> Layer | None:
    if point.dim() != 2:
        return None
    return Dense(module.weight.to(point), _bias(module, point))


def _convolution(module: nn.Conv2d, point: Tensor) -> Layer | None:
    padding = _conv_padding(module)
    if point.dim() != 4 or padding is None or module.padding_mode != "zeros":
        return None
    weight = module.weight.to(point)
    if module.groups > 1:
        weight = torch.cat(
            [
                torch.nn.functional.pad(
                    part, (0, 0, 0, 0, g * part.shape[1], (module.groups - 1 - g) * part.shape[1])
                )
                for g, part in enumerate(weight.chunk(module.groups))
            ]
        )
    stride, dilation = _pair(module.stride), _pair(module.dilation)
    return Convolution(weight, _bias(module, point), stride, padding, dilation)


def _conv_padding(module: nn.Conv2d) -> tuple[int, int] | None:
    if not isinstance(module.padding, str):
        return _pair(module.padding)
    if module.padding == "valid":
        return (0, 0)
    full = [d * (k - 1) for d, k in zip(module.dilation, module.kernel_size, strict=True)]
    # An odd total would be padded on one side only.
    return (full[0] // 2, full[1] // 2) if not any(size % 2 for size in full) else None


def _pooling(module: nn.MaxPool2d, point: Tensor) -> Layer | None:
    if point.dim() != 4 or module.ceil_mode or module.return_indices:
        return None
    stride = module.kernel_size if module.stride is None else module.stride
    return MaxPooling(
        kernel=_pair(module.kernel_size),
        stride=_pair(stride),
        padding=_pair(module.padding),
        dilation=_pair(module.dilation),
        clamp=_clamp(point, -torch.inf, torch.inf),
    )


def _flatten(module: nn.Flatten, point: Tensor) -> Layer | None:
    whole = module.start_dim == 1 and module.end_dim in (-1, point.dim() - 1)
    return Flatten() if whole else None


def _scale(module: Any, point: Tensor) -> Layer | None:
    scale, shift = (part.to(point) for part in module.scale_and_shift())
    return Scale(scale, shift) if point.dim() == 4 else None


def _clamp(like: Tensor, low: float, high: float) -> Clamp:
    return Clamp(like.new_tensor(low), like.new_tensor(high))


def _relu(_: nn.Module, point: Tensor) -> Layer:
    return _clamp(point, 0.0, torch.inf)


def _hardtanh(module: nn.Hardtanh, point: Tensor) -> Layer:
    return _clamp(point, module.min_val, module.max_val)


def _plain_hardtanh(_: Hardtanh, point: Tensor) -> Layer:
    return _clamp(point, -1.0, 1.0)


def _srelu(module: SReLU, point: Tensor) -> Layer:
    return _clamp(point, 0.0, module.cap)


def _drelu(module: DReLU, point: Tensor) -> Layer:
    cap = module.limits(point).to(point)
    # min(max(0, x), m) is m everywhere where m is negative.
    return Clamp(cap.clamp(max=0.0), cap)


def _bounded(module: Activation, point: Tensor) -> Layer:
    tensors = [*module.parameters(), *module.buffers()]
    if any(tensor.is_floating_point() and tensor.dtype != point.dtype for tensor in tensors):
        module = copy.deepcopy(module).to(point)
    return Bounded(module, module.bounds)


_MAKERS: dict[type[nn.Module], Callable[[Any, Tensor], Layer | None]] = {
    nn.Linear: _dense,
    nn.Conv2d: _convolution,
    nn.MaxPool2d: _pooling,
    nn.Flatten: _flatten,
    nn.ReLU: _relu,
    nn.ReLU6: _hardtanh,
    nn.Hardtanh: _hardtanh,
    ReLU: _relu,
    Hardtanh: _plain_hardtanh,
    SReLU: _srelu,
    DReLU: _drelu,
}


def _bias(module: nn.Linear | nn.Conv2d, like: Tensor) -> Tensor:
    if module.bias is None:
        return like.new_zeros(len(module.weight))
    return module.bias.to(like)


def _pair(size: int | tuple[int, ...]) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else (size[0], size[1])


def _require_same(chain: Tensor, logits: Tensor, eps: float) -> None:
    # Half of the model's digits: rounding stays far below, another computation does not.
    allowed = eps**0.5 * (1 + chain.abs().max())
    finite = bool(chain.isfinite().all())
    if chain.shape != logits.shape or (finite and not bool((chain - logits).abs().max() < allowed)):
        raise ModelError(
            "the model computes something else than its layers one after another",
            hint="bounds hold for plain nn.Sequential networks without hooks",
        )


def _merged(layers: list[Layer]) -> list[Layer]:
    """A clamp before or after max pooling becomes part of it: f(max(x)) = max(f(x))."""
    merged: list[Layer] = []
    for layer in layers:
        last = merged[-1] if merged else None
        if isinstance(last, Clamp) and isinstance(layer, MaxPooling):
            merged[-1] = replace(layer, clamp=last)
        elif isinstance(last, MaxPooling) and isinstance(layer, Clamp) and last.alone:
            merged[-1] = replace(last, clamp=layer)
        else:
            merged.append(layer)
    return merged
