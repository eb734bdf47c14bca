"""Input gradients that are exactly zero or not finite: the mechanism that hides a weakness."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from drelu_cli.attacks.augment import bind_attack
from drelu_cli.attacks.geometry import random_in_ball
from drelu_cli.attacks.gradient import Loss
from drelu_cli.attacks.losses import cross_entropy, dlr, margin
from drelu_cli.core.records import Evidence
from drelu_cli.evaluation.evidence.contract import (
    CE_ATTACKS,
    DLR_ATTACKS,
    MARGIN_ATTACKS,
    Case,
    check,
)
from drelu_cli.evaluation.samples import Samples
from drelu_cli.evaluation.suite import run_attack
from drelu_cli.runtime.footprint import fitting_batch
from drelu_cli.runtime.streams import Stream

# Share of samples from which a flag is raised; docs/benchmarks/court.md has what honest and
# masked nets show.
ZERO_SHARE = 0.1
_CLEAN_SAMPLES = 1000
# The final point is found again by repeating the attack: few samples tell a share near 0 from
# one near 1, and cost a small part of the run.
_FINAL_SAMPLES = 128
_BATCH = 256

# Loss -> (function, fewest classes, attacks that follow its gradient, attack whose final points
# show it).
_LOSSES: Mapping[str, tuple[Loss, int, tuple[str, ...], str]] = {
    "ce": (cross_entropy, 2, CE_ATTACKS, "pgd"),
    "dlr": (dlr, 3, DLR_ATTACKS, "apgd_dlr"),
    "margin": (margin, 2, MARGIN_ATTACKS, "pgd"),
}


@check(version=1, cheap=True)
def zero_gradient(case: Case) -> Sequence[Evidence]:
    """Share of samples without a usable gradient, per loss, at the clean and the final point.

    Zero exactly, or not finite, in every pixel (Carlini et al. 2019, 1902.06705; "unavailable
    gradients" of Pintor et al. 2022, 2106.09947). At the clean input it is taken over correctly
    classified samples, at an attack's final point over samples it left standing.
    """
    found = []
    clean = _first(case, case.correct, _CLEAN_SAMPLES)
    for name, (loss, fewest, attacks, _) in _LOSSES.items():
        if case.classes >= fewest and len(clean):
            share = zero_share(case.model, clean.x, clean.y, loss)
            found.append(_evidence("zero_gradient", f"{name} at the clean input", share, attacks))
    for attack in ("pgd", "apgd_dlr"):
        standing = _first(case, case.robust(attack), _FINAL_SAMPLES)
        if not len(standing):
            continue
        points = final_points(case, standing, attack)
        for name, (loss, fewest, attacks, shown_by) in _LOSSES.items():
            if shown_by == attack and case.classes >= fewest:
                share = zero_share(case.model, points, standing.y, loss)
                point = f"{name} at the final point of {attack}"
                found.append(_evidence("zero_gradient", point, share, attacks))
    return found


@check(version=1)
def zero_gradient_float64(case: Case) -> Sequence[Evidence]:
    """The same at a random point, and in float64: zeros that rounding made go away there."""
    samples = _first(case, case.correct, _FINAL_SAMPLES)
    if not len(samples):
        return ()
    stream = Stream(case.seed, samples.index.cpu(), ("evidence", "zero_gradient"))
    shift = random_in_ball(samples.x.cpu(), case.threat, stream)
    points = {"the clean input": samples.x, "a random point": shift.to(samples.x)}
    exact = in_float64(case.model, samples.x[:1])
    found = []
    for where, x in points.items():
        for name, (loss, fewest, attacks, _) in _LOSSES.items():
            if case.classes < fewest:
                continue
            if where != "the clean input":
                share = zero_share(case.model, x, samples.y, loss)
                found.append(
                    _evidence("zero_gradient_float64", f"{name} at {where}", share, attacks)
                )
            if exact is not None:
                share = zero_share(exact, x.double(), samples.y, loss)
                point = f"{name} at {where} in float64"
                found.append(_evidence("zero_gradient_float64", point, share, attacks))
    return found


def in_float64(model: nn.Module, x: Tensor) -> nn.Module | None:
    """A copy of `model` that computes in float64; None where it cannot (a type fixed inside).

    Args:
        model: any.
        x: (n, ...) an input it takes.
    """
    try:
        exact = copy.deepcopy(model).double().eval()
        with torch.no_grad():
            fits = exact(x.double()).dtype == torch.float64
    except (RuntimeError, TypeError, ValueError, AttributeError):
        return None
    return exact if fits else None


def zero_share(model: nn.Module, x: Tensor, y: Tensor, loss: Loss) -> float:
    """Share of samples (N, ...) whose input gradient is 0 in every pixel, or not finite."""
    unusable, size = 0, fitting_batch(model, x[:1], len(x), _BATCH)
    for points, labels in zip(torch.split(x, size), torch.split(y, size), strict=True):
        leaf = points.detach().clone().requires_grad_()
        with torch.enable_grad():
            values = loss(model(leaf), labels)
            if not values.requires_grad:
                unusable += len(points)
                continue
            (gradient,) = torch.autograd.grad(
                values.sum(), leaf, allow_unused=True, materialize_grads=True
            )
        flat = gradient.flatten(1)
        unusable += int(((flat == 0).all(1) | ~flat.isfinite().all(1)).sum())
    return unusable / len(x)


def final_points(case: Case, samples: Samples, attack: str) -> Tensor:
    """(n, C, H, W) the points at which the attack ends, found again: no outcome depends on it."""
    return run_attack(case.model, samples, bind_attack(attack), case.threat, seed=case.seed).x_adv


def _first(case: Case, wanted: Sequence[bool] | None, most: int) -> Samples:
    """The first of the samples for which `wanted` holds; none where it is unknown."""
    places = [place for place, yes in enumerate(wanted or ()) if yes][:most]
    return case.samples.rows(torch.tensor(places, dtype=torch.int64, device=case.samples.x.device))


def _evidence(check_: str, point: str, share: float, attacks: tuple[str, ...]) -> Evidence:
    return Evidence(
        check_,
        point,
        share,
        ZERO_SHARE,
        flag=share > ZERO_SHARE,
        mechanism=True,
        attacks=attacks,
        detail=f"the gradient of {point} is zero for {share:.1%} of the samples",
    )
