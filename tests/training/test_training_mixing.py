"""Generated images in the fit loop: shares, orders, counters, and what does not change."""

import numpy as np
import pytest
import torch
from test_training_fit import fit, ignore, images, network, phase

from drelu_cli.core.recipe import Train
from drelu_cli.data.generated import open_generated
from drelu_cli.runtime.streams import Stream
from drelu_cli.training.fit import Fit
from drelu_cli.training.mixing import Mixed
from drelu_cli.training.resume import load_state, save_state

COUNT = 40


@pytest.fixture
def generated(tmp_path):
    """Generated images made like the originals, but on a darker ground."""
    made = images(COUNT, offset=5000)
    pixels = (made.images // 2).permute(0, 2, 3, 1).numpy()
    np.savez(tmp_path / "edm.npz", image=pixels, label=made.labels.numpy())
    return open_generated(tmp_path / "edm.npz", tmp_path / "cache", shape=(1, 4, 4), classes=2)


def mixed(generated, share=0.7, originals=64, offset=100):
    return Mixed(images(originals), generated, share, offset)


@pytest.mark.parametrize(
    ("share", "drawn"), [(0.7, 45), (0.8, 51), (0.5, 32), (0.0, 0), (1.0, 64), (0.001, 0)]
)
def test_an_epoch_has_as_many_images_as_the_split_and_the_share_of_generated_ones(
    generated, share, drawn
):
    data = mixed(generated, share)
    rows = data.order(0, "0/0")
    assert len(data) == len(rows) == 64
    assert int((rows >= 64).sum()) == drawn
    originals = rows[rows < 64]
    assert len(originals.unique()) == len(originals) == 64 - drawn


def test_generated_images_repeat_only_when_all_were_drawn(generated):
    rows = mixed(generated, 0.5).order(0, "0/0")
    chosen = rows[rows >= 64] - 64
    assert len(chosen.unique()) == len(chosen) == 32
    rows = mixed(generated, 1.0, originals=100).order(0, "0/0")
    _, times = (rows - 100).unique(return_counts=True)
    assert len(times) == COUNT
    assert sorted(times.unique().tolist()) == [2, 3]


def test_every_epoch_draws_anew_and_the_seed_decides(generated):
    data = mixed(generated)
    first = data.order(0, "0/0")
    assert torch.equal(first, data.order(0, "0/0"))
    for other in (data.order(0, "0/1"), data.order(0, "1/0"), data.order(1, "0/0")):
        assert not torch.equal(first.sort().values, other.sort().values)


def test_both_kinds_are_in_every_batch(generated):
    data = mixed(generated, 0.7, originals=640)
    for rows in data.order(0, "0/0").split(64):
        assert 0 < int((rows >= 640).sum()) < 64


def test_a_batch_has_the_images_of_its_rows(generated):
    data = mixed(generated)
    rows = torch.tensor([64, 3, 70, 103, 9])
    x, y, index = data.batch(rows)
    own = images(64)
    assert torch.equal(x[:2], own.images[[3, 9]].float() / 255.0)
    assert torch.equal(x[2:], generated.images(torch.tensor([0, 6, 39])).float() / 255.0)
    assert y.tolist() == [*own.labels[[3, 9]].tolist(), *generated.labels[[0, 6, 39]].tolist()]
    assert index.tolist() == [3, 9, 100, 106, 139]


def test_a_slice_of_rows_means_originals(generated):
    x, y, index = mixed(generated).batch(slice(2, 5))
    expected = images(64).batch(slice(2, 5))
    for found, wanted in zip((x, y, index), expected, strict=True):
        assert torch.equal(found, wanted)


def test_no_random_number_is_shared_with_an_original_beyond_the_training_limit(generated):
    data = mixed(generated, originals=64, offset=1000)
    rows = torch.arange(64, 64 + COUNT)
    assert int(data.batch(rows)[2].min()) == 1000


def training(data, **settings):
    phases = [phase(), phase("madry", 2, eps=0.05, steps=2), phase("trades", 2, eps=0.05, steps=2)]
    return Fit(network(), data, images(32, offset=1000), phases, 0.1, Train(batch=16, **settings))


def weights(run):
    return torch.cat([value.double().flatten() for value in run.model.state_dict().values()])


def test_a_training_reads_them_in_every_scheme(generated):
    read = []

    class Watched(Mixed):
        def batch(self, rows):
            if not isinstance(rows, slice):
                read.append(int((rows >= len(self)).sum()))
            return super().batch(rows)

    run = training(Watched(images(64), generated, 0.7, 100))
    records = run.run(ignore).history
    assert [record["phase"] for record in records] == ["natural"] * 3 + ["madry"] * 2 + [
        "trades"
    ] * 2
    assert sum(read) == 7 * 45
    plain = training(images(64))
    plain.run(ignore)
    assert not torch.equal(weights(run), weights(plain))


def test_a_share_of_nothing_draws_the_originals_of_a_training_without(generated):
    rows = mixed(generated, 0.0).order(0, "0/0")
    assert torch.equal(rows.sort().values, torch.arange(64))


@pytest.mark.parametrize("stop_after", [1, 4, 6])
def test_a_training_resumed_at_any_epoch_ends_as_if_it_had_never_stopped(
    generated, stop_after, tmp_path
):
    data = mixed(generated)
    whole = training(data)
    whole.run(ignore)
    file = tmp_path / "resume.pt"

    class StopError(Exception):
        pass

    def kill(current, record):
        save_state(file, current.state())
        if len(current.history) == stop_after:
            raise StopError

    with pytest.raises(StopError):
        training(data).run(kill)
    resumed = training(data)
    resumed.resume(load_state(file, torch.device("cpu")))
    resumed.run(ignore)
    assert torch.equal(weights(whole), weights(resumed))


def test_the_seed_decides_the_training(generated):
    runs = [training(mixed(generated), seed=seed) for seed in (0, 0, 1)]
    for run in runs:
        run.run(ignore)
    assert torch.equal(weights(runs[0]), weights(runs[1]))
    assert not torch.equal(weights(runs[0]), weights(runs[2]))


def test_without_generated_images_the_order_is_what_it_always_was():
    """Interrupted trainings of earlier releases go on in the order they began with."""
    index = torch.arange(9)
    words = Stream(5, index).at("order/1/2").words("permutation", 1, 0)[:, 0]
    assert torch.equal(images(9).order(5, "1/2"), torch.argsort(words, stable=True))
    assert fit().data.order(0, "0/0").tolist() == images(64).order(0, "0/0").tolist()
