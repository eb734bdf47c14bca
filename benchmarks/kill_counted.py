"""What the kill study trains and attacks with: parts of drelu that note each time they begin.

A plug-in; `kill_study.py` puts it on the path of the sweep. Every process appends lines of JSON to
the file that KILL_STUDY_LOG names: its process id, and which epoch or which attack it begins.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

from torch import Tensor, nn

from drelu_cli.activations.caps import learnable_caps
from drelu_cli.attacks.contract import AttackResult, attack
from drelu_cli.attacks.pgd import pgd
from drelu_cli.core.records import ThreatModel
from drelu_cli.runtime.streams import Stream
from drelu_cli.training.contract import Loss
from drelu_cli.training.schemes import natural

LOG = "KILL_STUDY_LOG"
EPOCH, ATTACK = "epoch", "attack"


class _Last:
    """An epoch has many batches, and is noted once."""

    mark: tuple[str, str] = ("", "")


def _note(what: str, which: str) -> None:
    if (what, which) == _Last.mark:
        return
    _Last.mark = (what, which)
    line = json.dumps({"pid": os.getpid(), "what": what, "which": which})
    with Path(os.environ[LOG]).open("a", encoding="utf-8") as log:
        log.write(f"{line}\n")


def counted_natural(model: nn.Module, x: Tensor, y: Tensor, stream: Stream, /) -> Loss:
    """`natural`, noted."""
    purpose, _, epoch = stream.path
    if purpose == "train":
        kind = "D-ReLU" if learnable_caps(model) else "ReLU"
        _note(EPOCH, f"{kind} {stream.seed} {epoch}")
    return natural(model, x, y, stream)


@attack(version=1, norms=("linf",))
def counted_pgd(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    threat: ThreatModel,
    stream: Stream,
    *,
    steps: int = 10,
) -> AttackResult:
    """`pgd`, noted by weights and steps."""
    digest = hashlib.sha256()
    for weight in model.parameters():
        digest.update(weight.detach().numpy().tobytes())
    _note(ATTACK, f"{digest.hexdigest()[:16]} {steps}")
    return pgd(model, x, y, threat, stream, steps=steps)
