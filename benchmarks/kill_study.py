"""100 random kill -9 over a sweep: what is lost, what runs twice, and whether the table changes.

    python benchmarks/kill_study.py                  # prints the page
    python benchmarks/kill_study.py --write          # puts it into docs/benchmarks/kills.md
    python benchmarks/kill_study.py --kills 10 --seed 1

40 small trainings and 80 evaluations on the embedded digits, `drelu sweep --jobs 2`. A first sweep
is left alone. Then the same sweep begins in a new store and is disturbed: at a random moment a
random one of its processes (the driver or a worker) gets SIGKILL; a sweep whose driver was killed
is started again. When it is done it is compared with the first one, and the next begins in a store
of its own, until all kills have landed. Every process notes which epoch and which attack it begins;
moments count from the last kill, in such notes, so that they do not depend on a machine's speed.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
from pathlib import Path

from kill_counted import ATTACK, EPOCH
from kill_page import page
from kill_sweeps import Study

PAGE = Path(__file__).parents[1] / "docs" / "benchmarks" / "kills.md"


def main() -> None:
    """Sweeps, kills, compares, and prints the page, or with `--write` writes it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    told = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        study = Study(Path(folder), random.Random(told.seed))
        alone = study.run("alone", 0)
        print(f"undisturbed: {alone.seconds:.0f} s", file=sys.stderr)
        expected = study.result("alone")
        rows = []
        left = told.kills
        while left > 0:
            swept = study.run(f"sweep{len(rows) + 1}", left)
            left -= swept.kills
            same = study.result(swept.name) == expected
            noted = {what: study.noted(swept, what) for what in (EPOCH, ATTACK)}
            rows.append((swept, noted, same))
            print(swept, noted, same, file=sys.stderr)
            if told.write:  # what was done so far, should this be stopped
                PAGE.write_text(page(alone, expected, rows, told), encoding="utf-8")
    print(page(alone, expected, rows, told))
    if not all(same for _, _, same in rows):
        raise SystemExit("a disturbed sweep differs from the undisturbed one")


if __name__ == "__main__":
    main()
