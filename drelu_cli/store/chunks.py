"""Per-sample outcomes as compressed, checked blobs.

One chunk holds the outcomes of one call, sorted by sample:

    samples      differences of the indices, int32      (shared between evaluations)
    clean        predicted classes, uint16, -1 as 65535 (shared between evaluations)
    states       2 bits each
    adversarial  predicted classes as uint16, exclusive or with the clean ones: 0 where equal
    distances    float32
    passes       forwards, then backwards, uint32

Numbers wider than a byte are stored byte plane by byte plane, which compresses better. Every
blob starts with a CRC-32 over its place (evaluation and column) and its compressed bytes, so
neither damage nor a blob in the wrong row passes unnoticed.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from drelu_cli.core.errors import InternalError, StoreError
from drelu_cli.core.records import Outcome, State

_NO_CLASS = 0xFFFF
_CRC_BYTES = 4


@dataclass(frozen=True, slots=True)
class OutcomeColumns:
    """Outcomes as arrays of shape (N,), see `Outcome` for their meaning.

    Attributes:
        sample: int64, ascending unless asked for in another order.
        state: int8, values of `State`.
        clean_pred: int32, -1 where logits were not finite.
        adv_pred: int32, the same.
        distance: float32.
        forwards: int64.
        backwards: int64.
    """

    sample: NDArray[np.int64]
    state: NDArray[np.int8]
    clean_pred: NDArray[np.int32]
    adv_pred: NDArray[np.int32]
    distance: NDArray[np.float32]
    forwards: NDArray[np.int64]
    backwards: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.sample)

    def rows(self, selection: NDArray[np.int64] | NDArray[np.bool_]) -> OutcomeColumns:
        """Some of the outcomes, by indices or mask."""
        return OutcomeColumns(*(getattr(self, f.name)[selection] for f in fields(self)))


@dataclass(frozen=True, slots=True)
class Packed:
    """The raw bytes of a chunk's columns; `seal` compresses and checks each of them."""

    samples: bytes
    clean: bytes
    states: bytes
    adversarial: bytes
    distances: bytes
    passes: bytes


def clean_correct(columns: OutcomeColumns) -> NDArray[np.bool_]:
    """Whether the clean input was classified correctly, (N,) bool; False where not run.

    Outcomes carry no label. A sample that is wrong without any attack is stored as broken at
    distance 0 with no pass spent; every other sample that was run was right.
    """
    wrong = (columns.state == State.BROKEN) & (columns.distance == 0) & (columns.forwards == 0)
    correct: NDArray[np.bool_] = (columns.state != State.NOT_RUN) & ~wrong
    return correct


def columns_of(outcomes: Sequence[Outcome]) -> OutcomeColumns:
    """Outcomes as columns, sorted by sample.

    Raises:
        InternalError: a sample twice, or a number outside what a chunk holds.
    """
    columns = OutcomeColumns(
        np.array([o.sample for o in outcomes], dtype=np.int64),
        np.array([o.state for o in outcomes], dtype=np.int8),
        np.array([o.clean_pred for o in outcomes], dtype=np.int32),
        np.array([o.adv_pred for o in outcomes], dtype=np.int32),
        np.array([o.distance for o in outcomes], dtype=np.float32),
        np.array([o.forwards for o in outcomes], dtype=np.int64),
        np.array([o.backwards for o in outcomes], dtype=np.int64),
    )
    columns = columns.rows(np.argsort(columns.sample, kind="stable"))
    twice = columns.sample[1:][np.diff(columns.sample) == 0]
    if len(twice):
        raise InternalError(f"sample {twice[0]} is among the outcomes twice")
    _within("sample index", columns.sample, 0, 2**31 - 1)
    _within("state", columns.state, 0, max(State))
    _within("predicted class", columns.clean_pred, -1, _NO_CLASS - 1)
    _within("predicted class", columns.adv_pred, -1, _NO_CLASS - 1)
    _within("number of forward passes", columns.forwards, 0, 2**32 - 1)
    _within("number of backward passes", columns.backwards, 0, 2**32 - 1)
    return columns


def outcomes_of(columns: OutcomeColumns) -> list[Outcome]:
    """Columns as outcomes, in their order."""
    lists = [getattr(columns, f.name).tolist() for f in fields(columns)]
    return [
        Outcome(sample, State(state), clean, adversarial, distance, forwards, backwards)
        for sample, state, clean, adversarial, distance, forwards, backwards in zip(
            *lists, strict=True
        )
    ]


def joined(parts: Sequence[OutcomeColumns]) -> OutcomeColumns:
    """Chunks of one evaluation as one, sorted by sample."""
    if not parts:
        return columns_of(())
    whole = OutcomeColumns(
        *(np.concatenate([getattr(p, f.name) for p in parts]) for f in fields(OutcomeColumns))
    )
    return whole.rows(np.argsort(whole.sample, kind="stable"))


