"""The source paper's tables and the figures in its text, as package data.

Importing this room imports no pandas.
"""

from __future__ import annotations

PREFIX = "published:"
CONTROL = "D-ReLU"  # the treatment that the paper proposes

# The paper's names -> drelu's registered names.
DATASETS = {
    "MNIST": "mnist",
    "CIFAR10": "cifar10",
    "CIFAR100": "cifar100",
    "TinyImagenet": "tiny_imagenet",
}
MODELS = {
    "Dense": "dense",
    "Shallow CNN": "shallow_cnn",
    "ResNet50": "resnet50",
    "ResNet101": "resnet101",
    "MobilenetV2": "mobilenet_v2",
    "InceptionV3": "inception_v3",
}


def is_published(name: str) -> bool:
    """Whether `name` asks for package data: `published:table2`, `published:all`."""
    return name.startswith(PREFIX)
