"""Every packaged recipe runs from end to end under the preset tiny, on small official files."""

import pytest
import torch
from small_releases import write_all

from drelu_cli.core.recipe import Recipe
from drelu_cli.core.records import NOT_EXAMINED
from drelu_cli.runtime.vision import import_torchvision
from drelu_cli.store.connect import open_store
from drelu_cli.workflows.context import Context
from drelu_cli.workflows.effective import effective
from drelu_cli.workflows.jobs import wanted_of
from drelu_cli.workflows.plot import plot
from drelu_cli.workflows.recipes import members, read_source, recipe_names
from drelu_cli.workflows.sweep import sweep

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def context(tmp_path_factory):
    """One store for all: what two recipes share is trained once."""
    root = tmp_path_factory.mktemp("recipes")
    with pytest.MonkeyPatch.context() as patch:
        (root / "data").mkdir()
        write_all(root / "data", patch)
        yield Context(store=root / "runs", data_dir=root / "data", device="cpu")


def ran(name, context):
    report = sweep(name, preset="tiny", context=context)
    assert report.failures == []
    return report


@pytest.mark.parametrize("name", recipe_names())
def test_a_recipe_runs_to_its_end_and_is_finished_then(name, context):
    planned = sweep(name, preset="tiny", dry_run=True, context=context)
    first = ran(name, context)
    assert first.trainings.planned == first.trainings.done + first.trainings.reused > 0
    assert first.trainings.done == planned.estimate.trainings
    assert first.evaluations.done == planned.estimate.evaluations
    again = ran(name, context)
    assert again.trainings.done == again.evaluations.done == 0
    assert again.evaluations.planned == again.evaluations.reused
    rest = sweep(name, preset="tiny", dry_run=True, context=context).estimate
    assert (rest.trainings, rest.evaluations, rest.speeds) == (0, 0, ())


ADAPTIVE = {
    "sensitivity-mnist": [("scheme", "sensitivity:weight=0.1")],
    "overfitting-cifar10": [("scheme", "overfit"), ("model.width", 16)],
}


@pytest.mark.parametrize("name", ADAPTIVE)
def test_a_recipe_that_asks_for_the_court_gets_verdicts_and_an_adaptive_series(
    name, context, tmp_path
):
    """At full length on a few images: preset tiny cuts the attacks, and cut ones prove nothing."""
    options = [*ADAPTIVE[name], ("attack.max_steps", 5000), ("attack.samples", 2)]
    wants = wanted_of(effective(next(members(read_source(name), preset="fast", options=()))[0]))
    assert wants.adaptive
    report = sweep(name, preset="tiny", options=options, context=context)
    assert report.failures == []
    # The store may have longer lists of these trainings, of preset tiny's own cut attacks.
    drawn = plot(
        name,
        preset="tiny",
        options=options,
        samples=2,
        out=tmp_path / "f.png",
        context=context,
    )
    points = drawn.document["points"]
    adaptive = [one for one in points if "adaptive" in one["series"]]
    assert adaptive
    assert all(0 <= one["mean"] <= 1 for one in adaptive)
    with open_store(context.store) as store:
        examined = [store.examinations(model_key=key) for key in report.model_keys]
    assert all(any(one.complete for one in found) for found in examined)
    words = {one.word for found in examined for one in found if one.complete}
    assert words
    assert NOT_EXAMINED not in words


@pytest.mark.parametrize(
    ("first", "later"), [("table1", "fig11"), ("fig12", "fig16"), ("table2", "fig25")]
)
def test_recipes_that_share_trainings_train_once(first, later, context, tmp_path):
    alone = Context(store=tmp_path / "runs", data_dir=context.data_dir, device="cpu")
    ran(first, alone)
    report = ran(later, alone)
    # Caps that nothing pushes down are in figures over lambda alone.
    own = [job.name for job in report.jobs if "d-relu-0-" in job.name and first == "table1"]
    assert report.trainings.done == len(own) == (1 if first == "table1" else 0)
    assert report.evaluations.done > 0


FEW = [("attack.samples", 4), ("data.train_samples", 32), ("data.validation_samples", 16)]


@pytest.mark.parametrize("weights", ["random", "a file"])
def test_a_deep_net_of_table2_runs_to_its_end(weights, context, tmp_path):
    """Preset tiny keeps an axis' first net, the dense one; here a deep one."""
    options = [*FEW, ("model.name", "mobilenet_v2")]
    if weights == "a file":
        file = tmp_path / "mobilenet.pt"
        torch.save(import_torchvision().models.mobilenet_v2(weights=None).state_dict(), file)
        options += [("model.pretrained", str(file)), ("scheme", "natural")]
    else:
        options += [("scheme", "madry:steps=2")]
    report = sweep("table2", preset="tiny", options=options, context=context)
    assert report.failures == []
    assert report.trainings.done == report.trainings.planned == 5  # ReLU and four lambdas
    again = sweep("table2", preset="tiny", options=options, context=context)
    assert (again.trainings.done, again.evaluations.done) == (0, 0)


@pytest.mark.parametrize(
    "name", [one for one in recipe_names() if "plot" in str(read_source(one).mapping.get("report"))]
)
def test_a_figure_is_drawn_from_its_recipe(name, context, tmp_path):
    ran(name, context)
    assert Recipe.from_mapping(read_source(name).mapping).report.plot
    report = plot(name, preset="tiny", out=tmp_path / "figure.png", context=context)
    assert {file.suffix for file in report.files} == {".png", ".svg", ".csv"}
    assert all(file.stat().st_size > 0 for file in report.files)
