"""FGSM, PGD and APGD against plain loops written from the papers, one sample at a time."""

import math

import pytest
import torch
import torch.nn.functional as F

from drelu_cli.attacks import ATTACKS, geometry
from drelu_cli.attacks.apgd import checkpoints
from drelu_cli.attacks.conformance_models import Constant, Recorder, curved_problem
from drelu_cli.attacks.losses import cross_entropy, dlr
from drelu_cli.core.errors import BadValue
from drelu_cli.core.records import ThreatModel
from drelu_cli.runtime.driver import micro_batch
from drelu_cli.runtime.streams import Stream

EPS = {"linf": 0.01, "l2": 0.1}


def gradient_of(model, point, y, loss):
    leaf = point.clone().requires_grad_()
    value = loss(model(leaf), y)
    return value.detach(), torch.autograd.grad(value.sum(), leaf)[0]


def is_wrong(model, point, y):
    return bool((model(point).argmax(dim=1) != y).item())


def plain_pgd(model, x, y, threat, start, steps, rel_step):
    """All points that PGD visits, without any early exit but the broken sample."""
    point, visited = start, []
    for _ in range(steps + 1):
        visited.append(point)
        if is_wrong(model, point, y):
            break
        _, gradient = gradient_of(model, point, y, cross_entropy)
        moved = point + rel_step * threat.eps * geometry.steepest(gradient, threat.norm)
        point = geometry.project(moved, x, threat)
    return visited


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_pgd_visits_what_the_plain_loop_visits(norm):
    model, x, y = curved_problem((1, 6, 6), 10)
    threat = ThreatModel(norm, EPS[norm])
    saved = 0
    for row in range(len(x)):
        one, label, stream = x[row : row + 1], y[row : row + 1], Stream(0, torch.tensor([row]))
        recorder = Recorder(model)
        found = ATTACKS.bind("pgd")(recorder, one, label, threat, stream)
        start = geometry.random_in_ball(one, threat, stream.at("pgd", "restart", 0))
        visited = plain_pgd(model, one, label, threat, start, 40, 0.25)
        points = torch.cat(visited)
        asked = torch.cat(recorder.points)
        assert torch.equal(asked, points[: len(asked)])
        # What the early exit left out had been seen before.
        for later in points[len(asked) :]:
            assert (asked == later).flatten(1).all(dim=1).any()
        saved += len(points) - len(asked)
        losses = F.cross_entropy(model(points), label.expand(len(points)), reduction="none")
        best = points[-1] if is_wrong(model, points[-1:], label) else points[losses.argmax()]
        assert torch.equal(found.x_adv[0], best)
    if norm == "linf":
        assert saved > 0


def test_zero_gradient_costs_one_pass():
    x = torch.rand(5, 1, 4, 4, dtype=torch.float64)
    y = torch.zeros(5, dtype=torch.int64)
    for name in ("pgd", "fgsm", "apgd_ce", "apgd_dlr"):
        for norm in ("linf", "l2"):
            found = ATTACKS.bind(name)(
                Constant(trainable=True), x, y, ThreatModel(norm, 0.1), Stream(0, torch.arange(5))
            )
            assert found.forwards.tolist() == [1] * 5
            assert found.backwards.tolist() == [1] * 5


def test_fgsm_is_one_full_step():
    model, x, y = curved_problem((1, 6, 6), 8)
    threat = ThreatModel("linf", EPS["linf"])
    found = ATTACKS.bind("fgsm")(model, x, y, threat, Stream(0, torch.arange(8)))
    _, gradient = gradient_of(model, x, y, cross_entropy)
    expected = (x + threat.eps * gradient.sign()).clamp(0, 1)
    assert torch.allclose(found.x_adv, expected, atol=1e-15)
    assert found.forwards.tolist() == [1] * 8
    assert found.backwards.tolist() == [1] * 8


def test_a_clean_error_is_returned_at_once():
    model, x, y = curved_problem((1, 6, 6), 4)
    wrong_labels = (y + 1) % 5
    for name in ("fgsm", "cw_l2"):
        norm = ATTACKS.resolve(name).norms[-1]
        found = ATTACKS.bind(name)(
            model, x, wrong_labels, ThreatModel(norm, 0.3), Stream(0, torch.arange(4))
        )
        assert torch.equal(found.x_adv, x)
        assert found.forwards.tolist() == [1] * 4


def test_restarts_only_help_and_stop_at_broken_samples():
    model, x, y = curved_problem((1, 6, 6), 30)
    threat, stream = ThreatModel("linf", EPS["linf"]), Stream(0, torch.arange(30))
    once = ATTACKS.bind("pgd", steps=3)(model, x, y, threat, stream)
    often = ATTACKS.bind("pgd", steps=3, restarts=6)(model, x, y, threat, stream)
    wrong_once = model(once.x_adv).argmax(1) != y
    wrong_often = model(often.x_adv).argmax(1) != y
    assert (wrong_often >= wrong_once).all()
    assert torch.equal(often.x_adv[wrong_once], once.x_adv[wrong_once])
    assert torch.equal(often.forwards[wrong_once], once.forwards[wrong_once])
    left = ~wrong_often
    loss = [F.cross_entropy(model(r.x_adv), y, reduction="none")[left] for r in (once, often)]
    assert (loss[1] >= loss[0]).all()
    assert (loss[1] > loss[0]).any()


