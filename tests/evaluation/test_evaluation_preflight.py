import pytest
import torch
from torch import nn

from drelu_cli.core.errors import BadValue, ModelError
from drelu_cli.evaluation.preflight import preflight
from drelu_cli.evaluation.selftest import linear_model_agrees

X = torch.full((2, 1, 4, 4), 0.5)


def net(classes=3, pixels=16):
    return nn.Sequential(nn.Flatten(), nn.Linear(pixels, classes)).eval()


def test_a_sound_model_has_no_findings():
    assert preflight(net(), X, 3) == ()


def test_training_mode_is_named_and_put_back():
    model = net().train()
    (finding,) = preflight(model, X, 3)
    assert finding.code == "model-in-training-mode"
    assert model.training


def test_nan_weights_are_named():
    model = net()
    with torch.no_grad():
        model[1].weight[0, 0] = float("nan")
    with pytest.raises(ModelError, match=r"1.weight"):
        preflight(model, X, 3)


@pytest.mark.parametrize("x", [X * 3, X - 1, X * float("nan")])
def test_inputs_outside_the_box(x):
    with pytest.raises(BadValue, match=r"outside \[0, 1\]"):
        preflight(net(), x, 3)


def test_another_image_size_says_which():
    with pytest.raises(ModelError, match=r"does not take images of 1x4x4"):
        preflight(net(pixels=784), X, 3)


def test_the_number_of_classes_must_fit():
    with pytest.raises(ModelError, match=r"\(2, 3\), expected \(2, 10\)"):
        preflight(net(), X, 10)


def test_outputs_must_be_finite_logits():
    class Odd(nn.Module):
        def __init__(self, out):
            super().__init__()
            self.out = out

        def forward(self, x):
            return self.out

    with pytest.raises(ModelError, match="not finite"):
        preflight(Odd(torch.full((2, 3), float("inf"))), X, 3)
    with pytest.raises(ModelError, match="tuple"):
        preflight(Odd((X, X)), X, 3)


def test_the_selftest_passes():
    assert "closed-form optimum" in linear_model_agrees(torch.device("cpu"))
