from __future__ import annotations

import math
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from store_samples import clean_wrong, outcome, same

from drelu_cli.core.errors import InternalError, StoreError
from drelu_cli.core.records import Outcome, State
from drelu_cli.store import chunks

classes = st.integers(-1, 65534)
passes = st.integers(0, 2**32 - 1)
outcome_lists = st.lists(
    st.builds(
        Outcome,
        sample=st.integers(0, 2**31 - 1),
        state=st.sampled_from(State),
        clean_pred=classes,
        adv_pred=classes,
        distance=st.floats(width=32, allow_nan=True),
        forwards=passes,
        backwards=passes,
    ),
    unique_by=lambda found: found.sample,
    max_size=30,
)


@given(outcome_lists)
def test_everything_packed_is_unpacked(outcomes: list[Outcome]) -> None:
    columns = chunks.columns_of(outcomes)
    packed = chunks.pack(columns)
    sealed = {name: chunks.seal(getattr(packed, name), name) for name in chunks.Packed.__slots__}
    opened = chunks.Packed(**{name: chunks.unseal(blob, name) for name, blob in sealed.items()})
    found = chunks.outcomes_of(chunks.unpack(opened, len(outcomes)))
    assert same(found, sorted(outcomes, key=lambda one: one.sample))


@given(st.lists(st.integers(0, 2**31 - 1)))
def test_sample_lists_keep_their_order(samples: list[int]) -> None:
    raw = chunks.pack_samples(np.array(samples, dtype=np.int64))
    assert chunks.unpack_samples(raw).tolist() == samples


@given(st.binary(min_size=1, max_size=200), st.data())
def test_any_flipped_bit_is_noticed(raw: bytes, data: st.DataObject) -> None:
    blob = bytearray(chunks.seal(raw, "key states"))
    place = data.draw(st.integers(0, 8 * len(blob) - 1))
    blob[place // 8] ^= 1 << place % 8
    with pytest.raises(StoreError, match="key states"):
        chunks.unseal(bytes(blob), "key states")


def test_a_blob_in_another_place_is_noticed() -> None:
    blob = chunks.seal(b"states", "one states")
    assert chunks.unseal(blob, "one states") == b"states"
    with pytest.raises(StoreError, match="other states"):
        chunks.unseal(blob, "other states")


@pytest.mark.parametrize(
    "column", ["samples", "clean", "states", "adversarial", "distances", "passes"]
)
def test_a_column_of_the_wrong_length_is_an_error(column: str) -> None:
    packed = chunks.pack(chunks.columns_of([outcome(n) for n in range(8)]))
    short = {name: getattr(packed, name) for name in chunks.Packed.__slots__}
    short[column] = short[column][:-1]
    with pytest.raises(StoreError, match="a stored column of"):
        chunks.unpack(chunks.Packed(**short), 8)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sample": -1}, "sample index -1"),
        ({"clean_pred": 65535}, "predicted class 65535"),
        ({"adv_pred": -2}, "predicted class -2"),
        ({"forwards": 2**32}, "forward passes 4294967296"),
        ({"backwards": -1}, "backward passes -1"),
    ],
)
def test_what_does_not_fit_is_refused(changes: dict[str, int], message: str) -> None:
    values = {"sample": 5, "clean_pred": 1, "adv_pred": 1, "forwards": 1, "backwards": 1} | changes
    with pytest.raises(InternalError, match=message):
        chunks.columns_of([Outcome(state=State.ROBUST, distance=math.nan, **values)])


def test_a_sample_twice_is_refused() -> None:
    with pytest.raises(InternalError, match="sample 4 is among the outcomes twice"):
        chunks.columns_of([outcome(4), outcome(5), outcome(4)])


def test_clean_correct_is_known_without_labels() -> None:
    outcomes = [
        outcome(0),
        outcome(1, State.BROKEN),
        clean_wrong(2),
        outcome(3, State.NOT_RUN),
        # An attack with radius 0 or one that returned the input still spent passes.
        outcome(4, State.BROKEN, distance=0.0),
    ]
    found = chunks.clean_correct(chunks.columns_of(outcomes))
    assert found.tolist() == [True, True, False, False, True]


def test_a_thousand_outcomes_take_little_room() -> None:
    draw = random.Random(0)
    outcomes = [
        outcome(n, State.BROKEN, distance=draw.uniform(0.099, 0.1), forwards=draw.randrange(1, 41))
        if draw.random() < 0.3
        else outcome(n, clean_pred=draw.randrange(10))
        for n in sorted(draw.sample(range(10_000), 1000))
    ]
    packed = chunks.pack(chunks.columns_of(outcomes))
    sizes = {name: len(chunks.seal(getattr(packed, name), "")) for name in chunks.Packed.__slots__}
    # Two bits each before compression; shared columns are stored once for all attacks.
    assert sizes["states"] <= 250
    assert sum(sizes.values()) - sizes["samples"] - sizes["clean"] < 3000
