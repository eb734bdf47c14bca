"""Several trainings of dense nets as one program, each with the result that it has alone.

An epoch of up to K trainings is one loop over batches: every net sees the batches, in the
order, and the random numbers that it would see alone; what differs is how sums are rounded.
Between epochs each training is a `Fit` like any other: its best weights, schedule, early
stopping and resumable state are its own, and it may go on alone or in another stack.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from drelu_cli.core.errors import DreluError
from drelu_cli.runtime.modes import evaluation_mode
from drelu_cli.training.batches import Images, accumulate
from drelu_cli.training.contract import FitResult, Snapshot
from drelu_cli.training.fit import Fit
from drelu_cli.training.stacked_net import StackedNet, form_of
from drelu_cli.training.stacked_schemes import StackedScheme, Streams, stacked_scheme
from drelu_cli.training.validation import Validation

# Images of all nets together in one validation pass, as many as a lone training takes.
_BATCH = 1000


@dataclass(frozen=True)
class Member:
    """A training in a stack.

    Attributes:
        fit: the training.
        on_epoch: called as `on_epoch(fit, record)` after every epoch.
        keep: called as `keep(fit, snapshot)` where weights are to be kept.
    """

    fit: Fit
    on_epoch: Callable[[Fit, Mapping[str, Any]], None]
    keep: Callable[[Fit, Snapshot], None]


def can_stack(fits: Sequence[Fit]) -> bool:
    """Whether these trainings can run as one program.

    They share the data, the batch size, the phases and the form of the net; seeds, lambdas,
    learning rates and where caps start are each one's own.
    """
    first = fits[0]
    form = form_of(first.model)
    if form is None or not isinstance(first.data, Images) or first.first_hop < len(first.phases):
        return False
    if any(stacked_scheme(phase) is None for phase in first.phases):
        return False
    return all(
        fit.data is first.data
        and fit.validation is first.validation
        and fit.settings.batch == first.settings.batch
        and [phase.scheme for phase in fit.phases] == [phase.scheme for phase in first.phases]
        and form_of(fit.model) == form
        for fit in fits
    )


def run_stacked(
    members: Sequence[Member], most: int, on_stack: Callable[[int, float], None] | None = None
) -> Iterator[tuple[Member, FitResult | DreluError]]:
    """Trains all members, up to `most` at once; gives each as soon as it has ended.

    A member that has ended makes room for the next. Those that wait for others to reach their
    phase keep their place.

    Args:
        members: `can_stack` says yes to them.
        most: so many at once.
        on_stack: called with the number of nets and the seconds of every epoch.

    Yields:
        A member and what came of it: its error where it diverged, which stops no other.
    """
    waiting, active = deque(members), list[Member]()
    while waiting or active:
        while waiting and len(active) < most:
            active.append(waiting.popleft())
        ended: list[tuple[Member, FitResult | DreluError]] = [
            (one, one.fit.result()) for one in active if one.fit.finished
        ]
        if not ended:
            began = time.perf_counter()
            phase = min(one.fit.phase for one in active)
            at_once = [one for one in active if one.fit.phase == phase]
            ended = _epoch(at_once)
            if on_stack is not None:
                on_stack(len(at_once), time.perf_counter() - began)
        left = [one for one, _ in ended]
        active = [one for one in active if one not in left]
        yield from ended


def _epoch(members: Sequence[Member]) -> list[tuple[Member, FitResult | DreluError]]:
    """One epoch of members of one phase; gives those that have failed."""
    began = time.perf_counter()
    fits = [one.fit for one in members]
    net = StackedNet([fit.model for fit in fits])
    try:
        scheme = stacked_scheme(fits[0].phases[fits[0].phase])
        assert scheme is not None
        totals = _steps(net, fits, scheme)
        found = _validated(net, fits, scheme)
    finally:
        net.release()
    each = (time.perf_counter() - began) / len(fits)
    failed: list[tuple[Member, FitResult | DreluError]] = []
    for number, one in enumerate(members):
        own = {name: values[number] for name, values in totals.items()}
        try:
            record = one.fit.record(own, each, found[number])
        except DreluError as problem:
            failed.append((one, problem))
        else:
            one.fit.end_epoch({**record, "stack": len(fits)}, one.on_epoch, one.keep)
    return failed


class _Reader:
    """Batches in one buffer that stays: new memory at every step cost more than the arithmetic."""

    def __init__(self, data: Images) -> None:
        self._data = data
        self._buffer = torch.empty(0)

    def read(self, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """What `Images.batch` gives, until the next call."""
        data = self._data
        if len(self._buffer) < len(rows):
            self._buffer = torch.empty(len(rows), *data.images.shape[1:], device=rows.device)
        x = self._buffer[: len(rows)]
        x.copy_(data.images.index_select(0, rows)).div_(255.0)
        return x, data.labels[rows], data.index[rows]


def _steps(net: StackedNet, fits: Sequence[Fit], scheme: StackedScheme) -> dict[str, Tensor]:
    """The steps of an epoch; gives the sums over images of each term, (K,)."""
    data = fits[0].data
    assert isinstance(data, Images)
    reader = _Reader(data)
    for fit in fits:
        fit.model.train()
    adam = _one_adam(fits)
    totals: dict[str, Tensor] = {}
    lambdas: Tensor | None = None
    for rows in zip(*(fit.rows() for fit in fits), strict=True):
        x, y, index = reader.read(torch.cat(rows))
        parts = index.chunk(len(fits))
        streams = [fit.stream(part, "train") for fit, part in zip(fits, parts, strict=True)]
        loss = scheme(net, x, y, Streams(streams))
        penalty = net.cap_penalty()
        if lambdas is None:
            lambdas = penalty.new_tensor([fit.lambda_ for fit in fits])
        net.backward((loss.total + lambdas * penalty).sum())
        adam.step()
        net.project_caps_()
        accumulate(totals, {**loss.terms, "penalty": penalty.detach()}, len(rows[0]))
    _hand_back(adam, fits)
    return totals


def _one_adam(fits: Sequence[Fit]) -> torch.optim.Adam:
    """The optimisers of all fits as one, with their states: Adam is elementwise.

    One group for each pair of rate and weight decay, so that few kernels run.
    """
    groups: dict[tuple[float, float], list[Tensor]] = {}
    for fit in fits:
        for group in fit.optimiser.param_groups:
            groups.setdefault((group["lr"], group["weight_decay"]), []).extend(group["params"])
    adam = torch.optim.Adam(
        [{"params": p, "lr": lr, "weight_decay": decay} for (lr, decay), p in groups.items()],
        fused=True,
    )
    for fit in fits:
        for parameter, state in fit.optimiser.state.items():
            # The fused kernel counts steps where the parameters are; others on the CPU.
            adam.state[parameter] = {**state, "step": state["step"].to(parameter.device)}
    return adam


def _hand_back(adam: torch.optim.Adam, fits: Sequence[Fit]) -> None:
    for fit in fits:
        for group in fit.optimiser.param_groups:
            for parameter in group["params"]:
                state = adam.state[parameter]
                fit.optimiser.state[parameter] = {**state, "step": state["step"].cpu()}


@torch.no_grad()
def _validated(
    net: StackedNet, fits: Sequence[Fit], scheme: StackedScheme
) -> Sequence[Validation | None]:
    """What `validation.validated` gives for each net; the clean logits serve twice."""
    split, count = fits[0].validation, net.count
    if split is None:
        return [None] * count
    reader = _Reader(split)
    loss, task, correct = (torch.zeros(count, dtype=torch.float64) for _ in range(3))
    with evaluation_mode(net):
        for rows in torch.split(torch.arange(len(split)), max(1, _BATCH // count)):
            x, y, index = reader.read(rows.repeat(count).to(split.labels.device))
            parts = index.chunk(count)
            streams = [
                fit.stream(part, "validation") for fit, part in zip(fits, parts, strict=True)
            ]
            found = scheme(net, x, y, Streams(streams))
            logits = net.spend(x) if found.clean is None else found.clean
            each = F.cross_entropy(logits, y, reduction="none").reshape(count, -1)
            hits = (logits.argmax(dim=1) == y).reshape(count, -1)
            loss += found.total.cpu().double() * len(rows)
            task += each.cpu().double().sum(dim=1)
            correct += hits.sum(dim=1).cpu()
        penalties = net.cap_penalty().tolist()
    return [
        Validation(
            float(loss[k]) / len(split) + fit.lambda_ * penalties[k],
            float(task[k]) / len(split),
            float(correct[k]) / len(split),
        )
        for k, fit in enumerate(fits)
    ]
