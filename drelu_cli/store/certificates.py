"""Which samples are proven: one row per slice that was computed, extended slice by slice."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from drelu_cli.core.digest import digest_of
from drelu_cli.core.errors import InternalError
from drelu_cli.store.chunks import (
    pack_samples,
    pack_states,
    seal,
    unpack_samples,
    unpack_states,
    unseal,
)
from drelu_cli.store.database import Database
from drelu_cli.store.registry import now

_OF = ("model_key", "weights_digest", "dataset_digest", "norm", "eps", "method", "version")


@dataclass(frozen=True, slots=True)
class Certificate:
    """What a certificate belongs to.

    Attributes:
        model_key: the model.
        weights_digest: its weights.
        dataset_digest: the data set.
        norm: of the ball.
        eps: its radius.
        method: `crown` or `interval`.
        version: of the method; raised when it proves something else.
    """

    model_key: str
    weights_digest: str
    dataset_digest: str
    norm: str
    eps: float
    method: str
    version: int

    @property
    def place(self) -> str:
        """What the stored bytes are checked against."""
        return f"certificate {digest_of({name: getattr(self, name) for name in _OF})}"


@dataclass(frozen=True, slots=True)
class StoredCertificate:
    """A certificate and how much of it is stored.

    Attributes:
        certificate: what it belongs to.
        samples: samples examined, by index in the test split: whether each is proven.
        seconds: time spent on them.
        created: of the first slice, UTC, ISO 8601.
    """

    certificate: Certificate
    samples: dict[int, bool]
    seconds: float
    created: str


def add_certificate(
    database: Database,
    certificate: Certificate,
    samples: Sequence[int],
    proven: Sequence[bool],
    seconds: float,
) -> None:
    """Appends the samples that are not stored yet; see `Store.add_certificate`."""
    if len(samples) != len(proven) or len(set(samples)) != len(samples):
        raise InternalError("a certificate needs one value for each sample, and no sample twice")
    order = np.argsort(np.asarray(samples, dtype=np.int64), kind="stable")
    index = np.asarray(samples, dtype=np.int64)[order]
    values = np.asarray(proven, dtype=np.int8)[order]
    with database.transaction():
        known = [_samples(row) for row in _rows(database, certificate)]
        new = ~np.isin(index, np.concatenate(known)) if known else np.ones(len(index), dtype=bool)
        if new.any():
            share = seconds * int(new.sum()) / len(index)
            _insert(database, certificate, index[new], values[new], share)


def certificates(database: Database, model_key: str | None) -> list[StoredCertificate]:
    """Those of one model, or all; oldest first."""
    where = "" if model_key is None else "WHERE model_key = ? "
    values = () if model_key is None else (model_key,)
    rows = database.rows(f"SELECT * FROM certificate {where}ORDER BY id", *values)
    found: dict[Certificate, list[sqlite3.Row]] = {}
    for row in rows:
        found.setdefault(_certificate(row), []).append(row)
    return [
        StoredCertificate(
            certificate,
            _proven(slices),
            sum(row["seconds"] for row in slices),
            slices[0]["created"],
        )
        for certificate, slices in found.items()
    ]


def certified_samples(database: Database, certificate: Certificate) -> dict[int, bool]:
    """Whether each stored sample is proven, by index; empty where nothing is stored."""
    return _proven(_rows(database, certificate))


def _insert(
    database: Database,
    certificate: Certificate,
    index: NDArray[np.int64],
    values: NDArray[np.int8],
    seconds: float,
) -> None:
    place = certificate.place
    database.insert(
        "certificate",
        {
            **{name: getattr(certificate, name) for name in _OF},
            "size": len(index),
            "samples": seal(pack_samples(index), f"{place} samples"),
            "proven": seal(pack_states(values), f"{place} proven"),
            "seconds": seconds,
            "created": now(),
        },
    )


def _rows(database: Database, certificate: Certificate) -> list[sqlite3.Row]:
    where = " AND ".join(f"{name} = ?" for name in _OF)
    return database.rows(
        f"SELECT * FROM certificate WHERE {where} ORDER BY id",
        *(getattr(certificate, name) for name in _OF),
    )


def _certificate(row: sqlite3.Row) -> Certificate:
    return Certificate(**{name: row[name] for name in _OF})


def _samples(row: sqlite3.Row) -> NDArray[np.int64]:
    raw = unseal(row["samples"], f"{_certificate(row).place} samples")
    return unpack_samples(raw, int(row["size"]))


def _proven(rows: Sequence[sqlite3.Row]) -> dict[int, bool]:
    found: dict[int, bool] = {}
    for row in rows:
        raw = unseal(row["proven"], f"{_certificate(row).place} proven")
        values = unpack_states(raw, int(row["size"])).astype(bool)
        found |= dict(zip(_samples(row).tolist(), values.tolist(), strict=True))
    return dict(sorted(found.items()))
