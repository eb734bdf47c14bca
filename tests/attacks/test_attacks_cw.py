"""CW-L2: tanh space, distances against theory and a grid, per-sample search."""

import pytest
import torch

from drelu_cli.attacks import ATTACKS, cw
from drelu_cli.attacks.conformance_models import Recorder, curved_problem, linear_problem
from drelu_cli.attacks.losses import margin
from drelu_cli.core.records import ThreatModel
from drelu_cli.runtime.driver import micro_batch
from drelu_cli.runtime.streams import Stream


def attacked(model, x, y, eps, **options):
    stream = Stream(0, torch.arange(len(x)))
    return ATTACKS.bind("cw_l2", **options)(model, x, y, ThreatModel("l2", eps), stream)


def distances(found, x):
    return (found.x_adv - x).flatten(1).norm(dim=1)


def test_tanh_space_reaches_the_whole_box():
    x = torch.tensor([0.0, 1e-9, 0.1, 0.5, 0.9, 1.0], dtype=torch.float64)
    w = cw.to_tanh_space(x)
    assert torch.isfinite(w).all()
    assert torch.allclose(cw.from_tanh_space(w), x, atol=1e-14)
    assert (cw.tanh_space_slope(w) > 0.05).all()


def test_tanh_space_slope_is_the_derivative():
    w = torch.linspace(-1.4, 1.4, 9, dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(cw.from_tanh_space(w).sum(), w)
    assert torch.allclose(cw.tanh_space_slope(w.detach()), slope, atol=1e-14)


def test_distance_on_a_linear_model_is_the_theoretical_one():
    problem = linear_problem("l2", (1, 6, 6), 6, 0.3, 1.3)
    margins = problem.model(problem.x)
    theory = (margins[:, 0] - margins[:, 1]).abs() / (2 * problem.model.weight.norm())
    found = attacked(problem.model, problem.x, problem.y, 10.0, exact=True, max_steps=300)
    ratio = (distances(found, problem.x) / theory).detach()
    assert ratio.min() >= 1 - 1e-9
    assert ratio.max() <= 1.01


class TwoPixels(torch.nn.Module):
    """Class 1 inside a disc and beyond a line, class 0 elsewhere."""

    def forward(self, x):
        disc = 0.15 - ((x - torch.tensor([0.8, 0.6])) ** 2).sum(dim=1).sqrt()
        line = x[:, 0] + 0.5 * x[:, 1] - 1.2
        u = 5 * torch.maximum(disc, line)
        return torch.stack([-u, u, torch.full_like(u, -9.0)], dim=1)


def test_distance_equals_the_nearest_point_of_a_grid():
    model = TwoPixels()
    x = torch.tensor([[0.5, 0.5], [0.0, 0.9], [0.4, 0.0], [0.7, 0.3], [0.0, 1.0]]).double()
    axis = torch.linspace(0, 1, 801, dtype=torch.float64)
    grid = torch.cartesian_prod(axis, axis)
    beyond = grid[model(grid).argmax(dim=1) == 1]
    nearest = torch.cdist(x, beyond).amin(dim=1)
    found = attacked(model, x, torch.zeros(5, dtype=torch.int64), 10.0, exact=True, max_steps=300)
    # The grid is 1/800 wide: its nearest point lies up to a diagonal too far.
    assert (distances(found, x) <= 1.02 * nearest).all()
    assert (distances(found, x) >= nearest - 2**0.5 / 800).all()


SHORT = {"search_steps": 5, "max_steps": 80, "patience": 20}


def test_the_decision_equals_the_exact_search():
    model, x, y = curved_problem((1, 6, 6), 20)
    nearest = distances(attacked(model, x, y, 10.0, exact=True, **SHORT), x)
    eps = nearest.median().item() * 1.0001
    exact = attacked(model, x, y, eps, exact=True, **SHORT)
    decision = attacked(model, x, y, eps, **SHORT)
    for found in (exact, decision):
        broken = model(found.x_adv).argmax(dim=1) != y
        assert torch.equal(broken, nearest <= eps)
        # A robust sample keeps its input.
        assert torch.equal(found.x_adv[~broken], x[~broken])
    assert (decision.forwards <= exact.forwards).all()
    assert decision.forwards.sum() < 0.9 * exact.forwards.sum()


def test_a_sample_stops_by_its_own_loss():
    model, x, y = curved_problem((1, 6, 6), 10)
    options = {"exact": True, "search_steps": 4, "max_steps": 200, "patience": 20}
    together = attacked(model, x, y, 10.0, **options)
    assert len(set(together.forwards.tolist())) > 5
    assert (together.forwards < 4 * 200).all()
    with micro_batch(1):
        alone = attacked(model, x, y, 10.0, **options)
    assert torch.equal(alone.forwards, together.forwards)
    assert torch.allclose(alone.x_adv, together.x_adv, atol=1e-9)


@pytest.mark.parametrize("exact", [True, False])
def test_steps_in_a_row_are_the_steps_one_by_one(exact, monkeypatch):
    model, x, y = curved_problem((1, 6, 6), 12)
    options = {"exact": exact, "search_steps": 3, "max_steps": 60, "patience": 15}
    in_a_row = attacked(model, x, y, 0.3, **options)
    monkeypatch.setattr(cw.Search, "_unbroken", lambda self, rows: 1)
    one_by_one = attacked(model, x, y, 0.3, **options)
    assert torch.equal(in_a_row.x_adv, one_by_one.x_adv)
    assert torch.equal(in_a_row.forwards, one_by_one.forwards)
    assert torch.equal(in_a_row.backwards, one_by_one.backwards)
    assert len(set(in_a_row.forwards.tolist())) > 3


def test_adam_s_schedule_is_the_published_one():
    rate, scale = cw.adam_schedule(0.01, 500, torch.zeros((), dtype=torch.float64))
    for step in (1, 2, 10, 500):
        assert rate[step - 1].item() == pytest.approx(0.01 / (1 - 0.9**step), rel=1e-12)
        assert scale[step - 1].item() == pytest.approx((1 - 0.999**step) ** -0.5, rel=1e-12)


def test_patience_and_steps_bound_the_passes():
    model, x, y = curved_problem((1, 6, 6), 2)
    found = attacked(model, x, y, 10.0, exact=True, search_steps=3, max_steps=11, patience=100)
    assert found.forwards.tolist() == [33, 33]
    assert torch.equal(found.forwards, found.backwards)


def test_every_c_begins_at_the_input():
    model, x, y = curved_problem((1, 6, 6), 1)
    recorder = Recorder(model)
    attacked(recorder, x, y, 1e-6, search_steps=3, max_steps=10, patience=100)
    points = torch.cat(recorder.points)
    assert all(torch.equal(points[start], x[0]) for start in (0, 10, 20))
    # c grows, so the points of the next search differ.
    assert not torch.equal(points[5], points[15])


def test_confidence_asks_for_a_margin():
    model, x, y = curved_problem((1, 6, 6), 1)
    largest = []
    for confidence in (0.0, 3.0):
        recorder = Recorder(model)
        attacked(recorder, x, y, 10.0, exact=True, confidence=confidence, **SHORT)
        points = torch.cat(recorder.points)
        largest.append(margin(model(points), y.expand(len(points))).max().item())
    assert largest[0] < 3.0 < largest[1]


@pytest.mark.parametrize("exact", [True, False])
def test_nothing_is_returned_beyond_the_bound(exact):
    problem = linear_problem("l2", (1, 6, 6), 8, 0.3, 1.2)
    found = attacked(problem.model, problem.x, problem.y, 0.3, exact=exact, **SHORT)
    moved = distances(found, problem.x) > 0
    assert torch.equal(moved, problem.reachable)


class Plateau(torch.nn.Module):
    """Flat below a pixel sum of 18, then a slope into class 1; pixel 0 never matters."""

    def forward(self, x):
        u = (x.flatten(1)[:, 1:].sum(dim=1) - 18).clamp(min=0.0)
        return torch.stack([torch.full_like(u, 0.5), u, torch.full_like(u, -9.0)], dim=1)


@pytest.mark.parametrize("exact", [True, False])
def test_a_sample_that_nothing_pulls_at_ends_after_one_pass(exact):
    x = torch.full((3, 36), 0.4, dtype=torch.float64)
    x[1] = 0.515
    recorder = Recorder(Plateau())
    y = torch.zeros(3, dtype=torch.int64)
    found = attacked(recorder, x, y, 5.0, exact=exact, **SHORT)
    assert found.forwards[[0, 2]].tolist() == [1, 1]
    assert torch.equal(found.backwards, found.forwards)
    assert torch.equal(found.x_adv[[0, 2]], x[[0, 2]])
    assert found.forwards[1] > 1
    assert (Plateau()(found.x_adv).argmax(dim=1) == 1).tolist() == [False, True, False]


def test_a_pixel_that_nothing_pulls_at_keeps_its_value():
    # 0.1 in float32 is not its own image under tanh space and back.
    x = torch.full((1, 36), 0.515)
    x[0, 0] = 0.1
    rounded = cw.from_tanh_space(cw.to_tanh_space(torch.linspace(0, 1, 999)))
    assert (rounded != torch.linspace(0, 1, 999)).any()
    recorder = Recorder(Plateau())
    attacked(recorder, x, torch.zeros(1, dtype=torch.int64), 5.0, exact=True, **SHORT)
    assert len(recorder.points) > 100
    assert all(points[0, 0] == x[0, 0] for points in recorder.points)
