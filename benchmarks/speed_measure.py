"""One row of the speed table: paired rounds, medians, both robust accuracies, passes.

In every round each contender runs once, ours first in even rounds and last in odd ones, so that
a busy machine slows all alike; ratios are taken within a round. Round 0 does not count: in it
each library is tried with several batch sizes and keeps the fastest.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from speed_contenders import Run, Task, ours, peer_points, peers
from speed_rows import SHARES, Row
from torch import Tensor, nn

from drelu_cli.attacks.contract import AttackResult
from drelu_cli.attacks.suites import SUITES
from drelu_cli.core.records import ThreatModel
from drelu_cli.evaluation.judge import TOLERANCE, distance, predict
from drelu_cli.evaluation.samples import Samples

BATCHES = (128, 512)
"""Batch sizes that a library is tried with, beside all images at once."""


@dataclass(frozen=True)
class Found:
    """What a contender's run gave.

    Attributes:
        standing: (N,) bool, robust by our judge.
        lengths: (N,) float64 distance of each point.
        passes: (forwards, backwards) per sample; None where a library does not tell.
    """

    standing: Tensor
    lengths: Tensor
    passes: tuple[float, float] | None = None


Contender = Callable[[], Found]


def clock(device: torch.device) -> float:
    """Seconds, after everything that was asked of the device is done."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def judged(task: Task, points: Tensor, result: AttackResult | None = None) -> Found:
    """Our judge for everybody: misclassified, and inside ball and box to 1e-6."""
    samples, threat = task.samples, task.threat
    lengths = distance(samples.x, points, threat.norm)
    inside = lengths <= threat.eps + TOLERANCE
    box = (points >= -TOLERANCE) & (points <= 1.0 + TOLERANCE)
    inside &= box.flatten(1).all(dim=1)
    standing = (predict(task.model, points) == samples.y) | ~inside
    passes = None
    if result is not None:
        passes = (float(result.forwards.sum()), float(result.backwards.sum()))
        passes = (passes[0] / len(samples), passes[1] / len(samples))
    return Found(standing, lengths, passes)


def measured(
    row: Row, model: nn.Module, samples: Samples, threats: Mapping[str, ThreatModel]
) -> dict[str, Any]:
    """The record of a row, as plain data.

    Args:
        row: what to measure.
        model: in evaluation mode.
        samples: classified correctly.
        threats: the net's threat per norm.
    """
    if row.mode == "suite":
        return _suite(row, model, samples, threats)
    task = Task(model, samples, row.attack, threats[row.norm], row.options)
    run = _curve if row.mode == "curve" else _single
    return _rounds(row.rounds, task, run)


Side = Callable[[Task, Run | None, int], tuple[float, list[Found]]]
"""task, library or None for ours, batch -> seconds and what was found."""


def _single(task: Task, run: Run | None, batch: int) -> tuple[float, list[Found]]:
    device = task.samples.x.device
    began = clock(device)
    result = None
    if run is None:
        result = ours(task)
        points = result.x_adv
    else:
        points = peer_points(run, task, batch)
    seconds = clock(device) - began
    return seconds, [judged(task, points, result)]


def _curve(task: Task, run: Run | None, batch: int) -> tuple[float, list[Found]]:
    """Ten radii: ours ascending over survivors, a library ten times on all images."""
    total, found = 0.0, []
    left = torch.ones(len(task.samples), dtype=torch.bool, device=task.samples.y.device)
    for share in SHARES:
        threat = ThreatModel(task.threat.norm, task.threat.eps * share)
        at = replace(task, threat=threat)
        if run is None:
            at = replace(at, samples=task.samples.rows(left))
        if not len(at.samples):
            break
        seconds, (one,) = _single(at, run, batch)
        total += seconds
        found.append(_among(left, one) if run is None else one)
        left = found[-1].standing if run is None else left
    return total, found


