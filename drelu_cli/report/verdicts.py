"""The court's findings as one readable paragraph."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from drelu_cli.core.errors import UnknownName
from drelu_cli.core.quantities import part_text
from drelu_cli.core.records import COLUMNS, NO_FAILURE, NOT_EXAMINED, VERDICTS
from drelu_cli.report.layout import attack_name, threat_text

_SHOWN = 3  # evidence named in the paragraph; the JSON document has all


def verdict_lines(entry: Mapping[str, Any]) -> list[str]:
    """Columns, then the word with what speaks for it, in a few sentences.

    Args:
        entry: of the JSON document of `drelu attack`.
    """
    verdict = entry["verdict"]
    word = verdict["word"]
    lines = [_columns(entry)] if word != NOT_EXAMINED else []
    sentence = [f"verdict: {word}{_why_not(verdict)}"]
    sentence += _mechanisms(verdict["evidence"], _strongest(entry))
    sentence += _remedy(entry)
    sentence += [f"{note}." for note in verdict["notes"]]
    return [*lines, " ".join(sentence)]


def fatal_words(given: Sequence[str]) -> tuple[str, ...]:
    """The verdicts named after `--fail-on`, as they are stored.

    Raises:
        UnknownName: no verdict that can fail a run has this name.
    """
    known = {word.replace(" ", "-"): word for word in VERDICTS if word != NO_FAILURE}
    for word in given:
        if word not in known:
            raise UnknownName.among("verdict to fail on", word, known)
    return tuple(known[word] for word in given)


def verdicts_among(entries: Sequence[Mapping[str, Any]], words: Sequence[str]) -> list[str]:
    """A line for every entry whose verdict is one of `words`."""
    return [
        f"failed: {entry['name']}, {threat_text(**entry['threat'])}: {entry['verdict']['word']}"
        for entry in entries
        if entry["verdict"]["word"] in words and not _apart(entry, entries)
    ]


def _apart(entry: Mapping[str, Any], entries: Sequence[Mapping[str, Any]]) -> bool:
    """An L2 entry beside Linf ones is a minimal-norm attack's own threat: no court sits on it."""
    return entry["threat"]["norm"] == "l2" and any(
        other["threat"]["norm"] == "linf" and other["model"] == entry["model"] for other in entries
    )


def _why_not(verdict: Mapping[str, Any]) -> str:
    if verdict["word"] != NOT_EXAMINED or verdict["notes"]:
        return "."
    return " (the adaptive suite has not run)."


def _columns(entry: Mapping[str, Any]) -> str:
    shown = [
        f"{name} {_percent(entry['columns'][name])}"
        for name in COLUMNS
        if entry["columns"].get(name) is not None
    ]
    return f"robust accuracy in %: {', '.join(shown)}"


def _strongest(entry: Mapping[str, Any]) -> str | None:
    """The attack of the entry whose own robust accuracy is lowest, the last of equal ones."""
    own = [one for one in entry["attacks"] if one["robust_accuracy"] is not None]
    if not own:
        return None
    least = min(one["robust_accuracy"] for one in own)
    return str([one for one in own if one["robust_accuracy"] == least][-1]["attack"])


def _mechanisms(evidence: Sequence[Mapping[str, Any]], strongest: str | None) -> list[str]:
    """The mechanism flags: those on the strongest attack first, the largest of each check."""
    flagged = [one for one in evidence if one["flag"] and one["mechanism"]]
    flagged.sort(key=lambda one: strongest not in one["attacks"])
    by_check: dict[str, Mapping[str, Any]] = {}
    for one in flagged:
        best = by_check.get(one["check"])
        if best is None or one["value"] > best["value"]:
            by_check[one["check"]] = one
    chosen = list(by_check.values())[:_SHOWN]
    if not chosen:
        return []
    more = len(flagged) - len(chosen)
    tail = f" ({more} more flags of this kind)" if more else ""
    return [f"Hidden gradients: {'; '.join(one['detail'] for one in chosen)}{tail}."]


def _remedy(entry: Mapping[str, Any]) -> list[str]:
    """What the remedy broke, by which attack, and what the control broke with as many passes."""
    verdict, count = entry["verdict"], entry["samples"]
    remedies = verdict["remedy"]
    if not remedies and verdict["word"] != NOT_EXAMINED:
        return ["Nothing was left standing for a remedy."]
    if not remedies:
        return []
    broken = sum(one["broken"] for one in remedies)
    left = remedies[-1]["robust_accuracy"]
    standing = round(left * count) + broken
    most = max(remedies, key=lambda one: one["broken"])
    if not broken:
        return [f"The remedy breaks none of the {standing} samples left standing."]
    text = (
        f"The remedy breaks {broken} of the {standing} samples left standing, "
        f"{most['broken']} of them by {remedy_name(most)}: robust accuracy is at most "
        f"{_percent(left)} %."
    )
    if verdict["word"] == NOT_EXAMINED:
        return [text, "--suite adaptive examines it."]
    control = verdict["control"]
    if control is None:
        return [text]
    return [
        text,
        f"The control, as many passes of plain gradients with restarts, breaks "
        f"{control['broken']} (exact McNemar p = {control['p']:.2g}).",
    ]


def remedy_name(remedy: Mapping[str, Any]) -> str:
    """`APGD-margin:backward=relu`: the attack with what differs from its defaults."""
    return attack_name(part_text(remedy["attack"], remedy["params"]))


def _percent(fraction: float) -> str:
    return f"{100 * fraction:.2f}"
