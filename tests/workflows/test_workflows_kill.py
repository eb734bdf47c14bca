"""kill -9 at any moment loses no finished epoch and no finished result."""

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from drelu_cli.models.checkpoints import read_weights
from drelu_cli.store.connect import open_store

TRAIN = """
import sys, os, signal
from pathlib import Path
from drelu_cli.workflows.context import Context
from drelu_cli.workflows.train import train

limit = int(sys.argv[2])

def progress(kind, fields):
    if kind == "epoch":
        print("epoch", fields["done"], flush=True)
        if fields["done"] == limit:
            os.kill(os.getpid(), signal.SIGKILL)
    if kind == "note":
        print("note", fields["text"], flush=True)

options = [("train.epochs", 4), ("scheme", "at"), ("data.train_samples", 200)]
report = train(options=options, context=Context(Path(sys.argv[1]), device="cpu", progress=progress))
print("done", report.record.key, report.reused, flush=True)
"""


def trained(store, limit=0):
    return subprocess.run(
        [sys.executable, "-c", TRAIN, str(store), str(limit)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip


def weights(store):
    with open_store(store, create=False) as opened:
        (record,) = opened.models()
        state, _ = read_weights(opened.model_dir(record.key) / "weights.safetensors")
        history = (opened.model_dir(record.key) / "history.csv").read_text().splitlines()
    return record, state, history


def test_a_killed_training_resumes_and_ends_the_same(tmp_path):
    whole = trained(tmp_path / "whole")
    assert whole.returncode == 0, whole.stderr
    first = trained(tmp_path / "killed", limit=3)
    assert first.returncode == -signal.SIGKILL
    second = trained(tmp_path / "killed", limit=7)  # in the second phase, madry
    assert second.returncode == -signal.SIGKILL
    assert "resumed after epoch 3" in second.stdout
    assert "\nepoch 3\n" not in second.stdout
    assert "\nepoch 4\n" in second.stdout
    last = trained(tmp_path / "killed")
    assert last.returncode == 0, last.stderr
    assert "resumed after epoch 7" in last.stdout
    expected, found = weights(tmp_path / "whole"), weights(tmp_path / "killed")
    assert expected[0].weights_digest == found[0].weights_digest
    assert expected[0].key == found[0].key
    for name, value in expected[1].items():
        assert value.equal(found[1][name]), name
    assert len(expected[2]) == len(found[2])
    assert not list((tmp_path / "killed").rglob("resume.pt"))


def test_two_processes_train_the_same_recipe_once(tmp_path):
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", TRAIN, str(tmp_path / "runs"), "0"],
            stdout=subprocess.PIPE, text=True,
        )
        for _ in range(2)
    ]  # fmt: skip
    outputs = [process.communicate(timeout=120)[0] for process in processes]
    assert all(process.returncode == 0 for process in processes)
    reused = sorted(output.split()[-1] for output in outputs)
    assert reused == ["False", "True"]
    assert sum("epoch 1\n" in output for output in outputs) == 1


COUNTING = """
import os
from drelu_cli.training.schemes import natural

def counting(model, x, y, stream, /):
    with open(os.environ["COUNTED"], "a") as log:
        log.write(f"{stream.seed} {stream.path[0]} {stream.path[2]}\\n")
    return natural(model, x, y, stream)
"""
GRID = """
scheme = "counting"
[data]
train_samples = 400
[train]
epochs = 12
[attack]
attacks = ["fgsm", "pgd:steps=5", "apgd_ce:steps=5"]
samples = 60
[grid]
activation = ["relu"]
"train.seed" = [0, 1, 2, 3]
"""


@pytest.mark.slow
def test_a_sweep_killed_at_three_random_moments_ends_with_the_same_table(tmp_path):
    """Nothing is trained twice: the batches are counted, but for an epoch under way per kill.

    A kill comes a random number of batches and then a random time after the start, so that it
    meets trainings and attacks, on a fast machine and on a slow one, and never the end.
    """
    import json
    import random

    (tmp_path / "counted.py").write_text(COUNTING)
    about = tmp_path / "counted-1.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: counted\nVersion: 1\n")
    (about / "entry_points.txt").write_text("[drelu.schemes]\ncounting = counted:counting\n")
    (tmp_path / "grid.toml").write_text(GRID)
    moments = random.SystemRandom()

    def run(name, *arguments, kill_after=None):
        environment = {
            **os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(tmp_path),
            "COUNTED": str(tmp_path / f"{name}.txt"),
        }  # fmt: skip
        process = subprocess.Popen(
            [sys.executable, "-m", "drelu_cli", *arguments, "--store", str(tmp_path / name)],
            env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        )  # fmt: skip
        if kill_after is not None:
            more, seconds = kill_after
            log = tmp_path / f"{name}.txt"
            wanted = lines(log) + more
            while lines(log) < wanted and process.poll() is None:
                time.sleep(0.01)
            time.sleep(seconds)
            process.kill()
        out = process.communicate()[0]
        assert process.returncode == (0 if kill_after is None else -signal.SIGKILL), kill_after
        return out

    sweep = ("sweep", str(tmp_path / "grid.toml"), "--json")
    whole = json.loads(run("whole", *sweep))
    batches_of_all = lines(tmp_path / "whole.txt")
    killed_at = [
        (moments.randint(1, batches_of_all // 5), moments.uniform(0.0, 0.3)) for _ in range(3)
    ]
    for moment in killed_at:
        run("killed", *sweep, kill_after=moment)
    final = json.loads(run("killed", *sweep))
    where = f"killed after {killed_at} batches and seconds of {batches_of_all}"
    assert (final["failures"], whole["failures"]) == ([], []), where
    assert final["trainings"]["planned"] == 4 == whole["trainings"]["done"]
    for name in ("whole", "killed"):
        with open_store(tmp_path / name, create=False) as store:
            assert store.check() > 0
        run(name, "compare", "--out", str(tmp_path / f"{name}.md"))
    assert outcomes(tmp_path / "whole") == outcomes(tmp_path / "killed"), where
    assert (tmp_path / "whole.md").read_text() == (tmp_path / "killed.md").read_text(), where
    once, again = (batches(tmp_path / f"{name}.txt") for name in ("whole", "killed"))
    assert set(once) == set(again), where
    # An epoch is under way until its state is written: also after its validation has been seen.
    repeated = {tuple(line.split()[::2]) for line in again if again[line] != once[line]}
    assert len(repeated) <= 3, f"{where}: trained again: {repeated}"


def lines(log: Path):
    """How many batches were trained so far, in all runs together."""
    return len(log.read_text().splitlines()) if log.exists() else 0


def batches(log: Path):
    """How often each (seed, purpose, epoch) was seen."""
    return Counter(log.read_text().splitlines())


def outcomes(root: Path):
    with open_store(root, create=False) as store:
        # NaN differs from itself: outcomes compare by their text.
        return {one.key: str(store.outcomes(one.key)) for one in store.evaluations()}
