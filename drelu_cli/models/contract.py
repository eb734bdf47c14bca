"""What every architecture is, and the two layers that all of them share.

    architecture(shape, classes, activation, *, options) -> module giving logits

An architecture puts `activation` into its extra dense layer and ReLU everywhere else; where
else the activation goes is decided by the placement, not here.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, nn

from drelu_cli.activations.contract import ActivationFactory
from drelu_cli.core.errors import ModelError
from drelu_cli.models.fitting import Backbone

Shape = tuple[int, int, int]
ModelFactory = Callable[..., nn.Module]
Stem = Callable[[Shape, ActivationFactory], tuple[nn.Module, Shape]]

# Channels and window of the convolution that the placement `stem` puts after the input (the
# source paper's Fig. 13 gives neither), and the width of its dense counterpart.
STEM_CHANNELS = 16
STEM_WINDOW = 3
STEM_WIDTH = 256


class Normalize(nn.Module):
    """(x - mean) / std per channel: a frozen affine map inside the model.

    Args:
        mean: per channel, in units of pixel values in [0, 1].
        std: per channel, > 0.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        if len(mean) != len(std) or not mean:
            raise ModelError(
                f"{len(mean)} means and {len(std)} standard deviations",
                hint="give one of each per channel",
            )
        if not min(std) > 0:
            raise ModelError(f"standard deviations {list(std)} are not all > 0")
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32).reshape(-1, 1, 1))
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32).reshape(-1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) in [0, 1] to the same shape."""
        return (x - self.mean) / self.std

    def scale_and_shift(self) -> tuple[Tensor, Tensor]:
        """The map as y = scale * x + shift, (C, 1, 1) float64 each: bounds ask for it."""
        scale = self.std.double().reciprocal()
        return scale, -self.mean.double() * scale

    def extra_repr(self) -> str:
        """The number of channels."""
        return str(len(self.mean))


def head(features: int, classes: int, activation: ActivationFactory, extra: int) -> nn.Sequential:
    """The extra dense layer with the activation, then the output layer: every net ends so.

    Args:
        features: width of the (N, features) input.
        classes: number of logits.
        activation: fills the extra layer.
        extra: width of the extra layer, >= 1.
    """
    require(extra >= 1, f"extra = {extra}: the extra dense layer needs 1 neuron or more")
    layers = OrderedDict(
        extra=nn.Linear(features, extra),
        activation=activation(extra),
        output=nn.Linear(extra, classes),
    )
    return nn.Sequential(layers)


def conv_stem(shape: Shape, activation: ActivationFactory) -> tuple[nn.Module, Shape]:
    """A 3x3 convolution to 16 channels at the image's size, with the activation after it."""
    convolution = nn.Conv2d(shape[0], STEM_CHANNELS, STEM_WINDOW, padding=STEM_WINDOW // 2)
    layers = OrderedDict(convolution=convolution, activation=activation(STEM_CHANNELS))
    return nn.Sequential(layers), (STEM_CHANNELS, *shape[1:])


def dense_stem(shape: Shape, activation: ActivationFactory) -> tuple[nn.Module, Shape]:
    """A dense layer of 256 neurons with the activation, for nets without convolutions."""
    features = shape[0] * shape[1] * shape[2]
    layers = OrderedDict(
        flatten=nn.Flatten(),
        dense=nn.Linear(features, STEM_WIDTH),
        activation=activation(STEM_WIDTH),
    )
    return nn.Sequential(layers), (STEM_WIDTH, 1, 1)


F = TypeVar("F", bound=ModelFactory)


def architecture(*, stem: Stem, backbone: Backbone | None = None) -> Callable[[F], F]:
    """Declares an architecture's stem, and what pretrained weights for it look like.

    One that declares no stem gets `conv_stem`; one without a backbone takes no pretrained weights.
    """

    def declare(function: F) -> F:
        cast(Any, function).stem = stem
        cast(Any, function).backbone = backbone
        return function

    return declare


def stem_of(factory: ModelFactory) -> Stem:
    """The stem that `factory` declares, else `conv_stem`."""
    found: Stem = getattr(factory, "stem", conv_stem)
    return found


def backbone_of(factory: ModelFactory) -> Backbone | None:
    """What `factory` declares about pretrained weights; None where it declares nothing."""
    found: Backbone | None = getattr(factory, "backbone", None)
    return found


def require(condition: bool, message: str, *, hint: str = "") -> None:
    """Raises `ModelError(message)` unless `condition` holds."""
    if not condition:
        raise ModelError(message, hint=hint)


def shape_text(shape: Sequence[int]) -> str:
    """(1, 28, 28) as `28x28x1`, the way image sizes are written."""
    if len(shape) != 3:
        return "x".join(str(size) for size in shape)
    channels, height, width = shape
    return f"{height}x{width}x{channels}"
