"""A convolution and what follows it, recomputed for a piece of its input."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeGuard

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from drelu_cli.attacks.chain import called, is_pointwise


@dataclass(frozen=True)
class Axis:
    """One axis of a stage: a convolution, then a pooling (1, 1 where there is none).

    Attributes:
        size: length of the stage's input, without padding.
        kernel: of the convolution, dilation included.
        stride: of the convolution.
        padding: of the convolution, on both sides.
        pool: window of the pooling.
        step: stride of the pooling.
    """

    size: int
    kernel: int
    stride: int
    padding: int
    pool: int = 1
    step: int = 1

    @property
    def inner(self) -> int:
        """Length between convolution and pooling."""
        return (self.size + 2 * self.padding - self.kernel) // self.stride + 1

    @property
    def out(self) -> int:
        """Length of the stage's output."""
        return (self.inner - self.pool) // self.step + 1

    def reached(self, length: int) -> int:
        """Most outputs that a piece of `length` inputs can change, wherever it lies."""
        inner = (length + self.kernel - 2) // self.stride + 1
        return min((inner + self.pool - 2) // self.step + 1, self.out)

    def needed(self, outputs: int) -> int:
        """Inputs that a piece of `outputs` outputs depends on."""
        return (((outputs - 1) * self.step + self.pool) - 1) * self.stride + self.kernel

    def first_reached(self, start: Tensor, length: int) -> Tensor:
        """Start of a piece of `reached(length)` outputs with all that the inputs change."""
        inner = -((self.kernel - 1 - self.padding - start) // self.stride)
        first = -((self.pool - 1 - inner.clamp(0, self.inner - 1)) // self.step)
        return first.clamp(min=0).clamp(max=self.out - self.reached(length))

    def first_needed(self, output: Tensor) -> Tensor:
        """Start of the inputs of the outputs from `output` on, counted in the padded input."""
        return output * self.step * self.stride


@dataclass(frozen=True)
class Stage:
    """A convolution with all that follows it up to the next one.

    Attributes:
        convolution: zero padding, any stride, dilation and groups.
        after: pointwise layers and at most one pooling without padding.
        vertical: the stage along the height.
        horizontal: along the width.
    """

    convolution: nn.Conv2d
    after: list[nn.Module]
    vertical: Axis
    horizontal: Axis

    def run(self, padded: Tensor) -> Tensor:
        """(g, h, w, C) padded inputs, channels last, to (g, h', w', C')."""
        layer = self.convolution
        found = F.conv2d(
            padded.permute(0, 3, 1, 2),
            layer.weight,
            layer.bias,
            stride=layer.stride,
            dilation=layer.dilation,
            groups=layer.groups,
        )
        return called(self.after, found).permute(0, 2, 3, 1).contiguous()

    def follow(self, piece: Piece, memo: Tensor, rows: Tensor) -> Piece:
        """The piece of the output that a piece of the padded input changes.

        Args:
            piece: counted in the padded input.
            memo: (n, H, W, C) the padded inputs without the change.
            rows: (g,) which of them each piece belongs to.
        """
        high, wide = piece.values.shape[1:3]
        down, across = self.vertical, self.horizontal
        top = down.first_reached(piece.top - down.padding, high)
        left = across.first_reached(piece.left - across.padding, wide)
        from_top, from_left = down.first_needed(top), across.first_needed(left)
        size = (down.needed(down.reached(high)), across.needed(across.reached(wide)))
        inputs = cut(memo, rows, from_top, from_left, size)
        paste(inputs, piece.moved(-from_top, -from_left))
        return Piece(self.run(inputs), top, left)

    @property
    def padded_shape(self) -> tuple[int, int, int]:
        """(height, width, channels) of the padded input."""
        down, across = self.vertical, self.horizontal
        channels = self.convolution.in_channels
        return (down.size + 2 * down.padding, across.size + 2 * across.padding, channels)

    @property
    def output_shape(self) -> tuple[int, int, int]:
        """(height, width, channels) of the output."""
        return (self.vertical.out, self.horizontal.out, self.convolution.out_channels)

    @property
    def border(self) -> tuple[int, int, int, int, int, int]:
        """Padding of a (g, h, w, C) input, as `F.pad` takes it."""
        down, across = self.vertical.padding, self.horizontal.padding
        return (0, 0, across, across, down, down)

    @property
    def weight_uses(self) -> int:
        """Multiplications of a full pass."""
        weight = self.convolution.weight
        return weight.numel() * self.vertical.inner * self.horizontal.inner


def stages_of(layers: list[nn.Module], shape: torch.Size) -> tuple[list[Stage], list[nn.Module]]:
    """The stages that `layers` begin with, and the layers after them.

    Args:
        layers: of a chain, from the first one that is not pointwise.
        shape: (C, H, W) of their input.
    """
    stages: list[Stage] = []
    height, width = shape[1:]
    while layers and _usable(layer := layers[0]):
        count = 1
        while count < len(layers) and is_pointwise(layers[count]):
            count += 1
        pool: Any = layers[count] if count < len(layers) else None
        pooled = pool is not None and _is_plain_pooling(pool)
        if pooled:
            count += 1
            while count < len(layers) and is_pointwise(layers[count]):
                count += 1
        axes = [_axis(layer, pool if pooled else None, dim, (height, width)[dim]) for dim in (0, 1)]
        if min(axis.out for axis in axes) < 1:
            break
        stages.append(Stage(layer, layers[1:count], axes[0], axes[1]))
        layers = layers[count:]
        height, width = axes[0].out, axes[1].out
    return stages, layers


def _usable(layer: nn.Module) -> TypeGuard[nn.Conv2d]:
    return (
        type(layer) is nn.Conv2d
        and layer.padding_mode == "zeros"
        and not isinstance(layer.padding, str)
    )


def _is_plain_pooling(layer: Any) -> bool:
    if type(layer) is nn.MaxPool2d:
        plain = not layer.return_indices and _pair(layer.dilation) == (1, 1)
    else:
        plain = type(layer) is nn.AvgPool2d and layer.divisor_override is None
    return plain and not layer.ceil_mode and _pair(layer.padding) == (0, 0)


def _axis(layer: nn.Conv2d, pool: Any, dim: int, size: int) -> Axis:
    kernel = (layer.kernel_size[dim] - 1) * layer.dilation[dim] + 1
    padding = int(layer.padding[dim])
    if pool is None:
        return Axis(size, kernel, layer.stride[dim], padding)
    window = _pair(pool.kernel_size)[dim]
    step = window if pool.stride is None else _pair(pool.stride)[dim]
    return Axis(size, kernel, layer.stride[dim], padding, window, step)


def _pair(value: int | tuple[int, int]) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else value


@dataclass(frozen=True)
class Piece:
    """A rectangle of each row's map: values (g, high, wide, C) at (top, left), (g,) int64."""

    values: Tensor
    top: Tensor
    left: Tensor

    def moved(self, down: int | Tensor, across: int | Tensor) -> Piece:
        """The same values elsewhere."""
        return Piece(self.values, self.top + down, self.left + across)


def cut(maps: Tensor, rows: Tensor, top: Tensor, left: Tensor, size: tuple[int, int]) -> Tensor:
    """(g, *size, C): pieces of the maps (n, H, W, C) of `rows` at (top, left), (g,) each."""
    index = pixels_of(rows, top, left, size, maps)
    flat = maps.view(-1, maps.shape[3]).index_select(0, index.flatten())
    return flat.view(len(rows), *size, maps.shape[3])


def paste(maps: Tensor, piece: Piece) -> Tensor:
    """`maps` (g, H, W, C) with the pieces put in, what lies outside cut off; writes into it."""
    size = piece.values.shape[1:3]
    index = pixels_of(torch.arange(len(maps)), piece.top, piece.left, size, maps)
    down = piece.top[:, None] + torch.arange(size[0])
    across = piece.left[:, None] + torch.arange(size[1])
    rows = (down >= 0) & (down < maps.shape[1])
    columns = (across >= 0) & (across < maps.shape[2])
    values = piece.values.reshape(-1, maps.shape[3])
    if not bool(rows.all() & columns.all()):
        inside = (rows[:, :, None] & columns[:, None, :]).flatten().nonzero()[:, 0]
        index, values = index.flatten()[inside], values[inside]
    maps.view(-1, maps.shape[3]).index_copy_(0, index.flatten(), values)
    return maps


def pixels_of(
    rows: Tensor, top: Tensor, left: Tensor, size: torch.Size | tuple[int, ...], maps: Tensor
) -> Tensor:
    """(g, *size) positions in `maps` as a list of pixels."""
    height, width = maps.shape[1:3]
    corner = rows * (height * width) + top * width + left
    down = torch.arange(size[0])[:, None] * width
    return corner[:, None, None] + (down + torch.arange(size[1]))
