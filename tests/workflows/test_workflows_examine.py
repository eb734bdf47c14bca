"""The court through the whole workflow: once per net, resumable, never mistaken for a plain run."""

from __future__ import annotations

import shutil
from dataclasses import replace

import pytest

from drelu_cli.core.errors import ModelError
from drelu_cli.core.records import MASKED, NO_FAILURE, NOT_EXAMINED, State, ThreatModel
from drelu_cli.evaluation.walks import Walks
from drelu_cli.store.connect import open_store
from drelu_cli.workflows import court, rounds, runs
from drelu_cli.workflows.attack import attack
from drelu_cli.workflows.compare import compare
from drelu_cli.workflows.context import Context
from drelu_cli.workflows.plan import Wanted
from drelu_cli.workflows.train import train

SAMPLES = 90
ADAPTIVE = Wanted("adaptive", (), "linf", None, samples=SAMPLES)
PLAIN = Wanted(None, ("pgd", "apgd_dlr"), "linf", None, samples=SAMPLES)
CAPPED, TWIN = "digits-dense-d-relu-1-s0", "digits-dense-relu-s0"


@pytest.fixture(scope="module")
def nets(tmp_path_factory):
    """A masked net and its undefended twin."""
    context = Context(store=tmp_path_factory.mktemp("court") / "runs", device="cpu")
    train(options=[("train.epochs", 30)], context=context)
    train(options=[("activation", "relu"), ("train.epochs", 30)], context=context)
    return context


@pytest.fixture(scope="module")
def examined(nets, tmp_path_factory):
    """The masked net after the adaptive suite."""
    store = shutil.copytree(nets.store, tmp_path_factory.mktemp("examined") / "runs")
    context = Context(store=store, device="cpu")
    return context, attack([CAPPED], wanted=ADAPTIVE, context=context)


def linf(report, name):
    return next(
        one for one in report.entries if one["name"] == name and one["threat"]["norm"] == "linf"
    )


@pytest.fixture
def context(nets, tmp_path):
    return Context(store=shutil.copytree(nets.store, tmp_path / "runs"), device="cpu")


@pytest.mark.slow
def test_the_undefended_twin_is_not_called_masked(context):
    twin = linf(attack([TWIN], wanted=ADAPTIVE, context=context), TWIN)
    assert twin["verdict"]["word"] == NO_FAILURE
    assert twin["columns"]["adaptive"] == twin["columns"]["standard"]


def test_a_masked_net_is_called_masked(examined):
    _, report = examined
    entry = linf(report, CAPPED)
    assert entry["verdict"]["word"] == MASKED
    columns = entry["columns"]
    assert columns["claimed"] > 0.5
    assert columns["adaptive"] < 0.1
    assert columns["adaptive"] <= columns["standard"] <= columns["claimed"]


def test_the_evidence_names_the_mechanism_and_the_attack_that_proves_it(examined):
    _, report = examined
    verdict = linf(report, CAPPED)["verdict"]
    flagged = {one["check"] for one in verdict["evidence"] if one["flag"] and one["mechanism"]}
    assert {"zero_gradient", "transfer"} <= flagged
    assert any("undefended twin" in one["point"] for one in verdict["evidence"])
    most = max(verdict["remedy"], key=lambda one: one["broken"])
    assert "backward" in most["params"]
    assert verdict["control"]["broken"] + 2 <= verdict["control"]["remedy_broken"]
    assert verdict["control"]["p"] < 0.01
    left = [one["robust_accuracy"] for one in verdict["remedy"]]
    assert left == sorted(left, reverse=True)


def test_a_finished_examination_is_not_repeated(examined, monkeypatch):
    context, before = examined

    def refuse(*_, **__):
        raise AssertionError("an attack ran again")

    monkeypatch.setattr(court, "run_attack", refuse)
    again = attack([CAPPED], wanted=ADAPTIVE, context=context)
    assert again.run == 0
    assert linf(again, CAPPED)["verdict"] == linf(before, CAPPED)["verdict"]
    assert linf(again, CAPPED)["columns"] == linf(before, CAPPED)["columns"]


def test_other_lists_are_not_examined_by_it(examined):
    context, _ = examined
    fewer = attack([CAPPED], wanted=Wanted("smoke", (), "linf", None, samples=20), context=context)
    assert linf(fewer, CAPPED)["verdict"]["word"] == NOT_EXAMINED
    assert linf(fewer, CAPPED)["columns"]["adaptive"] is None


