"""A sweep on several workers: all trainings first, then the attacks; the driver writes the store.

The attacks wait for the trainings because the court looks for a model's plain ReLU twin.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from drelu_cli.core.errors import CheckFailed, DreluError
from drelu_cli.report.certificates import violation_lines
from drelu_cli.runtime import executor as runtime
from drelu_cli.runtime.executor import Executor, Result
from drelu_cli.store.connect import Store, open_store
from drelu_cli.training.costs import scheme_cost
from drelu_cli.workflows.board import ATTACKS, TRAINING, Board
from drelu_cli.workflows.checkpoints import checkpoints_of, is_complete, kept_along
from drelu_cli.workflows.context import Context
from drelu_cli.workflows.evidence import twin_in
from drelu_cli.workflows.jobs import Job
from drelu_cli.workflows.remote import (
    ATTACK,
    TRAIN,
    attack_config,
    context_config,
    described,
)
from drelu_cli.workflows.scratch import gather, scratch_folder, seed
from drelu_cli.workflows.tally import SweepReport
from drelu_cli.workflows.train import finished

# Jobs that are prepared before a slot is free for them, per slot.
_AHEAD = 2


@dataclass(frozen=True)
class Sweeping:
    """What both halves of a sweep share.

    Attributes:
        store: the archive, open.
        executor: runs the jobs.
        report: what was done.
        board: tells about it.
        context: the driver's.
        device: the workers'.
    """

    store: Store
    executor: Executor
    report: SweepReport
    board: Board
    context: Context
    device: str

    def stream(self, keys: Iterable[str], made: Callable[[str], runtime.Job]) -> Iterator[Result]:
        """Results of the jobs `made` of `keys`.

        A job is made only when a slot will soon be free for it: until then it needs no disk.
        """
        waiting = iter(keys)
        submitted = self._submitted(islice(waiting, self.executor.width * _AHEAD), made)
        yield from submitted
        for result in self.executor.results():
            more = self._submitted(islice(waiting, 1), made)
            yield result
            yield from more

    def _submitted(self, keys: Iterable[str], made: Callable[[str], runtime.Job]) -> list[Result]:
        """Submits jobs; gives the results of those that could not even be made."""
        failed = []
        for key in keys:
            try:
                self.executor.submit(made(key))
            except (DreluError, OSError) as problem:
                failed.append(Result(key, None, described(problem), 0, 0.0))
        return failed

    def config(self, key: str) -> dict[str, Any]:
        """Where the job of a training works."""
        return context_config(self.context, scratch_folder(self.store.root, key), self.device)


def sweep_parallel(
    jobs: Sequence[Job],
    executor: Executor,
    report: SweepReport,
    context: Context,
    *,
    board: Board,
    device: str,
) -> None:
    """Trains and attacks what is missing; fills `report` as a sweep in one process does.

    Args:
        jobs: the plan.
        executor: where they run.
        report: its tallies and failures are filled.
        context: the driver's folders and progress.
        board: told what happens; also gets the executor's events.
        device: for the workers.

    Raises:
        StoreError: the store cannot be read or written.
    """
    by_key: dict[str, list[Job]] = {}
    for job in jobs:
        by_key.setdefault(job.key, []).append(job)
    with open_store(context.store) as store:
        sweeping = Sweeping(store, executor, report, board, context, device)
        board.expect(len(by_key))
        failed = _train(sweeping, by_key)
        report.model_keys.extend(key for key in by_key if key not in failed)
        _attack(sweeping, {key: found for key, found in by_key.items() if key not in failed})


# Trainings


def _train(sweeping: Sweeping, by_key: dict[str, list[Job]]) -> set[str]:
    """Trains what is missing; gives the keys that failed."""
    report = sweeping.report
    report.tried.update(by_key)
    # Jobs of one training may differ in how many of the weights along it they want.
    most = {key: max(found, key=lambda job: job.moments) for key, found in by_key.items()}
    missing = {key: job for key, job in most.items() if not _is_trained(sweeping.store, job)}
    report.trainings.reused += len(by_key) - len(missing)
    order = sorted(missing.values(), key=_length, reverse=True)
    sweeping.board.begin(TRAINING, {job.key: job.name for job in order})
    failed = set()
    for result in sweeping.stream(
        [job.key for job in order], lambda key: _training(sweeping, missing[key])
    ):
        error = _gathered(sweeping, result, trained=result.error is None)
        if error is None:
            report.trainings.done += 1
        else:
            failed.add(result.name)
            report.trainings.failed += 1
            for job in by_key[result.name]:
                report.evaluations.failed += job.evaluations
                report.failures.append({"job": job.name, "error": error})
        sweeping.board.ended(result, error)
    return failed


def _is_trained(store: Store, job: Job) -> bool:
    known = finished(store, job.key, job.effective.report.label)
    return known is not None and is_complete(store, job.effective, known)


def _length(job: Job) -> int:
    """Passes of a training, to begin with the longest; nets of one grid are of similar size."""
    total = 0
    for phase in job.effective.phase:
        cost = scheme_cost(phase.scheme, phase.options)
        total += (phase.epochs or 0) * (cost.forwards + 2 * cost.gradients + 2 * cost.steps)
    return total * (job.effective.data.train_samples or 1)


def _training(sweeping: Sweeping, job: Job) -> runtime.Job:
    along = [record.key for record in checkpoints_of(sweeping.store, job.key)]
    seed(sweeping.store, job.key, [job.key, *along])
    recipe = job.recipe.model_dump(mode="json", by_alias=True)
    return runtime.Job(job.key, TRAIN, {**sweeping.config(job.key), "recipe": recipe})


def _gathered(sweeping: Sweeping, result: Result, *, trained: bool = False) -> str | None:
    """Takes over what a job made, also one that failed half-way; gives the job's error."""
    folder = scratch_folder(sweeping.store.root, result.name)
    try:
        gather(sweeping.store, folder, trained=trained)
    except (DreluError, OSError) as problem:
        return result.error or described(problem)
    return result.error


