"""Flatness as measured, and the surrogate that leaks there."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from drelu_cli.activations.capped import drelu
from drelu_cli.activations.contract import LEAK
from drelu_cli.activations.flatness import FLAT, flat_modules
from drelu_cli.activations.generic import (
    available_surrogates,
    surrogate_model,
    with_generic_surrogate,
)
from drelu_cli.activations.plain import softplus
from drelu_cli.activations.surrogate import GenericSurrogate, with_surrogate
from drelu_cli.activations.winners import kwta
from drelu_cli.core.errors import ModelError, UnknownName


class Rounding(nn.Module):
    def forward(self, x):
        return torch.round(x * 16) / 16


class Own(nn.Module):
    """A user's capped activation that tells nothing about itself."""

    def __init__(self, cap=0.1):
        super().__init__()
        self.m = nn.Parameter(torch.tensor(cap))

    def forward(self, x):
        return torch.minimum(F.relu(x), self.m)


class Detached(nn.Module):
    def forward(self, x):
        return (x * 3).detach()


class Composite(nn.Module):
    """Nothing inside it is flat, it is."""

    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(8, 8)

    def forward(self, x):
        return torch.round(self.inner(x))


def points(*shape):
    return torch.rand(shape, generator=torch.Generator().manual_seed(0))


def seeded(make):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return make().eval()


