"""`drelu sweep`."""

from __future__ import annotations

from typing import Annotated, Any

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
    store: StoreOption = DEFAULT_STORE,
    data_dir: DataDirOption = None,
    device: DeviceOption = "auto",
    json: JsonOption = False,
) -> None:
    """Train and attack what is missing of a recipe's grid; stop and start it as you like.

    Examples:
      drelu sweep
      drelu sweep table1 --dry-run
      drelu sweep table1 --seed 0 --set data.train_samples=5000
      drelu sweep table2 --set "model.name=['dense','shallow_cnn']" --samples 200
    """
    from drelu_cli.report.plan import estimate_lines, plan_table
    from drelu_cli.report.terminal import to_rich
    from drelu_cli.workflows.compare import compare
    from drelu_cli.workflows.context import Context
    from drelu_cli.workflows.sweep import sweep as run

    output = Output("sweep", json=json)
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
    output.document(report.document)
    if report.failures:
        raise typer.Exit(1)


def _sentences(report: Any) -> list[str]:
    lines = []
    for name, tally in (("trainings", report.trainings), ("evaluations", report.evaluations)):
        lines.append(
            f"{name}: {tally.planned} planned, {tally.reused} found in the store, "
            f"{tally.done} done, {tally.failed} failed"
        )
    lines += [f"failed: {one['job']}: {one['error']}" for one in report.failures]
    return lines
