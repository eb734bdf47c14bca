"""APGD led by a network without flat activations, and by another network altogether."""

import pytest
import torch
from saturated import broken, saturated

from drelu_cli.activations.guide import guide
from drelu_cli.attacks import ATTACKS
from drelu_cli.attacks.augment import bind_attack
from drelu_cli.attacks.augmented import probes
from drelu_cli.attacks.conformance_models import Recorder, classes_problem, curved_problem
from drelu_cli.attacks.losses import margin, misclassified
from drelu_cli.attacks.transfer import transfer_from
from drelu_cli.core.errors import BadValue, UnknownName
from drelu_cli.core.records import ThreatModel
from drelu_cli.runtime.streams import Stream

THREAT = ThreatModel("linf", 0.1)


def run(bound, model, x, y, threat=THREAT):
    return bound(model, x, y, threat, Stream(0, torch.arange(len(x))))


@pytest.mark.parametrize("name", ["uncapped", "leaky"])
@pytest.mark.parametrize("loss", ["ce", "dlr", "margin"])
def test_a_guide_breaks_what_plain_gradients_do_not(name, loss):
    model, x, y = saturated()
    plain = broken(ATTACKS.bind("apgd_margin"), model, x, y, THREAT)
    led = bind_attack("apgd_guided", guide=name, loss=loss, steps=40, warm=20)
    assert broken(led, model, x, y, THREAT) >= plain + 10


def test_a_surrogate_beneath_changes_the_second_phase_alone():
    model, x, y = saturated()
    options = {"guide": "uncapped", "steps": 20}
    cold = run(bind_attack("apgd_guided", warm=0, **options), model, x, y)
    same = run(bind_attack("apgd_guided", warm=0, backward="leaky_cap", **options), model, x, y)
    assert torch.equal(cold.x_adv, same.x_adv)
    own = broken(bind_attack("apgd_guided", warm=30, **options), model, x, y, THREAT)
    warm = bind_attack("apgd_guided", warm=30, backward="leaky_cap", **options)
    assert broken(warm, model, x, y, THREAT) > own


def test_without_a_cap_there_is_no_uncapped_guide():
    problem = classes_problem("linf", (1, 6, 6), 4, 0.05, 1.05)
    with pytest.raises(BadValue, match="capped"):
        run(bind_attack("apgd_guided", guide="uncapped"), problem.model, problem.x, problem.y)


def test_a_model_with_nothing_flat_leads_itself():
    """Both phases are plain APGD, and no copy is made: every pass is seen."""
    problem = classes_problem("linf", (1, 6, 6), 1, 0.05, 1.05)
    recorder = Recorder(problem.model)
    bound = bind_attack("apgd_guided", steps=5, warm=5)
    found = run(bound, recorder, problem.x, problem.y, ThreatModel("linf", 1e-6))
    asked = [part for part in recorder.points if len(part) == 1]
    assert int(found.forwards) == len(asked) > 4
    assert int(found.backwards) < len(asked)


def test_passes_through_the_guide_are_counted():
    model, x, y = saturated(1)
    recorder, led = Recorder(model), Recorder(guide(model, "leaky", probes(x)))
    threat = ThreatModel("linf", 1e-6)
    bound = transfer_from(led, "0123456789abcdef", steps=9)
    found = run(bound, recorder, x, y, threat)
    assert int(found.forwards) == len(recorder.points) + len(led.points)
    assert int(found.backwards) <= len(led.points)
    assert len(recorder.points) == len(led.points) > 2


def test_the_second_phase_starts_at_the_models_best_point():
    model, x, y = curved_problem((1, 6, 6), 6)
    threat = ThreatModel("linf", 0.002)
    cold = run(bind_attack("apgd_guided", steps=8, warm=0), model, x, y, threat)
    recorder = Recorder(model)
    warm = run(bind_attack("apgd_guided", steps=8, warm=4), recorder, x, y, threat)
    standing = ~misclassified(model(cold.x_adv), y)
    assert standing.any()
    assert any(
        len(part) == int(standing.sum()) and torch.equal(part, cold.x_adv[standing])
        for part in recorder.points
    )
    with torch.no_grad():
        before, after = (margin(model(one.x_adv), y) for one in (cold, warm))
    assert (after >= before).all()


def test_points_of_an_undefended_twin_break_a_masked_model():
    model, x, y = saturated()
    twin = guide(model, "uncapped", probes(x))
    plain = broken(ATTACKS.bind("apgd_margin"), model, x, y, THREAT)
    bound = transfer_from(twin, "0123456789abcdef", steps=40)
    assert broken(bound, model, x, y, THREAT) >= plain + 10


def test_a_transfer_is_named_after_its_source():
    model, _, _ = saturated(1)
    bound, other = (transfer_from(model, digest) for digest in ("0" * 64, "1" * 64))
    assert bound.name == "transfer"
    assert bound.effective == {"source": "0" * 12, "steps": 100, "restarts": 1, "rho": 0.75}
    assert bound.identity != other.identity
    assert bound.target.norms == ("linf", "l2")
    assert "transfer" not in ATTACKS
    with pytest.raises(UnknownName, match="queries"):
        transfer_from(model, "0", queries=5)


def test_transfer_leaves_the_twin_as_it_was():
    model, x, y = saturated(3)
    twin = guide(model, "leaky", probes(x)).train()
    run(transfer_from(twin, "0", steps=2), model, x, y)
    assert all(module.training for module in twin.modules())
    assert all(parameter.grad is None for parameter in twin.parameters())
