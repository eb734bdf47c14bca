"""docs/results-schema.md names the keys that `--json` prints: all of them, and no others."""

from __future__ import annotations

import io
import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import docs_pages
import pytest
import torch
import typer

from drelu_cli.certify import METHOD, VERSION
from drelu_cli.cli import main
from drelu_cli.cli.app import app
from drelu_cli.core.records import MASKED, Evidence, State
from drelu_cli.runtime.vision import import_torchvision
from drelu_cli.store.connect import open_store
from drelu_cli.workflows.board import Board
from drelu_cli.workflows.context import Context
from drelu_cli.workflows.scratch import driving
from drelu_cli.workflows.verdicts import examination_of

SCHEMA = (docs_pages.DOCS / "results-schema.md").read_text(encoding="utf-8")
TOP = {("drelu",), ("command",), ("schema",)}
# Lists whose items are described elsewhere.
OPAQUE = {"export": ("items[]",), "recipe show": ("recipes[]",)}
ALPHAS = ("0.10", "0.05", "0.01")

NET = """
import torch
from torch import nn


def plain():
    linear = nn.Linear(64, 10)
    with torch.no_grad():
        linear.weight.copy_(torch.linspace(-1, 1, 640).view(10, 64))
        linear.bias.zero_()
    return nn.Sequential(nn.Flatten(), linear)
"""
GAPS = """dataset,model,attack,A,B,C
d,m1,x,60,50,40
d,m2,x,61,62,41
d,m3,x,62,53,44
d,m4,x,63,51,
d,m5,x,66,57,46
"""


def documented(command: str) -> set[tuple[str, ...]]:
    """The keys that the section of a command lists."""
    section = SCHEMA.partition(f"\n## {command}\n")[2].partition("\n## ")[0]
    return {tuple(key.split(".")) for key in re.findall(r"^\| `([^`]+)` \|", section, re.MULTILINE)}


