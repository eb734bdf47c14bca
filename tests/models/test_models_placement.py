"""Call sites that appear in networks other than ours."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from drelu_cli.activations.capped import DReLU, drelu
from drelu_cli.activations.surrogate import with_surrogate
from drelu_cli.core.errors import ModelError
from drelu_cli.models.placement import fill_everywhere


class Everything(nn.Module):
    """One ReLU called at two widths, and every other way to call one."""

    def __init__(self):
        super().__init__()
        self.narrow, self.wide = nn.Conv2d(1, 3, 1), nn.Conv2d(3, 5, 1)
        self.relu, self.six = nn.ReLU(inplace=True), nn.ReLU6()
        self.drop = nn.Dropout(0.5)

    def forward(self, x):
        x = self.relu(self.narrow(x))
        x = self.relu(self.wide(x))
        x = self.six(F.relu(x, inplace=True) + 1)
        x = F.relu6(input=x - 1).relu() - 0.5
        return self.drop(torch.relu(x)).flatten(1)


def test_every_way_to_call_a_relu_is_found_and_gets_its_own_width():
    net = fill_everywhere(Everything(), drelu, (1, 4, 4))
    found = [module for module in net.modules() if isinstance(module, DReLU)]
    assert [module.channels for module in found] == [3, 5, 5, 5, 5, 5, 5]
    assert not any(isinstance(module, nn.ReLU | nn.ReLU6) for module in net.modules())
    names = [name for name, _ in net.named_parameters() if "activation" in name]
    assert names == [f"activation{index}.cap" for index in range(7)]


def test_with_high_caps_the_function_is_that_of_relus():
    model = Everything().eval()
    net = fill_everywhere(model, drelu, (1, 4, 4))
    x = torch.rand(2, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    assert torch.equal(net(x), model(x))


def test_layers_with_a_mode_still_follow_it():
    net = fill_everywhere(Everything(), drelu, (1, 8, 8))
    x = torch.ones(1, 1, 8, 8)
    assert net.training
    assert (net.train().drop.training, net.eval().drop.training) == (True, False)
    assert torch.equal(net(x), net(x))


def test_weights_are_those_of_the_original_under_their_names():
    model = Everything()
    net = fill_everywhere(model, drelu, (1, 4, 4))
    assert net.narrow.weight is model.narrow.weight
    assert {"narrow.weight", "narrow.bias", "wide.weight", "wide.bias"} <= set(net.state_dict())


def test_a_traced_net_takes_a_surrogate_backward_pass():
    net = fill_everywhere(Everything(), lambda channels: drelu(channels, cap=0.0), (1, 4, 4)).eval()
    twin = with_surrogate(net, "leaky_cap")
    x = torch.rand(2, 1, 4, 4, generator=torch.Generator().manual_seed(0)).requires_grad_()
    assert torch.equal(net(x), twin(x))
    assert (torch.autograd.grad(net(x).sum(), x)[0] == 0).all()
    assert (torch.autograd.grad(twin(x).sum(), x)[0] != 0).all()
    assert twin.narrow.weight is net.narrow.weight


class Branching(nn.Module):
    def forward(self, x):
        return x.relu() if x.sum() > 0 else x


class FunctionalDropout(nn.Module):
    def forward(self, x):
        return F.dropout(F.relu(x), training=self.training)


@pytest.mark.parametrize(
    ("net", "words"),
    [
        (Branching(), "cannot be traced"),
        (FunctionalDropout(), "dropout"),
        (nn.Sequential(nn.Flatten(), nn.Tanh()), "no ReLU"),
        (nn.Sequential(nn.Linear(3, 3), nn.ReLU()), "cannot take"),
    ],
)
def test_what_cannot_be_filled_is_named(net, words):
    with pytest.raises(ModelError, match=words):
        fill_everywhere(net, drelu, (1, 4, 4))
