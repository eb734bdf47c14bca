"""Presets, and the two lowest layers of a recipe: the data set's defaults, then the preset."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from drelu_cli.core.errors import UnknownName
from drelu_cli.core.grid import merged
from drelu_cli.data.facts import facts

DEFAULT_PRESET = "fast"

# fast: Adam moves a parameter by about its learning rate a step, so caps that start at 100 need
# some 100,000 steps; from 10 with a rate of their own they arrive in 15 epochs.
PRESETS: dict[str, dict[str, Any]] = {
    "fast": {"activation": {"name": "drelu", "cap": 10.0}, "train": {"cap_lr": 0.05}},
    "paper": {
        "activation": {"name": "drelu", "cap": 100.0},
        "train": {"cap_lr": 1e-3, "epochs": 2000},
    },
    "tiny": {"activation": {"name": "drelu", "cap": 10.0}, "train": {"cap_lr": 0.05}},
}

# Axes that `tiny` cuts to their first value: one net, one seed.
TINY_SINGLE_AXES = ("model", "model.name", "architecture", "train.seed")
# What `tiny` lets through at most, whatever the recipe says; options still stand above it.
TINY_LIMITS = {
    "data": {"train_samples": 256},
    "train": {"epochs": 1},
    "attack": {"samples": 32, "max_steps": 2},
}


def check_preset(name: str) -> None:
    """Refuses an unknown preset.

    Raises:
        UnknownName: with the nearest names.
    """
    if name not in PRESETS:
        raise UnknownName.among("preset", name, PRESETS)


def defaults_for(dataset: str, preset: str) -> dict[str, Any]:
    """The two lowest layers for a data set."""
    declared = facts(dataset)
    base: Mapping[str, Any] = {
        "data": {"name": dataset},
        "train": {"batch": declared.batch, "epochs": declared.epochs},
    }
    return merged(base, PRESETS[preset])


def cut_to_tiny(mapping: Mapping[str, Any]) -> dict[str, Any]:
    """`mapping` with every amount at most what `tiny` allows."""
    out = dict(mapping)
    for section, limits in TINY_LIMITS.items():
        fields = dict(out.get(section, {}))
        out[section] = {**fields, **{k: _least(fields.get(k), most) for k, most in limits.items()}}
    if isinstance(out.get("phase"), list):
        out["phase"] = [_cut_phase(phase) for phase in out["phase"]]
    return out


def _cut_phase(phase: Mapping[str, Any]) -> dict[str, Any]:
    lengths = {"epochs": TINY_LIMITS["train"]["epochs"]}
    if phase.get("scheme") == "at":
        lengths["adversarial_epochs"] = 1
    return {**phase, **{k: _least(phase.get(k), most) for k, most in lengths.items()}}


def _least(value: Any, most: int) -> int:
    return min(value, most) if isinstance(value, int) else most
