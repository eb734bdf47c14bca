"""Where the units of a layer are."""

import pytest
import torch
from torch import nn

from drelu_cli.activations.capped import drelu, relu6
from drelu_cli.activations.plain import hardtanh, relu, silu, softplus, tanh
from drelu_cli.activations.quantized import qrelu
from drelu_cli.activations.saturation import Saturation, saturation
from drelu_cli.activations.surrogate import with_surrogate
from drelu_cli.activations.winners import kwta

X = torch.tensor([[-3.0, 0.0, 0.5, 1.0, 7.0], [-1.0, -0.5, 0.25, 2.0, 6.5]])


@pytest.mark.parametrize(
    ("unit", "lower", "inside", "cap"),
    [
        (relu(5), 4, 6, 0),
        (nn.ReLU(), 4, 6, 0),
        (drelu(5, cap=1.0), 4, 2, 4),
        (drelu(5, cap=0.0), 4, 0, 6),
        (relu6(5), 4, 4, 2),
        (nn.ReLU6(), 4, 4, 2),
        (hardtanh(5), 2, 4, 4),
        (nn.Hardtanh(), 2, 4, 4),
        (tanh(5), 1, 7, 2),
        (qrelu(5, top=2.0), 4, 3, 3),
    ],
)
def test_shares_are_counted_at_both_ends(unit, lower, inside, cap):
    found = saturation(nn.Sequential(unit), X)["0"]
    assert found == Saturation(lower / 10, inside / 10, cap / 10)


def test_caps_of_their_own_are_compared_channel_by_channel():
    unit = drelu(2)
    with torch.no_grad():
        unit.cap.copy_(torch.tensor([1.0, 10.0]))
    found = saturation(nn.Sequential(unit), torch.full((3, 2, 4, 4), 5.0))["0"]
    assert found == Saturation(0, 0.5, 0.5)


def test_layers_without_ends_and_layers_never_called_are_left_out():
    net = nn.Sequential(relu(5), silu(5), softplus(5), kwta(5), nn.Linear(5, 5), relu(5))
    net.spare = nn.ModuleDict({"never": relu(5)})
    net.forward = lambda x: net[5](net[4](net[0](x)))
    assert list(saturation(net, X)) == ["0", "5"]


def test_calls_add_up_and_surrogates_are_looked_through():
    unit = relu(5)
    assert saturation(nn.Sequential(unit, unit), X)["0"] == Saturation(8 / 20, 12 / 20, 0)
    twin = with_surrogate(nn.Sequential(drelu(5, cap=1.0)), "relu")
    assert saturation(twin, X)["0.exact"] == Saturation(0.4, 0.2, 0.4)


def test_no_hook_is_left_behind_by_an_error():
    net = nn.Sequential(relu(5), nn.Linear(4, 2))
    with pytest.raises(RuntimeError):
        saturation(net, X)
    assert not net[0]._forward_pre_hooks
