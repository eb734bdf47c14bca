"""APGD led by another network: it gives loss and gradient, the model judges every point."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from drelu_cli.attacks.apgd import Apgd
from drelu_cli.attacks.geometry import random_on_sphere
from drelu_cli.attacks.gradient import Loss, Pass, forward
from drelu_cli.attacks.stages import KEPT, drawn_for
from drelu_cli.core.records import ThreatModel
from drelu_cli.runtime.driver import Rows, choose, drive
from drelu_cli.runtime.streams import Stream


class LedApgd(Apgd):
    """APGD on the loss of `leader`; each point costs a pass through both networks.

    A sample stops as soon as the model misclassifies a point, whatever the leader thinks of it.

    Attributes:
        judge: the model that is attacked.
        own: the model's loss, by which its best point is chosen; the leader's where not given.
    """

    def __init__(
        self,
        leader: nn.Module,
        judge: nn.Module,
        threat: ThreatModel,
        loss: Loss,
        steps: int,
        rho: float,
        *,
        own: Loss | None = None,
    ) -> None:
        super().__init__(leader, threat, loss, steps, rho)
        self.judge = judge
        self.own = own or loss

    def start(self, rows: Rows, point: Tensor) -> Rows:
        """As in APGD; `judged_best`: the point where the model's own loss was largest so far."""
        state = super().start(rows, point)
        return {
            **state,
            "judged_best": point,
            "judged_loss": torch.full_like(state["loss"], -torch.inf),
            "judged_wrong": state["wrong"],
        }

    def look(self, rows: Rows, last: Tensor) -> Pass:
        """The leader's loss and gradient, the model's decision."""
        led = super().look(rows, last)
        return Pass(led.loss, rows["judged_wrong"], led.gradient)

    def step(self, rows: Rows) -> Rows:
        """Asks the model about the current point, then the leader where to go."""
        seen = forward(self.judge, rows["point"], rows["y"], self.own)
        better = seen.wrong | (seen.loss > rows["judged_loss"])
        moved = super().step({**rows, "judged_wrong": seen.wrong})
        return {
            **moved,
            "judged_best": choose(better, rows["point"], rows["judged_best"]),
            "judged_loss": choose(better, seen.loss, rows["judged_loss"]),
            "forwards": moved["forwards"] + 1,
        }


def led_run(queue: Rows, ascent: LedApgd, drawn: Stream) -> Rows:
    """One run from APGD's random start.

    Returns:
        The tensors named in `stages.KEPT`; points and losses are the model's.
    """

    def start(rows: Rows) -> Rows:
        point = random_on_sphere(rows["x"], ascent.threat, drawn_for(drawn, rows))
        return ascent.start(rows, point)

    names = {"best": "judged_best", "loss": "judged_loss"}
    found = drive(queue, start, ascent.step, keep=[names.get(name, name) for name in KEPT])
    return {name: found[names.get(name, name)] for name in KEPT}
