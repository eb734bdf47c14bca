"""One model under all tasks of a call: what is missing is attacked, judged and stored."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import nn

from drelu_cli.attacks.engines import ENGINES, Engine
from drelu_cli.core.errors import BadValue, UnknownName
from drelu_cli.core.records import OWN, Evaluation, ModelRecord
from drelu_cli.core.registry import Bound
from drelu_cli.data.contract import DataSplits
from drelu_cli.data.loading import sample_order
from drelu_cli.evaluation.preflight import attackable, check_repeats, preflight
from drelu_cli.evaluation.suite import check_fits, not_run, run_attack
from drelu_cli.evaluation.walks import Search, Walks
from drelu_cli.runtime.provenance import provenance
from drelu_cli.store.connect import Store
from drelu_cli.workflows.cascade import answers, borrow, predecessors, survivors
from drelu_cli.workflows.context import Context
from drelu_cli.workflows.entries import OUTSIDE_FINDING, UNDEFINED, Done
from drelu_cli.workflows.measure import samples_of
from drelu_cli.workflows.plan import Task, Wanted, tasks_for
from drelu_cli.workflows.subjects import DataCache, load_model, splits_of
from drelu_cli.workflows.verdicts import COURT, PURPOSE

_PREFLIGHT_SAMPLES = 16
# Samples that are attacked, judged and stored together: what a kill can cost. Outcomes do not
# depend on it. The first slice of an attack shows its speed; the next ones take some
# SLICE_SECONDS, since the end of every slice runs on a micro-batch that empties.
SLICE = 256
SLICE_SECONDS = 40.0


def make_engine(name: str) -> Engine | None:
    """The outside engine called `name`; None for drelu itself.

    Raises:
        UnknownName: no engine has this name.
        MissingExtra: its library is not installed.
    """
    if name == OWN:
        return None
    if name not in ENGINES:
        raise UnknownName.among("engine", name, [OWN, *ENGINES.names()])
    engine: Engine = ENGINES.resolve(name)()
    return engine


@dataclass(frozen=True)
class Court:
    """What every evaluation of one call shares."""

    store: Store
    data: DataCache
    device: torch.device
    wanted: Wanted
    context: Context
    engine: Engine | None = None

    @property
    def label(self) -> str:
        """The engine as it enters keys."""
        return OWN if self.engine is None else self.engine.label

    def trial(self, record: ModelRecord, at: Mapping[str, Any]) -> Trial:
        """One model with its data and its list of samples."""
        splits = splits_of(record, self.data)
        return Trial(self, record, splits, tuple(_rows(splits, self.wanted, self.store)), at)

    def evaluate(self, trial: Trial) -> list[Done]:
        """Runs what is missing for one model; every slice is stored when it is finished."""
        record, rows = trial.record, trial.rows
        done: list[Done] = []
        for task in self._defined(record, trial.splits.classes):
            evaluation, missing = self._answer(record, task, [one.task for one in done], rows)
            if missing:
                left = self._left(evaluation, task, done, missing)
                trial.run(evaluation, task.bound, left)
            one = Done(task, evaluation.key, rows, reused=not missing)
            self._claim(evaluation)
            done.append(one)
            self.context.progress("attack", {**trial.at, **one.summary(self.store)})
        return done

    def _claim(self, evaluation: Evaluation) -> None:
        """A run that the court made for itself and a user now asks for is the user's, too."""
        stored = self.store.evaluation(evaluation.key)
        if stored is not None and stored.evaluation.provenance.get(PURPOSE) == COURT:
            own = {k: v for k, v in stored.evaluation.provenance.items() if k != PURPOSE}
            self.store.set_provenance(evaluation.key, own)

    def _answer(
        self, record: ModelRecord, task: Task, before: Sequence[Task], rows: Sequence[int]
    ) -> tuple[Evaluation, list[int]]:
        """The evaluation to use with what it lacks: a full run where one is complete."""
        found = answers(
            record,
            task,
            before,
            seed=self.wanted.seed,
            engine=self.label,
            rows=rows,
            provenance=provenance(str(self.device)),
        )
        lacking = [(one, _missing(self.store, one.key, rows)) for one in found]
        return next((pair for pair in lacking if not pair[1]), lacking[-1])

    def _defined(self, record: ModelRecord, classes: int) -> list[Task]:
        """The tasks that are defined for this model and exist in this engine.

        An attack asked for by name is refused where it is not; one that a suite brings along is
        left out, and that is stored with the model.
        """
        kept = []
        for task in tasks_for(record.dataset, self.wanted):
            try:
                check_fits(task.bound, task.threat, classes)
                if self.engine is not None:
                    self.engine.check(task.bound, task.threat)
            except BadValue as problem:
                if task.named:
                    raise
                self._leave_out(record, task, problem.message)
            else:
                kept.append(task)
        if not kept:
            raise BadValue(f"no attack of this suite is defined for {record.name}")
        return kept

    def _leave_out(self, record: ModelRecord, task: Task, why: str) -> None:
        code, detail = f"{task.bound.name}{UNDEFINED}", f"left out of the suite: {why}"
        if self.engine is not None:
            why = why.removeprefix(self.label).strip()
            code, detail = f"{OUTSIDE_FINDING}{code}", f"{self.label} {why}; left out of the suite"
        self.store.add_finding(record.key, code, detail)
        self.context.note(f"{record.name}: {detail}")

    def ready(self, record: ModelRecord, splits: DataSplits) -> nn.Module:
        """The model on its device, after preflight; findings are stored."""
        model = load_model(record, self.data, self.store).to(self.device)
        order = self.store.sample_order(splits.digest) or ()
        few = samples_of(splits.test, list(order[:_PREFLIGHT_SAMPLES]), self.device)
        findings = preflight(model, few.x, splits.classes, allow=self.wanted.allow)
        for finding in findings:
            self.store.add_finding(record.key, finding.code, finding.detail)
        ready = attackable(model, findings)
        if ready is not model:
            check_repeats(ready, few.x[:4])
        return ready

    def _left(
        self, evaluation: Evaluation, task: Task, done: Sequence[Done], missing: Sequence[int]
    ) -> list[int]:
        """Those of the missing samples that still stand; the others are stored as not run."""
        if not evaluation.survivors_only:
            return list(missing)
        earlier = predecessors(task, [one.task for one in done])
        keys = [one.key for one in done if one.task in earlier]
        stands = survivors(self.store, keys, missing)
        fallen = [row for row, left in zip(missing, stands, strict=True) if not left]
        clean = [outcome.clean_pred for outcome in self.store.outcomes(keys[0], fallen)]
        if fallen:
            self.store.add_outcomes(evaluation, not_run(fallen, clean), seconds=0.0)
        return [row for row, left in zip(missing, stands, strict=True) if left]

    def attack(
        self,
        model: nn.Module,
        splits: DataSplits,
        evaluation: Evaluation,
        bound: Bound,
        rows: Sequence[int],
        at: Mapping[str, Any],
        walks: Walks,
    ) -> None:
        """Attacks `rows` slice by slice; an outside engine takes them all at once."""
        search = Search.of(bound, evaluation.threat, self.wanted.seed)
        named = {**at, "attack": bound.name, "eps": evaluation.eps, "samples": len(rows)}
        start, size = 0, SLICE if self.engine is None else len(rows)
        while start < len(rows):
            self.context.progress("attacking", {**named, "done": start})
            part = list(rows[start : start + size])
            samples = samples_of(splits.test, part, self.device)
            judged = run_attack(
                model,
                samples,
                bound,
                evaluation.threat,
                seed=self.wanted.seed,
                engine=self.engine,
                ended=None if self.engine else walks.end(search, samples),
            )
            if self.engine is None:
                walks.keep(search, samples, judged.outcomes, judged.x_adv)
            if judged.outside:
                self._name_outside(evaluation, judged.outside, len(part))
            self.store.add_outcomes(evaluation, judged.outcomes, seconds=judged.seconds)
            start += len(part)
            size = max(SLICE, int(SLICE_SECONDS * len(part) / max(judged.seconds, 1e-3)))

    def _name_outside(self, evaluation: Evaluation, count: int, of: int) -> None:
        """Points of an outside engine beyond ball or box are named, here and with the model."""
        detail = (
            f"{evaluation.engine}: {count} of {of} points of {evaluation.attack} lie outside "
            f"{evaluation.norm} {evaluation.eps:g} or [0, 1]; they do not count as broken"
        )
        code = f"{OUTSIDE_FINDING}{evaluation.attack}-outside"
        self.store.add_finding(evaluation.model_key, code, detail)
        self.context.note(detail)


@dataclass
class Trial:
    """One model before the court: its data, its samples, and the model from when it is needed.

    Attributes:
        court: what all models of the call share.
        record: the model's entry in the registry.
        splits: its data set.
        rows: the list of samples, indices of the test split in the stored order.
        at: what progress lines say about the model.
        walks: where searches have ended on it, for longer ones to go on.
    """

    court: Court
    record: ModelRecord
    splits: DataSplits
    rows: tuple[int, ...]
    at: Mapping[str, Any]
    walks: Walks = field(default_factory=Walks)

    @cached_property
    def model(self) -> nn.Module:
        """The model on its device, after preflight."""
        return self.court.ready(self.record, self.splits)

    def run(self, evaluation: Evaluation, bound: Bound, rows: Sequence[int]) -> None:
        """Attacks those of `rows` for which no run of the same attack has an outcome."""
        left = borrow(self.court.store, evaluation, rows)
        if left:
            court = self.court
            court.attack(self.model, self.splits, evaluation, bound, left, self.at, self.walks)


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
