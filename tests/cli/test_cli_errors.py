"""Bad input: exit code 2, one or two lines, what is wrong and what to do; never a traceback."""

import errno
import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from drelu_cli.workflows import train as train_module

CASES = [
    (["trian"], ["trian"]),
    (["train", "--epoch", "3"], ["--epoch"]),
    (["train", "--dataset", "mnits"], ["unknown data set 'mnits'", "did you mean mnist"]),
    (["train", "--model", "dens"], ["unknown model 'dens'", "did you mean dense"]),
    (["train", "--activation", "dreluu"], ["unknown activation", "did you mean drelu"]),
    (["train", "--scheme", "trade"], ["unknown scheme", "did you mean trades"]),
    (["train", "--scheme", "trades:bet=6"], ["bet", "did you mean beta"]),
    (["train", "--placement", "heads"], ["model.placement", "heads"]),
    (["train", "--preset", "fats"], ["unknown preset", "did you mean fast"]),
    (["train", "--lambda", "nan"], ["lambda 'nan' is not finite"]),
    (["train", "--lambda", "-1"], ["penalty.lambda", "-1"]),
    (["train", "--lambda", "x"], ["lambda 'x' is not a number"]),
    (
        ["train", "--activation", "relu", "--lambda", "1"],
        ["nothing to act on", "--activation drelu"],
    ),
    (["train", "--activation", "relu", "--cap", "1"], ["option of activation relu", "cap"]),
    (["train", "--device", "cuda:9"], ["device 'cuda:9' is not here", "--device cpu"]),
    (["train", "--device", "tpu"], ["tpu"]),
    (["train", "--epochs", "-1"], ["train.epochs", "-1"]),
    (["train", "--epochs", "many"], ["--epochs", "integer"]),
    (["train", "--set", "train.batch"], ["not section.key=value"]),
    (["train", "--set", "train.batc=3"], ["unknown key 'train.batc'", "did you mean batch"]),
    (["train", "--set", "train.batch=x"], ["train.batch", "integer", "'x'"]),
    (["train", "--set", "model.normalise=true"], ["'normalise'", "did you mean normalize"]),
    (["train", "nowhere"], ["unknown recipe 'nowhere'", "known:"]),
    (["train", "nowhere.toml"], ["no recipe file 'nowhere.toml'"]),
    (["train", "table1"], ["is a grid of", "drelu sweep table1"]),
    (["train", "--dataset", "none.npz"], ["none.npz"]),
    (["attack"], ["no models in the registry", "drelu train"]),
    (["attack", "some-net"], ["unknown model 'some-net'", "no models in the registry"]),
    (["attack", "--suite", "whitebx"], ["unknown suite 'whitebx'", "did you mean whitebox"]),
    (["compare"], ["no store in runs"]),
    (["compare", "--out", "t.pdf"], ["no known ending", "table.md"]),
    (["compare", "--select", "adaptve"], ["unknown selection rule", "did you mean adaptive"]),
    (["sweep", "nowhere"], ["unknown recipe 'nowhere'"]),
    (["list", "modles"], ["unknown kind 'modles'", "did you mean models"]),
    (["export"], ["no store in runs"]),
    (["gc"], ["no store in runs"]),
    (["recipe", "show", "smok"], ["unknown recipe 'smok'", "did you mean smoke"]),
]


