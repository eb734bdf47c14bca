"""A cascade attacks what is left, never claims to be a full run, and loses nothing by it."""

import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from itertools import pairwise

import pytest

from drelu_cli.attacks.suites import SuiteEntry
from drelu_cli.core.records import State
from drelu_cli.store.connect import open_store
from drelu_cli.workflows import court, plan
from drelu_cli.workflows.attack import attack
from drelu_cli.workflows.compare import compare
from drelu_cli.workflows.context import Context
from drelu_cli.workflows.plan import Wanted
from drelu_cli.workflows.stats import stats

NET = "digits-dense-relu-s0"
# Weak to strong, so that every attack leaves something and finds something.
CHAIN = (
    SuiteEntry("square", {"queries": 10}),
    SuiteEntry("fgsm"),
    SuiteEntry("pgd", {"steps": 20}),
)


@pytest.fixture
def context(small_store, tmp_path):
    return Context(store=shutil.copytree(small_store, tmp_path / "runs"), device="cpu")


@pytest.fixture
def chain(monkeypatch):
    real = plan.suite_entries
    monkeypatch.setattr(plan, "suite_entries", lambda n: CHAIN if n == "chain" else real(n))
    monkeypatch.setattr(plan, "CASCADES", {"chain"})


WANTED = Wanted("chain", (), "linf", (0.12,), samples=60)


def one(context, wanted=WANTED):
    return attack([NET], wanted=wanted, context=context).entries[0]


def by_attack(context):
    """(cascade or None) and outcomes by sample, for each evaluation at eps 0.12."""
    with open_store(context.store) as store:
        return {
            (one.evaluation.attack, one.evaluation.cascade): {
                outcome.sample: outcome for outcome in store.outcomes(one.key)
            }
            for one in store.evaluations()
            if one.evaluation.eps == 0.12
        }


def test_later_attacks_run_on_survivors_only(context, chain):
    entry = one(context)
    with open_store(context.store) as store:
        order = list(store.sample_order(store.models()[0].dataset_digest)[:60])
    stored = by_attack(context)
    assert [name for name, _ in stored] == ["square", "fgsm", "pgd"]
    assert [cascade and cascade.split(" [")[0] for _, cascade in stored] == [
        None,
        "after square",
        "after square, fgsm",
    ]
    standing = set(order)
    for attack_, outcomes in zip(entry["attacks"], stored.values(), strict=True):
        ran = {row for row, found in outcomes.items() if found.state is not State.NOT_RUN}
        assert ran == standing
        assert attack_["samples_run"] == len(ran)
        for row in set(order) - ran:
            assert (outcomes[row].forwards, outcomes[row].backwards) == (0, 0)
        standing -= {row for row in ran if outcomes[row].state is State.BROKEN}
    runs = [attack_["samples_run"] for attack_ in entry["attacks"]]
    assert runs[0] == 60
    assert all(later < earlier for earlier, later in pairwise(runs))
    assert entry["worst_case"]["robust_accuracy"] == len(standing) / 60
    own = [attack_["robust_accuracy"] for attack_ in entry["attacks"]]
    assert own[0] is not None
    assert own[1:] == [None, None]


def test_the_cascade_ends_where_full_runs_end(context, chain):
    separate = Context(store=context.store.with_name("separate"), device="cpu")
    shutil.copytree(context.store, separate.store)
    cascaded = one(context)
    full = one(separate, replace(WANTED, exhaustive=True))
    assert [a["cascade"] for a in full["attacks"]] == [None] * 3
    assert all(a["robust_accuracy"] is not None for a in full["attacks"])
    for field in ("clean_accuracy", "worst_case", "columns"):
        assert cascaded[field] == full[field]
    left = [[a["cumulative_robust_accuracy"] for a in e["attacks"]] for e in (cascaded, full)]
    assert left[0] == left[1]
    whole = by_attack(separate)
    for (name, _), outcomes in by_attack(context).items():
        for row, outcome in outcomes.items():
            if outcome.state is not State.NOT_RUN:
                assert str(outcome) == str(whole[name, None][row])


