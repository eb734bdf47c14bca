"""State dicts that `torch.save` wrote, read without executing anything in them."""

from __future__ import annotations

import pickle
import warnings
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from drelu_cli.core.errors import CheckpointError

# What torch's reader raises on bytes that are no pickle of its own.
_DAMAGED = (
    RuntimeError, EOFError, OSError, ValueError, LookupError, TypeError, AttributeError,
    AssertionError,
)  # fmt: skip
AGAIN = "train again with --force, or fetch the file again"

_FOLDER = 0x10  # of a zip entry's external attributes


def read_pickle(path: Path) -> dict[str, Tensor]:
    """The tensors in a file of `torch.save`, on the CPU, without their nesting.

    Raises:
        CheckpointError: damaged, not only tensors, or a pickle that would execute code.
    """
    return _tensors(_unwrapped(_loaded(path)), path)


def _loaded(path: Path) -> Any:
    _check_archive(path)
    try:
        with warnings.catch_warnings():
            # "Might not support all instructions": what it does not support, it raises for.
            warnings.filterwarnings("ignore", message="Detected pickle protocol")
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as problem:
        raise _refused(path, str(problem)) from problem
    except _DAMAGED as problem:
        raise CheckpointError(f"{path} is damaged: {_first_line(problem)}", hint=AGAIN) from problem


def _check_archive(path: Path) -> None:
    """Checksums of the zip archive that newer files are: torch itself does not look at them."""
    with path.open("rb") as file:
        if file.read(2) != b"PK":
            return
    try:
        with zipfile.ZipFile(path) as archive:
            broken = archive.testzip()
            folders = [e.filename for e in archive.infolist() if e.external_attr & _FOLDER]
    except (zipfile.BadZipFile, zlib.error, *_DAMAGED) as problem:
        raise CheckpointError(f"{path} is damaged: {_first_line(problem)}", hint=AGAIN) from problem
    if broken is not None:
        raise CheckpointError(f"{path} is damaged: wrong checksum of {broken}", hint=AGAIN)
    if folders:
        # torch's reader takes such an entry for empty and leaves the tensor uninitialised.
        raise CheckpointError(f"{path} is damaged: {folders[0]} is marked a folder", hint=AGAIN)


def _refused(path: Path, reason: str) -> CheckpointError:
    """The error for a pickle that holds more than tensors, or is cut short."""
    for marker in ("Unsupported global: GLOBAL ", "Trying to load unsupported GLOBAL "):
        _, found, rest = reason.partition(marker)
        if found:
            return CheckpointError(
                f"{path} would execute code on loading ({rest.split()[0]}): refused",
                hint="save model.state_dict() instead of the model, or name the model's own "
                "package.module:factory",
            )
    # torch's own text advises to load with weights_only=False: that part is not repeated.
    detail = reason.partition("WeightsUnpickler error: ")[2] or reason
    return CheckpointError(
        f"{path} cannot be loaded as weights only: {_first_line(detail)}",
        hint="save model.state_dict() with torch's default pickle protocol, or use safetensors",
    )


def _first_line(problem: object) -> str:
    return str(problem).strip().partition("\n")[0] or type(problem).__name__


def _unwrapped(found: Any) -> Any:
    while True:
        if isinstance(found, list | tuple) and len(found) == 1:
            found = found[0]
        elif isinstance(found, Mapping) and isinstance(found.get("state_dict"), Mapping):
            found = found["state_dict"]
        else:
            return found


def _tensors(found: Any, path: Path) -> dict[str, Tensor]:
    if not isinstance(found, Mapping):
        raise CheckpointError(
            f"{path} holds a {type(found).__name__}, not a state dict",
            hint="save model.state_dict()",
        )
    state: dict[str, Tensor] = {}
    for name, tensor in found.items():
        plain = isinstance(tensor, Tensor) and tensor.layout is torch.strided
        if not isinstance(name, str) or not plain or tensor.is_meta or tensor.is_quantized:
            raise CheckpointError(
                f"{path}: '{name}' is no plain tensor but {type(tensor).__name__}",
                hint="save model.state_dict(), alone or under the key state_dict",
            )
        state[name] = tensor.detach()
    return state
