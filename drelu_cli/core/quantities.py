"""Numbers and part descriptions as people type them: `8/255`, `0.1,0.2`, `pgd:steps=100`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from drelu_cli.core.errors import BadValue


def parse_fraction(text: str, *, what: str = "value") -> float:
    """A finite number from `0.1`, `1e-3` or `8/255`.

    Raises:
        BadValue: not a number, not finite, or a division by zero.
    """
    top, slash, bottom = text.strip().partition("/")
    try:
        value = float(top) / float(bottom) if slash else float(top)
    except ValueError:
        raise BadValue(
            f"{what} '{text}' is not a number", hint="write 0.1, 1e-3 or 8/255"
        ) from None
    except ZeroDivisionError:
        raise BadValue(f"{what} '{text}' divides by zero", hint="write 0.1 or 8/255") from None
    if not math.isfinite(value):
        raise BadValue(f"{what} '{text}' is not finite", hint="write 0.1, 1e-3 or 8/255")
    return value


def parse_eps_list(text: str, *, option: str = "--eps") -> tuple[float, ...]:
    """Radii from `0.1`, `8/255` or `0.1,0.2,0.3`: finite, >= 0, in the order given.

    Args:
        text: as typed.
        option: named in the hint of an error.

    Raises:
        BadValue: empty, negative or not a number.
    """
    parts = text.split(",")
    if not all(part.strip() for part in parts):
        raise BadValue(
            f"eps '{text}' has an empty entry",
            hint=f"write {option} 0.1, {option} 8/255 or {option} 0.1,0.2",
        )
    values = tuple(parse_fraction(part, what="eps") for part in parts)
    for value in values:
        if value < 0:
            raise BadValue(f"eps {value:g} is negative", hint="a radius is 0 or more")
    # 0.0 and -0.0 are one radius; they would make two keys.
    return tuple(value + 0.0 for value in values)


def parse_part(text: str) -> tuple[str, dict[str, str]]:
    """A part and its options from `pgd:steps=100,restarts=5`; the values stay text.

    A name may itself be `package.module:attribute`; its options follow a second colon.

    Raises:
        BadValue: an option without `=`, or one given twice.
    """
    name, colon, rest = text.strip().partition(":")
    attribute, _, after = rest.partition(":")
    if colon and attribute.isidentifier():
        name, rest = f"{name}:{attribute}", after
    if not name or name.startswith(":"):
        raise BadValue(f"'{text}' names nothing", hint="write name or name:option=value")
    options: dict[str, str] = {}
    for item in (piece for piece in rest.split(",") if piece.strip()):
        key, equals, value = item.partition("=")
        if not equals or not key.strip():
            raise BadValue(f"'{item}' in '{text}' is not option=value", hint="pgd:steps=100")
        if key.strip() in options:
            raise BadValue(f"option '{key.strip()}' is given twice in '{text}'")
        options[key.strip()] = value.strip()
    return name, options


def part_text(name: str, given: Mapping[str, Any]) -> str:
    """`pgd:steps=100`: as people type it; options that are at their defaults are not `given`."""
    options = ",".join(
        f"{option}={str(value).lower() if isinstance(value, bool) else value}"
        for option, value in given.items()
    )
    return f"{name}:{options}" if options else name
