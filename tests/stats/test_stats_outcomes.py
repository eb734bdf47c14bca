"""Intervals and paired tests on per-sample outcomes."""

from __future__ import annotations

import numpy as np
import pytest
from statsmodels.stats.contingency_tables import mcnemar as statsmodels_mcnemar
from statsmodels.stats.proportion import proportion_confint

from drelu_cli.core.errors import BadValue
from drelu_cli.stats.outcomes import cluster_bootstrap, mcnemar, wilson_interval


@pytest.mark.parametrize("n", [1, 40, 1000])
@pytest.mark.parametrize("share", [0.0, 0.025, 0.5, 1.0])
def test_wilson_agrees_with_statsmodels(n, share):
    count = round(n * share)
    for alpha in (0.05, 0.01):
        want = proportion_confint(count, n, alpha=alpha, method="wilson")
        assert wilson_interval(count, n, alpha) == pytest.approx(want, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("n", [7, 50, 100])
def test_none_and_all_have_exact_ends(n):
    """Rounding would leave 3e-18 in the place of 0, and so in figures' data."""
    assert wilson_interval(0, n)[0] == 0.0
    assert wilson_interval(n, n)[1] == 1.0


def test_shares_that_are_none_are_refused():
    for count, n in [(-1, 5), (6, 5), (0, 0)]:
        with pytest.raises(BadValue, match="is not a share"):
            wilson_interval(count, n)
    with pytest.raises(BadValue, match="alpha"):
        wilson_interval(1, 5, 1.5)


def test_mcnemar_agrees_with_statsmodels():
    stream = np.random.default_rng(0)
    a, b = stream.random(300) < 0.6, stream.random(300) < 0.5
    found = mcnemar(a, b)
    table = [[(a & b).sum(), (a & ~b).sum()], [(~a & b).sum(), (~a & ~b).sum()]]
    assert found.p == pytest.approx(statsmodels_mcnemar(table, exact=True).pvalue)
    assert (found.only_a, found.only_b) == (table[0][1], table[1][0])
    assert mcnemar(b, a).p == found.p
    assert mcnemar(a, a).p == 1.0


def test_mcnemar_refuses_lists_that_cannot_be_paired():
    with pytest.raises(BadValue, match="cannot be paired"):
        mcnemar([True, False], [True])


def test_the_bootstrap_sees_the_spread_between_seeds():
    """With seeds at 20, 50 and 80 % the interval must be far wider than Wilson's on the pool."""
    clusters = [np.repeat([1.0, 0.0], [200 + 300 * s, 800 - 300 * s]) for s in range(3)]
    centre, low, high = cluster_bootstrap(clusters, np.random.default_rng(0))
    assert centre == pytest.approx(0.5)
    # All three draws equal the lowest (highest) seed with probability 1/27 > 2.5 %.
    assert low == pytest.approx(0.2, abs=0.02)
    assert high == pytest.approx(0.8, abs=0.02)
    pooled = wilson_interval(1500, 3000)
    assert high - low > 10 * (pooled[1] - pooled[0])


def test_the_bootstrap_of_equal_seeds_is_the_samples_own_spread():
    clusters = [np.repeat([1.0, 0.0], [500, 500])] * 4
    _, low, high = cluster_bootstrap(clusters, np.random.default_rng(0), draws=20_000)
    half = 1.96 * np.sqrt(0.25 / 4000)
    assert high - 0.5 == pytest.approx(half, rel=0.08)
    assert 0.5 - low == pytest.approx(half, rel=0.08)


def test_the_bootstrap_is_repeatable_and_refuses_nothing_to_draw_from():
    clusters = [np.array([1.0, 0, 1]), np.array([0.0, 0, 1])]
    one, other = (cluster_bootstrap(clusters, np.random.default_rng(7)) for _ in range(2))
    assert one == other
    for empty in ([], [np.array([])]):
        with pytest.raises(BadValue, match="at least one"):
            cluster_bootstrap(empty, np.random.default_rng(0))
