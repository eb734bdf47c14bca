"""`drelu recipe show`: a recipe as its file says it, or as it is effective."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import tomli_w

from drelu_cli.core.grid import parse_toml
from drelu_cli.workflows.presets import DEFAULT_PRESET
from drelu_cli.workflows.recipes import members, read_source


@dataclass(frozen=True)
class ShownRecipe:
    """A recipe to be read.

    Attributes:
        name: its name.
        text: TOML.
        recipes: the same as plain data; one mapping per member where effective.
    """

    name: str
    text: str
    recipes: tuple[dict[str, Any], ...]

    @property
    def document(self) -> dict[str, Any]:
        """The JSON document of `drelu recipe show`."""
        return {"recipe": self.name, "recipes": list(self.recipes)}


def show_recipe(
    reference: str, *, preset: str = DEFAULT_PRESET, effective: bool = False
) -> ShownRecipe:
    """The recipe `reference`.

    Args:
        reference: a packaged name or a path.
        preset: fast, paper or tiny; counts where `effective`.
        effective: every member of the grid, every option of every part filled in.

    Raises:
        DreluError: no such recipe, or something in it is wrong.
    """
    source = read_source(reference)
    if not effective:
        return ShownRecipe(source.name, source.text, (parse_toml(source.text, where=source.where),))
    # Binding parts imports them, and with them torch: only where it is asked for.
    from drelu_cli.workflows.effective import effective as filled
    from drelu_cli.workflows.effective import name_of

    found = [filled(recipe) for recipe, _ in members(source, preset=preset)]
    texts = [f"# {name_of(recipe)}\n{tomli_w.dumps(recipe.as_mapping())}" for recipe in found]
    return ShownRecipe(source.name, "\n".join(texts), tuple(r.as_mapping() for r in found))
