"""Attacks on networks that keep much of every image stay within memory, with the same outcomes."""

import pytest
import torch
from torch import nn

from drelu_cli.attacks.augment import bind_attack
from drelu_cli.core.records import ThreatModel
from drelu_cli.evaluation.evidence.gradients import zero_share
from drelu_cli.evaluation.samples import Samples
from drelu_cli.evaluation.suite import run_attack
from drelu_cli.runtime import footprint
from drelu_cli.runtime.footprint import kept_bytes

COUNT = 200


@pytest.fixture
def model():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 16, 3), nn.Sigmoid(), nn.Flatten(), nn.Linear(16 * 36, 4))
    return net.double()


@pytest.fixture
def sizes(model):
    """Of the batches that went through the whole network."""
    found = []
    model.register_forward_hook(lambda _, inputs, __: found.append(len(inputs[0])))
    return found


@pytest.mark.parametrize("attack", ["pgd", "apgd_ce", "square"])
def test_a_network_that_does_not_fit_is_attacked_in_parts(attack, model, sizes, monkeypatch):
    x = torch.rand(COUNT, 1, 8, 8, dtype=torch.float64)
    samples = Samples(torch.arange(COUNT), x, model(x).argmax(1))
    bound = bind_attack(attack, **({"queries": 50} if attack == "square" else {"steps": 5}))
    monkeypatch.setattr("drelu_cli.evaluation.suite.threads_for", lambda *_: 1)

    def outcomes():
        sizes.clear()
        judged = run_attack(model, samples, bound, ThreatModel("linf", 0.05), seed=0)
        return [(one.state, one.forwards, one.backwards) for one in judged.outcomes]

    whole = outcomes()
    monkeypatch.setattr(footprint, "_CPU_BYTES", 30 * kept_bytes(model, x[:1]))
    parts = outcomes()
    assert parts == whole
    # Clean predictions and the judge's take no gradients, and the images whole.
    assert [size for size in sizes if size > 30] == [COUNT, COUNT]


def test_evidence_takes_gradients_in_parts(model, sizes, monkeypatch):
    x = torch.rand(COUNT, 1, 8, 8, dtype=torch.float64)
    loss = nn.CrossEntropyLoss(reduction="none")
    monkeypatch.setattr(footprint, "_CPU_BYTES", 30 * kept_bytes(model, x[:1]))
    sizes.clear()
    assert zero_share(model, x, torch.zeros(COUNT, dtype=torch.int64), loss) == 0
    assert max(sizes) == 30
