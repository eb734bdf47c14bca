"""What every executor promises; the same suite for processes, Ray and arrays of SLURM."""

from __future__ import annotations

import os
import signal
import time
import warnings
from functools import partial
from importlib import import_module
from pathlib import Path

import pytest

from drelu_cli.core.errors import BadValue, MissingExtra, UnknownName
from drelu_cli.runtime import ray_cluster, slurm_array
from drelu_cli.runtime.executor import Job
from drelu_cli.runtime.local import LocalExecutor
from drelu_cli.runtime.parcels import Manifest
from drelu_cli.runtime.ray_cluster import RayExecutor, RayPlace, check_ray
from drelu_cli.runtime.slots import Slot
from drelu_cli.runtime.slurm_array import SlurmArrays, check_slurm
from drelu_cli.runtime.slurm_options import SlurmOptions, slurm_options

HERE = str(Path(__file__).parent)
ON_LOCAL = SlurmOptions(cluster="local", time=10)
KINDS = ["local", *(pytest.param(one, marks=pytest.mark.slow) for one in ("ray", "slurm"))]


def job(name, function, **config):
    return Job(name, f"executor_jobs:{function}", config)


def until(condition):
    for _ in range(6000):
        if condition():
            return
        time.sleep(0.01)
    raise AssertionError("it never happened")


