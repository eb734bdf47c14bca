"""Every registered attack meets the contract; the contract catches attacks that do not."""

import pytest
import torch

from drelu_cli.attacks import ATTACKS, conformance
from drelu_cli.attacks.contract import AttackResult, attack
from drelu_cli.core.registry import Bound

# Shorter than the defaults, for time.
SHORT = {
    "apgd_ce": {"steps": 30},
    "apgd_dlr": {"steps": 30},
    "apgd_margin": {"steps": 30},
    "apgd_ce_rescaled": {"steps": 30},
    "apgd_t": {"steps": 20, "targets": 3},
    "fab_t": {"steps": 20, "targets": 3},
    "cw_l2": {"search_steps": 4, "max_steps": 50},
    "square": {"queries": 120},
    "apgd_guided": {"steps": 20, "warm": 15},
    "apgd_restarts": {"passes": 120, "steps": 20},
    "nes": {"steps": 12, "draws": 10},
    "uniform_draws": {"draws": 30},
}
# Checks that compare with an optimum: random search needs steps, and room even so.
LONG = {
    **SHORT,
    "cw_l2": {"search_steps": 6, "max_steps": 100},
    "square": {"queries": 600},
    "nes": {"steps": 40, "draws": 100},
}
STRONG = (
    conformance.check_closed_form,
    conformance.check_classes,
    conformance.check_corners,
    conformance.check_degenerate_models,
)
SLACK = {("square", "linf"): 1.15, ("square", "l2"): 1.6}
SLACK |= {("nes", "linf"): 1.15, ("nes", "l2"): 1.15}
# Random points compare with no optimum; what a guide is asked is not asked of the model itself.
LEFT_OUT = {"uniform_draws": STRONG, "apgd_guided": (conformance.check_counts,)}


CASES = [
    pytest.param(name, norm, check, id=f"{name}-{norm}-{check.__name__}")
    for name in ATTACKS.names()
    for norm in ATTACKS.resolve(name).norms
    for check in conformance.CHECKS
    if check not in LEFT_OUT.get(name, ())
]


@pytest.mark.parametrize(("name", "norm", "check"), CASES)
def test_contract(name, norm, check):
    options = LONG if check in STRONG else SHORT
    bound = ATTACKS.bind(name, **options.get(name, {}))
    check(conformance.Case(bound, norm, SLACK.get((name, norm), 1.05)))


@pytest.mark.parametrize("name", ATTACKS.names())
def test_declaration(name):
    conformance.check_declaration(ATTACKS.bind(name))


def test_check_attack_runs_everything():
    conformance.check_attack(ATTACKS.bind("pgd"))


def counted(x_adv, forwards=1):
    passes = torch.full((len(x_adv),), forwards, dtype=torch.int64)
    return AttackResult(x_adv, passes, torch.zeros_like(passes))


@attack(version=1, norms=("linf",))
def idle(model, x, y, threat, stream):
    """Never moves."""
    model(x)
    return counted(x.clone())


@attack(version=1, norms=("linf",))
def outside(model, x, y, threat, stream):
    """Leaves the ball."""
    model(x)
    return counted((x + 1.1 * threat.eps).clamp(0, 1))


@attack(version=1, norms=("linf",))
def unboxed(model, x, y, threat, stream):
    """Leaves the box."""
    model(x)
    sign = (model.weight.view(1, *x.shape[1:])).sign() * (2 * y.double() - 1).view(-1, 1, 1, 1)
    return counted(x - threat.eps * sign.abs())


@attack(version=1, norms=("linf",))
def global_noise(model, x, y, threat, stream):
    """Draws from the global generator."""
    model(x)
    return counted((x + threat.eps * (2 * torch.rand_like(x) - 1)).clamp(0, 1))


@attack(version=1, norms=("linf",))
def mode_changer(model, x, y, threat, stream):
    """Leaves the model in training mode where it raises."""
    model.train()
    for _ in range(2):
        model(x)
    model.eval()
    return counted(x.clone(), 2)


@attack(version=1, norms=("linf",))
def forgetful(model, x, y, threat, stream):
    """Sees adversarial points and returns the input."""
    found = ATTACKS.bind("pgd")(model, x, y, threat, stream)
    return AttackResult(x.clone(), found.forwards, found.backwards)


@attack(version=1, norms=("linf",))
def batch_bound(model, x, y, threat, stream):
    """Gives up on all but the first half of what it is given."""
    found = ATTACKS.bind("pgd")(model, x, y, threat, stream)
    half = (len(x) + 1) // 2
    return AttackResult(torch.cat([found.x_adv[:half], x[half:]]), found.forwards, found.backwards)


@attack(version=1, norms=("linf",))
def miscounting(model, x, y, threat, stream):
    """Counts one pass less than it makes."""
    found = ATTACKS.bind("pgd")(model, x, y, threat, stream)
    return AttackResult(found.x_adv, found.forwards - 1, found.backwards)


@attack(version=1, norms=("linf",))
def swallowing(model, x, y, threat, stream):
    """Carries on where the model fails."""
    try:
        model(x)
        model(x)
    except RuntimeError:
        pass
    return counted(x.clone(), 2)


@pytest.mark.parametrize(
    ("broken", "check", "complaint"),
    [
        (idle, conformance.check_closed_form, "misses"),
        (idle, conformance.check_classes, "misses 8 of 8"),
        (idle, conformance.check_corners, "cannot move"),
        (outside, conformance.check_closed_form, "leaves the ball"),
        (unboxed, conformance.check_corners, "leaves the box"),
        (global_noise, conformance.check_side_effects, "leaves traces"),
        (mode_changer, conformance.check_side_effects, "after an exception"),
        (forgetful, conformance.check_best_point, "lost it"),
        (miscounting, conformance.check_counts, "forward passes"),
        (swallowing, conformance.check_side_effects, "swallows"),
        (batch_bound, conformance.check_batches, "depends on"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_contract_catches(broken, check, complaint):
    bound = Bound(broken.__name__, broken, {}, {})
    with pytest.raises(conformance.NotConforming, match=complaint):
        check(conformance.Case(bound, "linf"))
