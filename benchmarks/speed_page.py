"""The speed table as Markdown, from the records that `speed.py` keeps."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from typing import Any

from speed_measure import fastest, ratios, suite_ratio
from speed_rows import ROWS, Row

Records = Mapping[str, Mapping[str, Any]]

_HOW = """\
Every round runs each contender once, in alternating order; ratios are taken within a round, and
the table gives their median: seconds of the library divided by ours. Same images (all of them
classified correctly), steps, step size, budget, kind of start and dtype (float32); evaluation
mode; each library with the fastest of the batch sizes 128, 512 and all. Robust accuracy in percent,
both sides judged by our judge. A library that leaves more samples standing does not count, where
another one leaves no more than we do; `(leaves more)` marks the rows where all of them do, and the
fastest is shown all the same. One attack seed: where random starts decide, accuracies of both sides
move from seed to seed; means over seeds are on the [page on strength](benchmarks/strength.md)."""
_HEAD = """\
| attack | net | n x rounds | s | fastest library | ratio | min .. max | target | met | robust | \
its robust | passes (f / b) |
| --- | --- | ---: | ---: | --- | ---: | ---: | ---: | --- | ---: | ---: | ---: |"""


def section(records: Records, device: str) -> str:
    """The whole section; rows that were not measured are left out."""
    if not records:
        return f"## Speed of the attacks ({device})\n\nNot measured yet."
    rows = [(row, records[row.name]) for row in ROWS if row.name in records]
    parts = [f"## Speed of the attacks ({device})", _conditions(records), _HOW]
    if rows:
        parts.append("\n".join([_HEAD, *(_line(row, record) for row, record in rows)]))
    parts += [_all_ratios(rows), _suite(records), _curves(records), _minimal(records)]
    parts += [_overhead(records), _throughput(records), _memory(records)]
    return "\n\n".join(part for part in parts if part)


def _conditions(records: Records) -> str:
    seen = sorted(
        {(r["machine"], r["threads"], r["versions"], r["code"]) for r in records.values()}
    )
    lines = [
        f"{place}; {threads} thread{'s' * (threads != 1)}; {packages}; code {code}."
        for place, threads, packages, code in seen
    ]
    absent = sorted({name for record in records.values() for name in record["absent"]})
    if absent:
        lines.append(f"Not installed, so not compared: {', '.join(absent)}.")
    took = sum(record["took"] for record in records.values()) / 60
    lines.append(f"Written by `make bench` (`benchmarks/speed.py`), {took:.0f} minutes.")
    return "\n".join(lines)


def _line(row: Row, record: Mapping[str, Any]) -> str:
    n = f"{record['samples']} x {record['rounds']}"
    if row.mode == "suite":
        value = suite_ratio(record)
        mine = sum(statistics.median(p["seconds"]["drelu"]) for p in record["parts"].values())
        cells = [row.group, row.net, n, f"{mine:.2f}", "of each attack", f"{value:.2f}", ""]
        return _cells([*cells, f"{row.target:g}", _met(value, row), "", "", ""])
    best = fastest(record)
    mine = record["seconds"]["drelu"]
    within = [a / b for a, b in zip(record["seconds"][best.peer], mine, strict=True)]
    note = "" if best.counts else " (leaves more)"
    return _cells(
        [
            row.group,
            row.net,
            n,
            f"{statistics.median(mine):.2f}",
            best.peer + note,
            f"{best.median:.2f}",
            f"{min(within):.2f} .. {max(within):.2f}",
            f"{row.target:g}",
            _met(best.median, row),
            _percent(record["robust"]["drelu"]),
            _percent(record["robust"][best.peer]),
            "{:.1f} / {:.1f}".format(*record["passes"]),
        ]
    )


def _met(value: float, row: Row) -> str:
    return "yes" if value >= row.target else "**no**"


def _cells(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _percent(shares: list[float]) -> str:
    """One share, or the range of a curve."""
    if len(shares) == 1:
        return f"{100 * shares[0]:.1f}"
    return f"{100 * max(shares):.1f} .. {100 * min(shares):.1f}"


def _all_ratios(rows: list[tuple[Row, Mapping[str, Any]]]) -> str:
    """Every library, so that nothing is chosen behind the reader's back."""
    lines = ["### Every library", "", "| attack | net | library | batch | ratio | its robust |"]
    lines.append("| --- | --- | --- | ---: | ---: | ---: |")
    for row, record in rows:
        parts = record.get("parts", {row.attack: record})
        for attack, part in parts.items():
            what = f"{row.group}: {attack}" if row.mode == "suite" else row.group
            for one in ratios(part):
                batch = str(part["batches"][one.peer])
                share = _percent(part["robust"][one.peer])
                if row.mode == "suite":
                    share += f" (ours {_percent(part['robust']['drelu'])})"
                lines.append(_cells([what, row.net, one.peer, batch, f"{one.median:.2f}", share]))
    return "\n".join(lines) if len(lines) > 4 else ""


