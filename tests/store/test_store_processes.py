from __future__ import annotations

import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import store_samples
from store_samples import certificate, evaluation, model, outcome, same

from drelu_cli.store.connect import FILE_NAME, open_store

Writer = Callable[[int, int, int], "subprocess.Popen[str]"]


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[Writer]:
    """Starts a process that stores chunks `first` .. and acknowledges each on its stdout."""
    started: list[subprocess.Popen[str]] = []

    def start(first: int, count: int, size: int) -> subprocess.Popen[str]:
        numbers = map(str, (first, count, size))
        command = [sys.executable, store_samples.__file__, str(tmp_path), *numbers]
        started.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate()


def test_processes_doing_the_same_work_neither_clash_nor_duplicate(
    tmp_path: Path, writer: Writer
) -> None:
    # They also race for making the store: the folder is empty.
    processes = [writer(0, 20, 10) for _ in range(3)]
    processes.append(writer(20, 20, 10))
    for process in processes:
        output, _ = process.communicate(timeout=60)
        assert process.returncode == 0
        assert len(output.split()) == 20
    with open_store(tmp_path) as store:
        assert store.models() == [model()]
        (found,) = store.evaluations()
        assert found.samples == 400
        assert found.seconds == 40.0
        assert same(store.outcomes(found.key), [outcome(n) for n in range(400)])
        assert store.check() == 400
        assert store.certified_samples(*certificate()) == {n: n % 2 == 0 for n in range(400)}
        assert [one.seconds for one in store.certificates()] == [40.0]
        assert len(store.examinations()) == 1


def test_nothing_acknowledged_is_lost_to_kill_9(tmp_path: Path, writer: Writer) -> None:
    draw = random.Random(0)
    acknowledged: list[int] = []
    start = 0
    for _ in range(10):
        process = writer(start, 100_000, 5)
        assert process.stdout is not None
        acknowledged.append(int(process.stdout.readline()))
        time.sleep(draw.uniform(0.0, 0.15))
        process.send_signal(signal.SIGKILL)
        rest, _ = process.communicate(timeout=30)
        assert process.returncode == -signal.SIGKILL
        # A line cut off by the kill was not acknowledged.
        acknowledged += map(int, rest[: rest.rfind("\n") + 1].split())
        # The chunk in flight is written again by the next process.
        start = acknowledged[-1] + 1
    assert acknowledged == list(range(start))
    with open_store(tmp_path) as store:
        stored = store.stored_samples(evaluation().key)
        assert stored >= set(range(5 * start))
        # At most the chunk in flight is there beside what was acknowledged, and whole.
        assert len(stored) - 5 * start in (0, 5)
        assert store.check() == len(stored)
        assert same(store.outcomes(evaluation().key), [outcome(n) for n in sorted(stored)])
        # A certificate and an examination follow their chunk: acknowledged is all three.
        assert set(store.certified_samples(*certificate())) >= set(range(5 * start))
        (found,) = store.examinations()
        assert int(found.notes[0]) in (start - 1, start)
    connection = sqlite3.connect(tmp_path / FILE_NAME)
    assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    connection.close()
