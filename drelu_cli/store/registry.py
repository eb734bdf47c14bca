"""The models of a store: registered once by key, found by name, label or key."""

from __future__ import annotations

import difflib
import json
import sqlite3
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from drelu_cli.core.errors import UnknownName
from drelu_cli.core.records import ModelRecord
from drelu_cli.store.database import Database

SHORTEST_PREFIX = 4
_LISTED = 10  # names that an error message lists before it points to `drelu list`

_PLAIN = (
    "key", "name", "label", "source", "dataset", "dataset_digest", "architecture", "activation",
    "placement", "scheme", "cap", "seed", "weights_digest",
)  # fmt: skip
_MAPPINGS = ("recipe", "summary", "provenance")


@dataclass(frozen=True, slots=True)
class Finding:
    """Something a check noticed about a model, kept beside its results."""

    code: str
    detail: str
    created: str


def now() -> str:
    """This moment, UTC, ISO 8601 with seconds."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def as_json(value: Mapping[str, Any] | Iterable[Any]) -> str:
    """Plain data as JSON text; NaN and infinity are kept, since losses can be either."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def add_model(database: Database, record: ModelRecord) -> ModelRecord:
    """Registers `record`; see `Store.add_model`."""
    with database.transaction():
        known = database.row("SELECT * FROM model WHERE key = ?", record.key)
        if known is None:
            database.insert("model", _values(record, _free_name(database, record)))
        elif record.source != "trained":
            # The same model from another place: it is loaded from there next time.
            database.execute(
                "UPDATE model SET recipe = ? WHERE key = ?", as_json(record.recipe), record.key
            )
        elif known["weights_digest"] != record.weights_digest:
            database.execute(
                "UPDATE model SET weights_digest = ?, recipe = ?, summary = ?, provenance = ? "
                "WHERE key = ?",
                record.weights_digest,
                *(as_json(getattr(record, name)) for name in _MAPPINGS),
                record.key,
            )
        return model_by_key(database, record.key)


def model_by_key(database: Database, key: str) -> ModelRecord:
    """The model with exactly this key.

    Raises:
        UnknownName: no such model.
    """
    row = database.row("SELECT * FROM model WHERE key = ?", key)
    if row is None:
        raise _unknown(database, key)
    return _record(row)


def models(
    database: Database,
    filters: Mapping[str, Any],
    *,
    keys: Collection[str] | None = None,
    parent: str | None = None,
) -> list[ModelRecord]:
    """The models whose columns have the values in `filters`, in order of registration.

    Args:
        database: of the store.
        filters: by column; None fits all.
        keys: only of these.
        parent: only what was kept along the training with this key.
    """
    wanted: dict[str, Any] = {f'"{k}" = ?': v for k, v in filters.items() if v is not None}
    if parent is not None:  # reading every summary to ask it takes long in a large store
        wanted["instr(summary, ?) > 0"] = as_json({"parent": parent})[1:-1]
    values = [*wanted.values(), *(keys or ())]
    conditions = [*wanted]
    if keys is not None:
        conditions.append(f"key IN ({', '.join('?' * len(keys))})")
    where = f"WHERE {' AND '.join(conditions)} " if conditions else ""
    rows = database.rows(f"SELECT * FROM model {where}ORDER BY id", *values)
    found = [_record(row) for row in rows]
    return [one for one in found if parent is None or one.summary.get("parent") == parent]


def relabel(database: Database, key: str, label: str) -> ModelRecord:
    """Gives a model another label and returns it as stored now."""
    with database.transaction():
        database.execute("UPDATE model SET label = ? WHERE key = ?", label, key)
        return model_by_key(database, key)


def annotate(database: Database, key: str, name: str, value: Any) -> ModelRecord:
    """Sets one entry of a model's summary and returns the model as stored now."""
    with database.transaction():
        summary = {**model_by_key(database, key).summary, name: value}
        database.execute("UPDATE model SET summary = ? WHERE key = ?", as_json(summary), key)
        return model_by_key(database, key)


def find_model(database: Database, reference: str) -> ModelRecord:
    """The one model that `reference` means; see `Store.find_model`."""
    row = database.row("SELECT * FROM model WHERE name = ?", reference)
    if row is not None:
        return _record(row)
    for what, found in (
        ("label", database.rows("SELECT * FROM model WHERE label = ? ORDER BY id", reference)),
        ("key prefix", _with_prefix(database, reference)),
    ):
        if len(found) == 1:
            return _record(found[0])
        if found:
            raise UnknownName(
                f"the {what} '{reference}' means {len(found)} models",
                hint=f"give one name: {_short_list([row['name'] for row in found])}",
            )
    raise _unknown(database, reference)


def add_finding(database: Database, model_key: str, code: str, detail: str) -> None:
    """Keeps one finding; the same one again changes nothing."""
    with database.transaction():
        database.execute(
            "INSERT OR IGNORE INTO finding (model_key, code, detail, created) VALUES (?, ?, ?, ?)",
            model_key,
            code,
            detail,
            now(),
        )


def findings(database: Database, model_key: str) -> list[Finding]:
    """What was noticed about a model, oldest first."""
    rows = database.rows(
        "SELECT code, detail, created FROM finding WHERE model_key = ? ORDER BY id", model_key
    )
    return [Finding(row["code"], row["detail"], row["created"]) for row in rows]


def _values(record: ModelRecord, name: str) -> dict[str, Any]:
    values = {column: getattr(record, column) for column in _PLAIN}
    values |= {column: as_json(getattr(record, column)) for column in _MAPPINGS}
    return {**values, "name": name, "lambda": record.lambda_, "created": now()}


def _record(row: sqlite3.Row) -> ModelRecord:
    plain = {column: row[column] for column in _PLAIN}
    mappings = {column: json.loads(row[column]) for column in _MAPPINGS}
    return ModelRecord(**plain, **mappings, lambda_=row["lambda"])


def _free_name(database: Database, record: ModelRecord) -> str:
    """The record's name, with as much of its key as makes it unique, 6 digits at least."""
    name, length = record.name, 6
    while database.row("SELECT 1 FROM model WHERE name = ?", name) is not None:
        name, length = f"{record.name}-{record.key[:length]}", length + 1
    return name


def _with_prefix(database: Database, prefix: str) -> list[sqlite3.Row]:
    if len(prefix) < SHORTEST_PREFIX:
        return []
    return database.rows(
        "SELECT * FROM model WHERE substr(key, 1, ?) = ? ORDER BY id", len(prefix), prefix
    )


def _unknown(database: Database, reference: str) -> UnknownName:
    rows = database.rows("SELECT name, label FROM model ORDER BY id")
    if not rows:
        return UnknownName(
            f"unknown model '{reference}'", hint="no model is registered yet: run drelu train"
        )
    names = [row["name"] for row in rows]
    known = [*names, *dict.fromkeys(row["label"] for row in rows)]
    near = difflib.get_close_matches(reference, known, n=3, cutoff=0.5)
    meant = f"did you mean {' or '.join(near)}? " if near else ""
    return UnknownName(f"unknown model '{reference}'", hint=f"{meant}known: {_short_list(names)}")


def _short_list(names: list[str]) -> str:
    rest = len(names) - _LISTED
    more = f" and {rest} more (drelu list shows all)" if rest > 0 else ""
    return ", ".join(names[:_LISTED]) + more
