"""docs/benchmarks.md is made of sections, each written by its own script.

A section stands between two comments that carry its name; a script replaces its own and leaves
the others as they are.
"""

from __future__ import annotations

import argparse
import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PAGE = Path(__file__).parents[1] / "docs" / "benchmarks.md"


def write_section(name: str, text: str, page: Path = PAGE) -> None:
    """Puts `text` (Markdown) in the place of the section `name`, or at the end of the page."""
    begin, end = f"<!-- {name}: begin -->\n", f"<!-- {name}: end -->\n"
    section = f"{begin}\n{text.strip()}\n\n{end}"
    whole = page.read_text(encoding="utf-8")
    if begin in whole and end in whole:
        before, _, rest = whole.partition(begin)
        whole = before + section + rest.partition(end)[2]
    else:
        whole = f"{whole.rstrip()}\n\n{section}"
    page.write_text(whole, encoding="utf-8")


def processor() -> str:
    """The processor's name, where the system tells it."""
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def machine() -> str:
    """Processor, cores, system and Python, as one phrase."""
    return (
        f"{processor()}, {os.cpu_count()} CPU cores, {platform.system()}, "
        f"Python {platform.python_version()}"
    )


def versions(*packages: str) -> str:
    """`torch 2.13.0, ...` of the packages that are installed."""
    found = []
    for package in packages:
        try:
            found.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            found.append(f"{package} not installed")
    return ", ".join(found)


def section_options(description: str | None) -> argparse.Namespace:
    """The command line of a benchmark that writes one section: work, data_dir, write."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--work", type=Path, default=Path("build/speed"), help="trained nets")
    parser.add_argument("--data-dir", type=Path, help="folder of data sets")
    parser.add_argument("--write", action="store_true", help="put it into docs/benchmarks.md")
    return parser.parse_args()