# Attacks


def _attack(sweeping: Sweeping, by_key: dict[str, list[Job]]) -> None:
    """Runs what is missing of the attacks, one job per training with the weights along it."""
    sweeping.board.expect(len(by_key))
    sweeping.board.begin(ATTACKS, {key: found[0].name for key, found in by_key.items()})
    for result in sweeping.stream(by_key, lambda key: _attacks(sweeping, by_key[key])):
        error = _gathered(sweeping, result)
        jobs = by_key[result.name]
        runs = [{"error": error}] * len(jobs) if error else result.value["runs"]
        problems = [
            _counted(sweeping, job, run, tries=result.tries)
            for job, run in zip(jobs, runs, strict=True)
        ]
        sweeping.report.failures += [
            {"job": job.name, "error": problem}
            for job, problem in zip(jobs, problems, strict=True)
            if problem is not None
        ]
        sweeping.board.ended(result, next(filter(None, problems), None))


def _attacks(sweeping: Sweeping, jobs: Sequence[Job]) -> runtime.Job:
    key, store = jobs[0].key, sweeping.store
    for job in jobs:
        finished(store, key, job.effective.report.label)  # under the label asked for
    record = store.find_model(key)
    along = {number: kept_along(store, job.effective, key) for number, job in enumerate(jobs)}
    models = {one.key: one for found in ([record], *along.values()) for one in found}
    twins = {twin.key for one in models.values() if (twin := twin_in(store, one)) is not None}
    seed(store, key, list(models), twins=twins - set(models))
    runs = [
        attack_config([key, *(one.key for one in along[number])], job.wanted)
        for number, job in enumerate(jobs)
    ]
    return runtime.Job(key, ATTACK, {**sweeping.config(key), "runs": runs})


def _counted(sweeping: Sweeping, job: Job, run: dict[str, Any], *, tries: int) -> str | None:
    """Adds what one job's attacks came to; gives the error of one that failed."""
    tally = sweeping.report.evaluations
    along = len(kept_along(sweeping.store, job.effective, job.key))
    # A training that stopped early has fewer weights along it than its plan.
    tally.planned -= len(job.tasks) * (job.moments - along)
    if "error" in run:
        tally.failed += len(job.tasks) * (1 + along)
        return str(run["error"])
    total = run["reused"] + run["run"]
    # A second try finds what the first one finished: that was done here, not found.
    reused = min(job.found, total) if tries > 1 else run["reused"]
    tally.reused += reused
    tally.done += total - reused
    if run["violations"]:
        return CheckFailed("; ".join(violation_lines(run["violations"]))).message
    return None
