"""What a rule finds, and the frame that rules work on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from drelu_cli.core.errors import BadValue, DataError

if TYPE_CHECKING:
    import pandas as pd

Severity = Literal["error", "warning", "note"]
ROW = ("table", "dataset", "model", "training")
BLOCK = ("table", "dataset", "model", "attack")
REQUIRED = ("dataset", "model", "training", "attack", "accuracy")

LINF_WHITE_BOX = ("fgsm", "pgd", "apgd_ce", "apgd_dlr", "apgd_t", "fab_t")


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong, or that forbids a conclusion.

    Attributes:
        code: the rule's name.
        severity: `error`: the table contradicts itself or its own setting; `warning`: a sign of
            a failed evaluation or a copying error; `note`: limits what may be concluded.
        printed: the printed value or rank.
        recomputed: what it should be, or the value it contradicts.
        message: why it matters; names both numbers.
    """

    code: str
    severity: Severity
    table: int | str | None
    dataset: str | None
    model: str | None
    training: str | None
    attack: str | None
    printed: float | None
    recomputed: float | None
    message: str


class NotChecked(Exception):
    """Raised by a rule that lacks a column; its text says which."""


def finding(
    code: str,
    severity: Severity,
    place: Mapping[Any, Any],
    message: str,
    *,
    printed: float | None = None,
    recomputed: float | None = None,
) -> Finding:
    """A finding at `place`: any of table, dataset, model, training, attack."""
    table = place.get("table")
    return Finding(
        code=code,
        severity=severity,
        table=table if table is None or isinstance(table, str) else int(table),
        dataset=_text(place, "dataset"),
        model=_text(place, "model"),
        training=_text(place, "training"),
        attack=_text(place, "attack"),
        printed=None if printed is None else float(printed),
        recomputed=None if recomputed is None else float(recomputed),
        message=message,
    )


def place_of(row: Mapping[Any, Any]) -> dict[str, Any]:
    """Table, data set, model and training of a row."""
    return {key: row[key] for key in ROW}


def _text(place: Mapping[Any, Any], key: str) -> str | None:
    return None if place.get(key) is None else str(place[key])


def need(frame: pd.DataFrame, *columns: str) -> None:
    """Raises `NotChecked` where the frame lacks one of `columns` or has no value in it."""
    for column in columns:
        if column not in frame.columns or frame[column].isna().all():
            raise NotChecked(f"the table has no column '{column}'")


def need_attacks(frame: pd.DataFrame, *attacks: str) -> None:
    """Raises `NotChecked` where none of the rows is under one of `attacks`."""
    present = set(frame["attack"])
    for attack in attacks:
        if attack not in present:
            raise NotChecked(f"the table has no {attack} column")


def prepare(frame: pd.DataFrame, *, name: str) -> pd.DataFrame:
    """The frame every rule receives: attack names folded, a table column, percent checked.

    Args:
        frame: long form; accuracy in percent.
        name: the table's name where it has no `table` column.

    Raises:
        DataError: missing columns, or no value at all.
        BadValue: an accuracy outside 0 .. 100.
    """
    lacking = [column for column in REQUIRED if column not in frame.columns]
    if lacking:
        raise DataError(
            f"{name} has no column {', '.join(lacking)}",
            hint=f"the long form needs {', '.join(REQUIRED)}",
        )
    ready = frame.dropna(subset=["accuracy"]).reset_index(drop=True).copy()
    if ready.empty:
        raise DataError(f"{name} has no accuracy", hint="the column 'accuracy' is in percent")
    outside = ready[(ready["accuracy"] < 0) | (ready["accuracy"] > 100)]
    if len(outside):
        raise BadValue(
            f"{name}: accuracy {outside['accuracy'].iloc[0]:g} is outside 0 .. 100",
            hint="accuracies are in percent",
        )
    if "table" not in ready.columns:
        ready["table"] = name
    ready["attack"] = ready["attack"].str.lower().str.replace("-", "_", regex=False)
    return ready


def grouped(frame: pd.DataFrame, keys: Sequence[str]) -> list[list[dict[str, Any]]]:
    """Records that agree in `keys`, in order of appearance.

    Plain lists: a table has hundreds of blocks of a few cells, where pandas' groups cost most of
    an audit's time.
    """
    groups: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for record in frame.to_dict("records"):
        named = {str(key): value for key, value in record.items()}
        groups.setdefault(tuple(named[key] for key in keys), []).append(named)
    return list(groups.values())


def rows_by_attack(frame: pd.DataFrame) -> pd.DataFrame:
    """One row per table row (`ROW` as columns), one column per attack; NaN where not printed."""
    twice = frame[frame.duplicated([*ROW, "attack"])]
    if len(twice):
        cell = " / ".join(str(twice.iloc[0][key]) for key in (*ROW, "attack"))
        raise DataError(
            f"{len(twice)} cell(s) are given more than once, first {cell}",
            hint="one accuracy per table, data set, model, training and attack",
        )
    wide = frame.pivot(index=list(ROW), columns="attack", values="accuracy")
    order = frame.drop_duplicates(list(ROW))[list(ROW)]
    return order.merge(wide.reset_index(), on=list(ROW), how="left", sort=False)
