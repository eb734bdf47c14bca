"""Weights along a training are models: registered once, attacked by name, gone with the parent."""

from pathlib import Path

import pytest
import torch
from torch import nn

from drelu_cli.core.recipe import Recipe
from drelu_cli.data.loading import load
from drelu_cli.models.checkpoints import read_weights, weights_digest
from drelu_cli.store.connect import open_store
from drelu_cli.training.resume import save_state
from drelu_cli.workflows import fitting
from drelu_cli.workflows.attack import attack
from drelu_cli.workflows.checkpoints import checkpoints_of
from drelu_cli.workflows.cleanup import cleanup
from drelu_cli.workflows.compare import compare
from drelu_cli.workflows.context import Context
from drelu_cli.workflows.measure import sensitivity_of
from drelu_cli.workflows.plan import Wanted
from drelu_cli.workflows.sweep import sweep
from drelu_cli.workflows.train import train

SHORT = [("train.epochs", 4), ("data.train_samples", 100), ("model", "dense:width=8")]


class StopError(Exception):
    pass


class Listener:
    """Counts epochs, keeps notes, and stops a training after some epoch."""

    def __init__(self, stop=None):
        self.stop, self.epochs, self.notes = stop, 0, []

    def __call__(self, kind, fields):
        if kind == "note":
            self.notes.append(fields["text"])
        if kind == "epoch":
            self.epochs += 1
            if fields["done"] == self.stop:
                raise StopError


def trained(store, *more, listener=None):
    context = Context(store=store, device="cpu", progress=listener or Listener())
    return train(options=[*SHORT, *more], context=context)


def children(store, key):
    with open_store(store, create=False) as opened:
        return checkpoints_of(opened, key)


def test_epochs_become_models_with_weights_and_a_gap(tmp_path):
    report = trained(tmp_path, ("train.checkpoint_every", 2))
    first, second = children(tmp_path, report.record.key)
    name, label = report.record.name, report.record.label
    assert (first.name, second.name) == (f"{name}-e2", f"{name}-e4")
    assert (first.label, second.label) == (f"{label} epoch 2", f"{label} epoch 4")
    assert first.weights_digest != second.weights_digest
    for record in (first, second):
        summary = record.summary
        assert summary["parent"] == report.record.key
        gap = summary["train_accuracy"] - summary["validation_accuracy"]
        assert summary["gap"] == pytest.approx(gap)
        assert {"clean_accuracy", "epoch", "sensitivity"} <= set(summary)
        with open_store(tmp_path, create=False) as store:
            state, _ = read_weights(store.model_dir(record.key) / "weights.safetensors")
        assert weights_digest(state) == record.weights_digest


def test_keeping_them_changes_neither_key_nor_weights(tmp_path):
    plain = trained(tmp_path / "plain").record
    kept = trained(tmp_path / "kept", ("train.checkpoint_every", 1)).record
    assert (plain.key, plain.weights_digest) == (kept.key, kept.weights_digest)


def test_a_finished_training_without_them_is_trained_again_once(tmp_path):
    first = trained(tmp_path).record
    listener = Listener()
    again = trained(tmp_path, ("train.checkpoint_every", 2), listener=listener)
    assert not again.reused
    assert any("is trained again: checkpoints of it are missing" in note for note in listener.notes)
    assert again.record.weights_digest == first.weights_digest
    assert trained(tmp_path, ("train.checkpoint_every", 2)).reused
    assert trained(tmp_path, ("train.checkpoint_every", 4)).reused
    assert trained(tmp_path).reused


@pytest.mark.parametrize("stop", [1, 2, 3, 5, 6, 8])
def test_stopped_and_resumed_they_are_the_same(tmp_path, stop):
    options = [("train.checkpoint_every", 2), ("train.hops", 2), ("train.hop_epochs", 2)]
    whole = trained(tmp_path / "whole", *options).record
    listener = Listener(stop)
    with pytest.raises(StopError):
        trained(tmp_path / "stopped", *options, listener=listener)
    rest = Listener()
    resumed = trained(tmp_path / "stopped", *options, listener=rest).record
    assert listener.epochs + rest.epochs == 8
    expected, found = (
        {record.name: record.weights_digest for record in children(root, whole.key)}
        for root in (tmp_path / "whole", tmp_path / "stopped")
    )
    assert len(expected) == 5  # two epochs, three minima
    assert found == expected
    assert resumed.weights_digest == whole.weights_digest


def test_killed_between_a_checkpoint_and_its_state_it_is_registered_once(tmp_path, monkeypatch):
    options = [("train.checkpoint_every", 2)]
    whole = trained(tmp_path / "whole", *options).record

    def killed(path, state):
        if len(state["history"]) == 2:
            raise StopError
        save_state(path, state)

    with monkeypatch.context() as patch:
        patch.setattr(fitting, "save_state", killed)
        with pytest.raises(StopError):
            trained(tmp_path / "killed", *options)
    assert len(children(tmp_path / "killed", whole.key)) == 1
    trained(tmp_path / "killed", *options)
    expected, found = (
        [(one.name, one.weights_digest) for one in children(tmp_path / root, whole.key)]
        for root in ("whole", "killed")
    )
    assert found == expected


def test_a_state_whose_epochs_left_no_checkpoints_is_not_resumed(tmp_path):
    with pytest.raises(StopError):
        trained(tmp_path, listener=Listener(3))
    listener = Listener()
    report = trained(tmp_path, ("train.checkpoint_every", 2), listener=listener)
    assert "checkpoints of finished epochs are missing; the training starts afresh" in (
        listener.notes
    )
    assert listener.epochs == 4
    assert len(children(tmp_path, report.record.key)) == 2


