"""Analysis of variance: one-way, as the source paper does it, and repeated measures."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from drelu_cli.stats.distributions import (
    ALPHAS,
    FloatArray,
    f_critical,
    f_sf,
)


@dataclass(frozen=True, slots=True)
class Anova:
    """One-way analysis of variance; None where undefined, infinite F where groups are constant.

    Attributes:
        eta_squared: share of the variance between the groups, 0 .. 1.
        critical: alpha -> critical F.
    """

    F: float | None
    df1: int
    df2: int
    p: float | None
    eta_squared: float | None
    critical: dict[float, float]


@dataclass(frozen=True, slots=True)
class RepeatedAnova:
    """Repeated-measures analysis of variance with the blocks as subjects.

    Attributes:
        gg_epsilon: Greenhouse-Geisser factor, 1 / (k - 1) .. 1; None where undefined.
        p_gg: p with both degrees of freedom multiplied by it.
    """

    F: float | None
    df1: int
    df2: int
    p: float | None
    gg_epsilon: float | None
    p_gg: float | None
    critical: dict[float, float]


def one_way_anova(values: FloatArray, alphas: tuple[float, ...] = ALPHAS) -> Anova:
    """One-way ANOVA of (N, k) accuracies, the k columns as independent groups.

    It ignores the blocks; the source paper uses it.
    Source: Fisher 1925; N >= 1, k >= 2.
    """
    n, k = values.shape
    between = n * float(((values.mean(axis=0) - values.mean()) ** 2).sum())
    within = float(((values - values.mean(axis=0)) ** 2).sum())
    df1, df2 = k - 1, n * k - k
    statistic = _ratio(between, df1, within, df2, scale=float(np.abs(values).max()))
    total = between + within
    return Anova(
        statistic,
        df1,
        df2,
        None if statistic is None else f_sf(statistic, df1, df2),
        between / total if statistic is not None and total > 0 else None,
        _criticals(alphas, df1, df2),
    )


def repeated_measures_anova(
    values: FloatArray, alphas: tuple[float, ...] = ALPHAS
) -> RepeatedAnova:
    """Repeated-measures ANOVA of (N, k) accuracies, the rows as subjects.

    Source: Greenhouse & Geisser 1959 for the factor; N >= 2 for a defined F.
    """
    n, k = values.shape
    grand = values.mean()
    columns = values.mean(axis=0) - grand
    rows = values.mean(axis=1, keepdims=True) - grand
    error = float(((values - grand - columns - rows) ** 2).sum())
    df1, df2 = k - 1, (k - 1) * (n - 1)
    statistic = _ratio(
        n * float((columns**2).sum()), df1, error, df2, scale=float(np.abs(values).max())
    )
    epsilon = None if statistic is None or math.isinf(statistic) else greenhouse_geisser(values)
    return RepeatedAnova(
        statistic,
        df1,
        df2,
        None if statistic is None else f_sf(statistic, df1, df2),
        epsilon,
        None
        if statistic is None or epsilon is None
        else f_sf(statistic, epsilon * df1, epsilon * df2),
        _criticals(alphas, df1, df2),
    )


def greenhouse_geisser(values: FloatArray) -> float | None:
    """The sphericity factor of (N, k) values: 1 / (k - 1) .. 1; None for constant differences."""
    k = values.shape[1]
    if k == 2:
        return 1.0  # one contrast is always spherical
    covariance: FloatArray = np.atleast_2d(np.cov(values, rowvar=False))
    centred = (
        covariance
        - covariance.mean(axis=0)
        - covariance.mean(axis=1, keepdims=True)
        + covariance.mean()
    )
    squares = float((centred**2).sum())
    if squares <= 0:
        return None
    trace = float(np.trace(centred))
    return min(1.0, float(trace * trace / ((k - 1) * squares)))


def _ratio(top: float, df1: int, bottom: float, df2: int, *, scale: float) -> float | None:
    """(top / df1) / (bottom / df2): None for 0 / 0, infinity where only the bottom is 0."""
    if df2 <= 0:
        return None
    noise: float = (df1 + df2) * 1e-24 * scale * scale  # sums of squares of float noise
    if bottom <= noise:
        return math.inf if top > noise else None
    return (top / df1) / (bottom / df2)


def _criticals(alphas: tuple[float, ...], df1: int, df2: int) -> dict[float, float]:
    return {} if df2 <= 0 else {alpha: f_critical(alpha, df1, df2) for alpha in alphas}
