"""Losses against hand-worked values; passes that touch nothing but the input."""

import math

import pytest
import torch
from torch import nn

from drelu_cli.attacks.gradient import forward, forward_backward
from drelu_cli.attacks.losses import (
    ahead,
    ce_rescaled,
    cross_entropy,
    dlr,
    margin,
    misclassified,
    targeted_dlr,
)
from drelu_cli.core.errors import BadValue

LOGITS = torch.tensor([[3.0, 1.0, 0.0, -2.0], [1.0, 4.0, 2.0, 0.0]], dtype=torch.float64)
Y = torch.tensor([0, 2])


def test_cross_entropy():
    first = math.log(sum(math.exp(z) for z in (3, 1, 0, -2))) - 3
    assert cross_entropy(LOGITS, Y)[0].item() == pytest.approx(first, abs=1e-12)


def test_margin():
    assert margin(LOGITS, Y).tolist() == [-2.0, 2.0]


def test_dlr():
    # Correct: -(3 - 1) / (3 - 0); wrong: -(2 - 4) / (4 - 1).
    assert dlr(LOGITS, Y).tolist() == pytest.approx([-2 / 3, 2 / 3], abs=1e-9)


@pytest.mark.parametrize(("scale", "shift"), [(1e4, 0.0), (1.0, 50.0), (1e-3, -7.0)])
def test_dlr_ignores_shift_and_scale(scale, shift):
    assert torch.allclose(dlr(LOGITS * scale + shift, Y), dlr(LOGITS, Y), atol=1e-6)


def test_dlr_needs_three_classes():
    with pytest.raises(BadValue, match="3 classes"):
        dlr(LOGITS[:, :2], torch.tensor([0, 1]))


def test_dlr_of_equal_logits_is_finite():
    assert dlr(torch.zeros(1, 3), torch.tensor([0])).item() == 0.0


def test_targeted_dlr():
    # -(3 - 0) / (3 - (0 - 2) / 2) and -(2 - 1) / (4 - (1 + 0) / 2).
    found = targeted_dlr(LOGITS, Y, torch.tensor([2, 0])).tolist()
    assert found == pytest.approx([-3 / 4, -1 / 3.5], abs=1e-9)


def test_targeted_dlr_ignores_shift_and_scale():
    target = torch.tensor([3, 1])
    expected = targeted_dlr(LOGITS, Y, target)
    assert torch.allclose(targeted_dlr(LOGITS * 1e4 + 9.0, Y, target), expected, atol=1e-6)


def test_targeted_dlr_needs_four_classes():
    with pytest.raises(BadValue, match="4 classes"):
        targeted_dlr(LOGITS[:, :3], Y, torch.tensor([1, 1]))


def test_ahead():
    assert ahead(LOGITS, Y, torch.tensor([3, 1])).tolist() == [-5.0, 2.0]


def test_rescaled_cross_entropy():
    # The logits 3, 1, 0, -2 spread over 5: twice their size spreads over 10.
    first = math.log(sum(math.exp(2 * z) for z in (3, 1, 0, -2))) - 6
    assert ce_rescaled(LOGITS, Y)[0].item() == pytest.approx(first, abs=1e-12)
    assert ce_rescaled(torch.zeros(1, 4), torch.tensor([0])).item() == pytest.approx(math.log(4))


@pytest.mark.parametrize("scale", [1e4, 1e-4, 1e-8])
def test_rescaled_cross_entropy_ignores_the_scale(scale):
    logits = (LOGITS.float() * scale).requires_grad_()
    loss = ce_rescaled(logits, Y)
    (gradient,) = torch.autograd.grad(loss.sum(), logits)
    assert torch.allclose(loss.detach(), ce_rescaled(LOGITS.float(), Y), rtol=1e-5)
    # The divisor is held constant: the gradient is the softmax's, times 10 / spread.
    first = (2 * LOGITS[0].float()).softmax(dim=0) - torch.tensor([1.0, 0.0, 0.0, 0.0])
    assert torch.allclose(gradient[0] * scale, 2 * first, rtol=1e-4, atol=1e-7)


def test_misclassified():
    logits = torch.tensor(
        [[1.0, 1.0, 0.0], [1.0, 1.0, 0.0], [torch.nan, 9.0, 0.0], [torch.inf, 0.0, 0.0]]
    )
    # Ties go to the lowest index; non-finite logits are wrong whatever the label.
    assert misclassified(logits, torch.tensor([0, 1, 1, 0])).tolist() == [False, True, True, True]


def test_gradient_is_the_analytic_one():
    weight = torch.randn(3, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    model = nn.Linear(5, 3, dtype=torch.float64)
    with torch.no_grad():
        model.weight.copy_(weight)
        model.bias.zero_()
    x = torch.rand(4, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    y = torch.tensor([0, 1, 2, 0])
    seen = forward_backward(model, x, y, cross_entropy)
    probabilities = (x @ weight.T).softmax(dim=1)
    analytic = (probabilities - torch.eye(3, dtype=torch.float64)[y]) @ weight
    assert torch.allclose(seen.gradient, analytic, atol=1e-12)
    assert model.weight.grad is None
    assert torch.equal(seen.loss, forward(model, x, y, cross_entropy).loss)


def test_gradient_works_inside_no_grad():
    model = nn.Linear(2, 3)
    with torch.no_grad():
        seen = forward_backward(model, torch.rand(2, 2), torch.tensor([0, 1]), margin)
    assert seen.gradient.abs().sum() > 0
    assert not seen.gradient.requires_grad


class Model(nn.Module):
    def __init__(self, logits):
        super().__init__()
        self.logits = logits

    def forward(self, x):
        return self.logits(x)


def test_model_without_parameters_and_without_a_path():
    def logits(x):
        return torch.tensor([[1.0, 0.0, 0.0]]).expand(len(x), 3)

    seen = forward_backward(Model(logits), torch.rand(2, 4), torch.tensor([0, 1]), cross_entropy)
    assert seen.gradient.tolist() == [[0.0] * 4] * 2
    assert seen.wrong.tolist() == [False, True]


def test_non_finite_logits_have_infinite_loss_and_zero_gradient():
    def logits(x):
        return torch.stack([x[:, 0] / 0.0, x[:, 1], x[:, 0]], dim=1)

    seen = forward_backward(Model(logits), torch.rand(3, 2), torch.tensor([0, 1, 2]), cross_entropy)
    assert torch.isinf(seen.loss).all()
    assert seen.wrong.all()
    assert torch.isfinite(seen.gradient).all()
