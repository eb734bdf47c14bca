"""The classes that targeted attacks aim at, and the runs over them."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from drelu_cli.attacks.contract import AttackResult
from drelu_cli.attacks.losses import misclassified
from drelu_cli.attacks.stages import KEPT, fresh, worst_over
from drelu_cli.runtime.driver import Rows, drive
from drelu_cli.runtime.streams import Stream


class Aim(NamedTuple):
    """One run towards one class.

    Attributes:
        rank: place of the class among the clean logits other than the label's, from 0.
        restart: number of the run, from 0.
        stream: its path names both.
    """

    rank: int
    restart: int
    stream: Stream


def over_targets(
    model: nn.Module,
    queue: Rows,
    stream: Stream,
    run: Callable[[Rows, Aim], Rows],
    *,
    targets: int,
    restarts: int,
    every: bool = False,
) -> AttackResult:
    """Runs an attack towards one class after the other, on the samples that still stand.

    Classes come in the order of their clean logits, the largest first and without the label, as
    in AutoAttack (2003.01690); all runs towards a class come before the next class.

    Args:
        model: (n, ...) -> logits (n, K).
        queue: from `stages.samples`.
        stream: its path names the attack.
        run: one aim: queue rows with `target` (n,) int64, aim -> the tensors in `stages.KEPT`.
        targets: classes that are aimed at, at most; there are K - 1.
        restarts: runs per class.
        every: as in `stages.worst_over`.

    Returns:
        As `stages.worst_over`. The input is a point that was seen, for one forward pass.
    """
    seen = clean_look(model, queue, targets)
    ranked = seen.pop("ranked")
    aims = [
        Aim(rank, restart, stream.at("target", rank, "restart", restart))
        for rank in range(int((ranked >= 0).any(dim=0).sum()))
        for restart in range(restarts)
    ]

    def aimed(rows: Rows, aim: Aim) -> Rows:
        rest = {name: rows[name] for name in rows if name != "ranked"}
        return run({**rest, "target": rows["ranked"][:, aim.rank]}, aim)

    return worst_over({**queue, "ranked": ranked}, aims, aimed, seen=seen, every=every)


def clean_look(model: nn.Module, queue: Rows, targets: int) -> Rows:
    """`KEPT` at the input, and `ranked` (N, targets) int64: target classes, -1 beyond the last."""

    def start(rows: Rows) -> Rows:
        return {
            **fresh(rows, rows["x"]),
            "ranked": rows["y"].new_full((len(rows["y"]), targets), -1),
        }

    def step(rows: Rows) -> Rows:
        with torch.no_grad():
            logits = model(rows["x"])
        wrong = misclassified(logits, rows["y"])
        return {
            **rows,
            "wrong": wrong,
            "ranked": _ranked(logits, rows["y"], targets),
            "forwards": rows["forwards"] + 1,
            "done": torch.ones_like(wrong),
        }

    return drive(queue, start, step, keep=(*KEPT, "ranked"))


def _ranked(logits: Tensor, y: Tensor, targets: int) -> Tensor:
    """(n, targets) int64."""
    others = min(targets, logits.shape[1] - 1)
    rivals = logits.scatter(1, y[:, None], -torch.inf)
    # A stable sort: equal logits keep the order of their classes on every device.
    order = rivals.sort(dim=1, descending=True, stable=True).indices[:, :others]
    return torch.nn.functional.pad(order, (0, targets - others), value=-1)
