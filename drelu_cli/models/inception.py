"""torchvision's InceptionV3 (arXiv 1512.00567) with first layers fitted to the images."""

from __future__ import annotations

from typing import Any

from torch import nn

from drelu_cli.activations.contract import ActivationFactory
from drelu_cli.activations.plain import relu
from drelu_cli.models.contract import Shape, architecture, conv_stem, head, require, shape_text
from drelu_cli.models.fitting import HALVED_FROM, IMAGENET_FROM, Backbone, take_channels
from drelu_cli.models.placement import fill_everywhere
from drelu_cli.runtime.vision import import_torchvision

# Google's weights want pixels in [-1, 1]; torchvision's `transform_input` undoes ImageNet's
# statistics to get there.
_BACKBONE = Backbone(
    "Inception_V3_Weights",
    first="Conv2d_1a_3x3.conv.weight",
    replaced=("fc.", "AuxLogits."),
    mean=(0.5, 0.5, 0.5),
    std=(0.5, 0.5, 0.5),
)
_FEATURES = 2048
# The body's two unpadded reductions leave 1 pixel of 7, and need 12 once a pooling is before them.
_SMALLEST = 7
_POOLED_FROM = 24


@architecture(stem=conv_stem, backbone=_BACKBONE)
def inception_v3(
    shape: Shape, classes: int, activation: ActivationFactory, /, *, extra: int = 128
) -> nn.Module:
    """InceptionV3 without its auxiliary classifier, the extra layer before the output.

    torchvision's last layer and its dropout give way to the head: a training's random numbers are
    counted, and dropout would draw them from torch's global generator.

    Args:
        shape: (C, H, W) of the images, 7 pixels or more. Before the first inception block their
            side is kept, from 24 pixels on halved, from 40 on quartered; from 128 on the first
            layers are torchvision's own, which divide by 8.
        classes: number of logits.
        activation: fills the extra layer.
        extra: neurons of the extra layer.
    """
    require(
        min(shape[1:]) >= _SMALLEST,
        f"inception_v3 cannot take {shape_text(shape)} images",
        hint=f"its reductions need {_SMALLEST} pixels or more",
    )
    net = import_torchvision().models.inception_v3(
        weights=None, aux_logits=False, transform_input=False, init_weights=True
    )
    _fit_first_layers(net, shape)
    net.dropout, net.fc = nn.Identity(), nn.Identity()
    body = fill_everywhere(net, relu, shape)
    return nn.Sequential(body, head(_FEATURES, classes, activation, extra))


def _fit_first_layers(net: Any, shape: Shape) -> None:
    """Below IMAGENET_FROM pixels: padding, and fewer of the three reductions."""
    side, first = min(shape[1:]), net.Conv2d_1a_3x3
    if side < IMAGENET_FROM:
        for layer in (first, net.Conv2d_2a_3x3, net.Conv2d_4a_3x3):
            layer.conv.padding = (1, 1)
        net.maxpool2 = nn.Identity()
        net.maxpool1 = nn.MaxPool2d(3, stride=2, padding=1)
    if side < HALVED_FROM:
        first.conv.stride = (1, 1)
    if side < _POOLED_FROM:
        net.maxpool1 = nn.Identity()
    first.conv = take_channels(first.conv, shape[0])
    # torchvision's own initialisation of its convolutions.
    nn.init.trunc_normal_(first.conv.weight, mean=0.0, std=0.1, a=-2, b=2)
