"""Links, navigation, names and numbers in the docs agree with the repository."""

from __future__ import annotations

import importlib
import re
import tomllib
from pathlib import Path

import docs_pages
import pytest

import drelu_cli
from drelu_cli.core.recipe import Recipe
from drelu_cli.data import DATASETS
from drelu_cli.data.facts import FACTS
from drelu_cli.workflows.presets import PRESETS, TINY_LIMITS
from drelu_cli.workflows.recipes import recipe_names

TEXTS = {page: page.read_text(encoding="utf-8") for page in docs_pages.PAGES}
LINKS = [
    (page, target)
    for page, text in TEXTS.items()
    for target in re.findall(r"\]\(([^)\s]+)\)", docs_pages._FENCE.sub("", text))
    if "://" not in target
]


def anchors(page: Path) -> set[str]:
    """Heading anchors as mkdocs makes them."""
    text = docs_pages._FENCE.sub("", page.read_text(encoding="utf-8"))
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    plain = [re.sub(r"[^\w\s-]", "", heading).strip().lower() for heading in headings]
    return {re.sub(r"[\s-]+", "-", heading) for heading in plain}


@pytest.mark.parametrize(
    ("page", "target"), LINKS, ids=[f"{page.name} {target}" for page, target in LINKS]
)
def test_every_link_resolves(page, target):
    path, _, anchor = target.partition("#")
    linked = (page.parent / path).resolve() if path else page
    assert linked.is_file(), f"{page.name}: {target}"
    if anchor:
        assert anchor in anchors(linked), f"{page.name}: {target}"


def test_every_page_is_in_the_navigation_once():
    nav = (docs_pages.ROOT / "mkdocs.yml").read_text(encoding="utf-8").partition("\nnav:\n")[2]
    listed = re.findall(r": (\S+\.md)$", nav, re.MULTILINE)
    assert sorted(listed) == sorted(
        page.relative_to(docs_pages.DOCS).as_posix() for page in docs_pages.DOCS.rglob("*.md")
    )


@pytest.mark.parametrize("page", docs_pages.PAGES, ids=lambda page: page.name)
def test_no_path_of_one_machine(page):
    # An absolute path: a slash that no word, dot, colon or bracket precedes, and two names.
    absolute = re.compile(r"(?<![\w.:/~<)\]])/[A-Za-z_][\w.-]*/[\w.-]+|\b[A-Z]:\\|file://")
    assert absolute.findall(TEXTS[page]) == []


def test_a_path_of_one_machine_would_be_found():
    absolute = re.compile(r"(?<![\w.:/~<)\]])/[A-Za-z_][\w.-]*/[\w.-]+|\b[A-Z]:\\|file://")
    assert absolute.search("read from /usr/share/x")
    assert not absolute.search("--eps 8/255, https://a.org/b/c, docs/x.md, and/or/not")


NAMES = sorted(
    {
        (page.name, name)
        for page, text in TEXTS.items()
        for name in re.findall(r"\bdrelu_cli(?:\.\w+)+", docs_pages._FENCE.sub("", text))
    }
)
PYTHON_NAMES = sorted(
    {
        (block.page, f"{module}.{name.strip()}")
        for block in docs_pages.all_blocks("python")
        for module, names in re.findall(r"from (drelu_cli[\w.]*) import ([\w, ]+)", block.text)
        for name in names.split(",")
    }
)


@pytest.mark.parametrize(("page", "name"), [*NAMES, *PYTHON_NAMES])
def test_every_public_name_exists(page, name):
    assert resolved(name) is not None, f"{page}: {name}"


def resolved(name):
    pieces = name.split(".")
    for count in range(len(pieces), 0, -1):
        try:
            found = importlib.import_module(".".join(pieces[:count]))
        except ModuleNotFoundError:
            continue
        for piece in pieces[count:]:
            found = getattr(found, piece)
        return found
    return None


def test_files_of_the_package_exist():
    named = {
        name
        for text in TEXTS.values()
        for name in re.findall(r"`((?:drelu_cli|benchmarks|recipes|tests)/[\w/]+\.\w+)`", text)
    }
    missing = [name for name in named if not (docs_pages.ROOT / name).is_file()]
    assert missing == []


def row(page: str, first: str) -> list[str]:
    """The cells of the table row whose first cell is `first`."""
    for line in (docs_pages.DOCS / page).read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("|") and cells[0].strip("`") == first:
            return cells
    raise AssertionError(f"{page} has no row {first}")


@pytest.mark.parametrize("name", sorted(FACTS))
def test_defaults_per_data_set(name):
    assert name in DATASETS
    facts = FACTS[name]
    _, _, eps, l2, epochs, batch, lambda_, _ = row("concepts.md", name)
    stated = [float(cell) for cell in (eps, l2, epochs, batch, lambda_)]
    assert stated == [facts.eps, facts.l2_bound, facts.epochs, facts.batch, facts.lambda_]


def test_numbers_of_the_presets():
    columns = ("fast", "paper", "tiny")
    caps = row("concepts.md", "caps of `drelu` start at")[1:]
    rates = row("concepts.md", "learning rate of the caps")[1:]
    assert [float(cell) for cell in caps] == [PRESETS[n]["activation"]["cap"] for n in columns]
    assert [float(cell) for cell in rates] == [PRESETS[n]["train"]["cap_lr"] for n in columns]
    epochs = row("concepts.md", "epochs")[2]
    assert int(epochs.replace(",", "")) == PRESETS["paper"]["train"]["epochs"]
    cut = [
        row("concepts.md", name)[3]
        for name in ("training images", "attack steps and queries of a sweep")
    ]
    assert cut[0] == f"at most {TINY_LIMITS['data']['train_samples']}"
    assert cut[1] == f"at most {TINY_LIMITS['attack']['max_steps']}"


def test_recipe_format_is_whole():
    first = next(b for b in docs_pages.all_blocks("toml") if b.page == "recipes.md")
    spelled = tomllib.loads(re.sub(r"^# (\w+ = )", r"\1", first.text, flags=re.MULTILINE))
    for name, info in Recipe.model_fields.items():
        section = spelled[name][0] if name == "phase" else spelled[name]
        fields = info.annotation.__args__[0] if name == "phase" else info.annotation
        known = {field.alias or key for key, field in fields.model_fields.items()}
        assert known <= set(section), name


def test_packaged_recipes_and_version_are_named():
    recipes = (docs_pages.DOCS / "recipes.md").read_text(encoding="utf-8")
    assert all(f"`{name}`" in recipes for name in recipe_names())
    changelog = (docs_pages.ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert "## [Unreleased]" in changelog
    assert drelu_cli.__version__
