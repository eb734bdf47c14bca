from __future__ import annotations

import dataclasses
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from store_samples import evaluation, model, outcome, same

from drelu_cli.core.errors import BadValue, InternalError, StoreError, UnknownName
from drelu_cli.core.records import ModelRecord, State
from drelu_cli.store.archive import Store
from drelu_cli.store.connect import open_store


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with open_store(tmp_path / "runs") as opened:
        yield opened


def test_a_model_comes_back_as_it_was(store: Store) -> None:
    record = model()
    assert store.add_model(record) == record
    assert store.models() == [record]
    bare = model("bare", lambda_=None, cap=None, seed=None, source="file")
    assert store.add_model(bare) == bare


def test_the_same_key_again_changes_nothing(store: Store) -> None:
    first = store.add_model(model())
    again = dataclasses.replace(model(), name="other", label="other", summary={})
    assert store.add_model(again) == first
    assert len(store.models()) == 1


def test_new_weights_of_the_same_key_replace_what_describes_them(store: Store) -> None:
    first = store.add_model(model())
    again = dataclasses.replace(first, weights_digest="b" * 64, summary={"epochs": 3}, label="x")
    assert store.add_model(again) == dataclasses.replace(again, label=first.label)


def test_a_name_that_is_taken_gets_some_of_the_key(store: Store) -> None:
    store.add_model(model())
    other = model(key="abcdef" + "0" * 58)
    assert store.add_model(other).name == f"{other.name}-abcdef"
    third = model(key="abcdef" + "1" * 58)
    assert store.add_model(third).name == f"{other.name}-abcdef1"


def test_models_come_in_order_and_by_what_they_are(store: Store) -> None:
    names = ["z", "a", "m"]
    for name in names:
        store.add_model(
            model(name, label=name.upper(), dataset="mnist" if name == "m" else "digits")
        )
    assert [found.name for found in store.models()] == names
    assert [found.name for found in store.models(dataset="digits")] == ["z", "a"]
    assert [found.name for found in store.models(dataset="digits", label="A")] == ["a"]
    assert store.models(seed=7) == []


def test_models_by_key_and_by_the_training_they_were_kept_along(store: Store) -> None:
    parent = store.add_model(model())
    child = store.add_model(
        dataclasses.replace(model("child"), summary={"parent": parent.key, "epoch": 5})
    )
    store.add_model(
        dataclasses.replace(model("other"), summary={"text": f'"parent":"{parent.key}"'})
    )
    assert store.models(keys=[child.key, "unknown"]) == [child]
    assert store.models(keys=[]) == []
    assert store.models(parent=parent.key) == [child]
    assert store.models(parent=child.key) == []
    assert store.models(parent=parent.key, keys=[parent.key]) == []


def test_writes_that_belong_together_are_kept_or_undone_together(store: Store) -> None:
    with store.together():
        store.add_model(model())
        store.add_finding(model().key, "code", "detail")
    with pytest.raises(KeyError), store.together():
        store.add_model(model("other"))
        raise KeyError
    assert [one.key for one in store.models()] == [model().key]
    assert len(store.findings(model().key)) == 1


def test_relabel(store: Store) -> None:
    record = store.add_model(model())
    assert store.relabel(record.key, "AT") == dataclasses.replace(record, label="AT")
    with pytest.raises(UnknownName):
        store.relabel("0" * 64, "AT")


