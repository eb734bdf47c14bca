"""Accuracies that belong to a training: on the whole test split, and for the choice of lambda."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from drelu_cli.activations.caps import cap_statistics
from drelu_cli.attacks import ATTACKS
from drelu_cli.certify.sensitivity import sensitivity
from drelu_cli.core.errors import ModelError
from drelu_cli.core.recipe import Recipe
from drelu_cli.core.records import State, ThreatModel
from drelu_cli.data.contract import Dataset, DataSplits
from drelu_cli.data.facts import facts
from drelu_cli.data.loading import sample_order
from drelu_cli.evaluation.judge import accuracy
from drelu_cli.evaluation.samples import Samples
from drelu_cli.evaluation.suite import run_attack

_SELECTION_STEPS = 10
_SELECTION_SAMPLES = 1000
_GAP_SAMPLES = 10_000
SENSITIVITY_SAMPLES = 1000


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


def generalisation_gap(
    model: nn.Module, data: DataSplits, limit: int | None, device: torch.device
) -> dict[str, float]:
    """train_accuracy, validation_accuracy and gap, their difference; clean images, fractions.

    Args:
        model: with the weights to be measured.
        data: the splits; the first 10,000 training images at most are read.
        limit: how many training images the training used; None: all.
        device: where the model is.
    """
    count = min(_GAP_SAMPLES, limit or _GAP_SAMPLES)
    train = accuracy(model, data.train.images[:count], data.train.labels[:count], device)
    if not len(data.validation.labels):
        return {"train_accuracy": train}
    held_out = accuracy(model, data.validation.images, data.validation.labels, device)
    return {"train_accuracy": train, "validation_accuracy": held_out, "gap": train - held_out}


def sensitivity_of(model: nn.Module, data: DataSplits, device: torch.device) -> dict[str, Any]:
    """The measure on the first 1,000 test images of the fixed order, at the data set's eps.

    Keys: eps, samples, mean_log_width, log_volume (arXiv 1810.11726; `certify.sensitivity`); the
    last two are None where the model has no interval bounds.
    """
    eps = facts(data.test.name).eps
    rows = list(sample_order(data.test)[:SENSITIVITY_SAMPLES])
    try:
        return sensitivity(model, samples_of(data.test, rows, device).x, eps).as_mapping()
    except ModelError:
        unknown = {"mean_log_width": None, "log_volume": None}
        return {"eps": eps, "samples": len(rows), **unknown}


def measured(
    recipe: Recipe, data: DataSplits, model: nn.Module, device: torch.device
) -> dict[str, Any]:
    """What is known of any weights of a training: accuracies, gap, caps, sensitivity."""
    caps = cap_statistics(model)
    return {
        "clean_accuracy": clean_accuracy(model, data.test, device),
        **generalisation_gap(model, data, recipe.data.train_samples, device),
        "cap_mean": caps.get("cap_mean"),
        "cap_max": caps.get("cap_max"),
        "sensitivity": sensitivity_of(model, data, device),
    }
