"""FAB: projections against solvers, distances against theory, steps against the paper's loop."""

import numpy
import pytest
import torch
from scipy.optimize import linprog, minimize

from drelu_cli.attacks import ATTACKS
from drelu_cli.attacks.conformance_models import Recorder, curved_problem, linear_problem
from drelu_cli.attacks.fab_projection import onto_hyperplane
from drelu_cli.attacks.geometry import distance
from drelu_cli.core.records import ThreatModel
from drelu_cli.runtime.driver import micro_batch
from drelu_cli.runtime.streams import Stream

NORMS = ["linf", "l2"]


def attacked(model, x, y, norm, eps, **options):
    stream = Stream(0, torch.arange(len(x)))
    return ATTACKS.bind("fab_t", **options)(model, x, y, ThreatModel(norm, eps), stream)


def hyperplanes(count, size):
    """Points with pixels at 0 and 1, normals of both signs with zeros, gaps of both signs."""
    draw = torch.Generator().manual_seed(0)
    points = torch.randn(count, size, generator=draw, dtype=torch.float64).clamp(0, 1)
    normals = torch.randn(count, size, generator=draw, dtype=torch.float64)
    normals[:, 0] = 0.0
    gaps = torch.linspace(-2.0, 2.0, count, dtype=torch.float64)
    return points, normals, gaps


def shortest(point, normal, gap, norm):
    """The length of the shortest step, by a solver; None where the box ends before."""
    size, room = len(point), [(-p, 1 - p) for p in point]
    most = sum(
        w * (high if w * gap > 0 else low) for w, (low, high) in zip(normal, room, strict=True)
    )
    if abs(most) < abs(gap):
        return None
    if norm == "linf":
        identity, ones = numpy.eye(size), numpy.ones((size, 1))
        bounded = numpy.vstack([numpy.hstack([s * identity, -ones]) for s in (1, -1)])
        found = linprog(
            [0.0] * size + [1.0],
            A_ub=bounded,
            b_ub=numpy.zeros(2 * size),
            A_eq=[[*normal, 0.0]],
            b_eq=[gap],
            bounds=[*room, (0, None)],
        )
        return found.fun
    found = minimize(
        lambda step: step @ step,
        numpy.zeros(size),
        jac=lambda step: 2 * step,
        constraints=[{"type": "eq", "fun": lambda step: numpy.array(normal) @ step - gap}],
        bounds=room,
        method="SLSQP",
    )
    return found.fun**0.5


@pytest.mark.parametrize("norm", NORMS)
def test_projection_is_the_shortest_step(norm):
    points, normals, gaps = hyperplanes(16, 8)
    steps = onto_hyperplane(points, normals, gaps, norm)
    assert ((points + steps >= -1e-12) & (points + steps <= 1 + 1e-12)).all()
    lengths = distance(steps, torch.zeros_like(steps), norm)
    reached = (steps * normals).sum(dim=1)
    cut = 0
    for row in range(16):
        expected = shortest(points[row].tolist(), normals[row].tolist(), gaps[row].item(), norm)
        if expected is None:
            cut += 1
            continue
        assert reached[row].item() == pytest.approx(gaps[row].item(), abs=1e-12)
        assert lengths[row].item() == pytest.approx(expected, abs=1e-6)
    assert cut < 16
    # Pixels that do not count stay where they are.
    assert not steps[:, 0].any()


@pytest.mark.parametrize("norm", NORMS)
def test_projection_beyond_the_box_ends_in_its_corner(norm):
    points, normals, _ = hyperplanes(6, 8)
    gaps = torch.tensor([100.0, -100.0, torch.inf, 100.0, -100.0, 1e300], dtype=torch.float64)
    corner = (normals * gaps.sign()[:, None] > 0).double()
    corner[:, 0] = points[:, 0]
    assert torch.allclose(points + onto_hyperplane(points, normals, gaps, norm), corner)


@pytest.mark.parametrize("norm", NORMS)
def test_projection_of_degenerate_hyperplanes(norm):
    points, normals, gaps = hyperplanes(4, 8)
    # No direction, no gap: no step.
    assert not onto_hyperplane(points, torch.zeros_like(normals), gaps, norm).any()
    assert not onto_hyperplane(points, normals, torch.zeros_like(gaps), norm).any()
    # The scale of the hyperplane's equation does not matter, in float32 too.
    expected = onto_hyperplane(points, normals, gaps, norm)
    for scale in (1e-30, 1e30):
        found = onto_hyperplane(
            points.float(), (normals * scale).float(), (gaps * scale).float(), norm
        )
        assert torch.allclose(found, expected.float(), atol=1e-5)
    denormal = onto_hyperplane(points.float(), (normals * 1e-42).float(), gaps.float(), norm)
    assert torch.isfinite(denormal).all()
    assert denormal.any()


@pytest.mark.parametrize("norm", NORMS)
def test_projection_does_not_depend_on_company(norm):
    points, normals, gaps = hyperplanes(16, 8)
    together = onto_hyperplane(points, normals, gaps, norm)
    for row in range(16):
        part = slice(row, row + 1)
        assert torch.equal(
            onto_hyperplane(points[part], normals[part], gaps[part], norm), together[part]
        )


