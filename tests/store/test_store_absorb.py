"""What another store made comes into the archive: whole, once, and nothing there is lost."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import pytest
from store_samples import certificate, evaluation, examination, model, outcome, same

from drelu_cli.core.errors import StoreError
from drelu_cli.store import absorb as module
from drelu_cli.store.absorb import Absorbed, absorb
from drelu_cli.store.archive import Store
from drelu_cli.store.connect import open_store

ORDER = (4, 0, 3, 1, 2)


@pytest.fixture
def target(tmp_path: Path):
    with open_store(tmp_path / "target") as opened:
        yield opened


@pytest.fixture
def source(tmp_path: Path):
    with open_store(tmp_path / "source") as opened:
        yield opened


def filled(store: Store, samples=range(5), text="weights") -> Store:
    """One model with a file, outcomes, a certificate, an examination, a finding, an order."""
    record = model()
    store.add_model(record)
    files(store, record.key, weights=text)
    store.set_sample_order(record.dataset_digest, ORDER)
    store.add_outcomes(evaluation(), [outcome(n) for n in samples], seconds=float(len(samples)))
    store.add_certificate(*certificate(), list(samples), [n % 2 == 0 for n in samples], 1.0)
    store.add_examination(examination())
    store.add_finding(record.key, "code", "detail")
    return store


def files(store: Store, key: str, **named: str) -> Path:
    folder = store.model_dir(key)
    folder.mkdir(exist_ok=True)
    for name, text in named.items():
        (folder / name.replace("resume", "resume.pt")).write_text(text)
    return folder


def names(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir())


def test_everything_comes_along_and_a_second_time_changes_nothing(target, source):
    filled(source)
    folder = source.model_dir(model().key)
    (folder / ".lock").touch()
    (folder / "resume.pt").write_text("of an epoch that is past")
    assert absorb(target, source) == Absorbed(models=1, evaluations=1, samples=5)
    key = evaluation().key
    for _ in range(2):
        assert target.models() == source.models()
        assert same(target.outcomes(key), source.outcomes(key))
        assert target.evaluation(key).seconds == 5.0
        assert target.sample_order(model().dataset_digest) == ORDER
        assert target.examinations() == source.examinations()
        assert [one.samples for one in target.certificates()] == [
            {0: True, 1: False, 2: True, 3: False, 4: True}
        ]
        assert [one.code for one in target.findings(model().key)] == ["code"]
        assert names(target.model_dir(model().key)) == ["weights"]
        assert absorb(target, source) == Absorbed()


def test_only_missing_outcomes_are_added(target, source):
    filled(target, range(2))
    filled(source, range(5))
    assert absorb(target, source) == Absorbed(evaluations=1, samples=3)
    assert [one.sample for one in target.outcomes(evaluation().key)] == [0, 1, 2, 3, 4]
    assert target.evaluation(evaluation().key).seconds == pytest.approx(5.0)
    assert list(target.certificates()[0].samples) == [0, 1, 2, 3, 4]


def test_outcomes_that_only_the_archive_has_stay(target, source):
    filled(target, range(3, 6))
    filled(source, range(4))
    assert absorb(target, source).samples == 3
    assert [one.sample for one in target.outcomes(evaluation().key)] == [0, 1, 2, 3, 4, 5]


def test_keys_choose_and_results_may_stay_behind(target, source):
    filled(source)
    source.add_model(model("other"))
    assert absorb(target, source, [model("other").key]) == Absorbed(models=1)
    assert absorb(target, source, [model().key], results=False) == Absorbed(models=1)
    assert target.evaluations() == [] == target.examinations()
    assert (target.model_dir(model().key) / "weights").read_text() == "weights"


def test_other_weights_under_a_known_key_stay_out_unless_just_trained(target, source):
    kept = target.add_model(dataclasses.replace(model(), weights_digest="b" * 64))
    files(target, kept.key, weights="kept")
    filled(source, text="new")
    assert absorb(target, source) == Absorbed()
    assert target.models() == [kept]
    assert (target.model_dir(kept.key) / "weights").read_text() == "kept"
    assert absorb(target, source, trained=[kept.key]).evaluations == 1
    assert target.models()[0].weights_digest == model().weights_digest
    assert (target.model_dir(kept.key) / "weights").read_text() == "new"


def test_a_missing_file_of_a_known_model_comes_back(target, source):
    filled(target)
    filled(source)
    (target.model_dir(model().key) / "weights").unlink()
    absorb(target, source)
    assert (target.model_dir(model().key) / "weights").read_text() == "weights"


def test_an_unfinished_training_is_taken_over_where_it_is_ahead(target, source):
    key = model().key
    behind = files(target, key, resume="epoch 1")
    ahead = files(source, key, resume="epoch 2", history="two")
    os.utime(behind / "resume.pt", (1000, 1000))
    os.utime(ahead / "resume.pt", (2000, 2000))
    assert absorb(target, source) == Absorbed(unfinished=1)
    assert (behind / "resume.pt").read_text() == "epoch 2"
    assert (behind / "history").read_text() == "two"
    assert absorb(target, source) == Absorbed()
    os.utime(behind / "resume.pt", (3000, 3000))
    (ahead / "resume.pt").write_text("epoch 3")
    os.utime(ahead / "resume.pt", (2500, 2500))
    assert absorb(target, source) == Absorbed()
    # A training that the archive has finished needs none of it.
    target.add_model(model())
    os.utime(ahead / "resume.pt", (9000, 9000))
    assert absorb(target, source) == Absorbed()


def test_a_finished_training_leaves_nothing_to_resume(target, source):
    files(target, model().key, resume="epoch 1")
    filled(source)
    absorb(target, source)
    assert names(target.model_dir(model().key)) == ["weights"]


def test_a_run_of_the_court_that_a_user_asked_for_meanwhile_is_the_user_s(target, source):
    for store, provenance in ((target, {"device": "cpu", "purpose": "court"}), (source, {})):
        store.add_model(model())
        own = evaluation(provenance={"device": "cpu"} | provenance)
        store.add_outcomes(own, [outcome(0)], seconds=1.0)
    absorb(target, source)
    assert target.evaluations()[0].evaluation.provenance == {"device": "cpu"}
    absorb(source, target)
    assert source.evaluations()[0].evaluation.provenance == {"device": "cpu"}


def test_an_evaluation_without_outcomes_comes_along(target, source):
    source.add_model(model())
    source.add_outcomes(evaluation(), [], seconds=0.0)
    absorb(target, source)
    assert [one.key for one in target.evaluations()] == [evaluation().key]


def test_a_full_disk_registers_nothing_and_leaves_no_half_folder(target, source, monkeypatch):
    filled(source)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "_duplicate", full)
    with pytest.raises(StoreError, match="No space left"):
        absorb(target, source)
    assert target.models() == []
    assert names(target.root / "models") == []
    monkeypatch.undo()
    assert absorb(target, source).models == 1


@pytest.mark.parametrize("links", [True, False])
def test_a_file_is_shared_or_copied_and_a_later_one_is_the_writer_s_own(
    target, source, monkeypatch, links
):
    def no_links(*_):
        raise OSError(1, "Operation not permitted")

    if not links:
        monkeypatch.setattr(Path, "hardlink_to", no_links)
    filled(source)
    here, there = (store.model_dir(model().key) / "weights" for store in (source, target))
    os.utime(here, (1000, 1000))
    absorb(target, source)
    assert here.samefile(there) == links
    assert there.stat().st_mtime == 1000
    later = here.with_name(".weights.tmp")
    later.write_text("later")
    later.replace(here)
    assert there.read_text() == "weights"


def test_of_a_model_all_rows_come_or_none(target, source, monkeypatch):
    filled(source)

    def stopped(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(Store, "add_finding", stopped)
    with pytest.raises(KeyboardInterrupt):
        absorb(target, source)
    assert target.models() == []
    assert target.evaluations() == []
    monkeypatch.undo()
    assert absorb(target, source) == Absorbed(models=1, evaluations=1, samples=5)