def _suite(records: Records) -> str:
    """Where the time of the suite goes."""
    lines = []
    for name, record in records.items():
        for attack, part in record.get("parts", {}).items():
            mine = statistics.median(part["seconds"]["drelu"])
            theirs = statistics.median(part["seconds"][fastest(part).peer])
            passes = "{:.1f} / {:.1f}".format(*part["passes"])
            cells = [name, attack, f"{mine:.3f}", f"{theirs:.3f}", f"{theirs / mine:.1f}"]
            lines.append(_cells([*cells, _percent(part["robust"]["drelu"]), passes]))
    if not lines:
        return ""
    head = "| suite | attack | s | fastest library s | ratio | robust | passes (f / b) |"
    return "\n".join([head, "| --- | --- | ---: | ---: | ---: | ---: | ---: |", *lines])


def _curves(records: Records) -> str:
    for row in ROWS:
        if row.mode == "curve" and row.name in records:
            return (
                "Curve: ten radii, a tenth of eps to eps; ours in one ascending pass over the "
                "survivors, a library ten times on all images."
            )
    return ""


def _minimal(records: Records) -> str:
    """Exact minimal norms: what was found, not only how fast."""
    lines = []
    for row in ROWS:
        if row.group == "cw_l2 exact" and row.name in records:
            lengths = records[row.name]["median_length"]
            told = ", ".join(f"{who} {value:.3f}" for who, value in lengths.items() if value)
            lines.append(
                f"Median L2 distance of what was broken within the bound ({row.net}): {told}."
            )
    return "\n".join(lines)


def _overhead(records: Records) -> str:
    found = records.get("overhead", {}).get("overhead")
    if not found:
        return ""
    lines = ["### Overhead: time / (passes counted x bare pass time), PGD-40, n = 1,000", ""]
    lines += ["A bare pass is timed on the attack's own slices of the images.", ""]
    lines += ["| net | s | floor s | overhead | target | met | bare pass us per image |"]
    lines += ["| --- | ---: | ---: | ---: | ---: | --- | ---: |"]
    for net, one in found.items():
        met = "yes" if one["ratio"] <= 1.15 else "**no**"
        cells = [net, f"{one['seconds']:.2f}", f"{one['floor']:.2f}", f"{one['ratio']:.3f}"]
        lines.append(_cells([*cells, "1.15", met, f"{one['pass_us']:.0f}"]))
    return "\n".join(lines)


def _throughput(records: Records) -> str:
    found = records.get("throughput", {}).get("us_per_image")
    if not found:
        return ""
    lines = ["### Throughput: microseconds per image, dense AT", ""]
    sizes = list(next(iter(found.values())))
    lines += [f"| attack | {' | '.join(f'n = {int(size):,}' for size in sizes)} |"]
    lines += [f"| --- |{' ---: |' * len(sizes)}"]
    for attack, times in found.items():
        lines.append(_cells([attack, *(f"{times[size]:.0f}" for size in sizes)]))
    return "\n".join(lines)


def _memory(records: Records) -> str:
    found = records.get("memory", {}).get("peak")
    if not found:
        return ""
    lines = [
        "### Peak memory of PGD",
        "",
        "Data: the images and the points returned. Working memory: what the attack takes at most",
        "beyond what was held before it, without the points. Process: all of it, without the data.",
        "",
        "| net, images | data MB | working MB | process MB | times the smaller n | target | met |",
        "| --- | ---: | ---: | ---: | ---: | ---: | --- |",
    ]
    first: dict[str, float] = {}
    for name, one in found.items():
        net, data = name.rpartition(",")[0], 2 * one["data"]
        working, process = one["attack"] - one["data"], one.get("process", one["attack"]) - data
        times = process / first.setdefault(net, process)
        cells = [name, *(f"{value / 1e6:.0f}" for value in (data, working, process))]
        lines.append(_cells([*cells, f"{times:.2f}", "1.3", "yes" if times <= 1.3 else "**no**"]))
    return "\n".join(lines)
