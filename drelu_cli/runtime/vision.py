"""torchvision beside any torch: the one place that imports it.

The registry's torchvision is a CUDA build. Beside a CPU torch its compiled operators cannot be
loaded, and its import fails on the first operator it decorates. Datasets, transforms and
classification models need none of them, so the schemas that the import asks for are enough.
"""

from __future__ import annotations

import importlib
import sys
from functools import cache
from types import ModuleType
from typing import Any

import torch

from drelu_cli.core.errors import ModelError

_SCHEMA = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
# A library that is garbage-collected takes its schemas with it.
_KEPT_ALIVE: list[Any] = []


@cache
def import_torchvision() -> ModuleType:
    """The module `torchvision`, with `datasets` and `models` loaded.

    A sound installation is imported as it is and never touched. Where the compiled operators
    are missing, `torchvision.ops.*` fails when it is called; all else works.

    Raises:
        ModelError: torchvision is missing or does not fit the installed torch.
    """
    try:
        return _imported()
    except RuntimeError as problem:
        if "torchvision::" not in str(problem):
            raise _unusable(problem) from problem
    except ImportError as problem:
        raise _unusable(problem) from problem
    _define_missing_schemas()
    try:
        return _imported()
    except (RuntimeError, ImportError) as problem:
        raise _unusable(problem) from problem


def _imported() -> ModuleType:
    package = importlib.import_module("torchvision")
    importlib.import_module("torchvision.datasets")
    importlib.import_module("torchvision.models")
    return package


def _define_missing_schemas() -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
        del sys.modules[name]
    library = torch.library.Library("torchvision", "FRAGMENT")  # type: ignore[no-untyped-call]
    for operator in ("nms", "qnms"):
        library.define(f"{operator}{_SCHEMA}")  # type: ignore[no-untyped-call]
    _KEPT_ALIVE.append(library)


def _unusable(problem: Exception) -> ModelError:
    return ModelError(
        f"torchvision cannot be imported beside torch {torch.__version__}: {problem}",
        hint="each torchvision minor pairs with one torch minor: torch 2.11 with torchvision 0.26",
    )
