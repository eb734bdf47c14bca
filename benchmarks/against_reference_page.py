"""The Markdown page of `against_reference.py`."""

from __future__ import annotations

import statistics
from collections import defaultdict
from typing import Any

from page import machine, versions

ATTACKS = ("apgd_ce", "apgd_dlr", "apgd_t", "fab_t", "square")
STANDARD = ("apgd_ce", "apgd_t", "fab_t", "square")
# One run from the input without a random start: the seed changes nothing.
SEEDLESS = ("fab_t",)
SEEDS = 5
TARGET = 0.3  # points of robust accuracy above the reference's
_HEAD = (
    "| attack | drelu % (min .. max) | AutoAttack % (min .. max) | difference | only drelu broke | "
    "only AutoAttack broke | forwards + backwards, drelu | AutoAttack | seeds |"
)
_ABOUT = """# Strength against AutoAttack

Written by

```console
$ python benchmarks/against_reference.py --data-dir DATA --page docs/benchmarks/strength.md
```

which trains the nets, or finds them in its work folder, and runs every attack of the suite
`standard`, and APGD-DLR, once with this engine and once with AutoAttack: in full, on every
correctly classified image, with the same iterations, restarts, targets and queries. All points are
judged by `drelu`'s own judge.

* `difference`: drelu minus AutoAttack in points of robust accuracy, mean over seeds, with its 95 %
  interval over images. Negative: drelu finds more. Target: at most {target} points.
* `only ... broke`: images that one engine broke and the other did not, mean per seed. Where they
  are many, outcomes hang on the random starts: two seeds of one engine differ as much.
* passes: per attacked image, counted. A sample of `drelu` ends when it is broken or can no longer
  change; AutoAttack's batch goes on.
* `standard`: what no attack of APGD-CE, APGD-T, FAB-T and Square broke. For `drelu` that is the
  cascade's outcome, as a sample's outcome does not depend on the others. For AutoAttack, whose
  random numbers depend on who else is in the batch, it is the worst case over full runs: at least
  as strong as its cascade.
* FAB-T with one restart starts at the input and draws nothing: one run stands for every seed.
"""


def written(lines: list[dict[str, Any]], samples: int) -> str:
    """The page from the lines with this many images."""
    found: dict[str, dict[tuple[str, str], dict[int, Any]]] = defaultdict(lambda: defaultdict(dict))
    for line in lines:
        if line["n"] == samples:
            engine = line["engine"].split()[0]
            found[line["net"]][engine, line["attack"]][line["seed"]] = line
    labels = sorted({line["engine"] for line in lines if line["n"] == samples})
    where = (
        f"{machine()}, one thread, {versions('torch')}; {', '.join(labels)}; n = {samples} images."
    )
    parts = [_ABOUT.format(target=TARGET), where, _verdict(found), _unfinished(found)]
    parts += [_section(name, net) for name, net in found.items()]
    return "\n\n".join(part.strip() for part in parts if part) + "\n"


def _verdict(found: dict[str, Any]) -> str:
    above = []
    for name, net in found.items():
        for attack in (*ATTACKS, "standard"):
            gap = _gap(_paired(net, attack))
            if gap is not None and gap[0] > TARGET:
                above.append(f"{name} {attack} {_interval(gap)}")
    if not above:
        return f"Every difference measured is at most {TARGET} points above AutoAttack's."
    return f"Above the target of {TARGET} points: {', '.join(above)}."


def _unfinished(found: dict[str, Any]) -> str:
    short = [
        f"{name} {attack} ({done} of {SEEDS})"
        for name, net in found.items()
        for attack in ATTACKS
        if attack not in SEEDLESS or not _paired(net, attack)
        if (done := len(_paired(net, attack))) < SEEDS
    ]
    if not short:
        return ""
    return f"Fewer than {SEEDS} seeds are finished by both engines: {', '.join(short)}."


