"""Networks that lead an attack but do not judge it: what a cap hides shows in their logits.

The points found on them are tried on the network itself: transfer from a version of the
defence that does not mask (Tramer, Carlini, Brendel & Madry 2020, arXiv 2002.08347).
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from drelu_cli.activations.contract import LEAK, Activation
from drelu_cli.activations.copies import exchanged, sharing_copy
from drelu_cli.activations.flatness import flat_names
from drelu_cli.activations.surrogate import GenericSurrogate, Surrogate
from drelu_cli.core.errors import UnknownName

UNCAPPED = "uncapped"
LEAKY = "leaky"


class Leaky(nn.Module):
    """f(x) + LEAK * x, with the true derivative of that."""

    def __init__(self, exact: nn.Module) -> None:
        super().__init__()
        self.exact = exact

    def forward(self, x: Tensor) -> Tensor:
        """(N, ...) to the same shape."""
        # The clone is for modules that work in place.
        y: Tensor = self.exact(x.clone()) + LEAK * x
        return y


def guide_names(model: nn.Module, x: Tensor | None = None) -> list[str]:
    """The guides that `guide` can make of `model`.

    Args:
        model: in evaluation mode.
        x: (N, ...) points of the model's input space, N >= 1. With them `leaky` is also named
            where a module that declares nothing is flat on them.
    """
    activations = [part for part in model.modules() if isinstance(part, Activation)]
    names = [UNCAPPED] if any(part.uncapped() is not None for part in activations) else []
    declared = any(part.slopes() for part in activations)
    if declared or (x is not None and flat_names(_bare(model), x)):
        names.append(LEAKY)
    return names


def guide(model: nn.Module, name: str, x: Tensor) -> nn.Module:
    """A copy of `model` with another forward pass and that one's true gradients.

    `uncapped`: every activation that has a cap without it (`Activation.uncapped`), m = infinity
    with the same weights. `leaky`: f(x) + LEAK * x in place of f(x), for every activation that
    declares slopes and every module that is flat on `x`, so that what lies beyond a cap shows in
    the logits. Surrogate backward passes in `model` are taken out first. Parameters and buffers
    are shared.

    Args:
        model: in evaluation mode.
        name: one of `guide_names(model, x)`.
        x: (N, ...) points on which flatness is measured, N >= 1; `uncapped` does not read them.

    Raises:
        UnknownName: `model` has no such guide; the error lists those it has.
        ModelError: the model cannot be copied.
    """
    known = guide_names(model, x)
    if name not in known:
        raise UnknownName.among("guide of this model", name, known)
    twin = _bare(model)
    choose = _uncapped if name == UNCAPPED else _leaky(twin, x)
    return exchanged(twin, choose)


def _bare(model: nn.Module) -> nn.Module:
    """A sharing copy without surrogates."""

    def choose(module: nn.Module) -> nn.Module | None:
        exact = module
        while isinstance(exact, Surrogate | GenericSurrogate):
            exact = exact.exact
        return None if exact is module else exact

    return exchanged(sharing_copy(model), choose)


def _uncapped(module: nn.Module) -> nn.Module | None:
    new = module.uncapped() if isinstance(module, Activation) else None
    return None if new is None else new.train(module.training)


def _leaky(twin: nn.Module, x: Tensor) -> Callable[[nn.Module], nn.Module | None]:
    flat = {id(twin.get_submodule(name)) for name in flat_names(twin, x)}

    def choose(module: nn.Module) -> nn.Module | None:
        declares = isinstance(module, Activation) and bool(module.slopes())
        return Leaky(module).train(module.training) if declares or id(module) in flat else None

    return choose
