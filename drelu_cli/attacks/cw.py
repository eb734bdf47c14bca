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
        schedule=adam_schedule(learning_rate, max_steps, x),
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
        schedule: Tensor,
        initial_c: float,
        confidence: float,
        exact: bool,
    ) -> None:
        self.model = model
        self.threat = threat
        self.search_steps = search_steps
        self.max_steps = max_steps
        self.patience = patience
        self.schedule = schedule
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
        """Adam steps until a sample has ended or may have come to the end of its c."""
        state, made = dict(rows), 0
        # Only the first look of a c can find that nothing pulls at a sample.
        begins = bool((rows["step"] == 0).any())
        for made in range(1, self._unbroken(rows) + 1):
            ended = self._looked(state, begins=begins and made == 1, owned=made > 1)
            if ended:
                break
        state["forwards"] = rows["forwards"] + made
        state["backwards"] = rows["backwards"] + made
        return self._next_c(state)

    def _unbroken(self, rows: Rows) -> int:
        """Steps, at least one, before which no active sample can be through with its c."""
        since = rows["since"].masked_fill(rows["done"], 0)
        return min(self.patience - int(since.max()), self.max_steps - int(rows["step"].max()))

    def _looked(self, state: Rows, *, begins: bool, owned: bool) -> bool:
        """Looks at the current points, records them and moves on; whether a sample has ended.

        Args:
            state: its entries are replaced, or written into where they are `owned`.
            begins: some sample is at the first step of its c.
            owned: the entries were made by an earlier call.
        """
        x, w, c = state["x"], state["w"], state["c"]
        bent = torch.tanh(w)
        # A pixel that did not move is the input's own, not its rounded image: Adam would blow
        # the rounding up to steps of its full length.
        point = torch.where(w == state["origin"], x, from_bent(bent))
        seen = forward_backward(self.model, point, state["y"], self._reached)
        hinge = self.confidence - seen.loss
        delta = point - x
        away = torch.linalg.vector_norm(delta.flatten(1), dim=1)
        ended = bool(seen.wrong.any()) and self._recorded(state, point, away, seen.wrong, hinge)
        total = away.square_().add_(hinge.clamp_(min=0.0).mul_(c))
        improved = total < IMPROVED * state["lowest"]
        state["lowest"] = torch.where(improved, total, state["lowest"])
        state["since"] = (state["since"] + 1).masked_fill_(improved, 0)
        slope = delta.mul_(2.0).sub_(per_sample(c, x) * seen.gradient)
        if begins:
            # Nothing pulls at the input: no step, whatever c, and every c begins here.
            stuck = (state["step"] == 0) & (slope.flatten(1).abs().amax(dim=1) == 0)
            state["done"] = state["done"] | stuck
            ended = ended or bool(stuck.any())
        self._adam(state, slope.mul_(bent_slope(bent)), owned=owned)
        return ended

    def _reached(self, logits: Tensor, y: Tensor) -> Tensor:
        return margin(logits, y).clamp(max=self.confidence)

    def _recorded(
        self, state: Rows, point: Tensor, away: Tensor, wrong: Tensor, hinge: Tensor
    ) -> bool:
        """Notes points that are misclassified; whether a sample ends with that."""
        state["hit"] = state["hit"] | (wrong & (hinge <= 0))
        nearer = wrong & ~state["done"] & inside(away, self.threat) & (away < state["nearest"])
        at = nearer.nonzero()[:, 0]
        if len(at) == 0:
            return False
        state["best"] = state["best"].index_copy(0, at, point[at])
        state["nearest"] = torch.where(nearer, away, state["nearest"])
        state["loss"] = torch.where(nearer, -away, state["loss"])
        state["wrong"] = state["wrong"] | nearer
        # Nothing is nearer than the input itself.
        ends = nearer & (away == 0) if self.exact else nearer
        state["done"] = state["done"] | ends
        return bool(ends.any())

    def _adam(self, state: Rows, slope: Tensor, *, owned: bool) -> None:
        """One step of Adam (1412.6980) on the slope with respect to w."""
        w, mean, square = state["w"], state["mean"], state["square"]
        if not owned:
            w, mean, square = w.clone(), mean.clone(), square.clone()
        mean.mul_(BETA1).add_(slope, alpha=1.0 - BETA1)
        square.mul_(BETA2).addcmul_(slope, slope, value=1.0 - BETA2)
        rate, scale = self.schedule.index_select(1, state["step"])
        size = square.sqrt().mul_(per_sample(scale, w)).add_(TINY)
        w.sub_((per_sample(rate, w) * mean).div_(size)).clamp_(-_EDGE, _EDGE)
        state.update(w=w, mean=mean, square=square, step=state["step"] + 1)

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


def adam_schedule(learning_rate: float, steps: int, like: Tensor) -> Tensor:
    """(2, steps) in the dtype of `like`: the step's rate, and what its root is multiplied by."""
    time = torch.arange(1, steps + 1, device=like.device).to(like.dtype)
    return torch.stack([learning_rate / (1.0 - BETA1**time), (1.0 - BETA2**time).rsqrt()])


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
