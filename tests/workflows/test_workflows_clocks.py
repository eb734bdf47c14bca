"""Real steps, timed: what is timed and what it is divided by, on a clock that counts images."""

import pytest
import torch

from drelu_cli.attacks.augment import bind_attack
from drelu_cli.core.errors import ModelError
from drelu_cli.data.loading import load
from drelu_cli.runtime.timing import PassTimes
from drelu_cli.workflows import clocks
from drelu_cli.workflows.clocks import AttackClock, attack_clock, training_clock
from drelu_cli.workflows.effective import effective
from drelu_cli.workflows.fitting import build_model
from drelu_cli.workflows.recipes import members, read_source

PASSES = PassTimes(forward=1e-5, gradient=1e-5, step=1e-5, batch=50, threads=1)
SLOW = PassTimes(forward=0.1, gradient=0.3, step=0.5, batch=8, threads=1)
CALL, ROW = 5.0, 1.0  # seconds of a forward pass on this clock, and of each of its images


def recipe(*options):
    return effective(next(members(read_source(None), preset="fast", options=options))[0])


@pytest.fixture
def data(tmp_path):
    return load("digits", tmp_path)


@pytest.fixture
def seen(monkeypatch):
    """Sizes of the batches that a timed run put through the network."""
    sizes = []

    def median_seconds(work):
        sizes.clear()
        work()
        return sum(CALL + ROW * size for size in sizes)

    def prepared(*arguments):
        fit = made(*arguments)
        fit.model.register_forward_hook(lambda _, inputs, __: sizes.append(len(inputs[0])))
        return fit

    made = clocks.prepared
    monkeypatch.setattr(clocks, "median_seconds", median_seconds)
    monkeypatch.setattr(clocks, "prepared", prepared)
    return sizes


def hooked(data, sizes):
    model = build_model(recipe(), data)
    model.register_forward_hook(lambda _, inputs, __: sizes.append(len(inputs[0])))
    return model


def clock(scheme, data, *options):
    made = recipe(("scheme", scheme), ("train.batch", 16), *options)
    return training_clock(made, made.phase[-1], data, torch.device("cpu"), PASSES)


def test_a_training_image_pays_for_its_share_of_the_mini_batch(data, seen):
    found = clock("natural", data)
    assert found.image == pytest.approx((CALL + 16 * ROW) / 16)
    assert found.validated < (CALL + 16 * ROW) / 16 + 2 * ROW  # two passes, of larger batches
    assert found.state > 0


def test_an_adversarial_step_pays_for_its_inner_attack(data, seen):
    natural, madry = clock("natural", data), clock("madry:steps=3", data)
    assert madry.image >= 4 * natural.image
    assert madry.validated > natural.validated


def test_hops_are_timed_as_the_phase_that_they_repeat(data, seen):
    assert clock("natural", data, ("train.hops", 2)).image == clock("natural", data).image


def test_a_scheme_that_cannot_train_here_is_billed_by_its_passes(data, seen, monkeypatch):
    def refuses(*_):
        raise ModelError("no bounds")

    monkeypatch.setattr(clocks, "prepared", refuses)
    assert clock("natural", data).image == PASSES.step
    assert clock("madry:steps=3", data).image == pytest.approx(PASSES.step + 3 * PASSES.gradient)


@pytest.mark.parametrize(("name", "norm"), [("pgd", "linf"), ("apgd_ce", "linf"), ("cw_l2", "l2")])
def test_a_pass_of_an_attack_has_a_fixed_part_and_one_per_image(data, seen, name, norm):
    found = attack_clock(hooked(data, seen), data, bind_attack(name), norm, PASSES)
    forward_share = found.each / ROW
    assert 0.3 < forward_share < 1.5  # half of the passes are forward, judging takes two more
    assert found.fixed == pytest.approx(CALL * forward_share, rel=0.3)


def test_an_attack_in_lockstep_pays_the_fixed_part_once_per_batch():
    found = AttackClock(fixed=10, each=2)
    assert found.seconds(100, 50) == 100 * (10 + 50 * 2)
    assert found.seconds(100, 50, share=0.1) == pytest.approx(100 * (10 + 5 * 2))
    assert found.seconds(100, 1025) == 100 * (2 * 10 + 1025 * 2)


def test_slow_networks_are_billed_by_passes_alone(data, seen):
    model = hooked(data, seen)
    made = recipe()
    assert attack_clock(model, data, bind_attack("pgd"), "linf", SLOW) == AttackClock(0.0, 0.15)
    assert attack_clock(model, data, bind_attack("square"), "linf", SLOW) == AttackClock(0.0, 0.1)
    assert training_clock(made, made.phase[0], data, torch.device("cpu"), SLOW).image == 0.5
    assert seen == []


def test_an_attack_that_cannot_run_here_is_billed_by_passes(data, seen, monkeypatch):
    def refuses(*_, **__):
        raise ValueError("a third party's")

    monkeypatch.setattr(clocks, "run_attack", refuses)
    found = attack_clock(hooked(data, seen), data, bind_attack("pgd"), "linf", PASSES)
    assert found == AttackClock(0.0, PASSES.gradient / 2)


@pytest.mark.parametrize("name", ["apgd_restarts:passes=900", "nes"])
def test_an_attack_that_cannot_be_cut_is_not_run(data, seen, name):
    part, _, option = name.partition(":")
    options = {"passes": 900} if option else {}
    found = attack_clock(hooked(data, seen), data, bind_attack(part, **options), "linf", PASSES)
    assert found == AttackClock(0.0, PASSES.gradient / 2)
    assert seen == []
