import random

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from drelu_cli.runtime.streams import (
    Stream,
    foreign_randomness,
    permutation,
    seeded_initialisation,
)


def stream(count=1000, seed=0):
    return Stream(seed, torch.arange(count), ("attack",))


@given(st.permutations(range(20)), st.integers(1, 20))
def test_a_draw_depends_on_the_sample_not_on_its_neighbours(order, cut):
    whole = stream(20).uniform("start", (3, 2))
    rows = torch.tensor(order[:cut])
    assert torch.equal(stream(20).rows(rows).uniform("start", (3, 2)), whole[rows])


def test_draws_differ_by_everything_they_are_for():
    base = stream().uniform("start", (4,))
    others = [
        stream(seed=1).uniform("start", (4,)),
        stream().uniform("other", (4,)),
        stream().uniform("start", (4,), step=1),
        stream().at("restart", 1).uniform("start", (4,)),
        stream().at("restart", "1").uniform("start", (4,)),
    ]
    assert len({tuple(draw[0].tolist()) for draw in [base, *others]}) == 6


def test_float32_and_float64_get_the_same_draws():
    single = stream().uniform("start", (5,), dtype=torch.float32)
    double = stream().uniform("start", (5,), dtype=torch.float64)
    assert torch.equal(single.double(), double)


def test_steps_per_sample():
    steps = torch.arange(1000) % 3
    mixed = stream().uniform("start", (4,), step=steps)
    for step in range(3):
        rows = steps == step
        assert torch.equal(mixed[rows], stream().uniform("start", (4,), step=step)[rows])


def test_distributions():
    # Fixed draws: these are not random tests, their p-values never change.
    uniform = stream(20000).uniform("u", (5,)).flatten().numpy()
    assert uniform.min() >= 0
    assert uniform.max() < 1
    assert stats.kstest(uniform, "uniform").pvalue > 0.01
    normal = stream(20000).normal("n", (5,)).flatten().numpy()
    assert stats.kstest(normal, "norm").pvalue > 0.01
    signs = stream(20000).signs("s", (5,))
    assert set(signs.unique().tolist()) == {-1.0, 1.0}
    assert stats.binomtest(int((signs > 0).sum()), signs.numel()).pvalue > 0.01
    integers = stream(20000).integers("i", (5,), high=7)
    counts = torch.bincount(integers.flatten(), minlength=7)
    assert len(counts) == 7
    assert stats.chisquare(counts.numpy()).pvalue > 0.01


def test_neighbouring_samples_and_steps_are_uncorrelated():
    draws = torch.stack([stream(20000).uniform("u", (), step=step) for step in range(4)])
    correlation = torch.corrcoef(torch.cat([draws[:, :-1], draws[:, 1:]]))
    off = correlation - torch.eye(8)
    assert off.abs().max() < 0.03


def test_permutations_are_fixed():
    found = permutation(0, "x", 1000)
    assert sorted(found.tolist()) == list(range(1000))
    assert torch.equal(found, permutation(0, "x", 1000))
    assert not torch.equal(found, permutation(1, "x", 1000))
    # Stored sample lists depend on this order: it may never change.
    assert permutation(0, "x", 10).tolist() == [9, 0, 2, 5, 4, 8, 1, 6, 7, 3]


def test_initialisation_is_seeded_and_leaves_the_global_state():
    before = torch.random.get_rng_state()
    with seeded_initialisation("weights", 0):
        first = torch.nn.Linear(3, 3).weight
    assert torch.equal(before, torch.random.get_rng_state())
    with seeded_initialisation("weights", 0):
        assert torch.equal(first, torch.nn.Linear(3, 3).weight)
    with seeded_initialisation("weights", 1):
        assert not torch.equal(first, torch.nn.Linear(3, 3).weight)


def generators():
    return torch.rand(2).tolist(), float(np.random.rand()), random.random()  # noqa: NPY002


def test_foreign_randomness_is_seeded_and_leaves_the_global_generators_alone():
    with foreign_randomness(5):
        first = generators()
    with pytest.raises(RuntimeError), foreign_randomness(5):
        assert generators() == first
        torch.manual_seed(0)
        raise RuntimeError
    with foreign_randomness(6):
        assert generators() != first
    with foreign_randomness(0):  # known numbers around: what a block does is undone after it
        outside = [generators(), generators()]
    with foreign_randomness(0):
        before = generators()
        with foreign_randomness(5):
            generators()
        assert [before, generators()] == outside


@pytest.mark.parametrize("seed", [-1, 2**40])
def test_foreign_randomness_takes_any_seed(seed):
    with foreign_randomness(seed):
        assert generators()
