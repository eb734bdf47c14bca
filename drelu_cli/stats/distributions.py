"""The distributions behind the tests, from `scipy.special` alone.

`scipy.stats` has them all but takes most of a second to import; the tests compare both.
"""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import numpy.typing as npt
from scipy import special

FloatArray = npt.NDArray[np.float64]

ALPHAS = (0.10, 0.05, 0.01)

# Beyond 9 standard deviations the normal density is below 1e-18. The trapezoid rule converges
# faster than any power of the step for analytic integrands that vanish at both ends.
_GRID: FloatArray = np.linspace(-9.0, 9.0, 1801)
_STEP = 0.01
_DENSITY: FloatArray = np.exp(-(_GRID**2) / 2) / math.sqrt(2 * math.pi)


def f_sf(statistic: float, df1: float, df2: float) -> float:
    """P(F > statistic) with `df1` and `df2` degrees of freedom; 0 for an infinite statistic."""
    return 0.0 if math.isinf(statistic) else float(special.fdtrc(df1, df2, statistic))


def f_critical(alpha: float, df1: float, df2: float) -> float:
    """The value that F exceeds with probability `alpha`."""
    return float(special.fdtri(df1, df2, 1 - alpha))


def chi2_sf(statistic: float, df: float) -> float:
    """P(chi-square > statistic) with `df` degrees of freedom."""
    return float(special.chdtrc(df, statistic))


def chi2_critical(alpha: float, df: float) -> float:
    """The value that chi-square exceeds with probability `alpha`."""
    return float(special.chdtri(df, alpha))


def normal_sf(z: float) -> float:
    """P(standard normal > z)."""
    return float(special.ndtr(-z))


def normal_quantile(p: float) -> float:
    """The value below which a standard normal lies with probability `p`."""
    return float(special.ndtri(p))


def studentized_range_sf(q: float, k: int) -> float:
    """P(range of `k` standard normals > q): the studentized range with infinite df.

    Source: Tukey 1953; cdf(q) = k * integral of phi(z) (Phi(z) - Phi(z - q))^(k - 1) dz.
    """
    if q <= 0:
        return 1.0
    inside = special.ndtr(_GRID) - special.ndtr(_GRID - q)
    cdf = k * _STEP * float(np.sum(_DENSITY * inside ** (k - 1)))
    return min(1.0, max(0.0, 1.0 - cdf))


@cache
def studentized_range_critical(alpha: float, k: int) -> float:
    """The value that the range of `k` standard normals exceeds with probability `alpha`."""
    low, high = 0.0, 40.0
    for _ in range(60):  # 40 / 2^60: below the spacing of floats
        middle = (low + high) / 2
        if studentized_range_sf(middle, k) > alpha:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def alpha_levels(alpha: float) -> tuple[float, ...]:
    """The three levels that every table prints, and `alpha` where it is another one."""
    return ALPHAS if alpha in ALPHAS else (*ALPHAS, alpha)


def alpha_key(alpha: float) -> str:
    """`0.10`, `0.05`, `0.01`; other levels with as many digits as they need."""
    return f"{alpha:.2f}" if round(alpha, 2) == alpha else f"{alpha:g}"
