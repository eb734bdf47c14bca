"""A network with another backward pass: forward bit for bit the same, gradients that do not vanish.

Backward pass differentiable approximation (Athalye, Carlini & Wagner 2018, arXiv 1802.00420),
as a change of the model, so every gradient attack gains it.
"""

from __future__ import annotations

import copy
import itertools
from typing import Any

import torch
from torch import Tensor, nn

from drelu_cli.activations.contract import Activation, Slope
from drelu_cli.core.errors import ModelError, UnknownName


class Surrogate(nn.Module):
    """An activation whose backward pass uses the slope `name`.

    For attacks only: no gradient reaches the activation's own parameters.
    """

    def __init__(self, exact: Activation, name: str) -> None:
        super().__init__()
        self.exact = exact
        self.name = name

    def forward(self, x: Tensor) -> Tensor:
        """What the activation returns, bit for bit."""
        with torch.no_grad():
            y = self.exact(x)
        out: Tensor = _Replaced.apply(  # type: ignore[no-untyped-call]
            x, y, self.exact.slopes()[self.name]
        )
        return out

    def extra_repr(self) -> str:
        """The slope's name."""
        return self.name


class _Replaced(torch.autograd.Function):
    """y in the forward pass, slope(x) as dy/dx in the backward pass."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor, slope: Slope) -> Tensor:
        ctx.slope = slope
        ctx.save_for_backward(x)
        return y.view_as(y)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        (x,) = ctx.saved_tensors
        with torch.no_grad():
            slope = ctx.slope(x)
        return grad * slope, None, None


def surrogate_names(model: nn.Module) -> list[str]:
    """Every slope that some activation of `model` declares, sorted."""
    return sorted(
        {
            name
            for module in model.modules()
            if isinstance(module, Activation)
            for name in module.slopes()
        }
    )


def with_surrogate(model: nn.Module, name: str) -> nn.Module:
    """A copy of `model` whose activations use the slope `name` where they declare it.

    Parameters and buffers are shared, the rest of the structure is not: train/eval mode and
    hooks of the copy are its own, and the original is untouched. Activations that do not
    declare `name` keep the backward pass they have, so calls may be stacked.

    Raises:
        UnknownName: no activation of `model` declares this slope.
        ModelError: the model holds something that cannot be copied.
    """
    known = surrogate_names(model)
    if name not in known:
        raise UnknownName.among("surrogate slope of this model", name, known)
    twin = _sharing_copy(model)
    replaced: dict[int, nn.Module] = {}
    return _with_slope(twin, name, replaced)


def _with_slope(module: nn.Module, name: str, replaced: dict[int, nn.Module]) -> nn.Module:
    """`module`, its activations replaced in place; a shared activation gets one surrogate."""
    if id(module) in replaced:
        return replaced[id(module)]
    exact = module.exact if isinstance(module, Surrogate) else module
    if isinstance(exact, Activation):
        out: nn.Module = (
            Surrogate(exact, name).train(module.training) if name in exact.slopes() else module
        )
        replaced[id(module)] = out
        return out
    replaced[id(module)] = module
    for child_name, child in module._modules.items():  # noqa: SLF001 - named_children hides repeats
        if child is not None:
            module._modules[child_name] = _with_slope(child, name, replaced)  # noqa: SLF001
    return module


def _sharing_copy(model: nn.Module) -> nn.Module:
    tensors = itertools.chain(model.parameters(), model.buffers())
    shared: dict[int, Any] = {id(tensor): tensor for tensor in tensors}
    try:
        return copy.deepcopy(model, shared)
    except (TypeError, RuntimeError, AttributeError) as problem:
        raise ModelError(
            f"the model cannot be copied for a surrogate backward pass: {problem}",
            hint="keep locks, files and computed tensors out of the module's attributes",
        ) from problem
