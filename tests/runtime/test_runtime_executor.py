"""What an executor promises, on the local one: results, errors, dead workers, cancelling."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from drelu_cli.core.errors import BadValue
from drelu_cli.runtime.executor import Job
from drelu_cli.runtime.local import LocalExecutor
from drelu_cli.runtime.slots import Slot, slots, visible_gpus

JOBS = """
import os, signal, sys, time
from pathlib import Path
from drelu_cli.core.errors import BadValue
from drelu_cli.runtime.channel import tell

def double(config):
    print("printed by a job")
    assert sys.stdin.read() == ""
    tell("epoch", {"done": config["x"]})
    return {"x": 2 * config["x"], "pid": os.getpid()}

def raises(config):
    raise ValueError("always")

def refuses(config):
    raise BadValue("a wrong value")

def dies(config):
    os.kill(os.getpid(), signal.SIGKILL)

def dies_once(config):
    if not Path(config["mark"]).exists():
        Path(config["mark"]).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return "alive"

def waits(config):
    Path(config["mark"]).touch()
    while not Path(config["go"]).exists():
        time.sleep(0.01)
    return "waited"

def variable(config):
    return os.environ[config["variable"]]
"""


@pytest.fixture
def jobs(tmp_path, monkeypatch):
    (tmp_path / "the_jobs.py").write_text(JOBS)
    monkeypatch.syspath_prepend(tmp_path)
    return lambda name, function, **config: Job(name, f"the_jobs:{function}", config)


def one_slot(n=0):
    return Slot(f"slot{n}")


def until(condition):
    for _ in range(3000):
        if condition():
            return
        time.sleep(0.01)
    raise AssertionError("it never happened")


def test_results_come_back_from_persistent_processes(jobs, tmp_path):
    events = []
    told = lambda *event: events.append(event)  # noqa: E731
    with LocalExecutor([one_slot()], on_event=told, logs=tmp_path / "logs") as executor:
        assert executor.width == 1
        for x in range(3):
            executor.submit(jobs(f"job{x}", "double", x=x))
        found = list(executor.results())
        executor.submit(jobs("later", "double", x=10))
        (later,) = executor.results()
    assert [(one.name, one.value["x"], one.error, one.tries) for one in [*found, later]] == [
        ("job0", 0, None, 1), ("job1", 2, None, 1), ("job2", 4, None, 1), ("later", 20, None, 1)
    ]  # fmt: skip
    assert len({one.value["pid"] for one in [*found, later]}) == 1
    assert ("job1", "slot0", "epoch", {"done": 1}) in events
    assert (tmp_path / "logs" / "slot0.log").read_text().count("printed by a job") == 4


def test_a_job_that_always_fails_is_reported_and_the_rest_goes_on(jobs):
    with LocalExecutor([one_slot()]) as executor:
        executor.submit(jobs("raises", "raises"))
        executor.submit(jobs("refuses", "refuses"))
        executor.submit(jobs("good", "double", x=1))
        found = {one.name: one for one in executor.results()}
    assert (found["raises"].error, found["raises"].tries) == (
        "ValueError: always (tried 3 times)", 3
    )  # fmt: skip
    assert (found["refuses"].error, found["refuses"].tries) == ("a wrong value", 1)
    assert found["good"].value["x"] == 2


def test_a_job_that_kills_its_worker_is_reported_and_the_rest_goes_on(jobs):
    with LocalExecutor([one_slot()]) as executor:
        executor.submit(jobs("dies", "dies"))
        executor.submit(jobs("good", "double", x=1))
        found = {one.name: one for one in executor.results()}
    assert found["dies"].error == "the worker process died (signal 9) (tried 3 times)"
    assert found["dies"].tries == 3
    assert found["good"].value["x"] == 2


def test_a_dead_worker_is_replaced_and_its_job_tried_again(jobs, tmp_path):
    events = []
    with LocalExecutor([one_slot()], on_event=lambda *event: events.append(event[2])) as executor:
        executor.submit(jobs("job", "dies_once", mark=str(tmp_path / "mark")))
        (found,) = executor.results()
    assert (found.value, found.error, found.tries) == ("alive", None, 2)
    assert events == ["started", "again"]


def test_a_worker_killed_from_outside_is_replaced(jobs, tmp_path):
    mark, go = tmp_path / "mark", tmp_path / "go"

    def kill_once():
        until(mark.exists)
        os.kill(executor.pids["slot0"], signal.SIGKILL)
        go.touch()

    with LocalExecutor([one_slot()]) as executor:
        executor.submit(jobs("job", "waits", mark=str(mark), go=str(go)))
        killer = threading.Thread(target=kill_once)
        killer.start()
        (result,) = executor.results()
        killer.join()
    assert (result.value, result.tries) == ("waited", 2)


def test_each_slot_has_its_own_environment(jobs, tmp_path):
    places = [Slot(f"s{n}", {"CUDA_VISIBLE_DEVICES": str(n)}) for n in range(2)]
    with LocalExecutor(places) as executor:
        for n in range(2):
            executor.submit(jobs(f"job{n}", "variable", variable="CUDA_VISIBLE_DEVICES"))
        seen = {one.name: one.value for one in executor.results()}
    assert seen == {"job0": "0", "job1": "1"}


def test_cancelling_takes_a_job_from_the_queue_or_from_its_worker(jobs, tmp_path):
    mark = tmp_path / "mark"
    never = {"mark": str(mark), "go": str(tmp_path / "never")}
    with LocalExecutor([one_slot()]) as executor:
        for name in ("running", "waiting"):
            executor.submit(jobs(name, "waits", **never))
        executor.submit(jobs("good", "double", x=1))
        results = executor.results()
        executor.cancel("waiting")
        first = next(results)
        until(mark.exists)
        executor.cancel("running")
        executor.cancel("unknown")
        second, third = results
    assert (first.name, first.error, first.tries) == ("waiting", "cancelled", 0)
    assert (second.name, second.error, second.tries) == ("running", "cancelled", 1)
    assert (third.name, third.value["x"]) == ("good", 2)


DRIVER = """
import sys
from drelu_cli.runtime.executor import Job
from drelu_cli.runtime.local import LocalExecutor
from drelu_cli.runtime.slots import Slot

