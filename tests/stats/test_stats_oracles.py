"""Every test against an independent implementation, on all nine tables and on random blocks."""

from __future__ import annotations

from itertools import combinations, permutations, product

import numpy as np
import pandas as pd
import pytest
import scikit_posthocs
import scipy.stats
from statsmodels.stats.anova import AnovaRM
from statsmodels.stats.multitest import multipletests

from drelu_cli.published.tables import published_table, table_names
from drelu_cli.stats.anova import greenhouse_geisser, one_way_anova, repeated_measures_anova
from drelu_cli.stats.bayes import signed_rank_posteriors
from drelu_cli.stats.blocks import cells, networks
from drelu_cli.stats.distributions import (
    f_critical,
    f_sf,
    studentized_range_critical,
    studentized_range_sf,
)
from drelu_cli.stats.friedman import exact_p, friedman
from drelu_cli.stats.pairwise import pair_tests, sign_test_p, signed_rank_p
from drelu_cli.stats.posthoc import holm, nemenyi
from drelu_cli.stats.ranking import block_ranks


@pytest.fixture(params=[(name, unit) for name in table_names() for unit in ("cell", "network")])
def blocks(request):
    name, unit = request.param
    found = cells(published_table(name))
    return networks(found) if unit == "network" else found


def test_one_way_anova_agrees_with_scipy(blocks):
    want = scipy.stats.f_oneway(*blocks.values.T)
    got = one_way_anova(blocks.values)
    assert pytest.approx(want.statistic, rel=1e-9) == got.F
    assert got.p == pytest.approx(want.pvalue, rel=1e-6, abs=1e-12)


def test_repeated_measures_anova_agrees_with_statsmodels(blocks):
    n, k = blocks.values.shape
    long = pd.DataFrame(
        {
            "y": blocks.values.ravel(),
            "block": np.repeat(np.arange(n), k),
            "treatment": np.tile(np.arange(k), n),
        }
    )
    want = AnovaRM(long, "y", "block", within=["treatment"]).fit().anova_table.iloc[0]
    got = repeated_measures_anova(blocks.values)
    assert pytest.approx(want["F Value"], rel=1e-8) == got.F
    assert (got.df1, got.df2) == (want["Num DF"], want["Den DF"])
    assert got.p == pytest.approx(want["Pr > F"], rel=1e-6, abs=1e-12)


def test_friedman_agrees_with_scipy(blocks):
    if blocks.values.shape[1] < 3:
        with pytest.raises(ValueError):
            scipy.stats.friedmanchisquare(*blocks.values.T)
        assert friedman(blocks.values).chi2_p <= 1
        return
    want = scipy.stats.friedmanchisquare(*blocks.values.T)
    got = friedman(blocks.values)
    assert got.chi2_tie_corrected == pytest.approx(want.statistic, rel=1e-9)
    assert got.chi2_tie_corrected_p == pytest.approx(want.pvalue, rel=1e-6, abs=1e-12)


def test_ranks_agree_with_scipy(blocks):
    want = scipy.stats.rankdata(-blocks.values, axis=1)
    assert np.array_equal(block_ranks(blocks.values), want)


def test_nemenyi_agrees_with_scikit_posthocs(blocks):
    want = scikit_posthocs.posthoc_nemenyi_friedman(blocks.values)
    ranks = friedman(blocks.values).average_ranks
    got = nemenyi(blocks.treatments, ranks, len(blocks.names))
    pairs = combinations(range(len(blocks.treatments)), 2)
    for pair, (i, j) in zip(got.pairs, pairs, strict=True):
        assert pair.p == pytest.approx(want.iloc[i, j], rel=1e-6, abs=1e-10)


def test_signed_ranks_agree_with_scipy(blocks):
    for test in pair_tests(blocks.treatments, blocks.values):
        i, j = blocks.treatments.index(test.a), blocks.treatments.index(test.b)
        differences = np.round(blocks.values[:, i] - blocks.values[:, j], 9)
        kept = differences[differences != 0]
        if len(kept) == len(differences) and len(set(np.abs(kept))) == len(kept):
            want = scipy.stats.wilcoxon(kept, method="exact")
            assert test.p == pytest.approx(want.pvalue, rel=1e-9)
        assert min(test.W_plus, test.W_minus) == pytest.approx(
            scipy.stats.wilcoxon(kept, method="asymptotic").statistic
        )
        wins = int((kept > 0).sum())
        want_sign = scipy.stats.binomtest(wins, len(kept)).pvalue
        assert test.p_sign == pytest.approx(want_sign, rel=1e-9)


