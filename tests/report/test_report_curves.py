"""The table of a curve: rows attacks, columns radii, nothing cut."""

import pytest
from rich.console import Console

from drelu_cli.report.curves import curve_tables


def curve(attack, shares, norm="linf", model="a" * 64, engine="drelu"):
    points = [
        {"eps": 0.04 * (n + 1), "robust_accuracy": share, "ci95": None, "samples_run": 9}
        for n, share in enumerate(shares)
    ]
    return {
        "model": model, "name": "digits-dense-relu-s0", "dataset": "digits", "attack": attack,
        "params": {}, "norm": norm, "engine": engine, "samples": 360, "points": points,
    }  # fmt: skip


def printed(curves, width=80):
    console = Console(width=width)
    with console.capture() as shown:
        console.print(*curve_tables(curves))
    return shown.get()


@pytest.mark.parametrize("width", [80, 200])
def test_ten_radii_fit_a_terminal(width):
    shares = [1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, None]
    text = printed([curve("pgd", shares), curve("apgd_ce", shares)], width)
    lines = text.splitlines()
    assert lines[0].strip() == "digits-dense-relu-s0: over Linf eps, 360 samples"
    for name in ("PGD", "APGD-CE"):
        (row,) = [line for line in lines if line.strip().startswith(name)]
        assert row.split()[1:] == [
            *("100.00", "90.00", "80.00", "70.00", "60.00", "50.00", "40.00", "30.00", "20.00"),
            "-",
        ]
    assert "…" not in text


def test_more_radii_go_on_below():
    text = printed([curve("pgd", [0.5] * 13)])
    assert sum(line.strip().startswith("PGD") for line in text.splitlines()) == 2
    assert "0.52" in text


def test_models_norms_and_engines_are_told_apart():
    curves = [
        curve("pgd", [0.5]),
        curve("cw_l2", [0.5], norm="l2"),
        curve("pgd", [0.5], model="b" * 64, engine="torchattacks 3.5.1"),
    ]
    text = printed(curves)
    assert text.count("over Linf eps") == 2
    assert "over L2 eps" in text
    assert "by torchattacks 3.5.1: over" in text
    assert printed([]).strip() == ""
