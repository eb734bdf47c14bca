"""Data sets by registered name, and the facts about them. Importing this room imports no torch."""

from __future__ import annotations

from drelu_cli.core.registry import Registry

DATASETS = Registry(
    "data set",
    {
        "digits": "drelu_cli.data.digits:digits",
        "mnist": "drelu_cli.data.official:mnist",
        "fashion_mnist": "drelu_cli.data.official:fashion_mnist",
        "cifar10": "drelu_cli.data.official:cifar10",
        "cifar100": "drelu_cli.data.official:cifar100",
        "tiny_imagenet": "drelu_cli.data.tiny_imagenet:tiny_imagenet",
        "stl10": "drelu_cli.data.official:stl10",
        "npz": "drelu_cli.data.npz:npz",
        "image_folder": "drelu_cli.data.image_folder:image_folder",
    },
    group="drelu.datasets",
)
