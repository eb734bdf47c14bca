"""The capped ReLU in steps."""

import pytest
import torch

from drelu_cli.activations import ACTIVATIONS
from drelu_cli.activations.quantized import qrelu
from drelu_cli.core.errors import BadValue


def gradient(unit, x):
    x = x.clone().requires_grad_()
    return torch.autograd.grad(unit(x).sum(), x)[0]


def test_the_values_are_the_levels_and_the_nearest_one_is_taken():
    x = torch.linspace(-1, 3, 401, dtype=torch.float64)[:, None]
    y = qrelu(1, levels=5, top=2.0)(x)
    assert y.unique().tolist() == [0, 0.5, 1, 1.5, 2]
    assert ((y - x.clamp(0, 2)).abs() <= 0.25 + 1e-12).all()


def test_the_true_derivative_is_zero_everywhere_and_training_goes_straight_through():
    unit = qrelu(1, levels=4, top=2.0)
    x = torch.tensor([[-1.0], [0.0], [0.7], [1.9], [2.0], [5.0]])
    inside = [0, 0, 1, 1, 0, 0]
    assert gradient(unit.train(), x).flatten().tolist() == inside
    assert gradient(unit.eval(), x).flatten().tolist() == [0] * 6
    honest = qrelu(1, levels=4, top=2.0, attacked="straight_through").eval()
    assert gradient(honest, x).flatten().tolist() == inside
    assert torch.equal(unit.train()(x), unit.eval()(x))
    assert torch.equal(honest(x), unit(x))


def test_bounds_are_differentiable_in_evaluation_mode_too():
    lower = torch.tensor([[0.3]], requires_grad=True)
    low, _ = qrelu(1).eval().bounds(lower, torch.tensor([[0.9]]))
    assert torch.autograd.grad(low.sum(), lower)[0].item() == 1


@pytest.mark.parametrize("options", [{"levels": 1}, {"top": 0.0}, {"top": float("inf")}])
def test_unusable_options_are_refused(options):
    with pytest.raises(BadValue, match=next(iter(options))):
        qrelu(1, **options)


def test_options_are_read_as_a_command_line_writes_them():
    bound = ACTIVATIONS.bind("qrelu", levels="16", top="1.5", attacked="straight_through")
    assert bound.effective == {"levels": 16, "top": 1.5, "attacked": "straight_through"}
    with pytest.raises(BadValue, match="attacked"):
        ACTIVATIONS.bind("qrelu", attacked="never")
