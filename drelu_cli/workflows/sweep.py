"""`drelu sweep`: what is missing of a grid of trainings and attacks, in any number of goes."""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from drelu_cli.core.errors import BadValue, CheckFailed, Interrupted
from drelu_cli.core.records import ModelRecord
from drelu_cli.published.tables import published_table
from drelu_cli.report.certificates import violation_lines
from drelu_cli.runtime.executor import Executor, OnEvent
from drelu_cli.runtime.local import LocalExecutor
from drelu_cli.runtime.slots import Slot, slots, visible_gpus
from drelu_cli.runtime.slurm_array import end_abandoned
from drelu_cli.store.connect import open_store
from drelu_cli.workflows.attack import attack
from drelu_cli.workflows.board import Board
from drelu_cli.workflows.checkpoints import kept_along
from drelu_cli.workflows.context import Context
from drelu_cli.workflows.estimate import estimate
from drelu_cli.workflows.jobs import Job, plan, to_do
from drelu_cli.workflows.parallel import sweep_parallel
from drelu_cli.workflows.points_groups import check_axis
from drelu_cli.workflows.presets import DEFAULT_PRESET
from drelu_cli.workflows.recipes import Options, read_source
from drelu_cli.workflows.remote import described
from drelu_cli.workflows.runners import LOCAL, Count, Start, cluster, split_options
from drelu_cli.workflows.scratch import (
    LOGS,
    WORK,
    driving,
    gather_all,
    gather_leftovers,
    is_driven,
)
from drelu_cli.workflows.simulate import parse_slots, simulated
from drelu_cli.workflows.stacking import Stacks
from drelu_cli.workflows.subjects import DataCache
from drelu_cli.workflows.tally import SweepReport
from drelu_cli.workflows.train import train_recipe

DEFAULT_RECIPE = "smoke"


def sweep(
    recipe: str | None = None,
    *,
    preset: str = DEFAULT_PRESET,
    options: Options = (),
    dry_run: bool = False,
    jobs: Count = None,
    per_gpu: int = 1,
    stack: bool = True,
    simulate: str | None = None,
    runner: str = LOCAL,
    ray_address: str | None = None,
    context: Context | None = None,
) -> SweepReport:
    """Trains and attacks what is missing of a grid; a failed job does not stop the others.

    Args:
        recipe: a packaged recipe's name or a path; None runs `smoke`.
        preset: fast, paper or tiny.
        options: dotted fields and values; they stand above the grid. Those of `slurm` say how
            to ask for an array task.
        dry_run: only the plan.
        jobs: how many jobs at once; None is this process alone, and all places of a cluster;
            `auto` takes every GPU, or every core.
        per_gpu: jobs per GPU.
        runner: `local`, `ray` or `slurm`.
        ray_address: `auto`, or HOST:PORT; None starts a Ray here.
        stack: one process trains dense nets that differ in seed, lambda or cap start as one
            program.
        simulate: `gpu=64` or `cpu=8`: with `dry_run`, how long the plan takes on so many slots.
        context: folders, device and progress.

    Raises:
        DreluError: the recipe is wrong; nothing has run then.
        Interrupted: stopped by the user; what was finished is kept.
    """
    began = time.perf_counter()
    context = context or Context()
    options, slurm = split_options(options, runner)
    elsewhere = cluster(
        runner, jobs=jobs, per_gpu=per_gpu, ray_address=ray_address, slurm=slurm, context=context
    )
    places, device = _places(1 if elsewhere else jobs or 1, per_gpu, context.device)
    name = recipe or DEFAULT_RECIPE
    asked = None if simulate is None else parse_slots(simulate)

    if not dry_run:
        _take_over(context)
    report = _planned(name, preset, options, context, dry_run=dry_run)
    if not dry_run:
        with open_store(context.store):
            pass  # a store that cannot be opened is one error, not one of every job
    alone = elsewhere is None and len(places) == 1
    stacks = Stacks(report.jobs if stack and alone else (), context)
    if report.estimate is not None:  # a dry run
        report.stacked = stacks.planned
        report.simulation = None if asked is None else simulated(report.estimate, *asked)
        return report
    if elsewhere is None and jobs not in ("auto", None, len(places)):
        context.note(f"{len(places)} at once: there are no more GPUs; --per-gpu shares them")
    if elsewhere is not None:
        _on_workers(report, elsewhere.start, elsewhere.device, elsewhere.context)
    elif len(places) > 1:
        _on_workers(report, _local(places), device, context)
    else:
        _in_process(report, stacks, context)
    report.seconds = time.perf_counter() - began
    return report


def _take_over(context: Context) -> None:
    """What a sweep that was killed left behind: tasks in a queue, results of workers."""
    if not is_driven(context.store):
        end_abandoned(context.store / WORK / LOGS)
    gather_leftovers(context)


def _places(jobs: int | Literal["auto"], per_gpu: int, device: str) -> tuple[tuple[Slot, ...], str]:
    """The slots, and the device as a worker calls it: it sees one GPU, or none."""
    if jobs == 1:
        return slots(1), device
    if device == "mps":
        raise BadValue("--jobs needs GPUs of its own or cores", hint="--jobs 1, or --device cpu")
    if device.startswith("cuda:"):
        return slots(jobs, per_gpu, gpus=[device.removeprefix("cuda:")]), "cuda"
    return slots(jobs, per_gpu, gpus=() if device == "cpu" else visible_gpus()), device


def _planned(
    name: str, preset: str, options: Options, context: Context, *, dry_run: bool
) -> SweepReport:
    """The plan, counted; with the estimate where nothing is to run."""
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
        report.evaluations.reused = sum(job.found for job in jobs)
        report.estimate = estimate(to_do(jobs, data), context)
    return report


def _local(places: tuple[Slot, ...]) -> Start:
    def start(on_event: OnEvent, logs: Path, jobs: Sequence[Job]) -> Executor:  # noqa: ARG001
        return LocalExecutor(places, on_event=on_event, logs=logs)

    return start


def _on_workers(report: SweepReport, start: Start, device: str, context: Context) -> None:
    """Workers do the work; what they finished is kept however this ends."""
    with driving(context.store):
        board = Board(report.recipe, context, 1)
        logs = context.store / WORK / LOGS
        shutil.rmtree(logs, ignore_errors=True)
        try:
            with start(board.event, logs, report.jobs) as executor:
                board.widen(executor.width)
                sweep_parallel(report.jobs, executor, report, context, board=board, device=device)
        finally:
            board.close()
            gather_all(context)


def _in_process(report: SweepReport, stacks: Stacks, context: Context) -> None:
    """One job after the other, here."""
    for number, job in enumerate(report.jobs, start=1):
        at = {"number": number, "of": len(report.jobs), "job": job.name}
        context.progress("job", {**at, "state": "running"})
        try:
            _run(job, report, stacks, context)
        except Interrupted:
            raise
        except Exception as problem:  # noqa: BLE001 - one job must not stop the others
            error = described(problem)
            report.failures.append({"job": job.name, "error": error})
            context.progress("job", {**at, "state": f"failed: {error}"})
    report.stacked = len(stacks.made)


def _run(job: Job, report: SweepReport, stacks: Stacks, context: Context) -> None:
    again = job.key in report.tried
    report.tried.add(job.key)
    try:
        made = stacks.train(job.key)
        trained = train_recipe(job.recipe, context=context)
    except Exception:
        report.trainings.failed += not again
        report.evaluations.failed += job.evaluations
        raise
    if not again:
        found = trained.reused and not made
        report.trainings.reused += found
        report.trainings.done += not found
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
