"""Suites are data: every entry binds; suites of later versions are announced, not pretended."""

import subprocess
import sys

import pytest

from drelu_cli.attacks import ATTACKS
from drelu_cli.attacks.suites import SUITES, suite_entries
from drelu_cli.core.errors import NotThereYet, UnknownName


def test_suites():
    names = {name: [entry.attack for entry in entries] for name, entries in SUITES.items()}
    whitebox = ["fgsm", "pgd", "apgd_ce", "apgd_dlr", "cw_l2"]
    assert names == {
        "whitebox": whitebox,
        "blackbox": ["square"],
        "paper": [*whitebox, "square"],
        "smoke": ["fgsm", "pgd"],
    }


def test_cw_is_a_threat_of_its_own():
    for name, bound in (("whitebox", "dataset"), ("paper", 18.0)):
        (entry,) = [entry for entry in suite_entries(name) if entry.attack == "cw_l2"]
        assert (entry.norm, entry.bound) == ("l2", bound)


def test_every_entry_binds_and_fits_its_norm():
    for entries in SUITES.values():
        for entry in entries:
            bound = ATTACKS.bind(entry.attack, **entry.options)
            assert dict(bound.given) == dict(entry.options)
            assert entry.norm is None or entry.norm in bound.target.norms
            assert bound.target.minimal_norm == (entry.norm is not None)


@pytest.mark.parametrize("name", ["standard", "adaptive"])
def test_announced_suites(name):
    with pytest.raises(NotThereYet, match=f"suite '{name}' is not there yet") as caught:
        suite_entries(name)
    assert "whitebox" in caught.value.hint


def test_unknown_suite():
    with pytest.raises(UnknownName, match="unknown suite 'whitebx'") as caught:
        suite_entries("whitebx")
    assert "did you mean whitebox" in caught.value.hint


def test_suites_import_no_torch():
    code = "import sys, drelu_cli.attacks.suites; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
