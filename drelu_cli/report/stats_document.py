"""A comparison as the JSON document of `drelu stats` (percent; infinity is null with a mark)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from drelu_cli.stats.distributions import alpha_key

if TYPE_CHECKING:
    from drelu_cli.stats.comparison import Comparison
    from drelu_cli.stats.pairwise import PairTest


def stats_document(
    comparison: Comparison,
    *,
    source: str,
    conclusion: list[str],
    warnings: list[str],
    notes: list[str] | None = None,
) -> dict[str, Any]:
    """Everything below the keys drelu, command and schema."""
    blocks = comparison.blocks
    return {
        "source": source,
        "unit": "percent",
        "treatments": list(blocks.treatments),
        "blocks": {
            "unit": blocks.unit,
            "n": len(blocks.names),
            "names": list(blocks.names),
            "missing": [
                {"block": lost.block, "treatments": list(lost.treatments)}
                for lost in blocks.missing
            ],
            **_dependence(comparison),
        },
        "alpha": comparison.alpha,
        "ranks": comparison.ranks,
        "mean_accuracy": _by_treatment(comparison, blocks.values.mean(axis=0).tolist()),
        "anova": _anova(comparison),
        "rm_anova": _repeated(comparison),
        "friedman": _friedman(comparison),
        "nemenyi": _nemenyi(comparison),
        "bonferroni_dunn": _bonferroni_dunn(comparison),
        "wilcoxon_holm": {"pairs": [_pair(test) for test in comparison.pairs]},
        "bayes": {
            "rope": comparison.rope,
            "pairs": [
                {"a": p.a, "b": p.b, "p_a": p.p_a, "p_rope": p.p_rope, "p_b": p.p_b}
                for p in comparison.bayes
            ],
        },
        "min_attainable_p": comparison.smallest_p_holm,
        "min_attainable_p_unadjusted": comparison.smallest_p,
        "underpowered": comparison.underpowered,
        "conclusion": conclusion,
        "warnings": warnings,
        "notes": notes or [],
    }


def number(key: str, value: float | None) -> dict[str, Any]:
    """`{key: value}`; infinity becomes null with a sibling `<key>_is_infinite: true`."""
    if value is not None and math.isinf(value):
        return {key: None, f"{key}_is_infinite": True}
    return {key: value}


def levels(values: dict[float, float]) -> dict[str, float]:
    """Values by alpha, with the alphas as text: `0.10`, `0.05`, `0.01`."""
    return {alpha_key(alpha): value for alpha, value in values.items()}


def _by_treatment(comparison: Comparison, values: list[float]) -> dict[str, float]:
    return dict(zip(comparison.blocks.treatments, values, strict=True))


def _dependence(comparison: Comparison) -> dict[str, Any]:
    found = comparison.dependence
    return {
        "networks": found.n_networks,
        "icc": found.icc,
        "effective_n": found.effective,
        "independent": not found.dependent,
    }


def _anova(comparison: Comparison) -> dict[str, Any]:
    test = comparison.anova
    return {
        **number("F", test.F),
        "df1": test.df1,
        "df2": test.df2,
        "p": test.p,
        "eta_squared": test.eta_squared,
        "critical": levels(test.critical),
    }


def _repeated(comparison: Comparison) -> dict[str, Any]:
    test = comparison.rm_anova
    return {
        **number("F", test.F),
        "df1": test.df1,
        "df2": test.df2,
        "p": test.p,
        "gg_epsilon": test.gg_epsilon,
        "p_gg": test.p_gg,
        "critical": levels(test.critical),
    }


def _friedman(comparison: Comparison) -> dict[str, Any]:
    test = comparison.friedman
    return {
        "chi2": test.chi2,
        "chi2_p": test.chi2_p,
        "chi2_tie_corrected": test.chi2_tie_corrected,
        "chi2_tie_corrected_p": test.chi2_tie_corrected_p,
        **number("F_F", test.F_F),
        "F_F_p": test.F_F_p,
        "p_exact": test.p_exact,
        "df1": test.df1,
        "df2": test.df2,
        "kendalls_W": test.kendalls_w,
        "average_ranks": _by_treatment(comparison, test.average_ranks.tolist()),
        "rank_sums": _by_treatment(comparison, test.rank_sums.tolist()),
        "critical": levels(test.critical),
        "chi2_critical": levels(test.chi2_critical),
    }


def _nemenyi(comparison: Comparison) -> dict[str, Any]:
    test = comparison.nemenyi
    return {
        "cd": levels(test.cd),
        "pairs": [
            {"a": p.a, "b": p.b, "rank_difference": p.rank_difference, "p": p.p} for p in test.pairs
        ],
    }


def _bonferroni_dunn(comparison: Comparison) -> dict[str, Any]:
    test = comparison.bonferroni_dunn
    return {
        "cd": levels(test.cd),
        "control": test.control,
        "pairs": [
            {"treatment": p.a, "rank_difference": p.rank_difference, "p": p.p} for p in test.pairs
        ],
    }


def _pair(test: PairTest) -> dict[str, Any]:
    return {
        "a": test.a,
        "b": test.b,
        "W_plus": test.W_plus,
        "W_minus": test.W_minus,
        "p": test.p,
        "p_holm": test.p_holm,
        "exact": test.exact,
        "wins": test.wins,
        "losses": test.losses,
        "ties": test.ties,
        "p_sign": test.p_sign,
        "mean_difference": test.mean_difference,
        "rank_biserial": test.rank_biserial,
    }
