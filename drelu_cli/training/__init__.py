"""Training schemes by registered name. Importing this room imports no torch."""

from __future__ import annotations

from drelu_cli.core.registry import Registry

SCHEMES = Registry(
    "scheme",
    {
        "natural": "drelu_cli.training.schemes:natural",
        "at": "drelu_cli.training.schemes:at",
        "madry": "drelu_cli.training.schemes:madry",
        "trades": "drelu_cli.training.schemes:trades",
        "sensitivity": "drelu_cli.training.regimes:sensitivity",
        "overfit": "drelu_cli.training.regimes:overfit",
    },
    group="drelu.schemes",
)
