"""What the suite `standard` leaves of 200 images whose robust accuracy is known to 0.5 points.

    python benchmarks/standard_window.py --oracles DIR

DIR holds `mnist_cnn_a_adv.pt` and the images its window, 76.0 to 76.5 % at Linf 0.3, was proven
on. Every attack runs on what the earlier ones left, as the suite does. The second table multiplies
the logits: what a loss sees of large and small ones in float32.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy
import torch
from certified_never_broken import network
from page import machine, versions
from torch import Tensor, nn

from drelu_cli.attacks import ATTACKS
from drelu_cli.attacks.suites import SUITES
from drelu_cli.core.records import State, ThreatModel
from drelu_cli.evaluation.samples import Samples
from drelu_cli.evaluation.suite import run_attack

THREAT = ThreatModel("linf", 0.3)
SEEDS = 3
SCALES = (1.0, 1e4, 1e-4)
SCALED = ("apgd_ce", "apgd_ce_rescaled", "apgd_margin")


class Scaled(nn.Module):
    """A network with its logits multiplied by a constant."""

    def __init__(self, net: nn.Module, scale: float) -> None:
        super().__init__()
        self.net = net
        self.scale = scale

    def forward(self, x: Tensor) -> Tensor:
        """(n, ...) -> (n, K)."""
        return self.scale * self.net(x)


def left_by(name: str, model: nn.Module, samples: Samples, seed: int) -> Samples:
    """The samples that stand after one attack."""
    outcomes = run_attack(model, samples, ATTACKS.bind(name), THREAT, seed=seed).outcomes
    return samples.rows(torch.tensor([one.state is State.ROBUST for one in outcomes]))


def main() -> None:
    """Prints both tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--oracles", type=Path, required=True)
    folder = parser.parse_args().oracles
    net = network(folder / "mnist_cnn_a_adv.pt")
    x = torch.from_numpy(numpy.load(folder / "mnist_sdp_x.npy")).permute(0, 3, 1, 2).contiguous()
    y = torch.from_numpy(numpy.load(folder / "mnist_sdp_y.npy")).long()
    everything = Samples(torch.arange(len(y)), x, y)
    names = [entry.attack for entry in SUITES["standard"]]
    print(f"{machine()}, {versions('torch')}; n = {len(y)}, Linf {THREAT.eps}.\n")
    print(f"| seed | {' | '.join(names)} |\n|{' ---: |' * (1 + len(names))}")
    for seed in range(SEEDS):
        left, counts = everything, []
        for name in names:
            left = left_by(name, net, left, seed)
            counts.append(str(len(left)))
        print(f"| {seed} | {' | '.join(counts)} |", flush=True)
    print(f"\n| scale | {' | '.join(SCALED)} |\n|{' ---: |' * (1 + len(SCALED))}")
    for scale in SCALES:
        model = Scaled(net, scale)
        found = [str(len(left_by(name, model, everything, 0))) for name in SCALED]
        print(f"| {scale:g} | {' | '.join(found)} |", flush=True)


if __name__ == "__main__":
    main()
