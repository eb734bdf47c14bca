"""A capped ReLU in steps: its derivative is zero everywhere."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from drelu_cli.activations.capped import CappedReLU
from drelu_cli.activations.contract import Activation, Slope
from drelu_cli.activations.surrogate import replaced
from drelu_cli.core.errors import BadValue

Attacked = Literal["true", "straight_through"]


class QReLU(CappedReLU):
    """y = round(min(max(0, x), top) / step) * step, step = top / (levels - 1).

    Trained with the straight-through derivative 1[0 < x < top] (Bengio, Leonard & Courville
    2013, arXiv 1308.3432). Attacked with its true one, zero everywhere, it shows a robustness
    that is not there (shattered gradients, Athalye, Carlini & Wagner 2018, arXiv 1802.00420).
    Rounding is to the nearest, halves to the even level.

    Args:
        channels: size of dimension 1 of the input.
        levels: number of values y takes, >= 2.
        top: the largest of them, finite and > 0, in units of the activation.
        attacked: the derivative in evaluation mode; in training mode it is straight-through.
    """

    def __init__(self, channels: int, levels: int, top: float, attacked: Attacked) -> None:
        super().__init__(channels)
        if levels < 2:
            raise BadValue(f"{levels} levels are no steps", hint="levels = 8")
        if not (math.isfinite(top) and top > 0):
            raise BadValue(f"top {top:g} is not a finite number > 0", hint="top = 2.0")
        self.levels, self.top, self.attacked = levels, float(top), attacked

    def forward(self, x: Tensor) -> Tensor:
        """(N, channels, ...) to the same shape."""
        if self.training or self.attacked == "straight_through":
            return self._straight_through(x)
        return self._steps(x)

    def bounds(self, lower: Tensor, upper: Tensor) -> tuple[Tensor, Tensor]:
        """Monotone; differentiable straight through."""
        return self._straight_through(lower), self._straight_through(upper)

    def limits(self, x: Tensor) -> float:  # noqa: ARG002 - one for all of `x`
        """The one cap, `top`."""
        return self.top

    def slopes(self) -> Mapping[str, Slope]:
        """`straight_through`: 1[0 < x < top]; and those of a capped ReLU."""
        return {"straight_through": self._inside, **super().slopes()}

    def extra_repr(self) -> str:
        """Channels and options."""
        return (
            f"{self.channels}, levels={self.levels}, top={self.top:g}, attacked={self.attacked!r}"
        )

    def _steps(self, x: Tensor) -> Tensor:
        per_unit = (self.levels - 1) / self.top
        return torch.round(F.hardtanh(x, 0.0, self.top) * per_unit) / per_unit

    def _straight_through(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            y = self._steps(x)
        return replaced(x, y, self._inside)

    def _inside(self, x: Tensor) -> Tensor:
        return ((x > 0) & (x < self.top)).to(x.dtype)


def qrelu(
    channels: int, /, *, levels: int = 8, top: float = 2.0, attacked: Attacked = "true"
) -> Activation:
    """min(max(0, x), `top`) rounded to `levels` values."""
    return QReLU(channels, levels, top, attacked)
