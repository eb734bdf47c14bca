"""A model as a list of layers that are called one after another, where that is certain."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from drelu_cli.activations.contract import Activation
from drelu_cli.runtime.containers import is_chain, is_watched

_PROBES = 4  # points at which chain and model are compared

# Elementwise in evaluation mode, or with one scale and shift per channel: what they do to a
# pixel depends on its channel alone, so that a cut-out piece may be given to them.
_POINTWISE = (
    nn.Identity,
    nn.Dropout,
    nn.Dropout2d,
    nn.BatchNorm2d,
    nn.ReLU,
    nn.ReLU6,
    nn.Hardtanh,
    nn.LeakyReLU,
    nn.ELU,
    nn.SiLU,
    nn.GELU,
    nn.Softplus,
    nn.Tanh,
    nn.Sigmoid,
)


def layers_of(model: nn.Module, x: Tensor) -> list[nn.Module] | None:
    """The modules that `model` calls one after another; None where that is not certain.

    Containers are `nn.Sequential` and subclasses that declare to add nothing; chain and model
    are compared at a few points all the same. A hook, a replaced `forward` and a layer that is
    neither torch's nor one of our activations may do anything, count passes for one: None.

    Args:
        model: in evaluation mode.
        x: (N, ...) points of the model's input space.
    """
    layers = certain_layers(model)
    if layers is None:
        return None
    return layers if same_at_probes(lambda probes: called(layers, probes), model, x) else None


def same_at_probes(
    other: Callable[[Tensor], Tensor], model: Callable[[Tensor], Tensor], x: Tensor
) -> bool:
    """Whether both give the same logits, up to rounding, at a few of the points `x` (N, ...)."""
    with torch.no_grad():
        return _same(other(x[:_PROBES]), model(x[:_PROBES]))


def certain_layers(
    model: nn.Module, known: tuple[type[nn.Module], ...] = ()
) -> list[nn.Module] | None:
    """As `layers_of`, from the modules alone: no pass; instances of `known` count as known."""
    layers: list[nn.Module] = []
    return layers if is_chain(model) and _collected(model, layers, known) else None


def is_pointwise(layer: nn.Module) -> bool:
    """A layer that treats each pixel of a channel alone and alike; shapes stay."""
    if type(layer) is nn.BatchNorm2d:
        return not layer.training and layer.running_mean is not None
    if type(layer) in _POINTWISE:
        return not layer.training or not isinstance(layer, nn.Dropout | nn.Dropout2d)
    if isinstance(layer, Activation):
        return layer.elementwise
    return hasattr(layer, "scale_and_shift")


def called(layers: list[nn.Module], point: Tensor) -> Tensor:
    """The layers one after another."""
    for layer in layers:
        point = layer(point)
    return point


def _collected(
    module: nn.Module, layers: list[nn.Module], known: tuple[type[nn.Module], ...]
) -> bool:
    """Appends what `module` calls; False where that is not certain. Each module is met once."""
    if is_chain(module):
        # Not `children`, which hides repeats.
        parts = module._modules.values()  # noqa: SLF001
        return all(_collected(part, layers, known) for part in parts if part is not None)
    layers.append(module)
    inside = module.modules() if module._modules else (module,)  # noqa: SLF001
    certain = isinstance(module, known) or _is_known(module)
    return certain and not any(is_watched(part) for part in inside)


def leaves(module: nn.Module) -> Iterator[nn.Module]:
    """What chains of chains call, in order."""
    if not is_chain(module):
        yield module
        return
    # Not `children`, which hides repeats.
    for child in module._modules.values():  # noqa: SLF001
        if child is not None:
            yield from leaves(child)


def _is_known(layer: nn.Module) -> bool:
    return type(layer).__module__.startswith("torch.nn.modules.") or is_pointwise(layer)


def _same(chain: Tensor, logits: Tensor) -> bool:
    if chain.shape != logits.shape or chain.dtype != logits.dtype:
        return False
    # Half of the digits: rounding stays far below, another computation does not.
    allowed = torch.finfo(logits.dtype).eps ** 0.5 * (1 + chain.abs().max())
    return bool((chain - logits).abs().max() < allowed)
