"""What a sweep's runners cost: per job, on two workers, with a long queue, on disk.

    python benchmarks/runners.py                     # prints the page
    python benchmarks/runners.py --write             # puts it into docs/benchmarks/runners.md
    python benchmarks/runners.py --data-dir DIR --parts job,queue

Parts: `job` (overhead per job, processes and Ray), `queue` (10,000 jobs), `disk` (growth of the
store, on MNIST), `two` (two workers against one; needs two cores that nobody else uses).
A part that is left out keeps what the page says of it.
"""

from __future__ import annotations

import argparse
import os
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path

from page import machine, versions, write_section
from runners_growth import growth, weights_of
from runners_measure import driver_seconds, local, on_ray, overhead, queue, throughput

PAGE = Path(__file__).parents[1] / "docs" / "benchmarks" / "runners.md"
TITLE = "# What the runners of a sweep cost\n"
LOCAL_JOBS, RAY_JOBS, ROUNDS = 500, 100, 5
QUEUED, IDLE_SECONDS = 10_000, 30.0
SEEDS = 20
TRAININGS, EPOCHS = 8, 10
GRID_TRAININGS, GRID_EVALUATIONS, IMAGES = 900, 5000, 10_000
FEWER = (100, 300, 1000, 3000)


def spread(values: Sequence[float], digits: int = 2) -> str:
    """The median, smallest and largest in brackets."""
    middle = statistics.median(values)
    return f"{middle:.{digits}f} ({min(values):.{digits}f} .. {max(values):.{digits}f})"


def where() -> str:
    """Hardware, versions and cores in use."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{machine()}, {cores} of the cores in use, {versions('torch', 'ray')}."


def job(told: argparse.Namespace) -> str:  # noqa: ARG001
    """Overhead per job."""
    alone = overhead(local, LOCAL_JOBS, ROUNDS)
    ray = overhead(on_ray, RAY_JOBS, ROUNDS)
    whole = driver_seconds(SEEDS)
    each = 1000 * (whole["first"] - whole["again"]) / whole["jobs"]
    return f"""## Per job

{where()} n = {ROUNDS} rounds of {LOCAL_JOBS} jobs that do nothing (Ray: {RAY_JOBS}) on two workers
that have started; milliseconds of wall time per job, median, in brackets the fastest and the
slowest round.

| | ms per job |
| --- | ---: |
| processes (`--jobs 2`) | {spread(alone)} |
| Ray (`--runner ray --jobs 2`) | {spread(ray)} |

In a real sweep the driver also gives each job a small store and takes over what it made: of
processor time {each:.1f} ms per job (n = {SEEDS} trainings and as many jobs of two attacks, once;
the same sweep with nothing left to do is taken off). Workers do not wait for it: their next jobs
are prepared while they work.
"""


def queued(told: argparse.Namespace) -> str:  # noqa: ARG001
    """A long queue."""
    found = queue(QUEUED, IDLE_SECONDS)
    return f"""## {QUEUED:,} trainings in the queue

{where()} n = 1 driver, two workers that tell of an epoch every second; {found["queued"]:,.0f} jobs
queued, one of attacks for each training.

| | |
| --- | ---: |
| memory of the driver (resident) | {found["memory"]:.0f} MB |
| of a core, over {IDLE_SECONDS:.0f} s | {100 * found["cpu"]:.1f} % |
| `drelu sweep --status`, Python's start included (median of 7) | {found["status"]:.2f} s |
| slowest of these | {found["slowest"]:.2f} s |
| from the command to the first two jobs running | {found["ready"]:.0f} s |
"""


def disk(told: argparse.Namespace) -> str:
    """Growth of the store."""
    found = growth(told.data_dir, IMAGES)
    evaluations = GRID_EVALUATIONS * found.evaluation / 1e6
    trainings = GRID_TRAININGS * found.training / 1e6
    each = ", ".join(f"{one / 1000:.1f}" for one in found.evaluations)
    large = weights_of("resnet18") / 1e6
    means = {number: growth(told.data_dir, number).evaluation for number in FEWER}
    fewer = ", ".join(f"{number:,} images {mean / 1000:.1f} kB" for number, mean in means.items())
    return f"""## On disk

{where()} One dense net on MNIST, attacked with five attacks on {found.images:,} images each;
the store's growth, attack by attack: {each} kB (the first one also stores which images).

| | one | the full grid |
| --- | ---: | ---: |
| evaluation of {found.images:,} images (mean) | {found.evaluation / 1000:.1f} kB | \
{GRID_EVALUATIONS:,}: {evaluations:.0f} MB |
| training: rows, recipe, history | {found.training / 1000:.1f} kB | \
{GRID_TRAININGS}: {trainings:.0f} MB |

The same mean on fewer images: {fewer}. The file grows by whole pages.
Weights come on top: {found.weights / 1000:.0f} kB for this small net, {large:.1f} MB for a
ResNet-18 on CIFAR-10, so {GRID_TRAININGS} of those are {GRID_TRAININGS * large / 1000:.0f} GB.
"""


def two(told: argparse.Namespace) -> str:  # noqa: ARG001
    """Two workers against one."""
    one, both = throughput(ROUNDS, TRAININGS, EPOCHS)
    ratio = [a / b for a, b in zip(one, both, strict=True)]
    return f"""## Two workers against one

{where()} n = {ROUNDS} rounds in turn; {TRAININGS} trainings of one thread (dense nets, 256 wide, on
digits, {EPOCHS} epochs), on workers that have started; median, in brackets the smallest and the
largest.

| | |
| --- | ---: |
| one worker, s | {spread(one, 1)} |
| two workers, s | {spread(both, 1)} |
| times the throughput | {spread(ratio)} |
"""


PARTS: dict[str, Callable[[argparse.Namespace], str]] = {
    "job": job,
    "queue": queued,
    "two": two,
    "disk": disk,
}


def begin_page(note: str) -> None:
    """Writes the head of the page; its sections stay."""
    old = PAGE.read_text(encoding="utf-8") if PAGE.exists() else ""
    sections = old[old.index("<!--") :] if "<!--" in old else ""
    head = f"{TITLE}\n`python benchmarks/runners.py --write`. {note}".rstrip()
    PAGE.write_text(f"{head}\n\n{sections}", encoding="utf-8")


def main() -> None:
    """Measures and prints, or with `--write` writes the parts into the page."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--data-dir", type=Path, default=Path.home() / ".cache" / "drelu" / "data")
    parser.add_argument("--parts", default=",".join(PARTS))
    parser.add_argument("--note", default="", help="what else the machine did, for the page")
    told = parser.parse_args()
    unknown = [one for one in told.parts.split(",") if one not in PARTS]
    if unknown:
        parser.error(f"--parts: unknown {', '.join(unknown)}; known: {', '.join(PARTS)}")
    for name in told.parts.split(","):
        text = PARTS[name](told)
        print(text)
        if told.write:
            if told.note or set(told.parts.split(",")) == set(PARTS):
                begin_page(told.note)  # the note of a whole run stays when one part is run again
            write_section(name, text, PAGE)


if __name__ == "__main__":
    main()
