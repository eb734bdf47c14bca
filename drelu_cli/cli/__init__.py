"""The command line: parse, call one workflow, print, exit code."""


def main() -> None:
    """The command `drelu`."""
