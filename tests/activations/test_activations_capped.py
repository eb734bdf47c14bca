"""The rules of the source paper: derivatives, Theorem 1, Corollary 1, the identity."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from drelu_cli.activations import ACTIVATIONS
from drelu_cli.activations.capped import drelu, relu6, srelu
from drelu_cli.core.errors import BadValue, ModelError

numbers = st.floats(-1e6, 1e6, width=32)
caps = st.floats(0, 1e6, width=32)
fast = settings(deadline=None, max_examples=200)


def column(*values):
    return torch.tensor([[value] for value in values], dtype=torch.float64)


def both(cap):
    """A static and a learnt cap of the same height, in float64."""
    return srelu(1, cap=cap).double(), drelu(1, cap=cap).double()


@fast
@given(x=numbers, shift=numbers, cap=caps)
def test_theorem_1_a_capped_unit_never_changes_more_than_the_uncapped_one(x, shift, cap):
    uncapped = (column(x + shift).relu() - column(x).relu()).abs()
    for unit in both(cap):
        assert (unit(column(x + shift)) - unit(column(x))).abs() <= uncapped


@fast
@given(x=numbers, shift=numbers, low=caps, high=caps)
def test_corollary_1_a_smaller_cap_never_makes_the_change_larger(x, shift, low, high):
    low, high = sorted((low, high))
    for smaller, larger in zip(both(low), both(high), strict=True):
        change = (smaller(column(x + shift)) - smaller(column(x))).abs()
        assert change <= (larger(column(x + shift)) - larger(column(x))).abs()


@fast
@given(x=st.integers(-(2**20), 2**20), cap=st.integers(0, 2**20))
def test_the_identity_with_two_relus(x, cap):
    """Integers below 2^24 keep both sides exact."""
    points = column(float(x)).float()
    for unit in (srelu(1, cap=float(cap)), drelu(1, cap=float(cap))):
        assert torch.equal(unit(points), points.relu() - (points - cap).relu())


@fast
@given(x=numbers, cap=caps)
def test_the_forward_pass_is_the_formula_exactly(x, cap):
    for unit in both(cap):
        assert unit(column(x)).item() == min(max(0.0, x), cap)


@pytest.mark.parametrize(
    ("x", "dx", "dm"),
    [(-1.0, 0, 0), (0.0, 0, 0), (1e-30, 1, 0), (1.5, 1, 0), (2.0, 0, 0), (2.5, 0, 1)],
)
def test_derivatives_at_and_between_the_ties(x, dx, dm):
    unit = drelu(1, cap=2.0).double()
    point = column(x).requires_grad_()
    grad_x, grad_cap = torch.autograd.grad(unit(point).sum(), [point, unit.cap])
    assert (grad_x.item(), grad_cap.item()) == (dx, dm)
    (grad_static,) = torch.autograd.grad(srelu(1, cap=2.0)(point).sum(), point)
    assert grad_static.item() == dx


def test_a_cap_of_zero_has_no_input_gradient_and_still_a_cap_gradient():
    unit = drelu(1, cap=0.0)
    point = column(-1.0, 0.0, 3.0).float().requires_grad_()
    grad_x, grad_cap = torch.autograd.grad(unit(point).sum(), [point, unit.cap])
    assert grad_x.flatten().tolist() == [0, 0, 0]
    assert grad_cap.tolist() == [1.0]


def neighbours(value):
    """The floats just below and above `value`, subnormal ones included, and itself."""
    point = torch.tensor(value)
    toward = [torch.nextafter(point, torch.tensor(end)) for end in (-torch.inf, torch.inf)]
    return [toward[0].item(), value, toward[1].item()]


@pytest.mark.parametrize("cap", [0.0, 1e-45, 1e-40, 1e-38, 0.1, 1.0, 100.0, 1e38])
def test_derivatives_are_exact_to_the_last_bit_around_both_ties(cap):
    unit = drelu(1, cap=cap)
    points = [*neighbours(0.0), *neighbours(unit.cap.item())]
    for x in points:
        point = torch.tensor([[x]], requires_grad=True)
        grad_x, grad_cap = torch.autograd.grad(unit(point).sum(), [point, unit.cap])
        m = unit.cap.item()
        assert grad_x.item() == (0 < x < m)
        assert grad_cap.item() == (x > m)


def test_away_from_ties_the_derivatives_are_those_of_finite_differences():
    unit = drelu(3, cap=0.7).double()
    x = torch.linspace(-2, 2, 4 * 3 * 2 * 2, dtype=torch.float64).reshape(4, 3, 2, 2)
    x.requires_grad_()
    assert torch.autograd.gradcheck(
        lambda x, cap: torch.func.functional_call(unit, {"cap": cap}, x), (x, unit.cap)
    )


@pytest.mark.parametrize("shape", [(2, 3), (2, 3, 4, 5)])
def test_caps_belong_to_dimension_1(shape):
    unit = drelu(3)
    with torch.no_grad():
        unit.cap.copy_(torch.tensor([1.0, 2.0, 3.0]))
    y = unit(torch.full(shape, 9.0))
    assert y.amax(tuple(axis for axis in range(len(shape)) if axis != 1)).tolist() == [1, 2, 3]
    (gradient,) = torch.autograd.grad(y.sum(), unit.cap)
    assert gradient.tolist() == [y[:, 0].numel()] * 3


@pytest.mark.parametrize("shape", [(3,), (3, 2), (4, 1), (2, 5, 3)])
def test_another_number_of_channels_is_refused_not_broadcast(shape):
    with pytest.raises(ModelError, match="3 caps"):
        drelu(3)(torch.zeros(shape))


def test_nan_is_handed_on_so_that_the_evaluation_sees_it():
    for unit in (drelu(1), srelu(1), relu6(1)):
        assert unit(column(float("nan")).float()).isnan().all()


def test_one_gradient_per_network_under_vmap():
    """Stacked networks call the activation under vmap."""
    unit = drelu(2, cap=1.0)
    stacked = torch.tensor([[1.0, 1.0], [0.2, 3.0]])
    x = torch.tensor([[0.5, 2.0]])
    y = torch.vmap(lambda cap: torch.func.functional_call(unit, {"cap": cap}, x))(stacked)
    assert torch.equal(y, torch.tensor([[[0.5, 1.0]], [[0.2, 2.0]]]))


def test_relu6_is_torchs():
    x = torch.linspace(-3, 9, 49)[:, None]
    assert torch.equal(relu6(1)(x), torch.nn.functional.relu6(x))


@pytest.mark.parametrize("cap", [-0.5, -1])
@pytest.mark.parametrize("name", ["srelu", "drelu"])
def test_a_negative_cap_is_refused(name, cap):
    with pytest.raises(BadValue, match="cap"):
        ACTIVATIONS.bind(name, cap=cap)(3)


def test_options_come_from_the_signature():
    assert ACTIVATIONS.bind("drelu", cap="5").effective == {"cap": 5.0}
    assert ACTIVATIONS.bind("drelu").effective == {"cap": 100.0}
    assert ACTIVATIONS.bind("srelu").effective == {"cap": 1.0}
