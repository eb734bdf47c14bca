"""Stacked trainings: each member has the batches and the result that it has alone."""

import copy

import pytest
import torch
from torch import nn

from drelu_cli.activations.capped import drelu, srelu
from drelu_cli.activations.plain import relu
from drelu_cli.core.errors import ModelError
from drelu_cli.core.recipe import Train
from drelu_cli.models.build import build
from drelu_cli.runtime.streams import Stream, seeded_initialisation
from drelu_cli.training import SCHEMES
from drelu_cli.training.fit import BoundPhase, Fit, Images
from drelu_cli.training.resume import save_state
from drelu_cli.training.stack import Member, can_stack, run_stacked


def images(count, offset=0):
    """Two classes that a line separates, as uint8 images."""
    index = torch.arange(offset, offset + count)
    stream = Stream(0, index, ("images",))
    labels = stream.integers("y", (), high=2)
    x = stream.uniform("x", (1, 4, 4)) * 0.5 + 0.5 * labels[:, None, None, None]
    return Images((x * 255).to(torch.uint8), labels, index)


TRAIN, HELD_OUT = images(70), images(33, offset=1000)
SCHEMES_TRIED = {
    "natural": {},
    "madry": {"eps": 0.05, "steps": 2},
    "trades": {"eps": 0.05, "steps": 2},
}


def phase(name="natural", epochs=3, lr=1e-2, **options):
    bound = SCHEMES.bind(name, **{**SCHEMES_TRIED[name], **options})
    return BoundPhase(name, bound, epochs, lr=lr, cap_lr=5e-2)


def fit(seed=0, lambda_=0.1, phases=None, activation=None, dtype=torch.float64, **settings):
    given = {"shape": (1, 4, 4), "classes": 2, "mean": [0.5], "std": [0.25]}
    given["placement"] = settings.pop("placement", "head")
    given["activation"] = activation or (lambda channels: drelu(channels, cap=2.0))
    validation = settings.pop("validation", HELD_OUT)
    with seeded_initialisation("weights", seed):
        model = build("dense", options={"width": 8, "extra": 6}, **given).to(dtype)
    settings = Train(batch=16, seed=seed, **settings)
    return Fit(model, TRAIN, validation, phases or [phase()], lambda_, settings)


def ignore(*_):
    pass


def stacked(fits, most=10, on_epoch=ignore):
    assert can_stack(fits)
    members = [Member(one, on_epoch, ignore) for one in fits]
    found = {id(member.fit): result for member, result in run_stacked(members, most)}
    return [found[id(one)] for one in fits]


def assert_same(alone, together, tolerance=1e-9):
    for name, value in alone.model.state_dict().items():
        torch.testing.assert_close(together.model.state_dict()[name], value, rtol=0, atol=tolerance)
    assert len(together.history) == len(alone.history)
    for mine, other in zip(alone.history, together.history, strict=True):
        assert set(other) - set(mine) <= {"stack"}
        assert other["phase"] == mine["phase"]
        for field in set(mine) - {"seconds", "phase"}:
            assert other[field] == pytest.approx(mine[field], abs=1e-7, rel=1e-7), field
    assert (together.stopped_by, together.stale) == (alone.stopped_by, alone.stale)


MEMBERS = [(0, 0.1), (0, 10.0), (3, 0.1)]


@pytest.mark.parametrize("scheme", SCHEMES_TRIED)
@pytest.mark.parametrize("placement", ["head", "stem", "all"])
def test_a_member_ends_with_the_weights_that_it_has_alone(scheme, placement):
    def made():
        return [fit(*one, [phase(scheme)], placement=placement) for one in MEMBERS]

    alone, together = made(), made()
    expected = [one.run(ignore) for one in alone]
    found = stacked(together)
    for one, other in zip(alone, together, strict=True):
        assert_same(one, other)
    assert [one.stopped_by for one in found] == [one.stopped_by for one in expected]
    assert found[0].validation_loss != pytest.approx(found[1].validation_loss, rel=1e-3)
    assert [record["stack"] for record in together[0].history] == [3, 3, 3]


@pytest.mark.parametrize("activation", [relu, srelu])
def test_nets_without_learnable_caps_stack_too_and_in_float32(activation):
    def made():
        return [fit(seed, 0.0, activation=activation, dtype=torch.float32) for seed in range(2)]

    alone, together = made(), made()
    for one in alone:
        one.run(ignore)
    stacked(together)
    for one, other in zip(alone, together, strict=True):
        for name, value in one.model.state_dict().items():
            torch.testing.assert_close(other.model.state_dict()[name], value, rtol=0, atol=1e-4)
    moved = fit(0, 0.0, activation=activation, dtype=torch.float32).model.state_dict()
    name = "net.dense0.weight"
    assert (together[0].model.state_dict()[name] - moved[name]).abs().max() > 1e-2