class TestFindModel:
    @pytest.fixture
    def three(self, store: Store) -> list[ModelRecord]:
        return [
            store.add_model(model("first", key="aaaa1" + "0" * 59, label="AT")),
            store.add_model(model("second", key="aaaa2" + "0" * 59, label="TRADES-6")),
            store.add_model(model("third", key="bbbb1" + "0" * 59, label="AT")),
        ]

    @pytest.mark.parametrize("reference", ["second", "TRADES-6", "aaaa2", "aaaa2" + "0" * 59])
    def test_by_name_label_and_key(
        self, store: Store, three: list[ModelRecord], reference: str
    ) -> None:
        assert store.find_model(reference) == three[1]

    def test_a_name_wins_over_a_label(self, store: Store, three: list[ModelRecord]) -> None:
        named = store.add_model(model("AT", key="cccc1" + "0" * 59, label="x"))
        assert store.find_model("AT") == named

    @pytest.mark.parametrize(
        ("reference", "message", "hint"),
        [
            ("AT", "the label 'AT' means 2 models", "first, third"),
            ("aaaa", "the key prefix 'aaaa' means 2 models", "first, second"),
            ("aaa", "unknown model 'aaa'", "known: first, second, third"),
            ("secnd", "unknown model 'secnd'", "did you mean second?"),
            ("TRADES-5", "unknown model 'TRADES-5'", "did you mean TRADES-6?"),
            ("%", "unknown model '%'", "known"),
        ],
    )
    def test_what_is_not_one_model_is_named(
        self, store: Store, three: list[ModelRecord], reference: str, message: str, hint: str
    ) -> None:
        with pytest.raises(UnknownName) as caught:
            store.find_model(reference)
        assert caught.value.message == message
        assert hint in caught.value.hint

    def test_an_empty_store_says_what_to_do(self, store: Store) -> None:
        with pytest.raises(UnknownName) as caught:
            store.find_model("x")
        assert "drelu train" in caught.value.hint

    def test_hundreds_of_names_are_not_all_listed(self, store: Store) -> None:
        for number in range(12):
            store.add_model(model(f"net-{number}"))
        with pytest.raises(UnknownName) as caught:
            store.find_model("x")
        assert "and 2 more" in caught.value.hint


def test_outcomes_come_back_in_the_order_asked(store: Store) -> None:
    given_ = [outcome(9), outcome(2, State.BROKEN), outcome(5, State.NOT_RUN)]
    store.add_outcomes(evaluation(), given_, seconds=1.5)
    key = evaluation().key
    assert store.stored_samples(key) == {2, 5, 9}
    assert same(store.outcomes(key), [given_[1], given_[2], given_[0]])
    assert same(store.outcomes(key, [5, 9, 2, 5]), [given_[n] for n in (2, 0, 1, 2)])
    assert store.states(key, [9, 2, 5]).tolist() == [State.ROBUST, State.BROKEN, State.NOT_RUN]
    assert store.states(key, []).tolist() == []


def test_an_evaluation_comes_back_as_it_was(store: Store) -> None:
    one = evaluation(cascade="whitebox", engine="torchattacks", eps=0.1)
    store.add_outcomes(one, [outcome(0)], seconds=2.0)
    (found,) = store.evaluations()
    assert found.evaluation == one
    assert (found.key, found.seconds, found.samples) == (one.key, 2.0, 1)
    assert store.evaluation(one.key) == found
    assert store.evaluation("0" * 64) is None


def test_an_evaluation_without_outcomes_is_there(store: Store) -> None:
    store.add_outcomes(evaluation(), [], seconds=1.0)
    (found,) = store.evaluations()
    assert (found.samples, found.seconds) == (0, 0.0)
    assert store.outcomes(found.key) == []


def test_stored_samples_are_never_overwritten(store: Store) -> None:
    key = evaluation().key
    first = [outcome(n) for n in range(4)]
    store.add_outcomes(evaluation(), first, seconds=4.0)
    later = [outcome(n, State.BROKEN) for n in range(2, 6)]
    store.add_outcomes(evaluation(warnings=()), later, seconds=10.0)
    store.add_outcomes(evaluation(), first, seconds=99.0)
    assert same(store.outcomes(key), first + later[2:])
    (found,) = store.evaluations()
    assert found.samples == 6
    assert found.seconds == 4.0 + 5.0
    assert found.evaluation.warnings == evaluation().warnings


def test_evaluations_are_filtered(store: Store) -> None:
    others = model("other", dataset="mnist")
    store.add_outcomes(evaluation(), [outcome(0)], seconds=1)
    store.add_outcomes(evaluation(others), [outcome(0)], seconds=1)
    store.add_outcomes(evaluation(eps=0.3), [outcome(0)], seconds=1)
    assert [s.evaluation.eps for s in store.evaluations(model_key=model().key)] == [8 / 255, 0.3]
    assert [s.evaluation.model_key for s in store.evaluations(dataset="mnist")] == [others.key]
    assert store.evaluations(model_key=others.key, dataset="digits") == []


