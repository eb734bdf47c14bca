"""Cascade, curve and engine as they are typed, and what they print."""

import importlib.util
from pathlib import Path

import pytest

from drelu_cli.cli.attack import _with_curve_value

NET = "digits-dense-relu-s0"


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("--curve", ["--curve=default"]),
        ("--attack cw_l2 --curve net", ["--attack", "cw_l2", "--curve=default", "net"]),
        ("--curve --json", ["--curve=default", "--json"]),
        ("--curve 8/255,0.1 net", ["--curve", "8/255,0.1", "net"]),
        ("--curve 1e-3", ["--curve", "1e-3"]),
        ("--curve -0.1", ["--curve", "-0.1"]),
        ("--curve default net", ["--curve", "default", "net"]),
        ("--curve 0.1,abc", ["--curve", "0.1,abc"]),
        ("--curve=0.1 net", ["--curve=0.1", "net"]),
    ],
)
def test_a_curve_takes_a_value_or_none(words, expected):
    assert _with_curve_value(words.split()) == expected


def test_a_misspelt_curve_is_named(drelu, own_store):
    refused = drelu("attack", NET, "--store", own_store, "--curve", "0.1,abc")
    assert refused.code == 2
    assert "abc" in refused.err
    assert "model" not in refused.err


def test_exhaustive_without_a_cascade_is_said(drelu, own_store):
    words = ("attack", NET, "--store", own_store, "--attack", "fgsm", "--samples", "20")
    assert "exhaustive changes nothing" in drelu(*words, "--exhaustive").err


def test_a_curve_is_a_table_and_a_key(drelu, own_store):
    words = ("attack", NET, "--store", own_store, "--attack", "fgsm", "--samples", "20")
    shown = drelu(*words, "--curve").out
    assert "over Linf eps, 20 samples" in shown
    assert " FGSM " in shown
    document = drelu(*words, "--curve", "--json").document
    (curve,) = document["curves"]
    assert [point["eps"] for point in curve["points"]][:2] == [0.04, 0.08]
    assert set(curve) == {
        "model", "name", "dataset", "attack", "params", "norm", "engine", "samples", "points",
    }  # fmt: skip
    for point in curve["points"]:
        assert f"{100 * point['robust_accuracy']:.2f}" in shown
    assert len(document["evaluations"]) == 10
    plain = drelu(*words, "--json").document
    assert plain["curves"] == []


def test_a_cascade_says_what_its_dashes_are(drelu, own_store):
    words = ("attack", NET, "--store", own_store, "--suite", "standard", "--samples", "6")
    shown = drelu(*words).out
    row = next(line for line in shown.splitlines() if "FAB-T" in line)
    assert row.split()[1:3] == ["-", "-"]
    assert "--exhaustive gives every attack its own number" in shown
    listed = drelu("list", "evaluations", "--store", own_store).out
    assert "fab_t (linf 0.2), 6 samples" in listed
    assert "after apgd_ce, apgd_t [" in listed
    drelu("export", "evaluations", "--store", own_store, "--out", "e.csv")
    header, *rows = Path("e.csv").read_text().splitlines()
    assert {"engine", "cascade", "forwards", "backwards"} <= set(header.split(","))
    assert any("after apgd_ce" in row for row in rows)


def test_another_engine_is_named(drelu, own_store):
    words = ("attack", NET, "--store", own_store, "--engine", "torchattacks", "--samples", "8")
    shown = drelu(*words, "--attack", "fgsm").out
    assert f"{NET} by torchattacks " in shown
    assert "fgsm [torchattacks" in drelu("list", "evaluations", "--store", own_store).out


def test_a_missing_library_says_how_to_install_it(drelu, own_store, monkeypatch):
    real = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda n, *a: None if n == "torchattacks" else real(n, *a)
    )
    ran = drelu("attack", NET, "--store", own_store, "--engine", "torchattacks")
    assert ran.code == 2
    assert 'pip install "drelu-cli[reference]"' in ran.err