def pack(columns: OutcomeColumns) -> Packed:
    """The bytes of columns that are sorted by sample."""
    clean = columns.clean_pred.astype(np.uint16)  # -1 wraps to 65535
    return Packed(
        samples=pack_samples(columns.sample),
        clean=_planes(clean.astype("<u2")),
        states=pack_states(columns.state),
        adversarial=_planes((clean ^ columns.adv_pred.astype(np.uint16)).astype("<u2")),
        distances=_planes(columns.distance.astype("<f4")),
        passes=_planes(np.concatenate([columns.forwards, columns.backwards]).astype("<u4")),
    )


def unpack(packed: Packed, size: int) -> OutcomeColumns:
    """The columns that `pack` was given.

    Raises:
        StoreError: lengths that do not fit `size` outcomes.
    """
    clean = _from_planes(packed.clean, "<u2", size).astype(np.uint16)
    adversarial = clean ^ _from_planes(packed.adversarial, "<u2", size).astype(np.uint16)
    passes = _from_planes(packed.passes, "<u4", 2 * size).astype(np.int64)
    return OutcomeColumns(
        sample=unpack_samples(packed.samples, size),
        state=unpack_states(packed.states, size),
        clean_pred=_classes(clean),
        adv_pred=_classes(adversarial),
        distance=_from_planes(packed.distances, "<f4", size).astype(np.float32),
        forwards=passes[:size],
        backwards=passes[size:],
    )


def pack_samples(samples: NDArray[np.int64]) -> bytes:
    """Sample indices, (N,) in any order, as differences."""
    return _planes(np.diff(samples, prepend=0).astype("<i4"))


def unpack_samples(raw: bytes, size: int | None = None) -> NDArray[np.int64]:
    """The indices behind `pack_samples`, (N,) int64."""
    count = len(raw) // 4 if size is None else size
    return np.cumsum(_from_planes(raw, "<i4", count), dtype=np.int64)


def pack_states(states: NDArray[np.int8]) -> bytes:
    """States, (N,) int8, four to a byte."""
    padded = np.zeros(-(-len(states) // 4) * 4, dtype=np.uint8)
    padded[: len(states)] = states
    four = padded.reshape(-1, 4) << np.array([0, 2, 4, 6], dtype=np.uint8)
    packed: NDArray[np.uint8] = np.bitwise_or.reduce(four, axis=1)
    return packed.tobytes()


def unpack_states(raw: bytes, size: int) -> NDArray[np.int8]:
    """The states behind `pack_states`, (size,) int8."""
    if len(raw) != -(-size // 4):
        raise StoreError(f"a stored column of {size} states has {len(raw)} bytes")
    four = np.frombuffer(raw, dtype=np.uint8)[:, None] >> np.array([0, 2, 4, 6], dtype=np.uint8)
    return (four & 3).reshape(-1)[:size].astype(np.int8)


def seal(raw: bytes, place: str) -> bytes:
    """`raw` compressed, after a CRC-32 of its place and its compressed bytes."""
    payload = zlib.compress(raw, 6)
    return _crc(payload, place) + payload


def unseal(blob: bytes, place: str) -> bytes:
    """The bytes behind `seal`.

    Raises:
        StoreError: the blob is damaged or belongs elsewhere; names the place.
    """
    payload = bytes(blob[_CRC_BYTES:])
    if bytes(blob[:_CRC_BYTES]) != _crc(payload, place):
        raise StoreError(
            f"stored outcomes are damaged: {place}",
            hint="nothing was changed; put a copy of the store in its place, or remove the model",
        )
    return zlib.decompress(payload)


def _crc(payload: bytes, place: str) -> bytes:
    return zlib.crc32(payload, zlib.crc32(place.encode())).to_bytes(_CRC_BYTES, "little")


def _planes(values: NDArray[np.generic]) -> bytes:
    """The bytes of `values`: all first bytes, then all second bytes, and so on."""
    width = values.dtype.itemsize
    by_value = np.frombuffer(values.tobytes(), dtype=np.uint8).reshape(-1, width)
    return by_value.T.tobytes()


def _from_planes(raw: bytes, dtype: str, size: int) -> NDArray[np.generic]:
    width = np.dtype(dtype).itemsize
    if len(raw) != width * size:
        raise StoreError(f"a stored column of {size} values has {len(raw)} bytes")
    planes = np.frombuffer(raw, dtype=np.uint8).reshape(width, size)
    return np.ascontiguousarray(planes.T).view(dtype).reshape(-1)


def _classes(codes: NDArray[np.uint16]) -> NDArray[np.int32]:
    classes = codes.astype(np.int32)
    classes[classes == _NO_CLASS] = -1
    return classes


def _within(what: str, values: NDArray[np.generic], low: int, high: int) -> None:
    numbers = values.astype(np.int64)
    outside = numbers[(numbers < low) | (numbers > high)]
    if len(outside):
        raise InternalError(f"{what} {outside[0]} is outside {low} .. {high}")
