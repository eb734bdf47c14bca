"""APGD here and in pyautoattack from the same random starts: which images does each break?

    python benchmarks/same_starts.py --write --data-dir DATA

Means over seeds compare two random attacks; this compares two programs. pyautoattack's single runs
are given the points that ours begin with. On the nets of `speed.py`; `--write` puts the section
into docs/benchmarks.md.
"""

from __future__ import annotations

import warnings
from typing import Any

import torch
from page import machine, section_options, versions, write_section
from pyautoattack.autopgd_base import APGDAttack, APGDAttack_targeted
from speed_nets import network
from torch import Tensor, nn

from drelu_cli.attacks import ATTACKS
from drelu_cli.attacks.geometry import random_on_sphere
from drelu_cli.core.records import State, ThreatModel
from drelu_cli.evaluation.judge import predict
from drelu_cli.evaluation.samples import Samples
from drelu_cli.evaluation.suite import run_attack
from drelu_cli.runtime.streams import Stream

NETS = ("dense", "dense AT", "dense D-ReLU")
LOSSES = {"apgd_ce": "ce", "apgd_dlr": "dlr", "apgd_t": "dlr-targeted"}
IMAGES, SEEDS, STEPS = 1000, (0, 1, 2), 100
THREAT = ThreatModel("linf", 0.1)


class Started:
    """Gives each single run of an attack of pyautoattack our start, on the samples left to it."""

    def __init__(self, name: str, attack: Any, samples: Samples, seed: int) -> None:
        self.name = name
        self.samples = samples
        self.seed = seed
        self.runs = 0
        self.left = torch.arange(len(samples))
        self.single = attack.attack_single_run
        attack.attack_single_run = self

    def __call__(self, x: Tensor, y: Tensor) -> Any:
        """A single run: (best, accuracy, loss, adversarial), each (n, ...)."""
        drawn = Stream(self.seed, self.samples.index[self.left], (self.name,)).at(self.name)
        targeted = self.name == "apgd_t"
        place = ("target", self.runs, "restart", 0) if targeted else ("restart", self.runs)
        found = self.single(x, y, x_init=random_on_sphere(x, THREAT, drawn.at(*place)))
        self.runs += 1
        self.left = self.left[found[1] != 0]
        return found


def theirs(name: str, model: nn.Module, samples: Samples, seed: int) -> Tensor:
    """(n,) bool: what pyautoattack breaks from our starts."""
    kind = APGDAttack_targeted if name == "apgd_t" else APGDAttack
    options = {"n_iter": STEPS, "norm": "Linf", "eps": THREAT.eps, "seed": seed, "device": "cpu"}
    attack = kind(model, **options)
    if name != "apgd_t":
        attack.loss = LOSSES[name]
    Started(name, attack, samples, seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that gradients are zero is why this is looked at
        found = attack.perturb(samples.x.clone(), samples.y.clone())
    return predict(model, found) != samples.y


def ours(name: str, model: nn.Module, samples: Samples, seed: int) -> Tensor:
    """(n,) bool: what this engine breaks."""
    outcomes = run_attack(
        model, samples, ATTACKS.bind(name, steps=STEPS), THREAT, seed=seed
    ).outcomes
    return torch.tensor([one.state is State.BROKEN for one in outcomes])


def main() -> None:
    """Measures, prints, and with `--write` writes the section."""
    given = section_options(__doc__)
    torch.set_num_threads(1)
    rows = []
    for net in NETS:
        model, samples = network(net, given.work, given.data_dir, "cpu", IMAGES)
        for name in LOSSES:
            pairs = [
                (ours(name, model, samples, seed), theirs(name, model, samples, seed))
                for seed in SEEDS
            ]
            counts = [
                sum(int(one.sum()) for one in column)
                for column in (
                    [a for a, _ in pairs],
                    [b for _, b in pairs],
                    [a & ~b for a, b in pairs],
                    [b & ~a for a, b in pairs],
                )
            ]
            rows.append(f"| {net} | {name} | " + " | ".join(map(str, counts)) + " |")
            print(rows[-1], flush=True)
    text = (
        "## The same starts, here and in AutoAttack\n\n"
        f"{machine()}; {versions('torch', 'pyautoattack')}. `python benchmarks/same_starts.py "
        f"--write`: {IMAGES:,} images x {len(SEEDS)} seeds, MNIST, Linf {THREAT.eps:g}, {STEPS} "
        "steps; pyautoattack's runs begin at our random starts.\n\n"
        "| net | attack | drelu broke | pyautoattack broke | only drelu | only pyautoattack |\n"
        "| --- | --- | ---: | ---: | ---: | ---: |\n" + "\n".join(rows) + "\n"
    )
    print(text)
    if given.write:
        write_section("same starts", text)


if __name__ == "__main__":
    main()
