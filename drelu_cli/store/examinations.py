"""What the court found, one document per model, threat, seed and list of samples."""

from __future__ import annotations

import json
import sqlite3
from dataclasses import asdict, dataclass

from drelu_cli.core.errors import StoreError
from drelu_cli.core.records import Evidence, Examination
from drelu_cli.store.database import Database
from drelu_cli.store.registry import as_json, now

_PLAIN = (
    "model_key", "weights_digest", "dataset_digest", "norm", "eps", "seed", "samples", "count",
    "word",
)  # fmt: skip
_DOCUMENT = ("evidence", "remedy", "control", "notes", "basis")


@dataclass(frozen=True, slots=True)
class StoredExamination:
    """An examination and when it was stored (UTC, ISO 8601)."""

    examination: Examination
    key: str
    created: str


def add_examination(database: Database, examination: Examination) -> None:
    """Stores `examination` in place of the one with the same key.

    A complete one is never replaced by an incomplete one: another process may have been first.
    """
    whole = asdict(examination)
    values = {name: whole[name] for name in _PLAIN}
    document = as_json({name: whole[name] for name in _DOCUMENT})
    with database.transaction():
        known = database.row("SELECT complete FROM examination WHERE key = ?", examination.key)
        if known is not None and known["complete"] and not examination.complete:
            return
        database.execute("DELETE FROM examination WHERE key = ?", examination.key)
        database.insert(
            "examination",
            {
                **values,
                "key": examination.key,
                "complete": int(examination.complete),
                "document": document,
                "created": now(),
            },
        )


def examination_by_key(database: Database, key: str) -> Examination | None:
    """The examination with this key, or None."""
    row = database.row("SELECT * FROM examination WHERE key = ?", key)
    return None if row is None else _stored(database, row).examination


def examinations(database: Database, model_key: str | None) -> list[StoredExamination]:
    """Those of one model, or all; oldest first."""
    where = "" if model_key is None else "WHERE model_key = ? "
    values = () if model_key is None else (model_key,)
    rows = database.rows(f"SELECT * FROM examination {where}ORDER BY id", *values)
    return [_stored(database, row) for row in rows]


def _stored(database: Database, row: sqlite3.Row) -> StoredExamination:
    document = json.loads(row["document"])
    examination = Examination(
        **{name: row[name] for name in _PLAIN},
        complete=bool(row["complete"]),
        evidence=tuple(
            Evidence(**{**seen, "attacks": tuple(seen["attacks"])}) for seen in document["evidence"]
        ),
        remedy=tuple(document["remedy"]),
        control=document["control"],
        notes=tuple(document["notes"]),
        basis=document.get("basis", ""),
    )
    if examination.key != row["key"]:
        raise StoreError(
            f"{database.file}: examination {row['key'][:12]} does not match its key",
            hint="the file is damaged or was edited; put a copy in its place",
        )
    return StoredExamination(examination, row["key"], row["created"])
