from hypothesis import given
from hypothesis import strategies as st

from drelu_cli.core.records import State
from drelu_cli.evaluation.columns import (
    AUTOATTACK,
    CLAIMED,
    columns,
    cumulative,
    merged,
    robust_share,
    worst_case,
)

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


def test_claimed_is_cumulative_and_needs_every_attack():
    full = {name: [R, R, R, B] for name in CLAIMED["linf"]}
    full["pgd"] = [B, R, R, B]
    assert columns("linf", full)["claimed"] == 0.5
    for name in CLAIMED["linf"]:
        assert columns("linf", {k: v for k, v in full.items() if k != name})["claimed"] is None
    assert columns("l2", full)["claimed"] is None
    partial = {**full, "fgsm": [N, R, R, B]}
    assert columns("linf", partial)["standard"] is None


def test_runs_of_one_attack_on_different_samples_are_one_run():
    assert merged([[N, R, B, N]]) == [N, R, B, N]
    assert merged([[N, R, N, N], [B, N, R, N]]) == [B, R, R, N]


def test_what_no_attack_decided_is_no_number():
    assert worst_case([[R, B], [R, N]]) == 0.5
    assert worst_case([[R, N], [R, B]]) == 0.5
    assert worst_case([[R, R], [R, N]]) is None


@given(st.lists(states, min_size=4, max_size=4))
def test_a_cascade_gives_the_columns_of_full_runs(lists):
    full = dict(zip(AUTOATTACK, lists, strict=True))
    left = [R] * 4
    cascade = {}
    for name, found in full.items():
        cascade[name] = [
            state if stands == R else N for state, stands in zip(found, left, strict=True)
        ]
        left = [B if B in pair else R for pair in zip(left, found, strict=True)]
    for norm in ("linf", "l2"):
        assert columns(norm, cascade) == columns(norm, full)
    assert columns("linf", cascade)["autoattack"] == left.count(R) / 4


def test_standard_needs_both_and_is_below_both():
    claimed = {name: [R, R, R, B] for name in CLAIMED["linf"]}
    four = {name: [B, R, R, R] for name in AUTOATTACK}
    both = columns("linf", {**claimed, **four, "apgd_ce": [B, R, R, B]})
    assert (both["claimed"], both["autoattack"], both["standard"]) == (0.5, 0.5, 0.5)
    assert columns("linf", claimed)["standard"] is None
    assert columns("linf", four)["standard"] is None
    assert both["adaptive"] is None
    assert both["certified"] is None
