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
        "npz": "drelu_cli.data.npz:npz",
    },
    group="drelu.datasets",
)
