"""Stacked against sequential training of dense nets: time, accuracies, the selection of lambda.

    python benchmarks/stacking.py                        # prints the page
    python benchmarks/stacking.py --write                # puts it into docs/benchmarks/stacking.md
    python benchmarks/stacking.py --data-dir DIR --rounds 3 --device cuda

30 dense D-ReLU nets on 5,000 images of MNIST, 5 lambdas times 6 seeds, 2 epochs, one thread on a
CPU. Each round trains all of them one after the other, then in stacks of every size; ratios are
taken within a round. Times are those of the epochs, validation included; on a CPU both the wall's
and the process's own are taken, since a busy machine stretches the wall's.
"""

from __future__ import annotations

import argparse
import statistics
import time
from dataclasses import dataclass, field
from pathlib import Path

import torch
from page import machine, versions

from drelu_cli.core.recipe import Recipe
from drelu_cli.data.contract import DataSplits
from drelu_cli.data.loading import load
from drelu_cli.runtime.devices import pick_device
from drelu_cli.training.fit import Fit
from drelu_cli.training.stack import Member, run_stacked
from drelu_cli.workflows.effective import effective, fitted_to
from drelu_cli.workflows.fitting import Splits, prepared, splits_of
from drelu_cli.workflows.measure import clean_accuracy, validation_scores

PAGE = Path(__file__).parents[1] / "docs" / "benchmarks" / "stacking.md"
LAMBDAS = (0.01, 0.1, 1.0, 10.0, 100.0)
SEEDS = range(6)
SIZES = "1,2,4,6,10,30"
CHOSEN = 6
WITHIN = 0.01  # clean accuracy: lambda is chosen among those this near to the best


@dataclass
class Way:
    """One way of training all nets: seconds by round, and the nets of the last round."""

    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    fits: list[Fit] = field(default_factory=list)


def recipes(data: DataSplits, folder: Path, images: int, epochs: int) -> list[Recipe]:
    """The effective recipes, seed by seed within a lambda."""
    found = []
    for lambda_ in LAMBDAS:
        for seed in SEEDS:
            plain = {
                "data": {"name": "mnist", "train_samples": images, "validation_samples": 1000},
                "activation": {"name": "drelu", "cap": 10.0},
                "penalty": {"lambda": lambda_},
                "train": {"seed": seed, "batch": 128, "epochs": epochs, "cap_lr": 0.05},
            }
            found.append(fitted_to(effective(Recipe.from_mapping(plain)), data, folder))
    return found


def ignore(*_: object) -> None:
    """Nothing is kept along the way."""


def train(fits: list[Fit], most: int | None) -> None:
    """One after the other, or up to `most` at once."""
    if most is None:
        for fit in fits:
            fit.run(ignore)
        return
    for _ in run_stacked([Member(fit, ignore, ignore) for fit in fits], most):
        pass


def timed(way: Way, fits: list[Fit], most: int | None) -> None:
    """Trains and notes the seconds."""
    wall, cpu = time.perf_counter(), time.process_time()
    train(fits, most)
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    way.wall.append(time.perf_counter() - wall)
    way.cpu.append(time.process_time() - cpu)
    way.fits = fits


def ratio(plain: list[float], other: list[float]) -> str:
    """How many times faster: the median over rounds, smallest and largest."""
    each = [a / b for a, b in zip(plain, other, strict=True)]
    return f"{statistics.median(each):.2f} ({min(each):.2f} .. {max(each):.2f})"


def chosen(scores: list[dict[str, float]], seed: int) -> float:
    """The lambda that validation data choose for one seed, as `drelu compare` does."""
    own = [scores[place * len(SEEDS) + seed] for place in range(len(LAMBDAS))]
    best = max(one["validation_clean"] for one in own)
    near = [n for n, one in enumerate(own) if one["validation_clean"] >= best - WITHIN]
    return LAMBDAS[max(near, key=lambda n: own[n]["validation_pgd10"])]


