"""A dense net: two hidden layers in the source paper, widths ours."""

from __future__ import annotations

from collections import OrderedDict

from torch import nn

from drelu_cli.activations.contract import ActivationFactory
from drelu_cli.activations.plain import relu
from drelu_cli.models.contract import Shape, architecture, dense_stem, head, require


@architecture(stem=dense_stem)
def dense(
    shape: Shape,
    classes: int,
    activation: ActivationFactory,
    /,
    *,
    width: int = 256,
    depth: int = 2,
    extra: int = 128,
) -> nn.Module:
    """`depth` hidden layers of `width` ReLUs, the extra layer, the output.

    Args:
        shape: (C, H, W) of the images.
        classes: number of logits.
        activation: fills the extra layer.
        width: neurons per hidden layer.
        depth: hidden layers, >= 0.
        extra: neurons of the extra layer.
    """
    require(
        width >= 1 and depth >= 0, f"width = {width}, depth = {depth}: use width >= 1, depth >= 0"
    )
    layers: OrderedDict[str, nn.Module] = OrderedDict(flatten=nn.Flatten())
    features = shape[0] * shape[1] * shape[2]
    for index in range(depth):
        layers[f"dense{index}"] = nn.Linear(features, width)
        layers[f"relu{index}"] = relu(width)
        features = width
    layers["head"] = head(features, classes, activation, extra)
    return nn.Sequential(layers)
