"""`--certify`: proven per sample, kept slice by slice, a column; and what contradicts it."""

import shutil
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from drelu_cli.activations import ACTIVATIONS
from drelu_cli.attacks import ATTACKS
from drelu_cli.certify import METHOD, VERSION
from drelu_cli.certify.decision import certified
from drelu_cli.core.errors import ModelError
from drelu_cli.core.records import State, ThreatModel
from drelu_cli.evaluation.samples import Samples
from drelu_cli.evaluation.suite import run_attack
from drelu_cli.store.connect import open_store
from drelu_cli.workflows import proving, sweep
from drelu_cli.workflows.attack import attack
from drelu_cli.workflows.certificates import violations
from drelu_cli.workflows.compare import compare
from drelu_cli.workflows.context import Context
from drelu_cli.workflows.plan import Wanted

NET = "digits-dense-relu-s0"
EPS = 0.01
WANTED = Wanted(None, ("pgd:steps=10",), "linf", (EPS,), samples=40, certify=True)
PLAIN = Wanted(None, ("pgd:steps=10",), "linf", (EPS,), samples=40)


@pytest.fixture
def context(small_store, tmp_path):
    return Context(store=shutil.copytree(small_store, tmp_path / "runs"), device="cpu")


def noting(context, kinds=("note",)):
    """The context, and the list of what it will report."""
    said = []

    def progress(kind, fields):
        if kind in kinds:
            said.append(fields)

    return Context(store=context.store, device="cpu", progress=progress), said


def stored(context):
    with open_store(context.store) as store:
        return store.certificates()


def large(stored):
    """Whether this is the one attack of a test at eps 0.3."""
    return stored.evaluation.eps == 0.3


def forge(context, state=State.BROKEN, eps=0.3, version=VERSION, weights=None):
    """Certifies a sample that the attack at eps 0.3 broke (or not); gives the sample."""
    with open_store(context.store) as store:
        record = store.find_model(NET)
        (found,) = [one for one in store.evaluations(model_key=record.key) if large(one)]
        sample = next(one.sample for one in store.outcomes(found.key) if one.state is state)
        digest = weights or record.weights_digest
        of = (record.key, digest, record.dataset_digest, eps, METHOD)
        store.add_certificate(*of, [sample], [True], 1.0, version=version)
        return sample


@pytest.mark.parametrize("name", [NET, "digits-dense-d-relu-1-s0"])
def test_the_column_is_the_proven_share(context, name):
    (entry,) = attack([name], wanted=WANTED, context=context).entries
    found = entry["certificate"]
    assert (found["method"], found["samples"]) == ("crown", 40)
    assert 0 < found["proven"] < 40
    assert entry["columns"]["certified"] == found["proven"] / 40
    assert entry["columns"]["certified"] <= entry["worst_case"]["robust_accuracy"]


def test_what_is_stored_is_shown_without_asking_again(context, monkeypatch):
    (first,) = attack([NET], wanted=WANTED, context=context).entries

    def twice(*_, **__):
        raise AssertionError("proven again")

    monkeypatch.setattr(proving, "certified", twice)
    for wanted in (PLAIN, WANTED):
        (again,) = attack([NET], wanted=wanted, context=context).entries
        assert again["certificate"] == first["certificate"]
    assert first["columns"]["certified"] is not None


def test_without_a_certificate_the_column_is_empty(context):
    (entry,) = attack([NET], wanted=PLAIN, context=context).entries
    assert entry["certificate"] is None
    assert entry["columns"]["certified"] is None


def test_part_of_the_list_fills_no_column(context):
    attack([NET], wanted=WANTED, context=context)
    longer = Wanted(None, ("pgd:steps=10",), "linf", (EPS,), samples=50)
    (entry,) = attack([NET], wanted=longer, context=context).entries
    assert entry["columns"]["certified"] is None
    extended = Wanted(None, ("pgd:steps=10",), "linf", (EPS,), samples=50, certify=True)
    (entry,) = attack([NET], wanted=extended, context=context).entries
    assert entry["certificate"]["samples"] == 50
    (one,) = stored(context)
    assert len(one.samples) == 50


def test_every_slice_is_kept(context, monkeypatch):
    monkeypatch.setattr(proving, "SLICE", 16)
    monkeypatch.setattr(proving, "SLICE_SECONDS", 0.0)
    sizes = []

    def killed(model, x, y, eps, *, method):
        sizes.append(len(x))
        if len(sizes) == 3:
            raise KeyboardInterrupt
        return certified(model, x, y, eps, method=method)

    monkeypatch.setattr(proving, "certified", killed)
    with pytest.raises(KeyboardInterrupt):
        attack([NET], wanted=WANTED, context=context)
    assert [len(one.samples) for one in stored(context)] == [32]
    (entry,) = attack([NET], wanted=WANTED, context=context).entries
    assert sizes == [16, 16, 8, 8]
    assert entry["certificate"]["samples"] == 40


def test_one_certificate_per_radius_and_the_larger_proves_less(context):
    two = Wanted(None, ("fgsm",), "linf", (0.01, 0.03), samples=40, certify=True)
    small, large = attack([NET], wanted=two, context=context).entries
    assert small["columns"]["certified"] > large["columns"]["certified"]
    proven = [{row for row, holds in one.samples.items() if holds} for one in stored(context)]
    assert proven[1] < proven[0]


def test_an_l2_threat_has_no_certificate_and_says_so(context):
    context, said = noting(context)
    wanted = Wanted(None, ("fgsm",), "l2", (0.1,), samples=40, certify=True)
    (entry,) = attack([NET], wanted=wanted, context=context).entries
    assert entry["columns"]["certified"] is None
    assert any("for linf only" in one["text"] for one in said)
    assert stored(context) == []


