"""Statistics on per-sample outcomes: intervals, paired tests, seeds as clusters."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from drelu_cli.core.errors import BadValue
from drelu_cli.stats.distributions import FloatArray, normal_quantile
from drelu_cli.stats.pairwise import sign_test_p


@dataclass(frozen=True, slots=True)
class McNemar:
    """Two models on the same samples.

    Attributes:
        only_a: samples that only `a` holds.
        only_b: samples that only `b` holds.
        p: exact two-sided p.
    """

    only_a: int
    only_b: int
    p: float


def wilson_interval(successes: int, n: int, alpha: float = 0.05) -> tuple[float, float]:
    """Wilson's score interval of a share, as fractions in [0, 1].

    Source: Wilson 1927; Brown, Cai, DasGupta 2001 for why not the normal one.

    Raises:
        BadValue: counts that are no share, or an alpha outside (0, 1).
    """
    if not 0 <= successes <= n or n < 1:
        raise BadValue(f"{successes} of {n} is not a share", hint="0 <= successes <= n, n >= 1")
    if not 0 < alpha < 1:
        raise BadValue(f"alpha {alpha} is outside (0, 1)", hint="write 0.05")
    z = normal_quantile(1 - alpha / 2)
    share = successes / n
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    low = 0.0 if successes == 0 else max(0.0, centre - half)
    high = 1.0 if successes == n else min(1.0, centre + half)
    return low, high


def mcnemar(a: npt.ArrayLike, b: npt.ArrayLike) -> McNemar:
    """Exact McNemar test of two boolean vectors (n,) over the same samples in the same order.

    Source: McNemar 1947, with the binomial instead of chi-square.

    Raises:
        BadValue: vectors of different length.
    """
    first, second = np.asarray(a, dtype=bool), np.asarray(b, dtype=bool)
    if first.shape != second.shape or first.ndim != 1:
        raise BadValue(
            f"outcomes of shapes {first.shape} and {second.shape} cannot be paired",
            hint="both models need outcomes for the same samples in the same order",
        )
    only_a, only_b = int((first & ~second).sum()), int((second & ~first).sum())
    return McNemar(only_a, only_b, sign_test_p(only_a, only_b))


def cluster_bootstrap(
    clusters: list[FloatArray],
    stream: np.random.Generator,
    *,
    alpha: float = 0.05,
    draws: int = 10_000,
) -> tuple[float, float, float]:
    """Mean and percentile interval when samples of one training are not independent.

    Whole clusters (one per seed) are drawn with replacement, then samples within each drawn
    cluster. Source: Davison & Hinkley 1997, section 3.8.

    Args:
        clusters: per seed, outcomes (n_s,) in {0, 1} or accuracies.
        stream: the only source of randomness.
        alpha: 1 - coverage.
        draws: bootstrap draws.

    Returns:
        mean of the clusters' means, lower and upper end. With one seed the interval says nothing
        about other seeds; callers must say so.

    Raises:
        BadValue: no cluster, or an empty one.
    """
    if not clusters or any(len(cluster) == 0 for cluster in clusters):
        raise BadValue("a bootstrap needs at least one seed with at least one sample")
    means = np.empty((len(clusters), draws))
    for index, cluster in enumerate(clusters):
        means[index] = _resampled_means(np.asarray(cluster, dtype=np.float64), stream, draws)
    # A cluster drawn twice in one draw must have two independent resamples: columns are shuffled
    # separately for each place in the draw.
    total = np.zeros(draws)
    for _ in clusters:
        chosen = stream.integers(len(clusters), size=draws)
        total += means[chosen, stream.permutation(draws)]
    low, high = np.quantile(total / len(clusters), [alpha / 2, 1 - alpha / 2])
    centre = float(np.mean([np.mean(cluster) for cluster in clusters]))
    return centre, float(low), float(high)


def _resampled_means(cluster: FloatArray, stream: np.random.Generator, draws: int) -> FloatArray:
    n = len(cluster)
    distinct, counts = np.unique(cluster, return_counts=True)
    drawn = stream.multinomial(n, counts / n, size=draws)
    return np.asarray(drawn @ distinct / n, dtype=np.float64)
