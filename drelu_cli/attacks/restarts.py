"""APGD from random starts until a budget of passes is spent: plain gradients, many times."""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from drelu_cli.attacks.apgd import Apgd
from drelu_cli.attacks.contract import AttackResult, attack
from drelu_cli.attacks.geometry import random_on_sphere
from drelu_cli.attacks.gradient import Loss
from drelu_cli.attacks.losses import cross_entropy, dlr, margin, targeted_dlr
from drelu_cli.attacks.stages import KEPT, drawn_for, samples, untouched, worst_over
from drelu_cli.attacks.targets import clean_look
from drelu_cli.core.records import ThreatModel
from drelu_cli.runtime.driver import Rows, choose, drive, taken
from drelu_cli.runtime.streams import Stream

_TARGETS = 9  # as in `apgd_t`


@attack(version=1, norms=("linf", "l2"))
def apgd_restarts(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    threat: ThreatModel,
    stream: Stream,
    *,
    passes: Annotated[int, Field(ge=1)] = 10_000,
    steps: Annotated[int, Field(ge=1)] = 100,
    rho: Annotated[float, Field(gt=0, le=1)] = 0.75,
) -> AttackResult:
    """APGD (2003.01690) from one random start after the other, as long as passes are left.

    The control of the masking court: what plain gradients find for the passes that a remedy
    took. The losses take turns: cross entropy, margin, DLR, targeted DLR, those left out that
    are not defined for the number of classes; targets in the order of the clean logits. A
    sample restarts until it is misclassified or its own forwards and backwards reach `passes`,
    so it exceeds them by less than one restart. On a masked net a restart takes 2 passes.

    Args:
        model: (n, ...) -> logits (n, K), in evaluation mode.
        x: (N, ...) in [0, 1].
        y: (N,) int64.
        threat: ball, Linf or L2.
        stream: random numbers.
        passes: forwards and backwards of one sample, all restarts and a look at the input
            together.
        steps: gradient steps per restart.
        rho: as in `apgd_ce`.
    """
    if threat.eps == 0:
        return untouched(x)
    queue, drawn = samples(x, y, stream), stream.at("apgd_restarts")
    seen = clean_look(model, queue, _TARGETS)
    queue = {**queue, "ranked": seen.pop("ranked")}
    others = int((queue["ranked"] >= 0).any(dim=0).sum())
    again = Restarting(MixedApgd(model, threat, others, steps, rho), drawn, passes)
    return worst_over(queue, [drawn], lambda rows, _: again.run(rows), seen=seen)


class MixedApgd(Apgd):
    """APGD with a loss for each sample: `kind` (n,) int64, `target` (n,) int64 where it aims.

    Attributes:
        others: min(9, K - 1), K classes.
        kinds: the losses that are defined for K classes; a targeted one comes last.
    """

    def __init__(
        self, model: nn.Module, threat: ThreatModel, others: int, steps: int, rho: float
    ) -> None:
        super().__init__(model, threat, cross_entropy, steps, rho)
        self.others = max(others, 1)
        defined = 1 + min(max(others, 1), 3)  # 2 classes: two, 3: DLR too, 4: all
        self.kinds = (_ce, _margin, _dlr, targeted_dlr)[:defined]

    def loss_of(self, rows: Rows) -> Loss:
        """Each sample's own loss."""
        kind, target = rows["kind"], rows["target"]

        def mixed(logits: Tensor, y: Tensor) -> Tensor:
            found = logits.new_zeros(len(logits))
            # Row by row: a sample's gradient must not pass through another loss.
            for number, loss in enumerate(self.kinds):
                some = (kind == number).nonzero()[:, 0]
                if len(some):
                    found = found.index_copy(0, some, loss(logits[some], y[some], target[some]))
            return found

        return mixed


class Restarting:
    """Begins a sample's next run in the step in which its last one ended.

    Attributes:
        ascent: one run.
        stream: random starts; a run's number is the step of its draws.
        passes: what a sample may spend; a run that has begun is finished.
    """

    def __init__(self, ascent: MixedApgd, stream: Stream, passes: int) -> None:
        self.ascent = ascent
        self.stream = stream
        self.passes = passes

    def run(self, queue: Rows) -> Rows:
        """All runs of all samples; of robust ones the point of largest cross entropy."""
        names = {"best": "top", "loss": "top_loss"}
        keep = [names.get(name, name) for name in KEPT]
        found = drive(queue, self.start, self.step, keep=keep)
        return {name: found[names.get(name, name)] for name in KEPT}

    def start(self, rows: Rows) -> Rows:
        """The state at the first run; `top`: the best point of all runs, `restart`: its number."""
        state = self._begun({**rows, "restart": torch.zeros_like(rows["index"])})
        return {**state, "top": state["point"], "top_loss": state["loss"]}

    def step(self, rows: Rows) -> Rows:
        """One pass; samples whose run has ended without success begin another one."""
        moved = self.ascent.step(rows)
        ended, wrong = moved["done"], moved["wrong"]
        # Losses of different kinds do not compare: runs on the cross entropy choose.
        larger = (moved["kind"] == 0) & (moved["loss"] > moved["top_loss"])
        better = wrong | (ended & larger)
        # The look at the input was a pass, too.
        spent = 1 + moved["forwards"] + moved["backwards"]
        over = wrong | (ended & (spent >= self.passes))
        if bool(better.any()):
            moved["top"] = choose(better, moved["best"], moved["top"])
            moved["top_loss"] = choose(better, moved["loss"], moved["top_loss"])
        return self._renewed({**moved, "done": over}, (ended & ~over).nonzero()[:, 0])

    def _renewed(self, state: Rows, again: Tensor) -> Rows:
        """The samples `again`, (a,) indices, at the start of their next run."""
        if len(again) == 0:
            return state
        part = taken({name: state[name] for name in _QUEUE}, again)
        begun = self._begun({**part, "restart": part["restart"] + 1})
        new = {name: begun[name] for name in begun if name not in _STAYS}
        if len(again) == len(state["done"]):
            return {**state, **new}
        return {**state, **{name: state[name].index_copy(0, again, new[name]) for name in new}}

    def _begun(self, rows: Rows) -> Rows:
        """The state at the run number `restart`, (n,) int64."""
        restart, turns = rows["restart"], len(self.ascent.kinds)
        rank = torch.div(restart, turns, rounding_mode="floor") % self.ascent.others
        target = rows["ranked"].gather(1, rank[:, None])[:, 0]
        stream, threat = drawn_for(self.stream, rows), self.ascent.threat
        point = random_on_sphere(rows["x"], threat, stream, step=restart)
        return self.ascent.start({**rows, "kind": restart % turns, "target": target}, point)


_QUEUE = ("x", "y", "index", "ranked", "restart")
_STAYS = (*_QUEUE[:-1], "low", "high", "forwards", "backwards")
"""What a new run leaves as it is."""


def _ce(logits: Tensor, y: Tensor, _: Tensor) -> Tensor:
    return cross_entropy(logits, y)


def _margin(logits: Tensor, y: Tensor, _: Tensor) -> Tensor:
    return margin(logits, y)


def _dlr(logits: Tensor, y: Tensor, _: Tensor) -> Tensor:
    return dlr(logits, y)
