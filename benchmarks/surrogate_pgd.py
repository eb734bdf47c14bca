"""PGD through the surrogate backward passes that each activation declares, beside plain PGD.

    python benchmarks/surrogate_pgd.py --store runs --data-dir DATA [--samples 1000] [MODEL ...]

The forward pass is the model's own, bit for bit; only the derivative that the attack follows is
replaced. Nothing is stored: the masking court, which will store and judge such attacks, comes
with a later version. Prints a Markdown table in percent; `left` is what no column broke.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from drelu_cli.activations.surrogate import surrogate_names, with_surrogate
from drelu_cli.attacks import ATTACKS
from drelu_cli.core.records import ModelRecord, State, ThreatModel
from drelu_cli.data.facts import facts
from drelu_cli.evaluation.samples import Samples
from drelu_cli.evaluation.suite import run_attack
from drelu_cli.store.connect import Store, open_store
from drelu_cli.workflows.context import Context
from drelu_cli.workflows.measure import samples_of
from drelu_cli.workflows.subjects import DataCache, load_model, splits_of


def robust(model: torch.nn.Module, samples: Samples, threat: ThreatModel) -> torch.Tensor:
    """(N,) bool: which samples stand against PGD-40."""
    judged = run_attack(model, samples, ATTACKS.bind("pgd"), threat, seed=0)
    return torch.tensor([outcome.state is State.ROBUST for outcome in judged.outcomes])


def row(record: ModelRecord, store: Store, data: DataCache, count: int) -> dict[str, float]:
    """Percent robust per backward pass, and what none of them broke."""
    splits = splits_of(record, data)
    order = store.sample_order(splits.digest)
    if order is None:
        raise SystemExit("attack a model of this data set once: it stores the sample order")
    samples = samples_of(splits.test, list(order[:count]), torch.device("cpu"))
    threat = ThreatModel("linf", facts(record.dataset).eps)
    model = load_model(record, data, store)
    left = plain = robust(model, samples, threat)
    found = {"plain": plain}
    for name in surrogate_names(model):
        found[name] = robust(with_surrogate(model, name), samples, threat)
        left = left & found[name]
    found["left"] = left
    return {name: 100.0 * float(mask.float().mean()) for name, mask in found.items()}


def main() -> None:
    """Prints one row per model."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="*")
    parser.add_argument("--store", type=Path, default=Path("runs"))
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--samples", type=int, default=1000)
    given = parser.parse_args()
    data = DataCache(Context(store=given.store, data_dir=given.data_dir))
    names = ("plain", "relu", "leaky", "leaky_cap", "soft_cap", "left")
    print(f"| model | {' | '.join(names)} |")
    print(f"| --- |{' ---: |' * len(names)}")
    with open_store(given.store, create=False) as store:
        records = [store.find_model(m) for m in given.models] if given.models else store.models()
        for record in records:
            found = row(record, store, data, given.samples)
            cells = [f"{found[name]:.1f}" if name in found else "-" for name in names]
            print(f"| {record.name} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