def test_the_same_list_keeps_its_verdict_in_plain_runs_and_in_tables(examined):
    context, before = examined
    plain = attack([CAPPED], wanted=PLAIN, context=context)
    assert linf(plain, CAPPED)["verdict"]["word"] == MASKED
    document = compare(context=context).document
    assert not any("a first remedy leaves" in note for note in document["notes"])
    row = next(
        one
        for one in document["columns"]
        if one["training"] == "D-ReLU-1" and one["norm"] == "linf" and one["eps"] == 0.2
    )
    assert row["verdict"] == MASKED
    assert row["per_seed_verdicts"] == [MASKED]
    assert row["adaptive"] == linf(before, CAPPED)["columns"]["adaptive"]
    shown = {(one["attack"], one["eps"]) for one in document["rows"]}
    assert ("pgd", 0.5) not in shown
    assert not any("backward" in attack_ or "ties" in attack_ for attack_, _ in shown)


@pytest.mark.slow
def test_a_killed_court_goes_on_where_it_stopped(context, examined, monkeypatch):
    _, whole = examined
    real, count = court.run_attack, [0]

    def dies(*args, **kwargs):
        count[0] += 1
        if count[0] in (5, 11, 16):
            raise KeyboardInterrupt
        return real(*args, **kwargs)

    monkeypatch.setattr(court, "run_attack", dies)
    stored = set()
    for _ in range(3):
        with pytest.raises(KeyboardInterrupt):
            attack([CAPPED], wanted=ADAPTIVE, context=context)
        with open_store(context.store) as store:
            now = {one.key for one in store.evaluations() if one.samples == SAMPLES}
        assert stored <= now
        stored = now
    report = attack([CAPPED], wanted=ADAPTIVE, context=context)
    verdict, expected = linf(report, CAPPED)["verdict"], linf(whole, CAPPED)["verdict"]
    assert verdict == expected


def test_a_flag_in_a_plain_run_starts_a_short_remedy_and_leaves_the_word(context):
    told = []
    watched = Context(store=context.store, device="cpu", progress=lambda k, f: told.append((k, f)))
    entry = linf(attack([CAPPED], wanted=PLAIN, context=watched), CAPPED)
    assert entry["verdict"]["word"] == NOT_EXAMINED
    broken = sum(one["broken"] for one in entry["verdict"]["remedy"])
    assert broken > 10
    assert entry["columns"]["adaptive"] is None
    assert any("first remedy" in fields["text"] for kind, fields in told if kind == "note")
    left = min(one["robust_accuracy"] for one in entry["verdict"]["remedy"])
    said = [note for note in compare(context=context).notes if "a first remedy leaves" in note]
    assert len(said) == 1
    assert f"(linf eps 0.2): {CAPPED} {100 * left:.2f} %;" in said[0]
    fewer = [one for one in compare(samples=20, context=context).notes if "a first remedy" in one]
    assert f"(linf eps 0.2): {CAPPED} {100 * left:.2f} % of its {SAMPLES} samples;" in fewer[0]


def test_a_first_remedy_is_told_of_at_the_radii_that_are_shown(context):
    attack([CAPPED], wanted=replace(PLAIN, eps=(0.15, 0.2)), context=context)
    for shown, expected in (({}, 2), ({"eps": "0.15"}, 1)):
        notes = [
            note
            for note in compare(where=shown, context=context).notes
            if "a first remedy leaves" in note
        ]
        told = [text for note in notes for text in note.split("eps ")[1].split(")")[0].split(", ")]
        assert told == ["0.15", "0.2"][:expected]


def test_no_remedy_leaves_it_out_and_the_evidence_stays(context):
    wanted = Wanted(None, ("pgd",), "linf", None, samples=SAMPLES, remedy=False)
    verdict = linf(attack([CAPPED], wanted=wanted, context=context), CAPPED)["verdict"]
    assert verdict["remedy"] == []
    assert any(one["flag"] for one in verdict["evidence"])


def test_the_first_remedy_costs_no_more_than_the_run(context):
    """PGD-40 alone affords surrogates worth 81 passes an image, and no more."""
    wanted = Wanted(None, ("pgd",), "linf", None, samples=SAMPLES)
    remedy = linf(attack([CAPPED], wanted=wanted, context=context), CAPPED)["verdict"]["remedy"]
    assert len(remedy) == 1


@pytest.mark.slow
@pytest.mark.parametrize("most", [None, 39])
def test_the_first_remedy_is_no_longer_than_a_recipe_allows(context, most):
    attacks = ("fgsm", "pgd:steps=39", "apgd_dlr:steps=39")
    wanted = Wanted(None, attacks, "linf", None, samples=SAMPLES, max_steps=most)
    remedy = linf(attack([CAPPED], wanted=wanted, context=context), CAPPED)["verdict"]["remedy"]
    assert bool(remedy) is (most is None)


