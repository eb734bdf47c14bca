"""Stored outcomes as the entries that `drelu attack` reports: one per model, norm and eps."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from drelu_cli.core.records import NOT_EXAMINED, ModelRecord, Outcome, State
from drelu_cli.evaluation.columns import columns, cumulative, robust_share, wilson
from drelu_cli.store.connect import Store
from drelu_cli.store.evaluations import StoredEvaluation
from drelu_cli.workflows.plan import Task, Wanted


@dataclass(frozen=True)
class Done:
    """One finished evaluation on one list of samples."""

    task: Task
    key: str
    rows: tuple[int, ...]
    reused: bool

    def outcomes(self, store: Store) -> list[Outcome]:
        """The outcomes of this list, in its order."""
        return store.outcomes(self.key, self.rows)

    def summary(self, store: Store) -> dict[str, Any]:
        """What a progress line shows."""
        states = [int(state) for state in store.states(self.key, self.rows)]
        return {
            "attack": self.task.bound.name,
            "norm": self.task.threat.norm,
            "eps": self.task.threat.eps,
            "robust_accuracy": robust_share(states),
            "samples": len(states),
            "reused": self.reused,
        }


def entries_of(
    record: ModelRecord, done: Sequence[Done], wanted: Wanted, store: Store
) -> list[dict[str, Any]]:
    """The report entries of one model, grouped by threat in the order they ran."""
    order = {threat: n for n, threat in enumerate(dict.fromkeys(d.task.threat for d in done))}
    ranked = sorted(done, key=lambda one: order[one.task.threat])
    return [
        _entry(record, list(group), wanted, store)
        for _, group in groupby(ranked, key=lambda one: one.task.threat)
    ]


def _entry(
    record: ModelRecord, done: Sequence[Done], wanted: Wanted, store: Store
) -> dict[str, Any]:
    threat = done[0].task.threat
    outcomes = [one.outcomes(store) for one in done]
    states = [[int(outcome.state) for outcome in column] for column in outcomes]
    left = cumulative(states)
    evaluations = store.evaluations(model_key=record.key)
    seconds = {stored.key: stored.seconds for stored in evaluations}
    return {
        "model": record.key,
        "name": record.name,
        "label": record.label,
        "dataset": record.dataset,
        "suite": wanted.suite,
        "engine": "drelu",
        "threat": {"norm": threat.norm, "eps": threat.eps},
        "samples": len(done[0].rows),
        "clean_accuracy": _clean_accuracy(outcomes[0]),
        "attacks": [
            _attack(one, column, after, seconds.get(one.key))
            for one, column, after in zip(done, outcomes, left, strict=True)
        ],
        "worst_case": _share_with_interval(left[-1]),
        "columns": columns(threat.norm, _defaults(store, evaluations, done[0], wanted.seed)),
        "verdict": {"word": NOT_EXAMINED, "evidence": [], "remedy": [], "control": None},
        "findings": [
            {"code": finding.code, "detail": finding.detail}
            for finding in store.findings(record.key)
        ],
    }


def _defaults(
    store: Store, evaluations: Sequence[StoredEvaluation], like: Done, seed: int
) -> dict[str, list[int]]:
    """States by attack, of everything stored at default parameters for this threat and list.

    Columns belong to a threat and a list of samples, not to one call of a command.
    """
    found: dict[str, list[int]] = {}
    for stored in evaluations:
        evaluation = stored.evaluation
        fits = evaluation.threat == like.task.threat and evaluation.seed == seed
        own = evaluation.engine == "drelu" and evaluation.cascade is None
        if (
            fits
            and own
            and not evaluation.given
            and set(like.rows) <= store.stored_samples(stored.key)
        ):
            found[evaluation.attack] = [int(s) for s in store.states(stored.key, like.rows)]
    return found


def _attack(
    one: Done, outcomes: Sequence[Outcome], after: Sequence[int], seconds: float | None
) -> dict[str, Any]:
    states = [int(outcome.state) for outcome in outcomes]
    own = _share_with_interval(states)
    run = [outcome for outcome in outcomes if outcome.state is not State.NOT_RUN]
    attacked = [outcome for outcome in run if not outcome.clean_wrong]
    distances = [o.distance for o in attacked if o.state is State.BROKEN]
    return {
        "attack": one.task.bound.name,
        "params": dict(one.task.bound.effective),
        "robust_accuracy": own["robust_accuracy"],
        "cumulative_robust_accuracy": robust_share(after),
        "samples_run": len(run),
        "ci95": own["ci95"],
        "median_distance": statistics.median(distances) if distances else None,
        "forwards_per_sample": _mean([o.forwards for o in outcomes]),
        "backwards_per_sample": _mean([o.backwards for o in outcomes]),
        "seconds": seconds,
        "reused": one.reused,
    }


def _share_with_interval(states: Sequence[int]) -> dict[str, Any]:
    share = robust_share(states)
    if share is None:
        return {"robust_accuracy": None, "ci95": None}
    low, high = wilson(round(share * len(states)), len(states))
    return {"robust_accuracy": share, "ci95": [low, high]}


def _clean_accuracy(outcomes: Sequence[Outcome]) -> float:
    return 1.0 - sum(outcome.clean_wrong for outcome in outcomes) / len(outcomes)


def _mean(values: Sequence[int]) -> float:
    return sum(values) / len(values)
