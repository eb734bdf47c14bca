"""APGD led around flat activations: first by a network without them, then by the model itself."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field
from torch import Tensor, nn

from drelu_cli.activations import guide as guides
from drelu_cli.attacks.apgd import Apgd
from drelu_cli.attacks.augmented import probes
from drelu_cli.attacks.contract import AttackResult, attack
from drelu_cli.attacks.led import LedApgd, led_run
from drelu_cli.attacks.pgd import LOSSES
from drelu_cli.attacks.stages import KEPT, samples, untouched, worse, worst_over
from drelu_cli.core.errors import BadValue
from drelu_cli.core.records import ThreatModel
from drelu_cli.runtime.driver import Rows, drive, taken
from drelu_cli.runtime.streams import Stream


@attack(version=1, norms=("linf", "l2"))
def apgd_guided(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    threat: ThreatModel,
    stream: Stream,
    *,
    guide: Literal["uncapped", "leaky"] = "leaky",
    loss: Literal["ce", "dlr", "margin"] = "margin",
    steps: Annotated[int, Field(ge=1)] = 100,
    warm: Annotated[int, Field(ge=0)] = 100,
    restarts: Annotated[int, Field(ge=1)] = 1,
    rho: Annotated[float, Field(gt=0, le=1)] = 0.75,
) -> AttackResult:
    """APGD (2003.01690) on a guide, then on the model from the best point the guide led to.

    The guide has the model's weights and no flat activations: a loss on what lies before them,
    as Carlini et al. 2019 (1902.06705) and Athalye et al. 2018 (1802.00420) attack layers that
    hide their input. The model judges every point of the first phase; the second starts where
    the model's own loss was largest among them, with APGD's first step of 2 eps.

    Args:
        model: (n, ...) -> logits (n, K), in evaluation mode.
        x: (N, ...) in [0, 1].
        y: (N,) int64.
        threat: ball, Linf or L2.
        stream: random numbers.
        guide: `uncapped`: every cap is infinite; `leaky`: every flat module f(z) becomes
            f(z) + 0.1 z. Where the model has nothing flat, it is its own `leaky` guide.
        loss: of both phases; `dlr` needs 3 classes.
        steps: gradient steps of the first phase; a point costs a forward pass through the guide
            and one through the model. Building the guide is not counted.
        warm: gradient steps of the second phase; 0 leaves it out.
        restarts: both phases from different random starts, on samples that still stand.
        rho: as in `apgd_ce`.

    Raises:
        BadValue: the guide `uncapped` for a model without caps.
    """
    if threat.eps == 0:
        return untouched(x)
    leader = _leader(model, guide, x)
    led = LedApgd(leader, model, threat, LOSSES[loss], steps, rho)
    own = Apgd(model, threat, LOSSES[loss], max(warm, 1), rho)

    def run(queue: Rows, drawn: Stream) -> Rows:
        found = led_run(queue, led, drawn)
        return _warmed(queue, found, own) if warm else found

    stages = [stream.at("apgd_guided", "restart", number) for number in range(restarts)]
    return worst_over(samples(x, y, stream), stages, run)


def _leader(model: nn.Module, name: str, x: Tensor) -> nn.Module:
    """The guide of the model."""
    points = probes(x)
    if name in guides.guide_names(model, points):
        return guides.guide(model, name, points)
    if name == guides.LEAKY:
        return model
    raise BadValue(
        "the guide `uncapped` needs a capped activation, and this model has none",
        hint="guide=leaky works for any model",
    )


def _warmed(queue: Rows, found: Rows, ascent: Apgd) -> Rows:
    """`found` after APGD from its points, on those that are not misclassified."""
    standing = (~found["wrong"]).nonzero()[:, 0]
    if len(standing) == 0:
        return found
    before = taken({name: found[name] for name in KEPT}, standing)
    rest = {**taken(queue, standing), "from": before["best"]}

    def start(rows: Rows) -> Rows:
        here = {name: rows[name] for name in rows if name != "from"}
        return ascent.start(here, rows["from"])

    after = worse(drive(rest, start, ascent.step, keep=KEPT), before)
    return {name: found[name].index_copy(0, standing, after[name]) for name in KEPT}
