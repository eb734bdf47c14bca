"""Networks with some modules exchanged: their own structure, the original's parameters."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable
from typing import Any

from torch import nn

from drelu_cli.core.errors import ModelError

Choice = Callable[[nn.Module], nn.Module | None]


def sharing_copy(model: nn.Module) -> nn.Module:
    """A copy of the structure that holds the same parameters and buffers.

    Train/eval mode and hooks of the copy are its own.

    Raises:
        ModelError: the model holds something that cannot be copied.
    """
    tensors = itertools.chain(model.parameters(), model.buffers())
    shared: dict[int, Any] = {id(tensor): tensor for tensor in tensors}
    try:
        return copy.deepcopy(model, shared)
    except (TypeError, RuntimeError, AttributeError) as problem:
        raise ModelError(
            f"the model cannot be copied to exchange its activations: {problem}",
            hint="keep locks, files and computed tensors out of the module's attributes",
        ) from problem


def exchanged(model: nn.Module, choose: Choice) -> nn.Module:
    """`model`, changed in place: each module that `choose` has another one for is replaced by it.

    `choose` is asked once per module, outer ones first; what it gives is not searched. A module
    used in several places is replaced by one and the same.

    Args:
        model: a copy of the caller's own.
        choose: the replacement of a module; None keeps it and looks inside.
    """
    return _exchanged(model, choose, {})


def _exchanged(module: nn.Module, choose: Choice, done: dict[int, nn.Module]) -> nn.Module:
    if id(module) in done:
        return done[id(module)]
    new = choose(module)
    done[id(module)] = module if new is None else new
    if new is not None:
        return new
    for name, child in module._modules.items():  # noqa: SLF001 - named_children hides repeats
        if child is not None:
            module._modules[name] = _exchanged(child, choose, done)  # noqa: SLF001
    return module
