"""Square: schedule, windows, acceptance, skipping; against a plain loop over the same draws."""

import math

import pytest
import torch

from drelu_cli.attacks import ATTACKS, square_windows
from drelu_cli.attacks.conformance_models import Constant, Recorder, curved_problem
from drelu_cli.attacks.geometry import project
from drelu_cli.attacks.incremental import shortcut_through
from drelu_cli.attacks.losses import margin
from drelu_cli.attacks.square_linf import LinfSearch
from drelu_cli.attacks.square_windows import BLOCK, L2Windows, LinfWindows, bump, sides
from drelu_cli.core.records import ThreatModel
from drelu_cli.runtime.streams import Stream, seeded_initialisation

EPS = {"linf": 0.02, "l2": 0.2}


class PlainLinf(LinfWindows):
    """The search's points and proposals written out for whole images."""

    def first(self, x, stream):
        return self.points(x, self.stripes(stream))

    def propose(self, x, point, number, draws):
        _, high, wide = square_windows._sizes_at(self.table, number)
        top, left = (
            square_windows._placed(draws[:, axis], size, length)
            for axis, size, length in ((0, high, self.h), (1, wide, self.w))
        )
        inside = square_windows._window(top, left, high, wide, self.h, self.w)
        image = x.reshape(-1, self.c, self.h, self.w)
        signs = torch.where(draws[:, 2:] >= 0.5, 1.0, -1.0).to(x.dtype)[:, :, None, None]
        moved = project(image + self.threat.eps * signs, image, self.threat)
        return torch.where(inside, moved, point.reshape(image.shape)).reshape(x.shape)


def windows_for(norm, shape, p=0.8):
    kind = PlainLinf if norm == "linf" else L2Windows
    return kind(torch.Size(shape), ThreatModel(norm, EPS[norm]), p)


def autoattack_p(number, p):
    """p after `number` proposals as AutoAttack's table states it, resc_schedule=False."""
    for above, divisor in (
        (8000, 512),
        (6000, 256),
        (4000, 128),
        (2000, 64),
        (1000, 32),
        (500, 16),
        (200, 8),
        (50, 4),
        (10, 2),
    ):
        if number > above:
            return p / divisor
    return p


@pytest.mark.parametrize("number", [0, 10, 11, 50, 51, 200, 201, 500, 501, 1000, 1001, 2000, 4999])
def test_window_sizes_follow_autoattack(number):
    share = autoattack_p(number, 0.8)
    linf = max(round(math.sqrt(share * 28 * 28)), 1)
    _, high, wide = square_windows._sizes_at(
        windows_for("linf", (1, 28, 28)).table, torch.tensor([number])
    )
    assert (high.item(), wide.item()) == (linf, linf)
    l2 = max(round(math.sqrt(share * 28 * 28)), 3)
    l2 = min(l2 + (l2 % 2 == 0), 28)
    _, high, wide = square_windows._sizes_at(
        windows_for("l2", (1, 28, 28)).table, torch.tensor([number])
    )
    assert (high.item(), wide.item()) == (l2, l2)


def test_sides_of_odd_shapes():
    assert sides(1.0, 4, 9, least=1, odd=False)[0] == (4, 4)
    assert sides(0.5, 1, 10, least=1, odd=False)[:2] == [(1, 5), (1, 2)]


