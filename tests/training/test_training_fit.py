import pytest
import torch
from torch import nn

from drelu_cli.activations.capped import drelu
from drelu_cli.activations.caps import learnable_caps
from drelu_cli.core.errors import ModelError
from drelu_cli.core.recipe import Train
from drelu_cli.runtime.streams import Stream
from drelu_cli.training import SCHEMES
from drelu_cli.training.fit import BoundPhase, Fit, Images
from drelu_cli.training.resume import load_state, save_state
from drelu_cli.training.validation import validated


def images(count, offset=0):
    """Two classes that a line separates, as uint8 images."""
    index = torch.arange(offset, offset + count)
    stream = Stream(0, index, ("images",))
    labels = stream.integers("y", (), high=2)
    x = stream.uniform("x", (1, 4, 4)) * 0.5 + 0.5 * labels[:, None, None, None]
    return Images((x * 255).to(torch.uint8), labels, index)


def network():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Flatten(), nn.Linear(16, 8), nn.BatchNorm1d(8), drelu(8, cap=2.0), nn.Linear(8, 2)
        )


def phase(name="natural", epochs=3, **options):
    return BoundPhase(name, SCHEMES.bind(name, **options), epochs, lr=1e-2, cap_lr=5e-2)


def fit(phases=None, validation=True, lambda_=0.1, **settings):
    return Fit(
        network(),
        images(64),
        images(32, offset=1000) if validation else None,
        phases or [phase(), phase("madry", 3, eps=0.05, steps=2)],
        lambda_,
        Train(batch=16, **settings),
    )


def ignore(*_):
    pass


def test_it_learns_and_the_penalty_pushes_the_caps_down():
    training = fit([phase(epochs=8)])
    result = training.run(ignore)
    assert result.history[-1]["validation_accuracy"] > 0.95
    assert result.history[-1]["penalty"] < result.history[0]["penalty"]
    assert result.history[-1]["cap_mean"] < 2.0
    untouched = fit([phase(epochs=8)], lambda_=0.0).run(ignore)
    assert untouched.history[-1]["cap_mean"] > result.history[-1]["cap_mean"]


def test_the_history_has_loss_terms_accuracies_caps_rates_and_seconds():
    record = fit().run(ignore).history[-1]
    assert {
        "phase", "epoch", "robust", "penalty", "accuracy", "validation_loss",
        "validation_accuracy", "cap_mean", "cap_min", "cap_max", "lr", "cap_lr", "seconds",
    } <= set(record)  # fmt: skip


def test_caps_have_their_own_learning_rate_and_are_never_negative():
    training = fit([phase(epochs=1)], lambda_=1000.0)
    rates = [group["lr"] for group in training.optimiser.param_groups]
    assert rates == [1e-2, 5e-2]
    training.run(ignore)
    for cap in learnable_caps(training.model):
        assert (cap >= 0).all()


@pytest.mark.parametrize("stop_after", [1, 2, 3, 4, 5])
def test_a_training_resumed_at_any_epoch_ends_as_if_it_had_never_stopped(stop_after, tmp_path):
    whole = fit()
    expected = whole.run(ignore)
    file = tmp_path / "resume.pt"

    class StopError(Exception):
        pass

    def kill(current, record):
        save_state(file, current.state())
        if len(current.history) == stop_after:
            raise StopError

    with pytest.raises(StopError):
        fit().run(kill)
    resumed = fit()
    resumed.resume(load_state(file, torch.device("cpu")))
    found = resumed.run(ignore)
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, resumed.model.state_dict()[name]), name
    timeless = [{k: v for k, v in r.items() if k != "seconds"} for r in expected.history]
    assert [{k: v for k, v in r.items() if k != "seconds"} for r in found.history] == timeless


def test_early_stopping_keeps_the_best_weights():
    """A learning rate that only shakes the weights: the last epochs are not the best."""
    shaking = BoundPhase("natural", SCHEMES.bind("natural"), 60, lr=0.5, cap_lr=0.5)
    training = fit([shaking], stop_patience=3)
    result = training.run(ignore)
    losses = [record["validation_loss"] for record in result.history]
    assert result.stopped_by == "early stopping"
    assert min(losses) < min(losses[-3:])
    kept = validated(
        training.model, training.validation, shaking.scheme, 0.1, lambda index: Stream(0, index)
    ).loss
    assert kept == pytest.approx(min(losses), rel=1e-5)
    assert result.validation_loss == min(losses)


def test_early_stopping_happens_when_nothing_improves():
    """A learning rate that only shakes the weights: validation loss cannot fall for long."""
    shaking = BoundPhase("natural", SCHEMES.bind("natural"), 60, lr=0.5, cap_lr=0.5)
    result = fit([shaking], stop_patience=3).run(ignore)
    assert result.stopped_by == "early stopping"
    losses = [record["validation_loss"] for record in result.history]
    assert min(losses) not in losses[-3:]


def test_the_plateau_schedule_halves_both_rates():
    shaking = BoundPhase("natural", SCHEMES.bind("natural"), 30, lr=0.5, cap_lr=0.25)
    result = fit([shaking], stop_patience=30, plateau_patience=1).run(ignore)
    last = result.history[-1]
    assert last["lr"] < 0.5
    assert last["cap_lr"] / last["lr"] == pytest.approx(0.5)


def test_without_validation_it_runs_to_the_end():
    result = fit([phase(epochs=4)], validation=False).run(ignore)
    assert len(result.history) == 4
    assert result.stopped_by == "epochs"
    assert "validation_loss" not in result.history[0]


def test_no_epochs_at_all():
    result = fit([phase(epochs=0)]).run(ignore)
    assert result.history == ()


def test_a_training_that_diverges_says_so():
    explosive = BoundPhase("natural", SCHEMES.bind("natural"), 3, lr=1e37, cap_lr=1.0)
    with pytest.raises(ModelError, match="diverged in epoch"):
        fit([explosive]).run(ignore)


def test_data_order_and_draws_depend_on_the_seed():
    first, second = fit([phase(epochs=1)], seed=0), fit([phase(epochs=1)], seed=1)
    first.run(ignore), second.run(ignore)
    weights = [training.model[1].weight for training in (first, second)]
    assert not torch.equal(*weights)


def test_an_unreadable_state_is_no_state(tmp_path):
    file = tmp_path / "resume.pt"
    assert load_state(file, torch.device("cpu")) is None
    save_state(file, {"epoch": 1})
    assert load_state(file, torch.device("cpu")) == {"epoch": 1}
    file.write_bytes(file.read_bytes()[:50])
    assert load_state(file, torch.device("cpu")) is None
    file.write_bytes(b"")
    assert load_state(file, torch.device("cpu")) is None


@pytest.mark.parametrize(
    ("count", "size", "lengths"), [(9, 4, [4, 5]), (8, 4, [4, 4]), (1, 4, [1]), (3, 1, [1, 2])]
)
def test_a_last_batch_of_one_joins_the_one_before(count, size, lengths):
    from drelu_cli.training.batches import batches

    parts = batches(torch.arange(count), size)
    assert [len(part) for part in parts] == lengths
    assert torch.cat(parts).tolist() == list(range(count))
