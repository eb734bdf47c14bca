"""One attack under one norm, as `conformance` runs it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from drelu_cli.attacks.contract import AttackResult
from drelu_cli.attacks.geometry import distance
from drelu_cli.attacks.losses import misclassified
from drelu_cli.core.errors import DreluError
from drelu_cli.core.records import Norm, ThreatModel
from drelu_cli.core.registry import Bound
from drelu_cli.runtime.streams import Stream

TOLERANCE = 1e-6
RADIUS: dict[Norm, float] = {"linf": 0.05, "l2": 0.3}


class NotConforming(DreluError):
    """An attack that breaks the contract; the message says how."""


@dataclass(frozen=True)
class Case:
    """An attack under one norm.

    Attributes:
        attack: from `ATTACKS.bind(name, **options)`.
        norm: one that the attack declares.
        slack: the factor around the closed-form distance within which nothing is asked: a sample
            must be broken where eps >= slack * distance. Raise it for random search.
    """

    attack: Bound
    norm: Norm
    slack: float = 1.05

    @property
    def threat(self) -> ThreatModel:
        """The ball that the checks use."""
        return ThreatModel(self.norm, RADIUS[self.norm])

    def require(self, condition: object, complaint: str) -> None:
        """Raises NotConforming with the `complaint` unless `condition` holds."""
        if not condition:
            raise NotConforming(
                f"attack {self.attack.name} {complaint} ({self.norm})",
                hint="docs/attacks.md states the contract",
            )

    def run(
        self,
        model: nn.Module,
        x: Tensor,
        y: Tensor,
        *,
        threat: ThreatModel | None = None,
        index: Tensor | None = None,
    ) -> AttackResult:
        """Runs the attack and checks what holds for every result."""
        threat = threat or self.threat
        index = torch.arange(len(x)) if index is None else index
        found: AttackResult = self.attack(model, x, y, threat, Stream(0, index))
        kept = found.x_adv.shape == x.shape and found.x_adv.dtype == x.dtype
        self.require(kept, "changes shape or dtype of the input")
        self.require(torch.isfinite(found.x_adv).all(), "returns pixels that are not finite")
        for passes in (found.forwards, found.backwards):
            counted = passes.shape == y.shape and passes.dtype == torch.int64
            self.require(counted, "must count passes as (N,) int64")
        boxed = ((found.x_adv >= 0) & (found.x_adv <= 1)).all()
        self.require(boxed, "leaves the box [0, 1]")
        furthest = float(distance(found.x_adv, x, self.norm).max())
        inside = furthest <= threat.eps + TOLERANCE
        self.require(inside, f"leaves the ball: {furthest:.8g} > {threat.eps:g}")
        return found

    def wrong_after(self, model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        """(N,) bool: what the attack broke."""
        found = self.run(model, x, y)
        with torch.no_grad():
            return misclassified(model(found.x_adv), y)
