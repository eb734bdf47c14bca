"""Linear functions of one layer's values, many at a time, as small as their receptive fields.

A neuron of a convolution depends on a window of the layer below, so its coefficients are kept
for that window only. Carried backwards to the input they bound the neuron over a box.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

Box = tuple[Tensor, Tensor]
"""Lower and upper bounds, each (N, ...) for N images."""


@dataclass(frozen=True)
class Functionals:
    """T functions a(v) = sum(weight * v[window]) + bias of one layer's values v.

    Attributes:
        weight: (T, C, h, w) for a window of a map, (T, C, H, W) for whole maps, (T, F) for
            flat layers. Entries of a window that lie outside the map are multiplied by zero.
        bias: (T,).
        place: (T,) int64, which of the P places each function is about.
        image: (P,) int64, the image of each place.
        corner: (P, 2) int64 row and column of the window's first entry, negative where it lies
            outside the map; None where `weight` covers whole maps or flat layers.
        clean: entries outside the map are zero already.
    """

    weight: Tensor
    bias: Tensor
    place: Tensor
    image: Tensor
    corner: Tensor | None = None
    clean: bool = True

    @property
    def whole(self) -> bool:
        """Whether the coefficients cover all of the layer."""
        return self.corner is None

    def moved(self, weight: Tensor, bias: Tensor, **changes: object) -> Functionals:
        """The same functions in terms of another layer's values."""
        return replace(self, weight=weight, bias=bias, **changes)  # type: ignore[arg-type]

    def gathered(self, maps: Tensor) -> Tensor:
        """What `maps` (N, ...) of each image hold inside each function's window; 0 outside.

        Returns:
            (T, ...), the shape of `weight`.
        """
        if self.corner is None:
            return maps[self.image[self.place]]
        # Functions of one place share their window: cut it once, then copy rows.
        return windows(maps, self.image, self.corner, self.weight.shape[-2:])[self.place]

    def cleaned(self, size: Sequence[int]) -> Functionals:
        """The same functions with zeros where a window leaves the map of (H, W) = `size`."""
        if self.clean:
            return self
        ones = self.weight.new_ones(1, 1, *size)
        assert self.corner is not None
        inside = windows(ones, torch.zeros_like(self.image), self.corner, self.weight.shape[-2:])
        return replace(self, weight=self.weight * inside[self.place], clean=True)

    def least(self, box: Box) -> Tensor:
        """(T,) the smallest value of each function over a box of the layer's values."""
        lower, upper = box
        center, radius = self.gathered((lower + upper) / 2), self.gathered((upper - lower) / 2)
        return self.bias + (self.weight * center - self.weight.abs() * radius).flatten(1).sum(1)


def windows(maps: Tensor, image: Tensor, corner: Tensor, size: Sequence[int]) -> Tensor:
    """(P, C, h, w): the window of `size` at each corner of maps (N, C, H, W), 0 outside."""
    height, width = size
    row, column = corner.unbind(1)
    top, left = _overhang(row), _overhang(column)
    bottom = _overhang(maps.shape[2] - height - row)
    right = _overhang(maps.shape[3] - width - column)
    first, last = int(image.min()), int(image.max())
    padded = F.pad(maps[first : last + 1], (left, right, top, bottom))
    cut = padded.unfold(2, height, 1).unfold(3, width, 1)
    return cut[image - first, :, row + top, column + left]


def _overhang(distance: Tensor) -> int:
    return max(0, -int(distance.min()))


def units(image: Tensor, unit: Tensor, shape: Sequence[int], sign: float) -> Functionals:
    """`sign` times single values of a layer, as functions of that layer.

    Args:
        image: (T,) int64, the image of each.
        unit: (T, 1) index into a flat layer, or (T, 3) channel, row, column.
        shape: (F,) or (C, H, W).
        sign: 1 or -1.
    """
    count, rows = len(image), torch.arange(len(image), device=image.device)
    weight = torch.zeros(count, shape[0], dtype=torch.float64, device=image.device)
    weight[rows, unit[:, 0]] = sign
    bias = weight.new_zeros(count)
    if len(shape) == 1:
        images, place = torch.unique(image, return_inverse=True)
        return Functionals(weight, bias, place, images)
    height, width = shape[1:]
    spot = (image * height + unit[:, 1]) * width + unit[:, 2]
    spots, place = torch.unique(spot, return_inverse=True)
    corner = torch.stack([spots // width % height, spots % width], dim=1)
    return Functionals(weight[:, :, None, None], bias, place, spots // (height * width), corner)
