"""`drelu attack`: models x attacks to stored outcomes, each once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from drelu_cli.core.errors import BadValue, DreluError, InternalError, StoreError, UnknownName
from drelu_cli.core.records import OWN, ModelRecord
from drelu_cli.evaluation.preflight import check_overrides
from drelu_cli.runtime.devices import pick_device
from drelu_cli.store.connect import FILE_NAME, open_store
from drelu_cli.workflows.adversarial import Saved, points_to_save, save_points
from drelu_cli.workflows.certificates import violations
from drelu_cli.workflows.context import Context
from drelu_cli.workflows.court import Court, make_engine
from drelu_cli.workflows.curves import curves_of
from drelu_cli.workflows.entries import Done, entries_of
from drelu_cli.workflows.examine import examine
from drelu_cli.workflows.plan import Wanted, tasks_for
from drelu_cli.workflows.proving import prove
from drelu_cli.workflows.subjects import DataCache, Outside, find_records, from_outside

DEFAULT_SUITE = "whitebox"


@dataclass(frozen=True)
class AttackReport:
    """What `attack` found.

    Attributes:
        entries: one per model, norm and eps, in the form of the JSON document.
        reused: how many evaluations were found finished.
        run: how many were run.
        failures: model and error, for models of the registry that could not be evaluated.
        curves: with `Wanted.curve`, one per model and attack (or cascading suite).
        violations: certificates that a stored attack contradicts.
        saved: with `save_adversarial`, what was written.
    """

    entries: tuple[dict[str, Any], ...]
    reused: int
    run: int
    failures: tuple[dict[str, str], ...] = ()
    curves: tuple[dict[str, Any], ...] = ()
    violations: tuple[dict[str, Any], ...] = ()
    saved: Saved | None = None

    @property
    def document(self) -> dict[str, Any]:
        """The JSON document of `drelu attack`; accuracies are fractions, times seconds."""
        return {
            "evaluations": list(self.entries),
            "curves": list(self.curves),
            "failures": list(self.failures),
            "violations": list(self.violations),
            "adversarial": None if self.saved is None else self.saved.document,
        }


def attack(
    models: Sequence[str] = (),
    *,
    wanted: Wanted | None = None,
    outside: Outside | None = None,
    context: Context | None = None,
    save_adversarial: Path | None = None,
) -> AttackReport:
    """Runs what is missing of a suite or of a list of attacks, and reports all of it.

    Args:
        models: names, labels or key prefixes of the registry, files, or
            `package.module:factory`; none means every model of the registry, and then one that
            cannot be evaluated does not stop the others.
        wanted: suite or attacks, threat and samples; the default is the suite `whitebox`.
        outside: how to read models that are not in the registry.
        context: folders, device and progress.
        save_adversarial: an `.npz` file for the points behind the outcomes of the one model and
            radius; see `workflows.adversarial`.

    Raises:
        DreluError: whatever is wrong with models, attacks, data, device or store.
    """
    context = context or Context()
    wanted = wanted or Wanted(DEFAULT_SUITE, (), "linf", None)
    device = pick_device(context.device)
    _check(wanted, context)
    engine = make_engine(wanted.engine)
    data = DataCache(context)
    entries: list[dict[str, Any]] = []
    curves: list[dict[str, Any]] = []
    failures: list[dict[str, str]] = []
    reused = run = 0
    if not any(map(from_outside, models)) and not (context.store / FILE_NAME).is_file():
        sought = f"unknown model '{models[0]}': " if models else ""
        raise UnknownName(  # looking for models makes no folder
            f"{sought}no models in the registry {context.store}",
            hint="drelu train makes one; --store names another registry",
        )
    with open_store(context.store) as store:
        court = Court(store, data, device, wanted, context, engine)
        records = find_records(models, store, outside or Outside(), data)
        target = points_to_save(save_adversarial, records, wanted)
        for number, record in enumerate(records):
            at = {"model": record.name, "number": number + 1, "of": len(records)}
            try:
                done = _evaluated(court, record, at)
            except (InternalError, StoreError):
                raise
            except DreluError as problem:
                if models or number + 1 == len(records) == len(failures) + 1:
                    raise  # named by the user, or no model at all could be evaluated
                failures.append({"model": record.name, "error": problem.message})
                context.note(f"{record.name}: {problem.message}")
                continue
            reused += sum(one.reused for one in done)
            run += sum(not one.reused for one in done)
            entries.extend(entries_of(record, done, wanted, store, engine=court.label))
            if wanted.curve is not None:
                curves.extend(curves_of(record, done, wanted, store, engine=court.label))
        saved = save_points(court, target)
        contradicted = [one for record in records for one in violations(store, record)]
    return AttackReport(
        tuple(entries), reused, run, tuple(failures), tuple(curves), tuple(contradicted), saved
    )


def _evaluated(court: Court, record: ModelRecord, at: Mapping[str, Any]) -> list[Done]:
    """What was asked for, of one model."""
    trial = court.trial(record, at)
    done = court.evaluate(trial)
    examine(trial, done)
    if court.wanted.certify:
        prove(trial, [one.task.threat for one in done])
    return done


def _check(wanted: Wanted, context: Context) -> None:
    """A typing error in a suite or an attack costs no work, and is said before all else."""
    check_overrides(wanted.allow)
    if not tasks_for("digits", wanted):
        raise BadValue("nothing to run: no suite and no attack", hint="--suite whitebox")
    if wanted.adaptive and wanted.curve is not None:
        raise BadValue(
            "the court compares full runs, and a curve's larger radii run on survivors",
            hint="--suite adaptive --eps 0.1,0.2 examines each radius",
        )
    if wanted.adaptive and wanted.engine != OWN:
        raise BadValue(
            f"the court examines drelu's own runs, not those of {wanted.engine}",
            hint="leave --engine out; --suite standard --engine autoattack runs beside it",
        )
    if wanted.exhaustive and not wanted.cascading:
        context.note("exhaustive changes nothing here: only the suite standard is a cascade")