def test_windows_reach_every_place_equally():
    draws = (torch.arange(6000) + 0.5) / 6000
    places = square_windows._placed(draws, torch.tensor(3), 8)
    assert torch.bincount(places).tolist() == [1000] * 6
    assert square_windows._placed(torch.tensor([1 - 2.0**-24]), torch.tensor(25), 28).item() == 3


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 9, 9)])
def test_linf_proposal_changes_one_window_to_the_surface(shape):
    windows = windows_for("linf", shape)
    x = 0.3 + 0.4 * torch.rand(40, *shape, generator=torch.Generator().manual_seed(0)).double()
    stream = Stream(0, torch.arange(40))
    point = windows.first(x, stream)
    delta = ((point - x) / EPS["linf"]).round()
    assert torch.allclose(point - x, EPS["linf"] * delta, atol=1e-12)
    # Stripes: the same sign down each column.
    assert torch.equal(delta, delta[:, :, :1].expand_as(delta))
    number = torch.full((40,), 300)
    draws = stream.uniform("test", (windows.draws,))
    proposal = windows.propose(x, point, number, draws)
    changed = proposal != point
    side = windows.table[3][0]
    for sample in changed.any(dim=1):
        rows, columns = sample.any(dim=1).nonzero(), sample.any(dim=0).nonzero()
        if len(rows):
            assert rows.max() - rows.min() < side
            assert columns.max() - columns.min() < side
    assert changed.flatten(1).any(dim=1).float().mean() > 0.5


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 9, 9), (3, 32, 32), (20,)])
def test_l2_points_lie_on_the_sphere(shape):
    windows = windows_for("l2", shape)
    x = torch.full((30, *shape), 0.5, dtype=torch.float64)
    stream = Stream(0, torch.arange(30))
    point = windows.first(x, stream)
    for number in (0, 5, 40, 300, 3000):
        draws = stream.uniform("test", (windows.draws,), step=number)
        proposal = windows.propose(x, point, torch.full((30,), number), draws)
        size = (proposal - x).flatten(1).norm(dim=1)
        assert torch.allclose(size, torch.full_like(size, EPS["l2"]), rtol=2e-6, atol=0)
        assert not torch.equal(proposal, point)
        point = proposal


@pytest.mark.parametrize("shape", [(3, 3), (5, 5), (25, 25), (1, 7), (1, 1)])
def test_bump_is_two_opposite_pyramids(shape):
    both = bump(*shape)
    assert torch.allclose(both.square().sum(dim=(1, 2)), torch.ones(2, dtype=torch.float64))
    if shape == (5, 5):
        left, right = both[1][:, :2], both[1][:, 2:]
        assert (left > 0).all()
        assert (right < 0).all()
        assert torch.equal(both[0], both[1].T)
        # 1 + 1/4 at the middle, 1/4 one step away, before scaling.
        peak = right[2, 1] / right[1, 0]
        assert peak.item() == pytest.approx((1 + 1 / 4 + 1 / 9) / (1 / 4 + 1 / 9))


