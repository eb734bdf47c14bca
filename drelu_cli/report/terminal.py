"""A comparison on a terminal of any width."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table
from rich.text import Text

from drelu_cli.report.layout import EMPTY, Cell, Grid, grids
from drelu_cli.report.render import cell_text
from drelu_cli.report.tables import Comparison

_FRAME = 3  # characters that a column's border and padding take


@dataclass(frozen=True)
class ComparisonView:
    """Prints itself as tables that fit: columns move to a next table, then into rows.

    A number that a narrow terminal has cut short is a wrong number.
    """

    comparison: Comparison

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        for grid in grids(self.comparison):
            groups = column_groups(grid, options.max_width)
            if groups is None:
                yield long_table(grid)
            else:
                yield from (wide_table(grid, group) for group in groups)


def to_rich(comparison: Comparison) -> ComparisonView:
    """Something rich can print; it chooses its form when it knows the width."""
    return ComparisonView(comparison)


def column_groups(grid: Grid, width: int) -> list[list[int]] | None:
    """The columns of `grid` in groups that fit `width`; None where a single one does not."""
    leading = [
        max(len(name) for name in ("Model", *(block.architecture for block in grid.blocks))),
        max(len(name) for name in ("Training", *(row[0] for b in grid.blocks for row in b.rows))),
    ]
    start = sum(size + _FRAME for size in leading) + 1
    groups: list[list[int]] = []
    room = 0
    for place, header in enumerate(grid.headers):
        texts = [cell_text(row[1][place]) for block in grid.blocks for row in block.rows]
        needed = max(map(len, (*_header(header).split("\n"), *texts))) + _FRAME
        if start + needed > width:
            return None
        if needed > room:
            groups.append([])
            room = width - start
        groups[-1].append(place)
        room -= needed
    return groups


def wide_table(grid: Grid, columns: Sequence[int]) -> Table:
    """A row per training, a column per attack; only some of the `columns`."""
    table = Table(title=grid.dataset, title_justify="left")
    table.add_column("Model", no_wrap=True)
    table.add_column("Training", no_wrap=True)
    for place in columns:
        table.add_column(Text(_header(grid.headers[place])), justify="right", no_wrap=True)
    for block in grid.blocks:
        for number, (training, cells) in enumerate(block.rows):
            model = block.architecture if number == 0 else ""
            shown = (_styled(cell_text(cells[place]), cells[place]) for place in columns)
            table.add_row(Text(model), Text(training), *shown)
        table.add_section()
    return table


def long_table(grid: Grid) -> Table:
    """A row per training and attack, without borders; names wrap, numbers do not."""
    table = Table(title=grid.dataset, title_justify="left", box=None, show_header=False)
    table.add_column("name", min_width=8)
    table.add_column("accuracy", justify="right", no_wrap=True)
    for block in grid.blocks:
        for training, cells in block.rows:
            table.add_row(Text(f"{block.architecture}, {training}", style="bold"), "")
            for header, cell in _named(grid, cells):
                lines = cell_text(cell).replace(" [", "\n[").replace(" ±", "\n±")
                table.add_row(Text(header), _styled(lines, cell))
    return table


def _header(text: str) -> str:
    name, bracket, threat = text.rpartition(" (")
    return f"{name}\n({threat}" if bracket else text


def _named(grid: Grid, cells: tuple[Cell, ...]) -> Iterator[tuple[str, Cell]]:
    """Cells with their headers, without the empty ones."""
    pairs = zip(grid.headers, cells, strict=True)
    return ((header, cell) for header, cell in pairs if cell.value != EMPTY or cell.published)


def _styled(text: str, cell: Cell) -> Text:
    shown = Text(text)
    if cell.best:
        shown.stylize("bold", 0, len(cell.value))
    return shown
