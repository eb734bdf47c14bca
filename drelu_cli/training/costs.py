"""How many passes a training scheme spends on an image in one epoch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class SchemeCost:
    """Passes per image and epoch.

    Attributes:
        forwards: without gradients.
        gradients: forward and backward to the input.
        steps: forward and backward to the weights.
    """

    forwards: int
    gradients: int
    steps: int


def scheme_cost(name: str, options: Mapping[str, Any]) -> SchemeCost:
    """The cost of a scheme with its effective options.

    A third party's scheme counts as one pass to the weights, and as many gradients as it has an
    option `steps`.

    Args:
        name: a registered scheme.
        options: effective.
    """
    inner = int(options.get("steps", 0))
    if name == "trades":  # the target's pass, the inner PGD, two passes to the weights
        return SchemeCost(1, inner, 2)
    if name == "sensitivity":  # the bounds cost about two passes
        return SchemeCost(0, 0, 3)
    return SchemeCost(0, inner, 1)
