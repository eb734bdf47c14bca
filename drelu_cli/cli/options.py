"""Options that several commands share, spelled once."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from drelu_cli.core.errors import BadValue

StoreOption = Annotated[
    Path,
    typer.Option("--store", envvar="DRELU_STORE", help="Folder of models and results."),
]
DEFAULT_STORE = Path("runs")

DataDirOption = Annotated[
    Path | None,
    typer.Option(
        "--data-dir",
        envvar="DRELU_DATA_DIR",
        help="Folder of data sets (default: the user cache folder).",
        show_default=False,
    ),
]
DeviceOption = Annotated[
    str, typer.Option("--device", help="auto, cpu, cuda, cuda:N or mps.", metavar="NAME")
]
JsonOption = Annotated[
    bool,
    typer.Option("--json", help="One JSON document on stdout, everything human on stderr."),
]
PresetOption = Annotated[
    str,
    typer.Option("--preset", help="fast, paper (as printed) or tiny (seconds).", metavar="NAME"),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="SECTION.KEY=VALUE",
        help="Any other field of the recipe; repeatable.",
        show_default=False,
    ),
]


def help_of(command: Callable[..., None]) -> str:
    """A command's docstring as its help, with the mark that keeps the lines of the examples."""
    return inspect.cleandoc(command.__doc__ or "").replace("Examples:\n", "\b\nExamples:\n")


def parse_assignments(assignments: list[str] | None) -> list[tuple[str, Any]]:
    """Dotted fields and values from `section.key=value`; values are read as TOML, else as text.

    Raises:
        BadValue: no `=`, or an empty field.
    """
    parsed: list[tuple[str, Any]] = []
    for text in assignments or []:
        field, equals, value = text.partition("=")
        if not equals or not field.strip():
            raise BadValue(f"'{text}' is not section.key=value", hint="--set train.batch=64")
        parsed.append((field.strip(), _toml_value(value.strip())))
    return parsed


def dataset_fields(dataset: str | None) -> list[tuple[str, Any]]:
    """`--dataset` as recipe fields: a name, or an `.npz` file."""
    if dataset is not None and dataset.endswith(".npz"):
        return [("data.name", "npz"), ("data.path", dataset)]
    return [("data.name", dataset)]


def parse_where(filters: list[str] | None) -> dict[str, str]:
    """Filters from `column=value`.

    Raises:
        BadValue: no `=`.
    """
    found: dict[str, str] = {}
    for text in filters or []:
        column, equals, value = text.partition("=")
        if not equals or not column.strip():
            raise BadValue(f"'{text}' is not column=value", hint="--where dataset=mnist")
        found[column.strip()] = value.strip()
    return found


def _toml_value(text: str) -> Any:
    import tomllib

    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text
