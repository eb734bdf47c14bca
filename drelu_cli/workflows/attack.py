"""`drelu attack`: models x attacks to stored outcomes, each once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from drelu_cli.core.errors import BadValue
from drelu_cli.core.records import Evaluation, ModelRecord
from drelu_cli.data.contract import DataSplits
from drelu_cli.data.loading import sample_order
from drelu_cli.evaluation.preflight import preflight
from drelu_cli.evaluation.suite import check_fits, run_attack
from drelu_cli.runtime.devices import pick_device
from drelu_cli.runtime.provenance import provenance
from drelu_cli.store.connect import Store, open_store
from drelu_cli.workflows.context import Context
from drelu_cli.workflows.entries import Done, entries_of
from drelu_cli.workflows.measure import samples_of
from drelu_cli.workflows.plan import Task, Wanted, tasks_for
from drelu_cli.workflows.subjects import DataCache, Outside, find_records, load_model, splits_of

DEFAULT_SUITE = "whitebox"
_PREFLIGHT_SAMPLES = 16


@dataclass(frozen=True)
class AttackReport:
    """What `attack` found.

    Attributes:
        entries: one per model, norm and eps, in the form of the JSON document.
        reused: how many evaluations were found finished.
        run: how many were run.
    """

    entries: tuple[dict[str, Any], ...]
    reused: int
    run: int

    @property
    def document(self) -> dict[str, Any]:
        """The JSON document of `drelu attack`; accuracies are fractions, times seconds."""
        return {"evaluations": list(self.entries)}


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
            `package.module:factory`; none means every model of the registry.
        wanted: suite or attacks, threat and samples; the default is the suite `whitebox`.
        outside: how to read models that are not in the registry.
        context: folders, device and progress.

    Raises:
        DreluError: whatever is wrong with models, attacks, data, device or store.
    """
    context = context or Context()
    wanted = wanted or Wanted(DEFAULT_SUITE, (), "linf", None)
    device = pick_device(context.device)
    data = DataCache(context)
    with open_store(context.store) as store:
        records = find_records(models, store, outside or Outside(), data)
        # Everything is planned before anything runs: a typing error costs no work.
        plans = [(record, _plan(record, wanted, data)) for record in records]
        entries: list[dict[str, Any]] = []
        reused = run = 0
        for number, (record, tasks) in enumerate(plans):
            at = {"model": record.name, "number": number + 1, "of": len(plans)}
            done = _evaluate(record, tasks, wanted, data, store, device, context, at)
            reused += sum(one.reused for one in done)
            run += sum(not one.reused for one in done)
            entries.extend(entries_of(record, done, wanted, store))
    return AttackReport(tuple(entries), reused, run)


def _plan(record: ModelRecord, wanted: Wanted, data: DataCache) -> list[Task]:
    tasks = tasks_for(record.dataset, wanted)
    if not tasks:
        raise BadValue("nothing to run: no suite and no attack", hint="--suite whitebox")
    classes = splits_of(record, data).classes
    for task in tasks:
        check_fits(task.bound, task.threat, classes)
    return tasks


def _evaluate(
    record: ModelRecord,
    tasks: Sequence[Task],
    wanted: Wanted,
    data: DataCache,
    store: Store,
    device: torch.device,
    context: Context,
    at: dict[str, Any],
) -> list[Done]:
    splits = splits_of(record, data)
    rows = _rows(splits, wanted, store)
    model: nn.Module | None = None
    done: list[Done] = []
    for task in tasks:
        evaluation = Evaluation.of(
            record,
            task.bound,
            task.threat,
            seed=wanted.seed,
            provenance=provenance(str(device)),
        )
        missing = _missing(store, evaluation.key, rows)
        if missing:
            if model is None:
                model = _ready(record, splits, rows, data, store, device)
            samples = samples_of(splits.test, missing, device)
            context.progress("attacking", {**at, "attack": task.bound.name, "eps": task.threat.eps})
            judged = run_attack(model, samples, task.bound, task.threat, seed=wanted.seed)
            store.add_outcomes(evaluation, judged.outcomes, seconds=judged.seconds)
        one = Done(task, evaluation.key, tuple(rows), reused=not missing)
        done.append(one)
        context.progress("attack", {**at, **one.summary(store)})
    return done


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


def _ready(
    record: ModelRecord,
    splits: DataSplits,
    rows: Sequence[int],
    data: DataCache,
    store: Store,
    device: torch.device,
) -> nn.Module:
    """The model on its device, after preflight; findings are stored."""
    model = load_model(record, data, store).to(device)
    few = samples_of(splits.test, list(rows[:_PREFLIGHT_SAMPLES]), device)
    for finding in preflight(model, few.x, splits.classes):
        store.add_finding(record.key, finding.code, finding.detail)
    return model
