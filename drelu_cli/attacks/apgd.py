"""APGD: gradient ascent with momentum and a step that halves itself (2003.01690, algorithm 1)."""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from drelu_cli.attacks.contract import AttackResult, attack
from drelu_cli.attacks.geometry import (
    limits,
    per_sample,
    project_,
    random_on_sphere,
    same,
    steepest,
    vanishes,
)
from drelu_cli.attacks.gradient import Loss, Pass, forward, forward_backward
from drelu_cli.attacks.losses import cross_entropy, dlr
from drelu_cli.attacks.stages import (
    KEPT,
    drawn_for,
    fresh,
    samples,
    untouched,
    worst_over,
)
from drelu_cli.core.records import ThreatModel
from drelu_cli.runtime.driver import Rows, choose, drive, taken
from drelu_cli.runtime.streams import Stream

MOMENTUM = 0.75  # alpha of the paper: weight of the plain step after the first one
FIRST_STEP = 2.0  # in units of eps


@attack(version=1, norms=("linf", "l2"))
def apgd_ce(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    threat: ThreatModel,
    stream: Stream,
    *,
    steps: Annotated[int, Field(ge=1)] = 100,
    restarts: Annotated[int, Field(ge=1)] = 1,
    rho: Annotated[float, Field(gt=0, le=1)] = 0.75,
) -> AttackResult:
    """APGD on the cross entropy, as in AutoAttack (2003.01690).

    Args:
        model: (n, ...) -> logits (n, K), in evaluation mode.
        x: (N, ...) in [0, 1].
        y: (N,) int64.
        threat: ball, Linf or L2.
        stream: random numbers.
        steps: gradient steps per restart; steps + 1 points are looked at.
        restarts: runs from different random starts, on samples that still stand.
        rho: the step halves where fewer than this share of the steps since the last checkpoint
            raised the loss.
    """
    ascent = Apgd(model, threat, cross_entropy, steps, rho)
    return over_restarts(x, y, threat, stream.at("apgd_ce"), ascent, restarts)


@attack(version=1, norms=("linf", "l2"), min_classes=3)
def apgd_dlr(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    threat: ThreatModel,
    stream: Stream,
    *,
    steps: Annotated[int, Field(ge=1)] = 100,
    restarts: Annotated[int, Field(ge=1)] = 1,
    rho: Annotated[float, Field(gt=0, le=1)] = 0.75,
) -> AttackResult:
    """APGD on the difference of logits ratio (2003.01690); needs 3 classes.

    Args:
        model: (n, ...) -> logits (n, K), in evaluation mode.
        x: (N, ...) in [0, 1].
        y: (N,) int64.
        threat: ball, Linf or L2.
        stream: random numbers.
        steps: as in `apgd_ce`.
        restarts: as in `apgd_ce`.
        rho: as in `apgd_ce`.

    Raises:
        BadValue: the model has fewer than 3 classes.
    """
    ascent = Apgd(model, threat, dlr, steps, rho)
    return over_restarts(x, y, threat, stream.at("apgd_dlr"), ascent, restarts)


def over_restarts(
    x: Tensor,
    y: Tensor,
    threat: ThreatModel,
    stream: Stream,
    ascent: Apgd,
    restarts: int,
) -> AttackResult:
    """`ascent` from one random start after the other, on the samples that still stand."""
    if threat.eps == 0:
        return untouched(x)

    def run(queue: Rows, drawn: Stream) -> Rows:
        def start(rows: Rows) -> Rows:
            return ascent.start(rows, random_on_sphere(rows["x"], threat, drawn_for(drawn, rows)))

        return drive(queue, start, ascent.step, keep=KEPT)

    stages = [stream.at("restart", number) for number in range(restarts)]
    return worst_over(samples(x, y, stream), stages, run)


def checkpoints(steps: int) -> list[int]:
    """For t = 0 .. steps: the length of the window that ends at step t, 0 where none does.

    Windows shrink from 22 % of the steps by 3 % each to no less than 6 % (2003.01690, sec. 3.1).
    """
    window = max(int(0.22 * steps), 1)
    shortest, shrink = max(int(0.06 * steps), 1), max(int(0.03 * steps), 1)
    table = [0] * (steps + 1)
    at = window
    while at <= steps:
        table[at] = window
        window = max(window - shrink, shortest)
        at += window
    return table


