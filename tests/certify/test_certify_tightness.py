"""Bounds that are sound could still be useless: what they must reach."""

import certify_nets as nets
import pytest
import torch
from torch import nn

from drelu_cli.activations import ACTIVATIONS
from drelu_cli.certify import crown
from drelu_cli.certify.crown import crown_margins
from drelu_cli.certify.functionals import Functionals
from drelu_cli.certify.interval import ball, interval_bounds
from drelu_cli.certify.layers import Convolution, Flatten
from drelu_cli.certify.network import layers_of
from drelu_cli.certify.pooling import MaxPooling
from drelu_cli.certify.relaxations import Clamp

NO_CLAMP = Clamp(*(torch.tensor(end, dtype=torch.float64) for end in (-torch.inf, torch.inf)))


def close(a, b):
    torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("kind", ["linear", "two linear"])
@pytest.mark.parametrize("eps", [0.0, 0.03, 0.3, 2.0])
def test_linear_nets_have_a_closed_form(kind, eps):
    """min over the box of w x + b = w c + b - |w| r, with w the difference of two rows."""
    model = nets.LAYER_KINDS[kind]()
    x, y = nets.images(), torch.tensor([0, 3, 1])
    unit = torch.eye(84, dtype=torch.float64).reshape(84, *nets.SHAPE)
    offset = model(torch.zeros_like(unit[:1])).detach()
    matrix = (model(unit) - offset).detach().T
    low, high = (end.flatten(1) for end in ball(x, eps))
    expected = []
    for index, label in enumerate(y.tolist()):
        rows = nets.margins_at(matrix.T, label).T
        center, radius = (low + high)[index] / 2, (high - low)[index] / 2
        bias = nets.margins_at(offset, label)[0]
        expected.append(rows @ center + bias - rows.abs() @ radius)
    for tighten in (True, False):
        close(crown_margins(model, x, y, eps, tighten=tighten), torch.stack(expected))
    if kind == "linear":
        below, above = interval_bounds(model, *ball(x, eps))
        center, radius = (low + high) / 2, (high - low) / 2
        close(below, center @ matrix.T + offset - radius @ matrix.T.abs())
        close(above, center @ matrix.T + offset + radius @ matrix.T.abs())


@pytest.mark.parametrize("kind", nets.LAYER_KINDS)
def test_bounds_of_a_point_are_its_logits(kind):
    model, x = nets.LAYER_KINDS[kind](), nets.images()
    y = torch.tensor([2, 0, 1])
    logits = model(x).detach()
    for end in interval_bounds(model, x, x):
        close(end.detach(), logits)
    expected = torch.stack(
        [nets.margins_at(logits[i : i + 1], label)[0] for i, label in enumerate(y.tolist())]
    )
    close(crown_margins(model, x, y, 0.0), expected)


@pytest.mark.parametrize("kind", nets.LAYER_KINDS)
def test_never_looser_than_intervals_and_never_better_at_a_larger_radius(kind):
    model, x = nets.LAYER_KINDS[kind](), nets.images()
    y = model(x).argmax(1)
    before = None
    for eps in (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0):
        low, high = (end.detach() for end in interval_bounds(model, *ball(x, eps)))
        plain = torch.stack(
            [
                low[i, label] - high[i, [j for j in range(nets.CLASSES) if j != label]]
                for i, label in enumerate(y.tolist())
            ]
        )
        tight = crown_margins(model, x, y, eps)
        assert (tight >= plain - 1e-9).all()
        if before is not None:
            assert (tight <= before + 1e-9).all(), eps
        before = tight


def test_a_cap_that_is_never_reached_changes_nothing():
    x, y = nets.images(), torch.tensor([0, 1, 2])

    def net(activation):
        return nets.chain(
            nn.Flatten(),
            lambda f: nn.Linear(f, 12),
            nn.ReLU(),
            lambda f: nn.Linear(f, 10),
            lambda f: activation(f),
            lambda f: nn.Linear(f, nets.CLASSES),
        )

    expected = crown_margins(net(ACTIVATIONS.bind("relu")), x, y, 0.1)
    close(crown_margins(net(ACTIVATIONS.bind("srelu", cap=1e6)), x, y, 0.1), expected)


