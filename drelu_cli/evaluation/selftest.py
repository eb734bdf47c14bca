"""The attacks against a linear model, whose optimum is known in closed form."""

from __future__ import annotations

import torch
from torch import nn

from drelu_cli.attacks import ATTACKS
from drelu_cli.core.errors import InternalError
from drelu_cli.core.records import Norm, State, ThreatModel
from drelu_cli.evaluation.samples import Samples
from drelu_cli.evaluation.suite import run_attack
from drelu_cli.runtime.streams import Stream

_SAMPLES = 64
_PIXELS = 12


def linear_model_agrees(device: torch.device) -> str:
    """Runs FGSM and PGD on a linear two-class model and compares with its exact robustness.

    A sample with margin w.x + b falls to radius eps exactly when |margin| < eps * ||w||_1
    (Linf) or eps * ||w||_2 (L2); samples lie far enough inside the box for both.

    Returns:
        One sentence.

    Raises:
        InternalError: an outcome differs; attack and norm are named.
    """
    stream = Stream(0, torch.arange(_SAMPLES)).at("selftest")
    x = (0.25 + 0.5 * stream.uniform("x", (_PIXELS,))).reshape(_SAMPLES, 1, 3, 4).to(device)
    weight = stream.rows(slice(0, 1)).normal("w", (_PIXELS,))
    model = nn.Sequential(nn.Flatten(), nn.Linear(_PIXELS, 2)).to(device)
    with torch.no_grad():
        model[1].weight.copy_(torch.cat([-weight, weight]) / 2.0)  # type: ignore[operator]
        model[1].bias.copy_(0.25 * torch.tensor([weight.sum(), -weight.sum()]))  # type: ignore[operator]
        logits = model(x)
    margin = (logits[:, 1] - logits[:, 0]).cpu()
    samples = Samples(torch.arange(_SAMPLES, device=device), x, logits.argmax(dim=1))
    norms: tuple[tuple[Norm, float], ...] = (("linf", 1.0), ("l2", 2.0))
    for norm, dual in norms:
        reach = float(torch.linalg.vector_norm(weight, 1.0 if norm == "linf" else dual))
        threat = ThreatModel(norm, 0.05)
        expected = (margin.abs() > threat.eps * reach).tolist()
        for attack in ("fgsm", "pgd"):
            judged = run_attack(model, samples, ATTACKS.bind(attack), threat, seed=0)
            robust = [outcome.state is State.ROBUST for outcome in judged.outcomes]
            if robust != expected:
                wrong = sum(a != b for a, b in zip(robust, expected, strict=True))
                raise InternalError(f"{attack} ({norm}) differs from the optimum on {wrong} images")
    return f"fgsm and pgd reach the closed-form optimum on {_SAMPLES} images, Linf and L2"
