"""Networks made for ImageNet's 224 pixels, fitted to smaller images; what is known of them."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

# Shorter sides in pixels from which a fitted net's first layers halve the image once more than
# they do for 28 and 32 pixels, and from which torchvision's own first layers stay as they are.
HALVED_FROM = 40
IMAGENET_FROM = 128

# Pixel statistics of ImageNet's training images in [0, 1], red, green, blue, as torchvision's
# weights for classification expect them.
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Backbone:
    """What pretrained weights of an architecture look like.

    A network that declares one is an `nn.Sequential` of the backbone, with torchvision's names,
    and the head.

    Attributes:
        weights: the name of torchvision's enumeration of weights, e.g. `ResNet50_Weights`.
        first: the convolution that takes the images, by the name of its weight.
        replaced: beginnings of names that drelu's extra and output layer stand for.
        mean: per channel, of the pixels in [0, 1] that the weights expect.
        std: per channel.
    """

    weights: str
    first: str
    replaced: tuple[str, ...]
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD


def take_channels(convolution: nn.Conv2d, channels: int) -> nn.Conv2d:
    """`convolution` for images of `channels`: itself where it takes them, else a new one."""
    if convolution.in_channels == channels:
        return convolution
    # torch types window, stride and padding as tuples of any length.
    return nn.Conv2d(
        channels,
        convolution.out_channels,
        convolution.kernel_size,  # type: ignore[arg-type]
        stride=convolution.stride,  # type: ignore[arg-type]
        padding=convolution.padding,  # type: ignore[arg-type]
        bias=convolution.bias is not None,
    )
