import math

import pytest
import torch
from torch import nn

from drelu_cli.attacks.contract import AttackResult
from drelu_cli.core.errors import BadValue, DreluError, InternalError
from drelu_cli.core.records import State, ThreatModel
from drelu_cli.core.registry import Bound
from drelu_cli.evaluation.judge import accuracy, distance, predict, returned_inputs, verify
from drelu_cli.evaluation.samples import Samples
from drelu_cli.evaluation.suite import check_fits, run_attack
from drelu_cli.runtime.streams import Stream


class Table(nn.Module):
    """Logits looked up by the first pixel: a model whose every answer is known."""

    def __init__(self, logits):
        super().__init__()
        self.register_buffer("logits", torch.tensor(logits))

    def forward(self, x):
        return self.logits[(x.flatten(1)[:, 0] * 10).round().long()]


def test_ties_go_to_the_lowest_class_and_non_finite_is_no_class():
    model = Table([[1.0, 1.0, 0.0], [0.0, 2.0, 2.0], [float("nan"), 5.0, 0.0], [math.inf, 0, 0]])
    x = torch.tensor([0.0, 0.1, 0.2, 0.3]).reshape(4, 1, 1, 1)
    assert predict(model, x).tolist() == [0, 1, -1, -1]
    assert predict(model, x[:0]).tolist() == []


def test_distances():
    x = torch.zeros(2, 1, 2, 2)
    moved = x.clone()
    moved[0, 0, 0, 0], moved[1] = 0.3, 0.1
    assert distance(x, moved, "linf").tolist() == pytest.approx([0.3, 0.1])
    assert distance(x, moved, "l2").tolist() == pytest.approx([0.3, 0.2])


@pytest.mark.parametrize(
    ("shift", "norm", "eps", "word"),
    [(0.2, "linf", 0.1, "ball"), (0.2, "l2", 0.3, "ball"), (-0.6, "linf", 1.0, "box")],
)
def test_points_outside_are_our_fault_and_named(shift, norm, eps, word):
    x = torch.full((1, 1, 2, 2), 0.5)
    with pytest.raises(InternalError, match=f"attack mine left the {word}"):
        verify(x, x + shift, ThreatModel(norm, eps), attack="mine")


def test_nan_points_and_wrong_shapes_are_refused():
    x = torch.full((1, 1, 2, 2), 0.5)
    with pytest.raises(InternalError, match="box"):
        verify(x, x * float("nan"), ThreatModel("linf", 0.1), attack="mine")
    with pytest.raises(InternalError, match="returned"):
        verify(x, x[0], ThreatModel("linf", 0.1), attack="mine")
    with pytest.raises(InternalError, match="float64"):
        verify(x, x.double(), ThreatModel("linf", 0.1), attack="mine")


def shifting(amount, says=None):
    """An attack that moves every pixel and claims nothing."""

    def attack(model, x, y, threat, stream):
        count = torch.ones(len(x), dtype=torch.int64)
        return AttackResult(x + amount, count, 2 * count)

    attack.norms, attack.min_classes = ("linf",), 3
    return Bound("shift", attack, {}, {})


def samples():
    x = torch.tensor([0.0, 0.1, 0.2]).reshape(3, 1, 1, 1)
    return Samples(torch.tensor([7, 3, 5]), x, torch.tensor([0, 1, 0]))


def test_the_evaluation_judges_and_clean_errors_are_broken_without_a_pass():
    # Correct at 0 and .1, wrong at .2; the shift by .1 turns sample 7 (0 -> .1) and leaves 3.
    model = Table([[1.0, 0, 0], [0, 1.0, 0], [0, 1.0, 0], [0, 0, 1.0]])
    judged = run_attack(model, samples(), shifting(0.1), ThreatModel("linf", 0.1), seed=0)
    turned, held, wrong = judged.outcomes
    assert (turned.sample, turned.state, turned.adv_pred) == (7, State.BROKEN, 1)
    assert turned.distance == pytest.approx(0.1)
    assert (held.sample, held.state) == (3, State.ROBUST)
    assert math.isnan(held.distance)
    assert (held.forwards, held.backwards) == (1, 2)
    assert (wrong.sample, wrong.state, wrong.distance) == (5, State.BROKEN, 0.0)
    assert (wrong.forwards, wrong.backwards, wrong.clean_pred) == (0, 0, 1)
    assert torch.equal(judged.x_adv[2], samples().x[2])


def test_a_model_that_is_always_wrong_needs_no_attack():
    model = Table([[0.0, 0, 1.0]] * 4)
    judged = run_attack(model, samples(), shifting(9.0), ThreatModel("linf", 0.1), seed=0)
    assert {outcome.state for outcome in judged.outcomes} == {State.BROKEN}


def test_modes_are_restored_also_when_the_attack_raises():
    def attack(model, x, y, threat, stream):
        assert not model.training
        raise RuntimeError("gone")

    model = Table([[1.0, 0, 0]] * 4).train()
    with pytest.raises(RuntimeError, match="gone"):
        run_attack(model, samples(), Bound("b", attack, {}, {}), ThreatModel("linf", 0.1), seed=0)
    assert model.training


def test_the_stream_is_the_sample_s_own():
    seen = []

    def attack(model, x, y, threat, stream):
        seen.append(stream)
        count = torch.ones(len(x), dtype=torch.int64)
        return AttackResult(x, count, count)

    model = Table([[1.0, 0, 0], [0, 1.0, 0], [0, 1.0, 0]])
    run_attack(model, samples(), Bound("mine", attack, {}, {}), ThreatModel("linf", 0.1), seed=4)
    assert isinstance(seen[0], Stream)
    assert (seen[0].seed, seen[0].path, seen[0].index.tolist()) == (4, ("mine",), [7, 3])


def test_attacks_are_refused_where_they_are_not_defined():
    with pytest.raises(BadValue, match="norm l2"):
        check_fits(shifting(0), ThreatModel("l2", 0.1), 10)
    with pytest.raises(BadValue, match="at least 3 classes, not 2"):
        check_fits(shifting(0), ThreatModel("linf", 0.1), 2)


def test_accuracy_counts_in_batches():
    model = Table([[1.0, 0, 0], [0, 1.0, 0], [0, 1.0, 0]])
    images = torch.tensor([0, 26, 51], dtype=torch.uint8).reshape(3, 1, 1, 1)
    for batch in (1, 2, 10):
        found = accuracy(model, images, torch.tensor([0, 1, 0]), torch.device("cpu"), batch=batch)
        assert found == pytest.approx(2 / 3)


def test_a_library_s_points_outside_are_the_input_again():
    x = torch.full((5, 1, 1, 2), 0.5)
    points = x.clone()
    points[0] += 0.1  # inside
    points[1] += 0.1 + 5e-7  # rounding
    points[2] += 0.11
    points[3, 0, 0, 0] = 1.2
    points[4] = float("nan")
    kept, outside = returned_inputs(x, points, ThreatModel("linf", 0.1), attack="cw of other 1")
    assert outside == 3
    assert torch.equal(kept[:2], points[:2])
    assert torch.equal(kept[2:], x[2:])
    corner = returned_inputs(x, points, ThreatModel("l2", 0.1), attack="cw of other 1")
    assert corner[1] == 5
    for wrong in (points[:4], points.double()):
        with pytest.raises(DreluError, match="cw of other 1 returned") as caught:
            returned_inputs(x, wrong, ThreatModel("linf", 0.1), attack="cw of other 1")
        assert caught.value.exit_code == 2
