"""Sweeps on real workers: killed drivers, full disks; nothing is lost, nothing done twice."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from drelu_cli.store.connect import open_store

pytestmark = pytest.mark.slow

JOBS = """
import errno, os
from pathlib import Path
from drelu_cli.training.schemes import natural

def counting(model, x, y, stream, /):
    with open(os.environ["COUNTED"], "a") as log:
        log.write(f"{stream.seed} {stream.path[0]} {stream.path[2]}\\n")
    return natural(model, x, y, stream)

def on_a_full_disk(model, x, y, stream, /):
    # The worker's disk takes no more weights of seed 1.
    import drelu_cli.models.checkpoints as checkpoints
    real = getattr(checkpoints, "real_write", checkpoints._write_whole)
    checkpoints.real_write = real

    def full(path, body):
        raise OSError(errno.ENOSPC, "No space left on device")

    checkpoints._write_whole = full if stream.seed == 1 and "FULL" in os.environ else real
    return natural(model, x, y, stream)
"""
GRID = """
scheme = "SCHEME"
[data]
train_samples = 400
[train]
epochs = EPOCHS
[attack]
attacks = ["fgsm", "pgd:steps=5"]
samples = 60
[grid]
activation = ["relu"]
"train.seed" = [0, 1, 2, 3]
"""


class Sweeps:
    """Runs `drelu sweep grid.toml` on stores in one folder."""

    def __init__(self, folder: Path, scheme: str, epochs: int) -> None:
        self.folder = folder
        (folder / "the_jobs.py").write_text(JOBS)
        info = folder / "the_jobs-1.dist-info"
        info.mkdir()
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: the-jobs\nVersion: 1\n")
        entries = f"[drelu.schemes]\n{scheme} = the_jobs:{scheme}\n"
        (info / "entry_points.txt").write_text(entries)
        grid = GRID.replace("SCHEME", scheme).replace("EPOCHS", str(epochs))
        (folder / "grid.toml").write_text(grid)

    def start(self, name, *options, **environment):
        path = os.pathsep.join([str(self.folder), *filter(None, sys.path)])
        return subprocess.Popen(
            [sys.executable, "-m", "drelu_cli", "sweep", str(self.folder / "grid.toml"),
             "--json", "--device", "cpu", "--store", str(self.folder / name), *options],
            env={
                **os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": path,
                "COUNTED": str(self.folder / f"{name}.txt"), **environment,
            },
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        )  # fmt: skip

    def run(self, name, *options, **environment):
        return json.loads(self.start(name, *options, **environment).communicate()[0])

    def counted(self, name):
        """How often each (seed, purpose, epoch) was seen."""
        file = self.folder / f"{name}.txt"
        return Counter(file.read_text().splitlines()) if file.exists() else Counter()

    def table(self, name):
        """Weights, and outcomes by text: NaN differs from itself."""
        with open_store(self.folder / name, create=False) as store:
            assert store.check() > 0
            models = {one.key: one.weights_digest for one in store.models()}
            return models, {one.key: str(store.outcomes(one.key)) for one in store.evaluations()}

    def leftovers(self, name):
        return [one.name for one in (self.folder / name / "work").iterdir() if one.is_dir()]


def test_a_driver_killed_in_the_middle_loses_nothing(tmp_path):
    sweeps = Sweeps(tmp_path, "counting", epochs=8)
    whole = sweeps.run("whole")
    assert whole["failures"] == []
    once = sweeps.counted("whole")
    kills = 0
    for batches in (3, len(once) + 6):  # in the first trainings, then in later ones
        driver = sweeps.start("killed", "--jobs", "2")
        deadline = time.monotonic() + 300
        while sum(sweeps.counted("killed").values()) < batches and driver.poll() is None:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        kills += driver.poll() is None
        driver.kill()
        driver.communicate()
    final = sweeps.run("killed", "--jobs", "2")
    assert kills >= 1
    assert final["failures"] == []
    assert final["trainings"]["reused"] + final["trainings"]["done"] == 4
    assert sweeps.table("killed") == sweeps.table("whole")
    again = sweeps.counted("killed")
    assert set(again) == set(once)
    # Two trainings are in flight at each kill: of each, an epoch that had not ended.
    repeated = {epoch for epoch in again if again[epoch] != once[epoch]}
    assert len(repeated) <= 2 * kills, f"trained again: {repeated}"
    assert sweeps.leftovers("killed") == ["logs"]


RUNNERS = {
    "local": (),
    "ray": ("--runner", "ray"),
    "slurm": ("--runner", "slurm", "--set", "slurm.cluster=local"),
}


@pytest.mark.parametrize("runner", RUNNERS)
def test_a_full_disk_of_a_worker_fails_one_job_and_the_next_sweep_mends_it(tmp_path, runner):
    sweeps = Sweeps(tmp_path, "on_a_full_disk", epochs=2)
    line = ("--jobs", "2", *RUNNERS[runner])
    first = sweeps.run("runs", *line, FULL="yes")
    (failure,) = first["failures"]
    assert failure["job"].endswith("-s1")
    assert "No space left on device" in failure["error"]
    assert first["trainings"] == {"planned": 4, "reused": 0, "done": 3, "failed": 1}
    assert first["evaluations"] == {"planned": 8, "reused": 0, "done": 6, "failed": 2}
    assert set(sweeps.leftovers("runs")) <= {"logs"}
    second = sweeps.run("runs", "--jobs", "2")
    assert second["failures"] == []
    assert second["trainings"] == {"planned": 4, "reused": 3, "done": 1, "failed": 0}
    assert second["evaluations"] == {"planned": 8, "reused": 6, "done": 2, "failed": 0}


def test_smoke_on_two_workers_is_smoke(tmp_path):
    def run(name, *options):
        line = ["sweep", "smoke", "--preset", "tiny", "--device", "cpu", "--store", name, "--json"]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, sys.path))
        found = subprocess.run(
            [sys.executable, "-m", "drelu_cli", *line, *options],
            cwd=tmp_path, env=environment, capture_output=True, text=True, check=True,
        )  # fmt: skip
        document = json.loads(found.stdout)
        del document["seconds"]
        return document, found.stderr

    alone, _ = run("alone")
    together, told = run("together", "--jobs", "2")
    assert alone == together
    assert "cpu0: " in told
    assert "cpu1: " in told
    stores = [Sweeps.table(_At(tmp_path), name) for name in ("alone", "together")]
    assert stores[0] == stores[1]


class _At:
    def __init__(self, folder):
        self.folder = folder
