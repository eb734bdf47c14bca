"""drelu: is a neural network with a modified activation function really robust?

The five workflows are importable by name; torch is loaded on first use:

    from drelu_cli import train, attack, sweep, compare, stats
"""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

_PUBLIC = {
    "train": "drelu_cli.workflows.train",
    "attack": "drelu_cli.workflows.attack",
    "sweep": "drelu_cli.workflows.sweep",
    "compare": "drelu_cli.workflows.compare",
    "stats": "drelu_cli.workflows.stats",
}

__all__ = ["__version__", *sorted(_PUBLIC)]


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(importlib.import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module 'drelu_cli' has no attribute '{name}'")
