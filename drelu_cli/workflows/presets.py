"""Presets, and the two lowest layers of a recipe: the data set's defaults, then the preset."""

from __future__ import annotations

from collections.abc import Collection, Mapping
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
    "data": {"train_samples": 256, "validation_samples": 64},
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


def cut_to_tiny(mapping: Mapping[str, Any], *, given: Collection[str] = ()) -> dict[str, Any]:
    """`mapping` with every amount at most what `tiny` allows, but for the options `given`."""
    out = dict(mapping)
    for section, limits in TINY_LIMITS.items():
        fields = dict(out.get(section, {}))
        for name, most in limits.items():
            if f"{section}.{name}" not in given:
                fields[name] = _least(fields.get(name), most)
        out[section] = fields
    if isinstance(out.get("phase"), list) and not any(name.startswith("phase.") for name in given):
        most = out["train"]["epochs"]
        out["phase"] = [_cut_phase(phase, most) for phase in out["phase"]]
    return out


def _cut_phase(phase: Mapping[str, Any], most: int) -> dict[str, Any]:
    out = {**phase, "epochs": _least(phase.get("epochs"), most)}
    if phase.get("scheme") == "at":
        out["adversarial_epochs"] = _least(phase.get("adversarial_epochs"), most)
    return out


def _least(value: Any, most: int) -> Any:
    """At most `most`; what is no number is left for the recipe's own check to refuse."""
    if value is None:
        return most
    return min(value, most) if isinstance(value, int) else value