@pytest.mark.parametrize("asked", [[0, 7], [7], [-1], [2**40]])
def test_a_sample_that_is_not_stored_is_named(store: Store, asked: list[int]) -> None:
    store.add_outcomes(evaluation(), [outcome(0), outcome(3)], seconds=1)
    for read in (store.outcomes, store.states):
        with pytest.raises(StoreError, match=f"the first is {asked[-1]}"):
            read(evaluation().key, asked)
    with pytest.raises(StoreError, match="has no outcome for 1 of 1"):
        store.states("0" * 64, [0])


def test_sample_lists_and_clean_predictions_are_stored_once(store: Store) -> None:
    for seed in range(5):
        outcomes = [outcome(n, clean_pred=n % 10) for n in range(100)]
        store.add_outcomes(evaluation(seed=seed), outcomes, seconds=1)
    assert store._database.rows("SELECT count(*) FROM shared")[0][0] == 2


def test_the_first_sample_order_stays(store: Store) -> None:
    assert store.sample_order("d" * 64) is None
    assert store.set_sample_order("d" * 64, [4, 0, 2]) == (4, 0, 2)
    assert store.set_sample_order("d" * 64, [0, 1, 2]) == (4, 0, 2)
    assert store.sample_order("d" * 64) == (4, 0, 2)
    with pytest.raises(InternalError, match="twice"):
        store.set_sample_order("e" * 64, [1, 1])


def test_findings_are_kept_once(store: Store) -> None:
    for _ in range(2):
        store.add_finding(model().key, "probabilities", "outputs sum to 1")
    store.add_finding(model().key, "range", "inputs up to 255")
    found = [(finding.code, finding.detail) for finding in store.findings(model().key)]
    assert found == [("probabilities", "outputs sum to 1"), ("range", "inputs up to 255")]
    assert store.findings("0" * 64) == []


def test_a_seed_that_sqlite_cannot_hold_is_a_bad_value(store: Store) -> None:
    with pytest.raises(BadValue, match="64 bits"):
        store.add_model(model(seed=2**63))
    assert store.models() == []


def test_model_folders_stay_inside_the_store(store: Store) -> None:
    assert store.model_dir("ab12") == store.root / "models" / "ab12"
    for key in ("", "../x", "a/b", ".."):
        with pytest.raises(InternalError):
            store.model_dir(key)


def test_a_store_opened_again_has_everything(tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        store.add_model(model())
        store.add_outcomes(evaluation(), [outcome(1)], seconds=1)
    store.close()
    with open_store(tmp_path, create=False) as store:
        assert store.models() == [model()]
        assert store.check() == 1


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.dictionaries(st.integers(0, 40), st.sampled_from(State), max_size=12), max_size=5)
)
def test_chunks_in_any_order_keep_the_first_of_each_sample(
    tmp_path_factory: pytest.TempPathFactory, parts: list[dict[int, State]]
) -> None:
    expected: dict[int, State] = {}
    with open_store(tmp_path_factory.mktemp("s")) as store:
        for part in parts:
            outcomes = [outcome(sample, state) for sample, state in part.items()]
            store.add_outcomes(evaluation(), outcomes, seconds=1)
            expected = {**part, **expected}
        key = evaluation().key
        assert store.stored_samples(key) == expected.keys()
        assert same(store.outcomes(key), [outcome(n, expected[n]) for n in sorted(expected)])
        assert store.states(key, list(expected)).tolist() == list(expected.values())


def test_listing_imports_neither_pandas_nor_numpy_nor_torch(tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        store.add_model(model())
        store.add_outcomes(evaluation(), [outcome(1)], seconds=1)
    code = (
        "import sys, pathlib\n"
        "from drelu_cli.store.connect import open_store\n"
        "store = open_store(pathlib.Path(sys.argv[1]))\n"
        "assert store.models() and store.evaluations()\n"
        "sys.exit(','.join({'pandas', 'numpy', 'torch'} & sys.modules.keys()) or 0)\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True
    )
    assert (run.returncode, run.stderr) == (0, "")
