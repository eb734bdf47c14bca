"""The places where jobs run on this machine, each with its own environment."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from drelu_cli.core.errors import BadValue

_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
ONE_THREAD = dict.fromkeys(_THREADS, "1")
_VISIBLE = "CUDA_VISIBLE_DEVICES"


@dataclass(frozen=True)
class Slot:
    """One place.

    Attributes:
        name: for people, and of the log file.
        environment: variables that are set before the process starts, so before torch is
            imported.
    """

    name: str
    environment: Mapping[str, str] = field(default_factory=dict)


def slots(
    jobs: int | Literal["auto"], per_gpu: int = 1, *, gpus: Sequence[str] = ()
) -> tuple[Slot, ...]:
    """The slots of this machine.

    On GPUs `per_gpu` slots each, one GPU after the other before any gets its second; `jobs`
    takes the first so many. Without GPUs `jobs` shares of the cores. The threads of all slots
    together are not more than there are cores; a smaller OMP_NUM_THREADS of the user stands.

    Args:
        jobs: how many; `auto` for all that GPUs or cores give.
        per_gpu: slots per GPU.
        gpus: what CUDA_VISIBLE_DEVICES may name; see `visible_gpus`.

    Raises:
        BadValue: less than one.
    """
    if per_gpu < 1 or (jobs != "auto" and jobs < 1):
        raise BadValue("--jobs and --per-gpu are 1 or more", hint="--jobs 2, or --jobs auto")
    cores = _cores()
    if not gpus:
        count = cores if jobs == "auto" else jobs
        return tuple(Slot(f"cpu{n}", _threads(cores, count)) for n in range(count))
    places = [
        (f"gpu{gpu}" if per_gpu == 1 else f"gpu{gpu}-{n}", gpu)
        for n in range(per_gpu)
        for gpu in gpus
    ]
    places = places if jobs == "auto" else places[:jobs]
    threads = _threads(cores, len(places))
    return tuple(Slot(name, {**threads, _VISIBLE: gpu}) for name, gpu in places)


def visible_gpus() -> tuple[str, ...]:
    """What CUDA_VISIBLE_DEVICES may name on this machine, found without importing torch."""
    told = os.environ.get(_VISIBLE)
    if told is not None:
        return tuple(one.strip() for one in told.split(",") if one.strip() not in ("", "-1"))
    program = shutil.which("nvidia-smi")
    if program is None:
        return ()
    found = subprocess.run([program, "-L"], capture_output=True, text=True, check=False)
    lines = found.stdout.splitlines() if found.returncode == 0 else []
    return tuple(str(n) for n, _ in enumerate(one for one in lines if one.startswith("GPU ")))


def _cores() -> int:
    """The cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _threads(cores: int, count: int) -> dict[str, str]:
    share = max(1, cores // count)
    return {name: str(_at_most(os.environ.get(name), share)) for name in _THREADS}


def _at_most(told: str | None, share: int) -> int:
    return min(int(told), share) if told and told.isdigit() and int(told) > 0 else share
