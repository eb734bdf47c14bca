"""The attacks that are compared: ours, and the same work done by each library that is installed.

A contender gets a task and a batch size and returns the points it found. The libraries are set up
as their documentation says, in evaluation mode, with the options that make the work equal: same
steps, step size, budget, images, dtype and kind of start.
"""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch
from torch import Tensor, nn

from drelu_cli.attacks import ATTACKS
from drelu_cli.attacks.contract import AttackResult
from drelu_cli.core.records import ThreatModel
from drelu_cli.evaluation.samples import Samples
from drelu_cli.runtime.streams import Stream, seeded_initialisation

LIBRARIES = ("torchattacks", "pyautoattack", "foolbox", "adversarial-library")
_MODULES = {"adversarial-library": "adv_lib"}


@dataclass(frozen=True)
class Task:
    """One attack on some images.

    Attributes:
        model: logits, in evaluation mode.
        samples: images that the model gets right.
        attack: our name of it.
        threat: ball.
        options: of our attack; a peer translates them.
    """

    model: nn.Module
    samples: Samples
    attack: str
    threat: ThreatModel
    options: Mapping[str, Any] = field(default_factory=dict)


Run = Callable[[Task, Tensor, Tensor], Tensor]
"""task, x (n, ...), y (n,) -> points (n, ...)."""


def ours(task: Task) -> AttackResult:
    """Our attack, with the driver's own micro-batch."""
    bound = ATTACKS.bind(task.attack, **task.options)
    stream = Stream(0, task.samples.index, (task.attack,))
    result: AttackResult = bound(task.model, task.samples.x, task.samples.y, task.threat, stream)
    return result


def peers(attack: str) -> dict[str, Run]:
    """Library name -> how it runs `attack`, of those that have it and are installed."""
    offered = _PEERS.get(attack, {})
    return {library: run for library, run in offered.items() if installed(library)}


def installed(library: str) -> str | None:
    """The version, or None where it cannot be imported."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            importlib.import_module(_MODULES.get(library, library))
        return version(library)
    except (ImportError, PackageNotFoundError):
        return None


def peer_points(run: Run, task: Task, batch: int) -> Tensor:
    """The points a library finds, `batch` images at a time."""
    found = []
    with seeded_initialisation("peer"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for rows in torch.arange(len(task.samples)).split(batch):
            part = task.samples.rows(rows.to(task.samples.y.device))
            found.append(run(task, part.x, part.y).detach())
    return torch.cat(found)


def _torchattacks(name: str, **options: Any) -> Callable[[Task, Tensor, Tensor], Tensor]:
    def run(task: Task, x: Tensor, y: Tensor) -> Tensor:
        kind = getattr(importlib.import_module("torchattacks"), name)
        points: Tensor = kind(task.model, **_filled(options, task))(x, y)
        return points

    return run


def _pyautoattack(module: str, name: str, **options: Any) -> Run:
    def run(task: Task, x: Tensor, y: Tensor) -> Tensor:
        kind = getattr(importlib.import_module(f"pyautoattack.{module}"), name)
        attack = kind(task.model, device=x.device, **_filled(options, task))
        points = attack.perturb(x.clone(), y.clone())
        # Square returns (queries, points).
        return points[1] if isinstance(points, tuple) else points

    return run


def _foolbox(name: str, *, minimal: bool = False, **options: Any) -> Run:
    def run(task: Task, x: Tensor, y: Tensor) -> Tensor:
        foolbox = importlib.import_module("foolbox")
        model = foolbox.PyTorchModel(task.model, bounds=(0, 1), device=x.device)
        attack = getattr(foolbox.attacks, name)(**_filled(options, task))
        criterion = foolbox.criteria.Misclassification(y)
        if minimal:
            return attack.run(model, x, criterion)
        return attack.run(model, x, criterion, epsilon=task.threat.eps)

    return run


def _filled(options: Mapping[str, Any], task: Task) -> dict[str, Any]:
    """Options with what depends on the task: functions are called with it."""
    return {name: value(task) if callable(value) else value for name, value in options.items()}


def _eps(task: Task) -> float:
    return task.threat.eps


def _norm(task: Task) -> str:
    return {"linf": "Linf", "l2": "L2"}[task.threat.norm]


def _option(name: str, default: Any) -> Callable[[Task], Any]:
    return lambda task: task.options.get(name, default)


def _apgd(loss: str) -> dict[str, Run]:
    steps = _option("steps", 100)
    return {
        "torchattacks": _torchattacks("APGD", norm=_norm, eps=_eps, steps=steps, loss=loss),
        "pyautoattack": _pyautoattack(
            "autopgd_base", "APGDAttack", norm=_norm, eps=_eps, n_iter=steps, loss=loss
        ),
    }


_SQUARE = {
    "norm": _norm,
    "eps": _eps,
    "n_queries": _option("queries", 5000),
    "resc_schedule": False,
}
_PEERS: dict[str, dict[str, Run]] = {
    "fgsm": {
        "torchattacks": _torchattacks("FGSM", eps=_eps),
        "foolbox": _foolbox("LinfFastGradientAttack"),
    },
    "pgd": {
        "torchattacks": _torchattacks(
            "PGD", eps=_eps, alpha=lambda task: task.threat.eps / 4, steps=_option("steps", 40)
        ),
        "foolbox": _foolbox("LinfPGD", rel_stepsize=0.25, steps=_option("steps", 40)),
    },
    "apgd_ce": _apgd("ce"),
    "apgd_dlr": _apgd("dlr"),
    "square": {
        "torchattacks": _torchattacks("Square", **_SQUARE),
        "pyautoattack": _pyautoattack("square", "SquareAttack", **_SQUARE),
    },
    "cw_l2": {
        "foolbox": _foolbox(
            "L2CarliniWagnerAttack",
            minimal=True,
            binary_search_steps=_option("search_steps", 9),
            steps=_option("max_steps", 1000),
        ),
    },
}
