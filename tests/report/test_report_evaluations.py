"""The table of `drelu attack`: numbers are never cut, however narrow the terminal."""

import pytest
from rich.console import Console

from drelu_cli.report.evaluations import evaluation_tables

ENTRY = {
    "name": "digits-dense-d-relu-1-s0",
    "engine": "drelu",
    "threat": {"norm": "linf", "eps": 0.2},
    "samples": 360,
    "clean_accuracy": 0.9889,
    "attacks": [
        {
            "attack": "apgd_dlr",
            "given": {},
            "robust_accuracy": 0.9028,
            "ci95": [0.8678, 0.9293],
            "cumulative_robust_accuracy": 0.7972,
            "median_distance": 0.19994,
            "forwards_per_sample": 1866.5,
            "backwards_per_sample": 1865.4,
            "seconds": 1234.5,
            "reused": False,
        }
    ],
    "worst_case": {"robust_accuracy": 0.7972},
    "columns": {},
    "certificate": None,
    "verdict": {
        "word": "not examined",
        "evidence": [],
        "remedy": [],
        "control": None,
        "notes": [],
    },
    "findings": [{"detail": "the model came in training mode"}],
}


@pytest.mark.parametrize("width", [80, 100, 200])
def test_nothing_is_cut(width):
    console = Console(width=width)
    with console.capture() as shown:
        console.print(*evaluation_tables([ENTRY]))
    text = " ".join(shown.get().split())
    for piece in ("90.28", "86.78..92.93", "79.72", "0.1999", "1866.5", "1865.4", "1234.5"):
        assert piece in text
    assert "…" not in text
    assert "not examined (the adaptive suite has not run)" in text
    assert "training mode" in text


def test_survivors_only_have_no_number_of_their_own():
    attack = {**ENTRY["attacks"][0], "robust_accuracy": None, "ci95": None, "reused": True}
    console = Console(width=100)
    with console.capture() as shown:
        console.print(*evaluation_tables([{**ENTRY, "attacks": [attack]}]))
    row = next(line for line in shown.get().splitlines() if "APGD-DLR" in line)
    assert row.split()[1] == "-"
    assert "stored" in row
