"""Options that several commands share, spelled once."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from drelu_cli.core.errors import BadValue
from drelu_cli.core.quantities import parse_fraction

if TYPE_CHECKING:
    from drelu_cli.workflows.subjects import Outside

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

# How to read a model that is not in the registry: `drelu attack` and `drelu verify`.
ArchitectureOption = Annotated[
    str | None,
    typer.Option("--model", help="Architecture of a weights file, or package.module:factory."),
]
ActivationOption = Annotated[str, typer.Option(help="Activation of that architecture.")]
PlacementOption = Annotated[str, typer.Option(help="Its placement: head, stem or all.")]
MeanOption = Annotated[str | None, typer.Option(help="Per channel, 0.49,0.48,0.45; with --std.")]
StdOption = Annotated[str | None, typer.Option(help="Per channel; with --mean.")]


def outside_of(dataset: str | None, mean: str | None, std: str | None, **given: Any) -> Outside:
    """How to read a model from outside, from what was typed.

    Raises:
        BadValue: one of mean and std without the other, or no numbers.
    """
    from drelu_cli.workflows.subjects import Outside

    if (mean is None) != (std is None):
        raise BadValue("--mean and --std go together", hint="--mean 0.1307 --std 0.3081")
    name, path = _named_data(dataset)
    return Outside(
        dataset=name,
        data_path=path,
        mean=_channels(mean, "mean"),
        std=_channels(std, "std"),
        **given,
    )


def _channels(text: str | None, what: str) -> tuple[float, ...] | None:
    if text is None:
        return None
    return tuple(parse_fraction(part, what=what) for part in text.split(","))


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
    """`--dataset` as recipe fields: a name, an `.npz` file, or a folder with a slash in it."""
    name, path = _named_data(dataset)
    return [("data.name", name)] if path is None else [("data.name", name), ("data.path", path)]


def _named_data(dataset: str | None) -> tuple[str | None, str | None]:
    """A data set's registered name and, of the user's own, its path."""
    if dataset is None:
        return None, None
    if dataset.endswith(".npz"):
        return "npz", dataset
    if "/" in dataset or os.sep in dataset:
        return "image_folder", dataset
    return dataset, None


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
