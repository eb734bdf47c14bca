"""Recipes as plain mappings: read, merged layer by layer, expanded over a grid."""

from __future__ import annotations

import itertools
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from drelu_cli.core.errors import RecipeError
from drelu_cli.core.quantities import parse_part

# Sections that may be written as a part: activation = "drelu:cap=5".
PARTS = {"model": "name", "activation": "name"}


def spelled_out(mapping: Mapping[str, Any]) -> dict[str, Any]:
    """`activation = "drelu:cap=5"` and `scheme = "trades:beta=6"` as the sections they mean."""
    out = dict(mapping)
    for section, field in PARTS.items():
        if isinstance(out.get(section), str):
            name, options = parse_part(out[section])
            out[section] = {field: name, **options}
    if "scheme" in out:
        name, options = parse_part(str(out.pop("scheme")))
        out["phase"] = [{"scheme": name, **options}]
    return out


def parse_toml(text: str, *, where: str) -> dict[str, Any]:
    """The mapping in a TOML document.

    Raises:
        RecipeError: not TOML; names file, line and column.
    """
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as problem:
        raise RecipeError(f"{where} is not TOML: {problem}") from None


_OF_ANY = ("placement", "normalize")
"""Fields of `[model]` that belong to no architecture in particular."""


def merged(low: Mapping[str, Any], high: Mapping[str, Any]) -> dict[str, Any]:
    """The recipe `high` over the recipe `low`, table by table; lists are replaced whole.

    Parts written as text (`activation = "drelu:cap=5"`) are spelled out on both sides first. A
    part that changes its name drops the options of the part it replaces, and keeps what is said
    of any part.
    """
    out = spelled_out(low)
    for key, value in spelled_out(high).items():
        below = out.get(key)
        if not (isinstance(value, Mapping) and isinstance(below, Mapping)):
            out[key] = value
        elif key in PARTS and value.get("name", below.get("name")) != below.get("name"):
            out[key] = {**{name: below[name] for name in _OF_ANY if name in below}, **value}
        else:
            out[key] = _laid_over(below, value)
    return out


def _laid_over(low: Mapping[str, Any], high: Mapping[str, Any]) -> dict[str, Any]:
    """One table over another; words mean nothing special inside a section."""
    out = dict(low)
    for key, value in high.items():
        both = isinstance(value, Mapping) and isinstance(out.get(key), Mapping)
        out[key] = _laid_over(out[key], value) if both else value
    return out


SECTIONS = ("data", "model", "activation", "penalty", "train", "attack", "report")


def check_tables(mapping: Mapping[str, Any], *, where: str) -> None:
    """Refuses a section that is no table, before layers are merged.

    Raises:
        RecipeError: file, key, expected and got.
    """
    for name in SECTIONS:
        value = mapping.get(name, {})
        if not isinstance(value, Mapping) and not (name in PARTS and isinstance(value, str)):
            raise RecipeError(f"{where}: {name}: expected a table, got {value!r}")
    phases = mapping.get("phase", [])
    if not isinstance(phases, list) or not all(isinstance(one, Mapping) for one in phases):
        raise RecipeError(f"{where}: phase: expected [[phase]] tables, got {phases!r}")


def nested(field: str, value: Any) -> dict[str, Any]:
    """`{"penalty": {"lambda": 1}}` from `penalty.lambda`, 1."""
    first, dot, rest = field.partition(".")
    return {first: nested(rest, value) if dot else value}


def with_field(mapping: Mapping[str, Any], field: str, value: Any) -> dict[str, Any]:
    """`mapping` with one dotted field set; `phase.1.epochs` counts phases from 0.

    Raises:
        RecipeError: a phase that does not exist, or one value for a whole section.
    """
    first, _, rest = field.partition(".")
    if field in SECTIONS and field not in PARTS and not isinstance(value, Mapping):
        raise RecipeError(
            f"{field}: expected a table, got {value!r}", hint=f"its fields are set as {field}.FIELD"
        )
    if first != "phase" or not rest:
        return merged(mapping, nested(field, value))
    number, _, inner = rest.partition(".")
    mapping = spelled_out(mapping)
    phases = [dict(phase) for phase in mapping.get("phase", [{}])]
    if not number.isdigit() or int(number) >= len(phases) or not inner:
        raise RecipeError(
            f"'{field}' names no phase field", hint=f"phase.0.epochs to phase.{len(phases) - 1}..."
        )
    phases[int(number)] = _laid_over(phases[int(number)], nested(inner, value))
    return {**mapping, "phase": phases}


def expanded(
    mapping: Mapping[str, Any], grid: Mapping[str, Sequence[Any]]
) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Every member of the cartesian product: (its mapping, its coordinates).

    An axis is a dotted field with a list of values; where a value is a table, it sets the
    dotted fields it names, and the axis' own name is free.

    Raises:
        RecipeError: an axis that is no list, or an empty one.
    """
    for axis, values in grid.items():
        if not isinstance(values, list | tuple) or not values:
            raise RecipeError(f"grid: '{axis}' must be a list with at least one value")
    for member in itertools.product(*grid.values()):
        out: dict[str, Any] = dict(mapping)
        coordinates: dict[str, Any] = {}
        for axis, value in zip(grid, member, strict=True):
            fields = value if isinstance(value, Mapping) else {axis: value}
            for field, content in fields.items():
                out = with_field(out, field, content)
                coordinates[field] = content
        yield out, coordinates
