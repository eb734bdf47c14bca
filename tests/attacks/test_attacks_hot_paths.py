"""What is done faster than the definition says gives what the definition says."""

import pytest
import torch
from torch import nn

from drelu_cli.attacks import geometry
from drelu_cli.attacks.conformance_models import Recorder
from drelu_cli.attacks.gradient import forward, forward_backward
from drelu_cli.attacks.losses import cross_entropy, dlr, targeted_dlr
from drelu_cli.core.records import ThreatModel
from drelu_cli.runtime.driver import choose
from drelu_cli.runtime.streams import Stream

SHAPES = [(3,), (1, 4, 4), (1, 28, 28), (3, 16, 16)]


def points(name, count, shape, dtype=torch.float64):
    return Stream(0, torch.arange(count)).uniform(name, shape, dtype=dtype)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_projecting_with_limits_is_projecting(shape, norm, dtype):
    x = points("x", 20, shape, dtype)
    x[::3] = x[::3].round()
    wild = 3.0 * points("wild", 20, shape, dtype) - 1.0
    for eps in (1e-7, 0.01, 0.3, 2.0):
        threat = ThreatModel(norm, eps)
        expected = geometry.project(wild, x, threat)
        rows = {"x": x, **geometry.limits(x, threat)}
        assert torch.equal(geometry.project_(wild.clone(), rows, threat), expected)


@pytest.mark.parametrize("shape", SHAPES)
def test_one_pixel_anywhere_makes_a_point_another_one(shape):
    a = points("a", 6, shape)
    width = a[0].numel()
    assert geometry.same(a, a.clone()).all()
    for pixel in {0, width // 3, width // 2, width - 1}:
        b = a.clone().flatten(1)
        b[2, pixel] += 1e-12
        found = geometry.same(a, b.reshape(a.shape))
        assert found.tolist() == [True, True, False, True, True, True]


def test_the_tiniest_entry_does_not_vanish():
    delta = torch.zeros(4, 1, 28, 28, dtype=torch.float64)
    delta[1, 0, 3, 4] = 5e-324
    delta[2, 0, 0, 0] = -1.0
    assert geometry.vanishes(delta).tolist() == [True, False, False, True]
    assert not geometry.vanishes(delta[1:3]).any()


def test_nan_is_never_the_same():
    a = points("a", 2, (1, 28, 28))
    a[1, 0, 14, 14] = torch.nan
    assert geometry.same(a, a.clone()).tolist() == [True, False]


@pytest.mark.parametrize("chosen", [[], [0, 3], [0, 1, 2, 3, 4]])
def test_choosing_samples(chosen):
    yes, no = points("yes", 5, (2, 3)), points("no", 5, (2, 3))
    no[1] = torch.inf
    mask = torch.zeros(5, dtype=torch.bool)
    mask[chosen] = True
    found = choose(mask, yes, no)
    for row in range(5):
        assert torch.equal(found[row], (yes if row in chosen else no)[row])
    found.zero_()
    assert yes.abs().min() > 0
    assert no.abs().min() > 0


def convolutional():
    weights = Stream(0, torch.zeros(1, dtype=torch.int64))
    model = nn.Sequential(
        nn.Conv2d(1, 2, 5, padding=2), nn.ReLU(), nn.AdaptiveAvgPool2d(3), nn.Flatten()
    )
    model.append(nn.Linear(18, 5))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(weights.normal(name, tuple(parameter.shape))[0])
    return model.double().eval()


def test_slices_change_no_pass():
    """Images of 200 x 200: two in a slice."""
    model, x = convolutional(), points("x", 5, (1, 200, 200))
    y, target = torch.tensor([0, 1, 2, 3, 4]), torch.tensor([1, 2, 3, 4, 0])

    def towards(logits, labels):
        return targeted_dlr(logits, labels, target)

    for loss in (cross_entropy, dlr, towards):
        recorder = Recorder(model)
        found, seen = forward_backward(recorder, x, y, loss), forward(model, x, y, loss)
        assert [len(asked) for asked in recorder.points] == [1, 2, 2]
        leaf = x.clone().requires_grad_()
        values = loss(model(leaf), y)
        (gradient,) = torch.autograd.grad(values.sum(), leaf)
        for one in (found, seen):
            assert torch.allclose(one.loss, values.detach(), rtol=1e-12)
            assert torch.equal(one.wrong, model(x).argmax(dim=1) != y)
        assert torch.allclose(found.gradient, gradient, rtol=1e-9, atol=1e-15)
        assert not seen.gradient.any()


def test_nets_without_convolutions_get_all_points_at_once():
    recorder = Recorder(nn.Sequential(nn.Flatten(), nn.Linear(40_000, 3)).double())
    x, y = points("x", 5, (1, 200, 200)), torch.zeros(5, dtype=torch.int64)
    forward_backward(recorder, x, y, cross_entropy)
    assert [len(asked) for asked in recorder.points] == [5]


def test_a_gradient_that_shares_its_entries_is_copied():
    class Sum(nn.Module):
        def forward(self, x):
            total = x.flatten(1).sum(dim=1)
            return torch.stack([total, -total], dim=1)

    x, y = points("x", 3, (1, 4, 4)), torch.zeros(3, dtype=torch.int64)
    seen = forward_backward(Sum(), x, y, lambda logits, labels: logits[:, 0])
    assert torch.equal(seen.gradient, torch.ones_like(x))
