"""Shortcuts of Square: the numbers of the full pass, from less work, or none at all."""

import pytest
import torch
from torch import nn

from drelu_cli.activations.capped import DReLU, SReLU
from drelu_cli.attacks import ATTACKS, convolutions, square
from drelu_cli.attacks.chain import layers_of
from drelu_cli.attacks.conformance_models import Recorder, curved_problem
from drelu_cli.attacks.incremental import shortcut_through
from drelu_cli.attacks.shortcut import Change, window_pixels, windows_at
from drelu_cli.core.records import ThreatModel
from drelu_cli.models.contract import Normalize
from drelu_cli.runtime.streams import Stream, seeded_initialisation


def normalised(shape, *layers):
    return nn.Sequential(Normalize([0.3] * shape[0], [0.5] * shape[0]), *layers)


def dense(shape):
    size = torch.Size(shape).numel()
    return normalised(
        shape, nn.Flatten(), nn.Linear(size, 40), nn.ReLU(), nn.Linear(40, 20), nn.Linear(20, 5)
    )


def capped_dense(shape):
    size = torch.Size(shape).numel()
    return normalised(shape, nn.Flatten(), nn.Linear(size, 30), DReLU(30, 0.4), nn.Linear(30, 5))


def _head(features):
    return nn.Sequential(nn.Flatten(), nn.Linear(features, 12), DReLU(12, 0.6), nn.Linear(12, 5))


