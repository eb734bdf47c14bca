"""One training: model, data and phases from an effective recipe to weights on disk."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from drelu_cli.activations.caps import learnable_caps
from drelu_cli.core.recipe import Recipe
from drelu_cli.core.records import ModelRecord
from drelu_cli.data.contract import Dataset, DataSplits
from drelu_cli.data.generated import open_generated
from drelu_cli.data.releases import CACHE
from drelu_cli.models.build import build, check_input
from drelu_cli.models.checkpoints import save_weights, weights_digest
from drelu_cli.models.pretrained import Taken
from drelu_cli.runtime.provenance import provenance
from drelu_cli.runtime.streams import seeded_initialisation
from drelu_cli.training import SCHEMES
from drelu_cli.training.batches import Images, TrainingImages
from drelu_cli.training.contract import BoundPhase, FitResult, Snapshot
from drelu_cli.training.fit import Fit
from drelu_cli.training.mixing import Mixed
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
from drelu_cli.workflows.measure import measured, validation_scores
from drelu_cli.workflows.pretraining import start


def fit_recipe(
    recipe: Recipe,
    data: DataSplits,
    folder: Path,
    device: torch.device,
    *,
    force: bool,
    context: Context,
    keep: Callable[[Fit, Snapshot], None],
    can_resume: Callable[[int], bool],
) -> ModelRecord:
    """Trains an effective recipe into `folder`, from its last finished epoch on.

    Args:
        recipe: effective.
        data: its data set.
        folder: of the model's files.
        device: where it trains.
        force: from the first epoch on, whatever is there.
        context: told about the progress.
        keep: keeps the weights of a moment.
        can_resume: whether all that is to be kept of so many finished epochs is there.
    """
    training = begin(
        recipe, data, folder, device, force=force, context=context, can_resume=can_resume
    )
    return training.finish(training.fit.run(training.after_epoch, keep))


@dataclass(frozen=True)
class Training:
    """A training under way.

    Attributes:
        recipe: effective.
        data: its data set.
        folder: of the model's files.
        device: where it trains.
        fit: the epochs.
        taken: what its pretrained weights were, if any.
        force: from the first epoch on; the old history stays until the end.
        context: told about the progress.
    """

    recipe: Recipe
    data: DataSplits
    folder: Path
    device: torch.device
    fit: Fit
    taken: Taken | None
    force: bool
    context: Context

    @property
    def length(self) -> int:
        """Epochs at most."""
        return sum(phase.epochs for phase in self.fit.phases)

    def after_epoch(self, current: Fit, record: Mapping[str, Any]) -> None:
        """Writes what a killed training goes on from."""
        save_state(self.folder / RESUME, current.state())
        if not self.force:  # the history of the weights that are still there stays beside them
            write_history(self.folder / HISTORY, current.history)
        self.context.progress("epoch", {**record, "of": self.length, "done": len(current.history)})

    def finish(self, result: FitResult) -> ModelRecord:
        """Measures the weights and writes the model's files."""
        # Everything slow comes before the weights are replaced: what is left until the registry
        # has them is one rename and one insert; `train` finds it out where a kill falls between.
        recipe, model = self.recipe, self.fit.model
        record = _record(recipe, self.data, model, result, self.device, self.fit)
        if self.taken is not None:
            record = replace(record, summary={**record.summary, "pretrained": self.taken.document})
        write_recipe(self.folder / RECIPE, recipe)
        write_history(self.folder / HISTORY, self.fit.history)
        save_weights(
            self.folder / WEIGHTS,
            model,
            metadata={"drelu": "1", "recipe": recipe.model_dump_json()},
        )
        return record


Splits = tuple[TrainingImages, Images | None]


def begin(
    recipe: Recipe,
    data: DataSplits,
    folder: Path,
    device: torch.device,
    *,
    force: bool,
    context: Context,
    can_resume: Callable[[int], bool],
    splits: Splits | None = None,
) -> Training:
    """A training of an effective recipe at its last finished epoch; arguments as `fit_recipe`.

    Args:
        recipe: effective.
        data: its data set.
        folder: of the model's files.
        device: where it trains.
        force: from the first epoch on, whatever is there.
        context: told about the progress.
        can_resume: whether all that is to be kept of so many finished epochs is there.
        splits: of `splits_of`, where several trainings share them.
    """
    model = build_model(recipe, data)
    taken = start(model, recipe.model)
    if taken is not None:
        context.note(f"{recipe.model.name} from {recipe.model.pretrained}: {taken.sentence}")
    splits = splits or splits_of(recipe, data, device, context.data_folder)
    fit = _prepared(recipe, model.to(device), splits)
    training = Training(recipe, data, folder, device, fit, taken, force, context)
    if force:
        (folder / RESUME).unlink(missing_ok=True)
    context.progress("train", {"name": name_of(recipe), "epochs": training.length})
    _resume(fit, folder / RESUME, device, context, can_resume)
    return training


