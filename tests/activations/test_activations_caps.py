import pytest
import torch
from torch import nn

from drelu_cli.activations.capped import drelu, srelu
from drelu_cli.activations.caps import cap_penalty, learnable_caps, project_caps_


def test_a_cap_shared_by_two_layers_counts_once():
    shared, own = drelu(3, cap=2.0), drelu(2, cap=3.0)
    twin = drelu(3)
    twin.cap = own_cap = shared.cap
    model = nn.Sequential(shared, nn.Sequential(shared, own), twin, srelu(4))
    assert [id(cap) for cap in learnable_caps(model)] == [id(own_cap), id(own.cap)]
    assert cap_penalty(model).item() == 3 * 4 + 2 * 9


def test_the_penaltys_gradient_is_twice_the_cap():
    unit = drelu(2, cap=1.5)
    (gradient,) = torch.autograd.grad(cap_penalty(nn.Sequential(unit)), unit.cap)
    assert gradient.tolist() == [3.0, 3.0]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_without_caps_the_penalty_is_a_zero_of_the_models_kind(dtype):
    penalty = cap_penalty(nn.Linear(2, 2).to(dtype))
    assert penalty.shape == ()
    assert penalty.item() == 0
    assert penalty.dtype == dtype
    assert cap_penalty(nn.Flatten()).item() == 0


def test_projection_is_in_place_and_touches_negative_caps_only():
    unit = drelu(3)
    with torch.no_grad():
        unit.cap.copy_(torch.tensor([-1.0, 0.0, 2.5]))
    before = unit.cap
    project_caps_(nn.Sequential(unit, nn.Linear(3, 3)))
    assert unit.cap is before
    assert unit.cap.tolist() == [0.0, 0.0, 2.5]
    assert unit.cap.requires_grad
    assert unit.cap.grad_fn is None
