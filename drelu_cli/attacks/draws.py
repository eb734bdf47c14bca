"""Random points of the ball: what no attack may be weaker than."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field
from torch import Tensor, nn

from drelu_cli.attacks.contract import AttackResult, attack
from drelu_cli.attacks.geometry import random_in_ball, random_on_sphere
from drelu_cli.attacks.gradient import forward
from drelu_cli.attacks.losses import margin
from drelu_cli.attacks.stages import KEPT, drawn_for, fresh, samples, untouched, worst_over
from drelu_cli.core.records import ThreatModel
from drelu_cli.runtime.driver import Rows, drive
from drelu_cli.runtime.streams import Stream


@attack(version=1, norms=("linf", "l2"))
def uniform_draws(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    threat: ThreatModel,
    stream: Stream,
    *,
    draws: Annotated[int, Field(ge=1)] = 100,
) -> AttackResult:
    """Points drawn at random, by turns inside the ball and on its sphere; forward passes only.

    What "random search" is to the checklist of Carlini et al. 2019 (1902.06705, section 4.7):
    it must not find what gradients do not.

    Args:
        model: (n, ...) -> logits (n, K), in evaluation mode.
        x: (N, ...) in [0, 1].
        y: (N,) int64.
        threat: ball, Linf or L2.
        stream: random numbers.
        draws: points per sample.
    """
    if threat.eps == 0:
        return untouched(x)

    def run(queue: Rows, number: int) -> Rows:
        drawn = stream.at("uniform_draws", "draw", number)
        draw = random_on_sphere if number % 2 else random_in_ball

        def start(rows: Rows) -> Rows:
            return fresh(rows, draw(rows["x"], threat, drawn_for(drawn, rows)))

        def step(rows: Rows) -> Rows:
            seen = forward(model, rows["best"], rows["y"], margin)
            return {
                **rows,
                "loss": seen.loss,
                "wrong": seen.wrong,
                "forwards": rows["forwards"] + 1,
                "done": seen.wrong | True,
            }

        return drive(queue, start, step, keep=KEPT)

    return worst_over(samples(x, y, stream), range(draws), run)
