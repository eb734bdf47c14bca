"""Models from outside: what makes two of them different, and what a registry model refuses."""

import numpy as np
import pytest

NETS = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, scale):
        super().__init__()
        self.scale = scale
        self.layer = nn.Linear(64, {classes})
        nn.init.eye_(self.layer.weight)
        nn.init.zeros_(self.layer.bias)
    def forward(self, x):
        return self.scale * self.layer(x.flatten(1)){extra}

def one():
    return Net(1.0).eval()

def other():
    return Net(-1.0).eval()
"""


@pytest.fixture
def nets(tmp_path, monkeypatch, request):
    """A module of the user's own, under a name that no other test has imported."""
    import re

    name = "nets_" + re.sub(r"\W", "_", request.node.name)
    (tmp_path / f"{name}.py").write_text(NETS.format(classes=10, extra=""))
    monkeypatch.syspath_prepend(str(tmp_path))
    return name


def images(path, classes=10, seed=0, count=80):
    rng = np.random.default_rng(seed)
    x = rng.integers(0, 255, (count, 8, 8, 1), dtype=np.uint8)
    y = np.arange(count) % classes
    np.savez(path, x_train=x, y_train=y, x_test=x, y_test=y)


FGSM = ("--attack", "fgsm", "--samples", "40", "--json")


def entry(ran):
    assert ran.code == 0, ran.err
    (found,) = ran.document["evaluations"]
    return found


def test_a_factor_in_front_of_the_logits_makes_another_model(drelu, nets):
    first = entry(drelu("attack", f"{nets}:one", *FGSM))
    second = entry(drelu("attack", f"{nets}:other", *FGSM))
    assert first["model"] != second["model"]
    assert not second["attacks"][0]["reused"]


def test_another_data_set_makes_another_registration(drelu, nets, tmp_path):
    images(tmp_path / "mine.npz")
    first = entry(drelu("attack", f"{nets}:one", *FGSM))
    second = entry(drelu("attack", f"{nets}:one", "--dataset", "mine.npz", "--label", "A", *FGSM))
    assert (first["dataset"], second["dataset"]) == ("digits", "npz")
    assert first["model"] != second["model"]
    assert second["label"] == "A"
    relabelled = entry(drelu("attack", f"{nets}:one", "--label", "B", *FGSM))
    assert (relabelled["label"], relabelled["model"]) == ("B", first["model"])


def test_changed_code_is_noticed(drelu, nets, tmp_path, monkeypatch):
    import sys

    name = entry(drelu("attack", f"{nets}:one", *FGSM))["name"]
    (tmp_path / f"{nets}.py").write_text(NETS.format(classes=10, extra=" * 2"))
    monkeypatch.delitem(sys.modules, nets)
    import importlib
    import linecache

    importlib.invalidate_caches()
    linecache.clearcache()
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    for cached in (tmp_path / "__pycache__").glob("*"):
        cached.unlink()
    ran = drelu("attack", name, "--attack", "fgsm", "--eps", "0.07")
    assert ran.code == 2
    assert "the code of one has changed" in ran.err


def test_the_wrong_number_of_classes_is_refused_and_not_registered(drelu, nets, tmp_path):
    images(tmp_path / "three.npz", classes=3)
    ran = drelu("attack", f"{nets}:one", "--dataset", "three.npz", *FGSM)
    assert ran.code == 2
    assert "10 logits" in ran.err
    assert "3 classes" in ran.err
    assert "no models" in drelu("list", "models").out


def test_a_moved_checkpoint_is_loaded_from_where_it_is_now(drelu, tmp_path):
    images(tmp_path / "mine.npz")
    key = drelu("train", "--epochs", "1", "--json").document["model"]["key"]
    weights = tmp_path / "runs" / "models" / key / "weights.safetensors"
    words = ("--model", "dense", "--activation", "drelu")
    (tmp_path / "a.safetensors").write_bytes(weights.read_bytes())
    first = entry(drelu("attack", "a.safetensors", *words, *FGSM))
    (tmp_path / "a.safetensors").rename(tmp_path / "b.safetensors")
    second = entry(drelu("attack", "b.safetensors", *words, "--eps", "0.07", *FGSM))
    assert first["model"] == second["model"]


