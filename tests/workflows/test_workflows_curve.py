"""A curve is one ascending pass over survivors, and never above separate full runs."""

import shutil

import pytest

from drelu_cli.core.errors import BadValue
from drelu_cli.core.records import State
from drelu_cli.store.connect import open_store
from drelu_cli.workflows.attack import attack
from drelu_cli.workflows.context import Context
from drelu_cli.workflows.plan import CURVE_GRID, Wanted, tasks_for

NET = "digits-dense-d-relu-1-s0"
RADII = (0.05, 0.1, 0.15)


@pytest.fixture
def context(small_store, tmp_path):
    return Context(store=shutil.copytree(small_store, tmp_path / "runs"), device="cpu")


def curve(*attacks, radii=RADII, **fields):
    fields = {"suite": None, "norm": "linf", "samples": 40, "max_steps": 12, **fields}
    suite, norm = fields.pop("suite"), fields.pop("norm")
    return Wanted(suite, attacks, norm, None, curve=radii, **fields)


def full(wanted, radii):
    return Wanted(
        wanted.suite, wanted.attacks, wanted.norm, radii, samples=wanted.samples,
        max_steps=wanted.max_steps, exhaustive=True,
    )  # fmt: skip


def states(context, norm):
    """Broken samples by attack and eps."""
    found = {}
    with open_store(context.store) as store:
        for one in store.evaluations():
            evaluation = one.evaluation
            if evaluation.norm == norm:
                broken = {o.sample for o in store.outcomes(one.key) if o.state is State.BROKEN}
                found.setdefault((evaluation.attack, evaluation.eps), set()).update(broken)
    return found


@pytest.mark.parametrize(
    ("norm", "radii", "attacks"),
    [
        ("linf", RADII, ("fgsm", "pgd", "apgd_ce", "apgd_dlr", "apgd_t", "square")),
        ("l2", (0.2, 0.4, 0.6), ("fgsm", "pgd", "apgd_ce", "apgd_dlr", "apgd_t", "square")),
    ],
)
def test_a_curve_breaks_what_full_runs_break_at_some_smaller_radius(
    context, small_store, norm, radii, attacks
):
    wanted = curve(*attacks, radii=radii, norm=norm)
    report = attack([NET], wanted=wanted, context=context)
    separate = Context(store=context.store.with_name("separate"), device="cpu")
    shutil.copytree(small_store, separate.store)
    entries = attack([NET], wanted=full(wanted, radii), context=separate).entries
    own = {
        (found["attack"], entry["threat"]["eps"]): found["robust_accuracy"]
        for entry in entries
        for found in entry["attacks"]
    }
    ascending, plain = states(context, norm), states(separate, norm)
    for name in attacks:
        (line,) = [one for one in report.curves if one["attack"] == name]
        for place, (eps, point) in enumerate(zip(radii, line["points"], strict=True)):
            smaller = radii[: place + 1]
            by_curve = set().union(*(ascending[name, one] for one in smaller))
            by_full = set().union(*(plain[name, one] for one in smaller))
            assert by_curve == by_full
            assert point["eps"] == eps
            assert point["robust_accuracy"] == pytest.approx(1 - len(by_curve) / 40)
            assert point["robust_accuracy"] <= own[name, eps]
        runs = [point["samples_run"] for point in line["points"]]
        assert runs[0] == 40
        assert runs == sorted(runs, reverse=True)


def test_a_curve_s_first_radius_is_the_plain_run(context):
    attack([NET], wanted=Wanted(None, ("fgsm",), "linf", (0.05,), samples=40), context=context)
    report = attack([NET], wanted=curve("fgsm"), context=context)
    assert (report.run, report.reused) == (2, 1)
    again = attack([NET], wanted=curve("fgsm"), context=context)
    assert (again.run, again.reused) == (0, 3)
    with open_store(context.store) as store:
        found = {one.evaluation.eps: one.evaluation.cascade for one in store.evaluations()}
    assert found[0.05] is None
    assert found[0.1].startswith("after eps 0.05 [")
    assert found[0.15].startswith("after eps 0.05, 0.1 [")


def test_entries_of_a_curve_carry_no_number_of_their_own(context):
    report = attack([NET], wanted=curve("fgsm"), context=context)
    first, second, third = report.entries
    assert first["attacks"][0]["robust_accuracy"] is not None
    assert second["attacks"][0]["robust_accuracy"] is None
    assert third["clean_accuracy"] == first["clean_accuracy"]
    points = report.curves[0]["points"]
    for entry, point in zip(report.entries, points, strict=True):
        assert entry["worst_case"]["robust_accuracy"] == point["robust_accuracy"]
    assert len(report.document["curves"]) == 1


