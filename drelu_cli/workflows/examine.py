"""The court on one model and threat: evidence, remedy, control and the word that follows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import ceil
from typing import Any

from drelu_cli.attacks.costs import allotted
from drelu_cli.core.records import (
    NOT_EXAMINED,
    OWN,
    Evidence,
    Outcome,
    State,
    ThreatModel,
)
from drelu_cli.core.registry import Bound
from drelu_cli.evaluation.columns import robust_share
from drelu_cli.evaluation.remedy import (
    MAX_ROUNDS,
    beyond_surrogates,
    control,
    next_round,
    quick_round,
    through_surrogates,
)
from drelu_cli.evaluation.verdict import (
    MORE_THAN_CONTROL,
    TOO_WEAK,
    Contest,
    contest,
    mechanism_flags,
    strongest_plain,
    too_weak,
    verdict,
)
from drelu_cli.workflows.court import Trial
from drelu_cli.workflows.entries import Done
from drelu_cli.workflows.evidence import evidence_of, measured
from drelu_cli.workflows.runs import (
    full_runs,
    identity,
    plain_attacks,
    run_on,
    standing,
)
from drelu_cli.workflows.verdicts import examination_of

_AFTER_PLAIN = "the plain attacks"


def examine(trial: Trial, done: Sequence[Done]) -> None:
    """What follows the attacks of a call: the whole court after `adaptive`, else its cheap part.

    Args:
        trial: the model.
        done: the finished evaluations of the call.
    """
    wanted = trial.court.wanted
    if trial.court.label != OWN or wanted.curve is not None:
        return  # an outside engine's numbers, or radii that share their survivors
    for threat in dict.fromkeys(one.task.threat for one in done):
        if threat.norm != wanted.norm:
            continue  # a minimal-norm attack's threat of its own
        if wanted.adaptive:
            _examine_whole(trial, threat)
        else:
            _examine_cheaply(trial, threat, done)


def _examine_cheaply(trial: Trial, threat: ThreatModel, done: Sequence[Done]) -> None:
    """Evidence that costs little; with a mechanism flag, a short remedy that costs less."""
    store, seed = trial.court.store, trial.court.wanted.seed
    empty = examination_of(trial.record, threat, seed, trial.rows, NOT_EXAMINED)
    known = store.examination(empty.key)
    new = any(not one.reused for one in done if one.task.threat == threat)
    if known is not None and (known.complete or not new):
        return
    runs = full_runs(store, trial.record, threat, seed, trial.rows)
    if not runs:
        return
    evidence = evidence_of(trial, threat, runs, cheap_only=True)
    remedy: list[dict[str, Any]] = []
    if trial.court.wanted.remedy and mechanism_flags(evidence, strongest_plain(_own(runs))):
        remedy = _quick_remedy(trial, threat, runs, done)
    store.add_examination(replace(empty, evidence=evidence, remedy=tuple(remedy)))


def _quick_remedy(
    trial: Trial, threat: ThreatModel, runs: Mapping[str, Sequence[Outcome]], done: Sequence[Done]
) -> list[dict[str, Any]]:
    """As many attacks through surrogates as cost less than what the call has run."""
    classes, count = trial.splits.classes, len(trial.rows)
    budget = count * sum(allotted(one.task.bound, classes) for one in done)
    stands = standing(list(runs.values()))
    planned = quick_round(trial.model, measured(trial), threat, classes)
    affordable: list[Bound] = []
    for bound in planned:
        budget -= sum(stands) * allotted(bound, classes)
        if budget < 0:
            break
        affordable.append(bound)
    if not affordable:
        return []
    trial.court.context.note(
        f"{trial.record.name}: gradients are hidden; a first remedy follows ({len(affordable)} "
        "surrogate backward passes; --no-remedy leaves it out)"
    )
    names = [*runs]
    rows, _, _ = _remedies(trial, threat, affordable, stands, names, number=1)
    return rows


def _examine_whole(trial: Trial, threat: ThreatModel) -> None:
    """Evidence, remedy rounds, control and verdict; nothing where all of it is stored."""
    store, seed, record = trial.court.store, trial.court.wanted.seed, trial.record
    empty = examination_of(record, threat, seed, trial.rows, NOT_EXAMINED)
    known = store.examination(empty.key)
    if known is not None and known.complete:
        return
    runs = full_runs(store, record, threat, seed, trial.rows)
    evidence = evidence_of(trial, threat, runs, cheap_only=False)
    stands = standing(list(runs.values()))
    remedy, left, spent = _rounds(trial, threat, stands)
    broken = [before and not after for before, after in zip(stands, left, strict=True)]
    outcome = _control(trial, threat, stands, broken, spent)
    own = _own(runs)
    word = verdict(evidence, own, outcome, done=True)
    store.add_examination(
        replace(
            empty,
            word=word,
            complete=True,
            evidence=evidence,
            remedy=tuple(remedy),
            control=_control_row(outcome),
            notes=tuple(_notes(evidence, own, sum(broken), len(trial.rows))),
        )
    )


def _own(runs: Mapping[str, Sequence[Outcome]]) -> dict[str, float]:
    """Own robust accuracy by attack, in suite order."""
    shares = {name: robust_share([int(one.state) for one in run]) for name, run in runs.items()}
    return {name: share for name, share in shares.items() if share is not None}


def _rounds(
    trial: Trial, threat: ThreatModel, stands: Sequence[bool]
) -> tuple[list[dict[str, Any]], list[bool], list[int]]:
    """Round after round until one changes nothing or the budget ends.

    Returns:
        What each attack broke; who is left; the passes spent on each sample.
    """
    left, spent = list(stands), [0] * len(stands)
    found: list[dict[str, Any]] = []
    before: list[object] = list(plain_attacks(threat.norm))

    def run(bounds: Sequence[Bound], number: int) -> list[Bound]:
        """Those of the attacks that broke something."""
        nonlocal left, spent
        rows, left, passes = _remedies(trial, threat, bounds, left, before, number=number)
        found.extend(rows)
        spent = [a + b for a, b in zip(spent, passes, strict=True)]
        before.extend(identity(bound) for bound in bounds)
        return [bound for bound, row in zip(bounds, rows, strict=True) if row["broken"]]

    about = trial.model, measured(trial), threat, trial.splits.classes
    effective = run(through_surrogates(*about), 1)
    slopes = dict.fromkeys(str(bound.effective["backward"]) for bound in effective)
    effective += run(beyond_surrogates(*about, list(slopes)), 1)
    for number in range(2, MAX_ROUNDS + 1):
        if not effective:
            break
        effective = run(next_round(effective, number), number)
    return found, left, spent


def _remedies(
    trial: Trial,
    threat: ThreatModel,
    bounds: Sequence[Bound],
    stands: Sequence[bool],
    before: Sequence[object],
    *,
    number: int,
) -> tuple[list[dict[str, Any]], list[bool], list[int]]:
    """One attack after the other, each on what the ones before left standing."""
    left, spent = list(stands), [0] * len(stands)
    earlier = list(before)
    found: list[dict[str, Any]] = []
    for bound in bounds:
        after = f"{_AFTER_PLAIN}, {len(earlier) - len(before)} remedies"
        outcomes = run_on(trial, bound, threat, left, after=after, before=earlier)
        earlier.append(identity(bound))
        fallen = [
            stays and one.state is State.BROKEN for stays, one in zip(left, outcomes, strict=True)
        ]
        left = [stays and not fell for stays, fell in zip(left, fallen, strict=True)]
        spent = [
            total + one.forwards + one.backwards for total, one in zip(spent, outcomes, strict=True)
        ]
        row = {
            "attack": bound.name,
            "params": dict(bound.changed),
            "round": number,
            "broken": sum(fallen),
            "robust_accuracy": sum(left) / len(left),
        }
        found.append(row)
        trial.court.context.progress("remedy", {**trial.at, **row, "eps": threat.eps})
    return found, left, spent


def _control(
    trial: Trial,
    threat: ThreatModel,
    stands: Sequence[bool],
    broken: Sequence[bool],
    spent: Sequence[int],
) -> Contest | None:
    """Plain gradients with as many passes; None where the remedy broke too little to matter."""
    total, count = len(stands), sum(stands)
    if sum(broken) / total < MORE_THAN_CONTROL:
        return None
    passes = ceil(sum(spent) / count)
    before = list(plain_attacks(threat.norm))
    outcomes = run_on(trial, control(passes), threat, stands, after=_AFTER_PLAIN, before=before)
    fell = [
        stays and one.state is State.BROKEN for stays, one in zip(stands, outcomes, strict=True)
    ]
    kept = [place for place, stays in enumerate(stands) if stays]
    return contest([broken[place] for place in kept], [fell[place] for place in kept], total)


def _control_row(outcome: Contest | None) -> dict[str, Any] | None:
    if outcome is None:
        return None
    return {"broken": outcome.control, "p": outcome.p, "remedy_broken": outcome.remedy}


def _notes(
    evidence: Sequence[Evidence], own: Mapping[str, float], broken: int, total: int
) -> list[str]:
    """What is to be said beside the word."""
    notes = []
    if too_weak(evidence, own, broken, total):
        notes.append(
            f"{TOO_WEAK}: the remedy broke {broken} of {total} though nothing hides gradients; "
            "the plain attacks were too weak, the net is not at fault"
        )
    speaking = {attack for one in evidence if one.flag and one.mechanism for attack in one.attacks}
    strongest = strongest_plain(own)
    if speaking and strongest not in speaking:
        named = ", ".join(name for name in own if name in speaking)
        notes.append(f"{named} failed by the flags above; {strongest}, the strongest, did not")
    return notes
