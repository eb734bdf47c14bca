"""Targeted attacks: which classes, in which order, at which cost; many-class linear models."""

import pytest
import torch

from drelu_cli.attacks import ATTACKS
from drelu_cli.attacks.conformance_models import (
    Constant,
    Recorder,
    classes_problem,
    curved_problem,
)
from drelu_cli.attacks.geometry import distance
from drelu_cli.core.errors import BadValue
from drelu_cli.core.records import ThreatModel
from drelu_cli.runtime.driver import micro_batch
from drelu_cli.runtime.streams import Stream

TARGETED = ("apgd_t", "fab_t")
EPS = {"linf": 0.05, "l2": 0.3}


def run(name, model, x, y, threat, **options):
    stream = Stream(0, torch.arange(len(x)))
    return ATTACKS.bind(name, **options)(model, x, y, threat, stream)


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("name", TARGETED)
def test_linear_models_with_many_classes(name, norm):
    problem = classes_problem(norm, (1, 6, 6), 40, EPS[norm], 1.02)
    assert problem.reachable.sum() == 20
    found = run(name, problem.model, problem.x, problem.y, ThreatModel(norm, EPS[norm]))
    wrong = problem.model(found.x_adv).argmax(dim=1) != problem.y
    assert torch.equal(wrong, problem.reachable)


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("name", TARGETED)
def test_the_nearest_class_is_not_the_likeliest(name, norm):
    """What the oracle above is worth: one target alone misses samples within reach."""
    problem = classes_problem(norm, (1, 6, 6), 40, EPS[norm], 1.02)
    threat = ThreatModel(norm, EPS[norm])
    found = run(name, problem.model, problem.x, problem.y, threat, targets=1)
    wrong = problem.model(found.x_adv).argmax(dim=1) != problem.y
    assert 0 < wrong.sum() < 20
    assert not (wrong & ~problem.reachable).any()


class Slopes(torch.nn.Module):
    """Logits 9, 3, 5, 1, 4 at the middle of the box; class t grows along pixel t alone."""

    def forward(self, x):
        offset = torch.tensor([9.0, 3.0, 5.0, 1.0, 4.0], dtype=x.dtype)
        return offset + (x - 0.5) * torch.tensor([0.0, 1.0, 1.0, 1.0, 1.0], dtype=x.dtype)


@pytest.mark.parametrize(("targets", "order"), [(9, [2, 4, 1, 3]), (2, [2, 4])])
def test_targets_are_the_largest_clean_logits_in_order(targets, order):
    recorder, x = Recorder(Slopes()), torch.full((1, 5), 0.5, dtype=torch.float64)
    y, steps = torch.tensor([0]), 2
    threat = ThreatModel("linf", 0.1)
    found = run("fab_t", recorder, x, y, threat, targets=targets, steps=steps)
    points = torch.cat(recorder.points)
    assert torch.equal(points[0], x[0])
    # Of each run: the input, then points that FAB moved along the pixel of its target.
    ends = points[1:].reshape(len(order), -1, 5)[:, -1]
    assert (ends - 0.5).abs().argmax(dim=1).tolist() == order
    assert found.forwards.tolist() == [len(points)]


def test_the_look_at_the_input_is_one_forward():
    x = torch.rand(3, 1, 4, 4, dtype=torch.float64)
    y = torch.zeros(3, dtype=torch.int64)
    for name in TARGETED:
        found = run(name, Constant(trainable=True), x, y, ThreatModel("linf", 0.1))
        # 4 classes, so 3 targets; a zero gradient ends each at once.
        assert found.forwards.tolist() == [4] * 3
        assert found.backwards.tolist() == [3] * 3


@pytest.mark.parametrize("name", TARGETED)
def test_a_clean_error_is_returned_at_once(name):
    model, x, y = curved_problem((1, 6, 6), 4)
    found = run(name, model, x, (y + 1) % 5, ThreatModel("linf", 0.3))
    assert torch.equal(found.x_adv, x)
    assert found.forwards.tolist() == [1] * 4
    assert found.backwards.tolist() == [0] * 4


def test_apgd_t_needs_four_classes():
    assert ATTACKS.resolve("apgd_t").min_classes == 4
    model = torch.nn.Linear(4, 3).eval()
    x = torch.rand(2, 4)
    with pytest.raises(BadValue, match="4 classes"):
        run("apgd_t", model, x, model(x).argmax(dim=1), ThreatModel("linf", 0.01))