def test_a_longer_curve_is_another_one(context):
    attack([NET], wanted=curve("fgsm"), context=context)
    report = attack([NET], wanted=curve("fgsm", radii=(0.02, *RADII)), context=context)
    # 0.05 is there as a full run; 0.1 and 0.15 ran on what other radii had left.
    assert (report.run, report.reused) == (3, 1)


@pytest.mark.parametrize(("name", "norm"), [("cw_l2", "l2"), ("fab_t", "linf"), ("fab_t", "l2")])
def test_a_search_for_the_distance_runs_once(context, name, norm):
    radii = (0.1, 0.3, 0.5) if norm == "l2" else RADII
    wanted = curve(name, radii=radii, norm=norm, max_steps=20, samples=20)
    report = attack([NET], wanted=wanted, context=context)
    assert report.run == 1
    (line,) = report.curves
    assert line["params"]["exact"] is True
    entries = attack([NET], wanted=full(wanted, radii), context=context).entries
    shares = [point["robust_accuracy"] for point in line["points"]]
    separate = [entry["attacks"][0]["robust_accuracy"] for entry in entries]
    assert shares == sorted(shares, reverse=True)
    assert all(one <= other for one, other in zip(shares, separate, strict=True))
    assert shares[-1] == report.entries[0]["worst_case"]["robust_accuracy"]
    assert shares[-1] < shares[0]


def test_restarts_that_depend_on_eps_are_not_read_off():
    tasks = tasks_for("digits", curve("fab_t:restarts=2"))
    assert [task.threat.eps for task in tasks] == list(RADII)
    assert all(task.ascending and not task.radii for task in tasks)


def test_a_suite_in_cascade_has_one_curve(context, small_store):
    wanted = curve(suite="standard", max_steps=4, samples=20)
    report = attack([NET], wanted=wanted, context=context)
    (line,) = report.curves
    assert (line["attack"], line["params"]) == ("standard", {})
    separate = Context(store=context.store.with_name("separate"), device="cpu")
    shutil.copytree(small_store, separate.store)
    entries = attack([NET], wanted=full(wanted, RADII), context=separate).entries
    for point, entry in zip(line["points"], entries, strict=True):
        assert point["robust_accuracy"] <= entry["worst_case"]["robust_accuracy"]
    own = attack([NET], wanted=curve(suite="standard", max_steps=4, samples=20, exhaustive=True),
                 context=context).curves  # fmt: skip
    assert [one["attack"] for one in own] == ["apgd_ce", "apgd_t", "fab_t", "square"]


def radii_of(wanted, dataset="digits"):
    return [
        (t.bound.name, t.threat.norm, t.radii or t.threat.eps) for t in tasks_for(dataset, wanted)
    ]


def test_the_default_grid():
    grid = tuple(round(0.2 * factor, 6) for factor in CURVE_GRID)
    assert grid == (0.04, 0.08, 0.12, 0.16, 0.2, 0.24, 0.28, 0.32, 0.36, 0.4)
    assert radii_of(curve("pgd", radii=())) == [("pgd", "linf", eps) for eps in grid]
    bounds = (0.16, 0.32, 0.48, 0.64, 0.8, 0.96, 1.12, 1.28, 1.44, 1.6)
    assert radii_of(curve("cw_l2", radii=())) == [("cw_l2", "l2", bounds)]
    assert radii_of(curve("cw_l2", radii=(0.5, 0.25))) == [("cw_l2", "l2", (0.25, 0.5))]
    mixed = radii_of(curve("pgd", "cw_l2", radii=(0.1,)))
    assert mixed == [("pgd", "linf", 0.1), ("cw_l2", "l2", bounds)]


def test_radii_are_sorted_and_taken_once():
    assert radii_of(curve("pgd", radii=(0.2, 0.1, 0.2))) == [
        ("pgd", "linf", 0.1),
        ("pgd", "linf", 0.2),
    ]


def test_a_curve_and_a_list_of_radii_exclude_each_other():
    with pytest.raises(BadValue, match="exclude each other"):
        Wanted(None, ("pgd",), "linf", (0.1,), curve=(0.1,))