@pytest.mark.parametrize(("words", "expected"), CASES, ids=[" ".join(c[0]) for c in CASES])
def test_bad_input(drelu, words, expected):
    ran = drelu(*words)
    assert ran.code == 2
    assert ran.out == ""
    for piece in expected:
        assert piece in ran.err
    assert "Traceback" not in ran.err
    assert len(ran.err.strip().splitlines()) <= 3
    assert not Path("runs").exists()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--suite", "whitebx"], ["unknown suite 'whitebx'", "did you mean whitebox"]),
        (["--suite", "adaptve"], ["unknown suite 'adaptve'", "did you mean adaptive"]),
        (["--fail-on", "maskd"], ["unknown verdict to fail on 'maskd'", "did you mean masked"]),
        (["--suite", "standrd"], ["unknown suite 'standrd'", "did you mean standard"]),
        (["--engine", "autoatack"], ["unknown engine 'autoatack'", "did you mean autoattack"]),
        (["--curve", "0.1", "--eps", "0.2"], ["--curve and --eps exclude each other"]),
        (["--curve", "0.1,,0.2"], ["has an empty entry", "write --curve 0.1"]),
        (["--curve", "-0.1"], ["eps -0.1 is negative"]),
        (["--curve=wide"], ["'wide' is not a number"]),
        (["--attack", "pdg"], ["unknown attack 'pdg'", "did you mean pgd"]),
        (["--attack", "pgd:stepps=3"], ["stepps", "did you mean steps"]),
        (["--attack", "pgd:steps=x"], ["attack pgd: steps"]),
        (["--eps", "-1"], ["eps -1 is negative"]),
        (["--eps", "8/0"], ["divides by zero"]),
        (["--eps", "nan"], ["not finite"]),
        (["--samples", "0"], ["--samples"]),
        (["--samples", "361"], ["361 samples asked for, the test split has 360"]),
        (["--norm", "l3"], ["unknown norm 'l3'"]),
        (["--mean", "0.5"], ["--mean and --std go together"]),
        (["digits-dense"], ["digits-dense-relu-s0"]),
        (["missing.pt"], ["no file 'missing.pt'"]),
        (["no_module:thing"], ["no_module"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_bad_attack_input_with_models_at_hand(drelu, small_store, words, expected):
    ran = drelu("attack", "--store", small_store, *words)
    assert ran.code == 2
    for piece in expected:
        assert piece in ran.err
    assert "Traceback" not in ran.err


def test_errors_as_json(drelu):
    ran = drelu("train", "--dataset", "mnits", "--json")
    assert ran.code == 2
    error = ran.document["error"]
    assert error["type"] == "UnknownName"
    assert "mnits" in error["message"]
    assert "mnist" in error["hint"]
    assert "mnits" in ran.err
    usage = drelu("train", "--nonsense", "--json")
    assert usage.document["error"]["type"] == "UsageError"


def test_debug_shows_the_traceback(drelu):
    assert "Traceback" in drelu("--debug", "train", "--dataset", "mnits").err
    assert "Traceback" in drelu("train", "--dataset", "mnits", "--debug").err


def test_interruption_is_exit_code_3(drelu, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(train_module, "train_recipe", interrupted)
    ran = drelu("train")
    assert ran.code == 3
    assert "what was finished is kept" in ran.err


def test_no_space_left_is_exit_code_2(drelu, monkeypatch):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "runs/models/x")

    monkeypatch.setattr(train_module, "fit_recipe", full)
    ran = drelu("train")
    assert ran.code == 2
    assert "No space left on device" in ran.err
    assert "free some space" in ran.err


def test_a_bug_of_ours_is_exit_code_70_and_says_how_to_report(drelu, monkeypatch):
    def broken(*_, **__):
        raise ZeroDivisionError("ours")

    monkeypatch.setattr(train_module, "train_recipe", broken)
    ran = drelu("train", "--json")
    assert ran.code == 70
    assert "report" in ran.err
    assert ran.document["error"]["type"] == "ZeroDivisionError"


class Evil:
    def __reduce__(self):
        return (os.mkdir, ("owned",))


def test_a_pickle_that_would_execute_code_is_refused_and_not_executed(drelu, tmp_path):
    torch.save(Evil(), tmp_path / "evil.pt")
    ran = drelu("attack", "evil.pt", "--model", "dense")
    assert ran.code == 2
    assert "evil.pt" in ran.err
    assert not (tmp_path / "owned").exists()


def test_a_damaged_checkpoint_of_the_registry_is_named_and_kept(drelu, tmp_path):
    key = drelu("train", "--epochs", "1", "--json").document["model"]["key"]
    weights = tmp_path / "runs" / "models" / key / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    before = weights.read_bytes()
    ran = drelu("attack", "--suite", "smoke")
    assert ran.code == 2
    assert "weights.safetensors" in ran.err
    assert weights.read_bytes() == before


def test_exchanged_weights_are_noticed(drelu, tmp_path):
    from safetensors.torch import load_file, save_file

    key = drelu("train", "--epochs", "1", "--json").document["model"]["key"]
    weights = tmp_path / "runs" / "models" / key / "weights.safetensors"
    state = load_file(weights)
    name = next(name for name in state if name.endswith("weight"))
    save_file({**state, name: state[name] + 1}, weights)
    ran = drelu("attack", "--suite", "smoke")
    assert ran.code == 2
    assert "not the ones that were registered" in ran.err


def test_a_store_of_a_newer_version_is_left_alone(drelu, tmp_path):
    import sqlite3

    drelu("train", "--epochs", "1")
    with sqlite3.connect(tmp_path / "runs" / "drelu.sqlite") as connection:
        connection.execute("PRAGMA user_version = 999")
    connection.close()
    ran = drelu("attack", "--suite", "smoke")
    assert ran.code == 2
    assert "newer" in ran.err


def test_a_sweep_into_a_file_is_one_error_not_one_per_job(drelu, tmp_path):
    (tmp_path / "taken").write_text("mine")
    ran = drelu("sweep", "smoke", "--preset", "tiny", "--store", "taken")
    assert ran.code == 2
    assert ran.err.count("cannot be made") == 1
    assert (tmp_path / "taken").read_text() == "mine"


def test_a_file_that_is_no_store(drelu, tmp_path):
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "drelu.sqlite").write_text("these are my notes, not a database " * 50)
    ran = drelu("attack")
    assert ran.code == 2
    assert "drelu.sqlite" in ran.err
    assert "my notes" in (tmp_path / "runs" / "drelu.sqlite").read_text()


def test_a_model_for_another_image_size(drelu, tmp_path):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 255, (60, 12, 12, 1), dtype=np.uint8)
    labels = np.arange(60) % 10
    np.savez(tmp_path / "other.npz", x_train=images, y_train=labels, x_test=images, y_test=labels)
    key = drelu("train", "--epochs", "1", "--json").document["model"]["key"]
    weights = tmp_path / "runs" / "models" / key / "weights.safetensors"
    ran = drelu(
        "attack", weights, "--model", "dense", "--activation", "drelu", "--dataset", "other.npz"
    )
    assert ran.code == 2
    assert "size mismatch" in ran.err or "shape" in ran.err


def test_missing_data_without_network_says_what_to_do(drelu, tmp_path, monkeypatch):
    import urllib.request

    def offline(*_, **__):
        raise OSError("no network")

    monkeypatch.setattr(urllib.request, "urlopen", offline)
    ran = drelu("train", "--dataset", "mnist", "--data-dir", tmp_path / "data")
    assert ran.code == 2
    assert "mnist" in ran.err.lower()
    assert "Traceback" not in ran.err


def test_json_documents_are_strict_json(drelu):
    from drelu_cli.cli.console import json_text

    text = json_text({"a": float("inf"), "b": float("nan"), "c": [1.0, float("nan")]})
    assert json.loads(text) == {"a": None, "a_is_infinite": True, "b": None, "c": [1.0, None]}
