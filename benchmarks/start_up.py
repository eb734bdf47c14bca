"""How long the commands that must answer at once take, as whole processes.

    python benchmarks/start_up.py > docs/benchmarks.md

Each round runs every command once, in turn, so that a busy machine slows all of them alike;
ratios are taken within a round. Medians over the rounds, after one round that is not counted.
"""

from __future__ import annotations

import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

ROUNDS = 9
BARE = [sys.executable, "-c", "pass"]
COMMANDS = {
    "drelu --help": ["--help"],
    "drelu list": ["list"],
    "drelu recipe show table1": ["recipe", "show", "table1"],
    "drelu stats published:table2": ["stats", "published:table2"],
    "drelu audit": ["audit"],
}
REFERENCES = {
    "python -c pass": BARE,
    'python -c "import pandas, scipy.stats"': [sys.executable, "-c", "import pandas, scipy.stats"],
    'python -c "import torch"': [sys.executable, "-c", "import torch"],
}


def seconds(command: list[str], folder: str) -> float:
    """Wall time of one whole process."""
    began = time.perf_counter()
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    return time.perf_counter() - began


def processor() -> str:
    """The processor's name, where the system tells it."""
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def measured() -> dict[str, list[float]]:
    """Seconds per command and round."""
    commands = {
        name: [sys.executable, "-m", "drelu_cli", *words] for name, words in COMMANDS.items()
    }
    commands |= REFERENCES
    with tempfile.TemporaryDirectory() as folder:
        for command in commands.values():
            seconds(command, folder)
        found: dict[str, list[float]] = {name: [] for name in commands}
        for _ in range(ROUNDS):
            for name, command in commands.items():
                found[name].append(seconds(command, folder))
    return found


def main() -> None:
    """Prints the page."""
    found = measured()
    bare = found["python -c pass"]
    packages = ("torch", "numpy", "pandas", "scipy", "typer", "pydantic")
    print("# Benchmarks\n")
    print("Written by `make bench` (`benchmarks/start_up.py`). Speed of the attacks: not measured")
    print("here yet.\n")
    print("## Start-up: commands that must answer at once\n")
    print(
        f"{processor()}, {os.cpu_count()} CPU cores, {platform.system()}, "
        f"Python {platform.python_version()}, "
        + ", ".join(f"{package} {version(package)}" for package in packages)
        + f". n = {ROUNDS} rounds, whole processes, paired."
    )
    print("\n| command | median s | min .. max s | times a bare Python |")
    print("| --- | ---: | ---: | ---: |")
    for name, times in found.items():
        ratio = statistics.median(a / b for a, b in zip(times, bare, strict=True))
        print(
            f"| `{name}` | {statistics.median(times):.2f} | {min(times):.2f} .. {max(times):.2f} "
            f"| {ratio:.1f} |"
        )


if __name__ == "__main__":
    main()