def plain_square(model, windows, x, y, stream, queries, ties):
    """Every query of one sample, none skipped."""
    point = windows.first(x, stream)
    loss = margin(model(point), y)
    asked = [point]
    for number in range(queries - 1):
        if (model(asked[-1]).argmax(dim=1) != y).item():
            break
        block = stream.uniform("proposals", (BLOCK, windows.draws), step=number // BLOCK)
        proposal = windows.propose(x, point, torch.tensor([number]), block[:, number % BLOCK])
        asked.append(proposal)
        value = margin(model(proposal), y)
        if (value >= loss if ties else value > loss).item():
            point, loss = proposal, value
    return asked, point


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("ties", [False, True])
def test_square_equals_the_plain_loop(norm, ties):
    model, x, y = curved_problem((1, 6, 6), 5)
    skipped = 0
    for row in range(len(x)):
        one, label, stream = x[row : row + 1], y[row : row + 1], Stream(0, torch.tensor([row]))
        recorder = Recorder(model)
        threat = ThreatModel(norm, EPS[norm])
        found = ATTACKS.bind("square", queries=200, ties=ties)(recorder, one, label, threat, stream)
        asked, best = plain_square(
            model, windows_for(norm, (1, 6, 6)), one, label, stream.at("square"), 200, ties
        )
        sent = [point for points in recorder.points for point in points.split(1)]
        left = iter(asked)
        # The points sent are those of the plain loop, in its order, without idle ones.
        assert all(any(torch.equal(point, other) for other in left) for point in sent)
        last = asked[-1] if (model(asked[-1]).argmax(dim=1) != label).item() else best
        assert torch.allclose(found.x_adv, last, atol=1e-12)
        assert int(found.forwards) == len(sent)
        skipped += len(asked) - len(sent)
    assert (skipped > 0) == (norm == "linf")


def test_ties_walk_on_a_flat_loss():
    x = torch.full((4, 1, 6, 6), 0.5, dtype=torch.float64)
    y = torch.zeros(4, dtype=torch.int64)
    stream, threat = Stream(0, torch.arange(4)), ThreatModel("linf", 0.1)
    first = windows_for("linf", (1, 6, 6))
    first.threat = threat
    start = first.first(x, stream.at("square"))
    strict, walk = (
        ATTACKS.bind("square", queries=50, ties=ties)(
            Constant(trainable=False), x, y, threat, stream
        )
        for ties in (False, True)
    )
    assert torch.equal(strict.x_adv, start)
    assert not any(torch.equal(a, b) for a, b in zip(walk.x_adv, start, strict=True))


def test_queries_bound_the_passes():
    model, x, y = curved_problem((1, 6, 6), 6)
    found = ATTACKS.bind("square", queries=1)(
        model, x, y, ThreatModel("l2", 0.01), Stream(0, torch.arange(6))
    )
    assert found.forwards.tolist() == [1] * 6
    found = ATTACKS.bind("square", queries=130)(
        model, x, y, ThreatModel("l2", 0.001), Stream(0, torch.arange(6))
    )
    assert found.forwards.tolist() == [130] * 6
    assert found.backwards.tolist() == [0] * 6


@pytest.mark.parametrize("short", [False, True])
def test_a_step_can_be_repeated(short):
    """Out of memory in the middle of a step, it is made once more, from the same state."""
    with seeded_initialisation("repeated"):
        net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(144, 20), torch.nn.ReLU())
        net = net.append(torch.nn.Linear(20, 4)).double().eval()
    x = Stream(5, torch.arange(12)).uniform("x", (1, 12, 12), dtype=torch.float64)
    y = net(x).argmax(dim=1)
    windows = LinfWindows(x.shape[1:], ThreatModel("linf", 0.01), 0.8)
    through = shortcut_through(net, x) if short else None
    assert (through is not None) == short
    search = LinfSearch(
        net, Stream(0, torch.arange(12)), windows, queries=100, ties=False, shortcut=through
    )
    state = search.start({"x": x, "y": y, "index": torch.arange(12)})
    moved = 0
    for _ in range(6):
        before = {name: values.clone() for name, values in state.items()}
        after = search.step(state)
        assert all(torch.equal(before[name], state[name]) for name in state)
        again = search.step(state)
        assert all(torch.equal(after[name], again[name]) for name in after)
        moved += int((after["up"] != state["up"]).any())
        state = after
    assert moved >= 3


class FirstPixels(torch.nn.Module):
    """Class 0 everywhere."""

    def forward(self, points):
        flat = points.flatten(1)
        return torch.stack([flat.sum(dim=1) + 99, flat[:, 0], flat[:, 1]], dim=1)


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 8, 12), (2, 3, 4), (1, 1, 9), (17,), (2, 5)])
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_any_shape_stays_inside(shape, norm):
    x = torch.rand(5, *shape, generator=torch.Generator().manual_seed(1)).round()
    threat = ThreatModel(norm, 0.3)
    y = torch.zeros(5, dtype=torch.int64)

    model = FirstPixels()

    found = ATTACKS.bind("square", queries=70, ties=True)(
        model, x, y, threat, Stream(0, torch.arange(5))
    )
    delta = (found.x_adv - x).flatten(1)
    size = delta.abs().amax(dim=1) if norm == "linf" else delta.double().norm(dim=1)
    assert found.x_adv.shape == x.shape
    assert size.max() <= 0.3 + 1e-6
    assert size.min() > 0
    assert found.x_adv.min() >= 0
    assert found.x_adv.max() <= 1
