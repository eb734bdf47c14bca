"""How many units of each layer sit at an end of their activation, where no gradient passes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from drelu_cli.activations.contract import Activation

_POINTS = 256
_TORCH = (nn.ReLU, nn.ReLU6, nn.Hardtanh)


@dataclass(frozen=True)
class Saturation:
    """Where the units of one layer are, over points and units; shares in [0, 1], sum 1.

    Attributes:
        at_lower: x at or below the lower end (0 for every ReLU).
        inside: between the ends.
        at_cap: x at or above the upper end; 0 where there is none.
    """

    at_lower: float
    inside: float
    at_cap: float


def saturation(model: nn.Module, x: Tensor) -> dict[str, Saturation]:
    """Saturation of each layer that has ends, in the order of `named_modules`.

    Args:
        model: in evaluation mode; run once, left as it was, also after an error.
        x: (N, ...) points of the model's input space, N >= 1; the first 256 are used.

    Returns:
        Dotted module name to shares: activations with `ends` and torch's ReLU, ReLU6 and
        Hardtanh; several calls of a module are added up, modules never called are left out.
        A unit that is NaN counts as inside.
    """
    counts: dict[str, Tensor] = {}
    handles = []
    try:
        for name, module in model.named_modules():
            if isinstance(module, (Activation, *_TORCH)):
                handles.append(module.register_forward_pre_hook(_Counting(name, counts)))
        with torch.no_grad():
            model(x[:_POINTS].clone())
    finally:
        for handle in handles:
            handle.remove()
    names = (name for name, _ in model.named_modules() if name in counts)
    return {name: _shares(counts[name].tolist()) for name in names}


class _Counting:
    """Adds what one module gets to the counts (at the lower end, at the cap, all)."""

    def __init__(self, name: str, counts: dict[str, Tensor]) -> None:
        self._name = name
        self._counts = counts

    def __call__(self, module: nn.Module, args: tuple[Any, ...]) -> None:
        if not args:
            return  # called by keyword: there is no looking at it
        x = args[0]
        ends = _ends(module, x)
        if ends is None or not x.numel():
            return
        lower, upper = x <= ends[0], x >= ends[1]
        found = torch.stack(
            [lower.sum(), (upper & ~lower).sum(), torch.tensor(x.numel(), device=x.device)]
        )
        self._counts[self._name] = self._counts.get(self._name, 0) + found


def _ends(module: nn.Module, x: Tensor) -> tuple[Tensor | float, Tensor | float] | None:
    if isinstance(module, Activation):
        return module.ends(x)
    if isinstance(module, nn.Hardtanh):  # ReLU6 is one
        return module.min_val, module.max_val
    return 0.0, math.inf


def _shares(counts: list[int]) -> Saturation:
    lower, upper, total = counts
    return Saturation(lower / total, (total - lower - upper) / total, upper / total)
