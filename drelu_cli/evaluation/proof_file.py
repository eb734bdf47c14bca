"""The file of a proof: one `.npz` of plain arrays, read without pickles."""

from __future__ import annotations

import os
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

from drelu_cli.core.errors import BadValue
from drelu_cli.core.records import ThreatModel
from drelu_cli.evaluation.proof import Proof

# Array: kind of its type, and the number of its dimensions.
_FORM = {
    "x_adv": ("float32", 4),
    "clean": ("uint8", 4),
    "index": ("int64", 1),
    "label": ("int64", 1),
    "predicted": ("int64", 1),
    "attack": ("U", 1),
    "clean_wrong": ("int64", 1),
    "list": ("int64", 1),
    "norm": ("U", 0),
    "eps": ("float64", 0),
    "dataset": ("U", 0),
    "dataset_digest": ("U", 0),
    "model": ("U", 0),
    "weights_digest": ("U", 0),
    "version": ("U", 0),
}
_PER_POINT = ("x_adv", "clean", "index", "label", "predicted", "attack")
_HINT = "drelu attack --save-adversarial FILE.npz writes such files"


def write_proof(path: Path, proof: Proof) -> None:
    """Writes the file whole or not at all: a killed process leaves the old one or the new one.

    Args:
        path: its folder exists; see `check_replaceable`.
        proof: what is written.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    arrays: dict[str, Any] = {one.name: getattr(proof, one.name) for one in fields(proof)}
    try:
        with temporary.open("wb") as file:
            np.savez_compressed(file, **arrays)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def check_replaceable(path: Path) -> None:
    """Refuses a file that is there and was not written by `write_proof`.

    Raises:
        BadValue: another ending than .npz, or a file of something else.
    """
    if path.suffix != ".npz":
        raise BadValue(f"{path} does not end in .npz", hint="--save-adversarial points.npz")
    if not path.exists():
        return
    try:
        read_proof(path)
    except BadValue as problem:
        raise BadValue(
            f"{path} is there already and holds no adversarial points of drelu: it is not replaced",
            hint=f"name another file ({problem.message})",
        ) from problem


def read_proof(path: Path) -> Proof:
    """Reads a file; nothing in it is executed.

    Raises:
        BadValue: missing, unreadable, damaged, pickled, or not a file of adversarial points.
    """
    if not path.is_file():
        raise BadValue(f"there is no file {path}", hint=_HINT)
    if not zipfile.is_zipfile(path):
        raise BadValue(
            f"{path} cannot be read as an .npz file without pickles: it is no zip archive",
            hint=_HINT,
        )
    try:
        arrays = _arrays(path)
    # Whatever a damaged archive makes numpy raise.
    except (ValueError, EOFError, KeyError, zipfile.BadZipFile, zlib.error) as problem:
        reason = str(problem).partition("\n")[0]
        raise BadValue(
            f"{path} cannot be read as an .npz file without pickles: {reason}", hint=_HINT
        ) from problem
    _check_form(path, arrays)
    plain = {name: v.item() if not v.ndim else v for name, v in arrays.items()}
    try:
        ThreatModel(plain["norm"], plain["eps"])
    except BadValue as problem:
        raise BadValue(f"{path}: {problem.message}", hint=problem.hint) from problem
    return Proof(**plain)


def _arrays(path: Path) -> dict[str, Any]:
    found = np.load(path, allow_pickle=False)
    if not isinstance(found, np.lib.npyio.NpzFile):
        raise ValueError("one array, not an archive")
    with found:
        missing = [name for name in _FORM if name not in found]
        if missing:
            raise BadValue(
                f"{path} is no file of adversarial points: it has no {', '.join(missing)}",
                hint=_HINT,
            )
        return {name: found[name] for name in _FORM}


def _check_form(path: Path, arrays: Mapping[str, Any]) -> None:
    """Types, dimensions and lengths.

    Raises:
        BadValue: names the array.
    """
    for name, (kind, dimensions) in _FORM.items():
        array = arrays[name]
        fits = array.dtype.kind == "U" if kind == "U" else array.dtype == np.dtype(kind)
        if not fits or array.ndim != dimensions:
            raise BadValue(
                f"{path}: {name} is {array.dtype} of shape {array.shape}, not {dimensions}-d "
                f"{'text' if kind == 'U' else kind}",
                hint=_HINT,
            )
    if len({len(arrays[name]) for name in _PER_POINT}) > 1:
        raise BadValue(f"{path}: {', '.join(_PER_POINT)} differ in length", hint=_HINT)
    if arrays["x_adv"].shape != arrays["clean"].shape:
        raise BadValue(f"{path}: x_adv and clean differ in shape", hint=_HINT)
    samples = arrays["list"]
    if not len(samples) or len(np.unique(samples)) < len(samples):
        raise BadValue(f"{path}: the list of samples is empty or names one twice", hint=_HINT)
