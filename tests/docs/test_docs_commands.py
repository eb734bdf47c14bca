"""Every command in the docs parses; those that are quick print what the docs show."""

from __future__ import annotations

import re
import shlex

import docs_pages
import pytest
import typer

from drelu_cli.cli import main
from drelu_cli.cli.app import app

SHOWN = docs_pages.shown_commands()
DRELU = [one for one in SHOWN if one.command.startswith("drelu ")]
TYPED = sorted({(one.page, one.command) for one in DRELU} | set(docs_pages.inline_commands()))
# Commands that run here, in an empty folder or on the shared small store.
QUICK = {
    "drelu stats published:table2",
    "drelu audit",
    "drelu list",
    "drelu list attacks",
    "drelu recipe show smoke",
    "drelu sweep --dry-run",
    "drelu train --activation relu --lambda 0.1",
}


def leaf(words):
    """The command that `words` name, and its arguments."""
    command = typer.main.get_command(app)
    while hasattr(command, "commands"):
        assert words, f"{command.name} needs a command"
        assert words[0] in command.commands, f"there is no command '{words[0]}'"
        command, words = command.commands[words[0]], words[1:]
    return command, words


@pytest.mark.parametrize(("page", "command"), TYPED, ids=lambda text: text)
def test_every_command_parses(page, command):
    words = [word for word in docs_pages.words(command) if word not in ("--debug", "--help")]
    if not words:  # `drelu --help` alone
        return
    found, arguments = leaf(words)
    # Parses options, arguments and their types; nothing runs.
    found.make_context(found.name, arguments)


def test_a_wrong_option_would_be_found():
    command, arguments = leaf(["train", "--activtion", "relu"])
    with pytest.raises(Exception, match="activtion"):
        command.make_context("train", arguments)


def test_there_are_commands_to_test():
    pages = {page for page, _ in TYPED}
    assert {"README.md", "quickstart.md", "train.md", "attack.md", "sweep.md"} <= pages
    assert {plain(one) for one in DRELU} >= QUICK


def plain(one):
    return shlex.join(shlex.split(one.command, comments=True))


@pytest.mark.parametrize(
    "one",
    [one for one in DRELU if plain(one) in QUICK and one.output],
    ids=lambda one: f"{one.page} {plain(one)}",
)
def test_quick_commands_print_what_is_shown(one, capfd, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    capfd.readouterr()
    with pytest.raises(SystemExit):
        main(docs_pages.words(one.command))
    printed = "\n".join(capfd.readouterr())
    real = [line.rstrip() for line in printed.splitlines() if line.strip()]
    assert_shown(list(one.output), real)


def assert_shown(shown, real):
    """Runs of lines between `...` stand together and in order; no `...` means an end."""
    position = 0
    runs = re.split(r"^\.\.\.$", "\n".join(shown), flags=re.MULTILINE)
    for number, run in enumerate(runs):
        lines = [line for line in run.split("\n") if line]
        if not lines:
            continue
        starts = [
            at
            for at in range(position, len(real) - len(lines) + 1)
            if real[at : at + len(lines)] == lines
        ]
        assert starts, f"not printed: {lines}"
        assert number > 0 or starts[0] == 0, f"not the first lines: {lines}"
        position = starts[0] + len(lines)
        if number == len(runs) - 1:
            assert starts[-1] + len(lines) == len(real), f"not the last lines: {lines}"


STORY = (
    "drelu train",
    "drelu train --activation relu",
    "drelu attack --suite whitebox",
    "drelu attack --suite blackbox",
    "drelu attack --suite adaptive",
    "drelu compare --out table.md",
    "drelu stats",
)


# How the paragraph of a verdict ends: terminals and pages wrap it at different widths.
_ENDS = re.compile(r"(examines it|p = [^)]*\)|has not run\)|for a remedy|left standing)\.$")


def unwrapped(lines):
    """Lines with every verdict's paragraph on one of them."""
    joined, open_ = [], False
    for line in lines:
        if open_:
            joined[-1] = f"{joined[-1]} {line.strip()}"
        else:
            joined.append(line)
        begins = line.startswith("verdict:")
        open_ = (open_ or begins) and not _ENDS.search(joined[-1])
    return joined


def layout(lines):
    """Lines without their numbers, keys and rules: another torch may change the last digits."""
    without_keys = [re.sub(r"key [0-9a-f]+", "key #", line) for line in lines]
    without_numbers = [re.sub(r"[\d.]*\d", "#", line) for line in without_keys]
    collapsed = [" ".join(line.replace("─", "").split()) for line in without_numbers]
    return unwrapped([line for line in collapsed if line])


@pytest.mark.slow
def test_the_story_prints_what_is_shown(capfd, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for command in STORY:
        capfd.readouterr()
        with pytest.raises(SystemExit) as end:
            main(docs_pages.words(command))
        assert end.value.code in (0, None), command
        out, err = capfd.readouterr()
        for one in DRELU:
            if one.page in ("README.md", "quickstart.md") and plain(one) == command and one.output:
                progress = err if one.output[0].startswith("training ") else ""
                real = [line for line in (progress + out).splitlines() if line.strip()]
                assert_shown(layout(one.output), layout(real))


def test_readme_shows_the_figures_of_table_2():
    shown = {
        plain(one): "\n".join(one.output) for one in DRELU if one.page == "README.md" and one.output
    }
    figures = ("0.6972 / 0.7817 / 0.9473", "20.1288", "39.4333", "17.3973")
    assert all(figure in shown["drelu stats published:table2"] for figure in figures)


# The page on which every option of a command is explained.
EXPLAINED = {
    "train": "train.md",
    "attack": "attack.md",
    "verify": "verify.md",
    "compare": "compare.md",
    "plot": "plot.md",
    "sweep": "sweep.md",
    "export": "store.md",
    "gc": "store.md",
}
# Options of many commands, explained in one place.
COMMON = {"--help": "README.md", "--json": "results-schema.md", "--data-dir": "README.md"}
COMMON |= {"--store": "store.md", "--device": "concepts.md", "--preset": "concepts.md"}


@pytest.mark.parametrize("name", EXPLAINED)
def test_every_option_is_explained(name):
    command = typer.main.get_command(app).commands[name]
    for parameter in command.params:
        option = next((text for text in parameter.opts if text.startswith("--")), None)
        if option is not None:
            page = COMMON.get(option, EXPLAINED[name])
            folder = docs_pages.ROOT if page == "README.md" else docs_pages.DOCS
            assert f"{option}" in (folder / page).read_text(), f"{option} of {name} in {page}"
