"""CW-L2: the smallest L2 perturbation, by a penalty method (Carlini & Wagner 2017, 1608.04644)."""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from drelu_cli.attacks.contract import AttackResult, attack
from drelu_cli.attacks.geometry import inside, per_sample
from drelu_cli.attacks.gradient import forward_backward
from drelu_cli.attacks.losses import margin
from drelu_cli.attacks.stages import KEPT, fresh, result, samples, untouched
from drelu_cli.core.records import ThreatModel
from drelu_cli.runtime.driver import Rows, drive
from drelu_cli.runtime.streams import Stream

# The tanh space is cut at +-atanh(1 - SHRINK), where it reaches 0 and 1 exactly. Without the
# cut such pixels lie at infinity and cannot move; with the 1e-6 of the paper's code they need
# hundreds of steps to leave the flat part of tanh. On a natural MNIST net 0.1 gives smaller
# distances in fewer steps than 0.01 or 0.001 (docs/attacks.md).
SHRINK = 0.1
# Adam (1412.6980): its defaults, as in the paper's code.
BETA1, BETA2, TINY = 0.9, 0.999, 1e-8
GROWTH = 10.0  # c grows by this factor until a sample is first broken (paper's code)
# A loss counts as improved below this share of its best (the paper's code: 0.9999).
IMPROVED = 0.9999


@attack(version=2, norms=("l2",), minimal_norm=True)
def cw_l2(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    threat: ThreatModel,
    stream: Stream,
    *,
    search_steps: Annotated[int, Field(ge=1)] = 9,
    max_steps: Annotated[int, Field(ge=1)] = 1000,
    patience: Annotated[int, Field(ge=1)] = 100,
    learning_rate: Annotated[float, Field(gt=0)] = 0.01,
    initial_c: Annotated[float, Field(gt=0)] = 1e-3,
    confidence: Annotated[float, Field(ge=0)] = 0.0,
    exact: bool = False,
) -> AttackResult:
    """Minimises |x' - x|^2 + c max(z_y - max_{i != y} z_i + confidence, 0) over tanh space.

    Every sample has its own c (binary search), its own Adam and its own stop.

    Args:
        model: (n, ...) -> logits (n, K), in evaluation mode.
        x: (N, ...) in [0, 1].
        y: (N,) int64.
        threat: L2 ball; eps is the bound of the decision.
        stream: not drawn from; CW is deterministic.
        search_steps: values of c that are tried.
        max_steps: Adam steps for each c.
        patience: steps without an improvement of the sample's own loss that end its c.
        learning_rate: of Adam, in tanh space.
        initial_c: first c of the search (the paper's code: 1e-3).
        confidence: logit margin the search asks for; a point below it that is misclassified
            still counts.
        exact: False: a sample stops at its first misclassified point within eps. True: the
            search goes on to the end and the nearest misclassified point is returned.

    Returns:
        A misclassified point within eps, or the input where none was seen.
    """
    if threat.eps == 0:
        return untouched(x)
    search = Search(
        model=model,
        threat=threat,
        search_steps=search_steps,
        max_steps=max_steps,
        patience=patience,
        learning_rate=learning_rate,
        initial_c=initial_c,
        confidence=confidence,
        exact=exact,
    )
    return result(drive(samples(x, y, stream), search.start, search.step, keep=KEPT))


