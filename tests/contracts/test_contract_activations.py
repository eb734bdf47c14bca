import pytest
import torch
from torch import nn

from drelu_cli.activations import ACTIVATIONS
from drelu_cli.activations import conformance as shipped
from drelu_cli.activations.contract import Activation

CHECKS = [
    shipped.check_shape_and_dtype,
    shipped.check_elementwise,
    shipped.check_bounds,
    shipped.check_surrogates,
    shipped.check_ends,
    shipped.check_uncapped,
    shipped.check_copies,
]


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("name", ACTIVATIONS.builtin_names())
def test_every_registered_activation_keeps_the_contract(name, check):
    check(ACTIVATIONS.bind(name))


@pytest.mark.parametrize("name", ACTIVATIONS.builtin_names())
def test_every_registered_activation_declares_a_surrogate(name):
    assert ACTIVATIONS.bind(name)(3).slopes()


class _Double(Activation):
    """Breaks one clause of the contract, chosen by `fault`."""

    def __init__(self, channels, fault):
        super().__init__(channels)
        self.fault = fault

    def forward(self, x):
        if self.fault == "shape":
            return x[:, :1]
        if self.fault == "in place":
            with torch.no_grad():
                x.mul_(0.5)
            return x * 1
        if self.fault == "mixes":
            return x + x.sum()
        if self.fault == "falls":
            return -x
        return x

    def slopes(self):
        return {"nan": lambda x: x / 0} if self.fault == "slope" else {}


@pytest.mark.parametrize("fault", ["shape", "in place", "mixes", "falls", "slope"])
def test_the_checks_catch_a_broken_activation(fault):
    with pytest.raises((AssertionError, IndexError)):
        shipped.check_activation(lambda channels: _Double(channels, fault))


class _Forgetful(nn.Module):
    """Keeps what it computes with out of its state."""

    def __init__(self, channels):
        super().__init__()
        self.scale = float(torch.rand(()))

    def forward(self, x):
        return x * self.scale


def test_the_checks_catch_a_hidden_state():
    with pytest.raises(AssertionError, match="state dict"):
        shipped.check_activation(_Forgetful)
