"""`drelu export`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from drelu_cli.cli.console import Output
from drelu_cli.cli.options import DEFAULT_STORE, JsonOption, StoreOption


def export(
    what: Annotated[
        str,
        typer.Argument(help="outcomes, evaluations, models, examinations or certificates."),
    ] = "outcomes",
    format_: Annotated[str, typer.Option("--format", help="csv, json or parquet.")] = "csv",
    out: Annotated[Path | None, typer.Option("--out", help="File; default: stdout.")] = None,
    store: StoreOption = DEFAULT_STORE,
    json: JsonOption = False,
) -> None:
    """Export what is stored, per sample, for other programs.

    Examples:
      drelu export --out outcomes.csv
      drelu export models --format json
    """
    from drelu_cli.workflows.context import Context
    from drelu_cli.workflows.export import export as run

    output = Output("export", json=json)
    report = run(what, format_, out=out, to_text=not json, context=Context(store=store))
    if report.text is not None:
        sys.stdout.write(report.text)
    else:
        output.human(f"{report.rows} rows written: {out}" if out else f"{report.rows} rows")
    output.document(report.document)
