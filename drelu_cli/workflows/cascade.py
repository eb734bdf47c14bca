"""Survivors: what ran before an attack, what of it enters the key, which samples are left."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from drelu_cli.core.digest import digest_of
from drelu_cli.core.records import OWN, Evaluation, ModelRecord, State, cascade_text
from drelu_cli.store.connect import Store
from drelu_cli.workflows.plan import Task


def answers(
    record: ModelRecord,
    task: Task,
    before: Sequence[Task],
    *,
    seed: int,
    engine: str = OWN,
    rows: Sequence[int] = (),
    provenance: dict[str, Any] | None = None,
) -> list[Evaluation]:
    """The evaluations that answer a task: the full run, then the one on survivors if it is asked.

    Args:
        record: the model.
        task: attack and threat.
        before: the tasks that ran earlier, those that leave nothing to it included.
        seed: the attack seed.
        engine: `drelu`, or an outside engine's label; its outcomes depend on `rows`.
        rows: the whole list of samples.
        provenance: stored with the evaluation.
    """
    samples = "" if engine == OWN else digest_of({"samples": list(rows)})
    earlier = predecessors(task, before)
    texts = [cascade_text("", "", samples)]
    if earlier and not (task.named and task.cascading):
        texts.append(cascade_text(_described(task, earlier), _digest(earlier), samples))
    return [
        Evaluation.of(
            record,
            task.bound,
            task.threat,
            seed=seed,
            engine=engine,
            cascade=text,
            provenance=provenance,
        )
        for text in texts
    ]


def predecessors(task: Task, before: Sequence[Task]) -> list[Task]:
    """Those of the earlier tasks whose broken samples this one leaves out."""
    return [one for one in before if one.comes_before(task)]


def survivors(store: Store, keys: Sequence[str], rows: Sequence[int]) -> list[bool]:
    """For each of `rows`: whether none of the finished evaluations `keys` has broken it."""
    left = [True] * len(rows)
    for key in keys:
        states = store.states(key, rows)
        left = [
            stands and state != State.BROKEN for stands, state in zip(left, states, strict=True)
        ]
    return left


def borrow(store: Store, evaluation: Evaluation, rows: Sequence[int]) -> list[int]:
    """Takes over outcomes that another run of the same attack has stored; gives what is missing.

    A sample's outcome does not depend on which others were left: a full run, a cascade and a
    curve may share it. Of outside engines nothing is shared.
    """
    missing = list(rows)
    if evaluation.engine != OWN:
        return missing
    same = replace(evaluation, cascade=None).key
    for other in store.evaluations(model_key=evaluation.model_key):
        if not missing or replace(other.evaluation, cascade=None).key != same:
            continue
        stored = store.stored_samples(other.key)
        known = store.outcomes(other.key, [row for row in missing if row in stored])
        found = [outcome for outcome in known if outcome.state is not State.NOT_RUN]
        if found:
            seconds = other.seconds * len(found) / other.samples
            store.add_outcomes(evaluation, found, seconds=seconds)
            taken = {outcome.sample for outcome in found}
            missing = [row for row in missing if row not in taken]
    return missing


def _described(task: Task, earlier: Sequence[Task]) -> str:
    """`eps 0.01, 0.02; apgd_ce, apgd_t`: smaller radii, then attacks at the same radius."""
    radii = dict.fromkeys(one.threat.eps for one in earlier if one.threat != task.threat)
    attacks = [one.bound.name for one in earlier if one.threat == task.threat]
    parts = [f"eps {', '.join(f'{eps:g}' for eps in radii)}"] if radii else []
    parts += [", ".join(attacks)] if attacks else []
    return "; ".join(parts)


def _digest(earlier: Sequence[Task]) -> str:
    return digest_of(
        {
            "before": [
                {
                    "attack": dict(one.bound.identity),
                    "version": int(getattr(one.bound.target, "version", 0)),
                    "eps": one.threat.eps,
                }
                for one in earlier
            ]
        }
    )
