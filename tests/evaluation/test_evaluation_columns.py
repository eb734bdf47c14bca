import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from drelu_cli.core.records import State
from drelu_cli.evaluation.columns import CLAIMED, columns, cumulative, robust_share, wilson

R, B, N = int(State.ROBUST), int(State.BROKEN), int(State.NOT_RUN)
states = st.lists(st.sampled_from([R, B]), min_size=4, max_size=4)


def test_shares():
    assert robust_share([R, B, R, R]) == 0.75
    assert robust_share([R, N]) is None
    assert robust_share([]) is None


def test_cumulative_with_survivors_only():
    assert cumulative([[R, B, R], [B, N, R]]) == [[R, B, R], [B, B, R]]
    assert cumulative([[N, R]]) == [[N, R]]


@given(st.lists(states, min_size=1, max_size=5))
def test_what_is_left_never_grows_and_is_the_worst_case(lists):
    left = cumulative(lists)
    shares = [robust_share(column) for column in left]
    assert shares == sorted(shares, reverse=True)
    assert shares[-1] == sum(all(c[i] == R for c in lists) for i in range(4)) / 4


@given(st.integers(1, 500).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_agrees_with_scipy(case):
    successes, total = case
    interval = binomtest(successes, total).proportion_ci(0.95, method="wilson")
    assert wilson(successes, total) == pytest.approx((interval.low, interval.high), abs=1e-12)


def test_claimed_is_cumulative_and_needs_every_attack():
    full = {name: [R, R, R, B] for name in CLAIMED["linf"]}
    full["pgd"] = [B, R, R, B]
    assert columns("linf", full)["claimed"] == 0.5
    for name in CLAIMED["linf"]:
        assert columns("linf", {k: v for k, v in full.items() if k != name})["claimed"] is None
    assert columns("l2", full)["claimed"] is None
    partial = {**full, "fgsm": [N, R, R, B]}
    assert columns("linf", partial)["standard"] is None
