"""SIGKILL in the middle of a stack: the next sweep loses and repeats nothing that had ended."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections import Counter

import pytest
import torch

from drelu_cli.models.checkpoints import read_weights
from drelu_cli.store.connect import open_store

pytestmark = pytest.mark.slow

GRID = """
[model]
name = "dense"
width = 16
extra = 8
[data]
train_samples = 300
[train]
epochs = 12
[attack]
attacks = ["fgsm", "pgd:steps=5"]
samples = 60
[grid]
"penalty.lambda" = [0.1, 1.0]
"train.seed" = [0, 1, 2, 3]
"""
# Nets of a stack share no batch: each one's epochs are counted where it takes them over.
COUNTING = """
import os
from drelu_cli.training.fit import Fit

real = Fit.end_epoch

def counting(self, record, *arguments):
    with open(os.environ["COUNTED"], "a") as log:
        log.write(f"{self.lambda_} {self.settings.seed} {len(self.history)}\\n")
    return real(self, record, *arguments)

Fit.end_epoch = counting
from drelu_cli.cli import main
main()
"""
NETS, EPOCHS, STACK = 8, 12, 6


class Sweeps:
    """Runs the grid, stacked, on stores in one folder."""

    def __init__(self, folder):
        self.folder = folder
        (folder / "grid.toml").write_text(GRID)

    def start(self, name):
        path = os.pathsep.join([str(self.folder), *filter(None, sys.path)])
        return subprocess.Popen(
            [sys.executable, "-c", COUNTING, "sweep", str(self.folder / "grid.toml"), "--json",
             "--device", "cpu", "--store", str(self.folder / name)],
            env={
                **os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": path,
                "COUNTED": str(self.folder / f"{name}.txt"),
            },
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        )  # fmt: skip

    def run(self, name):
        return json.loads(self.start(name).communicate()[0])

    def counted(self, name):
        """How often each (lambda, seed, epoch) was trained."""
        file = self.folder / f"{name}.txt"
        return Counter(file.read_text().splitlines()) if file.exists() else Counter()

    def kill_after(self, name, epochs):
        """Kills a sweep once so many epochs of nets have ended; whether it still ran."""
        process = self.start(name)
        deadline = time.monotonic() + 300
        while sum(self.counted(name).values()) < epochs and process.poll() is None:
            assert time.monotonic() < deadline
            time.sleep(0.002)
        killed = process.poll() is None
        process.kill()
        process.communicate()
        return killed

    def found(self, name):
        """Models with their weights, and the state of every sample, attack by attack."""
        with open_store(self.folder / name, create=False) as store:
            assert store.check() > 0
            models = {
                one.key: read_weights(store.model_dir(one.key) / "weights.safetensors")[0]
                for one in store.models()
            }
            states = {
                one.key: [outcome.state for outcome in store.outcomes(one.key)]
                for one in store.evaluations()
            }
        return models, states

    def digests(self, name):
        """Digests of the weights of the nets that have ended."""
        with open_store(self.folder / name, create=False) as store:
            return {one.key: one.weights_digest for one in store.models()}


def test_a_stack_killed_in_the_middle_ends_as_one_that_was_left_alone(tmp_path):
    sweeps = Sweeps(tmp_path)
    whole = sweeps.run("whole")
    assert (whole["failures"], whole["stacked"]) == ([], NETS)
    assert sum(sweeps.counted("whole").values()) == NETS * EPOCHS
    # In the first stack's epochs, and when its first nets have ended and others take their place.
    killed = [sweeps.kill_after("killed", count) for count in (20, STACK * EPOCHS + 10)]
    assert killed == [True, True]
    ended = sweeps.digests("killed")
    assert 0 < len(ended) < NETS
    final = sweeps.run("killed")
    assert final["failures"] == []
    assert final["trainings"]["reused"] == len(ended)
    assert final["trainings"]["reused"] + final["trainings"]["done"] == NETS
    assert ended.items() <= sweeps.digests("killed").items()
    (weights, states), (again_weights, again_states) = sweeps.found("whole"), sweeps.found("killed")
    assert again_states == states
    assert set(again_weights) == set(weights)
    for key, own in weights.items():
        for name, value in own.items():  # the stacks' sizes differ, and with them the rounding
            torch.testing.assert_close(again_weights[key][name], value, rtol=0, atol=1e-4)
    again = sweeps.counted("killed")
    assert set(again) == set(sweeps.counted("whole"))
    # Of each net of a stack, the epoch whose end was not yet on disk at a kill.
    repeated = {epoch: count for epoch, count in again.items() if count > 1}
    assert sum(count - 1 for count in repeated.values()) <= STACK * len(killed), repeated
    assert not list(tmp_path.rglob("resume.pt"))
