"""`drelu recipe show`."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from drelu_cli.cli.console import Output
from drelu_cli.cli.options import JsonOption, PresetOption, help_of

recipe_app = typer.Typer(
    name="recipe", help="Recipes: what they contain.", no_args_is_help=True, rich_markup_mode=None
)


@recipe_app.callback()
def recipe() -> None:
    """Recipes: what they contain."""


def show(
    name: Annotated[str, typer.Argument(help="A packaged recipe's name or a TOML file.")],
    preset: PresetOption = "fast",
    effective: Annotated[
        bool,
        typer.Option("--effective", help="Every member of the grid with all defaults filled in."),
    ] = False,
    json: JsonOption = False,
) -> None:
    """Show a recipe: the file itself, or what it means.

    Examples:
      drelu recipe show table1
      drelu recipe show smoke --effective --json
    """
    from drelu_cli.workflows.show import show_recipe

    output = Output("recipe show", json=json)
    shown = show_recipe(name, preset=preset, effective=effective)
    if not json:
        sys.stdout.write(shown.text)
    output.document(shown.document)


recipe_app.command(help=help_of(show))(show)
