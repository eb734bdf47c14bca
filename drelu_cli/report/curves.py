"""Robust accuracy over the radius: a table per model and norm."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

from rich import box
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from drelu_cli.core.records import OWN
from drelu_cli.report.layout import attack_name, eps_text, norm_name, percent

# So many columns fit a terminal of 80 characters.
_COLUMNS = 10
_READING = (
    "robust accuracy in %; what a smaller radius broke counts as broken at every larger one\n"
)


def curve_tables(curves: Sequence[Mapping[str, Any]]) -> list[RenderableType]:
    """Rows attacks, columns radii; more than ten radii go on in a next table."""
    shown: list[RenderableType] = []
    for _, group in groupby(curves, key=_place):
        same = list(group)
        shown += [_title(same[0]), *_tables(same)]
    return [*shown, Text(_READING)] if shown else []


def _title(curve: Mapping[str, Any]) -> Text:
    by = "" if curve["engine"] == OWN else f" by {curve['engine']}"
    over = f"{norm_name(curve['norm'])} eps, {curve['samples']} samples"
    return Text(f"{curve['name']}{by}: over {over}", style="bold")


def _place(curve: Mapping[str, Any]) -> tuple[Any, ...]:
    return (curve["model"], curve["norm"], _radii(curve))


def _radii(curve: Mapping[str, Any]) -> tuple[float, ...]:
    return tuple(point["eps"] for point in curve["points"])


def _tables(curves: Sequence[Mapping[str, Any]]) -> Iterator[Table]:
    first = curves[0]
    for start in range(0, len(first["points"]), _COLUMNS):
        here = slice(start, start + _COLUMNS)
        table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
        table.add_column("attack", overflow="fold")
        for eps in _radii(first)[here]:
            table.add_column(eps_text(eps), justify="right", no_wrap=True)
        for curve in curves:
            shares = [percent(point["robust_accuracy"]) for point in curve["points"][here]]
            table.add_row(Text(attack_name(curve["attack"])), *shares)
        yield table
