"""Which models have a place on an axis, and which trainings differ along it alone."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from drelu_cli.core.digest import digest_of
from drelu_cli.core.errors import UnknownName
from drelu_cli.core.recipe import Recipe
from drelu_cli.core.records import ModelRecord
from drelu_cli.workflows.points import Results

# What people call an axis, and where a recipe has it.
FIELDS = {
    "lambda": "penalty.lambda",
    "cap": "activation.cap",
    "m": "activation.cap",
    "placement": "model.placement",
    "weight": "phase.*.weight",
}
# Axes that are no swept field.
OWN_PICTURES = ("eps", "epoch", "sensitivity")
AXES = (*FIELDS, *OWN_PICTURES)
_SHOWN_DIFFERENCES = 2
# Fields whose value is part of a treatment's label, and what it stands behind there.
_LABELLED = {"lambda": "D-ReLU", "cap": "S-ReLU", "weight": "sens", "beta": "TRADES"}

Value = float | str


def check_axis(over: str) -> str:
    """One of AXES, or a dotted field, as it is.

    Raises:
        UnknownName: neither.
    """
    if over in AXES or "." in over:
        return over
    raise UnknownName.among("axis", over, AXES)


@dataclass(frozen=True)
class Group:
    """Trainings that differ in the swept field and the seed alone: one panel.

    Attributes:
        name: `D-ReLU`, `AT + D-ReLU (stem)`.
        members: by value, one model per seed.
    """

    name: str
    members: Mapping[Value, Sequence[ModelRecord]]

    @property
    def first(self) -> ModelRecord:
        """Any of them."""
        return next(iter(self.members.values()))[0]


def drawable(registered: Sequence[ModelRecord], over: str) -> set[str]:
    """Keys of the models that have a place on an axis, and of their ReLU twins.

    Over epochs: the checkpoints, and the trainings that they are from.
    """
    placed = [one for one in registered if _has_place(one, over)]
    if over == "epoch":
        parents = {one.summary.get("parent") for one in placed}
        return {one.key for one in registered if one in placed or one.key in parents}
    beside = {(one.dataset_digest, one.architecture) for one in placed}
    twins = (
        one
        for one in registered
        if over not in OWN_PICTURES
        and one.activation == "relu"
        and one.source == "trained"
        and not is_moment(one)
        and (one.dataset_digest, one.architecture) in beside
    )
    return {one.key for one in (*placed, *twins)}


def _has_place(record: ModelRecord, over: str) -> bool:
    if over == "eps":
        return not is_moment(record)
    if over == "epoch":
        return is_moment(record) and record.summary.get("epoch") is not None
    if over == "sensitivity":
        return record.summary.get("sensitivity") is not None
    return value_of(record, over) is not None


def is_moment(record: ModelRecord) -> bool:
    """Whether the weights are a moment of another training: a checkpoint, a basin hop."""
    return record.summary.get("parent") is not None


def groups_of(found: Results, axis: str) -> list[Group]:
    """The trainings that have a value on `axis`, grouped by everything else but the seed."""
    field = FIELDS.get(axis, axis)
    members: dict[tuple[str, str, str], dict[Value, list[ModelRecord]]] = {}
    for record in found.records.values():
        value = value_of(record, axis)
        if value is None:
            continue
        place = (found.datasets[record.key], record.architecture, _family(record, field))
        members.setdefault(place, {}).setdefault(value, []).append(record)
    names = _names(found, members, field)
    return [Group(names[place], values) for place, values in members.items()]


def value_of(record: ModelRecord, axis: str) -> Value | None:
    """Where a model stands on an axis; None where it has no place there."""
    if record.source != "trained" or is_moment(record):
        return None
    learnable = record.lambda_ is not None
    if (axis == "lambda" and not learnable) or (axis == "m" and learnable):
        return None
    value = _at(record.recipe, FIELDS.get(axis, axis).split("."))
    if value is None or isinstance(value, Mapping | list):
        return None
    return float(value) if isinstance(value, int | float) else str(value)


def _at(value: Any, path: Sequence[str]) -> Any:
    """What stands at a dotted field; `*` is the first phase that has the rest."""
    if not path:
        return value
    if isinstance(value, list):
        numbers = (
            range(len(value)) if path[0] == "*" else [int(path[0])] if path[0].isdigit() else []
        )
        found = (_at(value[number], path[1:]) for number in numbers if number < len(value))
        return next((one for one in found if one is not None), None)
    return _at(value.get(path[0]), path[1:]) if isinstance(value, Mapping) else None


def _without(value: Any, path: Sequence[str]) -> Any:
    """A copy of plain data without what stands at a dotted field."""
    if isinstance(value, list):
        return [
            _without(item, path[1:]) if path[0] in ("*", str(number)) else item
            for number, item in enumerate(value)
        ]
    if not isinstance(value, Mapping):
        return value
    if len(path) == 1:
        return {key: item for key, item in value.items() if key != path[0]}
    return {
        key: _without(item, path[1:]) if key == path[0] else item for key, item in value.items()
    }


def identity_without(record: ModelRecord, *fields: str) -> dict[str, Any]:
    """The training's identity without some dotted fields and the seed."""
    identity: Any = Recipe.from_mapping(record.recipe).identity(record.dataset_digest)
    for one in (*fields, "train.seed"):
        identity = _without(identity, one.split("."))
    return dict(identity)


def _family(record: ModelRecord, field: str) -> str:
    return digest_of(identity_without(record, field))


def _names(
    found: Results,
    members: Mapping[tuple[str, str, str], Mapping[Value, Sequence[ModelRecord]]],
    field: str,
) -> dict[tuple[str, str, str], str]:
    """A group's name: its label without the value, and where that is not enough what differs."""
    plain = {
        place: min((_bare(found, record, value, field) for value, seeds in values.items()
                    for record in seeds), key=len)
        for place, values in members.items()
    }  # fmt: skip
    names = {}
    for place, name in plain.items():
        alike = [other for other in plain if other[:2] == place[:2] and plain[other] == name]
        if len(alike) == 1:
            names[place] = name
            continue
        firsts = [next(iter(members[one].values()))[0] for one in alike]
        flat = [_flat(identity_without(first, field)) for first in firsts]
        mine = flat[alike.index(place)]
        fields = [key for key in mine if len({str(one.get(key)) for one in flat}) > 1]
        told = [f"{key.split('.')[-1]} {mine[key]}" for key in fields[:_SHOWN_DIFFERENCES]]
        names[place] = ", ".join([name, *(told or [place[2][:6]])])
    return names


def _bare(found: Results, record: ModelRecord, value: Value, field: str) -> str:
    """`D-ReLU` of `D-ReLU-0.1 [ab12cd]`; `S-ReLU` of `S-ReLU-0.5 (stem)` over the placement."""
    label = found.labels[record.key].partition(" [")[0]
    if isinstance(value, str):
        return label.replace(f" ({value})", "", 1)
    stem = _LABELLED.get(field.rpartition(".")[2])
    # A number that goes on is another one: -0 is no part of D-ReLU-0.1.
    return re.sub(rf"({stem})-{re.escape(f'{value:g}')}(?![\d.])", r"\1", label) if stem else label


def _flat(value: Any, path: str = "") -> dict[str, Any]:
    if isinstance(value, Mapping):
        items = [(str(key), item) for key, item in value.items()]
    elif isinstance(value, list):
        items = [(str(number), item) for number, item in enumerate(value)]
    else:
        return {path: value}
    return {key: one for name, item in items for key, one in _flat(item, f"{path}.{name}").items()}
