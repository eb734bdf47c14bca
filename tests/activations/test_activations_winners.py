"""k winners take all."""

import pytest
import torch

from drelu_cli.activations.winners import kwta
from drelu_cli.core.errors import BadValue


def draws(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def by_definition(x, k):
    """Sorted by hand, a sample at a time."""
    kept = [row >= sorted(row.flatten().tolist(), reverse=True)[k - 1] for row in x]
    return x * torch.stack(kept)


@pytest.mark.parametrize(
    ("share", "shape", "k"),
    [(0.15, (4, 128), 19), (0.15, (3, 2, 5, 4), 6), (0.001, (4, 9), 1), (1.0, (2, 7), 7)],
)
def test_the_largest_share_of_all_units_of_a_sample_stays(share, shape, k):
    x = draws(*shape)
    y = kwta(shape[1], share=share)(x)
    assert torch.equal(y, by_definition(x, k))
    assert ((y != 0).flatten(1).sum(1) == k).all()


def test_the_derivative_is_one_where_kept_and_zero_where_dropped():
    x = draws(5, 20).requires_grad_()
    y = kwta(20, share=0.25)(x)
    (gradient,) = torch.autograd.grad(y.sum(), x)
    assert torch.equal(gradient, (y != 0).double())
    assert gradient.sum(1).tolist() == [5.0] * 5


def test_ties_with_the_kth_largest_are_all_kept_whatever_their_place():
    unit = kwta(4, share=0.5)
    assert unit(torch.tensor([[3.0, 2.0, 2.0, 1.0]])).tolist() == [[3, 2, 2, 0]]
    assert unit(torch.tensor([[1.0, 2.0, 3.0, 2.0]])).tolist() == [[0, 2, 3, 2]]


def test_samples_do_not_compete_with_each_other():
    x = draws(6, 10)
    unit = kwta(10, share=0.3)
    assert torch.equal(unit(x), torch.cat([unit(row[None]) for row in x]))


def test_nan_is_handed_on_so_that_the_evaluation_sees_it():
    x = torch.tensor([[float("nan"), 1.0, 2.0, 3.0]])
    assert kwta(4, share=0.5)(x).isnan()[0, 0]


def test_bounds_hold_for_every_point_of_a_box_and_name_sure_winners_and_losers():
    unit = kwta(12, share=0.25)
    for seed in range(20):
        middle, radius = draws(1, 12, seed=seed), draws(1, 12, seed=seed + 50).abs() * 0.3
        low, high = unit.bounds(middle - radius, middle + radius)
        shares = torch.rand(2000, 12, generator=torch.Generator().manual_seed(seed)).double()
        # Corners make winners of losers more often than points inside do.
        points = middle + radius * torch.where(shares < 0.4, -1, torch.where(shares > 0.6, 1, 0))
        y = unit(points)
        assert ((low <= y) & (y <= high)).all()
        assert ((low == 0) & (high == 0)).any()  # some never win
    low, high = unit.bounds(torch.arange(12.0)[None], torch.arange(12.0)[None] + 0.5)
    assert low[0].tolist() == [0] * 9 + [9, 10, 11]
    assert high[0].tolist() == [0] * 9 + [9.5, 10.5, 11.5]


def test_a_sure_loser_is_not_bounded_by_its_own_interval():
    """The neighbours decide: the same interval gives other bounds beside smaller ones."""
    unit = kwta(2, share=0.5)
    low, high = unit.bounds(torch.tensor([[1.0, 5.0]]), torch.tensor([[2.0, 6.0]]))
    assert (low[0, 0], high[0, 0]) == (0, 0)
    low, high = unit.bounds(torch.tensor([[1.0, 1.5]]), torch.tensor([[2.0, 6.0]]))
    assert (low[0, 0], high[0, 0]) == (0, 2)


@pytest.mark.parametrize("share", [0.0, -0.1, 1.01])
def test_a_share_out_of_range_is_refused(share):
    with pytest.raises(BadValue, match="share"):
        kwta(4, share=share)