def test_what_a_cascade_ran_is_not_run_again(context, chain, monkeypatch):
    cascaded = one(context)
    real, ran = court.run_attack, []

    def counted(model, samples, *more, **options):
        ran.extend(samples.index.tolist())
        return real(model, samples, *more, **options)

    monkeypatch.setattr(court, "run_attack", counted)
    full = one(context, replace(WANTED, exhaustive=True))
    left_out = sum(60 - a["samples_run"] for a in cascaded["attacks"])
    assert len(ran) == left_out > 0
    assert all(a["samples_run"] == 60 for a in full["attacks"])


def test_full_runs_answer_a_cascade(context, chain):
    attack([NET], wanted=replace(WANTED, exhaustive=True), context=context)
    again = attack([NET], wanted=WANTED, context=context)
    assert (again.run, again.reused) == (0, 3)
    assert all(a["robust_accuracy"] is not None for a in again.entries[0]["attacks"])


def test_the_first_attack_is_the_plain_one(context, chain):
    attack(
        [NET], wanted=replace(WANTED, suite=None, attacks=("square:queries=10",)), context=context
    )
    report = attack([NET], wanted=WANTED, context=context)
    assert [a["reused"] for a in report.entries[0]["attacks"]] == [True, False, False]


def test_an_attack_named_beside_its_cascade_runs_in_full(context, chain):
    entry = one(context, replace(WANTED, attacks=("pgd:steps=20",)))
    assert [a["robust_accuracy"] is None for a in entry["attacks"]] == [False, True, False]


def test_more_samples_extend_a_cascade(context, chain):
    one(context, replace(WANTED, samples=30))
    before = by_attack(context)
    extended = one(context)
    after = by_attack(context)
    assert before.keys() == after.keys()
    for key, outcomes in before.items():
        assert {row: str(after[key][row]) for row in outcomes} == {
            row: str(found) for row, found in outcomes.items()
        }
    fresh = Context(store=context.store.with_name("fresh"), device="cpu")
    shutil.copytree(context.store, fresh.store)
    with open_store(fresh.store) as store:
        assert store.check()
    assert extended["samples"] == 60


def test_finished_slices_are_not_repeated(context, chain, monkeypatch):
    monkeypatch.setattr(court, "SLICE", 9)
    monkeypatch.setattr(court, "SLICE_SECONDS", 0.0)
    real, seen = court.run_attack, []

    class Killed(BaseException):
        pass

    def counted(model, samples, bound, *more, **options):
        if len(seen) == 9:
            raise Killed
        seen.append((bound.name, tuple(samples.index.tolist())))
        return real(model, samples, bound, *more, **options)

    monkeypatch.setattr(court, "run_attack", counted)
    with pytest.raises(Killed):
        one(context)
    first, seen[:] = list(seen), []
    monkeypatch.setattr(court, "run_attack", real)
    interrupted = one(context)
    assert first[-1][0] != "square"  # killed in the middle of the cascade
    monkeypatch.setattr(court, "run_attack", counted)
    whole = Context(store=context.store.with_name("whole"), device="cpu")
    shutil.copytree(context.store, whole.store)
    assert one(whole)["attacks"] == [{**a, "reused": True} for a in interrupted["attacks"]]
    assert seen == []


def test_the_key_knows_what_came_before(context, chain, monkeypatch):
    from drelu_cli.attacks.fgsm import fgsm

    one(context)
    monkeypatch.setattr(fgsm, "version", fgsm.version + 1)
    report = attack([NET], wanted=WANTED, context=context)
    assert (report.run, report.reused) == (2, 1)


def test_compare_and_stats_show_no_number_of_survivors(context, chain):
    attack(wanted=WANTED, context=context)
    report = compare(context=context, samples=60)
    assert set(report.table.cells["attack"]) == {"clean", "square:queries=10"}
    assert report.table.cells["mean"].notna().all()
    assert any("survivors-only runs of fgsm, pgd" in note for note in report.notes)
    tested = stats(store=context.store, samples=60)
    assert any("survivors-only" in str(note) for note in tested.document["notes"])


