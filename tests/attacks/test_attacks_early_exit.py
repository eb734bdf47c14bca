"""Early exits change nothing: attacks that take every step come to the same outcomes."""

import pytest
import torch

from drelu_cli.attacks import ATTACKS, apgd, apgd_targeted, fab, pgd
from drelu_cli.attacks.conformance_models import curved_problem
from drelu_cli.core.records import ThreatModel
from drelu_cli.runtime.driver import count, taken
from drelu_cli.runtime.streams import Stream

STEPS = 40


def tireless(queue, start, step, *, keep):
    """`drive` without any early exit: every sample alone, until its last step.

    The first misclassified point of a run is what it found, as in the attack; all others are
    looked at too.
    """
    rows = [_every_step(taken(queue, slice(i, i + 1)), start, step) for i in range(count(queue))]
    return {name: torch.cat([row[name] for row in rows]) for name in keep}


def _every_step(queue, start, step):
    state, found = start(queue), None
    while True:
        last = state["step"].item() >= STEPS
        state = step(state)
        if found is None and state["wrong"].item():
            found = dict(state)
        if last:
            break
    passes = {name: state[name] for name in ("forwards", "backwards")}
    return {**(found or state), **passes}


CASES = [
    ("pgd", pgd, {}),
    ("pgd", pgd, {"loss": "margin", "restarts": 2}),
    ("apgd_ce", apgd, {"restarts": 2}),
    ("apgd_dlr", apgd, {}),
    ("apgd_margin", apgd, {}),
    ("apgd_ce_rescaled", apgd, {}),
    ("apgd_t", apgd_targeted, {"targets": 2}),
    ("fab_t", fab, {"targets": 2}),
]


@pytest.mark.parametrize(("norm", "eps"), [("linf", 0.01), ("l2", 0.05)])
@pytest.mark.parametrize(("name", "room", "options"), CASES)
def test_outcomes_are_those_of_all_steps(monkeypatch, name, room, options, norm, eps):
    model, x, y = curved_problem((1, 6, 6), 12)
    attack, threat = ATTACKS.bind(name, steps=STEPS, **options), ThreatModel(norm, eps)
    short = attack(model, x, y, threat, Stream(0, torch.arange(12)))
    monkeypatch.setattr(room, "drive", tireless)
    full = attack(model, x, y, threat, Stream(0, torch.arange(12)))
    broken = model(short.x_adv).argmax(dim=1) != y
    assert 0 < broken.sum() < 12
    assert torch.equal(model(full.x_adv).argmax(dim=1) != y, broken)
    assert torch.allclose(full.x_adv, short.x_adv, atol=1e-9)
    assert (full.forwards >= short.forwards).all()
    assert full.forwards.sum() > short.forwards.sum()
    assert full.backwards.sum() > short.backwards.sum()
