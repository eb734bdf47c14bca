"""`drelu train`: a recipe to a checkpoint in the registry, once."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from drelu_cli.core.errors import BadValue, CheckpointError
from drelu_cli.core.recipe import Recipe
from drelu_cli.core.records import ModelRecord
from drelu_cli.data.loading import load
from drelu_cli.models.checkpoints import read_weights, weights_digest
from drelu_cli.runtime.devices import pick_device
from drelu_cli.store.connect import Store, open_store
from drelu_cli.workflows.checkpoints import Keeper, is_complete
from drelu_cli.workflows.context import Context
from drelu_cli.workflows.effective import effective, fitted_to
from drelu_cli.workflows.files import RESUME, WEIGHTS
from drelu_cli.workflows.fitting import fit_recipe
from drelu_cli.workflows.presets import DEFAULT_PRESET
from drelu_cli.workflows.recipes import Options, members, read_source


@dataclass(frozen=True)
class TrainReport:
    """What `train` did.

    Attributes:
        record: the model in the registry.
        checkpoint: its weights.
        reused: found finished in the store, nothing was trained.
    """

    record: ModelRecord
    checkpoint: Path
    reused: bool

    @property
    def document(self) -> dict[str, Any]:
        """The JSON document of `drelu train`; accuracies are fractions, times seconds."""
        record, summary = self.record, self.record.summary
        return {
            "model": {
                "key": record.key,
                "name": record.name,
                "label": record.label,
                "dataset": record.dataset,
                "architecture": record.architecture,
                "activation": record.activation,
                "placement": record.placement,
                "scheme": record.scheme,
                "lambda": record.lambda_,
                "cap": record.cap,
                "seed": record.seed,
            },
            "epochs": summary.get("epochs"),
            "stopped_by": summary.get("stopped_by"),
            "clean_accuracy": summary.get("clean_accuracy"),
            "validation_loss": summary.get("validation_loss"),
            "cap_mean": summary.get("cap_mean"),
            "cap_max": summary.get("cap_max"),
            "seconds": summary.get("seconds"),
            "pretrained": summary.get("pretrained"),
            "checkpoint": str(self.checkpoint),
            "reused": self.reused,
        }


def train(
    recipe: str | None = None,
    *,
    preset: str = DEFAULT_PRESET,
    options: Options = (),
    force: bool = False,
    context: Context | None = None,
) -> TrainReport:
    """Trains what a recipe describes, or finds it finished.

    Args:
        recipe: a packaged recipe's name, a path, or None for options alone.
        preset: fast, paper or tiny.
        options: dotted fields and values; they stand above the recipe.
        force: train again although a finished training has the same key.
        context: folders, device and progress.

    Raises:
        BadValue: the recipe is a grid: `sweep` trains those.
        DreluError: whatever is wrong with recipe, data, device or store.
    """
    source = read_source(recipe)
    found = [member for member, _ in members(source, preset=preset, options=options)]
    if len(found) > 1:
        raise BadValue(
            f"{source.where} is a grid of {len(found)} trainings",
            hint=f"drelu sweep {recipe}",
        )
    return train_recipe(found[0], force=force, context=context or Context())


def train_recipe(recipe: Recipe, *, force: bool = False, context: Context) -> TrainReport:
    """Trains one recipe (not yet effective), or finds it finished."""
    device = pick_device(context.device)
    wanted = effective(recipe)
    data = load(wanted.data.name, context.data_folder, path=wanted.data.path)
    wanted = fitted_to(wanted, data, context.data_folder)
    key = wanted.key(data.digest)
    with open_store(context.store) as store:
        folder = store.model_dir(key)
        folder.mkdir(parents=True, exist_ok=True)
        with _only_one(folder, context):
            keeper = Keeper(store, wanted, data, device)
            known = None if force else finished(store, key, wanted.report.label)
            if known is not None:
                if is_complete(store, wanted, known):
                    return TrainReport(known, store.model_dir(key) / WEIGHTS, reused=True)
                context.note(f"{known.name} is trained again: checkpoints of it are missing")
            record = fit_recipe(
                wanted,
                data,
                folder,
                device,
                force=force,
                context=context,
                keep=keeper,
                can_resume=keeper.has_all,
            )
            stored = store.add_model(record)
            (folder / RESUME).unlink(missing_ok=True)
        return TrainReport(stored, folder / WEIGHTS, reused=False)


def finished(store: Store, key: str, label: str | None) -> ModelRecord | None:
    """The model of a finished training, under the label asked for.

    None where its file is missing, unreadable, or of other weights than the registry's (a forced
    training was killed before its last step): then it is trained, or resumed, again.
    """
    known = next(iter(store.models(keys=[key])), None)
    file = store.model_dir(key) / WEIGHTS
    if known is None or not file.exists() or not _is_intact(file, known):
        return None
    if label and label != known.label:
        store.relabel(key, label)
        return store.find_model(key)
    return known


def _is_intact(file: Path, known: ModelRecord) -> bool:
    try:
        state, _ = read_weights(file)
    except CheckpointError:
        return False
    return weights_digest(state) == known.weights_digest


@contextmanager
def _only_one(folder: Path, context: Context) -> Iterator[None]:
    """Two processes that want the same training: the second waits for the first."""
    try:
        import fcntl
    except ImportError:  # no such locks on this system: the atomic renames still hold
        yield
        return
    with (folder / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            context.note("another process trains this model; waiting for it")
            fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            lock.write(str(os.getpid()))
            yield
        finally:
            fcntl.flock(lock, fcntl.LOCK_UN)
