"""A comparison as text: Markdown, LaTeX, CSV or HTML."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import resources

import pandas as pd

from drelu_cli.core.errors import UnknownName
from drelu_cli.report.layout import Cell, Grid, grids
from drelu_cli.report.tables import (
    CELL,
    MEASURES,
    TREATMENT,
    VERDICT_COLUMNS,
    VERDICT_KEYS,
    Comparison,
)

_PUBLISHED = "paper"
_LEADING = ("Model", "Training")

_TEX = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "±": r"$\pm$",
}


def render(
    comparison: Comparison,
    format: str,  # noqa: A002  (the word of the command line)
    *,
    caption: str = "",
    notes: Sequence[str] = (),
) -> str:
    """The comparison as text, with a final newline.

    Args:
        comparison: what to show.
        format: `md`, `tex` (booktabs), `html` (a page of its own) or `csv`.
        caption: above the tables.
        notes: lines below the tables. CSV has neither caption nor notes: it is data, one row
            per cell with fractions at full precision.

    Raises:
        UnknownName: another format.
    """
    if format not in RENDERERS:
        raise UnknownName.among("table format", format, RENDERERS)
    return RENDERERS[format](comparison, caption, notes)


def cell_text(cell: Cell) -> str:
    """`80.40 ± 0.30 (1) [paper 87.70]`, without emphasis."""
    parts = [cell.value]
    if cell.spread:
        parts.append(f"± {cell.spread}")
    if cell.rank:
        parts.append(f"({cell.rank})")
    if cell.published:
        parts.append(f"[{_PUBLISHED} {cell.published}]")
    return " ".join(parts)


def _markdown(comparison: Comparison, caption: str, notes: Sequence[str]) -> str:
    parts = [_md(caption)] if caption else []
    for grid in grids(comparison):
        header = [*_LEADING, *grid.headers]
        lines = [_md_row([_md(text) for text in header])]
        lines.append(_md_row(["---", "---", *("---:" for _ in grid.headers)]))
        for block in grid.blocks:
            for training, cells in block.rows:
                shown = (_cell(cell, _md, "**{}**") for cell in cells)
                lines.append(_md_row([_md(block.architecture), _md(training), *shown]))
        parts += [f"### {_md(grid.dataset)}", "\n".join(lines)]
    if notes:
        parts.append("\n".join(f"- {_md(note)}" for note in notes))
    return "\n\n".join(parts) + "\n"


def _md_row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _md(text: str) -> str:
    for mark in ("\\", "|", "*", "_", "<", "`"):
        text = text.replace(mark, "\\" + mark)
    return " ".join(text.split())


def _latex(comparison: Comparison, caption: str, notes: Sequence[str]) -> str:
    lines = ["% needs \\usepackage{booktabs} and \\usepackage{graphicx}"]
    for grid in grids(comparison):
        title = f"{caption} ({grid.dataset})" if caption else grid.dataset
        lines += [
            "\\begin{table}",
            "  \\centering",
            f"  \\caption{{{_tex(title)}}}",
            # A table that is too wide is made smaller; a narrow one keeps its size.
            "  \\resizebox{\\ifdim\\width>\\linewidth \\linewidth\\else \\width\\fi}{!}{%",
            *(f"  {line}" for line in _tabular(grid)),
            "  }%",
        ]
        if notes:
            lines.append("  \\par\\smallskip\\footnotesize")
            lines += [f"  {_tex(note)}\\par" for note in notes]
        lines.append("\\end{table}")
    return "\n".join(lines) + "\n"


def _tabular(grid: Grid) -> list[str]:
    header = " & ".join(_tex(text) for text in (*_LEADING, *grid.headers))
    lines = [
        f"\\begin{{tabular}}{{ll{'r' * len(grid.headers)}}}",
        "  \\toprule",
        f"  {header} \\\\",
    ]
    for block in grid.blocks:
        lines.append("  \\midrule")
        for place, (training, cells) in enumerate(block.rows):
            shown = (_cell(cell, _tex, "\\textbf{{{}}}") for cell in cells)
            model = _tex(block.architecture) if place == 0 else ""
            lines.append(f"  {' & '.join([model, _tex(training), *shown])} \\\\")
    return [*lines, "  \\bottomrule", "\\end{tabular}%"]


def _tex(text: str) -> str:
    return "".join(_TEX.get(letter, letter) for letter in " ".join(text.split()))


def _cell(cell: Cell, escape: Callable[[str], str], bold: str) -> str:
    """A cell in a format that has `escape`, its best value written as `bold` says."""
    text, value = escape(cell_text(cell)), escape(cell.value)
    return bold.format(value) + text[len(value) :] if cell.best else text


def _csv(comparison: Comparison, caption: str, notes: Sequence[str]) -> str:  # noqa: ARG001
    named = [*CELL, "mean", "std", "n_seeds", "rank", "best", "published"]
    frame: pd.DataFrame = comparison.cells[named]
    if len(comparison.columns):
        beside = comparison.columns[[*VERDICT_KEYS, *VERDICT_COLUMNS]]
        frame = frame.merge(beside, on=VERDICT_KEYS, how="left")
    if comparison.measures is not None:
        frame = frame.merge(comparison.measures[[*TREATMENT, *MEASURES]], on=TREATMENT, how="left")
    return frame.to_csv(index=False, lineterminator="\n")


def _html(comparison: Comparison, caption: str, notes: Sequence[str]) -> str:
    import jinja2

    page = resources.files("drelu_cli.report").joinpath("comparison.html.j2")
    environment = jinja2.Environment(
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        undefined=jinja2.StrictUndefined,
    )
    template = environment.from_string(page.read_text(encoding="utf-8"))
    return template.render(
        caption=caption,
        notes=notes,
        leading=_LEADING,
        grids=grids(comparison),
        published=_PUBLISHED,
    )


RENDERERS = {"md": _markdown, "tex": _latex, "csv": _csv, "html": _html}
