"""How long the commands that must answer at once take, as whole processes.

    python benchmarks/start_up.py            # prints the section
    python benchmarks/start_up.py --write    # puts it into docs/benchmarks.md

Each round runs every command once, in turn, so that a busy machine slows all of them alike;
ratios are taken within a round. Medians over the rounds, after one round that is not counted.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time

from page import machine, versions, write_section

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
PACKAGES = ("torch", "numpy", "pandas", "scipy", "typer", "pydantic")


def seconds(command: list[str], folder: str) -> float:
    """Wall time of one whole process."""
    began = time.perf_counter()
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    return time.perf_counter() - began


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


def section(found: dict[str, list[float]]) -> str:
    """The section as Markdown."""
    bare = found["python -c pass"]
    lines = [
        "## Start-up: commands that must answer at once",
        "",
        f"{machine()}, {versions(*PACKAGES)}. n = {ROUNDS} rounds, whole processes, paired.",
        "",
        "| command | median s | min .. max s | times a bare Python |",
        "| --- | ---: | ---: | ---: |",
    ]
    for name, times in found.items():
        ratio = statistics.median(a / b for a, b in zip(times, bare, strict=True))
        middle, low, high = statistics.median(times), min(times), max(times)
        lines.append(f"| `{name}` | {middle:.2f} | {low:.2f} .. {high:.2f} | {ratio:.1f} |")
    return "\n".join(lines)


def main() -> None:
    """Prints the section, or with `--write` puts it into the page."""
    text = section(measured())
    print(text)
    if "--write" in sys.argv[1:]:
        write_section("start-up", text)


if __name__ == "__main__":
    main()
