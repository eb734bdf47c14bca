"""Strength: every attack of the suite `standard` against AutoAttack's own, on nets trained here.

    python benchmarks/against_reference.py --data-dir DATA [--work runs/against_reference]
        [--only NET ...] [--engine drelu autoattack] [--attack NAME ...] [--seeds 5]
        [--samples 1000] [--page docs/benchmarks/strength.md]

Each attack runs in full, on every correctly classified image, at the same iterations, restarts,
targets and queries, in the data set's ball. Every point is judged by drelu's own judge. A
finished (net, engine, attack, seed) is a line in WORK/results-ENGINE.jsonl and is not run again:
the work can be killed and done in parts. The page is written from what is there.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import against_reference_page as page
import torch

from drelu_cli import __version__
from drelu_cli.attacks import ATTACKS
from drelu_cli.attacks.engine_autoattack import AutoAttack
from drelu_cli.core.digest import digest_of
from drelu_cli.core.records import ModelRecord, ThreatModel
from drelu_cli.core.registry import Bound
from drelu_cli.data.facts import facts
from drelu_cli.data.loading import sample_order
from drelu_cli.evaluation.judge import predict, verify
from drelu_cli.evaluation.samples import Samples
from drelu_cli.runtime.modes import evaluation_mode
from drelu_cli.runtime.streams import Stream
from drelu_cli.store.connect import open_store
from drelu_cli.workflows.context import Context
from drelu_cli.workflows.measure import samples_of
from drelu_cli.workflows.subjects import DataCache, load_model, splits_of
from drelu_cli.workflows.train import train

ENGINES = ("autoattack", "drelu")
SHORT_CIFAR = (("data.name", "cifar10"), ("data.train_samples", 20000), ("train.epochs", 6))
NETS: dict[str, tuple[tuple[str, Any], ...]] = {
    "mnist dense madry": (
        ("data.name", "mnist"),
        ("model.normalize", True),
        ("activation", "relu"),
        ("scheme", "madry"),
        ("train.epochs", 8),
    ),
    "mnist dense drelu": (
        ("data.name", "mnist"),
        ("model.normalize", True),
        ("model.name", "dense"),
        ("activation", "drelu"),
        ("penalty.lambda", 0.1),
    ),
    "cifar10 dense trades": (*SHORT_CIFAR, ("activation", "relu"), ("scheme", "trades:beta=6")),
    "cifar10 dense natural": (*SHORT_CIFAR, ("activation", "relu")),
    "cifar10 cnn natural": (
        *SHORT_CIFAR,
        ("model.name", "shallow_cnn"),
        ("model.widths", [16, 32]),
        ("activation", "relu"),
    ),
}


@dataclass(frozen=True)
class Net:
    """A trained net with the images it is attacked on."""

    name: str
    record: ModelRecord
    model: torch.nn.Module
    samples: Samples
    threat: ThreatModel


def nets(given: argparse.Namespace) -> Iterator[Net]:
    """The nets asked for; trained, or found in the store of the work folder."""
    context = Context(store=given.work / "runs", data_dir=given.data_dir, device="cpu")
    data = DataCache(context)
    for name in given.only or NETS:
        record = train(options=list(NETS[name]), context=context).record
        splits = splits_of(record, data)
        rows = sample_order(splits.test)[: given.samples]
        samples = samples_of(splits.test, list(rows), torch.device("cpu"))
        with open_store(context.store) as store:
            model = load_model(record, data, store)
        yield Net(name, record, model, samples, ThreatModel("linf", facts(record.dataset).eps))


def identity(net: Net, engine: str, bound: Bound, seed: int) -> dict[str, Any]:
    """What determines a line of results."""
    return {
        "net": net.name,
        "weights": net.record.weights_digest[:16],
        "samples": digest_of(net.samples.index.tolist())[:16],
        "n": len(net.samples),
        "threat": [net.threat.norm, net.threat.eps],
        "engine": AutoAttack().label if engine == "autoattack" else f"drelu {__version__}",
        "attack": bound.name,
        "options": dict(bound.effective),
        "version": getattr(bound.target, "version", 0) if engine == "drelu" else 0,
        "seed": 0 if bound.name in page.SEEDLESS else seed,
    }


def measured(net: Net, engine: str, bound: Bound, seed: int) -> dict[str, Any]:
    """Runs one attack and judges it.

    Returns:
        robust: one character per image, 1 where it stands; passes summed over attacked images.
    """
    with evaluation_mode(net.model):
        correct = predict(net.model, net.samples.x) == net.samples.y
        part = net.samples.rows(correct)
        began = time.perf_counter()
        if engine == "autoattack":
            found = AutoAttack().attack(net.model, part.x, part.y, bound, net.threat, seed)
        else:
            stream = Stream(seed, part.index, (bound.name,))
            found = bound(net.model, part.x, part.y, net.threat, stream)
        seconds = time.perf_counter() - began
        verify(part.x, found.x_adv, net.threat, attack=bound.name)
        robust = correct.clone()
        robust[correct] = predict(net.model, found.x_adv) == part.y
    return {
        "clean": int(correct.sum()),
        "robust": "".join(str(int(stands)) for stands in robust.tolist()),
        "forwards": int(found.forwards.sum()),
        "backwards": int(found.backwards.sum()),
        "seconds": round(seconds, 2),
    }


def stored(path: Path) -> list[dict[str, Any]]:
    """The finished lines; one that a kill cut off is dropped."""
    lines = []
    for text in path.read_text().splitlines() if path.exists() else []:
        try:
            lines.append(json.loads(text))
        except json.JSONDecodeError:
            print(f"dropped a torn line of {path}")
    return lines


def append(path: Path, line: dict[str, Any]) -> None:
    """Writes a line that survives a power cut; a torn line before it stays a line of its own."""
    with path.open("a+") as file:
        torn = path.stat().st_size and not path.read_text().endswith("\n")
        file.write(("\n" if torn else "") + json.dumps(line) + "\n")
        file.flush()
        os.fsync(file.fileno())


def run(net: Net, engine: str, attack: str, seed: int, work: Path) -> None:
    """Runs what is not stored yet."""
    path = work / f"results-{engine}.jsonl"
    bound = ATTACKS.bind(attack)
    wanted = identity(net, engine, bound, seed)
    if any(wanted == {key: line.get(key) for key in wanted} for line in stored(path)):
        return
    line = {**wanted, **measured(net, engine, bound, seed)}
    append(path, line)
    left = 100.0 * line["robust"].count("1") / line["n"]
    spent = f"{line['seconds']} s"
    print(f"{net.name}  {engine}  {attack}  seed {seed}: {left:.1f} % in {spent}", flush=True)


def main() -> None:
    """Runs what is missing and writes the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--work", type=Path, default=Path("runs/against_reference"))
    parser.add_argument("--only", nargs="*", choices=list(NETS))
    parser.add_argument("--engine", nargs="*", choices=ENGINES, default=ENGINES)
    parser.add_argument("--attack", nargs="*", choices=page.ATTACKS, default=page.ATTACKS)
    parser.add_argument("--seeds", type=int, default=page.SEEDS)
    parser.add_argument("--samples", type=int, default=1000)
    parser.add_argument("--page", type=Path)
    given = parser.parse_args()
    given.work.mkdir(parents=True, exist_ok=True)
    ready = list(nets(given))
    order = itertools.product(range(given.seeds), ready, given.engine, given.attack)
    # What `standard` does not need comes last.
    for seed, net, engine, attack in sorted(order, key=lambda job: job[3] not in page.STANDARD):
        run(net, engine, attack, seed, given.work)
    lines = [line for name in ENGINES for line in stored(given.work / f"results-{name}.jsonl")]
    text = page.written(lines, given.samples)
    print(text)
    if given.page is not None:
        given.page.parent.mkdir(parents=True, exist_ok=True)
        given.page.write_text(text)


if __name__ == "__main__":
    main()