def test_an_honest_net_gets_no_remedy_in_a_plain_run(context):
    verdict = linf(attack([TWIN], wanted=PLAIN, context=context), TWIN)["verdict"]
    assert verdict["remedy"] == []
    assert verdict["evidence"]


def test_remedies_run_on_survivors_and_their_keys_say_so(examined):
    context, _ = examined
    with open_store(context.store) as store:
        record = store.find_model(CAPPED)
        rows = store.sample_order(record.dataset_digest)[:SAMPLES]
        found = [
            one for one in store.evaluations(model_key=record.key)
            if "backward" in one.evaluation.given and one.samples == SAMPLES
        ]  # fmt: skip
        assert found
        for one in found:
            assert one.evaluation.survivors_only
            states = store.states(one.key, rows)
            assert State.NOT_RUN in states
        plain = runs.full_runs(store, record, ThreatModel("linf", 0.2), 0, rows)
    assert list(plain) == ["fgsm", "pgd", "apgd_ce", "apgd_dlr", "apgd_t", "fab_t", "square"]


def test_rounds_end_when_one_changes_nothing(examined):
    _, report = examined
    remedy = linf(report, CAPPED)["verdict"]["remedy"]
    last = max(one["round"] for one in remedy)
    changed = sum(one["broken"] for one in remedy if one["round"] == last)
    assert not changed or last == rounds.MAX_ROUNDS or remedy[-1]["robust_accuracy"] == 0
    for number in range(2, last + 1):
        before = {(one["attack"], one["params"].get("backward")) for one in remedy
                  if one["round"] == number - 1 and one["broken"]}  # fmt: skip
        here = {(one["attack"], one["params"].get("backward")) for one in remedy
                if one["round"] == number}  # fmt: skip
        assert here == before


def test_shortened_attacks_examine_nothing(context):
    told = []
    watched = Context(store=context.store, device="cpu", progress=lambda k, f: told.append((k, f)))
    short = Wanted("adaptive", (), "linf", None, samples=10, max_steps=2)
    entry = linf(attack([TWIN], wanted=short, context=watched), TWIN)
    assert entry["verdict"]["word"] == NOT_EXAMINED
    assert any("default options" in fields["text"] for kind, fields in told if kind == "note")


def test_what_the_court_ran_is_the_user_s_once_he_asks_for_it(examined, tmp_path):
    store = shutil.copytree(examined[0].store, tmp_path / "runs")
    context = Context(store=store, device="cpu")
    assert not any(row["eps"] == 0.5 for row in compare(context=context).document["rows"])
    again = Wanted(None, ("pgd",), "linf", (0.5,), samples=SAMPLES)
    assert attack([CAPPED], wanted=again, context=context).run == 0
    assert any(row["eps"] == 0.5 for row in compare(context=context).document["rows"])


def test_a_complete_examination_is_not_overwritten_by_a_cheap_one(examined, tmp_path):
    store = shutil.copytree(examined[0].store, tmp_path / "runs")
    with open_store(store) as opened:
        (whole,) = [one for one in opened.examinations() if one.complete]
        opened.add_examination(replace(whole, word=NOT_EXAMINED, complete=False))
        assert opened.examination(whole.key) == whole
        opened.add_examination(replace(whole, word=NO_FAILURE))
        assert opened.examination(whole.key).word == NO_FAILURE


def test_a_table_on_fewer_images_says_where_the_verdicts_are(examined, tmp_path):
    store = shutil.copytree(examined[0].store, tmp_path / "runs")
    context = Context(store=store, device="cpu")
    notes = compare(samples=20, context=context).notes
    assert any(f"examined on {SAMPLES} samples, not on these: {CAPPED}" in one for one in notes)
    assert not any("examined on" in one for one in compare(context=context).notes)


def test_new_runs_or_checks_ask_for_a_new_look(examined, tmp_path):
    store = shutil.copytree(examined[0].store, tmp_path / "runs")
    context = Context(store=store, device="cpu")
    with open_store(store) as opened:
        (whole,) = [one for one in opened.examinations() if one.complete]
        opened.add_examination(replace(whole, word=NO_FAILURE, basis="of an older check"))
    assert linf(attack([CAPPED], wanted=ADAPTIVE, context=context), CAPPED)["verdict"]["word"] == (
        MASKED
    )


def test_a_later_small_call_does_not_lose_the_first_remedy(context):
    first = linf(attack([CAPPED], wanted=PLAIN, context=context), CAPPED)["verdict"]["remedy"]
    assert first
    small = Wanted(None, ("fgsm",), "linf", None, samples=SAMPLES)
    later = linf(attack([CAPPED], wanted=small, context=context), CAPPED)["verdict"]["remedy"]
    assert later


