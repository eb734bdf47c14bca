"""drelu: is a neural network with a modified activation function really robust?

The workflows are importable by name; torch is loaded on first use:

    from drelu_cli import train, attack, sweep, compare, statistics, audit

(`statistics` is what `drelu stats` runs: `drelu_cli.stats` is the package of tests it calls.)
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
    "verify": "drelu_cli.workflows.verify",
    "statistics": "drelu_cli.workflows.stats:stats",
    "audit": "drelu_cli.workflows.audit",
    "Context": "drelu_cli.workflows.context",
    "Wanted": "drelu_cli.workflows.plan",
}

__all__ = ["__version__", *sorted(_PUBLIC)]


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        module, _, attribute = _PUBLIC[name].partition(":")
        return getattr(importlib.import_module(module), attribute or name)
    raise AttributeError(f"module 'drelu_cli' has no attribute '{name}'")
