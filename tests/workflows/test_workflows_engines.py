"""Another library's attacks: same suites, same store, keys and numbers of their own."""

import shutil

import pytest
import torch

from drelu_cli.attacks.contract import AttackResult
from drelu_cli.attacks.engines import ENGINES
from drelu_cli.core.errors import BadValue, UnknownName
from drelu_cli.core.records import State
from drelu_cli.store.connect import open_store
from drelu_cli.workflows import court
from drelu_cli.workflows.attack import attack
from drelu_cli.workflows.compare import compare
from drelu_cli.workflows.context import Context
from drelu_cli.workflows.plan import Wanted
from drelu_cli.workflows.stats import stats

NET = "digits-dense-relu-s0"


class Fake:
    """Steps to the far corner of the ball; knows fgsm and pgd only."""

    label = "fake 1.2"
    reach = 1.0
    calls: list[tuple[str, int]]

    def __init__(self):
        Fake.calls = getattr(Fake, "calls", [])

    def check(self, bound, threat):
        if bound.name not in ("fgsm", "pgd"):
            raise BadValue(f"{self.label} has no {bound.name}")

    def attack(self, model, x, y, bound, threat, seed):
        Fake.calls.append((bound.name, len(x)))
        sign = torch.where(x > 0.5, -1.0, 1.0)
        passes = torch.ones(len(x), dtype=torch.int64)
        return AttackResult(x + self.reach * threat.eps * sign, passes, passes)


@pytest.fixture
def context(small_store, tmp_path, monkeypatch):
    Fake.calls = []
    monkeypatch.setattr(ENGINES, "resolve", lambda name: Fake)
    monkeypatch.setattr(type(ENGINES), "__contains__", lambda self, name: name != "nothing")
    return Context(store=shutil.copytree(small_store, tmp_path / "runs"), device="cpu")


def wanted(*attacks, suite=None, samples=30, **fields):
    fields = {"eps": (0.1,), "engine": "fake", **fields}
    return Wanted(suite, attacks, "linf", samples=samples, **fields)


def evaluations(context):
    with open_store(context.store) as store:
        return [one.evaluation for one in store.evaluations() if one.evaluation.engine != "drelu"]


def test_results_belong_to_the_engine_and_to_the_list(context, monkeypatch):
    monkeypatch.setattr(court, "SLICE", 4)
    first = attack([NET], wanted=wanted("fgsm"), context=context)
    assert len(Fake.calls) == 1  # the whole list at once
    again = attack([NET], wanted=wanted("fgsm"), context=context)
    assert (again.run, again.reused) == (0, 1)
    more = attack([NET], wanted=wanted("fgsm", samples=40), context=context)
    assert (more.run, more.reused) == (1, 0)
    assert [calls[0] for calls in Fake.calls] == ["fgsm", "fgsm"]
    assert Fake.calls[1][1] > Fake.calls[0][1]
    stored = evaluations(context)
    assert [one.engine for one in stored] == ["fake 1.2", "fake 1.2"]
    assert stored[0].cascade != stored[1].cascade
    assert all(one.cascade.startswith("samples ") for one in stored)
    assert first.entries[0]["engine"] == "fake 1.2"
    assert first.entries[0]["attacks"][0]["robust_accuracy"] is not None


def test_ours_and_theirs_are_two_results(context):
    attack([NET], wanted=wanted("fgsm"), context=context)
    report = attack([NET], wanted=wanted("fgsm", engine="drelu"), context=context)
    assert (report.run, report.reused) == (1, 0)
    assert report.entries[0]["engine"] == "drelu"
    cells = compare(context=context, samples=30, where={"eps": "0.1"}).table.cells
    assert set(cells["attack"]) == {"clean", "fgsm", "fgsm [fake 1.2]"}
    assert set(cells["n_seeds"]) == {1}
    tested = stats(store=context.store, samples=30, where={"eps": "0.1"}).document
    assert {one["attack"] for one in tested["outcomes"]["intervals"]} == {"fgsm", "fgsm [fake 1.2]"}