def build_model(recipe: Recipe, data: DataSplits) -> nn.Module:
    """The untrained model of an effective recipe; its weights follow from the seed.

    Pretrained weights are not in it: a trained model is built anew without them.
    """
    mean, std = data.mean, data.std
    if recipe.model.normalize is False:
        mean, std = (0.0,) * len(mean), (1.0,) * len(std)
    with seeded_initialisation("weights", recipe.train.seed):
        model = build(
            recipe.model.name,
            shape=data.shape,
            classes=data.classes,
            activation=activation_of(recipe),
            placement=recipe.model.placement,
            mean=mean,
            std=std,
            options=recipe.model.options,
        )
    check_input(model, data.shape)
    return model


def training_images(
    recipe: Recipe, data: DataSplits, device: torch.device, data_folder: Path
) -> TrainingImages:
    """The training split on the device; generated images join it batch by batch."""
    section = recipe.data
    originals = _on_device(data.train, device, section.train_samples)
    if section.generated is None:
        return originals
    generated = open_generated(
        Path(section.generated), data_folder / CACHE, shape=data.shape, classes=data.classes
    )
    share = section.generated_share or 0.0
    return Mixed(originals, generated, share, offset=len(data.train.labels))


def splits_of(recipe: Recipe, data: DataSplits, device: torch.device, data_folder: Path) -> Splits:
    """What a training reads: the training split, and the validation split where it has one."""
    held_out = recipe.data.validation_samples
    validation = _on_device(data.validation, device, held_out) if recipe.train.validation else None
    return training_images(recipe, data, device, data_folder), validation


def prepared(recipe: Recipe, data: DataSplits, device: torch.device, splits: Splits) -> Fit:
    """A training of an effective recipe before its first epoch, with random weights."""
    return _prepared(recipe, build_model(recipe, data).to(device), splits)


def _prepared(recipe: Recipe, model: nn.Module, splits: Splits) -> Fit:
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
    images, validation = splits
    return Fit(model, images, validation, phases, recipe.penalty.lambda_ or 0.0, recipe.train)


def _on_device(split: Dataset, device: torch.device, limit: int | None = None) -> Images:
    rows = slice(None, limit)
    index = torch.arange(len(split.labels))[rows]
    return Images(split.images[rows].to(device), split.labels[rows].to(device), index.to(device))


def _resume(
    fit: Fit,
    state_file: Path,
    device: torch.device,
    context: Context,
    can_resume: Callable[[int], bool],
) -> None:
    state = load_state(state_file, device)
    if state is None:
        if state_file.exists():
            context.note(f"{state_file} cannot be read; the training starts afresh")
        return
    if not can_resume(before_hops(state["history"])):
        context.note("checkpoints of finished epochs are missing; the training starts afresh")
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
    summary: dict[str, Any] = {
        **validation_scores(model, data, recipe, device),
        "validation_loss": result.validation_loss,
        "epochs": len(result.history),
        "epochs_before_hops": before_hops(result.history),
        "stopped_by": result.stopped_by,
        "seconds": result.seconds,
        **measured(recipe, data, model, device),
        "split": {
            "train": len(fit.data),
            "validation": 0 if fit.validation is None else len(fit.validation),
            "train_digest": data.train.sha256,
            "validation_digest": data.validation.sha256,
        },
    }
    stacked = max((int(record.get("stack", 1)) for record in result.history), default=1)
    if stacked > 1:
        summary["stack"] = stacked
    if result.minima:
        summary["minima"] = list(result.minima)
    return record_of(recipe, data, model, device, summary)


def before_hops(history: Sequence[Mapping[str, Any]]) -> int:
    """How many epochs of a history belong to the phases, not to basin hopping."""
    return sum("hop" not in record for record in history)


def record_of(
    recipe: Recipe,
    data: DataSplits,
    model: nn.Module,
    device: torch.device,
    summary: Mapping[str, Any],
) -> ModelRecord:
    """The record of a training's final weights, as the registry takes it."""
    capped = bool(learnable_caps(model))
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
        lambda_=recipe.penalty.lambda_ if capped else None,
        cap=cap_of(recipe),
        seed=recipe.train.seed,
        weights_digest=weights_digest(model),
        recipe=recipe.as_mapping(),
        summary=summary,
        provenance=provenance(str(device)),
    )
