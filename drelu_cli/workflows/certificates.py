"""What stored certificates say: the column, and whether an attack contradicts one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from drelu_cli.certify import METHOD, VERSION
from drelu_cli.core.records import ModelRecord, State, ThreatModel
from drelu_cli.store.connect import Store
from drelu_cli.store.evaluations import StoredEvaluation

CERTIFIED_NORM = "linf"


def proven_samples(store: Store, record: ModelRecord, eps: float) -> dict[int, bool]:
    """Whether each sample examined so far is proven on the Linf ball, by index."""
    return store.certified_samples(
        record.key, record.weights_digest, record.dataset_digest, eps, METHOD, version=VERSION
    )


def certificate_of(
    store: Store, record: ModelRecord, threat: ThreatModel, rows: Sequence[int]
) -> dict[str, Any] | None:
    """method, proven, samples on a list of samples; None where it is not covered whole."""
    if threat.norm != CERTIFIED_NORM:
        return None
    known = proven_samples(store, record, threat.eps)
    if not rows or any(row not in known for row in rows):
        return None
    proven = sum(known[row] for row in rows)
    return {"method": METHOD, "proven": proven, "samples": len(rows)}


def certified_share(certificate: dict[str, Any] | None) -> float | None:
    """The column `certified`: proven / all."""
    return None if certificate is None else certificate["proven"] / certificate["samples"]


def violations(store: Store, record: ModelRecord) -> list[dict[str, Any]]:
    """Proven samples that a stored attack broke inside the proven ball: a bug of ours.

    Attacks of every engine, seed and option count, at the certificate's radius and at smaller
    ones. One entry per certificate and evaluation: model, attack, engine, norm, eps (the
    attack's), certified_eps, method, samples (indices in the test split).
    """
    balls = [
        (stored.certificate.eps, {row for row, holds in stored.samples.items() if holds})
        for stored in store.certificates(model_key=record.key)
        if stored.certificate.weights_digest == record.weights_digest
        and stored.certificate.dataset_digest == record.dataset_digest
        and stored.certificate.version == VERSION
    ]
    if not any(proven for _, proven in balls):
        return []
    return [
        found
        for stored in store.evaluations(model_key=record.key)
        if stored.evaluation.norm == CERTIFIED_NORM
        and stored.evaluation.weights_digest == record.weights_digest
        for eps, proven in balls
        if stored.evaluation.eps <= eps
        and (found := _violation(store, record, stored, eps, proven)) is not None
    ]


def _violation(
    store: Store, record: ModelRecord, stored: StoredEvaluation, eps: float, proven: set[int]
) -> dict[str, Any] | None:
    columns = store.columns(stored.key)
    broken = columns.sample[columns.state == State.BROKEN].tolist()
    samples = [sample for sample in broken if sample in proven]
    if not samples:
        return None
    return {
        "model": record.name,
        "attack": stored.evaluation.attack,
        "engine": stored.evaluation.engine,
        "norm": stored.evaluation.norm,
        "eps": stored.evaluation.eps,
        "certified_eps": eps,
        "method": METHOD,
        "samples": samples,
    }
