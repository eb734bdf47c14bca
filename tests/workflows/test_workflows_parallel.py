"""A sweep on several workers gives what the sweep in one process gives, and counts the same."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from collections import deque
from functools import partial
from pathlib import Path

import pytest

from drelu_cli.core.errors import BadValue
from drelu_cli.runtime.channel import open_channel
from drelu_cli.runtime.executor import Result
from drelu_cli.store.connect import open_store
from drelu_cli.workflows import remote, scratch
from drelu_cli.workflows.board import TRAINING, Board, status
from drelu_cli.workflows.context import Context
from drelu_cli.workflows.jobs import plan
from drelu_cli.workflows.subjects import DataCache

module = importlib.import_module("drelu_cli.workflows.sweep")

GRID = """
[data]
train_samples = 100
[train]
epochs = 2
[attack]
attacks = ["fgsm"]
samples = 20
[grid]
"""
SMALL = [("data.train_samples", 100), ("train.epochs", 2), ("attack.samples", 20)]


class Inline:
    """An executor without processes: quick, and what the jobs are given can be looked at."""

    seen: list = []  # noqa: RUF012 - of the class, emptied by each test

    def __init__(self, places, *, on_event, logs):
        self.width = len(places)
        self._queue = deque()
        self._on_event = on_event

    def __enter__(self):
        return self

    def __exit__(self, *_):
        open_channel(lambda kind, fields: None)

    def submit(self, job):
        job = json.loads(json.dumps({"name": job.name, "function": job.function, **job.config}))
        self._queue.append(job)
        with open_store(Path(job["store"]), create=False) as store:
            self.seen.append((job["function"], {one.name for one in store.models()}))

    def results(self):
        while self._queue:
            job = self._queue.popleft()
            self._on_event(job["name"], "here", "started", {"tries": 1})
            open_channel(partial(self._on_event, job["name"], "here"))
            function = getattr(remote, job["function"].partition(":")[2])
            try:
                yield Result(job["name"], function(job), None, 1, 0.1)
            except Exception as problem:  # noqa: BLE001 - as a worker does
                yield Result(job["name"], None, remote.described(problem), 1, 0.1)


@pytest.fixture
def inline(monkeypatch):
    Inline.seen = []
    monkeypatch.setattr(module, "LocalExecutor", Inline)
    return Inline.seen


def contexts(tmp_path):
    return [Context(tmp_path / name, device="cpu") for name in ("alone", "together")]


def stored(context):
    with open_store(context.store, create=False) as store:
        models = sorted(
            (one.key, one.name, one.label, one.weights_digest) for one in store.models()
        )
        # NaN differs from itself: outcomes compare by their text.
        outcomes = {one.key: str(store.outcomes(one.key)) for one in store.evaluations()}
        folders = sorted(one.name for one in (store.root / "models").iterdir())
        return models, outcomes, folders


def counts(report):
    document = report.document
    del document["seconds"]
    return document


def same_both_ways(tmp_path, recipe, **more):
    alone, together = contexts(tmp_path)
    # The workers train one by one; what a stack gives differs from that by rounding.
    first = module.sweep(recipe, context=alone, stack=False, **more)
    second = module.sweep(recipe, context=together, jobs=2, **more)
    assert counts(first) == counts(second)
    assert stored(alone) == stored(together)
    assert not [one for one in (together.store / "work").iterdir() if one.is_dir()]
    assert sorted(first.model_keys) == sorted(second.model_keys)
    return second


def written(tmp_path, text):
    (tmp_path / "grid.toml").write_text(text)
    return str(tmp_path / "grid.toml")


def test_the_same_keys_and_outcomes_as_in_one_process(tmp_path, inline):
    report = same_both_ways(tmp_path, "smoke", options=SMALL)
    assert counts(report)["trainings"] == {"planned": 2, "reused": 0, "done": 2, "failed": 0}
    assert counts(report)["evaluations"] == {"planned": 4, "reused": 0, "done": 4, "failed": 0}
    _, together = contexts(tmp_path)
    again = module.sweep("smoke", options=SMALL, context=together, jobs=2)
    assert again.trainings.reused == 2
    assert (again.evaluations.reused, again.evaluations.done) == (4, 0)
    more = module.sweep(
        "smoke", options=[*SMALL[:-1], ("attack.samples", 30)], context=together, jobs=2
    )
    assert (more.trainings.reused, more.evaluations.done) == (2, 4)


def test_a_model_s_job_brings_its_twin_along_and_no_other_model(tmp_path, inline):
    module.sweep("smoke", options=SMALL, context=contexts(tmp_path)[1], jobs=2)
    relu, capped = "digits-dense-relu-s0", "digits-dense-d-relu-1-s0"
    attacks = [names for function, names in inline if function.endswith("attack_job")]
    assert sorted(attacks, key=len) == [{relu}, {relu, capped}]


def test_jobs_that_share_a_training_and_weights_along_it(tmp_path, inline):
    text = GRID.replace("epochs = 2", "epochs = 2\ncheckpoint_every = 1")
    recipe = written(tmp_path, f'{text}"attack.eps" = [0.1, 0.2]\n')
    report = same_both_ways(tmp_path, recipe)
    assert report.trainings.done == 1
    assert report.evaluations.done == 6


def test_failures_are_counted_as_in_one_process(tmp_path, inline, monkeypatch):
    real = module.train_recipe

    def sometimes(recipe, **more):
        if recipe.train.seed == 0:
            raise ValueError("ours")
        return real(recipe, **more)

    monkeypatch.setattr(module, "train_recipe", sometimes)
    monkeypatch.setattr(remote, "train_recipe", sometimes)
    recipe = written(tmp_path, f'{GRID}"train.seed" = [0, 1]\n"attack.eps" = [0.1, 0.2]\n')
    report = same_both_ways(tmp_path, recipe)
    assert [one["error"] for one in report.failures] == ["ValueError: ours"] * 2
    assert report.trainings.as_json() == {"planned": 2, "reused": 0, "done": 1, "failed": 1}
    assert report.evaluations.as_json() == {"planned": 4, "reused": 0, "done": 2, "failed": 2}


def test_attacks_that_fail_do_not_stop_the_others(tmp_path, inline, monkeypatch):
    real = module.attack

    def sometimes(models, *, wanted, context):
        if wanted.eps == (0.1,):
            raise ValueError("ours")
        return real(models, wanted=wanted, context=context)

    monkeypatch.setattr(module, "attack", sometimes)
    monkeypatch.setattr(remote, "attack", sometimes)
    recipe = written(tmp_path, f'{GRID}"attack.eps" = [0.1, 0.2]\n')
    report = same_both_ways(tmp_path, recipe)
    assert report.evaluations.as_json() == {"planned": 2, "reused": 0, "done": 1, "failed": 1}


def test_damaged_weights_are_trained_again(tmp_path, inline):
    _, context = contexts(tmp_path)
    module.sweep("smoke", options=SMALL, context=context, jobs=2)
    before = stored(context)
    file = sorted(context.store.glob("models/*/weights.safetensors"))[0]
    file.write_bytes(b"damaged")
    report = module.sweep("smoke", options=SMALL, context=context, jobs=2)
    assert report.trainings.as_json() == {"planned": 2, "reused": 1, "done": 1, "failed": 0}
    assert report.failures == []
    assert stored(context) == before


@pytest.mark.parametrize("jobs", [1, 2])
def test_what_killed_workers_finished_is_taken_over(tmp_path, inline, jobs):
    _, context = contexts(tmp_path)
    grid = plan(
        "smoke", preset="fast", options=SMALL, data=DataCache(context), context=context
    )  # fmt: skip
    with open_store(context.store) as store:
        folder = scratch.seed(store, grid[0].key, [])
    remote.train_job(
        {
            **remote.context_config(context, folder, "cpu"),
            "recipe": grid[0].recipe.model_dump(mode="json", by_alias=True),
        }
    )
    (folder.parent / "half.1.gone").mkdir()
    report = module.sweep("smoke", options=SMALL, context=context, jobs=jobs)
    assert report.trainings.as_json() == {"planned": 2, "reused": 1, "done": 1, "failed": 0}
    assert not [one for one in folder.parent.iterdir() if one.is_dir()]


def test_a_damaged_leftover_is_named_and_stops_nothing(tmp_path):
    notes = []
    _, context = contexts(tmp_path)
    context = Context(context.store, progress=lambda kind, fields: notes.append(fields.get("text")))
    folder = scratch.scratch_folder(context.store, "a" * 64)
    folder.mkdir(parents=True)
    (folder / "drelu.sqlite").write_text("no database at all, " * 100)
    scratch.gather_leftovers(context)
    assert "cannot be taken into the store" in notes[0]
    assert (folder / "drelu.sqlite").exists()


def test_two_sweeps_with_workers_on_one_store_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(scratch, "_DYING_SECONDS", 0.0)
    with (
        scratch.driving(tmp_path),
        pytest.raises(BadValue, match="another sweep"),
        scratch.driving(tmp_path),
    ):
        pass
    with scratch.driving(tmp_path):
        assert scratch.is_driven(tmp_path)
    assert not scratch.is_driven(tmp_path)
    assert not scratch.is_driven(tmp_path / "nowhere")


# --status


def test_the_status_counts_and_says_where_jobs_run(tmp_path, monkeypatch):
    monkeypatch.setattr("drelu_cli.workflows.board._WRITE_EVERY", 0.0)
    context = Context(tmp_path)
    assert status(tmp_path) is None
    with scratch.driving(tmp_path):
        assert status(tmp_path) is None  # it has only just begun
        board = Board("smoke", context, 2)
        board.expect(4)
        board.begin(TRAINING, {key: f"net {key}" for key in "abcd"})
        for place, job in (("cpu0", "a"), ("cpu1", "b")):
            board.event(job, place, "started", {"tries": 1})
        board.event("b", "cpu1", "epoch", {"done": 3, "of": 9})
        board.ended(Result("a", {}, None, 1, 10.0), None)
        board.ended(Result("c", None, "broken", 3, 20.0), "broken")
        found = status(tmp_path)
        assert (found["queued"], found["done"], found["failed"]) == (5, 1, 1)
        (running,) = found["running"]
        assert (running["where"], running["job"], running["what"]) == ("cpu1", "net b", "training")
        assert (running["epoch"], running["epochs"]) == (3, 9)
        assert found["seconds_left"] == 2 * 15 / 2  # two trainings left, two slots
        board.close()
        assert status(tmp_path) is None
    board.begin(TRAINING, {})
    assert status(tmp_path) is None  # the file of a driver that was killed


def test_the_status_is_written_once_a_second_at_most(tmp_path, monkeypatch):
    now = 100.0
    monkeypatch.setattr("drelu_cli.workflows.board.time.monotonic", lambda: now)
    writes = []
    monkeypatch.setattr(
        "drelu_cli.workflows.board.write_atomically", lambda file, text: writes.append(text)
    )
    board = Board("smoke", Context(tmp_path), 1)
    board.begin(TRAINING, {"a": "a"})
    for number in range(50):
        now += 0.1
        board.event("a", "cpu0", "epoch", {"done": number, "of": 50})
    assert 4 <= len(writes) <= 6


def test_a_full_disk_does_not_stop_the_sweep_for_its_status(tmp_path, monkeypatch):
    def full(file, text):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("drelu_cli.workflows.board.write_atomically", full)
    Board("smoke", Context(tmp_path), 1).begin(TRAINING, {"a": "a"})


def test_the_status_needs_no_torch():
    code = "import sys, drelu_cli.workflows.board; print({'torch', 'pandas'} & set(sys.modules))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "set()"


# The plan


def test_jobs_of_a_plan_share_what_they_have_in_common(tmp_path):
    (tmp_path / "grid.toml").write_text(f'{GRID}"train.seed" = [0, 1]\n')
    context = Context(tmp_path / "runs", device="cpu")
    name = str(tmp_path / "grid.toml")
    one, other = plan(name, preset="fast", options=(), data=DataCache(context), context=context)
    assert one.tasks is other.tasks
    assert one.effective.data is other.effective.data
    assert [job.effective.train.seed for job in (one, other)] == [0, 1]
    assert one.key != other.key