def test_a_model_without_bounds_says_so_and_is_attacked(context, monkeypatch):
    def unknown(*_, **__):
        raise ModelError("no bounds are known for model.3, a Mystery")

    context, said = noting(context)
    monkeypatch.setattr(proving, "certified", unknown)
    two = Wanted(None, ("fgsm",), "linf", (0.01, 0.03), samples=40, certify=True)
    report = attack([NET], wanted=two, context=context)
    for entry in report.entries:
        assert entry["columns"]["certified"] is None
        (finding,) = entry["findings"]
        assert finding["code"] == proving.NO_BOUNDS
        assert "a Mystery" in finding["detail"]
    assert len([one for one in said if "a Mystery" in one["text"]]) == 1


def test_compare_has_the_column(context):
    attack(
        wanted=Wanted(None, ("fgsm",), "linf", (EPS,), samples=40, certify=True), context=context
    )
    table = compare(where={"eps": str(EPS)}, context=context).table.columns
    attacked = {
        entry["label"]: entry["columns"]["certified"]
        for entry in attack(
            wanted=Wanted(None, ("fgsm",), "linf", (EPS,), samples=40), context=context
        ).entries
    }
    assert dict(zip(table["training"], table["certified"], strict=True)) == attacked
    fewer = compare(where={"eps": str(EPS)}, samples=20, context=context).table.columns
    assert fewer["certified"].notna().all()


class TestViolations:
    LARGE = Wanted(None, ("pgd:steps=10",), "linf", (0.3,), samples=40)

    def test_a_certified_sample_that_an_attack_broke_is_named(self, context):
        assert attack([NET], wanted=self.LARGE, context=context).violations == ()
        sample = forge(context)
        report = attack([NET], wanted=self.LARGE, context=context)
        found = [one for one in report.violations if one["eps"] == 0.3]
        assert [(one["model"], one["attack"], one["samples"]) for one in found] == [
            (NET, "pgd", [sample])
        ]
        assert report.document["violations"] == list(report.violations)
        assert compare(context=context).violations == report.violations

    @pytest.mark.parametrize(
        ("changes", "contradicts"),
        [
            ({}, True),
            ({"eps": 0.4}, True),  # the attack's ball lies inside the proven one
            ({"eps": 0.29}, False),
            ({"state": State.ROBUST}, False),
            ({"version": VERSION + 1}, False),
            ({"weights": "0" * 64}, False),
        ],
    )
    def test_only_what_contradicts_counts(self, context, changes, contradicts):
        weak = Wanted(None, ("pgd:steps=1",), "linf", (0.3,), samples=40)
        attack([NET], wanted=weak, context=context)
        sample = forge(context, **changes)
        with open_store(context.store) as store:
            found = violations(store, store.find_model(NET))
        at_large = [one["samples"] for one in found if one["eps"] == 0.3]
        assert at_large == ([[sample]] if contradicts else [])

    def test_another_engine_counts_and_another_norm_does_not(self, context):
        attack([NET], wanted=self.LARGE, context=context)
        sample = forge(context)
        with open_store(context.store) as store:
            record = store.find_model(NET)
            (own,) = [one for one in store.evaluations(model_key=record.key) if large(one)]
            broken = [one for one in store.outcomes(own.key) if one.sample == sample]
            for changes in ({"engine": "other 1.0"}, {"norm": "l2"}):
                store.add_outcomes(replace(own.evaluation, **changes), broken, seconds=0.0)
            found = [one for one in violations(store, record) if one["eps"] == 0.3]
        assert [(one["engine"], one["norm"]) for one in found] == [
            ("drelu", "linf"),
            ("other 1.0", "linf"),
        ]

    def test_a_sweep_fails_on_it(self, context, monkeypatch):
        attack([NET], wanted=self.LARGE, context=context)
        forge(context)
        real = attack([NET], wanted=self.LARGE, context=context)
        trained = SimpleNamespace(record=SimpleNamespace(name=NET, key="k"), reused=True)
        monkeypatch.setattr(sweep, "train_recipe", lambda *_, **__: trained)
        monkeypatch.setattr(sweep, "attack", lambda *_, **__: real)
        report = sweep.sweep("smoke", preset="tiny", context=context)
        assert report.failures
        assert all("certified, yet broken" in one["error"] for one in report.failures)


@pytest.mark.parametrize("activation", ACTIVATIONS.names())
def test_no_attack_goes_below_the_certificate(activation):
    """Every registered activation, in a small dense net: proven images survive PGD."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(
            nn.Flatten(),
            nn.Linear(16, 12),
            ACTIVATIONS.bind(activation)(12),
            nn.Linear(12, 3),
        ).eval()
        x = torch.rand(30, 1, 4, 4)
    with torch.no_grad():
        model[3].bias -= model(x).mean(0)  # else one class may take all images
        y = model(x).argmax(1)
    shares = []
    for eps in (0.001, 0.02, 0.3):
        proven = certified(model, x, y, eps)
        bound, threat = ATTACKS.bind("pgd", steps=20), ThreatModel("linf", eps)
        judged = run_attack(model, Samples(torch.arange(30), x, y), bound, threat, seed=0)
        robust = torch.tensor([one.state is State.ROBUST for one in judged.outcomes])
        assert not (proven & ~robust).any()
        shares.append((proven.float().mean(), robust.float().mean()))
    assert shares[0][0] > 0.3
    assert shares[-1][1] < 1
