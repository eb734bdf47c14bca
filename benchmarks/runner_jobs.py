"""Jobs of `runners.py`; they run in workers, and as a driver of their own."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from drelu_cli.runtime.channel import tell


def nothing(config: Mapping[str, Any]) -> dict[str, Any]:  # noqa: ARG001
    """A job without work: what it takes is overhead."""
    return {}


def sleeps(config: Mapping[str, Any]) -> dict[str, Any]:  # noqa: ARG001
    """A job that tells of an epoch every second and never ends."""
    done = 0
    while True:
        time.sleep(1.0)
        done += 1
        tell("epoch", {"done": done, "of": 10_000, "record": {"validation_loss": 0.5}})


def drive(recipe: str, store: str) -> None:
    """A sweep with two workers whose trainings never end."""
    from drelu_cli.workflows import parallel
    from drelu_cli.workflows.context import Context
    from drelu_cli.workflows.sweep import sweep

    parallel.TRAIN = "runner_jobs:sleeps"
    sweep(recipe, jobs=2, context=Context(Path(store), device="cpu"))


if __name__ == "__main__":
    drive(*sys.argv[1:])
