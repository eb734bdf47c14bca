import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from drelu_cli.core.errors import BadValue, ModelError, UnknownName
from drelu_cli.evaluation.averaging import Averaged
from drelu_cli.evaluation.preflight import OVERRIDES, attackable, preflight
from drelu_cli.evaluation.selftest import linear_model_agrees

X = torch.rand(8, 1, 4, 4, generator=torch.Generator().manual_seed(0))


def net(classes=3, pixels=16):
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return nn.Sequential(nn.Flatten(), nn.Linear(pixels, classes)).eval()


class Wrapped(nn.Module):
    """A net whose outputs or inputs go through `change`."""

    def __init__(self, *, before=lambda x: x, after=lambda z: z):
        super().__init__()
        self.net, self.before, self.after = net(), before, after
        self.eval()

    def forward(self, x):
        return self.after(self.net(self.before(x)))


class BatchStatistics(nn.BatchNorm2d):
    """Batch norm that never leaves training mode."""

    def train(self, mode=True):
        return super().train(True)


class Counting(nn.Module):
    """Counts its calls in a buffer that is not saved."""

    def __init__(self):
        super().__init__()
        self.net = net()
        self.register_buffer("calls", torch.zeros(()), persistent=False)
        self.eval()

    def forward(self, x):
        self.calls += 1
        return self.net(x)


def with_weight(value):
    model = net()
    with torch.no_grad():
        model[1].weight[0, 0] = value
    return model


def constant(value):
    return Wrapped(after=lambda z: torch.full_like(z, value))


def dropout(x):
    return functional.dropout(x, 0.5, training=True)


REFUSED = [
    (lambda: Wrapped(after=lambda z: z.softmax(1)), "probabilities", "returns probabilities"),
    (lambda: Wrapped(before=dropout), "random", "differ"),
    (lambda: Wrapped(before=lambda x: x + 0.01 * torch.randn_like(x)), "random", "differ"),
    (
        lambda: Wrapped(before=lambda x: x + float(np.random.rand())),  # noqa: NPY002
        "random",
        "differ",
    ),
    (Counting, "stateful", "changes 'calls'"),
    (
        lambda: nn.Sequential(BatchStatistics(1), net()).eval(),
        "stateful",
        r"changes '0\.(num_batches_tracked|running_mean)'",
    ),
    (lambda: constant(float("inf")), "outputs", "not finite"),
]


def test_a_sound_model_has_no_findings():
    assert preflight(net(), X, 3, allow=OVERRIDES) == ()


def test_training_mode_is_named_and_put_back():
    model = net().train()
    (finding,) = preflight(model, X, 3)
    assert finding.code == "model-in-training-mode"
    assert model.training


def test_nan_weights_are_named():
    with pytest.raises(ModelError, match=r"1.weight"):
        preflight(with_weight(float("nan")), X, 3)


@pytest.mark.parametrize(("make", "code", "message"), REFUSED)
def test_a_refusal_names_what_overrides_it(make, code, message):
    with pytest.raises(ModelError, match=message) as caught:
        preflight(make(), X, 3)
    assert f"--allow {code}" in caught.value.hint
    others = [one for one in OVERRIDES if one != code]
    with pytest.raises(ModelError, match=message):
        preflight(make(), X, 3, allow=others)


@pytest.mark.parametrize(("make", "code", "message"), REFUSED)
def test_an_override_is_a_finding(make, code, message):
    (finding,) = preflight(make(), X, 3, allow=[code])
    assert finding.code == f"allowed-{code}"
    assert isinstance(attackable(make(), [finding]), Averaged) == (code == "random")


def test_each_objection_needs_its_own_override():
    found = preflight(with_weight(float("nan")), X, 3, allow=["weights", "outputs"])
    assert [one.code for one in found] == ["allowed-weights", "allowed-outputs"]
    with pytest.raises(ModelError, match="not finite"):
        preflight(with_weight(float("nan")), X, 3, allow=["weights"])


def test_an_unknown_override_is_named():
    with pytest.raises(UnknownName) as caught:
        preflight(net(), X, 3, allow=["probabilites"])
    assert "did you mean probabilities?" in caught.value.hint


@pytest.mark.parametrize(
    "after",
    [lambda z: z.log_softmax(1), lambda z: z.sigmoid(), lambda z: z.softmax(1) * 2, torch.relu],
)
def test_what_is_no_distribution_passes(after):
    assert preflight(Wrapped(after=after), X, 3) == ()


def test_few_images_prove_no_probabilities():
    model = Wrapped(after=lambda z: z.softmax(1))
    assert preflight(model, X[:7], 3) == ()
    with pytest.raises(ModelError, match="probabilities"):
        preflight(model, X, 3)


def test_a_forward_pass_may_use_up_random_numbers():
    before = torch.random.get_rng_state()
    assert preflight(Wrapped(before=lambda x: x + 0 * torch.randn_like(x)), X, 3) == ()
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.parametrize("x", [X * 3, X - 1, X * float("nan")])
def test_inputs_outside_the_box(x):
    with pytest.raises(BadValue, match=r"outside \[0, 1\]"):
        preflight(net(), x, 3, allow=OVERRIDES)


def test_another_image_size_says_which():
    with pytest.raises(ModelError, match=r"does not take images of 1x4x4"):
        preflight(net(pixels=784), X, 3, allow=OVERRIDES)


def test_the_number_of_classes_must_fit():
    with pytest.raises(ModelError, match=r"\(8, 3\), expected \(8, 10\)"):
        preflight(net(), X, 10, allow=OVERRIDES)


def test_outputs_are_a_tensor():
    with pytest.raises(ModelError, match="tuple"):
        preflight(Wrapped(after=lambda z: (z, z)), X, 3, allow=OVERRIDES)


def test_the_selftest_passes():
    assert "closed-form optimum" in linear_model_agrees(torch.device("cpu"))
