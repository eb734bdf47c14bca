"""Max pooling, with the clamp beside it, between two linear functions of its window."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import torch
import torch.nn.functional as F
from torch import Tensor

from drelu_cli.certify.functionals import Box, Functionals
from drelu_cli.certify.layers import Backwards
from drelu_cli.certify.relaxations import Clamp, Lines


@dataclass(frozen=True)
class MaxPooling:
    """f of the largest entry of each window, f = min(max(x, low), high).

    For a nondecreasing f the order does not matter: f(max(x)) = max(f(x)). Both as one layer
    are relaxed once.

    Attributes:
        kernel: rows, columns of the window.
        stride: rows, columns.
        padding: rows, columns of -inf.
        dilation: rows, columns.
        clamp: f; from -inf to inf for pooling alone.
    """

    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]
    clamp: Clamp
    mixes = False

    @property
    def alone(self) -> bool:
        """Whether f changes nothing."""
        return bool((self.clamp.low == -torch.inf).all() and (self.clamp.high == torch.inf).all())

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, C, H', W')."""
        pooled = F.max_pool2d(x, self.kernel, self.stride, self.padding, self.dilation)
        return self.clamp.forward(pooled)

    def interval(self, box: Box) -> Box:
        """Max of the lower, max of the upper bounds."""
        return self.forward(box[0]), self.forward(box[1])

    def undecided(self, box: Box) -> Tensor:
        """Inputs that can be the largest of a window whose output is not settled."""
        floor, ceiling = self.interval(box)
        floor = torch.where(ceiling > floor, floor, torch.inf)
        reach = F.pad(box[1], _sides(self.padding), value=-torch.inf)
        found = torch.zeros_like(reach, dtype=torch.bool)
        for tap in self._taps():
            inside = self._under(tap, floor.shape)
            found[inside] |= reach[inside] > floor
        return self._cropped(found, box[1].shape)

    def backwards(self, box: Box) -> Backwards:
        """Below lies f of the entry with the largest middle; above, f of two entries.

        With i the entry of the largest upper bound and M the largest upper bound of the others,
        f(max(x)) <= f(max(x_i, M)), which is a clamp of x_i from max(low, M) to high. Where
        M <= l_i it is f(x_i) itself. Nowhere above CROWN's constant f(u_i) while u_i <= high.
        """
        low_tap, high_tap, lines = self._relaxed(box)
        shape = box[0].shape

        def step(given: Functionals) -> Functionals:
            positive = given.weight.clamp(min=0)
            negative = given.weight - positive
            offset = positive * given.gathered(lines.low_offset)
            offset += negative * given.gathered(lines.high_offset)
            positive = positive * given.gathered(lines.low_slope)
            negative = negative * given.gathered(lines.high_slope)
            # Taps are counted from 1, so that the zeros outside the map name none.
            low, high = given.gathered(low_tap), given.gathered(high_tap)
            weight = positive.new_zeros(self._opened(positive, given.whole, shape))
            for number, tap in enumerate(self._taps(), start=1):
                part = positive * (low == number) + negative * (high == number)
                weight[self._under(tap, part.shape)] += part
            bias = given.bias + offset.flatten(1).sum(1)
            if given.corner is None:
                return given.moved(self._cropped(weight, shape), bias)
            stride, padding = (given.corner.new_tensor(v) for v in (self.stride, self.padding))
            # An entry outside the map never is the largest: nothing was put there.
            return given.moved(weight, bias, corner=given.corner * stride - padding, clean=True)

        return step

    def _relaxed(self, box: Box) -> tuple[Tensor, Tensor, Lines]:
        """Per output the entries, counted from 1, of the lower and the upper line; the lines."""
        shape = self.forward(box[0]).shape
        lower, upper = (
            torch.stack([padded[self._under(tap, shape)] for tap in self._taps()])
            for padded in (F.pad(end, _sides(self.padding), value=-torch.inf) for end in box)
        )
        high = upper.argmax(0, keepdim=True)
        low = (lower + upper).argmax(0, keepdim=True)
        others = upper.scatter(0, high, -torch.inf).amax(0)
        raised = torch.maximum(others, self.clamp.low)
        top = Clamp(torch.minimum(raised, self.clamp.high), self.clamp.high)
        above = top.lines((lower.gather(0, high)[0], upper.gather(0, high)[0]))
        below = self.clamp.lines((lower.gather(0, low)[0], upper.gather(0, low)[0]))
        lines = Lines(below.low_slope, below.low_offset, above.high_slope, above.high_offset)
        return (low[0] + 1).to(lower), (high[0] + 1).to(lower), lines

    def _taps(self) -> list[tuple[int, int]]:
        """The window's entries as offsets in rows and columns."""
        rows, columns = (
            [dilation * step for step in range(size)]
            for dilation, size in zip(self.dilation, self.kernel, strict=True)
        )
        return list(product(rows, columns))

    def _under(self, tap: tuple[int, int], outputs: torch.Size) -> tuple[slice, ...]:
        """The padded inputs that are entry `tap` of the windows of (..., H', W') = `outputs`."""
        spots = (
            slice(at, at + stride * (size - 1) + 1, stride)
            for at, stride, size in zip(tap, self.stride, outputs[-2:], strict=True)
        )
        return (slice(None), slice(None), *spots)

    def _opened(self, weight: Tensor, whole: bool, shape: torch.Size) -> tuple[int, ...]:
        """Shape of the coefficients on the padded inputs; those are (N, C, H, W) = `shape`."""
        count, channels, *window = weight.shape
        if whole:
            sizes = (n + 2 * p for n, p in zip(shape[-2:], self.padding, strict=True))
        else:
            last = self._taps()[-1]
            sizes = (s * (n - 1) + t + 1 for s, n, t in zip(self.stride, window, last, strict=True))
        return (count, channels, *sizes)

    def _cropped(self, padded: Tensor, shape: torch.Size) -> Tensor:
        (top, left), (height, width) = self.padding, shape[-2:]
        return padded[:, :, top : top + height, left : left + width]


def _sides(padding: tuple[int, int]) -> tuple[int, int, int, int]:
    """In the order of `F.pad`: left, right, top, bottom."""
    return (padding[1], padding[1], padding[0], padding[0])
