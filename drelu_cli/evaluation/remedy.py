"""Which attacks a remedy consists of: all that look past a flat activation.

Worst case per sample, on what the plain attacks left standing, in this order: surrogate backward
passes first, since they break most and cost least; walks without gradients last.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from drelu_cli.activations.flatness import flat_names
from drelu_cli.activations.generic import GENERIC, available_surrogates
from drelu_cli.activations.guide import LEAKY, guide_names
from drelu_cli.attacks.augment import bind_attack
from drelu_cli.core.errors import BadValue
from drelu_cli.core.records import ThreatModel
from drelu_cli.core.registry import Bound
from drelu_cli.evaluation.averaging import Averaged
from drelu_cli.evaluation.evidence.gradients import in_float64
from drelu_cli.evaluation.suite import check_fits

MAX_ROUNDS = 4
"""The budget: rounds of remedies; from the second on, only of those that broke something."""
LONGER_SQUARE = 10_000
TARGETED_THROUGH = 2
# Fewer draws than by default: on masked nets a gradient estimate finds no more than Square with
# ties (docs/benchmarks/court.md), which costs less.
NES = {"steps": 40, "draws": 24}

# A short first round for plain runs: one attack per surrogate.
_QUICK_STEPS = 40


def through_surrogates(
    model: nn.Module, x: Tensor, threat: ThreatModel, classes: int
) -> list[Bound]:
    """The begin of a first round: APGD on margin, DLR and cross entropy, through each surrogate.

    Args:
        model: in evaluation mode.
        x: (n, C, H, W) a few images: what is flat is measured.
        threat: norm and radius.
        classes: attacks that are not defined for so few are left out.
    """
    asked = [
        (attack, {"backward": slope})
        for attack in ("apgd_margin", "apgd_dlr", "apgd_ce")
        for slope in _slopes(model, x)
    ]
    return _fitting(asked, threat, classes)


def beyond_surrogates(
    model: nn.Module, x: Tensor, threat: ThreatModel, classes: int, effective: Sequence[str]
) -> list[Bound]:
    """The rest of a first round, in the order it runs.

    Args:
        model: in evaluation mode.
        x: (n, C, H, W) a few images.
        threat: norm and radius.
        classes: attacks that are not defined for so few are left out.
        effective: surrogates that broke something so far, the most first. The targeted attack,
            nine times as dear as the others, goes through the first two; through the first two
            of all where there are none.
    """
    slopes = _slopes(model, x)
    chosen = (list(effective) or slopes)[:TARGETED_THROUGH]
    asked: list[tuple[str, dict[str, Any]]] = [("apgd_t", {"backward": slope}) for slope in chosen]
    asked += [("apgd_ce_rescaled", {})]
    if in_float64(model, x[:1]) is not None:
        double = {"precision": "float64"}
        asked += [("apgd_ce_rescaled", double), ("apgd_dlr", double)]
    soft = next((name for name in ("leaky_cap", LEAKY, *slopes) if name in slopes), None)
    warm = {} if soft is None else {"backward": soft}
    guides = [] if isinstance(model, Averaged) else guide_names(model, x)
    asked += [("apgd_guided", {"guide": name, **warm}) for name in guides]
    asked += [("nes", NES), ("square", {"ties": True, "queries": LONGER_SQUARE})]
    return _fitting(asked, threat, classes)


def quick_round(model: nn.Module, x: Tensor, threat: ThreatModel, classes: int) -> list[Bound]:
    """A few steps through every surrogate: what a plain run can afford beside itself."""
    asked = [
        ("apgd_margin", {"backward": slope, "steps": _QUICK_STEPS}) for slope in _slopes(model, x)
    ]
    return _fitting(asked, threat, classes)


def next_round(effective: Sequence[Bound], number: int) -> list[Bound]:
    """The remedies that broke something in the round before, with other random numbers."""
    return [bind_attack(one.name, **{**dict(one.effective), "round": number}) for one in effective]


def control(passes: int) -> Bound:
    """Plain gradients with restarts, for as many passes per sample as the remedy spent."""
    return bind_attack("apgd_restarts", passes=max(passes, 1))


def _slopes(model: nn.Module, x: Tensor) -> list[str]:
    """Every surrogate of `model`: declared ones, and `generic` wherever something is flat.

    `leaky`, which ReLU declares, is left out beside the slopes of a cap: in the other layers alone
    it does not get past a flat cap, and `generic` leaks in all of them.
    """
    if isinstance(model, Averaged):
        return []  # draws run vectorised: what is inside cannot be looked at
    names = available_surrogates(model, x)
    if GENERIC not in names and flat_names(model, x):
        names = [*names, GENERIC]
    capped = any(name not in (LEAKY, GENERIC) for name in names)
    return [name for name in names if name != LEAKY or not capped]


def _fitting(
    asked: Sequence[tuple[str, dict[str, Any]]], threat: ThreatModel, classes: int
) -> list[Bound]:
    fitting = []
    for name, options in asked:
        bound = bind_attack(name, **options)
        try:
            check_fits(bound, threat, classes)
        except BadValue:
            continue
        fitting.append(bound)
    return fitting
