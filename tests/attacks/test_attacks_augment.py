"""Every attack gains a backward pass, a precision and a round; plain ones stay as they were."""

import dataclasses
import inspect
import json

import pytest
import torch
from saturated import Rounding, broken, saturated
from torch import nn

from drelu_cli.attacks import ATTACKS
from drelu_cli.attacks.augment import bind_attack, rebind
from drelu_cli.attacks.contract import AttackResult, attack
from drelu_cli.attacks.engine_autoattack import AutoAttack
from drelu_cli.attacks.engine_torchattacks import Torchattacks
from drelu_cli.core.digest import digest_of
from drelu_cli.core.errors import BadValue, UnknownName
from drelu_cli.core.records import Evaluation, ThreatModel
from drelu_cli.runtime.streams import Stream

THREAT = ThreatModel("linf", 0.1)
GRADIENTS = ("fgsm", "pgd", "apgd_ce", "apgd_dlr", "apgd_margin", "cw_l2", "fab_t")
SHORT = {"cw_l2": {"search_steps": 4, "max_steps": 100}, "fab_t": {"steps": 20}}


def points(bound, model, x, y, threat=THREAT):
    return bound(model, x, y, threat, Stream(0, torch.arange(len(x)))).x_adv


@pytest.mark.parametrize("name", ATTACKS.builtin_names())
def test_defaults_leave_no_trace(name):
    assert bind_attack(name) == ATTACKS.bind(name)
    given = bind_attack(name, backward="own", precision="own", round="1")
    assert given == ATTACKS.bind(name)
    assert given.target is ATTACKS.resolve(name)


def test_a_plain_key_is_the_one_that_was_stored_before():
    # Written down from the release before these options.
    stored = "df20690084e513f37817f3f3bb11c7e4c3fa0a6cdce3f8428047c4b9a7db46f1"
    assert digest_of(bind_attack("apgd_ce", steps="50", backward="own").identity) == stored


def test_only_what_differs_enters_the_key():
    bound = bind_attack("apgd_ce", backward="leaky_cap", steps="50", precision="own", round="2")
    assert bound.changed == {"backward": "leaky_cap", "steps": 50, "round": 2}
    assert bound.identity["options"] == {
        "steps": 50, "restarts": 1, "rho": 0.75, "backward": "leaky_cap", "round": 2
    }  # fmt: skip
    assert bound.given == {"backward": "leaky_cap", "steps": 50, "round": 2}
    plain = ATTACKS.resolve("apgd_ce")
    for declared in ("version", "norms", "min_classes", "minimal_norm"):
        assert getattr(bound.target, declared) == getattr(plain, declared)
    inspect.signature(bound.target).bind(None, None, None, None, None, **bound.effective)


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({"precision": "float16"}, BadValue, "precision"),
        ({"round": "0"}, BadValue, "round"),
        ({"round": "two"}, BadValue, "round"),
        ({"backward": ""}, BadValue, "backward"),
        ({"bakward": "relu"}, UnknownName, "bakward"),
    ],
)
def test_bad_values_are_refused_when_bound(options, error, match):
    with pytest.raises(error, match=match) as caught:
        bind_attack("pgd", **options)
    if error is UnknownName:
        assert "backward" in caught.value.hint
        assert "rel_step" in caught.value.hint


def test_an_unknown_slope_is_refused_with_those_of_the_model():
    model, x, y = saturated(2)
    with pytest.raises(UnknownName, match="leaky_capp") as caught:
        points(bind_attack("pgd", backward="leaky_capp"), model, x, y)
    assert "leaky_cap" in caught.value.hint
    assert "soft_cap" in caught.value.hint


@pytest.mark.parametrize("name", GRADIENTS)
def test_another_backward_pass_breaks_what_the_own_one_does_not(name):
    model, x, y = saturated()
    threat = ThreatModel("l2", 0.4) if name == "cw_l2" else THREAT
    options = SHORT.get(name, {})
    own = broken(bind_attack(name, **options), model, x, y, threat)
    other = broken(bind_attack(name, backward="leaky_cap", **options), model, x, y, threat)
    assert own <= 12
    assert other >= own + 10


def test_an_unregistered_module_without_a_derivative_is_broken_through_a_generic_one():
    model, x, y = saturated()
    stepped = nn.Sequential(model[0], model[1], Rounding(), nn.ReLU(), model[3]).eval()
    with torch.no_grad():
        y = stepped(x).argmax(dim=1)
    own = broken(bind_attack("pgd"), stepped, x, y, THREAT)
    assert broken(bind_attack("pgd", backward="generic"), stepped, x, y, THREAT) >= own + 10


@pytest.mark.parametrize("backward", ["leaky_cap", "generic"])
def test_outcomes_do_not_depend_on_company(backward):
    model, x, y = saturated(20)
    attack_ = bind_attack("pgd", backward=backward, precision="float64")
    whole = points(attack_, model, x, y)
    some = slice(4, 9)
    stream = Stream(0, torch.arange(20)[some])
    assert torch.equal(attack_(model, x[some], y[some], THREAT, stream).x_adv, whole[some])


