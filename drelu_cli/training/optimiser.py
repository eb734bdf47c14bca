"""The optimiser of a phase and its schedule: Adam and ReduceLROnPlateau, as the source paper."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from drelu_cli.activations.caps import learnable_caps
from drelu_cli.core.recipe import Train
from drelu_cli.training.contract import BoundPhase


def optimiser_of(model: nn.Module, phase: BoundPhase, settings: Train) -> torch.optim.Adam:
    """Adam on everything that requires a gradient; caps form the last group, with their own rate.

    Weight decay is L2 in the gradient, on weights alone: the caps have a penalty of their own.
    """
    caps = learnable_caps(model)
    held = {id(cap) for cap in caps}
    weights = [p for p in model.parameters() if id(p) not in held and p.requires_grad]
    groups: list[dict[str, Any]] = [
        {"params": weights, "lr": phase.lr, "weight_decay": settings.weight_decay},
        {"params": caps, "lr": phase.cap_lr},
    ]
    return torch.optim.Adam([group for group in groups if group["params"]])


def schedule_of(
    optimiser: torch.optim.Optimizer, settings: Train
) -> torch.optim.lr_scheduler.ReduceLROnPlateau:
    """Lowers all rates where the validation loss has not fallen for some epochs."""
    return torch.optim.lr_scheduler.ReduceLROnPlateau(
        optimiser, factor=settings.plateau_factor, patience=settings.plateau_patience
    )
