"""A comparison as a results section: sections of text, tables and the diagram."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from drelu_cli.report.diagram import text_diagram
from drelu_cli.report.stats_sections import Grid, Section
from drelu_cli.stats.distributions import alpha_key

if TYPE_CHECKING:
    from drelu_cli.stats.comparison import Comparison

NAMED_AT_MOST = 8  # missing blocks named in the text; the JSON document names all


def results_sections(
    comparison: Comparison,
    *,
    source: str,
    conclusion: Sequence[str],
    warnings: Sequence[str],
    notes: Sequence[str] = (),
) -> list[Section]:
    """The report in the order of a results section."""
    return [
        _compared(comparison, source, warnings, notes),
        _treatments(comparison),
        _tests(comparison),
        _diagram(comparison),
        _pairs(comparison),
        _effects(comparison),
        Section("Conclusion", tuple(conclusion)),
    ]


def p_text(p: float | None) -> str:
    """A p-value: four decimals, scientific below .0001, `-` where undefined."""
    if p is None:
        return "-"
    return f"{p:.4f}" if p >= 1e-4 else f"{p:.2e}"


def value_text(value: float | None) -> str:
    """A statistic with four decimals, `infinite`, or `-` where undefined."""
    if value is None:
        return "-"
    return "infinite" if math.isinf(value) else f"{value:.4f}"


def _compared(
    comparison: Comparison, source: str, warnings: Sequence[str], notes: Sequence[str]
) -> Section:
    blocks = comparison.blocks
    unit = "network x attack column (cell)" if blocks.unit == "cell" else "network"
    columns = ", ".join(dict.fromkeys(blocks.columns))
    paragraphs = [
        f"Source: {source}. Accuracies in percent, rank 1 = highest.",
        f"{len(blocks.treatments)} treatments: {', '.join(blocks.treatments)}.",
        f"{len(blocks.names)} blocks from {comparison.dependence.n_networks} network(s); unit: "
        f"{unit}; columns: {columns}; ranks {comparison.ranks}.",
        _independence(comparison),
    ]
    if blocks.missing:
        named = "; ".join(
            f"{lost.block} (no {', '.join(lost.treatments)})"
            for lost in blocks.missing[:NAMED_AT_MOST]
        )
        more = len(blocks.missing) - NAMED_AT_MOST
        tail = f"; and {more} more, all in --json" if more > 0 else ""
        paragraphs.append(f"{len(blocks.missing)} block(s) left out: {named}{tail}.")
    paragraphs += [f"Note: {note}." for note in notes]
    paragraphs += [f"Warning: {warning}." for warning in warnings]
    return Section("What was compared", tuple(paragraphs))


def _independence(comparison: Comparison) -> str:
    found = comparison.dependence
    if found.n_blocks == found.n_networks:
        return "Each block is a network of its own."
    if found.n_networks == 1:
        return "All blocks are repeated measurements of one network: worth 1 independent block."
    icc = "undefined" if found.icc is None else f"{found.icc:.2f}"
    text = (
        f"Blocks of one network: intraclass correlation of the treatment effects {icc}, so "
        f"{found.n_blocks} blocks are worth {found.effective_by_icc:.1f}"
    )
    if found.column_correlation is not None and found.effective_by_columns is not None:
        low, high = found.column_correlation
        text += (
            f"; columns correlate at {low:.2f} to {high:.2f}, by which they are worth "
            f"{found.effective_by_columns:.1f}"
        )
    return text + "."


def _treatments(comparison: Comparison) -> Section:
    test = comparison.friedman
    means = comparison.blocks.values.mean(axis=0).tolist()
    rows = sorted(
        zip(
            test.average_ranks.tolist(),
            comparison.blocks.treatments,
            means,
            test.rank_sums.tolist(),
            strict=True,
        ),
        key=lambda row: row[0],
    )
    return Section(
        "Treatments",
        grid=Grid(
            ("treatment", "mean accuracy", "average rank", "rank sum"),
            tuple(
                (name, f"{mean:.2f}", f"{rank:.4f}", f"{total:g}")
                for rank, name, mean, total in rows
            ),
        ),
    )


def _tests(comparison: Comparison) -> Section:
    one_way, repeated, test = comparison.anova, comparison.rm_anova, comparison.friedman
    levels = list(comparison.nemenyi.cd)
    heads = tuple(f"crit. {alpha_key(alpha)[1:]}" for alpha in levels)

    def criticals(values: dict[float, float]) -> tuple[str, ...]:
        return tuple(value_text(values.get(alpha)) for alpha in levels)

    none = ("",) * len(levels)
    df_f = f"{test.df1}, {test.df2}"
    gg = "-" if repeated.gg_epsilon is None else f"eps {repeated.gg_epsilon:.4f}"

    def line(
        name: str, symbol: str, value: float | None, df: str, p: float | None
    ) -> tuple[str, ...]:
        return (name, symbol, value_text(value), df, p_text(p))

    rows = [
        line("one-way ANOVA", "F", one_way.F, f"{one_way.df1}, {one_way.df2}", one_way.p),
        line("repeated-measures ANOVA", "F", repeated.F, df_f, repeated.p),
        ("  Greenhouse-Geisser", "", "", gg, p_text(repeated.p_gg)),
        line("Friedman", "chi2", test.chi2, f"{test.df1}", test.chi2_p),
        line(
            "  tie-corrected", "chi2", test.chi2_tie_corrected, f"{test.df1}",
            test.chi2_tie_corrected_p,
        ),
        ("  exact permutation", "", "", "", p_text(test.p_exact)),
        line("Iman-Davenport", "F_F", test.F_F, df_f, test.F_F_p),
    ]  # fmt: skip
    limits = [
        criticals(one_way.critical), criticals(repeated.critical), none,
        criticals(test.chi2_critical), none, none, criticals(test.critical),
    ]  # fmt: skip
    whole = [(*row, *limit) for row, limit in zip(rows, limits, strict=True)]
    if test.p_exact is None:
        del whole[5]
    effects = f"Effect sizes: eta squared {value_text(one_way.eta_squared)}, "
    effects += f"Kendall's W {value_text(test.kendalls_w)}."
    return Section(
        "Tests over all treatments",
        ("The one-way ANOVA ignores the blocks; the source paper reports it.", effects),
        Grid(("test", "", "value", "df", "p", *heads), tuple(whole), words=(0, 1)),
    )


def _diagram(comparison: Comparison) -> Section:
    cd, dunn = comparison.nemenyi.cd, comparison.bonferroni_dunn
    levels = " / ".join(alpha_key(alpha)[1:] for alpha in cd)
    paragraphs = [
        f"Nemenyi CD {' / '.join(f'{value:.4f}' for value in cd.values())} at alpha {levels}.",
        f"Bonferroni-Dunn CD {' / '.join(f'{value:.4f}' for value in dunn.cd.values())}"
        + (f", control {dunn.control}." if dunn.control else ", no control given."),
    ]
    if dunn.pairs:
        listed = "; ".join(
            f"{pair.a} {pair.rank_difference:+.4f} (p = {p_text(pair.p)})" for pair in dunn.pairs
        )
        paragraphs.append(f"Ranks behind the control: {listed}.")
    return Section(
        "Critical differences of average ranks",
        tuple(paragraphs),
        verbatim=tuple(
            text_diagram(
                comparison.blocks.treatments,
                comparison.friedman.average_ranks,
                cd[comparison.alpha],
                comparison.alpha,
            )
        ),
    )


def _pairs(comparison: Comparison) -> Section:
    rows = tuple(
        (
            f"{ranks.a} - {ranks.b}",
            f"{ranks.rank_difference:+.4f}",
            p_text(ranks.p),
            f"{test.W_plus:g}",
            f"{test.W_minus:g}",
            p_text(test.p),
            p_text(test.p_holm),
        )
        for ranks, test in zip(comparison.nemenyi.pairs, comparison.pairs, strict=True)
    )
    heads = ("pair a - b", "rank diff.", "Nemenyi p", "W+", "W-", "signed-rank p", "Holm p")
    kind = "exact" if all(test.exact for test in comparison.pairs) else "normal approximation"
    return Section(
        "Pairs: tests",
        (f"Signed-rank p: two-sided, {kind}; Holm over {len(rows)} pair(s).",),
        Grid(heads, rows),
    )


def _effects(comparison: Comparison) -> Section:
    rows = tuple(
        (
            f"{test.a} - {test.b}",
            f"{test.mean_difference:+.2f}",
            f"{test.wins}/{test.losses}/{test.ties}",
            p_text(test.p_sign),
            "-" if test.rank_biserial is None else f"{test.rank_biserial:+.2f}",
            f"{bayes.p_a:.3f}",
            f"{bayes.p_rope:.3f}",
            f"{bayes.p_b:.3f}",
        )
        for test, bayes in zip(comparison.pairs, comparison.bayes, strict=True)
    )
    heads = ("pair a - b", "mean diff.", "w/l/t", "sign p", "r_rb", "P(a)", "P(rope)", "P(b)")
    return Section(
        "Pairs: effects",
        (
            "Mean difference in percentage points; wins / losses / ties; matched rank-biserial "
            f"correlation; Bayesian signed-rank with rope {comparison.rope:g} points.",
        ),
        Grid(heads, rows),
    )
