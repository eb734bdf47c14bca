"""A small net in float64, samples that it classifies correctly, and a comparison of outcomes."""

from dataclasses import replace

import torch
from torch import nn

from drelu_cli.evaluation.samples import Samples


def net(activation=nn.ReLU, *, convolution=False):
    generator = torch.Generator().manual_seed(0)
    first = (nn.Conv2d(1, 6, 2, stride=2),) if convolution else (nn.Flatten(), nn.Linear(16, 24))
    last = (nn.Flatten(), nn.Linear(24, 5))
    model = nn.Sequential(*first, activation(), *last).double()
    for parameter in model.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator, dtype=torch.float64) / 2
    return model.eval()


def samples(model, count=130):
    generator = torch.Generator().manual_seed(1)
    x = torch.rand(count, 1, 4, 4, generator=generator, dtype=torch.float64)
    with torch.no_grad():
        return Samples(torch.arange(count) + 7, x, model(x).argmax(1))


def same(one, other):
    """States and passes are equal; points and distances up to the last digits of float64."""
    assert [replace(each, distance=0.0) for each in one.outcomes] == [
        replace(each, distance=0.0) for each in other.outcomes
    ]
    torch.testing.assert_close(one.x_adv, other.x_adv, rtol=0, atol=1e-12)