def test_nothing_but_survivors_is_nothing_to_compare(context, chain):
    from drelu_cli.core.errors import UnknownName

    attack([NET], wanted=WANTED, context=context)
    with pytest.raises(UnknownName, match="no stored results that fit"):
        compare(context=context, where={"attack": "fgsm", "eps": "0.12"})


def test_columns_come_from_the_cascade(context):
    wanted = Wanted("standard", ("fgsm", "pgd", "apgd_dlr"), "linf", None, samples=6)
    entry = one(context, wanted)
    own = {a["attack"]: a["robust_accuracy"] for a in entry["attacks"]}
    assert own["apgd_ce"] is not None
    assert own["square"] is None
    columns = entry["columns"]
    assert columns["standard"] <= min(columns["autoattack"], columns["claimed"])
    assert columns["adaptive"] is None
    table = compare(context=context, samples=6).table.columns
    (row,) = table[(table["eps"] == 0.2) & table["standard"].notna()].to_dict("records")
    assert {name: row[name] for name in ("claimed", "standard", "autoattack")} == {
        name: columns[name] for name in ("claimed", "standard", "autoattack")
    }


def test_a_sweep_runs_cascades_and_plans_what_is_left(tmp_path):
    from drelu_cli.workflows.sweep import sweep

    path = tmp_path / "mine.toml"
    path.write_text(
        'activation = "relu"\ntrain = { epochs = 1, seed = 0 }\n'
        'attack = { suite = "standard", samples = 10, max_steps = 3 }\n'
    )
    context = Context(store=tmp_path / "runs", device="cpu")
    first = sweep(str(path), context=context)
    assert first.failures == []
    assert first.evaluations.as_json() == {"planned": 4, "reused": 0, "done": 4, "failed": 0}
    planned = sweep(str(path), dry_run=True, context=context)
    assert planned.evaluations.reused == 4
    with open_store(context.store) as store:
        cascades = [one.evaluation.cascade is None for one in store.evaluations()]
    assert cascades == [True, False, False, False]
    full = sweep(str(path), options=[("attack.exhaustive", True)], context=context)
    assert full.evaluations.done == 3


KILLED = """
import os, signal, sys
from pathlib import Path
from drelu_cli.workflows import court
from drelu_cli.workflows.attack import attack
from drelu_cli.workflows.context import Context
from drelu_cli.workflows.plan import Wanted

court.SLICE, court.SLICE_SECONDS = 8, 0.0
limit, seen = int(sys.argv[2]), 0

def progress(kind, fields):
    global seen
    seen += kind == "attacking"
    if kind == "attacking" and seen == limit:
        os.kill(os.getpid(), signal.SIGKILL)

wanted = Wanted("standard", (), "linf", (0.1,), samples=40, max_steps=3)
context = Context(Path(sys.argv[1]), progress=progress)
attack(["digits-dense-relu-s0"], wanted=wanted, context=context)
print(seen)
"""


@pytest.mark.slow
def test_a_killed_cascade_ends_the_same(context):
    whole = Context(store=context.store.with_name("whole"))
    shutil.copytree(context.store, whole.store)

    def ran(store, limit):
        command = [sys.executable, "-c", KILLED, str(store), str(limit)]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    slices = int(ran(whole.store, 0).stdout)
    assert slices > 12
    for limit in (4, 5):  # in the first attack, then in a later one
        assert ran(context.store, limit).returncode == -signal.SIGKILL
    last = ran(context.store, 0)
    # The slice under way at a kill is all that is repeated.
    assert (last.returncode, int(last.stdout)) == (0, slices - 3 - 4)
    assert outcomes(context) == outcomes(whole)


def outcomes(context):
    with open_store(context.store) as store:
        return {one.key: str(store.outcomes(one.key)) for one in store.evaluations()}
