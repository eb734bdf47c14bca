"""What the outside engines do that this one does not, measured; the table of docs/engines.md.

    python benchmarks/engine_faults.py [--store runs]

Needs no download: a natural dense net on the embedded digits, trained once into the store.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor, nn

from drelu_cli.attacks import ATTACKS
from drelu_cli.attacks.engine_autoattack import AutoAttack
from drelu_cli.attacks.engine_torchattacks import Torchattacks
from drelu_cli.attacks.engines import Engine
from drelu_cli.core.records import State, ThreatModel
from drelu_cli.core.registry import Bound
from drelu_cli.data.loading import sample_order
from drelu_cli.evaluation.judge import predict
from drelu_cli.evaluation.samples import Samples
from drelu_cli.evaluation.suite import run_attack
from drelu_cli.store.connect import open_store
from drelu_cli.workflows.context import Context
from drelu_cli.workflows.measure import samples_of
from drelu_cli.workflows.subjects import DataCache, load_model, splits_of
from drelu_cli.workflows.train import train

IMAGES = 360


def subject(store: Path) -> tuple[nn.Module, Samples]:
    """The net and its correctly classified test images."""
    context = Context(store=store, device="cpu")
    record = train(options=[("activation", "relu")], context=context).record
    data = DataCache(context)
    test = splits_of(record, data).test
    samples = samples_of(test, list(sample_order(test)[:IMAGES]), torch.device("cpu"))
    with open_store(store) as opened:
        model = load_model(record, data, opened)
    return model, samples.rows(predict(model, samples.x) == samples.y)


def broken(
    engine: Engine | None, model: nn.Module, part: Samples, bound: Bound, threat: ThreatModel
) -> Tensor:
    """(N,) bool; None is this package's engine."""
    if engine is None:
        outcomes = run_attack(model, part, bound, threat, seed=0).outcomes
        return torch.tensor([outcome.state is State.BROKEN for outcome in outcomes])
    found = engine.attack(model, part.x, part.y, bound, threat, 0)
    return predict(model, found.x_adv) != part.y


class Watched(nn.Module):
    """A model that remembers the points it was asked about."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.points: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        """(n, ...) -> (n, K)."""
        self.points.append(x[0, 0].clone())
        return self.model(x)  # type: ignore[no-any-return]


def cw(model: nn.Module, part: Samples) -> Iterator[tuple[str, str, str]]:
    """CW's decision at a bound, on images that have pixels of exactly 0."""
    threat, bound = ThreatModel("l2", 0.8), ATTACKS.bind("cw_l2")
    left = [
        100.0 * float((~broken(engine, model, part, bound, threat)).double().mean())
        for engine in (Torchattacks(), None)
    ]
    yield "CW-L2 at 0.8: robust % (`drelu` / torchattacks)", f"{left[1]:.1f}", f"{left[0]:.1f}"


def neighbours(model: nn.Module, part: Samples) -> Iterator[tuple[str, str, str]]:
    """Outcomes that change when the same images come in the reverse order, with the same seed."""
    back = part.rows(torch.arange(len(part) - 1, -1, -1))
    threat = ThreatModel("linf", 0.1)
    for engine, name in ((AutoAttack(), "square"), (Torchattacks(), "square")):
        bound = ATTACKS.bind(name, queries=200)
        changed = [
            int(
                (
                    broken(one, model, part, bound, threat)
                    != broken(one, model, back, bound, threat).flip(0)
                ).sum()
            )
            for one in (None, engine)
        ]
        label = engine.label.split()[0]
        what = f"{name}, 200 queries: outcomes that change in reverse order (`drelu` / {label})"
        yield what, str(changed[0]), str(changed[1])


def edges(model: nn.Module, part: Samples) -> Iterator[tuple[str, str, str]]:
    """Square's looks whose last row or column differs from the look before, at small windows."""
    one = part.rows(torch.arange(1))
    threat = ThreatModel("linf", 1e-3)
    bound = ATTACKS.bind("square", queries=1000)
    shares = []
    for engine in (None, AutoAttack()):
        watched = Watched(model).eval()
        broken(engine, watched, one, bound, threat)
        # From the 300th look on a window has 3 x 3 pixels or fewer, of 8 x 8.
        points = torch.stack(watched.points[300:-1])
        moved = points != points.roll(1, dims=0)
        touched = moved[:, -1, :].any(dim=1) | moved[:, :, -1].any(dim=1)
        shares.append(f"{100.0 * float(touched.double().mean()):.1f} %")
    what = (
        "square: points with another last row or column than the one before (`drelu` / autoattack)"
    )
    yield what, shares[0], shares[1]


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--store", type=Path, default=Path("runs"))
    model, part = subject(parser.parse_args().store)
    print(f"{AutoAttack().label}, {Torchattacks().label}, torch {torch.__version__}; ", end="")
    print(f"{len(part)} correctly classified digits images, natural dense net, seed 0.\n")
    print("| measured | `drelu` | the other |\n| --- | ---: | ---: |")
    for measure in (cw, neighbours, edges):
        for row in measure(model, part):
            print(f"| {' | '.join(row)} |", flush=True)


if __name__ == "__main__":
    main()
