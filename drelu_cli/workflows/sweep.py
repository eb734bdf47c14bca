"""`drelu sweep`: what is missing of a grid of trainings and attacks, in any number of goes."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from drelu_cli.core.errors import CheckFailed, DreluError, Interrupted
from drelu_cli.core.recipe import Recipe
from drelu_cli.core.records import ModelRecord
from drelu_cli.published.tables import published_table
from drelu_cli.report.certificates import violation_lines
from drelu_cli.store.connect import FILE_NAME, Store, open_store
from drelu_cli.workflows.attack import DEFAULT_SUITE, attack
from drelu_cli.workflows.cascade import answers
from drelu_cli.workflows.context import Context
from drelu_cli.workflows.effective import effective, fitted_to, label_of, name_of
from drelu_cli.workflows.files import WEIGHTS
from drelu_cli.workflows.plan import Task, Wanted, tasks_for
from drelu_cli.workflows.presets import DEFAULT_PRESET
from drelu_cli.workflows.recipes import Options, members, read_source
from drelu_cli.workflows.subjects import DataCache
from drelu_cli.workflows.train import train_recipe

DEFAULT_RECIPE = "smoke"


@dataclass(frozen=True)
class Job:
    """One training of a grid with its attacks; several jobs may share a training.

    Attributes:
        recipe: as the grid gives it, not yet effective.
        key: the training's key.
        name: for people.
        label: the treatment in tables.
        wanted: what to attack it with.
        tasks: the attacks, one by one.
        trained: found finished in the store.
        stored: how many of the tasks are finished in the store.
    """

    recipe: Recipe
    key: str
    name: str
    label: str
    wanted: Wanted
    tasks: tuple[Task, ...]
    trained: bool
    stored: int


@dataclass
class Tally:
    """How many of something were planned, found, done and failed."""

    planned: int = 0
    reused: int = 0
    done: int = 0
    failed: int = 0

    def as_json(self) -> dict[str, int]:
        """As in the JSON document."""
        return vars(self).copy()


@dataclass
class SweepReport:
    """What `sweep` did.

    Attributes:
        recipe: the recipe's name.
        jobs: the plan.
        trainings: planned, reused, done, failed.
        evaluations: the same; a failed training fails its evaluations.
        failures: job and error, for each training or attack that failed.
        model_keys: keys of the models that the sweep is about.
        tried: keys of the trainings that were begun or found.
        seconds: wall time.
    """

    recipe: str
    jobs: tuple[Job, ...]
    trainings: Tally = field(default_factory=Tally)
    evaluations: Tally = field(default_factory=Tally)
    failures: list[dict[str, str]] = field(default_factory=list)
    model_keys: list[str] = field(default_factory=list)
    tried: set[str] = field(default_factory=set)
    seconds: float = 0.0

    @property
    def against(self) -> str | None:
        """The published table that the recipe's `[report]` puts beside the results."""
        return next((job.recipe.report.against for job in self.jobs), None)

    @property
    def document(self) -> dict[str, Any]:
        """The JSON document of `drelu sweep`."""
        return {
            "recipe": self.recipe,
            "trainings": self.trainings.as_json(),
            "evaluations": self.evaluations.as_json(),
            "failures": self.failures,
            "seconds": self.seconds,
        }


def sweep(
    recipe: str | None = None,
    *,
    preset: str = DEFAULT_PRESET,
    options: Options = (),
    dry_run: bool = False,
    context: Context | None = None,
) -> SweepReport:
    """Trains and attacks what is missing of a grid; a failed job does not stop the others.

    Args:
        recipe: a packaged recipe's name or a path; None runs `smoke`.
        preset: fast, paper or tiny.
        options: dotted fields and values; they stand above the grid.
        dry_run: only the plan.
        context: folders, device and progress.

    Raises:
        DreluError: the recipe is wrong; nothing has run then.
        Interrupted: stopped by the user; what was finished is kept.
    """
    began = time.perf_counter()
    context = context or Context()
    name = recipe or DEFAULT_RECIPE
    jobs = plan(name, preset=preset, options=options, context=context)
    for job in jobs:
        if job.recipe.report.against is not None:
            published_table(job.recipe.report.against)  # a wrong name must not cost the work
    report = SweepReport(read_source(name).name, tuple(jobs))
    trainings = {job.key: job.trained for job in jobs}
    report.trainings.planned = len(trainings)
    report.evaluations.planned = sum(len(job.tasks) for job in jobs)
    if dry_run:
        report.trainings.reused = sum(trainings.values())
        report.evaluations.reused = sum(job.stored for job in jobs)
        return report
    for number, job in enumerate(jobs, start=1):
        at = {"number": number, "of": len(jobs), "job": job.name}
        context.progress("job", {**at, "state": "running"})
        try:
            _run(job, report, context)
        except Interrupted:
            raise
        except Exception as problem:  # noqa: BLE001 - one job must not stop the others
            error = _described(problem)
            report.failures.append({"job": job.name, "error": error})
            context.progress("job", {**at, "state": f"failed: {error}"})
    report.seconds = time.perf_counter() - began
    return report


