"""The word follows from flags, remedy and control exactly as the definitions say."""

from __future__ import annotations

import pytest

from drelu_cli.core.records import (
    MASKED,
    NO_FAILURE,
    NOT_EXAMINED,
    SUSPICIOUS,
    Evidence,
)
from drelu_cli.evaluation.verdict import (
    contest,
    deciding,
    mechanism_flags,
    strongest_plain,
    too_weak,
    verdict,
    worst_word,
)

FLAG = Evidence("zero_gradient", "dlr", 0.9, 0.1, flag=True, mechanism=True, attacks=("apgd_dlr",))
OWN = {"pgd": 0.9, "apgd_ce": 0.88, "apgd_dlr": 0.86}


def won(remedy: int, control: int, both: int = 0, total: int = 1000):
    """A contest in which the remedy alone broke `remedy`, the control alone `control`."""
    first = [True] * remedy + [False] * control + [True] * both + [False] * 50
    second = [False] * remedy + [True] * control + [True] * both + [False] * 50
    return contest(first, second, total)


def test_masked_needs_the_flag_and_the_victory():
    assert verdict([FLAG], OWN, won(300, 2), done=True) == MASKED
    assert verdict([FLAG], OWN, won(40, 0), done=True) == SUSPICIOUS  # 4 points
    assert verdict([FLAG], OWN, None, done=True) == SUSPICIOUS
    assert verdict([], OWN, won(300, 2), done=True) == NO_FAILURE
    assert verdict([FLAG], OWN, won(300, 2), done=False) == NOT_EXAMINED


def test_the_victory_is_counted_in_points_of_all_samples_and_tested_in_pairs():
    assert won(50, 0).gain == pytest.approx(0.05)
    assert won(50, 0).won
    assert not won(49, 0).won  # 4.9 points
    # Ten points more, but of so many samples that changed sides that it may be chance.
    noisy = contest([True] * 60 + [False] * 50, [False] * 60 + [True] * 50, 100)
    assert noisy.gain == pytest.approx(0.10)
    assert noisy.p > 0.01
    assert not noisy.won
    assert won(30, 0, both=500).gain == pytest.approx(0.03)


def test_only_flags_on_the_strongest_plain_attack_count():
    on_ce = Evidence("loss_scale", "ce", 0.4, 0.02, True, mechanism=True, attacks=("apgd_ce",))
    assert verdict([on_ce], OWN, won(300, 0), done=True) == NO_FAILURE
    assert verdict([on_ce], {"apgd_ce": 0.5, "apgd_dlr": 0.6}, won(300, 0), done=True) == MASKED
    other = Evidence("saturation", "layer", 1.0, 0.95, flag=True, attacks=("apgd_dlr",))
    assert not mechanism_flags([other], "apgd_dlr")
    lowered = Evidence("zero_gradient", "dlr", 0.05, 0.1, False, True, ("apgd_dlr",))
    assert not mechanism_flags([lowered], "apgd_dlr")


def test_square_hides_no_flag_of_a_gradient_attack_that_it_does_not_beat():
    own = {"apgd_ce": 0.46, "apgd_t": 0.45, "square": 0.44}
    on_t = Evidence("zero_gradient", "dlr", 0.9, 0.1, True, mechanism=True, attacks=("apgd_t",))
    assert verdict([on_t], own, won(300, 0), done=True) == MASKED
    on_ce = Evidence("loss_scale", "ce", 0.4, 0.02, True, mechanism=True, attacks=("apgd_ce",))
    assert verdict([on_ce], own, won(300, 0), done=True) == NO_FAILURE
    # Where Square is significantly stronger, that is the flag, and it is about Square.
    beats = Evidence("blackbox", "p", 0.3, 0.02, True, mechanism=True, attacks=("square", "apgd_t"))
    assert deciding([beats, on_t], own) == ("square",)
    assert verdict([beats], own, won(300, 0), done=True) == MASKED


def test_of_equally_strong_attacks_the_later_in_suite_order_counts():
    assert strongest_plain({"pgd": 0.4, "apgd_ce": 0.4}) == "apgd_ce"
    assert strongest_plain({"pgd": 0.3, "apgd_ce": 0.4}) == "pgd"
    assert strongest_plain({}) is None


def test_a_large_drop_without_a_flag_is_a_weak_evaluation():
    assert too_weak([], OWN, 50, 1000)
    assert not too_weak([], OWN, 49, 1000)
    assert not too_weak([FLAG], OWN, 500, 1000)
    weaker = Evidence("loss_scale", "ce", 0.4, 0.02, True, mechanism=True, attacks=("pgd",))
    assert not too_weak([weaker], OWN, 500, 1000)  # something does hide gradients


def test_seeds_are_never_averaged():
    assert worst_word([MASKED, NO_FAILURE, MASKED]) == "masked 2/3"
    assert worst_word([NO_FAILURE] * 3) == "no failure found 3/3"
    assert worst_word([NO_FAILURE, NOT_EXAMINED]) == "not examined 1/2"
    assert worst_word([SUSPICIOUS]) == SUSPICIOUS
    assert worst_word([]) == NOT_EXAMINED
