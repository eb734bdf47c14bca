"""Writing and reading per-sample outcomes."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from drelu_cli.core.errors import InternalError, StoreError
from drelu_cli.core.records import Evaluation, Outcome
from drelu_cli.store.chunks import (
    OutcomeColumns,
    Packed,
    columns_of,
    joined,
    pack,
    pack_samples,
    seal,
    unpack,
    unpack_samples,
    unpack_states,
    unseal,
)
from drelu_cli.store.database import Database
from drelu_cli.store.evaluations import evaluation_id
from drelu_cli.store.registry import now

_OWN = ("states", "adversarial", "distances", "passes")

_CHUNKS = """
    FROM evaluation
    JOIN chunk ON chunk.evaluation = evaluation.id
    JOIN shared AS listed ON listed.id = chunk.samples
    JOIN shared AS predicted ON predicted.id = chunk.clean
    WHERE evaluation.key = ? ORDER BY chunk.id
"""


def add_outcomes(
    database: Database, evaluation: Evaluation, outcomes: Sequence[Outcome], seconds: float
) -> None:
    """Appends the outcomes that are not stored yet; see `Store.add_outcomes`."""
    columns = columns_of(outcomes)
    key = evaluation.key
    with database.transaction():
        number = evaluation_id(database, evaluation)
        new = columns.rows(~np.isin(columns.sample, stored_samples(database, key)))
        if len(new):
            share = seconds * len(new) / len(columns)
            _insert_chunk(database, number, key, new, share)


def _insert_chunk(
    database: Database, number: int, key: str, columns: OutcomeColumns, seconds: float
) -> None:
    packed = pack(columns)
    own = {name: seal(getattr(packed, name), f"{key} {name}") for name in _OWN}
    database.insert(
        "chunk",
        {
            "evaluation": number,
            "size": len(columns),
            "seconds": seconds,
            "samples": _shared(database, packed.samples),
            "clean": _shared(database, packed.clean),
            **own,
            "created": now(),
        },
    )


def _shared(database: Database, raw: bytes) -> int:
    """The row that holds `raw` for all who need it, made where it is missing."""
    digest = hashlib.sha256(raw).hexdigest()
    row = database.row("SELECT id FROM shared WHERE digest = ?", digest)
    if row is not None:
        return int(row["id"])
    return database.insert("shared", {"digest": digest, "content": seal(raw, digest)})


def stored_samples(database: Database, key: str) -> NDArray[np.int64]:
    """The samples stored for an evaluation, (N,) int64, chunk by chunk."""
    rows = database.rows(f"SELECT chunk.size, listed.digest, listed.content {_CHUNKS}", key)
    parts = [
        unpack_samples(unseal(row["content"], row["digest"]), int(row["size"])) for row in rows
    ]
    return np.concatenate(parts) if parts else np.zeros(0, dtype=np.int64)


def columns(database: Database, key: str, samples: Sequence[int] | None) -> OutcomeColumns:
    """Outcomes as arrays: those asked for in that order, or all, ascending by sample."""
    rows = database.rows(
        "SELECT chunk.*, listed.digest AS listed_digest, listed.content AS listed, "
        f"predicted.digest AS predicted_digest, predicted.content AS predicted {_CHUNKS}",
        key,
    )
    whole = joined([_chunk(row, key) for row in rows])
    if samples is None:
        return whole
    return whole.rows(_positions(whole.sample, samples, key))


def states(database: Database, key: str, samples: Sequence[int]) -> NDArray[np.int8]:
    """Only the states, (N,) int8, in the order asked."""
    rows = database.rows(
        f"SELECT chunk.size, chunk.states, listed.digest, listed.content {_CHUNKS}", key
    )
    index = np.zeros(0, dtype=np.int64)
    found = np.zeros(0, dtype=np.int8)
    for row in rows:
        size = int(row["size"])
        index = np.append(index, unpack_samples(unseal(row["content"], row["digest"]), size))
        found = np.append(found, unpack_states(unseal(row["states"], f"{key} states"), size))
    order = np.argsort(index, kind="stable")
    return found[order][_positions(index[order], samples, key)]


def set_sample_order(
    database: Database, dataset_digest: str, order: Sequence[int]
) -> tuple[int, ...]:
    """Fixes the order in which samples are taken; see `Store.set_sample_order`."""
    if len(set(order)) != len(order):
        raise InternalError("the sample order names a sample twice")
    sealed = seal(pack_samples(np.asarray(order, dtype=np.int64)), f"order {dataset_digest}")
    with database.transaction():
        database.execute(
            "INSERT OR IGNORE INTO sample_order (dataset_digest, samples) VALUES (?, ?)",
            dataset_digest,
            sealed,
        )
        return sample_order(database, dataset_digest) or ()


def sample_order(database: Database, dataset_digest: str) -> tuple[int, ...] | None:
    """The stored order of a data set's test samples, or None."""
    row = database.row("SELECT samples FROM sample_order WHERE dataset_digest = ?", dataset_digest)
    if row is None:
        return None
    return tuple(unpack_samples(unseal(row["samples"], f"order {dataset_digest}")).tolist())


def _chunk(row: sqlite3.Row, key: str) -> OutcomeColumns:
    packed = Packed(
        samples=unseal(row["listed"], row["listed_digest"]),
        clean=unseal(row["predicted"], row["predicted_digest"]),
        **{name: unseal(row[name], f"{key} {name}") for name in _OWN},
    )
    return unpack(packed, int(row["size"]))


def _positions(stored: NDArray[np.int64], asked: Sequence[int], key: str) -> NDArray[np.int64]:
    """Where each sample that is asked for stands in the ascending `stored`."""
    wanted = np.asarray(asked, dtype=np.int64)
    places = np.searchsorted(stored, wanted)
    there = places < len(stored)
    there[there] = stored[places[there]] == wanted[there]
    if not there.all():
        missing = wanted[~there]
        raise StoreError(
            f"evaluation {key[:12]} has no outcome for {len(missing)} of {len(wanted)} samples, "
            f"the first is {missing[0]}",
            hint="run drelu attack for these samples first",
        )
    return places.astype(np.int64)
