import torch
from torch import nn

from drelu_cli.runtime.timing import measure_passes


def test_passes_are_positive_and_the_weights_stay():
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 8), nn.ReLU(), nn.Linear(8, 3))
    before = [weight.clone() for weight in model.parameters()]
    found = measure_passes(model, torch.rand(20, 3, 2, 2), torch.zeros(20, dtype=torch.int64))
    assert min(found.forward, found.gradient, found.step) > 0
    assert 2 <= found.batch <= 20
    assert all(a.equal(b) for a, b in zip(before, model.parameters(), strict=True))
    assert all(weight.grad is None for weight in model.parameters())


def test_frozen_weights_are_no_obstacle():
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 8), nn.Linear(8, 3))
    model[1].requires_grad_(False)
    found = measure_passes(model, torch.rand(4, 3, 2, 2), torch.zeros(4, dtype=torch.int64))
    assert found.step > 0
