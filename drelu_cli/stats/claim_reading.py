"""Claims from a parsed TOML document, checked key by key."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from drelu_cli.core.errors import BadValue, UnknownName
from drelu_cli.stats.claims import STATISTICS, WITH_ALPHA, Claim


def read_claims(document: Mapping[str, Any], treatments: tuple[str, ...]) -> list[Claim]:
    """Claims from a parsed TOML document with `[[claim]]` tables, checked.

    Raises:
        BadValue: a missing or superfluous key, `printed` that is no number in quotes.
        UnknownName: a statistic or treatment that does not exist.
    """
    known = set(Claim.__dataclass_fields__)
    claims = []
    for number, entry in enumerate(document.get("claim", []), start=1):
        where = f"claim {number}"
        for key in entry:
            if key not in known:
                raise UnknownName.among(f"key of {where}", key, known)
        for key in ("name", "statistic", "printed"):
            if key not in entry:
                raise BadValue(f"{where} has no '{key}'", hint='name, statistic and printed = "…"')
        claims.append(_checked(entry, where, treatments))
    if not claims:
        raise BadValue("no claim is given", hint="each claim is a [[claim]] table")
    return claims


def _checked(entry: Mapping[str, Any], where: str, treatments: tuple[str, ...]) -> Claim:
    statistic, printed = str(entry["statistic"]), entry["printed"]
    if statistic not in STATISTICS:
        raise UnknownName.among(f"statistic of {where}", statistic, STATISTICS)
    if not isinstance(printed, str) or not _is_number(printed):
        raise BadValue(
            f"{where}: printed = {printed!r} is not a number in quotes",
            hint='printed = "17.40": the quotes keep its decimals',
        )
    alpha = entry.get("alpha")
    if alpha is not None and not 0 < alpha < 1:
        raise BadValue(f"{where}: alpha {alpha} is outside (0, 1)", hint="alpha = 0.05")
    if alpha is None and statistic in WITH_ALPHA:
        raise BadValue(f"{where}: {statistic} needs an alpha", hint="alpha = 0.05")
    pair = _checked_pair(entry.get("treatments"), statistic, where, treatments)
    return Claim(**{**entry, "treatments": pair})


def _checked_pair(
    pair: Any, statistic: str, where: str, treatments: tuple[str, ...]
) -> tuple[str, str] | None:
    if statistic != "rank_difference" and pair is None:
        return None
    if statistic != "rank_difference" or not isinstance(pair, list) or len(pair) != 2:
        raise BadValue(
            f"{where}: a rank_difference, and nothing else, has two treatments",
            hint='treatments = ["AT", "D-ReLU"]',
        )
    for name in pair:
        if name not in treatments:
            raise UnknownName.among(f"treatment of {where}", str(name), treatments)
    return str(pair[0]), str(pair[1])


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text)) and "e" not in text.lower()
    except ValueError:
        return False
