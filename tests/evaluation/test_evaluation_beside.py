"""Samples shared with another process: the same outcomes, and no loss when it dies."""

import os
import signal

import pytest
import torch
from small_attacks import net, same, samples
from torch import nn

from drelu_cli.attacks import ATTACKS
from drelu_cli.attacks.augment import bind_attack
from drelu_cli.core.records import ThreatModel
from drelu_cli.evaluation import beside, suite
from drelu_cli.evaluation.beside import companions_for
from drelu_cli.evaluation.suite import run_attack
from drelu_cli.runtime.companion import company, dismiss

THREAT = ThreatModel("linf", 0.2)


@pytest.fixture(autouse=True)
def two_cores():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)
    dismiss()


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
        ATTACKS.bind("apgd_restarts", passes=60),  # its cost is unknown: it takes who is there
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


def test_short_attacks_start_no_process():
    assert companions_for(ATTACKS.bind("pgd"), 1000, 2) == []
    assert company() == []
    assert len(companions_for(ATTACKS.bind("square"), 1000, 2)) == 1
    assert len(company()) == 1
