"""The process: runs a command, turns every error into one or two lines and an exit code.

Exit codes: 0 done, 1 the work ran and a check failed, 2 bad input (also a full disk or
unreadable data), 3 interrupted, 70 a bug of ours.
"""

from __future__ import annotations

import errno
import os
import sys
import traceback
from collections.abc import Sequence

import typer

from drelu_cli.cli.app import app
from drelu_cli.cli.console import json_text, make_console
from drelu_cli.core.errors import DreluError
from drelu_cli.runtime.allocator import keep_freed_memory

# Typer carries its own copy of click in some releases and imports click in others; the class
# that all usage errors share is reached through the one that Typer exports.
_UsageError = typer.BadParameter.__bases__[0]

# Typer turns Ctrl-C into this code before we see it, depending on its release.
_TYPER_INTERRUPTED = 130
# `drelu` and `drelu recipe` alone: the help, which click raises as a usage error.
_HELP_WANTED = "NoArgsIsHelpError"
_INTERRUPTED = (
    "Interrupted",
    "interrupted; what was finished is kept",
    "the same command goes on where it stopped",
    3,
)
_REPORT = "a bug of drelu: please report it with what --debug and `drelu doctor --json` print"


def main(arguments: Sequence[str] | None = None) -> None:
    """The command `drelu`. Ends the process with its exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in words
    keep_freed_memory()
    words = [word for word in words if word != "--debug"]
    sys.exit(_run(words, debug=debug, json="--json" in words))


def _run(words: list[str], *, debug: bool, json: bool) -> int:
    try:
        code = typer.main.get_command(app).main(
            args=words, prog_name="drelu", standalone_mode=False
        )
        sys.stdout.flush()
    except BrokenPipeError:
        # `drelu list | head`: the reader has gone, which is no error.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (KeyboardInterrupt, typer.Abort):
        return _report(*_INTERRUPTED, json)
    except Exception as problem:  # noqa: BLE001 - the one place where every error ends
        if type(problem).__name__ == _HELP_WANTED:
            sys.stdout.write(f"{_usage_message(problem)}\n")
            return 0
        if debug:
            traceback.print_exc()
        return _report(*_described(problem), json)
    if code == _TYPER_INTERRUPTED:
        return _report(*_INTERRUPTED, json)
    return int(code) if isinstance(code, int) else 0


def _described(problem: Exception) -> tuple[str, str, str, int]:
    """Type, message, hint and exit code of an error."""
    name = type(problem).__name__
    if isinstance(problem, DreluError):
        return name, problem.message, problem.hint, problem.exit_code
    if isinstance(problem, _UsageError):
        context = getattr(problem, "ctx", None)
        command = context.command_path if context is not None else "drelu"
        return "UsageError", _usage_message(problem), f"see {command} --help", 2
    if isinstance(problem, OSError):
        return name, _os_error(problem), _os_hint(problem), 2
    return name, f"internal error: {name}: {problem}", _REPORT, 70


def _usage_message(problem: Exception) -> str:
    describe = getattr(problem, "format_message", None)
    return str(describe() if callable(describe) else problem)


def _os_error(problem: OSError) -> str:
    place = f": {problem.filename}" if problem.filename else ""
    return f"{problem.strerror or problem}{place}"


def _os_hint(problem: OSError) -> str:
    if problem.errno in (errno.ENOSPC, errno.EDQUOT):
        return "free some space and run the same command again: finished work is kept"
    return "is the path right, and may you read and write there?"


def _report(kind: str, message: str, hint: str, code: int, json: bool) -> int:
    console = make_console(stderr=True)
    console.print(f"error: {message}", markup=False, soft_wrap=True)
    if hint:
        console.print(f"  {hint}", markup=False, soft_wrap=True)
    if json:
        sys.stdout.write(json_text({"error": {"type": kind, "message": message, "hint": hint}}))
        sys.stdout.write("\n")
        sys.stdout.flush()
    return code
