"""Stored examinations as the verdict and the adaptive column of an entry or a table row."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from drelu_cli.core.digest import digest_of
from drelu_cli.core.records import (
    NOT_EXAMINED,
    Evidence,
    Examination,
    ModelRecord,
    State,
    ThreatModel,
)
from drelu_cli.evaluation.columns import merged, robust_share
from drelu_cli.store.connect import Store

# In the provenance of the runs that the court makes for itself: they count in the column
# adaptive, and no table has cells for them.
PURPOSE, COURT = "purpose", "court"
BESIDE = "This threat stands beside the one examined; --norm l2 examines it"


def court_runs(store: Store) -> frozenset[str]:
    """Keys of the evaluations that the court made for itself."""
    return frozenset(
        stored.key
        for stored in store.evaluations()
        if stored.evaluation.provenance.get(PURPOSE) == COURT
    )


def examination_of(
    record: ModelRecord, threat: ThreatModel, seed: int, rows: Sequence[int], word: str
) -> Examination:
    """An examination of this model, threat, seed and list, without anything found yet."""
    return Examination(
        model_key=record.key,
        weights_digest=record.weights_digest,
        dataset_digest=record.dataset_digest,
        norm=threat.norm,
        eps=threat.eps,
        seed=seed,
        samples=digest_of({"samples": list(rows)}),
        count=len(rows),
        word=word,
        complete=False,
    )


def stored_examination(
    store: Store, record: ModelRecord, threat: ThreatModel, seed: int, rows: Sequence[int]
) -> Examination | None:
    """What the court found for exactly this list of samples, or None."""
    return store.examination(examination_of(record, threat, seed, rows, NOT_EXAMINED).key)


def examined_elsewhere(
    store: Store, records: Sequence[ModelRecord], frame: pd.DataFrame
) -> list[str]:
    """A note on verdicts that a comparison does not show, since they rest on other lists.

    Args:
        store: where examinations are.
        records: models of the comparison.
        frame: its accuracies, with `model_key` and `n_samples`.
    """
    sizes = frame.groupby("model_key")["n_samples"].max()
    names: dict[int, list[str]] = {}
    for record in records:
        counts = {
            one.count
            for one in store.examinations(model_key=record.key)
            if one.complete and one.weights_digest == record.weights_digest
        }
        if counts and int(sizes[record.key]) not in counts:
            names.setdefault(max(counts), []).append(record.name)
    return [
        f"examined on {count} samples, not on these: {', '.join(found)}; --samples {count} shows "
        "the verdicts"
        for count, found in sorted(names.items())
    ]


def first_remedies(store: Store, records: Sequence[ModelRecord], frame: pd.DataFrame) -> list[str]:
    """A note on nets that no court has examined, but of which a plain run's remedy broke more.

    Without it a table would show the number that a first surrogate has already refuted.

    Args:
        store: where examinations are.
        records: models of the comparison.
        frame: its accuracies, with `model_key` and `n_samples`.
    """
    sizes = frame.groupby("model_key")["n_samples"].max()
    shown = set(zip(frame["model_key"], frame["norm"], frame["eps"], strict=True))
    found: dict[tuple[str, float], list[str]] = {}
    for record in records:
        size = int(sizes[record.key])
        by_threat: dict[tuple[str, float], list[Examination]] = {}
        for one in store.examinations(model_key=record.key):
            if one.weights_digest == record.weights_digest:
                by_threat.setdefault((one.norm, one.eps), []).append(one)
        for threat, examined in by_threat.items():
            said = _first_remedy(examined, size) if (record.key, *threat) in shown else None
            if said is not None:
                found.setdefault(threat, []).append(f"{record.name} {said}")
    radii: dict[tuple[str, str], list[str]] = {}  # where the same is said of several, once
    for (norm, eps), nets in sorted(found.items()):
        radii.setdefault((norm, ", ".join(nets)), []).append(f"{eps:g}")
    return [
        f"gradients are hidden, and a first remedy leaves at most ({norm} eps {', '.join(eps)}): "
        f"{nets}; drelu attack --suite adaptive examines them"
        for (norm, nets), eps in radii.items()
    ]


def _first_remedy(examined: Sequence[Examination], size: int) -> str | None:
    """What a remedy left of one net under one threat; None where the court has sat on this list.

    Of runs on other numbers of samples the longest, and it says so.
    """
    if any(one.complete and one.count == size for one in examined):
        return None
    left = {
        one.count: min(row["robust_accuracy"] for row in one.remedy if row["broken"])
        for one in examined
        if not one.complete and any(row["broken"] for row in one.remedy)
    }
    if not left:
        return None
    count = size if size in left else max(left)
    of = "" if count == size else f" of its {count} samples"
    return f"{100 * left[count]:.2f} %{of}"


def verdict_document(examination: Examination | None, *, beside: bool = False) -> dict[str, Any]:
    """The `verdict` of the JSON document; shares as fractions.

    Args:
        examination: what is stored, or None.
        beside: the threat is a minimal-norm attack's own beside the one asked for: no court sits
            on it, and a note says so.
    """
    if examination is None:
        notes = [BESIDE] if beside else []
        return {"word": NOT_EXAMINED, "evidence": [], "remedy": [], "control": None, "notes": notes}
    return {
        "word": examination.word,
        "evidence": [_evidence(one) for one in examination.evidence],
        "remedy": [dict(one) for one in examination.remedy],
        "control": None if examination.control is None else dict(examination.control),
        "notes": list(examination.notes),
    }


def _evidence(one: Evidence) -> dict[str, Any]:
    return {
        "check": one.check,
        "point": one.point,
        "value": one.value,
        "threshold": one.threshold,
        "flag": one.flag,
        "mechanism": one.mechanism,
        "attacks": list(one.attacks),
        "detail": one.detail,
    }


def adaptive_share(
    store: Store,
    record: ModelRecord,
    threat: ThreatModel,
    examination: Examination | None,
    rows: Sequence[int],
) -> float | None:
    """Share unbroken by every stored attack of this threat; None where the court has not ended.

    Every stored attack: any options, any attack seed, any engine, whatever it was run for.
    """
    if examination is None or not examination.complete:
        return None
    lists = []
    for stored in store.evaluations(model_key=record.key):
        one = stored.evaluation
        if one.threat != threat or one.weights_digest != record.weights_digest:
            continue
        known = store.stored_samples(stored.key)
        there = [row for row in rows if row in known]
        found = dict(zip(there, store.states(stored.key, there), strict=True))
        lists.append([int(found.get(row, State.NOT_RUN)) for row in rows])
    return robust_share(merged(lists))