def test_restarts_without_a_random_start_are_refused():
    model, x, y = curved_problem((1, 6, 6), 1)
    with pytest.raises(BadValue, match="same point"):
        ATTACKS.bind("pgd", restarts=2, random_start=False)(
            model, x, y, ThreatModel("linf", 0.1), Stream(0, torch.arange(1))
        )


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("pgd", {"steps": 0}),
        ("pgd", {"rel_step": -1.0}),
        ("pgd", {"loss": "hinge"}),
        ("apgd_ce", {"rho": 1.5}),
        ("cw_l2", {"patience": 0}),
        ("square", {"p": 0.0}),
    ],
)
def test_options_out_of_range_are_refused(name, options):
    with pytest.raises(BadValue, match=next(iter(options))):
        ATTACKS.bind(name, **options)


def test_checkpoints_of_the_paper():
    # 2003.01690, section 3.1: p_{j+1} = p_j + max(p_j - p_{j-1} - 0.03, 0.06), p_1 = 0.22.
    ends, p, previous = [], 0.22, 0.0
    while p <= 1.0 + 1e-9:
        ends.append(math.ceil(p * 100 - 1e-9))
        p, previous = p + max(p - previous - 0.03, 0.06), p
    table = checkpoints(100)
    assert [t for t, window in enumerate(table) if window] == ends
    assert [window for window in table if window][:4] == [22, 19, 16, 13]
    assert sum(table) == ends[-1]


def plain_apgd(model, x, y, threat, start, steps, loss, rho):
    """Algorithm 1 of 2003.01690 with the histories kept, for one sample."""
    norm, windows = threat.norm, checkpoints(steps)
    visited, history = [start], []
    point, before, eta = start, start, 2 * threat.eps
    value, gradient = gradient_of(model, point, y, loss)
    best = (value, point, gradient)
    history.append(value)
    at_check, halved, last = value, True, 0
    for k in range(1, steps + 1):
        if is_wrong(model, visited[-1], y):
            return visited
        a = 1.0 if k == 1 else 0.75
        z = geometry.project(point + eta * geometry.steepest(gradient, norm), x, threat)
        new = point + a * (z - point) + (1 - a) * (point - before)
        before, point = point, geometry.project(new, x, threat)
        visited.append(point)
        value, gradient = gradient_of(model, point, y, loss)
        history.append(value)
        if value > best[0]:
            best = (value, point, gradient)
        if windows[k]:
            rises = sum(bool(history[i + 1] > history[i]) for i in range(last, k))
            first = rises <= rho * (k - last)
            second = not halved and bool(at_check >= best[0])
            halved = first or second
            if halved:
                eta /= 2
                _, point, gradient = best
            at_check, last = best[0], k
    return visited


class Waves(torch.nn.Module):
    """A rugged loss, and class 0 always ahead: nothing is broken, steps are halved."""

    def __init__(self):
        super().__init__()
        draw = torch.Generator().manual_seed(0)
        self.first = torch.randn(20, 36, generator=draw, dtype=torch.float64)
        self.second = torch.randn(4, 20, generator=draw, dtype=torch.float64) / 4

    def forward(self, x):
        waves = (x.flatten(1) @ self.first.T * 3).sin() @ self.second.T
        return waves + torch.tensor([7.0, 0.0, 0.0, 0.0])


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize(("name", "loss"), [("apgd_ce", cross_entropy), ("apgd_dlr", dlr)])
def test_apgd_visits_what_the_plain_loop_visits(norm, name, loss):
    model, y = Waves(), torch.zeros(6, dtype=torch.int64)
    _, x, _ = curved_problem((1, 6, 6), 6)
    threat = ThreatModel(norm, 5 * EPS[norm])
    compared = 0
    for row in range(len(x)):
        one, label, stream = x[row : row + 1], y[row : row + 1], Stream(0, torch.tensor([row]))
        recorder = Recorder(model)
        ATTACKS.bind(name, steps=60)(recorder, one, label, threat, stream)
        start = geometry.random_on_sphere(one, threat, stream.at(name, "restart", 0))
        points = torch.cat(plain_apgd(model, one, label, threat, start, 60, loss, 0.75))
        asked = torch.cat(recorder.points)
        assert torch.allclose(asked, points[: len(asked)], atol=1e-9)
        if len(asked) < len(points):
            # Stopped early: the plain loop never moved again.
            assert torch.allclose(points[len(asked) :], asked[-1:], atol=1e-9)
        compared += len(asked)
    # No sample ended at its first checkpoints.
    assert compared > 6 * 30


@pytest.mark.parametrize("name", ["pgd", "apgd_ce", "apgd_dlr", "square"])
def test_results_do_not_change_with_company(name):
    """Beyond outcomes: in float64 the points themselves agree."""
    model, x, y = curved_problem((1, 6, 6), 9)
    options = {"square": {"queries": 80}, "pgd": {"restarts": 2}}.get(name, {"steps": 20})
    attack, threat = ATTACKS.bind(name, **options), ThreatModel("l2", EPS["l2"])
    whole = attack(model, x, y, threat, Stream(3, torch.arange(9)))
    with micro_batch(2):
        parts = attack(model, x, y, threat, Stream(3, torch.arange(9)))
    assert torch.allclose(whole.x_adv, parts.x_adv, atol=1e-9)
    assert torch.equal(whole.forwards, parts.forwards)
    assert torch.equal(whole.backwards, parts.backwards)


def test_seeds_give_different_points():
    model, x, y = curved_problem((1, 6, 6), 3)
    found = [
        ATTACKS.bind("pgd", steps=2)(
            model, x, y, ThreatModel("linf", 0.001), Stream(seed, torch.arange(3))
        ).x_adv
        for seed in (0, 1)
    ]
    assert not torch.equal(*found)
