"""Checks before any attack: a number from a model that fails here means nothing."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from drelu_cli.core.errors import BadValue, ModelError
from drelu_cli.runtime.modes import evaluation_mode


@dataclass(frozen=True)
class Finding:
    """Something about the model or data that is stored with every result.

    Attributes:
        code: stable name, e.g. `model-in-training-mode`.
        detail: one sentence for people.
    """

    code: str
    detail: str


def preflight(model: nn.Module, x: Tensor, classes: int) -> tuple[Finding, ...]:
    """Refuses what cannot be evaluated; names what is handled.

    Args:
        model: logits from (N, C, H, W) float in [0, 1].
        x: (N, C, H, W), a few of the samples to be attacked.
        classes: number of classes of the data set.

    Returns:
        Findings that do not stop the evaluation.

    Raises:
        ModelError: non-finite weights or outputs, wrong output shape, wrong image size.
        BadValue: inputs outside [0, 1].
    """
    _check_range(x)
    _check_weights(model)
    with evaluation_mode(model), torch.no_grad():
        logits = _forward(model, x)
    _check_logits(logits, len(x), classes)
    if model.training:
        return (
            Finding(
                "model-in-training-mode",
                "the model came in training mode; it was evaluated in evaluation mode",
            ),
        )
    return ()


def _check_range(x: Tensor) -> None:
    low, high = float(x.min()), float(x.max())
    if not (low >= 0.0 and high <= 1.0):
        raise BadValue(
            f"inputs lie in [{low:g}, {high:g}], outside [0, 1]",
            hint="attacks work in pixel space; put normalisation inside the model (--mean, --std)",
        )


def _check_weights(model: nn.Module) -> None:
    for name, tensor in model.state_dict().items():
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise ModelError(
                f"weight '{name}' has NaN or infinite values",
                hint="this training diverged or this file is damaged",
            )


def _forward(model: nn.Module, x: Tensor) -> Tensor:
    try:
        logits = model(x)
    except Exception as problem:
        size = "x".join(str(side) for side in x.shape[1:])
        raise ModelError(
            f"the model does not take images of {size} (C x H x W): {problem}",
            hint="is this the data set that the model was trained on? (--dataset)",
        ) from problem
    if not isinstance(logits, Tensor):
        raise ModelError(f"the model returned {type(logits).__name__}, not a tensor of logits")
    return logits


def _check_logits(logits: Tensor, count: int, classes: int) -> None:
    if logits.shape != (count, classes):
        raise ModelError(
            f"the model returned shape {tuple(logits.shape)}, expected ({count}, {classes})",
            hint="logits must be one row per image and one column per class of the data set",
        )
    if not torch.isfinite(logits).all():
        raise ModelError("the model's outputs on clean images are not finite")