def _section(name: str, net: dict[tuple[str, str], dict[int, Any]]) -> str:
    any_line = next(iter(next(iter(net.values())).values()))
    norm, eps = any_line["threat"]
    clean = 100.0 * any_line["clean"] / any_line["n"]
    rows = [_row(attack, _paired(net, attack)) for attack in (*ATTACKS, "standard")]
    intro = f"## {name}\n\n{norm} {eps:g}, clean accuracy {clean:.1f} %."
    table = "\n".join([_HEAD, "| --- |" + " ---: |" * 8, *(row for row in rows if row)])
    return f"{intro}\n\n{table}"


Pairs = list[tuple[dict[str, Any], dict[str, Any]]]


def _paired(net: dict[tuple[str, str], dict[int, Any]], attack: str) -> Pairs:
    """(ours, theirs) of every seed that both engines have finished."""
    if attack == "standard":
        ours, theirs = (_worst(net, engine) for engine in ("drelu", "autoattack"))
    else:
        ours, theirs = net.get(("drelu", attack), {}), net.get(("autoattack", attack), {})
    return [(ours[seed], theirs[seed]) for seed in sorted(ours.keys() & theirs.keys())]


def _worst(net: dict[tuple[str, str], dict[int, Any]], engine: str) -> dict[int, Any]:
    """Per seed that all four attacks have, what none of them broke."""
    runs = [net.get((engine, attack), {}) for attack in STANDARD]
    fab = runs[2].get(0)
    seeds = set(runs[0]) & set(runs[1]) & set(runs[3]) if fab else set()
    worst = {}
    for seed in seeds:
        parts = [fab if run is runs[2] else run[seed] for run in runs]
        columns = zip(*(part["robust"] for part in parts), strict=True)
        worst[seed] = {"n": fab["n"], "robust": "".join(min(column) for column in columns)}
    return worst


def _percent(line: dict[str, Any]) -> float:
    return 100.0 * line["robust"].count("1") / line["n"]


def _gap(pairs: Pairs) -> tuple[float, float] | None:
    """Ours minus theirs in points, mean over seeds, and its standard error over images."""
    if not pairs:
        return None
    images = zip(
        *(zip(ours["robust"], theirs["robust"], strict=True) for ours, theirs in pairs),
        strict=True,
    )
    # An image's seeds are averaged first: they are not independent of each other.
    means = [statistics.fmean(int(a) - int(b) for a, b in image) for image in images]
    error = statistics.stdev(means) / len(means) ** 0.5
    return round(100.0 * statistics.fmean(means), 6), 100.0 * error


def _interval(gap: tuple[float, float]) -> str:
    mean, error = gap
    return f"{mean:+.2f} ({mean - 1.96 * error:+.2f} .. {mean + 1.96 * error:+.2f})"


def _row(attack: str, pairs: Pairs) -> str:
    gap = _gap(pairs)
    if gap is None:
        return ""
    cells = [attack]
    for side in zip(*pairs, strict=True):
        shares = [_percent(line) for line in side]
        cells.append(f"{statistics.fmean(shares):.2f} ({min(shares):.1f} .. {max(shares):.1f})")
    cells.append(_interval(gap))
    for mine, other in ((0, 1), (1, 0)):
        alone = [
            sum(a < b for a, b in zip(pair[mine]["robust"], pair[other]["robust"], strict=True))
            for pair in pairs
        ]
        cells.append(f"{statistics.fmean(alone):.1f}")
    cells += [_passes(side) for side in zip(*pairs, strict=True)]
    cells.append("any" if attack == "fab_t" else str(len(pairs)))
    return f"| {' | '.join(cells)} |"


def _passes(side: tuple[dict[str, Any], ...]) -> str:
    if "forwards" not in side[0]:
        return "-"
    forwards, backwards = (
        statistics.fmean(line[kind] / line["clean"] for line in side)
        for kind in ("forwards", "backwards")
    )
    return f"{forwards:.0f} + {backwards:.0f}"
