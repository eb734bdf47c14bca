"""The Friedman test, its Iman-Davenport form, and its exact permutation p for few blocks."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import permutations

import numpy as np
import numpy.typing as npt

from drelu_cli.stats.distributions import (
    ALPHAS,
    FloatArray,
    chi2_critical,
    chi2_sf,
    f_critical,
    f_sf,
)
from drelu_cli.stats.ranking import block_ranks, tie_sum

# One unit is one addition on an array cell: 1e8 take about a second.
EXACT_BUDGET = 10**8
EXACT_TREATMENTS = 6


@dataclass(frozen=True, slots=True)
class Friedman:
    """Friedman and Iman-Davenport; None where undefined.

    Attributes:
        average_ranks: (k,), 1 = highest accuracy.
        chi2: Demsar's formula, without tie correction.
        chi2_tie_corrected: None for ranks as printed, and where every block is one tie.
        F_F: Iman-Davenport from `chi2`; infinite where all blocks agree.
        kendalls_w: agreement of the blocks, 0 .. 1, tie-corrected.
        p_exact: permutation p given the ties; None where there are too many blocks.
        critical: alpha -> critical F of F_F.
        chi2_critical: alpha -> critical chi-square.
    """

    n: int
    k: int
    average_ranks: FloatArray
    rank_sums: FloatArray
    chi2: float
    chi2_p: float
    chi2_tie_corrected: float | None
    chi2_tie_corrected_p: float | None
    F_F: float | None
    F_F_p: float | None
    df1: int
    df2: int
    kendalls_w: float | None
    p_exact: float | None
    critical: dict[float, float]
    chi2_critical: dict[float, float]


def friedman(
    values: FloatArray,
    *,
    printed_ranks: FloatArray | None = None,
    alphas: tuple[float, ...] = ALPHAS,
) -> Friedman:
    """Friedman test of (N, k) accuracies, N >= 1, k >= 2.

    With `printed_ranks` (N, k) the ranks are taken as they stand, errors included; a tie
    correction and an exact p have no meaning then.

    Source: Friedman 1937; Iman & Davenport 1980; Demsar 2006, section 3.2.2.
    """
    ranks = block_ranks(values) if printed_ranks is None else printed_ranks
    n, k = ranks.shape
    sums = ranks.sum(axis=0)
    chi2 = max(0.0, 12 / (n * k * (k + 1)) * float((sums**2).sum()) - 3 * n * (k + 1))
    if printed_ranks is not None:
        chi2 = 12 * n / (k * (k + 1)) * (float(((sums / n) ** 2).sum()) - k * (k + 1) ** 2 / 4)
    corrected = None if printed_ranks is not None else _tie_corrected(chi2, ranks)
    df1, df2 = k - 1, (k - 1) * (n - 1)
    ratio = iman_davenport(chi2, n, k)
    return Friedman(
        n=n,
        k=k,
        average_ranks=sums / n,
        rank_sums=sums,
        chi2=chi2,
        chi2_p=chi2_sf(chi2, df1),
        chi2_tie_corrected=corrected,
        chi2_tie_corrected_p=None if corrected is None else chi2_sf(corrected, df1),
        F_F=ratio,
        F_F_p=None if ratio is None else f_sf(ratio, df1, df2),
        df1=df1,
        df2=df2,
        kendalls_w=None if corrected is None else corrected / (n * (k - 1)),
        p_exact=exact_p(ranks) if printed_ranks is None else None,
        critical={} if df2 <= 0 else {a: f_critical(a, df1, df2) for a in alphas},
        chi2_critical={a: chi2_critical(a, df1) for a in alphas},
    )


def iman_davenport(chi2: float, n: int, k: int) -> float | None:
    """F_F = (N - 1) chi2 / (N (k - 1) - chi2), infinite where chi2 has its largest value.

    None for a single block, and for a chi2 above its largest value, which only misprinted ranks
    give. Source: Iman & Davenport 1980.
    """
    if n < 2:
        return None
    room = n * (k - 1) - chi2
    if abs(room) <= 1e-9 * n * (k - 1):
        return math.inf
    return None if room < 0 else (n - 1) * chi2 / room


def _tie_corrected(chi2: float, ranks: FloatArray) -> float | None:
    n, k = ranks.shape
    factor = 1 - tie_sum(ranks) / (n * k * (k * k - 1))
    return None if factor <= 1e-12 else chi2 / factor


def exact_p(ranks: FloatArray) -> float | None:
    """P(sum of squared rank sums >= observed) when ranks are permuted within each block.

    Counts all k!^N arrangements by their rank sums, block by block, given the ties. None where
    that needs more than `EXACT_BUDGET` additions.

    Args:
        ranks: (N, k), rows sum to k (k + 1) / 2.
    """
    n, k = ranks.shape
    if k > EXACT_TREATMENTS:
        return None
    steps = np.rint(2 * (ranks - ranks.min(axis=1, keepdims=True))).astype(np.int64)
    unit = int(np.gcd.reduce(steps, axis=None)) or 1
    steps //= unit  # whole ranks need half the grid that halves need
    size = int(steps.max(axis=1).sum()) + 1
    if math.factorial(k) * n * size ** (k - 1) > EXACT_BUDGET:
        return None
    counts = _arrangements(steps, size)
    offset = float(ranks.min(axis=1).sum())
    places = np.indices(counts.shape) * (unit / 2) + offset
    last = n * k * (k + 1) / 2 - places.sum(axis=0)
    squares = (places**2).sum(axis=0) + last**2
    observed = float((ranks.sum(axis=0) ** 2).sum())
    return min(1.0, float(counts[squares >= observed - 1e-6].sum() / counts.sum()))


def _arrangements(steps: npt.NDArray[np.int64], size: int) -> FloatArray:
    """Shares of arrangements by the rank sums of the first k - 1 treatments, (size,) * (k - 1)."""
    k = steps.shape[1]
    counts = np.zeros((size,) * (k - 1))
    counts[(0,) * (k - 1)] = 1.0
    reach = 0
    for row in steps:
        reached = counts[(slice(0, reach + 1),) * (k - 1)].copy()
        counts[:] = 0.0
        orders = list(permutations(row.tolist()))
        for order in orders:
            window = tuple(slice(shift, shift + reach + 1) for shift in order[:-1])
            counts[window] += reached / len(orders)
        reach += int(row.max())
    return counts
