"""`drelu compare`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from drelu_cli.cli.console import Output
from drelu_cli.cli.options import (
    DEFAULT_STORE,
    DataDirOption,
    DeviceOption,
    JsonOption,
    StoreOption,
    parse_where,
)


def compare(
    out: Annotated[
        Path | None,
        typer.Option("--out", help="Write the table: .md, .tex, .csv or .html."),
    ] = None,
    where: Annotated[
        list[str] | None,
        typer.Option("--where", metavar="COLUMN=VALUE", help="Keep rows, e.g. dataset=mnist."),
    ] = None,
    samples: Annotated[
        int | None, typer.Option(help="Compare on the first N of the fixed order.", min=1)
    ] = None,
    against: Annotated[
        str | None, typer.Option(help="published:table1 puts the published value beside ours.")
    ] = None,
    select: Annotated[
        str, typer.Option(help="How lambda is chosen: validation or adaptive.")
    ] = "validation",
    attack_seed: Annotated[int, typer.Option(help="Results of this attack seed.", min=0)] = 0,
    sensitivity: Annotated[
        bool,
        typer.Option("--sensitivity", help="How wide each model's reachable outputs are."),
    ] = False,
    store: StoreOption = DEFAULT_STORE,
    data_dir: DataDirOption = None,
    device: DeviceOption = "auto",
    json: JsonOption = False,
) -> None:
    """Compare everything stored: ranks in parentheses, best in bold.

    Examples:
      drelu compare --out table.md
      drelu compare --where dataset=mnist --against published:table1 --out table1.tex
      drelu compare --sensitivity
    """
    from drelu_cli.report.certificates import violation_lines
    from drelu_cli.report.terminal import to_rich
    from drelu_cli.workflows.compare import compare as run
    from drelu_cli.workflows.context import Context

    output = Output("compare", json=json)
    report = run(
        out=out,
        where=parse_where(where),
        samples=samples,
        against=against,
        select=select,
        attack_seed=attack_seed,
        sensitivity=sensitivity,
        context=Context(store=store, data_dir=data_dir, device=device),
    )
    output.human(to_rich(report.table), *report.notes)
    if report.written is not None:
        output.human(f"written: {report.written}")
    output.document(report.document)
    for line in violation_lines(report.violations):
        output.note(line)
    if report.violations:
        raise typer.Exit(1)