@pytest.fixture(scope="module")
def ray():
    """One Ray for all tests: it takes long to start."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Tip: In future versions of Ray")
        warnings.filterwarnings("ignore", category=ResourceWarning)
        found = import_module("ray")
        ray_cluster._connect(found, RayPlace(None, jobs=2))
        yield found
        found.shutdown()


@pytest.fixture(params=KINDS)
def executor(request, tmp_path):
    """Makes an executor of one place."""
    if request.param == "ray":
        request.getfixturevalue("ray")
        return partial(RayExecutor, RayPlace(None, jobs=1))
    if request.param == "slurm":
        return partial(SlurmArrays, ON_LOCAL, tmp_path / "slurm", jobs=1)
    return partial(LocalExecutor, [Slot("only")])


def test_results_and_progress_come_back_as_plain_data(executor):
    events = []
    with executor(on_event=lambda *event: events.append(event)) as running:
        assert running.width == 1
        for x in range(2):
            running.submit(job(f"job{x}", "double", x=x))
        results = running.results()
        found = [next(results)]
        running.submit(job("later", "double", x=10))  # while results are read
        found += results
    assert [(one.name, one.value["x"], one.error, one.tries) for one in found] == [
        ("job0", 0, None, 1), ("job1", 2, None, 1), ("later", 20, None, 1)
    ]  # fmt: skip
    assert found[0].value["pair"] == [1, 2]
    assert found[0].value["path"] == "a"
    assert all(one.seconds > 0 for one in found)
    told = [(name, kind, fields) for name, _, kind, fields in events]
    assert told[:2] == [("job0", "started", {"tries": 1}), ("job0", "epoch", {"done": 0})]
    assert told[-1] == ("later", "epoch", {"done": 10})
    assert all(place for _, place, _, _ in events)


def test_what_always_fails_is_reported_and_the_rest_goes_on(executor, tmp_path):
    events = []
    with executor(on_event=lambda *event: events.append((event[0], event[2]))) as running:
        for name in ("raises", "refuses", "dies"):
            running.submit(job(name, name))
        running.submit(job("once", "dies_once", mark=str(tmp_path / "mark")))
        running.submit(job("good", "double", x=1))
        found = {one.name: one for one in running.results()}
    assert (found["raises"].error, found["raises"].tries) == (
        "ValueError: always (tried 3 times)", 3
    )  # fmt: skip
    assert (found["refuses"].error, found["refuses"].tries) == ("a wrong value", 1)
    assert found["dies"].error.endswith("(tried 3 times)")
    assert found["dies"].tries == 3
    assert (found["once"].value, found["once"].error, found["once"].tries) == ("alive", None, 2)
    # Of a worker that dies at once the first word may be lost with it.
    assert [kind for name, kind in events if name == "once"][-1] == "again"
    assert found["good"].value["x"] == 2


def test_cancelling_takes_a_job_from_the_queue_or_from_its_worker(executor, tmp_path):
    mark = tmp_path / "mark"
    never = {"mark": str(mark), "go": str(tmp_path / "never")}

    def stop(name, place, kind, fields):
        if kind == "epoch" and name == "running":
            running.cancel("running")

    with executor(on_event=stop) as running:
        for name in ("running", "waiting"):
            running.submit(job(name, "waits", **never))
        running.submit(job("good", "double", x=1))
        running.cancel("waiting")
        running.cancel("unknown")
        found = list(running.results())
    assert [(one.name, one.error, one.tries) for one in found] == [
        ("waiting", "cancelled", 0), ("running", "cancelled", 1), ("good", None, 1)
    ]  # fmt: skip


class StoppedError(Exception):
    """As Ctrl-C ends a sweep in the middle."""


@pytest.fixture(params=["foreground", "background"])
def ground(request):
    """A shell starts what it puts into the background with SIGINT ignored; children inherit it."""
    before = signal.getsignal(signal.SIGINT)
    if request.param == "background":
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    during = signal.getsignal(signal.SIGINT)
    yield
    assert signal.getsignal(signal.SIGINT) is during
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("ground")
def test_closing_ends_running_jobs(executor, tmp_path):
    pids = []

    def stop(name, place, kind, fields):
        if kind == "epoch":
            pids.append(fields["pid"])
            raise StoppedError

    never = {"mark": str(tmp_path / "mark"), "go": str(tmp_path / "never")}
    with executor(on_event=stop) as running:
        running.submit(job("long", "waits", **never))
        with pytest.raises(StoppedError):
            list(running.results())
    until(lambda: not is_running(pids[0]))
    running.close()


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


# Ray: what travels


@pytest.mark.slow
@pytest.mark.parametrize("shared", [None, False])
def test_folder_and_data_travel_where_a_node_does_not_see_them(ray, shared, tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    data = tmp_path / "data"
    (data / "part").mkdir(parents=True)
    (data / "part" / "words.txt").write_text(f"words of {tmp_path}")
    manifest = Manifest.of(data, ["part/words.txt"])
    folders = [tmp_path / "work" / name for name in "ab"]
    for folder in folders:
        folder.mkdir(parents=True)
        (folder / "seed").write_text(folder.name)
    with RayExecutor(RayPlace(None, jobs=2), data=manifest, shared=shared) as running:
        for folder in folders:
            config = {"store": str(folder), "data_dir": "/nowhere", "fails": folder.name == "b"}
            running.submit(job(folder.name, "adds_a_file", **config))
        found = {one.name: one for one in running.results()}
    assert found["b"].error == "half-way"
    assert found["a"].value["seeded"] == "a"
    assert (found["a"].value["store"] == str(folders[0])) == (shared is None)
    assert (found["a"].value["data_dir"] == str(data)) == (shared is None)
    for folder in folders:  # also of the job that failed half-way
        assert (folder / "made.txt").read_text() == f"words of {tmp_path}"
    assert sorted(one.name for one in folders[0].parent.iterdir()) == ["a", "b"]


# Options and missing libraries


@pytest.mark.parametrize(
    ("check", "library"),
    [
        (partial(check_ray, None), "ray"),
        (partial(check_slurm, ON_LOCAL), "slurm"),
        (partial(RayExecutor, RayPlace()), "ray"),
    ],
)
def test_a_missing_library_is_named_with_its_extra(check, library, monkeypatch):
    for module in (ray_cluster, slurm_array):
        monkeypatch.setattr(module, "find_spec", lambda name: None)
    with pytest.raises(MissingExtra) as told:
        check()
    assert told.value.hint == f'pip install "drelu-cli[{library}]"'


@pytest.mark.parametrize("address", ["here", ":6379", "ray://", "host:"])
def test_an_address_that_is_none_is_refused(address):
    with pytest.raises(BadValue, match="is no address"):
        check_ray(address)


def test_a_machine_without_slurm_is_said(monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(BadValue, match="no sbatch"):
        check_slurm(SlurmOptions())


def test_options_of_slurm():
    given = [("slurm.partition", "gpu"), ("slurm.time", "1-02:30:00"), ("slurm.setup", "module x")]
    found = slurm_options(given)
    assert (found.partition, found.time, found.setup) == ("gpu", 26 * 60 + 30, ("module x",))
    assert slurm_options([("slurm.time", 90)]).time == 90
    with pytest.raises(UnknownName, match="unknown SLURM option 'partitoin'") as told:
        slurm_options([("slurm.partitoin", "gpu")])
    assert "did you mean partition" in told.value.hint
    for field, value in (("time", "soon"), ("cpus", 0), ("cluster", "lsf"), ("gpus", 2)):
        with pytest.raises(BadValue, match=f"slurm.{field} = "):
            slurm_options([(f"slurm.{field}", value)])


def test_capacity_of_a_cluster():
    capacity = ray_cluster._capacity
    assert capacity({"CPU": 8.0}, RayPlace()) == (8, {"num_cpus": 1})
    assert capacity({"CPU": 8.0}, RayPlace(jobs=3)) == (3, {"num_cpus": 1})
    gpus = {"CPU": 64.0, "GPU": 4.0}
    assert capacity(gpus, RayPlace(per_gpu=2)) == (8, {"num_cpus": 1, "num_gpus": 0.5})
    assert capacity(gpus, RayPlace(per_gpu=None)) == (64, {"num_cpus": 1})
    assert capacity({}, RayPlace()) == (1, {"num_cpus": 1})


def test_neither_library_is_imported_before_it_is_used():
    import subprocess
    import sys

    names = "drelu_cli.runtime.ray_cluster, drelu_cli.runtime.slurm_array"
    code = f"import sys, {names}; print({{'ray', 'submitit', 'torch'}} & set(sys.modules))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "set()"
