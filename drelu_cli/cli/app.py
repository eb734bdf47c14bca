"""The commands of `drelu`, one file each."""

from __future__ import annotations

from typing import Annotated

import typer

from drelu_cli import __version__
from drelu_cli.cli.attack import AttackCommand, attack
from drelu_cli.cli.audit import audit
from drelu_cli.cli.compare import compare
from drelu_cli.cli.doctor import doctor
from drelu_cli.cli.export import export
from drelu_cli.cli.gc import gc
from drelu_cli.cli.list import list_
from drelu_cli.cli.options import help_of
from drelu_cli.cli.plot import plot
from drelu_cli.cli.recipe import recipe_app
from drelu_cli.cli.stats import stats
from drelu_cli.cli.sweep import sweep
from drelu_cli.cli.train import train
from drelu_cli.cli.verify import verify

app = typer.Typer(
    name="drelu",
    help="Is a classifier with a modified activation function really robust? Train it, attack "
    "it, compare it with its baselines, test the difference.\n\nStart: drelu train, then "
    "drelu train --activation relu, drelu attack, drelu compare, drelu stats.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"drelu {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version."),
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help="Show the traceback of an error (any command).")
    ] = False,
) -> None:
    """Options that come before the command; `--debug` may stand anywhere."""


app.command(help=help_of(train))(train)
app.command(cls=AttackCommand, help=help_of(attack))(attack)
app.command(help=help_of(verify))(verify)
app.command(help=help_of(compare))(compare)
app.command(help=help_of(plot))(plot)
app.command(help=help_of(stats))(stats)
app.command(help=help_of(audit))(audit)
app.command(help=help_of(sweep))(sweep)
app.command("list", help=help_of(list_))(list_)
app.command(help=help_of(export))(export)
app.command(help=help_of(gc))(gc)
app.command(help=help_of(doctor))(doctor)
app.add_typer(recipe_app)
