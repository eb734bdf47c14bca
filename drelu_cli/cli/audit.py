"""`drelu audit`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from drelu_cli.cli.console import Output
from drelu_cli.cli.options import JsonOption
from drelu_cli.core.errors import CheckFailed


def audit(
    table: Annotated[
        str, typer.Argument(help="published:table1 .. published:table9, or a CSV file.")
    ] = "published:all",
    claims: Annotated[
        str | None,
        typer.Option(
            help="TOML file of statistics printed in the text, or none. Default: the paper's own "
            "for its tables.",
            metavar="FILE",
        ),
    ] = None,
    fail_on: Annotated[
        list[str] | None,
        typer.Option("--fail-on", metavar="CODE", help="Exit 1 where CODE is found; repeatable."),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Write the report: .md, .tex or .txt.")] = None,
    json: JsonOption = False,
) -> None:
    """Lint a published table: what is wrong in it, by its numbers alone.

    Examples:
      drelu audit
      drelu audit published:table2 --fail-on rank-mismatch
      drelu audit my.csv --claims claims.toml --out review.md
    """
    from drelu_cli.workflows.audit import audit as run

    output = Output("audit", json=json)
    report = run(table, claims=claims, fail_on=tuple(fail_on or ()), out=out)
    width = min(100, output.people.width)  # longer lines are hard to read
    output.human(report.render(width=width).rstrip("\n"))
    if out is not None:
        output.human(f"written: {out}")
    output.document(report.document)
    if report.failed:
        output.note(f"failed: {', '.join(report.failed)} (--fail-on)")
        raise typer.Exit(CheckFailed.exit_code)
