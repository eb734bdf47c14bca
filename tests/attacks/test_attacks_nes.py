"""NES: gradients from queries alone."""

import pytest
import torch
from saturated import broken, saturated

from drelu_cli.attacks import ATTACKS
from drelu_cli.attacks.augment import bind_attack
from drelu_cli.attacks.conformance_models import Recorder, classes_problem, curved_problem
from drelu_cli.attacks.geometry import within
from drelu_cli.attacks.losses import margin
from drelu_cli.attacks.nes import Estimate
from drelu_cli.core.errors import BadValue
from drelu_cli.core.records import ThreatModel
from drelu_cli.runtime.driver import micro_batch
from drelu_cli.runtime.streams import Stream

THREAT = ThreatModel("linf", 0.1)


def test_the_estimate_is_the_gradient_of_a_linear_model():
    problem = classes_problem("linf", (1, 6, 6), 3, 0.05, 1.05)
    stream = Stream(0, torch.arange(3))
    estimate = Estimate(problem.model, THREAT, margin, stream, 4000, 1e-3)
    x = problem.x.clamp(0.1, 0.9).requires_grad_()
    (true,) = torch.autograd.grad(margin(problem.model(x), problem.y).sum(), x)
    rows = {"x": x.detach(), "point": x.detach(), "y": problem.y, "index": torch.arange(3)}
    rows |= {"step": torch.zeros(3, dtype=torch.int64), "wrong": torch.zeros(3, dtype=torch.bool)}
    found, _, _ = estimate.at(rows)
    cosine = torch.nn.functional.cosine_similarity(found.flatten(1), true.flatten(1))
    # Expected with 4,000 pairs in 36 dimensions: 1 / sqrt(1 + 35 / 4000) = 0.996.
    assert (cosine > 0.99).all()


def test_queries_stay_in_the_box_and_no_gradient_is_asked_for():
    model, x, y = saturated(2)
    recorder = Recorder(model)
    found = ATTACKS.bind("nes", steps=3, draws=4)(
        recorder, x, y, ThreatModel("linf", 0.05), Stream(0, torch.arange(2))
    )
    points = torch.cat(recorder.points)
    assert points.min() >= 0
    assert points.max() <= 1
    assert int(found.forwards.sum()) == len(points)
    assert not found.backwards.any()
    # They leave the ball: a smoothed loss sees beyond it.
    assert not within(points[2:], x[:1].expand_as(points[2:]), ThreatModel("linf", 0.05)).all()


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_flat_losses_need_wide_draws(norm):
    model, x, y = saturated()
    threat = ThreatModel(norm, {"linf": 0.1, "l2": 0.5}[norm])
    narrow, wide = (
        broken(bind_attack("nes", steps=20, draws=20, sigma=sigma), model, x, y, threat)
        for sigma in (0.001, 1.0)
    )
    assert wide >= narrow + 10


def test_a_misclassified_query_inside_the_ball_is_returned():
    """Draws so narrow that they stay inside, steps too short to get anywhere."""
    model, x, y = curved_problem((1, 6, 6), 8)
    threat = ThreatModel("l2", 0.3)
    bound = bind_attack("nes", steps=30, draws=20, sigma=0.9, rel_step=1e-9)
    assert broken(bound, model, x, y, threat) > 0


def test_points_do_not_depend_on_how_many_queries_go_at_once():
    model, x, y = saturated(9)
    bound, stream = ATTACKS.bind("nes", steps=5, draws=8), Stream(0, torch.arange(9))
    whole = bound(model, x, y, THREAT, stream)
    for size in (1, 5, 64):
        with micro_batch(size):
            found = bound(model, x, y, THREAT, stream)
        assert torch.equal(found.x_adv, whole.x_adv)
        assert torch.equal(found.forwards, whole.forwards)


def test_draws_come_in_pairs():
    with pytest.raises(BadValue, match="draws"):
        ATTACKS.bind("nes", draws=5)