def test_minima_of_hopping_carry_their_losses_and_the_lowest_is_the_model(tmp_path):
    report = trained(tmp_path, ("train.hops", 2), ("train.hop_epochs", 1))
    found = children(tmp_path, report.record.key)
    assert [record.summary["hop"] for record in found] == [0, 1, 2]
    assert [record.name[-3:] for record in found] == ["-h0", "-h1", "-h2"]
    lowest = min(found, key=lambda record: record.summary["validation_loss"])
    assert lowest.weights_digest == report.record.weights_digest
    for record in found:
        assert {"accepted", "task_loss"} <= set(record.summary)
        assert record.summary["sensitivity"]["mean_log_width"] is not None


def test_they_are_attacked_where_they_are_named_and_compared(tmp_path):
    report = trained(tmp_path, ("train.checkpoint_every", 2))
    wanted = Wanted("smoke", (), "linf", None, samples=10)
    context = Context(store=tmp_path, device="cpu")
    assert attack(wanted=wanted, context=context).run == 2
    assert attack([f"{report.record.name}-e2"], wanted=wanted, context=context).run == 2
    document = compare(sensitivity=True, context=context).document
    trainings = {row["training"] for row in document["rows"]}
    assert trainings == {report.record.label, f"{report.record.label} epoch 2"}
    measured = {row["training"]: row["mean_log_width"] for row in document["sensitivity"]}
    assert set(measured) == trainings
    assert all(isinstance(value, float) for value in measured.values())
    assert not any("is selected of" in note for note in document["notes"])


def test_sensitivity_of_older_models_is_measured_once_and_some_have_none(tmp_path):
    known = trained(tmp_path).record
    other = trained(tmp_path, ("activation", "relu"), ("train.epochs", 1)).record
    context = Context(store=tmp_path, device="cpu")
    attack(wanted=Wanted("smoke", (), "linf", None, samples=4), context=context)
    with open_store(tmp_path) as store:
        store.annotate(known.key, "sensitivity", None)
        unknown = {"eps": 0.2, "samples": 360, "mean_log_width": None, "log_volume": None}
        store.annotate(other.key, "sensitivity", unknown)
    report = compare(sensitivity=True, context=context, out=tmp_path / "table.md")
    rows = {row["training"]: row for row in report.document["sensitivity"]}
    dense, none = rows[known.label], rows[other.label]
    assert dense["mean_log_width"] == pytest.approx(known.summary["sensitivity"]["mean_log_width"])
    assert (dense["samples"], dense["n_seeds"], dense["eps"]) == (360, 1, 0.2)
    assert none["mean_log_width"] is None
    table = (tmp_path / "table.md").read_text().splitlines()
    assert any(line.endswith("| log-width | log-volume |") for line in table)
    assert any(line.endswith("| - | - |") for line in table)
    with open_store(tmp_path) as store:
        assert store.find_model(known.name).summary["sensitivity"] == known.summary["sensitivity"]
    assert compare(context=context).document["sensitivity"] == []


def test_a_net_without_bounds_has_no_sensitivity():
    data = load("digits", Path("none"))
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10), nn.BatchNorm1d(10)).eval()
    found = sensitivity_of(model, data, torch.device("cpu"))
    assert found == {"eps": 0.2, "samples": 360, "mean_log_width": None, "log_volume": None}


def test_they_go_with_their_training_and_gc_leaves_them(tmp_path):
    report = trained(tmp_path, ("train.checkpoint_every", 2))
    kept = [record.name for record in children(tmp_path, report.record.key)]
    context = Context(store=tmp_path)
    assert cleanup(force=True, context=context)["folders"] == []
    assert len(children(tmp_path, report.record.key)) == 2
    removed = cleanup(remove=[report.record.name], context=context)["removed"]
    assert set(removed) == {report.record.name, *kept}
    assert list((tmp_path / "models").iterdir()) == []


def test_fields_of_this_release_leave_older_keys_alone():
    plain = Recipe().identity("data")["train"]
    late = {"weight_decay", "checkpoint_every", "hops", "hop_step", "hop_epochs", "hop_temperature"}
    assert not late & set(plain)
    changed = Recipe.from_mapping(
        {"train": {"checkpoint_every": 3, "hops": 1, "weight_decay": 0.1}}
    ).identity("data")["train"]
    assert changed == {**plain, "hops": 1, "weight_decay": 0.1}


def test_a_sweep_attacks_the_checkpoints_that_its_recipe_keeps(tmp_path):
    kept = trained(tmp_path / "runs", ("train.checkpoint_every", 1)).record
    path = tmp_path / "grid.toml"
    path.write_text('[attack]\nattacks = ["fgsm"]\nsamples = 10\n')
    context = Context(store=tmp_path / "runs", device="cpu")
    for every, evaluations in ((0, 1), (2, 3), (1, 5)):
        options = [*SHORT, ("train.checkpoint_every", every)]
        planned = sweep(str(path), options=options, dry_run=True, context=context)
        report = sweep(str(path), options=options, context=context)
        assert (report.model_keys, report.trainings.reused) == ([kept.key], 1)
        assert planned.evaluations.planned == report.evaluations.planned == evaluations
        assert report.evaluations.done + report.evaluations.reused == evaluations
