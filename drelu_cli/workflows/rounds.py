"""Remedies in rounds on what stands, and the control beside them; all of it stored."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import ceil
from typing import Any

from drelu_cli.attacks.costs import allotted
from drelu_cli.core.errors import ModelError, UnknownName
from drelu_cli.core.quantities import part_text
from drelu_cli.core.records import Outcome, State, ThreatModel
from drelu_cli.core.registry import Bound
from drelu_cli.evaluation.remedy import (
    MAX_ROUNDS,
    beyond_surrogates,
    control,
    next_round,
    quick_round,
    through_surrogates,
)
from drelu_cli.evaluation.verdict import MORE_THAN_CONTROL, Contest, contest
from drelu_cli.workflows.court import Trial
from drelu_cli.workflows.entries import Done
from drelu_cli.workflows.evidence import measured
from drelu_cli.workflows.plan import no_longer_than
from drelu_cli.workflows.runs import (
    identity,
    plain_attacks,
    plain_identities,
    run_on,
    standing,
)

_AFTER_PLAIN = "the plain attacks"


def quick_remedy(
    trial: Trial, threat: ThreatModel, runs: Mapping[str, Sequence[Outcome]], done: Sequence[Done]
) -> list[dict[str, Any]]:
    """As many attacks through surrogates as cost less than what the call has run."""
    classes, count = trial.splits.classes, len(trial.rows)
    here = [one.task.bound for one in done if one.task.threat == threat]
    budget = count * sum(allotted(bound, classes) for bound in here)
    stands = standing(list(runs.values()))
    most = trial.court.wanted.max_steps
    planned = quick_round(trial.model, measured(trial), threat, classes)
    planned = [bound for bound in planned if no_longer_than(bound, most)]
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
    before = plain_identities(runs)
    _, rows, _, _ = _remedies(trial, threat, affordable, stands, before, number=1)
    return rows


def remedy_rounds(
    trial: Trial, threat: ThreatModel, stands: Sequence[bool]
) -> tuple[list[dict[str, Any]], list[bool], list[int]]:
    """Round after round until one changes nothing or the budget ends.

    Returns:
        What each attack broke; who is left; the passes spent on each sample.
    """
    left, spent = list(stands), [0] * len(stands)
    found: list[dict[str, Any]] = []
    before = plain_identities(plain_attacks(threat.norm))

    def run(bounds: Sequence[Bound], number: int) -> list[Bound]:
        """Those of the attacks that broke something."""
        nonlocal left, spent
        ran, rows, left, passes = _remedies(trial, threat, bounds, left, before, number=number)
        found.extend(rows)
        spent = [a + b for a, b in zip(spent, passes, strict=True)]
        before.extend(identity(bound) for bound in ran)
        return [bound for bound, row in zip(ran, rows, strict=True) if row["broken"]]

    about = trial.model, measured(trial), threat, trial.splits.classes
    effective = run(through_surrogates(*about), 1)
    effective += run(beyond_surrogates(*about, _most_effective(found)), 1)
    for number in range(2, MAX_ROUNDS + 1):
        if not effective:
            break
        effective = run(next_round(effective, number), number)
    return found, left, spent


def _most_effective(found: Sequence[Mapping[str, Any]]) -> list[str]:
    """The surrogates that broke something, the one that broke most first."""
    broken: dict[str, int] = {}
    for row in found:
        slope = row["params"]["backward"]
        broken[slope] = broken.get(slope, 0) + row["broken"]
    return sorted((one for one in broken if broken[one]), key=lambda one: -broken[one])


def _remedies(
    trial: Trial,
    threat: ThreatModel,
    bounds: Sequence[Bound],
    stands: Sequence[bool],
    before: Sequence[object],
    *,
    number: int,
) -> tuple[list[Bound], list[dict[str, Any]], list[bool], list[int]]:
    """One attack after the other, each on what the ones before left standing.

    Returns:
        The attacks that ran; what each broke; who is left; the passes spent on each sample.
    """
    left, spent = list(stands), [0] * len(stands)
    earlier = list(before)
    found: list[dict[str, Any]] = []
    ran: list[Bound] = []
    for bound in bounds:
        if not any(left):
            break
        after = f"{_AFTER_PLAIN}, {len(earlier) - len(before)} remedies"
        try:
            outcomes = run_on(trial, bound, threat, left, after=after, before=earlier)
        except (ModelError, UnknownName) as problem:
            name = part_text(bound.name, bound.changed)
            trial.court.context.note(f"{trial.record.name}: without {name}: {problem.message}")
            continue
        ran.append(bound)
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
    return ran, found, left, spent


def against_control(
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
    before = plain_identities(plain_attacks(threat.norm))
    outcomes = run_on(trial, control(passes), threat, stands, after=_AFTER_PLAIN, before=before)
    fell = [
        stays and one.state is State.BROKEN for stays, one in zip(stands, outcomes, strict=True)
    ]
    kept = [place for place, stays in enumerate(stands) if stays]
    return contest([broken[place] for place in kept], [fell[place] for place in kept], total)
