"""Accuracies that belong to a training: on the whole test split, and for the choice of lambda."""

from __future__ import annotations

import torch
from torch import nn

from drelu_cli.attacks import ATTACKS
from drelu_cli.core.recipe import Recipe
from drelu_cli.core.records import State, ThreatModel
from drelu_cli.data.contract import Dataset, DataSplits
from drelu_cli.data.facts import facts
from drelu_cli.evaluation.judge import accuracy
from drelu_cli.evaluation.suite import Samples, run_attack

_SELECTION_STEPS = 10
_SELECTION_SAMPLES = 1000


def samples_of(split: Dataset, rows: list[int], device: torch.device) -> Samples:
    """Some images of a split as float in [0, 1] on the device."""
    index = torch.tensor(rows, dtype=torch.int64)
    return Samples(
        index.to(device),
        split.images[index].to(device).float() / 255.0,
        split.labels[index].to(device),
    )


def clean_accuracy(model: nn.Module, test: Dataset, device: torch.device) -> float:
    """Share of the whole test split that is classified correctly."""
    return accuracy(model, test.images, test.labels, device)


def validation_scores(
    model: nn.Module, data: DataSplits, recipe: Recipe, device: torch.device
) -> dict[str, float]:
    """Clean and PGD-10 accuracy on (at most 1,000) validation images: what lambda is chosen by."""
    count = min(_SELECTION_SAMPLES, len(data.validation.labels))
    if not count:
        return {}
    samples = samples_of(data.validation, list(range(count)), device)
    threat = ThreatModel("linf", facts(recipe.data.name).eps)
    pgd = ATTACKS.bind("pgd", steps=_SELECTION_STEPS)
    judged = run_attack(model, samples, pgd, threat, seed=0)
    robust = sum(outcome.state is State.ROBUST for outcome in judged.outcomes)
    correct = sum(
        outcome.clean_pred == label
        for outcome, label in zip(judged.outcomes, samples.y.tolist(), strict=True)
    )
    return {"validation_clean": correct / count, "validation_pgd10": robust / count}
