"""Gradients layer by layer are autograd's: every architecture, activation and kind of layer."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from drelu_cli.activations import ACTIVATIONS
from drelu_cli.activations.capped import DReLU, SReLU
from drelu_cli.activations.plain import Hardtanh
from drelu_cli.activations.surrogate import with_surrogate
from drelu_cli.attacks.gradient import forward, forward_backward
from drelu_cli.attacks.layerwise import steps_of
from drelu_cli.attacks.losses import ce_rescaled, cross_entropy, dlr, margin
from drelu_cli.models.build import build
from drelu_cli.runtime.streams import Stream, seeded_initialisation

LOSSES = [cross_entropy, ce_rescaled, dlr, margin]
SHAPES = [(1, 12, 12), (3, 9, 9)]


def noise(shape, count=6):
    """No two pixels alike: rounding never decides between two maxima."""
    return Stream(0, torch.arange(count)).uniform("x", shape, dtype=torch.float64)


def pictures(shape, count=6):
    """Coarse pixels on a black ground: ties in every pooling window, as on MNIST."""
    x = noise(shape, count)
    return (x * 3).round().div(3) * (x > 0.5)


def built(name, activation, shape, placement="head", **options):
    with seeded_initialisation(0):
        model = build(
            name,
            shape=shape,
            classes=5,
            activation=ACTIVATIONS.bind(activation),
            placement=placement,
            mean=[0.2] * shape[0],
            std=[0.3] * shape[0],
            options=options,
        )
    for module in model.modules():
        if isinstance(module, DReLU):
            # Some units beyond their caps, some caps at 0.
            module.cap.data = torch.linspace(0.0, 2.0, module.channels)
    return model.eval()


def by_autograd(model, x, y, loss):
    leaf = x.clone().requires_grad_()
    logits = model(leaf)
    values = loss(logits, y)
    return logits.detach(), values.detach(), torch.autograd.grad(values.sum(), leaf)[0]


def agrees(model, x, y, loss):
    """float64: bit for bit; float32: to rounding."""
    given = [(parameter, parameter.grad) for parameter in model.parameters()]
    before = x.clone()
    logits, values, gradient = by_autograd(model, x, y, loss)
    seen, looked = forward_backward(model, x, y, loss), forward(model, x, y, loss)
    assert torch.equal(seen.wrong, logits.argmax(dim=1) != y)
    assert torch.equal(x, before)
    assert all(parameter.grad is grad for parameter, grad in given)
    assert seen.gradient.is_contiguous()
    if x.dtype == torch.float64:
        assert torch.equal(seen.gradient, gradient)
        assert torch.equal(seen.loss, values)
        assert torch.equal(looked.loss, values)
        return
    assert (seen.gradient - gradient).abs().max() <= 1e-5 * gradient.abs().max()
    assert torch.allclose(seen.loss, values, rtol=1e-5, atol=1e-6)
    assert torch.allclose(looked.loss, values, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("activation", ACTIVATIONS.names())
@pytest.mark.parametrize("placement", ["head", "stem", "all"])
@pytest.mark.parametrize("name", ["dense", "shallow_cnn"])
def test_chains_of_the_package(name, placement, activation, shape):
    model = built(name, activation, shape, placement)
    x, y = pictures(shape), torch.tensor([0, 1, 2, 3, 4, 0])
    agrees(model.float(), noise(shape).float(), y, cross_entropy)
    model.double()
    assert (steps_of(model, x) is None) == (placement == "all")
    for loss in LOSSES:
        agrees(model, x, y, loss)


def test_a_resnet_stays_with_autograd():
    model = built("resnet18", "relu", (3, 8, 8))
    x, y = pictures((3, 8, 8)), torch.tensor([0, 1, 2, 3, 4, 0])
    assert steps_of(model, x.float()) is None
    agrees(model.double(), x, y, cross_entropy)


LAYERS = {
    "strides": [nn.Conv2d(2, 4, 3, stride=2, padding=1), nn.ReLU()],
    "no padding": [nn.Conv2d(2, 4, (3, 2)), nn.ReLU()],
    "uneven padding": [nn.Conv2d(2, 4, (3, 5), padding=(0, 2)), nn.ReLU()],
    "padding beyond the window": [nn.Conv2d(2, 4, 1, padding=2), nn.ReLU()],
    "padding by name": [nn.Conv2d(2, 4, 3, padding="same"), nn.ReLU()],
    "circular": [nn.Conv2d(2, 4, 3, padding=1, padding_mode="circular"), nn.ReLU()],
    "groups": [nn.Conv2d(2, 4, 3, groups=2), nn.ReLU()],
    "dilation": [nn.Conv2d(2, 4, 3, dilation=2), nn.ReLU()],
    "no bias": [nn.Conv2d(2, 4, 3, bias=False), nn.ReLU()],
    "overlapping windows": [nn.Conv2d(2, 4, 3), nn.ReLU6(), nn.MaxPool2d(3, 2, 1)],
    "odd sizes": [nn.Conv2d(2, 4, 3, padding=1), SReLU(4, 0.2), nn.MaxPool2d(2)],
    "rounded up": [nn.Conv2d(2, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2, ceil_mode=True)],
    "pooling first": [nn.MaxPool2d(2), nn.Conv2d(2, 4, 3), Hardtanh(4)],
    "clamps the input": [nn.ReLU(), nn.Conv2d(2, 4, 3)],
    "two clamps": [nn.Conv2d(2, 4, 3), nn.ReLU(), nn.Hardtanh(-0.1, 0.2), SReLU(4, 0.1)],
    "two clamps, pooled": [nn.Conv2d(2, 4, 3), Hardtanh(4), nn.ReLU(), nn.MaxPool2d(2)],
    "in place": [nn.Conv2d(2, 4, 3), nn.ReLU(inplace=True), nn.MaxPool2d(2)],
    "smooth in place": [nn.Conv2d(2, 4, 3), nn.SiLU(inplace=True)],
    "batch norm": [nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.AvgPool2d(2)],
    "dropout": [nn.Conv2d(2, 4, 3), nn.Dropout(0.5), nn.Identity(), nn.LeakyReLU()],
    "a dead end": [nn.Conv2d(2, 4, 3), nn.Sequential(), nn.GELU()],
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", LAYERS)
def test_layers_one_by_one(name, dtype):
    with seeded_initialisation(1):
        body = nn.Sequential(*LAYERS[name], nn.Flatten(), nn.LazyLinear(5)).double().eval()
        x, y = pictures((2, 9, 9)), torch.tensor([0, 1, 2, 3, 4, 0])
        body(x)
        for parameter in body.parameters():
            parameter.data = Stream(0, torch.zeros(1, dtype=torch.int64)).normal(
                str(tuple(parameter.shape)), tuple(parameter.shape), dtype=torch.float64
            )[0]
    x = noise((2, 9, 9)).float() if dtype == torch.float32 else x
    agrees(body.to(dtype), x, y, cross_entropy)


@pytest.mark.parametrize("slope", ["relu", "leaky_cap", "soft_cap"])
def test_surrogate_backward_passes(slope):
    model = with_surrogate(built("shallow_cnn", "drelu", (1, 12, 12)), slope).eval()
    x, y = pictures((1, 12, 12)), torch.tensor([0, 1, 2, 3, 4, 0])
    assert steps_of(model, x.float()) is not None
    agrees(model.double(), x, y, cross_entropy)


class Doubled(nn.Linear):
    def forward(self, point):
        return 2 * super().forward(point)


def test_what_may_do_anything_stays_with_autograd():
    def chain(last):
        return nn.Sequential(nn.Flatten(), last).eval()

    def watched(register):
        model = chain(nn.Linear(144, 5))
        getattr(model[1], register)(lambda *_: None)
        return model

    def replaced():
        model = chain(nn.Linear(144, 5))
        model[1].forward = lambda point: F.linear(point, torch.ones(5, 144))
        return model

    x = pictures((1, 12, 12)).float()
    assert steps_of(chain(nn.Linear(144, 5)), x) is not None
    others = [
        chain(Doubled(144, 5)),
        chain(nn.utils.parametrizations.weight_norm(nn.Linear(144, 5))),
        chain(nn.Linear(144, 5).double()),
        replaced(),
        *map(
            watched,
            [
                "register_forward_hook",
                "register_forward_pre_hook",
                "register_full_backward_hook",
                "register_full_backward_pre_hook",
            ],
        ),
    ]
    assert [steps_of(model, x) for model in others] == [None] * len(others)
    assert steps_of(built("dense", "relu", (1, 8, 8)), x) is None
    with torch.autocast("cpu"):
        assert steps_of(chain(nn.Linear(144, 5)), x) is None
