"""Architectures by registered name. Importing this room imports no torch."""

from __future__ import annotations

from drelu_cli.core.registry import Registry

MODELS = Registry(
    "model",
    {
        "dense": "drelu_cli.models.dense:dense",
        "shallow_cnn": "drelu_cli.models.shallow_cnn:shallow_cnn",
        "resnet18": "drelu_cli.models.resnet:resnet18",
        "resnet50": "drelu_cli.models.resnet:resnet50",
        "resnet101": "drelu_cli.models.resnet:resnet101",
        "mobilenet_v2": "drelu_cli.models.mobilenet:mobilenet_v2",
        "inception_v3": "drelu_cli.models.inception:inception_v3",
    },
    group="drelu.models",
)
