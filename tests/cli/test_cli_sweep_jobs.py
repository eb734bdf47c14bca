"""`drelu sweep --jobs`, `--status`, and what a terminal shows of several workers."""

from __future__ import annotations

import io
import json

import pytest
from rich.console import Console

from drelu_cli.cli import main
from drelu_cli.cli.console import Output
from drelu_cli.cli.progress import Progress

EPOCH = {
    "done": 2, "of": 9, "phase": "natural", "accuracy": 0.5, "seconds": 1.0,
}  # fmt: skip


def run(capsys, *words):
    with pytest.raises(SystemExit) as ended:
        main(["sweep", *words])
    told = capsys.readouterr()
    return ended.value.code, told.out, told.err


@pytest.mark.parametrize("jobs", ["0", "-1", "two", "1.5", ""])
def test_a_number_of_processes_that_is_none_is_refused(capsys, tmp_path, jobs):
    code, _, err = run(capsys, f"--jobs={jobs}", "--store", str(tmp_path / "runs"))
    assert code == 2
    assert "is no number of processes" in err
    assert not (tmp_path / "runs").exists()


def test_the_status_where_no_sweep_runs(capsys, tmp_path):
    code, out, _ = run(capsys, "--status", "--store", str(tmp_path / "runs"))
    assert code == 0
    assert out == f"no sweep with --jobs runs on the store {tmp_path / 'runs'}\n"
    _, out, _ = run(capsys, "--status", "--json", "--store", str(tmp_path / "runs"))
    assert json.loads(out)["status"] is None
    assert not (tmp_path / "runs").exists()


def test_the_status_of_an_unknown_recipe_names_the_nearest(capsys, tmp_path):
    code, _, err = run(capsys, "tabel1", "--status", "--store", str(tmp_path / "runs"))
    assert code == 2
    assert "tabel1" in err
    assert "table1" in err


def shown(*, terminal):
    output = Output("sweep")
    stream = io.StringIO()
    output.stderr = Console(file=stream, force_terminal=terminal, width=200, highlight=False)
    with Progress(output) as progress:
        for place in ("cpu0", "cpu1"):
            progress("slot", {"slot": place, "job": f"net of {place}", "state": "training"})
        told = {"slot": "cpu1", "job": "net of cpu1"}
        progress("slot", {**told, "kind": "epoch", "fields": EPOCH})
        progress("slot", {**told, "kind": "epoch", "fields": {**EPOCH, "done": 9}})
        progress("slot", {**told, "kind": "note", "fields": {"text": "heard"}})
        lines = progress.lines
    return lines, stream.getvalue()


def test_piped_there_are_plain_lines_with_the_place():
    _, text = shown(terminal=False)
    assert text.splitlines() == [
        "cpu0: net of cpu0: training",
        "cpu1: net of cpu1: training",
        "cpu1: net of cpu1: epoch 9/9 (natural), train 50.0 %, 1.0 s",
        "cpu1: net of cpu1: note: heard",
    ]


def test_a_terminal_has_one_line_for_each_worker():
    lines, text = shown(terminal=True)
    assert lines == [
        "cpu0: net of cpu0: training",
        "cpu1: net of cpu1: epoch 9/9 (natural), train 50.0 %, 1.0 s",
    ]
    assert "cpu1: net of cpu1: note: heard" in text
