"""Activations between two lines, as tight as one line each way allows.

For inputs in [l, u] a relaxation gives low_slope * x + low_offset <= f(x) <= high_slope * x +
high_offset. A function of the outputs is bounded from below by the lower line where its
coefficient is positive and by the upper line where it is negative (Zhang et al. 2018, CROWN,
arXiv 1811.00866; Wong & Kolter 2018, arXiv 1711.00851).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from drelu_cli.certify.functionals import Box, Functionals
from drelu_cli.certify.layers import Backwards


@dataclass(frozen=True)
class Lines:
    """The two lines of each unit, all (N, ...)."""

    low_slope: Tensor
    low_offset: Tensor
    high_slope: Tensor
    high_offset: Tensor

    def backwards(self) -> Backwards:
        """Replaces each output by the line that bounds the function from below."""

        def step(given: Functionals) -> Functionals:
            positive = given.weight.clamp(min=0)
            negative = given.weight - positive
            slope = positive * given.gathered(self.low_slope)
            slope += negative * given.gathered(self.high_slope)
            positive *= given.gathered(self.low_offset)
            negative *= given.gathered(self.high_offset)
            bias = given.bias + (positive + negative).flatten(1).sum(1)
            # Slopes and offsets are zero outside the map, so the coefficients are, too.
            return given.moved(slope, bias, clean=True)

        return step


class Nonlinear:
    """What the elementwise layers share."""

    mixes = False


@dataclass(frozen=True)
class Clamp(Nonlinear):
    """f(x) = min(max(x, low), high): ReLU, and every capped or two-sided one.

    Attributes:
        low: broadcasts over (N, C, ...); -inf for none.
        high: the same, >= low; inf for none.
    """

    low: Tensor
    high: Tensor

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, ...) to the same shape."""
        return torch.minimum(torch.maximum(x, self.low), self.high)

    def interval(self, box: Box) -> Box:
        """Both ends' values: f does not fall."""
        return self.forward(box[0]), self.forward(box[1])

    def undecided(self, box: Box) -> Tensor:
        """Where a bend lies inside the interval."""
        lower, upper = box
        bent_low = (lower < self.low) & (upper > self.low)
        return bent_low | ((lower < self.high) & (upper > self.high))

    def backwards(self, box: Box) -> Backwards:
        """The lines of `lines`."""
        return self.lines(box).backwards()

    def lines(self, box: Box) -> Lines:
        """Per unit the two lines; each passes through a bend or joins the two ends.

        Left of `high` f is convex: above it lies the chord, up to u or to the bend at `high`.
        Right of `low` it is concave: below it lies the chord, from l or from the bend. A line
        through a bend may have any slope from 0 to the chord's; the one with the smaller area
        to f is taken, which the interval's middle decides.
        """
        lower, upper = box
        at_lower, at_upper = self.interval(box)
        middle = (lower + upper) / 2
        zero = torch.zeros_like(lower)
        chord = _ratio(at_upper - at_lower, upper - lower)
        to_bend = _ratio(self.high - at_lower, self.high - lower)
        from_bend = _ratio(at_upper - self.low, upper - self.low)
        capped, floored = upper > self.high, lower < self.low
        high_slope = torch.where(capped, torch.where(middle < self.high, to_bend, zero), chord)
        low_slope = torch.where(floored, torch.where(middle > self.low, from_bend, zero), chord)
        # A line passes through a bend (b, b) or through (l, f(l)), where f(l) is l, low or high.
        high_offset = torch.where(
            capped, self.high * (1 - high_slope), at_lower - high_slope * lower
        )
        low_offset = torch.where(floored, self.low * (1 - low_slope), at_lower - low_slope * lower)
        return Lines(low_slope, low_offset, high_slope, high_offset)


@dataclass(frozen=True)
class Bounded(Nonlinear):
    """Any other activation, by its own bounds alone: constant lines, sound but loose.

    Attributes:
        function: the activation itself.
        bounds: its `bounds`.
    """

    function: Callable[[Tensor], Tensor]
    bounds: Callable[[Tensor, Tensor], Box]

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, ...) to the same shape."""
        return self.function(x)

    def interval(self, box: Box) -> Box:
        """The activation's own bounds."""
        return self.bounds(*box)

    def undecided(self, box: Box) -> Tensor:
        """Wherever the interval is not a point."""
        return box[1] > box[0]

    def backwards(self, box: Box) -> Backwards:
        """Slope zero, offsets at the bounds."""
        low, high = self.bounds(*box)
        flat = torch.zeros_like(low)
        return Lines(flat, low, flat, high).backwards()


def _ratio(part: Tensor, whole: Tensor) -> Tensor:
    """A slope in [0, 1]; 0 for a point; not a number where an end is not finite."""
    point = whole == 0
    return torch.where(point, 0.0, part / torch.where(point, 1.0, whole)).clamp(0.0, 1.0)