def test_a_member_sees_the_batches_that_it_sees_alone():
    asked = fit(3)
    expected = torch.cat(asked.rows())
    seen = []

    one, other = fit(0), fit(3)
    for member in (one, other):
        rows = member.rows
        member.rows = lambda rows=rows: [seen.append(batch) or batch for batch in rows()]
    stacked([one, other])
    count = len(asked.rows())
    of_other = seen[count : 2 * count]
    assert torch.equal(torch.cat(of_other), expected)
    assert not torch.equal(torch.cat(seen[:count]), expected)


def still(seed, **settings):
    """Steps too small for any weight: the validation loss never falls, to the last bit."""
    held = BoundPhase("natural", SCHEMES.bind("natural"), 8, lr=1e-30, cap_lr=1e-30)
    return fit(seed, phases=[held], **settings)


def test_a_member_that_stops_early_leaves_and_changes_nothing_for_the_others():
    def made():
        stops, slows = still(0, stop_patience=2), still(1, stop_patience=8, plateau_patience=1)
        slows.schedule.eps = 0.0  # it does not lower rates as small as these else
        return [stops, slows, fit(2, phases=[phase(epochs=8)])]

    alone, together = made(), made()
    for one in alone:
        one.run(ignore)
    found = stacked(together)
    for one, other in zip(alone, together, strict=True):
        assert_same(one, other)
    assert [len(one.history) for one in together] == [3, 8, 8]
    assert [one.stopped_by for one in found] == ["early stopping", "epochs", "epochs"]
    assert [record["stack"] for record in together[2].history] == [3] * 3 + [2] * 5
    rates = [[record["lr"] for record in one.history] for one in together]
    assert rates[1][-1] < 0.5 * rates[1][0], "its schedule is its own"
    assert len(set(rates[2])) == 1


def test_members_wait_for_each_other_at_a_phase_and_a_free_place_is_taken():
    phases = [phase(epochs=4), phase("madry", epochs=2)]
    alone = [fit(seed, phases=phases) for seed in range(5)]
    together = [fit(seed, phases=phases) for seed in range(5)]
    for one in alone:
        one.run(ignore)
    stacked(together, most=2)
    for one, other in zip(alone, together, strict=True):
        assert_same(one, other)
    assert max(record["stack"] for one in together for record in one.history) == 2


def test_a_member_goes_on_alone_or_in_another_stack_from_any_epoch():
    whole = fit(1)
    whole.run(ignore)
    states = {}

    def keep(current, record):
        if current.settings.seed == 1:
            states[len(current.history)] = copy.deepcopy(current.state())

    stacked([fit(0), fit(1)], on_epoch=keep)
    by_itself, in_another = fit(1), fit(1)
    by_itself.resume(states[1])
    by_itself.run(ignore)
    assert_same(whole, by_itself)
    in_another.resume(states[2])
    stacked([fit(7), in_another, fit(8)])
    assert_same(whole, in_another)


def test_a_saved_state_holds_one_net(tmp_path):
    sizes = {}
    for count in (1, 4):
        made = [fit(seed) for seed in range(count)]
        stacked(made, on_epoch=lambda one, _: save_state(tmp_path / "one", one.state()))
        sizes[count] = (tmp_path / "one").stat().st_size
    assert sizes[4] < 1.1 * sizes[1]


def test_a_member_that_diverges_stops_no_other():
    alone = fit(0, dtype=torch.float32)
    alone.run(ignore)
    sound = fit(0, dtype=torch.float32)
    diverging = fit(1, phases=[phase(lr=1e37)], dtype=torch.float32)
    first, second = stacked([sound, diverging])
    assert first.stopped_by == "epochs"
    assert isinstance(second, ModelError)
    assert "diverged" in second.message
    assert_same(alone, sound, tolerance=1e-4)


def other_data():
    found = fit(1)
    found.data = images(80)
    return found


def with_batch_norm():
    found = fit(1)
    found.model = nn.Sequential(nn.Flatten(), nn.Linear(16, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
    return found


@pytest.mark.parametrize(
    "other",
    [
        lambda: fit(1, phases=[phase("madry")]),
        lambda: fit(1, activation=relu, lambda_=0.0),
        lambda: fit(1, hops=1),
        lambda: fit(1, placement="all"),
        other_data,
        with_batch_norm,
    ],
)
def test_what_differs_in_more_does_not_stack(other):
    assert can_stack([fit(0), fit(1, lambda_=5.0)])
    assert not can_stack([fit(0), other()])
    assert not can_stack([other(), fit(0)])
