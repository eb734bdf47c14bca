"""A positive control of the attacks: adversarial points that are there by construction."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from drelu_cli.attacks.augment import bind_attack
from drelu_cli.attacks.geometry import random_in_ball, random_on_sphere
from drelu_cli.core.records import Evidence, State, ThreatModel
from drelu_cli.evaluation.averaging import Averaged
from drelu_cli.evaluation.evidence.contract import Case, check
from drelu_cli.evaluation.samples import Samples
from drelu_cli.evaluation.suite import run_attack
from drelu_cli.runtime.streams import Stream

_SAMPLES = 16
_FEWEST = 5  # problems; fewer say nothing
_INNER = 399  # points of the inner class; one point of the outer class (paper: 999 and 1)
# Inner points lie within this share of the radius, so that the classes can be told apart.
_INNER_SHARE = 0.95
_RIDGE = 1e-3  # in units of the mean squared feature
# What an attack that works must find; the paper asks for nearly all.
FOUND = 0.9


@check(version=1)
def binarisation(case: Case) -> Sequence[Evidence]:
    """Share of built two-class problems that APGD-CE solves (Zimmermann et al. 2022, 2206.13991).

    For each sample the last dense layer is replaced by a readout that tells one random point on
    the sphere from many points inside: an adversarial point exists, and an attack that does not
    find one fails on this network. Samples whose points the features cannot tell apart are left
    out; nets without a last dense layer and random models, too.
    """
    head = _head(case.model, case)
    if head is None or isinstance(case.model, Averaged):
        return ()
    solved, built, lucky = 0, 0, 0.0
    for place in range(min(_SAMPLES, len(case.samples))):
        sample = case.samples.rows(torch.tensor([place], device=case.samples.x.device))
        readout = _readout(case, head, sample)
        if readout is None:
            continue
        problem, share = readout
        built += 1
        lucky += share
        solved += _solved(problem, sample, case.threat, case.seed)
    if built < _FEWEST:
        return ()
    value = solved / built
    detail = (
        f"apgd_ce solves {solved} of {built} problems with a known adversarial point; one random "
        f"point of the sphere solves {lucky / built:.1%}"
    )
    point = "apgd_ce on built problems"
    return [Evidence("binarisation", point, value, FOUND, value < FOUND, detail=detail)]


class _Binary(nn.Module):
    """Two logits from the features before the last dense layer: class 1 beyond a threshold."""

    def __init__(self, model: nn.Module, head: nn.Linear, weight: Tensor, threshold: Tensor):
        super().__init__()
        self.model, self.head = model, head
        self.weight, self.threshold = weight, threshold

    def forward(self, x: Tensor) -> Tensor:
        """(n, ...) to (n, 2)."""
        score = features(self.model, self.head, x) @ self.weight - self.threshold
        return torch.stack([-score, score], dim=1)


def features(model: nn.Module, head: nn.Linear, x: Tensor) -> Tensor:
    """(n, d) what the last dense layer gets."""
    seen: list[Tensor] = []
    hook = head.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    try:
        model(x)
    finally:
        hook.remove()
    return seen[-1]


def _head(model: nn.Module, case: Case) -> nn.Linear | None:
    """The last dense layer with one output per class that a forward pass goes through."""
    ran: list[nn.Linear] = []
    fitting = [
        module
        for module in model.modules()
        if isinstance(module, nn.Linear) and module.out_features == case.classes
    ]
    hooks = [one.register_forward_hook(lambda module, _, __: ran.append(module)) for one in fitting]
    try:
        with torch.no_grad():
            model(case.samples.x[:1])
    finally:
        for hook in hooks:
            hook.remove()
    return ran[-1] if ran else None


def _readout(case: Case, head: nn.Linear, sample: Samples) -> tuple[nn.Module, float] | None:
    """A two-class problem around one sample, and how often a random point solves it."""
    stream = Stream(case.seed, sample.index.cpu(), ("evidence", "binarisation"))
    near = ThreatModel(case.threat.norm, _INNER_SHARE * case.threat.eps)
    x = sample.x.cpu()
    inner = _drawn(x, near, stream.at("inner"), _INNER)
    outer = _drawn(x, case.threat, stream.at("outer"), 1, sphere=True)
    fresh = _drawn(x, case.threat, stream.at("fresh"), 100, sphere=True)
    points = torch.cat([x, inner, outer, fresh]).to(sample.x)
    with torch.no_grad():
        seen = features(case.model, head, points)
    if seen.dim() != 2:
        return None
    train, place = seen[: _INNER + 2].double(), _INNER + 1
    centre = train[:place].mean(0)
    spread = (train[:place] - centre).T @ (train[:place] - centre) / place
    ridge = _RIDGE * spread.diagonal().mean().clamp(min=1e-12)
    away = train[place] - centre
    weight = torch.linalg.solve(spread + ridge * torch.eye(len(away)).to(spread), away)
    score = train @ weight
    low, high = score[:place].max(), score[place]
    if not bool(high - low > 1e-9 * score.abs().max()):
        return None
    # Unit spread: the scale of the logits is no matter of this test.
    scale = 1.0 / (high - score[:place].mean())
    threshold = (low + high) / 2 * scale
    problem = _Binary(case.model, head, (weight * scale).to(seen), threshold.to(seen)).eval()
    with torch.no_grad():
        crossed = problem(points[place + 1 :]).argmax(1).double().mean()
    return problem, float(crossed)


def _drawn(
    x: Tensor, threat: ThreatModel, stream: Stream, count: int, *, sphere: bool = False
) -> Tensor:
    """(count, ...) random points around the one sample `x`."""
    draw = random_on_sphere if sphere else random_in_ball
    points = [draw(x, threat, stream.at("point", number)) for number in range(count)]
    return torch.cat(points)


def _solved(problem: nn.Module, sample: Samples, threat: ThreatModel, seed: int) -> bool:
    """Whether APGD-CE finds a point of class 1; false where the input itself is one."""
    asked = Samples(sample.index, sample.x, torch.zeros_like(sample.y))
    judged = run_attack(problem, asked, bind_attack("apgd_ce"), threat, seed=seed)
    outcome = judged.outcomes[0]
    return outcome.state is State.BROKEN and not outcome.clean_wrong
