"""CW-L2 beside foolbox's: the smallest distance found, image by image.

    python benchmarks/cw_distances.py --work DIR --data-dir DATA [--net "dense AT"] [--samples 100]

Uses the networks of the speed table (DIR as for speed.py). Prints how often each side is nearer by
more than 0.01, what stands at the bound, and what another patience changes.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import foolbox
import torch
from speed_nets import NETS, network
from torch import Tensor, nn

from drelu_cli.attacks import ATTACKS
from drelu_cli.core.records import ThreatModel
from drelu_cli.evaluation.samples import Samples
from drelu_cli.runtime.streams import Stream

FAR = 10.0
PATIENCES = (100, 300)


def distances(model: nn.Module, samples: Samples, points: Tensor) -> Tensor:
    """(N,) L2 distances of misclassified points; FAR where a point is classified correctly."""
    with torch.no_grad():
        correct = model(points).argmax(1) == samples.y
    away = (points - samples.x).flatten(1).norm(dim=1)
    return torch.where(correct, torch.full_like(away, FAR), away)


def main() -> None:
    """Prints the comparison."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, default=Path("build/speed"))
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--net", default="dense AT")
    parser.add_argument("--samples", type=int, default=100)
    given = parser.parse_args()
    torch.set_num_threads(1)
    model, samples = network(given.net, given.work, given.data_dir, "cpu", given.samples)
    bound = NETS[given.net].l2
    threat, stream = ThreatModel("l2", FAR / 2), Stream(0, samples.index)
    exact = ATTACKS.bind("cw_l2", exact=True)(model, samples.x, samples.y, threat, stream)
    ours = distances(model, samples, exact.x_adv)
    reference = foolbox.attacks.L2CarliniWagnerAttack(steps=1000)
    found, _, _ = reference(
        foolbox.PyTorchModel(model, (0, 1), device="cpu"), samples.x, samples.y, epsilons=None
    )
    theirs = distances(model, samples, found)
    print(f"{given.net}, {len(ours)} images, bound {bound}")
    print(f"mean smallest distance: ours {ours.mean():.4f}, foolbox {theirs.mean():.4f}")
    nearer = [int((a + 0.01 < b).sum()) for a, b in ((ours, theirs), (theirs, ours))]
    print(f"nearer by more than 0.01: ours {nearer[0]}, foolbox {nearer[1]}")
    print(f"standing: ours {int((ours > bound).sum())}, foolbox {int((theirs > bound).sum())}")
    for patience in PATIENCES:
        attack = ATTACKS.bind("cw_l2", patience=patience)
        at_bound = attack(model, samples.x, samples.y, ThreatModel("l2", bound), stream)
        standing = int((distances(model, samples, at_bound.x_adv) > bound).sum())
        print(f"decision at the bound, patience {patience}: {standing} stand")


if __name__ == "__main__":
    main()