def _described(problem: Exception) -> str:
    if isinstance(problem, DreluError):
        return problem.message
    return f"{type(problem).__name__}: {problem}"


def plan(name: str, *, preset: str, options: Options, context: Context) -> list[Job]:
    """The jobs of a recipe, with what the store already has.

    One job per training and way of attacking it: a grid over `attack.eps` trains once.
    """
    data = DataCache(context)
    found = [member for member, _ in members(read_source(name), preset=preset, options=options)]
    if not (context.store / FILE_NAME).is_file():  # a plan makes no store
        return _unique(_job(member, {}, data, None) for member in found)
    with open_store(context.store, create=False) as store:
        trained = {record.key: record for record in store.models()}
        return _unique(_job(member, trained, data, store) for member in found)


def _unique(jobs: Iterable[Job]) -> list[Job]:
    kept: dict[tuple[str, Wanted], Job] = {}
    for job in jobs:
        kept.setdefault((job.key, job.wanted), job)
    return list(kept.values())


def _job(
    member: Recipe, trained: dict[str, ModelRecord], data: DataCache, store: Store | None
) -> Job:
    wanted_recipe = effective(member)
    splits = data.get(wanted_recipe.data.name, wanted_recipe.data.path)
    wanted_recipe = fitted_to(wanted_recipe, splits)
    key = wanted_recipe.key(splits.digest)
    wanted = wanted_of(member)
    tasks = tuple(tasks_for(wanted_recipe.data.name, wanted))
    record = trained.get(key)
    samples = min(wanted.samples, len(splits.test.labels))
    found, stored = False, 0
    if store is not None and record is not None:
        found = (store.model_dir(key) / WEIGHTS).exists()
        stored = sum(
            _covered(store, record, task, tasks[:place], wanted, samples)
            for place, task in enumerate(tasks)
        )
    return Job(
        member, key, name_of(wanted_recipe), label_of(wanted_recipe), wanted, tasks, found, stored
    )


def wanted_of(recipe: Recipe) -> Wanted:
    """What a recipe's `[attack]` asks for; the suite `whitebox` where it says nothing."""
    section = recipe.attack
    suite = section.suite or (None if section.attacks else DEFAULT_SUITE)
    return Wanted(
        suite=suite,
        attacks=section.attacks,
        norm=section.norm,
        eps=section.eps,
        samples=section.samples,
        seed=section.seed,
        max_steps=section.max_steps,
        exhaustive=section.exhaustive,
    )


def _covered(
    store: Store,
    record: ModelRecord,
    task: Task,
    before: Sequence[Task],
    wanted: Wanted,
    samples: int,
) -> bool:
    found = answers(record, task, before, seed=wanted.seed)
    return any(len(store.stored_samples(one.key)) >= samples for one in found)


def _run(job: Job, report: SweepReport, context: Context) -> None:
    again = job.key in report.tried
    report.tried.add(job.key)
    try:
        trained = train_recipe(job.recipe, context=context)
    except Exception:
        report.trainings.failed += not again
        report.evaluations.failed += len(job.tasks)
        raise
    if not again:
        report.trainings.reused += trained.reused
        report.trainings.done += not trained.reused
        report.model_keys.append(trained.record.key)
    try:
        attacked = attack([trained.record.name], wanted=job.wanted, context=context)
    except Exception:
        report.evaluations.failed += len(job.tasks)
        raise
    report.evaluations.reused += attacked.reused
    report.evaluations.done += attacked.run
    if attacked.violations:
        raise CheckFailed("; ".join(violation_lines(attacked.violations)))
