"""Counter-based random numbers: a draw depends on what it is for, never on what ran before.

u = splitmix64(splitmix64(splitmix64(digest(seed, path, name)) + sample) + step) + counter.

The same sample gets the same draw in any batch, in any order, on any worker. eps is never part
of the path. splitmix64: Steele, Lea & Flood 2014 (doi 10.1145/2660193.2660195).
"""

from __future__ import annotations

import hashlib
import math
import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

_GOLDEN = -0x61C8864680B583EB  # 0x9E3779B97F4A7C15 as a signed 64-bit number
_MIX1 = -0x40A7B892E31B1A47  # 0xBF58476D1CE4E5B9
_MIX2 = -0x6B2FB644ECCEEE15  # 0x94D049BB133111EB
_DRAW_BITS = 24  # the mantissa of float32: every draw is exact in float32 and float64


def _splitmix64(state: Tensor) -> Tensor:
    """The finaliser of splitmix64 on int64 tensors; shifts are made logical by masking."""
    state = (state ^ ((state >> 30) & ((1 << 34) - 1))) * _MIX1
    state = (state ^ ((state >> 27) & ((1 << 37) - 1))) * _MIX2
    return state ^ ((state >> 31) & ((1 << 33) - 1))


def _word(*parts: str | int) -> int:
    """A signed 64-bit number from text and integers; stable across machines and releases."""
    text = "\x1f".join(f"{type(part).__name__}:{part}" for part in parts)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), signed=True)


@dataclass(frozen=True)
class Stream:
    """Random numbers for some samples.

    Attributes:
        seed: the run's seed.
        index: (N,) int64, each sample's index in its data set.
        path: what the draws are for: attack, restart, target, epoch ...
    """

    seed: int
    index: Tensor
    path: tuple[str | int, ...] = ()

    def at(self, *parts: str | int) -> Stream:
        """The stream one level deeper: `stream.at("restart", 2)`."""
        return replace(self, path=(*self.path, *parts))

    def rows(self, selection: Tensor | slice) -> Stream:
        """The stream of some of the samples, by mask, indices or slice."""
        return replace(self, index=self.index[selection])

    def uniform(
        self,
        name: str,
        shape: Sequence[int],
        *,
        step: int | Tensor = 0,
        dtype: torch.dtype = torch.float32,
    ) -> Tensor:
        """(N, *shape) uniform draws from [0, 1), multiples of 2^-24.

        Args:
            name: what this draw is called, e.g. `start`.
            shape: shape of one sample's draws.
            step: the iteration, one for all samples or (N,) int64.
            dtype: float32 or float64; both get the same values.
        """
        count = math.prod(shape)
        words = self.words(name, (count + 1) // 2, step)
        high = (words >> (64 - _DRAW_BITS)) & ((1 << _DRAW_BITS) - 1)
        low = (words >> 8) & ((1 << _DRAW_BITS) - 1)
        draws = torch.cat([high, low], dim=1)[:, :count]
        return draws.to(dtype).mul_(2.0**-_DRAW_BITS).reshape(len(self.index), *shape)

    def normal(
        self,
        name: str,
        shape: Sequence[int],
        *,
        step: int | Tensor = 0,
        dtype: torch.dtype = torch.float32,
    ) -> Tensor:
        """(N, *shape) standard normal draws (Box and Muller 1958)."""
        pair = self.uniform(name, (2, *shape), step=step, dtype=torch.float64)
        # 1 - u lies in (0, 1]: the logarithm is finite.
        radius = torch.sqrt(-2.0 * torch.log1p(-pair[:, 0]))
        return (radius * torch.cos(2.0 * math.pi * pair[:, 1])).to(dtype)

    def signs(
        self,
        name: str,
        shape: Sequence[int],
        *,
        step: int | Tensor = 0,
        dtype: torch.dtype = torch.float32,
    ) -> Tensor:
        """(N, *shape) draws of -1 and +1, each with probability one half."""
        draws = self.uniform(name, shape, step=step, dtype=dtype)
        return (draws >= 0.5).to(dtype).mul_(2.0).sub_(1.0)

    def integers(
        self, name: str, shape: Sequence[int], *, high: int | Tensor, step: int | Tensor = 0
    ) -> Tensor:
        """(N, *shape) int64 draws from 0 .. high - 1; `high` broadcasts, up to 2^24."""
        draws = self.uniform(name, shape, step=step, dtype=torch.float64)
        return (draws * high).to(torch.int64)

    def words(self, name: str, count: int, step: int | Tensor) -> Tensor:
        """(N, count) int64, all 64 bits random."""
        device = self.index.device
        base = torch.tensor(_word(self.seed, *self.path, name), device=device)
        lane = _splitmix64(_splitmix64(base) + self.index * _GOLDEN)
        lane = _splitmix64(lane + torch.as_tensor(step, device=device, dtype=torch.int64))
        counter = torch.arange(1, count + 1, device=device, dtype=torch.int64)
        return _splitmix64(lane[:, None] + counter * _GOLDEN)


def permutation(seed: int, name: str, count: int) -> Tensor:
    """A permutation of 0 .. count - 1 as (count,) int64 on CPU, the same on every machine."""
    stream = Stream(seed, torch.arange(count))
    words = stream.at(name).words("permutation", 1, 0)[:, 0]
    return torch.argsort(words, stable=True)


@contextmanager
def seeded_initialisation(*parts: str | int) -> Iterator[None]:
    """Seeds torch's CPU generator for weight initialisation and restores it afterwards."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(_word(*parts) & ((1 << 63) - 1))
        yield


@contextmanager
def foreign_randomness(seed: int) -> Iterator[None]:
    """Seeds the global generators for a library that draws from them, and restores them.

    Those of Python, numpy and torch on the CPU and every CUDA device; restored on errors too.

    Args:
        seed: any integer.
    """
    devices = range(torch.cuda.device_count()) if torch.cuda.is_available() else ()
    python, legacy = random.getstate(), np.random.get_state()  # noqa: NPY002
    try:
        with torch.random.fork_rng(devices=list(devices)):
            torch.manual_seed(seed)
            random.seed(seed)
            np.random.seed(seed % 2**32)  # noqa: NPY002
            yield
    finally:
        random.setstate(python)
        np.random.set_state(legacy)  # noqa: NPY002
