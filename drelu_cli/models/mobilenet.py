"""torchvision's MobileNetV2 (arXiv 1801.04381) with first layers fitted to the images."""

from __future__ import annotations

from typing import Any

from torch import nn

from drelu_cli.activations.contract import ActivationFactory
from drelu_cli.models.contract import Shape, architecture, conv_stem, head
from drelu_cli.models.fitting import HALVED_FROM, IMAGENET_FROM, Backbone, take_channels
from drelu_cli.models.placement import fill_everywhere, own_relu6
from drelu_cli.runtime.vision import import_torchvision

_BACKBONE = Backbone("MobileNet_V2_Weights", first="features.0.0.weight", replaced=("classifier.",))
_FEATURES = 1280


@architecture(stem=conv_stem, backbone=_BACKBONE)
def mobilenet_v2(
    shape: Shape, classes: int, activation: ActivationFactory, /, *, extra: int = 128
) -> nn.Module:
    """MobileNetV2, its own ReLU6 in the body, the extra layer before the output.

    Placements `head` and `stem` leave the ReLU6 alone, `all` replaces every one. torchvision's
    classifier and its dropout give way to the head: a training's random numbers are counted, and
    dropout would draw them from torch's global generator.

    Args:
        shape: (C, H, W) of the images. Their side shrinks by 8, from 40 pixels on by 16, from 128
            on by 32 as in torchvision's.
        classes: number of logits.
        activation: fills the extra layer.
        extra: neurons of the extra layer.
    """
    net = import_torchvision().models.mobilenet_v2(weights=None)
    _fit_first_layers(net, shape)
    net.classifier = nn.Identity()
    body = fill_everywhere(net, own_relu6, shape)
    return nn.Sequential(body, head(_FEATURES, classes, activation, extra))


def _fit_first_layers(net: Any, shape: Shape) -> None:
    """Takes strides away from the front: first the third block's, then the first layer's."""
    side = min(shape[1:])
    first, block = net.features[0], net.features[2].conv[1]
    if side < IMAGENET_FROM:
        block[0].stride = (1, 1)
    if side < HALVED_FROM:
        first[0].stride = (1, 1)
    first[0] = take_channels(first[0], shape[0])
    # torchvision's own initialisation of its convolutions.
    nn.init.kaiming_normal_(first[0].weight, mode="fan_out")
