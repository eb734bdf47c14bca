"""Both adapters: where points lie, what stays unchanged, what is counted, what is refused."""

import random

import numpy as np
import pytest
import torch
from engine_cases import (
    CASES,
    CLASSES,
    RADII,
    attacked,
    engine_of,
    images,
    net,
    short,
)

from drelu_cli.attacks import ATTACKS
from drelu_cli.attacks.engine_call import BATCH
from drelu_cli.core.errors import BadValue, MissingExtra
from drelu_cli.core.records import ThreatModel
from drelu_cli.evaluation.judge import predict, verify

each_case = pytest.mark.parametrize(("engine", "name", "norm"), CASES)


@each_case
def test_points_lie_inside_ball_and_box_and_some_are_misclassified(engine, name, norm):
    model = net()
    x, y, found = attacked(engine, name, norm, model=model, eps=3 * RADII[norm])
    verify(x, found.x_adv, ThreatModel(norm, 3 * RADII[norm]), attack=name)
    assert bool((predict(model, found.x_adv) != y).any())


@each_case
def test_float64_models_get_float64_points(engine, name, norm):
    x, _, found = attacked(engine, name, norm, model=net(torch.float64))
    assert found.x_adv.dtype == torch.float64
    verify(x, found.x_adv, ThreatModel(norm, RADII[norm]), attack=name)


def world(model):
    """Everything an adapter must leave as it was."""
    return {
        "torch": torch.get_rng_state().tolist(),
        "numpy": np.random.get_state()[1].tolist(),  # noqa: NPY002
        "python": random.getstate(),
        "modes": [module.training for module in model.modules()],
        "wanted": [p.requires_grad for p in model.parameters()],
        "gradients": [None if p.grad is None else p.grad.tolist() for p in model.parameters()],
        "state": [tensor.tolist() for tensor in model.state_dict().values()],
        "grad mode": torch.is_grad_enabled(),
    }


def odd_net():
    """A net whose modules are in different modes, one parameter frozen, one with a gradient."""
    model = net()
    model[4].train()
    first, *_, last = model.parameters()
    first.requires_grad_(False)
    last.grad = torch.ones_like(last)
    return model


@each_case
def test_the_world_is_unchanged(engine, name, norm, capsys):
    model = odd_net()
    before = world(model)
    attacked(engine, name, norm, model=model)
    assert world(model) == before
    printed = capsys.readouterr()
    assert not printed.out
    assert not printed.err


@each_case
def test_the_world_is_unchanged_after_an_error(engine, name, norm):
    model = odd_net()
    x, y = images(net())
    before = world(model)
    calls = iter(range(100))

    def fail(module, given, logits):
        if next(calls) == 1:  # the library's own first call; 0 asks for the number of classes
            raise RuntimeError("the model failed")

    handle = model.register_forward_hook(fail)
    with pytest.raises(RuntimeError, match="the model failed"):
        engine_of(engine).attack(model, x, y, short(name), ThreatModel(norm, RADII[norm]), 0)
    handle.remove()
    assert world(model) == before


@each_case
def test_a_seed_gives_one_result(engine, name, norm):
    first, again = (attacked(engine, name, norm, seed=4)[2] for _ in range(2))
    assert torch.equal(first.x_adv, again.x_adv)
    assert torch.equal(first.forwards, again.forwards)


RANDOM = [case for case in CASES if case[1] in ("pgd", "apgd_ce", "apgd_dlr", "apgd_t", "square")]


@pytest.mark.parametrize(("engine", "name", "norm"), RANDOM)
def test_another_seed_gives_other_points(engine, name, norm):
    first, other = (
        attacked(engine, name, norm, seed=seed, eps=3 * RADII[norm])[2] for seed in (4, 5)
    )
    assert not torch.equal(first.x_adv, other.x_adv)


