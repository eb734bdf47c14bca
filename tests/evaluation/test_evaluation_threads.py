"""Samples attacked in parts, one thread each: the same outcomes, whoever shares a batch."""

import threading
from dataclasses import replace

import pytest
import torch
from small_attacks import net, same, samples
from torch import nn

from drelu_cli.attacks import ATTACKS
from drelu_cli.attacks.augment import bind_attack
from drelu_cli.attacks.contract import AttackResult, attack
from drelu_cli.core.records import State, ThreatModel
from drelu_cli.evaluation import suite
from drelu_cli.evaluation.suite import run_attack
from drelu_cli.evaluation.threads import in_threads, threads_for, threads_pay
from drelu_cli.runtime.driver import Stopped, drive, micro_batch_size, stoppable

THREAT = ThreatModel("linf", 0.2)


@pytest.mark.parametrize(
    "bound",
    [
        ATTACKS.bind("pgd", steps=5),
        ATTACKS.bind("apgd_t", steps=5),
        ATTACKS.bind("square", queries=30),
        ATTACKS.bind("apgd_restarts", passes=60),
        bind_attack("apgd_ce", steps=5, backward="generic"),
        bind_attack("pgd", steps=5, precision="float64"),
        bind_attack("apgd_guided", steps=5, warm=5, guide="leaky"),
    ],
    ids=lambda bound: bound.name,
)
def test_outcomes_and_passes_are_those_of_one_thread(two_cores, monkeypatch, bound):
    model = net(nn.Hardtanh, convolution=True)
    given = samples(model)
    assert threads_for(model, given.x, bound) == 2
    assert threads_pay(model)
    assert not threads_pay(net())
    shared = run_attack(model, given, bound, THREAT, seed=3)
    assert torch.get_num_threads() == 2
    monkeypatch.setattr(suite, "threads_for", lambda *_: 1)
    alone = run_attack(model, given, bound, THREAT, seed=3)
    same(shared, alone)
    assert State.BROKEN in {one.state for one in shared.outcomes}


def test_what_is_not_certain_runs_in_one_thread(two_cores):
    class Counting(nn.Module):
        def forward(self, x):
            return x

    bound, model = ATTACKS.bind("pgd"), net()
    x = samples(model).x
    assert threads_for(model, x, bound) == 2
    assert threads_for(model, x[:60], bound) == 1, "too few for two"
    assert threads_for(nn.Sequential(Counting(), *model).eval(), x, bound) == 1

    @attack(version=1, norms=("linf",))
    def theirs(model, x, y, threat, stream) -> AttackResult:
        raise AssertionError

    theirs.__module__ = "their_package.attacks"
    assert threads_for(model, x, replace(bound, target=theirs)) == 1
    torch.set_num_threads(1)
    assert threads_for(model, x, bound) == 1


def test_each_part_has_one_core_and_its_share_of_the_micro_batch(two_cores):
    seen, models = [], []
    model = net()

    def run(own, rows):
        models.append(own)
        seen.append((torch.get_num_threads(), micro_batch_size(), rows.tolist()))
        return AttackResult(rows[:, None].double(), rows, rows + 1)

    found = in_threads([run, run], model, 5)
    assert len({id(one) for one in (*models, model)}) == 3, "each thread has a copy of its own"
    assert found.forwards.tolist() == [0, 1, 2, 3, 4]
    assert found.backwards.tolist() == [1, 2, 3, 4, 5]
    assert found.x_adv[:, 0].tolist() == [0, 1, 2, 3, 4]
    whole = micro_batch_size()
    assert sorted(seen) == [(1, whole // 2, [0, 2, 4]), (1, whole // 2, [1, 3])]


def test_an_error_in_one_part_ends_the_others_at_their_next_step(two_cores):
    started = threading.Event()

    def run(_, rows):
        if rows[0] == 1:
            assert started.wait(10)
            raise ValueError("broken")

        def step(state):
            started.set()
            return dict(state)

        def start(queue):
            return {**queue, "done": torch.zeros(len(queue["x"]), dtype=torch.bool)}

        return drive({"x": rows}, start, step, keep=("x",))

    with pytest.raises(ValueError, match="broken"):
        in_threads([run, run], net(), 4)  # comes back although the first part never ends by itself
    assert torch.get_num_threads() == 2


def test_a_drive_ends_once_it_is_told():
    stop = threading.Event()
    stop.set()
    rows = {"x": torch.zeros(2)}
    with stoppable(stop), pytest.raises(Stopped):
        drive(rows, lambda queue: {**queue, "done": queue["x"] > 1}, dict, keep=("x",))
