"""The evaluations of a store: everything about them but their outcomes."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from drelu_cli.core.errors import StoreError
from drelu_cli.core.records import Evaluation
from drelu_cli.store.database import Database
from drelu_cli.store.registry import as_json, now

_PLAIN = (
    "model_key", "weights_digest", "dataset", "dataset_digest", "attack", "version", "norm",
    "eps", "seed", "engine", "cascade",
)  # fmt: skip
_MAPPINGS = ("given", "effective", "identity", "provenance")

_SELECT = """
    SELECT evaluation.*, total(chunk.seconds) AS seconds, coalesce(sum(chunk.size), 0) AS samples
    FROM evaluation LEFT JOIN chunk ON chunk.evaluation = evaluation.id
"""


@dataclass(frozen=True, slots=True)
class StoredEvaluation:
    """An evaluation and how much of it is stored.

    Attributes:
        evaluation: as given to `add_outcomes` the first time; tuples in it come back as lists.
        key: `evaluation.key`.
        seconds: time spent on the stored samples.
        samples: number of stored samples.
        created: UTC, ISO 8601.
    """

    evaluation: Evaluation
    key: str
    seconds: float
    samples: int
    created: str


def evaluation_id(database: Database, evaluation: Evaluation) -> int:
    """The row of `evaluation`, made where it is missing. Needs a transaction."""
    key = evaluation.key
    row = database.row("SELECT id FROM evaluation WHERE key = ?", key)
    if row is not None:
        return int(row["id"])
    values: dict[str, Any] = {column: getattr(evaluation, column) for column in _PLAIN}
    values |= {column: as_json(dict(getattr(evaluation, column))) for column in _MAPPINGS}
    values["warnings"] = as_json(list(evaluation.warnings))
    return database.insert("evaluation", {**values, "key": key, "created": now()})


def set_provenance(database: Database, key: str, provenance: Mapping[str, Any]) -> None:
    """Replaces where an evaluation comes from; it is no part of the key."""
    with database.transaction():
        database.execute(
            "UPDATE evaluation SET provenance = ? WHERE key = ?", as_json(dict(provenance)), key
        )


def evaluations(
    database: Database, *, model_key: str | None, dataset: str | None
) -> list[StoredEvaluation]:
    """Stored evaluations, oldest first."""
    wanted = {
        name: value
        for name, value in (("model_key", model_key), ("dataset", dataset))
        if value is not None
    }
    where = f"WHERE {' AND '.join(f'{name} = ?' for name in wanted)} " if wanted else ""
    rows = database.rows(
        f"{_SELECT} {where} GROUP BY evaluation.id ORDER BY evaluation.id", *wanted.values()
    )
    return [_stored(database, row) for row in rows]


def evaluation_by_key(database: Database, key: str) -> StoredEvaluation | None:
    """The evaluation with this key, or None."""
    row = database.row(f"{_SELECT} WHERE evaluation.key = ? GROUP BY evaluation.id", key)
    return None if row is None else _stored(database, row)


def _stored(database: Database, row: sqlite3.Row) -> StoredEvaluation:
    evaluation = Evaluation(
        **{column: row[column] for column in _PLAIN},
        **{column: json.loads(row[column]) for column in _MAPPINGS},
        warnings=tuple(json.loads(row["warnings"])),
    )
    if evaluation.key != row["key"]:
        raise StoreError(
            f"{database.file}: evaluation {row['key'][:12]} does not match its key",
            hint="the file is damaged or was edited; put a copy in its place",
        )
    return StoredEvaluation(evaluation, row["key"], row["seconds"], row["samples"], row["created"])
