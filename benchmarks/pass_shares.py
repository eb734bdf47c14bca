"""Which share of its allotted passes an attack spends: what `drelu sweep --dry-run` expects.

    python benchmarks/pass_shares.py STORE

STORE is a store with plain runs, such as the one that benchmarks/court_study.py leaves. One line
per attack: number of runs, median, smallest and largest share.
"""

from __future__ import annotations

import statistics
import sys
from collections import defaultdict
from pathlib import Path

from drelu_cli.attacks import ATTACKS
from drelu_cli.attacks.augment import bind_attack
from drelu_cli.attacks.costs import allotted
from drelu_cli.store.connect import open_store

CLASSES = 10


def main() -> None:
    """Prints the table."""
    shares: dict[str, list[float]] = defaultdict(list)
    with open_store(Path(sys.argv[1]), create=False) as store:
        for stored in store.evaluations():
            run = stored.evaluation
            if run.attack not in ATTACKS.names():
                continue
            budget = allotted(bind_attack(run.attack), CLASSES)
            if run.cascade or run.given or not budget or not stored.samples:
                continue
            outcomes = store.outcomes(stored.key)
            spent = sum(one.forwards + one.backwards for one in outcomes) / len(outcomes)
            shares[run.attack].append(spent / budget)
    for attack, found in sorted(shares.items()):
        middle = statistics.median(found)
        print(f"{attack}: {len(found)} runs, {middle:.3f} ({min(found):.3f} to {max(found):.3f})")


if __name__ == "__main__":
    main()
