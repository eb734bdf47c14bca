"""Bounds hold for every input in the interval, in both precisions."""

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from drelu_cli.activations import ACTIVATIONS
from drelu_cli.activations.plain import silu

numbers = st.floats(-1e4, 1e4, width=32) | st.floats(-3, 3, width=32)
shares = st.floats(0, 1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", ACTIVATIONS.builtin_names())
@settings(deadline=None, max_examples=150)
@example(ends=(-1.3, -1.2), share=0.5)
@example(ends=(20.0, 20.000000001), share=1.0)
@example(ends=(39.9999999, 40.0000001), share=1.0)
@given(ends=st.tuples(numbers, numbers), share=shares)
def test_the_output_lies_within_the_bounds(name, dtype, ends, share):
    module = ACTIVATIONS.bind(name)(1).to(dtype)
    lower, upper = (torch.tensor([[end]], dtype=dtype) for end in sorted(ends))
    low, high = module.bounds(lower, upper)
    inside = torch.clamp(lower + share * (upper - lower), lower, upper)
    for point in (lower, inside, upper):
        assert low <= module(point) <= high


@pytest.mark.parametrize("name", ACTIVATIONS.builtin_names())
def test_bounds_of_a_point_are_tight(name):
    module = ACTIVATIONS.bind(name)(1).double()
    x = torch.linspace(-6, 6, 101, dtype=torch.float64)[:, None]
    # Away from silu's dip, where bounds of a point are the point's own value.
    x = x[(x + 1.2785).abs() > 0.05][:, None]
    low, high = module.bounds(x, x)
    torch.testing.assert_close(low, module(x), rtol=1e-14, atol=1e-300)
    torch.testing.assert_close(high, module(x), rtol=1e-14, atol=1e-300)


def test_silus_dip_is_found_inside_an_interval_whose_ends_are_higher():
    lower, upper = torch.tensor([[-5.0]]), torch.tensor([[0.0]])
    low, high = silu(1).bounds(lower, upper)
    assert low.item() == pytest.approx(-0.2784645427610738, abs=1e-6)
    assert high.item() == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize("name", ACTIVATIONS.builtin_names())
def test_bounds_carry_gradients_to_both_ends(name):
    module = ACTIVATIONS.bind(name)(1)
    lower = torch.tensor([[0.2]], requires_grad=True)
    upper = torch.tensor([[0.5]], requires_grad=True)
    low, high = module.bounds(lower, upper)
    gradients = torch.autograd.grad((high - low).sum(), [lower, upper])
    assert gradients[0].item() < 0 < gradients[1].item()
