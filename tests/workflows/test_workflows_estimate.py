"""What a plan will cost: counts are exact, times are passes times measured passes."""

import pytest

from drelu_cli.attacks.augment import bind_attack
from drelu_cli.attacks.costs import allotted, typical
from drelu_cli.report.plan import duration, estimate_lines, size_text
from drelu_cli.workflows.context import Context
from drelu_cli.workflows.estimate import COURT_PASSES
from drelu_cli.workflows.sweep import sweep

GRID = """
[data]
train_samples = 100
[model]
width = 16
[train]
epochs = 2
[attack]
attacks = ["fgsm", "pgd:steps=4"]
samples = 20
[grid]
activation = ["relu", "drelu"]
scheme = ["natural", "madry:steps=3"]
"""


def dry(path, tmp_path, *options):
    context = Context(store=tmp_path / "runs", device="cpu")
    return sweep(str(path), options=options, dry_run=True, context=context)


@pytest.fixture
def grid(tmp_path):
    path = tmp_path / "grid.toml"
    path.write_text(GRID)
    return path


def test_options_of_the_architecture_are_timed_apart(grid, tmp_path):
    grid.write_text(GRID.replace("width = 16", "") + '"model.width" = [16, 512]\n')
    narrow, wide = dry(grid, tmp_path).estimate.speeds
    assert wide.weights > 10 * narrow.weights
    assert "512" in wide.name
    assert "512" not in narrow.name


def test_counts_follow_from_the_grid(grid, tmp_path):
    found = dry(grid, tmp_path).estimate
    assert (found.trainings, found.evaluations) == (4, 8)
    assert (found.training_images, found.attacked_images) == (4 * 2 * 100, 8 * 20)
    assert [speed.name for speed in found.speeds] == ["dense on digits"]


def test_times_are_passes_times_measured_passes(grid, tmp_path):
    found = dry(grid, tmp_path).estimate
    passes = found.speeds[0].passes
    natural, madry = passes.step, passes.step + 3 * passes.gradient
    assert found.training_seconds == pytest.approx(2 * 200 * (natural + madry))
    budget = sum(allotted(bind_attack("pgd", steps=4) if name == "pgd" else bind_attack(name), 10)
                 for name in ("fgsm", "pgd"))  # fmt: skip
    assert found.attack_seconds == pytest.approx(4 * 20 * budget * passes.gradient / 2)
    assert 0 < found.expected_attack_seconds < found.attack_seconds


def test_the_court_is_billed_where_it_sits(grid, tmp_path):
    options = (("attack.attacks", []), ("attack.suite", "adaptive"))
    seconds = {}
    for most in (2, 5000):  # of all the suite's attacks, Square's 5,000 queries are the most
        found = dry(grid, tmp_path, *options, ("attack.max_steps", most)).estimate
        seconds[most] = found.attack_seconds / found.speeds[0].passes.gradient
    court = 4 * 20 * COURT_PASSES / 2
    assert seconds[2] < 0.1 * court
    assert seconds[5000] > court
    unlimited = dry(grid, tmp_path, *options).estimate
    assert unlimited.attack_seconds / unlimited.speeds[0].passes.gradient > court


def test_the_lines_say_what_is_to_do_and_what_was_measured(grid, tmp_path):
    found = dry(grid, tmp_path).estimate
    text = "\n".join(estimate_lines(found.document))
    assert "to train: 4, on 800 images" in text
    assert "to attack: 8 times, 160 images in all" in text
    assert size_text(found.bytes) in text
    assert "dense on digits: " in text
    assert "us forward" in text


def test_basin_hops_are_epochs_too(grid, tmp_path):
    found = dry(grid, tmp_path, ("train.hops", 3), ("train.hop_epochs", 5)).estimate
    assert found.training_images == 4 * (2 + 3 * 5) * 100
    madry = found.speeds[0].passes.step + 3 * found.speeds[0].passes.gradient
    natural = found.speeds[0].passes.step
    assert found.training_seconds == pytest.approx(2 * 1700 * (natural + madry))


def test_what_is_in_the_store_costs_nothing(grid, tmp_path):
    context = Context(store=tmp_path / "runs", device="cpu")
    report = sweep(str(grid), context=context)
    assert report.failures == []
    done = dry(grid, tmp_path).estimate
    assert (done.trainings, done.evaluations, done.bytes) == (0, 0, 0)
    assert estimate_lines(done.document) == ["everything is in the store"]
    more = dry(grid, tmp_path, ("attack.samples", 30)).estimate
    assert (more.trainings, more.evaluations) == (0, 8)


def test_the_estimate_of_the_disk_is_near_what_the_store_takes(grid, tmp_path):
    expected = dry(grid, tmp_path).estimate.bytes
    context = Context(store=tmp_path / "runs", device="cpu")
    sweep(str(grid), context=context)
    models = sum(file.stat().st_size for file in (tmp_path / "runs" / "models").rglob("*"))
    assert models < 1.5 * expected
    assert expected < 2 * (models + 8 * 3000)


def test_weights_along_a_training_are_counted_and_attacked(grid, tmp_path):
    options = (("activation", "relu"), ("scheme", "natural"), ("train.checkpoint_every", 1))
    planned = dry(grid, tmp_path, *options).estimate
    assert (planned.trainings, planned.evaluations) == (1, 2 * 3)
    context = Context(store=tmp_path / "runs", device="cpu")
    report = sweep(str(grid), options=options, context=context)
    assert (report.evaluations.planned, report.evaluations.done) == (6, 6)
    again = sweep(str(grid), options=options, context=context)
    assert (again.evaluations.reused, again.trainings.reused) == (6, 1)


def test_a_typical_run_takes_a_share_of_what_is_allotted():
    pgd = bind_attack("pgd", steps=100)
    assert typical(pgd, 10) == pytest.approx(0.03 * allotted(pgd, 10))


def test_numbers_are_for_people():
    assert [duration(s) for s in (3, 89, 600, 3 * 3600, 5 * 86400)] == [
        "3 s", "89 s", "10 min", "3.0 h", "5.0 days",
    ]  # fmt: skip
    assert [size_text(b) for b in (2_000, 3_400_000, 5e9)] == ["2 kB", "3.4 MB", "5.0 GB"]
