"""Weights along a training as models of their own: after so many epochs, and minima of hopping."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch

from drelu_cli.core.digest import digest_of
from drelu_cli.core.recipe import Recipe
from drelu_cli.core.records import ModelRecord
from drelu_cli.data.contract import DataSplits
from drelu_cli.models.checkpoints import save_weights
from drelu_cli.store.connect import Store
from drelu_cli.training.contract import Snapshot
from drelu_cli.training.fit import Fit
from drelu_cli.workflows.files import WEIGHTS
from drelu_cli.workflows.fitting import record_of
from drelu_cli.workflows.measure import measured

_LETTERS = {"epoch": "e", "hop": "h"}
_OF_MINIMUM = ("accepted", "validation_loss", "task_loss")


class Keeper:
    """Registers the weights of a training's moments, as `Fit.run` hands them over.

    A killed training hands the same moment over again: the key is the same, the file is
    replaced by rename and the registry changes nothing.

    Args:
        store: where they go.
        recipe: the training, effective.
        data: its data set.
        device: where the model is.
    """

    def __init__(
        self, store: Store, recipe: Recipe, data: DataSplits, device: torch.device
    ) -> None:
        self._store = store
        self._recipe = recipe
        self._data = data
        self._device = device
        self._parent = recipe.key(data.digest)

    def __call__(self, fit: Fit, snapshot: Snapshot) -> None:
        """Writes the weights and registers them."""
        key = checkpoint_key(self._parent, snapshot.kind, snapshot.number)
        summary = {
            "parent": self._parent,
            snapshot.kind: snapshot.number,
            "epochs": len(fit.history),
            **{name: snapshot.record.get(name) for name in _OF_MINIMUM if name in snapshot.record},
            **measured(self._recipe, self._data, fit.model, self._device),
        }
        record = record_of(self._recipe, self._data, fit.model, self._device, summary)
        folder = self._store.model_dir(key)
        folder.mkdir(parents=True, exist_ok=True)
        save_weights(
            folder / WEIGHTS,
            fit.model,
            metadata={"drelu": "1", "recipe": self._recipe.model_dump_json()},
        )
        self._store.add_model(
            replace(
                record,
                key=key,
                name=f"{record.name}-{_LETTERS[snapshot.kind]}{snapshot.number}",
                label=f"{record.label} {snapshot.kind} {snapshot.number}",
            )
        )

    def has_all(self, epochs: int) -> bool:
        """Whether every checkpoint that is due in the first `epochs` epochs is there."""
        return has_checkpoints(self._store, self._recipe, self._parent, epochs)


def is_complete(store: Store, recipe: Recipe, known: ModelRecord) -> bool:
    """Whether a finished training has its weights and every checkpoint that `recipe` wants.

    Args:
        store: where they are.
        recipe: effective, of the same key.
        known: the finished training.
    """
    summary = known.summary
    # The epochs of basin hopping leave no checkpoints.
    epochs = int(summary.get("epochs_before_hops", summary.get("epochs", 0)))
    there = (store.model_dir(known.key) / WEIGHTS).exists()
    return there and has_checkpoints(store, recipe, known.key, epochs)


def has_checkpoints(store: Store, recipe: Recipe, key: str, epochs: int) -> bool:
    """Whether every checkpoint that is due in the first `epochs` epochs of a training is there."""
    every = recipe.train.checkpoint_every
    if not every:
        return True
    known = {record.key for record in checkpoints_of(store, key)}
    due = (checkpoint_key(key, "epoch", number) for number in range(every, epochs + 1, every))
    return all(one in known and (store.model_dir(one) / WEIGHTS).exists() for one in due)


def checkpoint_key(parent: str, kind: str, number: int) -> str:
    """The key of a training's weights at one moment, from the training's own key."""
    return digest_of({"record": "checkpoint", "training": parent, kind: number})


def checkpoints_of(store: Store, key: str) -> list[ModelRecord]:
    """The checkpoints of the training `key`: epochs in order, then minima in order of hops."""
    return sorted(store.models(parent=key), key=_place)


def kept_along(store: Store, recipe: Recipe, key: str) -> list[ModelRecord]:
    """Those checkpoints that `recipe` keeps: another recipe of the same key may have kept more."""
    every = recipe.train.checkpoint_every
    return [
        record
        for record in checkpoints_of(store, key)
        if "hop" in record.summary or (every and int(record.summary["epoch"]) % every == 0)
    ]


def _place(record: ModelRecord) -> tuple[bool, int]:
    summary: Mapping[str, Any] = record.summary
    return "hop" in summary, int(summary.get("hop", summary.get("epoch", 0)))
