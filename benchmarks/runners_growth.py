"""How a store grows per evaluation and per training: a part of `runners.py`."""

from __future__ import annotations

import statistics
import tempfile
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from torch import nn

from drelu_cli.models.build import build
from drelu_cli.store.connect import FILE_NAME, open_store
from drelu_cli.workflows.attack import attack
from drelu_cli.workflows.context import Context
from drelu_cli.workflows.plan import Wanted
from drelu_cli.workflows.train import train

# Cheap ones of each kind: what they store does not depend on how long they search.
ATTACKS = ("fgsm", "pgd:steps=5", "pgd:steps=10", "apgd_ce:steps=5", "square:queries=20")
OPTIONS = [
    ("data.name", "mnist"),
    ("model", "dense"),
    ("model.width", 64),
    ("model.extra", 32),
    ("data.train_samples", 2000),
    ("train.epochs", 2),
]


@dataclass(frozen=True)
class Growth:
    """Bytes.

    Attributes:
        images: per evaluation.
        evaluations: of each attack, in order.
        training: rows, recipe and history of a training, without its weights.
        weights: of the net that was trained here.
    """

    images: int
    evaluations: list[int]
    training: int
    weights: int

    @property
    def evaluation(self) -> float:
        """The mean: the file grows by whole pages."""
        return statistics.mean(self.evaluations)


def growth(data_dir: Path, images: int) -> Growth:
    """Trains a small net on MNIST and attacks so many test images with each attack."""
    with tempfile.TemporaryDirectory() as folder:
        context = Context(Path(folder) / "runs", data_dir=data_dir, device="cpu")
        open_store(context.store).close()
        before = size(context.store)
        made = train(options=OPTIONS, context=context)
        weights = made.checkpoint.stat().st_size
        attacked = [size(context.store)]
        training = attacked[0] - before - weights
        for name in ATTACKS:
            wanted = Wanted(None, (name,), "linf", None, samples=images, remedy=False)
            entry = attack(wanted=wanted, context=context).entries[0]
            if entry["samples"] != images:
                raise SystemExit(f"{name} ran on {entry['samples']} images")
            attacked.append(size(context.store))
        # The first evaluation also stores which images, and what the net says of them as they are.
        each = [after - before for before, after in pairwise(attacked)]
        return Growth(images, each, training, weights)


def weights_of(architecture: str) -> int:
    """Bytes of the weights of a net for CIFAR-10."""
    net = build(
        architecture,
        shape=(3, 32, 32),
        classes=10,
        activation=lambda _: nn.ReLU(),
        placement="head",
        mean=(0.0,) * 3,
        std=(1.0,) * 3,
        options={},
    )
    return sum(one.numel() * one.element_size() for one in net.state_dict().values())


def size(root: Path) -> int:
    """Bytes of a store that nobody has open: its file is whole then."""
    files = [root / FILE_NAME, *(file for file in (root / "models").rglob("*") if file.is_file())]
    return sum(file.stat().st_size for file in files)