def image_net():
    return seeded(
        lambda: nn.Sequential(
            Rounding(),
            nn.Conv2d(1, 3, 3, padding=1),
            nn.BatchNorm2d(3),
            Own(),
            nn.Conv2d(3, 3, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Flatten(),
            nn.Linear(192, 10),
            kwta(10, share=0.3),
            nn.Linear(10, 10),
            drelu(10, cap=0.1),
            nn.Linear(10, 10),
            nn.Softmax(1),
        )
    )


IMAGES = points(16, 1, 8, 8)


def gradient(model, x, weights=None):
    x = x.clone().requires_grad_()
    y = model(x)
    return torch.autograd.grad(y, x, torch.ones_like(y) if weights is None else weights)[0]


def test_shares_are_measured_and_linear_layers_come_out_at_zero():
    shares = flat_modules(image_net(), IMAGES)
    assert list(shares) == ["0", "2", "3", "4", "5", "8", "9", "10", "11", "12"]
    assert [shares[name] for name in ("2", "4", "9", "11", "12")] == [0] * 5
    assert shares["0"] == 1
    assert shares["8"] == pytest.approx(0.7)  # kwta keeps 3 of 10
    assert all(FLAT < shares[name] < 1 for name in ("3", "5", "10"))


def test_shares_of_an_activation_are_counted_exactly():
    x = torch.tensor([[-1.0, -2.0, 0.5, 3.0]])
    assert flat_modules(nn.Sequential(nn.ReLU(), nn.Flatten()), x)["0"] == 0.5
    assert flat_modules(nn.Sequential(nn.Hardtanh(), nn.Flatten()), x)["0"] == 0.75
    assert flat_modules(nn.Sequential(Detached()), x)["0"] == 1


def test_several_calls_of_a_module_are_added_up():
    unit = nn.ReLU()
    net = nn.Sequential(unit, nn.Identity(), unit)
    assert flat_modules(net, torch.tensor([[-1.0, 1.0]])) == {"0": 0.5, "1": 0.0}


def test_the_innermost_flat_module_is_meant():
    net = seeded(lambda: nn.Sequential(nn.Sequential(nn.Linear(8, 8), Own()), Composite()))
    shares = flat_modules(net, points(4, 8))
    assert set(shares) == {"0.0", "0.1", "1", "1.inner"}
    assert shares["0.1"] > FLAT
    assert shares["1"] == 1


def test_measuring_leaves_the_model_as_it_was():
    net = image_net().train()
    net[1].eval()
    state = copy.deepcopy(net.state_dict())
    flat_modules(net, IMAGES)
    assert net.training
    assert not net[1].training
    assert all(torch.equal(value, state[key]) for key, value in net.state_dict().items())
    with pytest.raises(RuntimeError):
        flat_modules(net, points(2, 5))
    for module in net.modules():
        assert not module._forward_hooks
        assert not module._forward_pre_hooks
    assert net.training


def test_the_forward_pass_is_the_same_bit_for_bit_and_the_model_untouched():
    net = image_net()
    text = str(net)
    twin = with_generic_surrogate(net, IMAGES)
    x = points(40, 1, 8, 8) * 3 - 1
    assert torch.equal(twin(x.clone().requires_grad_()), net(x))
    assert torch.equal(twin(x), net(x))
    assert str(net) == text
    assert {id(p) for p in twin.parameters()} == {id(p) for p in net.parameters()}
    flat = [name for name, part in twin.named_modules() if isinstance(part, GenericSurrogate)]
    assert flat == ["0", "3", "5", "8", "10"]


def test_a_gradient_arrives_where_there_was_none():
    net = image_net()
    weights = points(16, 10)
    assert (gradient(net, IMAGES, weights) == 0).all()
    assert (gradient(with_generic_surrogate(net, IMAGES), IMAGES, weights) != 0).all()
    assert all(parameter.grad is None for parameter in net.parameters())
    assert all(parameter.requires_grad for parameter in net.parameters())


@pytest.mark.parametrize(
    ("unit", "x", "slopes"),
    [
        (nn.ReLU(), [-1.0, 0.5, 2.0], [LEAK, 1, 1]),
        (nn.ReLU(inplace=True), [-1.0, 0.5, 2.0], [LEAK, 1, 1]),
        (Own(), [-1.0, 0.05, 2.0], [LEAK, 1, LEAK]),
        (Rounding(), [-1.0, 0.5, 2.0], [LEAK] * 3),
        (Detached(), [-1.0, 0.5, 2.0], [LEAK] * 3),
        (kwta(3, share=0.3), [-1.0, 0.5, 2.0], [LEAK, LEAK, 1]),
    ],
)
def test_the_slope_is_the_modules_own_or_the_leak(unit, x, slopes):
    x = torch.tensor([x])
    twin = with_generic_surrogate(nn.Sequential(unit, nn.Flatten()), x)
    cotangent = torch.tensor([[2.0, -1.0, 3.0]])
    expected = cotangent * torch.tensor([slopes])
    assert torch.equal(gradient(twin, x, cotangent), expected)


def test_a_derivative_that_is_not_finite_leaks_too():
    class Root(nn.Module):
        def forward(self, x):
            return torch.sqrt(x.clamp(min=0))

    x = torch.tensor([[0.0, 0.0, 4.0]])
    twin = with_generic_surrogate(nn.Sequential(Root(), nn.Flatten()), x)
    assert gradient(twin, x).tolist() == [[pytest.approx(LEAK), pytest.approx(LEAK), 0.25]]


def test_the_backward_pass_may_be_asked_twice():
    twin = with_generic_surrogate(image_net(), IMAGES)
    x = IMAGES.clone().requires_grad_()
    y = twin(x)
    first = torch.autograd.grad(y[:, 0].sum(), x, retain_graph=True)[0]
    assert torch.equal(first, torch.autograd.grad(y[:, 0].sum(), x)[0])


def test_a_module_under_two_names_gets_one_surrogate():
    unit = Own()
    net = seeded(lambda: nn.Sequential(unit, nn.Linear(8, 8), unit))
    twin = with_generic_surrogate(net, points(4, 8))
    assert twin[0] is twin[2]
    assert isinstance(twin[0], GenericSurrogate)


def test_it_stacks_on_declared_slopes_and_on_itself():
    net = image_net()
    twin = with_generic_surrogate(with_surrogate(net, "leaky_cap"), IMAGES)
    assert not isinstance(twin[10], GenericSurrogate)  # leaks already
    assert torch.equal(twin(IMAGES), net(IMAGES))
    with pytest.raises(ModelError, match="no module"):
        with_generic_surrogate(twin, IMAGES)
    again = copy.deepcopy(twin).double()
    assert gradient(again, IMAGES.double()).dtype == torch.float64


def test_a_model_without_a_flat_module_is_refused_with_what_it_declares():
    net = seeded(lambda: nn.Sequential(nn.Linear(4, 4), softplus(4), nn.Linear(4, 4)))
    with pytest.raises(ModelError, match="no module") as caught:
        with_generic_surrogate(net, points(4, 4))
    assert "leaky" in caught.value.hint


def test_a_module_in_place_whose_input_is_read_again_is_refused_not_changed():
    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.act = nn.Linear(4, 4), nn.ReLU(inplace=True)

        def forward(self, x):
            h = self.first(x)
            return self.act(h) + h

    with pytest.raises(ModelError, match="something else"):
        with_generic_surrogate(
            seeded(lambda: nn.Sequential(Block(), nn.Linear(4, 3))), points(4, 4)
        )


def test_names_that_are_available():
    net = image_net()
    assert available_surrogates(net, IMAGES) == [
        *sorted(["identity", "leaky", "leaky_cap", "relu", "soft_cap"]),
        "generic",
    ]
    declared = seeded(lambda: nn.Sequential(nn.Linear(4, 4), drelu(4, cap=0.1)))
    assert available_surrogates(declared, points(4, 4)) == ["leaky_cap", "relu", "soft_cap"]
    assert available_surrogates(nn.Linear(4, 4), points(4, 4)) == []


def test_the_dispatch_by_name():
    net = image_net()
    leaky = gradient(surrogate_model(net, "leaky_cap", IMAGES), IMAGES)
    assert torch.equal(leaky, gradient(with_surrogate(net, "leaky_cap"), IMAGES))
    assert isinstance(surrogate_model(net, "generic", IMAGES)[0], GenericSurrogate)
    with pytest.raises(UnknownName) as caught:
        surrogate_model(net, "genric", IMAGES)
    assert "generic" in caught.value.hint
