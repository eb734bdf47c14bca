"""The court on one model and threat: evidence, remedy, control and the word that follows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from drelu_cli.core.records import NOT_EXAMINED, OWN, Evidence, Outcome, ThreatModel
from drelu_cli.evaluation.columns import robust_share
from drelu_cli.evaluation.verdict import (
    TOO_WEAK,
    Contest,
    deciding,
    mechanism_flags,
    strongest_plain,
    too_weak,
    verdict,
)
from drelu_cli.workflows.court import Trial
from drelu_cli.workflows.entries import Done
from drelu_cli.workflows.evidence import basis_of, evidence_of
from drelu_cli.workflows.rounds import against_control, quick_remedy, remedy_rounds
from drelu_cli.workflows.runs import full_runs, plain_attacks, run_keys, standing
from drelu_cli.workflows.verdicts import examination_of


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
            _examine_whole(trial, threat, done)
        else:
            _examine_cheaply(trial, threat, done)


def _examine_cheaply(trial: Trial, threat: ThreatModel, done: Sequence[Done]) -> None:
    """Evidence that costs little; with a mechanism flag, a short remedy that costs less."""
    store, seed = trial.court.store, trial.court.wanted.seed
    empty = examination_of(trial.record, threat, seed, trial.rows, NOT_EXAMINED)
    known = store.examination(empty.key)
    keys = run_keys(store, trial.record, threat, seed, trial.rows)
    basis = basis_of(trial, keys, cheap_only=True)
    if not keys or (known is not None and (known.complete or known.basis == basis)):
        return
    runs = full_runs(store, trial.record, threat, seed, trial.rows)
    evidence = evidence_of(trial, threat, runs, cheap_only=True)
    remedy: list[Mapping[str, Any]] = []
    if trial.court.wanted.remedy and _flagged(evidence, _own(runs)):
        remedy = [*quick_remedy(trial, threat, runs, done)]
    if not remedy and known is not None:
        remedy = list(known.remedy)  # what an earlier, dearer call could afford
    store.add_examination(replace(empty, evidence=evidence, remedy=tuple(remedy), basis=basis))


def _flagged(evidence: Sequence[Evidence], own: Mapping[str, float]) -> bool:
    return any(mechanism_flags(evidence, attack) for attack in deciding(evidence, own))


def _examine_whole(trial: Trial, threat: ThreatModel, done: Sequence[Done]) -> None:
    """Evidence, remedy rounds, control and verdict; nothing where all of it is stored."""
    store, seed, record = trial.court.store, trial.court.wanted.seed, trial.record
    empty = examination_of(record, threat, seed, trial.rows, NOT_EXAMINED)
    known = store.examination(empty.key)
    keys = run_keys(store, record, threat, seed, trial.rows)
    basis = basis_of(trial, keys, cheap_only=False)
    if known is not None and known.complete and known.basis == basis:
        return
    plain = set(plain_attacks(threat.norm))
    asked = {one.task.bound.name for one in done if one.task.threat == threat}
    if not asked & plain <= set(keys):
        trial.court.context.note(
            f"{record.name}: not examined, since not every plain attack ran with default options"
        )
        return
    runs = full_runs(store, record, threat, seed, trial.rows)
    evidence = evidence_of(trial, threat, runs, cheap_only=False)
    stands = standing(list(runs.values()))
    remedy, left, spent = remedy_rounds(trial, threat, stands)
    broken = [before and not after for before, after in zip(stands, left, strict=True)]
    outcome = against_control(trial, threat, stands, broken, spent)
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
            basis=basis,
            notes=tuple(_notes(evidence, own, sum(broken), len(trial.rows))),
        )
    )


def _own(runs: Mapping[str, Sequence[Outcome]]) -> dict[str, float]:
    """Own robust accuracy by attack, in suite order."""
    shares = {name: robust_share([int(one.state) for one in run]) for name, run in runs.items()}
    return {name: share for name, share in shares.items() if share is not None}


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
    if speaking and not _flagged(evidence, own):
        named = ", ".join(name for name in own if name in speaking)
        notes.append(f"{named} failed by the flags above; {strongest}, the strongest, did not")
    return notes