# Forwards and backwards per sample where no sample breaks. APGD: the clean look, steps + 1
# points. APGD-T: the clean look, and per target another for its order. FAB: the clean look, and
# per target two of the input, two of each step's point, one of the result. Square: the clean
# look, start, queries, the look at the result.
STEPS, TARGETS = 5, CLASSES - 1
PASSES = {
    "fgsm": (1, 1),
    "pgd": (STEPS, STEPS),
    "apgd_ce": (STEPS + 2, STEPS + 1),
    "apgd_dlr": (STEPS + 2, STEPS + 1),
    "apgd_t": (1 + TARGETS * (STEPS + 2), TARGETS * (STEPS + 1)),
    "fab_t": (1 + TARGETS * (2 * STEPS + 3), TARGETS * STEPS),
    "square": (23, 0),
    "cw_l2": (30, 30),
}


@each_case
def test_passes_are_counted(engine, name, norm):
    _, _, found = attacked(engine, name, norm, eps=1e-6)
    forwards, backwards = PASSES[name]
    assert found.forwards.tolist() == [forwards] * 12
    assert found.backwards.tolist() == [backwards] * 12


def test_passes_of_a_list_are_spread_and_rounded_up():
    # Samples that break leave Square early, so the total is no multiple of the list.
    _, _, found = attacked("autoattack", "square", "linf", eps=0.3, queries=200)
    assert len(set(found.forwards.tolist())) == 1
    assert 0 < found.forwards[0] < 203
    assert found.forwards.dtype == torch.int64


@each_case
def test_a_radius_of_zero_and_an_empty_list_cost_nothing(engine, name, norm):
    x, _, found = attacked(engine, name, norm, eps=0.0)
    assert torch.equal(found.x_adv, x)
    assert int(found.forwards.sum() + found.backwards.sum()) == 0
    x, _, found = attacked(engine, name, norm, count=0)
    assert found.x_adv.shape == x.shape == (0, 1, 8, 8)


@pytest.mark.parametrize(("engine", "name"), [("autoattack", "square"), ("torchattacks", "fgsm")])
def test_long_lists_go_in_batches_and_come_back_in_order(engine, name):
    options = {"queries": 1} if name == "square" else {}
    x, _, found = attacked(engine, name, "linf", count=BATCH + 3, **options)
    verify(x, found.x_adv, ThreatModel("linf", RADII["linf"]), attack=name)


def test_a_single_sample_can_be_attacked():
    for engine, name, norm in CASES:
        x, _, found = attacked(engine, name, norm, count=1)
        assert found.x_adv.shape == x.shape


REFUSED = [
    ("autoattack", "square", {"ties": True}, "ties"),
    ("torchattacks", "pgd", {"restarts": 2}, "restarts"),
    ("torchattacks", "pgd", {"loss": "dlr"}, "loss"),
    ("torchattacks", "square", {"ties": True}, "ties"),
    ("torchattacks", "cw_l2", {"search_steps": 5}, "search_steps"),
    ("torchattacks", "cw_l2", {"patience": 5}, "patience"),
    ("torchattacks", "cw_l2", {"initial_c": 0.1}, "initial_c"),
]


@pytest.mark.parametrize(("engine", "name", "options", "named"), REFUSED)
def test_what_cannot_be_done_equally_is_refused_by_name(engine, name, options, named):
    adapter = engine_of(engine)
    norm = "l2" if name == "cw_l2" else "linf"
    with pytest.raises(BadValue, match=f"{engine}.*{name} with {named}="):
        adapter.check(ATTACKS.bind(name, **options), ThreatModel(norm, 0.1))


@pytest.mark.parametrize(
    ("engine", "name", "norm"),
    [
        ("autoattack", "fgsm", "linf"),
        ("autoattack", "pgd", "l2"),
        ("autoattack", "cw_l2", "l2"),
        ("torchattacks", "cw_l2", "linf"),
    ],
)
def test_what_the_library_lacks_is_refused(engine, name, norm):
    with pytest.raises(BadValue, match=f"has no {name}"):
        engine_of(engine).check(ATTACKS.bind(name), ThreatModel(norm, 0.1))


@each_case
def test_defaults_are_accepted(engine, name, norm):
    engine_of(engine).check(ATTACKS.bind(name), ThreatModel(norm, 0.1))


@pytest.mark.parametrize("engine", ["autoattack", "torchattacks"])
def test_a_missing_library_names_the_extra(engine, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingExtra) as raised:
        engine_of(engine)
    assert raised.value.exit_code == 2
    assert raised.value.hint == 'pip install "drelu-cli[reference]"'