def test_fab_t_works_with_two_classes():
    model = torch.nn.Linear(4, 2).double().eval()
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[1.0, -2.0, 0.5, 0.0], [-1.0, 1.0, 0.5, 0.5]]))
        model.bias.copy_(torch.tensor([0.5, 0.0]))
    x = torch.full((1, 4), 0.5, dtype=torch.float64)
    # Logits 0.25 and 0.5; the difference of the weights has L1 norm 5.5.
    y, away = torch.tensor([1]), 0.25 / 5.5
    for share, broken in ((0.99, False), (1.06, True)):
        found = run("fab_t", model, x, y, ThreatModel("linf", share * away))
        assert (model(found.x_adv).argmax(dim=1) != y).item() == broken


@pytest.mark.parametrize("name", TARGETED)
def test_a_batch_without_samples(name):
    model, x, y = curved_problem((1, 6, 6), 1)
    found = run(name, model, x[:0], y[:0], ThreatModel("linf", 0.1))
    assert found.x_adv.shape == (0, 1, 6, 6)
    assert found.forwards.shape == (0,)


class Waves(torch.nn.Module):
    """A rugged loss: where a run ends depends on where it started."""

    def __init__(self):
        super().__init__()
        draw = torch.Generator().manual_seed(0)
        self.first = torch.randn(20, 36, generator=draw, dtype=torch.float64)
        self.second = torch.randn(5, 20, generator=draw, dtype=torch.float64) / 4

    def forward(self, x):
        return (x.flatten(1) @ self.first.T * 3).sin() @ self.second.T


def test_restarts_only_help_and_stop_at_broken_samples():
    model, (_, x, _) = Waves(), curved_problem((1, 6, 6), 30)
    y, threat = model(x).argmax(dim=1), ThreatModel("linf", 0.01)
    once = run("apgd_t", model, x, y, threat, steps=2, targets=1)
    often = run("apgd_t", model, x, y, threat, steps=2, targets=1, restarts=8)
    wrong_once = model(once.x_adv).argmax(dim=1) != y
    wrong_often = model(often.x_adv).argmax(dim=1) != y
    assert (wrong_often >= wrong_once).all()
    assert wrong_often.sum() > wrong_once.sum()
    assert torch.equal(often.x_adv[wrong_once], once.x_adv[wrong_once])
    assert torch.equal(often.forwards[wrong_once], once.forwards[wrong_once])
    assert (often.forwards[~wrong_once] > once.forwards[~wrong_once]).all()


@pytest.mark.parametrize(("norm", "eps"), [("linf", 0.2), ("l2", 1.0)])
def test_restarts_of_fab_find_nearer_points(norm, eps):
    model, (_, x, _) = Waves(), curved_problem((1, 6, 6), 30)
    y, threat = model(x).argmax(dim=1), ThreatModel(norm, eps)
    nearest = []
    for restarts in (1, 6):
        # One step: the run from the input has not settled.
        options = {"steps": 1, "targets": 1, "restarts": restarts, "exact": True}
        found = run("fab_t", model, x, y, threat, **options)
        wrong = model(found.x_adv).argmax(dim=1) != y
        nearest.append(distance(found.x_adv, x, norm).masked_fill(~wrong, torch.inf))
    assert (nearest[1] <= nearest[0]).all()
    assert (nearest[1] < 0.99 * nearest[0]).any()


@pytest.mark.parametrize("name", TARGETED)
def test_results_do_not_change_with_company(name):
    """Beyond outcomes: in float64 the points themselves agree."""
    model, x, y = curved_problem((1, 6, 6), 9)
    attack = ATTACKS.bind(name, steps=15, restarts=2)
    threat = ThreatModel("l2", 0.1)
    whole = attack(model, x, y, threat, Stream(3, torch.arange(9)))
    with micro_batch(2):
        parts = attack(model, x, y, threat, Stream(3, torch.arange(9)))
    assert torch.allclose(whole.x_adv, parts.x_adv, atol=1e-9)
    assert torch.equal(whole.forwards, parts.forwards)
    assert torch.equal(whole.backwards, parts.backwards)
