"""How an adapter calls its library: options translated, passes counted, nothing left changed."""

from __future__ import annotations

import contextlib
import importlib
import importlib.metadata
import io
import json
import math
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from drelu_cli.attacks.contract import AttackResult
from drelu_cli.attacks.stages import untouched
from drelu_cli.core.errors import BadValue
from drelu_cli.core.records import ThreatModel
from drelu_cli.core.registry import Bound
from drelu_cli.runtime.modes import evaluation_mode
from drelu_cli.runtime.streams import foreign_randomness

BATCH = 250
"""Samples per call of a library: AutoAttack's default. Outcomes depend on it, so it is fixed."""

Perturb = Callable[[Tensor, Tensor], Tensor]
"""A library's attack: x (n, ...), y (n,) -> points (n, ...)."""


@dataclass(frozen=True)
class Counterpart:
    """An attack of ours in a library's words.

    Attributes:
        target: name of the library's class.
        options: our option -> its name there.
        fixed: arguments that make it our attack.
        either: options without a name there whose values all ask for what the library does.
    """

    target: str
    options: Mapping[str, str] = field(default_factory=dict)
    fixed: Mapping[str, Any] = field(default_factory=dict)
    either: frozenset[str] = frozenset()


def translated(bound: Bound, counterpart: Counterpart, library: str) -> dict[str, Any]:
    """The library's arguments for the options of `bound`.

    Raises:
        BadValue: an option that the library lacks differs from its default.
    """
    known = {*counterpart.options, *counterpart.either}
    for option, value in bound.changed.items():
        if option not in known:
            raise BadValue(
                f"{library} cannot do {bound.name} with {option}={value}",
                hint=f"there it can take {', '.join(counterpart.options) or 'no option'}; "
                "the engine drelu takes all",
            )
    named = {
        theirs: bound.effective[ours]
        for ours, theirs in counterpart.options.items()
        if ours in bound.effective
    }
    return {**named, **counterpart.fixed}


def lookup(
    table: Mapping[tuple[str, str], Counterpart], bound: Bound, threat: ThreatModel, library: str
) -> Counterpart:
    """The counterpart of an attack under a norm.

    Raises:
        BadValue: the library has no such attack, or not for this norm.
    """
    if (bound.name, threat.norm) in table:
        return table[bound.name, threat.norm]
    names = list(dict.fromkeys(name for name, _ in table))
    missing = f" for norm {threat.norm}" if bound.name in names else ""
    raise BadValue(f"{library} has no {bound.name}{missing}", hint=f"it has {', '.join(names)}")


class Counted(nn.Module):
    """The model with the rows that pass through it counted.

    The libraries compute in float32; a model of another dtype gets its inputs in its own.

    Attributes:
        forwards: rows sent forward.
        backwards: rows that gradients came back for.
    """

    def __init__(self, model: nn.Module, dtype: torch.dtype) -> None:
        super().__init__()
        self.model = model
        self.dtype = dtype
        self.forwards = 0
        self.backwards = 0

    def forward(self, x: Tensor) -> Tensor:
        """(n, ...) -> logits (n, K) in the dtype of `x`."""
        self.forwards += len(x)
        logits: Tensor = self.model(x.to(self.dtype))
        if logits.requires_grad:
            rows = len(x)
            logits.register_hook(lambda _: self._back(rows))  # type: ignore[no-untyped-call]
        return logits.to(x.dtype)

    def _back(self, rows: int) -> None:
        self.backwards += rows


@contextlib.contextmanager
def lent(model: nn.Module, dtype: torch.dtype, seed: int) -> Iterator[Counted]:
    """The model as a library may have it; everything is as before afterwards, also on errors.

    Evaluation mode; parameters want no gradient, so that a library's `backward()` leaves none;
    global generators seeded by `seed`; what the library prints or warns of is dropped.
    """
    wanted = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    counted = Counted(model, dtype)
    with contextlib.ExitStack() as stack:
        stack.enter_context(evaluation_mode(model))
        stack.enter_context(foreign_randomness(seed))
        stack.enter_context(contextlib.redirect_stdout(io.StringIO()))
        stack.enter_context(quiet())
        stack.enter_context(torch.enable_grad())
        try:
            for parameter, _ in wanted:
                parameter.requires_grad_(False)
            yield counted.eval()
        finally:
            for parameter, flag in wanted:
                parameter.requires_grad_(flag)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without warnings, which are the library's own business."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def called(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    threat: ThreatModel,
    seed: int,
    build: Callable[[Counted, int], Perturb],
) -> AttackResult:
    """Runs a library's attack over `x` in batches of `BATCH`.

    Args:
        model: (n, ...) -> logits (n, K).
        x: (N, ...) in [0, 1].
        y: (N,) int64.
        threat: at eps = 0 the input is returned without a pass.
        seed: of the library's generators.
        build: the counted model, the number of classes K -> the library's attack.

    Returns:
        The library's points in the dtype of `x`; the passes of the whole list divided evenly,
        rounded up.
    """
    if threat.eps == 0 or not len(x):
        return untouched(x)
    with lent(model, x.dtype, seed) as counted:
        with torch.no_grad():
            classes = model(x[:1]).shape[1]
        perturb = build(counted, classes)
        parts = [
            perturb(images.detach().float(), labels).detach()
            for images, labels in zip(torch.split(x, BATCH), torch.split(y, BATCH), strict=True)
        ]
    points = torch.cat(parts).to(device=x.device, dtype=x.dtype)
    return AttackResult(points, _spread(counted.forwards, x), _spread(counted.backwards, x))


def _spread(total: int, x: Tensor) -> Tensor:
    return torch.full((len(x),), math.ceil(total / len(x)), dtype=torch.int64, device=x.device)


def library_module(name: str) -> ModuleType:
    """A module of a library; its import's warnings are dropped.

    Raises:
        ImportError: it is not installed.
    """
    with quiet():
        return importlib.import_module(name)


def library_version(distribution: str) -> str:
    """Version, with the commit where it was installed from a repository; `?` where unknown."""
    try:
        found = importlib.metadata.distribution(distribution)
    except importlib.metadata.PackageNotFoundError:
        return "?"
    origin = json.loads(found.read_text("direct_url.json") or "{}")
    commit = origin.get("vcs_info", {}).get("commit_id", "")
    return f"{found.version} {commit[:7]}".strip()
