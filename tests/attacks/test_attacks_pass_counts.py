"""No attack makes more passes than it did: the speed that can be guarded without a clock."""

import json

import pass_counts
import pytest

from drelu_cli.attacks import ATTACKS

KNOWN = json.loads(pass_counts.FILE.read_text())
# Rounding in float64 may move a sample's end by a step on another processor.
ROOM = 0.01
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
        compare("an attack", [1000, 1000], [1000, 1020])
    with pytest.raises(AssertionError, match="keep it that way"):
        compare("an attack", [1000, 1000], [980, 1000])