def test_compare_takes_the_run_on_its_own_list(context):
    for samples in (30, 40):
        attack([NET], wanted=wanted("fgsm", samples=samples), context=context)
        attack([NET], wanted=wanted("fgsm", samples=samples, engine="drelu"), context=context)
    cells = compare(context=context, samples=30, where={"eps": "0.1"}).table.cells
    (theirs,) = cells[cells["attack"] == "fgsm [fake 1.2]"].to_dict("records")
    assert theirs["n_seeds"] == 1


def test_the_columns_are_ours_alone(context):
    names = ("fgsm", "pgd", "apgd_ce", "apgd_dlr")
    attack([NET], wanted=wanted(*names, engine="drelu"), context=context)
    ours = compare(context=context, samples=30, where={"eps": "0.1"}).table.columns
    attack([NET], wanted=wanted("fgsm", "pgd"), context=context)
    both = compare(context=context, samples=30, where={"eps": "0.1"}).table.columns
    assert ours["claimed"].notna().all()
    assert ours.equals(both)


def test_what_an_engine_lacks_is_left_out_of_a_suite_and_refused_by_name(context):
    report = attack([NET], wanted=wanted(suite="whitebox"), context=context)
    assert {found["attack"] for e in report.entries for found in e["attacks"]} == {"fgsm", "pgd"}
    (entry,) = report.entries
    details = [finding["detail"] for finding in entry["findings"]]
    assert any(detail == "fake 1.2 has no apgd_ce; left out of the suite" for detail in details)
    ours = attack([NET], wanted=wanted("fgsm", engine="drelu"), context=context).entries[0]
    assert not any("fake" in finding["detail"] for finding in ours["findings"])
    other = attack([NET], wanted=wanted(suite="smoke"), context=context).entries[0]
    assert not any("left out" in finding["detail"] for finding in other["findings"])
    with pytest.raises(BadValue, match=r"fake 1\.2 has no square"):
        attack([NET], wanted=wanted("square"), context=context)


def test_points_outside_do_not_count_and_are_named(context, monkeypatch):
    inside = attack([NET], wanted=wanted("fgsm", eps=(0.3,)), context=context).entries[0]
    monkeypatch.setattr(Fake, "reach", 1.2)
    beyond = attack([NET], wanted=wanted("pgd", eps=(0.3,)), context=context).entries[0]
    assert inside["attacks"][0]["robust_accuracy"] < inside["clean_accuracy"]
    assert beyond["attacks"][0]["robust_accuracy"] == beyond["clean_accuracy"]
    (named,) = [f for f in beyond["findings"] if f["code"] == "engine-pgd-outside"]
    assert "fake 1.2" in named["detail"]


def test_an_engine_s_cascade_runs_on_survivors(context, monkeypatch):
    from drelu_cli.attacks.suites import SuiteEntry
    from drelu_cli.workflows import plan

    monkeypatch.setattr(plan, "suite_entries", lambda _: (SuiteEntry("fgsm"), SuiteEntry("pgd")))
    monkeypatch.setattr(plan, "CASCADES", {"chain"})
    report = attack([NET], wanted=wanted(suite="chain", eps=(0.3,)), context=context)
    full, left = report.entries[0]["attacks"]
    assert left["robust_accuracy"] is None
    assert left["samples_run"] == full["robust_accuracy"] * 30
    assert left["cascade"].startswith("after fgsm [")
    assert "; samples " in left["cascade"]
    with open_store(context.store) as store:
        (key,) = [
            one.key for one in store.evaluations() if one.evaluation.cascade == left["cascade"]
        ]
        states = {outcome.state for outcome in store.outcomes(key)}
    assert State.NOT_RUN in states


def test_a_library_that_returns_something_else_is_named(context, monkeypatch):
    from drelu_cli.core.errors import DreluError, InternalError

    def halved(self, model, x, y, bound, threat, seed):
        passes = torch.ones(len(x), dtype=torch.int64)
        return AttackResult(x.double(), passes, passes)

    monkeypatch.setattr(Fake, "attack", halved)
    with pytest.raises(DreluError, match=r"fgsm of fake 1\.2 returned") as caught:
        attack([NET], wanted=wanted("fgsm"), context=context)
    assert not isinstance(caught.value, InternalError)


def test_an_unknown_engine(context):
    with pytest.raises(UnknownName, match="unknown engine 'nothing'"):
        attack([NET], wanted=wanted("fgsm", engine="nothing"), context=context)
