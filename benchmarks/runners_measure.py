"""What `runners.py` measures, one function per question."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import drelu_cli
from drelu_cli.runtime.executor import Executor, Job
from drelu_cli.runtime.local import LocalExecutor
from drelu_cli.runtime.slots import Slot
from drelu_cli.workflows.context import Context
from drelu_cli.workflows.jobs import plan
from drelu_cli.workflows.parallel import _training
from drelu_cli.workflows.subjects import DataCache
from drelu_cli.workflows.sweep import sweep

HERE = Path(__file__).parent
ONE_THREAD = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
NET = """[model]
name = "dense"
width = {width}
extra = 16
[data]
name = "digits"
[train]
epochs = {epochs}
stop_patience = {epochs}
[attack]
attacks = ["fgsm", "pgd:steps=5"]
samples = 200
[grid]
activation = ["drelu"]
"train.seed" = {seeds}
"""


def recipe(folder: Path, seeds: int, *, width: int = 32, epochs: int = 2) -> str:
    """A grid of small dense nets on digits, one per seed; its path."""
    file = folder / "grid.toml"
    file.write_text(NET.format(width=width, epochs=epochs, seeds=list(range(seeds))))
    return str(file)


# One job


def local() -> Executor:
    """Two processes of one thread each."""
    return LocalExecutor([Slot(f"cpu{n}", ONE_THREAD) for n in range(2)])


def on_ray() -> Executor:
    """A Ray started here, two jobs at once."""
    from drelu_cli.runtime.ray_cluster import RayExecutor, RayPlace

    return RayExecutor(RayPlace(None, jobs=2))


def overhead(start: Callable[[], Executor], jobs: int, rounds: int) -> list[float]:
    """Milliseconds per job without work, round by round; workers have started before."""
    found = []
    with start() as executor:
        _emptied(executor, 8, "before")
        for number in range(rounds):
            began = time.perf_counter()
            _emptied(executor, jobs, str(number))
            found.append(1000 * (time.perf_counter() - began) / jobs)
    return found


def _emptied(executor: Executor, jobs: int, name: str) -> None:
    for number in range(jobs):
        executor.submit(Job(f"{name}-{number}", "runner_jobs:nothing", {"text": "x" * 2000}))
    errors = [one.error for one in executor.results() if one.error]
    if errors:
        raise SystemExit(errors[0])


def driver_seconds(seeds: int) -> dict[str, float]:
    """Seconds of the driver's processor time per job of a whole sweep, the store's part included.

    A second sweep of the same grid does all but the jobs; it is taken off.
    """
    with tempfile.TemporaryDirectory() as folder:
        grid, context = recipe(Path(folder), seeds), Context(Path(folder) / "runs", device="cpu")
        spent = []
        for jobs in (2, 2, 2):
            began = time.process_time()
            report = sweep(grid, jobs=jobs, context=context)
            if report.failures:
                raise SystemExit(str(report.failures))
            spent.append(time.process_time() - began)
    return {"first": spent[0], "again": spent[2], "jobs": 2 * seeds}


# Two workers


def throughput(rounds: int, trainings: int, epochs: int) -> tuple[list[float], list[float]]:
    """Seconds for so many trainings on one worker, and on two; rounds in turn."""
    one: list[float] = []
    two: list[float] = []
    for _ in range(rounds):
        one.append(_trained(1, trainings, epochs))
        two.append(_trained(2, trainings, epochs))
    return one, two


def _trained(workers: int, trainings: int, epochs: int) -> float:
    """From the first training's begin to the last one's end, on workers that have started."""
    with tempfile.TemporaryDirectory() as folder:
        context = Context(Path(folder) / "runs", device="cpu")
        grid = recipe(Path(folder), trainings + workers, width=256, epochs=epochs)
        jobs = plan(grid, preset="fast", options=(), data=DataCache(context), context=context)
        slots = [Slot(f"cpu{n}", ONE_THREAD) for n in range(workers)]
        with LocalExecutor(slots) as executor, _seeded(context, executor) as made:
            for part in (jobs[trainings:], jobs[:trainings]):
                began = time.perf_counter()
                for job in part:
                    executor.submit(made(job))
                if any(one.error for one in executor.results()):
                    raise SystemExit("a training failed")
            return time.perf_counter() - began


@contextmanager
def _seeded(context: Context, executor: Executor) -> Iterator[Callable[[Any], Job]]:
    from drelu_cli.store.connect import open_store
    from drelu_cli.workflows.board import Board
    from drelu_cli.workflows.parallel import Sweeping
    from drelu_cli.workflows.tally import SweepReport

    with open_store(context.store) as store:
        board = Board("grid", context, executor.width)
        sweeping = Sweeping(store, executor, SweepReport("grid", ()), board, context, "cpu")
        yield lambda job: _training(sweeping, job)


# A long queue


def queue(jobs: int, seconds: float) -> dict[str, float]:
    """A driver with so many trainings in its queue: memory, processor time, `--status`."""
    with tempfile.TemporaryDirectory() as folder:
        grid, store = recipe(Path(folder), jobs), Path(folder) / "runs"
        began = time.monotonic()
        driver = subprocess.Popen(
            [sys.executable, HERE / "runner_jobs.py", grid, store], env=environment()
        )
        try:
            while (told := asked(store)["status"]) is None or len(told["running"]) < 2:
                if driver.poll() is not None:
                    raise SystemExit("the driver has ended")
                time.sleep(1.0)
            ready = time.monotonic() - began
            cpu = processor_seconds(driver.pid)
            time.sleep(seconds)
            cpu = processor_seconds(driver.pid) - cpu
            answers = [timed_status(store) for _ in range(7)]
            return {
                "queued": told["queued"], "ready": ready, "cpu": cpu / seconds,
                "memory": memory(driver.pid), "status": statistics.median(answers),
                "slowest": max(answers),
            }  # fmt: skip
        finally:
            driver.kill()
            driver.wait()
            time.sleep(1.0)  # its workers end by themselves


def environment() -> dict[str, str]:
    """This process's, with what is imported here."""
    path = [str(HERE), str(Path(drelu_cli.__file__).parents[1]), *filter(None, sys.path)]
    return {**os.environ, **ONE_THREAD, "PYTHONPATH": os.pathsep.join(path)}


def asked(store: Path) -> dict[str, Any]:
    """What `drelu sweep --status` says."""
    line = [sys.executable, "-m", "drelu_cli", "sweep", "--status", "--json", "--store", store]
    found = subprocess.run(line, env=environment(), capture_output=True, check=True)
    told: dict[str, Any] = json.loads(found.stdout)
    return told


def timed_status(store: Path) -> float:
    """Seconds of one `drelu sweep --status`, Python's start included."""
    began = time.perf_counter()
    if asked(store)["status"] is None:
        raise SystemExit("no sweep runs")
    return time.perf_counter() - began


def processor_seconds(pid: int) -> float:
    """What a process has spent, its threads included, its children not."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def memory(pid: int) -> float:
    """Resident megabytes."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6
