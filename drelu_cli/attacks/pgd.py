"""PGD: projected gradient ascent with a fixed step (Madry et al. 2018, 1706.06083)."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field
from torch import Tensor, nn

from drelu_cli.attacks.contract import AttackResult, attack
from drelu_cli.attacks.geometry import limits, project_, random_in_ball, same, steepest
from drelu_cli.attacks.gradient import Loss, forward, forward_backward
from drelu_cli.attacks.losses import ce_rescaled, cross_entropy, dlr, margin
from drelu_cli.attacks.stages import (
    KEPT,
    drawn_for,
    fresh,
    samples,
    untouched,
    worst_over,
)
from drelu_cli.core.errors import BadValue
from drelu_cli.core.records import ThreatModel
from drelu_cli.runtime.driver import Rows, choose, drive
from drelu_cli.runtime.streams import Stream

LOSSES: dict[str, Loss] = {
    "ce": cross_entropy,
    "ce_rescaled": ce_rescaled,
    "dlr": dlr,
    "margin": margin,
}


@attack(version=1, norms=("linf", "l2"))
def pgd(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    threat: ThreatModel,
    stream: Stream,
    *,
    steps: Annotated[int, Field(ge=1)] = 40,
    rel_step: Annotated[float, Field(gt=0)] = 0.25,
    restarts: Annotated[int, Field(ge=1)] = 1,
    random_start: bool = True,
    loss: Literal["ce", "ce_rescaled", "dlr", "margin"] = "ce",
) -> AttackResult:
    """x_{t+1} = P(x_t + rel_step * eps * direction of the gradient), best point seen.

    Args:
        model: (n, ...) -> logits (n, K), in evaluation mode.
        x: (N, ...) in [0, 1].
        y: (N,) int64.
        threat: ball; Linf steps along the sign, L2 along the normalised gradient.
        stream: random numbers.
        steps: gradient steps per restart; steps + 1 points are looked at.
        rel_step: step as a share of eps.
        restarts: runs from different random starts, on samples that still stand.
        random_start: start uniformly in the ball instead of at the input.
        loss: `ce`, `ce_rescaled` (on logits brought to one scale), `dlr` (3 classes or more) or
            `margin`.

    Raises:
        BadValue: several restarts without a random start would repeat one run.
    """
    if restarts > 1 and not random_start:
        raise BadValue(
            f"pgd: {restarts} restarts from the same point give the same result",
            hint="random_start=true, or restarts=1",
        )
    if threat.eps == 0:
        return untouched(x)
    stages = [stream.at("pgd", "restart", number) for number in range(restarts)]

    def run(queue: Rows, drawn: Stream) -> Rows:
        ascent = Ascent(model, threat, LOSSES[loss], steps, rel_step)

        def start(rows: Rows) -> Rows:
            x_rows = rows["x"]
            here = (
                random_in_ball(x_rows, threat, drawn_for(drawn, rows)) if random_start else x_rows
            )
            return ascent.start(rows, here)

        return drive(queue, start, ascent.step, keep=KEPT)

    return worst_over(samples(x, y, stream), stages, run)


class Ascent:
    """Fixed-step gradient ascent from a given point; FGSM is one step of it.

    A sample stops when it is misclassified, after its last step, or when its next point equals
    the current or the previous one: with a fixed step the next point depends on the current one
    alone, so it would visit the same points for ever. A zero gradient is the shortest such cycle.
    """

    def __init__(
        self, model: nn.Module, threat: ThreatModel, loss: Loss, steps: int, rel_step: float
    ) -> None:
        self.model = model
        self.threat = threat
        self.loss = loss
        self.steps = steps
        self.step_size = rel_step * threat.eps

    def start(self, rows: Rows, point: Tensor) -> Rows:
        """The state at `point`; `before` is the previous iterate."""
        more = limits(rows["x"], self.threat)
        return {**fresh(rows, point), **more, "point": point, "before": point}

    def step(self, rows: Rows) -> Rows:
        """Looks at the current point and moves on."""
        point, last = rows["point"], rows["step"] == self.steps
        look = forward if bool(last.all()) else forward_backward
        seen = look(self.model, point, rows["y"], self.loss)
        better = seen.wrong | (seen.loss > rows["loss"])
        moved, still = self._moved(rows, seen.gradient)
        repeats = still | same(moved, rows["before"])
        return {
            **rows,
            "best": choose(better, point, rows["best"]),
            "loss": choose(better, seen.loss, rows["loss"]),
            "wrong": seen.wrong,
            "point": moved,
            "before": point,
            "step": rows["step"] + 1,
            "forwards": rows["forwards"] + 1,
            "backwards": rows["backwards"] + (~last).long(),
            "done": seen.wrong | last | repeats,
        }

    def _moved(self, rows: Rows, gradient: Tensor) -> tuple[Tensor, Tensor]:
        """The next points and (n,) bool, which of them are the current ones."""
        point, norm = rows["point"], self.threat.norm
        stepped = steepest(gradient, norm).mul_(self.step_size).add_(point)
        if norm == "linf":
            moved = project_(stepped, rows, self.threat)
            return moved, same(moved, point)
        # Without a step, too: projecting a point of a small L2 ball again can round it elsewhere.
        still = same(stepped, point)
        moved = project_(stepped, rows, self.threat)
        return moved, still | same(moved, point)
