"""What every check of the court is: a function from a case to what it saw.

    check(case) -> sequence of Evidence

A check sees the model, the samples and stored outcomes; it stores nothing and decides nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, TypeVar, cast

from torch import nn

from drelu_cli.core.records import Evidence, Norm, Outcome, State, ThreatModel
from drelu_cli.evaluation.samples import Samples

CE_ATTACKS = ("fgsm", "pgd", "apgd_ce")
DLR_ATTACKS = ("apgd_dlr", "apgd_t")
MARGIN_ATTACKS = ("fab_t", "cw_l2")
GRADIENT_ATTACKS = (*CE_ATTACKS, *DLR_ATTACKS, *MARGIN_ATTACKS)


@dataclass(frozen=True)
class Need:
    """A run whose outcomes a check reads.

    Attributes:
        attack: as typed after `--attack`.
        eps: radius; None takes the case's.
        on: `all` samples of the list, or those left `standing` by the plain attacks.
        capped_only: only where the model has a twin with m = infinity.
        norm: only under this norm; None: under any.
    """

    attack: str
    eps: float | None = None
    on: Literal["all", "standing"] = "all"
    capped_only: bool = False
    norm: Norm | None = None


@dataclass(frozen=True)
class Case:
    """What checks look at.

    Attributes:
        model: logits from images, in evaluation mode, on the device of the samples.
        samples: the whole list.
        classes: of the data set.
        threat: norm and radius.
        seed: of the attacks.
        outcomes: of finished runs, in the order of the list: full runs at default parameters by
            the attack's name, runs that a check needs by their `Need`.
        standing: (N,) per sample: correct and unbroken by every plain attack so far.
    """

    model: nn.Module
    samples: Samples
    classes: int
    threat: ThreatModel
    seed: int
    outcomes: Mapping[str | Need, Sequence[Outcome]] = field(default_factory=dict)
    standing: Sequence[bool] = ()

    def robust(self, run: str | Need) -> list[bool] | None:
        """(N,) whether each sample stood; None where the run is missing or left samples out."""
        found = self.outcomes.get(run)
        if found is None or any(outcome.state is State.NOT_RUN for outcome in found):
            return None
        return [outcome.state is State.ROBUST for outcome in found]

    def strongest(self, names: Sequence[str]) -> tuple[str, list[bool]] | None:
        """The full run of lowest robust accuracy among `names`; of equal ones the last."""
        best: tuple[str, list[bool]] | None = None
        for name in names:
            robust = self.robust(name)
            if robust is not None and (best is None or sum(robust) <= sum(best[1])):
                best = (name, robust)
        return best

    @property
    def correct(self) -> list[bool] | None:
        """(N,) whether the clean input is classified correctly; None where nothing has run."""
        for run in self.outcomes.values():
            if all(outcome.state is not State.NOT_RUN for outcome in run):
                return [not outcome.clean_wrong for outcome in run]
        return None


class Check(Protocol):
    """The signature of a check, with what `@check` declares."""

    cheap: bool
    version: int
    needs: tuple[Need, ...]

    def __call__(self, case: Case, **options: Any) -> Sequence[Evidence]:
        """What it saw; nothing where it does not apply."""
        ...


F = TypeVar("F", bound=Callable[..., Sequence[Evidence]])


def check(*, version: int, cheap: bool = False, needs: tuple[Need, ...] = ()) -> Callable[[F], F]:
    """Declares a check.

    Args:
        version: raised when values change.
        cheap: runs with every `drelu attack`, on what is stored; else with `--suite adaptive`.
        needs: runs that must be there; of those that do not fit the model it gets none.
    """

    def declare(function: F) -> F:
        declared = cast(Any, function)
        declared.version, declared.cheap, declared.needs = version, cheap, needs
        return function

    return declare