def test_capped_nets_are_bounded_far_tighter_than_by_two_relus():
    """min(max(0, x), m) as ReLU(x) - ReLU(x - m) loses what the two ReLUs share."""
    x, y = nets.images(), torch.tensor([0, 1, 2])
    model = nets.chain(
        nn.Flatten(),
        lambda f: nn.Linear(f, 12),
        lambda f: ACTIVATIONS.bind("srelu", cap=0.5)(f),
        lambda f: nn.Linear(f, nets.CLASSES),
    )
    first, last = model[1], model[3]
    twins = nn.Sequential(nn.Flatten(), nn.Linear(84, 24), nn.ReLU(), nn.Linear(24, 4)).double()
    with torch.no_grad():
        twins[1].weight.copy_(torch.cat([first.weight, first.weight]))
        twins[1].bias.copy_(torch.cat([first.bias, first.bias - 0.5]))
        twins[3].weight.copy_(torch.cat([last.weight, -last.weight], dim=1))
        twins[3].bias.copy_(last.bias)
    close(model(x), twins(x))
    for eps in (0.1, 0.5):
        direct, split = (crown_margins(net, x, y, eps) for net in (model, twins))
        assert (direct >= split - 1e-9).all()
        assert (direct - split).mean() > 0.1


def as_dense(model, x):
    """A net of convolutions written as one of `nn.Linear`s on flat images."""
    layers, point = [nn.Flatten()], x[:1]
    for layer in model:
        if isinstance(layer, nn.Conv2d):
            zero = torch.zeros_like(point)
            unit = torch.eye(zero.numel(), dtype=x.dtype).reshape(-1, *zero.shape[1:])
            bias = layer(zero).flatten()
            dense = nn.Linear(zero.numel(), bias.numel()).to(x.dtype)
            with torch.no_grad():
                dense.weight.copy_((layer(unit).flatten(1) - bias).T)
                dense.bias.copy_(bias)
            layers.append(dense)
        elif not isinstance(layer, nn.Flatten):
            layers.append(layer)
        point = layer(point)
    return nn.Sequential(*layers).to(x.dtype)


@pytest.mark.parametrize("eps", [0.02, 0.1, 0.4])
def test_windows_of_convolutions_lose_nothing(eps):
    """Receptive fields are a way to compute, not another bound."""
    model = nets.chain(
        lambda _: nn.Conv2d(2, 3, 3, padding=1),
        lambda _: nn.Conv2d(3, 5, 3, stride=2, padding=1),
        nn.ReLU(),
        lambda _: nn.Conv2d(5, 6, 2, stride=(2, 1), padding=(1, 0)),
        nn.Hardtanh(-0.2, 0.4),
        lambda _: nn.Conv2d(6, 4, 2, dilation=2, padding=2),
        nn.ReLU6(),
        nn.Flatten(),
        lambda f: nn.Linear(f, 7),
        nn.ReLU(),
        lambda f: nn.Linear(f, nets.CLASSES),
    )
    x, y = nets.images(), torch.tensor([3, 1, 0])
    dense = as_dense(model, x)
    close(model(x), dense(x))
    for tighten in (True, False):
        close(
            crown_margins(model, x, y, eps, tighten=tighten),
            crown_margins(dense, x, y, eps, tighten=tighten),
        )


@pytest.mark.parametrize("kind", nets.LAYER_KINDS)
def test_units_that_are_decided_need_no_tight_bounds(kind, monkeypatch):
    model, x = nets.LAYER_KINDS[kind](), nets.images()
    y = torch.tensor([3, 1, 0])
    counted = []
    tighten = crown._tightened

    def counting(here, undecided, steps, box):
        counted.append((int(undecided.sum()), undecided.numel()))
        return tighten(here, undecided, steps, box)

    monkeypatch.setattr(crown, "_tightened", counting)
    expected = crown_margins(model, x, y, 0.02)
    if "pooling" not in kind:
        # Nearly all windows of a random net are undecided.
        assert all(some < every for some, every in counted)
    for layer in (Clamp, MaxPooling):
        monkeypatch.setattr(
            layer, "undecided", lambda self, box: torch.ones_like(box[0], dtype=torch.bool)
        )
    close(crown_margins(model, x, y, 0.02), expected)


