"""A longer search goes on where a shorter one ended: what it gives is what it would have given."""

import pytest
import torch
from small_attacks import net, same, samples
from torch import nn

from drelu_cli.attacks import ATTACKS
from drelu_cli.attacks.augment import bind_attack
from drelu_cli.attacks.conformance_models import Recorder
from drelu_cli.attacks.prolonged import shorter_run
from drelu_cli.core.records import State, ThreatModel
from drelu_cli.evaluation import beside, suite
from drelu_cli.evaluation.suite import run_attack
from drelu_cli.evaluation.walks import Search, Walks

THREAT = ThreatModel("linf", 0.05)
SHORT, MIDDLE, LONG = 40, 120, 400


def walked(bind, model, given, *, threat=THREAT, kept=None):
    """The walks after the shorter run, and the samples that it left standing."""
    walks = Walks() if kept is None else kept
    bound = bind(SHORT)
    found = run_attack(model, given, bound, threat, seed=3)
    walks.keep(Search.of(bound, threat, 3), given, found.outcomes, found.x_adv)
    stands = torch.tensor([one.state is State.ROBUST for one in found.outcomes])
    assert 0 < stands.sum() < len(given)
    return walks, given.rows(stands)


def square(**options):
    return lambda queries: ATTACKS.bind("square", queries=queries, **options)


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("convolution", [False, True])
def test_what_is_found_is_what_the_whole_run_finds(convolution, ties):
    model, bind = net(nn.Hardtanh, convolution=convolution), square(ties=ties)
    walks, left = walked(bind, model, samples(model))
    ended = walks.end(Search.of(bind(LONG), THREAT, 3), left)
    assert ended.length == SHORT
    gone_on = run_attack(model, left, bind(LONG), THREAT, seed=3, ended=ended)
    whole = run_attack(model, left, bind(LONG), THREAT, seed=3)
    same(gone_on, whole)
    assert {one.state for one in whole.outcomes} == {State.ROBUST, State.BROKEN}


def test_it_asks_the_model_less():
    model, bind = net(nn.Hardtanh), square(ties=True)
    # A module of the user's own: every pass is a whole one, and counted.
    recorder = Recorder(model)
    walks, left = walked(bind, model, samples(model))
    ended = walks.end(Search.of(bind(LONG), THREAT, 3), left)
    counts = []
    for start in (None, ended):
        recorder.points.clear()
        run_attack(recorder, left, bind(LONG), THREAT, seed=3, ended=start)
        counts.append(sum(map(len, recorder.points)))
    assert counts[1] < counts[0] - 0.8 * int(ended.forwards.sum())


@pytest.mark.parametrize("convolution", [False, True])
def test_parts_go_on_where_their_samples_ended(two_cores, monkeypatch, convolution):
    monkeypatch.setattr(beside, "_LONG", 100)
    model, bind = net(nn.Hardtanh, convolution=convolution), square()
    walks, left = walked(bind, model, samples(model, 300))
    ended = walks.end(Search.of(bind(LONG), THREAT, 3), left)
    shared = run_attack(model, left, bind(LONG), THREAT, seed=3, ended=ended)
    monkeypatch.setattr(suite, "threads_for", lambda *_: 1)
    same(shared, run_attack(model, left, bind(LONG), THREAT, seed=3))


def test_a_surrogate_or_another_precision_is_another_search():
    model = net(nn.Hardtanh)

    def bind(queries):
        return bind_attack("square", queries=queries, precision="float64", round=2)

    walks, left = walked(bind, model, samples(model))
    ended = walks.end(Search.of(bind(LONG), THREAT, 3), left)
    gone_on = run_attack(model, left, bind(LONG), THREAT, seed=3, ended=ended)
    same(gone_on, run_attack(model, left, bind(LONG), THREAT, seed=3))
    for other in (
        bind_attack("square", queries=LONG),
        bind_attack("square", queries=LONG, precision="float64"),
        bind_attack("square", queries=LONG, precision="float64", round=2, ties=True),
    ):
        assert walks.end(Search.of(other, THREAT, 3), left) is None


def test_in_l2_it_begins_again():
    threat = ThreatModel("l2", 0.1)
    model, bind = net(nn.Hardtanh), square()
    walks, left = walked(bind, model, samples(model), threat=threat)
    ended = walks.end(Search.of(bind(LONG), threat, 3), left)
    gone_on = run_attack(model, left, bind(LONG), threat, seed=3, ended=ended)
    same(gone_on, run_attack(model, left, bind(LONG), threat, seed=3))


def test_only_the_same_search_on_known_samples_goes_on():
    model, bind = net(nn.Hardtanh), square()
    given = samples(model)
    walks, left = walked(bind, model, given)

    def end(bound=None, threat=THREAT, seed=3, asked=left):
        return walks.end(Search.of(bound or bind(LONG), threat, seed), asked)

    assert end() is not None
    assert end(bind(SHORT)) is None
    assert end(bind(SHORT - 1)) is None
    assert end(square(ties=True)(LONG)) is None
    assert end(threat=ThreatModel("linf", 0.06)) is None
    assert end(seed=4) is None
    assert end(asked=given) is None
    assert end(ATTACKS.bind("pgd")) is None


def test_slices_come_together_in_the_order_asked_for_and_the_longest_counts():
    model, bind = net(nn.Hardtanh), square()
    given = samples(model)
    walks = Walks()
    for part in (torch.arange(60, 130), torch.arange(60)):
        walked(bind, model, given.rows(part), kept=walks)
    _, left = walked(bind, model, given, kept=Walks())
    backwards = left.rows(torch.arange(len(left)).flip(0))
    found = walks.end(Search.of(bind(LONG), THREAT, 3), backwards)
    whole = run_attack(model, left, bind(SHORT), THREAT, seed=3)
    torch.testing.assert_close(found.points.flip(0), whole.x_adv, rtol=0, atol=1e-12)
    middle = run_attack(model, left, bind(MIDDLE), THREAT, seed=3)
    walks.keep(Search.of(bind(MIDDLE), THREAT, 3), left, middle.outcomes, middle.x_adv)
    stands = torch.tensor([one.state is State.ROBUST for one in middle.outcomes])
    assert walks.end(Search.of(bind(LONG), THREAT, 3), left.rows(stands)).length == MIDDLE
    assert walks.end(Search.of(bind(LONG), THREAT, 3), left).length == SHORT


def test_what_would_take_too_much_memory_is_not_kept():
    model, bind = net(nn.Hardtanh), square()
    walks, left = walked(bind, model, samples(model), kept=Walks(most_bytes=1000))
    assert walks.end(Search.of(bind(LONG), THREAT, 3), left) is None


def test_nothing_is_lent_outside_its_run():
    assert shorter_run(10**6) is None
