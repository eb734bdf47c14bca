"""Training schemes on stacked nets: the losses of `schemes`, one for each net.

Images, labels and logits come net by net, (K * B, ...). Nets do not meet: the gradient of the
sum of their losses is each one's own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from drelu_cli.runtime.modes import evaluation_mode
from drelu_cli.runtime.streams import Stream
from drelu_cli.training import schemes
from drelu_cli.training.contract import BoundPhase
from drelu_cli.training.inner import linf_pgd
from drelu_cli.training.stacked_net import StackedNet


@dataclass(frozen=True)
class StackedLoss:
    """A batch's losses, one for each net.

    Attributes:
        total: (K,), each net's own.
        terms: (K,) detached tensors by name, for the histories.
        clean: (K * B, classes) logits on the clean images; None where the loss needs none.
    """

    total: Tensor
    terms: Mapping[str, Tensor]
    clean: Tensor | None = None


@dataclass(frozen=True)
class Streams:
    """The random numbers of the nets' batches, net by net."""

    nets: Sequence[Stream]

    def uniform(
        self,
        name: str,
        shape: Sequence[int],
        *,
        step: int | Tensor = 0,
        dtype: torch.dtype = torch.float32,
    ) -> Tensor:
        """(K * B, *shape) uniform draws: those that each net alone would get."""
        return torch.cat([one.uniform(name, shape, step=step, dtype=dtype) for one in self.nets])


# net, x (K * B, C, H, W) in [0, 1], y (K * B,), the batches' streams -> losses. What is in x
# afterwards is the scheme's own affair where the loss has clean logits.
StackedScheme = Callable[[StackedNet, Tensor, Tensor, Streams], StackedLoss]


def stacked_scheme(phase: BoundPhase) -> StackedScheme | None:
    """The scheme of `phase` for stacked nets; None where there is none."""
    found = _STACKED.get(getattr(phase.scheme, "target", phase.scheme))
    if found is None:
        return None
    options = dict(getattr(phase.scheme, "effective", {}))
    return lambda net, x, y, streams: found(net, x, y, streams, **options)


def _natural(net: StackedNet, x: Tensor, y: Tensor, streams: Streams) -> StackedLoss:  # noqa: ARG001
    logits = net.spend(x)
    loss = _cross_entropy(net, logits, y)
    return StackedLoss(loss, {"natural": loss.detach(), **_accuracy(net, logits, y)}, logits)


def _madry(
    net: StackedNet,
    x: Tensor,
    y: Tensor,
    streams: Streams,
    *,
    eps: float,
    steps: int,
    rel_step: float,
) -> StackedLoss:
    def cross_entropy(logits: Tensor) -> Tensor:
        return F.cross_entropy(logits, y, reduction="sum")

    points = linf_pgd(net, x, streams, cross_entropy, eps=eps, steps=steps, rel_step=rel_step)
    logits = net(points)
    loss = _cross_entropy(net, logits, y)
    return StackedLoss(loss, {"robust": loss.detach(), **_accuracy(net, logits, y)})


def _trades(
    net: StackedNet,
    x: Tensor,
    y: Tensor,
    streams: Streams,
    *,
    eps: float,
    beta: float,
    steps: int,
    rel_step: float,
) -> StackedLoss:
    with evaluation_mode(net), torch.no_grad():
        target = F.log_softmax(net(x), dim=1)

    def divergence(logits: Tensor) -> Tensor:
        return F.kl_div(F.log_softmax(logits, dim=1), target, reduction="sum", log_target=True)

    points = linf_pgd(net, x, streams, divergence, eps=eps, steps=steps, rel_step=rel_step)
    clean, perturbed = net(x), net(points)
    task = _cross_entropy(net, clean, y)
    each = F.kl_div(
        F.log_softmax(perturbed, dim=1),
        F.log_softmax(clean, dim=1),
        reduction="none",
        log_target=True,
    )
    robust = _mean(net, each.sum(dim=1))
    terms = {"natural": task.detach(), "robust": robust.detach(), **_accuracy(net, clean, y)}
    return StackedLoss(task + beta * robust, terms, clean)


_STACKED: dict[Any, Callable[..., StackedLoss]] = {
    schemes.natural: _natural,
    schemes.madry: _madry,
    schemes.trades: _trades,
}


def _mean(net: StackedNet, values: Tensor) -> Tensor:
    """(K * B,) to each net's mean, (K,)."""
    return values.reshape(net.count, -1).mean(dim=1)


def _cross_entropy(net: StackedNet, logits: Tensor, y: Tensor) -> Tensor:
    return _mean(net, F.cross_entropy(logits, y, reduction="none"))


def _accuracy(net: StackedNet, logits: Tensor, y: Tensor) -> dict[str, Tensor]:
    return {"accuracy": _mean(net, (logits.detach().argmax(dim=1) == y).float())}
