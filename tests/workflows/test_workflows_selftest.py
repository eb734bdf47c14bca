"""`drelu doctor --selftest`: every made case must come out as it must, and failures are seen."""

from __future__ import annotations

import pytest

from drelu_cli.core.records import MASKED
from drelu_cli.workflows import doctor, selftest
from drelu_cli.workflows.context import Context
from drelu_cli.workflows.selftest import Verdicted, court_selftest


@pytest.mark.slow
def test_the_court_judges_its_own_cases_right(tmp_path):
    cases = list(court_selftest(Context(store=tmp_path / "runs", device="cpu")))
    assert [case.name for case in cases] == [
        "adversarially trained", "D-ReLU, lambda 1", "S-ReLU, cap 0.05", "logits times 1e4",
    ]  # fmt: skip
    assert all(case.ok for case in cases), cases
    assert not (tmp_path / "runs").exists()


def test_a_case_that_comes_out_wrong_fails_the_doctor(monkeypatch, tmp_path):
    wrong = Verdicted("D-ReLU, lambda 1", MASKED, "suspicious", "suspicious", ok=False)
    monkeypatch.setattr(selftest, "court_selftest", lambda _: iter([wrong]))
    report = doctor.doctor(selftest=True, context=Context(store=tmp_path / "runs", device="cpu"))
    last = report.checks[-1]
    assert (last.name, last.ok) == ("court: D-ReLU, lambda 1", False)
    assert "expected: masked" in last.detail
    assert not report.ok
