"""Suites are data: every entry binds; suites of later versions are announced, not pretended."""

import subprocess
import sys

import pytest

from drelu_cli.attacks import ATTACKS
from drelu_cli.attacks.suites import CASCADES, SUITES, suite_entries
from drelu_cli.core.errors import UnknownName


def test_suites():
    names = {name: [entry.attack for entry in entries] for name, entries in SUITES.items()}
    whitebox = ["fgsm", "pgd", "apgd_ce", "apgd_dlr", "cw_l2"]
    assert names == {
        "whitebox": whitebox,
        "blackbox": ["square"],
        "paper": [*whitebox, "square"],
        "standard": ["apgd_ce", "apgd_t", "fab_t", "square"],
        "adaptive": [*whitebox, "apgd_t", "fab_t", "square"],
        "smoke": ["fgsm", "pgd"],
    }


def test_standard_is_a_cascade_with_the_parameters_of_autoattack():
    assert frozenset({"standard"}) == CASCADES
    effective = {
        entry.attack: ATTACKS.bind(entry.attack, **entry.options).effective
        for entry in suite_entries("standard")
    }
    assert effective == {
        "apgd_ce": {"steps": 100, "restarts": 1, "rho": 0.75},
        "apgd_t": {"steps": 100, "restarts": 1, "targets": 9, "rho": 0.75},
        "fab_t": {
            "steps": 100,
            "restarts": 1,
            "targets": 9,
            "alpha_max": 0.1,
            "eta": 1.05,
            "beta": 0.9,
            "exact": False,
        },
        "square": {"queries": 5000, "p": 0.8, "ties": False},
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


def test_adaptive_runs_what_whitebox_and_standard_have_each_once():
    both = {e.attack for name in ("whitebox", "standard") for e in suite_entries(name)}
    names = [entry.attack for entry in suite_entries("adaptive")]
    assert set(names) == both
    assert len(names) == len(both)
    assert all(not entry.options for entry in suite_entries("adaptive"))


def test_unknown_suite():
    with pytest.raises(UnknownName, match="unknown suite 'whitebx'") as caught:
        suite_entries("whitebx")
    assert "did you mean whitebox" in caught.value.hint


def test_suites_import_no_torch():
    code = "import sys, drelu_cli.attacks.suites; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
