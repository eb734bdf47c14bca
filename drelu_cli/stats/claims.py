"""Statistics that a text prints: each is reproduced or refuted, with the variant that gives it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from drelu_cli.stats.anova import one_way_anova, repeated_measures_anova
from drelu_cli.stats.blocks import Blocks, cells, networks
from drelu_cli.stats.distributions import ALPHAS, alpha_levels, f_critical
from drelu_cli.stats.friedman import Friedman, friedman
from drelu_cli.stats.posthoc import bonferroni_dunn, nemenyi

if TYPE_CHECKING:
    import pandas as pd

# Printed F tables have rows for these denominators; texts quote the neighbours of theirs.
TABLE_DF2 = (30, 40, 60, 120)


@dataclass(frozen=True, slots=True)
class Claim:
    """A printed statistic.

    Attributes:
        statistic: one of `STATISTICS`.
        printed: as printed; its decimals say how far it was rounded.
        alpha: the level stated, where the statistic has one.
        treatments: for a rank difference, rank of the first minus rank of the second.
        note: what the claims' author conjectures where nothing gives the figure.
    """

    name: str
    statistic: str
    printed: str
    alpha: float | None = None
    treatments: tuple[str, str] | None = None
    note: str = ""


@dataclass(frozen=True, slots=True)
class ClaimResult:
    """What became of a claim.

    Attributes:
        recomputed: blocks = cells, all columns, ranks recomputed, at the stated alpha.
        variant: what gives the printed figure; None where nothing tried does.
    """

    claim: Claim
    verdict: Literal["reproduced", "refuted"]
    recomputed: float | None
    variant: str | None


@dataclass(frozen=True, slots=True)
class Variant:
    """One way to compute a table's statistics."""

    name: str
    blocks: Blocks
    friedman: Friedman


@dataclass(frozen=True, slots=True)
class Query:
    """What a statistic is computed from."""

    variant: Variant
    claim: Claim
    alpha: float


def _rank_difference(query: Query) -> float | None:
    assert query.claim.treatments is not None
    ranks, names = query.variant.friedman.average_ranks, query.variant.blocks.treatments
    first, second = (names.index(name) for name in query.claim.treatments)
    return float(ranks[first] - ranks[second])


def _nemenyi_cd(query: Query) -> float | None:
    test, names = query.variant.friedman, query.variant.blocks.treatments
    return nemenyi(names, test.average_ranks, test.n, (query.alpha,)).cd[query.alpha]


def _dunn_cd(query: Query) -> float | None:
    test, names = query.variant.friedman, query.variant.blocks.treatments
    return bonferroni_dunn(names, test.average_ranks, test.n, None, (query.alpha,)).cd[query.alpha]


def _anova_critical(query: Query) -> float | None:
    return one_way_anova(query.variant.blocks.values, (query.alpha,)).critical.get(query.alpha)


def _friedman_critical(query: Query) -> float | None:
    test = query.variant.friedman
    return f_critical(query.alpha, test.df1, test.df2) if test.df2 > 0 else None


STATISTICS: Mapping[str, Callable[[Query], float | None]] = {
    "anova.F": lambda query: one_way_anova(query.variant.blocks.values).F,
    "anova.critical": _anova_critical,
    "rm_anova.F": lambda query: repeated_measures_anova(query.variant.blocks.values).F,
    "friedman.chi2": lambda query: query.variant.friedman.chi2,
    "friedman.F_F": lambda query: query.variant.friedman.F_F,
    "friedman.critical": _friedman_critical,
    "nemenyi.cd": _nemenyi_cd,
    "bonferroni_dunn.cd": _dunn_cd,
    "rank_difference": _rank_difference,
}
WITH_ALPHA = ("anova.critical", "friedman.critical", "nemenyi.cd", "bonferroni_dunn.cd")


def check_claims(frame: pd.DataFrame, claims: list[Claim]) -> list[ClaimResult]:
    """Each claim against one table, by every variant in `variants` and the levels .10, .05, .01."""
    found = variants(frame)
    return [_check(claim, found) for claim in claims]


def variants(frame: pd.DataFrame) -> list[Variant]:
    """Cells of all columns first, then other columns, printed ranks, networks."""
    ways = [_variant("blocks = cells, all columns, ranks recomputed", cells(frame))]
    if "clean" in set(frame["attack"]):
        ways.append(_variant("blocks = cells, without clean", cells(frame, "attacks")))
    for name, blocks in [("all columns", cells(frame)), ("without clean", ways[-1].blocks)]:
        if blocks.printed_ranks is not None:
            ways.append(_variant(f"ranks as printed, {name}", blocks, printed=True))
        for over in ("mean", "worst"):
            label = f"blocks = networks, {over} over {name}"
            ways.append(_variant(label, networks(blocks, over)))
    return ways


def _variant(name: str, blocks: Blocks, *, printed: bool = False) -> Variant:
    ranks = blocks.printed_ranks if printed else None
    return Variant(name, blocks, friedman(blocks.values, printed_ranks=ranks))


def _check(claim: Claim, ways: list[Variant]) -> ClaimResult:
    compute = STATISTICS[claim.statistic]
    stated = claim.alpha if claim.alpha is not None else ALPHAS[1]
    recomputed = compute(Query(ways[0], claim, stated))
    for way in ways:
        value = compute(Query(way, claim, stated))
        if rounds_to(value, claim.printed):
            return ClaimResult(claim, "reproduced", recomputed, f"{way.name}: {value:.4f}")
    for label, value in _excuses(claim, ways, stated):
        if rounds_to(value, claim.printed):
            return ClaimResult(claim, "refuted", recomputed, f"{label}: {value:.4f}")
    if truncates_to(recomputed, claim.printed):
        label = f"{recomputed:.4f} truncated instead of rounded"
        return ClaimResult(claim, "refuted", recomputed, label)
    return ClaimResult(claim, "refuted", recomputed, None)


def _excuses(
    claim: Claim, ways: list[Variant], stated: float
) -> Iterator[tuple[str, float | None]]:
    """Other levels, neighbouring rows of printed F tables, the other post-hoc test."""
    if claim.statistic not in WITH_ALPHA:
        return
    levels = [alpha for alpha in alpha_levels(stated) if alpha != stated]
    for way in ways:
        for alpha in levels:
            value = STATISTICS[claim.statistic](Query(way, claim, alpha))
            yield f"alpha {alpha:.2f} instead of {stated:.2f}, {way.name}", value
    for alpha in (stated, *levels):
        if claim.statistic == "friedman.critical":
            df1 = ways[0].friedman.df1
            for df2 in TABLE_DF2:
                yield f"alpha {alpha:.2f}, F({df1},{df2})", f_critical(alpha, df1, df2)
        if claim.statistic == "nemenyi.cd":
            yield f"Bonferroni-Dunn at alpha {alpha:.2f}", _dunn_cd(Query(ways[0], claim, alpha))


def rounds_to(value: float | None, printed: str) -> bool:
    """Whether `value` printed with as many decimals as `printed` is that number."""
    if value is None or not math.isfinite(value):
        return False
    half_unit = 0.5 * math.pow(10.0, -_decimals(printed))
    return abs(value - float(printed)) <= half_unit + 1e-9


def truncates_to(value: float | None, printed: str) -> bool:
    """Whether `value` cut after the decimals of `printed` is that number."""
    if value is None or not math.isfinite(value):
        return False
    scale = math.pow(10.0, _decimals(printed))
    return math.trunc(value * scale + 1e-9) == round(float(printed) * scale)


def _decimals(printed: str) -> int:
    return len(printed.partition(".")[2])