class Apgd:
    """APGD's step function; targeted variants give another loss.

    A sample stops when it is misclassified, after its last step, or when nothing of its state
    can change any more: current, previous and best point are equal and the step does not move it.
    """

    def __init__(
        self, model: nn.Module, threat: ThreatModel, loss: Loss, steps: int, rho: float
    ) -> None:
        self.model = model
        self.threat = threat
        self.loss = loss
        self.steps = steps
        self.rho = rho
        self.windows = checkpoints(steps)

    def loss_of(self, rows: Rows) -> Loss:  # noqa: ARG002
        """The loss at these samples; targeted variants look up each sample's target in `rows`."""
        return self.loss

    def start(self, rows: Rows, point: Tensor) -> Rows:
        """The state at `point`.

        `before`: previous iterate; `ups`: steps since the checkpoint that raised the loss;
        `loss_at_check`: best loss at the last checkpoint; `halved`: it halved the step there.
        """
        state = fresh(rows, point)
        return {
            **state,
            **limits(rows["x"], self.threat),
            "point": point,
            "before": point,
            "best_gradient": torch.zeros_like(point),
            "step_size": torch.full_like(state["loss"], FIRST_STEP * self.threat.eps),
            "last_loss": state["loss"],
            "ups": state["step"],
            "loss_at_check": state["loss"],
            "halved": ~state["wrong"],
        }

    def look(self, rows: Rows, last: Tensor) -> Pass:
        """One pass at the current points; without gradients where all are at their last step."""
        through = forward if bool(last.all()) else forward_backward
        return through(self.model, rows["point"], rows["y"], self.loss_of(rows))

    def step(self, rows: Rows) -> Rows:
        """Looks at the current point, adapts the step size, moves on."""
        last = rows["step"] == self.steps
        seen = self.look(rows, last)
        better = seen.wrong | (seen.loss > rows["loss"])
        first = rows["step"] == 0
        state = {
            **rows,
            "gradient": seen.gradient,
            "best": choose(better, rows["point"], rows["best"]),
            "best_gradient": choose(better, seen.gradient, rows["best_gradient"]),
            "loss": choose(better, seen.loss, rows["loss"]),
            "wrong": seen.wrong,
            "ups": rows["ups"] + ((seen.loss > rows["last_loss"]) & ~first).long(),
            "last_loss": seen.loss,
            "forwards": rows["forwards"] + 1,
            "backwards": rows["backwards"] + (~last).long(),
        }
        state["loss_at_check"] = torch.where(first, seen.loss, rows["loss_at_check"])
        moved = self._moved(self._checked(state))
        moved["done"] = seen.wrong | last | moved.pop("stuck")
        moved["step"] = rows["step"] + 1
        return moved

    def _checked(self, rows: Rows) -> Rows:
        """At a checkpoint: halve the step and go back to the best point, or go on."""
        table = torch.tensor(self.windows, device=rows["step"].device)
        window = table[rows["step"].clamp(max=self.steps)]
        check = window > 0
        if not bool(check.any()):
            return rows
        oscillates = rows["ups"] <= self.rho * window
        stalls = ~rows["halved"] & (rows["loss_at_check"] >= rows["loss"])
        halve = check & (oscillates | stalls)
        return {
            **rows,
            "point": choose(halve, rows["best"], rows["point"]),
            "gradient": choose(halve, rows["best_gradient"], rows["gradient"]),
            "step_size": torch.where(halve, rows["step_size"] / 2.0, rows["step_size"]),
            "halved": torch.where(check, halve, rows["halved"]),
            "loss_at_check": torch.where(check, rows["loss"], rows["loss_at_check"]),
            "ups": torch.where(check, torch.zeros_like(rows["ups"]), rows["ups"]),
        }

    def _moved(self, rows: Rows) -> Rows:
        """P(x + a (P(x + s g) - x) + (1 - a)(x - x_before)); a = 1 at the first step."""
        point, before, norm = rows["point"], rows["before"], self.threat.norm
        weight = torch.where(rows["step"] == 0, 1.0, MOMENTUM).to(point.dtype)
        a = per_sample(weight, point)
        # In place: on small nets new tensors would take as long as the model.
        stride = steepest(rows["gradient"], norm).mul_(per_sample(rows["step_size"], point))
        stepped = stride.add_(point)
        # Linf: what a step does not move after projection, a smaller step along the same sign
        # does not either. L2: the same holds before projection (a zero gradient).
        stuck = same(stepped, point) if norm == "l2" else None
        delta = project_(stepped, rows, self.threat).sub_(point)
        stuck = vanishes(delta) if stuck is None else stuck
        unmoved = stuck.nonzero()[:, 0]
        if len(unmoved):
            part = taken({name: rows[name] for name in ("point", "before", "best")}, unmoved)
            at_rest = same(part["point"], part["before"]) & same(part["point"], part["best"])
            stuck = stuck.index_copy(0, unmoved, at_rest)
        momentum = (point - before).mul_(1.0 - a)
        blended = delta.mul_(a).add_(point).add_(momentum)
        state = {name: rows[name] for name in rows if name != "gradient"}
        next_point = project_(blended, rows, self.threat)
        return {**state, "point": next_point, "before": point, "stuck": stuck}