def test_pooling_and_clamp_are_one_layer_in_either_order():
    def net(*middle):
        return nets.chain(
            lambda _: nn.Conv2d(2, 8, 3, padding=1),
            *middle,
            nn.Flatten(),
            lambda f: nn.Linear(f, nets.CLASSES),
        )

    x, y = nets.images(), torch.tensor([0, 1, 2])
    before = net(nn.Hardtanh(-0.1, 0.4), nn.MaxPool2d(2))
    after = net(nn.MaxPool2d(2), nn.Hardtanh(-0.1, 0.4))
    assert [type(layer) for layer in layers_of(before, x)][:3] == [Convolution, MaxPooling, Flatten]
    close(crown_margins(before, x, y, 0.1), crown_margins(after, x, y, 0.1))


GRID = torch.linspace(0, 1, 401, dtype=torch.float64)[:, None]


def intervals(count=1000):
    """(count,) lower and upper ends of all sizes, points among them."""
    generator = torch.Generator().manual_seed(0)
    draws = torch.randn(2, count, generator=generator, dtype=torch.float64) * 2
    draws[:, :50] = draws[0, :50]
    draws[0, 50:60], draws[1, 60:70] = 0.0, 1.0
    return draws.amin(0), draws.amax(0)


@pytest.mark.parametrize(
    ("low", "high"), [(0.0, torch.inf), (0.0, 1.0), (0.0, 0.0), (-1.0, 1.0), (-0.3, -0.1)]
)
def test_the_two_lines_of_a_clamp(low, high):
    """Nowhere crossed, touching f, and of the least area among lines through the bends."""
    lower, upper = intervals()
    clamp = Clamp(*(torch.tensor(end, dtype=torch.float64) for end in (low, high)))
    lines = clamp.lines((lower, upper))
    x = lower + GRID * (upper - lower)
    above = lines.high_slope * x + lines.high_offset - clamp.forward(x)
    below = clamp.forward(x) - lines.low_slope * x - lines.low_offset
    wide = upper - lower > 1e-3
    for gap in (above, below):
        assert gap.min() >= -1e-12
        # The bends lie between the grid's points.
        assert (gap.amin(0) <= (upper - lower) / 400 + 1e-12).all()
    for slope in (lines.low_slope, lines.high_slope):
        assert ((slope >= 0) & (slope <= 1)).all()
    # No line of another slope that stays on its side has a smaller area.
    for slope in torch.linspace(0, 1, 41, dtype=torch.float64):
        rest = clamp.forward(x) - slope * x
        other_above = rest.amax(0) - rest
        other_below = rest - rest.amin(0)
        slack = 2 * (upper - lower)[wide] / 400
        assert (above.mean(0)[wide] <= other_above.mean(0)[wide] + slack).all()
        assert (below.mean(0)[wide] <= other_below.mean(0)[wide] + slack).all()


