"""`drelu stats` as a user types it."""

from __future__ import annotations

import subprocess
import sys

import pytest


def test_the_readme_tour(drelu):
    ran = drelu("stats", "published:table2")
    assert ran.code == 0
    assert "Nemenyi CD 0.6972 / 0.7817 / 0.9473 at alpha .10 / .05 / .01." in ran.out
    for figure in ("17.3973", "39.4333", "20.1288"):
        assert figure in ran.out
    assert ran.err == ""


def test_json_is_one_document_and_the_human_text_goes_to_stderr(drelu):
    ran = drelu("stats", "published:table1", "--json", "--alpha", "0.01", "--control", "AT")
    document = ran.document
    assert (document["command"], document["schema"], document["alpha"]) == ("stats", 1, 0.01)
    assert document["bonferroni_dunn"]["control"] == "AT"
    assert document["underpowered"] is False
    assert "Conclusion" in ran.err


def test_every_option_reaches_the_tests(drelu, tmp_path):
    ran = drelu(
        "stats", "published:table5", "--where", "dataset=CIFAR100", "--blocks", "network",
        "--over", "worst", "--columns", "attacks", "--rope", "2", "--seed", "3",
        "--plot", "cd.png", "--out", "r.md", "--json",
    )  # fmt: skip
    document = ran.document
    assert document["blocks"]["unit"] == "network"
    assert document["blocks"]["n"] == 6
    assert document["bayes"]["rope"] == 2
    assert (tmp_path / "cd.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "r.md").read_text().startswith("## What was compared")
    assert "written: cd.png" in ran.err


@pytest.mark.parametrize("width", [60, 80, 100, 200])
def test_no_number_is_cut_short_on_a_narrow_terminal(drelu, monkeypatch, width):
    from rich.console import Console

    from drelu_cli.cli.console import Output

    narrow = property(lambda self: Console(file=sys.stdout, width=width, highlight=False))
    monkeypatch.setattr(Output, "people", narrow)
    ran = drelu("stats", "published:table2")
    words = ran.out.split()
    for figure in ("17.3973", "39.4333", "20.1288", "0.6972", "0.7817", "0.9473", "-1.0278"):
        assert any(figure in word for word in words)
    assert max(len(line) for line in ran.out.splitlines()) <= width


@pytest.mark.parametrize(
    ("words", "texts"),
    [
        (["published:tabel2"], ["unknown published table", "did you mean published:table2"]),
        (["published:all"], ["nine tables", "published:table1"]),
        (["nothing.csv"], ["there is no file nothing.csv", "published:table1"]),
        ([], ["there is no store in runs", "drelu train"]),
        (["published:table2", "--blocks", "nets"], ["--blocks 'nets'", "cell, network, auto"]),
        (["published:table2", "--over", "best", "--blocks", "network"], ["mean, worst"]),
        (["published:table2", "--columns", "pdg"], ["unknown column 'pdg'", "did you mean pgd"]),
        (["published:table2", "--alpha", "5"], ["--alpha 5 is outside"]),
        (["published:table2", "--control", "DReLU"], ["unknown control", "D-ReLU"]),
        (["published:table2", "--ranks", "mine"], ["recomputed, printed"]),
        (["published:table2", "--where", "dataset"], ["not column=value"]),
        (["published:table2", "--where", "dataset=CIFAR"], ["unknown value of dataset"]),
        (["published:table2", "--plot", "x.gif"], ["the plot x.gif", ".svg"]),
        (["published:table2", "--out", "x.doc"], ["the report x.doc", ".md"]),
        (["published:table2", "--suite", "whitebox"], ["--suite", "--columns"]),
    ],
)
def test_mistakes_get_two_lines_and_exit_code_2(drelu, words, texts):
    ran = drelu("stats", *words)
    assert ran.code == 2
    assert ran.out == ""
    assert len(ran.err.strip().splitlines()) <= 2
    for text in texts:
        assert text in ran.err


def test_the_command_imports_no_torch_and_no_plots():
    code = (
        "import sys\nfrom drelu_cli.cli import main\n"
        "try:\n    main(sys.argv[1:])\nexcept SystemExit as end:\n    assert not end.code\n"
        "print([m for m in ('torch', 'matplotlib', 'scipy.stats') if m in sys.modules])"
    )
    for words in (["stats", "published:table2"], ["audit"]):
        done = subprocess.run(
            [sys.executable, "-c", code, *words], capture_output=True, text=True, check=True
        )
        assert done.stdout.splitlines()[-1] == "[]"
