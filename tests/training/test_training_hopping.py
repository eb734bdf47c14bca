import math

import pytest
import torch
from torch import nn

from drelu_cli.activations.capped import drelu
from drelu_cli.activations.caps import learnable_caps
from drelu_cli.core.errors import BadValue
from drelu_cli.core.recipe import Train
from drelu_cli.runtime.streams import Stream
from drelu_cli.training import SCHEMES
from drelu_cli.training.batches import Images
from drelu_cli.training.contract import BoundPhase
from drelu_cli.training.fit import Fit
from drelu_cli.training.hopping import Hopping, copy_of
from drelu_cli.training.resume import load_state, save_state

HOPS, LENGTH = 3, 2


def images(count, offset=0):
    index = torch.arange(offset, offset + count)
    stream = Stream(0, index, ("images",))
    labels = stream.integers("y", (), high=2)
    x = stream.uniform("x", (1, 4, 4)) * 0.7 + 0.3 * labels[:, None, None, None]
    return Images((x * 255).to(torch.uint8), labels, index)


def network():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Flatten(), nn.Linear(16, 8), drelu(8, cap=2.0), nn.Linear(8, 2))


def fit(epochs=2, validation=True, **settings):
    phase = BoundPhase("madry", SCHEMES.bind("madry", eps=0.05, steps=2), epochs, 1e-2, 5e-2)
    given = {"hops": HOPS, "hop_epochs": LENGTH, "hop_step": 0.5, **settings}
    held_out = images(32, offset=1000) if validation else None
    return Fit(network(), images(64), held_out, [phase], 0.1, Train(batch=16, **given))


def kept_by(training, on_epoch=lambda *_: None):
    kept = {}

    def keep(current, snapshot):
        kept[snapshot.kind, snapshot.number] = (copy_of(current.model), dict(snapshot.record))

    return training.run(on_epoch, keep), kept


def test_every_minimum_is_recorded_and_kept_and_the_lowest_is_the_result():
    training = fit()
    result, kept = kept_by(training)
    assert list(kept) == [("hop", hop) for hop in range(HOPS + 1)]
    assert [record["hop"] for record in result.minima] == list(range(HOPS + 1))
    losses = [record["validation_loss"] for record in result.minima]
    assert result.validation_loss == min(losses)
    lowest, _ = kept["hop", losses.index(min(losses))]
    for name, value in training.model.state_dict().items():
        assert torch.equal(value, lowest[name]), name
    assert {"accepted", "task_loss", "validation_accuracy"} <= set(result.minima[0])
    assert [record.get("hop") for record in result.history] == [None, None, 1, 1, 2, 2, 3, 3]


def test_at_temperature_zero_improvements_alone_are_accepted():
    result, _ = kept_by(fit(hops=6))
    standing = result.minima[0]["validation_loss"]
    for record in result.minima[1:]:
        assert record["accepted"] == (record["validation_loss"] < standing)
        standing = min(standing, record["validation_loss"])


def test_without_hops_nothing_changes():
    plain, hopping = fit(hops=0), fit(hops=1)
    weights = []
    hopping.run(lambda *_: None, lambda current, _: weights.append(copy_of(current.model)))
    result, kept = kept_by(plain)
    assert kept == {}
    assert result.minima == ()
    for name, value in plain.model.state_dict().items():
        assert torch.equal(value, weights[0][name]), name  # hop 0 is where the phases end


@pytest.mark.parametrize("stop_after", range(1, 2 + HOPS * LENGTH))
def test_resumed_at_any_epoch_it_ends_as_if_it_had_never_stopped(stop_after, tmp_path):
    whole = fit(hop_temperature=0.05)
    expected, kept = kept_by(whole)
    file = tmp_path / "resume.pt"

    class StopError(Exception):
        pass

    def kill(current, record):
        save_state(file, current.state())
        if len(current.history) == stop_after:
            raise StopError

    with pytest.raises(StopError):
        fit(hop_temperature=0.05).run(kill)
    resumed = fit(hop_temperature=0.05)
    resumed.resume(load_state(file, torch.device("cpu")))
    found, again = kept_by(resumed)
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, resumed.model.state_dict()[name]), name
    assert found.minima == expected.minima
    for place, (weights, record) in again.items():
        assert record == kept[place][1]
        assert all(torch.equal(value, weights[name]) for name, value in kept[place][0].items())


