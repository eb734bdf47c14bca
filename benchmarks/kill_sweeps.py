"""Sweeps that are killed on the way, and what they leave: the parts of `kill_study.py`."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kill_counted import ATTACK, LOG

from drelu_cli.store.connect import open_store
from drelu_cli.workflows.compare import compare
from drelu_cli.workflows.context import Context

RECIPE = Path(__file__).with_name("kill_study.toml")
PLUGIN = """[drelu.schemes]
counted_natural = kill_counted:counted_natural
[drelu.attacks]
counted_pgd = kill_counted:counted_pgd
"""
# A moment: so many epochs or attacks after the last kill were begun, and a part of a second more.
MOST_BEGUN, PART_SECONDS = 16, 0.5
# A quarter of the kills do not wait for work: they hit processes that start, or take over.
AT_ONCE, AT_ONCE_SECONDS = 0.25, 5.0
_LOOK_SECONDS = 0.005
WORKER = b"drelu_cli.runtime.worker"
GIVEN_UP = "the worker process died"  # three times: reported, and done by the next sweep


@dataclass
class Swept:
    """One sweep to its end, over all its starts.

    Attributes:
        name: of its store.
        drivers: kills of the driver.
        workers: kills of workers.
        at: kills by what the sweep was doing.
        starts: how often it was started.
        given_up: jobs that were reported after three deaths; a later start did them.
        killed: process ids of workers that a kill ended, their own or the driver's.
        seconds: wall time.
    """

    name: str
    drivers: int = 0
    workers: int = 0
    at: Counter[str] = field(default_factory=Counter)
    starts: int = 0
    given_up: int = 0
    killed: set[int] = field(default_factory=set)
    seconds: float = 0.0

    @property
    def kills(self) -> int:
        """All of them."""
        return self.drivers + self.workers


@dataclass(frozen=True)
class Noted:
    """What the log of a sweep says of the epochs, or of the attacks.

    Attributes:
        different: how many there are.
        again: begun again, counted each time.
        in_flight: of these, the ones whose earlier process was killed in the middle of it.
    """

    different: int
    again: int
    in_flight: int


class Study:
    """Sweeps in stores of one folder."""

    def __init__(self, folder: Path, draws: random.Random) -> None:
        self.folder = folder
        self.draws = draws
        info = folder / "kill_counted-1.dist-info"
        info.mkdir()
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: kill-counted\nVersion: 1\n")
        (info / "entry_points.txt").write_text(PLUGIN)

    def run(self, name: str, kills: int) -> Swept:
        """Sweeps to the end; at most `kills` are made on the way."""
        swept = Swept(name)
        began = time.monotonic()
        while True:
            swept.starts += 1
            driver = self._start(name)
            while swept.kills < kills and self._moment_comes(driver, name):
                self._kill(driver, swept)
            out, _ = driver.communicate()
            if driver.returncode != -signal.SIGKILL and self._is_done(out, swept):
                swept.seconds = time.monotonic() - began
                return swept

    def _start(self, name: str) -> subprocess.Popen[bytes]:
        path = [str(self.folder), str(Path(__file__).parent), *filter(None, sys.path)]
        line = ["sweep", str(RECIPE), "--jobs", "2", "--device", "cpu", "--json"]
        return subprocess.Popen(
            [sys.executable, "-m", "drelu_cli", *line, "--store", str(self.folder / name)],
            env={
                **os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(path),
                LOG: str(self.folder / f"{name}.log"),
            },
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        )  # fmt: skip

    def _moment_comes(self, driver: subprocess.Popen[bytes], name: str) -> bool:
        """Waits for the next moment; False where the driver has ended before it."""
        if self.draws.random() < AT_ONCE:
            seconds = self.draws.uniform(0, AT_ONCE_SECONDS)
        else:
            begun = len(self._log(name)) + self.draws.randint(1, MOST_BEGUN)
            seconds = self.draws.uniform(0, PART_SECONDS)
            while driver.poll() is None and len(self._log(name)) < begun:
                time.sleep(_LOOK_SECONDS)
        try:
            driver.wait(seconds)
        except subprocess.TimeoutExpired:
            return True
        return False

    def _kill(self, driver: subprocess.Popen[bytes], swept: Swept) -> None:
        workers = workers_of(driver.pid)
        victim = self.draws.choice([driver.pid, *workers])
        try:
            os.kill(victim, signal.SIGKILL)
        except ProcessLookupError:  # it has just ended by itself
            return
        swept.at[self._doing(swept.name, workers)] += 1
        if victim == driver.pid:
            swept.drivers += 1
            swept.killed.update(workers)
            driver.wait()
        else:
            swept.workers += 1
            swept.killed.add(victim)

    def _doing(self, name: str, workers: list[int]) -> str:
        begun = {one["what"] for one in self._log(name) if one["pid"] in workers}
        if not begun:
            return "starting"
        return "attacks" if ATTACK in begun else "trainings"

    def _is_done(self, out: bytes, swept: Swept) -> bool:
        failures = json.loads(out)["failures"]
        others = [one for one in failures if GIVEN_UP not in one["error"]]
        if others:
            raise SystemExit(f"{swept.name}: a job failed by itself: {others}")
        swept.given_up += len(failures)
        return not failures

    def _log(self, name: str) -> list[dict[str, Any]]:
        file = self.folder / f"{name}.log"
        return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []

    def noted(self, swept: Swept, what: str) -> Noted:
        """What began more than once, and whether a kill was the reason.

        Something was in flight when the process that began it was ended by a kill, and it is the
        last thing which that process began.
        """
        log = self._log(swept.name)
        last = {one["pid"]: one["which"] for one in log}
        begun: dict[str, list[int]] = {}
        for one in log:
            if one["what"] == what:
                begun.setdefault(one["which"], []).append(one["pid"])
        in_flight = 0
        for which, pids in begun.items():
            ended = [pid for pid in pids if pid in swept.killed and last[pid] == which]
            in_flight += min(len(ended), len(pids) - 1)
        again = sum(len(pids) - 1 for pids in begun.values())
        return Noted(len(begun), again, in_flight)

    def result(self, name: str) -> dict[str, Any]:
        """Models, outcomes and table of a store, each as plain data or text."""
        root = self.folder / name
        with open_store(root, create=False) as store:
            # NaN differs from itself: outcomes compare by their text.
            outcomes = {one.key: str(store.outcomes(one.key)) for one in store.evaluations()}
            models = {one.key: one.weights_digest for one in store.models()}
            values = store.check()
        cells = compare(models=sorted(models), context=Context(root)).table.cells
        left = [one.name for one in (root / "work").iterdir() if one.is_dir()]
        return {
            "models": models, "outcomes": outcomes, "table": cells.to_csv(), "values": values,
            "left": left,
        }  # fmt: skip


def workers_of(driver: int) -> list[int]:
    """Process ids of a driver's workers."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parent = (folder / "stat").read_text().rpartition(")")[2].split()[1]
            if int(parent) == driver and WORKER in (folder / "cmdline").read_bytes():
                found.append(int(folder.name))
        except (OSError, IndexError):
            continue  # it has just ended
    return sorted(found)
