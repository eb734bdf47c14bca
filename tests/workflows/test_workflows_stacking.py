"""A sweep trains similar dense nets as one program: same keys, same nets but for rounding."""

import importlib

import pytest
import torch

from drelu_cli.core.errors import ModelError
from drelu_cli.models.checkpoints import read_weights
from drelu_cli.runtime.locks import take
from drelu_cli.store.connect import open_store
from drelu_cli.workflows import stacking
from drelu_cli.workflows.context import Context
from drelu_cli.workflows.jobs import plan
from drelu_cli.workflows.stacking import stackable
from drelu_cli.workflows.subjects import DataCache
from drelu_cli.workflows.sweep import sweep

GRID = """
[model]
name = "dense"
width = 16
extra = 8
[data]
train_samples = 100
[train]
epochs = 3
[attack]
attacks = ["fgsm"]
samples = 20
[grid]
"penalty.lambda" = [0.1, 1.0]
"train.seed" = [0, 1]
"""


class StopError(BaseException):
    """What a kill is to the process: nothing catches it."""


class Told:
    """The events of a sweep; stops it after so many epochs of a stack."""

    def __init__(self, stop=0):
        self.events = []
        self._stop = stop

    def __call__(self, kind, fields):
        self.events.append((kind, dict(fields)))
        if kind == "stack" and fields["done"] == self._stop:
            raise StopError

    def notes(self):
        return [fields["text"] for kind, fields in self.events if kind == "note"]

    def count(self, kind):
        return sum(one == kind for one, _ in self.events)


@pytest.fixture
def grid(tmp_path):
    file = tmp_path / "grid.toml"
    file.write_text(GRID)
    return str(file)


def run(grid, store, told=None, **options):
    context = Context(store, device="cpu", progress=told or Told())
    return sweep(grid, context=context, **options)


def models(store):
    with open_store(store, create=False) as opened:
        return {
            record.key: (
                record,
                read_weights(opened.model_dir(record.key) / "weights.safetensors")[0],
            )
            for record in opened.models()
        }


def assert_same_models(alone, together):
    assert set(alone) == set(together)
    for key, (record, weights) in alone.items():
        other, found = together[key]
        assert (other.name, other.label, other.seed) == (record.name, record.label, record.seed)
        assert other.summary["epochs"] == record.summary["epochs"]
        assert other.summary["validation_loss"] == pytest.approx(
            record.summary["validation_loss"], rel=1e-4
        )
        for name, value in weights.items():
            torch.testing.assert_close(found[name], value, rtol=0, atol=1e-4)


def test_a_sweep_stacks_by_itself_and_no_stack_does_not(grid, tmp_path):
    dry = run(grid, tmp_path / "dry", dry_run=True)
    assert dry.document["stacked"] == 4
    assert run(grid, tmp_path / "dry", dry_run=True, stack=False).document["stacked"] == 0
    told, told_alone = Told(), Told()
    together = run(grid, tmp_path / "together", told)
    alone = run(grid, tmp_path / "alone", told_alone, stack=False)
    assert (together.stacked, alone.stacked) == (4, 0)
    assert (told.count("stack"), told.count("epoch")) == (3, 0)
    assert (told_alone.count("stack"), told_alone.count("epoch")) == (0, 12)
    for report in (together, alone):
        assert report.failures == []
        assert report.trainings.as_json() == {"planned": 4, "reused": 0, "done": 4, "failed": 0}
    found = models(tmp_path / "together")
    assert_same_models(models(tmp_path / "alone"), found)
    assert {record.summary["stack"] for record, _ in found.values()} == {4}
    assert all("stack" not in record.summary for record, _ in models(tmp_path / "alone").values())
    assert not list(tmp_path.rglob("resume.pt"))
    again = run(grid, tmp_path / "together", told := Told())
    assert again.trainings.reused == 4
    assert told.count("stack") == 0


@pytest.mark.parametrize("stack", [True, False])
def test_a_killed_stack_goes_on_in_a_stack_or_alone(grid, tmp_path, stack):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    run(grid, whole, stack=False)
    with pytest.raises(StopError):
        run(grid, killed, Told(stop=2))
    assert len(list(killed.rglob("resume.pt"))) == 4
    told = Told()
    report = run(grid, killed, told, stack=stack)
    assert report.trainings.done == 4
    assert sum("resumed after epoch 2" in note for note in told.notes()) == 4
    assert told.count("stack" if stack else "epoch") == (1 if stack else 4)
    assert_same_models(models(whole), models(killed))


