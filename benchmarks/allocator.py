"""What keeping freed memory (`drelu_cli.runtime.allocator`) saves, in whole commands on the CPU.

    python benchmarks/allocator.py --data-dir DATA            # prints the section
    python benchmarks/allocator.py --data-dir DATA --write    # puts it into docs/benchmarks.md

Each round runs every command twice, as it is and with an environment that tells glibc its own
default, which leaves the allocator alone. Seconds are the processor's, user and system, so that a
busy machine disturbs them less; ratios are taken within a round, medians over the rounds.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from page import machine, section_options, versions, write_section

ROUNDS = 5
LEFT_ALONE = {"MALLOC_ARENA_TEST": "8"}  # glibc's own default on 64 bits
ONE_THREAD = {"OMP_NUM_THREADS": "1"}
SMALL = ["--set", "data.train_samples=2000", "--set", "data.validation_samples=500"]
TRAIN = {
    "train dense, MNIST": ["--dataset", "mnist", "--model", "dense", "--epochs", "3"],
    "train shallow_cnn, MNIST": [
        "--dataset", "mnist", "--model", "shallow_cnn", "--epochs", "2", *SMALL,
    ],
}  # fmt: skip
ATTACK = "attack shallow_cnn, PGD-40, 400 images"

_READING = (
    "It helps where every step frees and asks for the same large blocks: training a convolutional "
    "net. On dense nets and in attacks,\nwhich reuse their tensors, the differences are within "
    "the noise."
)


@dataclass(frozen=True)
class Cost:
    """Of one process: seconds of user and system time, peak memory in MB."""

    user: float
    system: float
    peak: float

    @property
    def seconds(self) -> float:
        """User and system."""
        return self.user + self.system


def cost(words: list[str], environment: dict[str, str]) -> Cost:
    """Runs one `drelu` process to its end."""
    process = subprocess.Popen(
        [sys.executable, "-m", "drelu_cli", *words],
        env={**os.environ, **ONE_THREAD, **environment},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"drelu {' '.join(words)} failed")
    return Cost(usage.ru_utime, usage.ru_stime, usage.ru_maxrss / 1000)


def measured(data_dir: Path | None) -> dict[str, list[tuple[Cost, Cost]]]:
    """Per command and round: with freed memory kept, and left alone."""
    found: dict[str, list[tuple[Cost, Cost]]] = {}
    folder = [] if data_dir is None else ["--data-dir", str(data_dir)]
    for number in range(ROUNDS):
        for name, words in TRAIN.items():
            pair = [_once(["train", *words, *folder], one) for one in _order(number)]
            found.setdefault(name, []).append(_sorted(pair, number))
        with tempfile.TemporaryDirectory() as work:
            store = ["--store", work]
            cost(["train", *TRAIN["train shallow_cnn, MNIST"], *folder, *store], {})
            pair = []
            for seed, environment in enumerate(_order(number)):
                words = ["attack", "--attack", "pgd", "--samples", "400", "--seed", str(seed)]
                pair.append(cost([*words, "--no-remedy", *folder, *store], environment))
            found.setdefault(ATTACK, []).append(_sorted(pair, number))
    return found


def _once(words: list[str], environment: dict[str, str]) -> Cost:
    with tempfile.TemporaryDirectory() as work:
        return cost([*words, "--store", work], environment)


def _order(number: int) -> list[dict[str, str]]:
    """The two environments; which is first changes with the round."""
    both: list[dict[str, str]] = [{}, LEFT_ALONE]
    return both if number % 2 == 0 else both[::-1]


def _sorted(pair: list[Cost], number: int) -> tuple[Cost, Cost]:
    """Kept, then left alone."""
    first, second = pair
    return (first, second) if number % 2 == 0 else (second, first)


def section(found: dict[str, list[tuple[Cost, Cost]]]) -> str:
    """The section as Markdown."""
    lines = [
        "## Freed memory that is kept",
        "",
        f"{machine()}, {versions('torch')}, one thread. n = {ROUNDS} rounds, whole processes, "
        "paired; seconds are user and system time of the whole command, start-up and data "
        "included. Written by `python benchmarks/allocator.py --write`.",
        "",
        "glibc hands large blocks back to the system when a tensor is freed and asks for them "
        "again a layer later; the system clears each page anew. `drelu` tells it to keep them, up "
        "to 2 GiB, unless the environment tunes it (`MALLOC_...`, `GLIBC_TUNABLES`).",
        "",
        "| command | left alone, s (system) | kept, s (system) | ratio of seconds | min .. max "
        "| ratio of peak memory |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for name, pairs in found.items():
        ratios = [kept.seconds / alone.seconds for kept, alone in pairs]
        peaks = statistics.median(kept.peak / alone.peak for kept, alone in pairs)
        cells = []
        for side in ([alone for _, alone in pairs], [kept for kept, _ in pairs]):
            whole = statistics.median(one.seconds for one in side)
            cells.append(f"{whole:.1f} ({statistics.median(one.system for one in side):.1f})")
        middle, spread = statistics.median(ratios), f"{min(ratios):.2f} .. {max(ratios):.2f}"
        lines.append(f"| {name} | {' | '.join(cells)} | {middle:.2f} | {spread} | {peaks:.2f} |")
    return "\n".join([*lines, "", _READING])


def main() -> None:
    """Prints the section, or with `--write` puts it into the page."""
    options = section_options(__doc__)
    text = section(measured(options.data_dir))
    print(text)
    if options.write:
        write_section("allocator", text)


if __name__ == "__main__":
    main()