def _among(left: Tensor, one: Found) -> Found:
    """What was found on the samples in the mask `left`, for all samples."""
    standing, lengths = left.clone(), torch.full(left.shape, torch.nan, dtype=torch.float64)
    standing[left], lengths[left.cpu()] = one.standing, one.lengths.cpu()
    forwards, backwards = one.passes or (0.0, 0.0)
    share = float(left.double().mean())
    return Found(standing, lengths, (share * forwards, share * backwards))


def _rounds(rounds: int, task: Task, side: Side) -> dict[str, Any]:
    libraries = peers(task.attack)
    batches = {name: _best_batch(task, run, side) for name, run in libraries.items()}
    side(task, None, 0)
    contenders: list[tuple[str, Run | None]] = [("drelu", None), *libraries.items()]
    seconds: dict[str, list[float]] = {name: [] for name, _ in contenders}
    found: dict[str, list[Found]] = {}
    for number in range(rounds):
        for name, run in contenders if number % 2 == 0 else reversed(contenders):
            spent, found[name] = side(task, run, batches.get(name, 0))
            seconds[name].append(spent)
    return {
        "samples": len(task.samples),
        "rounds": rounds,
        "batches": batches,
        "seconds": seconds,
        "robust": {name: _robust(parts) for name, parts in found.items()},
        "median_length": {name: _median_length(parts[-1]) for name, parts in found.items()},
        "passes": _passes(found["drelu"]),
    }


def _best_batch(task: Task, run: Run, side: Side) -> int:
    """The batch size a library is fastest with."""
    n = len(task.samples)
    sizes = sorted({min(size, n) for size in (*BATCHES, n)})
    spent = {size: side(task, run, size)[0] for size in sizes}
    return min(spent, key=lambda size: spent[size])


def _robust(parts: list[Found]) -> list[float]:
    """Share of samples that stand, per threat."""
    return [float(part.standing.double().mean()) for part in parts]


def _median_length(part: Found) -> float | None:
    broken = part.lengths.cpu()[~part.standing.cpu()]
    broken = broken[~broken.isnan()]
    return float(broken.median()) if len(broken) else None


def _passes(parts: list[Found]) -> list[float]:
    counted = [part.passes for part in parts if part.passes is not None]
    return [sum(one[0] for one in counted), sum(one[1] for one in counted)]


def _suite(
    row: Row, model: nn.Module, samples: Samples, threats: Mapping[str, ThreatModel]
) -> dict[str, Any]:
    """The suite attack by attack; the peers' side is the fastest library for each attack."""
    parts = {}
    for entry in SUITES[row.attack]:
        threat = threats[entry.norm or "linf"]
        task = Task(model, samples, entry.attack, threat, entry.options)
        parts[entry.attack] = _rounds(row.rounds, task, _single)
    return {"samples": len(samples), "rounds": row.rounds, "parts": parts}


@dataclass(frozen=True)
class Ratio:
    """How much faster we are than one library.

    Attributes:
        peer: the library.
        median: over rounds, of its seconds divided by ours.
        counts: it leaves no more samples standing than ours does.
    """

    peer: str
    median: float
    counts: bool


def ratios(record: Mapping[str, Any]) -> list[Ratio]:
    """Every library's ratio, the fastest library first; those that count before the others."""
    mine, seconds = record["seconds"]["drelu"], record["seconds"]
    left = statistics.mean(record["robust"]["drelu"])
    found = [
        Ratio(
            peer,
            statistics.median(a / b for a, b in zip(seconds[peer], mine, strict=True)),
            statistics.mean(record["robust"][peer]) <= left + 1e-12,
        )
        for peer in seconds
        if peer != "drelu"
    ]
    return sorted(found, key=lambda one: (not one.counts, one.median))


def suite_ratio(record: Mapping[str, Any]) -> float:
    """Summed over the attacks: the fastest library's seconds divided by ours (medians)."""
    mine = theirs = 0.0
    for part in record["parts"].values():
        mine += statistics.median(part["seconds"]["drelu"])
        theirs += statistics.median(part["seconds"][fastest(part).peer])
    return theirs / mine


def fastest(record: Mapping[str, Any]) -> Ratio:
    """The library a row is judged by: the fastest that counts, else the fastest."""
    return ratios(record)[0]
