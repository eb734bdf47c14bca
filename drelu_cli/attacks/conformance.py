"""What every attack must do, as checks that a third party's attack can be put through.

    from drelu_cli.attacks import ATTACKS
    from drelu_cli.attacks.conformance import check_attack
    check_attack(ATTACKS.bind("my_attack"))

Where the answer is known it is compared with a closed form: on a linear model with weights w a
sample at margin u is broken within eps if and only if eps > |u| / (dual norm of w).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from drelu_cli.attacks.conformance_case import RADIUS, Case, NotConforming
from drelu_cli.attacks.conformance_models import (
    Constant,
    NanBeyond,
    NanSlope,
    Raises,
    Recorder,
    classes_problem,
    corner_problem,
    curved_problem,
    linear_problem,
)
from drelu_cli.attacks.contract import AttackResult
from drelu_cli.attacks.geometry import distance
from drelu_cli.attacks.losses import misclassified
from drelu_cli.core.errors import InternalError
from drelu_cli.core.records import Norm, ThreatModel
from drelu_cli.core.registry import Bound
from drelu_cli.runtime.driver import micro_batch

# Points within this share of the radius count as inside: Linf points lie on the surface, up to
# rounding; L2 points stop short of it by what float32 could round.
INSIDE: dict[Norm, float] = {"linf": 1 + 1e-9, "l2": 1 - 1e-6}
IMAGE, FLAT = (1, 6, 6), (30,)


def check_attack(attack: Bound, *, slack: float = 1.05) -> None:
    """Puts `attack` through every check, under every norm that it declares.

    Args:
        attack: from `ATTACKS.bind(name, **options)`.
        slack: as in `Case`.

    Raises:
        NotConforming: the first check that fails.
    """
    check_declaration(attack)
    for norm in attack.target.norms:  # type: ignore[attr-defined]
        for check in CHECKS:
            check(Case(attack, norm, slack))


def check_declaration(attack: Bound) -> None:
    """`@attack` declares version, norms, classes and whether the attack minimises the norm."""
    declared = {"version": int, "norms": tuple, "min_classes": int, "minimal_norm": bool}
    for name, kind in declared.items():
        if not isinstance(getattr(attack.target, name, None), kind):
            raise NotConforming(
                f"attack {attack.name} declares no {name}", hint="decorate it with @attack(...)"
            )
    norms = attack.target.norms  # type: ignore[attr-defined]
    if not norms or not set(norms) <= set(RADIUS):
        raise NotConforming(f"attack {attack.name} declares norms {norms}", hint="linf, l2 or both")


def check_closed_form(case: Case) -> None:
    """On linear models a sample is broken where theory says so, and nowhere else."""
    for shape in (IMAGE, FLAT):
        for count in (1, 3, 8):
            problem = linear_problem(case.norm, shape, count, case.threat.eps, case.slack)
            wrong = case.wrong_after(problem.model, problem.x, problem.y)
            missed = int((problem.reachable & ~wrong).sum())
            excess = int((wrong & ~problem.reachable).sum())
            where = f"of {count} samples of shape {shape}"
            case.require(missed == 0, f"misses {missed} within reach {where}")
            case.require(excess == 0, f"breaks {excess} out of reach {where}")


def check_classes(case: Case) -> None:
    """On linear models with several classes samples within reach are broken, no others.

    A quarter of them will do: the likeliest other class, where untargeted attacks go, is not
    always the nearest.
    """
    problem = classes_problem(case.norm, IMAGE, 16, case.threat.eps, case.slack)
    wrong = case.wrong_after(problem.model, problem.x, problem.y)
    reachable = int(problem.reachable.sum())
    missed = int((problem.reachable & ~wrong).sum())
    excess = int((wrong & ~problem.reachable).sum())
    case.require(
        4 * missed <= 3 * reachable, f"misses {missed} of {reachable} among several classes"
    )
    case.require(excess == 0, f"breaks {excess} out of reach among several classes")


def check_corners(case: Case) -> None:
    """Pixels that are exactly 0 or 1 can move, and stay inside the box."""
    problem = corner_problem(case.norm, IMAGE, 4, case.threat.eps, case.slack)
    wrong = case.wrong_after(problem.model, problem.x, problem.y)
    case.require(wrong.all(), "cannot move pixels at 0 and 1")


def check_zero_radius(case: Case) -> None:
    """A radius of 0 gives the input back, bit by bit."""
    problem = linear_problem(case.norm, IMAGE, 3, case.threat.eps, case.slack)
    for labels in (problem.y, 1 - problem.y):
        found = case.run(problem.model, problem.x, labels, threat=ThreatModel(case.norm, 0.0))
        case.require(torch.equal(found.x_adv, problem.x), "moves at eps = 0")


def check_batches(case: Case) -> None:
    """Outcomes do not depend on micro-batch, order or company: float64, exactly."""
    model, x, y = curved_problem(IMAGE, 12)
    index = torch.arange(100, 112)

    def outcome(rows: Tensor, size: int) -> Tensor:
        with micro_batch(size):
            found = case.run(model, x[rows], y[rows], index=index[rows])
        with torch.no_grad():
            return torch.as_tensor(model(found.x_adv).argmax(dim=1))

    everything = torch.arange(12)
    expected = outcome(everything, 64)
    broken = int((expected != y).sum())
    if not 0 < broken < 12:
        # Outcomes that are all alike could not show a dependence.
        raise InternalError(f"the conformance problem is too easy or too hard: {broken} of 12")
    for size in (1, 7):
        same = torch.equal(outcome(everything, size), expected)
        case.require(same, f"depends on the micro-batch: {size}")
    backwards = everything.flip(0)
    same = torch.equal(outcome(backwards, 7), expected[backwards])
    case.require(same, "depends on the order of samples")
    some = everything[3:8]
    case.require(torch.equal(outcome(some, 64), expected[some]), "depends on neighbours")


def check_best_point(case: Case) -> None:
    """A misclassified point seen inside the ball is returned."""
    for model, points, one, label, found in _watched(case):
        near = (
            distance(points, one.expand_as(points), case.norm)
            <= case.threat.eps * INSIDE[case.norm]
        )
        with torch.no_grad():
            seen = (near & misclassified(model(points), label.expand(len(points)))).any()
            returned = misclassified(model(found.x_adv), label).all()
        case.require(returned or not seen, "saw an adversarial point and lost it")


def check_counts(case: Case) -> None:
    """Every forward pass is counted; not for attacks that ask a changed copy of the model, too."""
    for _, points, _, _, found in _watched(case):
        counted, made = int(found.forwards), len(points)
        case.require(counted == made, f"counts {counted} forward passes and made {made}")


def _watched(case: Case) -> Iterator[tuple[nn.Module, Tensor, Tensor, Tensor, AttackResult]]:
    """Per sample: the model, the points it was asked about, input, label, what was found."""
    model, x, y = curved_problem(IMAGE, 8)
    for row in range(len(x)):
        recorder = Recorder(model)
        one, label = x[row : row + 1], y[row : row + 1]
        found = case.run(recorder, one, label, index=torch.tensor([row]))
        yield model, torch.cat(recorder.points), one, label, found


def check_side_effects(case: Case) -> None:
    """Nothing but the result changes, also where the model raises in the middle."""
    model, x, y = curved_problem(IMAGE, 6)
    next(model.parameters()).requires_grad_(False)
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    inputs = (x.clone(), y.clone())
    before = _photograph(model)
    found = case.run(model, x, y)
    case.require(_photograph(model) == before, "leaves traces")
    passes = int(found.forwards.max())
    try:
        case.run(Raises(model, after=min(passes - 1, 1)), x, y)
    except Raises.Failure:
        pass
    else:
        case.require(condition=False, complaint="swallows the model's exception")
    case.require(_photograph(model) == before, "leaves traces after an exception")
    unwritten = torch.equal(x, inputs[0]) and torch.equal(y, inputs[1])
    case.require(unwritten, "writes into its inputs")


def check_degenerate_models(case: Case) -> None:
    """Zero, NaN and missing gradients give valid points; non-finite logits are misclassified."""
    _, x, _ = curved_problem(IMAGE, 3)
    y = torch.zeros(3, dtype=torch.int64)
    for trainable in (True, False):
        case.run(Constant(trainable=trainable), x, y)
    problem = linear_problem(case.norm, IMAGE, 4, case.threat.eps, case.slack)
    case.run(NanSlope(problem.model), problem.x, problem.y)
    upper = problem.y == 0
    wrong = case.wrong_after(NanBeyond(problem.model), problem.x[upper], problem.y[upper])
    case.require(torch.equal(wrong, problem.reachable[upper]), "loses non-finite logits")


__all__ = ["CHECKS", "Case", "NotConforming", "check_attack", "check_declaration"]

CHECKS: tuple[Callable[[Case], None], ...] = (
    check_closed_form,
    check_classes,
    check_corners,
    check_zero_radius,
    check_batches,
    check_best_point,
    check_counts,
    check_side_effects,
    check_degenerate_models,
)


def _photograph(model: nn.Module) -> list[Any]:
    """Everything an attack must leave alone, as comparable values."""
    parameters = [
        (
            name,
            value.requires_grad,
            value.tolist(),
            None if value.grad is None else value.grad.tolist(),
        )
        for name, value in model.named_parameters()
    ]
    modes = [module.training for module in model.modules()]
    generator = torch.random.get_rng_state().tolist()
    return [parameters, modes, generator, torch.is_grad_enabled(), torch.get_default_dtype()]
