"""Activations by registered name. Importing this room imports no torch."""

from __future__ import annotations

from drelu_cli.core.registry import Registry

ACTIVATIONS = Registry(
    "activation",
    {
        "relu": "drelu_cli.activations.plain:relu",
        "relu6": "drelu_cli.activations.capped:relu6",
        "srelu": "drelu_cli.activations.capped:srelu",
        "drelu": "drelu_cli.activations.capped:drelu",
        "tanh": "drelu_cli.activations.plain:tanh",
        "hardtanh": "drelu_cli.activations.plain:hardtanh",
        "silu": "drelu_cli.activations.plain:silu",
        "softplus": "drelu_cli.activations.plain:softplus",
        "kwta": "drelu_cli.activations.winners:kwta",
        "qrelu": "drelu_cli.activations.quantized:qrelu",
    },
    group="drelu.activations",
    open_names=True,
)
