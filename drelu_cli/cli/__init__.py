"""The command line: parse, call one workflow, print, exit code."""

from drelu_cli.cli.entry import main

__all__ = ["main"]
