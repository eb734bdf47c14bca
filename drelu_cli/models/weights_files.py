"""Pretrained weights by source: torchvision's for ImageNet, or a file. Read, never executed."""

from __future__ import annotations

import hashlib
import http.client
import re
import shutil
import sys
import tempfile
import urllib.request
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch

from drelu_cli.core.errors import CheckpointError, ModelError
from drelu_cli.models import MODELS
from drelu_cli.models.checkpoints import State, read_weights, weights_digest
from drelu_cli.models.contract import backbone_of
from drelu_cli.models.fitting import Backbone
from drelu_cli.runtime.vision import import_torchvision

IMAGENET = "imagenet"
# torchvision's first weights, the only ones that all of its architectures here have. Later ones
# were trained by a longer recipe.
_RELEASE = "IMAGENET1K_V1"
# Without an answer for so long a server counts as gone.
_SECONDS = 60
_BLOCK = 1 << 20


@dataclass(frozen=True)
class Published:
    """A file of weights that torchvision names.

    Attributes:
        name: e.g. `ResNet50_Weights.IMAGENET1K_V1`.
        url: where it is.
        sha256: the first digits of the file's digest, which the file's name states.
    """

    name: str
    url: str
    sha256: str

    @property
    def path(self) -> Path:
        """The file in torch's own cache, whether it is there or not (`TORCH_HOME` moves it)."""
        return Path(torch.hub.get_dir()) / "checkpoints" / self.url.rpartition("/")[2]


def declared_backbone(architecture: str) -> Backbone:
    """What the architecture declares about pretrained weights.

    Raises:
        UnknownName: no such architecture.
        ModelError: it takes no pretrained weights.
    """
    found = backbone_of(MODELS.resolve(architecture))
    if found is None:
        raise ModelError(
            f"{architecture} takes no pretrained weights",
            hint=f"models that do: {', '.join(_with_backbone())}",
        )
    return found


def pretrained_digest(architecture: str, source: str) -> str:
    """What stands for the content of `source` in a training's key.

    For `imagenet` the name and digest that torchvision publishes, which are known without the
    file and are checked against it when it is read; for a file the digest of its tensors.

    Args:
        architecture: a registered name.
        source: `imagenet` or a path.

    Raises:
        ModelError: the architecture takes no pretrained weights.
        CheckpointError: a file that is missing, damaged or unsafe.
    """
    backbone = declared_backbone(architecture)
    if source == IMAGENET:
        published = published_weights(backbone)
        return f"torchvision {published.name} sha256 {published.sha256}"
    path = Path(source).expanduser()
    try:
        about = path.stat()
    except OSError as problem:
        raise CheckpointError(
            f"pretrained weights {source} cannot be read: {problem.strerror}",
            hint='model.pretrained is "imagenet", or the path of a .pt or .safetensors file',
        ) from problem
    return _file_digest(path, about.st_mtime_ns, about.st_size)


def read_pretrained(architecture: str, source: str) -> State:
    """The tensors of `source`, on the CPU, by the names in the file.

    Args:
        architecture: a registered name.
        source: `imagenet`, which is downloaded into torch's cache where it is not there, or a path.

    Raises:
        ModelError: the architecture takes no pretrained weights.
        CheckpointError: weights that cannot be had, are damaged or unsafe.
    """
    backbone = declared_backbone(architecture)
    if source != IMAGENET:
        return read_weights(Path(source).expanduser())[0]
    published = published_weights(backbone)
    if not published.path.is_file():
        _download(published)
    else:
        _check(published, published.path)
    return read_weights(published.path)[0]


def published_weights(backbone: Backbone) -> Published:
    """The entry of a backbone's ImageNet weights in torchvision."""
    weights = getattr(getattr(import_torchvision().models, backbone.weights), _RELEASE)
    stated = re.search(r"-([0-9a-f]{8,})\.\w+$", weights.url)
    if stated is None:
        raise ModelError(f"torchvision names no digest of its weights {weights.url}")
    return Published(f"{backbone.weights}.{_RELEASE}", weights.url, stated[1])


def _with_backbone() -> list[str]:
    return [n for n in MODELS.builtin_names() if backbone_of(MODELS.resolve(n)) is not None]


@cache
def _file_digest(path: Path, modified: int, size: int) -> str:  # noqa: ARG001 - the cache's key
    """Read once per process and state of the file: a grid asks for every member."""
    return weights_digest(read_weights(path)[0])


def _download(published: Published) -> None:
    """Into a temporary file beside the final one; a file that is in place is whole."""
    target = published.path
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=".download-") as scratch:
            file = Path(scratch) / target.name
            sys.stderr.write(f"Downloading {published.url}\n")
            answer = urllib.request.urlopen(published.url, timeout=_SECONDS)
            with answer as source, file.open("wb") as sink:
                shutil.copyfileobj(source, sink, _BLOCK)
            _check(published, file)
            file.replace(target)
    except (OSError, http.client.HTTPException, ValueError) as problem:
        reason = str(problem).strip().replace("\n", " ") or type(problem).__name__
        raise CheckpointError(
            f"{published.name} is not in {target} and cannot be downloaded: {reason}",
            hint=f"put {published.url} there by hand, or leave model.pretrained away",
        ) from problem


def _check(published: Published, file: Path) -> None:
    try:
        with file.open("rb") as content:
            found = hashlib.file_digest(content, "sha256").hexdigest()
    except OSError as problem:
        raise CheckpointError(f"{file} cannot be read: {problem.strerror}") from problem
    if not found.startswith(published.sha256):
        raise CheckpointError(
            f"{file} is not {published.name}: its sha256 begins with "
            f"{found[: len(published.sha256)]}, not {published.sha256}",
            hint="delete it and run again: it will be downloaded",
        )
