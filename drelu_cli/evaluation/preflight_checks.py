"""What the preflight looks at: each check gives an objection, or None.

An objection can be overridden by its code; a wrong range or shape cannot: nothing could be
computed from it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from drelu_cli.core.errors import BadValue, ModelError
from drelu_cli.evaluation.averaging import DRAWS

_SUM_TOLERANCE = 1e-4
# Fewer rows of logits might sum to 1 by chance.
_ROWS_FOR_PROBABILITIES = 8


@dataclass(frozen=True)
class Objection:
    """Why a model is refused.

    Attributes:
        code: what `--allow` calls it.
        message: what is wrong.
        hint: what to do about it.
        consequence: what it means for the numbers where it is allowed.
    """

    code: str
    message: str
    hint: str
    consequence: str


def check_range(x: Tensor) -> None:
    """Refuses images outside [0, 1].

    Raises:
        BadValue: with the range found.
    """
    low, high = float(x.min()), float(x.max())
    if not (low >= 0.0 and high <= 1.0):
        raise BadValue(
            f"inputs lie in [{low:g}, {high:g}], outside [0, 1]",
            hint="attacks work in pixel space; put normalisation inside the model (--mean, --std)",
        )


def outputs_of(model: nn.Module, x: Tensor, classes: int) -> Tensor:
    """(N, classes) float: one forward pass.

    Raises:
        ModelError: the model does not take such images, or gives something else than logits.
    """
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
    if logits.shape != (len(x), classes):
        raise ModelError(
            f"the model returned shape {tuple(logits.shape)}, expected ({len(x)}, {classes})",
            hint="logits must be one row per image and one column per class of the data set",
        )
    return logits


def weights(model: nn.Module) -> Objection | None:
    """Weights and buffers that are NaN or infinite."""
    for name, tensor in model.state_dict().items():
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            return Objection(
                "weights",
                f"weight '{name}' has NaN or infinite values",
                "this training diverged or this file is damaged",
                "images with outputs that are not finite count as wrong",
            )
    return None


def outputs(logits: Tensor) -> Objection | None:
    """Outputs on clean images that are NaN or infinite."""
    if torch.isfinite(logits).all():
        return None
    return Objection(
        "outputs",
        "the model's outputs on clean images are not finite",
        "logits must be finite numbers",
        "such images count as wrong",
    )


def stateful(before: dict[str, Tensor], model: nn.Module) -> Objection | None:
    """A parameter or buffer that a forward pass has changed, bit for bit.

    Args:
        before: `state_of(model)` before the pass.
        model: the model after it.
    """
    after = dict(_named_tensors(model))
    for name in sorted(before.keys() | after.keys()):
        if name not in before or name not in after or not _same(before[name], after[name]):
            return Objection(
                "stateful",
                f"a forward pass in evaluation mode changes '{name}'",
                "batch norm must not update in evaluation mode; a model must not learn while it "
                "is attacked",
                "the numbers depend on what ran before",
            )
    return None


def state_of(model: nn.Module) -> dict[str, Tensor]:
    """Copies of every parameter and buffer, those that are not saved included."""
    return {name: tensor.detach().clone() for name, tensor in _named_tensors(model)}


def random(first: Tensor, second: Tensor) -> Objection | None:
    """Two passes over the same images that differ in any bit."""
    if _same(first, second):
        return None
    return Objection(
        "random",
        "two forward passes over the same images differ",
        "turn off dropout and noise in evaluation mode; a defence that is random by design is "
        "attacked through its average",
        f"logits are averaged over {DRAWS} draws, the same for every image (1707.07397)",
    )


def probabilities(logits: Tensor) -> Objection | None:
    """Rows that all lie in [0, 1] and sum to 1; log-probabilities are logits, too."""
    if len(logits) < _ROWS_FOR_PROBABILITIES:
        return None
    inside = bool(((logits >= 0) & (logits <= 1)).all())
    sums = logits.double().sum(dim=1)
    if not inside or not bool(((sums - 1).abs() <= _SUM_TOLERANCE).all()):
        return None
    return Objection(
        "probabilities",
        "the model returns probabilities, attacks need logits",
        "return logits (drop the softmax)",
        "a softmax flattens the losses: attacks are weaker than they should be",
    )


def _named_tensors(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    yield from model.named_parameters()
    yield from model.named_buffers()


def _same(first: Tensor, second: Tensor) -> bool:
    """Equal in every value, NaN equal to NaN."""
    if first.shape != second.shape or first.dtype != second.dtype:
        return False
    equal = first == second
    if first.is_floating_point() or first.is_complex():
        equal |= first.isnan() & second.isnan()
    return bool(equal.all())
