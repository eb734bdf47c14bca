"""The checks of the court on one model: what they need is run, what they see is collected."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

from drelu_cli.activations.guide import UNCAPPED, guide_names
from drelu_cli.attacks.augment import bind_attack
from drelu_cli.attacks.augmented import probes
from drelu_cli.attacks.transfer import transfer_from
from drelu_cli.core.digest import digest_of
from drelu_cli.core.errors import BadValue, ModelError
from drelu_cli.core.quantities import parse_part
from drelu_cli.core.records import Evidence, ModelRecord, Outcome, ThreatModel
from drelu_cli.core.registry import Bound
from drelu_cli.evaluation.evidence import EVIDENCE
from drelu_cli.evaluation.evidence.contract import Case, Check, Need
from drelu_cli.evaluation.evidence.gradients import in_float64
from drelu_cli.evaluation.evidence.order import TWIN
from drelu_cli.evaluation.suite import check_fits
from drelu_cli.runtime.modes import evaluation_mode
from drelu_cli.store.connect import Store
from drelu_cli.workflows.court import Trial
from drelu_cli.workflows.measure import samples_of
from drelu_cli.workflows.runs import plain_attacks, plain_identities, run_on, standing
from drelu_cli.workflows.subjects import load_model


def evidence_of(
    trial: Trial, threat: ThreatModel, runs: Mapping[str, Sequence[Outcome]], *, cheap_only: bool
) -> tuple[Evidence, ...]:
    """What the registered checks see; without `cheap_only` the runs they need are made first.

    Args:
        trial: model, data and list.
        threat: norm and radius.
        runs: full runs of plain attacks by name.
        cheap_only: only checks that need no run of their own.
    """
    checks = _checks(cheap_only=cheap_only)
    stands = standing(list(runs.values()))
    outcomes: dict[str | Need, Sequence[Outcome]] = dict(runs.items())
    if not cheap_only:
        needs = dict.fromkeys(need for check in checks.values() for need in check.needs)
        outcomes |= dict(_answered(trial, threat, list(needs), stands))
    case = Case(
        model=trial.model,
        samples=samples_of(trial.splits.test, list(trial.rows), trial.court.device),
        classes=trial.splits.classes,
        threat=threat,
        seed=trial.court.wanted.seed,
        outcomes=outcomes,
        standing=stands,
    )
    found: list[Evidence] = []
    with evaluation_mode(trial.model):
        for name, check in checks.items():
            at = {**trial.at, "check": name, "eps": threat.eps}
            trial.court.context.progress("evidence", at)
            found += _seen(name, check, case, trial)
    return tuple(found)


def _seen(name: str, check: Check, case: Case, trial: Trial) -> Sequence[Evidence]:
    """What one check sees; a third party's that fails is named, and the others go on."""
    try:
        return check(case)
    except Exception as problem:
        if name in EVIDENCE.builtin_names():
            raise
        text = f"{type(problem).__name__}: {problem}"
        trial.court.context.note(f"{trial.record.name}: evidence check {name} failed: {text}")
        return ()


def basis_of(trial: Trial, keys: Mapping[str, str], *, cheap_only: bool) -> str:
    """Digest of what evidence rests on: plain runs, the versions of the checks, the twin."""
    twin = None if cheap_only else twin_of(trial)
    return digest_of(
        {
            "runs": dict(keys),
            "checks": {name: one.version for name, one in _checks(cheap_only=cheap_only).items()},
            "twin": None if twin is None else twin.weights_digest,
        }
    )


def _checks(*, cheap_only: bool) -> dict[str, Check]:
    """The registered checks by name, third parties' included."""
    found: dict[str, Check] = {}
    for name in EVIDENCE.names():
        check = cast(Check, EVIDENCE.resolve(name))
        if check.cheap or not cheap_only:
            found[name] = check
    return found


def _answered(
    trial: Trial, threat: ThreatModel, needs: Sequence[Need], stands: Sequence[bool]
) -> Iterator[tuple[Need, Sequence[Outcome]]]:
    """The runs that checks need, of those that are defined for this model and threat."""
    for need in needs:
        bound = None if need.norm not in (None, threat.norm) else _bound(trial, need)
        radius = threat if need.eps is None else ThreatModel(threat.norm, need.eps)
        if bound is None or not _fits(bound, radius, trial.splits.classes):
            continue
        left = None if need.on == "all" else stands
        before = plain_identities(plain_attacks(threat.norm))
        try:
            found = run_on(trial, bound, radius, left, after="the plain attacks", before=before)
        except ModelError as problem:
            trial.court.context.note(
                f"{trial.record.name}: without {need.attack}: {problem.message}"
            )
            continue
        yield need, found


def _bound(trial: Trial, need: Need) -> Bound | None:
    if need == TWIN:
        twin = twin_of(trial)
        if twin is None:
            return None
        court = trial.court
        model = load_model(twin, court.data, court.store).to(court.device)
        return transfer_from(model, twin.weights_digest)
    if need.capped_only and UNCAPPED not in guide_names(trial.model):
        return None
    name, options = parse_part(need.attack)
    if options.get("precision") == "float64" and in_float64(trial.model, measured(trial)) is None:
        return None
    return bind_attack(name, **options)


def measured(trial: Trial) -> Any:
    """(n, C, H, W) the points on which it is measured which modules are flat.

    Those that attacks with a surrogate measure on, so that both find the same.
    """
    return probes(samples_of(trial.splits.test, list(trial.rows[:1]), trial.court.device).x)


def twin_of(trial: Trial) -> ModelRecord | None:
    """The same training with plain ReLU, where the registry has it; the same seed if possible."""
    return twin_in(trial.court.store, trial.record)


def twin_in(store: Store, record: ModelRecord) -> ModelRecord | None:
    """The twin of a model that `store` has; see `twin_of`."""
    if record.source != "trained" or record.activation == "relu":
        return None
    # Plain ReLU everywhere is plain ReLU in the head: grids need not train it twice.
    places = ("all", "head") if record.placement == "all" else (record.placement,)
    # A grid has many twins with other seeds: they are read only where its own is missing.
    asked = ((seed, placement) for placement in places for seed in (record.seed, None))
    found = (_first_twin(store, record, seed=s, placement=p) for s, p in asked)
    return next((twin for twin in found if twin is not None), None)


def _first_twin(
    store: Store, record: ModelRecord, *, seed: int | None, placement: str
) -> ModelRecord | None:
    found = store.models(
        dataset=record.dataset,
        architecture=record.architecture,
        activation="relu",
        placement=placement,
        scheme=record.scheme,
        seed=seed,
    )
    twins = (
        one
        for one in found
        if one.dataset_digest == record.dataset_digest
        and one.source == "trained"
        and not one.is_checkpoint
        and _normalizes(one) == _normalizes(record)
    )
    return next(twins, None)


def _normalizes(record: ModelRecord) -> bool:
    return record.recipe.get("model", {}).get("normalize") is not False


def _fits(bound: Bound, threat: ThreatModel, classes: int) -> bool:
    try:
        check_fits(bound, threat, classes)
    except BadValue:
        return False
    return True
