"""The documentation as data: pages, code blocks, commands."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]
_FENCE = re.compile(r"^```(\w*)([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_SHELL = ("|", ">", "2>", "&&", ";")


@dataclass(frozen=True)
class Block:
    page: str
    language: str
    title: str
    text: str


@dataclass(frozen=True)
class Shown:
    """A command and the output that the page shows for it; `...` stands for what is left out."""

    page: str
    command: str
    output: tuple[str, ...]


def blocks(page: Path) -> list[Block]:
    found = []
    for language, rest, text in _FENCE.findall(page.read_text(encoding="utf-8")):
        title = re.search(r'title="([^"]+)"', rest)
        found.append(Block(page.name, language, title.group(1) if title else "", text))
    return found


def all_blocks(language: str) -> list[Block]:
    return [block for page in PAGES for block in blocks(page) if block.language == language]


def shown_commands() -> list[Shown]:
    """Every `$ drelu ...` line of the console blocks with what stands below it."""
    found = []
    for block in all_blocks("console"):
        for part in re.split(r"^\$ ", block.text, flags=re.MULTILINE)[1:]:
            command, _, output = part.partition("\n")
            lines = tuple(line.rstrip() for line in output.splitlines() if line.strip())
            found.append(Shown(block.page, command, lines))
    return found


def inline_commands() -> list[tuple[str, str]]:
    """(page, command) of every `drelu ...` in the prose."""
    found = []
    for page in PAGES:
        prose = _FENCE.sub("", page.read_text(encoding="utf-8"))
        found += [(page.name, text) for text in re.findall(r"`(drelu [^`\n]+)`", prose)]
    return found


def words(command: str) -> list[str]:
    """The words after `drelu`, up to a pipe or a redirection."""
    found = shlex.split(command, comments=True)[1:]
    stops = [number for number, word in enumerate(found) if word in _SHELL]
    return found[: stops[0]] if stops else found
