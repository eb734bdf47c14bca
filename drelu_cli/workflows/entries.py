"""Stored outcomes as the entries that `drelu attack` reports: one per model, norm and eps."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from drelu_cli.core.records import OWN, Evaluation, ModelRecord, Outcome, State
from drelu_cli.evaluation.columns import columns, cumulative, merged, robust_share
from drelu_cli.stats.outcomes import wilson_interval
from drelu_cli.store.connect import Store
from drelu_cli.store.evaluations import StoredEvaluation
from drelu_cli.workflows.certificates import certificate_of, certified_share
from drelu_cli.workflows.plan import Task, Wanted
from drelu_cli.workflows.verdicts import adaptive_share, stored_examination, verdict_document

# Findings about an outside engine; they belong to its results alone.
OUTSIDE_FINDING = "engine-"
UNDEFINED = "-undefined"


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

    def states(self, store: Store) -> list[int]:
        """Only their states."""
        return [int(state) for state in store.states(self.key, self.rows)]

    def summary(self, store: Store) -> dict[str, Any]:
        """What a progress line shows."""
        states = self.states(store)
        run = [state for state in states if state != State.NOT_RUN]
        return {
            "attack": self.task.bound.name,
            "norm": self.task.threat.norm,
            "eps": self.task.threat.eps,
            "robust_accuracy": robust_share(states),
            "samples": len(states),
            "samples_run": len(run),
            "broken": sum(state == State.BROKEN for state in run),
            "reused": self.reused,
        }


def entries_of(
    record: ModelRecord, done: Sequence[Done], wanted: Wanted, store: Store, *, engine: str = OWN
) -> list[dict[str, Any]]:
    """The report entries of one model, grouped by threat in the order they ran."""
    order = {threat: n for n, threat in enumerate(dict.fromkeys(d.task.threat for d in done))}
    ranked = sorted(done, key=lambda one: order[one.task.threat])
    clean = clean_accuracy(done, store)
    stored = {one.key: one for one in store.evaluations(model_key=record.key)}
    return [
        {
            "model": record.key,
            "name": record.name,
            "label": record.label,
            "dataset": record.dataset,
            "suite": wanted.suite,
            "engine": engine,
            "clean_accuracy": clean,
            **_threat_entry(list(group), done, stored, wanted, store, record),
            "findings": _findings(record, engine, wanted, store),
        }
        for _, group in groupby(ranked, key=lambda one: one.task.threat)
    ]


def _findings(
    record: ModelRecord, engine: str, wanted: Wanted, store: Store
) -> list[dict[str, str]]:
    """What is stored about the model, without what other engines and other suites left out."""
    undefined = {f"{attack}{UNDEFINED}" for attack in wanted.of_suite}
    return [
        {"code": finding.code, "detail": finding.detail}
        for finding in store.findings(record.key)
        if (not finding.code.startswith(OUTSIDE_FINDING) or finding.detail.startswith(engine))
        and (
            not finding.code.endswith(UNDEFINED)
            or finding.code.removeprefix(OUTSIDE_FINDING) in undefined
        )
    ]


def _threat_entry(
    group: Sequence[Done],
    done: Sequence[Done],
    stored: Mapping[str, StoredEvaluation],
    wanted: Wanted,
    store: Store,
    record: ModelRecord,
) -> dict[str, Any]:
    """What belongs to one threat."""
    threat = group[0].task.threat
    left = cumulative([known_states(one, done, store) for one in group])
    current = [
        one for one in stored.values() if one.evaluation.weights_digest == record.weights_digest
    ]
    fitting = _same_threat(current, group[0], wanted.seed)
    certificate = certificate_of(store, record, threat, group[0].rows)
    examination = stored_examination(store, record, threat, wanted.seed, group[0].rows)
    return {
        "threat": {"norm": threat.norm, "eps": threat.eps},
        "samples": len(group[0].rows),
        "attacks": [
            _attack(one, one.outcomes(store), after, stored[one.key])
            for one, after in zip(group, left, strict=True)
        ],
        "worst_case": share_with_interval(left[-1]),
        "columns": {
            **columns(threat.norm, _defaults(fitting, group[0].rows, store)),
            "adaptive": adaptive_share(store, record, threat, examination, group[0].rows),
            "certified": certified_share(certificate),
        },
        "certificate": certificate,
        "verdict": verdict_document(examination, beside=threat.norm != wanted.norm),
    }


def known_states(one: Done, done: Sequence[Done], store: Store) -> list[int]:
    """The states of an evaluation; along a curve, what a smaller radius broke is broken."""
    states = [one.states(store)]
    if one.task.ascending:
        earlier = [other for other in done if other.task.comes_before(one.task)]
        smaller = [other for other in earlier if other.task.threat != one.task.threat]
        states += [_broken_only(other.states(store)) for other in smaller]
    return merged(states)


def _broken_only(states: Sequence[int]) -> list[int]:
    """Robust at a smaller radius says nothing about a larger one."""
    return [state if state == State.BROKEN else State.NOT_RUN for state in states]


def clean_accuracy(done: Sequence[Done], store: Store) -> float:
    """The share that is classified correctly before any attack."""
    known: dict[int, bool] = {}
    for one in done:
        for outcome in one.outcomes(store):
            if outcome.state is not State.NOT_RUN:
                known.setdefault(outcome.sample, not outcome.clean_wrong)
        if len(known) == len(one.rows):
            break
    return sum(known.values()) / len(known)


def _same_threat(
    stored: Iterable[StoredEvaluation], like: Done, seed: int
) -> list[tuple[str, Evaluation]]:
    return [
        (one.key, one.evaluation)
        for one in stored
        if one.evaluation.threat == like.task.threat
        and one.evaluation.seed == seed
        and one.evaluation.engine == OWN
        and not one.evaluation.given
    ]


def _defaults(
    fitting: Sequence[tuple[str, Evaluation]], rows: Sequence[int], store: Store
) -> dict[str, list[int]]:
    """States by attack, of everything of ours stored at default parameters on this list.

    Columns belong to a threat and a list of samples, not to one call of a command. Runs on
    survivors count for the samples they ran on.
    """
    newest: dict[str, int] = {}
    for _, evaluation in fitting:
        newest[evaluation.attack] = max(evaluation.version, newest.get(evaluation.attack, 0))
    found: dict[str, list[list[int]]] = {}
    for key, evaluation in fitting:
        current = evaluation.version == newest[evaluation.attack]
        if current and set(rows) <= store.stored_samples(key):
            states = [int(state) for state in store.states(key, rows)]
            found.setdefault(evaluation.attack, []).append(states)
    return {attack: merged(lists) for attack, lists in found.items()}


def _attack(
    one: Done, outcomes: Sequence[Outcome], after: Sequence[int], stored: StoredEvaluation
) -> dict[str, Any]:
    states = [int(outcome.state) for outcome in outcomes]
    own = share_with_interval(states)
    run = [outcome for outcome in outcomes if outcome.state is not State.NOT_RUN]
    attacked = [outcome for outcome in run if not outcome.clean_wrong]
    distances = [o.distance for o in attacked if o.state is State.BROKEN]
    return {
        "attack": one.task.bound.name,
        "params": dict(one.task.bound.effective),
        "given": dict(one.task.bound.changed),
        "cascade": stored.evaluation.cascade,
        "robust_accuracy": own["robust_accuracy"],
        "cumulative_robust_accuracy": robust_share(after),
        "samples_run": len(run),
        "ci95": own["ci95"],
        "median_distance": statistics.median(distances) if distances else None,
        "forwards_per_sample": _mean([o.forwards for o in outcomes]),
        "backwards_per_sample": _mean([o.backwards for o in outcomes]),
        "seconds": stored.seconds,
        "reused": one.reused,
    }


def share_with_interval(states: Sequence[int]) -> dict[str, Any]:
    """`robust_accuracy` and `ci95` of a list of states; None where any was not run."""
    share = robust_share(states)
    if share is None:
        return {"robust_accuracy": None, "ci95": None}
    low, high = wilson_interval(round(share * len(states)), len(states))
    return {"robust_accuracy": share, "ci95": [low, high]}


def _mean(values: Sequence[int]) -> float:
    return sum(values) / len(values)
