"""From a recipe's name, a preset and options to effective recipes."""

from __future__ import annotations

import importlib.resources
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

import drelu_cli
from drelu_cli.core.errors import RecipeError, UnknownName
from drelu_cli.core.grid import (
    check_tables,
    expanded,
    merged,
    parse_toml,
    spelled_out,
    with_field,
)
from drelu_cli.core.recipe import Recipe
from drelu_cli.workflows.presets import (
    TINY_SINGLE_AXES,
    check_preset,
    cut_to_tiny,
    defaults_for,
)

# Dotted fields and values, e.g. ("penalty.lambda", 0.1); `scheme` replaces the phases.
Options = Sequence[tuple[str, Any]]


@dataclass(frozen=True)
class Source:
    """A recipe file, read but not yet merged.

    Attributes:
        name: file name without its ending, or `options` where no file was given.
        where: how to name it in errors.
        mapping: the file without `[grid]` and `[presets]`.
        grid: axes of the cartesian product.
        presets: what the recipe itself changes per preset.
    """

    name: str
    where: str
    text: str
    mapping: Mapping[str, Any]
    grid: Mapping[str, Any]
    presets: Mapping[str, Mapping[str, Any]]


def recipe_folder() -> Traversable:
    """The packaged recipes: inside an installed wheel, or the top folder of a checkout."""
    inside = importlib.resources.files("drelu_cli") / "recipes"
    if inside.is_dir():
        return inside
    return Path(drelu_cli.__file__).resolve().parents[1] / "recipes"


def recipe_names() -> list[str]:
    """Names of the packaged recipes."""
    return sorted(
        entry.name.removesuffix(".toml")
        for entry in recipe_folder().iterdir()
        if entry.name.endswith(".toml")
    )


def read_source(reference: str | None, *, above: tuple[str, ...] = ()) -> Source:
    """The recipe called `reference`: a packaged name, or a path to a TOML file.

    A recipe that `extends` another one stands above it, table by table and axis by axis.

    Args:
        reference: None is the empty recipe.
        above: the recipes that extend this one, outermost first.

    Raises:
        UnknownName: neither a name nor a file.
        RecipeError: not TOML, or a table where none may be.
    """
    if reference is None:
        return Source("options", "options", "", {}, {}, {})
    where, text = _text(reference)
    mapping = parse_toml(text, where=where)
    below = _extended(mapping.pop("extends", None), reference, where, above)
    grid, presets = mapping.pop("grid", {}), mapping.pop("presets", {})
    for name, table in (("grid", grid), ("presets", presets)):
        if not isinstance(table, dict):
            raise RecipeError(f"{where}: {name}: expected a table, got {table!r}")
    check_tables(mapping, where=where)
    for preset, table in presets.items():
        check_preset(preset)
        if not isinstance(table, dict):
            raise RecipeError(f"{where}: presets.{preset}: expected a table, got {table!r}")
        check_tables(table, where=f"{where}: presets.{preset}")
    return _over(below, Source(Path(reference).stem, where, text, mapping, grid, presets))


def _extended(name: Any, reference: str, where: str, above: tuple[str, ...]) -> Source:
    """The recipe that `extends` names; an empty one where there is none."""
    if name is None:
        return Source("", "", "", {}, {}, {})
    if not isinstance(name, str):
        raise RecipeError(f"{where}: extends: expected a recipe's name or path, got {name!r}")
    named = Path(name)
    if _is_path(named) and not named.is_absolute():
        name = str(Path(reference).parent / named)  # beside the recipe that says it
    if name in (*above, reference):
        raise RecipeError(f"{where}: extends: {' -> '.join((*above, reference, name))} is a circle")
    return read_source(name, above=(*above, reference))


def _is_path(reference: Path) -> bool:
    return reference.suffix == ".toml" or len(reference.parts) > 1


def _over(below: Source, source: Source) -> Source:
    """`source` over the recipe it extends: tables merged, axes and lists replaced whole."""
    presets = {
        name: _preset_over(below.presets.get(name, {}), source.presets.get(name, {}))
        for name in (*below.presets, *source.presets)
    }
    # A field that the upper recipe sets stands above an axis of the lower one.
    axes = {axis: values for axis, values in below.grid.items() if not _sets(source.mapping, axis)}
    return replace(
        source,
        mapping=merged(below.mapping, source.mapping),
        grid={**axes, **source.grid},
        presets=presets,
    )


def _sets(mapping: Mapping[str, Any], field: str) -> bool:
    """Whether a recipe sets the dotted field itself."""
    if field in mapping:
        return True
    at: Any = spelled_out(mapping)
    for piece in field.split("."):
        if not isinstance(at, Mapping) or piece not in at:
            return False
        at = at[piece]
    return True


