"""Checks before any attack: a number from a model that fails here means nothing."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from drelu_cli.core.errors import ModelError, UnknownName
from drelu_cli.evaluation import preflight_checks as checks
from drelu_cli.evaluation.averaging import Averaged
from drelu_cli.evaluation.preflight_checks import Objection
from drelu_cli.runtime.modes import evaluation_mode
from drelu_cli.runtime.streams import foreign_randomness

OVERRIDES = ("probabilities", "random", "stateful", "weights", "outputs")
"""What `--allow` may name; range, image size and shape are always refused."""
ALLOWED = "allowed-"
"""How the code of a finding begins that says which refusal was overridden."""


@dataclass(frozen=True)
class Finding:
    """Something about the model or data that is stored with every result.

    Attributes:
        code: stable name, e.g. `model-in-training-mode`, `allowed-probabilities`.
        detail: one sentence for people.
    """

    code: str
    detail: str


def check_overrides(allow: Collection[str]) -> None:
    """Refuses a name that is no override.

    Raises:
        UnknownName: names the nearest and lists all.
    """
    for code in allow:
        if code not in OVERRIDES:
            raise UnknownName.among("override", code, OVERRIDES)


def preflight(
    model: nn.Module, x: Tensor, classes: int, *, allow: Collection[str] = ()
) -> tuple[Finding, ...]:
    """Refuses what cannot be evaluated; names what is handled.

    In evaluation mode: finite weights, images in [0, 1], outputs of the right shape and finite,
    nothing that a forward pass changes in the model, two passes equal bit for bit, logits
    instead of probabilities (rows of at least 8 images). Global random state is put back.

    Args:
        model: logits from (N, C, H, W) float in [0, 1].
        x: (N, C, H, W), a few of the samples to be attacked.
        classes: number of classes of the data set.
        allow: codes of OVERRIDES that are no reason to refuse; one that is not needed says
            nothing.

    Returns:
        Findings that do not stop the evaluation, the overrides that were needed among them.

    Raises:
        ModelError: what no override allows, with the name of the one that would.
        BadValue: inputs outside [0, 1].
        UnknownName: a word in `allow` that is no override.
    """
    check_overrides(allow)
    checks.check_range(x)
    found = []
    if model.training:
        detail = "the model came in training mode; it was evaluated in evaluation mode"
        found.append(Finding("model-in-training-mode", detail))
    for objection in _objections(model, x, classes):
        if objection.code not in allow:
            raise ModelError(
                objection.message,
                hint=f"{objection.hint}; --allow {objection.code} goes on all the same",
            )
        detail = f"allowed, though {objection.message}: {objection.consequence}"
        found.append(Finding(f"{ALLOWED}{objection.code}", detail))
    return tuple(found)


def attackable(model: nn.Module, findings: Collection[Finding]) -> nn.Module:
    """The model to attack after `preflight` found `findings`: a random one through its average."""
    random = any(finding.code == f"{ALLOWED}random" for finding in findings)
    return Averaged(model) if random else model


def check_repeats(model: nn.Module, x: Tensor) -> None:
    """Refuses a model that is random even through its average.

    Args:
        model: from `attackable`.
        x: (N, C, H, W) a few images.

    Raises:
        ModelError: it draws from a generator of its own, which no seed of ours reaches.
    """
    with evaluation_mode(model), torch.no_grad():
        if not torch.equal(model(x), model(x)):
            raise ModelError(
                "the model stays random when the global generators are seeded",
                hint="let it draw from torch's global generator, not from one of its own",
            )


def _objections(model: nn.Module, x: Tensor, classes: int) -> Iterator[Objection]:
    """What speaks against the model, one after another: later checks need earlier ones."""
    if (bad := checks.weights(model)) is not None:
        yield bad
    before = checks.state_of(model)
    # One context for both passes: what draws from the global generators differs between them.
    with evaluation_mode(model), torch.no_grad(), foreign_randomness(0):
        first = checks.outputs_of(model, x, classes)
        changed = checks.stateful(before, model)
        second = checks.outputs_of(model, x, classes)
    for objection in (
        checks.outputs(first),
        changed,
        checks.random(first, second),
        checks.probabilities(first),
    ):
        if objection is not None:
            yield objection