def test_a_state_of_the_first_release_is_resumed():
    whole, first, second = fit(hops=0), fit(hops=0), fit(hops=0)
    whole.run(lambda *_: None)
    states = []
    first.run(lambda current, _: states.append({**current.state(), "model": copy_of(first.model)}))
    old = {name: value for name, value in states[-1].items() if name != "hopping"}
    second.resume(old)
    assert second.finished
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, second.model.state_dict()[name]), name


def test_hops_start_from_untrained_weights_where_the_phase_has_no_epochs():
    result, kept = kept_by(fit(epochs=0))
    assert len(result.minima) == HOPS + 1
    untrained = copy_of(network())
    assert all(torch.equal(kept["hop", 0][0][name], value) for name, value in untrained.items())


def test_hops_need_a_validation_split():
    with pytest.raises(BadValue, match="compares minima by their validation loss"):
        fit(validation=False)


class TestTheWalk:
    """The rule alone, with losses of our own."""

    def accepted(self, losses, temperature, seed=0):
        walk = Hopping(seed, 0.1, temperature)
        return [walk.offer({}, {"validation_loss": loss})["accepted"] for loss in losses], walk

    def test_metropolis_accepts_worse_minima_as_often_as_it_should(self):
        worse = [
            self.accepted([1.0, 1.5], temperature=0.5, seed=seed)[0][1] for seed in range(2000)
        ]
        assert sum(worse) / len(worse) == pytest.approx(math.exp(-1), abs=0.03)

    def test_a_loss_that_is_no_number_is_never_accepted(self):
        found, walk = self.accepted([1.0, math.nan, 0.5], temperature=10.0)
        assert found == [True, False, True]
        assert walk.lowest_loss == 0.5

    def test_a_perturbation_is_relative_to_each_tensor(self):
        model = nn.Sequential(nn.Linear(40, 50), drelu(50, cap=3.0))
        before = copy_of(model)
        Hopping(0, 0.2, 0.0).perturb_(model)
        after = copy_of(model)
        moved = (after["0.weight"] - before["0.weight"]).std()
        assert float(moved / before["0.weight"].std()) == pytest.approx(0.2, rel=0.1)
        # Caps that are all equal have no spread: their root mean square counts.
        assert float((after["1.cap"] - before["1.cap"]).std()) == pytest.approx(0.6, rel=0.3)

    def test_caps_stay_at_zero_or_above_and_frozen_weights_stay(self):
        model = nn.Sequential(nn.Linear(4, 50), drelu(50, cap=0.1))
        model[0].weight.requires_grad_(False)
        before = copy_of(model)
        Hopping(0, 5.0, 0.0).perturb_(model)
        assert all((cap >= 0).all() for cap in learnable_caps(model))
        assert torch.equal(model[0].weight, before["0.weight"])
        assert not torch.equal(model[0].bias, before["0.bias"])

    def test_every_hop_draws_anew_and_every_seed(self):
        def moved(seed, hop):
            model = nn.Linear(4, 4)
            with torch.no_grad():
                model.weight.copy_(torch.arange(16.0).reshape(4, 4))
            walk = Hopping(seed, 0.1, 0.0)
            walk.minima = [{}] * hop
            walk.perturb_(model)
            return model.weight.detach()

        assert torch.equal(moved(0, 1), moved(0, 1))
        assert not torch.equal(moved(0, 1), moved(0, 2))
        assert not torch.equal(moved(0, 1), moved(1, 1))
