"""How the C library's allocator treats freed tensors."""

from __future__ import annotations

import ctypes
import os

# From glibc's malloc.h.
_M_TRIM_THRESHOLD = -1
_M_MMAP_MAX = -4
_MOST = 2**31 - 1  # what `mallopt` can be told: beyond 2 GiB free memory goes back
_TUNED_BY_USER = "MALLOC_"
_TUNABLES = "GLIBC_TUNABLES"


def keep_freed_memory() -> bool:
    """Lets this process keep the memory of freed tensors for the next ones.

    glibc gives large blocks back to the system when they are freed and asks for them again a layer
    later; the system clears every page anew. Training a convolutional net on a CPU frees and asks
    for the same blocks at every step (docs/benchmarks.md). What a process computes does not change.

    Returns:
        Whether it was done: False without glibc, and where the environment tunes it already.
    """
    if any(name.startswith(_TUNED_BY_USER) for name in os.environ) or _TUNABLES in os.environ:
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # another C library; TypeError on Windows
        return False
    return bool(mallopt(_M_MMAP_MAX, 0) and mallopt(_M_TRIM_THRESHOLD, _MOST))