def test_a_member_is_stored_as_soon_as_it_has_ended(grid, tmp_path, monkeypatch):
    monkeypatch.setitem(stacking.AT_ONCE, "cpu", 2)
    with pytest.raises(StopError):
        run(grid, tmp_path / "runs", Told(stop=4))  # the first two have ended after three
    assert len(models(tmp_path / "runs")) == 2


def test_what_another_process_trains_waits_for_it(grid, tmp_path, monkeypatch):
    context = Context(tmp_path / "runs", device="cpu", progress=Told())
    jobs = plan(grid, preset="fast", options=(), data=DataCache(context), context=context)
    with open_store(context.store) as store:
        folder = store.model_dir(jobs[0].key)
    folder.mkdir(parents=True)
    lock = take(folder / ".lock")
    stacks = stacking.Stacks(jobs, context)
    assert not stacks.train(jobs[0].key)
    assert stacks.made == {job.key for job in jobs[1:]}
    lock.close()


def test_a_stack_that_fails_is_trained_one_by_one(grid, tmp_path, monkeypatch):
    def broken(*_):
        raise RuntimeError("out of memory")

    monkeypatch.setattr(stacking, "run_stacked", broken)
    told = Told()
    report = run(grid, tmp_path / "runs", told)
    assert (report.trainings.done, report.failures) == (4, [])
    assert any("out of memory" in note for note in told.notes())


def test_a_member_that_diverges_is_reported_by_its_own_training(grid, tmp_path, monkeypatch):
    fit = importlib.import_module("drelu_cli.training.fit")
    real = fit.Fit.record

    def sometimes(self, *arguments):
        if self.settings.seed == 1 and self.lambda_ == 1.0 and self.epoch == 1:
            raise ModelError("training diverged in epoch 2")
        return real(self, *arguments)

    monkeypatch.setattr(fit.Fit, "record", sometimes)
    report = run(grid, tmp_path / "runs")
    assert [one["error"] for one in report.failures] == ["training diverged in epoch 2"]
    assert (report.trainings.done, report.trainings.failed, report.stacked) == (3, 1, 3)


@pytest.mark.parametrize(
    ("options", "groups"),
    [
        ([], [4]),
        ([("train.seed", 0)], [2]),
        ([("train.seed", 0), ("penalty.lambda", 1.0)], []),
        ([("train.hops", 1)], []),
        ([("train.checkpoint_every", 1)], []),
        ([("model", "shallow_cnn")], []),
        ([("scheme", "overfit")], []),
        ([("scheme", "sensitivity")], []),
        ([("scheme", "at")], [4]),
        ([("scheme", "trades")], [4]),
    ],
)
def test_only_what_differs_in_seed_lambda_and_cap_start_stacks(grid, tmp_path, options, groups):
    text = (
        GRID.replace("width = 16\nextra = 8\n", "")
        if options[:1] == [("model", "shallow_cnn")]
        else GRID
    )
    (tmp_path / "grid.toml").write_text(text)
    context = Context(tmp_path / "none", device="cpu")
    jobs = plan(grid, preset="fast", options=options, data=DataCache(context), context=context)
    assert [len(group) for group in stackable(jobs)] == groups


@pytest.mark.parametrize(
    ("axis", "groups"),
    [
        ('"data.train_samples" = [100, 200]', [4, 4]),
        ('"activation.cap" = [5.0, 10.0]', [8]),
        ('"train.batch" = [16, 32]', [4, 4]),
    ],
)
def test_an_axis_of_caps_joins_a_stack_and_others_divide_it(tmp_path, axis, groups):
    (tmp_path / "two.toml").write_text(f"{GRID}{axis}\n")
    context = Context(tmp_path / "none", device="cpu")
    name = str(tmp_path / "two.toml")
    jobs = plan(name, preset="fast", options=(), data=DataCache(context), context=context)
    assert [len(group) for group in stackable(jobs)] == groups
