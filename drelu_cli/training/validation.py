"""What a training measures on its validation split."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from drelu_cli.activations.caps import cap_penalty
from drelu_cli.runtime.footprint import fitting_batch
from drelu_cli.runtime.modes import evaluation_mode
from drelu_cli.runtime.streams import Stream
from drelu_cli.training.batches import Images
from drelu_cli.training.contract import Scheme

_BATCH = 1000


@dataclass(frozen=True)
class Validation:
    """Means over a validation split.

    Attributes:
        loss: the scheme's total plus the cap penalty's share.
        task_loss: cross entropy on clean images alone.
        accuracy: share of correct predictions on clean images.
    """

    loss: float
    task_loss: float
    accuracy: float


@torch.no_grad()
def validated(
    model: nn.Module,
    split: Images,
    scheme: Scheme,
    lambda_: float,
    streams: Callable[[Tensor], Stream],
) -> Validation:
    """The scheme's own loss on a split, plus the penalty; cross entropy and clean accuracy.

    Args:
        model: read in evaluation mode; its modes are restored.
        split: what it is measured on.
        scheme: the loss.
        lambda_: weight of the cap penalty.
        streams: the random numbers of some samples, from their indices (B,).
    """
    loss, task = (torch.zeros((), dtype=torch.float64) for _ in range(2))
    correct = torch.zeros((), dtype=torch.int64)
    with evaluation_mode(model):
        size = fitting_batch(model, split.batch(slice(0, 1))[0], len(split), _BATCH)
        for start in range(0, len(split), size):
            x, y, index = split.batch(slice(start, start + size))
            loss += scheme(model, x, y, streams(index)).total.cpu().double() * len(y)
            logits = model(x)
            task += F.cross_entropy(logits, y, reduction="sum").cpu().double()
            correct += (logits.argmax(dim=1) == y).sum().cpu()
        penalty = float(lambda_ * cap_penalty(model))
    count = len(split)
    return Validation(float(loss) / count + penalty, float(task) / count, float(correct) / count)
