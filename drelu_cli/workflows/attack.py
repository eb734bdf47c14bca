"""`drelu attack`: models x attacks to stored outcomes, each once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from drelu_cli.core.errors import BadValue, DreluError, InternalError, StoreError, UnknownName
from drelu_cli.core.records import Evaluation, ModelRecord
from drelu_cli.data.contract import DataSplits
from drelu_cli.data.loading import sample_order
from drelu_cli.evaluation.preflight import preflight
from drelu_cli.evaluation.suite import check_fits, run_attack
from drelu_cli.runtime.devices import pick_device
from drelu_cli.runtime.provenance import provenance
from drelu_cli.store.connect import FILE_NAME, Store, open_store
from drelu_cli.workflows.context import Context
from drelu_cli.workflows.entries import Done, entries_of
from drelu_cli.workflows.measure import samples_of
from drelu_cli.workflows.plan import Task, Wanted, tasks_for
from drelu_cli.workflows.subjects import DataCache, Outside, find_records, load_model, splits_of

DEFAULT_SUITE = "whitebox"
_PREFLIGHT_SAMPLES = 16
# Samples that are attacked, judged and stored together: what a kill can cost at most. Outcomes
# do not depend on it.
SLICE = 256


@dataclass(frozen=True)
class AttackReport:
    """What `attack` found.

    Attributes:
        entries: one per model, norm and eps, in the form of the JSON document.
        reused: how many evaluations were found finished.
        run: how many were run.
        failures: model and error, for models of the registry that could not be evaluated.
    """

    entries: tuple[dict[str, Any], ...]
    reused: int
    run: int
    failures: tuple[dict[str, str], ...] = ()

    @property
    def document(self) -> dict[str, Any]:
        """The JSON document of `drelu attack`; accuracies are fractions, times seconds."""
        return {"evaluations": list(self.entries), "failures": list(self.failures)}


def attack(
    models: Sequence[str] = (),
    *,
    wanted: Wanted | None = None,
    outside: Outside | None = None,
    context: Context | None = None,
) -> AttackReport:
    """Runs what is missing of a suite or of a list of attacks, and reports all of it.

    Args:
        models: names, labels or key prefixes of the registry, files, or
            `package.module:factory`; none means every model of the registry, and then one that
            cannot be evaluated does not stop the others.
        wanted: suite or attacks, threat and samples; the default is the suite `whitebox`.
        outside: how to read models that are not in the registry.
        context: folders, device and progress.

    Raises:
        DreluError: whatever is wrong with models, attacks, data, device or store.
    """
    context = context or Context()
    wanted = wanted or Wanted(DEFAULT_SUITE, (), "linf", None)
    device = pick_device(context.device)
    # A typing error in a suite or an attack costs no work, and is said before all else.
    if not tasks_for("digits", wanted):
        raise BadValue("nothing to run: no suite and no attack", hint="--suite whitebox")
    data = DataCache(context)
    entries: list[dict[str, Any]] = []
    failures: list[dict[str, str]] = []
    reused = run = 0
    if not models and not (context.store / FILE_NAME).is_file():
        raise UnknownName(  # looking for models makes no folder
            f"no models in the registry {context.store}",
            hint="drelu train makes one; --store names another registry",
        )
    with open_store(context.store) as store:
        court = Court(store, data, device, wanted, context)
        records = find_records(models, store, outside or Outside(), data)
        for number, record in enumerate(records):
            at = {"model": record.name, "number": number + 1, "of": len(records)}
            try:
                done = court.evaluate(record, at)
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
            entries.extend(entries_of(record, done, wanted, store))
    return AttackReport(tuple(entries), reused, run, tuple(failures))


@dataclass(frozen=True)
class Court:
    """What every evaluation of one call shares."""

    store: Store
    data: DataCache
    device: torch.device
    wanted: Wanted
    context: Context

    def evaluate(self, record: ModelRecord, at: dict[str, Any]) -> list[Done]:
        """Runs what is missing for one model; every slice is stored when it is finished."""
        splits = splits_of(record, self.data)
        tasks = self._defined(record, splits.classes)
        rows = _rows(splits, self.wanted, self.store)
        model: nn.Module | None = None
        done: list[Done] = []
        for task in tasks:
            evaluation = Evaluation.of(
                record,
                task.bound,
                task.threat,
                seed=self.wanted.seed,
                provenance=provenance(str(self.device)),
            )
            missing = _missing(self.store, evaluation.key, rows)
            if missing and model is None:
                model = self._ready(record, splits, rows)
            if missing and model is not None:
                self._run(model, splits, evaluation, task, missing, at)
            one = Done(task, evaluation.key, tuple(rows), reused=not missing)
            done.append(one)
            self.context.progress("attack", {**at, **one.summary(self.store)})
        return done

    def _defined(self, record: ModelRecord, classes: int) -> list[Task]:
        """The tasks that are defined for this model.

        An attack asked for by name is refused where it is not; one that a suite brings along is
        left out, and that is stored with the model.
        """
        kept = []
        for task in tasks_for(record.dataset, self.wanted):
            try:
                check_fits(task.bound, task.threat, classes)
            except BadValue as problem:
                if task.named:
                    raise
                detail = f"left out of the suite: {problem.message}"
                self.store.add_finding(record.key, f"{task.bound.name}-undefined", detail)
                self.context.note(f"{record.name}: {detail}")
            else:
                kept.append(task)
        if not kept:
            raise BadValue(f"no attack of this suite is defined for {record.name}")
        return kept

    def _ready(self, record: ModelRecord, splits: DataSplits, rows: Sequence[int]) -> nn.Module:
        """The model on its device, after preflight; findings are stored."""
        model = load_model(record, self.data, self.store).to(self.device)
        few = samples_of(splits.test, list(rows[:_PREFLIGHT_SAMPLES]), self.device)
        for finding in preflight(model, few.x, splits.classes):
            self.store.add_finding(record.key, finding.code, finding.detail)
        return model

    def _run(
        self,
        model: nn.Module,
        splits: DataSplits,
        evaluation: Evaluation,
        task: Task,
        missing: Sequence[int],
        at: dict[str, Any],
    ) -> None:
        named = {**at, "attack": task.bound.name, "eps": task.threat.eps, "samples": len(missing)}
        for start in range(0, len(missing), SLICE):
            self.context.progress("attacking", {**named, "done": start})
            part = list(missing[start : start + SLICE])
            samples = samples_of(splits.test, part, self.device)
            judged = run_attack(model, samples, task.bound, task.threat, seed=self.wanted.seed)
            self.store.add_outcomes(evaluation, judged.outcomes, seconds=judged.seconds)


def _rows(splits: DataSplits, wanted: Wanted, store: Store) -> list[int]:
    """The first N test samples of the fixed, stored order."""
    order = store.sample_order(splits.digest)
    if order is None:
        order = store.set_sample_order(splits.digest, sample_order(splits.test))
    if wanted.samples > len(order) and wanted.samples_given:
        raise BadValue(
            f"{wanted.samples} samples asked for, the test split has {len(order)}",
            hint=f"--samples {len(order)} takes all of them",
        )
    return list(order[: wanted.samples])


def _missing(store: Store, key: str, rows: Sequence[int]) -> list[int]:
    stored = store.stored_samples(key)
    return [row for row in rows if row not in stored]
