"""Trainings that start from pretrained weights: what a recipe says of them, and their start."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import nn

from drelu_cli.core.errors import BadValue, CheckpointError
from drelu_cli.core.recipe import Model
from drelu_cli.models.pretrained import Taken, start_from
from drelu_cli.models.weights_files import IMAGENET, declared_backbone, pretrained_digest


def spelled_start(section: Model) -> dict[str, Any]:
    """What the network starts from, as fields of `[model]`; none where its weights are random.

    Raises:
        BadValue: `frozen` without pretrained weights.
        ModelError: the architecture takes none.
    """
    if section.pretrained is None:
        if section.frozen:
            raise BadValue(
                "model.frozen has nothing to freeze: the network starts from random weights",
                hint="--set model.pretrained=imagenet, or the path of a file",
            )
        return {}
    declared_backbone(section.name)
    spelled: dict[str, Any] = {"pretrained": section.pretrained, "frozen": bool(section.frozen)}
    if section.pretrained != IMAGENET:
        # The store may be used from another folder; the path is not in the key.
        spelled["pretrained"] = str(Path(section.pretrained).expanduser().resolve())
    if section.pretrained_digest is not None:
        spelled["pretrained_digest"] = section.pretrained_digest
    return spelled


def with_digest(section: Model) -> Model:
    """`[model]` with the digest of the weights that it starts from, where there are any.

    Raises:
        CheckpointError: the file is missing, damaged, or not the one that the recipe states.
    """
    if section.pretrained is None:
        return section
    found = pretrained_digest(section.name, section.pretrained)
    if section.pretrained_digest not in (None, found):
        raise CheckpointError(
            f"{section.pretrained} holds other weights than model.pretrained_digest says",
            hint="leave pretrained_digest away to train from these",
        )
    return section.model_copy(update={"pretrained_digest": found})


def start(model: nn.Module, section: Model) -> Taken | None:
    """Gives a new network the weights that `[model]` names; None where it names none.

    Raises:
        CheckpointError: weights that cannot be had, or of another architecture.
    """
    if section.pretrained is None:
        return None
    return start_from(model, section.name, section.pretrained, frozen=bool(section.frozen))
