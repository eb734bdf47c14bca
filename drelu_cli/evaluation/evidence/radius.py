"""Radii at which no classifier can be right."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from drelu_cli.core.records import Evidence
from drelu_cli.evaluation.evidence.contract import Case, Need, check

# At 0.5 every image can become the same grey one; at 1.0 any image.
HALF = Need("pgd", eps=0.5, norm="linf")
WHOLE = Need("pgd", eps=1.0, norm="linf")


@check(version=1, needs=(HALF, WHOLE))
def large_radius(case: Case) -> Sequence[Evidence]:
    """What PGD leaves at Linf 0.5 and 1.0 (1902.06705): at most one class, and nothing."""
    if case.threat.norm != "linf":
        return ()
    largest = int(torch.bincount(case.samples.y).max()) / len(case.samples)
    found = []
    for need, most in ((HALF, largest), (WHOLE, 0.0)):
        robust = case.robust(need)
        if robust is None:
            continue
        share = sum(robust) / len(robust)
        detail = f"pgd leaves {share:.1%} at eps {need.eps:g}, where {most:.1%} is the most"
        found.append(
            Evidence(
                "large_radius", f"pgd at eps {need.eps:g}", share, most, share > most, detail=detail
            )
        )
    return found
