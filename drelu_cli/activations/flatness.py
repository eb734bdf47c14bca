"""Which modules of a network are flat: derivative exactly zero on a part of their range."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from drelu_cli.activations.surrogate import GenericSurrogate, Surrogate, vector_jacobian

# From this share of zero derivatives on a module is called flat. Linear, convolution and batch
# normalisation measure 0, ReLU about half, a capped or rounding layer up to 1; a share below
# one unit in fifty masks nothing that the others do not show.
FLAT = 0.02
_POINTS = 64


def flat_modules(model: nn.Module, x: Tensor, *, seed: int = 0) -> dict[str, float]:
    """Share of derivatives that are exactly zero or not finite, per module that keeps shapes.

    Measured where the network puts its modules when it is given `x`: each module that turns one
    floating tensor into another of the same shape and dtype is differentiated at the inputs it
    got, by one vector-Jacobian product with a random cotangent (ones would be orthogonal to
    what a softmax lets through). A module whose output carries no gradient counts as 1. Nothing
    is known by name: linear layers come out at 0 by measurement. Several calls are averaged,
    weighted by size. A module that holds a flat one is left out: the innermost is meant.

    Args:
        model: evaluated in evaluation mode; each module's own mode is restored.
        x: (N, ...) points of the model's input space, N >= 1; the first 64 are used.
        seed: of the cotangents.

    Returns:
        Dotted module name (`named_modules`) to a share in [0, 1], in module order; a module
        used under several names has the first. Surrogates are measured as a whole.
    """
    counts = _Counts(torch.Generator().manual_seed(seed))
    watched = dict(_without_inner(model))
    with _watched(watched, counts), _evaluation_mode(model), torch.no_grad():
        model(x[:_POINTS].clone())
    shares = {name: counts.share(module) for name, module in watched.items()}
    measured = {name: share for name, share in shares.items() if share is not None}
    flat = [name for name, share in measured.items() if share >= FLAT]
    return {
        name: share
        for name, share in measured.items()
        if not any(_holds(name, other) for other in flat)
    }


def flat_names(model: nn.Module, x: Tensor) -> list[str]:
    """The modules of `flat_modules` with a share of at least `FLAT`."""
    return [name for name, share in flat_modules(model, x).items() if share >= FLAT]


class _Counts:
    """Zero derivatives and derivatives of each module; None once a call does not qualify."""

    def __init__(self, generator: torch.Generator) -> None:
        self._generator = generator
        self._counts: dict[nn.Module, tuple[int, int] | None] = {}
        self._inputs: list[Tensor | None] = []
        self._measuring = False

    def before(self, _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Keeps the input as it is: the module may change it in place."""
        if self._measuring:
            return
        alone = len(args) == 1 and not kwargs and isinstance(args[0], Tensor)
        kept = args[0].detach().clone() if alone and args[0].is_floating_point() else None
        self._inputs.append(kept)

    def after(self, module: nn.Module, _: Any, __: Any, output: Any) -> None:
        """Measures one call."""
        if self._measuring:
            return
        point = self._inputs.pop()
        if self._counts.get(module, ()) is None:
            return
        if point is None or not _alike(point, output) or not point.numel():
            self._counts[module] = None
            return
        zeros, total = self._counts.get(module) or (0, 0)
        self._measuring = True
        try:
            zeros += self._zeros(module, point)
        finally:
            self._measuring = False
        self._counts[module] = (zeros, total + point.numel())

    def share(self, module: nn.Module) -> float | None:
        """None for a module that was not called or does not keep shapes."""
        found = self._counts.get(module)
        return None if found is None else found[0] / found[1]

    def _zeros(self, module: nn.Module, point: Tensor) -> int:
        draws = torch.randn(point.shape, generator=self._generator, dtype=torch.float64)
        with torch.enable_grad():
            leaf = point.requires_grad_()
            y = module(leaf.clone())
        gradient = vector_jacobian(y, leaf, draws.to(y))
        if gradient is None:
            return point.numel()
        return int(((gradient == 0) | ~gradient.isfinite()).sum())


def _alike(point: Tensor, output: Any) -> bool:
    return (
        isinstance(output, Tensor) and output.shape == point.shape and output.dtype == point.dtype
    )


def _holds(name: str, other: str) -> bool:
    return name != other and (not name or other.startswith(f"{name}."))


def _without_inner(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """`named_modules`, but a surrogate is one module: what it holds runs without gradients."""
    inner = {
        id(part)
        for module in model.modules()
        if isinstance(module, Surrogate | GenericSurrogate)
        for part in module.exact.modules()
    }
    for name, module in model.named_modules():
        if id(module) not in inner:
            yield name, module


@contextmanager
def _watched(modules: dict[str, nn.Module], counts: _Counts) -> Iterator[None]:
    handles = []
    try:
        for module in modules.values():
            handles.append(module.register_forward_pre_hook(counts.before, with_kwargs=True))
            handles.append(module.register_forward_hook(counts.after, with_kwargs=True))
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def _evaluation_mode(model: nn.Module) -> Iterator[None]:
    """As `runtime.modes.evaluation_mode`, which this room does not know."""
    modes = {module: module.training for module in model.modules()}
    try:
        model.eval()
        yield
    finally:
        for module, training in modes.items():
            module.training = training
