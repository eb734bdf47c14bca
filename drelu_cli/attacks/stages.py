"""What attacks have in common around their steps: samples in, results out, restarts between."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import TypeVar

import torch
from torch import Tensor

from drelu_cli.attacks.contract import AttackResult
from drelu_cli.runtime.driver import Rows, choose, taken
from drelu_cli.runtime.streams import Stream

KEPT = ("best", "loss", "wrong", "forwards", "backwards")
"""What every stage of an attack hands back: best point (n, ...), its loss (n,), whether it is
misclassified (n,), passes spent (n,) int64."""

Stage = TypeVar("Stage")


def samples(x: Tensor, y: Tensor, stream: Stream) -> Rows:
    """The queue of an attack: `x`, `y` and the data set index of each sample."""
    return {"x": x.detach(), "y": y, "index": stream.index.to(x.device)}


def drawn_for(stream: Stream, rows: Rows) -> Stream:
    """The stream of the samples in `rows`."""
    return replace(stream, index=rows["index"])


def fresh(rows: Rows, point: Tensor) -> Rows:
    """The state that every attack starts from at `point`: nothing seen, nothing spent."""
    n = len(point)
    none = torch.zeros(n, dtype=torch.int64, device=point.device)
    return {
        **rows,
        "best": point,
        "loss": torch.full((n,), -torch.inf, dtype=point.dtype, device=point.device),
        "wrong": none.bool(),
        "done": none.bool(),
        "step": none,
        "forwards": none,
        "backwards": none,
    }


def worst_over(
    queue: Rows,
    stages: Iterable[Stage],
    run: Callable[[Rows, Stage], Rows],
    *,
    seen: Rows | None = None,
    every: bool = False,
) -> AttackResult:
    """Runs stage after stage (restarts, targets) on the samples that still stand.

    Args:
        queue: from `samples`.
        stages: what tells them apart: a stream whose path names restart and target.
        run: one stage: queue rows, stage -> the tensors named in `KEPT`.
        seen: the tensors named in `KEPT` as they are before the first stage; None: nothing.
        every: broken samples go on, and of several misclassified points the one of largest loss
            is returned: for attacks that minimise a norm.

    Returns:
        Per sample the first misclassified point, else the point of largest loss over all stages.
    """
    total = dict(seen or fresh(queue, queue["x"]))
    standing = (~total["wrong"]).nonzero()[:, 0]
    for stage in stages:
        if len(standing) == 0:
            break
        # Nothing of the size of the queue is copied where all samples still stand.
        everyone = len(standing) == len(queue["x"])
        found = run(queue if everyone else taken(queue, standing), stage)
        kept = {name: total[name] for name in KEPT}
        merged = worse(found, kept if everyone else taken(kept, standing))
        for name in KEPT:
            whole = merged[name] if everyone else kept[name].index_copy(0, standing, merged[name])
            total[name] = whole
        if not every:
            standing = standing[~found["wrong"]]
    return result(total)


def worse(found: Rows, before: Rows) -> Rows:
    """Per sample the worse of two outcomes for the model, with the passes of both."""
    larger = (found["loss"] > before["loss"]) & (found["wrong"] | ~before["wrong"])
    better = larger | (found["wrong"] & ~before["wrong"])
    best = found["best"] if bool(better.all()) else choose(better, found["best"], before["best"])
    return {
        "best": best,
        "loss": choose(better, found["loss"], before["loss"]),
        "wrong": before["wrong"] | found["wrong"],
        "forwards": before["forwards"] + found["forwards"],
        "backwards": before["backwards"] + found["backwards"],
    }


def result(rows: Rows) -> AttackResult:
    """The attack's result from kept rows."""
    return AttackResult(rows["best"], rows["forwards"], rows["backwards"])


def untouched(x: Tensor) -> AttackResult:
    """The result at eps = 0: the input, without a pass."""
    none = torch.zeros(len(x), dtype=torch.int64, device=x.device)
    return AttackResult(x.detach().clone(), none, none.clone())
