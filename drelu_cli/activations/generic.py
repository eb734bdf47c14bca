"""A leaky surrogate for any module, also one that declares nothing: what is flat is measured.

Backward pass differentiable approximation (Athalye, Carlini & Wagner 2018, arXiv 1802.00420)
where nobody wrote the approximation down: a module's own derivative where there is one, a leak
where there is none.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from drelu_cli.activations.contract import Activation
from drelu_cli.activations.copies import exchanged, sharing_copy
from drelu_cli.activations.flatness import flat_names
from drelu_cli.activations.surrogate import (
    GenericSurrogate,
    Surrogate,
    surrogate_names,
    with_surrogate,
)
from drelu_cli.core.errors import ModelError, UnknownName

GENERIC = "generic"


def with_generic_surrogate(model: nn.Module, x: Tensor) -> nn.Module:
    """A copy of `model` whose flat modules leak in the backward pass; the forward pass is exact.

    A module f that `flatness.flat_names` finds has the derivative of f where that is finite and
    not zero, and `LEAK` elsewhere. Parameters and buffers are shared, the rest of the structure
    is not. Calls on a copy made by `with_surrogate` stack: what is flat there still, leaks.

    Args:
        model: in evaluation mode.
        x: (N, ...) points of the model's input space, N >= 1; the first 64 are used. What is
            flat depends on them, so give fixed points where a result must not depend on its
            batch.

    Raises:
        ModelError: no module is flat on `x`, the model cannot be copied, or the copy computes
            something else (a module that changes its input in place while others read it).
    """
    flat = flat_names(model, x)
    if not flat:
        raise ModelError(
            "no module of this model is flat on the points given, so nothing can leak",
            hint=f"surrogate slopes declared by this model: {_listed(surrogate_names(model))}",
        )
    twin = sharing_copy(model)
    chosen = {id(twin.get_submodule(name)) for name in flat}

    def choose(module: nn.Module) -> nn.Module | None:
        if id(module) not in chosen:
            return None
        return GenericSurrogate(module).train(module.training)

    twin = exchanged(twin, choose)
    _require_same(model, twin, x)
    return twin


def surrogate_model(model: nn.Module, name: str, x: Tensor) -> nn.Module:
    """`with_generic_surrogate` for the name `generic`, `with_surrogate` for every other one.

    Args:
        model: in evaluation mode.
        name: one of `available_surrogates(model, x)`.
        x: (N, ...) points on which flatness is measured; only `generic` reads them.

    Raises:
        UnknownName: no activation of `model` declares this slope.
        ModelError: as `with_generic_surrogate`.
    """
    if name == GENERIC:
        return with_generic_surrogate(model, x)
    if name not in surrogate_names(model):
        known = [*surrogate_names(model), GENERIC]
        raise UnknownName.among("surrogate slope of this model", name, known)
    return with_surrogate(model, name)


def available_surrogates(model: nn.Module, x: Tensor) -> list[str]:
    """The slopes that activations declare, sorted, and `generic` where that adds something.

    It does where a module is flat on `x` that is no activation of ours with slopes of its own.
    """
    modules = (model.get_submodule(name) for name in flat_names(model, x))
    undeclared = any(not _declares(module) for module in modules)
    return [*surrogate_names(model), *([GENERIC] if undeclared else [])]


def _declares(module: nn.Module) -> bool:
    exact = module.exact if isinstance(module, Surrogate) else module
    return isinstance(exact, Activation) and bool(exact.slopes())


@torch.no_grad()
def _require_same(model: nn.Module, twin: nn.Module, x: Tensor) -> None:
    """The copy's logits beside the model's, unless those are random themselves."""
    points = x[:4]
    with torch.enable_grad():
        logits = twin(points.clone().requires_grad_()).detach()
    first, second = model(points.clone()), model(points.clone())
    if not torch.equal(first, second):
        return
    allowed = torch.finfo(first.dtype).eps ** 0.5 * (1 + first.abs().max())
    if bool((first - logits).abs().max() > allowed):
        raise ModelError(
            "the model computes something else with surrogates in it",
            hint="a module that changes its input in place while another one reads it? "
            "use inplace=False",
        )


def _listed(names: list[str]) -> str:
    return ", ".join(names) if names else "none"
