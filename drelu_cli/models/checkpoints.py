"""Weights on disk: safetensors written, safetensors or weights-only pickles read.

No file is ever executed: a pickle that needs more than tensors is refused. Nothing falls back
to a laxer reader.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from drelu_cli.core.digest import canonical_json, digest_of
from drelu_cli.core.errors import CheckpointError
from drelu_cli.models.pickles import AGAIN, read_pickle

State = dict[str, Tensor]
# Metadata key of the digest of weights and metadata: safetensors itself has no checksum.
_SEAL_KEY = "drelu.seal"


def weights_digest(model_or_state: nn.Module | Mapping[str, Tensor]) -> str:
    """sha256 over name, dtype, shape and bytes of all tensors, sorted by name; 64 hex digits."""
    state = _state_of(model_or_state)
    sha = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name].detach().cpu().contiguous()
        header = canonical_json([name, str(tensor.dtype), list(tensor.shape)])
        sha.update(f"{header}\n".encode())
        sha.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return sha.hexdigest()


def save_weights(path: Path, model: nn.Module, *, metadata: Mapping[str, str]) -> str:
    """Writes parameters and buffers to `path` as safetensors; the file is whole or not there.

    Args:
        path: its folder exists.
        model: on any device.
        metadata: text stored in the file's header.

    Returns:
        The weights' digest, as `weights_digest` gives it.

    Raises:
        CheckpointError: the disk refuses the file; an older one at `path` is kept.
    """
    state = _state_of(model)
    # Copies: safetensors refuses tensors that share memory, such as tied weights.
    state = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in state.items()}
    digest = weights_digest(state)
    body = safetensors.torch.save(state, metadata={**metadata, _SEAL_KEY: _seal(digest, metadata)})
    try:
        _write_whole(path, body)
    except OSError as problem:
        raise CheckpointError(
            f"{path} cannot be written: {problem.strerror or problem}",
            hint="is the folder there and writable, and the disk not full?",
        ) from problem
    return digest


def read_weights(path: Path) -> tuple[State, dict[str, str]]:
    """The tensors in `path` on the CPU, and the file's metadata (empty for pickles).

    A state dict nested under `state_dict` or in a one-element list is unwrapped.

    Raises:
        CheckpointError: missing, damaged, not a checkpoint, not only tensors, or a pickle that
            would execute code; names the file.
    """
    try:
        with path.open("rb") as file:
            start = file.read(9)
    except OSError as problem:
        raise CheckpointError(f"{path} cannot be read: {problem.strerror or problem}") from problem
    if start[8:] == b"{":
        return _read_safetensors(path)
    if path.suffix == ".safetensors":
        raise CheckpointError(f"{path} is not a safetensors file, or is damaged", hint=AGAIN)
    if start[:2] == b"PK" or start[:1] == b"\x80":
        return read_pickle(path), {}
    raise CheckpointError(
        f"{path} is no checkpoint, or is damaged", hint="safetensors or torch.save of a state dict"
    )


def load_into(model: nn.Module, state: Mapping[str, Tensor], *, where: str) -> None:
    """Copies `state` into `model`: every tensor, no other, or nothing at all.

    Args:
        model: its tensors keep device and dtype.
        state: by name.
        where: what the weights came from, for the error.

    Raises:
        CheckpointError: missing or unexpected names, another shape, or a dtype that would
            lose digits.
    """
    own = _state_of(model)
    problems = [
        *_listed("missing", [name for name in own if name not in state]),
        *_listed("unexpected", [name for name in state if name not in own]),
        *(_misfit(name, state[name], own[name]) for name in own if name in state),
    ]
    found = [problem for problem in problems if problem]
    if found:
        shown = "; ".join(found[:3]) + (f"; and {len(found) - 3} more" if len(found) > 3 else "")
        raise CheckpointError(
            f"{where} does not fit the model: {shown}",
            hint="is it the same architecture, activation, placement and data set?",
        )
    with torch.no_grad():
        for name, tensor in own.items():
            tensor.copy_(state[name])


def _seal(digest: str, metadata: Mapping[str, str]) -> str:
    return digest_of({"weights": digest, "metadata": dict(metadata)})


def _state_of(model_or_state: nn.Module | Mapping[str, Tensor]) -> dict[str, Tensor]:
    if isinstance(model_or_state, nn.Module):
        return dict(model_or_state.state_dict())
    return dict(model_or_state)


def _write_whole(path: Path, body: bytes) -> None:
    """A temporary file beside `path`, flushed to the disk, then renamed over it."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(body)
            file.flush()
            os.fsync(file.fileno())
        # mkstemp makes files for the owner only; a checkpoint is as readable as other files.
        mask = os.umask(0)
        os.umask(mask)
        temporary.chmod(0o666 & ~mask)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    _flush_folder(path.parent)


def _flush_folder(folder: Path) -> None:
    """The rename itself to the disk, where the system can open folders (Windows cannot)."""
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _read_safetensors(path: Path) -> tuple[State, dict[str, str]]:
    try:
        with safetensors.safe_open(str(path), framework="pt", device="cpu") as file:
            metadata = dict(file.metadata() or {})
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (safetensors.SafetensorError, OSError, ValueError, RuntimeError, KeyError) as problem:
        raise CheckpointError(f"{path} is damaged: {problem}", hint=AGAIN) from problem
    noted = metadata.pop(_SEAL_KEY, None)
    if noted is not None and noted != _seal(weights_digest(state), metadata):
        raise CheckpointError(
            f"{path} is damaged: its content does not match its digest", hint=AGAIN
        )
    return state, metadata


def _listed(word: str, names: list[str]) -> list[str]:
    if not names:
        return []
    shown = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
    return [f"{word} {shown}"]


def _misfit(name: str, given: Tensor, own: Tensor) -> str:
    if given.shape != own.shape:
        return f"{name} has shape {tuple(given.shape)}, the model's {tuple(own.shape)}"
    if torch.promote_types(given.dtype, own.dtype) != own.dtype:
        return f"{name} is {given.dtype}, the model's {own.dtype}"
    return ""
