"""The masking court on nets whose answers matter: masked ones, honest ones, unknown maskers.

    python benchmarks/court_study.py --data-dir DATA [--work runs/court] [--only GROUP ...]
        [--net NAME] [--samples 1000] [--page docs/benchmarks/court.md]

Groups: masked, raw, cnn, honest, oracles, others, ablation. Trainings, outcomes and examinations
are kept in WORK/runs: the study can be killed and done in parts. The page is written from what is
there; nothing in it is typed by hand.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import court_page

from drelu_cli.core.errors import DreluError
from drelu_cli.store.connect import open_store
from drelu_cli.workflows.attack import attack
from drelu_cli.workflows.context import Context
from drelu_cli.workflows.plan import Wanted
from drelu_cli.workflows.subjects import Outside
from drelu_cli.workflows.train import train

Recipe = list[tuple[str, Any]]
# The groups but `raw` normalise their pixels; MNIST's default, pixels in [0, 1], is `raw`.
NORMALISED: Recipe = [("model.normalize", True)]
DENSE: Recipe = [("data.name", "mnist"), ("model.name", "dense"), *NORMALISED]
CNN: Recipe = [
    ("data.name", "mnist"),
    *NORMALISED,
    ("model.name", "shallow_cnn"),
    ("data.train_samples", 15000),
    ("train.epochs", 8),
]
ROBUST_CNN: Recipe = [
    ("data.name", "mnist"),
    *NORMALISED,
    ("model.name", "shallow_cnn"),
    ("data.train_samples", 5000),
    ("train.epochs", 6),
]
ROBUST_DENSE: Recipe = [*DENSE, ("data.train_samples", 15000), ("train.epochs", 8)]
RAW: Recipe = [("model.normalize", False)]
RELU: Recipe = [("activation", "relu")]
CAPPED: Recipe = [("activation", "srelu"), ("activation.cap", 0.05)]
LAMBDAS = (0.001, 0.01, 0.1, 1.0)
QRELU = "qrelu"


def drelu(lambda_: float) -> Recipe:
    """D-ReLU in the head with this lambda."""
    return [("activation", "drelu"), ("penalty.lambda", lambda_)]


def trained() -> dict[str, dict[str, Recipe]]:
    """Nets by group and name, with how they are trained."""
    schemes = ("madry", "trades")
    return {
        "masked": {
            "dense ReLU": [*DENSE, *RELU],
            "dense D-ReLU 0.1": [*DENSE, *drelu(0.1)],
            "dense D-ReLU 1": [*DENSE, *drelu(1.0)],
            "dense S-ReLU .05": [*DENSE, *CAPPED],
            "dense q-ReLU": [*DENSE, ("activation", QRELU)],
            "dense k-WTA": [*DENSE, ("activation", "kwta")],
        },
        "raw": {
            "dense ReLU, raw pixels": [*DENSE, *RAW, *RELU],
            "dense D-ReLU 0.1, raw pixels": [*DENSE, *RAW, *drelu(0.1)],
            "dense D-ReLU 1, raw pixels": [*DENSE, *RAW, *drelu(1.0)],
            "dense S-ReLU .05, raw pixels": [*DENSE, *RAW, *CAPPED],
            "dense q-ReLU, raw pixels": [*DENSE, *RAW, ("activation", QRELU)],
            "dense k-WTA, raw pixels": [*DENSE, *RAW, ("activation", "kwta")],
        },
        "cnn": {
            "CNN ReLU": [*CNN, *RELU],
            "CNN D-ReLU .01": [*CNN, *drelu(0.01)],
            "CNN D-ReLU 1": [*CNN, *drelu(1.0)],
        },
        "honest": {
            f"{kind} {scheme} s{seed}": [*base, *RELU, ("scheme", scheme), ("train.seed", seed)]
            for kind, base in (("dense", ROBUST_DENSE), ("CNN", ROBUST_CNN))
            for scheme in schemes
            for seed in (0, 1)
        },
        "ablation": {f"dense D-ReLU {one:g}": [*DENSE, *drelu(one)] for one in LAMBDAS},
    }


# Other maskers: factories beside this file, around the dense ReLU net.
OTHERS = {
    "temperature 1e-3": ("court_maskers:temperature", ()),
    "rounded input": ("court_maskers:rounded_input", ()),
    "softmax outputs": ("court_maskers:softmax_outputs", ("probabilities",)),
    "random noise": ("court_maskers:random_noise", ("random",)),
}
ORACLES = {
    "wong_kolter": ("wong_kolter_mnist.pt", 0.1, 1000),
    "cnn_a": ("mnist_cnn_a_adv.pt", 0.3, 200),
}
REMEDIES = (
    *(
        f"{attack_}:backward={slope}"
        for attack_ in ("apgd_margin", "apgd_dlr", "apgd_ce")
        for slope in ("relu", "leaky_cap", "soft_cap")
    ),
    "apgd_t:backward=leaky_cap",
    "apgd_ce_rescaled",
    "apgd_ce_rescaled:precision=float64",
    "apgd_guided:guide=uncapped,backward=leaky_cap",
    "apgd_guided:guide=leaky,backward=leaky_cap",
    "nes",
    "square:ties=true",
    "square:ties=true,queries=10000",
    "apgd_restarts:passes=1000",
)


def main() -> None:
    """Runs the groups that are asked for and writes the page."""
    options = _options()
    context = Context(store=options.work / "runs", data_dir=options.data_dir, progress=_told)
    options.work.mkdir(parents=True, exist_ok=True)
    os.environ["COURT_WORK"] = str(options.work)
    os.environ["COURT_DATA"] = str(context.data_folder)
    sys.path.insert(0, str(Path(__file__).parent))
    for group in options.only or GROUPS:
        for name, entry in _group(group, options, context):
            line = {"group": group, "name": name, **entry}
            with (options.work / "results.jsonl").open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
            print(group, name, entry["verdict"], entry.get("columns"), flush=True)
    court_page.write(options.work / "results.jsonl", options.page, options.only or ())


def _group(
    group: str, options: argparse.Namespace, context: Context
) -> Iterator[tuple[str, dict[str, Any]]]:
    """The entries of one group, net by net."""
    if group == "oracles":
        yield from _oracles(options, context)
    elif group == "others":
        yield from _others(options, context)
    else:
        chosen = {name: recipe for name, recipe in trained()[group].items() if options.net in name}
        for name, recipe in chosen.items():
            report = train(options=recipe, context=context)
            _note_checkpoint(options.work, name, report.checkpoint)
            run = _alone if group == "ablation" else _adaptive
            found = run(report.record.key, options.samples, context)
            yield name, {**found, "summary": dict(report.record.summary)}


def _note_checkpoint(work: Path, name: str, checkpoint: Path) -> None:
    """The maskers find the dense ReLU net by this file."""
    known_file = work / "checkpoints.json"
    known = json.loads(known_file.read_text()) if known_file.exists() else {}
    known_file.write_text(json.dumps({**known, name: str(checkpoint)}))


def _adaptive(
    model: str,
    samples: int,
    context: Context,
    outside: Outside | None = None,
    **more: Any,
) -> dict[str, Any]:
    """The adaptive suite on one model, and the standard suite's own time."""
    wanted = Wanted("adaptive", (), "linf", more.pop("eps", None), samples=samples, **more)
    began = time.perf_counter()
    report = attack([model], wanted=wanted, outside=outside, context=context)
    call = time.perf_counter() - began
    entry = next(one for one in report.entries if one["threat"]["norm"] == "linf")
    return court_page.summary(entry, {**_seconds(context, entry["model"]), "call": call})


