"""The court on the command line: what it says, and when it fails a run."""

import json

import pytest

from drelu_cli.core.records import MASKED, Evidence
from drelu_cli.store.connect import open_store
from drelu_cli.workflows import entries, verdicts


@pytest.fixture
def masked(monkeypatch):
    """Every examination looked up is one of a masked net."""
    flag = Evidence(
        "zero_gradient", "ce at the clean input", 0.9, 0.1, flag=True, mechanism=True,
        attacks=("pgd",), detail="the gradient of ce at the clean input is zero for 90.0%",
    )  # fmt: skip

    def found(store, record, threat, seed, rows):
        empty = verdicts.examination_of(record, threat, seed, rows, MASKED)
        remedy = ({
            "attack": "apgd_margin", "params": {"backward": "relu"}, "round": 1, "broken": 12,
            "robust_accuracy": 0.1,
        },)  # fmt: skip
        from dataclasses import replace

        return replace(
            empty, complete=True, evidence=(flag,), remedy=remedy,
            control={"broken": 1, "p": 1e-3, "remedy_broken": 12},
        )  # fmt: skip

    monkeypatch.setattr(entries, "stored_examination", found)


@pytest.fixture
def stored(small_store, monkeypatch):
    monkeypatch.setenv("DRELU_STORE", str(small_store))
    return ["attack", "digits-dense-relu-s0", "--suite", "smoke", "--samples", "40"]


def test_a_masked_net_fails_the_run_that_asks_for_it(drelu, stored, masked):
    assert drelu(*stored).code == 0
    ran = drelu(*stored, "--fail-on", "masked")
    assert ran.code == 1
    assert "failed: digits-dense-relu-s0, Linf 0.2: masked" in ran.err
    assert drelu(*stored, "--fail-on", "suspicious").code == 0
    assert drelu(*stored, "--fail-on", "suspicious,masked").code == 1


def test_not_examined_can_fail_a_run(drelu, stored):
    assert drelu(*stored, "--fail-on", "not-examined").code == 1
    assert drelu(*stored, "--fail-on", "masked").code == 0


def test_the_paragraph_says_what_was_found(drelu, stored, masked):
    said = " ".join(drelu(*stored).out.split())
    assert "verdict: masked. Hidden gradients: the gradient of ce at the clean input" in said
    assert (
        "The remedy breaks 12 of the 16 samples left standing, 12 of them by "
        "APGD-margin:backward=relu: robust accuracy is at most 10.00 %."
    ) in said
    assert "The control, as many passes of plain gradients with restarts, breaks 1 (exact" in said


def test_evidence_of_a_plain_run_is_stored_and_in_the_document(drelu, stored, small_store):
    document = json.loads(drelu(*stored, "--json").out)
    (entry,) = document["evaluations"]
    assert entry["verdict"]["word"] == "not examined"
    checks = {one["check"] for one in entry["verdict"]["evidence"]}
    assert {"zero_gradient", "saturation"} <= checks
    with open_store(small_store) as store:
        assert any(one.evidence for one in store.examinations(model_key=entry["model"]))
