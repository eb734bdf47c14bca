"""What goes to stdout and what to stderr.

With `--json` stdout carries one JSON document and nothing else; everything human goes to stderr.
Without it stdout carries the result and stderr the progress.
"""

from __future__ import annotations

import json as json_module
import math
import sys
from collections.abc import Mapping
from typing import Any

from rich.console import Console, RenderableType

from drelu_cli import __version__

# A pipe has no width of its own: tables must not be cut to 80 columns there.
_PIPE_WIDTH = 240


def make_console(*, stderr: bool = False) -> Console:
    """A console that is plain and wide when its stream is not a terminal."""
    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() else _PIPE_WIDTH
    return Console(file=stream, width=width, highlight=False, emoji=False, soft_wrap=False)


class Output:
    """The two streams of one command.

    Args:
        command: the command's name, part of every JSON document.
        json: whether the user asked for JSON.
    """

    def __init__(self, command: str, *, json: bool = False) -> None:
        self.command = command
        self.json = json
        self.stdout = make_console()
        self.stderr = make_console(stderr=True)

    @property
    def people(self) -> Console:
        """The console a person reads the result on."""
        return self.stderr if self.json else self.stdout

    def human(self, *content: RenderableType) -> None:
        """Prints a result for people. Text is printed as it is: brackets are no markup."""
        for item in content:
            self.people.print(item, markup=False)

    def note(self, text: str) -> None:
        """Prints progress or a warning to stderr."""
        self.stderr.print(text, markup=False)

    def document(self, content: Mapping[str, Any]) -> None:
        """Prints the JSON document, where it was asked for."""
        if self.json:
            top = {"drelu": __version__, "command": self.command, "schema": 1}
            sys.stdout.write(json_text({**top, **content}))
            sys.stdout.write("\n")
            sys.stdout.flush()


def json_text(value: Any) -> str:
    """Strict JSON: NaN becomes null, infinity null with a sibling `<key>_is_infinite: true`."""
    return json_module.dumps(_plain(value), indent=2, allow_nan=False)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        out: dict[str, Any] = {}
        for key, item in value.items():
            out[str(key)] = _plain(item)
            if isinstance(item, float) and math.isinf(item):
                out[f"{key}_is_infinite"] = True
        return out
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
