"""Freed memory is kept where glibc is told so, and left alone where the user tunes it."""

import os
import platform
import subprocess
import sys

import pytest

# Faults of pages while a block of 64 MB is asked for, filled and freed ten times.
COUNTED = """
import ctypes, resource
from drelu_cli.runtime.allocator import keep_freed_memory
done = keep_freed_memory()
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
libc.free.argtypes = [ctypes.c_void_p]
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    block = libc.malloc(64 << 20)
    ctypes.memset(block, 1, 64 << 20)
    libc.free(block)
print(int(done), resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(**environment):
    """Whether it was done, and how many pages the ten rounds touched for the first time."""
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("MALLOC_", "GLIBC_"))}
    ran = subprocess.run(
        [sys.executable, "-c", COUNTED],
        env={**inherited, **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    done, count = ran.stdout.split()
    return bool(int(done)), int(count)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs glibc")
def test_a_block_that_comes_back_costs_its_pages_once():
    done, kept = faults()
    assert done
    left, alone = faults(MALLOC_ARENA_TEST="8")
    assert not left
    assert kept < 0.2 * alone


@pytest.mark.parametrize("name", ["MALLOC_ARENA_MAX", "GLIBC_TUNABLES"])
def test_what_the_user_tunes_is_left_alone(name):
    assert not faults(**{name: "2" if name.startswith("M") else "glibc.malloc.arena_max=2"})[0]
