"""torchvision's residual networks (arXiv 1512.03385) with a first layer fitted to the images."""

from __future__ import annotations

from typing import Any

from torch import nn

from drelu_cli.activations.contract import ActivationFactory
from drelu_cli.activations.plain import relu
from drelu_cli.models.contract import Shape, architecture, conv_stem, head
from drelu_cli.models.fitting import HALVED_FROM, IMAGENET_FROM, Backbone
from drelu_cli.models.placement import fill_everywhere
from drelu_cli.runtime.vision import import_torchvision


def _backbone(weights: str) -> Backbone:
    return Backbone(weights, first="conv1.weight", replaced=("fc.",))


@architecture(stem=conv_stem, backbone=_backbone("ResNet18_Weights"))
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
    return _fitted("resnet18", shape, classes, activation, extra)


@architecture(stem=conv_stem, backbone=_backbone("ResNet50_Weights"))
def resnet50(
    shape: Shape, classes: int, activation: ActivationFactory, /, *, extra: int = 128
) -> nn.Module:
    """ResNet-50 with its bottleneck blocks, otherwise as `resnet18`.

    Args:
        shape: (C, H, W) of the images.
        classes: number of logits.
        activation: fills the extra layer.
        extra: neurons of the extra layer.
    """
    return _fitted("resnet50", shape, classes, activation, extra)


@architecture(stem=conv_stem, backbone=_backbone("ResNet101_Weights"))
def resnet101(
    shape: Shape, classes: int, activation: ActivationFactory, /, *, extra: int = 128
) -> nn.Module:
    """ResNet-101 with its bottleneck blocks, otherwise as `resnet18`.

    Args:
        shape: (C, H, W) of the images.
        classes: number of logits.
        activation: fills the extra layer.
        extra: neurons of the extra layer.
    """
    return _fitted("resnet101", shape, classes, activation, extra)


def _fitted(
    name: str, shape: Shape, classes: int, activation: ActivationFactory, extra: int
) -> nn.Module:
    net = getattr(import_torchvision().models, name)(weights=None)
    features = int(net.fc.in_features)
    _fit_first_layer(net, shape)
    net.fc = nn.Identity()
    # torchvision reuses one in-place `self.relu` per block: bounds, surrogates and evidence
    # need one module per call site.
    body = fill_everywhere(net, relu, shape)
    return nn.Sequential(body, head(features, classes, activation, extra))


def _fit_first_layer(net: Any, shape: Shape) -> None:
    """Below IMAGENET_FROM pixels a 3x3 convolution and no pooling, as is usual on CIFAR."""
    channels, side = shape[0], min(shape[1:])
    if side >= IMAGENET_FROM:
        net.conv1 = nn.Conv2d(channels, 64, 7, stride=2, padding=3, bias=False)
    else:
        stride = 2 if side >= HALVED_FROM else 1
        net.conv1 = nn.Conv2d(channels, 64, 3, stride=stride, padding=1, bias=False)
        net.maxpool = nn.Identity()
    # torchvision's own initialisation of its convolutions.
    nn.init.kaiming_normal_(net.conv1.weight, mode="fan_out", nonlinearity="relu")
