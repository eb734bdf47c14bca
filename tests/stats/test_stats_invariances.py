"""What must not change the results: order of blocks and treatments, affine changes, swaps."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from drelu_cli.stats.anova import one_way_anova, repeated_measures_anova
from drelu_cli.stats.bayes import bayes_pairs
from drelu_cli.stats.friedman import friedman
from drelu_cli.stats.pairwise import pair_tests
from drelu_cli.stats.posthoc import holm, nemenyi, rank_groups
from drelu_cli.stats.ranking import block_ranks

# Tenths of a percent: ties are common, as in real tables.
TABLES = hnp.arrays(
    np.int64,
    st.tuples(st.integers(2, 7), st.integers(2, 4)),
    elements=st.integers(0, 12),
).map(lambda table: table / 10 + 40)
FEW = settings(max_examples=60, deadline=None)


def same(a, b):
    if a is None or b is None:
        return a is b
    return a == pytest.approx(b, rel=1e-9, abs=1e-12)


@FEW
@given(TABLES, st.randoms(use_true_random=False))
def test_the_order_of_blocks_changes_nothing(values, random):
    order = list(range(len(values)))
    random.shuffle(order)
    one, other = friedman(values), friedman(values[order])
    assert same(one.chi2, other.chi2)
    assert same(one.p_exact, other.p_exact)
    assert same(one.F_F, other.F_F)
    assert same(one_way_anova(values).F, one_way_anova(values[order]).F)
    names = tuple("abcd"[: values.shape[1]])
    for first, second in zip(
        pair_tests(names, values), pair_tests(names, values[order]), strict=True
    ):
        assert same(first.p, second.p)
        assert same(first.mean_difference, second.mean_difference)


@FEW
@given(TABLES, st.randoms(use_true_random=False))
def test_the_order_of_treatments_only_renames_results(values, random):
    order = list(range(values.shape[1]))
    random.shuffle(order)
    one, other = friedman(values), friedman(values[:, order])
    assert one.average_ranks[order].tolist() == pytest.approx(other.average_ranks.tolist())
    assert same(one.chi2_tie_corrected, other.chi2_tie_corrected)
    assert same(one.p_exact, other.p_exact)
    assert same(repeated_measures_anova(values).F, repeated_measures_anova(values[:, order]).F)


@FEW
@given(TABLES, st.floats(0.1, 10), st.floats(-50, 50))
def test_an_affine_change_of_accuracies_leaves_rank_tests_alone(values, scale, shift):
    moved = scale * values + shift
    assert np.array_equal(block_ranks(values), block_ranks(moved))
    names = tuple("abcd"[: values.shape[1]])
    for one, other in zip(pair_tests(names, values), pair_tests(names, moved), strict=True):
        assert (one.W_plus, one.W_minus, one.p) == (other.W_plus, other.W_minus, other.p)
        assert (one.wins, one.losses, one.ties) == (other.wins, other.losses, other.ties)


@FEW
@given(TABLES)
def test_swapping_two_treatments_mirrors_their_comparison(values):
    one = pair_tests(("a", "b"), values[:, :2])[0]
    other = pair_tests(("b", "a"), values[:, 1::-1])[0]
    assert (one.W_plus, one.W_minus) == (other.W_minus, other.W_plus)
    assert (one.wins, one.losses) == (other.losses, other.wins)
    assert one.mean_difference == -other.mean_difference
    assert one.p == other.p
    ranks = friedman(values[:, :2]).average_ranks
    pair = nemenyi(("a", "b"), ranks, len(values)).pairs[0]
    mirrored = nemenyi(("b", "a"), ranks[::-1], len(values)).pairs[0]
    assert pair.rank_difference == -mirrored.rank_difference
    assert pair.p == mirrored.p


@FEW
@given(TABLES, st.integers(0, 5))
def test_the_bayesian_test_is_antisymmetric_and_repeatable(values, seed):
    def run(table):
        return bayes_pairs(("a", "b"), table, rope=0.2, seed=seed, draws=400)[0]

    one, other = run(values[:, :2]), run(values[:, 1::-1])
    # 400 draws: a tie between regions that rounding decides differently is one draw.
    assert (one.p_a, one.p_rope, one.p_b) == pytest.approx(
        (other.p_b, other.p_rope, other.p_a), abs=1 / 400 + 1e-12
    )
    assert one.p_a + one.p_rope + one.p_b == pytest.approx(1)
    assert run(values[:, :2]) == one


@FEW
@given(TABLES)
def test_ranks_of_a_block_sum_to_their_known_total(values):
    k = values.shape[1]
    assert np.all(block_ranks(values).sum(axis=1) == k * (k + 1) / 2)


@FEW
@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_keeps_order_and_never_lowers(p_values):
    adjusted = holm(p_values)
    assert all(a >= p for a, p in zip(adjusted, p_values, strict=True))
    assert all(a <= 1 for a in adjusted)
    order = np.argsort(p_values, kind="stable")
    assert all(np.diff(np.array(adjusted)[order]) >= 0)


@FEW
@given(st.lists(st.floats(1, 12), min_size=2, max_size=12), st.floats(0.05, 5))
def test_bars_are_maximal_and_cover_every_close_pair(ranks, cd):
    ranks = np.sort(np.array(ranks))
    groups = rank_groups(ranks, cd)
    for i in range(len(ranks)):
        for j in range(i + 1, len(ranks)):
            joined = any(first <= i and j <= last for first, last in groups)
            assert joined == (ranks[j] - ranks[i] <= cd + 1e-12)
    assert not any(a != b and b[0] <= a[0] and a[1] <= b[1] for a in groups for b in groups)