def test_a_registry_model_s_own_file_is_that_model(drelu, tmp_path):
    key = drelu("train", "--epochs", "1", "--json").document["model"]["key"]
    weights = tmp_path / "runs" / "models" / key / "weights.safetensors"
    assert entry(drelu("attack", weights, *FGSM))["model"] == key
    assert len(drelu("list", "models", "--json").document["items"]) == 1


def test_options_for_outside_models_are_refused_for_the_registry(drelu, small_store):
    ran = drelu(
        "attack", "digits-dense-relu-s0", "--store", small_store, "--dataset", "mnist",
        "--mean", "0.5", "--std", "0.5", *FGSM,
    )  # fmt: skip
    assert ran.code == 2
    assert "only for models from outside" in ran.err


def test_a_factory_may_name_the_architecture_of_a_file(drelu, nets, tmp_path):
    import importlib

    import torch

    torch.save(importlib.import_module(nets).one().state_dict(), tmp_path / "w.pt")
    found = entry(drelu("attack", "w.pt", "--model", f"{nets}:one", *FGSM))
    assert found["samples"] == 40


def test_binary_data_leave_out_what_is_not_defined_and_say_so(drelu, tmp_path):
    images(tmp_path / "two.npz", classes=2)
    assert drelu("train", "--dataset", "two.npz", "--epochs", "1").code == 0
    words = ("attack", "--samples", "20", "--suite", "whitebox", "--eps", "0.01")
    ran = drelu(*words, "--json")
    assert ran.code == 0, ran.err
    names = [a["attack"] for e in ran.document["evaluations"] for a in e["attacks"]]
    assert names == ["fgsm", "pgd", "apgd_ce", "cw_l2"]
    findings = ran.document["evaluations"][0]["findings"]
    assert findings[0]["code"] == "apgd_dlr-undefined"
    assert ran.document["evaluations"][0]["columns"]["claimed"] is None
    named = drelu("attack", "--attack", "apgd_dlr", "--samples", "20")
    assert named.code == 2
    assert "at least 3 classes" in named.err


def test_one_bad_model_does_not_block_the_others(drelu, own_store):
    weights = sorted(own_store.glob("models/*/weights.safetensors"))[0]
    weights.write_bytes(b"damaged")
    words = ("attack", "--store", own_store, "--attack", "fgsm", "--eps", "0.03", "--samples", "20")
    ran = drelu(*words, "--json")
    assert ran.code == 1
    assert len(ran.document["evaluations"]) == 1
    assert len(ran.document["failures"]) == 1
    assert "not evaluated" in ran.err


def test_a_store_is_usable_from_another_folder(drelu, tmp_path, monkeypatch):
    images(tmp_path / "mine.npz")
    assert drelu("train", "--dataset", "mine.npz", "--epochs", "1").code == 0
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert entry(drelu("attack", "--store", tmp_path / "runs", *FGSM))["samples"] == 40


def test_two_spellings_of_a_path_are_one_treatment_and_new_data_are_another(drelu, tmp_path):
    images(tmp_path / "mine.npz")
    drelu("train", "--dataset", "mine.npz", "--epochs", "1", "--activation", "relu")
    drelu(
        "train", "--dataset", "./mine.npz", "--epochs", "1", "--activation", "relu", "--seed", "1"
    )
    drelu("attack", *FGSM)
    rows = drelu("compare", "--json").document["rows"]
    assert {row["n_seeds"] for row in rows} == {2}
    images(tmp_path / "mine.npz", seed=1)
    drelu("train", "--dataset", "mine.npz", "--epochs", "1", "--activation", "relu")
    drelu("attack", *FGSM)
    rows = drelu("compare", "--json").document["rows"]
    assert {row["n_seeds"] for row in rows} == {1, 2}
    assert len({row["training"] for row in rows}) == 2
