"""`drelu attack --save-adversarial` and `drelu verify` as typed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from drelu_cli.evaluation.proof_file import read_proof, write_proof

NET = "digits-dense-relu-s0"
SMOKE = ("attack", NET, "--suite", "smoke", "--samples", "40", "--save-adversarial", "points.npz")


@pytest.fixture
def saved(drelu, own_store, monkeypatch):
    monkeypatch.setenv("DRELU_STORE", str(own_store))
    return drelu(*SMOKE, "--json")


def test_saving_says_what_is_proven(drelu, saved):
    assert saved.code == 0
    found = saved.document["adversarial"]
    assert found["file"] == "points.npz"
    lost = found["points"] + found["clean_wrong"]
    share = f"{100 * (1 - lost / 40):.2f} %"
    line = f"saved {found['points']} adversarial points to points.npz: robust accuracy is at most "
    assert f"{line}{share} ({lost} of 40 broken or wrong)" in saved.err
    without = drelu("attack", NET, "--suite", "smoke", "--samples", "40", "--json")
    assert without.document["adversarial"] is None


def test_a_valid_file(drelu, saved):
    shown = drelu("verify", "points.npz", NET)
    found = saved.document["adversarial"]
    assert shown.code == 0
    assert "points.npz: Linf 0.2, digits-dense-relu-s0 on digits, against" in shown.out
    assert f"{100 * found['robust_accuracy_at_most']:.2f} % on these 40 samples" in shown.out
    document = drelu("verify", "points.npz", NET, "--json").document
    assert (document["points"], document["valid"]) == (found["points"], found["points"])
    assert (document["failures"], document["warnings"], document["samples"]) == ([], [], 40)
    assert document["robust_accuracy_at_most"] == found["robust_accuracy_at_most"]


def test_a_tampered_file_fails(drelu, saved, tmp_path):
    proof = read_proof(tmp_path / "points.npz")
    x_adv = proof.x_adv.copy()
    x_adv[0] = proof.clean[0].astype(np.float32) / 255  # the clean image: it is correct
    x_adv[1] += 0.5
    write_proof(tmp_path / "points.npz", replace(proof, x_adv=x_adv))
    shown = drelu("verify", "points.npz", NET, "--json")
    assert shown.code == 1
    failures = shown.document["failures"]
    assert [one["index"] for one in failures] == proof.index[:2].tolist()
    assert failures[0]["why"] == "the point is classified correctly"
    assert "outside" in failures[1]["why"]
    assert shown.document["valid"] == len(proof.index) - 2
    lost = len(proof.index) - 2 + len(proof.clean_wrong)
    assert shown.document["robust_accuracy_at_most"] == pytest.approx(1 - lost / 40)
    assert "the point is classified correctly" in shown.err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("missing.npz", NET), "there is no file missing.npz"),
        (("other.npz", NET), "is no file of adversarial points"),
        (("points.npz", "no-such-net"), "no-such-net"),
        (("points.npz", NET, "--mean", "0.1"), "--mean and --std go together"),
        (("points.npz", NET, "--model", "dense"), "only for models from outside"),
        (("points.npz", NET, "--store", "nowhere"), "there is no store in nowhere"),
    ],
)
def test_bad_input(drelu, saved, tmp_path, words, message):
    np.savez(tmp_path / "other.npz", x_adv=np.array([{}], dtype=object))
    shown = drelu("verify", *words)
    assert shown.code == 2
    assert message in shown.err
    assert not (tmp_path / "nowhere").exists()


def test_a_foreign_file_is_kept(drelu, own_store, tmp_path):
    np.savez(tmp_path / "points.npz", images=np.zeros(3))
    before = (tmp_path / "points.npz").read_bytes()
    shown = drelu(*SMOKE, "--store", own_store)
    assert shown.code == 2
    assert "is not replaced" in shown.err
    assert (tmp_path / "points.npz").read_bytes() == before
