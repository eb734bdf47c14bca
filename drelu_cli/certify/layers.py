"""The linear layers of a network, forwards on boxes and backwards on linear functions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from drelu_cli.certify.functionals import Box, Functionals

Backwards = Callable[[Functionals], Functionals]
"""Functions of a layer's outputs to functions of its inputs that are nowhere larger."""


class Layer(Protocol):
    """What every layer is.

    Attributes:
        mixes: an output depends on several inputs, so that bounds from the input of the network
            may be tighter than bounds from the layer below.
    """

    mixes: bool

    def forward(self, x: Tensor) -> Tensor:
        """(N, ...) to (N, ...), as the network computes it."""
        ...

    def interval(self, box: Box) -> Box:
        """Bounds of the outputs over a box of inputs, output by output."""
        ...

    def undecided(self, box: Box) -> Tensor | None:
        """Which inputs tighter bounds may help, bool (N, ...); None for linear layers."""
        ...

    def backwards(self, box: Box) -> Backwards:
        """How functions of the outputs are bounded from below by functions of the inputs.

        Args:
            box: bounds of the inputs.
        """
        ...


class Linear:
    """What the linear layers share."""

    mixes = True

    def undecided(self, box: Box) -> Tensor | None:  # noqa: ARG002 - a linear layer relaxes nothing
        """None: nothing is relaxed here."""
        return None


@dataclass(frozen=True)
class Scale(Linear):
    """y = scale * x + shift per channel.

    Attributes:
        scale: (C, 1, 1).
        shift: (C, 1, 1).
    """

    scale: Tensor
    shift: Tensor
    mixes = False

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to the same shape."""
        return self.scale * x + self.shift

    def interval(self, box: Box) -> Box:
        """The ends swap where the scale is negative."""
        ends = self.forward(box[0]), self.forward(box[1])
        return torch.minimum(*ends), torch.maximum(*ends)

    def backwards(self, box: Box) -> Backwards:
        """Exact."""
        size = box[0].shape[-2:]

        def step(given: Functionals) -> Functionals:
            given = given.cleaned(size)
            bias = given.bias + (given.weight * self.shift).flatten(1).sum(1)
            return given.moved(given.weight * self.scale, bias)

        return step


@dataclass(frozen=True)
class Flatten(Linear):
    """(N, C, H, W) to (N, C * H * W)."""

    mixes = False

    def forward(self, x: Tensor) -> Tensor:
        """Rows in the order of `nn.Flatten`."""
        return x.flatten(1)

    def interval(self, box: Box) -> Box:
        """Exact."""
        return box[0].flatten(1), box[1].flatten(1)

    def backwards(self, box: Box) -> Backwards:
        """Exact."""
        shape = box[0].shape[1:]
        return lambda given: given.moved(given.weight.reshape(-1, *shape), given.bias)


@dataclass(frozen=True)
class Dense(Linear):
    """y = W x + b.

    Attributes:
        weight: (outputs, inputs).
        bias: (outputs,).
    """

    weight: Tensor
    bias: Tensor

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs) to (N, outputs)."""
        return F.linear(x, self.weight, self.bias)

    def interval(self, box: Box) -> Box:
        """W c + b -+ |W| r for center c and radius r (Gowal et al. 2018, arXiv 1810.12715)."""
        center, radius = self.forward((box[0] + box[1]) / 2), (box[1] - box[0]) / 2
        spread = F.linear(radius, self.weight.abs())
        return center - spread, center + spread

    def backwards(self, box: Box) -> Backwards:  # noqa: ARG002 - exact on any box
        """Exact."""

        def step(given: Functionals) -> Functionals:
            return given.moved(given.weight @ self.weight, given.bias + given.weight @ self.bias)

        return step


@dataclass(frozen=True)
class Convolution(Linear):
    """A two-dimensional convolution with zero padding.

    Attributes:
        weight: (outputs, inputs, K, L); groups are written out as zeros.
        bias: (outputs,).
        stride: rows, columns.
        padding: rows, columns.
        dilation: rows, columns.
    """

    weight: Tensor
    bias: Tensor
    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, H, W) to (N, outputs, H', W')."""
        return self._convolved(x, self.weight, self.bias)

    def interval(self, box: Box) -> Box:
        """As `Dense.interval`."""
        center, radius = self.forward((box[0] + box[1]) / 2), (box[1] - box[0]) / 2
        spread = self._convolved(radius, self.weight.abs(), None)
        return center - spread, center + spread

    def backwards(self, box: Box) -> Backwards:
        """Exact."""
        size_in = box[0].shape[-2:]
        size_out = self._convolved(box[0][:1], self.weight, None).shape[-2:]

        def step(given: Functionals) -> Functionals:
            given = given.cleaned(size_out)
            bias = given.bias + given.weight.flatten(2).sum(2) @ self.bias
            if given.corner is None:
                return given.moved(self._transposed(given.weight, size_in), bias)
            corner = self._below(given.corner)
            return given.moved(self._window(given.weight), bias, corner=corner, clean=False)

        return step

    def _convolved(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return F.conv2d(x, weight, bias, self.stride, self.padding, self.dilation)

    def _below(self, corner: Tensor) -> Tensor:
        """Where the windows start in the layer below."""
        return corner * corner.new_tensor(self.stride) - corner.new_tensor(self.padding)

    def _window(self, weight: Tensor) -> Tensor:
        """(T, outputs, h, w) to (T, inputs, h', w'), nothing cut off at the map's ends."""
        small = weight[:1].new_zeros(1, *weight.shape[1:])
        out = self._opened(small)
        # One dense product beats many small convolutions while most of its entries are used.
        kernel = self.weight.shape[2] * self.weight.shape[3]
        if out.shape[2] * out.shape[3] > 8 * kernel or len(weight) < 4 * small.numel():
            return self._opened(weight)
        unit = torch.eye(small.numel(), dtype=weight.dtype, device=weight.device)
        matrix = self._opened(unit.reshape(-1, *weight.shape[1:])).flatten(1)
        return (weight.flatten(1) @ matrix).reshape(-1, *out.shape[1:])

    def _opened(self, weight: Tensor) -> Tensor:
        return F.conv_transpose2d(weight, self.weight, stride=self.stride, dilation=self.dilation)

    def _transposed(self, weight: Tensor, size: torch.Size) -> Tensor:
        """(T, outputs, H', W') to (T, inputs, H, W), with H and W = `size`."""
        full = self._opened(weight)
        # Rows and columns that the stride leaves over are touched by no kernel.
        over = [
            max(0, p + n - m) for p, n, m in zip(self.padding, size, full.shape[-2:], strict=True)
        ]
        full = F.pad(full, (0, over[1], 0, over[0]))
        (top, left), (height, width) = self.padding, size
        return full[:, :, top : top + height, left : left + width]
