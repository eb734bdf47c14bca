import threading

import pytest
import torch
from torch import nn

from drelu_cli.activations.capped import drelu, srelu
from drelu_cli.activations.plain import hardtanh, relu, tanh
from drelu_cli.activations.surrogate import Surrogate, surrogate_names, with_surrogate
from drelu_cli.core.errors import ModelError, UnknownName


def network():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Linear(4, 8), relu(8), nn.Linear(8, 8), nn.BatchNorm1d(8), drelu(8, cap=0.1)
        )


def gradient(model, x):
    x = x.clone().requires_grad_()
    return torch.autograd.grad(model(x).sum(), x)[0]


def saturated(width=8):
    return torch.full((3, width), 50.0)


@pytest.mark.parametrize(
    ("slope", "below", "inside", "beyond"),
    [("relu", 0, 1, 1), ("leaky_cap", 0.1, 1, 0.1), ("soft_cap", 0.5, 1, 0.1)],
)
@pytest.mark.parametrize("factory", [drelu, srelu])
def test_slopes_of_capped_activations(factory, slope, below, inside, beyond):
    """The soft cap's slope is 1 / (1 + d^2): 1/2 at a distance of 1, 1/10 at 3."""
    model = with_surrogate(factory(1, cap=1.0), slope)
    points = torch.tensor([[-1.0], [0.5], [4.0]])
    expected = pytest.approx([below, inside, beyond])
    assert gradient(model, points).flatten().tolist() == expected


@pytest.mark.parametrize("slope", ["leaky_cap", "soft_cap"])
@pytest.mark.parametrize("factory", [drelu, srelu, tanh, hardtanh])
def test_a_unit_far_beyond_its_cap_still_has_a_gradient(factory, slope):
    unit = factory(8)
    far = saturated() * 100
    assert (gradient(unit, far) == 0).all()
    assert (gradient(with_surrogate(unit, slope), far) > 0).all()


def test_the_forward_pass_is_the_same_bit_for_bit():
    model = network().eval()
    x = torch.randn(64, 4, generator=torch.Generator().manual_seed(0)) * 10
    for name in surrogate_names(model):
        assert torch.equal(with_surrogate(model, name)(x), model(x))


def test_parameters_and_buffers_are_shared_and_the_original_is_untouched():
    model = network()
    text = str(model)
    twin = with_surrogate(model, "relu")
    assert str(model) == text
    ours = {id(tensor) for tensor in [*model.parameters(), *model.buffers()]}
    theirs = {id(tensor) for tensor in [*twin.parameters(), *twin.buffers()]}
    assert ours == theirs
    twin.eval()
    assert model.training
    with torch.no_grad():
        model[4].cap.fill_(7.0)
    assert twin(saturated(4)).max() == model.eval()(saturated(4)).max()


def test_only_activations_that_declare_the_slope_change():
    twin = with_surrogate(network(), "leaky")
    assert isinstance(twin[1], Surrogate)
    assert not isinstance(twin[4], Surrogate)


def test_calls_stack_and_the_last_of_a_kind_holds():
    model = network().eval()
    x = saturated(4)
    stacked = with_surrogate(with_surrogate(model, "relu"), "leaky")
    assert [type(stacked[index]).__name__ for index in (1, 4)] == ["Surrogate", "Surrogate"]
    again = with_surrogate(with_surrogate(model, "relu"), "leaky_cap")
    assert torch.equal(gradient(again, x), gradient(with_surrogate(model, "leaky_cap"), x))


def test_an_activation_alone_and_one_used_twice():
    unit = srelu(8)
    assert isinstance(with_surrogate(unit, "relu"), Surrogate)
    twin = with_surrogate(nn.Sequential(unit, nn.Linear(8, 8), unit), "relu")
    assert twin[0] is twin[2]


def test_an_unknown_slope_names_those_there_are():
    with pytest.raises(UnknownName) as caught:
        with_surrogate(network(), "leakycap")
    assert "leaky_cap" in caught.value.hint
    with pytest.raises(UnknownName, match="relu"):
        with_surrogate(nn.Linear(2, 2), "relu")


def test_a_model_that_cannot_be_copied_is_named():
    model = network()
    model.lock = threading.Lock()
    with pytest.raises(ModelError, match="cannot be copied"):
        with_surrogate(model, "relu")


def test_no_gradient_is_left_on_parameters():
    model = network().eval()
    gradient(with_surrogate(model, "relu"), saturated(4))
    assert all(parameter.grad is None for parameter in model.parameters())
