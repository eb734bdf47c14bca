"""No attack makes more passes than it did: the speed that can be guarded without a clock."""

import json

import pass_counts
import pytest

from drelu_cli.attacks import ATTACKS

KNOWN = json.loads(pass_counts.FILE.read_text())
# Rounding in float64 differs between processors: one sample of the 40 may break on one of them and
# stand on another (APGD-CE on the convolutional net: 2283 passes here, 2380 there: its 97).
ROOM = 0.045
RUN = "python tests/attacks/pass_counts.py"


def test_every_attack_is_guarded():
    assert sorted(KNOWN) == sorted(ATTACKS.builtin_names()), f"write the counts: {RUN}"


@pytest.mark.parametrize("name", sorted(KNOWN))
def test_passes(name):
    found = pass_counts.counted(name)
    assert found.keys() == KNOWN[name].keys(), f"write the counts: {RUN}"
    for problem, known in KNOWN[name].items():
        compare(f"{name} ({problem})", known, found[problem])


def compare(where, known, found):
    for what, before, now in zip(("forward", "backward"), known, found, strict=True):
        room = ROOM * before
        assert now <= before + room, f"{where}: {now} {what} passes, {before} before: slower"
        assert now >= before - room, (
            f"{where}: {now} {what} passes, {before} before: faster; if outcomes are the same, "
            f"keep it that way: {RUN}"
        )


def test_more_passes_would_be_found():
    with pytest.raises(AssertionError, match="slower"):
        compare("an attack", [1000, 1000], [1000, 1050])
    with pytest.raises(AssertionError, match="keep it that way"):
        compare("an attack", [1000, 1000], [950, 1000])
