"""The shallow CNN of the source paper: 3x3 convolutions with pooling; widths ours."""

from __future__ import annotations

from collections import OrderedDict

from torch import nn

from drelu_cli.activations.contract import ActivationFactory
from drelu_cli.activations.plain import relu
from drelu_cli.models.contract import Shape, architecture, conv_stem, head, require, shape_text


@architecture(stem=conv_stem)
def shallow_cnn(
    shape: Shape,
    classes: int,
    activation: ActivationFactory,
    /,
    *,
    widths: tuple[int, ...] = (32, 64),
    extra: int = 128,
) -> nn.Module:
    """Per width a 3x3 convolution, ReLU and 2x2 max pooling; the extra layer, the output.

    Args:
        shape: (C, H, W) of the images; each width halves H and W.
        classes: number of logits.
        activation: fills the extra layer.
        widths: channels of the convolutions.
        extra: neurons of the extra layer.
    """
    require(
        bool(widths) and min(widths) >= 1, f"widths = {list(widths)}: use one or more, each >= 1"
    )
    channels, height, width = shape
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    for index, out in enumerate(widths):
        layers[f"convolution{index}"] = nn.Conv2d(channels, out, 3, padding=1)
        layers[f"relu{index}"] = relu(out)
        layers[f"pooling{index}"] = nn.MaxPool2d(2)
        channels, height, width = out, height // 2, width // 2
    require(
        min(height, width) >= 1,
        f"shallow_cnn with {len(widths)} poolings cannot take {shape_text(shape)} images",
        hint="give fewer widths",
    )
    layers["flatten"] = nn.Flatten()
    layers["head"] = head(channels * height * width, classes, activation, extra)
    return nn.Sequential(layers)