class Search:
    """CW-L2's step function; `best` is the nearest misclassified point within the bound."""

    def __init__(
        self,
        *,
        model: nn.Module,
        threat: ThreatModel,
        search_steps: int,
        max_steps: int,
        patience: int,
        learning_rate: float,
        initial_c: float,
        confidence: float,
        exact: bool,
    ) -> None:
        self.model = model
        self.threat = threat
        self.search_steps = search_steps
        self.max_steps = max_steps
        self.patience = patience
        self.learning_rate = learning_rate
        self.initial_c = initial_c
        self.confidence = confidence
        self.exact = exact

    def start(self, rows: Rows) -> Rows:
        """The state at the input.

        `c` with its bounds `c_low`, `c_high`; `tried`: values of c done; `step`, `since`,
        `lowest`, `hit`: Adam steps, steps without improvement, lowest loss, success at this c.
        """
        x = rows["x"]
        state = fresh(rows, x)
        infinite = torch.full_like(state["loss"], torch.inf)
        origin = to_tanh_space(x)
        return {
            **state,
            "origin": origin,
            "w": origin,
            "mean": torch.zeros_like(x),
            "square": torch.zeros_like(x),
            "nearest": infinite,
            "c": torch.full_like(infinite, self.initial_c),
            "c_low": torch.zeros_like(infinite),
            "c_high": infinite,
            "lowest": infinite,
            "since": state["step"],
            "tried": state["step"],
            "hit": state["wrong"],
        }

    def step(self, rows: Rows) -> Rows:
        """Looks at the current point, records it, and takes one Adam step or the next c."""
        x, w = rows["x"], rows["w"]
        bent = torch.tanh(w)
        # A pixel that did not move is the input's own, not its rounded image: Adam would blow
        # the rounding up to steps of its full length.
        point = torch.where(w == rows["origin"], x, from_bent(bent))
        seen = forward_backward(self.model, point, rows["y"], self._reached)
        hinge = self.confidence - seen.loss
        delta = point - x
        away = torch.linalg.vector_norm(delta.flatten(1), dim=1)
        state = self._recorded(rows, point, away, seen.wrong)
        state["hit"] = rows["hit"] | (seen.wrong & (hinge <= 0))
        total = away.square() + rows["c"] * hinge.clamp(min=0.0)
        improved = total < IMPROVED * rows["lowest"]
        state["lowest"] = torch.where(improved, total, rows["lowest"])
        state["since"] = torch.where(improved, 0, rows["since"] + 1)
        slope = delta.mul_(2.0).sub_(per_sample(rows["c"], x) * seen.gradient)
        # Nothing pulls at the input: no step, whatever c, and every c begins here.
        stuck = (rows["step"] == 0) & (slope.flatten(1).abs().amax(dim=1) == 0)
        state["done"] = state["done"] | stuck
        return self._next_c(self._adam(state, slope.mul_(bent_slope(bent))))

    def _reached(self, logits: Tensor, y: Tensor) -> Tensor:
        return margin(logits, y).clamp(max=self.confidence)

    def _recorded(self, rows: Rows, point: Tensor, away: Tensor, wrong: Tensor) -> Rows:
        nearer = wrong & inside(away, self.threat) & (away < rows["nearest"])
        found = rows["wrong"] | nearer
        nearest = torch.where(nearer, away, rows["nearest"])
        at = nearer.nonzero()[:, 0]
        return {
            **rows,
            "best": rows["best"].index_copy(0, at, point[at]) if len(at) else rows["best"],
            "nearest": nearest,
            "loss": torch.where(nearer, -away, rows["loss"]),
            "wrong": found,
            # Nothing is nearer than the input itself.
            "done": nearest == 0 if self.exact else found,
            "forwards": rows["forwards"] + 1,
            "backwards": rows["backwards"] + 1,
        }

    def _adam(self, rows: Rows, slope: Tensor) -> Rows:
        """One step of Adam (1412.6980) on the slope with respect to w."""
        w = rows["w"]
        mean = (BETA1 * rows["mean"]).add_(slope, alpha=1.0 - BETA1)
        square = (BETA2 * rows["square"]).addcmul_(slope, slope, value=1.0 - BETA2)
        time = (rows["step"] + 1).to(w.dtype)
        rate = per_sample(self.learning_rate / (1.0 - BETA1**time), w)
        size = square.sqrt().mul_(per_sample((1.0 - BETA2**time).rsqrt(), w)).add_(TINY)
        w = w - (rate * mean).div_(size)
        w = w.clamp_(-_EDGE, _EDGE)
        return {**rows, "w": w, "mean": mean, "square": square, "step": rows["step"] + 1}

    def _next_c(self, rows: Rows) -> Rows:
        """For samples whose c is done: narrow its bounds and begin again at the input."""
        over = (rows["step"] >= self.max_steps) | (rows["since"] >= self.patience)
        at = over.nonzero()[:, 0]
        if len(at) == 0:
            return rows
        c, hit = rows["c"], rows["hit"]
        low = torch.where(over & ~hit, c, rows["c_low"])
        high = torch.where(over & hit, c, rows["c_high"])
        following = torch.where(torch.isinf(high), c * GROWTH, (low + high) / 2.0)
        tried = rows["tried"] + over.long()
        return {
            **rows,
            "c": torch.where(over, following, c),
            "c_low": low,
            "c_high": high,
            "w": rows["w"].index_copy(0, at, rows["origin"][at]),
            "mean": rows["mean"].index_fill(0, at, 0.0),
            "square": rows["square"].index_fill(0, at, 0.0),
            "lowest": rows["lowest"].masked_fill(over, torch.inf),
            "since": rows["since"].masked_fill(over, 0),
            "step": rows["step"].masked_fill(over, 0),
            "hit": hit & ~over,
            "tried": tried,
            "done": rows["done"] | (tried >= self.search_steps),
        }


_EDGE = float(torch.atanh(torch.tensor(1.0 - SHRINK, dtype=torch.float64)))


def to_tanh_space(x: Tensor) -> Tensor:
    """The w with x = (1 + tanh(w) / (1 - SHRINK)) / 2: [0, 1] -> [-_EDGE, _EDGE]."""
    # Clamped as every step's w is: at 0 and 1 rounding may lead beyond.
    return torch.atanh((2.0 * x - 1.0) * (1.0 - SHRINK)).clamp(-_EDGE, _EDGE)


def from_tanh_space(w: Tensor) -> Tensor:
    """The point (1 + tanh(w) / (1 - SHRINK)) / 2, in [0, 1]."""
    return from_bent(torch.tanh(w))


def tanh_space_slope(w: Tensor) -> Tensor:
    """Derivative dx / dw of `from_tanh_space`; positive up to both ends of the box."""
    return bent_slope(torch.tanh(w))


def from_bent(bent: Tensor) -> Tensor:
    """`from_tanh_space` where tanh(w) is known."""
    return (0.5 + bent * (0.5 / (1.0 - SHRINK))).clamp_(0.0, 1.0)


def bent_slope(bent: Tensor) -> Tensor:
    """`tanh_space_slope` where tanh(w) is known."""
    return (1.0 - bent.square()).mul_(0.5 / (1.0 - SHRINK))
