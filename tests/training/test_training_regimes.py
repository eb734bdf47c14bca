import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from drelu_cli.activations.capped import drelu
from drelu_cli.core.errors import ModelError
from drelu_cli.core.recipe import Train
from drelu_cli.runtime.streams import Stream
from drelu_cli.training import SCHEMES
from drelu_cli.training.batches import Images
from drelu_cli.training.contract import BoundPhase, Loss, Regime, regime, regime_of
from drelu_cli.training.fit import Fit


def images(count, offset=0):
    """Labels that the images say little about: what fits them overfits."""
    index = torch.arange(offset, offset + count)
    stream = Stream(0, index, ("images",))
    labels = stream.integers("y", (), high=2)
    x = stream.uniform("x", (1, 4, 4)) * 0.95 + 0.05 * labels[:, None, None, None]
    return Images((x * 255).to(torch.uint8), labels, index)


def network(norm=False):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        middle = nn.BatchNorm1d(64) if norm else nn.Identity()
        return nn.Sequential(
            nn.Flatten(), nn.Linear(16, 64), middle, drelu(64, cap=2.0), nn.Linear(64, 2)
        )


def fit(name, epochs=4, model=None, **options):
    phase = BoundPhase(name, SCHEMES.bind(name, **options), epochs, lr=1e-2, cap_lr=1e-2)
    settings = Train(batch=16, stop_patience=2, plateau_patience=0)
    training = Fit(model or network(), images(64), images(64, 1000), [phase], 0.0, settings)
    training.epoch_weights = []
    return training


def ran(training):
    def on_epoch(current, record):
        weights = {name: value.clone() for name, value in current.model.state_dict().items()}
        training.epoch_weights.append(weights)

    return training.run(on_epoch)


def test_overfit_runs_on_at_one_rate_and_keeps_the_last_weights():
    training = fit("overfit", epochs=40)
    result = ran(training)
    losses = [record["validation_loss"] for record in result.history]
    assert len(result.history) == 40
    assert result.stopped_by == "epochs"
    assert {record["lr"] for record in result.history} == {1e-2}
    assert min(losses) < losses[-1]
    assert result.validation_loss == losses[-1]
    assert result.history[-1]["accuracy"] > result.history[-1]["validation_accuracy"] + 0.2


def test_the_normal_regime_of_the_same_network_stops_before():
    result = ran(fit("natural", epochs=40))
    assert result.stopped_by == "early stopping"
    assert len(result.history) < 40


def test_a_third_partys_scheme_declares_its_regime():
    @regime(stops=False)
    def mine(model, x, y, stream, /) -> Loss: ...

    def plain(model, x, y, stream, /) -> Loss: ...

    assert regime_of(mine) == Regime(stops=False, bounds=False)
    assert regime_of(plain) == Regime()
    assert regime_of(SCHEMES.bind("overfit")) == Regime(stops=False)
    assert regime_of(SCHEMES.bind("sensitivity", eps=0.1)) == Regime(bounds=True)


def test_the_sensitivity_term_narrows_the_outputs():
    free = ran(fit("sensitivity", weight=0.0, eps=0.1)).history[-1]
    held = ran(fit("sensitivity", weight=0.3, eps=0.1)).history[-1]
    assert {"natural", "sensitivity", "accuracy"} <= set(held)
    assert held["sensitivity"] < free["sensitivity"] - 0.3


def test_without_weight_it_is_natural_training():
    natural, sensitive = fit("natural"), fit("sensitivity", weight=0.0, eps=0.1)
    ran(natural), ran(sensitive)
    for name, value in natural.model.state_dict().items():
        assert torch.equal(value, sensitive.model.state_dict()[name]), name


def test_the_total_is_task_and_weighted_sensitivity():
    x, y, index = images(8).batch(slice(None))
    stream, model = Stream(0, index, ("t",)), network()
    loss = SCHEMES.bind("sensitivity", eps=0.1, weight=0.5)(model, x, y, stream)
    assert torch.equal(loss.terms["natural"], F.cross_entropy(model(x), y))
    expected = loss.terms["natural"] + 0.5 * loss.terms["sensitivity"]
    assert float(loss.total.detach()) == pytest.approx(float(expected))


def test_a_net_of_constant_outputs_gains_no_more_than_the_floor():
    x, y, index = images(8).batch(slice(None))
    model = network()
    nn.init.zeros_(model[4].weight)
    loss = SCHEMES.bind("sensitivity", eps=0.1, floor=1e-2)(model, x, y, Stream(0, index))
    assert float(loss.terms["sensitivity"]) == pytest.approx(math.log(1e-2))


def test_a_net_without_bounds_is_refused_before_it_trains():
    with pytest.raises(ModelError, match="scheme sensitivity needs interval bounds"):
        fit("sensitivity", eps=0.1, model=network(norm=True))


def test_weight_decay_acts_on_weights_and_not_on_caps():
    def trained(decay):
        phase = BoundPhase("natural", SCHEMES.bind("natural"), 3, lr=1e-2, cap_lr=1e-2)
        settings = Train(batch=16, weight_decay=decay)
        training = Fit(network(), images(64), None, [phase], 0.0, settings)
        decays = [group["weight_decay"] for group in training.optimiser.param_groups]
        training.run(lambda *_: None)
        return training.model[1].weight.norm(), decays

    free, none = trained(0.0)
    held, some = trained(1.0)
    assert held < free
    assert (none, some) == ([0.0, 0.0], [1.0, 0.0])
