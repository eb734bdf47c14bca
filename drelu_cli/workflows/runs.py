"""Stored runs as the court reads them: full ones by name, and those it asks for itself."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from drelu_cli.attacks.augment import bind_attack
from drelu_cli.core.digest import digest_of
from drelu_cli.core.records import (
    OWN,
    Evaluation,
    ModelRecord,
    Outcome,
    State,
    ThreatModel,
    cascade_text,
)
from drelu_cli.core.registry import Bound
from drelu_cli.evaluation.columns import AUTOATTACK, CLAIMED
from drelu_cli.evaluation.suite import not_run
from drelu_cli.runtime.provenance import provenance
from drelu_cli.store.connect import Store
from drelu_cli.workflows.court import Trial
from drelu_cli.workflows.verdicts import COURT, PURPOSE


def plain_attacks(norm: str) -> tuple[str, ...]:
    """The attacks of the claimed and the standard column, in suite order."""
    return tuple(dict.fromkeys((*CLAIMED[norm], *AUTOATTACK)))


def full_runs(
    store: Store, record: ModelRecord, threat: ThreatModel, seed: int, rows: Sequence[int]
) -> dict[str, list[Outcome]]:
    """Outcomes on `rows` of the plain attacks that ran at default parameters, by name.

    Independent runs only: what ran on survivors says nothing about the samples it left out.
    """
    keys = run_keys(store, record, threat, seed, rows)
    return {name: store.outcomes(key, rows) for name, key in keys.items()}


def run_keys(
    store: Store, record: ModelRecord, threat: ThreatModel, seed: int, rows: Sequence[int]
) -> dict[str, str]:
    """Keys of the runs that `full_runs` finds, by name."""
    found: dict[str, tuple[int, str]] = {}
    for stored in store.evaluations(model_key=record.key):
        one = stored.evaluation
        newer = one.version >= found.get(one.attack, (0, ""))[0]
        fits = newer and _is_plain(one, record, threat, seed)
        if fits and set(rows) <= store.stored_samples(stored.key):
            found[one.attack] = (one.version, stored.key)
    order = plain_attacks(threat.norm)
    return {name: found[name][1] for name in order if name in found}


def _is_plain(one: Evaluation, record: ModelRecord, threat: ThreatModel, seed: int) -> bool:
    return (
        one.threat == threat
        and one.seed == seed
        and one.engine == OWN
        and not one.given
        and not one.survivors_only
        and one.weights_digest == record.weights_digest
    )


def standing(runs: Sequence[Sequence[Outcome]]) -> list[bool]:
    """Per sample: broken by none of the runs; what did not run breaks nothing."""
    return [
        all(one.state is not State.BROKEN for one in column) for column in zip(*runs, strict=True)
    ]


def run_on(
    trial: Trial,
    bound: Bound,
    threat: ThreatModel,
    stands: Sequence[bool] | None = None,
    *,
    after: str = "",
    before: Sequence[object] = (),
) -> list[Outcome]:
    """Runs one attack, in full or on what stands; what is stored is not repeated.

    Args:
        trial: model, data and list.
        bound: the attack.
        threat: norm and radius.
        stands: (N,) which samples of the list it runs on; None: all.
        after: for people, what the others were broken by.
        before: what decides which samples stand; it enters the key.

    Returns:
        One outcome per sample of the list.
    """
    court, rows = trial.court, trial.rows
    cascade = None if stands is None else cascade_text(after, digest_of({"before": list(before)}))
    evaluation = Evaluation.of(
        trial.record,
        bound,
        threat,
        seed=court.wanted.seed,
        cascade=cascade,
        provenance={**provenance(str(court.device)), PURPOSE: COURT},
    )
    stored = court.store.stored_samples(evaluation.key)
    missing = [row for row in rows if row not in stored]
    if stands is not None and missing:
        left = {row for row, stays in zip(rows, stands, strict=True) if stays}
        fallen = [row for row in missing if row not in left]
        if fallen:
            clean = _clean(trial, threat, fallen)
            court.store.add_outcomes(evaluation, not_run(fallen, clean), seconds=0.0)
        missing = [row for row in missing if row in left]
    if missing:
        trial.run(evaluation, bound, missing)
    return court.store.outcomes(evaluation.key, rows)


def _clean(trial: Trial, threat: ThreatModel, rows: Sequence[int]) -> list[int]:
    """Predicted classes of the clean inputs, from any full run."""
    store, seed = trial.court.store, trial.court.wanted.seed
    runs = full_runs(store, trial.record, threat, seed, trial.rows)
    known = {outcome.sample: outcome.clean_pred for run in runs.values() for outcome in run}
    return [known[row] for row in rows]


def identity(bound: Bound) -> dict[str, object]:
    """What of an attack decides which samples it leaves."""
    version = int(getattr(bound.target, "version", 0))
    return {"attack": dict(bound.identity), "version": version}


def plain_identities(names: Iterable[str]) -> list[object]:
    """The same of plain attacks at their defaults."""
    return [identity(bind_attack(name)) for name in names]
