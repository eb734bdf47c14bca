"""Points over a swept field of the recipe: lambda, the cap, the placement, any other."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from drelu_cli.core.errors import UnknownName
from drelu_cli.core.records import ModelRecord
from drelu_cli.workflows.points import ADAPTIVE, Point, Results, column_points, series_points
from drelu_cli.workflows.points_groups import (
    FIELDS,
    Group,
    Value,
    groups_of,
    identity_without,
    is_moment,
)


def swept_points(found: Results, axis: str) -> tuple[list[Point], list[str]]:
    """The points of every group of trainings that differ along `axis`, and notes.

    Where some groups have several values, those with a single one are left out and named.

    Raises:
        UnknownName: no stored model has such a field.
    """
    groups = groups_of(found, axis)
    if not groups:
        raise UnknownName(
            f"no stored result belongs to a training with {FIELDS.get(axis, axis)}",
            hint="drelu list shows what is stored; --over names another axis",
        )
    several = [group for group in groups if len(group.members) > 1]
    notes = []
    if several and len(several) < len(groups):
        single = [_described(found, group) for group in groups if len(group.members) == 1]
        notes = [f"left out, with a single {axis}: {', '.join(single)}"]
    if not several:
        notes = [f"only one {axis} of each group of trainings is stored"]
    points: list[Point] = []
    for group in several or groups:
        points += _points(found, group, axis)
    return points, notes


def _described(found: Results, group: Group) -> str:
    record = group.first
    return f"{found.datasets[record.key]} {record.architecture} {group.name}"


def _points(found: Results, group: Group, axis: str) -> Iterator[Point]:
    threat = found.threat(found.datasets[group.first.key])
    if threat is None:
        return
    base = _base(found, group.first, group.name, axis)
    for value, members in sorted(group.members.items(), key=_order):
        here = {**base, "treatment": found.labels[members[0].key], "x": value}
        yield from series_points(found, members, threat, here)
    # Along any other field the twin would be another net at every value.
    shared = FIELDS.get(axis, axis).startswith(("activation.", "penalty."))
    twins = twins_of(found, group.first) if shared else []
    if twins:
        here = {**base, "treatment": found.labels[twins[0].key], "x": None, "mark": "reference"}
        shown = column_points(found, twins, threat, here, (ADAPTIVE,))
        plain = [one for one in series_points(found, twins, threat, here) if one["verdict"]]
        plain.sort(key=lambda one: one["series"].partition(":")[0] != "pgd")
        yield from (shown or plain)[:1]


def _base(found: Results, record: ModelRecord, name: str, axis: str) -> Point:
    return {
        "dataset": found.datasets[record.key],
        "architecture": record.architecture,
        "group": name,
        "axis": axis,
        "quantity": "accuracy",
    }


def _order(item: tuple[Value, Any]) -> tuple[bool, float, str]:
    """Numbers ascending; words in the order of the places in a net, others as they come."""
    value = item[0]
    if isinstance(value, str):
        places = ("stem", "head", "all")
        return True, places.index(value) if value in places else len(places), value
    return False, value, ""


def twins_of(found: Results, record: ModelRecord) -> list[ModelRecord]:
    """The same training with plain ReLU, every seed of it; none for ReLU itself.

    Plain ReLU everywhere is plain ReLU in the head: that one stands in where there is no other.
    """
    if record.activation == "relu":
        return []
    plain = [
        one
        for one in found.records.values()
        if one.source == "trained" and one.activation == "relu" and not is_moment(one)
    ]
    own = [one for one in plain if _same(one, record)]
    if own or record.placement != "all":
        return own
    head = [one for one in plain if one.placement == "head"]
    return [one for one in head if _same(one, record, "model.placement")]


def _same(one: ModelRecord, other: ModelRecord, *beside: str) -> bool:
    """Whether two trainings are alike but for activation, caps, seed and the fields `beside`."""

    def mark(record: ModelRecord) -> dict[str, Any]:
        return identity_without(record, "activation", "penalty", "phase.*.cap_lr", *beside)

    return mark(one) == mark(other)
