"""How a workflow's progress looks: one live line on a terminal, plain lines when piped."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.status import Status

from drelu_cli.cli.console import Output

# Piped, a line for every epoch of a 2,000-epoch training would bury the rest.
_PLAIN_EVERY = 5


class Progress:
    """Renders the events of workflows on stderr.

    Used as a context manager, and as the workflow's `progress` callable.
    """

    def __init__(self, output: Output) -> None:
        self._output = output
        self._live = output.stderr.is_terminal
        self._status: Status | None = None
        self._slots: dict[str, str] = {}

    def __enter__(self) -> Progress:
        if self._live:
            self._status = self._output.stderr.status("starting")
            self._status.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._status is not None:
            self._status.stop()

    def __call__(self, kind: str, fields: Mapping[str, Any]) -> None:
        """Shows one event."""
        if kind == "slot":
            self._slot(fields)
            return
        shown = _SENTENCES.get(kind, _unknown)(fields)
        if kind in _PASSING:
            self._passing(shown, plain=_plain_due(kind, fields))
        else:
            self._output.note(shown)

    def _slot(self, fields: Mapping[str, Any]) -> None:
        """Shows what a worker does: a line for every slot on a terminal."""
        where = f"{fields['slot']}: {fields['job']}"
        inner = fields.get("kind")
        if inner is None:
            shown, passing, plain = f"{where}: {fields['state']}", True, True
        else:
            event = fields["fields"]
            shown = f"{where}: {_SENTENCES.get(inner, _unknown)(event).strip()}"
            passing, plain = inner in _PASSING, _plain_due(inner, event)
        if not passing:
            self._output.note(shown)
            return
        self._slots[fields["slot"]] = shown
        self._passing("\n".join(self.lines), plain=False)
        if self._status is None and plain:
            self._output.note(shown)

    @property
    def lines(self) -> list[str]:
        """What the workers do at this moment, one line each."""
        return list(self._slots.values())

    def _passing(self, text: str, *, plain: bool) -> None:
        if self._status is not None:
            # A status line is markup: brackets in names must stay brackets.
            self._status.update(text.replace("[", "\\["))
        elif plain:
            self._output.note(text)


def _plain_due(kind: str, fields: Mapping[str, Any]) -> bool:
    if kind not in ("epoch", "stack"):
        return bool(fields.get("done", 0))  # the attack's own line tells the rest
    done, of = fields.get("done", 0), fields.get("of", 0)
    return bool(done == 1 or done == of or done % _PLAIN_EVERY == 0)


def _train(fields: Mapping[str, Any]) -> str:
    return f"training {fields['name']}, at most {fields['epochs']} epochs"


def _epoch(fields: Mapping[str, Any]) -> str:
    words = [f"  epoch {fields['done']}/{fields['of']} ({fields['phase']})"]
    words.append(f"train {100 * fields['accuracy']:.1f} %")
    if "validation_accuracy" in fields:
        words.append(f"validation {100 * fields['validation_accuracy']:.1f} %")
        words.append(f"loss {fields['validation_loss']:.4g}")
    if "cap_mean" in fields:
        words.append(f"mean cap {fields['cap_mean']:.3g}")
    words.append(f"{fields['seconds']:.1f} s")
    return ", ".join(words)


def _stack(fields: Mapping[str, Any]) -> str:
    ended = f"{fields['ended']} of {fields['of']} trained"
    return f"  {fields['nets']} nets at once: an epoch in {fields['seconds']:.1f} s, {ended}"


def _attacking(fields: Mapping[str, Any]) -> str:
    where = f"[{fields['number']}/{fields['of']}] {fields['model']}"
    count = f"{fields['done']} of {fields['samples']} samples done"
    return f"{where}: {fields['attack']} at eps {fields['eps']:g}, {count}"


def _attack(fields: Mapping[str, Any]) -> str:
    where = f"[{fields['number']}/{fields['of']}] {fields['model']}"
    found = fields["robust_accuracy"]
    if found is None:
        share = f"broke {fields['broken']} of the {fields['samples_run']} that were left"
    else:
        share = f"{100 * found:.2f} % robust"
    again = ", found in the store" if fields["reused"] else ""
    threat = f"{fields['norm']} eps {fields['eps']:g}"
    return f"{where}: {fields['attack']} ({threat}): {share}{again}"


def _evidence(fields: Mapping[str, Any]) -> str:
    where = f"[{fields['number']}/{fields['of']}] {fields['model']}"
    return f"{where}: evidence {fields['check']} at eps {fields['eps']:g}"


def _remedy(fields: Mapping[str, Any]) -> str:
    where = f"[{fields['number']}/{fields['of']}] {fields['model']}"
    options = ",".join(f"{name}={value}" for name, value in fields["params"].items())
    attack = f"{fields['attack']}:{options}" if options else fields["attack"]
    left = f"{100 * fields['robust_accuracy']:.2f} % left"
    return f"{where}: remedy {attack}: broke {fields['broken']}, {left}"


def _job(fields: Mapping[str, Any]) -> str:
    return f"[{fields['number']}/{fields['of']}] {fields['job']}: {fields['state']}"


def _note(fields: Mapping[str, Any]) -> str:
    return f"note: {fields['text']}"


def _unknown(fields: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} {value}" for key, value in fields.items())


_PASSING = ("epoch", "stack", "attacking", "evidence")
_SENTENCES = {
    "train": _train,
    "epoch": _epoch,
    "stack": _stack,
    "attacking": _attacking,
    "attack": _attack,
    "evidence": _evidence,
    "remedy": _remedy,
    "job": _job,
    "note": _note,
}