def leaves(value: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Paths to everything that has no keys of its own; an empty list or object is one."""
    if isinstance(value, dict) and value:
        for key, item in value.items():
            yield from leaves(item, (*path, key))
    elif isinstance(value, list):
        place = (*path[:-1], f"{path[-1]}[]")
        yield from ([(place, [])] if not value else [])
        for item in value:
            yield from leaves(item, place)
    else:
        yield path, value


def fits(real: tuple[str, ...], written: tuple[str, ...]) -> bool:
    return len(real) == len(written) and all(
        a == b or b == "NAME" or (b == "ALPHA" and a in ALPHAS)
        for a, b in zip(real, written, strict=True)
    )


def is_documented(real: tuple[str, ...], value: Any, keys: set[tuple[str, ...]]) -> bool:
    if value is True and real[-1].endswith("_is_infinite"):
        real = (*real[:-1], real[-1].removesuffix("_is_infinite"))
    if any(fits(real, key) for key in keys):
        return True
    if value == [] or value == {}:
        return any(len(key) > len(real) and fits(real, key[: len(real)]) for key in keys)
    return value is None and any(fits((*real[:-1], f"{real[-1]}[]"), key) for key in keys)


@pytest.fixture(scope="module")
def printed(tmp_path_factory, small_store):
    """Documents by command, from a store of two nets and from broken input."""
    folder = tmp_path_factory.mktemp("json")
    shutil.copytree(small_store, folder / "runs")
    shutil.copytree(small_store, folder / "damaged")
    sorted((folder / "damaged").glob("models/*/weights.safetensors"))[0].write_bytes(b"")
    shutil.copytree(small_store, folder / "forged")
    forge_certificate(folder / "forged")
    forge_examination(folder / "forged")
    (folder / "own_net.py").write_text(NET)
    (folder / "gaps.csv").write_text(GAPS)
    backbone = import_torchvision().models.mobilenet_v2(weights=None)
    torch.save(backbone.state_dict(), folder / "backbone.pt")
    lines = (
        "train --epochs 1 --seed 5",
        "train --preset tiny --model mobilenet_v2 --set model.pretrained=backbone.pt --store own",
        "attack --suite smoke --samples 20 own_net:plain digits-dense-d-relu-1-s0",
        "attack --attack fgsm --attack pgd:steps=3 --samples 20 own_net:plain --curve 0.05,0.1",
        "attack --suite smoke --samples 20 digits-dense-relu-s0 --save-adversarial points.npz",
        "verify points.npz digits-dense-d-relu-1-s0",
        "attack --suite smoke --samples 20 digits-dense-relu-s0 --certify",
        "attack --suite smoke --samples 20 --store forged",
        "compare --where dataset=digits",
        "compare --store forged",
        "compare --sensitivity",
        "plot --over lambda --out figure.png",
        "stats",
        "stats published:table2",
        "stats gaps.csv --control A",
        "audit published:table2",
        "sweep smoke --preset tiny --store other",
        "sweep smoke --preset tiny --store planned --dry-run --simulate gpu=4",
        "sweep --status --store planned",
        "sweep smoke --preset tiny --store failing --set train.lr=1e20",
        "list",
        "list recipes",
        "list evaluations",
        "export models",
        "gc",
        "doctor",
        "attack --suite smoke --samples 20 --eps 0.07 --store damaged",
        "recipe show smoke",
        "stats published:table12",
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for name in ("DRELU_STORE", "DRELU_DATA_DIR"):
            patch.delenv(name, raising=False)
        found = [run(line, patch) for line in lines]
        with driving(folder / "watched"):
            watched(folder / "watched")
            return [*found, run("sweep --status --store watched", patch)]


def watched(store: Path) -> None:
    """What a sweep with workers keeps for `--status`."""
    board = Board("smoke", Context(store), 2)
    board.begin("training", {"a": "net"})
    board.event("a", "cpu0", "started", {"tries": 1})
    board.begin("training", {"a": "net"})


def forge_certificate(folder: Path) -> None:
    """Certifies a sample that a stored attack broke."""
    with open_store(folder) as store:
        stored = next(one for one in store.evaluations() if one.evaluation.norm == "linf")
        of = stored.evaluation
        sample = next(o.sample for o in store.outcomes(stored.key) if o.state is State.BROKEN)
        keys = (of.model_key, of.weights_digest, of.dataset_digest)
        store.add_certificate(*keys, of.eps, METHOD, [sample], [True], 1.0, version=VERSION)


def forge_examination(folder: Path) -> None:
    """A verdict with everything that one can have."""
    with open_store(folder) as store:
        of = store.evaluations()[0].evaluation
        rows = (store.sample_order(of.dataset_digest) or ())[:20]
        empty = examination_of(store.find_model(of.model_key), of.threat, 0, rows, MASKED)
        flag = Evidence("c", "p", 0.5, 0.1, flag=True, mechanism=True, attacks=("pgd",))
        remedy = {"attack": "pgd", "params": {"backward": "relu"}, "round": 1, "broken": 1}
        found = replace(
            empty,
            complete=True,
            evidence=(flag,),
            remedy=({**remedy, "robust_accuracy": 0.0},),
            control={"broken": 0, "p": 1e-3, "remedy_broken": 1},
            notes=("a note",),
        )
        store.add_examination(found)


def run(line: str, patch: pytest.MonkeyPatch) -> tuple[str, dict[str, Any]]:
    out = io.StringIO()
    patch.setattr("sys.stdout", out)
    with pytest.raises(SystemExit):
        main([*line.split(), "--json"])
    return line, json.loads(out.getvalue())


COMMANDS = re.findall(r"^## drelu (.+)$", SCHEMA, re.MULTILINE)


def test_every_command_has_a_section():
    names = {"recipe show" if n == "recipe" else n for n in typer.main.get_command(app).commands}
    assert set(COMMANDS) == names


@pytest.mark.parametrize("command", COMMANDS)
def test_keys_are_the_printed_ones(command, printed):
    keys = documented(f"drelu {command}")
    assert keys
    seen = []
    for line, document in printed:
        if document.get("command") != command:
            continue
        for real, value in leaves(document):
            opaque = OPAQUE.get(command)
            real = opaque if opaque is not None and real[: len(opaque)] == opaque else real
            if real not in TOP:
                assert is_documented(real, value, keys), (
                    f"{line}: {'.'.join(real)} is not documented"
                )
                seen.append(real)
    missing = [".".join(key) for key in sorted(keys) if not any(fits(real, key) for real in seen)]
    assert missing == []


def test_every_document_starts_alike(printed):
    tops = [list(document)[:3] for _, document in printed if "error" not in document]
    assert tops == [["drelu", "command", "schema"]] * (len(printed) - 1)


def test_errors(printed):
    (document,) = [document for _, document in printed if "error" in document]
    real = {path for path, _ in leaves(document)}
    assert real == documented("Errors")
    kind = document["error"]["type"]
    assert f"`{kind}`" in SCHEMA


def test_a_missing_key_would_be_found():
    keys = documented("drelu gc")
    assert not is_documented(("unknown",), 1, keys)
    assert is_documented(("freed",), 1, keys)
