"""The Bayesian signed-rank test with a region of practical equivalence (rope)."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

import numpy as np

from drelu_cli.stats.distributions import FloatArray
from drelu_cli.stats.ranking import tidy

PRIOR_STRENGTH = 0.5  # one pseudo-difference of 0 with half a vote: Benavoli et al. 2017
DRAWS = 20_000
CHUNK = 2_000


@dataclass(frozen=True, slots=True)
class BayesPair:
    """Posterior probabilities that `a` is better, that both are practically equal, `b` better."""

    a: str
    b: str
    p_a: float
    p_rope: float
    p_b: float


def bayes_pairs(
    treatments: tuple[str, ...],
    values: FloatArray,
    *,
    rope: float,
    seed: int,
    draws: int = DRAWS,
) -> tuple[BayesPair, ...]:
    """The test for every pair of columns of (N, k) accuracies; `rope` in percentage points.

    All pairs share the Dirichlet draws, which depend on N and the seed alone: a pair's result
    does not depend on the other treatments, and (b, a) mirrors (a, b) exactly.
    """
    names = list(combinations(range(len(treatments)), 2))
    differences = np.stack([values[:, i] - values[:, j] for i, j in names])
    shares = signed_rank_posteriors(differences, rope, np.random.default_rng(seed), draws)
    return tuple(
        BayesPair(treatments[i], treatments[j], *share)
        for (i, j), share in zip(names, shares.tolist(), strict=True)
    )


def signed_rank_posteriors(
    differences: FloatArray, rope: float, stream: np.random.Generator, draws: int = DRAWS
) -> FloatArray:
    """(better, equal, worse) per row: shares of posterior draws in which a region weighs most.

    A draw weighs the differences z (with a pseudo-difference 0 in front) by a Dirichlet vector w;
    the regions' weights are the sums of w_i w_j over (z_i + z_j) / 2 above, inside and below the
    rope. Draws with two equally heavy regions are shared between them.

    Source: Benavoli, Corani, Demsar, Zaffalon 2017 (arXiv 1606.04316), section 4.2.

    Args:
        differences: (pairs, n), percentage points.
        rope: half width of the region, percentage points, >= 0.
        stream: the only source of randomness.
        draws: posterior draws.

    Returns:
        (pairs, 3), rows sum to 1.
    """
    pairs, n = differences.shape
    z = np.concatenate([np.zeros((pairs, 1)), tidy(differences)], axis=1)
    concentration = np.concatenate([[PRIOR_STRENGTH], np.ones(n)])
    votes = np.zeros((pairs, 3))
    for start in range(0, draws, CHUNK):
        size = min(CHUNK, draws - start)
        weights = np.ascontiguousarray(stream.dirichlet(concentration, size=size).T)
        for pair in range(pairs):
            better = _weight_beyond(z[pair], weights, rope)
            worse = _weight_beyond(-z[pair], weights, rope)
            regions = np.stack([better, 1 - better - worse, worse])
            heaviest = regions >= regions.max(axis=0) - 1e-12
            votes[pair] += (heaviest / heaviest.sum(axis=0)).sum(axis=1)
    return votes / draws


def _weight_beyond(z: FloatArray, weights: FloatArray, rope: float) -> FloatArray:
    """Per draw the sum of w_i w_j over (z_i + z_j) / 2 > rope, from running sums over sorted z.

    Args:
        z: (m,).
        weights: (m, draws).
        rope: half width.
    """
    order = np.argsort(-z, kind="stable")
    falling, sorted_weights = z[order], weights[order]
    running = np.concatenate([np.zeros((1, weights.shape[1])), np.cumsum(sorted_weights, axis=0)])
    # For each i the partners j with z_j > 2 rope - z_i come first in the falling order.
    partners = np.searchsorted(-falling, -(2 * rope - falling), side="left")
    return np.asarray(np.einsum("id,id->d", sorted_weights, running[partners]))