def _seconds(context: Context, model: str) -> dict[str, float]:
    """Seconds of attack by what they were spent on."""
    standard = ("apgd_ce", "apgd_t", "fab_t", "square")
    spent = {"standard": 0.0, "all": 0.0}
    with open_store(context.store, create=False) as store:
        for stored in store.evaluations(model_key=model):
            plain = not stored.evaluation.given and not stored.evaluation.survivors_only
            spent["all"] += stored.seconds
            if plain and stored.evaluation.attack in standard:
                spent["standard"] += stored.seconds
    return spent


def _alone(model: str, samples: int, context: Context) -> dict[str, Any]:
    """Every remedy alone, on all images: which of them does the work."""
    wanted = Wanted("whitebox", ("square", *REMEDIES), "linf", None, samples=samples)
    report = attack([model], wanted=wanted, context=context)
    alone = next(one for one in report.entries if one["threat"]["norm"] == "linf")
    found = _adaptive(model, samples, context)
    return {**found, "alone": court_page.own_accuracies(alone)}


def _oracles(options: argparse.Namespace, context: Context) -> Iterator[tuple[str, dict[str, Any]]]:
    for name, (file, eps, samples) in ORACLES.items():
        path = options.oracles / file
        if not path.is_file():
            print(f"{path} is not there: {name} is left out", flush=True)
            continue
        os.environ["COURT_ORACLE"] = str(path)
        outside = Outside(dataset="mnist", label=name)
        reference = f"court_maskers:{name}"
        count = min(samples, options.samples)
        yield name, _adaptive(reference, count, context, outside, eps=(eps,))


def _others(options: argparse.Namespace, context: Context) -> Iterator[tuple[str, dict[str, Any]]]:
    """Maskers nobody tuned for: first as they are, then with what the preflight refuses allowed."""
    report = train(options=trained()["masked"]["dense ReLU"], context=context)
    _note_checkpoint(options.work, "dense ReLU", report.checkpoint)
    for name, (reference, allow) in OTHERS.items():
        outside = Outside(dataset="mnist", label=name)
        refused = ""
        if allow:
            try:
                attack([reference], outside=outside, context=context)
            except DreluError as problem:
                refused = problem.message
        samples = min(options.samples, 50 if "random" in allow else options.samples)
        found = _adaptive(reference, samples, context, outside, allow=allow)
        yield name, {**found, "refused": refused}


def _told(kind: str, fields: Any) -> None:
    if kind in ("attack", "remedy", "note"):
        print(kind, dict(fields), file=sys.stderr, flush=True)


GROUPS = ("masked", "raw", "cnn", "honest", "oracles", "others", "ablation")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--work", type=Path, default=Path("runs/court"))
    parser.add_argument("--oracles", type=Path, default=Path("../shared/oracles"))
    parser.add_argument("--only", nargs="*", choices=GROUPS)
    parser.add_argument("--net", default="", help="only nets whose name holds this")
    parser.add_argument("--samples", type=int, default=1000)
    parser.add_argument("--page", type=Path, default=Path("docs/benchmarks/court.md"))
    return parser.parse_args()


if __name__ == "__main__":
    main()
