"""Sections of a report, and their three forms: terminal text, Markdown, LaTeX."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from drelu_cli.core.errors import BadValue

WIDTH = 100
FORMATS = (".txt", ".md", ".tex")

_LATEX = {
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
}


@dataclass(frozen=True, slots=True)
class Grid:
    """A table of text.

    Attributes:
        words: columns aligned to the left; the others are numbers, to the right.
        brief: columns that say everything; plain text lists them where the table is too wide.
    """

    headers: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    words: tuple[int, ...] = (0,)
    brief: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Section:
    """A titled part of a report.

    Attributes:
        paragraphs: before the table.
        grid: a table, if any.
        verbatim: lines whose columns must stay aligned.
    """

    title: str
    paragraphs: tuple[str, ...] = ()
    grid: Grid | None = None
    verbatim: tuple[str, ...] = field(default=())


def render_sections(sections: Sequence[Section], suffix: str, *, width: int = WIDTH) -> str:
    """The report in the form of a file with `suffix`: `.txt`, `.md` or `.tex`.

    Args:
        sections: the report.
        suffix: the form.
        width: of plain text, in characters.

    Raises:
        BadValue: another suffix.
    """
    forms: dict[str, Callable[[Section], str]] = {
        ".txt": partial(as_text, width=width),
        ".md": as_markdown,
        ".tex": as_latex,
    }
    if suffix not in forms:
        raise BadValue(
            f"reports cannot be written as '{suffix}'", hint=f"known: {', '.join(FORMATS)}"
        )
    return "\n".join(forms[suffix](section) for section in sections).rstrip("\n") + "\n"


def check_suffix(path: Path | None, known: Sequence[str], what: str) -> None:
    """Refuses a file name whose form is unknown, before any work is done.

    Raises:
        BadValue: `path` has another suffix than the `known` ones.
    """
    if path is not None and path.suffix.lower() not in known:
        raise BadValue(
            f"{what} {path} has no known form '{path.suffix}'", hint=f"known: {', '.join(known)}"
        )


def as_text(section: Section, *, width: int = WIDTH) -> str:
    """For a terminal or a pipe: plain, at most `width` columns; wider tables become lists."""
    lines = [section.title, "-" * len(section.title)]
    for paragraph in section.paragraphs:
        lines += textwrap.wrap(paragraph, width, break_on_hyphens=False) or [""]
    if section.grid is not None:
        table = _aligned(section.grid)
        lines += table if max(map(len, table)) <= width else _listed(section.grid, width)
    lines += section.verbatim
    return "\n".join([*lines, ""])


def as_markdown(section: Section) -> str:
    """A heading of the second level, pipe tables, fenced diagrams."""
    parts = [f"## {section.title}", *section.paragraphs]
    if section.grid is not None:
        grid = section.grid
        rule = ["---" if i in grid.words else "---:" for i in range(len(grid.headers))]
        table = [grid.headers, tuple(rule), *grid.rows]
        cleaned = [[cell.replace("|", "\\|") for cell in row] for row in table]
        parts.append("\n".join("| " + " | ".join(row) + " |" for row in cleaned))
    if section.verbatim:
        parts.append("\n".join(["```text", *section.verbatim, "```"]))
    return "\n\n".join(parts) + "\n"


def as_latex(section: Section) -> str:
    """For a paper with booktabs: a paragraph, a tabular, a verbatim block."""
    parts = [rf"\paragraph{{{latex_escape(section.title)}}}"]
    parts += [latex_escape(paragraph) for paragraph in section.paragraphs]
    if section.grid is not None:
        grid = section.grid
        columns = "".join("l" if i in grid.words else "r" for i in range(len(grid.headers)))
        rows = [" & ".join(latex_escape(cell) for cell in row) + r" \\" for row in grid.rows]
        head = " & ".join(latex_escape(cell) for cell in grid.headers) + r" \\"
        parts.append(
            "\n".join(
                [
                    rf"\begin{{tabular}}{{{columns}}}",
                    r"\toprule",
                    head,
                    r"\midrule",
                    *rows,
                    r"\bottomrule",
                    r"\end{tabular}",
                ]
            )
        )
    if section.verbatim:
        parts.append("\n".join([r"\begin{verbatim}", *section.verbatim, r"\end{verbatim}"]))
    return "\n\n".join(parts) + "\n"


def latex_escape(text: str) -> str:
    """`text` with LaTeX's special characters made harmless."""
    return "".join(_LATEX.get(character, character) for character in text)


def _listed(grid: Grid, width: int) -> list[str]:
    """One wrapped item per row; a number is never cut short."""
    lines = []
    for row in grid.rows:
        if grid.brief:
            text = ": ".join(row[i] for i in grid.brief)
        else:
            named = zip(grid.headers[1:], row[1:], strict=True)
            filled = [f"{name} {value}".strip() for name, value in named if value]
            text = f"{row[0].strip()}: " + "; ".join(filled)
        lines += textwrap.wrap(f"- {text}", width, subsequent_indent="  ", break_on_hyphens=False)
    return lines


def _aligned(grid: Grid) -> list[str]:
    table = [grid.headers, *grid.rows]
    widths = [max(len(row[i]) for row in table) for i in range(len(grid.headers))]
    lines = [
        "  ".join(
            cell.ljust(width) if i in grid.words else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in table
    ]
    return [lines[0], "  ".join("-" * width for width in widths), *lines[1:]]
