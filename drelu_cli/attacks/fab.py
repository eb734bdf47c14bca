"""FAB towards one class after the other (Croce & Hein 2020, 1907.02044).

Every step projects the current point and the input onto the hyperplane where the linearised
z_t - z_y is 0, cut with the box, and goes to a mean of both projections.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from drelu_cli.attacks.contract import AttackResult, attack
from drelu_cli.attacks.fab_projection import onto_hyperplane
from drelu_cli.attacks.geometry import (
    distance,
    length,
    per_sample,
    random_on_sphere,
    same,
    within,
)
from drelu_cli.attacks.gradient import Loss, Pass, forward, forward_backward
from drelu_cli.attacks.losses import ahead
from drelu_cli.attacks.stages import KEPT, drawn_for, fresh, samples, untouched
from drelu_cli.attacks.targets import Aim, over_targets
from drelu_cli.core.records import ThreatModel
from drelu_cli.runtime.driver import Rows, choose, drive, taken
from drelu_cli.runtime.streams import Stream


@attack(version=1, norms=("linf", "l2"))
def fab_t(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    threat: ThreatModel,
    stream: Stream,
    *,
    steps: Annotated[int, Field(ge=1)] = 100,
    restarts: Annotated[int, Field(ge=1)] = 1,
    targets: Annotated[int, Field(ge=1)] = 9,
    alpha_max: Annotated[float, Field(ge=0, le=1)] = 0.1,
    eta: Annotated[float, Field(ge=1)] = 1.05,
    beta: Annotated[float, Field(gt=0, le=1)] = 0.9,
    exact: bool = False,
) -> AttackResult:
    """FAB, class after class: x' = C((1 - a)(x + eta d) + a (x_0 + eta d_0)) (1907.02044).

    d and d_0 lead from x and the input x_0 to the linearised boundary z_t = z_y,
    a = min(|d| / (|d| + |d_0|), alpha_max), alpha_max where the slope is 0; C is the box. A
    misclassified x' is followed by x_0 + beta (x' - x_0). The radius of the threat steers nothing
    but the decision and the length of random starts.

    Args:
        model: (n, ...) -> logits (n, K), in evaluation mode.
        x: (N, ...) in [0, 1].
        y: (N,) int64.
        threat: ball, Linf or L2: norm of the projections, radius of the decision.
        stream: random numbers.
        steps: gradient steps per target and restart.
        restarts: runs per target; the first starts at the input, the others at a random
            direction of length eps / 2 (AutoAttack).
        targets: classes of the largest clean logits that are aimed at; at most K - 1.
        alpha_max: largest weight of the projection of the input.
        eta: overshoot beyond the linearised boundary.
        beta: where a misclassified point is moved, as a share of the way from the input.
        exact: False: a sample stops at its first misclassified point within eps. True: all runs
            go on to the end and the nearest misclassified point is returned.

    Returns:
        A misclassified point within eps, or the input where none was seen.
    """
    if threat.eps == 0:
        return untouched(x)
    boundary = Boundary(
        model=model,
        threat=threat,
        steps=steps,
        alpha_max=alpha_max,
        eta=eta,
        beta=beta,
        exact=exact,
    )
    half = replace(threat, eps=threat.eps / 2)

    def run(queue: Rows, aim: Aim) -> Rows:
        def start(rows: Rows) -> Rows:
            here = rows["x"]
            if aim.restart > 0:
                here = random_on_sphere(here, half, drawn_for(aim.stream, rows))
            return boundary.start(rows, here)

        return drive(queue, start, boundary.step, keep=KEPT)

    return over_targets(
        model,
        samples(x, y, stream),
        stream.at("fab_t"),
        run,
        targets=targets,
        restarts=restarts,
        every=exact,
    )


class Boundary:
    """FAB's step function; `best` is the nearest misclassified point within the radius."""

    def __init__(
        self,
        *,
        model: nn.Module,
        threat: ThreatModel,
        steps: int,
        alpha_max: float,
        eta: float,
        beta: float,
        exact: bool,
    ) -> None:
        self.model = model
        self.threat = threat
        self.steps = steps
        self.alpha_max = alpha_max
        self.eta = eta
        self.beta = beta
        self.exact = exact

    def start(self, rows: Rows, point: Tensor) -> Rows:
        """The state at `point`.

        `held`: the step starts at the point even where it is misclassified: it was moved back,
        looked at before, or is the first. `probing`: the point is expected to be misclassified,
        as the last new one was (`crossed`), or is the last: a forward pass will do.
        """
        state = fresh(rows, rows["x"])
        no = state["done"]
        return {**state, "point": point, "held": ~no, "probing": no, "crossed": no}

    def step(self, rows: Rows) -> Rows:
        """Looks at the current point and moves: back where it is misclassified, else on."""
        x, point, held, probing = (rows[name] for name in ("x", "point", "held", "probing"))
        seen = self._seen(rows)
        back = seen.wrong & ~held
        waits = back | probing
        goes = (~waits).nonzero()[:, 0]
        following = self._moved(x[goes], point[goes], seen.loss[goes], seen.gradient[goes])
        moved = point.index_copy(0, goes, following)
        crossed = torch.where(held, rows["crossed"], seen.wrong)
        number = rows["step"] + (~waits).long()
        # The next point depends on this one alone: what stays will stay.
        stuck = same(moved, point) & ~seen.wrong & ~waits
        state = self._recorded(rows, seen.wrong)
        return {
            **state,
            "point": choose(back, x + self.beta * (point - x), moved),
            "held": waits,
            "probing": ~waits & (crossed | (number >= self.steps)),
            "crossed": crossed,
            "step": number,
            "done": state["done"] | (rows["step"] >= self.steps) | stuck,
        }

    def _seen(self, rows: Rows) -> Pass:
        """z_t - z_y at the points; its gradient is 0 where the sample is probing."""
        probing = rows["probing"]
        if not bool(probing.any()):
            return self._look(rows, forward_backward)
        if bool(probing.all()):
            return self._look(rows, forward)
        order = torch.cat([(~probing).nonzero()[:, 0], probing.nonzero()[:, 0]])
        parts = [
            self._look(taken(rows, ~probing), forward_backward),
            self._look(taken(rows, probing), forward),
        ]
        place = order.argsort()
        return Pass(
            torch.cat([part.loss for part in parts])[place],
            torch.cat([part.wrong for part in parts])[place],
            torch.cat([part.gradient for part in parts])[place],
        )

    def _look(self, rows: Rows, look: Callable[[nn.Module, Tensor, Tensor, Loss], Pass]) -> Pass:
        target = rows["target"]
        return look(
            self.model, rows["point"], rows["y"], lambda logits, y: ahead(logits, y, target)
        )

    def _recorded(self, rows: Rows, wrong: Tensor) -> Rows:
        """`loss` is the negative distance of the best point, -inf where there is none."""
        x, point = rows["x"], rows["point"]
        away = distance(point, x, self.threat.norm)
        nearer = wrong & within(point, x, self.threat) & (-away > rows["loss"])
        found = rows["wrong"] | nearer
        return {
            **rows,
            "best": choose(nearer, point, rows["best"]),
            "loss": torch.where(nearer, -away, rows["loss"]),
            "wrong": found,
            "done": torch.zeros_like(found) if self.exact else found,
            "forwards": rows["forwards"] + 1,
            "backwards": rows["backwards"] + (~rows["probing"]).long(),
        }

    def _moved(self, x: Tensor, point: Tensor, value: Tensor, slope: Tensor) -> Tensor:
        """The mean of the projections of point and input, both overshot by eta."""
        norm = self.threat.norm
        gap = torch.nan_to_num(-value, nan=0.0, posinf=0.0, neginf=0.0)
        gap_of_x = (gap + (slope * (point - x)).flatten(1).sum(dim=1)).nan_to_num(nan=0.0)
        both = onto_hyperplane(
            torch.cat([point, x]), torch.cat([slope, slope]), torch.cat([gap, gap_of_x]), norm
        )
        step, step_of_x = both.chunk(2)
        far, far_of_x = length(step, norm), length(step_of_x, norm)
        share = far / (far + far_of_x).clamp(min=torch.finfo(far.dtype).tiny)
        a = per_sample(share.clamp(max=self.alpha_max), x)
        mean = (1.0 - a) * (point + self.eta * step) + a * (x + self.eta * step_of_x)
        # A flat point shows no boundary: back towards the input, as AutoAttack's floor of 1e-8
        # under both distances does. There a slope may be found; staying lost 0.7 points on a
        # D-ReLU net.
        flat = per_sample(length(slope, "linf") == 0, x)
        back = point + self.alpha_max * (x - point)
        return torch.where(flat, back, mean.clamp(0.0, 1.0))
