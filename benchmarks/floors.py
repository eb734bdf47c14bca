"""Where the time of an attack is: what a pass costs, small batches, and the cores.

    python benchmarks/floors.py --write --data-dir DATA

On the nets of `speed.py`; with `--write` the section goes into docs/benchmarks.md. Needs two
cores that nobody else uses.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from unittest.mock import patch

import torch
from page import machine, section_options, versions, write_section
from speed_nets import NETS, network
from torch import Tensor, nn

from drelu_cli.attacks import ATTACKS
from drelu_cli.attacks import gradient as passes
from drelu_cli.attacks.losses import cross_entropy
from drelu_cli.core.records import ThreatModel
from drelu_cli.core.registry import Bound
from drelu_cli.evaluation import suite
from drelu_cli.evaluation.samples import Samples
from drelu_cli.evaluation.suite import run_attack
from drelu_cli.runtime.companion import companions

IMAGES, REPEATS, ROUNDS = 1000, 40, 3
QUERIES = 400
SEARCHES = (("dense D-ReLU", 1000, 400), ("CNN AT", 1000, 40))
BATCHES = (50, 200, 500, 1000)


def milliseconds(call: Callable[[], object], repeats: int = REPEATS) -> float:
    """The median over calls."""
    took = []
    for _ in range(repeats):
        began = time.perf_counter()
        call()
        took.append(1000 * (time.perf_counter() - began))
    return statistics.median(took)


def products(model: nn.Module, count: int) -> list[float]:
    """Milliseconds of the two matrix products of each linear layer, forward and to the input."""
    found = []
    for layer in model.modules():
        if isinstance(layer, nn.Linear):
            weight = layer.weight.detach()
            inputs, outputs = torch.rand(count, weight.shape[1]), torch.rand(count, weight.shape[0])
            both = [
                milliseconds(lambda a=inputs, w=weight: a @ w.T),
                milliseconds(lambda a=outputs, w=weight: a @ w),
            ]
            found.append(sum(both))
    return found


def a_pass(given: argparse.Namespace) -> str:
    """A forward and backward pass of the dense AT net beside its matrix products alone."""
    model, samples = network("dense AT", given.work, given.data_dir, "cpu", IMAGES)
    whole = milliseconds(
        lambda: passes.forward_backward(model, samples.x, samples.y, cross_entropy)
    )
    layers = products(model, len(samples))
    return (
        f"A forward and backward pass of the dense AT net on {IMAGES:,} images: {whole:.1f} ms; "
        f"the matrix products of all its layers alone {sum(layers):.1f} ms, those of the first "
        f"{layers[0]:.1f} ms (medians of {REPEATS}).\n"
    )


def seconds(model: nn.Module, samples: Samples, bound: Bound, threat: ThreatModel) -> float:
    """One attack's wall time."""
    return run_attack(model, samples, bound, threat, seed=0).seconds


def batches(given: argparse.Namespace) -> str:
    """What a step of Square costs by the number of samples that share it."""
    model, samples = network("dense D-ReLU", given.work, given.data_dir, "cpu", IMAGES)
    bound, threat = ATTACKS.bind("square", queries=QUERIES), ThreatModel("linf", 0.1)
    lines = ["| samples | ms a step |", "| ---: | ---: |"]
    for count in BATCHES:
        part = samples.rows(torch.arange(count))
        took = statistics.median(seconds(model, part, bound, threat) for _ in range(ROUNDS))
        lines.append(f"| {count:,} | {1000 * took / QUERIES:.2f} |")
    table = "\n".join(lines)
    return (
        f"A step of Square on the dense D-ReLU net ({QUERIES} queries, median of {ROUNDS}; samples "
        f"at the start):\n\n{table}\n"
    )


def cw_steps(given: argparse.Namespace) -> str:
    """How many samples share a step of CW-L2 on D-ReLU."""
    model, samples = network("dense D-ReLU", given.work, given.data_dir, "cpu", 100)
    sizes: list[int] = []
    real = passes.forward_backward

    def counted(model_: nn.Module, points: Tensor, *rest: object) -> object:
        sizes.append(len(points))
        return real(model_, points, *rest)  # type: ignore[arg-type]

    threat = ThreatModel("l2", NETS["dense D-ReLU"].l2)
    with patch("drelu_cli.attacks.cw.forward_backward", counted):
        run_attack(model, samples, ATTACKS.bind("cw_l2"), threat, seed=0)
    mean = statistics.mean(sizes)
    return f"CW-L2 on 100 images of it: {len(sizes):,} steps, on average {mean:.1f} samples each.\n"


def cores(given: argparse.Namespace) -> str:
    """Square with two cores in each way there is, on a dense and on a convolutional net."""
    (there,) = companions(1)
    there.call(len, ())  # it has started
    rows = [
        row for name, images, queries in SEARCHES for row in _cores_on(name, images, queries, given)
    ]
    torch.set_num_threads(1)
    head = (
        "| Square on | two cores as | s | times one thread |\n| --- | --- | ---: | ---: |",
        *rows,
    )
    shared = "; ".join(
        f"{name}: {images:,} images, {queries} queries" for name, images, queries in SEARCHES
    )
    return (
        f"Square with one core and with two ({shared}; {ROUNDS} rounds in turn, medians of ratios "
        "within a round):\n\n" + "\n".join(head) + "\n"
    )


def _cores_on(name: str, images: int, queries: int, given: argparse.Namespace) -> list[str]:
    model, samples = network(name, given.work, given.data_dir, "cpu", images)
    bound, threat = ATTACKS.bind("square", queries=queries), ThreatModel("linf", 0.1)
    ways: dict[str, tuple[int, int, bool]] = {
        # threads of torch, parts of the samples, whether a part has a thread of its own
        "(one thread)": (1, 1, False),
        "torch's own threads": (2, 1, False),
        "a thread for each half of the images": (2, 2, True),
        "a process for each half": (2, 2, False),
    }
    took: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(ROUNDS + 1):  # the first round warms up
        for way, (threads, parts, own) in ways.items():
            torch.set_num_threads(threads)
            with (
                patch.object(suite, "threads_for", lambda *_, parts=parts: parts),
                patch.object(suite, "threads_pay", lambda *_, own=own: own),
                patch.object(suite, "companions_for", lambda *_: companions(1)),
            ):
                took[way].append(seconds(model, samples, bound, threat))
    base = took["(one thread)"]
    return [
        f"| {name} | {way} | {statistics.median(found[1:]):.2f} | {_ratio(base, found)} |"
        for way, found in took.items()
    ]


def _ratio(base: list[float], found: list[float]) -> str:
    ratios = [one / other for one, other in zip(found[1:], base[1:], strict=True)]
    return f"{statistics.median(ratios):.2f} ({min(ratios):.2f} .. {max(ratios):.2f})"


def main() -> None:
    """Measures, prints, and with `--write` writes the section."""
    given = section_options(__doc__)
    torch.set_num_threads(1)
    head = (
        "## Where the time is\n\n"
        f"{machine()}; {versions('torch')}; one thread but for the last table. "
        "`python benchmarks/floors.py --write`.\n"
    )
    text = "\n".join([head, a_pass(given), batches(given), cw_steps(given), cores(given)])
    print(text)
    if given.write:
        write_section("floors", text)


if __name__ == "__main__":
    main()
