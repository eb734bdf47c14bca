"""`drelu sweep`: what is missing of a grid of trainings and attacks, in any number of goes."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

from drelu_cli.core.errors import CheckFailed, DreluError, Interrupted
from drelu_cli.core.records import ModelRecord
from drelu_cli.published.tables import published_table
from drelu_cli.report.certificates import violation_lines
from drelu_cli.store.connect import open_store
from drelu_cli.workflows.attack import attack
from drelu_cli.workflows.checkpoints import kept_along
from drelu_cli.workflows.context import Context
from drelu_cli.workflows.estimate import Estimate, estimate
from drelu_cli.workflows.jobs import Job, plan, to_do
from drelu_cli.workflows.points_groups import check_axis
from drelu_cli.workflows.presets import DEFAULT_PRESET
from drelu_cli.workflows.recipes import Options, read_source
from drelu_cli.workflows.subjects import DataCache
from drelu_cli.workflows.train import train_recipe

DEFAULT_RECIPE = "smoke"


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
        estimate: what is still to do; of a dry run only.
    """

    recipe: str
    jobs: tuple[Job, ...]
    trainings: Tally = field(default_factory=Tally)
    evaluations: Tally = field(default_factory=Tally)
    failures: list[dict[str, str]] = field(default_factory=list)
    model_keys: list[str] = field(default_factory=list)
    tried: set[str] = field(default_factory=set)
    seconds: float = 0.0
    estimate: Estimate | None = None

    @property
    def against(self) -> str | None:
        """The published table that the recipe's `[report]` puts beside the results."""
        return next((job.recipe.report.against for job in self.jobs), None) or None

    @property
    def document(self) -> dict[str, Any]:
        """The JSON document of `drelu sweep`."""
        return {
            "recipe": self.recipe,
            "trainings": self.trainings.as_json(),
            "evaluations": self.evaluations.as_json(),
            "failures": self.failures,
            "seconds": self.seconds,
            "estimate": None if self.estimate is None else self.estimate.document,
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
    data = DataCache(context)
    jobs = plan(name, preset=preset, options=options, data=data, context=context)
    for job in jobs:
        if job.recipe.report.plot:
            check_axis(job.recipe.report.plot)
        if job.recipe.report.against:
            published_table(job.recipe.report.against)  # a wrong name must not cost the work
    report = SweepReport(read_source(name).name, tuple(jobs))
    trainings = {job.key: job.trained for job in jobs}
    report.trainings.planned = len(trainings)
    report.evaluations.planned = sum(job.evaluations for job in jobs)
    if dry_run:
        report.trainings.reused = sum(trainings.values())
        report.evaluations.reused = sum(
            job.evaluations - len(job.missing) - len(job.missing_along) for job in jobs
        )
        report.estimate = estimate(to_do(jobs, data), context)
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


def _run(job: Job, report: SweepReport, context: Context) -> None:
    again = job.key in report.tried
    report.tried.add(job.key)
    try:
        trained = train_recipe(job.recipe, context=context)
    except Exception:
        report.trainings.failed += not again
        report.evaluations.failed += job.evaluations
        raise
    if not again:
        report.trainings.reused += trained.reused
        report.trainings.done += not trained.reused
        report.model_keys.append(trained.record.key)
    planned = job.evaluations
    try:
        along = _along(job, context) if job.moments else []
        # A training that stopped early has fewer weights along it than its plan.
        planned = len(job.tasks) * (1 + len(along))
        report.evaluations.planned -= job.evaluations - planned
        names = [record.name for record in (trained.record, *along)]
        attacked = attack(names, wanted=job.wanted, context=context)
    except Exception:
        report.evaluations.failed += planned
        raise
    report.evaluations.reused += attacked.reused
    report.evaluations.done += attacked.run
    if attacked.violations:
        raise CheckFailed("; ".join(violation_lines(attacked.violations)))


def _along(job: Job, context: Context) -> list[ModelRecord]:
    """The weights along a training."""
    with open_store(context.store, create=False) as store:
        return kept_along(store, job.effective, job.key)
