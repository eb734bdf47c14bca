"""How fast the attacks are beside torchattacks, pyautoattack and foolbox; writes the docs' table.

    python benchmarks/speed.py --write --data-dir DATA
    python benchmarks/speed.py --rows pgd,apgd_ce --nets "dense AT" --rounds 3 --samples 200

Rows are kept in `results-DEVICE.jsonl` in the work folder as they are measured: an interrupted
run goes on, and a row is measured again when the package's code has changed. `--write` puts the
table into docs/benchmarks.md.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from page import PAGE, machine, versions, write_section
from speed_contenders import LIBRARIES, installed
from speed_measure import measured
from speed_nets import NETS, network
from speed_page import section
from speed_rows import ROWS, Row
from speed_scaling import EXTRAS

import drelu_cli
from drelu_cli.core.errors import DreluError
from drelu_cli.core.records import ThreatModel
from drelu_cli.runtime.devices import pick_device


def code_digest() -> str:
    """What the measured code is: attacks and the driver they run on."""
    root = Path(drelu_cli.__file__).parent
    digest = hashlib.sha256()
    for path in sorted([*root.glob("attacks/*.py"), *root.glob("runtime/*.py")]):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


def wanted(given: argparse.Namespace) -> list[Row]:
    """The rows that were asked for, with samples and rounds as asked."""
    rows = [
        row
        for row in ROWS
        if (not given.rows or row.group in given.rows.split(","))
        and (not given.nets or row.net in given.nets.split(","))
    ]
    changes = {
        name: value
        for name, value in (("samples", given.samples), ("rounds", given.rounds))
        if value is not None
    }
    return [replace(row, **changes) for row in rows]


def read(file: Path) -> dict[str, dict[str, Any]]:
    """The newest record of each row."""
    if not file.exists():
        return {}
    records = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    return {record["row"]: record for record in records}


def known(record: dict[str, Any] | None, row: Row, code: str) -> bool:
    """Whether this very measurement is there already."""
    return record is not None and all(
        record.get(name) == value
        for name, value in (("code", code), ("asked", row.samples), ("rounds", row.rounds))
    )


def about(given: argparse.Namespace, code: str) -> dict[str, Any]:
    """What every record carries: where and with what it was measured."""
    device = torch.device(given.device)
    place = torch.cuda.get_device_name(device) if device.type == "cuda" else machine()
    return {
        "code": code,
        "device": given.device,
        "machine": place,
        "threads": torch.get_num_threads(),
        "versions": versions("torch", *(name for name in LIBRARIES if installed(name))),
        "absent": [name for name in LIBRARIES if not installed(name)],
        "date": datetime.now(UTC).date().isoformat(),
    }


def measure(row: Row, given: argparse.Namespace) -> dict[str, Any]:
    """One row."""
    net = NETS[row.net]
    threats = {"linf": ThreatModel("linf", net.eps), "l2": ThreatModel("l2", net.l2)}
    model, samples = network(row.net, given.work, given.data_dir, given.device, row.samples)
    began = time.perf_counter()
    record = measured(row, model, samples, threats)
    return {**record, "took": time.perf_counter() - began}


def run(given: argparse.Namespace) -> None:
    """Measures what is missing and appends it to the results."""
    given.work.mkdir(parents=True, exist_ok=True)
    file = given.work / f"results-{given.device.replace(':', '-')}.jsonl"
    code, records = code_digest(), read(file)
    shared = about(given, code)

    def keep(name: str, asked: int, record: dict[str, Any]) -> None:
        line = json.dumps({"row": name, "asked": asked, **shared, **record})
        with file.open("a", encoding="utf-8") as out:
            out.write(line + "\n")

    for row in wanted(given):
        if not given.again and known(records.get(row.name), row, code):
            continue
        record = measure(row, given)
        keep(row.name, row.samples, record)
        print(f"{row.name}: {record['took']:.0f} s", flush=True)
    for name, extra in EXTRAS.items():
        asked = given.rows.split(",") if given.rows else list(EXTRAS)
        if name not in asked or (not given.again and records.get(name, {}).get("code") == code):
            continue
        began = time.perf_counter()
        record = extra(given.work, given.data_dir, given.device)
        keep(name, 0, {**record, "took": time.perf_counter() - began})
        print(f"{name}: {time.perf_counter() - began:.0f} s", flush=True)
    text = section(read(file), given.device)
    print(text)
    if given.write:
        write_section(f"speed {given.device}", text, given.page)


def main() -> None:
    """Measures, prints, and with `--write` writes the page's section."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, default=Path("build/speed"))
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rows", help="groups, separated by commas")
    parser.add_argument("--nets", help="networks, separated by commas")
    parser.add_argument("--samples", type=int)
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--again", action="store_true", help="measure rows that are there, too")
    parser.add_argument("--write", action="store_true", help="write docs/benchmarks.md")
    parser.add_argument("--page", type=Path, default=PAGE)
    given = parser.parse_args()
    check(parser, given)
    torch.set_num_threads(given.threads)
    run(given)


def check(parser: argparse.ArgumentParser, given: argparse.Namespace) -> None:
    """Ends with the words that are known where a row, a net or the device is not."""
    groups = list(dict.fromkeys([*(row.group for row in ROWS), *EXTRAS]))
    for option, values, names in (
        ("--rows", given.rows, groups),
        ("--nets", given.nets, list(NETS)),
    ):
        unknown = [one for one in (values or "").split(",") if one and one not in names]
        if unknown:
            parser.error(f"{option}: unknown {', '.join(unknown)}; known: {', '.join(names)}")
    try:
        pick_device(given.device)
    except DreluError as problem:
        parser.error(f"{problem.message}; {problem.hint}")


if __name__ == "__main__":
    main()
