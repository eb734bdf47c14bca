"""`drelu stats`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from drelu_cli.cli.console import Output
from drelu_cli.cli.options import DEFAULT_STORE, JsonOption, StoreOption, parse_where


def stats(
    table: Annotated[
        str | None,
        typer.Argument(
            help="published:table1 .. published:table9, or a CSV file; without it the store.",
            show_default=False,
        ),
    ] = None,
    where: Annotated[
        list[str] | None,
        typer.Option("--where", metavar="COLUMN=VALUE", help="Keep rows, e.g. dataset=mnist."),
    ] = None,
    suite: Annotated[
        str | None, typer.Option(help="From the store, only this suite's attacks and clean.")
    ] = None,
    blocks: Annotated[
        str | None,
        typer.Option(
            help="cell (network x column), network, or auto: network from 5 networks on. "
            "Default: cell for published tables, else auto.",
            metavar="UNIT",
        ),
    ] = None,
    over: Annotated[
        str, typer.Option(help="A network's value over its columns: mean or worst.")
    ] = "mean",
    columns: Annotated[
        str, typer.Option(help="all, attacks (without clean), or attack names with commas.")
    ] = "all",
    alpha: Annotated[float, typer.Option(help="Level of the sentences and the diagram.")] = 0.05,
    control: Annotated[
        str | None,
        typer.Option(help="Treatment that Bonferroni-Dunn compares with the others."),
    ] = None,
    ranks: Annotated[str, typer.Option(help="recomputed, or printed in the table.")] = "recomputed",
    rope: Annotated[
        float, typer.Option(help="Half width of practical equivalence, percentage points.")
    ] = 1.0,
    samples: Annotated[
        int | None, typer.Option(help="From the store, the first N of the fixed order.", min=1)
    ] = None,
    attack_seed: Annotated[
        int, typer.Option(help="From the store, results of this attack seed.", min=0)
    ] = 0,
    seed: Annotated[
        int, typer.Option(help="Seed of the Bayesian test and the bootstrap.", min=0)
    ] = 0,
    plot: Annotated[
        Path | None,
        typer.Option(help="Write the critical-difference diagram: .svg, .png or .pdf."),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Write the report: .md, .tex or .txt.")] = None,
    store: StoreOption = DEFAULT_STORE,
    json: JsonOption = False,
) -> None:
    """Test the differences: ANOVA, Friedman, Iman-Davenport, Nemenyi, and what is safer.

    Examples:
      drelu stats published:table2
      drelu stats published:table2 --blocks network --over worst --columns attacks
      drelu stats my.csv --control D-ReLU-0.1 --plot diagram.svg --out results.tex
      drelu stats --where dataset=mnist --suite whitebox
    """
    from drelu_cli.workflows.stats import stats as run

    output = Output("stats", json=json)
    report = run(
        table,
        store=store,
        where=parse_where(where),
        suite=suite,
        blocks=blocks,
        over=over,
        columns=columns,
        alpha=alpha,
        control=control,
        ranks=ranks,
        rope=rope,
        seed=seed,
        samples=samples,
        attack_seed=attack_seed,
        plot=plot,
        out=out,
    )
    width = min(100, output.people.width)  # longer lines are hard to read
    output.human(report.render(width=width).rstrip("\n"))
    for written in (plot, out):
        if written is not None:
            output.human(f"written: {written}")
    output.document(report.document)
