"""`drelu plot`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from drelu_cli.cli.console import Output
from drelu_cli.cli.options import (
    DEFAULT_STORE,
    DataDirOption,
    JsonOption,
    PresetOption,
    SetOption,
    StoreOption,
    parse_assignments,
    parse_where,
)


def plot(
    recipe: Annotated[
        str | None,
        typer.Argument(
            help="Plot this recipe's grid, a name or a TOML file; without it the whole store.",
            show_default=False,
        ),
    ] = None,
    over: Annotated[
        str | None,
        typer.Option(
            help="lambda, cap, m, weight, placement, eps, epoch, sensitivity, or a dotted field "
            "of recipes. Default: what the recipe's [report] says.",
            show_default=False,
            metavar="AXIS",
        ),
    ] = None,
    attack: Annotated[
        list[str] | None,
        typer.Option(
            help="Only this attack beside clean and adaptive; repeatable. "
            "Default: the recipe's, else the paper's; over eps: apgd_ce.",
            show_default=False,
            metavar="NAME",
        ),
    ] = None,
    where: Annotated[
        list[str] | None,
        typer.Option("--where", metavar="COLUMN=VALUE", help="Keep rows, e.g. dataset=mnist."),
    ] = None,
    samples: Annotated[
        int | None, typer.Option(help="The first N of the fixed order of test images.", min=1)
    ] = None,
    attack_seed: Annotated[
        int | None,
        typer.Option(
            help="Results of this attack seed (default: the recipe's, else 0).",
            min=0,
            show_default=False,
        ),
    ] = None,
    select: Annotated[
        str | None,
        typer.Option(
            help="One lambda stands for D-ReLU, chosen as by compare: validation or adaptive. "
            "Default: all are drawn.",
            show_default=False,
            metavar="RULE",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Write this name as .png, .svg and .csv (default: the recipe's name).",
            show_default=False,
        ),
    ] = None,
    preset: PresetOption = "fast",
    set_: SetOption = None,
    store: StoreOption = DEFAULT_STORE,
    data_dir: DataDirOption = None,
    json: JsonOption = False,
) -> None:
    """Draw stored results: accuracy over lambda or eps, with the adaptive column beside it.

    Examples:
      drelu plot fig11
      drelu plot --over lambda --where dataset=mnist --out lambda.png
      drelu plot --over eps --attack pgd
      drelu plot fig25 --select validation
    """
    from drelu_cli.workflows.context import Context
    from drelu_cli.workflows.plot import plot as run

    output = Output("plot", json=json)
    report = run(
        recipe,
        over=over,
        attacks=tuple(attack or ()),
        where=parse_where(where),
        samples=samples,
        attack_seed=attack_seed,
        select=select,
        out=out,
        preset=preset,
        options=parse_assignments(set_),
        context=Context(store=store, data_dir=data_dir),
    )
    output.human(f"{report.title}: {len(report.points)} points", *report.notes)
    output.human(f"written: {', '.join(str(path) for path in report.files)}")
    output.document(report.document)
