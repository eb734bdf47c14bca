"""What attacks have in common around their steps: samples in, results out, restarts between."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

import torch
from torch import Tensor

from drelu_cli.attacks.contract import AttackResult
from drelu_cli.runtime.driver import Rows, choose, taken
from drelu_cli.runtime.streams import Stream

KEPT = ("best", "loss", "wrong", "forwards", "backwards")
"""What every stage of an attack hands back: best point (n, ...), its loss (n,), whether it is
misclassified (n,), passes spent (n,) int64."""


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
    queue: Rows, stages: Iterable[Stream], run: Callable[[Rows, Stream], Rows]
) -> AttackResult:
    """Runs stage after stage (restarts, targets) on the samples that still stand.

    Args:
        queue: from `samples`.
        stages: one stream per stage; its path names the restart or target.
        run: one stage: queue rows, stream -> the tensors named in `KEPT`.

    Returns:
        Per sample the first misclassified point, else the point of largest loss over all stages.
    """
    total = fresh(queue, queue["x"])
    standing = torch.arange(len(queue["x"]), device=queue["x"].device)
    for stream in stages:
        if len(standing) == 0:
            break
        found = run(taken(queue, standing), stream)
        before = {name: total[name][standing] for name in KEPT}
        better = found["wrong"] | (found["loss"] > before["loss"])
        merged = {
            "best": choose(better, found["best"], before["best"]),
            "loss": choose(better, found["loss"], before["loss"]),
            "wrong": found["wrong"],
            "forwards": before["forwards"] + found["forwards"],
            "backwards": before["backwards"] + found["backwards"],
        }
        for name in KEPT:
            total[name] = total[name].index_copy(0, standing, merged[name])
        standing = standing[~found["wrong"]]
    return result(total)


def result(rows: Rows) -> AttackResult:
    """The attack's result from kept rows."""
    return AttackResult(rows["best"], rows["forwards"], rows["backwards"])


def untouched(x: Tensor) -> AttackResult:
    """The result at eps = 0: the input, without a pass."""
    none = torch.zeros(len(x), dtype=torch.int64, device=x.device)
    return AttackResult(x.detach().clone(), none, none.clone())
