"""NES: gradients estimated from forward passes (Ilyas et al. 2018, arXiv 1804.08598)."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from drelu_cli.attacks.contract import AttackResult, attack
from drelu_cli.attacks.geometry import limits, per_sample, project_, steepest, within
from drelu_cli.attacks.gradient import Loss, forward
from drelu_cli.attacks.pgd import LOSSES
from drelu_cli.attacks.stages import KEPT, drawn_for, fresh, result, samples, untouched
from drelu_cli.core.records import ThreatModel
from drelu_cli.runtime.driver import Rows, choose, drive, micro_batch_size, taken
from drelu_cli.runtime.streams import Stream


@attack(version=1, norms=("linf", "l2"))
def nes(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    threat: ThreatModel,
    stream: Stream,
    *,
    steps: Annotated[int, Field(ge=1)] = 100,
    draws: Annotated[int, Field(ge=2, multiple_of=2)] = 50,
    sigma: Annotated[float, Field(gt=0)] = 1.0,
    rel_step: Annotated[float, Field(gt=0)] = 0.25,
    loss: Literal["ce", "ce_rescaled", "dlr", "margin"] = "margin",
) -> AttackResult:
    """Projected ascent along a gradient that is estimated from pairs of Gaussian draws.

    g = mean over pairs of u (L(x + s u) - L(x - s u)) / (2 s), u normal (1804.08598, section
    2.1). It is the gradient of the loss smoothed over a width s, which flat pieces do not hide
    where s reaches beyond them; so s is given in units of eps. Queries are cut to the box and
    may leave the ball; one inside the ball that is misclassified breaks the sample.

    Args:
        model: (n, ...) -> logits (n, K), in evaluation mode; never asked for a gradient.
        x: (N, ...) in [0, 1].
        y: (N,) int64.
        threat: ball; Linf steps along the sign, L2 along the normalised estimate.
        stream: random numbers.
        steps: ascent steps from the input; a step costs `draws` + 1 forward passes, and the
            last point one.
        draws: queries per estimate, two for each direction.
        sigma: Linf: s as a share of eps; L2: the expected length of a draw as a share of eps.
        rel_step: step as a share of eps.
        loss: as in `pgd`.
    """
    if threat.eps == 0:
        return untouched(x)
    # L2: a draw's expected length is sqrt(pixels) times its width.
    pixels = x.shape[1:].numel()
    width = sigma * threat.eps / (1.0 if threat.norm == "linf" else pixels**0.5)
    estimate = Estimate(model, threat, LOSSES[loss], stream.at("nes"), draws // 2, width)
    walk = Walk(estimate, steps, rel_step * threat.eps)
    return result(drive(samples(x, y, stream), walk.start, walk.step, keep=KEPT))


class Estimate:
    """The gradient of a smoothed loss from pairs of queries.

    Attributes:
        pairs: directions per estimate.
        width: standard deviation of a draw, in pixel units.
    """

    def __init__(
        self,
        model: nn.Module,
        threat: ThreatModel,
        loss: Loss,
        stream: Stream,
        pairs: int,
        width: float,
    ) -> None:
        self.model = model
        self.threat = threat
        self.loss = loss
        self.stream = stream
        self.pairs = pairs
        self.width = width

    def at(self, rows: Rows) -> tuple[Tensor, Tensor, Tensor]:
        """The estimate at the current points.

        Returns:
            gradient: (n, ...), in units of the loss, up to a constant factor.
            hit: (n, ...) a misclassified query inside the ball, where there was one.
            found: (n,) bool, there was one.
        """
        n, point = len(rows["y"]), rows["point"]
        gradient, hit = torch.zeros_like(point), point
        found = torch.zeros_like(rows["wrong"])
        at_once = max(micro_batch_size() // (2 * n), 1)
        for first in range(0, self.pairs, at_once):
            numbers = range(first, min(first + at_once, self.pairs))
            draws = [self._draw(rows, number) for number in numbers]
            queries = [(point + sign * u).clamp_(0.0, 1.0) for u in draws for sign in (1.0, -1.0)]
            labels = rows["y"].repeat(len(queries))
            seen = forward(self.model, torch.cat(queries), labels, self.loss)
            values = seen.loss.nan_to_num().view(-1, 2, n)
            # Pair by pair: the order of the sum must not depend on how many go at once.
            for u, (above, below) in zip(draws, values, strict=True):
                gradient = gradient + per_sample(above - below, u) * u
            for query, wrong in zip(queries, seen.wrong.view(-1, n), strict=True):
                hit, found = self._kept(query, wrong, rows, hit, found)
        return gradient, hit, found

    def _draw(self, rows: Rows, number: int) -> Tensor:
        """(n, ...) the direction of the pair `number`."""
        stream = drawn_for(self.stream.at("pair", number), rows)
        point = rows["point"]
        u = stream.normal("direction", point.shape[1:], step=rows["step"], dtype=point.dtype)
        return u.mul_(self.width)

    def _kept(
        self, query: Tensor, wrong: Tensor, rows: Rows, hit: Tensor, found: Tensor
    ) -> tuple[Tensor, Tensor]:
        """`hit` and `found` with the queries that break samples still standing."""
        some = (wrong & ~found).nonzero()[:, 0]
        some = some[within(query[some], rows["x"][some], self.threat)] if len(some) else some
        if len(some) == 0:
            return hit, found
        return hit.index_copy(0, some, query[some]), found.index_fill(0, some, True)


class Walk:
    """The step function: a look at the point, an estimate there, a projected step."""

    def __init__(self, estimate: Estimate, steps: int, step_size: float) -> None:
        self.estimate = estimate
        self.steps = steps
        self.step_size = step_size

    def start(self, rows: Rows) -> Rows:
        """The state at the input."""
        more = limits(rows["x"], self.estimate.threat)
        return {**fresh(rows, rows["x"]), **more, "point": rows["x"]}

    def step(self, rows: Rows) -> Rows:
        """Looks at the current point and moves on."""
        point, threat = rows["point"], self.estimate.threat
        seen = forward(self.estimate.model, point, rows["y"], self.estimate.loss)
        better = seen.wrong | (seen.loss > rows["loss"])
        state = {
            **rows,
            "best": choose(better, point, rows["best"]),
            "loss": choose(better, seen.loss, rows["loss"]),
            "wrong": seen.wrong,
            "step": rows["step"] + 1,
            "forwards": rows["forwards"] + 1,
        }
        over = seen.wrong | (rows["step"] == self.steps)
        state["done"] = over
        going = (~over).nonzero()[:, 0]
        return state if len(going) == 0 else self._moved(state, rows, going, threat)

    def _moved(self, state: Rows, rows: Rows, going: Tensor, threat: ThreatModel) -> Rows:
        """The state with an estimate and a step for the samples `going`, (g,) indices."""
        part = taken({name: rows[name] for name in rows if name not in KEPT[:2]}, going)
        gradient, hit, found = self.estimate.at(part)
        stepped = part["point"] + self.step_size * steepest(gradient, threat.norm)
        moved = project_(stepped, part, threat)
        state["point"] = state["point"].index_copy(0, going, moved)
        spent = torch.full_like(going, 2 * self.estimate.pairs)
        state["forwards"] = state["forwards"].index_add(0, going, spent)
        won = found.nonzero()[:, 0]
        if len(won):
            at = going[won]
            state["best"] = state["best"].index_copy(0, at, hit[won])
            state["wrong"] = state["wrong"].index_fill(0, at, True)
            state["done"] = state["done"].index_fill(0, at, True)
        return state