@pytest.mark.parametrize("norm", NORMS)
def test_distance_on_a_linear_model_is_the_theoretical_one(norm):
    problem = linear_problem(norm, (1, 6, 6), 6, 0.05, 1.3)
    margins = problem.model(problem.x)
    dual = problem.model.weight.norm(p=1 if norm == "linf" else 2)
    theory = ((margins[:, 0] - margins[:, 1]).abs() / (2 * dual)).detach()
    found = attacked(problem.model, problem.x, problem.y, norm, 0.5, exact=True)
    ratio = distance(found.x_adv, problem.x, norm) / theory
    assert ratio.min() >= 1 - 1e-9
    assert ratio.max() <= 1.01


def projected(point, normal, gap, norm):
    """The shortest step by bisection over its length, for one point: another way than ours."""
    low, high = 0.0, 1e6
    direction = normal.sign() * (1.0 if gap > 0 else -1.0)
    speed = torch.ones_like(normal) if norm == "linf" else normal.abs()
    for _ in range(200):
        middle = (low + high) / 2
        step = (point + middle * speed * direction).clamp(0, 1) - point
        low, high = (middle, high) if abs(step.dot(normal)) < abs(gap) else (low, middle)
    return (point + high * speed * direction).clamp(0, 1) - point


def plain_fab(model, x, y, target, norm, steps):
    """Algorithm 1 of 1907.02044 for one sample, towards one class, from the input."""
    visited, point = [], x
    for _ in range(steps):
        leaf = point.clone().requires_grad_()
        logits = model(leaf[None])[0]
        value = logits[target] - logits[y]
        (slope,) = torch.autograd.grad(value, leaf)
        slope, gap = slope.flatten(), -value.item()
        flat, start = point.flatten(), x.flatten()
        near = projected(flat, slope, gap, norm)
        far = projected(start, slope, gap + slope.dot(flat - start).item(), norm)
        sizes = [step.norm(p=torch.inf if norm == "linf" else 2) for step in (near, far)]
        a = min((sizes[0] / (sizes[0] + sizes[1])).item(), 0.1)
        mean = (1 - a) * (flat + 1.05 * near) + a * (start + 1.05 * far)
        point = mean.clamp(0, 1).reshape(x.shape)
        visited.append(point)
        if model(point[None]).argmax().item() != y:
            point = x + 0.9 * (point - x)
    return visited


@pytest.mark.parametrize("norm", NORMS)
def test_fab_visits_what_the_plain_loop_visits(norm):
    model, x, y = curved_problem((1, 6, 6), 6)
    compared = 0
    for row in range(6):
        recorder, part = Recorder(model), slice(row, row + 1)
        attacked(recorder, x[part], y[part], norm, 1.0, steps=8, targets=1, exact=True)
        target = model(x[part])[0].argsort(descending=True)[1].item()
        asked = torch.cat(recorder.points)
        for point in plain_fab(model, x[row], y[row].item(), target, norm, 8):
            assert (asked - point).flatten(1).abs().amax(dim=1).min() < 1e-9
            compared += 1
    assert compared == 48


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("restarts", [1, 2])
def test_the_decision_equals_the_exact_search(norm, restarts):
    model, x, y = curved_problem((1, 6, 6), 20)
    options = {"steps": 20, "restarts": restarts}
    first = attacked(model, x, y, norm, 5.0, exact=True, **options)
    eps = distance(first.x_adv, x, norm).median().item() * 1.0001
    exact = attacked(model, x, y, norm, eps, exact=True, **options)
    decision = attacked(model, x, y, norm, eps, **options)
    broken = [model(found.x_adv).argmax(dim=1) != y for found in (exact, decision)]
    assert torch.equal(*broken)
    assert 5 < broken[0].sum() < 15
    for found in (exact, decision):
        # A robust sample keeps its input.
        assert torch.equal(found.x_adv[~broken[0]], x[~broken[0]])
    nearest, first_found = (distance(found.x_adv, x, norm) for found in (exact, decision))
    assert (nearest <= first_found).all()
    assert (nearest < first_found).any()
    assert (decision.forwards <= exact.forwards).all()
    assert decision.forwards.sum() < 0.9 * exact.forwards.sum()


@pytest.mark.parametrize("norm", NORMS)
def test_the_exact_distance_does_not_depend_on_the_radius(norm):
    model, x, y = curved_problem((1, 6, 6), 10)
    wide = attacked(model, x, y, norm, 5.0, steps=20, exact=True)
    away = distance(wide.x_adv, x, norm)
    eps = away.median().item() * 1.0001
    narrow = attacked(model, x, y, norm, eps, steps=20, exact=True)
    inside = away < eps
    assert 0 < inside.sum() < 10
    assert torch.equal(narrow.x_adv[inside], wide.x_adv[inside])
    assert torch.equal(narrow.forwards, wide.forwards)


@pytest.mark.parametrize("exact", [True, False])
@pytest.mark.parametrize("norm", NORMS)
def test_nothing_is_returned_beyond_the_radius(norm, exact):
    problem = linear_problem(norm, (1, 6, 6), 8, 0.05, 1.2)
    found = attacked(problem.model, problem.x, problem.y, norm, 0.05, exact=exact, steps=20)
    moved = distance(found.x_adv, problem.x, norm) > 0
    assert torch.equal(moved, problem.reachable)


def test_exact_points_do_not_change_with_company():
    model, x, y = curved_problem((1, 6, 6), 9)
    options = {"steps": 15, "exact": True, "restarts": 2}
    whole = attacked(model, x, y, "linf", 1.0, **options)
    with micro_batch(2):
        parts = attacked(model, x, y, "linf", 1.0, **options)
    assert torch.allclose(whole.x_adv, parts.x_adv, atol=1e-9)
    assert torch.equal(whole.forwards, parts.forwards)
