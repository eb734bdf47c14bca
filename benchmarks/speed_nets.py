"""The networks that the speed table is measured on, trained once through the package.

    python benchmarks/speed_nets.py --work DIR --data-dir DATA [NAME ...]

Trainings go into the registry of the work folder; a finished one is found, not repeated.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from drelu_cli import Context, train
from drelu_cli.evaluation.samples import Samples
from drelu_cli.store.connect import open_store
from drelu_cli.workflows.measure import samples_of
from drelu_cli.workflows.subjects import DataCache, load_model, splits_of


@dataclass(frozen=True)
class Recipe:
    """One network of the table.

    Attributes:
        options: dotted recipe fields that differ from preset `fast`.
        eps: Linf radius it is attacked with.
        l2: L2 radius it is attacked with.
    """

    options: Mapping[str, Any] = field(default_factory=dict)
    eps: float = 0.1
    l2: float = 1.5


_MNIST = {"data.name": "mnist", "model.normalize": True}
_DENSE = {**_MNIST, "model.name": "dense"}
_CNN = {**_MNIST, "model.name": "shallow_cnn", "data.train_samples": 15_000}
NETS = {
    "dense": Recipe({**_DENSE, "activation": "relu"}),
    "dense AT": Recipe({**_DENSE, "activation": "relu", "scheme": "at"}),
    "dense D-ReLU": Recipe({**_DENSE, "activation": "drelu", "penalty.lambda": 0.1}),
    "CNN": Recipe({**_CNN, "activation": "relu", "train.epochs": 3}),
    "CNN AT": Recipe(
        {
            **_CNN,
            "activation": "relu",
            "scheme": "at:adversarial_epochs=2",
            "train.epochs": 3,
        }
    ),
    "resnet18": Recipe(
        {
            "data.name": "cifar10",
            "data.train_samples": 1_000,
            "model.name": "resnet18",
            "activation": "relu",
            "train.epochs": 2,
            "train.batch": 32,
            "train.validation": False,
        },
        eps=0.01,
        l2=0.5,
    ),
}


def trained(name: str, work: Path, data_dir: Path | None, device: str) -> Path:
    """Trains a network, or finds it finished; returns its checkpoint."""
    context = Context(store=work / "runs", data_dir=data_dir, device=device)
    options = [*NETS[name].options.items(), ("report.label", f"bench {name}")]
    return train(options=options, context=context).checkpoint


def network(
    name: str, work: Path, data_dir: Path | None, device: str, count: int
) -> tuple[nn.Module, Samples]:
    """A trained network in evaluation mode and the first `count` clean-correct test images.

    The images are those that the network gets right, in the data set's own order: what an attack
    does on the others (nothing here, a full run in other libraries) would blur the comparison.
    """
    trained(name, work, data_dir, device)
    data = DataCache(Context(store=work / "runs", data_dir=data_dir))
    with open_store(work / "runs", create=False) as store:
        record = next(r for r in store.models() if r.label == f"bench {name}")
        model = load_model(record, data, store).to(device).eval()
        test = splits_of(record, data).test
    offered = samples_of(test, list(range(min(len(test.labels), 10 * count))), torch.device(device))
    with torch.no_grad():
        right = torch.cat([model(part).argmax(1) for part in offered.x.split(512)]) == offered.y
    return model, offered.rows(right.nonzero()[:count, 0])


def main(arguments: Sequence[str] | None = None) -> None:
    """Trains the named networks, or all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--work", type=Path, default=Path("build/speed"))
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--device", default="cpu")
    given = parser.parse_args(arguments)
    for name in given.names or NETS:
        print(name, trained(name, given.work, given.data_dir, given.device), flush=True)


if __name__ == "__main__":
    main()
