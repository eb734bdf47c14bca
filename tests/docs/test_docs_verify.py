"""The program of docs/verify.md accepts a file of ours and refuses one that was tampered with."""

from __future__ import annotations

import sys
from dataclasses import replace

import docs_pages
import numpy as np
import pytest

from drelu_cli.evaluation.proof import Proof
from drelu_cli.evaluation.proof_file import read_proof, write_proof
from drelu_cli.store.connect import open_store
from drelu_cli.workflows.attack import attack
from drelu_cli.workflows.context import Context
from drelu_cli.workflows.plan import Wanted

NET = "digits-dense-d-relu-1-s0"
(PROGRAM,) = [b for b in docs_pages.all_blocks("python") if b.page == "verify.md"]


@pytest.fixture(scope="module")
def made(small_store, tmp_path_factory):
    """Points of a small D-ReLU net, and its weights."""
    folder = tmp_path_factory.mktemp("verify")
    context = Context(store=small_store.with_name("verified"), device="cpu")
    train_and_save(context, folder / "points.npz")
    with open_store(context.store) as store:
        weights = store.model_dir(store.find_model(NET).key) / "weights.safetensors"
    return folder, weights


def train_and_save(context, file):
    from drelu_cli.workflows.train import train

    train(options=[("activation", "drelu"), ("train.epochs", 5)], context=context)
    wanted = Wanted(None, ("pgd",), "linf", None, samples=60)
    attack([NET], wanted=wanted, context=context, save_adversarial=file)


def run(made, file, monkeypatch):
    folder, weights = made
    monkeypatch.setattr(sys, "argv", ["check.py", str(folder / file), str(weights)])
    exec(compile(PROGRAM.text, "verify.md", "exec"), {"__name__": "__main__"})


def test_it_knows_nothing_of_drelu():
    assert "drelu" not in PROGRAM.text


def test_it_accepts_what_we_write(made, monkeypatch, capsys):
    points = len(read_proof(made[0] / "points.npz").index)
    assert points > 10
    run(made, "points.npz", monkeypatch)
    assert capsys.readouterr().out == f"{points} of 60 samples are broken\n"


def moved(proof: Proof, by: float) -> Proof:
    x_adv = proof.x_adv.copy()
    x_adv[0, 0, 4, 4] += np.float32(by) if x_adv[0, 0, 4, 4] < 0.5 else -np.float32(by)
    return replace(proof, x_adv=x_adv)


def harmless(proof: Proof) -> Proof:
    x_adv = proof.x_adv.copy()
    x_adv[0] = proof.clean[0].astype(np.float32) / 255
    return replace(proof, x_adv=x_adv)


def relabelled(proof: Proof) -> Proof:
    label = proof.label.copy()
    label[0] = (label[0] + 1) % 10
    return replace(proof, label=label)


def painted(proof: Proof) -> Proof:
    clean = proof.clean.copy()
    clean[0, 0, 0, 0] ^= 1
    return replace(proof, clean=clean)


def doubled(proof: Proof) -> Proof:
    index = proof.index.copy()
    index[1] = index[0]
    return replace(proof, index=index)


@pytest.mark.parametrize(
    ("tamper", "message"),
    [
        (lambda proof: moved(proof, 0.45), "outside the ball"),
        (lambda proof: replace(moved(proof, 1.5), eps=9.0), "outside the box"),
        (harmless, "a point is classified correctly"),
        (relabelled, "images"),
        (painted, "images"),
        (doubled, "indices"),
    ],
)
def test_it_refuses_what_was_tampered_with(made, monkeypatch, tamper, message):
    write_proof(made[0] / "tampered.npz", tamper(read_proof(made[0] / "points.npz")))
    with pytest.raises(AssertionError, match=message):
        run(made, "tampered.npz", monkeypatch)
