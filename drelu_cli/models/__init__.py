"""Architectures by registered name. Importing this room imports no torch."""

from __future__ import annotations

from drelu_cli.core.registry import Registry

MODELS = Registry(
    "model",
    {
        "dense": "drelu_cli.models.dense:dense",
        "shallow_cnn": "drelu_cli.models.shallow_cnn:shallow_cnn",
        "resnet18": "drelu_cli.models.resnet:resnet18",
    },
    group="drelu.models",
)
