"""Small models with known answers, for `conformance`."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from drelu_cli.core.records import Norm
from drelu_cli.runtime.streams import Stream

DUAL = {"linf": 1, "l2": 2}
FLOOR = (-20.0, -21.0)  # logits of two more classes: never the largest; DLR losses need four


class TwoSided(nn.Module):
    """Logits (u, -u, *FLOOR) with u = w . x + b: one hyperplane between the classes 0 and 1."""

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight)
        self.bias = nn.Parameter(bias)

    def forward(self, x: Tensor) -> Tensor:
        """(n, ...) -> (n, 4)."""
        u = x.flatten(1) @ self.weight + self.bias
        return torch.stack([u, -u, *(torch.full_like(u, low) for low in FLOOR)], dim=1)


class Constant(nn.Module):
    """The same logits for every input; class 0 wins."""

    def __init__(self, *, trainable: bool) -> None:
        super().__init__()
        logits = torch.tensor([1.0, 0.0, -1.0, -2.0], dtype=torch.float64)
        self.logits = nn.Parameter(logits, requires_grad=trainable)

    def forward(self, x: Tensor) -> Tensor:
        """(n, ...) -> (n, 4)."""
        return self.logits.expand(len(x), 4)


class NanBeyond(nn.Module):
    """`model` where class 0 wins, NaN elsewhere."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        """(n, ...) -> (n, 4)."""
        logits: Tensor = self.model(x)
        return logits.masked_fill((logits[:, :1] <= logits[:, 1:2]), torch.nan)


class NanSlope(nn.Module):
    """`model` with NaN as the gradient to the input."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        """(n, ...) -> (n, 4)."""
        nothing = 0.0 * torch.sqrt(0.0 * x).flatten(1).sum(dim=1, keepdim=True)
        logits: Tensor = self.model(x)
        return logits + nothing


class Recorder(nn.Module):
    """`model`, remembering every point it was asked about."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.points: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        """(n, ...) -> (n, K)."""
        self.points.append(x.detach().clone())
        logits: Tensor = self.model(x)
        return logits


class Raises(nn.Module):
    """`model` for some calls, then an exception."""

    class Failure(RuntimeError):
        """What it raises."""

    def __init__(self, model: nn.Module, *, after: int) -> None:
        super().__init__()
        self.model = model
        self.left = after

    def forward(self, x: Tensor) -> Tensor:
        """(n, ...) -> (n, K)."""
        if self.left == 0:
            raise Raises.Failure("this model fails on purpose")
        self.left -= 1
        logits: Tensor = self.model(x)
        return logits


@dataclass(frozen=True)
class Problem:
    """Samples of a linear model, some within reach of the radius and some not."""

    model: nn.Module
    x: Tensor
    y: Tensor
    reachable: Tensor


def linear_problem(
    norm: Norm, shape: tuple[int, ...], count: int, eps: float, slack: float
) -> Problem:
    """`count` samples at distance eps / slack (even ones) or eps * slack (odd ones); float64.

    All lie far enough inside the box that it does not cut the ball.
    """
    size = torch.Size(shape).numel()
    weight = _normal("weight", size)
    reachable = torch.arange(count) % 2 == 0
    away = torch.where(reachable, eps / slack, eps * slack).double()
    upper = torch.arange(count) % 4 < 2
    u = torch.where(upper, away, -away) * weight.norm(p=DUAL[norm])
    # Random points of the hyperplane through the middle of the box, moved to the margin u.
    spread = 0.05 * torch.stack([_normal(f"x{row}", size) for row in range(count)]).tanh()
    spread = spread - (spread @ weight / (weight @ weight))[:, None] * weight
    x = 0.5 + spread + (u / (weight @ weight))[:, None] * weight
    model = TwoSided(weight, -0.5 * weight.sum()).eval()
    return Problem(model, x.reshape(count, *shape), (~upper).long(), reachable)


def corner_problem(
    norm: Norm, shape: tuple[int, ...], count: int, eps: float, slack: float
) -> Problem:
    """Samples whose pixels are all 0 or 1, each with its way into the box; float64."""
    size = torch.Size(shape).numel()
    weight = _normal("weight", size)
    x = (weight > 0).double().expand(count, size).clone()
    bias = eps / slack * weight.norm(p=DUAL[norm]) - x[0] @ weight
    model = TwoSided(weight, bias).eval()
    everyone = torch.ones(count, dtype=torch.bool)
    return Problem(model, x.reshape(count, *shape), (~everyone).long(), everyone)


def classes_problem(
    norm: Norm, shape: tuple[int, ...], count: int, eps: float, slack: float
) -> Problem:
    """`count` samples of a linear model with 6 classes, whose weights differ in length; float64.

    Within the box a sample is broken if and only if eps exceeds the least (z_y - z_t) / (dual
    norm of w_y - w_t); the class of the second largest logit is often not the one that attains
    it. Distances between eps / slack and eps * slack do not occur.
    """
    size, classes, candidates = torch.Size(shape).numel(), 6, 40 * count
    lengths = torch.linspace(0.2, 2.0, classes, dtype=torch.float64)
    weight = lengths[:, None] * _normal("classes", classes * size).reshape(classes, size)
    x = 0.5 + 0.35 * _normal("candidates", candidates * size).reshape(candidates, size).tanh()
    logits = (x - 0.5) @ weight.T
    y = logits.argmax(dim=1)
    dual = (weight[y][:, None] - weight[None]).norm(p=DUAL[norm], dim=2)
    away = logits.gather(1, y[:, None]) - logits
    reach = (away / dual).scatter(1, y[:, None], torch.inf).amin(dim=1)
    clear = ((reach < eps / slack) | (reach > eps * slack)).nonzero()[:, 0]
    # Half of them from each side of the radius, as far as there are enough.
    order = clear[(reach[clear] / eps).log().abs().argsort()]
    inner, outer = (order[reach[order] < eps], order[reach[order] > eps])
    chosen = torch.cat([inner[: (count + 1) // 2], outer[: count // 2]])
    linear = nn.Linear(size, classes).double()
    with torch.no_grad():
        linear.weight.copy_(weight)
        linear.bias.copy_(-0.5 * weight.sum(dim=1))
    model = nn.Sequential(nn.Flatten(), linear).eval()
    return Problem(model, x[chosen].reshape(-1, *shape), y[chosen], reach[chosen] < eps)


def curved_problem(shape: tuple[int, ...], count: int) -> tuple[nn.Module, Tensor, Tensor]:
    """A random net with one hidden layer, random inputs with some pixels at 0 and 1; float64.

    The labels are the net's own predictions.
    """
    size = torch.Size(shape).numel()
    first, second = nn.Linear(size, 24), nn.Linear(24, 5)
    with torch.no_grad():
        first.weight.copy_(0.6 * _normal("first", 24 * size).reshape(24, size))
        first.bias.zero_()
        second.weight.copy_(0.6 * _normal("second", 5 * 24).reshape(5, 24))
        second.bias.zero_()
    model = nn.Sequential(nn.Flatten(), first, nn.ReLU(), second).double().eval()
    rows = torch.stack([_normal(f"x{row}", size) for row in range(count)])
    x = (0.5 + 0.35 * rows).clamp(0.0, 1.0).reshape(count, *shape)
    with torch.no_grad():
        return model, x, model(x).argmax(dim=1)


def _normal(name: str, size: int) -> Tensor:
    return Stream(0, torch.zeros(1, dtype=torch.int64)).normal(name, (size,), dtype=torch.float64)[
        0
    ]
