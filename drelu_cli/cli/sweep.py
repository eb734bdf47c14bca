"""`drelu sweep`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from drelu_cli.cli.console import Output
from drelu_cli.cli.options import (
    DEFAULT_STORE,
    DataDirOption,
    DeviceOption,
    JsonOption,
    PresetOption,
    SetOption,
    StoreOption,
    dataset_fields,
    parse_assignments,
)
from drelu_cli.cli.progress import Progress
from drelu_cli.core.errors import BadValue


def sweep(
    recipe: Annotated[
        str | None,
        typer.Argument(help="A packaged recipe's name or a TOML file (default: smoke)."),
    ] = None,
    preset: PresetOption = "fast",
    dataset: Annotated[str | None, typer.Option(help="Another data set.")] = None,
    seed: Annotated[int | None, typer.Option(help="This seed instead of the recipe's.")] = None,
    samples: Annotated[int | None, typer.Option(help="Test images per attack.", min=1)] = None,
    set_: SetOption = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the plan, run nothing.")] = False,
    simulate: Annotated[
        str | None,
        typer.Option(
            "--simulate", metavar="gpu=N|cpu=N", help="With --dry-run: time on so many slots."
        ),
    ] = None,
    jobs: Annotated[
        str | None,
        typer.Option(
            "--jobs",
            metavar="N|auto",
            help="Jobs at once (default: 1, or what a cluster has).",
            show_default=False,
        ),
    ] = None,
    per_gpu: Annotated[int, typer.Option("--per-gpu", help="Jobs per GPU.", min=1)] = 1,
    runner: Annotated[
        str, typer.Option("--runner", help="local, ray or slurm.", metavar="NAME")
    ] = "local",
    ray_address: Annotated[
        str | None,
        typer.Option(
            "--ray-address",
            metavar="auto|HOST:PORT",
            help="A running Ray (default: start one here).",
            show_default=False,
        ),
    ] = None,
    no_stack: Annotated[
        bool, typer.Option("--no-stack", help="Train similar dense nets one by one.")
    ] = False,
    status: Annotated[
        bool, typer.Option("--status", help="What a running sweep with workers does; runs nothing.")
    ] = False,
    store: StoreOption = DEFAULT_STORE,
    data_dir: DataDirOption = None,
    device: DeviceOption = "auto",
    json: JsonOption = False,
) -> None:
    """Train and attack what is missing of a recipe's grid; stop and start it as you like.

    Examples:
      drelu sweep
      drelu sweep table1 --dry-run
      drelu sweep table2 --dry-run --simulate gpu=64
      drelu sweep table1 --seed 0 --set data.train_samples=5000
      drelu sweep table2 --set "model.name=['dense','shallow_cnn']" --samples 200
      drelu sweep table1 --jobs auto
      drelu sweep table1 --runner ray --ray-address auto --per-gpu 2
      drelu sweep table1 --runner slurm --set slurm.partition=gpu --set slurm.gpus=1
      drelu sweep --status
    """
    output = Output("sweep", json=json)
    if simulate is not None and not dry_run:
        raise BadValue("--simulate says how long a plan takes", hint="--dry-run --simulate gpu=64")
    if status:
        _show_status(recipe, store, output)
        return
    from drelu_cli.report.plan import estimate_lines, plan_table, simulation_lines
    from drelu_cli.report.terminal import to_rich
    from drelu_cli.workflows.compare import compare
    from drelu_cli.workflows.context import Context
    from drelu_cli.workflows.sweep import sweep as run

    fields: list[tuple[str, Any]] = [
        *dataset_fields(dataset),
        ("train.seed", seed),
        ("attack.samples", samples),
    ]
    options = [(field, value) for field, value in fields if value is not None]
    with Progress(output) as progress:
        context = Context(store=store, data_dir=data_dir, device=device, progress=progress)
        report = run(
            recipe,
            preset=preset,
            options=[*options, *parse_assignments(set_)],
            dry_run=dry_run,
            jobs=_count(jobs),
            per_gpu=per_gpu,
            stack=not no_stack,
            simulate=simulate,
            runner=runner,
            ray_address=ray_address,
            context=context,
        )
    if dry_run:
        output.human(plan_table(report.jobs))
    elif report.evaluations.done + report.evaluations.reused:
        seed = report.jobs[0].wanted.seed
        table = compare(
            models=report.model_keys, against=report.against, attack_seed=seed, context=context
        )
        output.human(to_rich(table.table), *table.notes)
    output.human(*_sentences(report))
    if report.estimate is not None:
        output.human(*estimate_lines(report.estimate.document))
    if report.simulation is not None:
        output.human(*simulation_lines(report.simulation.document))
    output.document(report.document)
    if report.failures:
        raise typer.Exit(1)


def _count(jobs: str | None) -> int | Literal["auto"] | None:
    if jobs is None or jobs == "auto":
        return "auto" if jobs else None
    if not jobs.isdigit() or int(jobs) < 1:
        raise BadValue(f"--jobs {jobs} is no number of processes", hint="--jobs 4, or --jobs auto")
    return int(jobs)


def _show_status(recipe: str | None, store: Path, output: Output) -> None:
    from drelu_cli.report.progress import status_lines
    from drelu_cli.workflows.board import status
    from drelu_cli.workflows.recipes import read_source

    read_source(recipe)  # a store has one sweep at a time; the name must be a known one
    found = status(store)
    if found is None:
        output.human(f"no sweep with --jobs runs on the store {store}")
    else:
        output.human(*status_lines(found))
    output.document({"status": found})


def _sentences(report: Any) -> list[str]:
    lines = []
    for name, tally in (("trainings", report.trainings), ("evaluations", report.evaluations)):
        lines.append(
            f"{name}: {tally.planned} planned, {tally.reused} found in the store, "
            f"{tally.done} done, {tally.failed} failed"
        )
    if report.moments and report.estimate is not None:  # of a plan only
        lines.append(
            f"weights kept on the way (checkpoints, minima), at most: {report.moments}; they are "
            "models, too, and attacked with their training's"
        )
    if report.stacked:
        lines.append(f"trained as one program with others (--no-stack: alone): {report.stacked}")
    lines += [f"failed: {one['job']}: {one['error']}" for one in report.failures]
    return lines
