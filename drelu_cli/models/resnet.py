"""torchvision's residual networks (arXiv 1512.03385) with a first layer fitted to the images."""

from __future__ import annotations

from typing import Any

from torch import nn

from drelu_cli.activations.contract import ActivationFactory
from drelu_cli.activations.plain import relu
from drelu_cli.models.contract import Shape, architecture, conv_stem, head
from drelu_cli.models.placement import fill_everywhere
from drelu_cli.runtime.vision import import_torchvision

# Shorter sides in pixels from which the first convolution halves the image, and from which
# torchvision's own 7x7 convolution and pooling stay: 8 to 39 keep their size, 64 is halved once.
_HALVED_FROM = 40
_IMAGENET_FROM = 128


@architecture(stem=conv_stem)
def resnet18(
    shape: Shape, classes: int, activation: ActivationFactory, /, *, extra: int = 128
) -> nn.Module:
    """ResNet-18, every ReLU a module of its own, the extra layer before the output.

    Args:
        shape: (C, H, W) of the images.
        classes: number of logits.
        activation: fills the extra layer.
        extra: neurons of the extra layer.
    """
    net = import_torchvision().models.resnet18(weights=None)
    _fit_first_layer(net, shape)
    net.fc = nn.Identity()
    # torchvision reuses one in-place `self.relu` per block: bounds, surrogates and evidence
    # need one module per call site.
    body = fill_everywhere(net, relu, shape)
    return nn.Sequential(body, head(512, classes, activation, extra))


def _fit_first_layer(net: Any, shape: Shape) -> None:
    channels, side = shape[0], min(shape[1:])
    if side >= _IMAGENET_FROM:
        net.conv1 = nn.Conv2d(channels, 64, 7, stride=2, padding=3, bias=False)
    else:
        stride = 2 if side >= _HALVED_FROM else 1
        net.conv1 = nn.Conv2d(channels, 64, 3, stride=stride, padding=1, bias=False)
        net.maxpool = nn.Identity()
    # torchvision's own initialisation of its convolutions.
    nn.init.kaiming_normal_(net.conv1.weight, mode="fan_out", nonlinearity="relu")
