"""How near `drelu sweep --dry-run` comes: each plan is estimated, then run alone, one by one.

    python benchmarks/estimates.py --data-dir DATA            # prints the section
    python benchmarks/estimates.py --data-dir DATA --write    # puts it into docs/benchmarks.md

Ratios are of seconds that the trainings and attacks took, as the store has them, to those
foretold just before. Early stopping is off, so that all epochs are run. Medians over the rounds.
"""

from __future__ import annotations

import statistics
import tempfile
from dataclasses import dataclass
from pathlib import Path

import torch
from page import machine, section_options, versions, write_section

from drelu_cli.store.connect import open_store
from drelu_cli.workflows.context import Context
from drelu_cli.workflows.sweep import sweep

ROUNDS = 3
Options = tuple[tuple[str, object], ...]
_FEW: Options = (("data.train_samples", 1000), ("data.validation_samples", 500))
_WHOLE: Options = (("train.stop_patience", 10_000),)
PLANS: dict[str, tuple[str, Options]] = {
    "demo": ("demo", ()),
    "srelu-mnist on digits, m = 0.05, 60 attacked": (
        "srelu-mnist",
        (
            ("data.name", "digits"),
            ("activation", "srelu:cap=0.05"),
            ("attack.samples", 60),
        ),
    ),
    "table1, dense, seed 0, 1,000 images, 100 attacked": (
        "table1",
        (("model.name", "dense"), ("train.seed", 0), *_FEW, ("attack.samples", 100)),
    ),
    "table1, shallow_cnn, seed 0, 300 images, no CW-L2, 100 attacked": (
        "table1",
        (
            ("model.name", "shallow_cnn"),
            ("train.seed", 0),
            ("data.train_samples", 300),
            ("data.validation_samples", 100),
            ("attack.suite", None),
            ("attack.attacks", ["fgsm", "pgd", "apgd_ce", "apgd_dlr"]),
            ("attack.samples", 100),
        ),
    ),
}


@dataclass(frozen=True)
class Plan:
    """One plan, foretold and run, in seconds.

    Attributes:
        trainings: that the trainings took.
        foretold: of the trainings.
        attacks: that the attacks took.
        expected: of the attacks.
        most: of the attacks, at most.
    """

    trainings: float
    foretold: float
    attacks: float
    expected: float
    most: float


def measured(recipe: str, options: Options, data_dir: Path | None) -> Plan:
    """Estimates the plan, runs it in a store of its own, and adds up what it took."""
    with tempfile.TemporaryDirectory() as work:
        context = Context(store=Path(work) / "runs", data_dir=data_dir, device="cpu")
        options = (*options, *_WHOLE)
        estimate = sweep(recipe, options=options, dry_run=True, context=context).estimate
        assert estimate is not None
        report = sweep(recipe, options=options, stack=False, context=context)
        if report.failures:
            raise SystemExit(str(report.failures))
        with open_store(context.store, create=False) as store:
            trainings = sum(float(one.summary["seconds"]) for one in store.models())
            # What a first remedy adds by itself is in no plan.
            planned = [one for one in store.evaluations() if not one.evaluation.cascade]
            attacks = sum(one.seconds for one in planned)
    return Plan(
        trainings,
        estimate.training_seconds,
        attacks,
        estimate.expected_attack_seconds,
        estimate.attack_seconds,
    )


def section(found: dict[str, list[Plan]]) -> str:
    """The section as Markdown."""
    lines = [
        "## How near the dry run comes",
        "",
        f"{machine()}, {versions('torch')}, one thread, a busy machine. n = {ROUNDS} rounds; "
        "ratios of the time taken to the time foretold, median (min .. max). Written by `python "
        "benchmarks/estimates.py --write`.",
        "",
        "| plan | trainings, s | taken / foretold | attacks, s | taken / about | taken / at most |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for name, plans in found.items():
        cells = [
            f"{statistics.median(one.trainings for one in plans):.0f}",
            _ratios([one.trainings / one.foretold for one in plans]),
            f"{statistics.median(one.attacks for one in plans):.0f}",
            _ratios([one.attacks / one.expected for one in plans]),
            _ratios([one.attacks / one.most for one in plans]),
        ]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    ran = [plan for plans in found.values() for plan in plans]
    trainings = [one.trainings / one.foretold for one in ran]
    above = sum(one.attacks > one.most for one in ran)
    return "\n".join(
        [
            *lines,
            "",
            f"Trainings took {min(trainings):.2f} to {max(trainings):.2f} of what was foretold; "
            f"attacks took more than *at most* in {above} of {len(ran)} runs.\n*About* rests on "
            "shares of passes taken from dense MNIST nets: a CNN that stands takes more of them, "
            "nets that fall at once less.",
        ]
    )


def _ratios(found: list[float]) -> str:
    return f"{statistics.median(found):.2f} ({min(found):.2f} .. {max(found):.2f})"


def main() -> None:
    """Prints the section, or with `--write` puts it into the page."""
    options = section_options(__doc__)
    torch.set_num_threads(1)
    found: dict[str, list[Plan]] = {}
    for number in range(ROUNDS):
        for name, (recipe, chosen) in PLANS.items():
            found.setdefault(name, []).append(measured(recipe, chosen, options.data_dir))
            print(f"round {number + 1}, {name}: {found[name][-1]}", flush=True)
    text = section(found)
    print(text)
    if options.write:
        write_section("estimates", text)


if __name__ == "__main__":
    main()
