"""Every attack against images that are proven to stand: one broken image is a fault of ours.

    python benchmarks/certified_never_broken.py --oracles DIR --data-dir DIR [--samples 1000]

DIR of oracles holds `wong_kolter_mnist.pt` (Wong & Kolter 2018, arXiv 1711.00851), DIR of data the
MNIST test set. CROWN certifies images at Linf 0.1; every registered Linf attack that fits then
attacks all of them with its default parameters. Prints Markdown for `docs/certify.md`; exit code 1
on a violation.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import torch
from torch import Tensor, nn

from drelu_cli.attacks import ATTACKS
from drelu_cli.certify.decision import certified
from drelu_cli.core.records import State, ThreatModel
from drelu_cli.data import DATASETS
from drelu_cli.evaluation.samples import Samples
from drelu_cli.evaluation.suite import run_attack
from drelu_cli.models.checkpoints import load_into, read_weights

EPS = 0.1


def network(path: Path) -> nn.Module:
    """The network that the weights in `path` belong to."""
    model = nn.Sequential(
        nn.Conv2d(1, 16, 4, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(16, 32, 4, stride=2, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(1568, 100),
        nn.ReLU(),
        nn.Linear(100, 10),
    )
    load_into(model, read_weights(path)[0], where=path.name)
    return model.eval()


def certify(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """Prints the certified shares of both methods; (N,) bool of CROWN's."""
    print("| bounds | certified | certified error % | seconds | CPU ms per image |")
    print("| --- | ---: | ---: | ---: | ---: |")
    proven = torch.zeros(len(x), dtype=torch.bool)
    for method in ("interval", "crown"):
        began, busy = time.perf_counter(), time.process_time()
        proven = certified(model, x, y, EPS, method=method)
        took, worked = time.perf_counter() - began, time.process_time() - busy
        error = 100.0 * (1 - proven.double().mean().item())
        print(
            f"| {method} | {int(proven.sum())} of {len(x)} | {error:.1f} | {took:.1f} "
            f"| {1000 * worked / len(x):.1f} |",
            flush=True,
        )
    return proven


def attack(model: nn.Module, samples: Samples, names: Sequence[str]) -> int:
    """Prints one row per attack; the number of images broken by any of them."""
    threat = ThreatModel("linf", EPS)
    violations = 0
    print("\n| attack | images | broken | forwards per image | backwards per image |")
    print("| --- | ---: | ---: | ---: | ---: |")
    for name in names:
        bound = ATTACKS.bind(name)
        if "linf" not in bound.target.norms:
            continue
        outcomes = run_attack(model, samples, bound, threat, seed=0).outcomes
        broken = sum(outcome.state is State.BROKEN for outcome in outcomes)
        violations += broken
        forwards, backwards = (
            sum(getattr(outcome, kind) for outcome in outcomes) / max(1, len(outcomes))
            for kind in ("forwards", "backwards")
        )
        print(
            f"| `{name}` | {len(samples)} | {broken} | {forwards:.0f} | {backwards:.0f} |",
            flush=True,
        )
    return violations


def main() -> int:
    """Prints both tables; 1 where an attack broke a certified image."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--oracles", type=Path, required=True)
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--samples", type=int, default=1000)
    parser.add_argument("--attack", nargs="*", default=ATTACKS.builtin_names(), help="default: all")
    given = parser.parse_args()
    raw = DATASETS.bind("mnist")(given.data_dir)
    x = raw.test_images[: given.samples].float() / 255.0
    y = raw.test_labels[: given.samples]
    model = network(given.oracles / "wong_kolter_mnist.pt")
    print(
        f"{platform.machine()}, {os.cpu_count()} CPU cores, {torch.get_num_threads()} thread(s), "
        f"{platform.system()}, Python {platform.python_version()}, torch {version('torch')}; "
        f"n = {len(x)}, Linf {EPS}.\n"
    )
    proven = certify(model, x, y)
    index = proven.nonzero()[:, 0]
    violations = attack(model, Samples(index, x[index], y[index]), given.attack)
    print(f"\nViolations: {violations}.")
    return int(violations > 0)


if __name__ == "__main__":
    sys.exit(main())
