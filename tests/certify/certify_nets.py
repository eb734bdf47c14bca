"""Random networks, boxes around images, and points that try to violate bounds."""

from __future__ import annotations

import torch
from torch import nn

from drelu_cli.activations import ACTIVATIONS
from drelu_cli.activations.capped import DReLU, SReLU
from drelu_cli.models.build import build
from drelu_cli.models.contract import Normalize
from drelu_cli.runtime.streams import seeded_initialisation

SHAPE = (2, 7, 6)
CLASSES = 4
ACTIVATION_NAMES = ACTIVATIONS.builtin_names()


def built(name, activation, placement, seed=0, **options):
    """One of drelu's own architectures with new weights, in float64."""
    with seeded_initialisation("certify", seed):
        model = build(
            name,
            shape=SHAPE,
            classes=CLASSES,
            activation=activation,
            placement=placement,
            mean=(0.3, 0.5),
            std=(0.2, 0.4),
            options=options,
        )
    return sharpened(model.double().eval(), seed)


def sharpened(model, seed=0):
    """Larger weights, biases and caps of all sizes: every bend is somebody's."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.Linear | nn.Conv2d):
                module.weight.mul_(1.5)
                draws = torch.randn(len(module.weight), generator=generator, dtype=torch.float64)
                if module.bias is not None:
                    module.bias.add_(0.3 * draws.to(module.bias))
            if isinstance(module, DReLU):
                draws = torch.rand(module.channels, generator=generator, dtype=torch.float64)
                module.cap.copy_(draws.to(module.cap) - 0.05)
    return model


def chain(*layers, seed=0, shape=SHAPE):
    """`layers` one after another, weights from `seed`; float64, evaluation mode.

    A layer may be a function of dimension 1 of its input that makes it.
    """
    found, point = [], torch.zeros(1, *shape)
    with seeded_initialisation("certify", seed), torch.no_grad():
        for layer in layers:
            found.append(layer if isinstance(layer, nn.Module) else layer(point.shape[1]))
            point = found[-1](point)
    return sharpened(nn.Sequential(*found).double().eval(), seed)


LAYER_KINDS = {
    "linear": lambda: chain(nn.Flatten(), lambda _: nn.Linear(84, CLASSES)),
    "two linear": lambda: chain(
        nn.Flatten(), lambda _: nn.Linear(84, 9), lambda _: nn.Linear(9, CLASSES)
    ),
    "dense relu": lambda: chain(
        nn.Flatten(),
        lambda _: nn.Linear(84, 20),
        nn.ReLU(),
        lambda _: nn.Linear(20, 15, bias=False),
        nn.ReLU(),
        lambda _: nn.Linear(15, CLASSES),
    ),
    "strides and padding": lambda: chain(
        Normalize([0.1, 0.6], [0.5, 0.3]),
        lambda _: nn.Conv2d(2, 5, 3, stride=2, padding=1),
        nn.ReLU(),
        lambda _: nn.Conv2d(5, 6, 2, stride=(2, 1), padding=(1, 0)),
        nn.ReLU(),
        nn.Flatten(),
        lambda f: nn.Linear(f, 7),
        nn.ReLU6(),
        lambda _: nn.Linear(7, CLASSES),
    ),
    "dilation and groups": lambda: chain(
        lambda _: nn.Conv2d(2, 4, 3, dilation=2, padding="same", groups=2),
        nn.Hardtanh(-0.4, 0.7),
        lambda _: nn.Conv2d(4, 4, (3, 2), dilation=(1, 2), padding=(2, 1), groups=2, bias=False),
        nn.ReLU(),
        lambda _: nn.Conv2d(4, 3, 2, stride=3),
        nn.ReLU(),
        nn.Flatten(),
        lambda f: nn.Linear(f, CLASSES),
    ),
    "linear layers in a row": lambda: chain(
        lambda _: nn.Conv2d(2, 3, 3, padding=1),
        lambda _: nn.Conv2d(3, 4, 3, padding=1),
        Normalize([0.1, 0.6, -0.3, 0.2], [0.5, 0.3, 1.5, 0.8]),
        lambda _: nn.Conv2d(4, 4, 2),
        nn.ReLU(),
        lambda _: nn.Conv2d(4, 3, 3, padding=1),
        Normalize([0.1, 0.6, -0.3], [0.5, 0.3, 1.5]),
        lambda _: SReLU(3, 0.5),
        nn.Flatten(),
        lambda f: nn.Linear(f, 6),
        lambda _: nn.Linear(6, CLASSES),
    ),
    "pooling": lambda: chain(
        lambda _: nn.Conv2d(2, 4, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        lambda _: nn.Conv2d(4, 5, 2, padding=1),
        lambda _: DReLU(5, 1.0),
        nn.MaxPool2d(2, stride=1),
        nn.Flatten(),
        lambda f: nn.Linear(f, CLASSES),
    ),
    "overlapping pooling": lambda: chain(
        nn.MaxPool2d(3, stride=2, padding=1),
        lambda _: nn.Conv2d(2, 4, 3, padding=1),
        nn.MaxPool2d((2, 3), stride=1, dilation=(2, 1), padding=(1, 1)),
        nn.MaxPool2d(2, stride=1),
        nn.ReLU(),
        lambda _: nn.Conv2d(4, 4, 3, padding=1),
        nn.MaxPool2d(2, stride=1, padding=1),
        lambda _: nn.Conv2d(4, 3, 2),
        nn.ReLU(),
        nn.Flatten(),
        lambda f: nn.Linear(f, CLASSES),
    ),
    "activation at the input": lambda: chain(
        lambda _: SReLU(2, 0.6),
        nn.Identity(),
        lambda _: nn.Conv2d(2, 4, 3),
        nn.ReLU(),
        nn.Dropout(0.5),
        nn.Flatten(),
        nn.ReLU(),
        lambda f: nn.Linear(f, CLASSES),
    ),
}


def images(count=3, seed=0, shape=SHAPE):
    """(count, *shape) float64 in [0, 1], with pixels at both ends."""
    generator = torch.Generator().manual_seed(seed)
    draws = torch.rand(count, *shape, generator=generator, dtype=torch.float64)
    return (1.4 * draws - 0.2).clamp(0, 1)


def hostile_points(model, box, goal, count=300, rounds=4, seed=0):
    """(M, ...) points of one image's box (1, ...): inside, corners, corners that follow `goal`.

    Args:
        model: differentiable.
        box: lower and upper bounds, (1, ...) each.
        goal: logits (M, K) to (M,): what to make small.
        count: points of each sort.
        rounds: how often the corners follow the gradient.
        seed: of the draws.
    """
    lower, upper = box
    generator = torch.Generator().manual_seed(seed)
    share = torch.rand(count, *lower.shape[1:], generator=generator, dtype=torch.float64)
    inside = lower + share * (upper - lower)
    corners = torch.where(share > 0.5, upper, lower)
    found = [lower, upper, inside, corners]
    moved = torch.cat([inside[: count // 4], corners[: count // 4]])
    for _ in range(rounds):
        moved = moved.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(goal(model(moved)).sum(), moved)
        # A flat spot keeps its point: the gradient of a capped unit is often zero.
        moved = torch.where(gradient > 0, lower, torch.where(gradient < 0, upper, moved))
        found.append(moved.detach())
    return torch.cat(found)


def margins_at(logits, label):
    """(M, K - 1) z_y - z_j, other classes in ascending order."""
    others = [j for j in range(logits.shape[1]) if j != label]
    return logits[:, label, None] - logits[:, others]
