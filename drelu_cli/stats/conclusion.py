"""Sentences that claim no more than the tests allow."""

from __future__ import annotations

import math

from drelu_cli.stats.comparison import Comparison
from drelu_cli.stats.posthoc import RankPair


def conclusions(comparison: Comparison) -> list[str]:
    """What may be said about `comparison`, in the order a results section says it."""
    tests = [
        _omnibus(comparison),
        _ranks(comparison),
        _signed_ranks(comparison),
        _bayes(comparison),
    ]
    if comparison.dependence.dependent:
        tests = [f"If the blocks were independent: {sentence}" for sentence in tests]
    return [_unit(comparison), *tests]


def _level(alpha: float) -> str:
    return f"{alpha:g}"


def _unit(comparison: Comparison) -> str:
    found = comparison.dependence
    if comparison.blocks.unit == "network":
        return f"The {found.n_blocks} blocks are networks; the tests generalise over networks."
    if found.n_networks == found.n_blocks:
        return f"Each of the {found.n_blocks} blocks is a network of its own."
    if found.n_networks == 1:
        return (
            f"All {found.n_blocks} blocks are columns of one network, "
            f"{comparison.blocks.networks[0]}: the tests say nothing about other networks."
        )
    opening = (
        f"The {found.n_blocks} blocks are attack columns of {found.n_networks} network(s), "
        "repeated measurements"
    )
    if not found.dependent:
        return opening + "; no strong dependence among them was found."
    return (
        f"{opening} and not independent: they are worth about {found.effective:.1f} independent "
        "blocks. "
        "p-values over these blocks are too small; use --blocks network for claims about networks."
    )


def _omnibus(comparison: Comparison) -> str:
    test = comparison.friedman
    if test.F_F is None or test.F_F_p is None:
        return "Iman-Davenport is undefined here (one block, or impossible printed ranks)."
    value = "infinite" if math.isinf(test.F_F) else f"{test.F_F:.4f}"
    p = test.F_F_p if test.p_exact is None else test.p_exact
    kind = "p" if test.p_exact is None else "exact Friedman p"
    verdict = (
        "the treatments are not all alike"
        if p <= comparison.alpha
        else "no difference between the treatments was shown"
    )
    return (
        f"Iman-Davenport F({test.df1},{test.df2}) = {value}, {kind} = {p:.3g}: "
        f"at alpha {_level(comparison.alpha)} {verdict}."
    )


def _ranks(comparison: Comparison) -> str:
    """Pairs beyond the critical difference, and those that a stricter level would lose."""
    cd = comparison.nemenyi.cd
    alpha = comparison.alpha
    beyond = [p for p in comparison.nemenyi.pairs if abs(p.rank_difference) > cd[alpha]]
    if not beyond:
        return (
            f"No two average ranks differ by more than the critical difference {cd[alpha]:.4f} "
            f"(Nemenyi, alpha {_level(alpha)})."
        )
    listed = "; ".join(_better(pair) for pair in beyond)
    text = (
        f"Average ranks differ by more than the critical difference {cd[alpha]:.4f} (Nemenyi, "
        f"alpha {_level(alpha)}) for: {listed}."
    )
    lost = [p for p in beyond if alpha > 0.01 and abs(p.rank_difference) <= cd[0.01]]
    if lost:
        names = "; ".join(_better(pair) for pair in lost)
        text += f" At alpha 0.01 (critical difference {cd[0.01]:.4f}) this no longer holds for: "
        text += f"{names}."
    overall = _overall_p(comparison)
    if overall is not None and overall > alpha:
        text += " The overall test shows no difference, so this is not to be interpreted."
    return text


def _overall_p(comparison: Comparison) -> float | None:
    """The p of the overall test: exact where there is one."""
    test = comparison.friedman
    return test.F_F_p if test.p_exact is None else test.p_exact


def _better(pair: RankPair) -> str:
    first, second = (pair.a, pair.b) if pair.rank_difference < 0 else (pair.b, pair.a)
    return f"{first} before {second} by {abs(pair.rank_difference):.4f}"


def _signed_ranks(comparison: Comparison) -> str:
    alpha = comparison.alpha
    if comparison.underpowered:
        return (
            f"underpowered: with {len(comparison.blocks.names)} block(s) the signed-rank test "
            f"cannot give a p below {comparison.smallest_p:.3g} "
            f"({comparison.smallest_p_holm:.3g} after Holm over {len(comparison.pairs)} pair(s)), "
            f"which exceeds alpha {_level(alpha)}; this is not evidence of no effect."
        )
    found = [test for test in comparison.pairs if test.p_holm <= alpha]
    if not found:
        return (
            f"Signed-rank tests with Holm's correction tell no pair apart at alpha {_level(alpha)}."
        )
    parts = []
    for test in found:
        better, worse = (test.a, test.b) if test.W_plus > test.W_minus else (test.b, test.a)
        parts.append(f"{better} above {worse} (p = {test.p_holm:.3g})")
    return f"Signed-rank tests with Holm's correction: {'; '.join(parts)}."


def _bayes(comparison: Comparison) -> str:
    """Pairs on which the posterior is at least 95 % sure."""
    sure = []
    for pair in comparison.bayes:
        if pair.p_rope >= 0.95:
            sure.append(f"{pair.a} and {pair.b} practically equal ({pair.p_rope:.3f})")
        elif max(pair.p_a, pair.p_b) >= 0.95:
            better, worse = (pair.a, pair.b) if pair.p_a >= pair.p_b else (pair.b, pair.a)
            sure.append(f"{better} better than {worse} ({max(pair.p_a, pair.p_b):.3f})")
    if not sure:
        return (
            "The Bayesian signed-rank test is 95 % sure of no pair "
            f"(rope {comparison.rope:g} percentage points)."
        )
    return (
        f"With probability 0.95 or more (Bayesian signed-rank, rope {comparison.rope:g} "
        f"percentage points): {'; '.join(sure)}."
    )
