"""Each layer by itself: what is carried back is below the function at every single point."""

import certify_nets as nets
import pytest
import torch
from torch import nn

from drelu_cli.certify.crown import crown_margins
from drelu_cli.certify.functionals import Functionals, units
from drelu_cli.certify.interval import ball, boxes_through
from drelu_cli.certify.network import layers_of

POINTS = 40


def values(layers, box):
    """Inside and corner points of the box of inputs, and what every layer makes of them."""
    generator = torch.Generator().manual_seed(5)
    share = torch.rand(POINTS, *box[0].shape, generator=generator, dtype=torch.float64)
    share[::2] = share[::2].round()
    points = [(box[0] + share * (box[1] - box[0])).flatten(0, 1)]
    for layer in layers:
        points.append(layer.forward(points[-1]))
    return points


def at(given, point, count):
    """(POINTS, T) values of the functions at points (POINTS * count, ...) of `count` images."""
    found = []
    for rows in point.reshape(POINTS, count, *point.shape[1:]):
        found.append((given.weight * given.gathered(rows)).flatten(1).sum(1) + given.bias)
    return torch.stack(found)


def functions(shape, count):
    """Random functions of whole layers, and of single units, in all corners of a map."""
    generator = torch.Generator().manual_seed(6)
    place = torch.arange(count).repeat(6)
    weight = torch.randn(6 * count, *shape, generator=generator, dtype=torch.float64)
    yield Functionals(
        weight, torch.ones(6 * count, dtype=torch.float64), place, torch.arange(count)
    )
    index = torch.ones(count, *shape).nonzero()
    for sign in (1.0, -1.0):
        yield units(index[:, 0], index[:, 1:], shape, sign)


@pytest.mark.parametrize("kind", nets.LAYER_KINDS)
@pytest.mark.parametrize("eps", [0.02, 0.2])
def test_nothing_carried_back_is_above_the_function_anywhere(kind, eps):
    """Layer by layer, down to the input: equal through linear layers, below through others."""
    model, x = nets.LAYER_KINDS[kind](), nets.images(2)
    box = ball(x, eps)
    layers = layers_of(model, x)
    with torch.no_grad():
        boxes = boxes_through(layers, box)
        points = values(layers, box)
        for top in range(1, len(layers) + 1):
            for given in functions(boxes[top][0].shape[1:], len(x)):
                before = at(given, points[top], len(x))
                for index in range(top - 1, -1, -1):
                    given = layers[index].backwards(boxes[index])(given)
                    now = at(given, points[index], len(x))
                    assert (now <= before + 1e-9).all(), (kind, top, index)
                    if layers[index].undecided(boxes[index]) is None:
                        torch.testing.assert_close(now, before, rtol=1e-9, atol=1e-9)
                    before = now
                assert (given.least(box) <= before + 1e-9).all()


def test_linear_layers_in_a_row_are_as_one():
    """The bounds before a bend see through both: no interval between them."""
    split = nets.chain(
        nn.Flatten(),
        lambda _: nn.Linear(84, 30),
        lambda _: nn.Linear(30, 12),
        nn.Hardtanh(-0.3, 0.3),
        lambda _: nn.Linear(12, nets.CLASSES),
    )
    first, second = split[1], split[2]
    merged = nn.Linear(84, 12).double()
    with torch.no_grad():
        merged.weight.copy_(second.weight @ first.weight)
        merged.bias.copy_(second.weight @ first.bias + second.bias)
    one = nn.Sequential(split[0], merged, split[3], split[4])
    x, y = nets.images(), torch.tensor([0, 1, 2])
    for eps in (0.005, 0.02, 0.1):
        expected = crown_margins(one, x, y, eps)
        torch.testing.assert_close(crown_margins(split, x, y, eps), expected, rtol=1e-9, atol=1e-9)


def test_the_ball_ends_at_the_box():
    x = torch.tensor([[0.0, 0.05, 0.5, 0.95, 1.0]], dtype=torch.float64)
    lower, upper = ball(x, 0.1)
    assert lower.tolist() == [pytest.approx([0.0, 0.0, 0.4, 0.85, 0.9])]
    assert upper.tolist() == [pytest.approx([0.1, 0.15, 0.6, 1.0, 1.0])]
    assert ball(x.float(), 0.1)[0].dtype == torch.float64