@pytest.mark.parametrize("magnitudes", [(1, 1, 2), (1, 2, 2, 3, 3), (4, 4, 4, 4, 1, 2)])
def test_signed_rank_p_with_ties_is_the_share_of_sign_patterns(magnitudes):
    ranks = scipy.stats.rankdata(magnitudes)
    total = ranks.sum()
    for signs in product((1, -1), repeat=len(magnitudes)):
        plus = ranks[np.array(signs) > 0].sum()
        extreme = [
            min(ranks[np.array(other) > 0].sum(), total - ranks[np.array(other) > 0].sum())
            <= min(plus, total - plus) + 1e-9
            for other in product((1, -1), repeat=len(magnitudes))
        ]
        p, exact = signed_rank_p(np.array(magnitudes, dtype=float) * signs)
        assert exact
        assert p == pytest.approx(np.mean(extreme), rel=1e-12)


def test_the_normal_approximation_takes_over_smoothly():
    differences = np.random.default_rng(3).normal(0.1, 1, size=400)
    p, exact = signed_rank_p(differences)
    assert not exact
    want = scipy.stats.wilcoxon(differences, method="asymptotic", correction=False)
    assert p == pytest.approx(want.pvalue, rel=1e-9)


@pytest.mark.parametrize(
    "values",
    [
        [[3.0, 2, 1], [3, 1, 2], [1, 2, 3]],
        [[2.0, 2, 1], [3, 1, 1], [5, 4, 3], [1, 1, 1]],
        [[1.0, 2], [2, 1], [5, 1], [7, 6]],
        [[4.0, 3, 2, 2], [4, 4, 1, 1], [1, 2, 3, 4]],
    ],
)
def test_exact_friedman_p_is_the_share_of_arrangements(values):
    ranks = block_ranks(np.array(values))
    observed = (ranks.sum(axis=0) ** 2).sum()
    extreme = [
        (np.sum(rows, axis=0) ** 2).sum() >= observed - 1e-9
        for rows in product(*[list(permutations(row)) for row in ranks])
    ]
    assert exact_p(ranks) == pytest.approx(np.mean(extreme), rel=1e-12)


def test_exact_friedman_p_is_left_out_where_it_would_take_long():
    ranks = block_ranks(np.random.default_rng(0).normal(size=(400, 4)))
    assert exact_p(ranks) is None
    assert exact_p(block_ranks(np.random.default_rng(0).normal(size=(3, 7)))) is None


@pytest.mark.parametrize("k", [2, 3, 4, 7, 12])
def test_studentized_range_agrees_with_scipy(k):
    for alpha in (0.1, 0.05, 0.01, 0.001):
        want = scipy.stats.studentized_range.ppf(1 - alpha, k, np.inf)
        assert studentized_range_critical(alpha, k) == pytest.approx(want, rel=1e-9)
    for q in (0.01, 0.5, 2.0, 4.0, 7.0):
        want = scipy.stats.studentized_range.sf(q, k, np.inf)
        assert studentized_range_sf(q, k) == pytest.approx(want, rel=1e-6, abs=1e-10)


def test_f_distribution_agrees_with_scipy():
    for df1, df2 in [(1, 5), (3, 105), (11, 2)]:
        assert f_critical(0.05, df1, df2) == pytest.approx(scipy.stats.f.ppf(0.95, df1, df2))
        assert f_sf(3.3, df1, df2) == pytest.approx(scipy.stats.f.sf(3.3, df1, df2))


def test_holm_agrees_with_statsmodels():
    p_values = [0.04, 0.001, 0.04, 0.9, 0.013, 0.001]
    want = multipletests(p_values, method="holm")[1]
    assert holm(p_values) == pytest.approx(want.tolist())


def test_greenhouse_geisser_is_one_under_sphericity_and_least_for_one_direction():
    identity = np.concatenate([np.eye(4), -np.eye(4)])
    assert greenhouse_geisser(identity) == pytest.approx(1.0)
    line = np.outer(np.arange(5.0), np.array([1.0, 2, 4, 9]))
    assert greenhouse_geisser(line) == pytest.approx(1 / 3)


def test_bayesian_signed_rank_agrees_with_its_definition():
    """The double sum over pairs, written out, on the same Dirichlet draws."""
    z = np.round(np.random.default_rng(1).normal(1, 3, 20), 2)
    got = signed_rank_posteriors(z[None], 1.0, np.random.default_rng(5), draws=2_000)[0]
    with_prior = np.concatenate([[0.0], z])
    weights = np.random.default_rng(5).dirichlet([0.5] + [1.0] * 20, size=2_000)
    means = (with_prior[:, None] + with_prior) / 2
    better = np.einsum("di,ij,dj->d", weights, (means > 1).astype(float), weights)
    worse = np.einsum("di,ij,dj->d", weights, (means < -1).astype(float), weights)
    winner = np.argmax(np.stack([better, 1 - better - worse, worse]), axis=0)
    assert got.tolist() == pytest.approx((np.bincount(winner, minlength=3) / 2_000).tolist())


def test_sign_test_without_differences_says_nothing():
    assert sign_test_p(0, 0) == 1.0
