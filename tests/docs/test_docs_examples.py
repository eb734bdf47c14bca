"""The code blocks of the docs run: recipes, Python, and third parties' parts."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import docs_pages
import pytest

from drelu_cli.workflows.show import show_recipe

ADDING = ("adding-an-activation.md", "adding-an-attack.md", "adding-a-model-or-dataset.md")
RECIPES = [block for block in docs_pages.all_blocks("toml") if block.page == "recipes.md"]


@pytest.mark.parametrize("block", RECIPES, ids=range(len(RECIPES)))
def test_recipes_are_valid(block, tmp_path):
    file = tmp_path / "shown.toml"
    file.write_text(block.text, encoding="utf-8")
    expected = {0: 1, 1: 12, 2: 5, 3: 234}[RECIPES.index(block)]
    assert len(show_recipe(str(file), preset="paper", effective=True).recipes) == expected


def test_readme_python_runs(tmp_path, monkeypatch, capsys):
    block = next(b for b in docs_pages.all_blocks("python") if b.page == "README.md")
    monkeypatch.chdir(tmp_path)
    exec(compile(block.text, "README.md", "exec"), {"__name__": "readme"})
    printed = capsys.readouterr().out
    assert "digits-dense-d-relu-1-s0 " in printed
    assert "not examined" in printed
    assert (tmp_path / "runs" / "drelu.sqlite").is_file()


def test_distances_behind_the_l2_bound(capsys):
    block = next(b for b in docs_pages.all_blocks("python") if b.page == "concepts.md")
    exec(compile(block.text, "concepts.md", "exec"), {"__name__": "concepts"})
    measured = [
        float(number) for number in re.findall(r"tensor\(([\d.]+)", capsys.readouterr().out)
    ]
    text = (docs_pages.DOCS / "concepts.md").read_text(encoding="utf-8")
    stated = re.search(r"^\| `digits` \(360\) \|(.+)\|$", text, re.MULTILINE)
    assert stated
    assert [float(cell) for cell in stated.group(1).split("|")[:4]] == [
        round(number, 2) for number in measured
    ]


@pytest.fixture
def third_party(tmp_path: Path) -> Path:
    """The files of the three pages, installed as a package with the entry points shown."""
    groups: dict[str, dict[str, str]] = {}
    for page in ADDING:
        for block in docs_pages.blocks(docs_pages.DOCS / page):
            if block.title == "pyproject.toml":
                groups |= tomllib.loads(block.text)["project"]["entry-points"]
            elif block.title:
                (tmp_path / block.title).write_text(block.text, encoding="utf-8")
    info = tmp_path / "shown-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: shown\nVersion: 1\n")
    lines = []
    for group, entries in groups.items():
        lines += [f"[{group}]", *(f"{name} = {target}" for name, target in entries.items())]
    (info / "entry_points.txt").write_text("\n".join(lines) + "\n")
    return tmp_path


def test_third_party_parts_keep_the_contracts(third_party):
    tests = sorted(path.name for path in third_party.glob("test_*.py"))
    assert tests == ["test_extras.py", "test_leaky_caps.py", "test_momentum.py"]
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "error", *tests],
        cwd=third_party,
        env={**os.environ, "PYTHONPATH": str(third_party)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "4 passed" in ran.stdout


def test_third_party_parts_are_listed_and_train(third_party):
    def drelu(*words: str) -> str:
        ran = subprocess.run(
            [sys.executable, "-m", "drelu_cli", *words],
            cwd=third_party,
            env={**os.environ, "PYTHONPATH": str(third_party)},
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert ran.returncode == 0, ran.stderr
        return ran.stdout

    listed = drelu("list")
    for name in ("leaky_cap", "mi_fgsm", "slim", "stripes", "smoothed"):
        assert re.search(rf"\b{name}\b", listed), name
    parts = ("--model", "slim:width=32", "--scheme", "smoothed:smoothing=0.2")
    own = ("--activation", "leaky_caps:leaky_cap:cap=0.5,slope=0.2")
    assert "trained: stripes-slim-" in drelu(
        "train", "--dataset", "stripes", *parts, *own, "--epochs", "1"
    )
