"""A plan on so many slots: known makespans, bounds that hold for any plan, clear errors."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drelu_cli.core.errors import BadValue
from drelu_cli.workflows.context import Context
from drelu_cli.workflows.simulate import makespan, parse_slots
from drelu_cli.workflows.sweep import sweep


@pytest.mark.parametrize(
    ("seconds", "slots", "end"),
    [
        ([], 3, 0.0),
        ([5.0], 64, 5.0),
        ([3.0, 3.0, 2.0, 2.0, 2.0], 2, 7.0),  # longest first: 3+2+2 and 3+2; the optimum is 6
        ([4.0, 3.0, 2.0, 1.0], 2, 5.0),
        ([1.0] * 10, 4, 3.0),
    ],
)
def test_known_plans(seconds, slots, end):
    assert makespan(seconds, slots) == end
    assert makespan(seconds[::-1], slots) == end


@given(st.lists(st.floats(0, 1e6), max_size=30), st.integers(1, 40))
def test_between_the_lower_bound_and_grahams(seconds, slots):
    end = makespan(seconds, slots)
    lower = max([sum(seconds) / slots, *seconds])
    assert lower * (1 - 1e-9) <= end
    # Any list schedule: at most the mean load and one longest job beyond it (Graham 1966).
    assert end <= (sum(seconds) / slots + max(seconds, default=0.0)) * (1 + 1e-9)
    assert makespan(seconds, 1) == pytest.approx(sum(seconds))


def test_slots_as_people_type_them():
    assert parse_slots("gpu=64") == ("gpu", 64)
    for wrong in ("64", "gpu", "gpu=0", "gpu=-1", "tpu=8", "gpu=many"):
        with pytest.raises(BadValue, match=f"--simulate {wrong} is no number of slots"):
            parse_slots(wrong)


def test_a_dry_run_says_how_long_its_plan_takes(tmp_path):
    context = Context(store=tmp_path / "runs", data_dir=tmp_path, device="cpu")
    asked = {"preset": "tiny", "dry_run": True, "context": context}
    one = sweep("smoke", simulate="cpu=1", **asked).simulation
    many = sweep("smoke", simulate="gpu=8", **asked)
    assert one.seconds == pytest.approx(one.sequential_seconds)
    assert many.simulation.longest_seconds <= many.simulation.seconds
    assert many.simulation.seconds == pytest.approx(many.simulation.longest_seconds)
    assert len(many.estimate.jobs) == 2
    document = many.document["simulation"]
    assert (document["kind"], document["slots"], document["measured_on"]) == ("gpu", 8, "cpu")
