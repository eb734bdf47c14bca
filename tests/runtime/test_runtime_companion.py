"""A process beside this one: its answers, its errors, its end."""

import operator
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from drelu_cli.runtime.companion import Companion, CompanionLost, companions, company, dismiss
from drelu_cli.runtime.driver import Stopped, stoppable


@pytest.fixture(scope="module")
def companion():
    one = Companion()
    yield one
    one.close()


def test_it_answers_and_raises_what_the_call_raised(companion):
    assert companion.call(operator.add, 2, 3) == 5
    with pytest.raises(ZeroDivisionError):
        companion.call(operator.truediv, 1, 0)
    assert companion.alive
    assert companion.call(os.getpid) == companion.pid != os.getpid()


def test_it_has_one_thread_and_what_a_call_prints_stays_out_of_the_answers(companion):
    import torch

    assert companion.call(torch.get_num_threads) == 1
    assert companion.call(print, "not an answer") is None
    assert companion.call(operator.neg, 1) == -1


def test_what_cannot_be_pickled_is_the_callers_again(companion):
    with pytest.raises(CompanionLost):
        companion.call(lambda: 1)
    assert companion.call(operator.neg, 1) == -1


def test_a_killed_one_is_lost_and_replaced():
    (first,) = companions(1)
    assert first.call(operator.neg, 1) == -1
    assert companions(1) == [first]
    os.kill(first.pid, signal.SIGKILL)
    with pytest.raises(CompanionLost):
        first.call(operator.neg, 1)
    (second,) = companions(1)
    assert second is not first
    dismiss()
    assert not second.alive
    assert company() == []


def test_a_call_ends_when_the_caller_wants_no_answer():
    one, stop = Companion(), threading.Event()
    threading.Timer(0.3, stop.set).start()
    began = time.monotonic()
    with stoppable(stop), pytest.raises(Stopped):
        one.call(time.sleep, 600)
    assert time.monotonic() - began < 60
    assert not one.alive


def test_it_ends_with_its_parent():
    script = (
        "import time\n"
        "from drelu_cli.runtime.companion import companions\n"
        "print(companions(1)[0].pid, flush=True)\n"
        "time.sleep(600)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    pid = int(parent.stdout.readline())
    parent.kill()
    parent.wait()
    parent.stdout.close()
    for _ in range(600):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return
        if "Z" in _state(pid):
            return
        time.sleep(0.1)
    pytest.fail("still there a minute after its parent was killed")


def _state(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except OSError:
        return "Z"
