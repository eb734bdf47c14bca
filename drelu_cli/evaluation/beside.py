"""A part of an attack's samples in another process: what threads cannot do for long searches.

On a dense net a step of a search is many short tensor operations. Threads of one process take
turns in them; processes do not (measured: benchmarks/floors.py). A convolution is long enough for
threads, and a short attack is over before a process has started.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from drelu_cli.attacks.contract import AttackResult
from drelu_cli.attacks.costs import allotted
from drelu_cli.attacks.prolonged import Ended
from drelu_cli.core.records import ThreatModel
from drelu_cli.core.registry import Bound
from drelu_cli.evaluation.samples import Samples, attacked
from drelu_cli.evaluation.threads import Part
from drelu_cli.runtime.companion import Companion, CompanionLost, companions
from drelu_cli.runtime.driver import micro_batch, micro_batch_size

# Passes allotted to all samples. On the smallest nets that is some seconds of Square
# (benchmarks/floors.py); a process takes about two to start.
_LONG = 200_000
_CLASSES = 10  # allotted passes are for an order of magnitude


@dataclass(frozen=True)
class Work:
    """What is to be done with the samples.

    Attributes:
        samples: all of them.
        bound: the attack.
        threat: ball.
        seed: the attack's.
        ended: where a shorter run left the samples.
    """

    samples: Samples
    bound: Bound
    threat: ThreatModel
    seed: int
    ended: Ended | None = None

    def part(self, rows: Tensor) -> Work:
        """The same for some of the samples, (n,) int64."""
        ended = None if self.ended is None else self.ended.rows(rows)
        return replace(self, samples=self.samples.rows(rows), ended=ended)

    def run(self, model: nn.Module) -> AttackResult:
        """The attack on all of the samples, in this thread."""
        return attacked(model, self.samples, self.bound, self.threat, self.seed, self.ended)

    def here(self, model: nn.Module, rows: Tensor) -> AttackResult:
        """The attack on some of the samples, (n,) int64, in this process."""
        return self.part(rows).run(model)


def companions_for(bound: Bound, count: int, parts: int) -> list[Companion]:
    """The processes that take a part each, one fewer than `parts`; none for a short attack.

    Args:
        bound: the attack.
        count: samples.
        parts: in how many the samples may be attacked at once.
    """
    return companions(parts - 1) if allotted(bound, _CLASSES) * count >= _LONG else []


def beyond(companion: Companion, work: Work) -> Part:
    """`work.here`, over there; here after all where that process is lost or cannot be told."""

    def run(model: nn.Module, rows: Tensor) -> AttackResult:
        part = work.part(rows)
        try:
            found: AttackResult = companion.call(answered, model, part, micro_batch_size())
        except CompanionLost:
            return part.run(model)
        return found

    return run


def answered(model: nn.Module, work: Work, size: int) -> AttackResult:
    """What a companion does: the attack on all samples of `work`, `size` at a time."""
    torch.set_num_threads(1)
    with micro_batch(size):
        return work.run(model)
