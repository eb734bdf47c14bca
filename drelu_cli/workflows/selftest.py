"""`drelu doctor --selftest`: the court on nets made on the spot, whose verdicts are known.

Nets of the embedded digits, trained in a folder that is removed afterwards.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from drelu_cli.core.errors import InternalError
from drelu_cli.core.records import MASKED, NO_FAILURE
from drelu_cli.models.checkpoints import read_weights
from drelu_cli.workflows.attack import attack
from drelu_cli.workflows.context import Context
from drelu_cli.workflows.plan import Wanted
from drelu_cli.workflows.subjects import Outside
from drelu_cli.workflows.train import train

SAMPLES = 200
_LOGIT_SCALE = 1e4
_OUTPUT_LAYER = "net.head.output."
_DIGITS: list[tuple[str, Any]] = [("data.name", "digits"), ("model.name", "dense")]
_HONEST = [*_DIGITS, ("activation", "relu"), ("scheme", "madry"), ("train.epochs", 15)]


@dataclass(frozen=True)
class Verdicted:
    """One case.

    Attributes:
        name: what kind of net.
        expected: the word it must get.
        word: the word it got.
        detail: columns and, where something is missing, what.
        ok: whether it came out as it must.
    """

    name: str
    expected: str
    word: str
    detail: str
    ok: bool


def court_selftest(context: Context) -> Iterator[Verdicted]:
    """An honest net, two that hide gradients, and one whose cross entropy is blind.

    Args:
        context: device and progress; its store is not touched.
    """
    with tempfile.TemporaryDirectory(prefix="drelu-selftest-") as folder:
        quiet = replace(context, store=Path(folder) / "runs")
        honest = train(options=_HONEST, context=quiet)
        yield _case("adversarially trained", NO_FAILURE, honest.record.key, quiet)
        capped = train(options=[*_DIGITS, ("penalty.lambda", 1.0)], context=quiet)
        yield _case("D-ReLU, lambda 1", MASKED, capped.record.key, quiet)
        static = train(
            options=[*_DIGITS, ("activation", "srelu"), ("activation.cap", 0.05)], context=quiet
        )
        yield _case("S-ReLU, cap 0.05", MASKED, static.record.key, quiet)
        scaled = _scaled(honest.checkpoint, Path(folder) / "scaled.safetensors")
        yield _case(
            "logits times 1e4",
            NO_FAILURE,
            str(scaled),
            quiet,
            Outside(architecture="dense", dataset="digits"),
            also=_cross_entropy_is_named,
        )


def _case(
    name: str,
    expected: str,
    model: str,
    context: Context,
    outside: Outside | None = None,
    *,
    also: Callable[[dict[str, Any]], str] | None = None,
) -> Verdicted:
    wanted = Wanted("adaptive", (), "linf", None, samples=SAMPLES)
    report = attack([model], wanted=wanted, outside=outside, context=context)
    entry = next(one for one in report.entries if one["threat"]["norm"] == "linf")
    word, columns = entry["verdict"]["word"], entry["columns"]
    shares = ", ".join(
        f"{column} {100 * columns[column]:.1f} %"
        for column in ("claimed", "standard", "adaptive")
        if columns[column] is not None
    )
    lacks = "" if also is None else also(entry)
    detail = "; ".join(part for part in (f"{word}, {shares}", lacks) if part)
    return Verdicted(name, expected, word, detail, ok=word == expected and not lacks)


def _cross_entropy_is_named(entry: dict[str, Any]) -> str:
    """What is missing, where the flags do not say that the loss scale blinds the cross entropy."""
    named = any(
        one["check"] == "loss_scale" and one["flag"] for one in entry["verdict"]["evidence"]
    )
    return "" if named else "the cross entropy's failure by loss scale was not seen"


def _scaled(checkpoint: Path, path: Path) -> Path:
    """A checkpoint whose logits are 1e4 times those of another."""
    state, _ = read_weights(checkpoint)
    layer = [name for name in state if name.startswith(_OUTPUT_LAYER)]
    if not layer:
        raise InternalError(f"{checkpoint} has no output layer {_OUTPUT_LAYER}")
    for name in layer:
        state[name] = state[name] * _LOGIT_SCALE
    from safetensors.torch import save_file

    save_file(state, str(path))
    return path
