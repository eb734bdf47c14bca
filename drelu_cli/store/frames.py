"""Accuracies of everything stored, as one long pandas frame."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from drelu_cli.core.errors import StoreError, UnknownName
from drelu_cli.core.records import OWN, ModelRecord, State
from drelu_cli.store.archive import Store
from drelu_cli.store.chunks import OutcomeColumns, clean_correct
from drelu_cli.store.evaluations import StoredEvaluation
from drelu_cli.store.exports import export_frame, write_export
from drelu_cli.store.rows import MODEL_COLUMNS, of_evaluation, of_model

__all__ = ["ACCURACY_COLUMNS", "accuracy_frame", "export_frame", "write_export"]

ACCURACY_COLUMNS = (
    *MODEL_COLUMNS, "attack", "options", "norm", "eps", "n_samples", "accuracy",
    "median_distance", "forwards_per_sample", "engine", "cascade", "attack_seed", "evaluation",
)  # fmt: skip


def accuracy_frame(
    store: Store, *, samples: int | None = None, where: Mapping[str, str] | None = None
) -> pd.DataFrame:
    """One row per model and evaluation, and one `clean` row per model and data set.

    Columns: ACCURACY_COLUMNS. `accuracy` is the fraction of robust samples among all samples,
    NaN where the attack ran on survivors only (`cascade` says after what). `median_distance` is
    over the samples that the attack broke, clean errors left out. `options` is what the user
    gave beside the defaults, e.g. `restarts=5,steps=100`. The clean row has norm '' and eps 0,
    and is known from the
    evaluations: a model that was never attacked has no row. Only evaluations of the weights
    that are registered now count.

    Args:
        store: where the outcomes are.
        samples: take exactly the first so many of the stored sample order, and leave out
            evaluations that do not cover them; None takes whatever each evaluation has.
        where: keep rows whose column has this value, e.g. `{"dataset": "digits"}`; clean rows
            belong to every norm and eps.

    Raises:
        UnknownName: `where` names no column.
        StoreError: `samples` without a stored sample order.
    """
    rows = [row for model in store.models() for row in _model_rows(store, model, samples)]
    frame = pd.DataFrame(rows, columns=pd.Index(ACCURACY_COLUMNS))
    frame = frame.astype({"seed": "Int64", "attack_seed": "Int64", "lambda": float, "cap": float})
    return _selected(frame, where or {})


def _model_rows(store: Store, model: ModelRecord, samples: int | None) -> Iterator[dict[str, Any]]:
    """The rows of one model: clean first, then its evaluations, oldest first."""
    columns: dict[str, list[OutcomeColumns]] = {}
    rows = []
    names = {}
    for stored in _newest(store.evaluations(model_key=model.key)):
        evaluation = stored.evaluation
        if evaluation.weights_digest != model.weights_digest or not stored.samples:
            continue
        found = store.columns(stored.key)
        columns.setdefault(evaluation.dataset_digest, []).append(found)
        names[evaluation.dataset_digest] = evaluation.dataset
        chosen = _chosen(store, stored, found, samples)
        if chosen is not None:
            rows.append(_attack_row(model, stored, chosen))
    for digest, parts in columns.items():
        clean = _clean(parts, _wanted(store, digest, names[digest], samples))
        if clean is not None:
            yield {**of_model(model), **_clean_row(clean), "dataset": names[digest]}
    yield from rows


def _newest(evaluations: Sequence[StoredEvaluation]) -> list[StoredEvaluation]:
    """Of evaluations that differ only in the attack's version, the one of the newest version."""
    best: dict[str, StoredEvaluation] = {}
    for stored in evaluations:
        # The key with the version taken out: what two versions of one attack share.
        same = replace(stored.evaluation, version=0).key
        known = best.get(same)
        if known is None or stored.evaluation.version > known.evaluation.version:
            best[same] = stored
    kept = {stored.key for stored in best.values()}
    return [stored for stored in evaluations if stored.key in kept]


def _wanted(store: Store, digest: str, dataset: str, samples: int | None) -> tuple[int, ...] | None:
    """The first `samples` of the data set's stored order; None for all there are."""
    if samples is None:
        return None
    order = store.sample_order(digest)
    if order is None:
        raise StoreError(
            f"no sample order is stored for the data set {dataset}",
            hint="run drelu attack on it once",
        )
    return order[:samples]


def _chosen(
    store: Store, stored: StoredEvaluation, found: OutcomeColumns, samples: int | None
) -> OutcomeColumns | None:
    """The outcomes that count, or None where the evaluation does not cover the list."""
    evaluation = stored.evaluation
    wanted = _wanted(store, evaluation.dataset_digest, evaluation.dataset, samples)
    if wanted is None:
        return found
    if evaluation.engine != OWN and len(found) != len(wanted):
        return None  # an outside engine's outcomes belong to the list that it was given
    mask = np.isin(found.sample, wanted)
    return found.rows(mask) if int(mask.sum()) == len(wanted) else None


def _clean(
    parts: Sequence[OutcomeColumns], wanted: tuple[int, ...] | None
) -> dict[int, bool] | None:
    """Sample to clean-correct, from every evaluation that ran it; None where one is missing."""
    known: dict[int, bool] = {}
    for part in parts:
        run = part.rows(part.state != State.NOT_RUN)
        for sample, correct in zip(run.sample.tolist(), clean_correct(run).tolist(), strict=True):
            known.setdefault(sample, correct)
    if wanted is not None:
        if not set(wanted) <= known.keys():
            return None
        known = {sample: known[sample] for sample in wanted}
    return known or None


def _clean_row(clean: Mapping[int, bool]) -> dict[str, Any]:
    return {
        "attack": "clean",
        "options": "",
        "norm": "",
        "eps": 0.0,
        "n_samples": len(clean),
        "accuracy": sum(clean.values()) / len(clean),
        "median_distance": math.nan,
        "forwards_per_sample": math.nan,
        "engine": "",
        "cascade": "",
        "attack_seed": None,
        "evaluation": "",
    }


def _attack_row(
    model: ModelRecord, stored: StoredEvaluation, chosen: OutcomeColumns
) -> dict[str, Any]:
    broken = chosen.distance[(chosen.state == State.BROKEN) & clean_correct(chosen)]
    left_out = stored.evaluation.survivors_only or (chosen.state == State.NOT_RUN).any()
    return {
        **of_model(model),
        **of_evaluation(stored),
        "n_samples": len(chosen),
        "accuracy": math.nan if left_out else float((chosen.state == State.ROBUST).mean()),
        "median_distance": float(np.median(broken)) if len(broken) else math.nan,
        "forwards_per_sample": float(chosen.forwards.mean()),
    }


def _selected(frame: pd.DataFrame, where: Mapping[str, str]) -> pd.DataFrame:
    for column, text in where.items():
        if column not in frame.columns:
            raise UnknownName.among("column", column, [str(name) for name in frame.columns])
        keep = frame[column].map(lambda value, text=text: _means(value, text)).astype(bool)
        if column in ("norm", "eps"):
            keep |= frame["attack"] == "clean"
        frame = frame[keep]
    return frame.reset_index(drop=True)


def _means(value: Any, text: str) -> bool:
    """Whether a cell has the value that `text` spells: 0.10 is 0.1."""
    if str(value) == text:
        return True
    try:
        return float(value) == float(text)
    except (TypeError, ValueError):
        return False
