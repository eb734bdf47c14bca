"""Post-hoc tests on average ranks, and Holm's correction."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from drelu_cli.stats.distributions import (
    ALPHAS,
    FloatArray,
    normal_quantile,
    normal_sf,
    studentized_range_critical,
    studentized_range_sf,
)


@dataclass(frozen=True, slots=True)
class RankPair:
    """Two treatments on average ranks; `rank_difference` = rank(a) - rank(b)."""

    a: str
    b: str
    rank_difference: float
    p: float


@dataclass(frozen=True, slots=True)
class Nemenyi:
    """All pairs on average ranks; `cd`: alpha -> critical difference."""

    cd: dict[float, float]
    pairs: tuple[RankPair, ...]


@dataclass(frozen=True, slots=True)
class BonferroniDunn:
    """All treatments against a control; no pairs without a control."""

    cd: dict[float, float]
    control: str | None
    pairs: tuple[RankPair, ...]


def rank_standard_error(n: int, k: int) -> float:
    """Standard error of a difference of average ranks: sqrt(k (k + 1) / (6 N))."""
    return math.sqrt(k * (k + 1) / (6 * n))


def nemenyi(
    treatments: tuple[str, ...],
    average_ranks: FloatArray,
    n: int,
    alphas: tuple[float, ...] = ALPHAS,
) -> Nemenyi:
    """Nemenyi's test over `n` blocks: CD = q_alpha sqrt(k (k + 1) / (6 N)).

    Source: Nemenyi 1963; Demsar 2006, equation 4, with q exact instead of its table.
    """
    k = len(treatments)
    error = rank_standard_error(n, k)
    cd = {a: studentized_range_critical(a, k) / math.sqrt(2) * error for a in alphas}
    pairs = []
    for i, j in combinations(range(k), 2):
        difference = float(average_ranks[i] - average_ranks[j])
        p = studentized_range_sf(abs(difference) / error * math.sqrt(2), k)
        pairs.append(RankPair(treatments[i], treatments[j], difference, p))
    return Nemenyi(cd, tuple(pairs))


def bonferroni_dunn(
    treatments: tuple[str, ...],
    average_ranks: FloatArray,
    n: int,
    control: str | None,
    alphas: tuple[float, ...] = ALPHAS,
) -> BonferroniDunn:
    """Each treatment against `control`, p times k - 1.

    Source: Dunn 1961; Demsar 2006, section 3.2.2.
    """
    k = len(treatments)
    error = rank_standard_error(n, k)
    cd = {a: normal_quantile(1 - a / (2 * (k - 1))) * error for a in alphas}
    if control is None:
        return BonferroniDunn(cd, None, ())
    own = float(average_ranks[treatments.index(control)])
    pairs = tuple(
        RankPair(
            name,
            control,
            float(rank) - own,
            min(1.0, (k - 1) * 2 * normal_sf(abs(float(rank) - own) / error)),
        )
        for name, rank in zip(treatments, average_ranks, strict=True)
        if name != control
    )
    return BonferroniDunn(cd, control, pairs)


def holm(p_values: list[float]) -> list[float]:
    """Holm's step-down adjusted p-values, in the given order.

    Source: Holm 1979.
    """
    adjusted = [0.0] * len(p_values)
    floor = 0.0
    for step, index in enumerate(np.argsort(p_values, kind="stable").tolist()):
        floor = max(floor, min(1.0, (len(p_values) - step) * p_values[index]))
        adjusted[index] = floor
    return adjusted


def rank_groups(average_ranks: FloatArray, cd: float) -> list[tuple[int, int]]:
    """Maximal runs of treatments, sorted by rank, whose average ranks lie within `cd`.

    Pairs (first, last) of positions in the sorted order, last > first: the bars of a
    critical-difference diagram. Source: Demsar 2006, figure 1.
    """
    ranks = np.sort(average_ranks)
    groups: list[tuple[int, int]] = []
    for first in range(len(ranks)):
        last = int(np.searchsorted(ranks, ranks[first] + cd + 1e-12, side="right")) - 1
        if last > first and (not groups or last > groups[-1][1]):
            groups.append((first, last))
    return groups
