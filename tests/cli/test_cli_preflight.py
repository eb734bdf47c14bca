"""What the preflight refuses at the command line, and what `--allow` goes on with."""

import pytest

NETS = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.layer = nn.Linear(64, 10)
        self.layer.weight.data = torch.randn(10, 64, generator=generator)
        self.layer.bias.data = torch.zeros(10)
        self.eval()

    def forward(self, x):
        return self.layer(x.flatten(1))

class Softmax(Net):
    def forward(self, x):
        return super().forward(x).softmax(1)

class Noise(Net):
    def forward(self, x):
        return super().forward(x + 0.05 * torch.randn_like(x))

class Learning(Net):
    def __init__(self):
        super().__init__()
        self.register_buffer("mean", torch.zeros(()))

    def forward(self, x):
        self.mean = 0.9 * self.mean + 0.1 * x.mean()
        return super().forward(x)

class Broken(Net):
    def __init__(self):
        super().__init__()
        self.register_buffer("unused", torch.full((2,), float("nan")))
"""

FGSM = ("--attack", "fgsm", "--eps", "0.05", "--samples", "20")
REFUSED = [
    ("Softmax", "probabilities", "returns probabilities"),
    ("Noise", "random", "two forward passes"),
    ("Learning", "stateful", "changes 'mean'"),
    ("Broken", "weights", "'unused' has NaN"),
]


@pytest.fixture
def nets(tmp_path, monkeypatch, request):
    import re

    name = "preflight_" + re.sub(r"\W", "_", request.node.name)
    (tmp_path / f"{name}.py").write_text(NETS)
    monkeypatch.syspath_prepend(str(tmp_path))
    return name


@pytest.mark.parametrize(("net", "code", "message"), REFUSED)
def test_it_is_refused_with_the_name_that_overrides(drelu, nets, net, code, message):
    ran = drelu("attack", f"{nets}:{net}", *FGSM)
    assert ran.code == 2
    assert message in ran.err
    assert f"--allow {code}" in ran.err
    assert drelu("list", "evaluations", "--json").document["items"] == []


@pytest.mark.parametrize(("net", "code", "message"), REFUSED)
def test_an_override_is_named_with_every_entry(drelu, nets, net, code, message):
    ran = drelu("attack", f"{nets}:{net}", *FGSM, "--allow", code)
    assert ran.code == 0, ran.err
    assert "warning: allowed, though" in ran.out
    again = drelu("attack", f"{nets}:{net}", *FGSM, "--json")  # stored: nothing is run
    (entry,) = again.document["evaluations"]
    assert entry["attacks"][0]["reused"]
    assert [one["code"] for one in entry["findings"]] == [f"allowed-{code}"]
    assert message in entry["findings"][0]["detail"]
    more = drelu("attack", f"{nets}:{net}", *FGSM, "--attack", "pgd:steps=2")
    assert more.code == 2  # an override is given anew for what is run


def test_a_random_model_is_attacked_through_its_average(drelu, nets):
    words = ("attack", f"{nets}:Noise", *FGSM, "--allow", "random", "--json")
    first = drelu(*words).document["evaluations"][0]
    assert "averaged over 16 draws" in first["findings"][0]["detail"]
    other = drelu(*words, "--store", "elsewhere").document["evaluations"][0]
    for key in ("clean_accuracy", "worst_case"):
        assert first[key] == other[key]


@pytest.mark.parametrize(
    "words",
    [("--allow", "random", "--allow", "probabilities"), ("--allow", "random, probabilities")],
)
def test_names_one_by_one_or_with_commas(drelu, nets, words):
    ran = drelu("attack", f"{nets}:Softmax", *FGSM, *words, "--json")
    assert ran.code == 0
    (entry,) = ran.document["evaluations"]
    # What was not needed says nothing.
    assert [one["code"] for one in entry["findings"]] == ["allowed-probabilities"]


def test_an_unknown_override_costs_no_work(drelu):
    ran = drelu("attack", "--allow", "probabilites", *FGSM)
    assert ran.code == 2
    assert "unknown override 'probabilites'" in ran.err
    assert "did you mean probabilities?" in ran.err
