"""Networks that lead an attack."""

import pytest
import torch
from torch import nn

from drelu_cli.activations.capped import DReLU, drelu, relu6
from drelu_cli.activations.contract import LEAK
from drelu_cli.activations.generic import surrogate_model
from drelu_cli.activations.guide import guide, guide_names
from drelu_cli.activations.plain import hardtanh, relu, silu, tanh
from drelu_cli.activations.quantized import qrelu
from drelu_cli.activations.winners import kwta
from drelu_cli.core.errors import UnknownName

X = torch.tensor([[-2.0, 0.05, 0.5, 9.0]])


class Rounding(nn.Module):
    def forward(self, x):
        return torch.round(x)


@pytest.mark.parametrize("unit", [drelu(4, cap=0.1), relu6(4), qrelu(4)])
def test_an_uncapped_relu_is_a_relu(unit):
    assert torch.equal(guide(unit.eval(), "uncapped", X)(X), X.relu())


@pytest.mark.parametrize("unit", [hardtanh(4), tanh(4)])
def test_two_ends_at_infinity_are_the_identity(unit):
    assert torch.equal(guide(unit.eval(), "uncapped", X)(X), X)


def test_a_leaky_guide_adds_what_lies_beyond_the_cap():
    for unit in (
        drelu(4, cap=0.1),
        kwta(4, share=0.5),
        qrelu(4),
        Rounding(),
        nn.ReLU(inplace=True),
    ):
        net = nn.Sequential(unit, nn.Flatten()).eval()
        assert torch.equal(guide(net, "leaky", X)(X), net(X.clone()) + LEAK * X)


def test_the_gradient_of_a_guide_is_its_true_one():
    x = X.clone().requires_grad_()
    y = guide(nn.Sequential(drelu(4, cap=0.1)), "leaky", X)(x)
    (gradient,) = torch.autograd.grad(y.sum(), x)
    assert gradient[0].tolist() == pytest.approx([LEAK, 1 + LEAK, LEAK, LEAK])


def test_parameters_are_shared_and_the_model_is_untouched():
    net = nn.Sequential(nn.Linear(4, 4), drelu(4, cap=0.1), nn.Linear(4, 2)).eval()
    twin = guide(net, "uncapped", X)
    assert twin[0].weight is net[0].weight
    assert isinstance(net[1], DReLU)
    assert not twin.training


@pytest.mark.parametrize("name", ["leaky_cap", "generic"])
@pytest.mark.parametrize("kind", ["uncapped", "leaky"])
def test_a_guide_looks_through_surrogates(name, kind):
    net = nn.Sequential(nn.Linear(4, 4), drelu(4, cap=0.1), nn.ReLU(), nn.Linear(4, 2)).eval()
    twin = guide(surrogate_model(net, name, X), kind, X)
    assert str(twin) == str(guide(net, kind, X))


def test_names_say_what_can_be_made():
    assert guide_names(nn.Sequential(drelu(4))) == ["uncapped", "leaky"]
    assert guide_names(nn.Sequential(relu(4), silu(4))) == ["leaky"]
    own = nn.Sequential(nn.Linear(4, 4), Rounding())
    assert guide_names(own) == []
    assert guide_names(own, X) == ["leaky"]
    assert guide_names(nn.Linear(4, 4), X) == []


def test_an_unknown_guide_names_those_there_are():
    with pytest.raises(UnknownName) as caught:
        guide(nn.Sequential(relu(4)), "uncapped", X)
    assert "leaky" in caught.value.hint