def test_a_round_draws_anew_and_is_itself_repeatable():
    model, x, y = saturated(4)
    first, second, third = (
        points(bind_attack("pgd", round=number, steps=1), model, x, y) for number in (1, 2, 3)
    )
    assert torch.equal(first, points(ATTACKS.bind("pgd", steps=1), model, x, y))
    assert torch.equal(second, points(bind_attack("pgd", round=2, steps=1), model, x, y))
    assert not torch.equal(first, second)
    assert not torch.equal(second, third)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_float64_finds_what_float32_rounds_away(norm):
    """Gradients of 1e-60 are 0 in float32; points come back in float32, inside ball and box."""
    model, x, y = saturated()
    weights = [model[1], model[3]]
    tiny = nn.Sequential(nn.Flatten(), weights[0], nn.Tanh(), Scale(), weights[1])
    tiny = tiny.float().eval()
    x = x.float()
    with torch.no_grad():
        y = tiny(x).argmax(dim=1)
    threat = ThreatModel(norm, {"linf": 0.1, "l2": 0.6}[norm])
    seen = []

    @attack(version=1, norms=("linf", "l2"))
    def watching(model, x, y, threat, stream):
        seen.append((x.dtype, next(model.parameters()).dtype, model.training))
        return ATTACKS.bind("pgd")(model, x, y, threat, stream)

    own = broken(ATTACKS.bind("pgd"), tiny, x, y, threat)
    bound = bind_attack("pgd", precision="float64")
    target = dataclasses.replace(bound.target, attack=watching)
    bound = dataclasses.replace(bound, target=target, effective={"precision": "float64"})
    found = points(bound, tiny, x, y, threat)
    assert seen == [(torch.float64, torch.float64, False)]
    assert found.dtype == torch.float32
    assert next(tiny.parameters()).dtype == torch.float32
    with torch.no_grad():
        other = int((tiny(found).argmax(dim=1) != y).sum())
    assert other >= own + 10
    delta = (found - x).flatten(1).double()
    size = delta.abs().amax(dim=1) if norm == "linf" else delta.norm(dim=1)
    assert size.max() <= threat.eps + 1e-7
    assert found.min() >= 0
    assert found.max() <= 1


class Scale(nn.Module):
    """Divides the gradient by 1e60; the value stays."""

    def forward(self, x):
        return Faint.apply(x, 1e-60)


class Faint(torch.autograd.Function):
    """The identity with its gradient scaled in the gradient's own precision."""

    @staticmethod
    def forward(ctx, x, factor):
        ctx.factor = factor
        return x.view_as(x)

    @staticmethod
    def backward(ctx, grad):
        return grad * ctx.factor, None


@attack(version=3, norms=("linf",))
def third_party(model, x, y, threat, stream, *, strength: float = 1.0, **more) -> AttackResult:
    """One step of a third party."""
    return ATTACKS.bind("fgsm")(model, x, y, threat, stream)


def test_attacks_of_third_parties_gain_the_options():
    name = f"{__name__}:third_party"
    model, x, y = saturated()
    bound = bind_attack(name, backward="leaky_cap", strength="0.5")
    assert bound.target.version == 3
    assert bound.changed == {"backward": "leaky_cap", "strength": 0.5}
    assert broken(bound, model, x, y, THREAT) > broken(bind_attack(name), model, x, y, THREAT)


@attack(version=1, norms=("linf",))
def with_rounds(model, x, y, threat, stream, *, round: int = 7) -> AttackResult:  # noqa: A002
    """A third party's attack that has an option of the same name."""
    assert round == 2
    return ATTACKS.bind("fgsm")(model, x, y, threat, stream)


def test_an_attacks_own_option_wins():
    model, x, y = saturated(2)
    bound = bind_attack(f"{__name__}:with_rounds", round="2", precision="float64")
    assert bound.identity["options"] == {"round": 2, "precision": "float64"}
    points(bound, model, x, y)


@pytest.mark.parametrize("engine", [Torchattacks, AutoAttack], ids=lambda one: one.__name__)
@pytest.mark.parametrize("options", [{"backward": "relu"}, {"precision": "float64"}, {"round": 2}])
def test_outside_engines_refuse_the_options(engine, options):
    pytest.importorskip("torchattacks" if engine is Torchattacks else "pyautoattack")
    with pytest.raises(BadValue, match=next(iter(options))):
        engine().check(bind_attack("apgd_ce", **options), THREAT)


def evaluation_of(bound, **changes):
    known = Evaluation(
        model_key="m", weights_digest="w", dataset="digits", dataset_digest="d",
        attack=bound.name, given=bound.changed,
        effective=json.loads(json.dumps(dict(bound.effective))), identity=bound.identity,
        version=1, norm="linf", eps=0.1, seed=0,
    )  # fmt: skip
    return dataclasses.replace(known, **changes)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("apgd_ce", {}),
        ("pgd", {"backward": "relu", "round": 3}),
        ("square", {"queries": 10, "precision": "float64"}),
    ],
)
def test_a_stored_attack_is_bound_again(name, options):
    bound = bind_attack(name, **options)
    again = rebind(evaluation_of(bound))
    assert again.identity == bound.identity
    assert evaluation_of(again).key == evaluation_of(bound).key


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"engine": "autoattack (0)"}, "autoattack"),
        ({"version": 99}, "version 99"),
        ({"attack": "transfer"}, "another network"),
    ],
)
def test_what_cannot_be_repeated_is_refused(changes, match):
    with pytest.raises(BadValue, match=match):
        rebind(evaluation_of(bind_attack("apgd_ce"), **changes))
