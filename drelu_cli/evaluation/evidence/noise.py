"""How rough the loss is along random directions."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from drelu_cli.attacks.losses import margin
from drelu_cli.core.records import Evidence
from drelu_cli.evaluation.evidence.contract import Case, check
from drelu_cli.runtime.streams import Stream

_SAMPLES = 64
_PLACES = 21  # odd: the input itself is one of them
# A loss that rises and falls once has 2; honest nets stay below (docs/benchmarks/court.md).
ROUGH = 2.0


@check(version=1)
def loss_noise(case: Case) -> Sequence[Evidence]:
    """Total variation of the margin over its range, on lines through the input; the median.

    1 where it only rises or only falls from -eps to +eps along a random sign direction; large
    where it jitters: noisy gradients (Pintor et al. 2022, 2106.09947). Constant lines count 1.
    """
    samples = case.samples.rows(torch.arange(min(_SAMPLES, len(case.samples))))
    stream = Stream(case.seed, samples.index.cpu(), ("evidence", "loss_noise"))
    way = stream.signs("direction", tuple(samples.x.shape[1:])).to(samples.x)
    reach = case.threat.eps / (1.0 if case.threat.norm == "linf" else way[0].numel() ** 0.5)
    values = []
    with torch.no_grad():
        for share in torch.linspace(-1.0, 1.0, _PLACES).tolist():
            points = (samples.x + share * reach * way).clamp(0.0, 1.0)
            values.append(margin(case.model(points), samples.y))
    line = torch.stack(values).double()
    spread = line.amax(0) - line.amin(0)
    variation = line.diff(dim=0).abs().sum(0)
    rough = torch.where(spread > 0, variation / spread, torch.ones_like(spread))
    value = float(rough.median())
    detail = f"along random directions the margin varies {value:.2f} times its range"
    return [Evidence("loss_noise", "random directions", value, ROUGH, value > ROUGH, detail=detail)]
