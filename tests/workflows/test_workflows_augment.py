"""What every attack gains can be typed, beside the attack's own options."""

from drelu_cli.workflows.plan import Wanted, tasks_for


def typed(*attacks, **more):
    wanted = Wanted(suite=None, attacks=attacks, norm="linf", eps=(0.1,), **more)
    return [task.bound for task in tasks_for("digits", wanted)]


def test_changes_are_typed_like_options():
    (bound,) = typed("apgd_ce:backward=leaky_cap,steps=50")
    assert bound.changed == {"backward": "leaky_cap", "steps": 50}


def test_a_default_is_the_plain_attack_and_runs_once():
    (bound,) = typed("apgd_ce", "apgd_ce:backward=own,round=1")
    assert bound.changed == {}


def test_changes_tell_tasks_apart():
    names = ("pgd", "pgd:backward=relu", "pgd:precision=float64", "pgd:round=2")
    assert len({str(bound.identity) for bound in typed(*names)}) == 4


def test_work_is_cut_beneath_changes_too():
    (bound,) = typed("pgd:backward=relu", max_steps=2)
    assert bound.changed == {"backward": "relu", "steps": 2}
