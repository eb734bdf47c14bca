"""Which modules do nothing but call their children one after another.

Bounds, and shortcuts of attacks, take such a module apart. A guess would make a proof unsound, so
what is not certain is no chain.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import torch
from torch import nn

_MARK = "calls_children_in_order"
_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
_GLOBAL_HOOKS = tuple(f"_global{name}" for name in _HOOKS)

F = TypeVar("F", bound=Callable[..., Any])


def calls_children_in_order(forward: F) -> F:
    """Declares a `forward` of a subclass of `nn.Sequential` that only checks its input.

    A subclass that overrides it again does not inherit the declaration.
    """
    cast(Any, forward).__dict__[_MARK] = True
    return forward


def is_chain(module: nn.Module) -> bool:
    """Whether `module` calls its children one after another and does nothing else."""
    if not isinstance(module, nn.Sequential) or is_watched(module):
        return False
    forward = type(module).forward
    return forward is nn.Sequential.forward or getattr(forward, _MARK, False)


def is_watched(module: nn.Module) -> bool:
    """Whether hooks, of its own or global ones, or a replaced `forward` may do anything at all."""
    own, everywhere = vars(module), vars(torch.nn.modules.module)
    return (
        "forward" in own
        or any(own[name] for name in _HOOKS)
        or any(everywhere[name] for name in _GLOBAL_HOOKS)
    )
