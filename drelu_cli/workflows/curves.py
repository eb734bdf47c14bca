"""Robust accuracy over the radius, from one ascending pass or from one run's distances."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Any

from drelu_cli.core.records import OWN, ModelRecord, Outcome, State
from drelu_cli.evaluation.columns import cumulative
from drelu_cli.evaluation.judge import TOLERANCE
from drelu_cli.store.connect import Store
from drelu_cli.workflows.entries import Done, known_states, share_with_interval
from drelu_cli.workflows.plan import Wanted


def curves_of(
    record: ModelRecord, done: Sequence[Done], wanted: Wanted, store: Store, *, engine: str = OWN
) -> list[dict[str, Any]]:
    """One curve per attack, and one for a cascading suite as a whole, in the order they ran."""
    groups: dict[str, list[Done]] = {}
    for one in done:
        groups.setdefault(_family(one), []).append(one)
    return [
        {
            "model": record.key,
            "name": record.name,
            "dataset": record.dataset,
            **_of_group(group, done, wanted, store),
            "engine": engine,
            "samples": len(group[0].rows),
        }
        for group in groups.values()
    ]


def _family(one: Done) -> str:
    """What the points of one curve share."""
    task = one.task
    return task.threat.norm if task.cascading else f"{task.threat.norm}{task.bound.identity}"


def _of_group(
    group: Sequence[Done], done: Sequence[Done], wanted: Wanted, store: Store
) -> dict[str, Any]:
    task = group[0].task
    if task.radii:
        points = _read_off(group[0].outcomes(store), task.radii)
    else:
        points = [
            _point(threat.eps, list(at), done, store)
            for threat, at in groupby(group, key=lambda one: one.task.threat)
        ]
    return {
        "attack": wanted.suite if task.cascading else task.bound.name,
        "params": {} if task.cascading else dict(task.bound.effective),
        "norm": task.threat.norm,
        "points": points,
    }


def _point(eps: float, at: Sequence[Done], done: Sequence[Done], store: Store) -> dict[str, Any]:
    """What is left at one radius; `samples_run` is what the first attack there ran on."""
    left = cumulative([known_states(one, done, store) for one in at])[-1]
    run = sum(state != State.NOT_RUN for state in at[0].states(store))
    return {"eps": eps, **share_with_interval(left), "samples_run": run}


def _read_off(outcomes: Sequence[Outcome], radii: Sequence[float]) -> list[dict[str, Any]]:
    """The curve of a run that sought the smallest distance: broken where it is at most eps.

    With the tolerance of every ball.
    """
    points = []
    for eps in radii:
        within = [one.state is State.BROKEN and one.distance <= eps + TOLERANCE for one in outcomes]
        states = [State.BROKEN if fell else State.ROBUST for fell in within]
        points.append({"eps": eps, **share_with_interval(states), "samples_run": len(outcomes)})
    return points
