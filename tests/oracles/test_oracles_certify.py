"""Certificates of a network of published certified error; attacks on what is certified."""

import copy
import itertools

import pytest
import torch

from drelu_cli.attacks import ATTACKS
from drelu_cli.attacks.losses import misclassified
from drelu_cli.certify.decision import certified
from drelu_cli.core.records import ThreatModel
from drelu_cli.runtime.streams import Stream

pytestmark = pytest.mark.data

EPS = 0.1
# Attacked images: every attack on all 1,000 is benchmarks/certified_never_broken.py.
ATTACKED = 200


@pytest.fixture(scope="module")
def first(mnist_test):
    return tuple(part[:1000] for part in mnist_test)


@pytest.fixture(scope="module")
def proven(wong_kolter, first):
    return certified(wong_kolter, *first, EPS)


def test_fifty_images_by_crown_and_none_by_intervals(wong_kolter, mnist_test):
    x, y = (part[:50] for part in mnist_test)
    assert certified(wong_kolter, x, y, EPS).sum() >= 45
    assert not certified(wong_kolter, x, y, EPS, method="interval").any()


@pytest.mark.slow
def test_at_least_930_of_the_first_1000_are_certified(wong_kolter, first, proven):
    """Published: certified error at most 5.8 % on all 10,000; 941 were certified here."""
    assert proven.sum() >= 930
    with torch.no_grad():
        assert not misclassified(wong_kolter(first[0]), first[1])[proven].any()
    assert not certified(wong_kolter, *first, EPS, method="interval").any()


@pytest.mark.slow
def test_fewer_are_certified_at_a_larger_radius(wong_kolter, first):
    x, y = (part[:100] for part in first)
    left = [certified(wong_kolter, x, y, eps) for eps in (0.0, 0.05, 0.1, 0.15, 0.2)]
    for smaller, larger in itertools.pairwise(left):
        assert (larger <= smaller).all()
    assert left[0].sum() >= 97
    assert left[-1].sum() < left[2].sum()


LINF = [name for name in ATTACKS.builtin_names() if name != "cw_l2"]
# Shorter than the defaults, for time.
FEWER = {
    "square": {"queries": 1000},
    "apgd_restarts": {"passes": 1000},
    "nes": {"steps": 40, "draws": 20},
}


@pytest.mark.slow
@pytest.mark.parametrize("name", LINF)
def test_no_attack_breaks_a_certified_image(wong_kolter, first, proven, name):
    x, y = first
    index = proven.nonzero()[:ATTACKED, 0]
    assert len(index) == ATTACKED
    bound = ATTACKS.bind(name, **FEWER.get(name, {}))
    assert "linf" in bound.target.norms
    found = bound(wong_kolter, x[index], y[index], ThreatModel("linf", EPS), Stream(0, index))
    assert found.forwards.min() >= 1
    # The points are where an attack should go: away from the input, inside the ball.
    moved = (found.x_adv.double() - x[index].double()).abs().flatten(1).amax(1)
    assert moved.max() <= EPS + 1e-6
    with torch.no_grad():
        assert not misclassified(wong_kolter(found.x_adv), y[index]).any()
        exact = copy.deepcopy(wong_kolter).double()
        assert not misclassified(exact(found.x_adv.double()), y[index]).any()


@pytest.mark.slow
def test_some_images_that_are_not_certified_are_broken(wong_kolter, first, proven):
    """The test above is not idle: the attacks do break images of this net at this radius."""
    x, y = first
    with torch.no_grad():
        right = ~misclassified(wong_kolter(x), y)
    index = (right & ~proven).nonzero()[:, 0]
    assert len(index) > 0
    found = ATTACKS.bind("apgd_ce")(
        wong_kolter, x[index], y[index], ThreatModel("linf", EPS), Stream(0, index)
    )
    with torch.no_grad():
        assert misclassified(wong_kolter(found.x_adv), y[index]).any()
