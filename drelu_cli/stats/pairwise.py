"""Two treatments on the same blocks: exact signed-rank and sign tests, effect sizes."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
from scipy import special

from drelu_cli.stats.distributions import FloatArray, normal_sf
from drelu_cli.stats.posthoc import holm
from drelu_cli.stats.ranking import signed_ranks, tidy

# Exact up to here: 200 blocks have 20,100 possible sums, 80 million additions for halves of ranks.
EXACT_BLOCKS = 200


@dataclass(frozen=True, slots=True)
class PairTest:
    """Treatment `a` minus treatment `b` over blocks.

    Attributes:
        W_plus: sum of the ranks of positive differences; zeros are dropped.
        p: two-sided signed-rank p; exact given the ties up to 200 blocks.
        p_holm: `p` after Holm over all pairs.
        p_sign: two-sided exact sign test.
        mean_difference: percentage points.
        rank_biserial: (W_plus - W_minus) / (W_plus + W_minus), -1 .. 1; None without differences.
    """

    a: str
    b: str
    W_plus: float
    W_minus: float
    p: float
    p_holm: float
    exact: bool
    wins: int
    losses: int
    ties: int
    p_sign: float
    mean_difference: float
    rank_biserial: float | None


def pair_tests(treatments: tuple[str, ...], values: FloatArray) -> tuple[PairTest, ...]:
    """Every pair of columns of (N, k) accuracies, with Holm over all pairs.

    Signed-rank tests instead of mean-rank post-hocs: Benavoli et al. 2016 (a pair's result must
    not depend on which other treatments took part).
    """
    tests = [
        _pair(treatments[i], treatments[j], tidy(values[:, i] - values[:, j]))
        for i, j in combinations(range(len(treatments)), 2)
    ]
    adjusted = holm([test.p for test in tests])
    return tuple(replace(test, p_holm=p) for test, p in zip(tests, adjusted, strict=True))


def _pair(a: str, b: str, differences: FloatArray) -> PairTest:
    wins, losses = int((differences > 0).sum()), int((differences < 0).sum())
    plus, minus = signed_rank_sums(differences)
    p, exact = signed_rank_p(differences)
    total = plus + minus
    return PairTest(
        a=a,
        b=b,
        W_plus=plus,
        W_minus=minus,
        p=p,
        p_holm=p,
        exact=exact,
        wins=wins,
        losses=losses,
        ties=len(differences) - wins - losses,
        p_sign=sign_test_p(wins, losses),
        mean_difference=float(differences.mean()),
        rank_biserial=(plus - minus) / total if total else None,
    )


def signed_rank_sums(differences: FloatArray) -> tuple[float, float]:
    """(W+, W-): rank sums of the positive and the negative of (n,) differences.

    Source: Wilcoxon 1945; zero differences are dropped, equal magnitudes share their mean rank.
    """
    nonzero = differences[differences != 0]
    if len(nonzero) == 0:
        return 0.0, 0.0
    ranks = signed_ranks(nonzero)
    return float(ranks[nonzero > 0].sum()), float(ranks[nonzero < 0].sum())


def signed_rank_p(differences: FloatArray) -> tuple[float, bool]:
    """Two-sided p of the signed-rank test and whether it is exact.

    The distribution of W+ is counted over all 2^n signs, given the ties (Streitberg & Roehmel
    1986); beyond `EXACT_BLOCKS` the normal approximation with tie correction is used.
    """
    nonzero = differences[differences != 0]
    if len(nonzero) == 0:
        return 1.0, True
    ranks = signed_ranks(nonzero)
    plus, minus = signed_rank_sums(nonzero)
    if len(nonzero) > EXACT_BLOCKS:
        spread = math.sqrt(float((ranks**2).sum()) / 4)
        return min(1.0, 2 * normal_sf(abs(plus - minus) / 2 / spread)), False
    steps = np.rint(2 * ranks).astype(np.int64)
    shares = np.zeros(int(steps.sum()) + 1)
    shares[0] = 1.0
    for step in steps.tolist():
        shifted = np.zeros_like(shares)
        shifted[step:] = shares[: len(shares) - step]
        shares = (shares + shifted) / 2
    lower = round(2 * min(plus, minus))
    return min(1.0, 2 * float(shares[: lower + 1].sum())), True


def sign_test_p(wins: int, losses: int) -> float:
    """Two-sided exact p that wins and losses are equally likely; ties are left out.

    Source: Demsar 2006, section 3.1.4; also the exact McNemar test of discordant counts.
    """
    if wins + losses == 0:
        return 1.0
    return min(1.0, 2 * float(special.bdtr(min(wins, losses), wins + losses, 0.5)))


def smallest_signed_rank_p(blocks: int) -> float:
    """The smallest two-sided p that the exact signed-rank test can give: 2^(1 - N), at most 1."""
    return min(1.0, 2.0 ** (1 - blocks))