def told(job, place, kind, fields):
    print(executor.pids[place], flush=True)

with LocalExecutor([Slot("only")], on_event=told) as executor:
    executor.submit(Job("job", "the_jobs:waits", {"mark": sys.argv[1], "go": "/never/there"}))
    list(executor.results())
"""


def test_workers_end_with_their_driver(jobs, tmp_path):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    driver = subprocess.Popen(
        [sys.executable, "-c", DRIVER, str(tmp_path / "mark")],
        stdout=subprocess.PIPE, text=True, env=environment,
    )  # fmt: skip
    worker = int(driver.stdout.readline())
    until((tmp_path / "mark").exists)
    driver.kill()
    driver.communicate()
    until(lambda: not is_running(worker))


def is_running(pid):
    """Whether a process computes; one that nobody has waited for is dead, too."""
    stat = Path(f"/proc/{pid}/stat")
    try:
        if Path("/proc").is_dir():
            return stat.read_text().rpartition(")")[2].split()[0] != "Z"
        os.kill(pid, 0)
    except OSError:
        return False
    return True


def test_closing_ends_running_jobs(jobs, tmp_path):
    with LocalExecutor([one_slot()]) as executor:
        executor.submit(jobs("a", "waits", mark=str(tmp_path / "mark"), go="/never/there"))
        executor.submit(jobs("b", "double", x=1))
        results = executor.results()
        executor.cancel("b")
        assert next(results).error == "cancelled"
        until((tmp_path / "mark").exists)
        pid = executor.pids["slot0"]
    assert not is_running(pid)
    executor.close()


def test_a_worker_imports_no_torch():
    names = "drelu_cli.runtime.worker, drelu_cli.runtime.local"
    code = f"import sys, {names}; print('torch' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "False"


# Slots


@pytest.fixture
def four_cores(monkeypatch):
    monkeypatch.setattr("drelu_cli.runtime.slots._cores", lambda: 4)
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "CUDA_VISIBLE_DEVICES"):
        monkeypatch.delenv(name, raising=False)


def threads(found):
    return [
        (one.environment["OMP_NUM_THREADS"], one.environment["MKL_NUM_THREADS"]) for one in found
    ]


def test_cores_are_shared_without_oversubscription(four_cores, monkeypatch):
    assert threads(slots(2)) == [("2", "2")] * 2
    assert threads(slots(3)) == [("1", "1")] * 3
    assert threads(slots(8)) == [("1", "1")] * 8
    assert len(slots("auto")) == 4
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert threads(slots(2)) == [("1", "2")] * 2


def test_gpus_are_filled_one_after_the_other(four_cores):
    def places(*arguments, **more):
        found = slots(*arguments, **more)
        return [(one.name, one.environment["CUDA_VISIBLE_DEVICES"]) for one in found]

    assert places("auto", gpus=["0", "1"]) == [("gpu0", "0"), ("gpu1", "1")]
    twice = places("auto", 2, gpus=["0", "1"])
    assert [gpu for _, gpu in twice] == ["0", "1", "0", "1"]
    assert len({name for name, _ in twice}) == 4
    assert places(3, 2, gpus=["0", "1"]) == twice[:3]
    assert places(9, gpus=["0"]) == [("gpu0", "0")]


@pytest.mark.parametrize(("jobs", "per_gpu"), [(0, 1), (2, 0)])
def test_no_slots_are_refused(jobs, per_gpu):
    with pytest.raises(BadValue, match="1 or more"):
        slots(jobs, per_gpu)


def test_the_gpus_that_the_user_allows(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3, 5")
    assert visible_gpus() == ("3", "5")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert visible_gpus() == ()
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    monkeypatch.setenv("PATH", "/nowhere")
    assert visible_gpus() == ()
