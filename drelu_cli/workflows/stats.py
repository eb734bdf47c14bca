"""`drelu stats`: the tests of the field on a table, a CSV file or the store."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from drelu_cli.core.errors import BadValue, UnknownName
from drelu_cli.published import CONTROL, is_published
from drelu_cli.report.diagram import PLOT_FORMATS, plot_diagram
from drelu_cli.report.stats_document import stats_document
from drelu_cli.report.stats_outcomes import outcome_sections
from drelu_cli.report.stats_results import results_sections
from drelu_cli.report.stats_sections import FORMATS, WIDTH, Section, check_suffix, render_sections
from drelu_cli.stats.blocks import Blocks, cells, networks, resolve_unit
from drelu_cli.stats.comparison import ROPE, Comparison, compare_treatments
from drelu_cli.stats.conclusion import conclusions
from drelu_cli.workflows.files import check_folder, write_atomically

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class StatsReport:
    """What `stats` found.

    Attributes:
        comparison: every test.
        source: `published:tableN`, a file or the store.
        conclusion: sentences that the tests allow.
        warnings: what forbids a conclusion, each with its name in front.
        notes: where the numbers are from and what was left out.
        outcomes: intervals and McNemar tests on per-sample outcomes; None without a store.
    """

    comparison: Comparison
    source: str
    conclusion: tuple[str, ...]
    warnings: tuple[str, ...]
    notes: tuple[str, ...] = ()
    outcomes: Mapping[str, list[dict[str, Any]]] | None = None

    @property
    def document(self) -> dict[str, Any]:
        """The JSON document of `drelu stats`, in percent."""
        found = stats_document(
            self.comparison,
            source=self.source,
            conclusion=list(self.conclusion),
            warnings=list(self.warnings),
            notes=list(self.notes),
        )
        return found if self.outcomes is None else {**found, "outcomes": dict(self.outcomes)}

    @property
    def sections(self) -> list[Section]:
        """The report as sections."""
        sections = results_sections(
            self.comparison,
            source=self.source,
            conclusion=self.conclusion,
            warnings=self.warnings,
            notes=self.notes,
        )
        if self.outcomes is None:
            return sections
        return [*sections[:-1], *outcome_sections(self.outcomes), sections[-1]]

    def render(self, suffix: str = ".txt", *, width: int = WIDTH) -> str:
        """The report as `.txt` (at most `width` characters wide), `.md` or `.tex`."""
        return render_sections(self.sections, suffix, width=width)


def stats(
    table: str | None = None,
    *,
    store: Path | None = None,
    where: Mapping[str, str] | None = None,
    suite: str | None = None,
    blocks: str | None = None,
    over: str = "mean",
    columns: str = "all",
    alpha: float = 0.05,
    control: str | None = None,
    ranks: str = "recomputed",
    rope: float = ROPE,
    seed: int = 0,
    samples: int | None = None,
    attack_seed: int = 0,
    plot: Path | None = None,
    out: Path | None = None,
) -> StatsReport:
    """The tests on one table of accuracies.

    Args:
        table: `published:tableN`, a CSV file, or None for the store.
        store: folder of the store; None takes `runs`.
        where: keep rows whose column has this value, e.g. `{"dataset": "mnist"}`.
        suite: from the store, only the attacks of this suite and clean.
        blocks: `cell`, `network` or `auto`; None takes cell for published tables, else auto.
        over: how a network summarises its columns: `mean` or `worst`.
        columns: `all`, `attacks` (without clean), or attack names with commas.
        alpha: level of the sentences and the diagram.
        control: treatment of Bonferroni-Dunn; None takes D-ReLU in published tables, else none.
        ranks: `recomputed` or `printed`.
        rope: half width of practical equivalence, percentage points.
        seed: of the Bayesian test and the bootstrap.
        samples: from the store, the first N of the fixed order.
        attack_seed: from the store, results of this attack seed.
        plot: file of the critical-difference diagram: .svg, .png or .pdf.
        out: file of the report: .txt, .md or .tex.

    Raises:
        DreluError: an unknown name, a damaged table, options that do not fit the source.
    """
    check_suffix(plot, PLOT_FORMATS, "the plot")
    check_suffix(out, FORMATS, "the report")
    found = _source(table, store, where or {}, suite, samples, attack_seed, seed)
    unit_asked = blocks or ("cell" if found.published else "auto")
    chosen, warning = _blocks(found.frame, columns, unit_asked, over)
    if control is None and found.published and CONTROL in chosen.treatments:
        control = CONTROL
    comparison = compare_treatments(
        chosen, seed=seed, alpha=alpha, control=control, ranks=ranks, rope=rope
    )
    report = StatsReport(
        comparison=comparison,
        source=found.name,
        conclusion=tuple(conclusions(comparison)),
        warnings=(warning,) if warning else (),
        notes=found.notes,
        outcomes=found.outcomes,
    )
    _write(report, plot, out)
    return report


@dataclass(frozen=True)
class _Source:
    """A long frame in percent, and where it is from."""

    name: str
    frame: pd.DataFrame
    published: bool = False
    notes: tuple[str, ...] = ()
    outcomes: Mapping[str, list[dict[str, Any]]] | None = None


def _source(
    table: str | None,
    store: Path | None,
    where: Mapping[str, str],
    suite: str | None,
    samples: int | None,
    attack_seed: int,
    seed: int,
) -> _Source:
    if table is None:
        from drelu_cli.workflows.stored_table import stored_table

        stored = stored_table(store or Path("runs"), where, suite, samples, attack_seed, seed)
        return _Source(stored.source, stored.frame, False, stored.notes, stored.outcomes)
    if suite is not None or samples is not None:
        raise BadValue(
            f"--suite and --samples choose stored results, {table} is a table",
            hint="leave the table out, or choose columns with --columns",
        )
    from drelu_cli.workflows.tabular import read_table, select

    if is_published(table):
        from drelu_cli.published.tables import published_table

        return _Source(table, select(_single(table, published_table(table)), where), True)
    return _Source(table, select(read_table(Path(table)), where))


def _single(table: str, frame: pd.DataFrame) -> pd.DataFrame:
    if frame["table"].nunique() > 1:
        raise BadValue(
            f"{table} is nine tables with different treatments",
            hint="name one: published:table1 .. published:table9",
        )
    return frame


def _blocks(frame: pd.DataFrame, columns: str, asked: str, over: str) -> tuple[Blocks, str]:
    if over not in ("mean", "worst"):
        raise UnknownName.among("value of --over", over, ("mean", "worst"))
    by_cell = cells(frame, columns)
    unit, warning = resolve_unit(asked, by_cell)
    return (networks(by_cell, over) if unit == "network" else by_cell), warning


def _write(report: StatsReport, plot: Path | None, out: Path | None) -> None:
    comparison = report.comparison
    if plot is not None:
        check_folder(plot)
        plot_diagram(
            plot,
            comparison.blocks.treatments,
            comparison.friedman.average_ranks,
            comparison.nemenyi.cd[comparison.alpha],
            comparison.alpha,
        )
    if out is not None:
        check_folder(out)
        write_atomically(out, report.render(out.suffix.lower()))
