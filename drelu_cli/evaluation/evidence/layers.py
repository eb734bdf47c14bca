"""Where the units of each layer sit: at 0, inside, at the cap."""

from __future__ import annotations

from collections.abc import Sequence

from drelu_cli.activations.saturation import saturation
from drelu_cli.core.records import Evidence
from drelu_cli.evaluation.averaging import Averaged
from drelu_cli.evaluation.evidence.contract import Case, check

_SAMPLES = 256
# A layer whose units are nearly all at an end has a Jacobian of nearly nothing but zeros.
SATURATED = 0.95


@check(version=1, cheap=True)
def saturation_of_layers(case: Case) -> Sequence[Evidence]:
    """Per layer the share of units at one of the ends, on clean inputs; not of random models."""
    if isinstance(case.model, Averaged):
        return []
    return [
        Evidence(
            "saturation",
            layer,
            1.0 - found.inside,
            SATURATED,
            flag=1.0 - found.inside > SATURATED,
            detail=f"{layer}: {found.at_lower:.1%} of the units at the lower end, "
            f"{found.inside:.1%} inside, {found.at_cap:.1%} at the cap",
        )
        for layer, found in saturation(case.model, case.samples.x[:_SAMPLES]).items()
    ]
