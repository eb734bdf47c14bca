"""Attacks in an order that honest networks do not show: paired, on the same samples."""

from __future__ import annotations

from collections.abc import Sequence

from drelu_cli.core.records import Evidence, State
from drelu_cli.evaluation.evidence.contract import (
    CE_ATTACKS,
    GRADIENT_ATTACKS,
    Case,
    Need,
    check,
)
from drelu_cli.stats.outcomes import McNemar, mcnemar

# science: an honest, provably robust net loses 1 point to Square, too.
STRONGER = 0.02
LEVEL = 0.01  # of the exact McNemar test
# Accepting ties changes honest nets far less (docs/benchmarks/court.md).
TIES = 0.05
EFFORT = 0.005

RESCALED = Need("apgd_ce_rescaled")
FLOAT64 = Need("apgd_ce:precision=float64")
TIED = Need("square:ties=true")
UNCAPPED = Need("apgd_guided:guide=uncapped,warm=0", capped_only=True)
TWIN = Need("transfer")
DOUBLED = Need("apgd_ce:steps=200,restarts=2", on="standing")
DRAWS = Need("uniform_draws", on="standing")


@check(version=1, cheap=True)
def pgd_below_fgsm(case: Case) -> Sequence[Evidence]:
    """PGD leaves more than FGSM: many steps are worse than one (1802.00420, section 3.1)."""
    return _compared(case, "order", "pgd against fgsm", "fgsm", "pgd", 0.0)


@check(version=1, cheap=True)
def blackbox_stronger(case: Case) -> Sequence[Evidence]:
    """Square, without gradients, breaks more than the strongest gradient attack (1902.06705)."""
    white = case.strongest(GRADIENT_ATTACKS)
    if white is None:
        return ()
    point = f"square against {white[0]}"
    attacks = ("square", *GRADIENT_ATTACKS)
    return _compared(
        case, "blackbox", point, "square", white[0], STRONGER, mechanism=True, attacks=attacks
    )


@check(version=1, needs=(RESCALED, FLOAT64))
def loss_scale(case: Case) -> Sequence[Evidence]:
    """The cross entropy on rescaled logits, or in float64, breaks what it did not as it is."""
    kinds = {"on rescaled logits": RESCALED, "in float64": FLOAT64}
    return [
        one
        for kind, need in kinds.items()
        for one in _compared(
            case,
            "loss_scale",
            f"apgd_ce {kind} against apgd_ce",
            need,
            "apgd_ce",
            STRONGER,
            mechanism=True,
            attacks=CE_ATTACKS,
        )
    ]


@check(version=1, needs=(TIED,))
def walk_with_ties(case: Case) -> Sequence[Evidence]:
    """Square that accepts equal losses breaks much more: the loss is flat around the samples."""
    point = "square with ties against square"
    return _compared(case, "ties", point, TIED, "square", TIES, mechanism=True, attacks=("square",))


@check(version=1, needs=(UNCAPPED, TWIN))
def transfer_stronger(case: Case) -> Sequence[Evidence]:
    """Points of the undefended twin, or of the same weights with m = infinity, break more."""
    white = case.strongest(GRADIENT_ATTACKS)
    if white is None:
        return ()
    kinds = {"the same weights without caps": UNCAPPED, "the undefended twin": TWIN}
    return [
        one
        for kind, need in kinds.items()
        for one in _compared(
            case,
            "transfer",
            f"points of {kind} against {white[0]}",
            need,
            white[0],
            STRONGER,
            mechanism=True,
            attacks=GRADIENT_ATTACKS,
        )
    ]


@check(version=1, needs=(DOUBLED,))
def twice_the_effort(case: Case) -> Sequence[Evidence]:
    """Twice the steps and restarts of APGD-CE still break survivors: the attack was too weak."""
    return _on_standing(case, "effort", "apgd_ce with twice the steps and restarts", DOUBLED)


@check(version=1, needs=(DRAWS,))
def random_draws(case: Case) -> Sequence[Evidence]:
    """Random points of the ball break survivors (1902.06705, section 4.7)."""
    return _on_standing(case, "random_draws", "100 random points of the ball", DRAWS)


def _compared(
    case: Case,
    name: str,
    point: str,
    stronger: str | Need,
    than: str | Need,
    threshold: float,
    *,
    mechanism: bool = False,
    attacks: tuple[str, ...] = (),
) -> list[Evidence]:
    """Points that the first breaks beyond the second; flagged with an exact test."""
    first, second = case.robust(stronger), case.robust(than)
    if first is None or second is None:
        return []
    gain, test = more_broken(first, second)
    flag = test.p < LEVEL and gain > 0 and gain >= threshold
    detail = f"{point}: {100 * gain:+.1f} points more broken (exact McNemar p = {test.p:.2g})"
    return [Evidence(name, point, gain, threshold, flag, mechanism, attacks, detail)]


def more_broken(first: Sequence[bool], second: Sequence[bool]) -> tuple[float, McNemar]:
    """Share broken by `first` minus share broken by `second`, from who stands; with the test."""
    test = mcnemar([not robust for robust in first], [not robust for robust in second])
    return (test.only_a - test.only_b) / len(first), test


def _on_standing(case: Case, name: str, what: str, need: Need) -> list[Evidence]:
    found = case.outcomes.get(need)
    if found is None:
        return []
    fallen = sum(
        outcome.state is State.BROKEN and stands
        for outcome, stands in zip(found, case.standing, strict=True)
    )
    share = fallen / len(found)
    detail = f"{what}: {100 * share:.1f} points of what every plain attack left standing"
    return [Evidence(name, what, share, EFFORT, share >= EFFORT, detail=detail)]
