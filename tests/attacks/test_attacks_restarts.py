"""The control: plain APGD again and again, until a sample's own passes are spent."""

import pytest
import torch
from saturated import saturated

from drelu_cli.attacks import ATTACKS
from drelu_cli.attacks.apgd import Apgd
from drelu_cli.attacks.conformance_models import curved_problem
from drelu_cli.attacks.geometry import random_on_sphere
from drelu_cli.attacks.losses import cross_entropy, dlr, margin, misclassified, targeted_dlr
from drelu_cli.core.records import ThreatModel
from drelu_cli.runtime.driver import drive, micro_batch
from drelu_cli.runtime.streams import Stream

THREAT = ThreatModel("linf", 0.1)
STEPS = 12


def run(model, x, y, passes, threat=THREAT, index=None):
    index = torch.arange(len(x)) if index is None else index
    bound = ATTACKS.bind("apgd_restarts", passes=passes, steps=STEPS)
    return bound(model, x, y, threat, Stream(0, index))


def one_by_one(model, x, y, row, passes, threat):
    """The same restarts for one sample, each a drive of its own: (passes, broken)."""
    with torch.no_grad():
        logits = model(x)
    rivals = logits.scatter(1, y[:, None], -torch.inf)
    order = rivals.sort(dim=1, descending=True, stable=True).indices[0, :-1]
    losses = [cross_entropy, margin, dlr, None][: min(logits.shape[1], 4)]
    stream = Stream(0, torch.tensor([row])).at("apgd_restarts")
    spent, number = 1, 0
    while number == 0 or spent < passes:
        target = order[number // len(losses) % len(order)][None]
        chosen = losses[number % len(losses)]
        loss = chosen or (lambda z, labels, to=target: targeted_dlr(z, labels, to))
        ascent = Apgd(model, threat, loss, STEPS, 0.75)
        start = random_on_sphere(x, threat, stream, step=number)
        queue = {"x": x, "y": y}
        keep = ("wrong", "forwards", "backwards")
        found = drive(
            queue, lambda rows, a=ascent, s=start: a.start(rows, s), ascent.step, keep=keep
        )
        spent += int(found["forwards"] + found["backwards"])
        if bool(found["wrong"]):
            return spent, True
        number += 1
    return spent, False


@pytest.mark.parametrize("classes", [2, 3, 5])
def test_they_are_the_restarts_of_a_plain_loop(classes):
    model, x, _ = curved_problem((1, 6, 6), 10)
    fewer = torch.nn.Sequential(model, First(classes)).eval()
    with torch.no_grad():
        y = fewer(x).argmax(dim=1)
    threat = ThreatModel("linf", 0.025)
    fallen = []
    for row in range(len(x)):
        one = slice(row, row + 1)
        found = run(fewer, x[one], y[one], 200, threat, index=torch.tensor([row]))
        spent, fell = one_by_one(fewer, x[one], y[one], row, 200, threat)
        assert int(found.forwards + found.backwards) == spent
        assert bool(misclassified(fewer(found.x_adv), y[one])) == fell
        fallen.append(fell)
    assert not all(fallen)


class First(torch.nn.Module):
    """The first logits alone."""

    def __init__(self, classes):
        super().__init__()
        self.classes = classes

    def forward(self, logits):
        return logits[:, : self.classes]


@pytest.mark.parametrize("passes", [1, 40, 500])
def test_the_budget_is_exceeded_by_less_than_a_restart(passes):
    model, x, y = saturated(20)
    found = run(model, x, y, passes, ThreatModel("linf", 1e-4))
    spent = found.forwards + found.backwards
    with torch.no_grad():
        stands = ~misclassified(model(found.x_adv), y)
    assert stands.sum() >= 15
    assert (spent[stands] >= passes).all()
    assert (spent <= passes + 2 * STEPS + 1).all()


def test_a_masked_net_gets_as_many_restarts_as_its_passes_allow():
    """Two passes each: with a constant model there is no gradient at all."""
    model, x, y = curved_problem((1, 6, 6), 3)
    flat = torch.nn.Sequential(model, Constant()).eval()
    found = run(flat, x, torch.zeros_like(y), 101)
    assert found.forwards.tolist() == [51, 51, 51]
    assert found.backwards.tolist() == [50, 50, 50]


class Constant(torch.nn.Module):
    """Class 0, whatever comes."""

    def forward(self, logits):
        return 0.0 * logits + torch.tensor([1.0, 0.0, -1.0, -2.0, -3.0], dtype=logits.dtype)


def test_more_passes_break_more_and_never_less():
    model, x, y = saturated()
    few, many = (misclassified(model(run(model, x, y, n).x_adv), y) for n in (20, 400))
    assert (many >= few).all()
    assert many.sum() >= few.sum() + 5


def test_points_and_passes_do_not_depend_on_company():
    model, x, y = saturated(15)
    whole = run(model, x, y, 120)
    with micro_batch(4):
        small = run(model, x, y, 120)
    order = torch.arange(15).flip(0)
    other = run(model, x[order], y[order], 120, index=order)
    for found, back in ((small, slice(None)), (other, order)):
        assert torch.allclose(found.x_adv[back], whole.x_adv, atol=1e-9)
        assert torch.equal(found.forwards[back], whole.forwards)
        assert torch.equal(found.backwards[back], whole.backwards)
