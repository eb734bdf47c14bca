"""Points over a training: its checkpoints by epoch, and the minima that were found."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from drelu_cli.core.errors import UnknownName
from drelu_cli.core.records import ModelRecord
from drelu_cli.store.connect import Store
from drelu_cli.training import SCHEMES
from drelu_cli.training.contract import regime_of
from drelu_cli.workflows.cells import labels_of
from drelu_cli.workflows.files import HISTORY
from drelu_cli.workflows.points import (
    ADAPTIVE,
    CLAIMED,
    CLEAN,
    Point,
    Results,
    column_points,
    samples_of,
    series_points,
)
from drelu_cli.workflows.points_groups import is_moment

_GAP = ("train_accuracy", "validation_accuracy")


def epoch_points(found: Results, store: Store) -> tuple[list[Point], list[str]]:
    """Clean, claimed and adaptive over the epochs of each regime, and train minus validation.

    Checkpoints of one regime at one epoch are averaged over seeds; trainings that differ in more
    than the seed are regimes of their own. Where `claimed` is not complete, the attacks stand in
    its place.

    Raises:
        UnknownName: no checkpoint along a training is stored.
    """
    parents = {record.summary.get("parent") for record in found.records.values()}
    regimes = labels_of([record for record in store.models() if record.key in parents])
    moments: dict[tuple[str, str, str, int], list[ModelRecord]] = {}
    for record in found.records.values():
        epoch = record.summary.get("epoch")
        if is_moment(record) and epoch is not None:
            plain = record.label.removesuffix(f" epoch {epoch}")
            regime = regimes.get(str(record.summary["parent"]), plain)
            place = (found.datasets[record.key], record.architecture, regime, int(epoch))
            moments.setdefault(place, []).append(record)
    points = [
        point
        for place, members in sorted(moments.items(), key=lambda item: item[0][3])
        for point in _moment(found, place, members)
    ]
    if not points:
        raise UnknownName(
            "no attacked checkpoint along a training is stored",
            hint="train.checkpoint_every keeps some; drelu attack NAME attacks them",
        )
    results = [record for record in found.records.values() if record.key in parents]
    points += [point for one in results for point in _result(found, one, regimes[one.key], store)]
    return _whole(points), []


def _result(found: Results, record: ModelRecord, regime: str, store: Store) -> Iterator[Point]:
    """The weights that a training ended with, at the epoch that they are from."""
    epoch = _kept_epoch(store, record)
    if epoch is not None:
        place = (found.datasets[record.key], record.architecture, regime, epoch)
        yield from ({**point, "mark": "kept"} for point in _moment(found, place, [record]))


def _kept_epoch(store: Store, record: ModelRecord) -> int | None:
    """The epoch whose weights were kept; None where it is unknown.

    That of the lowest validation loss of the last phase, or the last one of a regime that does
    not stop.
    """
    file = store.model_dir(record.key) / HISTORY
    if not file.is_file() or record.recipe.get("train", {}).get("hops"):
        return None
    rows = list(csv.DictReader(file.read_text(encoding="utf-8").splitlines()))
    if not rows:
        return None
    first = next(at for at, row in enumerate(rows) if row["phase"] == rows[-1]["phase"])
    losses = [float(row.get("validation_loss") or "nan") for row in rows[first:]]
    if not regime_of(SCHEMES.resolve(rows[-1]["phase"])).stops or math.isnan(losses[0]):
        return len(rows)
    return first + losses.index(min(losses)) + 1


def _moment(
    found: Results, place: tuple[str, str, str, int], members: Sequence[ModelRecord]
) -> Iterator[Point]:
    dataset, architecture, regime, epoch = place
    threat = found.threat(dataset)
    base = {
        "dataset": dataset, "architecture": architecture, "group": regime, "axis": "epoch",
        "treatment": members[0].label, "x": float(epoch), "quantity": "accuracy",
    }  # fmt: skip
    if threat is not None:
        yield from series_points(found, members, threat, base)
        yield from column_points(found, members, threat, base, (CLAIMED,))
    gaps = [_gap(one.summary) for one in members]
    if all(gap is not None for gap in gaps):
        known = [gap for gap in gaps if gap is not None]
        yield {**base, "quantity": "gap", "series": "gap", **_spread(known)}


def _gap(summary: Mapping[str, Any]) -> float | None:
    train, validation = (summary.get(name) for name in _GAP)
    return None if train is None or validation is None else float(train) - float(validation)


def _spread(values: Sequence[float]) -> Point:
    """Mean and standard deviation of what is no share of samples."""
    import statistics

    mean = statistics.fmean(values)
    found: Point = {"mean": mean, "n_seeds": len(values)}
    if len(values) > 1:
        spread = statistics.stdev(values)
        found |= {"low": mean - spread, "high": mean + spread, "interval": "std"}
    return found


def _whole(points: Sequence[Point]) -> list[Point]:
    """Without the single attacks of a regime whose every epoch has the column that sums them up."""
    kept = {CLEAN, CLAIMED, ADAPTIVE, "gap"}
    claimed = {(*_place(one), one["x"]) for one in points if one["series"] == CLAIMED}
    lacking = {_place(one) for one in points if (*_place(one), one["x"]) not in claimed}
    return [one for one in points if _place(one) in lacking or one["series"] in kept]


def _place(point: Point) -> tuple[str, str, str]:
    return point["dataset"], point["architecture"], point["group"]


def sensitivity_points(found: Results) -> tuple[list[Point], list[str]]:
    """One point per minimum: its loss and its robust accuracies over its sensitivity.

    Raises:
        UnknownName: no stored model has the measure.
    """
    points: list[Point] = []
    without = 0
    # Losses with different weights of the sensitivity term do not compare: the task's own does.
    tasks = any("task_loss" in record.summary for record in found.records.values())
    loss_name = "task_loss" if tasks else "validation_loss"
    for record in found.records.values():
        measured = record.summary.get("sensitivity")
        if not isinstance(measured, Mapping) or measured.get("mean_log_width") is None:
            without += 1
            continue
        points += _minimum(found, record, float(measured["mean_log_width"]), loss_name)
    if not points:
        raise UnknownName(
            "no attacked model with a stored sensitivity fits",
            hint="drelu compare --sensitivity measures it",
        )
    notes = [f"left out, without a measured sensitivity: {without} models"] if without else []
    return points, notes


def _minimum(found: Results, record: ModelRecord, width: float, loss_name: str) -> Iterator[Point]:
    threat = found.threat(found.datasets[record.key])
    mark = ""
    if record.summary.get("accepted") is not None:
        mark = "accepted" if record.summary["accepted"] else "rejected"
    group = record.label
    for kind in ("hop", "epoch"):
        group = group.removesuffix(f" {kind} {record.summary.get(kind)}")
    base = {
        "dataset": found.datasets[record.key], "architecture": record.architecture,
        "group": group, "treatment": found.labels[record.key], "axis": "sensitivity", "x": width,
        "mark": mark, "n_samples": samples_of(found, record),
    }  # fmt: skip
    loss = record.summary.get(loss_name)
    if loss is not None:
        yield {**base, "quantity": "loss", "series": "loss", "mean": float(loss), "n_seeds": 1}
    if threat is not None:
        points = series_points(found, [record], threat, {**base, "quantity": "accuracy"})
        yield from (point for point in points if point["series"] != CLEAN)
