"""Ranks within blocks: 1 = highest accuracy, equal accuracies share the mean of their ranks."""

from __future__ import annotations

import numpy as np

from drelu_cli.stats.distributions import FloatArray

# Percentages are printed with 2 to 4 decimals; means of them differ in the 14th digit by float
# noise alone, which would hide ties.
DECIMALS = 9


def tidy(values: FloatArray) -> FloatArray:
    """`values` without float noise: rounded to 9 decimals."""
    rounded: FloatArray = np.round(values, DECIMALS)
    return rounded


def block_ranks(values: FloatArray) -> FloatArray:
    """Ranks of (N, k) accuracies within each row, shape (N, k), in 1 .. k.

    Source: Friedman 1937; Demsar 2006, section 3.2.2.
    """
    clean = tidy(values)
    higher = (clean[:, None, :] > clean[:, :, None]).sum(axis=2)
    equal = (clean[:, None, :] == clean[:, :, None]).sum(axis=2)
    return np.asarray(1.0 + higher + (equal - 1) / 2, dtype=np.float64)


def signed_ranks(values: FloatArray) -> FloatArray:
    """Ranks of (n,) magnitudes, 1 = smallest, ties averaged."""
    ranks: FloatArray = block_ranks(-np.abs(values)[None, :])[0]
    return ranks


def tie_sum(ranks: FloatArray) -> float:
    """Sum over blocks and groups of t equal ranks of t^3 - t; 0 without ties."""
    total = 0
    for row in ranks:
        _, sizes = np.unique(row, return_counts=True)
        total += int(np.sum(sizes**3 - sizes))
    return float(total)
