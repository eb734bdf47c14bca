"""The micro-batch driver: every sample once, memory bounded, out-of-memory survived."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from drelu_cli.core.errors import BadValue, InternalError
from drelu_cli.runtime.driver import (
    DEFAULT_MICRO_BATCH,
    MicroBatchHalved,
    choose,
    drive,
    micro_batch,
    micro_batch_size,
    taken,
)


class Countdown:
    """Each sample takes `life` steps; what it computes depends on its own number alone."""

    def __init__(self, most=10**9):
        self.most = most
        self.sizes = []

    def start(self, rows):
        self._fits(rows)
        return {
            **rows,
            "sum": rows["number"] * 0,
            "age": rows["number"] * 0,
            "done": rows["life"] == 0,
        }

    def step(self, rows):
        self._fits(rows)
        age = rows["age"] + 1
        return {
            **rows,
            "age": age,
            "sum": rows["sum"] * 3 + rows["number"] + age,
            "done": age >= rows["life"],
        }

    def _fits(self, rows):
        self.sizes.append(len(rows["life"]))
        if len(rows["life"]) > self.most:
            raise torch.cuda.OutOfMemoryError("as if")


def expected(numbers, lives):
    sums = []
    for number, life in zip(numbers, lives, strict=True):
        total = 0
        for age in range(1, life + 1):
            total = total * 3 + number + age
        sums.append(total)
    return torch.tensor(sums)


def queue_of(lives):
    lives = torch.tensor(lives, dtype=torch.int64)
    return {"life": lives, "number": torch.arange(len(lives)) * 7 + 1}


@settings(deadline=None, max_examples=80)
@given(st.lists(st.integers(0, 12), min_size=1, max_size=60), st.integers(1, 70))
def test_every_sample_ends_at_its_own_step(lives, size):
    queue = queue_of(lives)
    machine = Countdown()
    with micro_batch(size):
        found = drive(queue, machine.start, machine.step, keep=("sum", "age"))
    assert torch.equal(found["age"], queue["life"])
    assert torch.equal(found["sum"], expected(queue["number"].tolist(), lives))
    assert max(machine.sizes) <= size


def test_finished_samples_are_replaced():
    machine = Countdown()
    with micro_batch(8):
        drive(queue_of([1] * 40 + [30] * 8), machine.start, machine.step, keep=("sum",))
    # 40 short samples pass in five full batches; the long ones then run together.
    assert machine.sizes.count(8) >= 5 + 30
    assert len(machine.sizes) <= 6 + 5 + 30


def test_few_finished_samples_wait():
    machine = Countdown()
    with micro_batch(64):
        drive(queue_of([1] + [9] * 63), machine.start, machine.step, keep=("sum",))
    # 1 of 64 is too few: the batch is not copied for it.
    assert set(machine.sizes) == {64}


@pytest.mark.parametrize("most", [1, 3, 5])
def test_out_of_memory_halves_the_micro_batch(most):
    lives = [4, 9, 2, 7, 1, 0, 5, 8, 3, 6, 2, 2, 9, 1, 4]
    queue = queue_of(lives)
    machine = Countdown(most=most)
    with micro_batch(12), pytest.warns(MicroBatchHalved, match="going on with"):
        found = drive(queue, machine.start, machine.step, keep=("sum", "age"))
    assert torch.equal(found["sum"], expected(queue["number"].tolist(), lives))


def test_out_of_memory_in_the_middle_loses_no_step():
    lives = [6, 9, 8, 7, 9, 5, 9, 9]
    queue = queue_of(lives)
    machine = Countdown()

    def step(rows):
        if len(machine.sizes) == 4:
            machine.most = 3
        return machine.step(rows)

    with micro_batch(8), pytest.warns(MicroBatchHalved):
        found = drive(queue, machine.start, step, keep=("sum", "age"))
    assert torch.equal(found["age"], queue["life"])
    assert torch.equal(found["sum"], expected(queue["number"].tolist(), lives))


def test_one_sample_that_does_not_fit_is_an_error():
    machine = Countdown(most=0)
    with pytest.warns(MicroBatchHalved), pytest.raises(torch.cuda.OutOfMemoryError, match="single"):
        drive(queue_of([1, 2]), machine.start, machine.step, keep=("sum",))


def test_other_exceptions_pass_through():
    def step(rows):
        raise ValueError("model")

    with pytest.raises(ValueError, match="model"):
        drive(queue_of([1]), Countdown().start, step, keep=("sum",))


def test_no_samples():
    machine = Countdown()
    found = drive(queue_of([]), machine.start, machine.step, keep=("sum",))
    assert found["sum"].shape == (0,)


def test_micro_batch_is_restored():
    assert micro_batch_size() == DEFAULT_MICRO_BATCH
    with micro_batch(7):
        with micro_batch(3):
            assert micro_batch_size() == 3
        assert micro_batch_size() == 7
    assert micro_batch_size() == DEFAULT_MICRO_BATCH


def test_micro_batch_below_one():
    with pytest.raises(BadValue, match="below 1"), micro_batch(0):
        pass


def test_choose_and_taken():
    a, b = torch.ones(3, 2, 2), torch.zeros(3, 2, 2)
    mask = torch.tensor([True, False, True])
    assert choose(mask, a, b)[:, 0, 0].tolist() == [1, 0, 1]
    assert taken({"a": torch.arange(3)}, mask)["a"].tolist() == [0, 2]


def test_a_state_with_a_graph_is_refused():
    # It would keep every tensor of every step alive, until memory is gone.
    weight = torch.ones(1, requires_grad=True)

    def start(rows):
        return {**rows, "value": rows["x"], "done": rows["x"] < 0}

    def step(rows):
        return {**rows, "value": rows["value"] * weight}

    with pytest.raises(InternalError, match="returned value with an autograd graph"):
        drive({"x": torch.ones(3)}, start, step, keep=("value",))
