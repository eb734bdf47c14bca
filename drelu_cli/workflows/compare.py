"""`drelu compare`: stored outcomes as a comparison table."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import pandas as pd

from drelu_cli.core.errors import BadValue
from drelu_cli.published import DATASETS, MODELS, PREFIX
from drelu_cli.published.tables import published_table
from drelu_cli.report.render import render
from drelu_cli.report.tables import Comparison, comparison
from drelu_cli.store.connect import Store, open_store
from drelu_cli.workflows.cells import (
    cells_of,
    column_rows,
    evaluated_frame,
    labels_of,
    survivors_note,
)
from drelu_cli.workflows.certificates import violations
from drelu_cli.workflows.context import Context
from drelu_cli.workflows.files import check_folder, write_atomically
from drelu_cli.workflows.selection import (
    ADAPTIVE,
    Selected,
    adaptive_column,
    check_rule,
    select_lambda,
)
from drelu_cli.workflows.verdicts import examined_elsewhere, first_remedies

Format = Literal["md", "tex", "csv", "html"]


@dataclass(frozen=True)
class CompareReport:
    """What `compare` found.

    Attributes:
        table: the ranked cells and the columns.
        notes: what a reader must know beside the numbers.
        written: the file, where one was asked for.
        violations: certificates that an attack contradicts.
    """

    table: Comparison
    notes: tuple[str, ...]
    written: Path | None
    violations: tuple[dict[str, Any], ...] = ()

    @property
    def document(self) -> dict[str, Any]:
        """The JSON document of `drelu compare`; accuracies are fractions."""
        return {
            "rows": [_json_row(row) for row in _records(self.table.cells)],
            "columns": [_json_row(row) for row in _records(self.table.columns)],
            "sensitivity": self._sensitivity(),
            "notes": list(self.notes),
            "violations": list(self.violations),
        }

    def _sensitivity(self) -> list[dict[str, Any]]:
        measures = self.table.measures
        return [] if measures is None else [_json_row(row) for row in _records(measures)]


def compare(
    *,
    out: Path | None = None,
    where: Mapping[str, str] | None = None,
    samples: int | None = None,
    against: str | None = None,
    select: str = "validation",
    attack_seed: int = 0,
    models: Collection[str] | None = None,
    sensitivity: bool = False,
    context: Context | None = None,
) -> CompareReport:
    """The comparison of everything stored that fits.

    Args:
        out: file to write; its ending (.md, .tex, .csv, .html) chooses the format.
        where: keep models whose column has this value, e.g. `{"dataset": "mnist"}`.
        samples: compare on the first N of the fixed order; default: what most results cover.
        against: `published:tableN`; the published value stands beside the measured one.
        select: how lambda is chosen: `validation` (PGD-10) or `adaptive` (that column).
        attack_seed: which attack seed's results.
        models: keys of the models to compare, a list in the order of its rows; None takes all.
        sensitivity: the width of each training's reachable outputs, too; measured, and kept in
            the store, where it is not known yet.
        context: the store.

    Raises:
        DreluError: nothing stored that fits, an unknown ending, table or rule.
    """
    check_rule(select)
    ending = _format(out)
    context = context or Context()
    with open_store(context.store, create=False) as store:
        frame, notes = evaluated_frame(
            store, samples=samples, where=where or {}, attack_seed=attack_seed, models=models
        )
        present = set(frame["model_key"])
        records = [record for record in store.models() if record.key in present]
        labels = labels_of(records)
        cells = cells_of(frame, labels)
        notes += survivors_note(frame)
        notes += examined_elsewhere(store, records, frame)
        notes += first_remedies(store, records, frame)
        columns, per_model = column_rows(store, frame, labels)
        selected = select_lambda(
            records, labels, adaptive_column(per_model) if select == ADAPTIVE else None
        )
        contradicted = [one for record in records for one in violations(store, record)]
        measures = _measures(store, frame, labels, context) if sensitivity else None
    notes += [one.sentence for one in selected if one.candidates > 1]
    if against is not None:
        cells, more = beside_published(cells, against, selected)
        notes += more
    table = comparison(cells, columns, measures)
    if out is not None and ending is not None:
        write_atomically(out, render(table, ending, caption=_caption(against), notes=notes))
    return CompareReport(table, tuple(notes), out, tuple(contradicted))


def _measures(
    store: Store, frame: pd.DataFrame, labels: Mapping[str, str], context: Context
) -> pd.DataFrame:
    from drelu_cli.workflows.sensitivity import sensitivity_rows  # imports torch

    return sensitivity_rows(store, frame, labels, context)


def _format(out: Path | None) -> Format | None:
    if out is None:
        return None
    for known in get_args(Format):
        if out.suffix == f".{known}":
            check_folder(out)
            return known  # type: ignore[no-any-return]
    raise BadValue(
        f"'{out}' has no known ending", hint="table.md, table.tex, table.csv or table.html"
    )


def _caption(against: str | None) -> str:
    beside = f", beside {against}" if against else ""
    return f"Robust accuracy in percent (rank), best in bold{beside}"


def beside_published(
    cells: pd.DataFrame, against: str, selected: Sequence[Selected]
) -> tuple[pd.DataFrame, list[str]]:
    """`cells` with a column `published` (fraction), and notes on how rows were matched.

    Rows match by data set, architecture, treatment and attack at the same threat. The paper's
    D-ReLU row stands beside the selected lambda's.

    Raises:
        UnknownName: not a published table.
        BadValue: not of the form `published:tableN`.
    """
    if not against.startswith(PREFIX):
        raise BadValue(f"'{against}' is no published table", hint="--against published:table1")
    frame = published_table(against)
    frame = frame.assign(
        dataset=frame["dataset"].map(DATASETS), architecture=frame["model"].map(MODELS)
    )
    stand_ins = {(one.dataset, one.architecture): one.label for one in selected}
    values: dict[tuple[Any, ...], float] = {}
    notes = []
    for row in _records(frame):
        place = (row["dataset"], row["architecture"])
        label = stand_ins.get(place) if row["training"] == "D-ReLU" else row["training"]
        values[*place, label, row["attack"], *_threat(row)] = float(row["accuracy"]) / 100.0
        if row["training"] == "D-ReLU" and row["attack"] == "clean" and label:
            notes.append(
                f"{place[0]} {place[1]}: the paper's D-ReLU row (printed parameter "
                f"{row['param']:g}) stands beside {label}"
            )
    published = [values.get(_match(row)) for row in _records(cells)]
    if not any(value is not None for value in published):
        notes.append(f"no row of {against} matches a measured one")
    return cells.assign(published=pd.Series(published, dtype=float)), notes


def _match(row: Mapping[str, Any]) -> tuple[Any, ...]:
    return (
        row["dataset"],
        row["architecture"],
        row["training"],
        row["attack"],
        *_threat(row),
    )


def _threat(row: Mapping[str, Any]) -> tuple[str, float]:
    """Norm and radius as they match; the clean column has none."""
    if row["attack"] == "clean":
        return "", 0.0
    return str(row["norm"]), round(float(row["eps"]), 9)


def _records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    return [{str(k): v for k, v in row.items()} for row in frame.to_dict("records")]


def _json_row(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row with missing values as None and the clean column without a threat."""
    out = {key: _plain(value) for key, value in row.items()}
    if out.get("norm") == "":
        out["norm"] = out["eps"] = None
    return out


def _plain(value: Any) -> Any:
    if isinstance(value, list):
        return value
    return None if pd.isna(value) else value