@pytest.mark.parametrize(
    ("low", "high"), [(-torch.inf, torch.inf), (0.0, torch.inf), (0.0, 0.7), (-1.0, 0.0)]
)
def test_the_two_functions_of_a_window(low, high):
    """Nowhere crossed; where nothing is capped, the upper one is not above CROWN's constant."""
    lower, upper = (end.reshape(1000, 1, 2, 2) for end in intervals(4000))
    clamp = Clamp(*(torch.tensor(end, dtype=torch.float64) for end in (low, high)))
    pool = MaxPooling((2, 2), (2, 2), (0, 0), (1, 1), clamp)
    every = torch.arange(1000)
    found = []
    for sign in (1.0, -1.0):
        weight = torch.full((1000, 1, 1, 1), sign, dtype=torch.float64)
        given = Functionals(weight, weight.new_zeros(1000), every, every)
        found.append(pool.backwards((lower, upper))(given))
    below, above = found
    generator = torch.Generator().manual_seed(1)
    for _ in range(200):
        share = torch.rand(lower.shape, generator=generator, dtype=torch.float64)
        for x in (lower + share * (upper - lower), torch.where(share > 0.5, upper, lower)):
            true = pool.forward(x).flatten()
            assert (true >= (below.weight * x).flatten(1).sum(1) + below.bias - 1e-12).all()
            assert (true <= -(above.weight * x).flatten(1).sum(1) - above.bias + 1e-12).all()
    constant = pool.forward(upper).flatten()
    uncut = constant < high
    assert uncut.any()
    assert (-above.least((lower, upper)) <= constant + 1e-12)[uncut].all()
    # One entry that is always the largest leaves nothing to relax but f.
    alone = lower.flatten(1).amax(1) >= upper.flatten(1).topk(2).values[:, 1]
    assert alone.any()
    assert below.weight[alone].flatten(1).count_nonzero(1).max() <= 1


def test_relu_by_hand():
    """[-1, 3]: above 3/4 (x + 1), below x. [-3, 1]: above 1/4 (x + 3), below 0."""
    clamp = Clamp(torch.tensor(0.0), torch.tensor(torch.inf))
    lines = clamp.lines((torch.tensor([-1.0, -3.0]), torch.tensor([3.0, 1.0])))
    assert lines.high_slope.tolist() == [0.75, 0.25]
    assert lines.high_offset.tolist() == [0.75, 0.75]
    assert lines.low_slope.tolist() == [1.0, 0.0]
    assert lines.low_offset.tolist() == [0.0, 0.0]


def test_a_clamp_bent_twice_by_hand():
    """[-1, 4] between 0 and 2: above, 2 / 3 (x + 1) is worse than 2; below, 2 / 4 x."""
    clamp = Clamp(torch.tensor(0.0), torch.tensor(2.0))
    lines = clamp.lines((torch.tensor([-1.0, -1.0]), torch.tensor([4.0, 3.0])))
    assert lines.high_slope.tolist() == pytest.approx([2 / 3, 2 / 3])
    assert lines.high_offset.tolist() == pytest.approx([2 / 3, 2 / 3])
    assert lines.low_slope.tolist() == pytest.approx([0.5, 2 / 3])
    assert lines.low_offset.tolist() == [0.0, 0.0]


def test_pooling_by_hand():
    """Entries in [0, 2] and [1, 3] (two more far below): above, the chord 2 + (x - 1) / 2."""
    pool = MaxPooling((2, 2), (2, 2), (0, 0), (1, 1), NO_CLAMP)
    lower = torch.tensor([[[[0.0, 1.0], [-9.0, -9.0]]]], dtype=torch.float64)
    upper = torch.tensor([[[[2.0, 3.0], [-8.0, 0.5]]]], dtype=torch.float64)
    assert pool.undecided((lower, upper)).tolist() == [[[[True, True], [False, False]]]]
    for sign, expected, bias in ((1.0, [0.0, 1.0, 0.0, 0.0], 0.0), (-1.0, [0, -0.5, 0, 0], -1.5)):
        nothing = torch.zeros(1, dtype=torch.int64)
        weight = torch.full((1, 1, 1, 1), sign, dtype=torch.float64)
        given = Functionals(weight, torch.zeros(1, dtype=torch.float64), nothing, nothing)
        found = pool.backwards((lower, upper))(given)
        assert found.weight.flatten().tolist() == expected
        assert found.bias.tolist() == [bias]


def test_flattening_keeps_the_order():
    box = (torch.zeros(1, 2, 3, 4), torch.ones(1, 2, 3, 4))
    weight = torch.arange(24.0).reshape(1, 24)
    nothing = torch.zeros(1, dtype=torch.int64)
    found = Flatten().backwards(box)(Functionals(weight, torch.zeros(1), nothing, nothing))
    assert torch.equal(found.weight.flatten(1), weight)
    assert found.weight.shape == (1, 2, 3, 4)
