"""Every check sees what it is made for on a net built to show it, and nothing on an honest one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from drelu_cli.core.records import Outcome, State, ThreatModel
from drelu_cli.evaluation.evidence import EVIDENCE
from drelu_cli.evaluation.evidence.contract import Case
from drelu_cli.evaluation.evidence.order import DRAWS, RESCALED, TIED
from drelu_cli.evaluation.evidence.radius import HALF, WHOLE
from drelu_cli.evaluation.samples import Samples

THREAT = ThreatModel("linf", 0.1)
N, CLASSES = 40, 4


class Steps(nn.Module):
    """The logits of a linear net, rounded to whole numbers: flat almost everywhere."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        return torch.round(self.inner(x))


class Jitter(nn.Module):
    """A linear net with a ripple much finer than eps."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        ripple = torch.sin(3000 * x.flatten(1)[:, :CLASSES])
        return self.inner(x) * 0.01 + ripple


def linear() -> nn.Module:
    weight = torch.randn(CLASSES, 12, generator=torch.Generator().manual_seed(0))
    net = nn.Sequential(nn.Flatten(), nn.Linear(12, CLASSES)).eval()
    with torch.no_grad():
        net[1].weight.copy_(weight)
        net[1].bias.zero_()
    return net


def samples(model: nn.Module) -> Samples:
    x = 0.2 + 0.6 * torch.rand(N, 1, 3, 4, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        return Samples(torch.arange(N), x, model(x).argmax(1))


def outcomes(robust: Sequence[bool], *, wrong: int = 0) -> list[Outcome]:
    found = []
    for index, stands in enumerate(robust):
        if index < wrong:
            found.append(Outcome(index, State.BROKEN, 0, 0, 0.0, 0, 0))
        else:
            state = State.ROBUST if stands else State.BROKEN
            distance = float("nan") if stands else 0.05
            found.append(Outcome(index, state, 1, 1 if stands else 2, distance, 10, 10))
    return found


def case(model: nn.Module, **runs: Sequence[bool]) -> Case:
    known = {name: outcomes(robust) for name, robust in runs.items()}
    known.setdefault("pgd", outcomes([True] * N))
    return Case(model, samples(model), CLASSES, THREAT, 0, known, [True] * N)


def seen(name: str, of: Case) -> dict[str, tuple[float | None, bool]]:
    return {one.point: (one.value, one.flag) for one in EVIDENCE.resolve(name)(of)}


def test_every_check_declares_what_it_is():
    for name in EVIDENCE.names():
        check = EVIDENCE.resolve(name)
        assert check.version >= 1
        assert check.__doc__
        assert isinstance(check.cheap, bool)
        assert not (check.cheap and check.needs), f"{name}: cheap checks run nothing"


def test_zero_gradients_are_counted_per_loss_at_clean_and_final_points():
    flat = seen("zero_gradient", case(Steps(linear())))
    assert flat["ce at the clean input"] == (1.0, True)
    assert flat["dlr at the clean input"] == (1.0, True)
    assert flat["ce at the final point of pgd"] == (1.0, True)
    near = replace(case(linear(), apgd_dlr=[True] * N), threat=ThreatModel("linf", 1e-6))
    honest = seen("zero_gradient", near)
    assert honest["margin at the clean input"] == (0.0, False)
    assert honest["dlr at the final point of apgd_dlr"] == (0.0, False)


def test_final_points_are_looked_at_only_where_samples_stand():
    points = seen("zero_gradient", case(linear(), pgd=[False] * N))
    assert not any("final" in point for point in points)


def test_float64_tells_rounding_from_flatness():
    large = linear()
    with torch.no_grad():
        large[1].weight.mul_(1e2)
    rounding = seen("zero_gradient_float64", case(large))
    single, double = rounding["ce at a random point"], rounding["ce at a random point in float64"]
    assert single[1]
    assert not double[1]
    flat = seen("zero_gradient_float64", case(Steps(linear())))
    assert flat["ce at the clean input in float64"] == (1.0, True)


def test_a_model_that_knows_one_precision_only_is_left_out_there():
    class Single(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return net(x.float())

    net = linear()
    points = seen("zero_gradient_float64", case(Single()))
    assert points
    assert not any("float64" in point for point in points)


@pytest.mark.parametrize(("name", "stronger", "than"), [
    ("blackbox", "square", "apgd_ce"), ("loss_scale", RESCALED, "apgd_ce"),
    ("ties", TIED, "square"), ("order", "fgsm", "pgd"),
])  # fmt: skip
def test_an_order_is_flagged_only_beyond_chance(name, stronger, than):
    def value(first: Sequence[bool], second: Sequence[bool]) -> tuple[float | None, bool]:
        runs = {stronger: outcomes(first), than: outcomes(second)}
        of = Case(linear(), samples(linear()), CLASSES, THREAT, 0, runs, [True] * N)
        (one,) = EVIDENCE.resolve(name)(of)
        return one.value, one.flag

    more = [False] * 12 + [True] * (N - 12)
    assert value(more, [True] * N) == (0.3, True)
    assert value([True] * N, more) == (-0.3, False)
    few = [False] * 3 + [True] * (N - 3)
    assert value(few, [True] * N) == (0.075, False)  # p = .25


def test_checks_without_their_runs_say_nothing():
    of = case(linear())
    for name in ("order", "blackbox", "loss_scale", "ties", "transfer", "effort", "large_radius"):
        assert EVIDENCE.resolve(name)(of) == [] or EVIDENCE.resolve(name)(of) == ()


def test_samples_not_run_are_no_evidence_of_order():
    runs = {"square": outcomes([False] * N), "apgd_ce": outcomes([True] * N)}
    runs["square"][0] = Outcome(0, State.NOT_RUN, 1, 1, float("nan"), 0, 0)
    of = Case(linear(), samples(linear()), CLASSES, THREAT, 0, runs, [True] * N)
    assert list(EVIDENCE.resolve("blackbox")(of)) == []


def test_random_draws_count_what_they_break_of_the_survivors():
    stands = [True] * 20 + [False] * 20
    broken = outcomes([False] * 5 + [True] * 15 + [False] * 20)
    of = Case(linear(), samples(linear()), CLASSES, THREAT, 0, {DRAWS: broken}, stands)
    (one,) = EVIDENCE.resolve("random_draws")(of)
    assert one.value == pytest.approx(5 / 40)
    assert one.flag


def test_at_large_radii_at_most_one_class_and_nothing_may_stand():
    model = linear()
    largest = int(torch.bincount(samples(model).y).max())
    allowed = [True] * largest + [False] * (N - largest)
    runs = {HALF: outcomes(allowed), WHOLE: outcomes([True] + [False] * (N - 1))}
    of = Case(model, samples(model), CLASSES, THREAT, 0, runs, [True] * N)
    half, whole = EVIDENCE.resolve("large_radius")(of)
    assert not half.flag
    assert whole.flag


def test_loss_noise_tells_a_ripple_from_a_slope():
    (smooth,) = EVIDENCE.resolve("loss_noise")(case(linear()))
    (rough,) = EVIDENCE.resolve("loss_noise")(case(Jitter(linear())))
    assert smooth.value is not None
    assert smooth.value < 1.5
    assert not smooth.flag
    assert rough.flag


def test_binarisation_is_solved_on_a_net_with_gradients_and_not_behind_rounding():
    class Rounded(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            weight = torch.randn(30, 12, generator=torch.Generator().manual_seed(3))
            self.body = nn.Linear(12, 30)
            self.body.weight.data.copy_(weight)
            self.head = nn.Linear(30, CLASSES)
            self.flat = False

        def forward(self, x: Tensor) -> Tensor:
            features = torch.relu(self.body(x.flatten(1)))
            return self.head(torch.round(features * 50) / 50 if self.flat else features)

    torch.manual_seed(0)
    net = Rounded().eval()
    (honest,) = EVIDENCE.resolve("binarisation")(case(net))
    assert honest.value is not None
    assert honest.value >= 0.9
    net.flat = True
    (flat,) = EVIDENCE.resolve("binarisation")(case(net))
    assert flat.flag


def test_saturation_is_told_per_layer():
    from drelu_cli.activations.capped import SReLU

    net = nn.Sequential(nn.Flatten(), nn.Linear(12, 8), SReLU(8, 1e-3), nn.Linear(8, CLASSES))
    (layer,) = EVIDENCE.resolve("saturation")(case(net.eval()))
    assert layer.point == "2"
    assert layer.flag
