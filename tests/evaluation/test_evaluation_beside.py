"""Samples shared with another process: the same outcomes, and no loss when it dies."""

import os
import signal

import pytest
from small_attacks import net, same, samples
from torch import nn

from drelu_cli.attacks import ATTACKS
from drelu_cli.attacks.augment import bind_attack
from drelu_cli.core.records import ThreatModel
from drelu_cli.evaluation import beside, suite
from drelu_cli.evaluation.beside import companions_for
from drelu_cli.evaluation.suite import run_attack
from drelu_cli.runtime.companion import company

THREAT = ThreatModel("linf", 0.2)


pytestmark = pytest.mark.usefixtures("two_cores")


def alone(monkeypatch, model, given, bound):
    with monkeypatch.context() as patch:
        patch.setattr(suite, "threads_for", lambda *_: 1)
        return run_attack(model, given, bound, THREAT, seed=3)


def test_outcomes_and_passes_are_those_of_one_process(monkeypatch):
    model = net(nn.Hardtanh)
    given = samples(model, 120)
    monkeypatch.setattr(beside, "_LONG", 100)
    for bound in (
        ATTACKS.bind("square", queries=40),
        ATTACKS.bind("apgd_restarts", passes=60),
        bind_attack("apgd_ce", steps=5, backward="generic", precision="float64"),
    ):
        shared = run_attack(model, given, bound, THREAT, seed=3)
        same(shared, alone(monkeypatch, model, given, bound))
        assert len(company()) == 1


def test_a_lost_process_costs_no_outcome(monkeypatch):
    model, bound = net(nn.Hardtanh), ATTACKS.bind("square", queries=40)
    given = samples(model, 120)
    monkeypatch.setattr(beside, "_LONG", 100)
    (companion,) = companions_for(bound, len(given), 2)
    monkeypatch.setattr(suite, "companions_for", lambda *_: [companion])
    os.kill(companion.pid, signal.SIGKILL)
    same(run_attack(model, given, bound, THREAT, seed=3), alone(monkeypatch, model, given, bound))
    assert not companion.alive


def test_only_long_attacks_have_a_process():
    (there,) = companions_for(ATTACKS.bind("square"), 1000, 2)
    assert companions_for(ATTACKS.bind("pgd"), 1000, 2) == []
    assert company() == [there]


def test_a_short_attack_on_a_dense_net_is_one_run_with_torchs_own_threads(monkeypatch):
    def never(*_):
        pytest.fail("shared out")

    model = net(nn.Hardtanh)
    monkeypatch.setattr(suite, "in_threads", never)
    run_attack(model, samples(model, 120), ATTACKS.bind("pgd", steps=3), THREAT, seed=3)
    assert company() == []