def test_columns_are_of_the_weights_that_are_registered(context):
    wanted = Wanted("whitebox", (), "linf", None, samples=20, remedy=False)
    before = linf(attack([TWIN], wanted=wanted, context=context), TWIN)
    with open_store(context.store) as store:
        record = store.find_model(TWIN)
        store.add_model(replace(record, weights_digest="0" * 64))
        rows = store.sample_order(record.dataset_digest)[:20]
        threat = ThreatModel("linf", 0.2)
        assert before["columns"]["claimed"] is not None
        assert runs.full_runs(store, store.find_model(TWIN), threat, 0, rows) == {}


def test_a_random_model_is_examined_through_its_average(context, tmp_path, monkeypatch):
    (tmp_path / "noisy.py").write_text(NOISY)
    monkeypatch.syspath_prepend(str(tmp_path))
    wanted = Wanted(None, ("pgd:steps=3", "fgsm"), "linf", None, samples=40, allow=("random",))
    entry = attack(["noisy:net"], wanted=wanted, context=context).entries[0]
    checks = {one["check"] for one in entry["verdict"]["evidence"]}
    assert "zero_gradient" in checks
    assert "saturation" not in checks
    with pytest.raises(ModelError, match="stays random"):
        attack(["noisy:stubborn"], wanted=wanted, context=context)


def test_a_model_that_cannot_be_copied_is_attacked_all_the_same(context, tmp_path, monkeypatch):
    (tmp_path / "locked.py").write_text(LOCKED)
    monkeypatch.syspath_prepend(str(tmp_path))
    told = []
    watched = Context(store=context.store, device="cpu", progress=lambda k, f: told.append((k, f)))
    wanted = Wanted(None, ("pgd", "apgd_ce"), "linf", None, samples=40)
    assert attack(["locked:net"], wanted=wanted, context=watched).entries
    assert any("cannot be copied" in fields["text"] for kind, fields in told if kind == "note")


NOISY = """
import torch
from torch import nn


class Noise(nn.Module):
    own = None

    def forward(self, x):
        if self.own is None:
            return x + 0.1 * torch.randn_like(x)
        return x + 0.1 * torch.randn(x.shape, generator=self.own)


def net(own=None):
    linear = nn.Linear(64, 10)
    with torch.no_grad():
        linear.weight.copy_(torch.linspace(-1, 1, 640).view(10, 64))
        linear.bias.copy_(torch.arange(10.0) * 100)  # one class, right for a tenth of the images
    noise = Noise()
    noise.own = own
    return nn.Sequential(nn.Flatten(), noise, nn.ReLU(), linear).eval()


def stubborn():
    return net(torch.Generator().manual_seed(0))
"""
LOCKED = """
import threading

import torch
from torch import nn


class Rounding(nn.Module):
    def __init__(self):
        super().__init__()
        self.lock = threading.Lock()

    def forward(self, x):
        return torch.round(x * 2) / 2


def net():
    linear = nn.Linear(64, 10)
    with torch.no_grad():
        linear.weight.copy_(torch.sin(torch.arange(640.0)).view(10, 64))
        linear.bias.copy_(torch.arange(10.0) * 100)
    return nn.Sequential(nn.Flatten(), Rounding(), linear).eval()
"""


@pytest.mark.slow
def test_the_longer_walk_goes_on_where_the_evidence_left_it(nets, tmp_path, monkeypatch):
    """What is lent saves passes of the model, and changes nothing that is stored."""
    wanted = replace(ADAPTIVE, eps=(0.05,), samples=20)
    lent = []
    end = Walks.end

    def watched(self, run, samples):
        found = end(self, run, samples)
        if found is not None:
            lent.append((run.length, found.length, len(samples)))
        return found

    monkeypatch.setattr(Walks, "end", watched)
    seen = []
    for number in range(2):
        if number:  # nothing is kept, nothing can be lent
            monkeypatch.setattr(Walks, "keep", lambda *_: None)
        store = shutil.copytree(nets.store, tmp_path / str(number))
        context = Context(store=store, device="cpu")
        entry = linf(attack([TWIN], wanted=wanted, context=context), TWIN)
        walk = next(one for one in entry["verdict"]["remedy"] if one["attack"] == "square")
        with open_store(store) as opened:
            key = next(
                one.key
                for one in opened.evaluations(model_key=entry["model"])
                if one.evaluation.given == {"queries": 10000, "ties": True}
            )
            outcomes = opened.outcomes(key, list(opened.stored_samples(key)))
        states = [one.state for one in outcomes]
        seen.append((walk["broken"], entry["columns"]["adaptive"], states))
        assert lent == [(10_000, 5_000, states.count(State.ROBUST) + walk["broken"])]
    assert seen[0] == seen[1]