def _preset_over(low: Mapping[str, Any], high: Mapping[str, Any]) -> Mapping[str, Any]:
    axes = {**low.get("grid", {}), **high.get("grid", {})}
    out = merged({**low, "grid": {}}, {**high, "grid": {}})
    return {**out, "grid": axes}


def _text(reference: str) -> tuple[str, str]:
    path = Path(reference)
    if _is_path(path):
        if not path.is_file():
            raise UnknownName(
                f"there is no recipe file '{reference}'",
                hint=f"packaged recipes: {', '.join(recipe_names())}",
            )
        try:
            return str(path), path.read_text(encoding="utf-8")
        except UnicodeDecodeError as problem:
            raise RecipeError(f"{path} is not a text file in UTF-8: {problem.reason}") from None
    packaged = recipe_folder() / f"{reference}.toml"
    if not packaged.is_file():
        raise UnknownName.among("recipe", reference, recipe_names())
    return f"recipe {reference}", packaged.read_text(encoding="utf-8")


def members(
    source: Source, *, preset: str, options: Options = ()
) -> Iterator[tuple[Recipe, dict[str, Any]]]:
    """Every recipe of the grid with its coordinates; one where there is no grid.

    Options stand above the grid: an axis that an option names shrinks to the option's value, or
    to the values of its list.

    Raises:
        RecipeError: unknown key, wrong type, empty axis.
    """
    check_preset(preset)
    mine = dict(source.presets.get(preset, {}))
    grid = {**source.grid, **mine.pop("grid", {})}
    given = {field for field, _ in options}
    grid, options = _narrowed(grid, options)
    if preset == "tiny":
        grid = {
            k: v[:1] if k in TINY_SINGLE_AXES and k not in given and isinstance(v, list) else v
            for k, v in grid.items()
        }
    seen = set()
    for member, coordinates in expanded(merged(source.mapping, mine), grid):
        recipe = _finished(member, source.where, preset, options)
        fingerprint = str(recipe.as_mapping())
        if fingerprint not in seen:
            seen.add(fingerprint)
            yield recipe, coordinates


def _narrowed(grid: Mapping[str, Any], options: Options) -> tuple[dict[str, Any], Options]:
    """The grid with the axes that options choose from, and the options that are left."""
    axes, others = dict(grid), []
    for field, value in options:
        chosen = value if isinstance(value, list) else [value]
        if field in axes:
            axes[field] = [_member(axes[field], field, one) for one in chosen]
            continue
        found = _chosen(axes, field, chosen) or _among(axes, field, value)
        if found:
            axes.update(found)
        else:
            others.append((field, value))
    return axes, others


def _chosen(axes: Mapping[str, Any], field: str, wanted: list[Any]) -> dict[str, Any]:
    """Axes of tables which all set `field`, with the tables that set it to a wanted value."""
    found = {}
    for name, values in axes.items():
        tables = isinstance(values, list) and all(
            isinstance(one, Mapping) and field in one for one in values
        )
        kept = [one for one in values if one[field] in wanted] if tables else []
        if not kept:
            continue
        there = [one[field] for one in values]
        lacking = [str(one) for one in wanted if one not in there]
        if lacking:
            raise RecipeError(
                f"{field}: {', '.join(lacking)} is not on the axis {name}",
                hint=f"it has {', '.join(dict.fromkeys(map(str, there)))}",
            )
        found[name] = kept
    return found


def _among(axes: Mapping[str, Any], field: str, wanted: Any) -> dict[str, Any]:
    """Of tables some of which set `field`, those with a value of a list, and those without it.

    So `penalty.lambda = [0.1, 1]` leaves the baselines, which have no lambda.
    """
    found = {}
    for name, values in axes.items():
        if not isinstance(wanted, list) or not isinstance(values, list):
            continue
        there = [one[field] for one in values if isinstance(one, Mapping) and field in one]
        if there and all(one in there for one in wanted):
            found[name] = [
                one for one in values
                if not isinstance(one, Mapping) or one.get(field, wanted[0]) in wanted
            ]  # fmt: skip
    return found


def _member(values: Any, field: str, wanted: Any) -> Any:
    """The axis' own entry for a value: it may set other fields, too."""
    entries = values if isinstance(values, list) else []
    tables = (one for one in entries if isinstance(one, Mapping) and one.get(field) == wanted)
    return next(tables, wanted)


def _finished(member: Mapping[str, Any], where: str, preset: str, options: Options) -> Recipe:
    chosen = spelled_out(member)
    for field, value in options:
        chosen = with_field(chosen, field, value)
    if preset == "tiny":
        chosen = cut_to_tiny(chosen, given={field for field, _ in options})
    data = chosen.get("data", {})
    dataset = data.get("name", "digits") if isinstance(data, Mapping) else "digits"
    low = defaults_for(str(dataset), preset)
    return Recipe.from_mapping(merged(low, chosen), where=where)