def page(
    ways: dict[int | None, Way],
    data: DataSplits,
    members: list[Recipe],
    told: argparse.Namespace,
    device: torch.device,
) -> str:
    """The page as Markdown."""
    alone = ways[None]
    where = f", {torch.cuda.get_device_name()}" if device.type == "cuda" else ""
    count = len(members)
    lines = [
        "# Stacked training: many small nets as one program",
        "",
        f"`python benchmarks/stacking.py --sizes {told.sizes} --rounds {told.rounds} --write`. "
        f"{machine()}{where}, "
        f"{versions('torch', 'numpy')}, "
        f"{torch.get_num_threads()} thread(s). n = {told.rounds} rounds, paired and interleaved; "
        "medians, in brackets the smallest and the largest.",
        "",
        f"{count} dense D-ReLU nets (784-256-256-128-10), {len(LAMBDAS)} lambdas times "
        f"{len(SEEDS)} seeds, {told.images:,} images of MNIST, {told.epochs} epochs, batch 128, "
        "1,000 validation images. *Times as fast*: epochs, validation included, against the same "
        "nets trained one after the other.",
        "",
        "| nets at once | wall s | times as fast, wall | process s | times as fast, process |",
        "| ---: | ---: | ---: | ---: | ---: |",
    ]
    for most, way in ways.items():
        wall, cpu = statistics.median(way.wall), statistics.median(way.cpu)
        name = "one after the other" if most is None else str(most)
        lines.append(
            f"| {name} | {wall:.1f} | {ratio(alone.wall, way.wall)} | {cpu:.1f} | "
            f"{ratio(alone.cpu, way.cpu)} |"
        )
    lines += ["", *compared(alone.fits, ways[CHOSEN].fits, data, members, device)]
    return "\n".join(lines) + "\n"


def compared(
    alone: list[Fit],
    stacked: list[Fit],
    data: DataSplits,
    members: list[Recipe],
    device: torch.device,
) -> list[str]:
    """How far the nets of both ways are apart."""
    pairs = list(zip(alone, stacked, strict=True))
    apart = [
        abs(clean_accuracy(a.model, data.test, device) - clean_accuracy(b.model, data.test, device))
        for a, b in pairs
    ]
    weights = max(
        float((p.detach() - q.detach()).abs().max())
        for a, b in pairs
        for p, q in zip(a.model.parameters(), b.model.parameters(), strict=True)
    )
    scores = [
        [
            validation_scores(fit.model, data, one, device)
            for fit, one in zip(fits, members, strict=True)
        ]
        for fits in (alone, stacked)
    ]
    choices = [[chosen(each, seed) for seed in SEEDS] for each in scores]
    same = sum(a == b for a, b in zip(*choices, strict=True))
    return [
        f"One after the other against {CHOSEN} at once, the nets of the last round: test accuracy "
        f"(10,000 images) differs by {100 * max(apart):.2f} points at most, a weight by "
        f"{weights:.1e} at most; validation data choose the same lambda for {same} of "
        f"{len(SEEDS)} seeds ({', '.join(f'{one:g}' for one in choices[1])}).",
    ]


def main() -> None:
    """Measures and prints the page, or with `--write` writes it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--data-dir", type=Path, default=Path.home() / ".cache" / "drelu" / "data")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--sizes", default=SIZES, help=f"nets at once; {CHOSEN} is compared")
    parser.add_argument("--device", default="cpu")
    told = parser.parse_args()
    torch.set_num_threads(1)
    device = pick_device(told.device)
    data = load("mnist", told.data_dir, path=None)
    members = recipes(data, told.data_dir, told.images, told.epochs)
    splits: Splits = splits_of(members[0], data, device, told.data_dir)
    ways: dict[int | None, Way] = {most: Way() for most in (None, *map(int, told.sizes.split(",")))}
    train([prepared(one, data, device, splits) for one in members[:2]], 2)  # not counted
    for _ in range(told.rounds):
        for most, way in ways.items():
            timed(way, [prepared(one, data, device, splits) for one in members], most)
    text = page(ways, data, members, told, device)
    print(text)
    if told.write:
        PAGE.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
