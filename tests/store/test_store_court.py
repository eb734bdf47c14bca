"""Examinations and certificates: what comes back, what replaces what, what goes with a model."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from store_samples import certificate, evaluation, examination, model, outcome

from drelu_cli.core.errors import InternalError, StoreError
from drelu_cli.core.records import NO_FAILURE, NOT_EXAMINED, VERDICTS, Evidence, Examination
from drelu_cli.store.archive import Store
from drelu_cli.store.connect import open_store
from drelu_cli.store.exports import export_frame


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with open_store(tmp_path / "runs") as opened:
        yield opened


NUMBERS = st.none() | st.floats(allow_nan=False)
EVIDENCE = st.builds(
    Evidence,
    check=st.text(),
    point=st.text(),
    value=NUMBERS,
    threshold=NUMBERS,
    flag=st.booleans(),
    mechanism=st.booleans(),
    attacks=st.lists(st.text(), max_size=2).map(tuple),
    detail=st.text(),
)
PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.text()
    | st.floats(allow_nan=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
MAPPINGS = st.dictionaries(st.text(), PLAIN, max_size=3)
EXAMINATIONS = st.builds(
    Examination,
    model_key=st.text(min_size=1),
    weights_digest=st.text(),
    dataset_digest=st.text(),
    norm=st.sampled_from(["linf", "l2"]),
    eps=st.floats(0, 1e6),
    seed=st.integers(0, 2**63 - 1),
    samples=st.text(),
    count=st.integers(0, 10**9),
    word=st.sampled_from(VERDICTS),
    complete=st.booleans(),
    evidence=st.lists(EVIDENCE, max_size=3).map(tuple),
    remedy=st.lists(MAPPINGS, max_size=2).map(tuple),
    control=st.none() | MAPPINGS,
    notes=st.lists(st.text(), max_size=2).map(tuple),
)


@given(found=EXAMINATIONS)
def test_an_examination_comes_back_as_it_was(
    tmp_path_factory: pytest.TempPathFactory, found: Examination
) -> None:
    with open_store(tmp_path_factory.getbasetemp() / "examined") as opened:
        before = opened.examination(found.key)
        opened.add_examination(found)
        # The key says what was looked at, not what was found: a complete look stays.
        kept = before if before is not None and before.complete and not found.complete else found
        assert opened.examination(found.key) == kept
        assert kept in opened.examinations(model_key=found.model_key)


@given(
    slices=st.lists(
        st.dictionaries(st.integers(0, 2**31 - 1), st.booleans(), max_size=40), max_size=4
    )
)
def test_a_certificate_grows_slice_by_slice(
    tmp_path_factory: pytest.TempPathFactory, slices: list[dict[int, bool]]
) -> None:
    expected: dict[int, bool] = {}
    with open_store(tmp_path_factory.mktemp("certified")) as opened:
        for part in slices:
            opened.add_certificate(*certificate(), list(part), list(part.values()), seconds=1.0)
            expected = part | expected  # the first proof of a sample stays
        assert opened.certified_samples(*certificate()) == expected
        kept = opened.certificates()
        assert [one.samples for one in kept] == ([expected] if expected else [])


def test_an_examination_replaces_the_one_with_its_key(store: Store) -> None:
    first = examination(word=NOT_EXAMINED, complete=False)
    other = examination(seed=1)
    store.add_examination(first)
    store.add_examination(other)
    later = dataclasses.replace(first, word=NO_FAILURE, complete=True, evidence=())
    assert later.key == first.key
    store.add_examination(later)
    assert store.examination(first.key) == later
    assert store.examinations() == [other, later]
    assert store.examination("0" * 64) is None


def test_what_is_not_a_number_is_kept(store: Store) -> None:
    seen = Evidence("noise", "random directions", math.nan, math.inf, flag=True)
    store.add_examination(examination(evidence=(seen,)))
    (found,) = store.examinations()
    assert math.isnan(found.evidence[0].value or 0.0)
    assert found.evidence[0].threshold == math.inf


def test_examinations_are_filtered_by_model(store: Store) -> None:
    mine, other = examination(), examination(model("other"))
    store.add_examination(mine)
    store.add_examination(other)
    assert store.examinations() == [mine, other]
    assert store.examinations(model_key=model().key) == [mine]


def test_an_edited_examination_is_named(store: Store) -> None:
    store.add_examination(examination())
    store._database.execute("UPDATE examination SET eps = 0.3")
    with pytest.raises(StoreError, match="does not match its key"):
        store.check()


def test_certificates_do_not_mix(store: Store) -> None:
    store.add_certificate(*certificate(), [1], [True], seconds=1.0)
    store.add_certificate(*certificate(eps=0.1), [1], [False], seconds=1.0)
    store.add_certificate(*certificate(), [1], [False], seconds=1.0, version=2)
    store.add_certificate(*certificate(), [1], [False], seconds=1.0, norm="l2")
    store.add_certificate(*certificate(model("other")), [1], [False], seconds=1.0)
    assert store.certified_samples(*certificate()) == {1: True}
    assert store.certified_samples(*certificate(), version=3) == {}
    assert len(store.certificates()) == 5
    assert len(store.certificates(model_key=model().key)) == 4


def test_seconds_count_for_what_is_new(store: Store) -> None:
    store.add_certificate(*certificate(), [3, 1], [True, False], seconds=2.0)
    store.add_certificate(*certificate(), [1, 2, 3, 4], [True] * 4, seconds=8.0)
    (found,) = store.certificates()
    assert found.samples == {1: False, 2: True, 3: True, 4: True}
    assert found.seconds == 2.0 + 4.0


@pytest.mark.parametrize(("samples", "proven"), [([1, 1], [True, True]), ([1, 2], [True])])
def test_a_certificate_has_one_value_per_sample(
    store: Store, samples: list[int], proven: list[bool]
) -> None:
    with pytest.raises(InternalError, match="one value for each sample"):
        store.add_certificate(*certificate(), samples, proven, seconds=1.0)


@pytest.mark.parametrize("column", ["samples", "proven"])
def test_a_damaged_certificate_is_named(store: Store, column: str) -> None:
    store.add_certificate(*certificate(), [1, 2], [True, False], seconds=1.0)
    store.add_certificate(*certificate(eps=0.1), [7, 9], [False, True], seconds=1.0)
    # Whole, but in the wrong row.
    store._database.execute(
        f"UPDATE certificate SET {column} = (SELECT {column} FROM certificate WHERE eps = 0.1)"
    )
    with pytest.raises(StoreError, match="damaged: certificate"):
        store.check()


def test_a_removed_model_takes_them_along(store: Store) -> None:
    kept = model("kept")
    for one in (model(), kept):
        store.add_model(one)
        store.add_examination(examination(one))
        store.add_certificate(*certificate(one), [1], [True], seconds=1.0)
    store.remove_model(model().key)
    assert store.examinations() == [examination(kept)]
    assert [one.certificate.model_key for one in store.certificates()] == [kept.key]


@pytest.mark.parametrize("dry_run", [True, False])
def test_gc_removes_what_belongs_to_other_weights(store: Store, dry_run: bool) -> None:
    store.add_model(model())
    old = dataclasses.replace(model(), weights_digest="0" * 64)
    store.add_outcomes(evaluation(), [outcome(1)], seconds=1.0)
    for one in (model(), old):
        store.add_examination(examination(one))
        store.add_certificate(*certificate(one), [1], [True], seconds=1.0)
    store.gc(dry_run=dry_run)
    left = [model().weights_digest] + ["0" * 64] * dry_run
    assert [one.weights_digest for one in store.examinations()] == left
    assert [one.certificate.weights_digest for one in store.certificates()] == left
    assert store.check() == 1


def test_both_are_exported(store: Store) -> None:
    store.add_model(model())
    store.add_examination(examination())
    store.add_certificate(*certificate(), [5, 1], [True, False], seconds=1.0)
    (found,) = export_frame(store, "examinations").to_dict("records")
    assert (found["name"], found["verdict"], found["samples"]) == (model().name, "masked", 360)
    (proven,) = export_frame(store, "certificates").to_dict("records")
    assert (proven["name"], proven["samples"], proven["proven"]) == (model().name, 2, 1)
    assert proven["proven_samples"] == "[5]"
