"""A small net whose units are almost all at 0 or at their cap: its gradients are exactly zero."""

import torch
from torch import nn

from drelu_cli.activations.capped import drelu
from drelu_cli.attacks.losses import misclassified
from drelu_cli.runtime.streams import Stream

PIXELS, UNITS, CLASSES = 36, 40, 5


class Rounding(nn.Module):
    """A module that declares nothing and has no derivative."""

    def forward(self, x):
        return torch.round(4 * x) / 4


def saturated(count=40):
    """The net, images and the net's own predictions; float64."""
    draws = Stream(7, torch.arange(UNITS))
    first = nn.Linear(PIXELS, UNITS)
    last = nn.Linear(UNITS, CLASSES)
    with torch.no_grad():
        weight = draws.normal("first", (PIXELS,))
        first.weight.copy_(weight)
        first.bias.copy_(-0.5 * weight.sum(dim=1))
        last.weight.copy_(draws.normal("last", (CLASSES,)).T)
        last.bias.zero_()
    model = nn.Sequential(nn.Flatten(), first, drelu(UNITS, cap=0.01), last).double().eval()
    stream = Stream(1, torch.arange(count))
    x = stream.uniform("images", (1, 6, 6), dtype=torch.float64)
    with torch.no_grad():
        return model, x, model(x).argmax(dim=1)


def broken(attack, model, x, y, threat, *, index=None):
    """How many samples an attack breaks."""
    index = torch.arange(len(x)) if index is None else index
    found = attack(model, x, y, threat, Stream(0, index))
    with torch.no_grad():
        return int(misclassified(model(found.x_adv), y).sum())
