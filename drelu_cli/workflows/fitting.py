"""One training: model, data and phases from an effective recipe to weights on disk."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from drelu_cli.activations.caps import cap_statistics
from drelu_cli.core.recipe import Recipe
from drelu_cli.core.records import ModelRecord
from drelu_cli.data.contract import Dataset, DataSplits
from drelu_cli.models.build import build, check_input
from drelu_cli.models.checkpoints import save_weights, weights_digest
from drelu_cli.runtime.provenance import provenance
from drelu_cli.runtime.streams import seeded_initialisation
from drelu_cli.training import SCHEMES
from drelu_cli.training.fit import BoundPhase, Fit, FitResult, Images
from drelu_cli.training.resume import load_state, save_state
from drelu_cli.workflows.context import Context
from drelu_cli.workflows.effective import (
    activation_of,
    cap_of,
    label_of,
    name_of,
    scheme_of,
)
from drelu_cli.workflows.files import (
    HISTORY,
    RECIPE,
    RESUME,
    WEIGHTS,
    write_history,
    write_recipe,
)
from drelu_cli.workflows.measure import clean_accuracy, validation_scores


def fit_recipe(
    recipe: Recipe,
    data: DataSplits,
    folder: Path,
    device: torch.device,
    *,
    force: bool,
    context: Context,
) -> ModelRecord:
    """Trains an effective recipe into `folder`, from its last finished epoch on."""
    model = build_model(recipe, data).to(device)
    fit = _prepared(recipe, data, model, device)
    state_file = folder / RESUME
    if force:
        state_file.unlink(missing_ok=True)
    length = sum(phase.epochs for phase in fit.phases)
    context.progress("train", {"name": name_of(recipe), "epochs": length})
    _resume(fit, state_file, device, context)

    def on_epoch(current: Fit, record: Mapping[str, Any]) -> None:
        save_state(state_file, current.state())
        if not force:  # the history of the weights that are still there stays beside them
            write_history(folder / HISTORY, current.history)
        context.progress("epoch", {**record, "of": length, "done": len(current.history)})

    result = fit.run(on_epoch)
    # Everything slow comes before the weights are replaced: what is left until the registry has
    # them is one rename and one insert, and `train` finds it out where a kill falls between.
    record = _record(recipe, data, model, result, device, fit)
    write_recipe(folder / RECIPE, recipe)
    write_history(folder / HISTORY, fit.history)
    save_weights(
        folder / WEIGHTS, model, metadata={"drelu": "1", "recipe": recipe.model_dump_json()}
    )
    return record


def build_model(recipe: Recipe, data: DataSplits) -> nn.Module:
    """The untrained model of an effective recipe; its weights follow from the seed."""
    with seeded_initialisation("weights", recipe.train.seed):
        model = build(
            recipe.model.name,
            shape=data.shape,
            classes=data.classes,
            activation=activation_of(recipe),
            placement=recipe.model.placement,
            mean=data.mean,
            std=data.std,
            options=recipe.model.options,
        )
    check_input(model, data.shape)
    return model


def _prepared(recipe: Recipe, data: DataSplits, model: nn.Module, device: torch.device) -> Fit:
    phases = [
        BoundPhase(
            phase.scheme,
            SCHEMES.bind(phase.scheme, **phase.options),
            epochs=phase.epochs or 0,
            lr=phase.lr or recipe.train.lr,
            cap_lr=phase.cap_lr or recipe.train.cap_lr,
        )
        for phase in recipe.phase
    ]
    validation = _on_device(data.validation, device) if recipe.train.validation else None
    return Fit(
        model,
        _on_device(data.train, device, recipe.data.train_samples),
        validation,
        phases,
        recipe.penalty.lambda_ or 0.0,
        recipe.train,
    )


def _on_device(split: Dataset, device: torch.device, limit: int | None = None) -> Images:
    rows = slice(None, limit)
    index = torch.arange(len(split.labels))[rows]
    return Images(split.images[rows].to(device), split.labels[rows].to(device), index.to(device))


def _resume(fit: Fit, state_file: Path, device: torch.device, context: Context) -> None:
    state = load_state(state_file, device)
    if state is None:
        if state_file.exists():
            context.note(f"{state_file} cannot be read; the training starts afresh")
        return
    fit.resume(state)
    context.note(f"resumed after epoch {len(fit.history)}")


def _record(
    recipe: Recipe,
    data: DataSplits,
    model: nn.Module,
    result: FitResult,
    device: torch.device,
    fit: Fit,
) -> ModelRecord:
    caps = cap_statistics(model)
    summary: dict[str, Any] = {
        "clean_accuracy": clean_accuracy(model, data.test, device),
        **validation_scores(model, data, recipe, device),
        "validation_loss": result.validation_loss,
        "epochs": len(result.history),
        "stopped_by": result.stopped_by,
        "seconds": result.seconds,
        "cap_mean": caps.get("cap_mean"),
        "cap_max": caps.get("cap_max"),
        "split": {
            "train": len(fit.data),
            "validation": 0 if fit.validation is None else len(fit.validation),
            "train_digest": data.train.sha256,
            "validation_digest": data.validation.sha256,
        },
    }
    return ModelRecord(
        key=recipe.key(data.digest),
        name=name_of(recipe),
        label=label_of(recipe),
        source="trained",
        dataset=recipe.data.name,
        dataset_digest=data.digest,
        architecture=recipe.model.name,
        activation=recipe.activation.name,
        placement=recipe.model.placement,
        scheme=scheme_of(recipe),
        lambda_=recipe.penalty.lambda_ if caps else None,
        cap=cap_of(recipe),
        seed=recipe.train.seed,
        weights_digest=weights_digest(model),
        recipe=recipe.as_mapping(),
        summary=summary,
        provenance=provenance(str(device)),
    )
