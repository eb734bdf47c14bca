"""The small files beside a model's weights: recipe and history, written whole or not at all."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import tomli_w

from drelu_cli.core.errors import BadValue
from drelu_cli.core.recipe import Recipe

WEIGHTS = "weights.safetensors"
RECIPE = "recipe.toml"
HISTORY = "history.csv"
RESUME = "resume.pt"


def check_folder(file: Path) -> None:
    """Refuses a file whose folder does not exist: a typing error must not make folders.

    Raises:
        BadValue: names the folder.
    """
    if not file.resolve().parent.is_dir():
        raise BadValue(f"there is no folder {file.parent}", hint="make it first")


def write_atomically(path: Path, content: str | bytes) -> None:
    """Writes `content` by rename: a killed process leaves the old file or the new one."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    raw = content.encode("utf-8") if isinstance(content, str) else content
    with temporary.open("wb") as file:
        file.write(raw)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def write_recipe(path: Path, recipe: Recipe) -> None:
    """Writes the effective recipe as TOML that `drelu train` reads back."""
    write_atomically(path, tomli_w.dumps(recipe.as_mapping()))


def write_history(path: Path, history: Sequence[Mapping[str, Any]]) -> None:
    """Writes one row per epoch; a column that a phase lacks is empty."""
    fields = list(dict.fromkeys(field for record in history for field in record))
    text = io.StringIO()
    writer = csv.DictWriter(text, fields, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(history)
    write_atomically(path, text.getvalue())