def shallow(shape):
    high, wide = shape[1] // 2 // 2, shape[2] // 2 // 2
    return normalised(
        shape,
        nn.Conv2d(shape[0], 6, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(6, 8, 3, padding=1),
        SReLU(8, 0.7),
        nn.MaxPool2d(2),
        _head(8 * high * wide),
    )


def strided(shape):
    body = nn.Sequential(
        nn.Conv2d(shape[0], 6, 4, stride=2, padding=1),
        DReLU(6, 0.5),
        nn.BatchNorm2d(6),
        nn.Conv2d(6, 8, (3, 2), stride=(2, 1), padding=(0, 1), bias=False),
        nn.ReLU(),
    )
    return normalised(shape, body, _head(body(torch.zeros(1, *shape)).numel()))


def odd(shape):
    """Overlapping poolings, dilation, groups, a stride that leaves pixels out."""
    body = nn.Sequential(
        nn.ReLU(),
        nn.Conv2d(shape[0], 6, 3, padding=(2, 0), dilation=(2, 1)),
        nn.Tanh(),
        nn.MaxPool2d(3, 2),
        nn.Conv2d(6, 6, 1, stride=2, groups=3),
        nn.Identity(),
        nn.AvgPool2d((1, 2), 1),
    )
    return normalised(shape, body, _head(body(torch.zeros(1, *shape)).numel()))


NETS = [dense, capped_dense, shallow, strided, odd]
SHAPES = [(1, 16, 16), (3, 17, 20)]
CONVOLUTIONS = [shallow, strided, odd]


def problem(make, shape, count, dtype=torch.float64):
    with seeded_initialisation("incremental", make.__name__):
        model = make(shape).to(dtype).eval()
    drawn = Stream(3, torch.arange(count)).normal("x", shape, dtype=dtype)
    x = (0.5 + 0.3 * drawn).clamp(0, 1)
    with torch.no_grad():
        # No class leads everywhere, so that some samples lie near a border.
        list(model.modules())[-1].bias.sub_(model(x).mean(dim=0))
        return model, x, model(x).argmax(dim=1)


def random_change(up, side, seed):
    """One window for every second sample, corners among them."""
    count, channels, height, width = up.shape
    rows = torch.arange(0, count, 2)
    draws = Stream(seed, rows).uniform("test", (2 + channels,))
    draws[:2, :2] = torch.tensor([[0.0, 0.0], [1 - 2.0**-24, 1 - 2.0**-24]])
    top = (draws[:, 0] * (height - side + 1)).long()
    left = (draws[:, 1] * (width - side + 1)).long()
    standing = windows_at(up, rows, top, left, (side, side))
    return Change(rows, top, left, draws[:, 2:] >= 0.5, standing)


def with_change(up, change):
    changed = up.flatten(1).clone()
    signs = change.signs[..., None, None].expand_as(change.standing).flatten(1)
    changed[change.rows[:, None], window_pixels(change, *up.shape[2:])] = signs
    return changed.view(up.shape)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("make", NETS)
def test_windowed_logits_are_those_of_the_model(make, shape):
    model, x, _ = problem(make, shape, 12)
    shortcut = shortcut_through(model, x)
    low, high = (x - 0.1).clamp(0, 1), (x + 0.1).clamp(0, 1)
    up = Stream(1, torch.arange(12)).signs("up", shape) > 0
    used = 0
    with torch.no_grad():
        fixed, memos = shortcut.fixed(low, high), shortcut.blank(low)
        rows = torch.arange(12)
        logits, kept = shortcut.full(torch.where(up, high, low), rows)
        assert torch.allclose(logits, model(torch.where(up, high, low)), atol=1e-12)
        kept.write(memos, rows)
        for seed, side in enumerate((1, 1, 2, 3, 4, 5, 7, 3, 2, 1, 16)):
            change = random_change(up, side, seed)
            changed = with_change(up, change)
            found = shortcut.windowed(fixed, memos, change)
            points = torch.where(changed, high, low)[change.rows]
            if found is None:
                found = shortcut.full(points, change.rows)
            else:
                used += 1
            logits, kept = found
            assert torch.allclose(logits, model(points), atol=1e-12)
            # Some are accepted: later windows build upon them.
            accepted = torch.tensor([0, 2, 3])
            kept.write(memos, accepted)
            chosen = change.rows[accepted]
            up[chosen] = changed[chosen]
    assert used >= 5


def without_shortcut(monkeypatch):
    monkeypatch.setattr(square, "shortcut_through", lambda model, x: None)


def attacked(model, x, y, eps, **options):
    stream = Stream(0, torch.arange(len(x)))
    return ATTACKS.bind("square", **options)(model, x, y, ThreatModel("linf", eps), stream)


def wrong(model, points, y):
    with torch.no_grad():
        return model(points).argmax(dim=1) != y


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("make", NETS)
def test_outcomes_are_those_without_the_shortcut(make, ties, monkeypatch):
    model, x, y = problem(make, (1, 16, 16), 24)
    assert shortcut_through(model, x) is not None
    eps = 0.02
    short = attacked(model, x, y, eps, queries=250, ties=ties)
    without_shortcut(monkeypatch)
    plain = attacked(model, x, y, eps, queries=250, ties=ties)
    broken = wrong(model, plain.x_adv, y)
    assert 0 < broken.sum() < 24
    assert torch.equal(wrong(model, short.x_adv, y), broken)
    if make in (strided, odd):
        # Pixels that no output depends on: equal losses, which rounding may tell apart.
        return
    assert torch.equal(short.x_adv, plain.x_adv)
    # A misclassified point is confirmed by a pass of its own.
    assert torch.equal(short.forwards, plain.forwards + broken.long())


@pytest.mark.parametrize("make", [dense, shallow])
def test_float32_outcomes_hardly_differ(make, monkeypatch):
    model, x, y = problem(make, (1, 16, 16), 300, torch.float32)
    short = wrong(model, attacked(model, x, y, 0.02, queries=150).x_adv, y)
    without_shortcut(monkeypatch)
    plain = wrong(model, attacked(model, x, y, 0.02, queries=150).x_adv, y)
    assert 50 < plain.sum() < 250
    assert (short != plain).sum() <= 1


@pytest.mark.parametrize("make", CONVOLUTIONS)
def test_small_windows_cost_a_part_of_the_convolutions(make, monkeypatch):
    model, x, y = problem(make, (1, 28, 28), 4)
    computed = []
    convolve = convolutions.F.conv2d

    def counted(inputs, weight, *rest, **options):
        found = convolve(inputs, weight, *rest, **options)
        computed.append(found.numel() * weight[0].numel())
        return found

    monkeypatch.setattr(convolutions.F, "conv2d", counted)
    found = attacked(model, x, y, 1e-6, queries=600)
    short, passes = sum(computed), int(found.forwards.sum())
    computed.clear()
    shortcut_through(model, x).full(x, torch.arange(4))
    # The first two calls' convolutions go through the modules, not through here.
    assert 0 < short < 0.6 * passes * sum(computed) / 4


class Doubled(nn.Sequential):
    def forward(self, x):
        return 2 * super().forward(x)


class Foreign(nn.Module):
    def forward(self, x):
        return x


def test_what_is_not_a_plain_chain_is_asked_itself():
    model, x, _ = problem(dense, (1, 16, 16), 4)
    assert layers_of(model, x) is not None
    for other in (
        Recorder(model),
        Doubled(*model),
        nn.Sequential(Foreign(), *model),
        nn.Sequential(nn.Softmax(dim=-1), *model),
        nn.Sequential(nn.Dropout(), *model).train(),
    ):
        assert shortcut_through(other, x) is None
    model[2].register_forward_hook(lambda *_: None)
    assert shortcut_through(model, x) is None


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(1, 4, 3, padding="same"),
        nn.Conv2d(1, 4, 3, padding=1, padding_mode="reflect"),
        nn.ConvTranspose2d(1, 4, 3, padding=1),
        nn.MaxPool2d(2),
    ],
)
def test_unusual_first_layers_are_left_to_the_model(layer):
    body = nn.Sequential(layer, nn.AdaptiveAvgPool2d(2), nn.Flatten())
    features = body(torch.zeros(1, 1, 16, 16)).numel()
    model = nn.Sequential(body, nn.Linear(features, 5)).eval()
    assert shortcut_through(model, torch.rand(2, 1, 16, 16)) is None


def test_a_replaced_forward_is_seen():
    model, x, _ = problem(dense, (1, 16, 16), 4)
    model[1].forward = lambda x: x.flatten(1) + 1
    assert shortcut_through(model, x) is None


def test_finished_samples_are_not_asked_again():
    model, x, y = curved_problem((1, 6, 6), 40)
    recorder = Recorder(model)
    found = attacked(recorder, x, y, 0.05, queries=60)
    assert 0 < wrong(model, found.x_adv, y).sum() < 40
    assert int(found.forwards.sum()) == sum(len(points) for points in recorder.points)
