"""Whole passes through folded normalisations: the model's numbers, and the model left alone."""

import pytest
import torch
from torch import fx, nn

from drelu_cli.activations.plain import relu
from drelu_cli.attacks import ATTACKS, square
from drelu_cli.attacks.folded import Folded
from drelu_cli.attacks.incremental import shortcut_through
from drelu_cli.core.records import ThreatModel
from drelu_cli.models.contract import Normalize
from drelu_cli.models.placement import fill_everywhere
from drelu_cli.runtime.streams import Stream, seeded_initialisation


class Residual(nn.Module):
    """Two convolutions with normalisations, a third whose output is seen twice."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 6, 3, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(6)
        self.second = nn.Conv2d(6, 6, 3, padding=1)
        self.norm2 = nn.BatchNorm2d(6)
        self.third = nn.Conv2d(6, 6, 1)
        self.norm3 = nn.BatchNorm2d(6)
        self.pool = nn.AdaptiveAvgPool2d(2)

    def forward(self, x):
        x = torch.relu(self.norm1(self.first(x)))
        x = torch.relu(x + self.norm2(self.second(x)))
        seen = self.third(x)
        return self.pool(torch.relu(self.norm3(seen) + seen)).flatten(1)


def problem(count, dtype=torch.float32):
    with seeded_initialisation("folded"):
        body = Residual()
        for norm in (body.norm1, body.norm2, body.norm3):
            norm.running_mean.normal_()
            norm.running_var.uniform_(0.5, 2.0)
            nn.init.normal_(norm.weight, 1.0, 0.3)
            nn.init.normal_(norm.bias)
        traced = fill_everywhere(body, relu, (3, 12, 12))
        model = nn.Sequential(Normalize([0.4] * 3, [0.3] * 3), traced, nn.Linear(24, 5))
    model = model.to(dtype).eval()
    x = (0.5 + 0.3 * Stream(3, torch.arange(count)).normal("x", (3, 12, 12), dtype=dtype)).clamp(
        0, 1
    )
    with torch.no_grad():
        model[2].bias.sub_(model(x).mean(dim=0))
        return model, x, model(x).argmax(dim=1)


def modules(net, kind):
    return [part for part in net.modules() if type(part) is kind]


def test_folded_logits_are_those_of_the_model_and_it_stays_as_it_was():
    model, x, _ = problem(20)
    before = {name: values.clone() for name, values in model.state_dict().items()}
    code = model[1].code
    short = shortcut_through(model, x)
    assert isinstance(short, Folded)
    # What another layer sees as well is no part of a pair.
    assert len(modules(short.net, nn.BatchNorm2d)) == 1
    assert len(modules(short.net, nn.Conv2d)) == 3
    with torch.no_grad():
        logits, _ = short.full(x, torch.arange(20))
        assert torch.allclose(logits, model(x), atol=1e-5)
    assert model[1].code == code
    assert len(modules(model, nn.BatchNorm2d)) == 3
    assert all(torch.equal(before[name], values) for name, values in model.state_dict().items())


@pytest.mark.parametrize("ties", [False, True])
def test_outcomes_are_those_of_the_model_itself(ties, monkeypatch):
    model, x, y = problem(120)
    attack = ATTACKS.bind("square", queries=80, ties=ties)
    threat, stream = ThreatModel("linf", 0.02), Stream(0, torch.arange(120))
    short = attack(model, x, y, threat, stream)
    monkeypatch.setattr(square, "shortcut_through", lambda model, x: None)
    plain = attack(model, x, y, threat, stream)
    with torch.no_grad():
        broken = model(plain.x_adv).argmax(dim=1) != y
        again = model(short.x_adv).argmax(dim=1) != y
    assert 10 < broken.sum() < 110
    assert (again != broken).sum() <= 1
    # A misclassified point is confirmed by a pass of its own.
    differ = short.forwards != plain.forwards + broken.long()
    assert differ.sum() <= 2


def test_what_may_do_more_than_it_says_is_asked_itself():
    model, x, _ = problem(4)
    assert shortcut_through(model.double(), x.double()) is None
    model, x, _ = problem(4)
    model[1].norm1.register_forward_hook(lambda *_: None)
    assert shortcut_through(model, x) is None
    model, x, _ = problem(4)
    assert isinstance(model[1], fx.GraphModule)
    model[1].norm1.train()
    model[1].norm2.train()
    assert shortcut_through(model, x) is None
