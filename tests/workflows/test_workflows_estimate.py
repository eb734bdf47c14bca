"""What a plan will cost: counts are exact, times are passes times measured passes."""

import pytest

from drelu_cli.attacks.augment import bind_attack
from drelu_cli.attacks.costs import allotted, typical_share
from drelu_cli.report.plan import duration, estimate_lines, size_text
from drelu_cli.workflows import estimate as estimating
from drelu_cli.workflows.clocks import AttackClock, TrainingClock
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


@pytest.fixture
def clocks(monkeypatch):
    """What training steps and attacks take, set; gives the list of what was timed."""
    timed = []

    def training_clock(recipe, phase, *_):
        timed.append((recipe.activation.name, phase.scheme))
        return TrainingClock(image=3.0, validated=2.0, state=50.0)

    def attack_clock(_model, _data, bound, *_):
        timed.append(bound.name)
        return AttackClock(fixed=7.0, each=1.0)

    monkeypatch.setattr(estimating, "training_clock", training_clock)
    monkeypatch.setattr(estimating, "attack_clock", attack_clock)
    return timed


def test_times_are_images_and_passes_times_what_they_take(grid, tmp_path, clocks):
    found = dry(grid, tmp_path, ("data.validation_samples", 30)).estimate
    assert found.training_seconds == 4 * 2 * (100 * 3 + 30 * 2 + 50)
    passes = {"fgsm": 3, "pgd": 2 * 4 + 1}
    assert allotted(bind_attack("pgd", steps=4), 10) == passes["pgd"]
    assert found.attack_seconds == 4 * sum(passes.values()) * (7 + 20)
    shares = [passes[name] * typical_share(bind_attack(name)) for name in passes]
    expected = 4 * (sum(passes.values()) * 7 + sum(shares) * 20)
    assert found.expected_attack_seconds == pytest.approx(expected)


def test_each_scheme_and_attack_is_timed_once_per_network(grid, tmp_path, clocks):
    grid.write_text(f'{GRID}"train.seed" = [0, 1, 2]\n')
    assert dry(grid, tmp_path).estimate.trainings == 12
    schemes = [(name, scheme) for name in ("relu", "drelu") for scheme in ("natural", "madry")]
    assert sorted(map(str, clocks)) == sorted(map(str, [*schemes, *["fgsm", "pgd"] * 2]))


def test_without_a_validation_split_none_is_billed(grid, tmp_path, clocks):
    found = dry(grid, tmp_path, ("train.validation", False)).estimate
    assert found.training_seconds == 4 * 2 * (100 * 3 + 50)


def test_the_court_is_billed_where_it_sits(grid, tmp_path, clocks):
    options = (("attack.attacks", []), ("attack.suite", "adaptive"))
    court = 4 * COURT_PASSES * (7 + 20)
    seconds = {}
    for most in (2, 5000):  # of all the suite's attacks, Square's 5,000 queries are the most
        seconds[most] = dry(grid, tmp_path, *options, ("attack.max_steps", most)).estimate
    assert seconds[2].attack_seconds < 0.1 * court
    assert court < seconds[5000].expected_attack_seconds < seconds[5000].attack_seconds
    assert dry(grid, tmp_path, *options).estimate.attack_seconds > court


def test_the_lines_say_what_is_to_do_and_what_was_measured(grid, tmp_path):
    found = dry(grid, tmp_path).estimate
    text = "\n".join(estimate_lines(found.document))
    assert "to train: 4, on 800 images" in text
    assert "to attack: 8 times, 160 images in all" in text
    assert size_text(found.bytes) in text
    assert "dense on digits: " in text
    assert "us forward" in text


def test_basin_hops_are_epochs_too(grid, tmp_path, clocks):
    options = (("train.hops", 3), ("train.hop_epochs", 5), ("data.validation_samples", 30))
    found = dry(grid, tmp_path, *options).estimate
    assert found.training_images == 4 * (2 + 3 * 5) * 100
    assert found.training_seconds == 4 * (2 + 3 * 5) * (100 * 3 + 30 * 2 + 50)


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
    plan = dry(grid, tmp_path, *options)
    planned = plan.estimate
    assert plan.moments == 2
    assert (planned.trainings, planned.evaluations) == (1, 2 * 3)
    context = Context(store=tmp_path / "runs", device="cpu")
    report = sweep(str(grid), options=options, context=context)
    assert (report.evaluations.planned, report.evaluations.done) == (6, 6)
    again = sweep(str(grid), options=options, context=context)
    assert (again.evaluations.reused, again.trainings.reused) == (6, 1)


def test_a_typical_run_takes_a_share_of_what_is_allotted():
    assert typical_share(bind_attack("pgd", steps=100)) == pytest.approx(0.03)
    assert typical_share(bind_attack("nes")) == 1  # not measured


def test_numbers_are_for_people():
    assert [duration(s) for s in (3, 89, 600, 3 * 3600, 5 * 86400)] == [
        "3 s", "89 s", "10 min", "3.0 h", "5.0 days",
    ]  # fmt: skip
    assert [size_text(b) for b in (2_000, 3_400_000, 5e9)] == ["2 kB", "3.4 MB", "5.0 GB"]
