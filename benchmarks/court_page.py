"""The page of `court_study.py`: tables and the plot over lambda, from the study's results."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from page import machine, versions

from drelu_cli import __version__

Entry = dict[str, Any]
_TITLES = {
    "masked": "Dense nets on MNIST, pixels normalised",
    "raw": "Dense nets on MNIST",
    "cnn": "Shallow CNNs on MNIST, pixels normalised",
    "honest": "Honest nets: no false alarm",
    "oracles": "Published checkpoints",
    "others": "Maskers nobody tuned for",
}
_COLUMNS = ("claimed", "standard", "adaptive")


def summary(entry: Mapping[str, Any], seconds: Mapping[str, float]) -> Entry:
    """What the page needs of an entry of `drelu attack`."""
    verdict = entry["verdict"]
    evidence = {f"{one['check']}: {one['point']}": one for one in verdict["evidence"]}
    own = own_accuracies(entry)
    return {
        "columns": dict(entry["columns"]),
        "samples": entry["samples"],
        "clean": entry["clean_accuracy"],
        "own": own,
        "verdict": verdict["word"],
        "notes": list(verdict["notes"]),
        "flags": [name for name, one in evidence.items() if one["flag"] and one["mechanism"]],
        "weak": [name for name, one in evidence.items() if one["flag"] and not one["mechanism"]],
        "values": {name: one["value"] for name, one in evidence.items()},
        "remedy": verdict["remedy"],
        "control": verdict["control"],
        "seconds": dict(seconds),
    }


def own_accuracies(entry: Mapping[str, Any]) -> dict[str, float | None]:
    """Own robust accuracy by attack with its options."""
    found = {}
    for one in entry["attacks"]:
        options = ",".join(f"{key}={value}" for key, value in _told(one).items())
        found[f"{one['attack']}:{options}" if options else one["attack"]] = one["robust_accuracy"]
    return found


def _told(attack: Mapping[str, Any]) -> dict[str, Any]:
    names = ("backward", "precision", "guide", "ties", "passes", "queries")
    defaults = {"ties": False, "queries": 5000, "guide": None}
    params = attack["params"]
    return {
        name: params[name]
        for name in names
        if name in params and params[name] != defaults.get(name)
    }


def write(results: Path, page: Path, asked: Sequence[str] = ()) -> None:
    """The page from the last result of every net; `asked` are the groups it was asked for."""
    latest: dict[tuple[str, str], Entry] = {}
    for line in results.read_text(encoding="utf-8").splitlines():
        entry = json.loads(line)
        latest[entry["group"], entry["name"]] = entry
    about = {
        "machine": machine(),
        "threads": torch.get_num_threads(),
        "versions": versions("torch"),
        "drelu": __version__,
        "asked": "".join(f" {one}" for one in ("--only", *asked)) if asked else "",
        "page": page.name,
    }
    parts = [_HEAD.format(**about)]
    for group, title in _TITLES.items():
        rows = [entry for (of, _), entry in latest.items() if of == group]
        if rows:
            parts += [f"## {title}", _table(rows), *_paragraphs(rows)]
    judged = [entry for (of, _), entry in latest.items() if of != "ablation"]
    parts += ["## What the checks measured", _VALUES, _values(judged)]
    rows = [entry for (of, _), entry in latest.items() if of == "ablation"]
    if rows:
        parts += ["## Which remedy does the work", _ABLATION, _ablation(rows)]
        parts += [_plot(rows, page.with_name("court-lambda"))]
    page.write_text("\n\n".join(parts).rstrip() + "\n", encoding="utf-8")


def _table(rows: Sequence[Entry]) -> str:
    head = (
        "net", "n", "clean", "PGD-40", "claimed", "standard", "adaptive",
        "zero gradient, CE, end of PGD", "flags of a mechanism", "remedy broke", "control broke",
        "verdict", "seconds: standard / all attacks / whole call",
    )  # fmt: skip
    lines = [_row(head), _row(["---"] + ["---:"] * 7 + ["---"] + ["---:"] * 2 + ["---", "---:"])]
    for one in rows:
        broken = sum(remedy["broken"] for remedy in one["remedy"])
        control = one["control"]
        flags = dict.fromkeys(name.partition(":")[0] for name in one["flags"])
        seconds = one["seconds"]
        lines.append(
            _row(
                [
                    one["name"],
                    str(one["samples"]),
                    _percent(one["clean"]),
                    _percent(one["own"].get("pgd")),
                    *(_percent(one["columns"][name]) for name in _COLUMNS),
                    _percent(one["values"].get("zero_gradient: ce at the final point of pgd")),
                    ", ".join(flags) or "none",
                    str(broken),
                    "-" if control is None else f"{control['broken']} (p = {control['p']:.1g})",
                    one["verdict"],
                    f"{seconds['standard']:.0f} / {seconds['all']:.0f} / {seconds['call']:.0f}",
                ]
            )
        )
    return "\n".join(lines)


def _paragraphs(rows: Sequence[Entry]) -> list[str]:
    said = [
        f"* {one['name']}: {text}"
        for one in rows
        for text in [
            *([f"the preflight refuses it: {one['refused']}"] if one.get("refused") else []),
            *one["notes"],
            *([f"other flags: {'; '.join(one['weak'])}"] if one["weak"] else []),
        ]
    ]
    return ["\n".join(said)] if said else []


def _values(rows: Sequence[Entry]) -> str:
    """The value of every check on every net: what stands behind the thresholds."""
    names = {
        "zero gradient, DLR, clean": ("zero_gradient: dlr at the clean input", 100.0),
        "Square beyond gradients": ("blackbox: ", 100.0),
        "ties": ("ties: ", 100.0),
        "rescaled": ("loss_scale: apgd_ce on rescaled logits against apgd_ce", 100.0),
        "uncapped": ("transfer: points of the same weights without caps", 100.0),
        "twin": ("transfer: points of the undefended twin", 100.0),
        "effort": ("effort: ", 100.0),
        "draws": ("random_draws: ", 100.0),
        "eps 0.5": ("large_radius: pgd at eps 0.5", 100.0),
        "loss noise": ("loss_noise: ", 1.0),
        "binarisation": ("binarisation: ", 100.0),
    }
    lines = [_row(["net", *names]), _row(["---", *["---:"] * len(names)])]
    for one in rows:
        cells = []
        for start, factor in names.values():
            found = [value for name, value in one["values"].items() if name.startswith(start)]
            known = [value for value in found if value is not None]
            cells.append(f"{factor * known[0]:.1f}" if known else "-")
        lines.append(_row([one["name"], *cells]))
    return "\n".join(lines)


def _ablation(rows: Sequence[Entry]) -> str:
    names = [name for name in rows[0]["alone"] if name not in ("cw_l2", "fgsm")]
    lines = [_row(["attack, alone", *(one["name"] for one in rows)])]
    lines.append(_row(["---", *["---:"] * len(rows)]))
    lines += [
        _row([f"`{name}`", *(_percent(one["alone"].get(name)) for one in rows)]) for name in names
    ]
    lines += [
        _row([f"**{column}**", *(_percent(one["columns"][column]) for one in rows)])
        for column in _COLUMNS
    ]
    caps = [one["summary"].get("cap_mean") for one in rows]
    lines.append(_row(["mean cap", *("-" if cap is None else f"{cap:.3g}" for cap in caps)]))
    return "\n".join(lines)


def _plot(rows: Sequence[Entry], stem: Path) -> str:
    """Accuracy, zero-gradient share and mean cap over lambda, as PNG and CSV."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    lambdas = [float(one["name"].rpartition(" ")[2]) for one in rows]
    lines = {
        "PGD-40": [one["own"]["pgd"] for one in rows],
        "Square": [one["own"]["square"] for one in rows],
        "adaptive": [one["columns"]["adaptive"] for one in rows],
        "zero gradients (CE, end of PGD)": [
            one["values"].get("zero_gradient: ce at the final point of pgd") for one in rows
        ],
    }
    figure, axes = pyplot.subplots(figsize=(7, 4.2), layout="constrained")
    for (name, values), marker in zip(lines.items(), "osD^", strict=True):
        style = "--" if name.startswith("zero") else "-"
        shown = [float("nan") if value is None else 100 * value for value in values]
        axes.plot(lambdas, shown, style, marker=marker, label=name)
    axes.set(xscale="log", xlabel="lambda", ylabel="%", ylim=(0, 100))
    caps = axes.twinx()
    caps.plot(lambdas, [one["summary"]["cap_mean"] for one in rows], ":", color="grey", marker="x")
    caps.set(ylabel="mean cap (dotted)", ylim=(0, None))
    figure.legend(
        *axes.get_legend_handles_labels(), loc="outside lower center", ncols=4, fontsize=8
    )
    axes.set_title("D-ReLU, dense, MNIST, Linf 0.1")
    figure.savefig(stem.with_suffix(".png"), dpi=130)
    pyplot.close(figure)
    header = ["lambda", *lines, "mean cap"]
    table = [header]
    for place, lambda_ in enumerate(lambdas):
        cap = rows[place]["summary"]["cap_mean"]
        table.append([str(lambda_), *(str(values[place]) for values in lines.values()), str(cap)])
    text = "\n".join(",".join(row) for row in table)
    stem.with_suffix(".csv").write_text(text + "\n", encoding="utf-8")
    return f"![Accuracy, zero gradients and caps over lambda]({stem.name}.png)"


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f}"


_HEAD = """# The court on nets whose answers matter

Written by

```console
$ python benchmarks/court_study.py --data-dir DATA{asked} --page docs/benchmarks/{page}
```

which trains the nets, runs `--suite adaptive` on each and writes down what it found; here in parts,
with `--only`, `--net` and smaller `--samples` where the column n says so. Accuracies in percent,
on the first n images of the fixed order; Linf 0.1 (cnn_a: 0.3). "flags of a mechanism" are all
that were raised, whichever attack they speak about; the verdict counts those about the strongest
plain attack. "remedy broke" are images that every plain attack had left standing; "control broke"
is said where the remedy broke 5 points or more, which a verdict of `masked` needs. Seconds are wall
clock, of AutoAttack's four, of all attacks, and of the whole call.

{machine}, {threads} thread(s), {versions}, drelu {drelu}."""

_VALUES = """In points or percent, the loss noise as a ratio; thresholds and meaning are in
[the masking court](../court.md). `-`: the check does not apply, or its problems could not be
built."""

_ABLATION = """Every attack here ran alone, on all images; `apgd_restarts` is the control, plain
gradients with restarts for 1,000 passes an image. The last rows are the columns, the worst case
per image."""
