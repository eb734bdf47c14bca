"""Recipes resolve from a wheel, an editable install and a checkout; each is really built."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
EXPECTED = sorted(path.stem for path in (ROOT / "recipes").glob("*.toml"))
PRINT = """
import drelu_cli, json
from drelu_cli.workflows.recipes import members, read_source, recipe_names
found = {name: len(list(members(read_source(name), preset="fast"))) for name in recipe_names()}
print(json.dumps([drelu_cli.__file__, sorted(found)]))
"""


def built(kind, folder):
    """The wheel that pip would install, unpacked as pip would unpack it."""
    script = f"from hatchling.build import {kind} as build; print(build({str(folder)!r}))"
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    site = folder / "site"
    zipfile.ZipFile(folder / done.stdout.strip().splitlines()[-1]).extractall(site)
    return site


def resolved(path, cwd, first=""):
    environment = {**os.environ, "PYTHONPATH": str(path)} if path else dict(os.environ)
    done = subprocess.run(
        [sys.executable, "-c", first + PRINT],
        cwd=cwd, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return __import__("json").loads(done.stdout)


def test_from_a_wheel(tmp_path):
    site = built("build_wheel", tmp_path)
    file, names = resolved(site, tmp_path)
    assert Path(file).is_relative_to(site)
    assert names == EXPECTED
    assert (site / "drelu_cli" / "published" / "paper_tables.csv").is_file()
    assert (site / "drelu_cli" / "report" / "comparison.html.j2").is_file()


def test_from_an_editable_install(tmp_path):
    site = built("build_editable", tmp_path)
    (pth,) = site.glob("*.pth")
    assert Path(pth.read_text().strip()) == ROOT
    file, names = resolved(None, tmp_path, f"import site; site.addsitedir({str(site)!r})\n")
    assert Path(file) == ROOT / "drelu_cli" / "__init__.py"
    assert names == EXPECTED


def test_from_a_checkout(tmp_path):
    file, names = resolved(ROOT, tmp_path)
    assert Path(file) == ROOT / "drelu_cli" / "__init__.py"
    assert names == EXPECTED


@pytest.mark.parametrize("name", EXPECTED)
def test_every_recipe_expands_with_every_preset(name):
    from drelu_cli.workflows.effective import effective
    from drelu_cli.workflows.recipes import members, read_source

    counts = {}
    for preset in ("fast", "paper", "tiny"):
        found = [effective(recipe) for recipe, _ in members(read_source(name), preset=preset)]
        counts[preset] = len(found)
        assert found
        keys = [recipe.key(recipe.data.name) for recipe in found]
        assert len(set(keys)) == len(keys)
    assert counts["tiny"] <= counts["fast"]
